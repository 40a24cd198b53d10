"""Versions of rulesets: immutable, numbered per kind and channel. The newest one is in force for new orders."""

import json
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.orders import PlaceOrder

Row = dict[str, Any]

_COLUMNS = "kind, channel, version, owner, body, created_at"
_IN_FORCE = text(f"""
SELECT DISTINCT ON (channel) {_COLUMNS} FROM ruleset_versions WHERE kind = :kind ORDER BY channel, version DESC
""")  # noqa: S608 - a constant
_NEWEST = text(f"""
SELECT {_COLUMNS} FROM ruleset_versions WHERE kind = :kind AND channel = :channel ORDER BY version DESC LIMIT 1
""")  # noqa: S608 - a constant
# Two writers get two numbers, one after the other.
_TURN = text("SELECT pg_advisory_xact_lock(hashtextextended('ruleset:' || CAST(:key AS text), 0))")
_ADD = text(f"""
INSERT INTO ruleset_versions (kind, channel, version, owner, body, author)
SELECT :kind, :channel, coalesce(max(version), 0) + 1, :owner, CAST(:body AS jsonb), CAST(:author AS jsonb)
  FROM ruleset_versions WHERE kind = :kind AND channel = :channel
RETURNING {_COLUMNS}
""")  # noqa: S608 - a constant
_CHANNEL = text("SELECT 1 FROM channels WHERE channel = :channel")
_ORDER = text("SELECT place_order FROM intake WHERE order_id = :order_id")


async def in_force(connection: AsyncConnection, kind: str) -> list[Row]:
    """The newest version of each channel that has one of its own; `*` is for all others."""
    return [dict(row) for row in (await connection.execute(_IN_FORCE, {"kind": kind})).mappings()]


async def newest(connection: AsyncConnection, kind: str, channel: str) -> Row | None:
    """The newest version of one channel's own ruleset."""
    row = (await connection.execute(_NEWEST, {"kind": kind, "channel": channel})).mappings().one_or_none()
    return None if row is None else dict(row)


async def add_version(
    connection: AsyncConnection, kind: str, channel: str, owner: str, body: Row, author: Row
) -> tuple[Row, bool]:
    """The next version, in force from now on; and whether it is new. The same content again is the version there is."""
    await connection.execute(_TURN, {"key": f"{kind}:{channel}"})
    before = await newest(connection, kind, channel)
    if before is not None and before["body"] == body:
        return before, False
    values = {"kind": kind, "channel": channel, "owner": owner, "body": json.dumps(body), "author": json.dumps(author)}
    return dict((await connection.execute(_ADD, values)).mappings().one()), True


async def has_channel(connection: AsyncConnection, channel: str) -> bool:
    """Whether there is such a sales channel; `*` means all."""
    return channel == "*" or (await connection.execute(_CHANNEL, {"channel": channel})).first() is not None


async def placed_order(connection: AsyncConnection, order_id: str) -> PlaceOrder | None:
    """An order as it was placed, without personal data."""
    row = (await connection.execute(_ORDER, {"order_id": order_id})).one_or_none()
    return None if row is None else PlaceOrder.model_validate_json(json.dumps(row.place_order))
