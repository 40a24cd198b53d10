"""How much a carrier that does not answer slows commands on another fulfillment order of the same order.

Pairs of orders, one with a carrier that answers and one whose first parcel waits for a carrier that does not: the
other line of each is cancelled, and the time until its answer is taken. Who of the pair is first alternates.
`python -m bench.isolation [--pairs N] [--json FILE]` runs it on engines of its own.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from bench.meters import circumstances, engines, publish
from domain.orders import ReportKind
from tests.support.serving import serving
from tests.support.shop import Order, Shop
from tests.support.stack import RunStack

PAIRS = 40
DEAD_MS = 600_000
"""Beyond every limit: no reply comes, and the booking is tried again and again."""


async def measure(stack: RunStack, pairs: int) -> dict[str, list[float]]:
    """Milliseconds until the cancellation of the other line was answered, per kind of carrier."""
    took: dict[str, list[float]] = {"answers": [], "dead": []}
    async with serving(await stack.new_site()) as make:
        shop = await make().opens()
        await shop.stocks("LAMP", EAST=2 * pairs)
        await shop.stocks("RUG", MID=2 * pairs)
        waiting = []
        for number in range(pairs):
            for kind in sorted(took, reverse=bool(number % 2)):
                order = await _packed(shop, dead=kind == "dead")
                took[kind].append(await _cancel_the_other(shop, order))
                waiting.append(order)
        for order in waiting:
            shop.normal(order.placed, "carriers.delay_ms")
    return took


async def _packed(shop: Shop, *, dead: bool) -> Order:
    """An order with two fulfillment orders at their nodes, the first one packed: its label is being bought."""
    placed = shop.order(("LAMP", 1), ("RUG", 1))
    if dead:
        shop.control(placed, "carriers.delay_ms", DEAD_MS)
    order = await shop.submit(placed)
    east, _ = await shop.released(order, 2)
    await shop.report(order, east["fulfillment_id"], ReportKind.PACKED)
    if not dead:
        await shop.labelled(order, east)
    return order


async def _cancel_the_other(shop: Shop, order: Order) -> float:
    began = time.perf_counter()
    outcome = await shop.cancel(order, lines=[(2, 1)])
    took_ms = (time.perf_counter() - began) * 1000
    if outcome.state != "confirmed":
        raise RuntimeError(f"no figure: the cancellation was {outcome.state}")
    return took_ms


def summary(took: dict[str, Sequence[float]]) -> dict[str, object]:
    """Median and 95th percentile in milliseconds, and the median of the ratios within the pairs."""
    ratios = [dead / answers for dead, answers in zip(took["dead"], took["answers"], strict=True)]
    figures: dict[str, object] = {
        kind: {"median_ms": round(statistics.median(ms), 1), "p95_ms": round(statistics.quantiles(ms, n=20)[18], 1)}
        for kind, ms in took.items()
    }
    return {**figures, "pairs": len(ratios), "median_ratio": round(statistics.median(ratios), 2)}


def main() -> None:
    """Measure and print; write the JSON where a file is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    about = circumstances({"pairs": arguments.pairs})
    with engines() as stack:
        took = asyncio.run(measure(stack, arguments.pairs))
    publish({**about, "result": summary(took)}, arguments.json)


if __name__ == "__main__":
    main()
