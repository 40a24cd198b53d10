"""The sweep: what was accepted while the engine was away is started and sent later, and nothing is given up early."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import BaseModel

from cli.client import AccordClient, OrderView
from cli.floor import Floor, Habits
from domain.orders import SYSTEM, CancelReason, CarrierEventType, PlaceOrder
from store.commands import NewCommand, open_command
from store.engine import transaction
from store.intake import Asked
from tests.support.command import Folder
from tests.support.eventually import eventually
from tests.support.outlet import Outlet
from tests.support.serving import serving
from tests.support.shop import Order, Shop
from tests.support.stack import RunStack, Site
from worker import make_sweep
from workflows.messages import CancelOrder, CarrierEvent, OrderClosed, ScanOutcome

DAYS = 7
SCANNED_AT = datetime(2026, 11, 24, 10, tzinfo=UTC)
TOO_MUCH = "x" * 3_000_000
"""More than the engine takes as the argument of a workflow."""


@pytest.fixture
async def quiet(new_site: Callable[[], Awaitable[Site]]) -> Site:
    """An installation that nobody serves until a test does."""
    return await new_site()


@pytest.fixture
async def shop(quiet: Site) -> AsyncIterator[Shop]:
    """A shop on it, with ten lamps."""
    async with serving(quiet, start=False) as make:
        shop = await make().opens()
        await shop.stocks("LAMP", EAST=10)
        yield shop


async def _taken_in(shop: Shop, **changes: str) -> Order:
    """An order that the front end has stored and nobody has started."""
    placed: PlaceOrder = shop.order(("LAMP", 1)).model_copy(update=changes)
    assert await shop.takes_in(placed, placed.order_number)
    return Order(placed, shop.client.get_workflow_handle(f"order-{placed.order_id}", result_type=OrderClosed))


async def _left(shop: Shop, order: Order, kind: str, command_id: str, content: BaseModel) -> None:
    """A command that was stored and has not reached its order."""
    new = NewCommand(order.id, command_id, kind, content.model_dump_json(), SYSTEM)
    await transaction(shop.engine, lambda c: open_command(c, Asked("stories", kind, None, b""), new, 1.0))


def _scan(event_id: str, shipment_id: str) -> CarrierEvent:
    return CarrierEvent(
        command_id=event_id,
        shipment_id=shipment_id,
        event_id=event_id,
        type=CarrierEventType.OUT_FOR_DELIVERY,
        occurred_at=SCANNED_AT,
    )


async def _sweeps(shop: Shop, *, orders: bool = True) -> tuple[int, int]:
    """One sweep for which everything is due; without `orders` no order is."""
    if orders:
        await shop.sql("UPDATE intake SET next_start_at = now()")
    await shop.sql("UPDATE commands SET next_send_at = now() WHERE NOT delivered")
    return await make_sweep(shop.engine, shop.client, DAYS)()


async def _waiting(shop: Shop) -> list[tuple[str, str]]:
    """Commands that the engine does not have for good, by id, with their state."""
    rows = await shop.sql("SELECT command_id, state FROM commands WHERE NOT delivered ORDER BY command_id")
    return [(row["command_id"], row["state"]) for row in rows]


async def test_a_command_waits_for_an_order_that_is_not_started_yet(quiet: Site, shop: Shop) -> None:
    """No workflow is no answer: the command stays due until the order is there, then it is carried out."""
    # given
    order = await _taken_in(shop)
    await _left(shop, order, "cancel", "cancel-1", CancelOrder(command_id="cancel-1"))
    # when
    assert await _sweeps(shop, orders=False) == (0, 0)
    # then
    assert await _waiting(shop) == [("cancel-1", "received")]
    # and when
    assert await _sweeps(shop) == (1, 1)
    # then
    assert await _waiting(shop) == []
    async with serving(quiet):
        assert (await order.handle.result()).status == "cancelled"
        assert (await shop.command(order, "cancel-1"))["outcome"]["state"] == "confirmed"


async def test_a_command_for_an_open_order_without_a_workflow_is_not_given_up(quiet: Site, shop: Shop) -> None:
    """Somebody terminated it in the Temporal UI: the order is not over, so nothing is refused in its name."""
    # given
    async with serving(quiet):
        order = await shop.place(("LAMP", 1))
        await shop.released(order)
    await order.handle.terminate("by hand")
    await _left(shop, order, "cancel", "cancel-1", CancelOrder(command_id="cancel-1"))
    # when
    assert await _sweeps(shop) == (0, 0)
    # then
    assert await _waiting(shop) == [("cancel-1", "received")]


async def test_what_comes_after_the_end_is_settled_a_fact_is_kept_a_wish_is_refused(quiet: Site, shop: Shop) -> None:
    """The carrier's event is stored and changes nothing; the cancellation is refused and points to a return."""
    # given
    async with serving(quiet):
        order = await shop.place(("LAMP", 1))
        closed = await shop.sees_through(order)
    (part,) = await shop.parts(order)
    await _left(shop, order, "carrier_event", "late-1", _scan("late-1", part["shipment_id"]))
    await _left(shop, order, "cancel", "late-2", CancelOrder(command_id="late-2", reason=CancelReason.OTHER))
    before = await shop.scans(order)
    # when
    assert await _sweeps(shop) == (0, 0)
    # then
    assert await _waiting(shop) == []
    kept = await shop.command(order, "late-1")
    assert (kept["state"], ScanOutcome.model_validate(kept["outcome"])) == (
        "applied",
        ScanOutcome(
            applied=False,
            duplicate=False,
            shipment_id=part["shipment_id"],
            state="delivered",
            order_version=closed.order_version,
            why="the order is closed",
        ),
    )
    assert await shop.scans(order) == [*before, ("out_for_delivery", False, "the order is closed")]
    refused = await shop.command(order, "late-2")
    assert refused["state"] == "refused"
    assert refused["outcome"] == {
        "code": "order_closed",
        "detail": "The order is completed. quoteReturn says what comes back for goods that do.",
        "alternative": "return",
        "state": "completed",
        "lines": [],
    }
    await shop.agrees(order)


async def test_an_outcome_stands_when_its_order_is_over(quiet: Site, shop: Shop) -> None:
    """A scan of a parcel that nobody knows was refused: noted as delivered now, and not kept as a late fact."""
    # given
    async with serving(quiet):
        order = await shop.place(("LAMP", 1))
        await shop.signal(order, "carrier_event", _scan("scan-1", "shp_nobody").model_dump(mode="json"))
        await shop.command(order, "scan-1")
        await shop.sees_through(order)
    before = await shop.commands(order), await shop.scans(order)
    await shop.sql("UPDATE commands SET delivered = false")
    assert ("scan-1", "refused") in await _waiting(shop)
    # when
    assert await _sweeps(shop) == (0, 0)
    # then
    assert await _waiting(shop) == []
    assert (await shop.commands(order), await shop.scans(order)) == before


async def test_one_order_that_cannot_be_started_keeps_nobody_waiting(quiet: Site, shop: Shop) -> None:
    """The engine refuses the first one of three; the other two run, and the first stays due."""
    # given
    refused = await _taken_in(shop, region=TOO_MUCH)
    others = [await _taken_in(shop), await _taken_in(shop)]
    # when
    assert await _sweeps(shop) == (2, 0)
    # then
    async with serving(quiet):
        for order in others:
            await shop.released(order)
    left = await shop.sql("SELECT order_id, next_start_at > now() AS later FROM intake WHERE state = 'received'")
    assert left == [{"order_id": refused.id, "later": True}]


async def test_old_idempotency_records_are_forgotten(quiet: Site, shop: Shop) -> None:
    """Those beyond their days, and no younger ones."""
    for key, days in {"eight-days": 8, "six-days": 6, "fresh": 0}.items():
        await shop.sql(
            "INSERT INTO idempotency (principal, route, key, fingerprint, order_id, command_id, created_at)"
            " VALUES ('p', 'r', :k, '', 'o', 'c', now() - make_interval(days => :d))",
            k=key,
            d=days,
        )
    await _sweeps(shop)
    left = await shop.sql("SELECT key FROM idempotency ORDER BY created_at")
    assert [row["key"] for row in left] == ["six-days", "fresh"]


# --- the whole way ------------------------------------------------------------------------------------


@pytest.fixture
async def outlet(breakable_stack: RunStack) -> AsyncIterator[Outlet]:
    """Real processes on engines of their own, ten lamps; nobody waits longer than 3 s, records live for 3 days."""
    opened = await Outlet.opens(await breakable_stack.new_site(), EAST=10)
    opened.api.stop()
    opened.worker.stop()
    opened.api = opened.site.start_api(ACCORD_WAIT_MAX_S="3")
    opened.worker = opened.site.start_worker(ACCORD_IDEMPOTENCY_DAYS="3")
    yield opened
    await opened.closes()


async def test_what_came_while_temporal_was_down_reaches_its_end(
    outlet: Outlet, breakable_stack: RunStack, tmp_path: Path
) -> None:
    """Created and cancelled over HTTP, all answered 202: once the engine is back, every order ends as it should."""
    async with outlet.client("storefront") as storefront:
        # given
        earlier = await storefront.create_order(outlet.body(1), wait_s=15)
        await eventually(lambda: _at_its_node(storefront, earlier))
        outlet.worker.stop()
        breakable_stack.stop_temporal()
        # when
        created = await storefront.create_order(outlet.body(2))
        regretted = await storefront.create_order(outlet.body(3))
        cancelled = [await storefront.cancel(order.id, "changed_mind") for order in (earlier, regretted)]
        waiting = _create_and_wait(outlet, tmp_path, units=1000)
        await eventually(lambda: _all_answered(outlet, 3))
        # then
        assert [order.status for order in (created, regretted)] == ["received", "received"]
        assert [cancellation.state for cancellation in cancelled] == ["requested", "requested"]
        # and when
        breakable_stack.start_temporal()
        outlet.worker.restart()
        await _sweeps_by_schedule(outlet)
        await _floor_works_until_all_have_ended(outlet)
        # then
        ends = [(await storefront.get_order(order.id)).status for order in (earlier, created, regretted)]
        assert ends == ["cancelled", "completed", "cancelled"]
        printed, _ = waiting.communicate(timeout=60)
        assert waiting.returncode == 3, printed
        assert '"status": "rejected"' in printed
    checked = await outlet.check()
    assert checked.violations == 0, [verdict for verdict in checked.verdicts if verdict.count]
    assert await outlet.shop.sql("SELECT 1 FROM idempotency WHERE key = 'old'") == []


async def _at_its_node(client: AccordClient, order: OrderView) -> bool:
    return ((await client.get_order(order.id)).wait or {}).get("waiting_on") == "node"


async def _all_answered(outlet: Outlet, count: int) -> bool:
    """So many orders are taken in, and the front end keeps no caller waiting any more."""
    taken_in = await outlet.shop.sql("SELECT 1 FROM intake WHERE state = 'received'")
    waiting = await outlet.shop.sql("SELECT 1 FROM idempotency WHERE answering_until > now()")
    return (len(taken_in), len(waiting)) == (count, 0)


def _create_and_wait(outlet: Outlet, folder: Path, units: int) -> subprocess.Popen[str]:
    """Somebody orders more than there is from the command line, and waits for the answer."""
    (folder / "order.json").write_text(json.dumps(outlet.body(units)))
    wait = ("orders", "create", "order.json", "--wait", "120", "--json")
    return Folder(folder).start(*wait, ACCORD_API_URL=outlet.api.url, ACCORD_API_KEY=outlet.site.keys["storefront"])


async def _sweeps_by_schedule(outlet: Outlet) -> None:
    """Everything is due, an idempotency record is old, and the worker's own schedule runs until all is sent."""
    await outlet.shop.sql("UPDATE intake SET next_start_at = now() - interval '1 s'")
    await outlet.shop.sql("UPDATE commands SET next_send_at = now() - interval '1 s'")
    await outlet.shop.sql(
        "UPDATE idempotency SET key = 'old', created_at = now() - interval '4 days' WHERE key = ("
        "SELECT min(key) FROM idempotency)"
    )
    await outlet.shop.client.get_schedule_handle("accord-sweep").trigger()

    async def sent() -> bool:
        return not await _waiting(outlet.shop)

    await eventually(sent, within_s=40)


async def _floor_works_until_all_have_ended(outlet: Outlet) -> None:
    over = asyncio.Event()

    async def ended() -> bool:
        return await outlet.open_orders() == 0

    async with outlet.client("warehouse") as warehouse:
        working = asyncio.create_task(Floor(warehouse, Habits()).run(over.is_set))
        await eventually(ended, within_s=60)
        over.set()
        await working
