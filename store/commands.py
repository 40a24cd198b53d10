"""Commands: what was asked of an order, stored before it is sent, and what became of it.

The row is the seal: the workflow compares the payload's hash with what arrives and believes the recorded
actor. A command has one outcome for ever; whoever settles it first wins.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.orders import Actor
from store.intake import Asked

MAX_IN_FLIGHT = 10


@dataclass(frozen=True)
class NewCommand:
    """A command to be stored. `payload_json` is exactly what is sent to the order."""

    order_id: str
    command_id: str
    kind: str
    payload_json: str
    actor: Actor


@dataclass(frozen=True)
class DueCommand:
    """A command that waits for its outcome, to be sent again."""

    order_id: str
    command_id: str
    kind: str
    payload: dict[str, Any]


@dataclass(frozen=True)
class StoredCommand:
    """A command as stored. `outcome` is None until it is settled."""

    order_id: str
    command_id: str
    kind: str
    state: str
    payload: dict[str, Any]
    outcome: dict[str, Any] | None
    received_at: str
    settled_at: str | None


@dataclass(frozen=True)
class Opened:
    """What storing a command met.

    Attributes:
        command: the stored command: the new one, or the one that was there.
        fresh: it was stored just now.
        mismatch: the idempotency key belongs to another request.
        answering: the first request with this key is still being answered.
        by_key: it was met by its idempotency key.
        in_flight: commands of the order without an outcome, this one included when it is new.
    """

    command: StoredCommand | None
    fresh: bool = False
    mismatch: bool = False
    answering: bool = False
    by_key: bool = False
    in_flight: int = 0


_BY_KEY = text("""
SELECT order_id, command_id, fingerprint, answering_until > now() AS answering
  FROM idempotency WHERE principal = :principal AND route = :route AND key = :key
""")

_PUT = text("""
WITH asked AS (
  INSERT INTO idempotency (principal, route, key, fingerprint, order_id, command_id, answering_until)
  SELECT :principal, :route, :key, :fingerprint, :order_id, :command_id,
         now() + make_interval(secs => :answering_s)
   WHERE CAST(:key AS text) IS NOT NULL
  ON CONFLICT (principal, route, key) DO NOTHING RETURNING 1
), stored AS (
  INSERT INTO commands (order_id, command_id, kind, payload, payload_hash, actor, origin)
  SELECT :order_id, :command_id, :kind, CAST(:payload AS jsonb), :payload_hash, CAST(:actor AS jsonb), 'api'
   WHERE CAST(:key AS text) IS NULL OR EXISTS (SELECT 1 FROM asked)
  ON CONFLICT (order_id, command_id) DO NOTHING RETURNING 1
)
SELECT (SELECT count(*) FROM stored) AS stored, (SELECT count(*) FROM asked) AS asked,
  (SELECT count(*) FROM commands WHERE order_id = :order_id AND state = 'received'
      AND kind <> 'supply_arrived') AS waiting
""")

_COLUMNS = """order_id, command_id, kind, state, payload, outcome,
  to_char(received_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS received_at,
  to_char(settled_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS settled_at"""

_FIND = text(f"SELECT {_COLUMNS} FROM commands WHERE order_id = :order_id AND command_id = :command_id")  # noqa: S608 - a constant
_LIST = text(
    f"SELECT {_COLUMNS} FROM commands WHERE order_id = :order_id AND kind = :kind ORDER BY received_at LIMIT :limit"  # noqa: S608
)

_SETTLE = text("""
UPDATE commands SET state = :state, outcome = CAST(:outcome AS jsonb), settled_at = now(), delivered = true
 WHERE order_id = :order_id AND command_id = :command_id AND state = 'received'
""")

_FORGET_ADDRESS = text("DELETE FROM vault_changes WHERE order_id = :order_id AND command_id = :command_id")
_FORGET_ADDRESSES = text("""
DELETE FROM vault_changes v WHERE NOT EXISTS (
  SELECT 1 FROM commands c WHERE c.order_id = v.order_id AND c.command_id = v.command_id AND c.state = 'received')
""")

_DUE = text("""
UPDATE commands SET next_send_at = now() + interval '30 seconds'
 WHERE (order_id, command_id) IN (
   SELECT order_id, command_id FROM commands WHERE NOT delivered AND next_send_at <= now()
    ORDER BY next_send_at LIMIT :limit FOR UPDATE SKIP LOCKED)
RETURNING order_id, command_id, kind, payload
""")

_DELIVERED = text("""
UPDATE commands c SET delivered = true
  FROM unnest(CAST(:order_ids AS text[]), CAST(:command_ids AS text[])) AS d(order_id, command_id)
 WHERE c.order_id = d.order_id AND c.command_id = d.command_id AND NOT c.delivered
""")

_LATE_SCAN = text("""
INSERT INTO tracking_events (shipment_id, event_id, order_id, type, occurred_at, applied, why)
VALUES (:shipment_id, :event_id, :order_id, :type, :occurred_at, false, :why)
ON CONFLICT (shipment_id, event_id) DO NOTHING
""")


def payload_hash(payload_json: str) -> bytes:
    """What the seal compares: SHA-256 of the message as JSON text."""
    return hashlib.sha256(payload_json.encode()).digest()


async def open_command(connection: AsyncConnection, asked: Asked, command: NewCommand, answering_s: float) -> Opened:
    """Store a command under its idempotency key, or find the one that is there already."""
    row = (
        (
            await connection.execute(
                _PUT,
                {
                    "principal": asked.principal,
                    "route": asked.route,
                    "key": asked.key,
                    "fingerprint": asked.fingerprint,
                    "answering_s": answering_s,
                    "order_id": command.order_id,
                    "command_id": command.command_id,
                    "kind": command.kind,
                    "payload": command.payload_json,
                    "payload_hash": payload_hash(command.payload_json),
                    "actor": command.actor.model_dump_json(exclude_none=True),
                },
            )
        )
        .mappings()
        .one()
    )
    if asked.key is not None and row["asked"] == 0:
        return await _met_by_key(connection, asked)
    found = await find_command(connection, command.order_id, command.command_id)
    fresh = row["stored"] == 1
    return Opened(found, fresh=fresh, in_flight=row["waiting"] + int(fresh))


async def _met_by_key(connection: AsyncConnection, asked: Asked) -> Opened:
    row = (
        (await connection.execute(_BY_KEY, {"principal": asked.principal, "route": asked.route, "key": asked.key}))
        .mappings()
        .one()
    )
    if bytes(row["fingerprint"]) != asked.fingerprint:
        return Opened(None, mismatch=True, by_key=True)
    found = await find_command(connection, row["order_id"], row["command_id"])
    return Opened(found, answering=row["answering"], by_key=True)


async def find_command(connection: AsyncConnection, order_id: str, command_id: str) -> StoredCommand | None:
    """One command of an order the caller was already shown to have access to."""
    result = await connection.execute(_FIND, {"order_id": order_id, "command_id": command_id})
    row = result.mappings().one_or_none()
    return StoredCommand(**row) if row else None


async def list_commands(
    connection: AsyncConnection, order_id: str, kind: str, limit: int = 200
) -> tuple[StoredCommand, ...]:
    """Commands of one kind of an order the caller was already shown to have access to, oldest first."""
    rows = await connection.execute(_LIST, {"order_id": order_id, "kind": kind, "limit": limit})
    return tuple(StoredCommand(**row) for row in rows.mappings())


async def settle_command(
    connection: AsyncConnection, order_id: str, command_id: str, state: str, outcome: dict[str, Any]
) -> bool:
    """Store the outcome of a command that has none. False when it was settled before: that one stands."""
    result = await connection.execute(
        _SETTLE,
        {"order_id": order_id, "command_id": command_id, "state": state, "outcome": json.dumps(outcome)},
    )
    if result.rowcount == 1:
        await forget_address(connection, order_id, command_id)
    return result.rowcount == 1


async def forget_address(connection: AsyncConnection, order_id: str, command_id: str) -> None:
    """An address that was stored for a command goes with its outcome; one that was wanted is in the vault by then."""
    await connection.execute(_FORGET_ADDRESS, {"order_id": order_id, "command_id": command_id})


async def forget_addresses(connection: AsyncConnection) -> int:
    """Forget addresses whose command has its outcome. How many there were."""
    return (await connection.execute(_FORGET_ADDRESSES)).rowcount


async def mark_delivered(connection: AsyncConnection, commands: Sequence[tuple[str, str]]) -> None:
    """The engine has these (order id, command id) for good. Until then the sweep sends them again.

    An outcome in the row is not enough: the transaction that wrote it may have outlived the workflow task
    that wanted it, and then the order does not know of its own change yet.
    """
    if commands:
        values = {"order_ids": [o for o, _ in commands], "command_ids": [c for _, c in commands]}
        await connection.execute(_DELIVERED, values)


async def due_commands(connection: AsyncConnection, limit: int) -> tuple[DueCommand, ...]:
    """Commands that their order may not know of, to be sent again as signals. Each is due in 30 s again."""
    rows = await connection.execute(_DUE, {"limit": limit})
    return tuple(DueCommand(**row) for row in rows.mappings())


async def record_late_scan(connection: AsyncConnection, order_id: str, payload: dict[str, Any], why: str) -> None:
    """Keep a carrier's event that came after the order was closed: stored, and nothing follows from it."""
    await connection.execute(
        _LATE_SCAN,
        {
            "order_id": order_id,
            "shipment_id": payload["shipment_id"],
            "event_id": payload["event_id"],
            "type": payload["type"],
            "occurred_at": payload["occurred_at"],
            "why": why,
        },
    )
