"""A carrier that takes its time holds up nobody but its own parcel."""

import asyncio
import time

from domain.orders import ReportKind
from tests.support.shop import Shop

SLOW_MS = 600_000  # beyond every limit: no reply comes, and the booking is tried again and again


async def test_a_cancellation_is_answered_at_once_while_the_carrier_is_still_thinking(shop: Shop) -> None:
    """EAST waits for its label, MID has just begun: both stop, and the answer comes in less than two seconds."""
    # given
    await shop.stocks("LAMP", EAST=1)
    await shop.stocks("RUG", MID=1)
    placed = shop.order(("LAMP", 1), ("RUG", 1))
    shop.control(placed, "carriers.delay_ms", SLOW_MS)
    order = await shop.submit(placed)
    east, _ = await shop.released(order, 2)
    await shop.report(order, east["fulfillment_id"], ReportKind.PACKED)
    # when
    started = time.monotonic()
    outcome = await shop.cancel(order)
    waited_s = time.monotonic() - started
    # then
    assert outcome.state == "confirmed"
    assert waited_s < 2
    header = await shop.becomes(order, status="cancelled")
    assert header["payment_status"] == "voided"
    assert shop.effects(order) == [("authorization", 2500), ("void", 2500)]
    assert [part["tracking_number"] for part in await shop.parts(order)] == [None, None]
    # and then the carrier comes back, with a label that nobody needs
    shop.normal(placed, "carriers.delay_ms")
    await shop.agrees(order)
    assert shop.effects(order, "carriers") == [("label", 0), ("label_void", 0)]


async def test_another_fulfillment_of_the_same_order_goes_its_way(shop: Shop) -> None:
    """WEST's carrier does not answer; EAST's parcel was booked before, travels, is paid and arrives."""
    # given
    await shop.stocks("LAMP", EAST=1)
    await shop.stocks("RUG", WEST=1)
    order = await shop.place(("LAMP", 1), ("RUG", 1))
    east, west = await shop.released(order, 2)
    await shop.packs(order, east)
    shop.control(order.placed, "carriers.delay_ms", SLOW_MS)
    await shop.report(order, west["fulfillment_id"], ReportKind.PACKED)
    # when
    started = time.monotonic()
    await shop.report(order, east["fulfillment_id"], ReportKind.HANDED_OVER)
    await shop.delivers(order, east)
    header = await shop.becomes(order, payment_status="partially_captured")
    waited_s = time.monotonic() - started
    # then
    assert waited_s < 2
    assert header["fulfillment_status"] == "partially_fulfilled"
    assert await shop.money(order) == {"authorized": 2500, "captured": 1250, "refunded": 0}
    # and then the carrier comes back
    shop.normal(order.placed, "carriers.delay_ms")
    await shop.ships(order, west)
    await shop.delivers(order, west)
    await shop.agrees(order)


async def test_a_slow_carrier_of_one_order_does_not_delay_the_cancellation_of_another(shop: Shop) -> None:
    """One worker serves both."""
    # given
    await shop.stocks("LAMP", EAST=10)
    slow = [shop.order(("LAMP", 1)) for _ in range(4)]
    for placed in slow:
        shop.control(placed, "carriers.delay_ms", SLOW_MS)
    waiting = await asyncio.gather(*(shop.submit(placed) for placed in slow))
    for order in waiting:
        (part,) = await shop.released(order)
        await shop.report(order, part["fulfillment_id"], ReportKind.PACKED)
    other = await shop.place(("LAMP", 1))
    await shop.released(other)
    # when
    started = time.monotonic()
    outcome = await shop.cancel(other)
    waited_s = time.monotonic() - started
    # then
    assert (outcome.state, waited_s < 2) == ("confirmed", True)
    for order in waiting:
        await shop.cancel(order)
        shop.normal(order.placed, "carriers.delay_ms")
    for order in waiting:
        await shop.agrees(order)
