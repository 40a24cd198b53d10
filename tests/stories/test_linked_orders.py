"""An order that replaces an earlier one, as the engine sees it: the earlier order goes its own way."""

import asyncio

from domain.ids import new_id
from tests.support.shop import Shop
from workflows.messages import Rejected


async def test_the_earlier_order_goes_on_whatever_is_placed_for_it(shop: Shop) -> None:
    """Ten linked orders at once while it ships: each is told once, nothing waits for anything, all agree."""
    # given
    await shop.stocks("LAMP", EAST=20)
    old = await shop.place(("LAMP", 1))
    wanted = [shop.order(("LAMP", 1)).model_copy(update={"replaces_order": old.id}) for _ in range(10)]
    # when
    *later, closed = await asyncio.gather(*(shop.submit(placed) for placed in wanted), shop.sees_through(old))
    await asyncio.gather(*(shop.sees_through(order) for order in later))
    # then
    assert closed.status == "completed"
    events = await shop.rests(old)
    assert events.count("order.replaced") == 10
    for order in later:
        told = await shop.rests(order)
        assert told[:2] == ["order.confirmed", "order.replaces"]
        assert told.count("order.replaces") == 1
    assert await shop.on_hand("LAMP") == {"EAST": 9}


async def test_an_order_that_replaces_nothing_we_know_is_rejected(shop: Shop) -> None:
    """Who starts an order at the engine itself is told by name; nothing is written, and nothing is tried for ever."""
    # given
    await shop.stocks("LAMP", EAST=2)
    placed = shop.order(("LAMP", 1))
    itself = placed.model_copy(update={"replaces_order": placed.order_id})
    nobody = shop.order(("LAMP", 1)).model_copy(update={"replaces_order": new_id("ord", 0)})
    # when
    orders = [await shop.submit(order) for order in (itself, nobody)]
    # then
    for order in orders:
        assert isinstance(order.outcome, Rejected)
        assert order.outcome.code == "unknown_order"
        assert (await order.handle.result()).status == "rejected"
        assert await shop.sql("SELECT 1 FROM orders WHERE order_id = :o", o=order.id) == []
    assert await shop.reserved("LAMP") == {"EAST": 0}
