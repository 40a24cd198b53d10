"""What belongs to no department: commands and their outcomes, holds, exception cases, the sweep for lost messages."""

import json
from collections.abc import Awaitable, Callable
from typing import Literal

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from temporalio import activity

from activities.contract import Checkpoint, CommandRef, LostCommand, Stage, no_checkpoint
from domain.lifecycle import FulfillmentState, HoldState, deadline_after
from domain.order_state import Hold
from domain.orders import OPERATOR, Actor, Frozen, HoldBlock, HoldType
from domain.quantities import Bucket
from store import control, fulfillment, holds, stock
from store.engine import transaction
from store.orders import OrderChange, OrderMissing, change_order

DirectCommands = Literal["allow", "limited", "refuse"]
DIRECT_COMMAND_REFUSED = "direct_command_refused"
COMMAND_ALTERED = "command_altered"


class OpenCommandAsk(Frozen):
    """Who really sent this command? The stored row counts, whatever the message claims."""

    order_id: str
    command_id: str
    kind: str
    payload_sha256: str  # hex, of the message as it arrived
    moves_money_or_goods: bool = True
    known: tuple[str, ...] = ()  # commands whose outcome the order knows
    unnamed: Actor = OPERATOR  # whose it is where it has no row, and that is allowed


class HearAsk(Frozen):
    """The commands whose outcome the order knows."""

    order_id: str
    known: tuple[str, ...]


class Heard(Frozen):
    """Those that it does not know, though they are applied."""

    lost: tuple[LostCommand, ...] = ()


class CommandOpened(Frozen):
    """The actor of record. With a `code` the command may not go on; `detail` says why.

    `applied`: what it does is written already, and the order did not hear of it (its workflow task was lost);
    `outcome_json` is then what its sender was told, or will be.
    `lost`: other commands of which the same is true, and that came before it.
    """

    actor: Actor
    code: str | None = None
    detail: str = ""
    applied: bool = False
    outcome_json: str | None = None
    lost: tuple[LostCommand, ...] = ()


class SettleAsk(Frozen):
    """Store the outcome of a command that changed nothing else."""

    order_id: str
    actor: Actor
    command: CommandRef


class CaseAsk(Frozen):
    """Open an exception case for a team."""

    order_id: str
    code: str
    owner: str
    detail: str
    promise_state: str | None = None


class PlaceHoldAsk(Frozen):
    """A hold stands from now on. `reason` is a short code."""

    order_id: str
    hold: Hold
    reason: str
    actor: Actor
    command: CommandRef


class EndHoldAsk(Frozen):
    """A hold has ended. `reason` is a short code; at its limit, what the limit does."""

    order_id: str
    hold_id: str
    type: HoldType
    state: HoldState
    actor: Actor
    resumed: tuple[str, ...] = ()  # fulfillment orders that go on: the limit for their next step begins now
    reason: str
    command: CommandRef | None = None


class Recorded(Frozen):
    """Written."""

    version: int


class HoldRecorded(Frozen):
    """The hold has its row. `state` is `placed`, unless it has ended since an earlier attempt wrote it."""

    version: int
    state: HoldState = HoldState.PLACED


class Swept(Frozen):
    """How many lost orders were started and lost commands sent again."""

    started: int
    sent: int


class RecordActivities:
    """Local activities on our own database, and the sweep."""

    def __init__(
        self,
        engine: AsyncEngine,
        direct_commands: DirectCommands = "allow",
        sweep: Callable[[], Awaitable[tuple[int, int]]] | None = None,
        checkpoint: Checkpoint = no_checkpoint,
    ) -> None:
        self._engine = engine
        self._direct = direct_commands
        self._sweep = sweep
        self._checkpoint = checkpoint

    @activity.defn(name="records.open_command")
    async def open_command(self, ask: OpenCommandAsk) -> CommandOpened:
        """The recorded actor; a command without a row was born in the Temporal UI and is an operator's."""
        self._checkpoint("records.open_command", Stage.BEFORE_EFFECT)

        async def read(connection: AsyncConnection) -> tuple[control.KnownCommand | None, list[tuple[str, str]]]:
            known = await control.find_command(connection, ask.order_id, ask.command_id)
            lost = await control.lost_commands(connection, ask.order_id, ask.command_id, ask.known)
            return known, lost

        row, lost = await transaction(self._engine, read)
        self._checkpoint("records.open_command", Stage.BEFORE_REPORT)
        opened = self._open(ask, row)
        return opened.model_copy(update={"lost": _lost(lost)})

    def _open(self, ask: OpenCommandAsk, row: control.KnownCommand | None) -> CommandOpened:
        if row is None or row.origin != "api":
            return self._direct_command(ask, row)
        if row.kind != ask.kind or row.payload_sha256 != ask.payload_sha256:
            return CommandOpened(actor=OPERATOR, code=COMMAND_ALTERED, detail="another command has this id")
        return _opened(Actor.model_validate(row.actor), row)

    def _direct_command(self, ask: OpenCommandAsk, row: control.KnownCommand | None) -> CommandOpened:
        """Born in the Temporal UI or a program of its own: an operator's, where that is allowed at all."""
        if self._direct == "allow" or (self._direct == "limited" and not ask.moves_money_or_goods):
            return _opened(ask.unnamed, row)
        return CommandOpened(actor=OPERATOR, code=DIRECT_COMMAND_REFUSED, detail="send it through the API")

    @activity.defn(name="records.hear")
    async def hear(self, ask: HearAsk) -> Heard:
        """What the order has to catch up with before it decides something by itself."""
        self._checkpoint("records.hear", Stage.BEFORE_EFFECT)
        lost = await transaction(self._engine, lambda c: control.lost_commands(c, ask.order_id, "", ask.known))
        self._checkpoint("records.hear", Stage.BEFORE_REPORT)
        return Heard(lost=_lost(lost))

    @activity.defn(name="records.settle_command")
    async def settle_command(self, ask: SettleAsk) -> Recorded:
        """Store an outcome: of a refused or unreadable signal, or of a command that only set something going.

        An order that was refused for not coming through the API has no row, and keeps nothing.
        """
        self._checkpoint("records.settle_command", Stage.BEFORE_EFFECT)

        async def work(change: OrderChange) -> None:
            change.settle_command(ask.command.record(), ask.actor)
            self._checkpoint("records.settle_command", Stage.AFTER_EFFECT)

        try:
            _, change = await change_order(self._engine, ask.order_id, work)
        except OrderMissing:
            return Recorded(version=0)
        self._checkpoint("records.settle_command", Stage.BEFORE_REPORT)
        return Recorded(version=change.version)

    @activity.defn(name="records.open_case")
    async def open_case(self, ask: CaseAsk) -> Recorded:
        """Open a case, one per order and cause."""
        self._checkpoint("records.open_case", Stage.BEFORE_EFFECT)

        async def work(change: OrderChange) -> None:
            if change.status in ("completed", "cancelled", "rejected"):
                return
            opened = await control.open_case(
                change.connection, ask.order_id, ask.code, ask.owner, ask.detail, change.version
            )
            if not opened:
                return
            if ask.promise_state:
                await control.set_promise_state(change.connection, ask.order_id, ask.promise_state)
                change.say(f"promise.{ask.promise_state}", promised_by=change.promised_by)
            change.say("order.needs_attention", cause=ask.code, code=ask.code, owner=ask.owner, detail=ask.detail)
            self._checkpoint("records.open_case", Stage.AFTER_EFFECT)

        _, change = await change_order(self._engine, ask.order_id, work)
        self._checkpoint("records.open_case", Stage.BEFORE_REPORT)
        return Recorded(version=change.version)

    @activity.defn(name="records.place_hold")
    async def place_hold(self, ask: PlaceHoldAsk) -> HoldRecorded:
        """Write a hold. What it keeps from being committed stays reserved until its limit."""
        self._checkpoint("records.place_hold", Stage.BEFORE_EFFECT)

        async def work(change: OrderChange) -> HoldState:
            hold = ask.hold
            if found := await holds.find_hold(change.connection, ask.order_id, hold.hold_id):
                return HoldState(found["state"])  # an earlier attempt has committed
            await holds.place(change.connection, ask.order_id, hold, ask.reason, ask.actor)
            if HoldBlock.SCHEDULE in hold.blocks:
                await stock.extend_hold(change.connection, ask.order_id, hold.deadline)
            about: dict[str, object] = {
                "hold_id": hold.hold_id,
                "type": hold.type,
                "scope": "the order" if hold.line_no is None else f"line {hold.line_no}",
                "blocks": hold.blocks,
                "until": hold.deadline.isoformat(timespec="seconds"),
                "reason": ask.reason,
            }
            change.say("hold.placed", ask.actor, ask.reason, ask.command.command_id, **about)
            change.settle_command(ask.command.record(), ask.actor)
            self._checkpoint("records.place_hold", Stage.AFTER_EFFECT)
            return HoldState.PLACED

        state, change = await change_order(self._engine, ask.order_id, work)
        self._checkpoint("records.place_hold", Stage.BEFORE_REPORT)
        return HoldRecorded(version=change.version, state=state)

    @activity.defn(name="records.end_hold")
    async def end_hold(self, ask: EndHoldAsk) -> Recorded:
        """End a hold, once: released or rejected by somebody, or by its limit."""
        self._checkpoint("records.end_hold", Stage.BEFORE_EFFECT)

        async def work(change: OrderChange) -> None:
            if ask.command:
                change.settle_command(ask.command.record(), ask.actor)
            if not await holds.end(change.connection, ask.hold_id, ask.state, ask.actor, change.now):
                return  # an earlier attempt has committed, or the order's end has ended it
            for fulfillment_id in ask.resumed:
                await _resume(change, fulfillment_id)
            command_id = ask.command.command_id if ask.command else None
            about: dict[str, object] = {"hold_id": ask.hold_id, "type": ask.type, "reason": ask.reason}
            change.say(f"hold.{ask.state}", ask.actor, ask.reason, command_id, **about)
            self._checkpoint("records.end_hold", Stage.AFTER_EFFECT)

        _, change = await change_order(self._engine, ask.order_id, work)
        self._checkpoint("records.end_hold", Stage.BEFORE_REPORT)
        return Recorded(version=change.version)

    @activity.defn(name="records.sweep")
    async def sweep(self) -> Swept:
        """Start accepted orders whose start was lost, and send stored commands that were never answered."""
        if self._sweep is None:
            return Swept(started=0, sent=0)
        started, sent = await self._sweep()
        return Swept(started=started, sent=sent)


async def _resume(change: OrderChange, fulfillment_id: str) -> None:
    """The time for the next step begins now: while it was held nobody was late."""
    row = await fulfillment.read(change.connection, fulfillment_id)
    state, stage = FulfillmentState(row["state"]), Bucket(row["stage"])
    deadline = deadline_after(state, stage, change.rules, change.now, row["node_id"])
    await fulfillment.advance(change.connection, fulfillment_id, state, stage, change.now, deadline)


def _opened(actor: Actor, row: control.KnownCommand | None) -> CommandOpened:
    """A command that was refused once stays refused: it has one outcome for ever."""
    told = row.outcome if row is not None and row.outcome else {}
    if row is not None and row.state == "refused":
        code, detail = str(told.get("code", "refused")), str(told.get("detail", "refused before"))
        return CommandOpened(actor=actor, code=code, detail=detail)
    if row is not None and row.state == "applied":
        return CommandOpened(actor=actor, applied=True, outcome_json=json.dumps(told))
    return CommandOpened(actor=actor)


def _lost(found: list[tuple[str, str]]) -> tuple[LostCommand, ...]:
    return tuple(LostCommand(kind=kind, payload_json=payload) for kind, payload in found)
