"""The API as a real process: it starts without its engine, hides what it runs on, and ends when told to."""

import asyncio
import dataclasses
import json
import subprocess
import sys
import time

import httpx2
import pytest

from api.limits import RateLimiter
from tests.support.front_desk import FrontDesk, front_client, open_front
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


async def test_a_database_without_tables_is_not_ready(stack: RunStack, idle_desk: FrontDesk) -> None:
    """503 that names the check and the repair, not a 500; the engine is fine."""
    empty = stack.site.settings(database_url=stack.new_database(migrated=False))
    async with open_front(empty, await front_client(stack.site), idle_desk.shop) as front:
        ready = await front.http.get("/readyz")
    assert ready.status_code == 503
    checks = ready.json()["checks"]
    assert (checks["database"]["ok"], checks["engine"]["ok"]) == (False, True)
    assert "accord db upgrade" in checks["database"]["detail"]


async def test_logs_are_json_where_json_is_wanted(stack: RunStack) -> None:
    """ACCORD_LOG_FORMAT holds for the API as for the worker: one object per line, with time and level."""
    process = await asyncio.to_thread(lambda: stack.site.start_api(ACCORD_LOG_FORMAT="json"))
    async with httpx2.AsyncClient(base_url=process.url, timeout=10) as http:
        answer = await http.get("/v1/orders")
    assert await asyncio.to_thread(process.stop, 15)
    lines = [json.loads(line) for line in process.log().splitlines()]
    (done,) = [line for line in lines if line.get("request_id") == answer.headers["x-request-id"]]
    assert (done["event"], done["operation"], done["status"]) == ("request.done", "listOrders", 401)
    assert done["level"] == "info"
    assert done["ts"].endswith("Z")


@pytest.mark.parametrize("log_format", ["json", "pretty"])
def test_a_logged_failure_has_its_traceback_and_no_values(log_format: str) -> None:
    """Where it broke is in the log; what was in the variables is not: it may be a customer's name."""
    program = (
        "import structlog, settings\n"
        "settings.configure_logging({!r}, 'info')\n"
        "def deep(body):\n    raise ValueError('broken')\n"
        "try:\n    deep(body='Cana' + 'rina')\n"
        "except ValueError:\n    structlog.get_logger().exception('request.failed')\n"
    )
    command = [sys.executable, "-c", program.format(log_format)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert "request.failed" in told
    assert "ValueError: broken" in told
    assert "in deep" in told
    assert "Canarina" not in told


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
