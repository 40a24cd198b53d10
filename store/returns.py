"""What a return is quoted from: the lines of an order with their units and shares. Owner: service."""

from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.order_state import LineState
from domain.quantities import Bucket, Buckets
from domain.shares import LineShares

_BUCKETS = ", ".join(f"l.{bucket}" for bucket in Bucket)
_LINES = text(f"""
SELECT o.version, o.status, o.currency, l.line_no, l.sku, l.ordered, l.items_minor, l.discount_minor, l.tax_minor,
       l.shipping_minor, l.shipping_tax_minor, l.credited, l.replaces_line, l.replaces_parcel, {_BUCKETS},
       (SELECT coalesce(sum(captured_minor), 0)::bigint FROM tenders WHERE order_id = o.order_id) AS captured_minor,
       (SELECT coalesce(sum(refunded_minor), 0)::bigint FROM tenders WHERE order_id = o.order_id) AS refunded_minor
  FROM orders o JOIN order_lines l USING (order_id) WHERE o.order_id = :order_id ORDER BY l.line_no
""")  # noqa: S608 - names of an enum

_SHARES = ("line_no", "items_minor", "discount_minor", "tax_minor", "shipping_minor", "shipping_tax_minor")


class Quotable(NamedTuple):
    """An order at one version. Amounts in minor units."""

    version: int
    status: str
    currency: str
    captured_minor: int
    refunded_minor: int
    lines: dict[int, LineState]


async def read_quotable(connection: AsyncConnection, order_id: str) -> Quotable | None:
    """The order as its rows are now; None while it has none."""
    rows = [dict(row) for row in (await connection.execute(_LINES, {"order_id": order_id})).mappings()]
    if not rows:
        return None
    about = {name: rows[0][name] for name in Quotable._fields if name != "lines"}
    return Quotable(lines={row["line_no"]: _line(row) for row in rows}, **about)


def _line(row: dict[str, Any]) -> LineState:
    return LineState(
        line_no=row["line_no"],
        sku=row["sku"],
        shares=LineShares(quantity=row["ordered"], **{name: row[name] for name in _SHARES}),
        buckets=Buckets(**{bucket.value: row[bucket.value] for bucket in Bucket}),
        credited=row["credited"],
        replaces=row["replaces_line"],
        replaces_parcel=row["replaces_parcel"],
    )
