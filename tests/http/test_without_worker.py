"""Nobody polls: everything is durable and answered 202; nothing is lost, nothing is a 500."""

import asyncio
import time

import httpx2

from tests.support.eventually import eventually
from tests.support.front_desk import FrontDesk


async def test_a_create_without_a_worker_is_stored_and_started(idle_desk: FrontDesk) -> None:
    """202 within two seconds, with a place to look, and the workflow waits for a worker."""
    storefront = await idle_desk.known("storefront")
    began = time.monotonic()
    answer = await storefront.post("/v1/orders", idle_desk.order(("LAMP", 1)))
    took_s = time.monotonic() - began
    assert answer.status_code == 202
    assert took_s < 2.5
    assert answer.headers["retry-after"] == "1"
    assert "No worker" in answer.json()["note"]
    found = await storefront.get(answer.headers["location"])
    assert (found.status_code, found.json()["status"]) == (200, "received")
    description = await idle_desk.shop.client.get_workflow_handle(f"order-{answer.json()['id']}").describe()
    assert description.status is not None
    assert description.status.name == "RUNNING"
    assert (
        await description.static_summary()
    ) == f"{found.json()['order_number']} · {idle_desk.shop.channel} · 1 line · 15.00 USD"
    attributes = {pair.key.name: pair.value for pair in description.typed_search_attributes}
    assert attributes == {
        "OrderNumber": found.json()["order_number"],
        "OrderStatus": "received",
        "WaitingOn": "payment",
        "PaymentStatus": "pending",
        "PromiseState": "on_track",
        "SalesChannel": idle_desk.shop.channel,
        "CustomerRef": attributes["CustomerRef"],
    }


async def test_a_repeat_joins_the_same_order(idle_desk: FrontDesk) -> None:
    """The same key again is the same order, still 202."""
    storefront = await idle_desk.known("storefront")
    body = idle_desk.order(("LAMP", 1))
    first = await storefront.post("/v1/orders", body, {"idempotency-key": "again", "prefer": "wait=0.2"})
    second = await storefront.post("/v1/orders", body, {"idempotency-key": "again", "prefer": "wait=0.2"})
    assert (first.status_code, second.status_code) == (202, 202)
    assert second.json()["id"] == first.json()["id"]
    assert second.headers["idempotency-replayed"] == "true"


async def test_while_the_first_is_being_answered_the_second_is_told_so(idle_desk: FrontDesk) -> None:
    """409 `idempotency-in-progress` with Retry-After."""
    storefront = await idle_desk.known("storefront")
    body = idle_desk.order(("LAMP", 1))
    key = {"idempotency-key": "busy", "prefer": "respond-async"}
    await storefront.post("/v1/orders", body, key)
    await idle_desk.shop.sql("UPDATE idempotency SET answering_until = now() + interval '5 s' WHERE key = 'busy'")
    second = await storefront.post("/v1/orders", body, key)
    assert second.status_code == 409
    assert second.json()["type"] == "/problems/idempotency-in-progress"
    assert second.headers["retry-after"] == "1"


async def test_a_cancellation_without_a_worker_is_left_with_the_order(idle_desk: FrontDesk) -> None:
    """202, a noun in state `requested` that can be read at once, and the signal is in the history."""
    storefront = await idle_desk.known("storefront")
    created = await storefront.post("/v1/orders", idle_desk.order(("LAMP", 1)), {"prefer": "wait=0.2"})
    order_id = created.json()["id"]
    path = f"/v1/orders/{order_id}/cancellations"
    answer = await storefront.post(path, {"reason": "changed_mind"}, {"prefer": "wait=0.3"})
    assert answer.status_code == 202
    assert answer.json()["state"] == "requested"
    found = await storefront.get(answer.headers["location"])
    assert (found.status_code, found.json()["state"], found.json()["id"]) == (200, "requested", answer.json()["id"])
    handle = idle_desk.shop.client.get_workflow_handle(f"order-{order_id}")
    signals = [
        event.workflow_execution_signaled_event_attributes.signal_name
        async for event in handle.fetch_history_events()
        if event.HasField("workflow_execution_signaled_event_attributes")
    ]
    assert signals == ["cancel"]


async def test_an_outcome_that_comes_as_the_waiting_ends_is_told(idle_desk: FrontDesk) -> None:
    """Not 202 with a place to look: the refusal that has its row by then."""
    storefront = await idle_desk.known("storefront")
    created = await storefront.post("/v1/orders", idle_desk.order(("LAMP", 1)), {"prefer": "wait=0.2"})
    order_id = created.json()["id"]

    async def asks() -> httpx2.Response:
        path = f"/v1/orders/{order_id}/cancellations"
        return await storefront.post(path, {"reason": "changed_mind"}, {"prefer": "wait=1"})

    async def settled() -> bool:
        return bool(
            await idle_desk.shop.sql(
                "UPDATE commands SET state = 'refused', outcome = CAST(:told AS jsonb), settled_at = now()"
                " WHERE order_id = :o AND state = 'received' RETURNING 1",
                o=order_id,
                told='{"code": "handed_over", "detail": "it has left"}',
            )
        )

    answer, _ = await asyncio.gather(asks(), eventually(settled))
    assert answer.status_code == 409
    assert (answer.json()["type"], answer.json()["reason"]) == ("/problems/action-not-available", "handed_over")


async def test_the_eleventh_command_in_flight_is_refused(idle_desk: FrontDesk) -> None:
    """429 `too-many-commands`, and it is not stored."""
    storefront = await idle_desk.known("storefront")
    created = await storefront.post("/v1/orders", idle_desk.order(("LAMP", 1)), {"prefer": "respond-async"})
    order_id = created.json()["id"]
    path = f"/v1/orders/{order_id}/cancellations"
    for _ in range(10):
        answer = await storefront.post(path, {"reason": "other"}, {"prefer": "respond-async"})
        assert answer.status_code == 202
    refused = await storefront.post(path, {"reason": "other"}, {"prefer": "respond-async"})
    assert refused.status_code == 429
    assert refused.json()["type"] == "/problems/too-many-commands"
    assert len((await storefront.get(path)).json()["data"]) == 10


async def test_a_preview_needs_the_order_itself(idle_desk: FrontDesk) -> None:
    """503 `engine-unavailable`: a plan cannot be made up, and nothing was stored."""
    storefront = await idle_desk.known("storefront")
    created = await storefront.post("/v1/orders", idle_desk.order(("LAMP", 1)), {"prefer": "respond-async"})
    path = f"/v1/orders/{created.json()['id']}/cancellations"
    answer = await storefront.post(path, {"reason": "other", "dry_run": True})
    assert answer.status_code == 503
    assert answer.json()["type"] == "/problems/engine-unavailable"
    assert (await storefront.get(path)).json()["data"] == []


async def test_readiness_names_the_missing_worker(idle_desk: FrontDesk) -> None:
    """503 with every check; the process itself is healthy."""
    nobody = (await idle_desk.known("ops")).http
    ready, healthy = await nobody.get("/readyz"), await nobody.get("/healthz")
    assert ready.status_code == 503
    checks = {name: check["ok"] for name, check in ready.json()["checks"].items()}
    assert checks == {"database": True, "engine": True, "search_attributes": True, "worker": False}
    assert (healthy.status_code, healthy.json()) == (200, {"status": "ok"})
