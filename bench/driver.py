"""The load: a process of its own that speaks only HTTP.

It reads one `Load` per line on standard input and answers with one `Driven` per line. A closed loop: so many orders
are under way at once, each from its creation to its end; the simulated floor packs, hands over and delivers.
"""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from cli.client import AccordClient, OrderView
from cli.floor import Floor, Habits
from cli.retail import EXTRACT
from cli.retail_plan import PAYS, Moment, PlannedOrder, RetailPlan, make_plan, read_file
from cli.retail_report import unbalanced
from cli.retail_run import RetailRun

PATIENCE_S = 300.0
ANSWER_BYTES_MAX = 2**24


class Load(BaseModel):
    """What to send where. The sales of the extract are gone through as often as it takes.

    Attributes:
        run_id: names the orders; two loads of one name would place the same ones.
        in_flight: orders under way at once.
        retail: real invoices with their lines, payments that fail and cancellations; otherwise the same customers
            buy one unit each, and every payment goes through.
    """

    model_config = ConfigDict(frozen=True)

    run_id: str
    url: str
    storefront_key: str
    warehouse_key: str
    orders: int
    in_flight: int
    retail: bool
    seed: int = 1


class Driven(BaseModel):
    """What came of a load.

    Attributes:
        seconds: from the first request to the end of the last order.
        lines: lines per order: median, mean and most.
        problems: what nobody had planned, as sentences; with any of them the load has no figure.
    """

    model_config = ConfigDict(frozen=True)

    seconds: float
    statuses: dict[str, int]
    lines: dict[str, float]
    repeated_requests: int
    order_ids: tuple[str, ...]
    problems: tuple[str, ...]


# --- in the driver's process --------------------------------------------------------------------------


def plan_of(load: Load) -> RetailPlan:
    """The orders of this load, with the stock that they need."""
    file = read_file(EXTRACT)
    laps = -(-load.orders // len(file.sales))
    plans = [
        make_plan(file, run_id=f"{load.run_id}-{lap}", seed=load.seed, limit=None, start=None) for lap in range(laps)
    ]
    orders = tuple(order for plan in plans for order in plan.orders)[: load.orders]
    return replace(
        plans[0],
        run_id=load.run_id,
        orders=orders if load.retail else tuple(_one_line(order) for order in orders),
        counts=tuple((sku, node, units * laps) for sku, node, units in plans[0].counts),
    )


def _one_line(order: PlannedOrder) -> PlannedOrder:
    """The same customer buys one unit of the first item, and pays."""
    line = {**order.body["lines"][0], "quantity": 1}
    total = line["unit_price_minor"]
    tender: dict[str, Any] = {**order.body["tenders"][0], "reference": PAYS, "amount_minor": total}
    body = {**order.body, "lines": [line], "shipping": {"price_minor": 0}, "tenders": [tender], "total_minor": total}
    return replace(order, body=body, reference=PAYS, changes=())


async def drive(load: Load) -> Driven:
    """Send it all, and wait until every order has ended."""
    plan = plan_of(load)
    shop = AccordClient(load.url, load.storefront_key, PATIENCE_S, load.in_flight + 4)
    warehouse = AccordClient(load.url, load.warehouse_key, PATIENCE_S, load.in_flight + 4)
    async with shop, warehouse:
        run = RetailRun(shop, plan, load.in_flight, lambda: None)
        floor = Floor(warehouse, Habits(seed=load.seed, concurrency=load.in_flight), run.mine)
        began = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as both:
            both.create_task(floor.run(lambda: run.done))
            both.create_task(run.run())
    sizes = sorted(len(order.body["lines"]) for order in plan.orders)
    return Driven(
        seconds=run.counts.last_end - began,
        statuses=dict(Counter(order.status for order in run.ended)),
        lines={"median": sizes[len(sizes) // 2], "mean": round(sum(sizes) / len(sizes), 1), "most": sizes[-1]},
        repeated_requests=shop.repeats + warehouse.repeats,
        order_ids=tuple(order.id for order in run.ended),
        problems=tuple(_problems(run, plan)),
    )


def _problems(run: RetailRun, plan: RetailPlan) -> list[str]:
    planned = {order.key: order for order in plan.orders}
    refused = run.counts.refused
    found = [f"{count} orders refused: {reason}" for reason, count in refused.items()]
    found += [f"{order.id} is still {order.status}" for order in run.still_open]
    found += [f"{o.id} is {o.status}" for o in run.ended if not _ended_as_planned(o, planned[o.external_ref or ""])]
    return [*found, *unbalanced(len(plan.orders), refused.total() + len(run.still_open), run.ended)]


def _ended_as_planned(order: OrderView, planned: PlannedOrder) -> bool:
    in_time = any(change.moment is not Moment.LATE for change in planned.changes)
    may_be_cancelled = in_time or planned.reference == "pm_declined"
    return order.status == "completed" or (order.status == "cancelled" and may_be_cancelled)


def main() -> None:
    """Drive what is asked for until nobody asks any more."""
    for line in sys.stdin:
        print(asyncio.run(drive(Load.model_validate_json(line))).model_dump_json(), flush=True)


# --- in the process that measures ---------------------------------------------------------------------


class NoFigure(Exception):
    """Something went wrong in a measurement: it has no figure."""


@dataclass(frozen=True)
class Driver:
    """The driver's process, seen from outside."""

    process: Process

    async def drive(self, load: Load) -> Driven:
        """Have it drive this load.

        Raises:
            NoFigure: something happened that nobody had planned.
        """
        asked, answers = self.process.stdin, self.process.stdout
        assert asked is not None
        assert answers is not None
        asked.write(f"{load.model_dump_json()}\n".encode())
        await asked.drain()
        answer = await answers.readline()
        if not answer:
            raise NoFigure("the driver has died")
        driven = Driven.model_validate_json(answer)
        if driven.problems:
            raise NoFigure("\n".join(driven.problems[:20]))
        return driven


@asynccontextmanager
async def start_driver() -> AsyncIterator[Driver]:
    """A driver that waits for loads; it keeps nothing, so it is simply killed at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.driver", stdin=PIPE, stdout=PIPE, limit=ANSWER_BYTES_MAX,
        cwd=Path(__file__).parents[1],
    )  # fmt: skip
    try:
        yield Driver(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


if __name__ == "__main__":
    main()
