"""Inventory's part of an order: hold units, commit them to nodes, give them back."""

import secrets
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from temporalio import activity

from activities.contract import (
    Checkpoint,
    CommandRef,
    Grant,
    LostCommand,
    Stage,
    grant_token,
    no_checkpoint,
    own_grant,
)
from activities.planning import NOBODY_WAITS, NoPlan, Plan, Rules, make_plan
from activities.screening import record_screening, recorded_holds, screen
from activities.waiting import let_wait, noted, placed_in, say_waiting, waiting_in, what_may_wait
from domain import carrier_trouble, cut_offs
from domain.ids import derived_id
from domain.lifecycle import FulfillmentState, deadline_after
from domain.order_state import Credit, Hold, OrderState
from domain.orders import SYSTEM, Actor, CancelReason, Frozen, OrderRules, PlaceOrder
from domain.quantities import HANDED_OVER, Bucket
from domain.recall import answer_until
from domain.shares import Components
from store import acceptance, arrivals, control, crediting, fulfillment, holds, links, payments, recalls, stock
from store.engine import transaction
from store.lines import move_lines
from store.orders import OrderChange, change_order, finish, lock_order

MAX_RACES = 5


class Placement(NamedTuple):
    """Units of a line at a node."""

    line_no: int
    node_id: str
    quantity: int


class ShortUnits(NamedTuple):
    """A line that cannot be held in full."""

    line_no: int
    sku: str
    requested: int
    available: int


class ReserveAsk(Frozen):
    """Hold everything that is open. Generation 1 is the acceptance; later ones say why they are needed."""

    order: PlaceOrder
    generation: int = 1
    open_units: tuple[tuple[int, int], ...] = ()  # later generations: line number, units
    barred: tuple[tuple[str, str], ...] = ()  # nodes that were short of a SKU on this order: node, SKU
    may_wait: bool = True  # whether units may wait for supply, as far as the order itself is concerned
    cause: str = "acceptance"


FLOW = 2
"""How the workflow of an order goes that is accepted now. It is part of the answer, so that a history which was written
before says 1 by its silence, and no marker is needed (decision 0030)."""


class StockReserved(Frozen):
    """Units are held, or wait for supply, and the promise is made. `placed` is by when what is held arrives."""

    kind: Literal["reserved"] = "reserved"
    placements: tuple[Placement, ...]
    rules: OrderRules
    reserved_until: datetime | None
    promised_by: date
    promised_until: datetime
    version: int
    grant: Grant | None = None
    sealed: bool = False  # commands of this order must come through the API
    flow: int = 1  # what differs from 2 on is in decision 0030
    waiting: tuple[tuple[int, int], ...] = ()  # line number, units
    waits_since: datetime | None = None
    waits_until: datetime | None = None
    placed_by: date | None = None
    placed_until: datetime | None = None
    holds: tuple[Hold, ...] = ()  # placed with the acceptance


class StockShort(Frozen):
    """Not enough; nothing was held."""

    kind: Literal["short"] = "short"
    code: str
    detail: str
    lines: tuple[ShortUnits, ...]
    version: int


ReserveOutcome = Annotated[StockReserved | StockShort, Field(discriminator="kind")]


class Allocation(NamedTuple):
    """A fulfillment order as created."""

    fulfillment_id: str
    shipment_id: str
    node_id: str


class AllocateAsk(Frozen):
    """Commit what is held, one fulfillment order per node. With `nodes` only what these hold."""

    order_id: str
    generation: int
    units: int
    nodes: tuple[str, ...] = ()
    known: tuple[str, ...] = ()  # commands whose outcome the order knows


class Allocated(Frozen):
    """Units are committed; the work can be released."""

    kind: Literal["allocated"] = "allocated"
    parts: tuple[Allocation, ...]
    version: int
    grant: Grant | None = None


class ReservationLost(Frozen):
    """The reservation lapsed before it could be committed, or commands have changed what it holds: `lost`."""

    kind: Literal["lost"] = "lost"
    version: int
    lost: tuple[LostCommand, ...] = ()


AllocateOutcome = Annotated[Allocated | ReservationLost, Field(discriminator="kind")]


class ExpireAsk(Frozen):
    """Give back what is held beyond its time: of this generation and later ones."""

    order_id: str
    generation: int = 1


class Expired(Frozen):
    """What lapsed. `still_until` is set when the database's clock says that it is not time yet."""

    units: tuple[tuple[int, int], ...] = ()
    still_until: datetime | None = None
    version: int


class PartCut(Frozen):
    """Units that leave a fulfillment order (line number, units); with `whole` it ends with them."""

    fulfillment_id: str
    units: tuple[tuple[int, int], ...]
    whole: bool
    state: FulfillmentState  # where the rest goes on


class CancelAsk(Frozen):
    """Cancel units: open ones, held ones, and units of fulfillment orders that did not leave.

    `step` tells the parts of one command apart: what is free at once, and each node that agreed.
    """

    order_id: str
    reason: CancelReason
    command_id: str
    actor: Actor = SYSTEM
    command: CommandRef | None = None  # set when this step ends the command
    step: str
    backordered_units: tuple[tuple[int, int], ...] = ()  # line number, units
    open_units: tuple[tuple[int, int], ...] = ()
    held_units: tuple[tuple[int, str, int], ...] = ()  # line number, node, units
    cuts: tuple[PartCut, ...] = ()
    asked: tuple[str, ...] = ()  # fulfillment orders whose node is asked to stop
    recalled: tuple[str, ...] = ()  # parcels that their carrier is asked to bring back
    recalled_units: int = 0
    no_longer_owed_minor: tuple[tuple[int, int], ...] = ()  # line number, amount cancelled so far
    restock: bool = True  # else what a node has of the units is written off
    kept_minor: tuple[tuple[int, int], ...] = ()  # line number, amount kept so far of what is cancelled
    kept: Components | None = None  # what this step keeps, by account
    promise_state: str | None = None  # once nothing is left to deliver: withdrawn, or kept or broken by what arrived
    credit: Credit | None = None  # they were to be sent again for units that did not arrive: those are refunded
    untried_tenders: tuple[str, ...] = ()  # nothing is left to pay, so they will not be sent to their provider

    @property
    def key(self) -> str:
        """The business key of this step."""
        return f"{self.command_id}:{self.step}"


class Cancelled(Frozen):
    """The units are free."""

    version: int


class _Lost(Exception):
    """The held units are not what the order expects."""


class StockActivities:
    """One transaction each, on our own database: all of them run as local activities."""

    def __init__(
        self, engine: AsyncEngine, *, direct_orders: bool = True, checkpoint: Checkpoint = no_checkpoint
    ) -> None:
        self._engine = engine
        self._direct_orders = direct_orders
        self._checkpoint = checkpoint

    @activity.defn(name="stock.reserve")
    async def reserve(self, ask: ReserveAsk) -> ReserveOutcome:
        """Hold units on concrete nodes and make the promise; or say what is short."""
        self._checkpoint("stock.reserve", Stage.BEFORE_EFFECT)
        outcome: StockReserved | StockShort | None = None
        for _ in range(MAX_RACES):
            try:
                outcome = await transaction(self._engine, lambda c: self._reserve(c, ask))
                break
            except stock.StockRaced:
                continue
        if outcome is None:
            outcome = await transaction(self._engine, lambda c: self._reserve(c, ask, give_up=True))
        self._checkpoint("stock.reserve", Stage.BEFORE_REPORT)
        return outcome

    async def _reserve(
        self, connection: AsyncConnection, ask: ReserveAsk, *, give_up: bool = False
    ) -> StockReserved | StockShort:
        order = ask.order
        named = await stock.load_rules(connection, order.channel)
        rules = _rules_of(named)
        if ask.generation == 1:
            if not self._direct_orders and not await acceptance.has_intake(connection, order.order_id):
                return StockShort(
                    code="direct_order_refused", detail="orders come in through the API", lines=(), version=0
                )
            if await links.names_nothing(connection, order):
                detail = "the channel does not have the order that this one replaces"
                return StockShort(code="unknown_order", detail=detail, lines=(), version=0)
            state = OrderState.begin(order, order.placed_at)
            shares = tuple(line.shares for line in state.lines.values())
            token = f"trk_{secrets.token_urlsafe(16)}"
            if not await acceptance.record_order(connection, order, shares, rules, token):
                return await self._recorded(connection, order, 1)
        change = await lock_order(connection, order.order_id)
        if ask.generation > 1 and await acceptance.recorded_decision(
            connection, order.order_id, "sourcing", ask.generation
        ):
            return await self._recorded(connection, order, ask.generation)
        replaced = await links.lock_replaced(connection, order) if ask.generation == 1 else None
        wanted = ask.open_units or tuple((line.line_no, line.quantity) for line in order.lines)
        may_wait = await what_may_wait(change, order) if ask.may_wait else NOBODY_WAITS
        plan = await make_plan(connection, order, wanted, named, ask.barred, may_wait, others_took_all=give_up)
        if isinstance(plan, Plan):
            result: StockReserved | StockShort = await self._hold(change, ask, plan, rules, named["risk"], replaced)
        else:
            result = await self._short(change, ask, plan)
        self._checkpoint("stock.reserve", Stage.AFTER_EFFECT)
        return result

    async def _hold(
        self,
        change: OrderChange,
        ask: ReserveAsk,
        plan: Plan,
        rules: OrderRules,
        risk: tuple[str, dict[str, Any]],
        replaced: links.Replaced | None,
    ) -> StockReserved:
        order_id = change.order_id
        until = await _hold_until(change, rules, first=ask.generation == 1) if plan.held else None
        screened = screen(change, ask.order, risk) if ask.generation == 1 else None
        placed = (screened.hold,) if screened and screened.hold else ()
        if until is not None:  # units that a hold keeps back are kept for it
            until = max([until, *(hold.deadline for hold in placed)])
            await stock.hold(change.connection, order_id, ask.generation, until, plan.held)
        units = [(line_no, quantity) for line_no, _, _, quantity in plan.held]
        await move_lines(change.connection, order_id, Bucket.OPEN, Bucket.RESERVED, units)
        waiting = await let_wait(change, plan)
        record = noted(plan.record, plan, waiting)
        await acceptance.record_decision(change.connection, order_id, "sourcing", ask.generation, plan.ruleset, record)
        nodes = tuple(sorted({node for _, _, node, _ in plan.held}))
        count = sum(q for _, q in units)
        promised = (plan.promised_by, plan.promised_until)
        if ask.generation == 1:
            await acceptance.record_promise(
                change.connection,
                order_id,
                plan.promised_by,
                plan.promised_until,
                plan.zone_name,
                plan.steps_json,
                plan.promise_ruleset,
                until,
            )
            await self._want_payment(change, ask.order)
            change.say("order.confirmed", units=count, nodes=nodes or ("no node",), promised_by=str(plan.promised_by))
            say_waiting(change, waiting, plan)
            if replaced:
                await links.tell_both(change, ask.order, replaced)
            if screened:
                await record_screening(change, screened)
        else:
            if until is not None:
                await stock.hold_until(change.connection, order_id, until)
                change.say("reservation.renewed", units=count, nodes=nodes)
            say_waiting(change, waiting, plan)
            promised = await _promise_again(change, ask.cause, plan)
        await finish(change)
        return StockReserved(
            placements=tuple(Placement(line_no, node, q) for line_no, _, node, q in plan.held),
            rules=rules,
            reserved_until=until,
            promised_by=promised[0],
            promised_until=promised[1],
            version=change.version,
            grant=own_grant(),
            sealed=not self._direct_orders,
            flow=FLOW,
            waiting=waiting.units,
            waits_since=waiting.since,
            waits_until=waiting.until,
            placed_by=plan.placed_by,
            placed_until=plan.placed_until,
            holds=placed,
        )

    async def _recorded(
        self, connection: AsyncConnection, order: PlaceOrder, generation: int
    ) -> StockReserved | StockShort:
        """The answer of an attempt whose commit was not noticed."""
        row = await acceptance.recorded_outcome(connection, order.order_id)
        if row["rejection"] is not None:
            told = row["rejection"]
            lines = tuple(ShortUnits(*line) for line in told["lines"])
            return StockShort(code=told["code"], detail=told["detail"], lines=lines, version=row["version"])
        held = await stock.held_units(connection, order.order_id, generation)
        decided = await acceptance.recorded_decision(connection, order.order_id, "sourcing", generation) or {}
        waiting = waiting_in(decided)
        placed = placed_in(decided, row["promised_by"], row["promised_until"])
        return StockReserved(
            placements=tuple(Placement(line_no, node, q) for line_no, _, node, q in held),
            rules=OrderRules.model_validate(row["rules"]),
            reserved_until=row["reserved_until"],
            promised_by=row["promised_by"],
            promised_until=row["promised_until"],
            version=row["version"],
            sealed=not self._direct_orders,
            flow=FLOW,
            waiting=waiting.units,
            waits_since=waiting.since,
            waits_until=waiting.until,
            placed_by=placed[0],
            placed_until=placed[1],
            holds=await recorded_holds(connection, order.order_id) if generation == 1 else (),
        )

    async def _want_payment(self, change: OrderChange, order: PlaceOrder) -> None:
        """Store the intents to authorize; only the first tender's call follows at once."""
        for position, tender in enumerate(sorted(order.tenders, key=lambda t: t.sequence)):
            intent = payments.Intent(
                business_key=f"{order.order_id}:authorize:{tender.sequence}:1",
                order_id=order.order_id,
                tender_id=tender.tender_id,
                intent="authorize",
                seq=1,
                amount_minor=tender.amount_minor,
                currency=order.currency,
                provider=tender.provider,
            )
            await payments.want(change.connection, intent, grant_token() if position == 0 else None)

    async def _short(self, change: OrderChange, ask: ReserveAsk, plan: NoPlan) -> StockShort:
        lines = tuple(ShortUnits(*line) for line in plan.lines)
        if ask.generation == 1:
            rejection = {"code": plan.code, "detail": plan.detail, "lines": [list(line) for line in lines]}
            await acceptance.reject_order(change.connection, change.order_id, rejection)
            change.say("order.rejected", reason=plan.code, lines=len(lines))
            await finish(change)
        return StockShort(code=plan.code, detail=plan.detail, lines=lines, version=change.version)

    @activity.defn(name="stock.allocate")
    async def allocate(self, ask: AllocateAsk) -> AllocateOutcome:
        """Commit held units and write one fulfillment order per node."""
        self._checkpoint("stock.allocate", Stage.BEFORE_EFFECT)

        async def work(change: OrderChange) -> AllocateOutcome:
            before = await fulfillment.existing(change.connection, ask.order_id, ask.generation)
            rows = [row for row in before if not ask.nodes or row["node_id"] in ask.nodes]
            if rows:
                parts = [Allocation(r["fulfillment_id"], r["shipment_id"], r["node_id"]) for r in rows]
                return Allocated(parts=tuple(parts), version=change.version)
            lost = await control.lost_commands(change.connection, ask.order_id, "", ask.known)
            if lost:
                return ReservationLost(
                    version=change.version, lost=tuple(LostCommand(kind=k, payload_json=p) for k, p in lost)
                )
            parts = await self._commit(change, ask)
            change.say("order.allocated", nodes=tuple(p.node_id for p in parts))
            self._checkpoint("stock.allocate", Stage.AFTER_EFFECT)
            return Allocated(parts=tuple(parts), version=change.version, grant=own_grant())

        try:
            result, change = await change_order(self._engine, ask.order_id, work)
        except _Lost:
            _, change = await change_order(self._engine, ask.order_id, _nothing)
            return ReservationLost(version=change.version)
        self._checkpoint("stock.allocate", Stage.BEFORE_REPORT)
        return result.model_copy(update={"version": change.version})

    async def _commit(self, change: OrderChange, ask: AllocateAsk) -> list[Allocation]:
        parts = {
            node: Allocation(
                derived_id("ful", ask.order_id, ask.generation, node),
                derived_id("shp", ask.order_id, ask.generation, node),
                node,
            )
            for node in await stock.nodes_holding(change.connection, ask.order_id)
            if not ask.nodes or node in ask.nodes
        }
        committed = await stock.commit_held(
            change.connection, ask.order_id, {node: part.fulfillment_id for node, part in parts.items()}
        )
        if sum(q for _, _, _, q in committed) != ask.units:
            raise _Lost
        units = [(line_no, q) for line_no, _, _, q in committed]
        await move_lines(change.connection, ask.order_id, Bucket.RESERVED, Bucket.ALLOCATED, units)
        deadline = deadline_after(FulfillmentState.OPEN, Bucket.ALLOCATED, change.rules, change.now)
        for node, part in parts.items():
            work = fulfillment.Work(
                fulfillment_id=part.fulfillment_id,
                shipment_id=part.shipment_id,
                node_id=node,
                ship_by=change.now + timedelta(seconds=change.rules.node_pack_s),
                lines=_lines_at(node, committed),
            )
            await fulfillment.create(
                change.connection,
                ask.order_id,
                ask.generation,
                work,
                now=change.now,
                deadline=deadline,
                token=grant_token(),
            )
        return list(parts.values())

    @activity.defn(name="stock.expire")
    async def expire(self, ask: ExpireAsk) -> Expired:
        """Give back held units whose time is over by the database's clock."""
        self._checkpoint("stock.expire", Stage.BEFORE_EFFECT)

        async def work(change: OrderChange) -> Expired:
            freed = await stock.expire_held(change.connection, ask.order_id)
            units = tuple((line_no, q) for line_no, _, _, q in freed)
            await arrivals.offer(change.connection, freed, (change.order_id, "expired", str(change.version)))
            if units:
                await move_lines(change.connection, ask.order_id, Bucket.RESERVED, Bucket.OPEN, units)
                await stock.hold_until(change.connection, ask.order_id, None)
                change.say("reservation.expired", units=sum(q for _, q in units))
                self._checkpoint("stock.expire", Stage.AFTER_EFFECT)
                return Expired(units=units, version=change.version)
            gone = await stock.expired_units(change.connection, ask.order_id, ask.generation)
            if gone:  # an earlier attempt gave them back, and its answer was lost
                return Expired(units=tuple((line_no, q) for line_no, _, _, q in gone), version=change.version)
            row = await acceptance.recorded_outcome(change.connection, ask.order_id)
            return Expired(still_until=row["reserved_until"], version=change.version)

        result, change = await change_order(self._engine, ask.order_id, work)
        self._checkpoint("stock.expire", Stage.BEFORE_REPORT)
        return result.model_copy(update={"version": change.version})

    @activity.defn(name="stock.cancel")
    async def cancel(self, ask: CancelAsk) -> Cancelled:
        """Cancel units, give their stock back, and store the outcome of the command that asked for it."""
        self._checkpoint("stock.cancel", Stage.BEFORE_EFFECT)

        async def work(change: OrderChange) -> None:
            await _cancel(change, ask)
            self._checkpoint("stock.cancel", Stage.AFTER_EFFECT)

        _, change = await change_order(self._engine, ask.order_id, work)
        self._checkpoint("stock.cancel", Stage.BEFORE_REPORT)
        return Cancelled(version=change.version)


def _rules_of(named: Rules) -> OrderRules:
    """The rules that an order pins: its own document, and those that are rulesets of their own."""
    version, body = named["order"]
    silence = {**named["node_silence"][1], "version": named["node_silence"][0]}
    return OrderRules.model_validate(
        {
            **body,
            "version": version,
            "cut_offs": cut_offs.pinned(*named["cut_off"]),
            "carrier_trouble": carrier_trouble.pinned(*named["carrier_trouble"]),
            "node_silence": silence,
            "risk": named["risk"][0],
        }
    )


async def _hold_until(change: OrderChange, rules: OrderRules, *, first: bool) -> datetime:
    """Until when units are held. Those that a hold keeps back are kept for it."""
    until = change.now + timedelta(seconds=rules.reservation_limit_s)
    if first:
        return until
    return max(until, await holds.kept_until(change.connection, change.order_id, change.now) or until)


async def _promise_again(change: OrderChange, cause: str, plan: Plan) -> tuple[date, datetime]:
    """The promise in force: a later date becomes a new one, told once; it never becomes earlier.

    Units that wait for supply are told with the date.
    """
    before, until = await acceptance.current_promise(change.connection, change.order_id)
    if plan.promised_until <= until:
        return before, until
    if not plan.waiting:
        change.say("promise.changed", cause=cause, promised_by=before, to=plan.promised_by, why=cause)
    await acceptance.re_promise(
        change.connection,
        change.order_id,
        plan.promised_by,
        plan.promised_until,
        plan.zone_name,
        cause,
        change.events[-1]["event_id"],
        plan.steps_json,
        plan.promise_ruleset,
    )
    return plan.promised_by, plan.promised_until


def _lines_at(node_id: str, units: Sequence[stock.Held]) -> tuple[tuple[int, str, int], ...]:
    """What a node has of each line (line number, SKU, units), whenever it was held."""
    lines: dict[tuple[int, str], int] = {}
    for line_no, sku, at, quantity in units:
        if at == node_id:
            lines[line_no, sku] = lines.get((line_no, sku), 0) + quantity
    return tuple((line_no, sku, quantity) for (line_no, sku), quantity in sorted(lines.items()))


async def _nothing(change: OrderChange) -> None:
    """Only derive the header again."""


async def _cancel(change: OrderChange, ask: CancelAsk) -> None:
    connection, order_id = change.connection, ask.order_id
    done, kept = 0, ask.kept.total_minor if ask.kept else 0
    if not await control.was_said(connection, order_id, "cancellation.confirmed", ask.command_id, ask.step):
        done = await _free_lines(change, ask)
        for cut in ask.cuts:
            done += await _cancel_units(change, ask, cut)
    await fulfillment.ask_to_stop(connection, ask.asked, change.now, change.rules.node_stop_answer_s)
    await acceptance.owe_less(connection, order_id, ask.no_longer_owed_minor)
    if ask.kept and kept:
        await acceptance.keep(connection, order_id, ask.kept_minor)
        await payments.post_kept(connection, order_id, change.currency, ask.key, ask.kept)
    await crediting.credit(connection, order_id, change.currency, f"{order_id}:{ask.key}", ask.credit)
    await payments.drop_tenders(connection, ask.untried_tenders)
    if ask.promise_state:
        await control.set_promise_state(connection, order_id, ask.promise_state)
    if done and ask.credit:
        amount = ask.credit.worth.total_minor
        change.say("units.credited", ask.actor, ask.reason, ask.command_id, units=done, amount_minor=amount)
    if done:
        about: dict[str, object] = {"units": done, "reason": ask.reason, "step": ask.step}
        about |= {"kept_minor": kept} if kept else {}
        change.say("cancellation.confirmed", ask.actor, ask.reason, ask.command_id, **about)
        if kept:
            change.say("payment.kept", ask.actor, ask.reason, ask.command_id, amount_minor=kept)
        if ask.promise_state in ("kept", "broken"):
            change.say(f"promise.{ask.promise_state}", promised_by=change.promised_by)
    if ask.asked and not await control.was_said(connection, order_id, "cancellation.requested", ask.command_id):
        nodes = tuple([(await fulfillment.read(connection, f))["node_id"] for f in ask.asked])
        change.say("cancellation.requested", ask.actor, ask.reason, ask.command_id, nodes=nodes, reason=ask.reason)
    if ask.recalled:
        await _ask_back(change, ask)
    if ask.command:
        change.settle_command(ask.command.record(), ask.actor)


async def _ask_back(change: OrderChange, ask: CancelAsk) -> None:
    """The carrier is about to be asked for parcels."""
    until = answer_until(change.rules, change.now)
    if found := await recalls.ask(change.connection, ask.recalled, change.now, until):
        about: dict[str, object] = {"units": ask.recalled_units, "reason": ask.reason, "shipments": found}
        change.say("recall.requested", ask.actor, ask.reason, ask.command_id, until=until, **about)


async def _free_lines(change: OrderChange, ask: CancelAsk) -> int:
    """Cancel units of lines that wait for supply, are open or held."""
    held = [(line_no, quantity) for line_no, _, quantity in ask.held_units]
    freed = await _give_back(change, ask, None, ask.held_units)
    await move_lines(change.connection, change.order_id, Bucket.RESERVED, Bucket.CANCELLED, held)
    await move_lines(change.connection, change.order_id, Bucket.OPEN, Bucket.CANCELLED, ask.open_units)
    waiting = ask.backordered_units
    await move_lines(change.connection, change.order_id, Bucket.BACKORDERED, Bucket.CANCELLED, waiting)
    await arrivals.offer(change.connection, freed, (change.order_id, ask.key))
    return sum(quantity for _, quantity in (*held, *ask.open_units, *waiting))


async def _give_back(
    change: OrderChange, ask: CancelAsk, fulfillment_id: str | None, units: Sequence[tuple[int, str, int]]
) -> list[stock.Held]:
    """Units (line number, node, units) are in stock again, or are written off. What is free now."""
    connection, order_id = change.connection, change.order_id
    if ask.restock:
        return await stock.cut(connection, order_id, fulfillment_id, units, ask.key)
    if units:
        await stock.write_off(connection, order_id, fulfillment_id, units, ask.key, ask.actor.id)
        nodes = tuple(sorted({node for _, node, _ in units}))
        count = sum(quantity for _, _, quantity in units)
        change.say("stock.written_off", ask.actor, ask.reason, ask.command_id, units=count, nodes=nodes)
    return []


async def _cancel_units(change: OrderChange, ask: CancelAsk, cut: PartCut) -> int:
    """Free units of a fulfillment order; nothing when it has ended already."""
    row = await fulfillment.read(change.connection, cut.fulfillment_id)
    stage = Bucket(row["stage"])
    if stage in (Bucket.CANCELLED, Bucket.OPEN, *HANDED_OVER):
        return 0
    at_node = [(line_no, row["node_id"], quantity) for line_no, quantity in cut.units]
    freed = await _give_back(change, ask, cut.fulfillment_id, at_node)
    await move_lines(change.connection, change.order_id, stage, Bucket.CANCELLED, cut.units)
    await arrivals.offer(change.connection, freed, (change.order_id, ask.key, cut.fulfillment_id))
    if cut.whole:
        state, stage, deadline = FulfillmentState.CANCELLED, Bucket.CANCELLED, change.now
    else:
        await fulfillment.cut(change.connection, cut.fulfillment_id, cut.units)
        state, deadline = cut.state, deadline_after(cut.state, stage, change.rules, change.now, row["node_id"])
    await fulfillment.advance(change.connection, cut.fulfillment_id, state, stage, change.now, deadline)
    return sum(quantity for _, quantity in cut.units)
