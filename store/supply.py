"""Units that wait for supply: whose turn it is, what has come, and who is told of it. Owner: inventory."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.quantities import units_per_line

# What others want and have not got. An order that is not paid, or whose overdue hold keeps its units back, is not
# served, so nothing is left to it either.
WAITING = """
  FROM order_lines l JOIN orders o USING (order_id)
 WHERE l.sku = ANY(CAST(:skus AS text[])) AND (l.backordered > 0 OR l.open > 0) AND NOT o.terminal
   AND NOT EXISTS (SELECT 1 FROM tenders t WHERE t.order_id = o.order_id AND t.state IN ('pending','failed'))
   AND NOT EXISTS (SELECT 1 FROM holds h WHERE h.order_id = o.order_id AND h.live AND 'schedule' = ANY(h.blocks)
                      AND h.expires_at <= now() AND coalesce(h.line_no, l.line_no) = l.line_no)
"""

# One statement, so that both halves are of one moment: whoever is served lowers both.
_FREE_AND_AHEAD = text(f"""
SELECT sku, node_id, on_hand - unavailable - reserved - safety AS units FROM stock_levels
 WHERE sku = ANY(CAST(:skus AS text[])) AND on_hand - unavailable - reserved - safety > 0
UNION ALL
SELECT l.sku, NULL, sum(l.open + l.backordered)::int {WAITING} AND o.order_id <> :order_id
   AND EXISTS (SELECT 1 FROM orders me WHERE me.order_id = :order_id AND (o.priority > me.priority
         OR o.priority = me.priority AND (o.created_at, o.order_id) < (me.created_at, me.order_id)))
 GROUP BY l.sku
""")  # noqa: S608 - constants only

_BACKORDERABLE = text("SELECT sku FROM items WHERE sku = ANY(CAST(:skus AS text[])) AND backorder")

_ANY = text("SELECT 1 FROM order_lines WHERE order_id = :order_id AND backordered > 0 LIMIT 1")

_WAIT = text("""
UPDATE order_lines l SET open = l.open - w.quantity, backordered = l.backordered + w.quantity,
       waits_since = :since, waits_until = :until
  FROM unnest(CAST(:lines AS int[]), CAST(:quantities AS int[])) AS w(line_no, quantity)
 WHERE l.order_id = :order_id AND l.line_no = w.line_no
""")

_CAME = text("""
SELECT DISTINCT m.node_id, m.sku FROM stock_movements m JOIN order_lines l ON l.sku = m.sku
 WHERE l.order_id = :order_id AND l.backordered > 0 AND m.reason = 'received' AND m.created_at >= l.waits_since
""")


@dataclass(frozen=True)
class Waiting:
    """Units (line number, units) that wait, since when and until when."""

    units: tuple[tuple[int, int], ...] = ()
    since: datetime | None = None
    until: datetime | None = None


async def free_and_ahead(
    connection: AsyncConnection, order_id: str, skus: Collection[str]
) -> tuple[dict[str, dict[str, int]], dict[str, int]]:
    """Units that can be promised now, and units that others wait for and get first: by priority, then by age.

    The first are node -> SKU -> units, zeros left out, the second SKU -> units.
    """
    free: dict[str, dict[str, int]] = {}
    ahead: dict[str, int] = {}
    for row in await connection.execute(_FREE_AND_AHEAD, {"order_id": order_id, "skus": sorted(skus)}):
        if row.node_id is None:
            ahead[row.sku] = row.units
        else:
            free.setdefault(row.node_id, {})[row.sku] = row.units
    return free, ahead


async def backorderable(connection: AsyncConnection, skus: Collection[str]) -> frozenset[str]:
    """The SKUs among these whose units may wait for supply."""
    rows = await connection.execute(_BACKORDERABLE, {"skus": sorted(skus)})
    return frozenset(row.sku for row in rows)


async def anything_waits(connection: AsyncConnection, order_id: str) -> bool:
    """Whether units of the order wait for supply."""
    return (await connection.execute(_ANY, {"order_id": order_id})).first() is not None


async def let_wait(connection: AsyncConnection, order_id: str, waiting: Waiting) -> None:
    """Open units wait for supply from now on; the limit of a line runs from its latest ones."""
    totals = units_per_line(waiting.units)
    values = {"order_id": order_id, "since": waiting.since, "until": waiting.until}
    await connection.execute(_WAIT, {**values, "lines": list(totals), "quantities": list(totals.values())})


async def came_since(connection: AsyncConnection, order_id: str) -> frozenset[tuple[str, str]]:
    """Where units came in that the order waits for, since it does: node, SKU."""
    rows = await connection.execute(_CAME, {"order_id": order_id})
    return frozenset((row.node_id, row.sku) for row in rows)
