"""Holds: written when they are placed and when they end. Which of them stand is part of an order's facts."""

from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.order_state import Hold
from domain.orders import Actor

Row = dict[str, Any]
MAX_LISTED = 200

_PLACE = text("""
INSERT INTO holds (hold_id, order_id, type, blocks, line_no, owner, reason, at_limit, placed_by, placed_at, expires_at)
VALUES (:hold_id, :order_id, :type, CAST(:blocks AS text[]), :line_no, :owner, :reason, :at_limit,
        CAST(:placed_by AS jsonb), :placed_at, :expires_at)
ON CONFLICT (hold_id) DO NOTHING
""")
_END = text("""
UPDATE holds SET state = :state, ended_by = CAST(:ended_by AS jsonb), ended_at = :now
 WHERE hold_id = :hold_id AND live
""")
_END_ALL = text("""
UPDATE holds SET state = 'released', ended_by = CAST(:ended_by AS jsonb), ended_at = :now
 WHERE order_id = :order_id AND live RETURNING hold_id, type
""")
_KEPT_UNTIL = text("""
SELECT max(expires_at) FROM holds WHERE order_id = :order_id AND live AND 'schedule' = ANY(blocks) AND expires_at > :now
""")
_COLUMNS = """hold_id, order_id, type, state, blocks, line_no, owner, reason, at_limit, placed_by, placed_at,
  expires_at, ended_by, ended_at"""
_LIST = text(
    f"SELECT {_COLUMNS} FROM holds WHERE order_id = :order_id ORDER BY placed_at, hold_id LIMIT :limit"  # noqa: S608 - constants
)
_FIND = text(f"SELECT {_COLUMNS} FROM holds WHERE order_id = :order_id AND hold_id = :hold_id")  # noqa: S608


async def place(connection: AsyncConnection, order_id: str, hold: Hold, reason: str, actor: Actor) -> None:
    """Write a hold that stands from now on."""
    await connection.execute(
        _PLACE,
        {
            "hold_id": hold.hold_id,
            "order_id": order_id,
            "type": hold.type,
            "blocks": list(hold.blocks),
            "line_no": hold.line_no,
            "owner": hold.owner,
            "reason": reason,
            "at_limit": hold.at_limit,
            "placed_by": actor.model_dump_json(exclude_none=True),
            "placed_at": hold.since,
            "expires_at": hold.deadline,
        },
    )


async def end(connection: AsyncConnection, hold_id: str, state: str, actor: Actor, now: datetime) -> bool:
    """End a hold that stands. False: it has ended before."""
    values = {"hold_id": hold_id, "state": state, "ended_by": actor.model_dump_json(exclude_none=True), "now": now}
    return (await connection.execute(_END, values)).rowcount == 1


async def end_all(connection: AsyncConnection, order_id: str, actor: Actor, now: datetime) -> list[tuple[str, str]]:
    """End all holds of an order that is over. Returns their ids and types."""
    values = {"order_id": order_id, "ended_by": actor.model_dump_json(exclude_none=True), "now": now}
    return [(row.hold_id, row.type) for row in await connection.execute(_END_ALL, values)]


async def kept_until(connection: AsyncConnection, order_id: str, now: datetime) -> datetime | None:
    """How long held units are kept for holds that stop their allocation; None when there is no such hold."""
    found: datetime | None = (await connection.execute(_KEPT_UNTIL, {"order_id": order_id, "now": now})).scalar()
    return found


async def list_holds(connection: AsyncConnection, order_id: str) -> list[Row]:
    """Holds of an order that the caller was shown to have access to, oldest first, at most 200."""
    rows = await connection.execute(_LIST, {"order_id": order_id, "limit": MAX_LISTED})
    return [dict(row) for row in rows.mappings()]


async def find_hold(connection: AsyncConnection, order_id: str, hold_id: str) -> Row | None:
    """One hold of an order that the caller was shown to have access to."""
    row = (await connection.execute(_FIND, {"order_id": order_id, "hold_id": hold_id})).mappings().one_or_none()
    return dict(row) if row else None
