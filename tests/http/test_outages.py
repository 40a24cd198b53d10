"""What callers meet when something behind the API is away: 503 or 202 in time, never a 500."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import contextmanager

import httpx2
import psutil
import pytest

from store.engine import make_engine
from tests.http.conftest import stock_up
from tests.support.eventually import eventually
from tests.support.front_desk import FrontDesk, front_client, open_front
from tests.support.shop import Shop
from tests.support.stack import RunStack


@pytest.fixture(scope="module")
async def broken(breakable_stack: RunStack) -> AsyncIterator[FrontDesk]:
    """An API on engines of its own, to be killed; nobody polls."""
    site = breakable_stack.site
    settings = site.settings()
    engine = make_engine(settings.dsn, 3)
    client = await front_client(site)
    shop = await Shop(client, engine, None).opens()  # type: ignore[arg-type]
    await stock_up(shop)
    async with open_front(settings, client, shop) as front:
        yield front
    await engine.dispose()


async def test_temporal_down_is_a_202_and_the_order_is_kept(broken: FrontDesk, breakable_stack: RunStack) -> None:
    """Stored within two seconds, readable at once, due for the sweeper; a cancellation likewise."""
    storefront = await broken.known("storefront")
    warm = await storefront.post("/v1/orders", broken.order(("LAMP", 1)), {"prefer": "respond-async"})
    assert warm.status_code == 202
    breakable_stack.stop_temporal()
    try:
        took = []
        for preference in ({}, {"prefer": "wait=1"}, {"prefer": "respond-async"}):
            began = time.monotonic()
            answer = await storefront.post("/v1/orders", broken.order(("LAMP", 1)), preference)
            took.append(time.monotonic() - began)
            assert answer.status_code == 202, answer.text
            assert (await storefront.get(answer.headers["location"])).json()["status"] == "received"
        assert max(took) < 2.5
        path = f"/v1/orders/{warm.json()['id']}/cancellations"
        began = time.monotonic()
        cancelled = await storefront.post(path, {"reason": "other"})
        assert time.monotonic() - began < 3.5
        assert (cancelled.status_code, cancelled.json()["state"]) == (202, "requested")
        ready = (await broken.http.get("/readyz")).json()["checks"]
        assert (ready["database"]["ok"], ready["engine"]["ok"]) == (True, False)
        due = await broken.shop.sql(
            "SELECT 1 FROM intake WHERE order_id = :o AND state = 'received'", o=answer.json()["id"]
        )
        assert len(due) == 1
    finally:
        breakable_stack.start_temporal()


async def test_database_down_is_a_503_within_two_seconds(broken: FrontDesk, breakable_stack: RunStack) -> None:
    """Nothing was accepted, Retry-After says when, no exception text; afterwards everything goes on."""
    storefront = await broken.known("storefront")
    assert (await storefront.get("/v1/orders?limit=1")).status_code == 200
    body = broken.order(("LAMP", 1))
    breakable_stack.kill_postgres()
    try:
        for _ in range(3):
            began = time.monotonic()
            answers = await asyncio.gather(
                storefront.post("/v1/orders", body),
                storefront.get("/v1/orders?limit=1"),
                (await broken.known("storefront")).get("/v1/orders/ord_x"),
            )
            assert time.monotonic() - began < 3
            for answer in answers:
                assert answer.status_code == 503, answer.text
                assert answer.json()["type"] == "/problems/database-unavailable"
                assert answer.headers["retry-after"] == "2"
                assert not any(word in answer.text.lower() for word in ("psycopg", "sqlalchemy", "postgres", "select"))
        assert (await broken.http.get("/healthz")).status_code == 200
        assert (await broken.http.get("/readyz")).json()["checks"]["database"]["ok"] is False
    finally:
        breakable_stack.start_postgres()

    async def back() -> bool:
        return (await storefront.get("/v1/orders?limit=1")).status_code == 200

    await eventually(back)
    await broken.shop.engine.dispose()  # the test's own connections died too
    again = await storefront.post("/v1/orders", body, {"prefer": "respond-async"})
    assert again.status_code == 202
    rows = await broken.shop.sql("SELECT 1 FROM intake WHERE external_ref = :e", e=body["external_ref"])
    assert len(rows) == 1


@contextmanager
def hanging(stack: RunStack) -> Iterator[None]:
    """PostgreSQL stands still: connections stay open, new ones are taken by the kernel, and nobody answers."""
    postmaster = psutil.Process(stack.stack.children["postgres"].pid)
    stopped = [postmaster]
    postmaster.suspend()  # first, so that it starts no more children
    try:
        for child in postmaster.children(recursive=True):
            child.suspend()
            stopped.append(child)
        yield
    finally:
        for process in reversed(stopped):
            process.resume()


async def test_a_database_that_hangs_is_a_503_within_two_seconds(broken: FrontDesk, breakable_stack: RunStack) -> None:
    """One limit for both tries of a read, with a known caller and with one whose key must be looked up first."""
    storefront, unknown = await broken.known("storefront"), await broken.caller("storefront")
    body = broken.order(("LAMP", 1))
    await asyncio.gather(*(storefront.get("/v1/orders?limit=1") for _ in range(4)))  # connections to hang on

    async def took(request: Awaitable[httpx2.Response]) -> tuple[int, bool]:
        began = time.monotonic()
        answer = await request
        return answer.status_code, time.monotonic() - began < 2.6

    with hanging(breakable_stack):
        alone = await took(storefront.get("/v1/orders?limit=1"))
        several = await asyncio.gather(
            took(storefront.get("/v1/orders/number:1")),
            took(unknown.get("/v1/orders?limit=1")),
            took(storefront.post("/v1/orders", body)),
            took(broken.http.get("/readyz")),
        )
    assert [alone, *several] == [(503, True)] * 5

    async def back() -> bool:
        return (await storefront.get("/v1/orders?limit=1")).status_code == 200

    await eventually(back)
    taken = await storefront.post("/v1/orders", body, {"prefer": "respond-async"})
    assert taken.status_code == 202
    rows = await broken.shop.sql("SELECT 1 FROM intake WHERE external_ref = :e", e=body["external_ref"])
    assert len(rows) == 1


async def test_idle_connections_broken_by_a_restart_are_not_a_callers_problem(
    broken: FrontDesk, breakable_stack: RunStack
) -> None:
    """After an orderly restart of the database the first read works."""
    storefront = await broken.known("storefront")
    assert (await storefront.get("/v1/orders?limit=1")).status_code == 200
    breakable_stack.restart_postgres()
    assert (await storefront.get("/v1/orders?limit=1")).status_code == 200
