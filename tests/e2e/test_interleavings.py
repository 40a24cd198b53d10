"""Two commands at almost the same moment: cancel against release, hand-over, capture, short pick and amendment.

Whatever the timing: never both, never neither. `python -m tests.e2e.test_interleavings --timings 1000 --seed 1` tries
more moments than a test run has time for, and tells how often they ended how.
"""

import argparse
import asyncio
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel

from domain.amendment import SetQuantity
from domain.orders import CancelReason, NodeTrouble, ReportKind
from store.checks import run_checks
from tests.support.fickle import ITEMS
from tests.support.lives import Fickle
from tests.support.outlet import provider_objects
from tests.support.reference import differences
from tests.support.serving import serving
from tests.support.shop import Order, Shop, later
from tests.support.stack import RunStack, Site, start_run_stack
from workflows.messages import AmendOrder, CancelOrder, LineUnits, NodeReport

TIMINGS = 12
AT_ONCE = 12
PATIENCE_S = 120.0
SEED = 20_261_127
WIDEST_S = 1.5
"""The second command comes at most so long after the first; mostly it comes much sooner."""
Part = dict[str, Any]
Message = tuple[str, BaseModel]


class Race(NamedTuple):
    """A moment of an order's life, and what comes at it from the other side. Without `other`: the order itself.

    Attributes:
        cancelled: how many units may be cancelled in the end; anything else is a fault.
        items: what is ordered, two units of each.
    """

    ready: Callable[[Shop, Order], Awaitable[Part | None]]
    other: Callable[[Part], Message] | None
    cancel: tuple[LineUnits, ...]
    cancelled: frozenset[int]
    items: tuple[str, ...] = ITEMS


async def _at_once(shop: Shop, order: Order) -> Part | None:
    return None


async def _at_the_node(shop: Shop, order: Order) -> Part | None:
    return (await shop.released(order))[0]


async def _labelled(shop: Shop, order: Order) -> Part | None:
    (part,) = await shop.released(order)
    await shop.packs(order, part)
    return part


async def _one_labelled(shop: Shop, order: Order) -> Part | None:
    """Two nodes have their parts. The first one's parcel is ready, and the bank takes its time."""
    first, _ = await shop.released(order, 2)
    await shop.packs(order, first)
    shop.control(order.placed, "payments.delay_ms", 150)
    return first


def _report(part: Part, kind: ReportKind, **more: Any) -> Message:
    name, key = part["fulfillment_id"], "other"
    at = later(seconds=0)
    return "node_report", NodeReport(
        command_id=key, fulfillment_id=name, kind=kind, report_id=key, occurred_at=at, **more
    )


def _hand_over(part: Part) -> Message:
    return _report(part, ReportKind.HANDED_OVER)


def _short(part: Part) -> Message:
    return _report(part, ReportKind.SHORT, lines=(LineUnits(1, 1),), cause=NodeTrouble.NOT_FOUND)


def _more(part: Part) -> Message:
    change = SetQuantity(line=1, quantity=4)
    return "amend", AmendOrder(command_id="other", changes=(change,), reference="pm_ok")


ALL = 4
"""Units of an order here: two of each of two lines."""
RACES: Mapping[str, Race] = {
    "release": Race(_at_once, None, (), frozenset({ALL})),
    "hand_over": Race(_labelled, _hand_over, (), frozenset({ALL, 0})),
    "capture": Race(_one_labelled, _hand_over, (LineUnits(2, 2),), frozenset({2}), ("DESK", "SOFA")),
    "short_pick": Race(_at_the_node, _short, (LineUnits(1, 2),), frozenset({2})),
    "amend": Race(_at_the_node, _more, (LineUnits(1, 2),), frozenset({2})),
}


async def _race(shop: Shop, name: str, seed: int) -> tuple[str, list[str]]:
    """One timing: what came of it, and what went wrong."""
    race, dice, fickle = RACES[name], random.Random(f"{name}-{seed}"), Fickle(shop, seed)
    placed = shop.order(*((item, ALL // len(race.items)) for item in race.items))
    shop.control(placed, "warehouses.stop", "stopped")
    order = await shop.submit(placed)
    part = await race.ready(shop, order)
    cancel = CancelOrder(command_id="cancel", reason=CancelReason.CHANGED_MIND, lines=race.cancel)
    sends = [fickle.tell(order, "cancel", cancel, 0)]
    if race.other is not None and part is not None:
        sends.append(fickle.tell(order, *race.other(part), 0))
    lag = WIDEST_S * dice.random() ** 4
    if dice.random() < 0.5:
        sends.reverse()
    told = [asyncio.create_task(send) for send in sends[:-1]]  # none where the order itself is the other side
    await asyncio.sleep(lag)
    told.append(asyncio.create_task(sends[-1]))
    await asyncio.gather(*told)
    await fickle.ends(order)
    await shop.agrees(order)
    found = [f"{name} seed {seed}: {text}" for text in await differences(shop, order, fickle.said)]
    rows = await shop.sql("SELECT sum(cancelled)::int AS units FROM order_lines WHERE order_id = :o", o=order.id)
    units = rows[0]["units"]
    if units not in race.cancelled:
        found.append(f"{name} seed {seed}: {units} units cancelled, {fickle.said}")
    found += _both(shop, order, units, name, seed)
    answers = [f"{said.kind} {_gist(said.answer)}" for said in fickle.said if said.command_id in ("cancel", "other")]
    released = "released" if ("release", 0) in shop.effects(order, "warehouses") else "not released"
    return ", ".join(sorted(answers) if race.other else (*answers, released)), found


def _gist(answer: dict[str, Any] | str | None) -> str:
    return str(answer.get("state", "applied")) if isinstance(answer, dict) else str(answer)


def _both(shop: Shop, order: Order, units: int, name: str, seed: int) -> list[str]:
    """What left cannot have been cancelled; what a node was given and did not ship, it was told to stop."""
    kinds = Counter(kind for kind, _ in (*shop.effects(order), *shop.effects(order, "warehouses")))
    found = []
    if units == ALL and kinds["capture"]:
        found.append(f"{name} seed {seed}: all was cancelled, and captured")
    if units == ALL and kinds["release"] != kinds["stop"]:
        found.append(f"{name} seed {seed}: {kinds} with all cancelled")
    return found


@dataclass
class Tries:
    """Timings of some races, side by side: how often each ended how, and everything that went wrong."""

    names: Sequence[str]
    timings: int
    seed: int
    ends: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    problems: list[str] = field(default_factory=list)
    watch: Callable[["Tries"], None] = lambda tries: None

    async def run(self, site: Site) -> None:
        """All of them, so many at once; then every law must hold."""
        async with serving(site, cache=2000) as make:
            shop = await make().opens()
            stock = self.timings * len(self.names) * ALL
            for item in ITEMS:
                await shop.stocks(item, EAST=stock, MID=stock)
            await shop.stocks("DESK", EAST=stock)  # no node has both: two parcels
            await shop.stocks("SOFA", MID=stock)
            gate = asyncio.Semaphore(AT_ONCE)
            seeds = range(self.seed, self.seed + self.timings)
            await asyncio.gather(*(self._one(gate, shop, name, seed) for seed in seeds for name in self.names))
            await shop.outbox_runs()
            checked = await run_checks(shop.engine, lambda: provider_objects(shop.simulation))
            self.problems += [f"{v.law} {v.name}: {v.keys}" for v in checked.verdicts if v.count]

    async def _one(self, gate: asyncio.Semaphore, shop: Shop, name: str, seed: int) -> None:
        async with gate:
            try:
                end, found = await asyncio.wait_for(_race(shop, name, seed), PATIENCE_S)
            except Exception as error:
                end, found = "went wrong", [f"{name} seed {seed}: {type(error).__name__} {error}"]
        self.ends[name][end] += 1
        self.problems += found
        self.watch(self)

    @property
    def done(self) -> int:
        """Timings so far."""
        return sum(ends.total() for ends in self.ends.values())


@pytest.mark.parametrize("name", RACES)
async def test_never_both_never_neither(stack: RunStack, name: str) -> None:
    """Each command has one outcome, the outcomes fit each other, and every law holds."""
    tries = Tries((name,), TIMINGS, SEED)
    await tries.run(await stack.new_site())
    assert tries.problems == []
    assert tries.done == TIMINGS


def main() -> int:
    """Try many; the exit code tells whether all was well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--timings", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    began = time.monotonic()

    def watch(tries: Tries) -> None:
        if tries.done % 100 == 0:
            sys.stdout.write(
                f"{tries.done} timings, {len(tries.problems)} problems, {time.monotonic() - began:.0f} s\n"
            )
            sys.stdout.flush()

    tries = Tries(tuple(RACES), arguments.timings, arguments.seed, watch=watch)
    stack = start_run_stack()
    try:
        asyncio.run(_all(stack, tries))
    finally:
        stack.stop()
        time.sleep(0.3)  # the SDK aborts now and then when a process ends right after a worker
    lines = [f"cancel against {name}: {_counts(ends)}" for name, ends in sorted(tries.ends.items())]
    seeds = f"seeds {tries.seed} to {tries.seed + tries.timings - 1}"
    last = f"{tries.done} timings, {seeds}, {time.monotonic() - began:.0f} s, {len(tries.problems)} problems"
    sys.stdout.write("\n".join([*tries.problems, *lines, last]) + "\n")
    return 1 if tries.problems else 0


def _counts(ends: Counter[str]) -> str:
    return "; ".join(f"{count} times {end}" for end, count in ends.most_common())


async def _all(stack: RunStack, tries: Tries) -> None:
    await tries.run(await stack.new_site())


if __name__ == "__main__":
    sys.exit(main())
