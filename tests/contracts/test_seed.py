"""Seeding writes the network once, counts stock as movements, and leaves what people have changed."""

import asyncio
from collections.abc import AsyncIterator
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from cli import network
from cli.seeding import Seeded, seed_catalog, seed_demo
from store.checks import run_checks
from store.engine import make_engine

WHOLE = Seeded(channels=2, nodes=10, zones=137, lanes=2740, items=61, stock_levels=313)
NOTHING = Seeded()


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """An empty database with our tables."""
    engine = make_engine(database_url, pool_size=4)
    yield engine
    await engine.dispose()


async def test_the_second_time_changes_nothing(engine: AsyncEngine) -> None:
    """Seeding is safe to repeat, and every count is a movement."""
    assert await seed_demo(engine) == WHOLE
    assert await seed_demo(engine) == NOTHING
    assert (await run_checks(engine)).violations == 0
    assert await _one(engine, "SELECT sum(on_hand_delta) FROM stock_movements") == await _one(
        engine, "SELECT sum(on_hand) FROM stock_levels"
    )


async def test_two_at_once_seed_it_once(engine: AsyncEngine) -> None:
    """Two starts of a stack at the same moment do not count the stock twice."""
    both = await asyncio.gather(seed_demo(engine), seed_demo(engine))
    assert sum(seeded.stock_levels for seeded in both) == WHOLE.stock_levels
    assert (await run_checks(engine)).violations == 0


async def test_what_people_changed_stays(engine: AsyncEngine) -> None:
    """A calendar that was edited and a channel that was switched off are not put back."""
    await seed_demo(engine)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE node_calendars SET cut_off = '11:00' WHERE node_id = 'OAK4'"))
        await connection.execute(text("UPDATE channels SET enabled = false WHERE channel = 'web-us'"))
    await seed_demo(engine)
    assert str(await _one(engine, "SELECT cut_off FROM node_calendars WHERE node_id = 'OAK4'")) == "11:00:00"
    assert await _one(engine, "SELECT enabled FROM channels WHERE channel = 'web-us'") is False


async def test_another_count_adds_to_the_first(engine: AsyncEngine) -> None:
    """Each run of the retail demo brings its own opening count; the same run counts once."""
    counts = [("85123A", "OAK4", 7), ("85123A", "AVP3", 5)]
    for source in ("run-1", "run-1", "run-2"):
        await seed_catalog(engine, source, {"85123A": "Lantern"}, counts)
    assert await _one(engine, "SELECT on_hand FROM stock_levels WHERE node_id = 'OAK4'") == 14
    assert await _one(engine, "SELECT count(*) FROM stock_movements") == 4
    assert (await run_checks(engine)).violations == 0


async def test_a_node_works_monday_to_friday(engine: AsyncEngine) -> None:
    """The calendar that was seeded is the one that the demo describes."""
    await seed_demo(engine)
    calendar = await _one(
        engine,
        "SELECT concat_ws(' ', working_days, cut_off, dispatch, pickup, processing_days) FROM node_calendars "
        "WHERE node_id = 'BNA2'",
    )
    assert calendar == "{0,1,2,3,4} 14:00:00 16:00:00 16:30:00 0"


def test_the_network_reaches_every_zone_in_time() -> None:
    """Express is never slower than standard, near is never slower than far, and the sea costs days."""
    by_zone: dict[tuple[str, str], dict[str, int]] = {}
    for lane in network.lanes():
        by_zone.setdefault((lane.node_id, lane.zone_id), {})[lane.service_level] = lane.transit_days
    assert len(by_zone) == 10 * 137
    assert all(days["express"] <= days["standard"] for days in by_zone.values())
    assert by_zone["AVP3", "US-NY-new-york"] == {"standard": 1, "express": 1}
    assert by_zone["OAK4", "US-MA-boston"] == {"standard": 5, "express": 2}
    assert by_zone["CAE1", "US-PR-san-juan"] == {"standard": 6, "express": 4}


def test_every_place_has_a_time_zone_that_exists() -> None:
    """Also the cities whose state keeps two times."""
    zones = {zone.zone_id: zone for zone in network.zones()}
    assert all(ZoneInfo(zone.time_zone).key for zone in zones.values())
    assert zones["US-TX-el-paso"].time_zone == "America/Denver"
    assert zones["US-TX"].time_zone == "America/Chicago"
    assert zones["US-MO-st-louis"].city_key == "st. louis"


async def _one(engine: AsyncEngine, query: str) -> object:
    async with engine.connect() as connection:
        return (await connection.execute(text(query))).scalar_one()
