"""Orders that wait for supply are changed like others, at once; and what a lost answer told is told again."""

from typing import Any

from temporalio.testing import ActivityEnvironment

from activities.stock import ReserveAsk, StockActivities
from activities.supply import FillAsk, SupplyActivities
from domain.amendment import SetQuantity, SetServiceLevel, SetShipTo, Substitute
from domain.orders import PlaceOrder, ReportKind, ServiceLevel, Split
from tests.support.shop import ZONE, Order, Shop


async def _lines(shop: Shop, order_id: str) -> list[dict[str, int]]:
    """Units per bucket of every line, empty ones left out."""
    rows = await shop.sql(
        "SELECT open, reserved, backordered, allocated, released, cancelled FROM order_lines"
        " WHERE order_id = :o ORDER BY line_no",
        o=order_id,
    )
    return [{name: units for name, units in row.items() if units} for row in rows]


async def _waiting(shop: Shop, units: int, **options: Any) -> Order:
    """An order of lamps of which there are none."""
    await shop.lets_wait("LAMP")
    order = await shop.place(("LAMP", units), **options)
    await shop.waits_for_supply(order)
    return order


async def test_fewer_and_other_units_are_taken_from_what_waits(shop: Shop) -> None:
    """One less, then another item for one of them, which ships; the last one goes on waiting and is cancelled."""
    # given
    await shop.stocks("MUG", EAST=1)
    order = await _waiting(shop, 3)
    # when
    fewer = await shop.amend(order, SetQuantity(line=1, quantity=2))
    other = await shop.amend(order, Substitute(line=1, sku=shop.sku("MUG"), quantity=1), command_id="amend-2")
    # then
    assert (fewer.state, other.state, other.nodes) == ("confirmed", "confirmed", ("EAST",))
    await shop.sees_to(order, "EAST")
    assert (await _lines(shop, order.id))[0] == {"backordered": 1, "cancelled": 2}
    await shop.cancel(order)
    assert (await order.handle.result()).status == "completed"
    await shop.agrees(order)


async def test_another_address_leaves_it_waiting(shop: Shop) -> None:
    """No stock is needed for that: it waits on, and goes there. Where nothing can be delivered it cannot wait."""
    # given
    order = await _waiting(shop, 1)
    await shop.sql(
        "INSERT INTO zones SELECT 'US-VT-BACKORDER', country, 'VT', NULL, latitude, longitude, time_zone FROM zones"
        " WHERE zone_id = :z ON CONFLICT DO NOTHING",
        z=ZONE,
    )
    await shop.sql(
        "INSERT INTO lanes VALUES ('EAST', 'US-VT-BACKORDER', 'standard', 2) ON CONFLICT DO NOTHING",
    )
    # when
    faster = await shop.amend(order, SetServiceLevel(service_level=ServiceLevel.EXPRESS))
    there = SetShipTo(country="US", region="VT", zone_id="US-VT-BACKORDER")
    moved = await shop.amend(order, there, command_id="amend-2")
    # then
    assert (faster.state, faster.code) == ("declined", "promise_not_possible")
    assert moved.state == "confirmed"
    assert await _lines(shop, order.id) == [{"backordered": 1}]
    await shop.receives("LAMP", "EAST", 1)
    assert (await shop.supply_arrives(order, "LAMP")).units == 1
    assert (await shop.sees_through(order)).status == "completed"
    await shop.agrees(order)


async def test_what_is_added_to_an_order_that_goes_together_waits_along(shop: Shop) -> None:
    """No mug leaves before the lamps: there is no node that has everything, so it waits. All mugs are at one node."""
    await shop.stocks("MUG", EAST=5)
    order = await _waiting(shop, 2, split=Split.TOGETHER)
    along = await shop.amend(order, Substitute(line=1, sku=shop.sku("MUG"), quantity=1))
    assert (along.state, along.nodes, sorted(along.waiting)) == ("confirmed", (), [(1, 1), (2, 1)])
    assert await _lines(shop, order.id) == [{"backordered": 1, "cancelled": 1}, {"backordered": 1}]
    assert await shop.reserved("MUG") == {"EAST": 0}
    whole = await shop.amend(order, Substitute(line=1, sku=shop.sku("MUG")), command_id="amend-2")
    assert (whole.state, whole.nodes) == ("confirmed", ("EAST",))
    assert (await shop.sees_through(order)).status == "completed"
    await shop.agrees(order)


async def test_a_whole_rejection_waits_again_where_all_goes_together(shop: Shop) -> None:
    """The node takes none of it and nobody else has it: all of it waits, and ships from where goods come in."""
    # given
    await shop.stocks("LAMP", EAST=2)
    await shop.lets_wait("LAMP")
    order = await shop.place(("LAMP", 2), split=Split.TOGETHER)
    (east,) = await shop.released(order)
    # when
    await shop.report(order, east["fulfillment_id"], ReportKind.REJECTED)
    await shop.becomes(order, wait_cause="backorder")
    # then
    assert await _lines(shop, order.id) == [{"backordered": 2}]
    await shop.receives("LAMP", "MID", 2)
    assert (await shop.supply_arrives(order, "LAMP")).units == 2
    await shop.sees_to(order, "MID")
    assert (await order.handle.result()).status == "completed"
    await shop.agrees(order)


async def test_a_lost_answer_is_given_again(shop: Shop) -> None:
    """The commit was not noticed: the next attempt tells the same, and holds and lets wait nothing twice."""
    # given
    await shop.stocks("LAMP", EAST=1)
    await shop.lets_wait("LAMP")
    placed = shop.order(("LAMP", 3))
    environment = ActivityEnvironment()
    stock, supply = StockActivities(shop.engine), SupplyActivities(shop.engine)
    # when
    first = await environment.run(stock.reserve, ReserveAsk(order=placed))
    again = await environment.run(stock.reserve, ReserveAsk(order=placed))
    # then
    assert again.model_copy(update={"grant": None}) == first.model_copy(update={"grant": None})
    assert await _lines(shop, placed.order_id) == [{"reserved": 1, "backordered": 2}]
    # given
    await shop.sql("UPDATE tenders SET state = 'authorized' WHERE order_id = :o", o=placed.order_id)
    await shop.receives("LAMP", "MID", 5)
    ask = _fill(placed)
    # when
    filled = await environment.run(supply.fill, ask)
    repeated = await environment.run(supply.fill, ask)
    # then
    assert repeated == filled
    assert [tuple(one) for one in filled.placements] == [(1, "MID", 2)]
    assert await _lines(shop, placed.order_id) == [{"reserved": 3}]
    assert await shop.reserved("LAMP") == {"EAST": 1, "MID": 2}
    said = await shop.sql("SELECT type FROM order_events WHERE order_id = :o ORDER BY sequence", o=placed.order_id)
    assert [row["type"] for row in said][-2:] == ["backorder.filled", "promise.changed"]


def _fill(placed: PlaceOrder) -> FillAsk:
    return FillAsk(order=placed, number=1, generation=2, units=((1, 2),), all_waiting=2)
