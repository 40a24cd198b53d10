"""Fulfillment's part when a node is left that has not said no: it is silent, or takes no new work."""

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from temporalio import activity

from activities.contract import Checkpoint, Stage, no_checkpoint
from activities.planning import Plan, make_plan
from domain.lifecycle import FulfillmentState, deadline_after
from domain.orders import SYSTEM, Actor, Frozen, PlaceOrder, WhyLeft
from domain.quantities import Bucket
from store import control, fulfillment, stock
from store.engine import transaction
from store.lines import move_lines
from store.orders import OrderChange, change_order


class LookAsk(Frozen):
    """Could these units (line number, units) be held without the barred nodes (node, SKU)?"""

    order: PlaceOrder
    units: tuple[tuple[int, int], ...]
    barred: tuple[tuple[str, str], ...]


class Looked(Frozen):
    """Whether another node has all of them. Nothing is held."""

    elsewhere: bool


class RecallAsk(Frozen):
    """Write that a node is asked to give its units back."""

    order_id: str
    fulfillment_id: str
    units: int
    why: WhyLeft
    command_id: str
    actor: Actor = SYSTEM


class LeftAsk(Frozen):
    """The node's answer, or that it needed none: its units (line number, units) are open again, or stay.

    `state` and `stage` are those of the fulfillment order from now on.
    """

    order_id: str
    fulfillment_id: str
    units: tuple[tuple[int, int], ...]
    left: bool
    why: WhyLeft
    command_id: str
    state: FulfillmentState
    stage: Bucket
    actor: Actor = SYSTEM


class Written(Frozen):
    """Written."""

    version: int


class LeavingActivities:
    """One transaction each, on our own database: all of them run as local activities."""

    def __init__(self, engine: AsyncEngine, checkpoint: Checkpoint = no_checkpoint) -> None:
        self._engine = engine
        self._checkpoint = checkpoint

    @activity.defn(name="leaving.look")
    async def look(self, ask: LookAsk) -> Looked:
        """Plan as if the node were not there. What was free a moment ago may be gone when it is needed."""
        self._checkpoint("leaving.look", Stage.BEFORE_EFFECT)

        async def plan(connection: AsyncConnection) -> bool:
            named = await stock.load_rules(connection, ask.order.channel)
            return isinstance(await make_plan(connection, ask.order, ask.units, named, ask.barred), Plan)

        elsewhere = await transaction(self._engine, plan)
        self._checkpoint("leaving.look", Stage.BEFORE_REPORT)
        return Looked(elsewhere=elsewhere)

    @activity.defn(name="leaving.recall")
    async def recall(self, ask: RecallAsk) -> Written:
        """The node is asked to stop; the limit for its answer begins."""
        self._checkpoint("leaving.recall", Stage.BEFORE_EFFECT)

        async def work(change: OrderChange) -> None:
            await _recall(change, ask)
            self._checkpoint("leaving.recall", Stage.AFTER_EFFECT)

        _, change = await change_order(self._engine, ask.order_id, work)
        self._checkpoint("leaving.recall", Stage.BEFORE_REPORT)
        return Written(version=change.version)

    @activity.defn(name="leaving.settle")
    async def settle(self, ask: LeftAsk) -> Written:
        """Open the units for sourcing; or give the fulfillment order back to its node, which could not stop."""
        self._checkpoint("leaving.settle", Stage.BEFORE_EFFECT)

        async def work(change: OrderChange) -> None:
            await (_leave if ask.left else _keep)(change, ask)
            self._checkpoint("leaving.settle", Stage.AFTER_EFFECT)

        _, change = await change_order(self._engine, ask.order_id, work)
        self._checkpoint("leaving.settle", Stage.BEFORE_REPORT)
        return Written(version=change.version)


async def _recall(change: OrderChange, ask: RecallAsk) -> None:
    if await control.was_said(change.connection, change.order_id, "fulfillment.recalled", ask.command_id):
        return
    row = await fulfillment.read(change.connection, ask.fulfillment_id)
    await fulfillment.ask_to_stop(change.connection, (ask.fulfillment_id,), change.now, change.rules.node_stop_answer_s)
    about: dict[str, object] = {"node": row["node_id"], "units": ask.units, "why": ask.why}
    change.say("fulfillment.recalled", ask.actor, ask.why, ask.command_id, **about)


async def _leave(change: OrderChange, ask: LeftAsk) -> None:
    """What the node has on its shelf is as it was: silence says nothing about stock."""
    row = await fulfillment.read(change.connection, ask.fulfillment_id)
    stage = Bucket(row["stage"])
    if stage in (Bucket.OPEN, Bucket.CANCELLED, Bucket.SHIPPED, Bucket.DELIVERED):
        return  # an earlier attempt has committed
    at_node = [(line_no, row["node_id"], quantity) for line_no, quantity in ask.units]
    await stock.cut(change.connection, change.order_id, ask.fulfillment_id, at_node, ask.command_id)
    await move_lines(change.connection, change.order_id, stage, Bucket.OPEN, ask.units)
    await _advance(change, ask, row["node_id"])
    about: dict[str, object] = {"node": row["node_id"], "units": sum(q for _, q in ask.units), "why": ask.why}
    change.say("fulfillment.given_up", ask.actor, ask.why, ask.command_id, **about)


async def _keep(change: OrderChange, ask: LeftAsk) -> None:
    row = await fulfillment.read(change.connection, ask.fulfillment_id)
    if row["state"] != FulfillmentState.CANCELLATION_REQUESTED:
        return
    await _advance(change, ask, row["node_id"])
    about: dict[str, object] = {"node": row["node_id"], "fulfillment_id": ask.fulfillment_id, "why": ask.why}
    change.say("fulfillment.kept", ask.actor, ask.why, ask.command_id, **about)


async def _advance(change: OrderChange, ask: LeftAsk, node_id: str) -> None:
    deadline = deadline_after(ask.state, ask.stage, change.rules, change.now, node_id)
    await fulfillment.advance(change.connection, ask.fulfillment_id, ask.state, ask.stage, change.now, deadline)
