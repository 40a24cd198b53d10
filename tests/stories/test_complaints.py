"""What people complain about in other systems: stock at the wrong place, units twice, money for nothing."""

import asyncio

import pytest

from domain.orders import HoldBlock, HoldType, NodeTrouble, ReportKind
from tests.support.eventually import eventually
from tests.support.shop import Order, Shop, refusal_of


async def _reservations(shop: Shop, order: Order) -> list[tuple[str, int, str]]:
    rows = await shop.sql(
        "SELECT node_id, qty, state FROM reservations WHERE order_id = :o ORDER BY generation, node_id", o=order.id
    )
    return [(row["node_id"], row["qty"], row["state"]) for row in rows]


async def _refused(shop: Shop, order: Order) -> None:
    async def there() -> bool:
        return ("node_refused", "fulfillment", "open") in await shop.cases(order)

    await eventually(there)


async def test_goods_ship_from_the_node_that_has_the_commitment(shop: Shop) -> None:
    """CASE-A7: a node that gave its units up cannot ship them; the commitment moves first, and each stock is exact."""
    # given
    await shop.stocks("LAMP", EAST=2, MID=2)
    order = await shop.place(("LAMP", 2))
    (east,) = await shop.released(order)
    name = east["fulfillment_id"]
    await shop.report(order, name, ReportKind.REJECTED, cause=NodeTrouble.NO_CAPACITY)

    async def elsewhere() -> dict[str, object] | None:
        return next((p for p in await shop.parts(order) if p["node_id"] == "MID" and p["stage"] == "released"), None)

    mid = await eventually(elsewhere)
    # when
    packed = await refusal_of(shop.report(order, name, ReportKind.PACKED))
    left = await refusal_of(shop.report(order, name, ReportKind.HANDED_OVER))
    # then
    assert (packed.code, left.code) == ("illegal_transition", "illegal_transition")
    assert await shop.reserved("LAMP") == {"EAST": 0, "MID": 2}
    await shop.ships(order, mid)
    await shop.delivers(order, mid)
    assert (await order.handle.result()).status == "completed"
    assert await shop.on_hand("LAMP") == {"EAST": 2, "MID": 0}
    assert await shop.reserved("LAMP") == {"EAST": 0, "MID": 0}
    await shop.agrees(order)


async def test_units_go_back_once_however_often_it_is_said(shop: Shop) -> None:
    """CASE-A8: the same cancellation as update, again as update and as signal, and a second one: nothing below zero."""
    # given
    await shop.stocks("LAMP", EAST=3)
    other = await shop.held(("LAMP", 1))
    order = await shop.held(("LAMP", 2))
    # when
    first, again = await asyncio.gather(shop.cancel(order), shop.cancel(order, update_id="said-twice"))
    # then
    assert first == again
    assert await shop.reserved("LAMP") == {"EAST": 1}
    assert await _reservations(shop, order) == [("EAST", 2, "released")]
    assert (await order.handle.result()).status == "cancelled"
    await shop.agrees(order)
    await shop.cancel(other)
    assert await shop.reserved("LAMP") == {"EAST": 0}


async def test_no_more_is_committed_than_was_ordered(shop: Shop) -> None:
    """CASE-A9: five ordered, three at one node and five at another: exactly five are held and committed."""
    # given
    await shop.stocks("LAMP", EAST=3, MID=5)
    # when
    order = await shop.place(("LAMP", 5))
    parts = await shop.released(order)
    # then
    assert sum(part["units"] for part in parts) == 5
    assert sum((await shop.reserved("LAMP")).values()) == 5
    assert sum(units for _, units, state in await _reservations(shop, order) if state == "committed") == 5
    assert (await shop.sees_through(order, len(parts))).status == "completed"
    assert sum((await shop.on_hand("LAMP")).values()) == 3


async def test_the_last_unit_does_not_stand_in_the_way_of_its_own_payment(shop: Shop) -> None:
    """CASE-A10: it is held for the order whose payment is tried again; the retry meets that hold and makes no other."""
    # given
    await shop.stocks("LAMP", EAST=1)
    order = await shop.place(("LAMP", 1), pay="pm_declined")
    await shop.becomes(order, wait_cause="payment_declined")
    # when
    outcome = await shop.new_method(order, "pm_ok")
    # then
    assert outcome.state == "authorized"
    assert (await shop.sees_through(order)).status == "completed"
    assert await _reservations(shop, order) == [("EAST", 1, "consumed")]
    assert await shop.decisions(order) == 1
    await shop.agrees(order)


async def test_stock_goes_back_to_where_it_was_held_whatever_the_mapping_says_now(shop: Shop) -> None:
    """CASE-A14: the lane of the node is gone and the item no longer sold: the recorded node and SKU get it back."""
    # given
    await shop.stocks("LAMP", EAST=2, MID=2)
    zone = f"Z-{shop.channel}"
    await shop.sql("INSERT INTO zones VALUES (:z, 'US', :z, NULL, 42.36, -71.06, 'America/New_York')", z=zone)
    for node, days in (("EAST", 2), ("MID", 6)):
        await shop.sql("INSERT INTO lanes VALUES (:n, :z, 'standard', :d)", n=node, z=zone, d=days)
    order = await shop.submit(shop.order(("LAMP", 2), pay="pm_declined").model_copy(update={"zone_id": zone}))
    await shop.becomes(order, wait_cause="payment_declined")
    assert await shop.reserved("LAMP") == {"EAST": 2, "MID": 0}
    # when
    await shop.sql("DELETE FROM lanes WHERE zone_id = :z AND node_id = 'EAST'", z=zone)
    await shop.sql("UPDATE items SET enabled = false WHERE sku = :s", s=shop.sku("LAMP"))
    outcome = await shop.cancel(order)
    # then
    assert [(freed.sku, freed.node_id, freed.quantity) for freed in outcome.stock] == [(shop.sku("LAMP"), "EAST", 2)]
    assert await shop.reserved("LAMP") == {"EAST": 0, "MID": 0}
    assert await shop.on_hand("LAMP") == {"EAST": 2, "MID": 2}
    await shop.agrees(order)


@pytest.mark.parametrize("refund", ["full", "none"])
@pytest.mark.parametrize("restock", [True, False], ids=["restock", "write off"])
@pytest.mark.parametrize("state", ["authorized", "partially_captured", "captured"])
async def test_it_can_be_cancelled_from_every_payment_state(shop: Shop, state: str, restock: bool, refund: str) -> None:
    """CASE-D2: all stock is sold out, some of it paid, some taken elsewhere: money and stock end as they should."""
    # given
    await shop.stocks("LAMP", EAST=1)
    await shop.stocks("RUG", MID=1)
    order = await shop.place(("LAMP", 1), ("RUG", 1))
    east, mid = await shop.released(order, 2)
    if state == "partially_captured":
        await shop.ships(order, east)
        await shop.becomes(order, payment_status=state)
    elif state == "captured":
        await shop.captured_at_the_console(order, 2500)
    # when
    outcome = await shop.cancel(order, restock=restock, refund=refund)
    # then
    assert outcome.state == "confirmed"
    if state == "partially_captured":
        await shop.delivers(order, east)
    shipped = state == "partially_captured"
    assert (await order.handle.result()).status == ("completed" if shipped else "cancelled")
    money = await shop.money(order)
    owed = 2500 if refund == "none" else 1250 if shipped else 0
    assert money["captured"] - money["refunded"] == owed == (await shop.header(order))["owed_minor"]
    assert await shop.reserved("RUG") == {"MID": 0}
    assert await shop.on_hand("RUG") == {"MID": 1 if restock else 0}
    assert await shop.on_hand("LAMP") == {"EAST": 1 if restock and not shipped else 0}
    assert (await shop.ledger(order)).get("customer", 0) == 0
    assert mid["node_id"] == "MID"
    await shop.agrees(order)


async def test_an_order_of_which_one_part_fails_is_not_completed(shop: Shop) -> None:
    """CASE-R3: one node delivers, the other refuses: a case is open; given up, its share of the money goes back."""
    # given
    await shop.stocks("LAMP", EAST=1)
    await shop.stocks("RUG", MID=1)
    hold = {"command_id": "hold-1", "type": HoldType.MANUAL, "line_no": 2, "blocks": [HoldBlock.RELEASE]}
    order = await shop.starts_with(shop.order(("LAMP", 1), ("RUG", 1)), "place_hold", hold)
    east, _ = await shop.released(order)
    await shop.ships(order, east)
    await shop.delivers(order, east)
    shop.control(order.placed, "warehouses.decline", 1)
    await shop.unheld(order)
    await _refused(shop, order)
    before = await shop.header(order)
    # when
    outcome = await shop.cancel(order)
    # then
    assert (before["status"], before["waiting_on"]) == ("in_fulfillment", "node")
    assert (outcome.state, outcome.total_after_minor) == ("confirmed", 1250)
    assert (await order.handle.result()).status == "completed"
    assert shop.effects(order) == [("authorization", 2500), ("capture", 1250), ("void", 1250)]
    assert await shop.on_hand("RUG") == {"MID": 1}
    assert await shop.reserved("RUG") == {"MID": 0}
    await shop.agrees(order)
