"""Orders per second, and what each costs in CPU, split by process.

`python -m bench.orders [--orders N] [--in-flight K] [--json FILE]`: one-line orders over HTTP, against real API and
worker processes on engines of their own; the simulated floor packs, hands over and delivers them. A run that
violates a law has no figure.
"""

import argparse
import asyncio
import json
import platform
import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from cli.floor import Floor, Habits
from tests.support.eventually import eventually
from tests.support.outlet import Outlet
from tests.support.stack import RunStack, start_run_stack

LIMIT_S = 900


@dataclass(frozen=True)
class Load:
    """How many orders, and how many are being placed at once."""

    orders: int
    in_flight: int


def cpu_s(pid: int) -> float:
    """CPU seconds of a process and all that it started."""
    total = 0.0
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


async def measure(stack: RunStack, load: Load) -> dict[str, Any]:
    """Place the orders, see them through, check the laws.

    Raises:
        RuntimeError: a law was violated; there is no figure.
    """
    outlet = await Outlet.opens(await stack.new_site(), EAST=load.orders * 2)
    pids = {
        "api": outlet.api.pid,
        "worker": outlet.worker.pid,
        "temporal": stack.stack.children["temporal"].pid,
        "postgresql": stack.stack.children["postgres"].pid,
    }
    gate = asyncio.Semaphore(load.in_flight)
    async with outlet.client("storefront", LIMIT_S) as storefront, outlet.client("warehouse", LIMIT_S) as warehouse:
        floor = Floor(warehouse, Habits(concurrency=load.in_flight))
        finished = asyncio.Event()
        working = asyncio.create_task(floor.run(finished.is_set))
        before = {name: cpu_s(pid) for name, pid in pids.items()}
        began = time.monotonic()

        async def place(number: int) -> None:
            async with gate:
                await storefront.create_order(outlet.body(), key=f"bench-{number}")

        await asyncio.gather(*(place(n) for n in range(load.orders)))
        await eventually(lambda: _ended(outlet), within_s=LIMIT_S, every_s=0.25)
        took = time.monotonic() - began
        spent = {name: (cpu_s(pid) - before[name]) * 1000 / load.orders for name, pid in pids.items()}
        finished.set()
        await working
    checked = await outlet.check()
    await outlet.closes()
    if checked.violations:
        raise RuntimeError("a law was violated: this run has no figure")
    return {
        "orders": load.orders,
        "in_flight": load.in_flight,
        "orders_per_s": round(load.orders / took, 2),
        "cpu_ms_per_order": {name: round(ms, 1) for name, ms in spent.items()},
        "violations": 0,
    }


async def _ended(outlet: Outlet) -> bool:
    return await outlet.open_orders() == 0


def circumstances() -> dict[str, str]:
    """Date, commit and machine: what a figure needs to be read by."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip(),
        "python": platform.python_version(),
        "cores": str(psutil.cpu_count()),
        "load_before": f"{psutil.getloadavg()[0]:.1f}",
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=200)
    parser.add_argument("--in-flight", type=int, default=16)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    about = circumstances()
    stack = start_run_stack()
    try:
        figures = asyncio.run(measure(stack, Load(arguments.orders, arguments.in_flight)))
    finally:
        stack.stop()
        time.sleep(0.3)
    text = json.dumps({**about, "one_line_orders_over_http": figures}, indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
