"""Posts retail orders, sees each through to its end, and accounts for all of them."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from cli.checking import CheckReport, check_everything
from cli.client import OPEN, AccordClient, ApiProblem, OrderView
from cli.floor import Floor, Habits
from cli.retail_plan import (
    CHANNEL,
    CURRENCY,
    PAYS,
    Moment,
    PlannedAmendment,
    PlannedCancel,
    PlannedChange,
    PlannedOrder,
    RetailPlan,
)
from cli.retail_report import (
    RetailReport,
    amounts_of,
    file_facts,
    floor_facts,
    parcels_of,
    sourced_again,
    unbalanced,
    units_of,
)
from cli.seeding import seed_catalog
from settings import Settings
from store.engine import make_engine

_LOOK_EVERY_S = 0.4
_STALL_S = 300.0
_ALL = 10_000
_PAYMENT_TRIES = 20


@dataclass
class Tracked:
    """An order that was posted and has not ended yet. The end sets the other events too: who waits goes on."""

    planned: PlannedOrder
    order: OrderView
    posted_at: float
    at_node: asyncio.Event = field(default_factory=asyncio.Event)
    on_its_way: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    payment_tries: int = 0

    def end(self) -> None:
        """The order is over."""
        for event in (self.ended, self.at_node, self.on_its_way):
            event.set()


@dataclass
class RunCounts:
    """What happened so far."""

    posted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    cancellations: Counter[str] = field(default_factory=Counter)
    moments: Counter[str] = field(default_factory=Counter)
    amendments: Counter[str] = field(default_factory=Counter)
    units_in_parts: int = 0
    payments: Counter[str] = field(default_factory=Counter)
    last_end: float = 0.0


class RetailRun:
    """Posts the planned orders, a bounded number under way at once, and sees each through to its end."""

    def __init__(self, shop: AccordClient, plan: RetailPlan, concurrency: int, tick: Callable[[], None]) -> None:
        self._shop = shop
        self._plan = plan
        self._gate = asyncio.Semaphore(concurrency)
        self._tick = tick
        self._open: dict[str, Tracked] = {}
        self._done = False
        self.mine: dict[str, str] = {}  # order id -> its invoice
        self.ended: list[OrderView] = []
        self.counts = RunCounts()

    @property
    def done(self) -> bool:
        """Whether every order has ended, or the run has given up."""
        return self._done

    @property
    def still_open(self) -> list[OrderView]:
        """Orders that did not end."""
        return [tracked.order for tracked in self._open.values()]

    async def run(self) -> None:
        """Post everything and wait for every end; gives up when nothing has ended for five minutes."""
        looking = asyncio.create_task(self._look())
        seeing = [asyncio.create_task(self._see_through(planned)) for planned in self._plan.orders]
        through = asyncio.gather(*seeing)
        try:
            await asyncio.wait((looking, through), return_when=asyncio.FIRST_COMPLETED)
            if through.done():
                await through
            else:
                await looking  # it has given up, or it has failed
        finally:
            self._done = True
            for task in (looking, *seeing):
                task.cancel()
            await asyncio.gather(looking, through, return_exceptions=True)

    async def _see_through(self, planned: PlannedOrder) -> None:
        async with self._gate:
            self.counts.posted += 1
            posted_at = time.monotonic()
            try:
                order = await self._shop.create_order(planned.body, planned.key)
            except ApiProblem as problem:
                self._refused(problem)
                return
            tracked = Tracked(planned, order, posted_at)
            self.mine[order.id] = planned.invoice
            self._open[order.id] = tracked
            await asyncio.gather(*(self._change_mind(tracked, change) for change in planned.changes))
            await tracked.ended.wait()
            await self._close(tracked)

    def hear(self, order_id: str, step: str) -> None:
        """The floor tells what happens to an order."""
        tracked = self._open.get(order_id)
        if tracked is not None:
            (tracked.at_node if step == "packing" else tracked.on_its_way).set()

    async def _change_mind(self, tracked: Tracked, change: PlannedChange) -> None:
        """Wait for the moment of a change, then ask for it. Every kind of change is sent from here."""
        match change.moment:
            case Moment.AT_NODE:
                await tracked.at_node.wait()
            case Moment.ON_ITS_WAY:
                await tracked.on_its_way.wait()
            case Moment.LATE:
                await tracked.ended.wait()
            case _:
                pass
        await asyncio.sleep(change.after_s)
        if isinstance(change, PlannedAmendment):
            await self._amend(tracked, change)
            return
        accepted = await self._cancel(tracked, "changed_mind", change)
        self.counts.moments[f"{change.moment}_{'accepted' if accepted else 'refused'}"] += 1

    async def _amend(self, tracked: Tracked, change: PlannedAmendment) -> None:
        """Wish for another quantity; what costs more is paid by a reference that goes through."""
        wish = {"op": "set_quantity", "line": change.line, "quantity": change.quantity}
        self.counts.amendments["sent"] += 1
        try:
            done = await self._shop.amend(
                tracked.order.id, {"changes": [wish], "reference": PAYS}, f"{tracked.planned.key}-amend"
            )
        except ApiProblem as problem:
            self.counts.amendments[f"refused_{problem.reason}"] += 1
        else:
            self.counts.amendments[f"answered_{done.state}"] += 1

    async def _cancel(self, tracked: Tracked, reason: str, planned: PlannedCancel | None = None) -> bool:
        """Send a cancellation, of everything or as planned; False when it was refused, or its node declined."""
        key = f"{tracked.planned.key}-{planned.invoice if planned else 'cancel'}"
        lines = planned.lines if planned else ()
        self.counts.cancellations["sent"] += 1
        try:
            outcome = await self._shop.cancel(tracked.order.id, reason, key, lines)
        except ApiProblem as problem:
            self.counts.cancellations[f"refused_{problem.reason}"] += 1
            return False
        self.counts.cancellations[f"answered_{outcome.state}"] += 1
        if lines:
            self.counts.units_in_parts += sum(line["cancelled"] for line in outcome.lines)
        return outcome.state != "declined"

    async def _close(self, tracked: Tracked) -> None:
        order = await self._shop.get_order(tracked.order.id)
        self._open.pop(order.id, None)
        self.counts.last_end = time.monotonic()
        self._tick()
        if order.status == "rejected":
            reason = (order.document.get("rejection") or {}).get("code", "rejected")
            self.counts.refused[reason] += 1
        else:
            self.ended.append(order)

    def _refused(self, problem: ApiProblem) -> None:
        codes = sorted({finding["code"] for finding in problem.document.get("errors") or []})
        self.counts.refused["+".join(codes) or problem.reason] += 1
        self.counts.last_end = time.monotonic()
        self._tick()

    async def _look(self) -> None:
        """Find out which orders have ended, and pay again or give up where a payment was declined."""
        began = time.monotonic()
        while time.monotonic() - max(began, self.counts.last_end) < _STALL_S:
            await asyncio.sleep(_LOOK_EVERY_S)
            asked_at = time.monotonic()
            still = {o.id: o for o in await self._shop.list_orders(_ALL, status=OPEN, channel=CHANNEL)}
            for order_id, tracked in list(self._open.items()):
                found = still.get(order_id)
                if found is None and tracked.posted_at < asked_at:
                    tracked.end()
                elif found is not None and found.waiting_on == "customer":
                    await self._handle_decline(tracked)

    async def _handle_decline(self, tracked: Tracked) -> None:
        """The customer pays by another reference, or gives the order up.

        The database can know of the decline a moment before the order itself does: then the order says
        `not_yet`, and the next look tries again.
        """
        tracked.payment_tries += 1
        if tracked.payment_tries > _PAYMENT_TRIES:
            return
        if tracked.planned.reference == "pm_declined":
            if await self._cancel(tracked, "other"):
                self.counts.payments["given_up"] += 1
            return
        key = f"{tracked.planned.key}-pay-{tracked.payment_tries}"
        try:
            await self._shop.add_tender(tracked.order.id, "pm_ok", key)
        except ApiProblem as problem:
            self.counts.payments[f"refused_{problem.reason}"] += 1
        else:
            self.counts.payments["paid_again"] += 1


async def play(
    settings: Settings,
    plan: RetailPlan,
    shop: AccordClient,
    floor_client: AccordClient,
    concurrency: int,
    habits: Habits,
    tick: Callable[[], None] = lambda: None,
) -> RetailReport:
    """Count the stock, run everything to its end, check the laws and account for the result."""
    engine = make_engine(settings.dsn, pool_size=1, statement_timeout_ms=120_000)
    try:
        await seed_catalog(engine, f"retail:{plan.run_id}", plan.names, plan.counts)
    finally:
        await engine.dispose()
    async with shop, floor_client:
        run = RetailRun(shop, plan, concurrency, tick)
        floor = Floor(floor_client, habits, run.mine, run.hear)
        began = time.monotonic()
        await _both(asyncio.create_task(run.run()), asyncio.create_task(floor.run(lambda: run.done)))
        seconds = max(run.counts.last_end, began) - began
        repeats = shop.repeats + floor_client.repeats
    check = await check_everything(settings, sample=len(run.mine), order_ids=sorted(run.mine))
    return _report(plan, run, floor, seconds, repeats, check)


async def _both(run: asyncio.Task[None], floor: asyncio.Task[None]) -> None:
    """Run both to their end. When one fails, the other is stopped and the failure is raised."""
    try:
        await asyncio.gather(run, floor)
    finally:
        for task in (run, floor):
            task.cancel()
        await asyncio.gather(run, floor, return_exceptions=True)


def _report(
    plan: RetailPlan, run: RetailRun, floor: Floor, seconds: float, repeats: int, check: CheckReport
) -> RetailReport:
    accepted = [*run.ended, *run.still_open]
    parcels = parcels_of(run.ended)
    refused = dict(sorted(run.counts.refused.items()))
    cancellations = {f"invoice_{state}": count for state, count in sorted(plan.matches.items())}
    return RetailReport(
        run=plan.run_id,
        file=file_facts(plan),
        posted=run.counts.posted,
        accepted=len(accepted),
        refused=refused,
        completed=sum(order.status == "completed" for order in run.ended),
        cancelled=sum(order.status == "cancelled" for order in run.ended),
        still_open=len(run.still_open),
        cancellations=cancellations | dict(sorted(run.counts.cancellations.items())),
        moments=dict(sorted(run.counts.moments.items())),
        amendments=dict(sorted(run.counts.amendments.items())),
        units_cancelled_in_parts=run.counts.units_in_parts,
        parcels_sourced_again=sourced_again(run.ended),
        payments=_payments(plan) | dict(run.counts.payments),
        parcels=sum(parcels),
        split_rate=round(sum(count > 1 for count in parcels) / len(parcels), 4) if parcels else 0.0,
        units=units_of(run.ended),
        money=amounts_of(run.ended),
        currency=CURRENCY,
        floor=floor_facts(floor.counts),
        repeated_requests=repeats,
        seconds=round(seconds, 2),
        orders_per_s=round(run.counts.posted / seconds, 3) if seconds else 0.0,
        unbalanced=unbalanced(run.counts.posted - len(run.still_open), sum(refused.values()), run.ended),
        check=check,
    )


def _payments(plan: RetailPlan) -> dict[str, int]:
    """How many orders were sent with which payment reference."""
    return dict(sorted(Counter(order.reference for order in plan.orders).items()))
