"""A step was written and its workflow task was lost: the order learns of it before it decides anything else."""

from collections.abc import Awaitable, Callable

from activities.contract import CommandRef
from activities.records import EndHoldAsk, RecordActivities, SettleAsk
from activities.stock import CancelAsk, StockActivities
from domain.lifecycle import HoldState, PaymentState
from domain.orders import OPERATOR, SYSTEM, CancelReason, HoldType
from tests.support.eventually import eventually
from tests.support.shop import Order, Shop, refusal_of
from workflows.messages import (
    CancelledLine,
    CancelOrder,
    CancelOutcome,
    LineUnits,
    PaymentEvent,
    PaymentEventOutcome,
    ReleaseHold,
)

ShopWith = Callable[..., Awaitable[Shop]]


def _ref(
    command: CancelOrder | ReleaseHold | PaymentEvent, kind: str, outcome_json: str, state: str = "applied"
) -> CommandRef:
    """What a task that is lost has left of a command."""
    return CommandRef(
        command_id=command.command_id,
        kind=kind,
        payload_json=command.model_dump_json(),
        outcome_json=outcome_json,
        state=state,
    )


async def _cancelled_unheard(shop: Shop, order: Order, command: CancelOrder, owed_less: int) -> CancelOutcome:
    """What is left of a cancellation of waiting units when the engine refuses the task that wrote it."""
    outcome = CancelOutcome(
        cancellation_id=f"can_{command.command_id}",
        state="confirmed",
        reason=command.reason,
        lines=tuple(CancelledLine(n, q, q, 0, 0) for n, q in command.lines),
        total_before_minor=3500,
        total_after_minor=3500 - owed_less,
        order_version=0,
    )
    await StockActivities(shop.engine).cancel(
        CancelAsk(
            order_id=order.id,
            reason=command.reason,
            command_id=command.command_id,
            actor=SYSTEM,
            command=_ref(command, "cancel", outcome.model_dump_json()),
            step="at_once",
            backordered_units=tuple((n, q) for n, q in command.lines),
            no_longer_owed_minor=((1, owed_less),),
        )
    )
    return outcome


async def test_units_are_given_up_once_though_their_cancellation_was_lost(shop_with: ShopWith) -> None:
    """The customer cancelled what waits, and the order did not hear of it: at the limit nothing is left to give up."""
    # given
    shop = await shop_with(backorder_limit_s=3)
    await shop.stocks("LAMP", EAST=1)
    await shop.lets_wait("LAMP")
    order = await shop.place(("LAMP", 3))
    await shop.released(order)
    wish = CancelOrder(command_id="unheard", reason=CancelReason.CHANGED_MIND, lines=(LineUnits(1, 2),))
    # when
    await _cancelled_unheard(shop, order, wish, 2333)
    # then
    assert (await shop.sees_through(order)).status == "completed"
    assert await shop.money(order) == {"authorized": 3500, "captured": 1167, "refunded": 0}
    events = await shop.sql(
        "SELECT command_id FROM order_events WHERE order_id = :o AND type = 'cancellation.confirmed'", o=order.id
    )
    assert [event["command_id"] for event in events] == ["unheard"]
    await shop.agrees(order)


async def test_a_cancellation_comes_after_units_that_the_order_gave_up_and_forgot(shop: Shop) -> None:
    """The order gave up what waits and lost that: the customer's cancellation of the rest still finds its units."""
    # given
    await shop.stocks("LAMP", EAST=1)
    await shop.lets_wait("LAMP")
    order = await shop.place(("LAMP", 3))
    await shop.released(order)
    own = CancelOrder(command_id="system:no_supply:1", reason=CancelReason.NO_SUPPLY, lines=(LineUnits(1, 2),))
    await _cancelled_unheard(shop, order, own, 2333)
    # when
    outcome = await shop.cancel(order, lines=[(1, 1)])
    # then
    assert outcome.state == "confirmed"
    assert (await order.handle.result()).status == "cancelled"
    assert await shop.money(order) == {"authorized": 3500, "captured": 0, "refunded": 0}
    await shop.agrees(order)


async def test_a_hold_that_was_released_is_not_rejected_at_its_limit(shop: Shop) -> None:
    """Finance released it, and the order did not hear of it: at the limit nothing is cancelled."""
    # given
    await shop.stocks("LAMP", EAST=1)
    order = await shop.place(("LAMP", 1), pay="pm_declined")
    await shop.becomes(order, wait_cause="payment_declined")
    hold = await shop.hold(order, HoldType.FRAUD, lasts_s=2)
    command = ReleaseHold(command_id="unheard", hold_id=hold.hold_id)
    outcome = hold.model_copy(update={"state": HoldState.RELEASED})
    # when
    await RecordActivities(shop.engine).end_hold(
        EndHoldAsk(
            order_id=order.id,
            hold_id=hold.hold_id,
            type=HoldType.FRAUD,
            state=HoldState.RELEASED,
            actor=OPERATOR,
            reason="known",
            command=_ref(command, "release_hold", outcome.model_dump_json()),
        )
    )

    async def heard() -> bool:
        return "unheard" in (await order.handle.query("state"))["answered"]

    await eventually(heard)
    # then
    assert await shop.holds(order) == [("fraud", "released")]
    await shop.new_method(order, "pm_ok")
    assert (await shop.sees_through(order)).status == "completed"
    await shop.agrees(order)


async def _recorded(shop: Shop, order: Order, command: PaymentEvent, state: str, outcome_json: str) -> None:
    """The row of a payment event as a lost task has left it."""
    await RecordActivities(shop.engine).settle_command(
        SettleAsk(order_id=order.id, actor=OPERATOR, command=_ref(command, "payment_event", outcome_json, state))
    )


async def test_a_payment_event_is_answered_as_its_row_says(shop: Shop) -> None:
    """One was refused and one applied by tasks that the order lost: neither is taken anew, another one is."""
    # given
    await shop.stocks("LAMP", EAST=1)
    order = await shop.place(("LAMP", 1), pay="pm_declined")
    await shop.becomes(order, wait_cause="payment_declined")
    refused, applied = (
        PaymentEvent(command_id=name, tender_id=order.tender_id, fact="method_updated", reference="pm_ok")
        for name in ("refused", "applied")
    )
    told = PaymentEventOutcome(
        applied=True, tender_id=order.tender_id, state=PaymentState.FAILED, order_version=1, decline_code="expired"
    )
    await _recorded(shop, order, refused, "refused", '{"code": "order_closed", "detail": "closed by force"}')
    await _recorded(shop, order, applied, "applied", told.model_dump_json())
    # when
    refusal = await refusal_of(shop.new_method(order, "pm_ok", "refused"))
    answer = await shop.new_method(order, "pm_ok", "applied")
    # then
    assert (refusal.code, refusal.detail) == ("order_closed", "closed by force")
    assert answer.model_copy(update={"order_version": told.order_version}) == told
    assert (await shop.header(order))["wait_cause"] == "payment_declined"
    await shop.new_method(order, "pm_ok", "another")
    assert (await shop.sees_through(order)).status == "completed"
    await shop.agrees(order)
