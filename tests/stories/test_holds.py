"""Holds: an order waits for somebody's decision, exactly at the step that the hold names, and answers meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from temporalio.testing import TimeSkipper

from domain.ids import derived_id
from domain.orders import Actor, ActorKind, HoldBlock, HoldType, ReportKind, Split
from tests.support.eventually import eventually
from tests.support.shop import Order, Shop, refusal_of
from workflows.messages import HoldOutcome, PlaceHold, ReleaseHold

ShopWith = Callable[..., Awaitable[Shop]]
SCHEDULE, RELEASE, SHIP, REFUND = HoldBlock
ADA = Actor(kind=ActorKind.PERSON, id="ada", role="service")
FAY = Actor(kind=ActorKind.PERSON, id="fay", role="finance")


@pytest.fixture
async def skipper(shop: Shop) -> AsyncIterator[TimeSkipper]:
    """Moves an order's clock. Orders start unskipped, so that nothing jumps before a story says so."""
    skipper = TimeSkipper(shop.client)
    with skipper.with_time_skipping_disabled():
        yield skipper


def _hold_id(order: Order, command_id: str = "hold-1") -> str:
    return derived_id("hld", order.id, command_id)


async def _held(shop: Shop, hold_type: HoldType, *lines: tuple[str, int], **more: Any) -> Order:
    """An order that is held before it has done anything; held as a whole, it waits for the hold once it is paid."""
    order = await shop.starts_with(
        shop.order(*(lines or (("LAMP", 2),))), "place_hold", {"command_id": "hold-1", "type": hold_type, **more}
    )
    whole = {} if "line_no" in more else {"wait_cause": "hold"}
    await shop.becomes(order, payment_status="authorized", **whole)
    return order


async def _waits(shop: Shop, order: Order) -> tuple[str, str, str]:
    """Whom the order waits for, which team owns that, and why: the same in the row and in the workflow."""
    header = await shop.header(order)
    waits = await order.handle.query("waits")
    told = (header["waiting_on"], header["wait_owner"], header["wait_cause"])
    assert (waits["waiting_on"], waits["owner"], waits["cause"]) == told
    assert header["state_digest"] == await order.handle.query("digest")
    if told[2] == "hold":
        assert header["wait_deadline"] == shop.when(waits["deadline"])
    return told


# --- each block stops its own step --------------------------------------------------------------------


async def test_schedule_keeps_units_reserved_and_uncommitted(shop: Shop) -> None:
    """Paid and held at a node; no fulfillment order is made until the hold is released."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await _held(shop, HoldType.MANUAL, blocks=["schedule"])
    # then
    assert await _waits(shop, order) == ("hold", "service", "hold")
    assert await shop.parts(order) == []
    assert await shop.reserved("LAMP") == {"EAST": 2}
    await shop.shows(order, OrderHolds=["manual"])
    assert "**Holds** manual blocks schedule until" in await shop.details(order)
    # when
    outcome = await shop.end_hold(order, _hold_id(order))
    # then
    assert outcome.state == "released"
    assert (await shop.is_paid_and_arrives(order)).status == "completed"
    assert await shop.rests(order) == [
        "order.confirmed",
        "hold.placed",
        "payment.authorized",
        "hold.released",
        "order.allocated",
        "fulfillment.released",
        "fulfillment.packed",
        "shipment.booked",
        "shipment.handed_over",
        "payment.captured",
        "shipment.delivered",
        "promise.kept",
        "order.completed",
    ]
    await shop.shows(order, OrderHolds=None)


async def test_release_keeps_the_work_from_the_node(shop: Shop) -> None:
    """The units are committed, and the node hears of them when the hold is released, not before."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await _held(shop, HoldType.MANUAL)
    # then
    assert await _waits(shop, order) == ("hold", "service", "hold")
    assert [(part["state"], part["stage"]) for part in await shop.parts(order)] == [("open", "allocated")]
    assert shop.effects(order, "warehouses") == []
    # when
    await shop.end_hold(order, _hold_id(order))
    # then
    (part,) = await shop.released(order)
    assert part["state"] == "submitted"
    assert await _waits(shop, order) == ("node", "fulfillment", "node_acceptance")
    assert (await shop.sees_through(order)).status == "completed"
    await shop.agrees(order)


async def test_ship_keeps_the_label_from_being_bought(shop: Shop) -> None:
    """The node takes the work and packs; the parcel gets no label, and cannot leave, until the hold is released."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await _held_at_the_node(shop)
    (part,) = await shop.parts(order)
    # when
    await shop.report(order, part["fulfillment_id"], ReportKind.PACKED)
    # then
    assert await _waits(shop, order) == ("hold", "service", "hold")
    assert shop.effects(order, "carriers") == []
    refusal = await refusal_of(shop.report(order, part["fulfillment_id"], ReportKind.HANDED_OVER, "too-early"))
    assert refusal.code == "not_yet"
    # and when
    await shop.end_hold(order, _hold_id(order))
    await shop.labelled(order, part)
    # then
    assert shop.effects(order, "carriers") == [("label", 0)]
    await shop.report(order, part["fulfillment_id"], ReportKind.HANDED_OVER)
    await shop.delivers(order, part)
    assert (await order.handle.result()).status == "completed"
    await shop.agrees(order)


async def _held_at_the_node(shop: Shop) -> Order:
    """The node has the work, and the parcel may not be booked."""
    order = await shop.place(("LAMP", 2))
    await shop.released(order)
    outcome = await shop.hold(order, HoldType.MANUAL, blocks=(SHIP,))
    assert (outcome.state, outcome.blocks, outcome.owner) == ("placed", (SHIP,), "service")
    assert await _waits(shop, order) == ("node", "fulfillment", "node_acceptance")
    return order


async def test_refund_keeps_money_that_was_taken_too_much(shop: Shop) -> None:
    """Taken at the bank's console, then cancelled: it goes home when finance has looked at it."""
    # given
    await shop.stocks("LAMP", EAST=1)
    order = await shop.place(("LAMP", 1))
    await shop.released(order)
    await shop.hold(order, HoldType.FRAUD, blocks=(REFUND,))
    await shop.captured_at_the_console(order, 1500)
    # when
    assert (await shop.cancel(order)).state == "confirmed"
    # then
    await shop.becomes(order, wait_cause="hold")
    assert await _waits(shop, order) == ("hold", "finance", "hold")
    assert ("refund", 1500) not in shop.effects(order)
    # and when
    await shop.end_hold(order, _hold_id(order))
    # then
    assert (await order.handle.result()).status == "cancelled"
    assert ("refund", 1500) in shop.effects(order)
    await shop.agrees(order)


# --- scope --------------------------------------------------------------------------------------------


async def test_several_holds_stand_at_once_and_the_last_one_opens_the_gate(shop: Shop) -> None:
    """Each is released on its own; the order names the one whose limit comes first."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await _held(shop, HoldType.ADDRESS)
    await shop.hold(order, HoldType.FRAUD, "hold-2", blocks=(RELEASE,))
    assert await _waits(shop, order) == ("hold", "finance", "hold")
    await shop.shows(order, OrderHolds=["address", "fraud"])
    # when
    await shop.end_hold(order, _hold_id(order, "hold-2"))
    # then
    assert await _waits(shop, order) == ("hold", "service", "hold")
    assert shop.effects(order, "warehouses") == []
    # and when
    await shop.end_hold(order, _hold_id(order))
    # then
    assert (await shop.sees_through(order)).status == "completed"
    assert await shop.holds(order) == [("address", "released"), ("fraud", "released")]
    await shop.agrees(order)


async def test_a_held_line_stops_the_fulfillment_orders_that_contain_it(shop: Shop) -> None:
    """The lamp waits for its address; the rug from the other node is delivered meanwhile."""
    # given
    await shop.stocks("LAMP", EAST=1)
    await shop.stocks("RUG", WEST=1)
    order = await _held(shop, HoldType.ADDRESS, ("LAMP", 1), ("RUG", 1), line_no=1)
    # when
    (rug,) = [part for part in await shop.released(order) if part["node_id"] == "WEST"]
    await shop.ships(order, rug)
    await shop.delivers(order, rug)
    # then
    stages = {part["node_id"]: part["stage"] for part in await shop.parts(order)}
    assert stages == {"EAST": "allocated", "WEST": "delivered"}
    await shop.becomes(order, payment_status="partially_captured")
    assert await _waits(shop, order) == ("hold", "service", "hold")
    # and when
    await shop.end_hold(order, _hold_id(order))
    # then
    (lamp,) = [part for part in await shop.released(order, 2) if part["node_id"] == "EAST"]
    await shop.ships(order, lamp)
    await shop.delivers(order, lamp)
    assert (await order.handle.result()).status == "completed"
    await shop.agrees(order)


async def test_a_line_that_may_not_be_scheduled_keeps_its_own_node_back_only(shop: Shop) -> None:
    """The rug is committed and shipped; the lamp stays reserved, and is committed when the hold is released."""
    # given
    await shop.stocks("LAMP", EAST=1)
    await shop.stocks("RUG", WEST=1)
    order = await _held(shop, HoldType.CREDIT, ("LAMP", 1), ("RUG", 1), line_no=1)
    (rug,) = await shop.released(order)
    await shop.ships(order, rug)
    # then
    assert [part["node_id"] for part in await shop.parts(order)] == ["WEST"]
    assert await shop.reserved("LAMP") == {"EAST": 1}
    # when
    await shop.end_hold(order, _hold_id(order))
    (lamp,) = [part for part in await shop.released(order, 2) if part["node_id"] == "EAST"]
    await shop.ships(order, lamp)
    for part in (rug, lamp):
        await shop.delivers(order, part)
    # then
    assert (await order.handle.result()).status == "completed"
    assert (await shop.rests(order)).count("order.allocated") == 2


async def test_one_parcel_for_all_waits_for_its_held_line(shop: Shop) -> None:
    """Together means together: one line holds the one fulfillment order."""
    # given
    await shop.stocks("LAMP", EAST=1)
    await shop.stocks("RUG", EAST=1)
    placed = shop.order(("LAMP", 1), ("RUG", 1), split=Split.TOGETHER)
    order = await shop.starts_with(placed, "place_hold", {"command_id": "hold-1", "type": "quality", "line_no": 2})
    await shop.becomes(order, wait_cause="hold", wait_owner="commerce")
    assert shop.effects(order, "warehouses") == []
    # when
    await shop.end_hold(order, _hold_id(order))
    # then
    assert (await shop.sees_through(order)).status == "completed"
    await shop.agrees(order)


# --- a held order answers -----------------------------------------------------------------------------


async def test_a_held_order_can_be_cancelled_and_its_hold_ends_with_it(shop: Shop) -> None:
    """Stock and money come back at once; nobody has to release anything."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await _held(shop, HoldType.FRAUD)
    # when
    outcome = await shop.cancel(order)
    # then
    assert outcome.state == "confirmed"
    assert (await order.handle.result()).status == "cancelled"
    assert await shop.reserved("LAMP") == {"EAST": 0}
    assert await shop.rests(order) == [
        "order.confirmed",
        "hold.placed",
        "payment.authorized",
        "cancellation.confirmed",
        "payment.voided",
        "hold.released",
        "order.cancelled",
    ]
    assert await shop.holds(order) == [("fraud", "released")]
    await shop.shows(order, OrderHolds=None)


async def test_a_parcel_that_may_not_be_booked_can_still_be_cancelled(shop: Shop) -> None:
    """The node stops; there is no label to take back."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await _held_at_the_node(shop)
    (part,) = await shop.parts(order)
    await shop.report(order, part["fulfillment_id"], ReportKind.PACKED)
    # when
    outcome = await shop.cancel(order)
    # then
    assert outcome.state == "confirmed"
    assert shop.effects(order, "carriers") == []
    assert (await order.handle.result()).status == "cancelled"
    await shop.agrees(order)


async def test_a_short_pick_under_a_hold_is_reserved_again_and_waits(shop: Shop) -> None:
    """What the node could not find is held at the other node for as long as the hold stands, and not committed."""
    # given
    await shop.stocks("LAMP", EAST=2, WEST=1)
    order = await shop.place(("LAMP", 2))
    (east,) = await shop.released(order)
    refusal = await refusal_of(shop.hold(order, HoldType.MANUAL, blocks=(SCHEDULE,)))
    assert refusal.code == "nothing_to_hold"
    await shop.hold(order, HoldType.MANUAL, "hold-2", blocks=(SCHEDULE, SHIP), lasts_s=3600)
    # when
    await shop.report(order, east["fulfillment_id"], ReportKind.SHORT, lines=((1, 1),))
    await shop.becomes(order, wait_cause="hold")
    # then
    assert await shop.reserved("LAMP") == {"EAST": 1, "WEST": 1}
    header = await shop.header(order)
    assert header["reserved_until"] == header["wait_deadline"]
    # and when
    await shop.end_hold(order, _hold_id(order, "hold-2"))
    # then
    assert (await shop.sees_through(order, 2)).status == "completed"
    await shop.agrees(order)


async def _short_under_a_hold(shop: Shop) -> Order:
    """WEST keeps a lamp and the rug back; what EAST is short of joins them there, held later than they were."""
    await shop.stocks("LAMP", EAST=2, WEST=1)
    await shop.stocks("RUG", WEST=1)
    order = await _held(shop, HoldType.CREDIT, ("LAMP", 3), ("RUG", 1), line_no=2)
    (east,) = await shop.released(order)
    assert (east["node_id"], east["units"]) == ("EAST", 2)
    await shop.sql(
        "UPDATE stock_levels SET on_hand = on_hand + 1 WHERE sku = :s AND node_id = 'WEST'", s=shop.sku("LAMP")
    )
    await shop.report(order, east["fulfillment_id"], ReportKind.SHORT, lines=((1, 1),))

    async def joined() -> bool:
        return await shop.reserved("LAMP") == {"EAST": 1, "WEST": 2}

    await eventually(joined)
    return order


async def test_what_joins_units_that_are_kept_back_leaves_with_them(shop: Shop) -> None:
    """Held at two times, committed in one fulfillment order."""
    # given
    order = await _short_under_a_hold(shop)
    # when
    await shop.end_hold(order, _hold_id(order))
    # then
    parts = {part["node_id"]: part["units"] for part in await shop.released(order, 2)}
    assert parts == {"EAST": 1, "WEST": 3}
    assert (await shop.sees_through(order, 2)).status == "completed"
    await shop.agrees(order)


async def test_what_joined_units_that_are_kept_back_can_be_cancelled_unit_by_unit(shop: Shop) -> None:
    """One of two lamps at WEST, whichever time it was held at; the other one ships."""
    # given
    order = await _short_under_a_hold(shop)
    # when
    one = await shop.cancel(order, lines=[(1, 1)])
    reserved = await shop.reserved("LAMP")
    rug = await shop.cancel(order, "cancel-2", lines=[(2, 1)])
    # then
    assert (one.state, rug.state) == ("confirmed", "confirmed")
    assert reserved == {"EAST": 1, "WEST": 1}
    assert (await shop.sees_through(order, 2)).status == "completed"
    assert await shop.reserved("LAMP") == {"EAST": 0, "WEST": 0}
    await shop.agrees(order)


# --- rejected -----------------------------------------------------------------------------------------


async def test_a_rejected_order_is_cancelled_with_stock_and_money_back(shop: Shop) -> None:
    """CAP-B03: the verdict is fraud. The units are free, the authorization is voided, nothing ever left."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await _held(shop, HoldType.FRAUD)
    # when
    outcome = await shop.end_hold(order, _hold_id(order), "reject")
    # then
    assert (outcome.state, outcome.type) == ("rejected", "fraud")
    assert (await order.handle.result()).status == "cancelled"
    assert await shop.rests(order) == [
        "order.confirmed",
        "hold.placed",
        "payment.authorized",
        "hold.rejected",
        "cancellation.confirmed",
        "payment.voided",
        "order.cancelled",
    ]
    cancelled = await shop.command(order, f"system:hold:{_hold_id(order)}")
    assert (cancelled["state"], cancelled["outcome"]["reason"]) == ("applied", "fraud")
    assert cancelled["outcome"]["cancellation_id"] == outcome.cancellation_id
    assert shop.effects(order) == [("authorization", 2500), ("void", 2500)]
    assert shop.effects(order, "warehouses") == []
    assert await shop.reserved("LAMP") == {"EAST": 0}


async def test_a_rejected_line_is_cancelled_and_the_rest_goes_on(shop: Shop) -> None:
    """Committed but not sent: the lamp is free at once, the rug ships."""
    # given
    await shop.stocks("LAMP", EAST=3)
    await shop.stocks("RUG", EAST=1)
    order = await _held(shop, HoldType.QUALITY, ("LAMP", 3), ("RUG", 1), line_no=1)
    # when
    await shop.end_hold(order, _hold_id(order), "reject")
    # then
    (part,) = await shop.released(order)
    assert part["units"] == 1
    assert await shop.reserved("LAMP") == {"EAST": 0}
    assert (await shop.sees_through(order)).status == "completed"
    assert (await shop.command(order, f"system:hold:{_hold_id(order)}"))["outcome"]["lines"] == [[1, 3, 3, 0, 0]]
    assert await shop.money(order) == {"authorized": 4500, "captured": 1125, "refunded": 0}
    await shop.agrees(order)


async def test_rejecting_what_a_node_has_needs_the_nodes_word(shop: Shop) -> None:
    """The decision is recorded at once; the node says that it cannot stop, and the parcel travels."""
    # given
    await shop.stocks("LAMP", EAST=2)
    placed = shop.order(("LAMP", 2))
    shop.control(placed, "warehouses.stop", "answer_follows")
    order = await shop.submit(placed)
    (part,) = await shop.released(order)
    await shop.hold(order, HoldType.FRAUD, blocks=(SHIP,))
    await shop.report(order, part["fulfillment_id"], ReportKind.PACKED)
    # when
    outcome = await shop.end_hold(order, _hold_id(order), "reject")
    # then
    assert outcome.state == "rejected"
    await shop.becomes(order, wait_cause="stop_answer")
    assert await shop.holds(order) == [("fraud", "rejected")]
    # and when
    await shop.report(order, part["fulfillment_id"], ReportKind.CANCEL_DECLINED)
    await shop.labelled(order, part)
    await shop.report(order, part["fulfillment_id"], ReportKind.HANDED_OVER)
    await shop.delivers(order, part)
    # then
    assert (await order.handle.result()).status == "completed"
    cancelled = await shop.command(order, f"system:hold:{_hold_id(order)}")
    assert cancelled["outcome"]["state"] == "declined"
    await shop.agrees(order)


async def test_what_has_left_cannot_be_rejected(shop: Shop) -> None:
    """Refused with the way that is left; the hold stands, and can be released."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2))
    (part,) = await shop.released(order)
    await shop.hold(order, HoldType.FRAUD, blocks=(REFUND,))
    await shop.ships(order, part)
    # when
    refusal = await refusal_of(shop.end_hold(order, _hold_id(order), "reject", "reject-1"))
    # then
    assert (refusal.code, refusal.alternative) == ("already_handed_over", "return")
    assert await shop.holds(order) == [("fraud", "placed")]
    assert (await shop.end_hold(order, _hold_id(order))).state == "released"
    await shop.delivers(order, part)
    await shop.agrees(order)


# --- its limit ----------------------------------------------------------------------------------------


async def test_a_reservation_does_not_lapse_while_a_hold_stands(shop_with: ShopWith) -> None:
    """Two seconds are the limit; with a hold it is the hold's. Released, the order is held by its payment alone."""
    # given
    shop = await shop_with(reservation_limit_s=2, hold_through_payment_window=False)
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2), pay="pm_declined")
    await shop.hold(order, HoldType.FRAUD)
    # when
    await shop.sql("SELECT pg_sleep(2.5)")
    # then
    assert "reservation.expired" not in await shop.events(order)
    assert await shop.reserved("LAMP") == {"EAST": 2}
    # and when
    await shop.new_method(order, "pm_ok")
    await shop.becomes(order, wait_cause="hold")
    await shop.end_hold(order, _hold_id(order))
    # then
    assert (await shop.sees_through(order)).status == "completed"
    assert await shop.decisions(order) == 1
    await shop.agrees(order)


async def test_after_a_day_without_a_verdict_a_fraud_hold_is_rejected_once(shop: Shop, skipper: TimeSkipper) -> None:
    """CAP-B03: 23 hours are patience; after 24 the order is cancelled, as configured."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await _held(shop, HoldType.FRAUD)
    # when
    await skipper.fast_forward(order.handle, timedelta(hours=23))
    # then
    assert await _waits(shop, order) == ("hold", "finance", "hold")
    assert await shop.reserved("LAMP") == {"EAST": 2}
    # and when
    await skipper.fast_forward(order.handle, timedelta(hours=1, minutes=1))
    # then
    assert (await order.handle.result()).status == "cancelled"
    assert await shop.holds(order) == [("fraud", "expired")]
    events = await shop.rests(order)
    assert [events.count(name) for name in ("hold.expired", "cancellation.confirmed")] == [1, 1]
    assert await shop.reserved("LAMP") == {"EAST": 0}
    assert await shop.tenders(order) == [("voided", 2500, 0, 0)]


async def test_a_manual_hold_lasts_as_long_as_it_was_given(shop: Shop, skipper: TimeSkipper) -> None:
    """Eight days, longer than any weekend can move the promise; then the order goes on by itself."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await _held(shop, HoldType.MANUAL, lasts_s=8 * 86_400)
    # when
    await skipper.fast_forward(order.handle, timedelta(days=7, hours=23))
    assert shop.effects(order, "warehouses") == []
    await skipper.fast_forward(order.handle, timedelta(hours=1, minutes=1))
    # then
    (part,) = await shop.released(order)
    assert await shop.holds(order) == [("manual", "expired")]
    assert await shop.cases(order) == [("promise_late", "fulfillment", "open")]
    await shop.ships(order, part)
    await shop.delivers(order, part)
    assert (await order.handle.result()).status == "completed"
    await shop.agrees(order)


async def test_an_address_hold_asks_its_owner_once_and_stands(shop: Shop, skipper: TimeSkipper) -> None:
    """After 48 hours a case is open for customer service; nothing is released; their answer closes the case."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await _held(shop, HoldType.ADDRESS)
    # when
    await skipper.fast_forward(order.handle, timedelta(hours=48, minutes=1))
    await skipper.fast_forward(order.handle, timedelta(hours=5))

    # then
    async def asked() -> bool:
        return ("address_hold_overdue", "service", "open") in await shop.cases(order)

    await eventually(asked)
    assert [code for code, _, _ in await shop.cases(order)].count("address_hold_overdue") == 1
    assert await shop.holds(order) == [("address", "placed")]
    assert shop.effects(order, "warehouses") == []
    assert await _waits(shop, order) == ("hold", "service", "hold")
    assert "overdue since" in await shop.details(order)
    # and when
    await shop.end_hold(order, _hold_id(order))
    # then
    assert ("address_hold_overdue", "service", "auto_closed") in await shop.cases(order)
    assert [code for code, _, _ in await shop.cases(order) if code == "release_pending"] == []
    assert (await shop.sees_through(order)).status == "completed"
    await shop.agrees(order)


async def test_units_of_an_overdue_hold_go_back_to_stock_and_are_held_again_when_it_is_released(
    shop_with: ShopWith,
) -> None:
    """Nobody keeps stock from others for ever; who decides late takes what there is."""
    # given
    shop = await shop_with(reservation_limit_s=1, hold_through_payment_window=False)
    await shop.stocks("LAMP", EAST=2)
    order = await _held(shop, HoldType.CREDIT, lasts_s=3)
    # when
    await shop.lapses(order)
    # then
    assert await shop.reserved("LAMP") == {"EAST": 0}
    assert ("credit_hold_overdue", "finance", "open") in await shop.cases(order)
    assert await _waits(shop, order) == ("hold", "finance", "hold")
    # and when
    await shop.end_hold(order, _hold_id(order))
    # then
    assert (await shop.sees_through(order)).status == "completed"
    events = await shop.rests(order)
    assert [events.count(name) for name in ("reservation.expired", "reservation.renewed", "order.allocated")] == [1] * 3


async def test_a_hold_that_stops_nothing_any_more_just_ends(shop: Shop) -> None:
    """The parcel left before the hold was due: no case, no cancellation."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2))
    (part,) = await shop.released(order)
    await shop.packs(order, part)
    # when
    refusal = await refusal_of(shop.hold(order, HoldType.FRAUD))
    assert refusal.code == "nothing_to_hold"
    await shop.hold(order, HoldType.FRAUD, "hold-2", blocks=(REFUND,), lasts_s=1)
    await shop.report(order, part["fulfillment_id"], ReportKind.HANDED_OVER)
    await shop.delivers(order, part)
    # then
    assert (await order.handle.result()).status == "completed"
    assert await shop.cases(order) == []
    await shop.agrees(order)


# --- as a command -------------------------------------------------------------------------------------


async def test_a_hold_placed_twice_has_one_outcome(shop: Shop) -> None:
    """As another update, and three times at the same moment: one hold, one event."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2), pay="pm_declined")
    # when
    outcomes = await asyncio.gather(
        *(shop.hold(order, HoldType.MANUAL, "hold-1", update_id=f"update-{n}") for n in (1, 2, 3))
    )
    again = await shop.hold(order, HoldType.MANUAL, "hold-1", update_id="update-4")
    # then
    assert {outcome.hold_id for outcome in (*outcomes, again)} == {_hold_id(order)}
    assert await shop.holds(order) == [("manual", "placed")]
    assert (await shop.events(order)).count("hold.placed") == 1
    assert await shop.commands(order) == [("place_hold", "applied")]
    await shop.cancel(order)
    await shop.agrees(order)


async def test_a_hold_that_was_ended_cannot_be_ended_again(shop: Shop) -> None:
    """The first decision stands; a repeat of it meets its answer."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await _held(shop, HoldType.MANUAL)
    first = await shop.end_hold(order, _hold_id(order))
    # when
    again = await order.handle.execute_update(
        "release_hold",
        ReleaseHold(command_id=f"end-{_hold_id(order)}", hold_id=_hold_id(order)),
        id="said-twice",
        result_type=HoldOutcome,
    )
    late = await refusal_of(shop.end_hold(order, _hold_id(order), "reject", "late"))
    unknown = await refusal_of(shop.end_hold(order, "hld_nothing"))
    # then
    assert again.model_dump(exclude={"order_version"}) == first.model_dump(exclude={"order_version"})
    assert (late.code, unknown.code) == ("hold_not_placed", "unknown_hold")
    assert (await shop.sees_through(order)).status == "completed"
    await shop.agrees(order)


async def test_a_foreign_role_is_refused_whatever_its_message_claims(shop: Shop) -> None:
    """The role that is recorded counts: service does not release what finance must look at."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await _held(shop, HoldType.FRAUD)
    before = await shop.header(order)
    honest = ReleaseHold(command_id="ada-1", hold_id=_hold_id(order), actor=ADA)
    forged = ReleaseHold(command_id="ada-2", hold_id=_hold_id(order), actor=FAY)
    for message in (honest, forged):
        await shop.stores(order, "release_hold", message, ADA)
    # when
    for message in (honest, forged):
        refusal = await refusal_of(order.handle.execute_update("release_hold", message, id=message.command_id))
        # then
        assert refusal.code == "role_may_not_release"
        assert refusal.detail == "a fraud hold is released by the roles finance, ops"
    assert await shop.holds(order) == [("fraud", "placed")]
    assert (await shop.header(order))["version"] == before["version"]
    assert (await shop.command(order, "ada-2"))["state"] == "refused"
    # and when
    good = ReleaseHold(command_id="fay-1", hold_id=_hold_id(order), actor=FAY)
    await shop.stores(order, "release_hold", good, FAY)
    await order.handle.execute_update("release_hold", good, id="fay-1")
    # then
    assert (await shop.sees_through(order)).status == "completed"
    events = await shop.sql("SELECT actor FROM order_events WHERE order_id = :o AND type = 'hold.released'", o=order.id)
    assert [event["actor"]["id"] for event in events] == ["fay"]
    await shop.agrees(order)


async def test_holds_come_and_go_by_signal(shop: Shop) -> None:
    """Who cannot wait for an answer finds it with the command; what is refused leaves its reason."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2), pay="pm_declined")
    await shop.becomes(order, wait_cause="payment_declined")
    # when
    await shop.signal(order, "place_hold", PlaceHold(command_id="hold-1", type=HoldType.MANUAL, reason="call_first"))
    placed = await shop.command(order, "hold-1")
    await shop.signal(order, "place_hold", {"command_id": "hold-2", "type": "manual", "line_no": 7})
    refused = await shop.command(order, "hold-2")
    await shop.signal(order, "release_hold", {"command_id": "end-1", "hold_id": _hold_id(order)})
    ended = await shop.command(order, "end-1")
    # then
    assert (placed["state"], placed["outcome"]["hold_id"]) == ("applied", _hold_id(order))
    assert (refused["state"], refused["outcome"]["code"]) == ("refused", "unknown_line")
    assert (ended["state"], ended["outcome"]["state"]) == ("applied", "released")
    await shop.new_method(order, "pm_ok")
    assert (await shop.sees_through(order)).status == "completed"
    await shop.agrees(order)


@pytest.mark.parametrize("reason", ["Call Jamie Example", "1", "", "a" * 41])
async def test_a_reason_is_a_code_and_never_free_text(shop: Shop, reason: str) -> None:
    """Free text would be in the history for as long as that is kept: such a message is not taken in."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2), pay="pm_declined")
    # when
    with pytest.raises(Exception, match="Workflow update failed"):
        await order.handle.execute_update("place_hold", {"command_id": "h", "type": "manual", "reason": reason})
    # then
    assert await shop.holds(order) == []
    assert await shop.commands(order) == []
    await shop.cancel(order)
    await shop.agrees(order)


async def test_refused_holds_leave_nothing_behind(shop: Shop) -> None:
    """A step that the type does not stop, too long a time, a line that is not there: by code, and nothing changes."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2), pay="pm_declined")
    before = await shop.becomes(order, wait_cause="payment_declined")
    # when
    wrong: tuple[dict[str, Any], ...] = ({"blocks": (REFUND,)}, {"lasts_s": 10**7}, {"line_no": 2})
    codes = [(await refusal_of(shop.hold(order, HoldType.ADDRESS, f"h{n}", **w))).code for n, w in enumerate(wrong)]
    # then
    assert codes == ["hold_may_not_block", "hold_too_long", "unknown_line"]
    assert await shop.header(order) == before
    assert await shop.commands(order) == []
    await shop.cancel(order)
    await shop.agrees(order)


async def test_a_rejected_order_takes_no_hold(shop: Shop) -> None:
    """There is nothing to hold: the signal that came with the start is refused."""
    # given
    await shop.stocks("LAMP", EAST=1)
    # when
    content = {"command_id": "hold-1", "type": "fraud"}
    order = await shop.starts_with(shop.order(("LAMP", 2)), "place_hold", content)
    # then
    assert (await order.handle.result()).status == "rejected"
    assert (await shop.command(order, "hold-1"))["outcome"]["code"] == "order_over"
    assert await shop.holds(order) == []


# --- what was written, and the order did not hear of --------------------------------------------------


async def _applied(shop: Shop, order: Order, kind: str, message: PlaceHold | ReleaseHold) -> None:
    """The row of a command whose workflow task was lost after its transaction."""
    await shop.stores(order, kind, message, ADA)
    await shop.sql(
        "UPDATE commands SET state = 'applied', outcome = '{}' WHERE order_id = :o AND command_id = :c",
        c=message.command_id,
        o=order.id,
    )


async def test_a_hold_that_has_its_row_stands_even_if_it_comes_too_late(shop: Shop) -> None:
    """The task was lost, the work went to the node, the sweep sends the command again: both must tell the same."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2))
    await shop.released(order)
    message = PlaceHold(command_id="hold-1", type=HoldType.MANUAL)
    await _applied(shop, order, "place_hold", message)
    await shop.sql(
        "INSERT INTO holds (hold_id, order_id, type, blocks, owner, reason, at_limit, placed_by, placed_at, expires_at)"
        " VALUES (:h, :o, 'manual', '{release}', 'service', 'x', 'release', '{}', now(), now() + interval '1 day')",
        h=_hold_id(order),
        o=order.id,
    )
    # when
    await shop.signal(order, "place_hold", message)

    # then
    async def known() -> bool:
        return _hold_id(order) in (await order.handle.query("state"))["holds"]

    await eventually(known)
    assert await _waits(shop, order) == ("node", "fulfillment", "node_acceptance")
    assert (await shop.end_hold(order, _hold_id(order))).state == "released"
    assert (await shop.sees_through(order)).status == "completed"
    assert await shop.holds(order) == [("manual", "released")]
    await shop.agrees(order)


async def test_a_hold_that_ended_before_the_order_heard_of_it_does_not_stand(shop: Shop) -> None:
    """Placed and released by their rows: the order learns of both at once."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2), pay="pm_declined")
    message = PlaceHold(command_id="hold-1", type=HoldType.MANUAL)
    await _applied(shop, order, "place_hold", message)
    await shop.sql(
        "INSERT INTO holds (hold_id, order_id, type, blocks, owner, reason, at_limit, placed_by, placed_at, expires_at,"
        " state, ended_by, ended_at) VALUES (:h, :o, 'manual', '{release}', 'service', 'x', 'release', '{}', now(),"
        " now() + interval '1 day', 'released', '{}', now())",
        h=_hold_id(order),
        o=order.id,
    )
    # when
    await shop.signal(order, "place_hold", message)
    await shop.new_method(order, "pm_ok")
    # then
    assert (await shop.sees_through(order)).status == "completed"
    await shop.agrees(order)


async def test_a_rejection_that_has_its_row_ends_the_hold_even_if_nothing_is_left_to_cancel(shop: Shop) -> None:
    """The customer cancelled the line before the order heard that it was rejected."""
    # given
    await shop.stocks("LAMP", EAST=1)
    await shop.stocks("RUG", EAST=1)
    order = await _held(shop, HoldType.QUALITY, ("LAMP", 1), ("RUG", 1), line_no=1)
    await shop.becomes(order, wait_cause="hold")
    rejecting = ReleaseHold(command_id="end-1", hold_id=_hold_id(order), decision="reject")
    await _applied(shop, order, "release_hold", rejecting)
    await shop.sql(
        "UPDATE holds SET state = 'rejected', ended_by = '{}', ended_at = now() WHERE hold_id = :h", h=_hold_id(order)
    )
    await shop.cancel(order, lines=[(1, 1)])
    # when
    await shop.signal(order, "release_hold", rejecting)
    # then
    assert (await shop.sees_through(order)).status == "completed"
    assert await shop.holds(order) == [("quality", "rejected")]
    await shop.agrees(order)
