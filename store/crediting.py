"""What is not owed any more though it left: counted on its line, and booked by a credit memo. Owner: finance."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.order_state import Credit
from store.payments import post_credit

_CREDIT = text("""
WITH lines AS (
  UPDATE order_lines l SET credited = greatest(l.credited, w.units),
         credited_minor = greatest(l.credited_minor, w.amount)
    FROM unnest(CAST(:lines AS int[]), CAST(:units AS int[]), CAST(:amounts AS bigint[])) AS w(line_no, units, amount),
         order_lines o
   WHERE l.order_id = :order_id AND l.line_no = w.line_no AND o.order_id = l.order_id AND o.line_no = l.line_no
  RETURNING l.credited_minor - o.credited_minor AS less)
UPDATE orders SET owed_minor = owed_minor - (SELECT coalesce(sum(less), 0) FROM lines) WHERE order_id = :order_id
""")


async def credit(connection: AsyncConnection, order_id: str, currency: str, key: str, given: Credit | None) -> None:
    """Write what is credited by now, once per `key` of all orders; nothing where there is no credit."""
    if given is None:
        return
    values = {
        "order_id": order_id,
        "lines": [line.line_no for line in given.lines],
        "units": [line.units for line in given.lines],
        "amounts": [line.amount_minor for line in given.lines],
    }
    await connection.execute(_CREDIT, values)
    await post_credit(connection, order_id, currency, key, given.worth)
