"""Cancelling some units: at once where nobody has them yet, by the node's word where it has."""

from temporalio.client import WorkflowUpdateStage

from domain.orders import ReportKind
from tests.support.eventually import eventually
from tests.support.shop import Order, Shop
from workflows.messages import CancelledLine, FreedStock


async def _buckets(shop: Shop, order: Order, line_no: int = 1) -> dict[str, int]:
    """The units of a line, by bucket, as the database has them."""
    (row,) = await shop.sql("SELECT * FROM order_lines WHERE order_id = :o AND line_no = :n", o=order.id, n=line_no)
    names = ("open", "reserved", "allocated", "released", "picked", "packed", "shipped", "delivered", "cancelled")
    return {name: row[name] for name in names if row[name]}


async def test_two_of_three_and_then_the_last_one(shop: Shop) -> None:
    """CASE-C10, CASE-D3: while payment is being fixed; each time exactly the frozen share and the stock come back."""
    # given
    await shop.stocks("LAMP", EAST=3)
    order = await shop.place(("LAMP", 3), pay="pm_declined")
    await shop.becomes(order, wait_cause="payment_declined")
    # when
    first = await shop.cancel(order, "cancel-1", lines=[(1, 2)])
    reserved = await shop.reserved("LAMP")
    second = await shop.cancel(order, "cancel-2", lines=[(1, 1)])
    # then
    assert (first.state, first.total_before_minor, first.total_after_minor) == ("confirmed", 3500, 1167)
    assert first.lines == (CancelledLine(1, 2, 2, 0, 0),)
    assert first.stock == (FreedStock(shop.sku("LAMP"), "EAST", 2),)
    assert reserved == {"EAST": 1}
    assert (second.state, second.total_after_minor) == ("confirmed", 0)
    assert await shop.reserved("LAMP") == {"EAST": 0}
    assert (await order.handle.result()).status == "cancelled"
    await shop.agrees(order)


async def test_more_than_is_left_is_refused_and_changes_nothing(shop: Shop) -> None:
    """The refusal says how many can be cancelled."""
    # given
    await shop.stocks("LAMP", EAST=3)
    order = await shop.place(("LAMP", 3), pay="pm_declined")
    await shop.becomes(order, wait_cause="payment_declined")
    before = await shop.header(order)
    # when
    refusal = await shop.try_cancel(order, lines=[(1, 4)])
    unknown = await shop.try_cancel(order, "cancel-2", lines=[(7, 1)])
    # then
    assert (refusal.code, refusal.detail) == ("quantity_exceeds_open", "line 1: 4 units asked, 3 can be cancelled")
    assert unknown.code == "unknown_line"
    assert await shop.header(order) == before


async def test_the_node_takes_units_off_its_list_and_ships_the_rest(shop: Shop) -> None:
    """CASE-D1: one of three; what leaves is two, what is captured is two, and one comes back to stock, once."""
    # given
    await shop.stocks("LAMP", EAST=3)
    order = await shop.place(("LAMP", 3))
    (part,) = await shop.released(order)
    # when
    outcome = await shop.cancel(order, lines=[(1, 1)])
    again = await shop.cancel(order, lines=[(1, 1)], update_id="said-twice")
    # then
    assert outcome.state == "confirmed"
    assert again == outcome
    assert await _buckets(shop, order) == {"released": 2, "cancelled": 1}
    assert await shop.reserved("LAMP") == {"EAST": 2}
    (row,) = await shop.parts(order)
    assert (row["state"], row["units"]) == ("submitted", 2)
    await shop.ships(order, part)
    await shop.delivers(order, part)
    assert (await order.handle.result()).status == "completed"
    assert await shop.money(order) == {"authorized": 3500, "captured": 2334, "refunded": 0}
    assert await shop.on_hand("LAMP") == {"EAST": 1}
    await shop.agrees(order)


async def test_the_node_is_too_late_for_one_unit_and_ships_all(shop: Shop) -> None:
    """Declined: the order goes on as it was, and says so."""
    # given
    await shop.stocks("LAMP", EAST=2)
    placed = shop.order(("LAMP", 2))
    shop.control(placed, "warehouses.stop", "too_late")
    order = await shop.submit(placed)
    (part,) = await shop.released(order)
    await shop.report(order, part["fulfillment_id"], ReportKind.ACCEPTED)
    # when
    outcome = await shop.cancel(order, lines=[(1, 1)])
    # then
    assert (outcome.state, outcome.lines) == ("declined", (CancelledLine(1, 1, 0, 0, 1),))
    assert (await shop.parts(order))[0]["state"] == "accepted"
    assert (await shop.sees_through(order)).status == "completed"
    assert (await shop.money(order))["captured"] == 2500


async def test_the_last_units_of_a_fulfillment_order_cancel_it(shop: Shop) -> None:
    """CASE-D4: not shipped, cancelled; its stock is back and the other node ships."""
    # given
    await shop.stocks("LAMP", EAST=1)
    await shop.stocks("RUG", WEST=2)
    order = await shop.place(("LAMP", 1), ("RUG", 2))
    east, west = await shop.released(order, 2)
    # when
    outcome = await shop.cancel(order, lines=[(2, 1)])
    rest = await shop.cancel(order, "cancel-2", lines=[(2, 1)])
    # then
    assert (outcome.state, rest.state) == ("confirmed", "confirmed")
    states = {part["node_id"]: part["state"] for part in await shop.parts(order)}
    assert states == {"EAST": "submitted", "WEST": "cancelled"}
    assert await shop.reserved("RUG") == {"WEST": 0}
    assert west["node_id"] == "WEST"
    await shop.ships(order, east)
    await shop.delivers(order, east)
    assert (await order.handle.result()).status == "completed"
    await shop.agrees(order)


async def test_each_node_answers_for_its_own_units(shop: Shop) -> None:
    """Two nodes are asked for different units; one agrees, one does not, and each answer stands."""
    # given
    await shop.stocks("LAMP", EAST=2)
    await shop.stocks("RUG", WEST=2)
    placed = shop.order(("LAMP", 2), ("RUG", 2))
    shop.control(placed, "warehouses.stop", "answer_follows")
    order = await shop.submit(placed)
    parts = {part["node_id"]: part for part in await shop.released(order, 2)}
    # when
    plan = await order.handle.query("preview_cancel", [[1, 1], [2, 2]])
    waiting = await order.handle.start_update(
        "cancel",
        {"command_id": "cancel-1", "reason": "changed_mind", "lines": [[1, 1], [2, 2]]},
        id="cancel-1",
        wait_for_stage=WorkflowUpdateStage.ACCEPTED,
    )

    async def asked() -> bool:
        return all(part["state"] == "cancellation_requested" for part in await shop.parts(order))

    await eventually(asked)
    await shop.report(order, parts["EAST"]["fulfillment_id"], ReportKind.CANCEL_AGREED)
    await shop.report(order, parts["WEST"]["fulfillment_id"], ReportKind.CANCEL_DECLINED)
    outcome = await waiting.result()
    # then
    named = {parts["EAST"]["fulfillment_id"]: [[1, 1]], parts["WEST"]["fulfillment_id"]: [[2, 2]]}
    assert dict(plan["asked"]) == named
    assert outcome["state"] == "partially_confirmed"
    assert outcome["lines"] == [[1, 1, 1, 0, 0], [2, 2, 0, 0, 2]]
    assert (await shop.sees_through(order, 2)).status == "completed"
    await shop.agrees(order)
