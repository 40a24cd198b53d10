"""What one order costs: history events, server commits, remote activities, own transactions.

The order that is counted has one line, one node and one shipment, and is told `accept`, `packed`, `handed_over`
and `delivered`. `python -m bench.counts [--orders N] [--json FILE]` runs it on engines of its own.
"""

import argparse
import asyncio
import time
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

from temporalio import workflow
from temporalio.api.enums.v1 import EventType
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from bench.meters import (
    ENGINE_DATABASES,
    circumstances,
    commits,
    database_of,
    engines,
    idle_rate,
    publish,
    serve_as_in_production,
    watch_writes,
    writes,
)
from domain.orders import ReportKind
from providers.catalog import ProviderChoice, make_providers
from store.engine import make_engine
from tests.support.shop import Shop
from tests.support.stack import RunStack
from worker import make_activities, make_worker

AT_ONCE = 48
"""As many as keep the engine busy: then what it does at once varies least from machine to machine."""
BATCHES = 3
BARE_BATCHES = 1
DRAIN_S = 11.0
"""A backend of PostgreSQL that falls idle reports what it committed within 10 s, not at once."""


@workflow.defn(name="Bare")
class Bare:
    """Starts and completes, and does nothing else: the floor of what the engine costs."""

    @workflow.run
    async def run(self) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Counts:
    """Per order, averaged; `bare_commits` is what a workflow that does nothing costs in the same run."""

    orders: int
    events: int
    events_most: int
    remote_activities: int
    server_commits: float
    bare_commits: float
    own_writing_transactions: float
    own_commits: float

    @property
    def commits_ratio(self) -> float:
        """Server commits against a bare workflow."""
        return self.server_commits / self.bare_commits


async def _intake(shop: Shop, order_id: str) -> None:
    """The front end's transaction, as it stands before the engine hears of the order."""
    await shop.sql(
        "INSERT INTO intake (order_id, channel, order_number, customer_ref, principal, fingerprint, place_order)"
        " VALUES (:o, :c, :o, 'cus_bench', 'bench', '', '{}')",
        o=order_id,
        c=shop.channel,
    )


async def measure(stack: RunStack, orders: int) -> Counts:
    """Run `orders` orders and as many bare workflows on a site of their own."""
    site = await stack.new_site()
    serve_as_in_production(stack)
    watch_writes(site)
    settings = site.settings()
    engine = make_engine(settings.dsn, 10)
    client = await site.connect()
    with make_providers(ProviderChoice(simulated_state=site.simulated_state)) as providers:
        assert providers.simulation is not None
        activities = make_activities(engine, providers, settings.vault_key_ring, "allow")
        async with (
            make_worker(client, activities, sandbox=False, grace_s=2),
            Worker(client, task_queue="bare", workflows=[Bare], workflow_runner=UnsandboxedWorkflowRunner()),
        ):
            shop = await Shop(client, engine, providers.simulation).opens()
            await shop.stocks("LAMP", EAST=orders * BATCHES + 10)
            await _batch(2, lambda: _order(shop))
            await asyncio.sleep(DRAIN_S)
            idle = await idle_rate(stack)
            bare = await _least(stack, idle, orders, BARE_BATCHES, lambda: _bare(shop))
            before_own, before_writes = commits(stack, database_of(site)), writes(site)
            handles: list[str] = []
            served = await _least(stack, idle, orders, BATCHES, lambda: _order(shop, handles))
            own = (commits(stack, database_of(site)) - before_own) / (orders * BATCHES)
            wrote = (writes(site) - before_writes) / (orders * BATCHES)
            histories = [await _history(shop, h) for h in handles[:10]]
    await engine.dispose()
    events = sorted(len(h) for h in histories)
    remote = max(h.count(EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED) for h in histories)
    return Counts(orders, events[len(events) // 2], events[-1], remote, served, bare, wrote, own)


async def _order(shop: Shop, handles: list[str] | None = None) -> None:
    """See one order through. Nobody asks the engine for its end, as nobody does in production: the rows tell it."""
    placed = shop.order(("LAMP", 1))
    await _intake(shop, placed.order_id)
    order = await shop.submit(placed)
    (part,) = await shop.released(order)
    await shop.report(order, part["fulfillment_id"], ReportKind.PACKED)
    await shop.report(order, part["fulfillment_id"], ReportKind.HANDED_OVER)
    await shop.delivers(order, part)
    await shop.becomes(order, terminal=True)
    if handles is not None:
        handles.append(order.handle.id)


async def _bare(shop: Shop) -> None:
    name = f"bare-{time.monotonic_ns()}-{id(object())}"
    await shop.client.start_workflow("Bare", id=name, task_queue="bare", run_timeout=timedelta(minutes=1))


async def _history(shop: Shop, workflow_id: str) -> list[int]:
    handle = shop.client.get_workflow_handle(workflow_id)
    return [event.event_type async for event in handle.fetch_history_events()]


async def _batch(count: int, one: object) -> None:
    gate = asyncio.Semaphore(AT_ONCE)

    async def run() -> None:
        async with gate:
            await one()  # type: ignore[operator]

    await asyncio.gather(*(run() for _ in range(count)))


async def _least(stack: RunStack, idle_per_s: float, count: int, batches: int, one: object) -> float:
    """Commits per piece of work: the least of the batches, because whatever else happens only adds to it."""
    return min([await _batch_cost(stack, idle_per_s, count, one) for _ in range(batches)])


async def _batch_cost(stack: RunStack, idle_per_s: float, count: int, one: object) -> float:
    began, before = time.monotonic(), commits(stack, *ENGINE_DATABASES)
    await _batch(count, one)
    await asyncio.sleep(DRAIN_S)
    took = time.monotonic() - began
    return (commits(stack, *ENGINE_DATABASES) - before - idle_per_s * took) / count


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=100)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    about = circumstances({"sandbox": False, "at_once": AT_ONCE, "batches": BATCHES})
    with engines() as stack:
        counts = asyncio.run(measure(stack, arguments.orders))
    figures = {**asdict(counts), "commits_ratio": round(counts.commits_ratio, 2)}
    publish({**about, "one_order": figures}, arguments.json)


if __name__ == "__main__":
    main()
