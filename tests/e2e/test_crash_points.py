"""A worker is killed at every stage of every activity and every command, one order each; every order still ends.

The tables are held against the registries: an activity or a command that nobody wrote cells for fails here.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple

import pytest
from temporalio import activity

from activities.contract import Stage
from providers.catalog import ProviderChoice, make_providers
from providers.simulation import Simulation
from store.checks import Checked, run_checks
from store.engine import make_engine
from tests.support import journeys
from tests.support.failpoints import Failpoints, dying_worker
from tests.support.journeys import Journey
from tests.support.outlet import provider_objects
from tests.support.shop import Order, Shop
from tests.support.stack import RunStack, Site
from worker import make_activities
from workflows.order_desk import COMMANDS

pytestmark = pytest.mark.timeout(1800)  # the first cell waits for all of them
AT_ONCE = 24
TRIES = 3
"""Another order's death can carry a worker past a point: then the cell gets another order."""
START, WRITTEN, COMMITTED, END = Stage.BEFORE_EFFECT, Stage.AFTER_EFFECT, Stage.AFTER_COMMIT, Stage.BEFORE_REPORT
OWN = (START, WRITTEN, END)  # one transaction: before it, inside it, after it
CALL = (START, WRITTEN, COMMITTED, END)  # a provider's reply between claim and settlement
ASKED = (START, END)  # nothing of ours is written

PAID = (("authorization", 1500), ("capture", 1500))
SENT = (*PAID, ("label", 0), ("release", 0))
LET_GO = (("authorization", 1500), ("release", 0), ("stop", 0), ("void", 1500))
DELIVERED = Journey(journeys.deliver, "completed", SENT)
CANCELLED = Journey(journeys.cancel_at_node, "cancelled", LET_GO)
KEPT = Journey(journeys.cancel_without_refund, "cancelled", (*PAID, ("release", 0), ("stop", 0)))
CANCELLED_PACKED = Journey(journeys.cancel_packed, "cancelled", (*LET_GO, ("label", 0), ("label_void", 0)))
NOT_STOPPED = Journey(journeys.cancel_in_vain, "completed", SENT, controls=(("warehouses.stop", "too_late"),))
REFUNDED = Journey(journeys.cancel_captured, "cancelled", (*PAID, ("refund", 1500), ("release", 0), ("stop", 0)))
LAPSED = Journey(journeys.lapse_and_pay, "completed", SENT, pay="pm_declined", shop="hasty")
HELD = Journey(journeys.hold_and_release, "completed", SENT)
HELD_BACK = Journey(journeys.hold_and_reject, "cancelled", LET_GO)
WAITED = Journey(journeys.wait_for_supply, "completed", SENT, item="VASE")
REJECTED = Journey(journeys.reject, "completed", (*SENT, ("release", 0)))
MORE = (("authorization", 1000), ("authorization", 1500), ("capture", 1000), ("capture", 1500))
CHANGED = Journey(
    journeys.change_at_node, "completed", (*MORE, ("label", 0), ("release", 0), ("release", 0), ("stop", 0))
)
NOT_CHANGED = Journey(journeys.change_in_vain, "completed", SENT)
LEFT = Journey(journeys.leave, "completed", (*SENT, ("release", 0), ("stop", 0)))
FORCED = Journey(
    journeys.force,
    "cancelled",
    (("authorization", 1500), ("label", 0), ("label_void", 0), ("release", 0), ("void", 1500)),
)
WRITTEN_OFF = Journey(
    journeys.write_off,
    "cancelled",
    (("authorization", 1500), ("capture", 500), ("release", 0), ("stop", 0), ("void", 1000)),
)
LOST = Journey(journeys.lose, "completed", (*SENT, ("label", 0), ("release", 0)))
BROUGHT_BACK = Journey(journeys.bring_back, "completed", (*SENT, ("refund", 1500)))
RECALLED = Journey(journeys.recall, "completed", (*SENT, ("recall", 0), ("refund", 1500)))
NOT_RECALLED = Journey(journeys.recall_in_vain, "completed", SENT, controls=(("carriers.recall", "too_late"),))
TOLD = Journey(journeys.hear_of_supply, "completed", SENT, before=journeys.look_in_vain, item="VASE", shop="own")
CHOSEN = Journey(journeys.lose_and_choose, "completed", (*SENT, ("refund", 1500)), shop="asking")
REFUSED = Journey(journeys.refuse_and_retry, "completed", SENT, controls=(("warehouses.decline", 1),))

POINTS: Mapping[str, tuple[tuple[Stage, ...], Journey]] = {
    "stock.reserve": (OWN, DELIVERED),
    "stock.allocate": (OWN, DELIVERED),
    "stock.expire": (OWN, LAPSED),
    "stock.cancel": (OWN, KEPT),
    "supply.fill": (OWN, WAITED),
    "payments.authorize": (CALL, DELIVERED),
    "payments.capture": (CALL, DELIVERED),
    "payments.void": (CALL, CANCELLED),
    "payments.refund": (CALL, REFUNDED),
    "shipments.release": (CALL, DELIVERED),
    "shipments.report": (OWN, DELIVERED),
    "shipments.short": (OWN, REJECTED),
    "shipments.book": (CALL, DELIVERED),
    "shipments.hand_over": (OWN, DELIVERED),
    "shipments.scan": (OWN, BROUGHT_BACK),
    "shipments.stop": (ASKED, CANCELLED),
    "shipments.stop_declined": (OWN, NOT_STOPPED),
    "shipments.void_label": (OWN, CANCELLED_PACKED),
    "parcels.make_good": (OWN, LOST),
    "recalls.ask": (ASKED, RECALLED),
    "recalls.decline": (OWN, NOT_RECALLED),
    "records.open_command": (ASKED, CANCELLED),
    "records.hear": (ASKED, RECALLED),
    "records.settle_command": (OWN, REFUSED),
    "records.open_case": (OWN, REFUSED),
    "records.place_hold": (OWN, HELD),
    "records.end_hold": (OWN, HELD_BACK),
    "amendments.preview": (ASKED, CHANGED),
    "amendments.begin": (OWN, CHANGED),
    "amendments.take_back": (OWN, CHANGED),
    "amendments.apply": (OWN, CHANGED),
    "amendments.decline": (OWN, NOT_CHANGED),
    "leaving.look": (ASKED, LEFT),
    "leaving.recall": (OWN, LEFT),
    "leaving.settle": (OWN, LEFT),
    "closing.begin": (OWN, FORCED),
    "closing.end": (OWN, FORCED),
    "write_offs.write_off": (OWN, WRITTEN_OFF),
}
BY_COMMAND: Mapping[str, tuple[str, Journey]] = {
    "amend": ("amendments.apply", CHANGED),
    "cancel": ("stock.cancel", KEPT),
    "carrier_event": ("shipments.scan", BROUGHT_BACK),
    "choose_remedy": ("records.settle_command", CHOSEN),
    "force_close": ("closing.begin", FORCED),
    "leave_node": ("records.settle_command", LEFT),
    "node_report": ("shipments.report", DELIVERED),
    "payment_event": ("records.settle_command", LAPSED),
    "place_hold": ("records.place_hold", HELD),
    "release_hold": ("records.end_hold", HELD_BACK),
    "retry_now": ("records.settle_command", REFUSED),
    "supply_arrived": ("supply.fill", TOLD),
    "write_off": ("write_offs.write_off", WRITTEN_OFF),
}
"""The transaction in which a command has its effect and its outcome, and a journey in which it is sent."""
OF_NO_ORDER = frozenset({"records.sweep", "notifications.deliver"})
"""Chores: the outages of the engine are the test of the sweep, `test_notices.py` has the cells of the outbox."""


class Cell(NamedTuple):
    """Where the worker dies, and in the course of what."""

    name: str
    stage: Stage
    journey: Journey

    def __str__(self) -> str:
        return f"{self.name}-{self.stage}-{self.journey.travel.__name__}"


CELLS = [Cell(name, stage, journey) for name, (stages, journey) in POINTS.items() for stage in stages]
CELLS += [Cell(name, stage, journey) for name, journey in BY_COMMAND.values() for stage in OWN]
CELLS = list(dict.fromkeys(CELLS))


@dataclass(frozen=True)
class Ended:
    """How an order ended whose worker was killed."""

    struck: bool
    status: str
    effects: tuple[tuple[str, int], ...]
    same_digest: bool


@dataclass(frozen=True)
class Matrix:
    """All cells of one run."""

    cells: Mapping[Cell, Ended | BaseException]
    travelled: Sequence[Journey]
    checked: Checked
    outcomes: Mapping[str, Set[str]]  # what became of the commands of each kind


@pytest.fixture(scope="module")
async def matrix(breakable_stack: RunStack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Matrix]:
    """Every cell, two dozen orders at once, on engines of their own."""
    site = await breakable_stack.new_site()
    folder = tmp_path_factory.mktemp("points")
    engine = make_engine(site.settings().dsn, 10)
    simulation = Simulation(site.simulated_state)
    client = await site.connect()

    async def opened(carrier_trouble: dict[str, str] | None = None, **rules: object) -> Shop:
        shop = await Shop(client, engine, simulation).opens(carrier_trouble, **rules)
        await shop.stocks("LAMP", EAST=len(CELLS) * TRIES, WEST=len(CELLS))
        await shop.lets_wait("VASE")
        return shop

    usual = await opened(backorder_retry_s=3)
    hasty = await opened(reservation_limit_s=1, hold_through_payment_window=False)
    shops = {"usual": usual, "hasty": hasty, "asking": await opened({"lost": "ask"})}
    gate = asyncio.Semaphore(AT_ONCE)
    travelled: list[Journey] = []
    with dying_worker(site, folder) as points:

        async def one(cell: Cell) -> Ended:
            async with gate:
                for _ in range(TRIES):
                    travelled.append(cell.journey)
                    ended = await _travel(shops.get(cell.journey.shop) or await opened(), cell, points)
                    if ended.struck or ended != _as_wanted(cell.journey, struck=False):
                        break
            return ended

        ends = await asyncio.gather(*(one(cell) for cell in CELLS), return_exceptions=True)
        checked = await run_checks(engine, lambda: provider_objects(simulation))
        told = await usual.sql("SELECT kind, array_agg(DISTINCT state) AS states FROM commands GROUP BY kind")
    outcomes = {row["kind"]: frozenset(row["states"]) for row in told}
    yield Matrix(dict(zip(CELLS, ends, strict=True)), travelled, checked, outcomes)
    simulation.close()
    await engine.dispose()


async def _travel(shop: Shop, cell: Cell, points: Failpoints) -> Ended:
    journey = cell.journey
    placed = shop.order((journey.item, 1), pay=journey.pay)
    for name, value in journey.controls:
        shop.control(placed, name, value)
    workflow_id = f"order-{placed.order_id}"
    if journey.before is None:
        points.arm(workflow_id, cell.name, cell.stage)
    order: Order = await journeys.begin(shop, placed)
    if journey.before is not None:
        await journey.before(shop, order)
        points.arm(workflow_id, cell.name, cell.stage)
    await journey.travel(shop, order)
    closed = await asyncio.wait_for(order.handle.result(), journeys.PATIENCE_S)
    effects = tuple(sorted((e.kind, e.amount_minor) for e in shop.simulation.effects(order.id)))
    digest = (await shop.header(order))["state_digest"]
    return Ended(points.struck(workflow_id), closed.status, effects, digest == closed.digest)


def _as_wanted(journey: Journey, *, struck: bool) -> Ended:
    return Ended(struck, journey.status, tuple(sorted(journey.effects)), same_digest=True)


def test_every_activity_has_its_cells(site: Site) -> None:
    """A new activity without cells fails here."""
    engine = make_engine(site.settings().dsn, 1)
    with make_providers(ProviderChoice(simulated_state=site.simulated_state)) as providers:
        registered = make_activities(engine, providers, (), "allow")
    names = {activity._Definition.must_from_callable(one).name for one in registered}
    assert names == set(POINTS) | OF_NO_ORDER


def test_every_command_has_its_cells() -> None:
    """A new command without cells fails here."""
    assert set(BY_COMMAND) == set(COMMANDS)


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_an_order_survives_the_death_of_its_worker(matrix: Matrix, cell: Cell) -> None:
    """It ends as it should, and everything at the providers happened exactly once."""
    ended = matrix.cells[cell]
    if isinstance(ended, BaseException):
        raise ended
    assert ended == _as_wanted(cell.journey, struck=True)


@pytest.mark.parametrize("kind", sorted(COMMANDS))
def test_commands_have_one_outcome_whoever_dies(matrix: Matrix, kind: str) -> None:
    """Those of this kind that were sent again and again under their ids, and were answered, are recorded as applied."""
    assert matrix.outcomes[kind] == {"applied"}


def test_every_law_holds_afterwards(matrix: Matrix) -> None:
    """Nothing is found but the money that was taken at the console, behind our back: each time, and by both laws."""
    outside = sum(journey in (REFUNDED, WRITTEN_OFF) for journey in matrix.travelled)
    found = {verdict.name: verdict.count for verdict in matrix.checked.verdicts if verdict.count}
    assert found == {"object_without_intent": outside, "tender_counters": outside}
    assert (matrix.checked.orders, matrix.checked.open_orders) == (len(matrix.travelled), 0)
