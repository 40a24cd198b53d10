"""The simulated warehouses: take work, keep it on a list that a demo works through, stop when told in time.

Whoever drives the nodes reads `work_list` and says `advance` BEFORE it reports a step to Accord. Here, as in
a real warehouse, stopping and handing over exclude each other: goods that are out cannot be stopped, and
stopped work cannot leave.
"""

import json
from typing import Final, Literal, TypeAlias

from pydantic import TypeAdapter

from providers.faults import ProviderKind, SimulationFaults
from providers.outcomes import Absent, Found, Message, Ok, Outcome, Refused
from providers.simulated_peer import DEFAULT_TIME_LIMIT_S, Call, SimulatedPeer, Visit, fingerprint
from providers.simulation import Simulation
from providers.warehouses import (
    AnswerFollows,
    FoundStop,
    ReleaseLine,
    ReleaseLookUp,
    ReleaseRequest,
    StopAnswer,
    StopLookUp,
    StopOutcome,
    Stopped,
    StopRequest,
    TooLate,
)

PAGE_MAX: Final = 1000

WorkStep: TypeAlias = Literal["released", "accepted", "picked", "packed", "handed_over", "stopped"]
_RANK: Final[dict[WorkStep, int]] = {
    "released": 0,
    "accepted": 1,
    "picked": 2,
    "packed": 3,
    "handed_over": 4,
    "stopped": 4,  # the same rank: whichever of the two comes first stands
}

ReleaseAnswer = Ok | Refused
_RELEASES: TypeAdapter[ReleaseAnswer] = TypeAdapter(ReleaseAnswer)
_STOPS: TypeAdapter[StopAnswer] = TypeAdapter(StopAnswer)


class StopKeyReusedError(Exception):
    """A stop key was sent again for another fulfillment: a fault in the caller, not an outcome."""


class WorkItem(Message):
    """One release as the node sees it. It holds no address."""

    position: int
    release_key: str
    order_id: str
    fulfillment_id: str
    node_id: str
    lines: tuple[ReleaseLine, ...]
    step: WorkStep
    stop_asked: bool
    """Accord was told that an answer follows: the driver owes a report whether it stops."""


class SimulatedWarehouses:
    """A `WarehouseProvider` on the simulation's file, and the work list behind it."""

    def __init__(
        self,
        simulation: Simulation,
        faults: SimulationFaults | None = None,
        time_limit_s: float = DEFAULT_TIME_LIMIT_S,
    ) -> None:
        self._simulation = simulation
        self._peer = SimulatedPeer(simulation, ProviderKind.WAREHOUSES, faults, time_limit_s)

    async def release(self, request: ReleaseRequest) -> Outcome:
        """See `WarehouseProvider.release`."""
        call = Call("release", request.key, request.order_id, fingerprint("release", request))
        return await self._peer.send(call, _RELEASES, lambda visit: _release(visit, request))

    async def stop(self, request: StopRequest) -> StopOutcome:
        """See `WarehouseProvider.stop`. Raises `StopKeyReusedError` for a key of another fulfillment."""
        call = Call("stop", request.key, "", fingerprint("stop", request), subject=request.fulfillment_id)
        answer = await self._peer.send(call, _STOPS, lambda visit: _stop(visit, request))
        if isinstance(answer, Refused):
            raise StopKeyReusedError(answer.detail)
        return answer

    async def look_up(self, key: str) -> ReleaseLookUp:
        """See `WarehouseProvider.look_up`."""
        answer = await self._peer.look_up(key, ("release",), _RELEASES)
        return Absent() if answer is None else Found[Ok](outcome=answer)

    async def look_up_stop(self, key: str) -> StopLookUp:
        """See `WarehouseProvider.look_up_stop`."""
        answer = await self._peer.look_up(key, ("stop",), _STOPS)
        return Absent() if answer is None else FoundStop(outcome=answer)

    async def work_list(self, after: int = 0, limit: int = PAGE_MAX) -> tuple[WorkItem, ...]:
        """Releases in the order they came, starting behind position `after`; at most 1,000 a page."""
        return await self._simulation.in_thread(lambda: self._read_work(after, limit))

    async def advance(self, release_key: str, step: WorkStep) -> bool:
        """Move work forward to a step (steps may be left out). True when it is now at that step.

        False: it was stopped or handed over meanwhile, is further on already, or nobody released it.
        """
        return await self._simulation.in_thread(lambda: self._advance(release_key, step))

    def _read_work(self, after: int, limit: int) -> tuple[WorkItem, ...]:
        with self._simulation.reading() as db:
            rows = db.execute(
                "SELECT position, release_key, order_id, fulfillment_id, node_id, lines, step, stop_asked"
                " FROM work WHERE position > ? ORDER BY position LIMIT ?",
                (after, max(0, min(limit, PAGE_MAX))),
            ).fetchall()
        return tuple(_work_item(row) for row in rows)

    def _advance(self, release_key: str, step: WorkStep) -> bool:
        with self._simulation.writing() as db:
            row = db.execute("SELECT step FROM work WHERE release_key = ?", (release_key,)).fetchone()
            if row is None:
                return False
            if row[0] != step and _RANK[step] > _RANK[row[0]]:
                db.execute("UPDATE work SET step = ? WHERE release_key = ?", (step, release_key))
                return True
            return bool(row[0] == step)


def _release(visit: Visit, request: ReleaseRequest) -> ReleaseAnswer:
    if visit.declined:
        return Refused(code="node_closed", detail="the node takes no work now")
    stopped = visit.db.execute(
        "SELECT 1 FROM stopped_ahead WHERE fulfillment_id = ?", (request.fulfillment_id,)
    ).fetchone()
    if stopped is not None:
        return Refused(code="stopped", detail="the node was told to stop this before it was released")
    ref = visit.reference("release")
    visit.db.execute(
        "INSERT INTO work (release_key, order_id, fulfillment_id, node_id, lines) VALUES (?, ?, ?, ?, ?)",
        (
            request.key,
            request.order_id,
            request.fulfillment_id,
            request.node_id,
            json.dumps([line.model_dump() for line in request.lines]),
        ),
    )
    visit.record("release", ref, request.fulfillment_id, detail=(("node_id", request.node_id),))
    return Ok(provider_ref=ref)


def _stop(visit: Visit, request: StopRequest) -> StopAnswer:
    """What the node says; the control `warehouses.stop` chooses, unless the work has ended already."""
    work = visit.db.execute(
        "SELECT release_key, step FROM work WHERE fulfillment_id = ? ORDER BY position DESC LIMIT 1",
        (request.fulfillment_id,),
    ).fetchone()
    if work is not None and work[1] == "handed_over":
        return TooLate()
    if work is not None and work[1] == "stopped":
        return Stopped()
    wish = visit.controls.get("warehouses.stop", "stopped")
    if wish == "too_late":
        return TooLate()
    if work is None and request.lines:
        return TooLate()  # what is not here yet can be stopped as a whole only
    if work is None:
        visit.db.execute("INSERT OR IGNORE INTO stopped_ahead VALUES (?)", (request.fulfillment_id,))
        return Stopped()
    if wish == "answer_follows":
        visit.db.execute("UPDATE work SET stop_asked = 1 WHERE release_key = ?", (work[0],))
        return AnswerFollows()
    if request.lines:
        _take_off(visit, work[0], request)
    else:
        visit.db.execute("UPDATE work SET step = 'stopped' WHERE release_key = ?", (work[0],))
    visit.record("stop", visit.reference("stop"), request.fulfillment_id)
    return Stopped()


def _take_off(visit: Visit, release_key: str, request: StopRequest) -> None:
    """Take units off the list of what shall be shipped."""
    (listed,) = visit.db.execute("SELECT lines FROM work WHERE release_key = ?", (release_key,)).fetchone()
    less = {line.line_no: line.quantity for line in request.lines}
    lines = [ReleaseLine.model_validate(line) for line in json.loads(listed)]
    rest = [(line, line.quantity - less.get(line.line_no, 0)) for line in lines]
    kept = [line.model_copy(update={"quantity": units}).model_dump() for line, units in rest if units > 0]
    visit.db.execute("UPDATE work SET lines = ? WHERE release_key = ?", (json.dumps(kept), release_key))


def _work_item(row: tuple[object, ...]) -> WorkItem:
    values = dict(zip(WorkItem.model_fields, row, strict=True))
    values["lines"] = json.loads(str(values["lines"]))
    return WorkItem.model_validate(values)
