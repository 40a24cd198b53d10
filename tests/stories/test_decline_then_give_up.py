"""The bank says no, and nobody puts it right: the order ends by itself and keeps nothing."""

from collections.abc import Awaitable, Callable

from tests.support.shop import Shop

ShopWith = Callable[..., Awaitable[Shop]]


async def test_when_the_payment_window_ends_everything_is_released(shop_with: ShopWith) -> None:
    """CASE-R4: the cancellation says why, and was done by the system; the units can be sold again."""
    # given
    shop = await shop_with(payment_window_s=2)
    await shop.stocks("LAMP", EAST=1, MID=1)
    order = await shop.place(("LAMP", 2), pay="pm_declined")
    # when
    closed = await order.handle.result()
    # then
    assert closed.status == "cancelled"
    assert await shop.rests(order) == [
        "order.confirmed",
        "payment.declined",
        "cancellation.confirmed",
        "order.cancelled",
    ]
    assert await shop.reserved("LAMP") == {"EAST": 0, "MID": 0}
    assert await shop.tenders(order) == [("failed", 0, 0, 0)]
    assert shop.effects(order) == []
    header = await shop.header(order)
    assert (header["owed_minor"], header["promise_state"], header["waiting_on"]) == (0, "withdrawn", None)
    command = await shop.command(order, "system:payment_declined:1")
    assert (command["state"], command["actor"]) == ("applied", {"kind": "system", "id": "accord"})
    assert command["outcome"]["reason"] == "payment_declined"


async def test_an_earlier_tender_that_was_authorized_is_voided(shop_with: ShopWith) -> None:
    """The first of two tenders holds money already: giving up gives it back."""
    # given
    shop = await shop_with(payment_window_s=1)
    await shop.stocks("LAMP", EAST=2)
    # when
    order = await shop.place(("LAMP", 2), pay=[("pm_ok", 1000), ("pm_insufficient", 1500)])
    closed = await order.handle.result()
    # then
    assert closed.status == "cancelled"
    assert await shop.tenders(order) == [("voided", 1000, 0, 0), ("failed", 0, 0, 0)]
    assert shop.effects(order) == [("authorization", 1000), ("void", 1000)]
    assert await shop.ledger(order) == {}
    await shop.agrees(order)
