"""API keys as rows: digests only, never a usable key."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_PUT = text("""
INSERT INTO api_keys (key_id, digest, name, roles, channels, nodes, expires_at)
VALUES (:key_id, :digest, :name, :roles, :channels, :nodes, :expires_at)
ON CONFLICT (key_id) DO UPDATE SET digest = excluded.digest, name = excluded.name, roles = excluded.roles,
  channels = excluded.channels, nodes = excluded.nodes, expires_at = excluded.expires_at, revoked_at = NULL
""")

_FIND = text("""
SELECT key_id, digest, name, roles, channels, nodes,
       (revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())) AS valid,
       extract(epoch FROM expires_at - now())::float8 AS remaining_s
  FROM api_keys WHERE key_id = :key_id
""")

_LIST = text("""
SELECT key_id, name, roles, channels, nodes, created_at, expires_at, revoked_at,
       CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN expires_at <= now() THEN 'expired' ELSE 'valid' END AS state
  FROM api_keys ORDER BY created_at, key_id LIMIT :limit
""")

_REVOKE = text("UPDATE api_keys SET revoked_at = now() WHERE key_id = :key_id AND revoked_at IS NULL")


@dataclass(frozen=True)
class KeyRecord:
    """One key as stored. `remaining_s` is None for a key that does not expire."""

    key_id: str
    digest: bytes
    name: str
    roles: tuple[str, ...]
    channels: tuple[str, ...]
    nodes: tuple[str, ...]
    valid: bool
    remaining_s: float | None


@dataclass(frozen=True)
class KeyListed:
    """One key as people see it: what it may do, not what it is."""

    key_id: str
    name: str
    roles: Sequence[str]
    channels: Sequence[str]
    nodes: Sequence[str]
    state: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


async def put_key(
    connection: AsyncConnection,
    key_id: str,
    digest: bytes,
    name: str,
    roles: Sequence[str],
    channels: Sequence[str] = (),
    nodes: Sequence[str] = (),
    expires_at: datetime | None = None,
) -> None:
    """Store a key; the same id again replaces what it may do."""
    await connection.execute(
        _PUT,
        {
            "key_id": key_id,
            "digest": digest,
            "name": name,
            "roles": list(roles),
            "channels": list(channels),
            "nodes": list(nodes),
            "expires_at": expires_at,
        },
    )


async def find_key(connection: AsyncConnection, key_id: str) -> KeyRecord | None:
    """The key with this id, also when it is no longer valid."""
    row = (await connection.execute(_FIND, {"key_id": key_id})).mappings().one_or_none()
    if row is None:
        return None
    return KeyRecord(
        key_id=row["key_id"],
        digest=bytes(row["digest"]),
        name=row["name"],
        roles=tuple(row["roles"]),
        channels=tuple(row["channels"]),
        nodes=tuple(row["nodes"]),
        valid=row["valid"],
        remaining_s=row["remaining_s"],
    )


async def list_keys(connection: AsyncConnection, limit: int = 10_000) -> tuple[KeyListed, ...]:
    """All keys, oldest first, also those that are no longer valid."""
    rows = await connection.execute(_LIST, {"limit": limit})
    return tuple(KeyListed(**row) for row in rows.mappings())


async def revoke_key(connection: AsyncConnection, key_id: str) -> bool:
    """Make a key useless from now on (other processes notice within their cache time of 30 s)."""
    return (await connection.execute(_REVOKE, {"key_id": key_id})).rowcount == 1
