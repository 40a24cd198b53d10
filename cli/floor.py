"""The simulated warehouse and carrier: a program that speaks only the HTTP API, with the warehouse's key.

It keeps no state that matters. Each round reads the work of all nodes and does the next step of every fulfillment
order, so it can be stopped and started at any moment without losing an order. Reports and events carry ids derived
from what they are about: a repeat changes nothing. A report that was refused is said anew under another id when the
work is as it was: its own id has the refusal for ever.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cli.client import AccordClient, ApiProblem, Unreachable, WorkView

_LIVE = ("submitted", "accepted", "in_progress", "cancellation_requested", "shipped")
_IDLE_S = 0.2
_LONGEST_IDLE_S = 2.0
_REJECTED = 0.3  # share of the trouble
_WHY_REJECTED = ("no_capacity", "closed")
_WHY_SHORT = ("not_found", "damaged")
_GONE = frozenset({404, 409})  # the order has changed meanwhile: the next round sees what it is now


@dataclass(frozen=True)
class Habits:
    """How the floor works.

    Attributes:
        seed: decides everything that is random; the same seed does the same.
        disorder: share of parcels whose carrier events come repeated and in the wrong order.
        chatty: share of fulfillment orders that report each step, and not only the two that are needed.
        trouble: share of fulfillment orders that their node cannot ship as they are: it is short of units, or
            rejects all of them.
        parcel_trouble: share of parcels that their carrier loses, damages or brings back, each at most once.
        delivers: whether carriers tell of parcels; without, they stay on their way.
        concurrency: steps under way at once.
    """

    seed: int = 0
    disorder: float = 0.0
    chatty: float = 0.0
    trouble: float = 0.0
    parcel_trouble: float = 0.0
    delivers: bool = True
    concurrency: int = 8


@dataclass
class FloorCounts:
    """What the floor did."""

    packed: int = 0
    short_picks: int = 0
    short_units: int = 0
    rejected: int = 0
    handed_over: int = 0
    delivered: int = 0
    lost: int = 0
    damaged: int = 0
    brought_back: int = 0
    stops_agreed: int = 0
    events: int = 0
    events_without_effect: int = 0
    refused: Counter[str] = field(default_factory=Counter)


class Floor:
    """Works off the fulfillment orders of the `wanted` orders, or all of them.

    A mapping of `wanted` gives each order a name to draw by, so that another run of the same orders meets the same
    trouble. `heard` is told what is about to happen, or has: the order, and `packing` or `handed_over`.

    Attributes:
        counts: what was done so far.
        idle: whether the last look found nothing open.
    """

    def __init__(
        self,
        client: AccordClient,
        habits: Habits = Habits(),
        wanted: Collection[str] | Mapping[str, str] | None = None,
        heard: Callable[[str, str], None] = lambda _order_id, _step: None,
    ) -> None:
        self._client = client
        self._heard = heard
        self._habits = habits
        self._wanted = wanted
        self._gate = asyncio.Semaphore(habits.concurrency)
        self._under_way: set[str] = set()
        self._stepped_at: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._troubled: dict[str, str] = {}  # what had trouble, by the name it is drawn by: fulfillment order
        self._answered: Counter[str] = Counter()  # reports of a fulfillment order that have their answer
        self.idle = False
        self.counts = FloorCounts()

    async def run(self, finished: Callable[[], bool]) -> None:
        """Work until `finished` says so; then what is under way is completed."""
        idle_s = _IDLE_S
        try:
            while not finished():
                busy = await self.round()
                idle_s = _IDLE_S if busy else min(idle_s * 1.5, _LONGEST_IDLE_S)
                await asyncio.sleep(idle_s)
                self._raise_defects()
        finally:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        self._raise_defects()

    async def round(self) -> int:
        """Look at the work list once and start the next steps. Returns how many were started."""
        started = 0
        looked_at = time.monotonic()
        listed = await self._client.work(_LIVE)
        # A step that ended after the look began makes its row stale: wait for the next look.
        self._stepped_at = {key: at for key, at in self._stepped_at.items() if at >= looked_at}
        for work in listed:
            step = self._next_step(work)
            if step is None or work.id in self._under_way or work.id in self._stepped_at:
                continue
            if self._wanted is not None and work.order_id not in self._wanted:
                continue
            self._under_way.add(work.id)
            self._tasks.add(asyncio.create_task(self._guarded(work, step)))
            started += 1
        self.idle = not any(self._wanted is None or work.order_id in self._wanted for work in listed)
        return started

    def _raise_defects(self) -> None:
        """Let an unexpected failure of a step end the floor rather than pass unseen."""
        done = {task for task in self._tasks if task.done()}
        self._tasks -= done
        for task in done:
            task.result()

    def _next_step(self, work: WorkView) -> Callable[[WorkView], Awaitable[None]] | None:
        """What can be done now; None while somebody else has to act first."""
        if work.state == "cancellation_requested":
            return self._agree_to_stop
        if work.state in ("submitted", "accepted") or (work.state == "in_progress" and work.stage != "packed"):
            return self._pack
        if work.state == "in_progress" and work.tracking_number:
            return self._hand_over
        return self._deliver if work.state == "shipped" and self._habits.delivers else None

    async def _guarded(self, work: WorkView, step: Callable[[WorkView], Awaitable[None]]) -> None:
        try:
            async with self._gate:
                await step(work)
        except ApiProblem as problem:
            if problem.status not in _GONE:
                raise
            self.counts.refused[problem.reason] += 1
        except Unreachable:
            self.counts.refused["unreachable"] += 1  # the next round tries again
        finally:
            self._stepped_at[work.id] = time.monotonic()
            self._under_way.discard(work.id)

    async def _report(
        self, work: WorkView, kind: str, short: Sequence[tuple[int, int]] = (), reason: str | None = None
    ) -> bool:
        """Whether the order took it. One that it only keeps so far may still be refused, and is told again then."""
        told = f"{work.id}-{kind}-{self._answered[work.id]}"
        try:
            answer = await self._client.report(work.id, kind, told, short, reason)
        except ApiProblem:
            self._answered[work.id] += 1
            raise
        self._answered[work.id] += 1
        return bool(answer.get("applied"))

    async def _agree_to_stop(self, work: WorkView) -> None:
        await self._report(work, "cancel_agreed")
        self.counts.stops_agreed += 1

    async def _pack(self, work: WorkView) -> None:
        self._heard(work.order_id, "packing")
        if work.state in ("submitted", "accepted") and self._draw(work, "trouble") < self._habits.trouble:
            await self._cannot_ship(work)  # what is left of it is packed in the next round
            return
        steps = ["packed"]
        if self._draw(work, "chatty") < self._habits.chatty:
            steps = {"submitted": ["accepted", "picked", "packed"], "accepted": ["picked", "packed"]}.get(
                work.state, steps
            )
        for kind in steps:
            await self._report(work, kind)
        self.counts.packed += 1

    async def _cannot_ship(self, work: WorkView) -> None:
        """Reject all of it, or miss units of one line. A node says so once: then its work is in progress."""
        dice = random.Random(f"{self._name(work)}/which")  # noqa: S311 - a seeded story
        if dice.random() < _REJECTED:
            reason = dice.choice(_WHY_REJECTED)
            self.counts.rejected += await self._report(work, "rejected", reason=reason)
            return
        line = dice.choice(work.lines)
        missing = dice.randint(1, line["quantity"])
        if await self._report(work, "short", [(line["line"], missing)], dice.choice(_WHY_SHORT)):
            self.counts.short_picks += 1
            self.counts.short_units += missing

    async def _hand_over(self, work: WorkView) -> None:
        await self._report(work, "handed_over")
        self.counts.handed_over += 1
        self._heard(work.order_id, "handed_over")
        if self._habits.delivers:
            await self._deliver(work)

    async def _deliver(self, work: WorkView) -> None:
        if work.stage == "return_pending":
            await self._tell(work, "returned", "home")
            return
        if self._has_trouble(work):
            await self._goes_wrong(work)
            return
        for kind, number, at in self._carrier_story(work):
            scan = await self._client.shipment_event(work.shipment_id, kind, f"{work.shipment_id}-{number}", at)
            self.counts.events += 1
            self.counts.events_without_effect += not scan.applied
        self.counts.delivered += 1

    def _has_trouble(self, work: WorkView) -> bool:
        """Whether its parcel does not arrive; what is sent again under the same name does."""
        drawn = self._draw(work, "parcel") < self._habits.parcel_trouble
        return drawn and self._troubled.setdefault(self._name(work), work.id) == work.id

    async def _goes_wrong(self, work: WorkView) -> None:
        """The carrier loses the parcel, damages it, or turns back with it. Told again, it is the same."""
        kind = random.Random(f"{self._name(work)}/what").choice(("lost", "damaged", "return_to_sender"))  # noqa: S311 - a seeded story
        if await self._tell(work, kind, "trouble"):
            self.counts.lost += kind == "lost"
            self.counts.damaged += kind == "damaged"
            self.counts.brought_back += kind == "return_to_sender"

    async def _tell(self, work: WorkView, kind: str, name: str) -> bool:
        """A carrier's event. Whether anything followed from it."""
        scan = await self._client.shipment_event(
            work.shipment_id, kind, f"{work.shipment_id}-{name}", datetime.now(UTC)
        )
        self.counts.events += 1
        self.counts.events_without_effect += not scan.applied
        return bool(scan.applied)

    def _carrier_story(self, work: WorkView) -> list[tuple[str, int, datetime]]:
        """The carrier's events as they arrive: kind, number and when the carrier saw it."""
        now = datetime.now(UTC)
        if self._draw(work, "disorder") >= self._habits.disorder:
            return [("delivered", 9, now)]
        seen = [("in_transit", 1), ("out_for_delivery", 2), ("delivered", 9)]
        story = [(kind, number, now - timedelta(minutes=10 - number)) for kind, number in seen]
        dice = random.Random(f"{self._name(work)}/story")  # noqa: S311 - a seeded story
        story += dice.sample(story, dice.randint(1, len(story)))
        dice.shuffle(story)
        return story

    def _draw(self, work: WorkView, about: str) -> float:
        """A number from 0 to 1 that depends on the seed and the fulfillment order only."""
        return random.Random(f"{self._name(work)}/{about}").random()  # noqa: S311 - a seeded story

    def _name(self, work: WorkView) -> str:
        """What is drawn for a fulfillment order: by the name of its order and its node, where the order has one."""
        named = self._wanted.get(work.order_id) if isinstance(self._wanted, Mapping) else None
        return f"{self._habits.seed}/{f'{named}/{work.node}' if named else work.id}"
