"""Nodes as people look after them: which are frozen, by whom and until when, and the work that must leave them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.orders import SYSTEM, Actor
from domain.permissions import Scope
from store.commands import payload_hash

Row = dict[str, Any]

_FROZEN = "coalesce(now() >= n.frozen_from AND (n.frozen_until IS NULL OR now() < n.frozen_until), false)"
_NOT_ACCEPTED = "f.state IN ('open','submitted') AND f.stage IN ('allocated','released')"
_NODES = f"""
SELECT n.node_id, n.name, n.country, n.region, n.time_zone, n.enabled, {_FROZEN} AS frozen, n.frozen_from,
       n.frozen_until, z.reason, z.actor,
       (SELECT count(*) FROM fulfillment_orders f WHERE f.node_id = n.node_id AND {_NOT_ACCEPTED})::int AS not_accepted
  FROM nodes n LEFT JOIN node_freezes z ON z.node_id = n.node_id AND z.freeze_no = n.freeze_no AND z.act = 'freeze'
 WHERE (:everything OR n.node_id = ANY(:nodes))
"""  # noqa: S608 - constants only
_LIST = text(f"{_NODES} ORDER BY n.node_id")
_ONE = text(f"{_NODES} AND n.node_id = :node_id")

_KNOWN = text("SELECT node_id FROM nodes WHERE node_id = ANY(:names)")

_FREEZE = text("""
UPDATE nodes SET frozen_from = coalesce(:frozen_from, now()), frozen_until = :frozen_until, freeze_no = freeze_no + 1
 WHERE node_id = :node_id AND (CAST(:frozen_until AS timestamptz) IS NULL
                               OR :frozen_until > greatest(now(), coalesce(:frozen_from, now())))
RETURNING freeze_no, frozen_from, frozen_until
""")
_UNFREEZE = text("""
UPDATE nodes SET frozen_from = NULL, frozen_until = NULL, freeze_no = freeze_no + 1
 WHERE node_id = :node_id AND frozen_from IS NOT NULL AND (frozen_until IS NULL OR frozen_until > now())
RETURNING freeze_no, frozen_from, frozen_until
""")
_LOG = text("""
INSERT INTO node_freezes (node_id, freeze_no, act, reason, frozen_from, frozen_until, actor)
VALUES (:node_id, :freeze_no, :act, :reason, :frozen_from, :frozen_until, CAST(:actor AS jsonb))
""")

# Work that a frozen node has not accepted, and whose order was not told yet of this freeze.
_DUE = text(f"""
SELECT f.order_id, f.fulfillment_id, n.node_id, n.freeze_no, z.actor
  FROM nodes n JOIN fulfillment_orders f ON f.node_id = n.node_id AND {_NOT_ACCEPTED}
  JOIN node_freezes z ON z.node_id = n.node_id AND z.freeze_no = n.freeze_no
 WHERE {_FROZEN} AND NOT EXISTS (SELECT 1 FROM commands c WHERE c.order_id = f.order_id
   AND c.command_id = concat('freeze:', n.freeze_no, ':', f.fulfillment_id))
 ORDER BY f.fulfillment_id LIMIT :limit
""")  # noqa: S608 - constants only
_TELL = text("""
INSERT INTO commands (order_id, command_id, kind, payload, payload_hash, actor, origin, next_send_at)
SELECT w.order_id, w.command_id, 'leave_node', CAST(w.payload AS jsonb), w.hash, CAST(w.actor AS jsonb), 'api', now()
  FROM unnest(CAST(:orders AS text[]), CAST(:ids AS text[]), CAST(:payloads AS text[]), CAST(:hashes AS bytea[]),
              CAST(:actors AS text[])) AS w(order_id, command_id, payload, hash, actor)
ON CONFLICT (order_id, command_id) DO NOTHING
""")


@dataclass(frozen=True)
class FrozenWork:
    """A fulfillment order that its frozen node has not accepted."""

    order_id: str
    fulfillment_id: str
    node_id: str
    freeze_no: int
    actor: dict[str, Any]

    @property
    def command_id(self) -> str:
        """One command per freeze and fulfillment order."""
        return f"freeze:{self.freeze_no}:{self.fulfillment_id}"


async def list_nodes(connection: AsyncConnection, scope: Scope) -> list[Row]:
    """The nodes that the caller may see, by id."""
    rows = await connection.execute(_LIST, {"everything": scope.everything, "nodes": list(scope.nodes)})
    return [dict(row) for row in rows.mappings()]


async def find_node(connection: AsyncConnection, scope: Scope, node_id: str) -> Row | None:
    """One node; None where there is none that the caller may see."""
    values = {"everything": scope.everything, "nodes": list(scope.nodes), "node_id": node_id}
    row = (await connection.execute(_ONE, values)).mappings().one_or_none()
    return None if row is None else dict(row)


async def unknown_nodes(connection: AsyncConnection, names: Sequence[str]) -> list[str]:
    """Which of these names no node has."""
    known = {row.node_id for row in await connection.execute(_KNOWN, {"names": list(names)})}
    return [name for name in names if name not in known]


async def freeze(
    connection: AsyncConnection,
    node_id: str,
    frozen_from: datetime | None,
    frozen_until: datetime | None,
    reason: str,
    actor: Actor,
) -> bool:
    """Freeze a node, from now on or for a period; another period takes the place of the first.

    False, and nothing is written, where the period would end before it begins, or before now.
    """
    values = {"node_id": node_id, "frozen_from": frozen_from, "frozen_until": frozen_until}
    return await _log(connection, node_id, "freeze", reason, actor, (await connection.execute(_FREEZE, values)).first())


async def unfreeze(connection: AsyncConnection, node_id: str, reason: str, actor: Actor) -> bool:
    """Let a node take new work again. False where it is not frozen, nor will be."""
    row = (await connection.execute(_UNFREEZE, {"node_id": node_id})).first()
    return await _log(connection, node_id, "unfreeze", reason, actor, row)


async def _log(connection: AsyncConnection, node_id: str, act: str, reason: str, actor: Actor, row: Any) -> bool:
    if row is None:
        return False
    values = {
        "node_id": node_id,
        "freeze_no": row.freeze_no,
        "act": act,
        "reason": reason,
        "frozen_from": row.frozen_from,
        "frozen_until": row.frozen_until,
        "actor": actor.model_dump_json(exclude_none=True),
    }
    await connection.execute(_LOG, values)
    return True


async def recall_frozen(connection: AsyncConnection, payload: Callable[[FrozenWork], str], limit: int) -> int:
    """Store a command for each fulfillment order that a frozen node has not accepted; the sweep sends them.

    Each is stored once per freeze. Returns how many were stored now.
    """
    work = [FrozenWork(**row) for row in (await connection.execute(_DUE, {"limit": limit})).mappings()]
    if not work:
        return 0
    payloads = [payload(one) for one in work]
    result = await connection.execute(_TELL, _columns(work, payloads))
    return result.rowcount


def _columns(work: Sequence[FrozenWork], payloads: Sequence[str]) -> dict[str, list[Any]]:
    return {
        "orders": [one.order_id for one in work],
        "ids": [one.command_id for one in work],
        "payloads": list(payloads),
        "hashes": [payload_hash(one) for one in payloads],
        "actors": [Actor.model_validate(one.actor or SYSTEM).model_dump_json(exclude_none=True) for one in work],
    }
