"""Not enough on the shelves: the order is refused as a whole, and nothing stays behind."""

from tests.support.shop import Shop
from workflows.messages import Rejected, ShortLine


async def test_a_shortage_is_refused_with_the_lines_and_what_is_available(shop: Shop) -> None:
    """The answer names the short lines only; no unit is held, no money is asked for."""
    # given
    await shop.stocks("LAMP", EAST=1, MID=1)
    await shop.stocks("RUG", MID=5)
    # when
    order = await shop.place(("LAMP", 3), ("RUG", 2))
    # then
    assert isinstance(order.outcome, Rejected)
    assert order.outcome.code == "out_of_stock"
    assert order.outcome.lines == (ShortLine(1, shop.sku("LAMP"), 3, 2),)
    assert await shop.reserved("LAMP") == {"EAST": 0, "MID": 0}
    assert await shop.reserved("RUG") == {"MID": 0}
    assert shop.effects(order) == []
    assert await shop.rests(order) == ["order.rejected"]
    header = await shop.header(order)
    assert (header["status"], header["owed_minor"], header["waiting_on"]) == ("rejected", 0, None)


async def test_an_order_that_was_refused_leaves_its_stock_to_the_next(shop: Shop) -> None:
    """Somebody who wants less gets it at once."""
    # given
    await shop.stocks("LAMP", EAST=2)
    refused = await shop.place(("LAMP", 3))
    # when
    order = await shop.place(("LAMP", 2))
    # then
    assert isinstance(refused.outcome, Rejected)
    assert (await shop.sees_through(order)).status == "completed"
    assert await shop.on_hand("LAMP") == {"EAST": 0}


async def test_the_reference_of_a_refused_order_can_be_used_again(shop: Shop) -> None:
    """A storefront keeps its own number for the second try; a number of a living order stays taken."""
    # given
    await shop.stocks("LAMP", EAST=2)
    first = shop.order(("LAMP", 3))
    assert await shop.takes_in(first, "WEB-1")
    assert isinstance((await shop.submit(first)).outcome, Rejected)
    # when
    second = shop.order(("LAMP", 2))
    taken = await shop.takes_in(second, "WEB-1")
    order = await shop.submit(second)
    # then
    assert taken
    assert not await shop.takes_in(shop.order(("LAMP", 1)), "WEB-1")
    assert (await shop.sees_through(order)).status == "completed"
