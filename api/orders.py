"""Routes of orders: create, read, list, timeline. Owner: commerce."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Path, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from sqlalchemy.ext.asyncio import AsyncConnection

from api import examples
from api.answers import EventList, Order, OrderList, ReceivedOrder
from api.filters import OrderQuery
from api.front import Call, CurrentCall, order_ref
from api.limits import PAGE_ROWS
from api.ordering import create_order
from api.outsiders import shown_event
from api.problems import Problem, not_found
from api.rendering import links_of, render_event, render_listed, render_order, render_received
from api.routing import BODY_PROBLEMS, KEY_HEADER, WAIT_HEADER, Routes
from api.schemas import CreateOrder
from domain.permissions import Principal
from store.reads import OrderFilter, OrderHead, Row, list_orders, read_events, read_order, read_received

routes = Routes()

OrderId = Annotated[
    str,
    Path(
        max_length=140,
        description="Id of the order, `number:10042`, or `external:web-us:W-88121`.",
        examples=["ord_01M84BJXNG0000000000000000"],
    ),
]
Limit = Annotated[int, Query(ge=1, le=PAGE_ROWS, description="Rows per page.")]

_STREAM_S = 15 * 60
_POLL_S = 1.0
_COMMENT_EVERY_S = 15
_EVENTS_PER_POLL = 200
PRIVATE = {"Cache-Control": "no-store"}


def etag(version: int) -> str:
    """The strong tag of an order's version."""
    return f'"v{version}"'


@routes.add(
    "POST",
    "/v1/orders",
    "createOrder",
    answers={
        201: (Order, "Stock is held and a delivery date is promised."),
        202: (ReceivedOrder, "Stored; the outcome follows. `Location` can be read at once."),
    },
    problems=(
        *BODY_PROBLEMS,
        "idempotency-key-missing",
        "idempotency-in-progress",
        "idempotency-mismatch",
        "order-exists",
        "out-of-stock",
        "promise-not-possible",
    ),
    body=(CreateOrder, examples.ORDER),
    headers={**KEY_HEADER, **WAIT_HEADER},
)
async def create(call: CurrentCall) -> Response:
    """Takes an order in: stored before anything is answered, reserved on concrete nodes, promised a date.

    Repeating is safe: with the same Idempotency-Key, or else the same `channel` and `external_ref`, the first
    order answers.
    """
    body, request_fingerprint = await call.body(CreateOrder, call.front.limits.order_bytes)
    wait = call.wait()
    placed = await create_order(call, body, request_fingerprint, wait)
    headers = {"Location": links_of(placed.order_id)["self"], **PRIVATE, **wait.headers}
    if placed.status == 201:
        headers["ETag"] = etag(placed.version)
    else:
        headers["Retry-After"] = "1"
        headers["Preference-Applied"] = wait.applied or "respond-async"
    if placed.replayed:
        headers["Idempotency-Replayed"] = "true"
    return JSONResponse(placed.content, placed.status, headers)


@routes.add(
    "GET",
    "/v1/orders",
    "listOrders",
    answers={200: (OrderList, "A page of orders.")},
    problems=("cursor-invalid",),
)
async def list_(call: CurrentCall, asked: Annotated[OrderQuery, Query()]) -> Response:
    """Orders the caller may see. Go on with `cursor=next_cursor` and the same filters."""
    wanted = OrderFilter(**asked.model_dump(exclude={"limit", "cursor"}))
    filters = vars(wanted)
    position = call.front.cursors.read(asked.cursor, filters) if asked.cursor else None
    rows = await call.front.read(lambda c: list_orders(c, call.principal, wanted, position, asked.limit + 1))
    page = rows[: asked.limit]
    following = None
    if len(rows) > asked.limit:
        last = page[-1]
        following = call.front.cursors.write(filters, (last["sort_key"].isoformat(), last["order_id"]))
    return page_of(call, [render_listed(row) for row in page], following)


def page_of(call: Call, data: list[dict[str, Any]], following: str | None) -> Response:
    """One page of a list, with the way to the next one."""
    headers = dict(PRIVATE)
    if following:
        kept = [(key, value) for key, value in call.request.query_params.multi_items() if key != "cursor"]
        query = urlencode([*kept, ("cursor", following)])
        headers["Link"] = f'<{call.request.scope["path"]}?{query}>; rel="next"'
    content = {"data": data, "next_cursor": following, "has_more": following is not None}
    return JSONResponse(content, 200, headers)


@routes.add(
    "GET",
    "/v1/orders/{order_id}",
    "getOrder",
    answers={
        200: (Order, "The order; `received` until its workflow has answered."),
        304: (None, "Unchanged since the version in If-None-Match."),
    },
    problems=("not-found",),
    headers={"If-None-Match": 'ETag of an earlier answer, like `"v14"`: 304 when nothing has changed.'},
)
async def get(call: CurrentCall, order_id: OrderId) -> Response:
    """One order with lines, money, promise, parcels, who is waited for, and what can be done now."""
    if order_ref(order_id).form != "id":
        order_id = (await call.head(order_id)).order_id
    row, received = await call.front.read(lambda c: _found(c, call.principal, order_id))
    if row is None and received is None:
        raise not_found("order")
    version = row["version"] if row else 0
    headers = {"ETag": etag(version), **PRIVATE}
    if _known(call.request, etag(version)):
        return Response(status_code=304, headers=headers)
    content = render_order(row, call.principal, call.front.vault) if row else render_received(received or {})
    return JSONResponse(content, 200, headers)


async def _found(connection: AsyncConnection, principal: Principal, order_id: str) -> tuple[Row | None, Row | None]:
    """The order as answered, or else as taken in; looked at again in case it was answered between the two looks."""
    row = await read_order(connection, principal, "getOrder", order_id)
    received = None if row else await read_received(connection, principal, "getOrder", order_id)
    if row is None and received is None:
        row = await read_order(connection, principal, "getOrder", order_id)
    return row, received


def _known(request: Request, tag: str) -> bool:
    known = [text.strip().removeprefix("W/") for text in request.headers.get("if-none-match", "").split(",")]
    return tag in known or "*" in known


@routes.add(
    "GET",
    "/v1/orders/{order_id}/events",
    "listOrderEvents",
    answers={200: (EventList, "The timeline, as JSON or as a stream of server-sent events.")},
    problems=("not-found", "not-acceptable", "malformed-request"),
    headers={
        "Accept": "`text/event-stream` follows the order live (streamOrderEvents), else JSON.",
        "Last-Event-ID": "Resume a stream behind this sequence number.",
    },
)
async def events(
    call: CurrentCall,
    order_id: OrderId,
    after: Annotated[int, Query(ge=0, le=2**31 - 1, description="Only events behind this sequence number.")] = 0,
    limit: Limit = 100,
) -> Response:
    """What happened to the order, one entry per transition, without gaps.

    With `Accept: text/event-stream` the answer is a live stream: `id` is the sequence number, `event` the type,
    `data` the event. A comment comes every 15 s; the stream ends after 15 minutes and can be resumed.
    """
    head = await call.head(order_id)
    accept = call.request.headers.get("accept", "*/*")
    if "text/event-stream" in accept:
        stream = _stream(call, head, max(after, _last_event_id(call.request)))
        return StreamingResponse(stream, media_type="text/event-stream", headers=PRIVATE)
    if not any(kind in accept for kind in ("application/json", "application/*", "*/*")):
        kinds = ["application/json", "text/event-stream"]
        raise Problem("not-acceptable", "JSON or server-sent events are offered.", allow=kinds)
    rows = await call.front.read(lambda c: read_events(c, head, after, limit + 1))
    page = rows[:limit]
    last = page[-1]["sequence"] if page else after
    content = {
        "data": [shown_event(render_event(row), call.principal) for row in page],
        "next_after": last,
        "has_more": len(rows) > limit,
    }
    return JSONResponse(content, 200, PRIVATE)


def _last_event_id(request: Request) -> int:
    text = request.headers.get("last-event-id", "0")
    if not text.isdigit() or len(text) > 9:
        raise Problem("malformed-request", "Last-Event-ID is the sequence number of an event.")
    return int(text)


async def _stream(call: Call, head: OrderHead, after: int) -> AsyncIterator[str]:
    """Events as they are committed. Ends after 15 min, or when nobody listens any more."""
    yield "retry: 2000\n\n"
    ends = time.monotonic() + _STREAM_S
    spoke = time.monotonic()
    while time.monotonic() < ends:
        try:
            rows = await call.front.read(lambda c, after=after: read_events(c, head, after, _EVENTS_PER_POLL))  # type: ignore[misc]
        except Problem:
            rows = []  # the database is away: the stream goes on when it is back
        for row in rows:
            after = row["sequence"]
            data = json.dumps(shown_event(render_event(row), call.principal), separators=(",", ":"))
            yield f"id: {after}\nevent: {row['type']}\ndata: {data}\n\n"
            spoke = time.monotonic()
        if time.monotonic() - spoke > _COMMENT_EVERY_S:
            yield ": still here\n\n"
            spoke = time.monotonic()
        if len(rows) < _EVENTS_PER_POLL:
            await asyncio.sleep(_POLL_S)
