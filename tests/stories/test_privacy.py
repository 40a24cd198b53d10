"""Who the customer is stays in the vault: no history, attribute, timeline or log of an order tells."""

import io
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import NamedTuple

import pytest
import structlog

from providers.catalog import Providers
from providers.outcomes import Outcome
from providers.warehouses import (
    ReleaseLookUp,
    ReleaseRequest,
    ShipTo,
    StopLookUp,
    StopOutcome,
    StopRequest,
    WarehouseProvider,
)
from tests.support.notices import RecordingNotifications
from tests.support.serving import serving
from tests.support.shop import Order, Shop
from tests.support.stack import Site

CANARIES = ("Canarina", "Kestrelhof", "Turnstone Alley", "canary@birds.example", "Sanderlingstadt", "+15550100177")
PERSONAL = {
    "customer": {"name": f"{CANARIES[0]} {CANARIES[1]}", "email": CANARIES[3], "phone": CANARIES[5]},
    "ship_to": {
        "name": f"{CANARIES[0]} {CANARIES[1]}",
        "lines": [f"12 {CANARIES[2]}", "Backyard"],
        "city": CANARIES[4],
        "region": "MA",
        "postal_code": "02139",
        "country": "US",
    },
}


def _seen_in(text: str) -> list[str]:
    return [canary for canary in CANARIES if canary in text]


async def _journey(shop: Shop) -> tuple[Order, Order]:
    """One order to the door with a decline, a lost answer and an unreadable signal; one cancelled at the node."""
    await shop.stocks("LAMP", EAST=5)
    through, stopped = shop.order(("LAMP", 2), pay="pm_decline_once"), shop.order(("LAMP", 1))
    for placed in (through, stopped):
        assert await shop.takes_in(placed, f"WEB-{placed.order_number}", PERSONAL)
    shop.control(through, "warehouses.lose_reply", 1)
    first, second = await shop.submit(through), await shop.submit(stopped)
    await shop.becomes(first, wait_cause="payment_declined")
    await shop.retry(first)
    await shop.signal(first, "cancel", "garbage")
    await shop.released(second)
    await shop.cancel(second)
    await shop.sees_through(first)
    shop.control(first.placed, "notifications.lose_reply", 1)  # what fails is logged, as what was released
    shop.control(second.placed, "notifications.decline", 1)
    await shop.outbox_runs()
    return first, second


class RecordingWarehouses:
    """Passes everything on to the simulated warehouses, and keeps where they were told to ship to."""

    def __init__(self, inner: WarehouseProvider) -> None:
        self._inner = inner
        self.told: list[ShipTo | None] = []

    async def release(self, request: ReleaseRequest) -> Outcome:
        """Keep the address."""
        self.told.append(request.ship_to)
        return await self._inner.release(request)

    async def stop(self, request: StopRequest) -> StopOutcome:
        """Pass it on."""
        return await self._inner.stop(request)

    async def look_up(self, key: str) -> ReleaseLookUp:
        """Pass it on."""
        return await self._inner.look_up(key)

    async def look_up_stop(self, key: str) -> StopLookUp:
        """Pass it on."""
        return await self._inner.look_up_stop(key)


class Seen(NamedTuple):
    """Everything that the two orders left behind, as text and bytes."""

    told: list[ShipTo | None]
    written: str  # what customers read
    histories: bytes
    visibility: str
    tables: str
    logs: str


@pytest.fixture(scope="module")
async def seen(new_site: Callable[[], Awaitable[Site]]) -> Seen:
    """Play both orders on a site of their own, and collect what they left."""
    recorders: list[RecordingWarehouses] = []
    posts: list[RecordingNotifications] = []

    def record(providers: Providers) -> Providers:
        recorders.append(RecordingWarehouses(providers.warehouses))
        posts.append(RecordingNotifications(providers.notifications))
        return replace(providers, warehouses=recorders[0], notifications=posts[0])

    logs = io.StringIO()
    handler = logging.StreamHandler(logs)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        with structlog.testing.capture_logs() as events:
            async with serving(await new_site(), hook=record) as make:
                shop = await make().opens()
                orders = await _journey(shop)
                return Seen(
                    told=recorders[0].told,
                    written="".join(f"{post.address} {post.subject} {post.text}" for post in posts[0].requests),
                    histories=b"".join([await _history(order) for order in orders]) + await _chores(shop),
                    visibility=await _visibility(shop),
                    tables=await _tables(shop),
                    logs=logs.getvalue() + json.dumps(events, default=str),
                )
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


async def _history(order: Order) -> bytes:
    history = await order.handle.fetch_history()
    return b"".join(event.SerializeToString() for event in history.events)


async def _chores(shop: Shop) -> bytes:
    """The histories of the jobs that sent the notices."""
    found = b""
    async for run in shop.client.list_workflows("WorkflowType = 'Chore'"):
        history = await shop.client.get_workflow_handle(run.id).fetch_history()
        found += b"".join(event.SerializeToString() for event in history.events)
    return found


async def _visibility(shop: Shop) -> str:
    """Search attributes, memo and summaries of every workflow, as the server gives them to the UI."""
    return "".join([str(workflow.raw_info) async for workflow in shop.client.list_workflows()])


async def _tables(shop: Shop) -> str:
    """Every row of every table, and the sealed vault with them."""
    names = await shop.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    texts = []
    for name in (row["tablename"] for row in names):
        rows = await shop.sql(f'SELECT row_to_json(t)::text AS row FROM "{name}" t')  # noqa: S608 - from the catalog
        texts += [row["row"] for row in rows]
    return "".join(texts)


def test_the_node_is_told_where_to_ship_to(seen: Seen) -> None:
    """Else the canaries below would prove nothing."""
    assert len(seen.told) == 2  # the reply of one release was lost: the node was asked about it, not told again
    assert {place.city for place in seen.told if place} == {CANARIES[4]}


def test_the_customer_reads_their_own_name(seen: Seen) -> None:
    """Sent by mail, with everything that may stand nowhere else."""
    assert f"Hello {CANARIES[0]} {CANARIES[1]}," in seen.written
    assert CANARIES[3] in seen.written


def test_no_history_holds_personal_data(seen: Seen) -> None:
    """Neither as text nor in the bytes of a payload; the jobs that send notices included."""
    assert b"LAMP" in seen.histories
    assert b"notifications.deliver" in seen.histories
    assert _seen_in(seen.histories.decode("utf-8", "replace")) == []


def test_no_search_attribute_memo_or_summary_holds_personal_data(seen: Seen) -> None:
    """What operators can list, anybody at the console can read."""
    assert "OrderNumber" in seen.visibility
    assert _seen_in(seen.visibility) == []


def test_no_table_holds_personal_data_in_the_clear(seen: Seen) -> None:
    """Timeline, commands, cases, decisions: all of them, and the vault is sealed."""
    assert "order.confirmed" in seen.tables
    assert "sealed" in seen.tables
    assert _seen_in(seen.tables) == []


def test_no_log_holds_personal_data(seen: Seen) -> None:
    """The lost reply was logged as a warning, without the address that was in its request."""
    assert "outcome unknown" in seen.logs
    assert "notice.put_off" in seen.logs
    assert _seen_in(seen.logs) == []
