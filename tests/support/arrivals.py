"""The end of an order that was changed under way: everything ships and arrives, and every law holds for it."""

from typing import Any

from store.checks import run_checks
from tests.support.eventually import eventually
from tests.support.shop import Order, Shop


async def all_arrives(shop: Shop, order: Order, captured: int) -> None:
    """What is at nodes once no unit waits for one goes to the door; `captured` was taken then, in minor units."""

    async def at_nodes() -> list[dict[str, Any]]:
        parts = [p for p in await shop.parts(order) if p["stage"] not in ("cancelled", "open", "delivered")]
        (units,) = await shop.sql(
            "SELECT sum(open + reserved + allocated)::int AS n FROM order_lines WHERE order_id = :o", o=order.id
        )
        return parts if parts and not units["n"] else []

    for part in await eventually(at_nodes):
        await shop.ships(order, part)
        await shop.delivers(order, part)
    assert (await order.handle.result()).status == "completed"
    assert (await shop.money(order))["captured"] == captured
    await shop.agrees(order)
    broken = [key for verdict in (await run_checks(shop.engine)).verdicts for key in verdict.keys]
    assert [key for key in broken if order.id in key] == []
