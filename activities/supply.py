"""Supply has come: hold what waits for it. Owned by inventory."""

import json
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from temporalio import activity

from activities.contract import Checkpoint, CommandRef, Stage, no_checkpoint
from activities.planning import MayWait, NoPlan, Plan, make_plan
from activities.waiting import promise_sooner_or_later
from domain.backorders import lifted
from domain.orders import SYSTEM, Actor, Frozen, PlaceOrder
from domain.quantities import Bucket
from store import acceptance, holds, stock, supply
from store.engine import transaction
from store.lines import move_lines
from store.orders import OrderChange, finish, lock_order

MAX_RACES = 5
KIND = "supply"  # of the decision


class Filled(NamedTuple):
    """Units of a line that a node holds now."""

    line_no: int
    node_id: str
    quantity: int


class FillAsk(Frozen):
    """Hold of the units that wait for supply (line number, units) what a node has by now.

    `placed` is by when what was held before arrives. With a command it is answered with this step.
    """

    order: PlaceOrder
    number: int  # of the look
    generation: int  # of the reservations that it makes
    units: tuple[tuple[int, int], ...]
    all_waiting: int  # units of the order that wait, those that are kept back included
    barred: tuple[tuple[str, str], ...] = ()  # node, SKU
    placed_by: date | None = None
    placed_until: datetime | None = None
    actor: Actor = SYSTEM
    command: CommandRef | None = None


class SupplyTaken(Frozen):
    """What nodes hold now; nothing, where nothing has come or others come first."""

    placements: tuple[Filled, ...] = ()
    reserved_until: datetime | None = None
    promised_by: date | None = None  # where it changed
    promised_until: datetime | None = None
    placed_by: date | None = None
    placed_until: datetime | None = None
    version: int


class SupplyActivities:
    """One transaction, on our own database: a local activity."""

    def __init__(self, engine: AsyncEngine, checkpoint: Checkpoint = no_checkpoint) -> None:
        self._engine = engine
        self._checkpoint = checkpoint

    @activity.defn(name="supply.fill")
    async def fill(self, ask: FillAsk) -> SupplyTaken:
        """Hold what waits and a node has. Without a command nothing is written where nothing has come."""
        self._checkpoint("supply.fill", Stage.BEFORE_EFFECT)
        taken: SupplyTaken | None = None
        for _ in range(MAX_RACES):
            try:
                taken = await transaction(self._engine, lambda c: self._fill(c, ask))
                break
            except stock.StockRaced:
                continue
        if taken is None:
            taken = await transaction(self._engine, lambda c: self._fill(c, ask, others_took_all=True))
        self._checkpoint("supply.fill", Stage.BEFORE_REPORT)
        return taken

    async def _fill(self, connection: AsyncConnection, ask: FillAsk, *, others_took_all: bool = False) -> SupplyTaken:
        change = await lock_order(connection, ask.order.order_id)
        decided = await acceptance.recorded_decision(connection, change.order_id, KIND, ask.number)
        if decided is not None:
            return _recorded(change, decided)
        plan = await _plan(change, ask, others_took_all=others_took_all)
        if plan is None and ask.command is None:
            return SupplyTaken(version=change.version)
        taken = SupplyTaken(version=0) if plan is None else await _hold(change, ask, plan)
        if ask.command is not None:
            change.settle_command(_answered(ask.command, taken).record(), ask.actor)
        await finish(change)
        self._checkpoint("supply.fill", Stage.AFTER_EFFECT)
        return taken.model_copy(update={"version": change.version})


async def _plan(change: OrderChange, ask: FillAsk, *, others_took_all: bool) -> Plan | None:
    """Nodes for what has come; None where nothing can be held. Units that came since lift the bar of their node."""
    named = await stock.load_rules(change.connection, ask.order.channel)
    came = await supply.came_since(change.connection, change.order_id)
    may_wait = MayWait(frozenset(line.sku for line in ask.order.lines), change.rules.backorder_limit_s)
    plan = await make_plan(
        change.connection,
        ask.order,
        ask.units,
        named,
        lifted(ask.barred, came),
        may_wait,
        others_took_all=others_took_all,
    )
    return None if isinstance(plan, NoPlan) or not plan.held else plan


async def _hold(change: OrderChange, ask: FillAsk, plan: Plan) -> SupplyTaken:
    connection, order_id = change.connection, change.order_id
    until = change.now + timedelta(seconds=change.rules.reservation_limit_s)
    until = max(until, await holds.kept_until(connection, order_id, change.now) or until)
    await stock.hold(connection, order_id, ask.generation, until, plan.held, f"supply-{ask.number}")
    units = [(line_no, quantity) for line_no, _, _, quantity in plan.held]
    await move_lines(connection, order_id, Bucket.BACKORDERED, Bucket.RESERVED, units)
    await stock.hold_until(connection, order_id, until)
    count = sum(quantity for _, quantity in units)
    nodes = tuple(sorted({node for _, _, node, _ in plan.held}))
    change.say("backorder.filled", ask.actor, units=count, nodes=nodes, waiting=ask.all_waiting - count)
    promised: tuple[date | None, datetime | None] = (None, None)
    if count == ask.all_waiting:
        promised = await promise_sooner_or_later(change, plan, (ask.placed_by, ask.placed_until))
    taken = SupplyTaken(
        placements=tuple(Filled(line_no, node, quantity) for line_no, _, node, quantity in plan.held),
        reserved_until=until,
        promised_by=promised[0],
        promised_until=promised[1],
        placed_by=plan.placed_by,
        placed_until=plan.placed_until,
        version=0,
    )
    record = {**plan.record, "supply": taken.model_dump(mode="json", exclude={"version"})}
    await acceptance.record_decision(connection, order_id, KIND, ask.number, plan.ruleset, record)
    return taken


def _recorded(change: OrderChange, decided: dict[str, Any]) -> SupplyTaken:
    """The answer of an attempt whose commit was not noticed."""
    return SupplyTaken.model_validate({**decided["supply"], "version": change.version})


def _answered(command: CommandRef, taken: SupplyTaken) -> CommandRef:
    """The command with what came of it."""
    units = sum(filled.quantity for filled in taken.placements)
    outcome = {**json.loads(command.outcome_json), "applied": units > 0, "units": units}
    return command.model_copy(update={"outcome_json": json.dumps(outcome)})
