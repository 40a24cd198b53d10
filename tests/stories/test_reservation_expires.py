"""Units are held for a time. It passes before the money comes: they go back, and may be held again."""

from collections.abc import Awaitable, Callable

from tests.support.shop import Shop
from workflows.messages import Accepted

ShopWith = Callable[..., Awaitable[Shop]]
SHORT = {"reservation_limit_s": 1, "hold_through_payment_window": False}


async def test_a_reservation_that_lapsed_is_made_again_once_the_payment_comes(shop_with: ShopWith) -> None:
    """The units go back to the shelf, and are held a second time when the customer has paid."""
    # given
    shop = await shop_with(**SHORT)
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2), pay="pm_declined")
    await shop.lapses(order)
    assert await shop.reserved("LAMP") == {"EAST": 0}
    # when
    await shop.new_method(order, "pm_ok")
    closed = await shop.is_paid_and_arrives(order)
    # then
    assert closed.status == "completed"
    assert await shop.rests(order) == [
        "order.confirmed",
        "payment.declined",
        "reservation.expired",
        "payment.authorized",
        "reservation.renewed",
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
    assert await shop.on_hand("LAMP") == {"EAST": 0}
    assert await shop.decisions(order) == 2
    assert await shop.money(order) == {"authorized": 2500, "captured": 2500, "refunded": 0}


async def test_units_that_lapsed_may_come_from_another_node_the_second_time(shop_with: ShopWith) -> None:
    """EAST sold its lamp meanwhile; the second plan finds one further away."""
    # given
    shop = await shop_with(**SHORT)
    await shop.stocks("LAMP", EAST=1, WEST=1)
    order = await shop.place(("LAMP", 1), pay="pm_declined")
    assert isinstance(order.outcome, Accepted)
    assert order.outcome.nodes == ("EAST",)
    await shop.lapses(order)
    await shop.sees_through(await shop.place(("LAMP", 1)))
    # when
    await shop.new_method(order, "pm_ok")
    await shop.sees_through(order)
    # then
    assert [part["node_id"] for part in await shop.parts(order)] == ["WEST"]
    await shop.agrees(order)


async def test_when_somebody_else_bought_the_units_the_order_is_cancelled_and_the_money_let_go(
    shop_with: ShopWith,
) -> None:
    """First paid, first served: the late payer's authorization is voided, never captured."""
    # given
    shop = await shop_with(**SHORT)
    await shop.stocks("LAMP", EAST=1)
    late = await shop.place(("LAMP", 1), pay="pm_declined")
    await shop.lapses(late)
    quick = await shop.place(("LAMP", 1))
    await shop.released(quick)
    # when
    await shop.new_method(late, "pm_ok")
    closed = await late.handle.result()
    # then
    assert closed.status == "cancelled"
    assert (await shop.rests(late))[-5:] == [
        "reservation.expired",
        "payment.authorized",
        "cancellation.confirmed",
        "payment.voided",
        "order.cancelled",
    ]
    command = await shop.command(late, "system:out_of_stock:2")
    assert command["outcome"]["reason"] == "out_of_stock"
    assert shop.effects(late) == [("authorization", 1500), ("void", 1500)]
    assert await shop.reserved("LAMP") == {"EAST": 1}
    assert (await shop.sees_through(quick)).status == "completed"


async def test_a_held_order_that_was_paid_in_time_never_expires(shop_with: ShopWith) -> None:
    """Committed units have no time limit, however short the rule is."""
    # given
    shop = await shop_with(**SHORT)
    await shop.stocks("LAMP", EAST=1)
    order = await shop.place(("LAMP", 1))
    (part,) = await shop.released(order)
    released_at = await shop.now()
    # when
    await shop.sql("SELECT pg_sleep(1.2)")
    await shop.ships(order, part)
    # then
    assert (await shop.now() - released_at).total_seconds() > 1.0
    assert "reservation.expired" not in await shop.events(order)
    await shop.delivers(order, part)
    await shop.agrees(order)
