"""One order, three nodes, three parcels: each travels and is paid for by itself."""

from domain.orders import ReportKind
from tests.support.shop import Shop


async def test_three_nodes_ship_three_parcels_and_three_captures_make_one_total(shop: Shop) -> None:
    """CASE-D11: every node holds one line; what each parcel captures sums to the total, to the penny."""
    # given
    await shop.stocks("LAMP", EAST=2)
    await shop.stocks("RUG", MID=1)
    await shop.stocks("MUG", WEST=3)
    # when
    order = await shop.place(("LAMP", 2), ("RUG", 1), ("MUG", 3))
    closed = await shop.sees_through(order, nodes=3)
    # then
    assert closed.status == "completed"
    parts = await shop.parts(order)
    assert [(p["node_id"], p["units"], p["value_minor"]) for p in parts] == [
        ("EAST", 2, 2167),
        ("MID", 1, 1083),
        ("WEST", 3, 3250),
    ]
    assert shop.effects(order) == [("authorization", 6500), ("capture", 2167), ("capture", 1083), ("capture", 3250)]
    assert shop.effects(order, "carriers") == [("label", 0)] * 3
    assert await shop.money(order) == {"authorized": 6500, "captured": 6500, "refunded": 0}
    assert await shop.ledger(order) == {"provider": 6500, "revenue": -6000, "shipping": -500}
    await shop.agrees(order)


async def test_one_line_is_spread_over_three_nodes_and_its_shipping_share_with_it(shop: Shop) -> None:
    """CASE-A6: six lamps lie at three nodes; the indivisible pennies go to the units that leave first."""
    # given
    await shop.stocks("LAMP", EAST=3, MID=2, WEST=1)
    # when
    order = await shop.place(("LAMP", 6))
    await shop.sees_through(order, nodes=3)
    # then
    assert [(p["node_id"], p["value_minor"]) for p in await shop.parts(order)] == [
        ("EAST", 3251),
        ("MID", 2166),
        ("WEST", 1083),
    ]
    assert await shop.on_hand("LAMP") == {"EAST": 0, "MID": 0, "WEST": 0}
    assert await shop.reserved("LAMP") == {"EAST": 0, "MID": 0, "WEST": 0}
    await shop.agrees(order)


async def test_a_parcel_on_its_way_does_not_wait_for_the_others(shop: Shop) -> None:
    """With one parcel delivered and one only packed the header says so, and the first is captured already."""
    # given
    await shop.stocks("LAMP", EAST=1)
    await shop.stocks("RUG", MID=1)
    order = await shop.place(("LAMP", 1), ("RUG", 1))
    east, mid = await shop.released(order, 2)
    # when
    await shop.ships(order, east)
    await shop.delivers(order, east)
    await shop.packs(order, mid)
    # then
    header = await shop.becomes(order, payment_status="partially_captured")
    assert (header["status"], header["fulfillment_status"]) == ("in_fulfillment", "partially_fulfilled")
    assert header["waiting_on"] == "node"
    assert await shop.money(order) == {"authorized": 2500, "captured": 1250, "refunded": 0}
    # and then
    await shop.report(order, mid["fulfillment_id"], ReportKind.HANDED_OVER)
    await shop.delivers(order, mid)
    await shop.agrees(order)
    assert await shop.money(order) == {"authorized": 2500, "captured": 2500, "refunded": 0}
