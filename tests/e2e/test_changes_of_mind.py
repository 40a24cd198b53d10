"""Random commands at random moments of many orders' lives: the reference model agrees and every law holds.

`python -m tests.e2e.test_changes_of_mind --orders 2000 --seed 1` does more of it than a test run has time for.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence

from store.checks import run_checks
from tests.support.fickle import ITEMS, Fickle
from tests.support.outlet import provider_objects
from tests.support.serving import serving
from tests.support.stack import RunStack, Site, start_run_stack

ORDERS = 50
AT_ONCE = 12
PATIENCE_S = 120.0
SEED = 20_261_124
FOUND = (28, 69, 1135, 1307, 5238) * 2
"""Lives that once went wrong: a change asked nodes by a stale plan, money was voided under a parcel, the command that
ended a hold had no outcome, a cancellation and a change were lost with their workflow tasks."""


async def _live(site: Site, seeds: Sequence[int]) -> list[str]:
    """Let an order live for each seed, and say what went wrong: nothing, if all is well."""
    orders = len(seeds)
    async with serving(site, cache=2000) as make:
        shop = await make().opens(payment_window_s=600)
        for number, item in enumerate(ITEMS):
            await shop.stocks(item, EAST=orders, MID=orders * 2, WEST=orders * (1 + number))
        await shop.ruleset("node_silence", {"nodes": {"EAST": {"accept_s": 1, "pack_s": 1}}})  # it is left, or asked
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(seed: int) -> list[str]:
            async with gate:
                fickle = Fickle(shop, seed)
                try:
                    order = await asyncio.wait_for(fickle.lives(), PATIENCE_S)
                    await shop.agrees(order)
                    return await fickle.problems(order)
                except Exception as error:
                    return [f"seed {fickle.seed}: {type(error).__name__} {error}; {fickle.said[-3:]}"]

        problems = [text for found in await asyncio.gather(*(one(seed) for seed in seeds)) for text in found]
        await shop.outbox_runs()
        checked = await run_checks(shop.engine, lambda: provider_objects(shop.simulation))
        broken = [f"{v.law} {v.name}: {v.keys}" for v in checked.verdicts if v.count]
        return problems + broken


async def test_whatever_is_said_in_whatever_order_every_law_holds(stack: RunStack) -> None:
    """Each command has one outcome, no unit and no penny is lost, and the workflow agrees with its rows."""
    assert await _live(await stack.new_site(), [*FOUND, *range(SEED, SEED + ORDERS)]) == []


def main() -> int:
    """Run many; the exit code tells whether all was well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    stack = start_run_stack()
    began = time.monotonic()
    try:
        problems = asyncio.run(_run(stack, arguments.orders, arguments.seed))
    finally:
        stack.stop()
        time.sleep(0.3)  # the SDK aborts now and then when a process ends right after a worker
    sys.stdout.write("\n".join([*problems, f"{arguments.orders} orders, {len(problems)} problems, "]))
    sys.stdout.write(f"{time.monotonic() - began:.0f} s\n")
    return 1 if problems else 0


async def _run(stack: RunStack, orders: int, seed: int) -> list[str]:
    return await _live(await stack.new_site(), range(seed, seed + orders))


if __name__ == "__main__":
    sys.exit(main())
