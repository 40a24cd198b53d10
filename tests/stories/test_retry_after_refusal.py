"""A node or a carrier says no. A person looks, puts it right and says: again."""

from domain.orders import ReportKind
from tests.support.eventually import eventually
from tests.support.shop import Order, Shop


async def _case(shop: Shop, order: Order, code: str) -> None:
    async def there() -> bool:
        return (code, "fulfillment", "open") in await shop.cases(order)

    await eventually(there)


async def test_a_release_that_the_node_refused_is_sent_again(shop: Shop) -> None:
    """The node was closed for the day. The retry is a new request, since a refusal is final for its key."""
    # given
    await shop.stocks("LAMP", EAST=2)
    placed = shop.order(("LAMP", 2))
    shop.control(placed, "warehouses.decline", 1)
    order = await shop.submit(placed)
    await _case(shop, order, "node_refused")
    assert (await shop.header(order))["status"] == "confirmed"
    # when
    shop.normal(placed, "warehouses.decline")
    answer = await shop.retry(order)
    await shop.released(order)
    # then
    assert answer.applied
    assert [case for case in await shop.cases(order) if case[2] == "open"] == []
    assert (await shop.sees_through(order)).status == "completed"
    await shop.agrees(order)
    keys = [effect.key.split(":")[1] for effect in shop.simulation.effects(order.id) if effect.kind == "release"]
    assert keys == ["2"]


async def test_a_node_that_refuses_twice_can_be_asked_a_third_time(shop: Shop) -> None:
    """Each retry asks; the case stays open until one succeeds."""
    # given
    await shop.stocks("LAMP", EAST=2)
    placed = shop.order(("LAMP", 2))
    shop.control(placed, "warehouses.decline", 1)
    order = await shop.submit(placed)
    await _case(shop, order, "node_refused")
    # when
    await shop.retry(order, "retry-1")
    refused = await eventually(lambda: _asked(shop, order, 2))
    shop.normal(placed, "warehouses.decline")
    await shop.retry(order, "retry-2")
    await shop.released(order)
    # then
    assert refused
    assert (await shop.sees_through(order)).status == "completed"
    await shop.agrees(order)


async def test_a_label_that_the_carrier_refused_is_booked_again(shop: Shop) -> None:
    """No service today; tomorrow there is one."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2))
    (part,) = await shop.released(order)
    shop.control(order.placed, "carriers.decline", 1)
    await shop.report(order, part["fulfillment_id"], ReportKind.PACKED)
    await _case(shop, order, "carrier_refused")
    # when
    shop.normal(order.placed, "carriers.decline")
    await shop.retry(order)
    # then
    await shop.labelled(order, part)
    await shop.report(order, part["fulfillment_id"], ReportKind.HANDED_OVER)
    await shop.delivers(order, part)
    await shop.agrees(order)
    assert shop.effects(order, "carriers") == [("label", 0)]


async def test_a_parcel_that_the_carrier_refused_can_be_cancelled(shop: Shop) -> None:
    """CASE-R6: nothing was captured; giving up lets the money go, and there is no label to take back."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2))
    (part,) = await shop.released(order)
    shop.control(order.placed, "carriers.decline", 1)
    await shop.report(order, part["fulfillment_id"], ReportKind.PACKED)
    await _case(shop, order, "carrier_refused")
    # when
    outcome = await shop.cancel(order)
    # then
    assert outcome.state == "confirmed"
    await shop.agrees(order)
    assert shop.effects(order, "carriers") == []
    assert shop.effects(order) == [("authorization", 2500), ("void", 2500)]
    assert await shop.cases(order) == [("carrier_refused", "fulfillment", "auto_closed")]


async def _asked(shop: Shop, order: Order, times: int) -> bool:
    with shop.simulation.reading() as db:
        query = "SELECT count(*) FROM requests WHERE order_id = ? AND operation = 'release' AND answer IS NOT NULL"
        return bool(db.execute(query, (order.id,)).fetchone()[0] == times)
