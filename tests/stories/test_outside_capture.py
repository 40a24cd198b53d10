"""Somebody takes the money at the bank's own console while the order is being cancelled: it goes home."""

from tests.support.shop import Shop


async def test_a_void_that_meets_a_capture_becomes_a_refund(shop: Shop) -> None:
    """CASE-D7: all of it was captured: there is nothing to void, so it is booked and refunded in full."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2))
    await shop.released(order)
    await shop.captured_at_the_console(order, 2500)
    # when
    await shop.cancel(order)
    # then
    assert (await order.handle.result()).status == "cancelled"
    assert (await shop.rests(order))[-4:] == [
        "cancellation.confirmed",
        "payment.refused",
        "refund.succeeded",
        "order.cancelled",
    ]
    assert shop.effects(order) == [("authorization", 2500), ("capture", 2500), ("refund", 2500)]
    assert await shop.tenders(order) == [("captured", 2500, 2500, 2500)]
    assert (await shop.header(order))["payment_status"] == "refunded"
    assert await shop.ledger(order) == {}


async def test_a_void_that_lets_go_less_than_expected_finds_the_capture_of_a_part(shop: Shop) -> None:
    """10.00 were captured: the void lets go 15.00, and the missing 10.00 are refunded."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2))
    await shop.released(order)
    await shop.captured_at_the_console(order, 1000)
    # when
    await shop.cancel(order)
    # then
    assert (await order.handle.result()).status == "cancelled"
    await shop.agrees(order)
    assert shop.effects(order) == [("authorization", 2500), ("capture", 1000), ("void", 1500), ("refund", 1000)]
    assert await shop.tenders(order) == [("captured", 2500, 1000, 1000)]
    assert await shop.ledger(order) == {}


async def test_what_is_owed_is_not_refunded(shop: Shop) -> None:
    """One of two parcels arrives, and the console captured more than that: only the excess goes home."""
    # given
    await shop.stocks("LAMP", EAST=1)
    await shop.stocks("RUG", MID=1)
    order = await shop.place(("LAMP", 1), ("RUG", 1))
    east, _ = await shop.released(order, 2)
    await shop.ships(order, east)
    await shop.becomes(order, payment_status="partially_captured")
    await shop.captured_at_the_console(order, 700)
    # when
    await shop.cancel(order)
    await shop.delivers(order, east)
    # then
    assert (await order.handle.result()).status == "completed"
    await shop.agrees(order)
    assert shop.effects(order)[-2:] == [("void", 550), ("refund", 700)]
    assert await shop.tenders(order) == [("captured", 2500, 1950, 700)]
    assert await shop.ledger(order) == {"provider": 1250, "revenue": -1000, "shipping": -250}
