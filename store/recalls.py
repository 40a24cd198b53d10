"""Parcels that a carrier was asked to bring back. What its scans say about that is in `store/fulfillment.py`."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_ASK = text("""
UPDATE shipments SET recall = 'requested', recall_since = :now, recall_until = :until
 WHERE shipment_id = ANY(:ids) AND recall IS NULL AND tracking IS DISTINCT FROM 'delivered' RETURNING shipment_id
""")
_DECLINE = text("""
UPDATE shipments SET recall = :answer WHERE shipment_id = :id AND recall = 'requested' RETURNING shipment_id
""")


async def ask(connection: AsyncConnection, shipment_ids: Sequence[str], now: datetime, until: datetime) -> list[str]:
    """The carrier is about to be asked for these parcels. Those for which it had not been asked before."""
    rows = await connection.execute(_ASK, {"ids": list(shipment_ids), "now": now, "until": until})
    return sorted(row.shipment_id for row in rows)


async def decline(connection: AsyncConnection, shipment_id: str, answer: str) -> bool:
    """The carrier does not bring the parcel back. False: that was decided before."""
    return (await connection.execute(_DECLINE, {"id": shipment_id, "answer": answer})).first() is not None
