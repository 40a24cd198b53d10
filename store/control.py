"""Exception cases, and the rows that sweepers look for."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.ids import derived_id

_OPEN_CASE = text("""
INSERT INTO exceptions (exception_id, order_id, code, owner, detail, due_at)
VALUES (:exception_id, :order_id, :code, :owner, :detail, now() + interval '4 hours')
ON CONFLICT DO NOTHING RETURNING exception_id
""")
_PROMISE_STATE = text("UPDATE orders SET promise_state = :state WHERE order_id = :order_id")
_PROMISE_ENDED = text("UPDATE promises SET live = false WHERE order_id = :order_id AND live")
_COMMAND = text("""
SELECT kind, actor, origin, state, outcome FROM commands WHERE order_id = :order_id AND command_id = :command_id
""")


async def open_case(
    connection: AsyncConnection, order_id: str, code: str, owner: str, detail: str, version: int
) -> bool:
    """Open an exception case, one per order and cause. False: there is one already."""
    values = {
        "exception_id": derived_id("exc", order_id, code, version),
        "order_id": order_id,
        "code": code,
        "owner": owner,
        "detail": detail,
    }
    return (await connection.execute(_OPEN_CASE, values)).first() is not None


async def set_promise_state(connection: AsyncConnection, order_id: str, state: str) -> None:
    """Write the state of the promise; `kept`, `broken` and `withdrawn` end it."""
    await connection.execute(_PROMISE_STATE, {"order_id": order_id, "state": state})
    if state in ("kept", "broken", "withdrawn"):
        await connection.execute(_PROMISE_ENDED, {"order_id": order_id})


async def find_command(connection: AsyncConnection, order_id: str, command_id: str) -> dict[str, object] | None:
    """A command as it was stored before it was sent."""
    row = await connection.execute(_COMMAND, {"order_id": order_id, "command_id": command_id})
    found = row.mappings().one_or_none()
    return None if found is None else dict(found)


_SAID = text("""
SELECT 1 FROM order_events WHERE order_id = :order_id AND type = :type AND command_id = :command_id LIMIT 1
""")


async def was_said(connection: AsyncConnection, order_id: str, event_type: str, command_id: str) -> bool:
    """Whether a command already left this event: an earlier attempt of its change has committed."""
    values = {"order_id": order_id, "type": event_type, "command_id": command_id}
    return (await connection.execute(_SAID, values)).first() is not None


_SETTLED = text("""
SELECT 1 FROM commands WHERE order_id = :order_id AND command_id = :command_id AND state <> 'received'
""")


async def was_settled(connection: AsyncConnection, order_id: str, command_id: str) -> bool:
    """Whether the command has its outcome: an earlier attempt of its change has committed."""
    values = {"order_id": order_id, "command_id": command_id}
    return (await connection.execute(_SETTLED, values)).first() is not None
