"""The node has the last word on a cancellation: too late, an answer later, or the parcel is gone already."""

import asyncio

from domain.orders import CarrierEventType, ReportKind
from tests.support.shop import Order, Shop
from workflows.messages import CancelledLine, CancelOutcome

DECLINED = (CancelledLine(line_no=1, requested=2, cancelled=0, waiting=0, declined=2),)


async def _asked(shop: Shop, answer: str) -> tuple[Order, dict[str, object]]:
    """A packed order at EAST whose node will answer so when it is asked to stop."""
    await shop.stocks("LAMP", EAST=2)
    placed = shop.order(("LAMP", 2))
    shop.control(placed, "warehouses.stop", answer)
    order = await shop.submit(placed)
    (part,) = await shop.released(order)
    await shop.packs(order, part)
    return order, part


async def _waiting(shop: Shop, order: Order) -> "asyncio.Task[CancelOutcome]":
    cancelling = asyncio.create_task(shop.cancel(order))
    header = await shop.becomes(order, wait_cause="stop_answer")
    assert (header["waiting_on"], header["wait_owner"]) == ("node", "fulfillment")
    return cancelling


async def test_too_late_means_that_the_order_goes_on(shop: Shop) -> None:
    """The cancellation is declined and the parcel travels, is paid and arrives."""
    # given
    order, part = await _asked(shop, "too_late")
    # when
    outcome = await shop.cancel(order)
    # then
    assert (outcome.state, outcome.lines, outcome.stock) == ("declined", DECLINED, ())
    assert (outcome.total_before_minor, outcome.total_after_minor) == (2500, 2500)
    assert (await shop.command(order, "cancel-1"))["outcome"]["state"] == "declined"
    await shop.report(order, part["fulfillment_id"], ReportKind.HANDED_OVER)
    await shop.delivers(order, part)
    assert (await order.handle.result()).status == "completed"
    events = await shop.rests(order)
    assert events[events.index("cancellation.requested") + 1] == "cancellation.declined"
    assert await shop.money(order) == {"authorized": 2500, "captured": 2500, "refunded": 0}


async def test_a_later_cancellation_is_a_new_question_to_the_node(shop: Shop) -> None:
    """It was too late at the packing table; the driver is late too, and this time the node can stop."""
    # given
    order, _ = await _asked(shop, "too_late")
    first = await shop.cancel(order, "cancel-1")
    shop.control(order.placed, "warehouses.stop", "stopped")
    # when
    second = await shop.cancel(order, "cancel-2")
    # then
    assert (first.state, second.state) == ("declined", "confirmed")
    assert (await order.handle.result()).status == "cancelled"
    await shop.agrees(order)
    assert await shop.reserved("LAMP") == {"EAST": 0}


async def test_a_node_that_could_not_stop_still_reports_its_steps(shop: Shop) -> None:
    """Declined while the units were on the shelf: picking and packing are reported as usual."""
    # given
    await shop.stocks("LAMP", EAST=2)
    placed = shop.order(("LAMP", 2))
    shop.control(placed, "warehouses.stop", "too_late")
    order = await shop.submit(placed)
    (part,) = await shop.released(order)
    await shop.cancel(order)
    # when
    picked = await shop.report(order, part["fulfillment_id"], ReportKind.PICKED)
    await shop.ships(order, part)
    await shop.delivers(order, part)
    # then
    assert (picked.applied, picked.state, picked.stage) == (True, "in_progress", "picked")
    assert (await order.handle.result()).status == "completed"
    await shop.agrees(order)


async def test_silence_is_not_consent_and_a_late_yes_cancels(shop: Shop) -> None:
    """The node answers later, by report; until then nothing is freed."""
    # given
    order, part = await _asked(shop, "answer_follows")
    cancelling = await _waiting(shop, order)
    assert await shop.reserved("LAMP") == {"EAST": 2}
    # when
    report = await shop.report(order, part["fulfillment_id"], ReportKind.CANCEL_AGREED)
    outcome = await cancelling
    # then
    assert report.applied
    assert outcome.state == "confirmed"
    assert (await order.handle.result()).status == "cancelled"
    await shop.agrees(order)
    assert await shop.reserved("LAMP") == {"EAST": 0}
    assert ("node_report", "applied") in await shop.commands(order)


async def test_a_late_no_lets_the_order_go_on(shop: Shop) -> None:
    """The node declines by report, and hands the parcel over."""
    # given
    order, part = await _asked(shop, "answer_follows")
    cancelling = await _waiting(shop, order)
    # when
    await shop.report(order, part["fulfillment_id"], ReportKind.CANCEL_DECLINED)
    outcome = await cancelling
    # then
    assert (outcome.state, outcome.lines) == ("declined", DECLINED)
    await shop.report(order, part["fulfillment_id"], ReportKind.HANDED_OVER)
    await shop.delivers(order, part)
    assert (await order.handle.result()).status == "completed"
    await shop.agrees(order)


async def test_a_parcel_handed_over_while_the_node_was_asked_is_not_cancelled(shop: Shop) -> None:
    """The driver was quicker than the question."""
    # given
    order, part = await _asked(shop, "answer_follows")
    cancelling = await _waiting(shop, order)
    # when
    await shop.report(order, part["fulfillment_id"], ReportKind.HANDED_OVER)
    outcome = await cancelling
    # then
    assert (outcome.state, outcome.lines) == ("declined", DECLINED)
    await shop.delivers(order, part)
    assert (await order.handle.result()).status == "completed"
    await shop.agrees(order)
    assert await shop.money(order) == {"authorized": 2500, "captured": 2500, "refunded": 0}


async def test_a_carriers_scan_answers_for_the_node(shop: Shop) -> None:
    """Out for delivery, says the carrier: so it was handed over, whatever the node forgot to say."""
    # given
    order, part = await _asked(shop, "answer_follows")
    cancelling = await _waiting(shop, order)
    # when
    scan = await shop.scan(order, part["shipment_id"], CarrierEventType.OUT_FOR_DELIVERY)
    outcome = await cancelling
    # then
    assert (scan.applied, scan.state) == (True, "out_for_delivery")
    assert outcome.state == "declined"
    await shop.delivers(order, part)
    await shop.agrees(order)


async def test_of_two_nodes_one_stops_and_one_cannot(shop: Shop) -> None:
    """The cancellation is confirmed in part: one parcel arrives and is paid, the rest is let go."""
    # given
    await shop.stocks("LAMP", EAST=1)
    await shop.stocks("RUG", MID=1)
    placed = shop.order(("LAMP", 1), ("RUG", 1))
    shop.control(placed, "warehouses.stop", "answer_follows")
    order = await shop.submit(placed)
    east, mid = await shop.released(order, 2)
    await shop.packs(order, east)
    # when
    cancelling = await _waiting(shop, order)
    await shop.report(order, east["fulfillment_id"], ReportKind.CANCEL_DECLINED)
    await shop.report(order, mid["fulfillment_id"], ReportKind.CANCEL_AGREED)
    outcome = await cancelling
    # then
    assert outcome.state == "partially_confirmed"
    assert outcome.lines == (
        CancelledLine(line_no=1, requested=1, cancelled=0, waiting=0, declined=1),
        CancelledLine(line_no=2, requested=1, cancelled=1, waiting=0, declined=0),
    )
    assert (outcome.total_after_minor, outcome.authorization_to_release_minor) == (1250, 1250)
    await shop.report(order, east["fulfillment_id"], ReportKind.HANDED_OVER)
    await shop.delivers(order, east)
    await shop.agrees(order)
    assert shop.effects(order) == [("authorization", 2500), ("capture", 1250), ("void", 1250)]
