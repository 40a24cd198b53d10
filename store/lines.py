"""Order lines: moving their units between buckets, one statement for a whole order, and adding lines to one."""

from collections.abc import Sequence

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.order_state import AddedLine
from domain.quantities import Bucket, units_per_line


def _by_lines(source: Bucket, target: Bucket) -> TextClause:
    return text(
        f"UPDATE order_lines l SET {source} = l.{source} - m.quantity, {target} = l.{target} + m.quantity"  # noqa: S608 - names of an enum
        " FROM unnest(CAST(:lines AS int[]), CAST(:quantities AS int[])) AS m(line_no, quantity)"
        " WHERE l.order_id = :order_id AND l.line_no = m.line_no"
    )


def _by_fulfillment(source: Bucket, target: Bucket) -> TextClause:
    return text(
        f"UPDATE order_lines l SET {source} = l.{source} - f.quantity, {target} = l.{target} + f.quantity"  # noqa: S608 - names of an enum
        " FROM fulfillment_lines f WHERE f.fulfillment_id = :fulfillment_id"
        " AND l.order_id = f.order_id AND l.line_no = f.line_no"
    )


_PAIRS = [(a, b) for a in Bucket for b in Bucket if a is not b]
_LINES = {pair: _by_lines(*pair) for pair in _PAIRS}
_FULFILLMENTS = {pair: _by_fulfillment(*pair) for pair in _PAIRS}


async def move_lines(
    connection: AsyncConnection,
    order_id: str,
    source: Bucket,
    target: Bucket,
    units: Sequence[tuple[int, int]],
) -> None:
    """Move `units` (line number, quantity) of an order. The table refuses a bucket below zero."""
    if not units:
        return
    totals = units_per_line(units)
    await connection.execute(
        _LINES[source, target],
        {"order_id": order_id, "lines": list(totals), "quantities": list(totals.values())},
    )


async def move_fulfillment(connection: AsyncConnection, fulfillment_id: str, source: Bucket, target: Bucket) -> None:
    """Move all units of a fulfillment order."""
    if source is not target:
        await connection.execute(_FULFILLMENTS[source, target], {"fulfillment_id": fulfillment_id})


_ADD = text("""
INSERT INTO order_lines (order_id, line_no, sku, ordered, unit_price_minor, items_minor, discount_minor, tax_minor,
  shipping_minor, shipping_tax_minor, total_minor, open, extends_line, replaces_line,
  replaces_parcel)
SELECT :order_id, w.line_no, w.sku, w.ordered, w.unit_price, w.items, w.discount, w.tax, w.shipping, w.shipping_tax,
  w.items - w.discount + w.tax + w.shipping + w.shipping_tax, w.ordered, nullif(w.extends, 0), nullif(w.replaces, 0),
  nullif(w.parcel, '')
  FROM unnest(CAST(:line_no AS int[]), CAST(:sku AS text[]), CAST(:ordered AS int[]), CAST(:unit_price AS bigint[]),
  CAST(:items AS bigint[]), CAST(:discount AS bigint[]), CAST(:tax AS bigint[]), CAST(:shipping AS bigint[]),
  CAST(:shipping_tax AS bigint[]), CAST(:extends AS int[]), CAST(:replaces AS int[]),
  CAST(:parcel AS text[]))
  AS w(line_no, sku, ordered, unit_price, items, discount, tax, shipping, shipping_tax, extends, replaces, parcel)
""")


async def add_lines(connection: AsyncConnection, order_id: str, added: Sequence[AddedLine]) -> None:
    """Write new lines, all units open."""
    if not added:
        return
    lines, shares = [one.line for one in added], [one.shares for one in added]
    await connection.execute(
        _ADD,
        {
            "order_id": order_id,
            "line_no": [line.line_no for line in lines],
            "sku": [line.sku for line in lines],
            "ordered": [line.quantity for line in lines],
            "unit_price": [line.unit_price_minor for line in lines],
            "items": [s.items_minor for s in shares],
            "discount": [s.discount_minor for s in shares],
            "tax": [s.tax_minor for s in shares],
            "shipping": [s.shipping_minor for s in shares],
            "shipping_tax": [s.shipping_tax_minor for s in shares],
            "extends": [one.extends or 0 for one in added],
            "replaces": [one.replaces or 0 for one in added],
            "parcel": [one.replaces_parcel or "" for one in added],
        },
    )
