"""Moving units of order lines between buckets, one statement for a whole order."""

from collections.abc import Sequence

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

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
