"""Lists: every filter narrows, an unknown one is refused, and the way to the next page can be followed."""

import re
from datetime import date, timedelta
from typing import Any

import pytest
from fastapi.routing import APIRoute

from api.assembly import ALL_ROUTES
from api.filters import OrderQuery
from domain.permissions import OPERATIONS, Role
from store.reads import OrderFilter
from tests.support.front_desk import Caller, FrontDesk

ROUTES = {
    route.operation_id: route for routes in ALL_ROUTES for route in routes.router.routes if isinstance(route, APIRoute)
}


def _address(operation_id: str) -> tuple[str, str]:
    """Method and path of an operation; whatever the path names is called x."""
    route = ROUTES[operation_id]
    return min(route.methods), re.sub(r"\{\w+\}", "x", route.path)


async def _ids(caller: Caller, query: str, path: str = "/v1/orders") -> list[str]:
    answer = await caller.get(f"{path}?{query}")
    assert answer.status_code == 200, answer.text
    return [found["id"] for found in answer.json()["data"]]


def _next(answer: Any) -> str:
    """Where the header Link leads."""
    found = re.fullmatch(r'<([^>]+)>; rel="next"', answer.headers["link"])
    assert found is not None
    return found.group(1)


async def _pages(caller: Caller, path: str) -> list[list[str]]:
    """The ids of every page, following Link."""
    pages: list[list[str]] = []
    for _ in range(50):
        answer = await caller.get(path)
        assert answer.status_code == 200, answer.text
        pages.append([found["id"] for found in answer.json()["data"]])
        if not answer.json()["has_more"]:
            assert "link" not in answer.headers
            break
        path = _next(answer)
    return pages


@pytest.mark.parametrize("operation_id", OPERATIONS)
async def test_an_unknown_query_parameter_is_refused_by_name(desk: FrontDesk, operation_id: str) -> None:
    """On every operation, commands and public ones too: it would otherwise look as if it had been honored."""
    everybody = await desk.caller(*Role)
    method, path = _address(operation_id)
    answer = await everybody.call(method, f"{path}?consistency=strong&lim%2Fit=1")
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/validation")
    assert [(error["pointer"], error["code"]) for error in answer.json()["errors"]] == [
        ("/query/consistency", "unknown_parameter"),
        ("/query/lim~1it", "unknown_parameter"),
    ]


def test_every_filter_of_the_store_is_offered() -> None:
    """The filters that can be asked for are those that are carried out."""
    assert set(OrderQuery.model_fields) - {"limit", "cursor"} == set(vars(OrderFilter()))


async def test_each_filter_finds_what_fits_and_leaves_out_what_does_not(desk: FrontDesk) -> None:
    """One order with a parcel, asked for by everything that it has and by what it has not."""
    order = await desk.place(("LAMP", 1), order_number="FILTER-1")
    part = await desk.packed(order["id"])
    shown = await desk.becomes(order["id"], payment_status="authorized")
    day = date.fromisoformat(shown["promise"]["current_by"])
    later, created = day + timedelta(days=1), shown["created_at"]
    fits = (
        "status=in_fulfillment", "status=in_fulfillment&status=completed", "waiting_on=node&waiting_on=carrier",
        "promise_state=on_track", "payment_status=authorized", f"channel={desk.shop.channel}", "node=EAST",
        "node=WEST&node=EAST", f"sku={desk.shop.sku('LAMP')}", f"customer_ref={shown['customer']['ref']}",
        f"created_from={created}", f"promised_before={later}", "needs_attention=false", "q=FILTER-1",
        f"q={order['external_ref']}", f"q={part['tracking_number']}",
    )  # fmt: skip
    fails = (
        "status=completed", "waiting_on=customer", "promise_state=late", "payment_status=refunded",
        "channel=elsewhere", "node=WEST", f"sku={desk.shop.sku('MUG')}", "customer_ref=cus_x",
        f"created_to={created}", f"promised_before={day}", "needs_attention=true", "q=FILTER", "q=%25",
        "node=EAST&status=completed",
    )  # fmt: skip
    storefront = await desk.known("storefront")
    this = f"external_ref={order['external_ref']}"
    assert [query for query in fits if await _ids(storefront, f"{this}&{query}") != [order["id"]]] == []
    assert [query for query in fails if await _ids(storefront, f"{this}&{query}")] == []


async def test_an_open_case_is_what_needs_attention(desk: FrontDesk) -> None:
    """While somebody must act the order is in the list, and no longer."""
    order = await desk.place(("LAMP", 1))
    storefront = await desk.known("storefront")
    await desk.shop.sql(
        "INSERT INTO exceptions (exception_id, order_id, code, owner, detail, due_at)"
        " VALUES (:o, :o, 'node_silent', 'fulfillment', 'silent', now())",
        o=order["id"],
    )
    this = f"external_ref={order['external_ref']}&needs_attention"
    during = [await _ids(storefront, f"{this}={value}") for value in ("true", "false")]
    await desk.shop.sql("UPDATE exceptions SET state = 'resolved' WHERE exception_id = :o", o=order["id"])
    after = [await _ids(storefront, f"{this}={value}") for value in ("true", "false")]
    assert (during, after) == ([[order["id"]], []], [[], [order["id"]]])


async def test_what_was_only_taken_in_is_filtered_too(idle_desk: FrontDesk) -> None:
    """Before its workflow has answered an order has lines and names, but no node and no promised day."""
    storefront = await idle_desk.known("storefront")
    body = idle_desk.order(("LAMP", 1), order_number="TAKEN-1")
    taken = (await storefront.post("/v1/orders", body, {"prefer": "respond-async"})).json()
    this = f"external_ref={body['external_ref']}"
    fits = (
        "status=received", "waiting_on=payment", "payment_status=pending", "promise_state=on_track", "q=TAKEN-1",
        f"sku={idle_desk.shop.sku('LAMP')}", "needs_attention=false", "sort=promised_by", f"q={body['external_ref']}",
    )  # fmt: skip
    fails = (
        "status=confirmed", "node=EAST", "promised_before=2999-01-01", "needs_attention=true", "q=TAKEN",
        f"sku={idle_desk.shop.sku('MUG')}", "customer_ref=cus_x", "waiting_on=node", "promise_state=late",
    )  # fmt: skip
    assert [query for query in fits if await _ids(storefront, f"{this}&{query}") != [taken["id"]]] == []
    assert [query for query in fails if await _ids(storefront, f"{this}&{query}")] == []


async def test_no_filter_leads_to_somebody_elses_orders(desk: FrontDesk) -> None:
    """Looking for an order by everything that names it finds nothing outside one's own channels."""
    order = await desk.place(("LAMP", 1))
    part = await desk.packed(order["id"])
    stranger = await desk.caller("storefront", channels=["somebody-elses"])
    for query in (
        f"q={order['order_number']}",
        f"q={order['external_ref']}",
        f"q={part['tracking_number']}",
        f"channel={desk.shop.channel}",
        f"customer_ref={order['customer']['ref']}",
        f"sku={desk.shop.sku('LAMP')}&node=EAST",
    ):
        assert await _ids(stranger, query) == []


@pytest.mark.parametrize(
    "query",
    [
        "status=sideways", "waiting_on=godot", "promise_state=great", "payment_status=rich", "sort=total_minor",
        "needs_attention=maybe", "promised_before=soon", "created_to=2026-01-01", "q=", "limit=0",
        "&".join(["sku=x"] * 21), f"q={'x' * 65}",
    ],
)  # fmt: skip
async def test_a_filter_that_cannot_be_read_is_refused(desk: FrontDesk, query: str) -> None:
    """422 with a pointer to the parameter: no value is taken for another one."""
    answer = await (await desk.known("ops")).get(f"/v1/orders?{query}")
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/validation")
    assert answer.json()["errors"][0]["pointer"].startswith(f"/query/{query.partition('=')[0]}")


@pytest.mark.parametrize("query", ["created_from=0001-01-01T00:00:00%2B14:00", "promised_before=9999-12-31", "q=%27"])
async def test_the_ends_of_time_and_quotes_are_only_values(desk: FrontDesk, query: str) -> None:
    """What can be read can be asked for."""
    assert (await (await desk.known("ops")).get(f"/v1/orders?limit=1&{query}")).status_code == 200


async def test_orders_are_sorted_by_their_promise(desk: FrontDesk) -> None:
    """Soonest first; what has no promised day comes last; pages neither repeat nor leave out."""
    await desk.shop.stocks("SORTED", EAST=4)
    placed = [(await desk.place(("SORTED", 1)))["id"] for _ in range(4)]
    storefront = await desk.known("storefront")
    refused = await storefront.post("/v1/orders", desk.order(("SORTED", 99)), {"prefer": "wait=15"})
    for order_id, day in zip(placed, ("2031-01-03", "2031-01-01", "2031-01-02", "2031-01-02"), strict=True):
        await desk.shop.sql("UPDATE orders SET promised_by = CAST(:d AS date) WHERE order_id = :o", d=day, o=order_id)
    path = f"/v1/orders?sku={desk.shop.sku('SORTED')}&sort=promised_by&limit="
    wanted = [placed[1], *sorted(placed[2:]), placed[0], refused.json()["order_id"]]
    assert await _pages(storefront, f"{path}1") == [[order_id] for order_id in wanted]
    assert await _pages(storefront, f"{path}2") == [wanted[:2], wanted[2:4], wanted[4:]]
    cursor = (await storefront.get(f"{path}1")).json()["next_cursor"]
    other = await storefront.get(f"/v1/orders?sku={desk.shop.sku('SORTED')}&limit=1&cursor={cursor}")
    assert (other.status_code, other.json()["type"]) == (400, "/problems/cursor-invalid")


@pytest.mark.parametrize(
    "hostile", ["%E6%97%A5%E6%9C%AC", "a%2Bb", "a%26b%3Dc", "x%0D%0AX-Evil:%20yes", "%3E%3B%20rel%3Dnext"]
)
async def test_the_link_carries_every_value_as_it_was_sent(desk: FrontDesk, hostile: str) -> None:
    """No character of a filter breaks the header, splits it, or changes the filter on the next page."""
    for _ in range(2):
        await desk.place(("MUG", 1))
    storefront = await desk.known("storefront")
    answer = await storefront.get(f"/v1/orders?limit=1&sku={desk.shop.sku('MUG')}&sku={hostile}")
    assert answer.status_code == 200
    assert "x-evil" not in answer.headers
    following = await storefront.get(_next(answer))
    assert following.status_code == 200, following.text  # the cursor fits the filters only as they were
    assert following.json()["data"][0]["id"] != answer.json()["data"][0]["id"]


async def test_the_work_list_leads_on_by_link_too(desk: FrontDesk) -> None:
    """Each page has one entry, and following the header meets every one once."""
    for _ in range(2):
        await desk.at_node((await desk.place(("LAMP", 1)))["id"])
    warehouse = await desk.known("warehouse")
    pages = await _pages(warehouse, "/v1/fulfillment-orders?node=EAST&state=submitted&limit=2")
    seen = [entry for page in pages for entry in page]
    assert len(seen) == len(set(seen)) >= 2
    first = await warehouse.get("/v1/fulfillment-orders?node=EAST&node=%E6%97%A5&state=submitted&limit=1")
    assert "%E6%97%A5" in _next(first)
    assert (await warehouse.get(_next(first))).status_code == 200
