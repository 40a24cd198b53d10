"""Changes of an order in flight: begin them, carry them out whole, or decline them. Owned by service.

`apply` takes units from where they are, cancels what is not wanted, writes new lines, sources what needs a node
and promises anew, in one transaction: all of it or nothing. A preview is the same transaction, rolled back.
"""

import json
from datetime import date, datetime, timedelta
from typing import Annotated, Literal, NamedTuple

from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from temporalio import activity

from activities.contract import Checkpoint, CommandRef, Grant, Stage, grant_token, no_checkpoint, own_grant
from activities.planning import NOBODY_WAITS, NoPlan, Plan, is_reachable, make_plan
from activities.waiting import let_wait, noted, placed_in, say_waiting, waiting_in, what_may_wait
from domain.lifecycle import FulfillmentState, deadline_after
from domain.order_state import AddedLine
from domain.orders import SYSTEM, Actor, ChangeKind, Frozen, PlaceOrder
from domain.quantities import Bucket
from store import acceptance, amendments, arrivals, control, fulfillment, holds, payments, stock, supply
from store.engine import transaction
from store.lines import add_lines, move_lines
from store.orders import OrderChange, change_order, finish, lock_order

MAX_RACES = 5


class HeldAt(NamedTuple):
    """Units of a line that a node holds."""

    line_no: int
    node_id: str
    quantity: int


class TakenPart(Frozen):
    """Units that leave a fulfillment order (line number, units) and are open again; with `whole` it ends."""

    fulfillment_id: str
    units: tuple[tuple[int, int], ...]
    whole: bool
    state: FulfillmentState  # where the rest goes on


class Begin(Frozen):
    """A change is under way: somebody else must agree first. With a tender its authorization is wanted."""

    order_id: str
    amendment_id: str
    command_id: str
    kinds: tuple[ChangeKind, ...]
    generation: int
    owed_before_minor: int
    owed_after_minor: int
    actor: Actor
    tender_id: str | None = None
    sequence: int = 0
    provider: str = ""
    reference: str = ""
    amount_minor: int = 0
    asked: tuple[str, ...] = ()  # fulfillment orders whose node is asked to stop


class Begun(Frozen):
    """Written."""

    version: int
    grant: Grant | None = None


class Amend(Frozen):
    """A whole change. `order` is the order as it will be; units are (line number, units)."""

    order: PlaceOrder
    amendment_id: str
    command_id: str
    kinds: tuple[ChangeKind, ...]
    generation: int  # of the reservations that it makes
    taken: tuple[TakenPart, ...] = ()
    backordered_units: tuple[tuple[int, int], ...] = ()
    held_units: tuple[tuple[int, str, int], ...] = ()  # line number, node, units
    removed: tuple[tuple[int, int], ...] = ()
    added: tuple[AddedLine, ...] = ()
    wanted: tuple[tuple[int, int], ...] = ()  # to be sourced
    may_wait: tuple[tuple[int, int], ...] = ()  # of these, where item and customer allow it
    barred: tuple[tuple[str, str], ...] = ()
    no_longer_owed_minor: tuple[tuple[int, int], ...] = ()  # line number, amount cancelled so far
    owed_before_minor: int
    owed_after_minor: int
    requested_by: date | None = None
    address: bool = False  # the vault has another address for it
    actor: Actor = SYSTEM
    command: CommandRef | None = None


class Amended(Frozen):
    """The change is done. Without `promised_until` nothing had to be sourced, without `reserved_until` nothing is held.

    What no node has and may wait is `waiting`.
    """

    kind: Literal["amended"] = "amended"
    placements: tuple[HeldAt, ...] = ()
    reserved_until: datetime | None = None
    promised_by: date | None = None
    promised_until: datetime | None = None
    waiting: tuple[tuple[int, int], ...] = ()  # for supply: line number, units
    waits_since: datetime | None = None
    waits_until: datetime | None = None
    placed_by: date | None = None  # by when what is held arrives
    placed_until: datetime | None = None
    version: int


class NotAmended(Frozen):
    """Nothing was changed. Lines: number, SKU, requested, available."""

    kind: Literal["not_amended"] = "not_amended"
    code: str
    detail: str
    lines: tuple[tuple[int, str, int, int], ...] = ()
    version: int


AmendResult = Annotated[Amended | NotAmended, Field(discriminator="kind")]


class DeclineAsk(Frozen):
    """A change does not happen."""

    order_id: str
    command_id: str
    code: str
    tender_id: str | None = None
    actor: Actor = SYSTEM
    command: CommandRef | None = None


class TakeBack(Frozen):
    """Nodes have stopped: their units are open again."""

    order_id: str
    command_id: str
    taken: tuple[TakenPart, ...]


class Declined(Frozen):
    """Written."""

    version: int


class _NotPossible(Exception):
    """The change cannot be done: everything of this transaction goes back."""

    def __init__(self, plan: NoPlan, version: int) -> None:
        super().__init__(plan.code)
        self.plan, self.version = plan, version


class _Previewed(Exception):
    """What the change would do is known: everything of this transaction goes back."""

    def __init__(self, result: Amended) -> None:
        super().__init__("previewed")
        self.result = result


class AmendmentActivities:
    """One transaction each, on our own database: all of them run as local activities."""

    def __init__(self, engine: AsyncEngine, checkpoint: Checkpoint = no_checkpoint) -> None:
        self._engine = engine
        self._checkpoint = checkpoint

    @activity.defn(name="amendments.begin")
    async def begin(self, ask: Begin) -> Begun:
        """Write that the change is under way, and what must happen first."""
        self._checkpoint("amendments.begin", Stage.BEFORE_EFFECT)

        async def work(change: OrderChange) -> None:
            await _begin(change, ask)
            self._checkpoint("amendments.begin", Stage.AFTER_EFFECT)

        _, change = await change_order(self._engine, ask.order_id, work)
        self._checkpoint("amendments.begin", Stage.BEFORE_REPORT)
        return Begun(version=change.version, grant=own_grant())

    @activity.defn(name="amendments.apply")
    async def apply(self, ask: Amend) -> AmendResult:
        """Carry the change out, whole, or say what is missing."""
        self._checkpoint("amendments.apply", Stage.BEFORE_EFFECT)
        result = await self._apply(ask, preview=False)
        self._checkpoint("amendments.apply", Stage.BEFORE_REPORT)
        return result

    @activity.defn(name="amendments.preview")
    async def preview(self, ask: Amend) -> AmendResult:
        """What the change would do now: done and rolled back."""
        self._checkpoint("amendments.preview", Stage.BEFORE_EFFECT)
        result = await preview(self._engine, ask)
        self._checkpoint("amendments.preview", Stage.BEFORE_REPORT)
        return result

    async def _apply(self, ask: Amend, *, preview: bool) -> AmendResult:
        for _ in range(MAX_RACES):
            try:
                return await transaction(self._engine, lambda c: self._amend(c, ask, preview=preview))
            except stock.StockRaced:
                continue
            except _Previewed as done:
                return done.result
            except _NotPossible as refusal:
                plan = refusal.plan
                return NotAmended(code=plan.code, detail=plan.detail, lines=plan.lines, version=refusal.version)
        why = "other orders took the units while this change was planned"
        return NotAmended(code="out_of_stock", detail=why, version=0)

    async def _amend(self, connection: AsyncConnection, ask: Amend, *, preview: bool) -> Amended:
        change = await lock_order(connection, ask.order.order_id)
        before = await amendments.decided(connection, change.order_id, ask.command_id)
        if before is not None and before.state == "confirmed":
            return await _recorded(change, ask)
        result = await _carry_out(change, ask)
        await finish(change)
        result = result.model_copy(update={"version": change.version})
        if preview:
            raise _Previewed(result)
        self._checkpoint("amendments.apply", Stage.AFTER_EFFECT)
        return result

    @activity.defn(name="amendments.take_back")
    async def take_back(self, ask: TakeBack) -> Declined:
        """Units whose nodes have stopped are open again."""
        self._checkpoint("amendments.take_back", Stage.BEFORE_EFFECT)

        async def work(change: OrderChange) -> None:
            await _take(change, ask.taken, f"{ask.command_id}:stopped")
            self._checkpoint("amendments.take_back", Stage.AFTER_EFFECT)

        _, change = await change_order(self._engine, ask.order_id, work)
        self._checkpoint("amendments.take_back", Stage.BEFORE_REPORT)
        return Declined(version=change.version)

    @activity.defn(name="amendments.decline")
    async def decline(self, ask: DeclineAsk) -> Declined:
        """The change does not happen; the order is as before."""
        self._checkpoint("amendments.decline", Stage.BEFORE_EFFECT)

        async def work(change: OrderChange) -> None:
            await _decline(change, ask)
            self._checkpoint("amendments.decline", Stage.AFTER_EFFECT)

        _, change = await change_order(self._engine, ask.order_id, work)
        self._checkpoint("amendments.decline", Stage.BEFORE_REPORT)
        return Declined(version=change.version)


async def preview(engine: AsyncEngine, ask: Amend) -> AmendResult:
    """What a change would do now, for the workflow and for whoever only asks. Nothing is written."""
    return await AmendmentActivities(engine)._apply(ask, preview=True)


async def _begin(change: OrderChange, ask: Begin) -> None:
    if ask.tender_id is not None:
        await _want_more(change, ask, ask.tender_id)
    await fulfillment.ask_to_stop(change.connection, ask.asked, change.now, change.rules.node_stop_answer_s)
    if await amendments.put(change.connection, ask.order_id, _row(ask), change.now):
        nodes = [(await fulfillment.read(change.connection, f))["node_id"] for f in ask.asked]
        change.say(
            "amendment.requested",
            ask.actor,
            command_id=ask.command_id,
            kinds=ask.kinds,
            more_minor=ask.amount_minor,
            nodes=tuple(nodes),
        )


def _row(ask: Begin | Amend) -> amendments.AmendmentRow:
    return amendments.AmendmentRow(
        amendment_id=ask.amendment_id,
        command_id=ask.command_id,
        kinds=ask.kinds,
        generation=ask.generation,
        owed_before_minor=ask.owed_before_minor,
        owed_after_minor=ask.owed_after_minor,
        actor=ask.actor,
    )


async def _want_more(change: OrderChange, ask: Begin, tender_id: str) -> None:
    tender = amendments.ExtraTender(tender_id, ask.sequence, ask.provider, ask.reference, ask.amount_minor)
    await amendments.add_tender(change.connection, ask.order_id, tender, change.now, change.rules.payment_pending_s)
    intent = payments.Intent(
        business_key=f"{ask.order_id}:authorize:{ask.sequence}:1",
        order_id=ask.order_id,
        tender_id=tender_id,
        intent="authorize",
        seq=1,
        amount_minor=ask.amount_minor,
        currency=change.currency,
        provider=ask.provider,
    )
    await payments.want(change.connection, intent, grant_token())


async def _carry_out(change: OrderChange, ask: Amend) -> Amended:
    """All of the change.

    Raises:
        _NotPossible: some of it cannot be.
    """
    connection, order_id = change.connection, change.order_id
    key = f"{ask.command_id}:amend"
    freed = await _take(change, ask.taken, key)
    freed += await stock.cut(connection, order_id, None, ask.held_units, key)
    held = [(line_no, quantity) for line_no, _, quantity in ask.held_units]
    await move_lines(connection, order_id, Bucket.RESERVED, Bucket.OPEN, held)
    await move_lines(connection, order_id, Bucket.BACKORDERED, Bucket.OPEN, ask.backordered_units)
    await move_lines(connection, order_id, Bucket.OPEN, Bucket.CANCELLED, ask.removed)
    await acceptance.owe_less(connection, order_id, ask.no_longer_owed_minor)
    await add_lines(connection, order_id, ask.added)
    await amendments.change_header(connection, ask.order, ask.requested_by)
    plan = await _plan(change, ask) if ask.wanted else None
    await _check_waiting(change, ask)
    if ask.address:
        await _use_address(change, ask)
    _tell(change, ask)
    result = Amended(version=0) if plan is None else await _hold(change, ask, plan)
    await arrivals.offer(connection, freed, (order_id, key))
    await amendments.put(connection, order_id, _row(ask), change.now)
    await amendments.decide(connection, order_id, ask.command_id, "confirmed", None, change.now)
    if ask.command:
        change.settle_command(_answered(ask.command, result).record(), ask.actor)
    return result


def _answered(command: CommandRef, done: Amended) -> CommandRef:
    """The command with what came of it: where the units are, and by when they arrive."""
    if done.promised_by is None:
        return command
    told = done.model_dump(mode="json", include={"promised_by", "waiting", "waits_until"})
    nodes = sorted({unit.node_id for unit in done.placements})
    outcome = {**json.loads(command.outcome_json), **told, "nodes": nodes}
    return command.model_copy(update={"outcome_json": json.dumps(outcome)})


async def _use_address(change: OrderChange, ask: Amend) -> None:
    """The vault takes the new address over. A command that came through the API has one.

    Raises:
        _NotPossible: it is gone, so nobody knows where the goods should go.
    """
    if await amendments.use_address(change.connection, change.order_id, ask.command_id):
        return
    row = await control.find_command(change.connection, change.order_id, ask.command_id)
    if row is not None and row.origin == "api":
        raise _NotPossible(NoPlan("address_gone", "the new address is not there any more", ()), change.version)


async def _take(change: OrderChange, taken: tuple[TakenPart, ...], key: str) -> list[stock.Held]:
    """Units leave their fulfillment orders and are open again; nothing where that has happened. What is free now."""
    connection, freed = change.connection, list[stock.Held]()
    for part in taken:
        row = await fulfillment.read(connection, part.fulfillment_id)
        stage = Bucket(row["stage"])
        if stage in (Bucket.CANCELLED, Bucket.OPEN):
            continue
        at_node = [(line_no, row["node_id"], quantity) for line_no, quantity in part.units]
        freed += await stock.cut(connection, change.order_id, part.fulfillment_id, at_node, key)
        await move_lines(connection, change.order_id, stage, Bucket.OPEN, part.units)
        if part.whole:
            state, stage, deadline = FulfillmentState.CANCELLED, Bucket.CANCELLED, change.now
        else:
            await fulfillment.cut(connection, part.fulfillment_id, part.units)
            state = part.state
            deadline = deadline_after(state, stage, change.rules, change.now, row["node_id"])
        await fulfillment.advance(connection, part.fulfillment_id, state, stage, change.now, deadline)
    return freed


async def _check_waiting(change: OrderChange, ask: Amend) -> None:
    """What waits for supply waits for it at the new place and speed.

    Raises:
        _NotPossible: nothing could ever be delivered there.
    """
    if not {ChangeKind.SHIP_TO, ChangeKind.SERVICE_LEVEL} & set(ask.kinds):
        return
    if not await supply.anything_waits(change.connection, change.order_id):
        return
    named = await stock.load_rules(change.connection, ask.order.channel)
    if not await is_reachable(change.connection, ask.order, named):
        why = "no node delivers there at that speed, whatever comes in"
        raise _NotPossible(NoPlan("promise_not_possible", why, ()), change.version)


async def _plan(change: OrderChange, ask: Amend) -> Plan:
    """Nodes for what is wanted, by the rules in force; the day that the customer asks for is kept.

    Raises:
        _NotPossible: there is no plan, or none for that day.
    """
    named = await stock.load_rules(change.connection, ask.order.channel)
    allowed = await what_may_wait(change, ask.order) if ask.may_wait else NOBODY_WAITS
    may_wait = allowed._replace(most=dict(ask.may_wait))
    plan = await make_plan(change.connection, ask.order, ask.wanted, named, ask.barred, may_wait)
    if isinstance(plan, NoPlan):
        raise _NotPossible(plan, change.version)
    if ask.requested_by and plan.promised_by > ask.requested_by:
        why = f"the earliest day is {plan.promised_by}, not {ask.requested_by}"
        raise _NotPossible(NoPlan("promise_not_possible", why, ()), change.version)
    return plan


async def _hold(change: OrderChange, ask: Amend, plan: Plan) -> Amended:
    connection, order_id = change.connection, change.order_id
    until = await _hold_units(change, ask, plan) if plan.held else None
    waiting = await let_wait(change, plan)
    record = noted(plan.record, plan, waiting)
    await acceptance.record_decision(connection, order_id, "sourcing", ask.generation, plan.ruleset, record)
    say_waiting(change, waiting, plan)
    promised_by, promised_until = await _promise(change, ask, plan)
    return Amended(
        placements=tuple(HeldAt(line_no, node, q) for line_no, _, node, q in plan.held),
        reserved_until=until,
        promised_by=promised_by,
        promised_until=promised_until,
        waiting=waiting.units,
        waits_since=waiting.since,
        waits_until=waiting.until,
        placed_by=plan.placed_by,
        placed_until=plan.placed_until,
        version=0,
    )


async def _hold_units(change: OrderChange, ask: Amend, plan: Plan) -> datetime:
    connection, order_id = change.connection, change.order_id
    until = change.now + timedelta(seconds=change.rules.reservation_limit_s)
    until = max(until, await holds.kept_until(connection, order_id, change.now) or until)
    await stock.hold(connection, order_id, ask.generation, until, plan.held)
    units = [(line_no, quantity) for line_no, _, _, quantity in plan.held]
    await move_lines(connection, order_id, Bucket.OPEN, Bucket.RESERVED, units)
    await stock.hold_until(connection, order_id, until)
    return until


async def _promise(change: OrderChange, ask: Amend, plan: Plan) -> tuple[date, datetime]:
    """A new original promise: the plan's day, or the day of what stays where it is if that is later."""
    now_by, now_until = await acceptance.current_promise(change.connection, change.order_id)
    by, until = plan.promised_by, plan.promised_until
    live = await amendments.live_units(change.connection, change.order_id)
    stays = sum(quantity for _, quantity in ask.wanted) < live
    if stays and now_until > until:
        by, until = now_by, now_until
    await amendments.promise_anew(
        change.connection,
        change.order_id,
        by,
        until,
        plan.zone_name,
        change.events[-1]["event_id"],
        plan.steps_json,
        plan.promise_ruleset,
    )
    return by, until


def _tell(change: OrderChange, ask: Amend) -> None:
    change.say(
        "order.amended",
        ask.actor,
        command_id=ask.command_id,
        kinds=ask.kinds,
        removed=[list(unit) for unit in ask.removed],
        added=[[one.line.line_no, one.line.sku, one.line.quantity] for one in ask.added],
        owed_minor=ask.owed_after_minor,
        delta_minor=ask.owed_after_minor - ask.owed_before_minor,
    )


async def _recorded(change: OrderChange, ask: Amend) -> Amended:
    """The answer of an attempt whose commit was not noticed."""
    if not ask.wanted:
        return Amended(version=change.version)
    held = await stock.held_units(change.connection, change.order_id, ask.generation)
    row = await acceptance.recorded_outcome(change.connection, change.order_id)
    number = ask.generation
    record = await acceptance.recorded_decision(change.connection, change.order_id, "sourcing", number) or {}
    waiting = waiting_in(record)
    placed = placed_in(record, row["promised_by"], row["promised_until"])
    return Amended(
        placements=tuple(HeldAt(line_no, node, q) for line_no, _, node, q in held),
        reserved_until=row["reserved_until"] if held else None,
        promised_by=row["promised_by"],
        promised_until=row["promised_until"],
        waiting=waiting.units,
        waits_since=waiting.since,
        waits_until=waiting.until,
        placed_by=placed[0],
        placed_until=placed[1],
        version=change.version,
    )


async def _decline(change: OrderChange, ask: DeclineAsk) -> None:
    if ask.tender_id:
        await amendments.give_up_tender(change.connection, ask.tender_id)
    await amendments.drop_address(change.connection, ask.order_id, ask.command_id)
    if await amendments.decide(change.connection, ask.order_id, ask.command_id, "declined", ask.code, change.now):
        change.say("amendment.declined", ask.actor, ask.code, ask.command_id, why=ask.code)
    if ask.command:
        change.settle_command(ask.command.record(), ask.actor)
