"""Writes the demo's network, items and stock into the database. Safe to repeat: what is there stays."""

from collections.abc import Iterable, Mapping

from pydantic import BaseModel, ConfigDict
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from cli import network
from store.engine import transaction
from store.seed import (
    CountRow,
    NodeRow,
    ZoneRow,
    add_channels,
    add_items,
    add_lanes,
    add_nodes,
    add_zones,
    count_stock,
)

DEMO_COUNT = "demo"


class Seeded(BaseModel):
    """How many rows were new."""

    model_config = ConfigDict(frozen=True)

    channels: int = 0
    nodes: int = 0
    zones: int = 0
    lanes: int = 0
    items: int = 0
    stock_levels: int = 0


async def seed_demo(engine: AsyncEngine) -> Seeded:
    """The whole demo: network, catalog and opening stock, in one transaction."""

    async def write(connection: AsyncConnection) -> Seeded:
        seeded = await _write_network(connection)
        names = {item.sku: item.name for item in network.items()}
        items = await add_items(connection, names, [item.sku for item in network.items() if item.backorder])
        counts = [CountRow(item.sku, node, units) for item in network.items() for node, units in item.stock]
        levels = await count_stock(connection, DEMO_COUNT, counts)
        return seeded.model_copy(update={"items": items, "stock_levels": levels})

    return await transaction(engine, write)


async def seed_catalog(
    engine: AsyncEngine, source: str, names: Mapping[str, str], counts: Iterable[tuple[str, str, int]]
) -> Seeded:
    """The network, further items, and one more opening count of stock under the name `source`."""

    async def write(connection: AsyncConnection) -> Seeded:
        seeded = await _write_network(connection)
        items = await add_items(connection, names)
        levels = await count_stock(connection, source, [CountRow(*count) for count in sorted(counts)])
        return seeded.model_copy(update={"items": items, "stock_levels": levels})

    return await transaction(engine, write)


async def _write_network(connection: AsyncConnection) -> Seeded:
    nodes = [
        NodeRow(
            node.node_id,
            node.node_id,
            network.COUNTRY,
            node.region,
            node.point.latitude,
            node.point.longitude,
            node.time_zone,
        )
        for node in network.nodes()
    ]
    zones = [
        ZoneRow(
            zone.zone_id,
            network.COUNTRY,
            zone.region,
            zone.city_key,
            zone.point.latitude,
            zone.point.longitude,
            zone.time_zone,
        )
        for zone in network.zones()
    ]
    lanes = [(lane.node_id, lane.zone_id, lane.service_level, lane.transit_days) for lane in network.lanes()]
    return Seeded(
        channels=await add_channels(connection, network.CHANNELS),
        nodes=await add_nodes(connection, nodes),
        zones=await add_zones(connection, zones),
        lanes=await add_lanes(connection, lanes),
    )
