"""A carrier tells what it likes, when it likes and as often as it likes: the order ends the same."""

import random
from datetime import timedelta
from typing import Any

import pytest

from domain.orders import CarrierEventType, ReportKind
from tests.support.shop import Order, Shop, later, refusal_of

JOURNEY = (
    (CarrierEventType.PRE_TRANSIT, "E1"),
    (CarrierEventType.HANDED_OVER, "E2"),
    (CarrierEventType.IN_TRANSIT, "E3"),
    (CarrierEventType.OUT_FOR_DELIVERY, "E4"),
    (CarrierEventType.DELIVERED, "E5"),
)


async def _packed(shop: Shop) -> tuple[Order, dict[str, Any]]:
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2))
    (part,) = await shop.released(order)
    await shop.packs(order, part)
    return order, part


async def test_a_delivery_before_the_hand_over_report_proves_the_hand_over(shop: Shop) -> None:
    """The node forgot to report: stock is consumed, the money captured and the parcel delivered all the same."""
    # given
    order, part = await _packed(shop)
    # when
    scan = await shop.scan(order, part["shipment_id"], CarrierEventType.DELIVERED)
    # then
    assert (scan.applied, scan.state, scan.why) == (True, "delivered", None)
    assert (await order.handle.result()).status == "completed"
    events = await shop.rests(order)
    assert events.count("payment.captured") == 1
    assert [event for event in events[5:] if event != "payment.captured"] == [
        "shipment.booked",
        "shipment.handed_over",
        "shipment.delivered",
        "promise.kept",
        "order.completed",
    ]
    (evidence,) = await shop.sql(
        "SELECT cause, actor FROM order_events WHERE order_id = :o AND type = 'shipment.handed_over'", o=order.id
    )
    assert (evidence["cause"], evidence["actor"]["kind"]) == ("carrier_scan:delivered", "carrier")
    assert await shop.on_hand("LAMP") == {"EAST": 0}
    assert await shop.money(order) == {"authorized": 2500, "captured": 2500, "refunded": 0}


async def test_a_hand_over_report_after_the_carriers_scan_changes_nothing(shop: Shop) -> None:
    """The node is not told that it was wrong: it was right, only late."""
    # given
    order, part = await _packed(shop)
    await shop.scan(order, part["shipment_id"], CarrierEventType.IN_TRANSIT)
    before = await shop.becomes(order, payment_status="captured")
    # when
    report = await shop.report(order, part["fulfillment_id"], ReportKind.HANDED_OVER)
    # then
    assert (report.applied, report.why) == (False, "the carrier has told already that it left")
    assert (await shop.header(order))["version"] == before["version"]
    await shop.delivers(order, part)
    await shop.agrees(order)
    assert shop.effects(order) == [("authorization", 2500), ("capture", 2500)]


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_every_event_three_times_in_any_order_ends_in_one_delivery(shop: Shop, seed: int) -> None:
    """Fifteen messages, five events, one hand-over, one capture, one delivery."""
    # given
    order, part = await _packed(shop)
    start = later(hours=-5)
    messages = [
        (kind, event, start + timedelta(hours=n), copy) for n, (kind, event) in enumerate(JOURNEY) for copy in "abc"
    ]
    random.Random(seed).shuffle(messages)
    shop.control(order.placed, "payments.down", 1)  # the capture keeps the order open for the stragglers
    # when
    outcomes = [
        await shop.scan(order, part["shipment_id"], kind, event, at, command_id=f"{event}-{copy}")
        for kind, event, at, copy in messages
    ]
    shop.normal(order.placed, "payments.down")
    # then
    assert len([outcome for outcome in outcomes if outcome.duplicate]) == 10
    assert outcomes[-1].state == "delivered"
    assert all(outcome.applied or outcome.why for outcome in outcomes)
    events = await shop.rests(order)
    for once in ("shipment.handed_over", "shipment.delivered", "payment.captured", "promise.kept"):
        assert events.count(once) == 1
    assert len(await shop.scans(order)) == 5
    assert shop.effects(order) == [("authorization", 2500), ("capture", 2500)]
    assert await shop.on_hand("LAMP") == {"EAST": 0}


async def test_an_older_event_changes_nothing_and_the_answer_says_why(shop: Shop) -> None:
    """Kept, but not applied: the parcel does not travel back."""
    # given
    order, part = await _packed(shop)
    await shop.scan(order, part["shipment_id"], CarrierEventType.OUT_FOR_DELIVERY, "E4")
    # when
    older = await shop.scan(order, part["shipment_id"], CarrierEventType.IN_TRANSIT, "E3", later(hours=-2))
    again = await shop.scan(order, part["shipment_id"], CarrierEventType.OUT_FOR_DELIVERY, "E4", command_id="other")
    # then
    assert (older.applied, older.duplicate, older.why) == (False, False, "parcel is already out_for_delivery")
    assert (again.applied, again.duplicate, again.why) == (False, True, "known already")
    assert await shop.scans(order) == [
        ("out_for_delivery", True, None),
        ("in_transit", False, "parcel is already out_for_delivery"),
    ]
    await shop.delivers(order, part)
    await shop.agrees(order)


async def test_a_delivery_exception_is_left_by_a_later_event_only(shop: Shop) -> None:
    """Nobody at home; a scan from before does not undo that, the second attempt does."""
    # given
    order, part = await _packed(shop)
    parcel, exception = part["shipment_id"], CarrierEventType.DELIVERY_EXCEPTION
    await shop.scan(order, parcel, CarrierEventType.OUT_FOR_DELIVERY, "E1", later(hours=-4))
    # when
    nobody_home = await shop.scan(order, parcel, exception, "E2", later(hours=-3))
    from_before = await shop.scan(order, parcel, CarrierEventType.IN_TRANSIT, "E0", later(hours=-5))
    second_try = await shop.scan(order, parcel, CarrierEventType.OUT_FOR_DELIVERY, "E3", later(hours=-2))
    # then
    assert (nobody_home.state, from_before.state, second_try.state) == (
        "delivery_exception",
        "delivery_exception",
        "out_for_delivery",
    )
    assert (from_before.applied, from_before.why) == (False, "parcel is already delivery_exception")
    await shop.delivers(order, part)
    await shop.agrees(order)


async def test_a_scan_of_a_parcel_without_a_label_is_kept_and_says_why(shop: Shop) -> None:
    """Facts are never refused, not even impossible ones."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2))
    (part,) = await shop.released(order)
    # when
    scan = await shop.scan(order, part["shipment_id"], CarrierEventType.IN_TRANSIT)
    stranger = await refusal_of(shop.scan(order, "shp_of_somebody_else", CarrierEventType.IN_TRANSIT))
    # then
    assert (scan.applied, scan.state, scan.why) == (False, "not_booked", "the parcel has no label yet")
    assert stranger.code == "unknown_shipment"
    assert [p["stage"] for p in await shop.parts(order)] == ["released"]
    await shop.ships(order, part)
    await shop.delivers(order, part)
    await shop.agrees(order)


async def test_a_parcel_that_arrives_after_the_promised_day_breaks_the_promise(shop: Shop) -> None:
    """Judged by the carrier's time, against the original date."""
    # given
    order, part = await _packed(shop)
    await shop.report(order, part["fulfillment_id"], ReportKind.HANDED_OVER)
    # when
    await shop.scan(order, part["shipment_id"], CarrierEventType.DELIVERED, at=later(days=60))
    # then
    assert "promise.broken" in await shop.rests(order)
    assert (await shop.header(order))["promise_state"] == "broken"


async def test_every_scan_restarts_the_wait_for_the_carrier(shop: Shop) -> None:
    """A second hub that says `in_transit` again is news: the carrier is not silent, in workflow and database alike."""
    # given
    order, part = await _packed(shop)
    await shop.report(order, part["fulfillment_id"], ReportKind.HANDED_OVER)
    before = await shop.becomes(order, wait_cause="delivery")
    # when
    hub = await shop.scan(order, part["shipment_id"], CarrierEventType.IN_TRANSIT, "HUB-2", later(minutes=5))
    # then
    assert (hub.applied, hub.duplicate, hub.why) == (False, False, "known already")
    after = await shop.header(order)
    assert after["wait_deadline"] > before["wait_deadline"]
    wait = await order.handle.query("waits")
    assert abs((shop.when(wait["deadline"]) - after["wait_deadline"]).total_seconds()) < 5
    await shop.delivers(order, part)
    await shop.agrees(order)
