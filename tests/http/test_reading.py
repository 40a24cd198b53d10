"""Reading orders: three names for one order, versions, lists, timeline, decisions."""

import asyncio
import json

from tests.support.front_desk import FrontDesk


async def test_an_order_has_three_names(desk: FrontDesk) -> None:
    """Id, number and the channel's reference lead to the same order; anything else is 404."""
    order = await desk.place(("LAMP", 1))
    storefront = await desk.known("storefront")
    for name in (
        order["id"],
        f"number:{order['order_number']}",
        f"external:{desk.shop.channel}:{order['external_ref']}",
    ):
        assert (await storefront.get(f"/v1/orders/{name}")).json()["id"] == order["id"]
    for name in ("ord_nothing", "number:0", "external:nobody:1", "external:", "weird:form"):
        answer = await storefront.get(f"/v1/orders/{name}")
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")


async def test_an_unchanged_order_is_304(desk: FrontDesk) -> None:
    """If-None-Match with the version answers without a body; an older version gets the order."""
    order = await desk.place(("LAMP", 1))
    await desk.at_node(order["id"])
    storefront = await desk.known("storefront")
    path = f"/v1/orders/{order['id']}"
    tag = (await storefront.get(path)).headers["etag"]
    same = await storefront.get(path, {"if-none-match": tag})
    listed = await storefront.get(path, {"if-none-match": f'"v1", W/{tag}'})
    older = await storefront.get(path, {"if-none-match": '"v1"'})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    assert listed.status_code == 304
    assert older.status_code == 200


async def test_a_list_pages_through_every_order_once(desk: FrontDesk) -> None:
    """Newest first, no order twice, Link leads on; filters narrow."""
    placed = [(await desk.place(("LAMP", 1)))["id"] for _ in range(5)]
    storefront = await desk.known("storefront")
    seen: list[str] = []
    path = "/v1/orders?limit=2"
    for _ in range(200):
        answer = await storefront.get(path)
        seen += [order["id"] for order in answer.json()["data"]]
        if not answer.json()["has_more"]:
            break
        path = answer.headers["link"].split(">")[0].removeprefix("<")
    assert len(seen) == len(set(seen))
    assert [order_id for order_id in seen if order_id in placed] == placed[::-1]
    oldest = (await storefront.get("/v1/orders?limit=200&sort=created_at")).json()["data"]
    stamps = [order["created_at"] for order in oldest]
    assert stamps == sorted(stamps)


async def test_filters_narrow_a_list(desk: FrontDesk) -> None:
    """Reference, status, channel and time; repeating a filter means or; unknown values are refused."""
    order = await desk.place(("LAMP", 1))
    storefront = await desk.known("storefront")

    async def ids(query: str) -> list[str]:
        answer = await storefront.get(f"/v1/orders?{query}")
        assert answer.status_code == 200, answer.text
        return [found["id"] for found in answer.json()["data"]]

    assert await ids(f"external_ref={order['external_ref']}") == [order["id"]]
    assert await ids(f"external_ref={order['external_ref']}&external_ref=no-such") == [order["id"]]
    assert await ids(f"external_ref={order['external_ref']}&status=completed") == []
    assert await ids(f"external_ref={order['external_ref']}&channel=other") == []
    assert await ids(f"external_ref={order['external_ref']}&created_to=2020-01-01T00:00:00Z") == []
    assert (await storefront.get("/v1/orders?status=sideways")).status_code == 422
    assert (await storefront.get("/v1/orders?limit=201")).status_code == 422
    assert (await storefront.get("/v1/orders?created_from=yesterday")).status_code == 422


async def test_a_cursor_cannot_be_edited_or_moved(desk: FrontDesk) -> None:
    """400 `cursor-invalid` for a changed letter, other filters and nonsense."""
    for _ in range(2):
        await desk.place(("LAMP", 1))
    storefront = await desk.known("storefront")
    cursor = (await storefront.get("/v1/orders?limit=1")).json()["next_cursor"]
    changed = ("A" if cursor[0] != "A" else "B") + cursor[1:]
    for query in (
        f"cursor={changed}",
        f"cursor={cursor}&status=completed",
        "cursor=%%%",
        "cursor=AAAA",
        "cursor=%C3%A9",
    ):
        answer = await storefront.get(f"/v1/orders?limit=1&{query}")
        assert (answer.status_code, answer.json()["type"]) == (400, "/problems/cursor-invalid")


async def test_the_timeline_has_no_gaps_and_can_be_resumed(desk: FrontDesk) -> None:
    """Sequences count from 1; `after` continues behind."""
    order = await desk.place(("LAMP", 1))
    await desk.at_node(order["id"])
    storefront = await desk.known("storefront")
    path = f"/v1/orders/{order['id']}/events"
    events = (await storefront.get(path)).json()["data"]
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert events[0]["type"] == "order.confirmed"
    first = (await storefront.get(f"{path}?limit=1")).json()
    assert (first["has_more"], first["next_after"]) == (True, 1)
    rest = (await storefront.get(f"{path}?after=1")).json()["data"]
    assert [event["sequence"] for event in rest][:1] == [2]
    refused = await storefront.get(path, {"accept": "text/csv"})
    assert (refused.status_code, refused.json()["type"]) == (406, "/problems/not-acceptable")


async def test_the_stream_tells_what_happens_and_resumes(desk: FrontDesk) -> None:
    """Server-sent events carry sequence, type and event; Last-Event-ID goes on behind it."""
    order = await desk.place(("LAMP", 1))
    await desk.at_node(order["id"])
    storefront = await desk.known("storefront")
    told = await _listen(desk, storefront.credential, order["id"], "1", count=2)
    assert [event["sequence"] for event in told] == [2, 3]
    assert told[0]["type"] == "payment.authorized"
    bad = await storefront.get(
        f"/v1/orders/{order['id']}/events", {"accept": "text/event-stream", "last-event-id": "x"}
    )
    assert bad.status_code == 400


async def _listen(desk: FrontDesk, credential: str, order_id: str, last: str, count: int) -> list[dict[str, object]]:
    """Read `count` events of a stream by hand: the test client would wait for the stream's end."""
    told: list[dict[str, object]] = []
    enough = asyncio.Event()

    async def receive() -> dict[str, object]:
        await enough.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, object]) -> None:
        body = message.get("body", b"")
        assert isinstance(body, bytes)
        for line in body.decode().splitlines():
            if line.startswith("data: "):
                told.append(json.loads(line.removeprefix("data: ")))
        if len(told) >= count:
            enough.set()

    headers = {"authorization": f"Bearer {credential}", "accept": "text/event-stream", "last-event-id": last}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": f"/v1/orders/{order_id}/events",
        "raw_path": f"/v1/orders/{order_id}/events".encode(),
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "server": ("front", 80),
        "client": ("127.0.0.1", 1),
    }
    await asyncio.wait_for(desk.app(scope, receive, send), 15)  # type: ignore[arg-type]
    return told[:count]


async def test_a_decision_says_why_this_node(desk: FrontDesk) -> None:
    """Candidates, costs and the rule version, as a list and alone."""
    order = await desk.place(("LAMP", 1))
    ops = await desk.known("ops")
    listed = (await ops.get(f"/v1/orders/{order['id']}/decisions")).json()["data"]
    first = next(decision for decision in listed if decision["kind"] == "sourcing")
    assert first["ruleset"] == "sourcing@1"
    alone = await ops.get(f"/v1/decisions/{first['id']}")
    assert alone.json() == first
    assert "EAST" in alone.text
    assert (await ops.get("/v1/decisions/dec_nothing")).status_code == 404
