"""Two hundred orders in flight while processes are killed: all reach an end, nothing is charged twice.

The seed decides the moments; it is printed with a failure.
"""

import asyncio
import random
from collections import Counter

import pytest

from cli.client import AccordClient, ApiProblem
from cli.floor import Floor, Habits
from tests.support.eventually import eventually
from tests.support.outlet import Outlet
from tests.support.stack import RunStack

ORDERS = 200
SEED = 20101201
REFERENCES = ("pm_ok",) * 8 + ("pm_timeout", "pm_lost")


async def _place(outlet: Outlet, storefront: AccordClient, number: int, gate: asyncio.Semaphore) -> str:
    async with gate:
        body = outlet.body(1 + number % 3, REFERENCES[number % len(REFERENCES)])
        try:
            return (await storefront.create_order(body, key=f"order-{number}")).id
        except ApiProblem as problem:  # the same key asks again: a 4xx would be a real refusal
            raise AssertionError(f"order {number} refused: {problem.document}") from problem


async def _nemesis(outlet: Outlet, stack: RunStack, rng: random.Random) -> list[str]:
    """Kill and restart things at random moments."""
    done = []
    for victim in ("worker", "worker", "api", "worker", "postgres", "worker"):
        await asyncio.sleep(rng.uniform(2, 5))
        if victim == "postgres":
            await asyncio.to_thread(stack.restart_postgres)
        else:
            process = outlet.worker if victim == "worker" else outlet.api
            process.kill()
            await asyncio.sleep(rng.uniform(0.1, 0.5))
            process.restart()
        done.append(victim)
    return done


@pytest.mark.slow
async def test_orders_survive_killed_processes(breakable_stack: RunStack) -> None:
    """Kill -9 of worker and API, a restart of PostgreSQL; afterwards every law holds."""
    # given
    outlet = await Outlet.opens(await breakable_stack.new_site(), EAST=200, MID=200, WEST=200)
    rng = random.Random(SEED)
    gate = asyncio.Semaphore(12)
    # when
    async with outlet.client("storefront", 240) as storefront, outlet.client("warehouse", 240) as warehouse:
        floor = Floor(warehouse, Habits(seed=SEED, disorder=0.3))
        finished = asyncio.Event()
        working = asyncio.create_task(floor.run(finished.is_set))
        nemesis = asyncio.create_task(_nemesis(outlet, breakable_stack, rng))
        ids = await asyncio.gather(*(_place(outlet, storefront, n, gate) for n in range(ORDERS)))
        killed = await nemesis
        await outlet.shop.engine.dispose()  # our own connections died with PostgreSQL too
        await eventually(lambda: _ended(outlet), within_s=240, every_s=1)
        finished.set()
        await working
    # then
    assert len(killed) == 6
    assert len(set(ids)) == ORDERS
    statuses = await outlet.shop.sql("SELECT status, count(*)::int AS n FROM orders GROUP BY status")
    assert {row["status"]: row["n"] for row in statuses} == {"completed": ORDERS}
    checked = await outlet.check()
    assert checked.violations == 0, [v for v in checked.verdicts if v.count]
    objects = Counter((o.order_id, o.kind) for o in await outlet.provider_objects())
    assert set(objects.values()) == {1}, "an order was authorized or captured twice"
    assert Counter(kind for _, kind in objects) == {"authorization": ORDERS, "capture": ORDERS}
    await _workflows_agree(outlet, ids)
    await outlet.closes()


async def _ended(outlet: Outlet) -> bool:
    return await outlet.open_orders() == 0


async def _workflows_agree(outlet: Outlet, ids: list[str]) -> None:
    """Law I15: every workflow has closed and tells what its row tells."""
    for order_id in ids:
        handle = outlet.shop.client.get_workflow_handle(f"order-{order_id}")
        closed = await asyncio.wait_for(handle.result(), 120)
        row = await outlet.shop.sql("SELECT state_digest FROM orders WHERE order_id = :o", o=order_id)
        assert row[0]["state_digest"] == closed["digest"]
