"""Orders per second, the CPU of each process per order, and counts per order: one-line and real retail orders.

`python -m bench.orders [--orders N] [--in-flight K] [--json FILE]` runs real API and worker processes on engines of
their own, and a driver in a process of its own that speaks only HTTP, in a closed loop with K orders under way.
After a warm-up, both kinds of load take turns; counts are taken afterwards, in loads of their own, because counting
costs time. The API's share includes the looks of customers and floor for what has become of the orders.
"""

import argparse
import asyncio
import math
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median, median_low
from typing import Any

from bench.driver import Driven, Driver, Load, NoFigure, plan_of, start_driver
from bench.meters import (
    ENGINE_DATABASES,
    IDLE_S,
    circumstances,
    commits,
    cpu_s,
    engines,
    idle_rate,
    publish,
    serve_as_in_production,
    watch_writes,
    writes,
)
from cli.checking import CheckReport
from cli.seeding import seed_catalog
from store.engine import make_engine
from tests.support.stack import RunningProcess, RunStack, Site
from worker import SWEEP_EVERY_S
from workflows.starting import order_workflow_id

KINDS = ("one_line", "retail")
WORKER = {"ACCORD_WORKER_PROCESSES": "1", "ACCORD_WORKER_SANDBOX": "false"}
DRAIN_S = 20.0
"""The server works on for some seconds after the last order, and a backend of PostgreSQL that falls idle reports
what it committed within 10 s, not at once: measured, commits are back at the idle rate within 20 s."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured: orders per load, orders under way at once, timed loads of each kind."""

    orders: int
    in_flight: int
    repetitions: int = 3

    @property
    def warm_up(self) -> int:
        """Orders of each kind before anything is measured."""
        return 2 * self.in_flight

    @property
    def total(self) -> int:
        """Orders of all loads."""
        return len(KINDS) * (self.warm_up + self.orders * (self.repetitions + 1))


@dataclass(frozen=True)
class Rig:
    """What is measured: one site with its processes, on engines that nobody else uses."""

    stack: RunStack
    site: Site
    api: RunningProcess
    worker: RunningProcess
    driver: Driver

    async def load(self, kind: str, name: str, orders: int, in_flight: int) -> Load:
        """A load of this kind, with its stock on hand."""
        load = Load(
            run_id=f"{kind}-{name}",
            url=self.api.url,
            storefront_key=self.site.keys["storefront"],
            warehouse_key=self.site.keys["warehouse"],
            orders=orders,
            in_flight=in_flight,
            retail=kind == "retail",
        )
        plan = plan_of(load)
        engine = make_engine(self.site.settings().dsn, 1)
        await seed_catalog(engine, plan.run_id, plan.names, plan.counts)
        await engine.dispose()
        return load

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds of each process so far, with all that it started."""
        pids = {
            "api": self.api.pid,
            "worker": self.worker.pid,
            "temporal": self.stack.stack.children["temporal"].pid,
            "postgresql": self.stack.stack.children["postgres"].pid,
            "driver": self.driver.process.pid,
        }
        return {name: cpu_s(pid) for name, pid in pids.items()}


@asynccontextmanager
async def open_rig(stack: RunStack) -> AsyncIterator[Rig]:
    """A new site with an API and a worker as in production, and a driver."""
    site = await stack.new_site()
    worker, api = site.start_worker(**WORKER), site.start_api()
    try:
        async with start_driver() as driver:
            yield Rig(stack, site, api, worker, driver)
    finally:
        api.stop()
        worker.stop()


@dataclass(frozen=True)
class Timed:
    """One load against the clock."""

    driven: Driven
    orders_per_s: float
    cpu_ms_per_order: dict[str, float]


async def run_timed(rig: Rig, load: Load) -> Timed:
    """Drive a load and read the clocks of all processes."""
    before = rig.cpu_s()
    driven = await rig.driver.drive(load)
    spent = {name: (after - before[name]) * 1000 / load.orders for name, after in rig.cpu_s().items()}
    return Timed(driven, load.orders / driven.seconds, spent)


def speed(runs: Sequence[Timed]) -> dict[str, Any]:
    """The figures of repeated loads of one kind."""
    return {
        "orders_per_s": spread([run.orders_per_s for run in runs]),
        "cpu_ms_per_order": {
            name: spread([run.cpu_ms_per_order[name] for run in runs]) for name in runs[0].cpu_ms_per_order
        },
        "lines_per_order": runs[0].driven.lines,
        "statuses": [run.driven.statuses for run in runs],
        "repeated_requests": [run.driven.repeated_requests for run in runs],
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and most."""
    return {"median": round(median(values), 2), "least": round(min(values), 2), "most": round(max(values), 2)}


async def run_counted(rig: Rig, load: Load, idle_per_s: float) -> dict[str, Any]:
    """Drive a load and count per order: server commits, own writing transactions, history events."""
    await asyncio.sleep(DRAIN_S)
    began, committed, wrote = time.monotonic(), commits(rig.stack, *ENGINE_DATABASES), writes(rig.site)
    driven = await rig.driver.drive(load)
    await asyncio.sleep(DRAIN_S)
    idle = idle_per_s * (time.monotonic() - began)
    committed = commits(rig.stack, *ENGINE_DATABASES) - committed
    wrote = writes(rig.site) - wrote
    events = await _history_events(rig.site, driven.order_ids)
    return {
        "server_commits_per_order": round((committed - idle) / load.orders, 1),
        "own_writing_transactions_per_order": round(wrote / load.orders, 1),
        "history_events": {"median": median_low(events), "most": max(events)},
    }


async def _history_events(site: Site, order_ids: Sequence[str]) -> list[int]:
    client = await site.connect()
    handles = [client.get_workflow_handle(order_workflow_id(order_id)) for order_id in order_ids]
    return [(await handle.describe()).history_length for handle in handles]


async def _idle_rate(stack: RunStack) -> float:
    """Commits per second of an idle engine, over at least one round of the worker's own chores."""
    await asyncio.sleep(DRAIN_S)
    return mean([await idle_rate(stack) for _ in range(math.ceil(SWEEP_EVERY_S / IDLE_S))])


def check(rig: Rig, orders: int) -> CheckReport:
    """Run `accord check` on everything that was done.

    Raises:
        StackError: a law is violated; there is no figure.
        NoFigure: orders are missing or open, or workflows could not be asked.
    """
    said = rig.stack.stack.run_step("check", "--json", extra=rig.site.environment())
    report = CheckReport.model_validate_json(said)
    if (report.orders, report.open_orders) != (orders, 0) or report.workflows.skipped or report.workflows.unanswered:
        raise NoFigure(f"{orders} orders were driven to their end, but: {said}")
    return report


async def measure(stack: RunStack, sizes: Sizes) -> dict[str, Any]:
    """All figures of both kinds of orders."""
    serve_as_in_production(stack)
    timed: dict[str, list[Timed]] = {kind: [] for kind in KINDS}
    async with open_rig(stack) as rig:
        for kind in KINDS:
            await rig.driver.drive(await rig.load(kind, "warm-up", sizes.warm_up, sizes.in_flight))
        for number in range(sizes.repetitions):
            for kind in KINDS:
                load = await rig.load(kind, f"timed-{number}", sizes.orders, sizes.in_flight)
                timed[kind].append(await run_timed(rig, load))
        idle_per_s = await _idle_rate(stack)
        watch_writes(rig.site)
        counts = {}
        for kind in KINDS:
            load = await rig.load(kind, "counted", sizes.orders, sizes.in_flight)
            counts[kind] = await run_counted(rig, load, idle_per_s)
        report = check(rig, sizes.total)
    figures: dict[str, Any] = {kind: {**speed(timed[kind]), **counts[kind]} for kind in KINDS}
    return {**figures, "idle_commits_per_s": round(idle_per_s, 2), "violations": report.violations}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=204, help="orders per load; the extract has 51 sales")
    parser.add_argument("--in-flight", type=int, default=32, help="orders under way at once")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result to FILE")
    arguments = parser.parse_args()
    sizes = Sizes(arguments.orders, arguments.in_flight)
    about = circumstances({"loop": "closed", **asdict(sizes), "warm_up": sizes.warm_up, "worker": WORKER})
    with engines() as stack:
        figures = asyncio.run(measure(stack, sizes))
    publish({**about, **figures}, arguments.json)


if __name__ == "__main__":
    main()
