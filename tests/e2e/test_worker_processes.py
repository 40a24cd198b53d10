"""Several worker processes are one: told to stop at the same moment, and none goes on without the others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime

import psutil
import psycopg
import pytest

from providers.simulation import Simulation
from store.engine import make_engine
from tests.support.command import wait_until
from tests.support.shop import Shop
from tests.support.stack import RunningProcess, Site

GRACE_S = 6
SLOW_MS = 9000


@pytest.fixture
async def busy(new_site: Callable[[], Awaitable[Site]]) -> Site:
    """An installation of its own."""
    return await new_site()


@pytest.fixture
def worker(busy: Site) -> Iterator[RunningProcess]:
    """Two worker processes that poll."""
    started = busy.start_worker(ACCORD_WORKER_PROCESSES="2", ACCORD_WORKER_GRACE_S=str(GRACE_S))
    wait_until(lambda: len(_said(started, "worker.polling")) == 2)
    yield started
    started.kill()


def _said(worker: RunningProcess, event: str) -> list[datetime]:
    """When the processes logged this event."""
    lines = [json.loads(line) for line in worker.log().splitlines() if line.startswith("{")]
    return [datetime.fromisoformat(line["ts"]) for line in lines if line["event"] == event]


def _second(worker: RunningProcess) -> psutil.Process:
    """The second process, which the first one has spawned."""
    children = psutil.Process(worker.pid).children()
    (second,) = [child for child in children if any("spawn_main" in part for part in child.cmdline())]
    return second


def test_a_second_process_that_dies_ends_all_with_a_failure(worker: RunningProcess) -> None:
    """Exit code 1: whoever watches the first process starts all of them again."""
    _second(worker).kill()
    wait_until(lambda: not worker.running(), 20)
    assert worker.child.exit_code() == 1, worker.log()
    assert len(_said(worker, "worker.process_lost")) == 1


def test_no_process_goes_on_when_the_first_one_is_killed(worker: RunningProcess) -> None:
    """Also when nobody could tell it: a worker that nobody watches would never be stopped."""
    second = _second(worker)
    psutil.Process(worker.pid).kill()
    second.wait(20)
    assert not second.is_running()


async def test_all_processes_are_told_to_stop_at_once(busy: Site, worker: RunningProcess) -> None:
    """Both drain at the same time, though the first one has work for longer than it may take."""
    # given
    engine = make_engine(busy.settings().dsn, 2)
    shop = await Shop(await busy.connect(), engine, Simulation(busy.simulated_state)).opens()
    await shop.stocks("LAMP", EAST=8)
    for _ in range(8):
        placed = shop.order(("LAMP", 1))
        shop.control(placed, "warehouses.delay_ms", SLOW_MS)
        await shop.submit(placed)
    wait_until(lambda: _to_be_released(busy) == 8, 10)
    await asyncio.sleep(0.5)  # by then the nodes are being asked, which takes them nine seconds
    # when
    assert worker.stop(GRACE_S + 5)
    # then
    first, second = _said(worker, "worker.draining")
    assert abs(second - first).total_seconds() < 2
    assert worker.child.exit_code() == 0, worker.log()
    await engine.dispose()


def _to_be_released(site: Site) -> int:
    with psycopg.connect(site.settings().dsn.replace("+psycopg", "")) as connection:
        row = connection.execute("SELECT count(*) FROM fulfillment_orders WHERE stage = 'allocated'").fetchone()
    return int(row[0]) if row else 0
