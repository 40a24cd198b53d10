"""Finance's last word on money that is owed and cannot be taken any more: it is written off."""

from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio import activity

from activities.contract import Checkpoint, CommandRef, Stage, no_checkpoint
from domain.orders import Actor, Frozen
from store import control, payments, write_offs
from store.orders import OrderChange, change_order

ACCOUNT = "write_offs"


class WriteOffAsk(Frozen):
    """What is missing is not owed any more."""

    order_id: str
    amount_minor: int
    actor: Actor
    command: CommandRef


class WrittenOff(Frozen):
    """Written."""

    version: int


class WriteOffActivities:
    """A local activity on our own database."""

    def __init__(self, engine: AsyncEngine, checkpoint: Checkpoint = no_checkpoint) -> None:
        self._engine = engine
        self._checkpoint = checkpoint

    @activity.defn(name="write_offs.write_off")
    async def write_off(self, ask: WriteOffAsk) -> WrittenOff:
        """Book it, once per command: debit the write-offs, credit the customer."""
        self._checkpoint("write_offs.write_off", Stage.BEFORE_EFFECT)

        async def work(change: OrderChange) -> None:
            connection, order_id, command_id = change.connection, ask.order_id, ask.command.command_id
            if await control.was_settled(connection, order_id, command_id):
                return
            await write_offs.owe_less(connection, order_id, ask.amount_minor)
            key = f"{order_id}:{command_id}:unsettled"
            await payments.post_unsettled(connection, order_id, change.currency, key, -ask.amount_minor, ACCOUNT)
            change.say("payment.written_off", ask.actor, "not_collected", command_id, amount_minor=ask.amount_minor)
            change.settle_command(ask.command.record(), ask.actor)
            self._checkpoint("write_offs.write_off", Stage.AFTER_EFFECT)

        _, change = await change_order(self._engine, ask.order_id, work)
        self._checkpoint("write_offs.write_off", Stage.BEFORE_REPORT)
        return WrittenOff(version=change.version)
