"""Closing an order by force: calls are taken back at its beginning, and what stays open is ended with it."""

import json

from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio import activity

from activities.contract import Checkpoint, Stage, no_checkpoint
from domain.cases import CLOSED_BY_FORCE
from domain.force_close import told
from domain.lifecycle import FulfillmentState, PaymentState, Team
from domain.money import format_minor
from domain.orders import Actor, Frozen
from domain.quantities import Bucket
from store import closing, control, fulfillment, payments
from store.lines import move_fulfillment
from store.orders import CommandRecord, OrderChange, change_order

UNSETTLED = "unsettled"  # the account that finance clears by hand


class TenderMoney(Frozen):
    """A tender as its row has it. Amounts in minor units."""

    tender_id: str
    state: PaymentState
    authorized_minor: int
    captured_minor: int
    refunded_minor: int
    refund_pending_minor: int
    authorization_ref: str | None


class OpenIntent(Frozen):
    """What was wanted of the payment provider and has no outcome yet. `called`: it may have reached it."""

    tender_id: str
    intent: str
    seq: int
    amount_minor: int
    reason_ref: str | None
    called: bool


class BeginClosingAsk(Frozen):
    """From now on nobody is asked any more."""

    order_id: str
    command_id: str
    reason: str
    actor: Actor


class ClosingBegun(Frozen):
    """The money as the rows have it, which may be ahead of what the order has heard."""

    version: int
    tenders: tuple[TenderMoney, ...]
    intents: tuple[OpenIntent, ...]


class Unheard(Frozen):
    """A command that came as a signal while the order was being closed."""

    command_id: str
    kind: str
    payload_json: str
    actor: Actor


class EndClosingAsk(Frozen):
    """The order ends, whatever is open. `left` is what a person has to see to, beside money."""

    order_id: str
    command_id: str
    arrived: tuple[str, ...] = ()  # fulfillment orders whose parcels are on their way, and count as arrived
    left: tuple[str, ...] = ()
    promise_state: str | None = None
    unheard: tuple[Unheard, ...] = ()


class ClosingEnded(Frozen):
    """The money as it stays."""

    version: int
    tenders: tuple[TenderMoney, ...]
    unsettled_minor: int


class ClosingActivities:
    """One transaction each, on our own database: both run as local activities."""

    def __init__(self, engine: AsyncEngine, checkpoint: Checkpoint = no_checkpoint) -> None:
        self._engine = engine
        self._checkpoint = checkpoint

    @activity.defn(name="closing.begin")
    async def begin(self, ask: BeginClosingAsk) -> ClosingBegun:
        """Take back the calls to nodes and carriers, and look at the money."""
        self._checkpoint("closing.begin", Stage.BEFORE_EFFECT)

        async def work(change: OrderChange) -> tuple[tuple[TenderMoney, ...], tuple[OpenIntent, ...]]:
            await closing.take_work_back(change.connection, ask.order_id)
            if not await control.was_said(change.connection, ask.order_id, "order.closing", ask.command_id):
                change.say("order.closing", ask.actor, ask.reason, ask.command_id, reason=ask.reason)
            self._checkpoint("closing.begin", Stage.AFTER_EFFECT)
            intents = await closing.open_intents(change.connection, ask.order_id)
            return await _money(change), tuple(OpenIntent.model_validate(one) for one in intents)

        (tenders, intents), change = await change_order(self._engine, ask.order_id, work)
        self._checkpoint("closing.begin", Stage.BEFORE_REPORT)
        return ClosingBegun(version=change.version, tenders=tenders, intents=intents)

    @activity.defn(name="closing.end")
    async def end(self, ask: EndClosingAsk) -> ClosingEnded:
        """End what is open, book what is unsettled, and leave one case for the rest."""
        self._checkpoint("closing.end", Stage.BEFORE_EFFECT)

        async def work(change: OrderChange) -> tuple[tuple[TenderMoney, ...], int]:
            _, unsettled = await _end(change, ask)
            self._checkpoint("closing.end", Stage.AFTER_EFFECT)
            return await _money(change), unsettled

        (tenders, unsettled), change = await change_order(self._engine, ask.order_id, work)
        self._checkpoint("closing.end", Stage.BEFORE_REPORT)
        return ClosingEnded(version=change.version, tenders=tenders, unsettled_minor=unsettled)


async def _money(change: OrderChange) -> tuple[TenderMoney, ...]:
    rows = await closing.money_of(change.connection, change.order_id)
    return tuple(TenderMoney.model_validate(row) for row in rows)


async def _end(change: OrderChange, ask: EndClosingAsk) -> tuple[int, int]:
    """Repeated after its commit, it finds nothing to do. What is unsettled by this, and in all."""
    connection, order_id = change.connection, change.order_id
    await _answer_all(change, ask.unheard)
    if await control.was_said(connection, order_id, "order.forced", ask.command_id):
        return await closing.leave_unsettled(connection, order_id)  # an earlier attempt has committed
    for fulfillment_id in ask.arrived:
        await _arrived(change, fulfillment_id)
    await fulfillment.nothing_to_capture(connection, order_id)
    abandoned = await closing.abandon_money(connection, order_id)
    unsettled, total = await closing.leave_unsettled(connection, order_id)
    if unsettled:
        key = f"{order_id}:{ask.command_id}:unsettled"
        await payments.post_unsettled(connection, order_id, change.currency, key, unsettled, UNSETTLED)
        change.say("order.unsettled", cause="closed_by_force", amount_minor=unsettled)
    if ask.promise_state:
        await control.set_promise_state(connection, order_id, ask.promise_state)
        if ask.promise_state in ("kept", "broken"):
            change.say(f"promise.{ask.promise_state}", promised_by=change.promised_by)
    money = await _money_left(change, abandoned, unsettled)
    change.say("order.forced", command_id=ask.command_id, left=len(ask.left) + len(money))
    if ask.left or money:
        await _open_case(change, (*money, *ask.left), Team.FINANCE if money else Team.FULFILLMENT)
    return unsettled, total


async def _answer_all(change: OrderChange, unheard: tuple[Unheard, ...]) -> None:
    """Whatever waits for an outcome gets it: the order is closed. Facts are kept by the sweep, as after any end."""
    connection, order_id = change.connection, change.order_id
    outcome = {"code": "order_closed", "detail": "The order was closed by force.", "state": "closed"}
    refused = json.dumps({**outcome, "alternative": None, "lines": []})
    await closing.end_commands(connection, order_id, refused, closing.FACTS)
    for one in unheard:
        if await control.find_command(connection, order_id, one.command_id) is None:
            record = CommandRecord(one.command_id, one.kind, one.payload_json, refused, "refused")
            change.settle_command(record, one.actor)


async def _arrived(change: OrderChange, fulfillment_id: str) -> None:
    row = await fulfillment.read(change.connection, fulfillment_id)
    if row["stage"] != Bucket.SHIPPED:
        return
    await move_fulfillment(change.connection, fulfillment_id, Bucket.SHIPPED, Bucket.DELIVERED)
    closed = FulfillmentState.CLOSED
    await fulfillment.advance(change.connection, fulfillment_id, closed, Bucket.DELIVERED, change.now, change.now)


async def _money_left(change: OrderChange, abandoned: list[closing.Abandoned], unsettled: int) -> tuple[str, ...]:
    """What finance has to look at or to settle, in words."""

    def amount(minor: int) -> str:
        return f"{format_minor(minor, change.currency)} {change.currency}"

    found = [
        f"{one.tender_id}: the outcome of {one.intent} {amount(one.amount_minor)} is not known"
        for one in abandoned
        if one.called
    ]
    found += [
        f"{tender.tender_id}: {amount(tender.authorized_minor - tender.captured_minor)} may still be held"
        for tender in await _money(change)
        if tender.state is PaymentState.ABANDONED and tender.authorized_minor > tender.captured_minor
    ]
    if unsettled > 0:
        found.append(f"{amount(unsettled)} was taken and is not owed: give it back")
    elif unsettled < 0:
        found.append(f"{amount(-unsettled)} is owed and was not taken")
    return tuple(found)


async def _open_case(change: OrderChange, left: tuple[str, ...], owner: Team) -> None:
    detail, code = told(left), CLOSED_BY_FORCE
    if await control.open_case(change.connection, change.order_id, code, owner.value, detail, change.version):
        change.say("order.needs_attention", cause=code, code=code, owner=owner.value, detail=detail)
