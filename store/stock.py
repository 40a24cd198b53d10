"""Stock: what can be promised, and the statements that hold, commit, consume and give back units.

`reserved + q <= on_hand - unavailable - safety` is checked on locked rows, in (SKU, node) order, so that
concurrent buyers of the last unit yield one winner and never deadlock on stock.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.node_trouble import StockCorrection


class StockRaced(Exception):
    """Somebody else took units between the plan and the reservation."""


Held = tuple[int, str, str, int]
"""Line number, SKU, node, units."""

RETURNED_TO_SENDER = "returned_to_sender"
"""The reason of the movement by which a parcel's units are on hand again."""

_NETWORK = text("""
SELECT n.node_id, n.latitude, n.longitude, n.time_zone, c.working_days, c.holidays, c.cut_off, c.dispatch,
       c.pickup, c.processing_days, l.transit_days, z.latitude AS zone_latitude, z.longitude AS zone_longitude,
       z.time_zone AS zone_time_zone, clock_timestamp() AS now,
       coalesce(now() >= n.frozen_from AND (n.frozen_until IS NULL OR now() < n.frozen_until), false) AS frozen
  FROM nodes n JOIN node_calendars c USING (node_id) JOIN zones z ON z.zone_id = :zone_id
  LEFT JOIN lanes l ON l.node_id = n.node_id AND l.zone_id = z.zone_id AND l.service_level = :service_level
 WHERE n.enabled ORDER BY n.node_id
""")

_RULES = text("""
SELECT DISTINCT ON (kind) kind, channel, version, body FROM ruleset_versions
 WHERE channel IN (:channel, '*') ORDER BY kind, (channel = '*'), version DESC
""")

_LOCK = text("""
SELECT s.sku, s.node_id, s.on_hand - s.unavailable - s.reserved - s.safety AS atp
  FROM stock_levels s JOIN unnest(CAST(:skus AS text[]), CAST(:nodes AS text[])) AS w(sku, node_id)
       ON w.sku = s.sku AND w.node_id = s.node_id
 ORDER BY s.sku, s.node_id FOR UPDATE OF s
""")

_SHIFT = text("""
UPDATE stock_levels s SET reserved = s.reserved + w.reserved, on_hand = s.on_hand + w.on_hand
  FROM unnest(CAST(:skus AS text[]), CAST(:nodes AS text[]), CAST(:reserved AS int[]), CAST(:on_hand AS int[]))
       AS w(sku, node_id, reserved, on_hand)
 WHERE s.sku = w.sku AND s.node_id = w.node_id
""")

_RESERVE = text("""
INSERT INTO reservations (reservation_key, order_id, line_no, sku, node_id, qty, generation, state, expires_at)
SELECT concat_ws(':', CAST(:order_id AS text), w.line_no, w.node_id, CAST(:generation AS int), CAST(:name AS text)),
       :order_id, w.line_no, w.sku, w.node_id, w.qty, :generation, 'held', :expires_at
  FROM unnest(CAST(:lines AS int[]), CAST(:skus AS text[]), CAST(:nodes AS text[]), CAST(:quantities AS int[]))
       AS w(line_no, sku, node_id, qty)
""")

_HELD = text("""
SELECT line_no, sku, node_id, qty FROM reservations
 WHERE order_id = :order_id AND generation = :generation ORDER BY line_no, node_id
""")

_NODES_HOLDING = text("""
SELECT DISTINCT node_id FROM reservations WHERE order_id = :order_id AND state = 'held' ORDER BY node_id
""")

_EXPIRED = text("""
SELECT line_no, sku, node_id, qty FROM reservations
 WHERE order_id = :order_id AND generation >= :generation AND state = 'expired' ORDER BY line_no, node_id
""")

_COMMIT = text("""
UPDATE reservations r SET state = 'committed', fulfillment_id = w.fulfillment_id
  FROM unnest(CAST(:nodes AS text[]), CAST(:fulfillments AS text[])) AS w(node_id, fulfillment_id)
 WHERE r.order_id = :order_id AND r.state = 'held' AND r.node_id = w.node_id
 RETURNING r.line_no, r.sku, r.node_id, r.qty
""")

_EXPIRE_HELD = text("""
UPDATE reservations SET state = 'expired'
 WHERE order_id = :order_id AND state = 'held' AND expires_at <= clock_timestamp()
 RETURNING line_no, sku, node_id, qty
""")

_CONSUME = text("""
UPDATE reservations SET state = 'consumed' WHERE fulfillment_id = :fulfillment_id AND state = 'committed'
 RETURNING line_no, sku, node_id, qty
""")

_CUT = text("""
WITH rows AS (
  SELECT r.reservation_key, r.qty, w.quantity - coalesce(sum(r.qty) OVER (PARTITION BY r.line_no, r.node_id
           ORDER BY r.generation ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS wanted
    FROM unnest(CAST(:lines AS int[]), CAST(:nodes AS text[]), CAST(:quantities AS int[]))
         AS w(line_no, node_id, quantity)
    JOIN reservations r ON r.order_id = :order_id AND r.line_no = w.line_no AND r.node_id = w.node_id
     AND r.state IN ('held','committed') AND r.fulfillment_id IS NOT DISTINCT FROM CAST(:fulfillment_id AS text)
), wanted AS (
  SELECT reservation_key, qty, least(qty, wanted) AS quantity FROM rows WHERE wanted > 0
), whole AS (
  UPDATE reservations r SET state = :state FROM wanted w
   WHERE r.reservation_key = w.reservation_key AND w.qty = w.quantity
  RETURNING r.line_no, r.sku, r.node_id, r.qty
), less AS (
  UPDATE reservations r SET qty = r.qty - w.quantity FROM wanted w
   WHERE r.reservation_key = w.reservation_key AND w.qty > w.quantity
  RETURNING r.*, w.quantity AS taken
), parts AS (
  INSERT INTO reservations (reservation_key, order_id, line_no, sku, node_id, qty, generation, fulfillment_id, state,
                            expires_at)
  SELECT concat_ws(':', reservation_key, CAST(:cause AS text)), order_id, line_no, sku, node_id, taken, generation,
         fulfillment_id, :state, expires_at FROM less
  RETURNING line_no, sku, node_id, qty
)
SELECT line_no, sku, node_id, qty FROM whole UNION ALL SELECT line_no, sku, node_id, qty FROM parts
""")

_CORRECT = text("""
UPDATE stock_levels s SET on_hand = s.on_hand + w.on_hand, unavailable = s.unavailable + w.unavailable
  FROM unnest(CAST(:skus AS text[]), CAST(:nodes AS text[]), CAST(:on_hand AS int[]), CAST(:unavailable AS int[]))
       AS w(sku, node_id, on_hand, unavailable)
 WHERE s.sku = w.sku AND s.node_id = w.node_id
""")

_EXTEND = text("""
UPDATE reservations SET expires_at = greatest(expires_at, :until) WHERE order_id = :order_id AND state = 'held'
""")
_EXTEND_ORDER = text("""
UPDATE orders SET reserved_until = greatest(reserved_until, :until)
 WHERE order_id = :order_id AND reserved_until IS NOT NULL
""")
_HOLD_UNTIL = text("UPDATE orders SET reserved_until = CAST(:until AS timestamptz) WHERE order_id = :order_id")

_MOVEMENTS = text("""
INSERT INTO stock_movements (sku, node_id, on_hand_delta, reason, business_key, order_id, actor)
SELECT w.sku, w.node_id, w.delta, :reason, concat_ws(':', CAST(:key AS text), w.sku), :order_id, :actor
  FROM unnest(CAST(:skus AS text[]), CAST(:nodes AS text[]), CAST(:deltas AS int[])) AS w(sku, node_id, delta)
""")


async def load_rules(connection: AsyncConnection, channel: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """The rules in force for a channel: kind -> (name and version, body). Its own document wins over '*'."""
    rows = (await connection.execute(_RULES, {"channel": channel})).mappings()
    named = {}
    for row in rows:
        suffix = "" if row["channel"] == "*" else f":{row['channel']}"
        named[row["kind"]] = (f"{row['kind']}{suffix}@{row['version']}", dict(row["body"]))
    return named


async def load_network(connection: AsyncConnection, zone_id: str, service_level: str) -> list[dict[str, Any]]:
    """Enabled nodes with calendar, lane and distance data to a zone, and the database's clock."""
    rows = await connection.execute(_NETWORK, {"zone_id": zone_id, "service_level": service_level})
    return [dict(row) for row in rows.mappings()]


async def hold(
    connection: AsyncConnection,
    order_id: str,
    generation: int,
    expires_at: datetime,
    units: Sequence[Held],
    name: str | None = None,
) -> None:
    """Hold units for an order until `expires_at`. A `name` tells reservations of one generation apart.

    Raises:
        StockRaced: a node no longer has the units; roll back and plan again.
    """
    wanted = _per_level(units)
    keys = sorted(wanted)
    skus, nodes = [k[0] for k in keys], [k[1] for k in keys]
    locked = await connection.execute(_LOCK, {"skus": skus, "nodes": nodes})
    free = {(row.sku, row.node_id): row.atp for row in locked}
    if any(free.get(key, 0) < wanted[key] for key in keys):
        raise StockRaced(order_id)
    await _shift(connection, wanted, reserved=1, on_hand=0)
    await connection.execute(
        _RESERVE,
        {
            "order_id": order_id,
            "generation": generation,
            "name": name,
            "expires_at": expires_at,
            "lines": [u[0] for u in units],
            "skus": [u[1] for u in units],
            "nodes": [u[2] for u in units],
            "quantities": [u[3] for u in units],
        },
    )


async def nodes_holding(connection: AsyncConnection, order_id: str) -> list[str]:
    """The nodes that hold units for an order now."""
    rows = await connection.execute(_NODES_HOLDING, {"order_id": order_id})
    return [row.node_id for row in rows]


async def held_units(connection: AsyncConnection, order_id: str, generation: int) -> list[Held]:
    """What this generation of reservations held, whatever became of it."""
    rows = await connection.execute(_HELD, {"order_id": order_id, "generation": generation})
    return [(row.line_no, row.sku, row.node_id, row.qty) for row in rows]


async def expired_units(connection: AsyncConnection, order_id: str, generation: int) -> list[Held]:
    """What this generation of reservations, and later ones, held until their time was over."""
    rows = await connection.execute(_EXPIRED, {"order_id": order_id, "generation": generation})
    return [(row.line_no, row.sku, row.node_id, row.qty) for row in rows]


async def commit_held(connection: AsyncConnection, order_id: str, fulfillments: dict[str, str]) -> list[Held]:
    """Commit the held units at the nodes of `fulfillments` (node -> fulfillment order)."""
    rows = await connection.execute(
        _COMMIT,
        {"order_id": order_id, "nodes": list(fulfillments), "fulfillments": list(fulfillments.values())},
    )
    return [(row.line_no, row.sku, row.node_id, row.qty) for row in rows]


async def expire_held(connection: AsyncConnection, order_id: str) -> list[Held]:
    """Give back held units whose time is over by the database's clock."""
    rows = await connection.execute(_EXPIRE_HELD, {"order_id": order_id})
    freed = [(row.line_no, row.sku, row.node_id, row.qty) for row in rows]
    await _lock_and_shift(connection, freed, reserved=-1, on_hand=0)
    return freed


async def cut(
    connection: AsyncConnection,
    order_id: str,
    fulfillment_id: str | None,
    units: Sequence[tuple[int, str, int]],
    cause: str,
) -> list[Held]:
    """Give some units (line number, node, units) of a reservation back; `cause` names the piece that is cut off.

    Without a fulfillment order they are held ones, with one its committed ones.

    Raises:
        StockRaced: the reservation does not have them.
    """
    freed = await _cut(connection, order_id, fulfillment_id, units, cause, "released")
    await _lock_and_shift(connection, freed, reserved=-1, on_hand=0)
    return freed


async def write_off(
    connection: AsyncConnection,
    order_id: str,
    fulfillment_id: str | None,
    units: Sequence[tuple[int, str, int]],
    cause: str,
    actor: str,
) -> None:
    """As `cut`, but the units do not come back: lower on hand and reserved, and write the movements.

    Raises:
        StockRaced: the reservation does not have them.
    """
    gone = await _cut(connection, order_id, fulfillment_id, units, cause, "written_off")
    await _lock_and_shift(connection, gone, reserved=-1, on_hand=-1)
    for (sku, node), quantity in _per_level(gone).items():
        await connection.execute(
            _MOVEMENTS,
            {
                "key": f"{order_id}:{fulfillment_id or node}:{cause}:write_off",
                "reason": "written_off",
                "order_id": order_id,
                "actor": actor,
                "skus": [sku],
                "nodes": [node],
                "deltas": [-quantity],
            },
        )


async def _cut(
    connection: AsyncConnection,
    order_id: str,
    fulfillment_id: str | None,
    units: Sequence[tuple[int, str, int]],
    cause: str,
    state: str,
) -> list[Held]:
    """End the reservation of some units in this state."""
    if not units:
        return []
    rows = await connection.execute(
        _CUT,
        {
            "state": state,
            "order_id": order_id,
            "fulfillment_id": fulfillment_id,
            "cause": cause,
            "lines": [line_no for line_no, _, _ in units],
            "nodes": [node for _, node, _ in units],
            "quantities": [quantity for _, _, quantity in units],
        },
    )
    freed = [(row.line_no, row.sku, row.node_id, row.qty) for row in rows]
    if sum(q for _, _, _, q in freed) != sum(q for _, _, q in units):
        raise StockRaced(order_id)
    return freed


async def correct(
    connection: AsyncConnection, units: Sequence[Held], correction: StockCorrection, reason: str, key: str, actor: str
) -> None:
    """What a node's trouble says about its stock: lower on hand by a movement, or set units aside as unsellable."""
    levels = _per_level(units)
    await connection.execute(
        _CORRECT,
        {
            "skus": [sku for sku, _ in levels],
            "nodes": [node for _, node in levels],
            "on_hand": [correction.on_hand * q for q in levels.values()],
            "unavailable": [correction.unavailable * q for q in levels.values()],
        },
    )
    if correction.on_hand:
        await connection.execute(
            _MOVEMENTS,
            {
                "key": key,
                "reason": reason,
                "order_id": None,
                "actor": actor,
                "skus": [sku for sku, _ in levels],
                "nodes": [node for _, node in levels],
                "deltas": [correction.on_hand * q for q in levels.values()],
            },
        )


async def consume(connection: AsyncConnection, order_id: str, fulfillment_id: str, actor: str) -> list[Held]:
    """The units of a fulfillment order have left: lower on hand and reserved, and write the movements."""
    rows = await connection.execute(_CONSUME, {"fulfillment_id": fulfillment_id})
    gone = [(row.line_no, row.sku, row.node_id, row.qty) for row in rows]
    await _lock_and_shift(connection, gone, reserved=-1, on_hand=-1)
    levels = _per_level(gone)
    await connection.execute(
        _MOVEMENTS,
        {
            "key": f"{fulfillment_id}:ship",
            "reason": "shipped",
            "order_id": order_id,
            "actor": actor,
            "skus": [k[0] for k in levels],
            "nodes": [k[1] for k in levels],
            "deltas": [-q for q in levels.values()],
        },
    )
    return gone


async def take_back(
    connection: AsyncConnection, order_id: str, shipment_id: str, units: Sequence[Held], actor: str
) -> None:
    """The units of a parcel are back at their node: on hand again, by a movement that there is once per parcel."""
    levels = _per_level(units)
    columns = {"skus": [sku for sku, _ in levels], "nodes": [node for _, node in levels]}
    deltas = list(levels.values())
    await _lock_and_shift(connection, units, reserved=0, on_hand=1)
    about = {"key": f"{shipment_id}:returned", "reason": RETURNED_TO_SENDER, "order_id": order_id, "actor": actor}
    await connection.execute(_MOVEMENTS, {**about, **columns, "deltas": deltas})


async def extend_hold(connection: AsyncConnection, order_id: str, until: datetime) -> None:
    """Let the order's held units stay until `until`."""
    await connection.execute(_EXTEND, {"order_id": order_id, "until": until})
    await connection.execute(_EXTEND_ORDER, {"order_id": order_id, "until": until})


async def hold_until(connection: AsyncConnection, order_id: str, until: datetime | None) -> None:
    """Write until when the order's units are held; None once nothing is."""
    await connection.execute(_HOLD_UNTIL, {"order_id": order_id, "until": until})


def _per_level(units: Sequence[Held]) -> dict[tuple[str, str], int]:
    levels: Counter[tuple[str, str]] = Counter()
    for _, sku, node_id, quantity in units:
        levels[sku, node_id] += quantity
    return dict(sorted(levels.items()))


async def _lock_and_shift(connection: AsyncConnection, units: Sequence[Held], reserved: int, on_hand: int) -> None:
    levels = _per_level(units)
    if not levels:
        return
    await connection.execute(_LOCK, {"skus": [k[0] for k in levels], "nodes": [k[1] for k in levels]})
    await _shift(connection, levels, reserved, on_hand)


async def _shift(connection: AsyncConnection, levels: dict[tuple[str, str], int], reserved: int, on_hand: int) -> None:
    await connection.execute(
        _SHIFT,
        {
            "skus": [k[0] for k in levels],
            "nodes": [k[1] for k in levels],
            "reserved": [reserved * q for q in levels.values()],
            "on_hand": [on_hand * q for q in levels.values()],
        },
    )
