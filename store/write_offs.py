"""What an order gives up of what it is owed."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_OWE_LESS = text("""
UPDATE orders SET owed_minor = owed_minor - :amount_minor, unsettled_minor = unsettled_minor - :amount_minor
 WHERE order_id = :order_id
""")


async def owe_less(connection: AsyncConnection, order_id: str, amount_minor: int) -> None:
    """Amount in minor units that will not come any more."""
    await connection.execute(_OWE_LESS, {"order_id": order_id, "amount_minor": amount_minor})
