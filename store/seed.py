"""Reference data in bulk: channels, nodes, destinations, lanes, items, and counts of stock.

Every function is one statement over arrays, may be repeated, and leaves what is there already untouched.
Counts become movements first: what a level holds is always the sum of its movements (law I1).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import time

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True)
class NodeRow:
    """A node with its working week. Days are 0 (Monday) to 6; times are local to the node."""

    node_id: str
    name: str
    country: str
    region: str
    latitude: float
    longitude: float
    time_zone: str
    working_days: tuple[int, ...] = (0, 1, 2, 3, 4)
    cut_off: time = time(14)
    dispatch: time = time(16)
    pickup: time = time(16, 30)


@dataclass(frozen=True)
class ZoneRow:
    """A destination; `city_key` is None for the zone of a whole region."""

    zone_id: str
    country: str
    region: str
    city_key: str | None
    latitude: float
    longitude: float
    time_zone: str


@dataclass(frozen=True)
class CountRow:
    """Units that were counted at a node."""

    sku: str
    node_id: str
    quantity: int


_CHANNELS = text("""
INSERT INTO channels (channel, currency)
SELECT * FROM unnest(CAST(:channels AS text[]), CAST(:currencies AS text[])) ON CONFLICT DO NOTHING
""")
_NODES = text("""
INSERT INTO nodes (node_id, name, country, region, latitude, longitude, time_zone)
SELECT * FROM unnest(CAST(:node_ids AS text[]), CAST(:names AS text[]), CAST(:countries AS text[]),
  CAST(:regions AS text[]), CAST(:latitudes AS float8[]), CAST(:longitudes AS float8[]),
  CAST(:time_zones AS text[])) ON CONFLICT DO NOTHING
""")
_CALENDARS = text("""
INSERT INTO node_calendars (node_id, working_days, cut_off, dispatch, pickup)
SELECT c.node_id, CAST(string_to_array(c.days, ',') AS int[]), c.cut_off, c.dispatch, c.pickup
  FROM unnest(CAST(:node_ids AS text[]), CAST(:days AS text[]), CAST(:cut_offs AS time[]),
    CAST(:dispatches AS time[]), CAST(:pickups AS time[])) AS c(node_id, days, cut_off, dispatch, pickup)
ON CONFLICT DO NOTHING
""")
_ZONES = text("""
INSERT INTO zones (zone_id, country, region, city_key, latitude, longitude, time_zone)
SELECT * FROM unnest(CAST(:zone_ids AS text[]), CAST(:countries AS text[]), CAST(:regions AS text[]),
  CAST(:city_keys AS text[]), CAST(:latitudes AS float8[]), CAST(:longitudes AS float8[]),
  CAST(:time_zones AS text[])) ON CONFLICT DO NOTHING
""")
_LANES = text("""
INSERT INTO lanes (node_id, zone_id, service_level, transit_days)
SELECT * FROM unnest(CAST(:node_ids AS text[]), CAST(:zone_ids AS text[]), CAST(:levels AS text[]),
  CAST(:days AS int[])) ON CONFLICT DO NOTHING
""")
_ITEMS = text("""
INSERT INTO items (sku, name, backorder)
SELECT i.sku, i.name, i.sku = ANY(CAST(:backorder AS text[]))
  FROM unnest(CAST(:skus AS text[]), CAST(:names AS text[])) AS i(sku, name) ON CONFLICT DO NOTHING
""")
_COUNTS = text("""
WITH moved AS (
  INSERT INTO stock_movements (sku, node_id, on_hand_delta, reason, business_key, actor)
  SELECT c.sku, c.node_id, c.quantity, 'opening_count',
         concat_ws(':', 'opening_count', CAST(:source AS text), c.sku, c.node_id), 'system:seed'
    FROM unnest(CAST(:skus AS text[]), CAST(:node_ids AS text[]), CAST(:quantities AS int[]))
      AS c(sku, node_id, quantity)
  ON CONFLICT (business_key) DO NOTHING RETURNING sku, node_id, on_hand_delta)
INSERT INTO stock_levels (sku, node_id, on_hand)
SELECT sku, node_id, on_hand_delta FROM moved ORDER BY sku, node_id
ON CONFLICT (sku, node_id) DO UPDATE SET on_hand = stock_levels.on_hand + excluded.on_hand
""")


async def add_channels(connection: AsyncConnection, currencies: Mapping[str, str]) -> int:
    """Sales channels with the currency that each sells in. Returns how many were new."""
    return await _new_rows(connection, _CHANNELS, channels=list(currencies), currencies=list(currencies.values()))


async def add_nodes(connection: AsyncConnection, rows: Sequence[NodeRow]) -> int:
    """Nodes and their calendars. A calendar that somebody has set stays. Returns how many nodes were new."""
    node_ids = [row.node_id for row in rows]
    added = await _new_rows(
        connection,
        _NODES,
        node_ids=node_ids,
        names=[row.name for row in rows],
        countries=[row.country for row in rows],
        regions=[row.region for row in rows],
        latitudes=[row.latitude for row in rows],
        longitudes=[row.longitude for row in rows],
        time_zones=[row.time_zone for row in rows],
    )
    await _new_rows(
        connection,
        _CALENDARS,
        node_ids=node_ids,
        days=[",".join(map(str, row.working_days)) for row in rows],
        cut_offs=[row.cut_off for row in rows],
        dispatches=[row.dispatch for row in rows],
        pickups=[row.pickup for row in rows],
    )
    return added


async def add_zones(connection: AsyncConnection, rows: Sequence[ZoneRow]) -> int:
    """Destinations. Returns how many were new."""
    return await _new_rows(
        connection,
        _ZONES,
        zone_ids=[row.zone_id for row in rows],
        countries=[row.country for row in rows],
        regions=[row.region for row in rows],
        city_keys=[row.city_key for row in rows],
        latitudes=[row.latitude for row in rows],
        longitudes=[row.longitude for row in rows],
        time_zones=[row.time_zone for row in rows],
    )


async def add_lanes(connection: AsyncConnection, rows: Sequence[tuple[str, str, str, int]]) -> int:
    """Transit days as (node, zone, service level, days). Returns how many were new."""
    return await _new_rows(
        connection,
        _LANES,
        node_ids=[row[0] for row in rows],
        zone_ids=[row[1] for row in rows],
        levels=[row[2] for row in rows],
        days=[row[3] for row in rows],
    )


async def add_items(connection: AsyncConnection, names: Mapping[str, str], backorder: Sequence[str] = ()) -> int:
    """Items by SKU; orders may wait for those of `backorder`. Returns how many were new."""
    columns = {"skus": list(names), "names": list(names.values()), "backorder": list(backorder)}
    return await _new_rows(connection, _ITEMS, **columns)


async def count_stock(connection: AsyncConnection, source: str, rows: Sequence[CountRow]) -> int:
    """Book an opening count once per `source`, SKU and node: a movement, and the level that follows from it.

    Returns how many levels changed; a repeat with the same source changes none.
    """
    return await _new_rows(
        connection,
        _COUNTS,
        source=source,
        skus=[row.sku for row in rows],
        node_ids=[row.node_id for row in rows],
        quantities=[row.quantity for row in rows],
    )


async def _new_rows(connection: AsyncConnection, statement: TextClause, **values: object) -> int:
    """Run an insert and say how many rows it changed."""
    return (await connection.execute(statement, values)).rowcount
