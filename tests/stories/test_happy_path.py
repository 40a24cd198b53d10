"""A real order, from the storefront to the customer's door."""

from tests.support.shop import Shop


async def test_one_lamp_goes_all_the_way(shop: Shop) -> None:
    """Reserved, paid, allocated, shipped, captured, delivered; every unit and penny accounted for."""
    # given
    await shop.stocks("LAMP", EAST=5)
    # when
    order = await shop.place(("LAMP", 2))
    closed = await shop.is_paid_and_arrives(order)
    # then
    assert closed.status == "completed"
    assert await shop.events(order) == [
        "order.confirmed",
        "payment.authorized",
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
    assert await shop.money(order) == {"authorized": 2500, "captured": 2500, "refunded": 0}
    assert await shop.on_hand("LAMP") == {"EAST": 3}
    assert await shop.reserved("LAMP") == {"EAST": 0}
    await shop.agrees(order)
