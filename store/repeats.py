"""Idempotency of what is asked for beside commands: one thing per caller, operation and key."""

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from store.intake import Asked

_CLAIM = text("""
INSERT INTO idempotency (principal, route, key, fingerprint, order_id, command_id)
VALUES (:principal, :route, :key, :fingerprint, :order_id, :thing_id)
ON CONFLICT (principal, route, key) DO NOTHING RETURNING 1
""")
_CLAIMED = text("""
SELECT fingerprint, command_id FROM idempotency WHERE principal = :principal AND route = :route AND key = :key
""")


@dataclass(frozen=True)
class Claim:
    """What a key stands for.

    Attributes:
        thing_id: what was made under the key: the new thing, or the one that was there.
        fresh: it is to be made now.
        mismatch: the key belongs to another request.
    """

    thing_id: str
    fresh: bool = False
    mismatch: bool = False


async def claim_key(connection: AsyncConnection, asked: Asked, order_id: str, thing_id: str) -> Claim:
    """Take the key for a new thing, in the transaction that makes it; without a key everything is new."""
    if asked.key is None:
        return Claim(thing_id, fresh=True)
    key = {"principal": asked.principal, "route": asked.route, "key": asked.key}
    new = {"fingerprint": asked.fingerprint, "order_id": order_id, "thing_id": thing_id}
    if (await connection.execute(_CLAIM, {**key, **new})).first() is not None:
        return Claim(thing_id, fresh=True)
    row = (await connection.execute(_CLAIMED, key)).one()
    if bytes(row.fingerprint) != asked.fingerprint:
        return Claim("", mismatch=True)
    return Claim(str(row.command_id))
