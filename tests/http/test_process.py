"""The API as a real process: it starts without its engine, hides what it runs on, and ends when told to."""

import asyncio
import dataclasses
import time

import httpx2

from api.limits import RateLimiter
from tests.support.front_desk import FrontDesk
from tests.support.stack import RunStack


async def test_a_real_process_serves_and_ends_in_time(stack: RunStack) -> None:
    """Health, contract, a 401 and the headers that every answer has; SIGTERM ends it by itself."""
    process = await asyncio.to_thread(stack.site.start_api)
    async with httpx2.AsyncClient(base_url=process.url, timeout=10) as http:
        assert (await http.get("/healthz")).json() == {"status": "ok"}
        assert (await http.get("/openapi.json")).json()["openapi"] == "3.1.0"
        refused = await http.get("/v1/orders")
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Bearer")
        assert "server" not in refused.headers
        assert "set-cookie" not in refused.headers
        assert refused.headers["cache-control"] == "no-store"
    began = time.monotonic()
    assert await asyncio.to_thread(process.stop, 15)
    assert time.monotonic() - began < 15


async def test_it_starts_while_database_and_engine_are_away(stack: RunStack) -> None:
    """Neither has to be there: the process lives, and says what is missing."""
    nowhere = "postgresql+psycopg://nobody@127.0.0.1:9/none"
    process = await asyncio.to_thread(
        lambda: stack.site.start_api(ACCORD_DATABASE_URL=nowhere, TEMPORAL_ADDRESS="127.0.0.1:9")
    )
    async with httpx2.AsyncClient(base_url=process.url, timeout=10) as http:
        ready = await http.get("/readyz")
        checks = ready.json()["checks"]
        asked = await http.get("/v1/orders", headers={"authorization": f"Bearer {stack.keys['ops']}"})
    assert await asyncio.to_thread(process.stop, 15)
    assert ready.status_code == 503
    assert (checks["database"]["ok"], checks["engine"]["ok"]) == (False, False)
    assert (asked.status_code, asked.json()["type"]) == (503, "/problems/database-unavailable")


async def test_who_asks_too_often_is_told_to_wait(desk: FrontDesk) -> None:
    """After the burst 429 with Retry-After, for this caller alone; the numbers are in test_bodies.py."""
    front = desk.app.state.front
    desk.app.state.front = dataclasses.replace(front, limiter=RateLimiter(0.01, 5))
    try:
        ops, other = await desk.caller("ops"), await desk.caller("ops")
        answers = [await ops.get("/v1/orders/none") for _ in range(8)]
        calm = await other.get("/v1/orders/none")
    finally:
        desk.app.state.front = front
    assert [answer.status_code for answer in answers] == [404] * 5 + [429] * 3
    assert calm.status_code == 404
    assert answers[-1].json()["type"] == "/problems/rate-limited"
    assert int(answers[-1].headers["retry-after"]) == answers[-1].json()["retry_after_s"] > 90
