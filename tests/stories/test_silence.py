"""Nobody answers in time: a case is open, and everybody can see who is waited for."""

from collections.abc import Awaitable, Callable

from domain.orders import CancelReason, ReportKind
from tests.support.eventually import eventually
from tests.support.shop import Order, Shop

ShopWith = Callable[..., Awaitable[Shop]]


async def _case(shop: Shop, order: Order) -> dict[str, object]:
    await eventually(lambda: shop.cases(order))

    async def needed() -> dict[str, object] | None:
        seen = await shop.attributes(order)
        return seen if seen.get("NeedsAttention") else None

    return await eventually(needed)


async def test_a_silent_node_opens_a_case_that_names_it(shop_with: ShopWith) -> None:
    """The search attributes and the details of the workflow say the same as the order's row."""
    # given
    shop = await shop_with(node_accept_s=1)
    await shop.stocks("LAMP", EAST=2)
    # when
    order = await shop.place(("LAMP", 2))
    attributes = await _case(shop, order)
    # then
    assert await shop.cases(order) == [("node_silent", "fulfillment", "open")]
    assert {name: attributes[name] for name in ("OrderStatus", "WaitingOn", "AttentionCode", "ShipNodes")} == {
        "OrderStatus": "in_fulfillment",
        "WaitingOn": "node",
        "AttentionCode": "node_silent",
        "ShipNodes": ["EAST"],
    }
    details = await shop.details(order)
    assert "**Waiting on** node (node_acceptance)" in details
    assert "owner fulfillment: the node accepts or packs" in details
    assert "**Open case** node_silent" in details
    assert "- **Shipments** EAST submitted" in details
    header = await shop.header(order)
    assert (header["waiting_on"], header["wait_cause"]) == ("node", "node_acceptance")
    assert "order.needs_attention" in await shop.events(order)


async def test_the_case_closes_by_itself_once_the_node_speaks(shop_with: ShopWith) -> None:
    """The cause is gone: in the database, and in what operators filter by."""
    # given
    shop = await shop_with(node_accept_s=1)
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2))
    await _case(shop, order)
    (part,) = await shop.parts(order)
    # when
    await shop.report(order, part["fulfillment_id"], ReportKind.ACCEPTED)
    # then
    assert await shop.cases(order) == [("node_silent", "fulfillment", "auto_closed")]
    await shop.shows(order, NeedsAttention=False, AttentionCode=None)
    assert "**Open case** none" in await shop.details(order)
    await shop.ships(order, part)
    await shop.delivers(order, part)
    await shop.agrees(order)


async def test_one_node_that_speaks_does_not_close_the_case_of_another(shop_with: ShopWith) -> None:
    """EAST accepts, MID is still silent."""
    # given
    shop = await shop_with(node_accept_s=1)
    await shop.stocks("LAMP", EAST=1)
    await shop.stocks("RUG", MID=1)
    order = await shop.place(("LAMP", 1), ("RUG", 1))
    await _case(shop, order)
    east, mid = await shop.parts(order)
    # when
    await shop.report(order, east["fulfillment_id"], ReportKind.ACCEPTED)
    between = await shop.cases(order)
    await shop.report(order, mid["fulfillment_id"], ReportKind.ACCEPTED)
    # then
    assert between == [("node_silent", "fulfillment", "open")]
    assert await shop.cases(order) == [("node_silent", "fulfillment", "auto_closed")]


async def test_a_node_that_does_not_answer_a_stop_gets_a_case_and_keeps_the_units(shop_with: ShopWith) -> None:
    """Silence is never consent."""
    # given
    shop = await shop_with(node_stop_answer_s=1)
    await shop.stocks("LAMP", EAST=2)
    placed = shop.order(("LAMP", 2))
    shop.control(placed, "warehouses.stop", "answer_follows")
    order = await shop.submit(placed)
    (part,) = await shop.released(order)
    # when
    await shop.signal(order, "cancel", {"command_id": "cancel-1", "reason": CancelReason.FRAUD})
    attributes = await _case(shop, order)
    # then
    assert attributes["AttentionCode"] == "node_silent_on_stop"
    assert await shop.reserved("LAMP") == {"EAST": 2}
    await shop.report(order, part["fulfillment_id"], ReportKind.CANCEL_AGREED)
    assert (await order.handle.result()).status == "cancelled"
    await shop.agrees(order)
    assert await shop.cases(order) == [("node_silent_on_stop", "fulfillment", "auto_closed")]
    await shop.shows(order, NeedsAttention=False)


async def test_a_bank_that_does_not_answer_opens_a_case_for_finance(shop_with: ShopWith) -> None:
    """The bank is down; once it is back the order goes on and the case is closed."""
    # given
    shop = await shop_with(payment_pending_s=1)
    await shop.stocks("LAMP", EAST=2)
    placed = shop.order(("LAMP", 2))
    shop.control(placed, "payments.down", 1)
    order = await shop.submit(placed)
    # when
    attributes = await _case(shop, order)
    # then
    assert (attributes["AttentionCode"], attributes["WaitingOn"]) == ("payment_pending", "payment")
    assert await shop.cases(order) == [("payment_pending", "finance", "open")]
    shop.normal(placed, "payments.down")
    assert (await shop.sees_through(order)).status == "completed"
    await shop.agrees(order)
    assert await shop.cases(order) == [("payment_pending", "finance", "auto_closed")]
