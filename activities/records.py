"""What belongs to no department: commands and their outcomes, exception cases, the sweep for lost messages."""

from collections.abc import Awaitable, Callable
from typing import Literal

from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio import activity

from activities.contract import Checkpoint, CommandRef, Stage, no_checkpoint
from domain.orders import OPERATOR, Actor, Frozen
from store import control
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


class CommandOpened(Frozen):
    """The actor of record. With a `code` the command may not go on; `detail` says why."""

    actor: Actor
    code: str | None = None
    detail: str = ""


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


class Recorded(Frozen):
    """Written."""

    version: int


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
        row = await transaction(self._engine, lambda c: control.find_command(c, ask.order_id, ask.command_id))
        self._checkpoint("records.open_command", Stage.BEFORE_REPORT)
        if row is None or row.origin != "api":
            return self._direct_command(ask, row)
        if row.kind != ask.kind or row.payload_sha256 != ask.payload_sha256:
            return CommandOpened(actor=OPERATOR, code=COMMAND_ALTERED, detail="another command has this id")
        return CommandOpened(actor=Actor.model_validate(row.actor), **_refusal_of(row))

    def _direct_command(self, ask: OpenCommandAsk, row: control.KnownCommand | None) -> CommandOpened:
        """Born in the Temporal UI or a program of its own: an operator's, where that is allowed at all."""
        if self._direct == "allow" or (self._direct == "limited" and not ask.moves_money_or_goods):
            return CommandOpened(actor=OPERATOR, **(_refusal_of(row) if row else {}))
        return CommandOpened(actor=OPERATOR, code=DIRECT_COMMAND_REFUSED, detail="send it through the API")

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

    @activity.defn(name="records.sweep")
    async def sweep(self) -> Swept:
        """Start accepted orders whose start was lost, and send stored commands that were never answered."""
        if self._sweep is None:
            return Swept(started=0, sent=0)
        started, sent = await self._sweep()
        return Swept(started=started, sent=sent)


def _refusal_of(row: control.KnownCommand) -> dict[str, str]:
    """A command that was refused once stays refused: it has one outcome for ever."""
    if row.state != "refused":
        return {}
    told = row.outcome or {}
    return {"code": str(told.get("code", "refused")), "detail": str(told.get("detail", "refused before"))}
