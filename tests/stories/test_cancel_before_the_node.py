"""Cancelled while no node has the work: Accord decides alone, at once, and gives everything back."""

import asyncio
from collections.abc import Awaitable, Callable

from domain.orders import CancelReason
from tests.support.eventually import eventually
from tests.support.shop import Shop
from workflows.messages import CancelledLine, FreedStock

ShopWith = Callable[..., Awaitable[Shop]]


async def test_before_the_payment_is_known_the_units_go_back_and_the_late_authorization_is_voided(shop: Shop) -> None:
    """The bank takes a second to answer; the customer does not wait for it, the money does."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2), pay="pm_slow")
    # when
    outcome = await shop.cancel(order)
    # then
    assert (outcome.state, outcome.reason) == ("confirmed", CancelReason.CHANGED_MIND)
    assert outcome.lines == (CancelledLine(line_no=1, requested=2, cancelled=2, waiting=0, declined=0),)
    assert outcome.stock == (FreedStock(sku=shop.sku("LAMP"), node_id="EAST", quantity=2),)
    assert (outcome.total_before_minor, outcome.total_after_minor) == (2500, 0)
    assert await shop.reserved("LAMP") == {"EAST": 0}
    assert (await order.handle.result()).status == "cancelled"
    assert await shop.rests(order) == [
        "order.confirmed",
        "cancellation.confirmed",
        "payment.authorized",
        "payment.voided",
        "order.cancelled",
    ]
    assert shop.effects(order) == [("authorization", 2500), ("void", 2500)]
    assert await shop.tenders(order) == [("voided", 2500, 0, 0)]


async def test_while_the_customer_has_to_fix_the_payment(shop: Shop) -> None:
    """Nothing was authorized, so nothing moves."""
    # given
    await shop.stocks("LAMP", EAST=1, MID=1)
    order = await shop.place(("LAMP", 2), pay="pm_declined")
    await shop.becomes(order, wait_cause="payment_declined")
    # when
    outcome = await shop.cancel(order)
    # then
    assert {stock.node_id: stock.quantity for stock in outcome.stock} == {"EAST": 1, "MID": 1}
    assert outcome.authorization_to_release_minor == 0
    assert await shop.rests(order) == [
        "order.confirmed",
        "payment.declined",
        "cancellation.confirmed",
        "order.cancelled",
    ]
    assert shop.effects(order) == []
    assert await shop.reserved("LAMP") == {"EAST": 0, "MID": 0}
    header = await shop.header(order)
    assert (header["promise_state"], header["payment_status"]) == ("withdrawn", "pending")


async def test_with_the_reservation_lapsed_there_are_only_open_units_left(shop_with: ShopWith) -> None:
    """The units went back before; cancelling frees none a second time."""
    # given
    shop = await shop_with(reservation_limit_s=1, hold_through_payment_window=False)
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2), pay="pm_declined")
    await shop.lapses(order)
    # when
    outcome = await shop.cancel(order)
    # then
    assert (outcome.state, outcome.stock) == ("confirmed", ())
    assert outcome.lines == (CancelledLine(line_no=1, requested=2, cancelled=2, waiting=0, declined=0),)
    await shop.agrees(order)
    assert await shop.reserved("LAMP") == {"EAST": 0}


async def test_a_second_tender_that_was_not_tried_yet_is_never_tried(shop: Shop) -> None:
    """Cancelled while the first bank still thinks: the second one is not asked any more."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2), pay=[("pm_slow", 1000), ("pm_ok", 1500)])
    # when
    await shop.cancel(order)
    # then
    await shop.agrees(order)
    assert shop.effects(order) == [("authorization", 1000), ("void", 1000)]
    assert await shop.tenders(order) == [("voided", 1000, 0, 0), ("failed", 0, 0, 0)]


async def test_a_release_that_is_under_way_is_awaited_and_then_stopped(shop: Shop) -> None:
    """The warehouse is down: whether it has the work is unknown, so it must be asked once it is back."""
    # given
    await shop.stocks("LAMP", EAST=2)
    placed = shop.order(("LAMP", 2))
    shop.control(placed, "warehouses.down", 1)
    order = await shop.submit(placed)
    await shop.becomes(order, wait_cause="release")
    # when
    cancelling = asyncio.create_task(shop.cancel(order))
    header = await shop.becomes(order, wait_cause="stop_answer")
    assert header["status"] == "confirmed"
    assert not cancelling.done()
    shop.normal(placed, "warehouses.down")
    outcome = await cancelling
    # then
    assert outcome.state == "confirmed"
    assert shop.effects(order, "warehouses") == [("release", 0), ("stop", 0)]
    assert await shop.rests(order) == [
        "order.confirmed",
        "payment.authorized",
        "order.allocated",
        "cancellation.requested",
        "fulfillment.released",
        "cancellation.confirmed",
        "payment.voided",
        "order.cancelled",
    ]
    assert await shop.reserved("LAMP") == {"EAST": 0}


async def test_work_that_the_node_refused_is_cancelled_without_asking_it(shop: Shop) -> None:
    """A refusal is final: the units are allocated, no node has them, and they go back at once."""
    # given
    await shop.stocks("LAMP", EAST=2)
    placed = shop.order(("LAMP", 2))
    shop.control(placed, "warehouses.decline", 1)
    order = await shop.submit(placed)
    await eventually(lambda: shop.cases(order))
    # when
    outcome = await shop.cancel(order)
    # then
    assert (outcome.state, outcome.authorization_to_release_minor) == ("confirmed", 2500)
    assert shop.effects(order, "warehouses") == []
    await shop.agrees(order)
    assert await shop.cases(order) == [("node_refused", "fulfillment", "auto_closed")]
    assert [(p["state"], p["stage"]) for p in await shop.parts(order)] == [("cancelled", "cancelled")]
