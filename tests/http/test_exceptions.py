"""The exception queue over HTTP: what went wrong is found, taken and resolved, and the order goes on by itself."""

import asyncio
import itertools
import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from api.case_models import ExceptionCase, ExceptionCaseList
from tests.http.conftest import stock_up
from tests.support.eventually import eventually
from tests.support.front_desk import AT, Caller, FrontDesk, front_client, open_front
from tests.support.serving import serving
from tests.support.shop import Shop
from tests.support.stack import Site
from worker import make_sweep

WAIT = {"prefer": "wait=15"}
_KEYS = itertools.count(1)


async def refused_by_its_node(desk: FrontDesk, units: int = 1) -> tuple[dict[str, Any], dict[str, Any]]:
    """An order whose node does not take the work, and the case that is open for it."""
    order = await desk.place(("LAMP", units), pay="pm_declined")
    ops = await desk.known("ops")

    async def declined() -> bool:
        found = (await ops.get(f"/v1/orders/{order['id']}")).json()
        return bool(found["payment"]["tenders"][0]["state"] == "failed")

    await eventually(declined)
    desk.shop.simulation.set_control("warehouses.decline", 1, order["id"])
    storefront = await desk.known("storefront")
    key = {"idempotency-key": f"pay-{order['id']}", **WAIT}
    paid = await storefront.post(f"/v1/orders/{order['id']}/tenders", {"reference": "pm_ok"}, key)
    assert paid.status_code == 201, paid.text
    return order, await case_of(desk, order["id"], "node_refused")


async def case_of(desk: FrontDesk, order_id: str, code: str, state: str = "open") -> dict[str, Any]:
    """Wait until the order has a case of this kind."""
    ops = await desk.known("ops")

    async def there() -> dict[str, Any] | None:
        found = (await ops.get(f"/v1/exceptions?order={order_id}&code={code}&state={state}")).json()["data"]
        return found[0] if found else None

    return await eventually(there)


async def planted(desk: FrontDesk, order_id: str, code: str, owner: str = "fulfillment") -> str:
    """A case that somebody opened by hand."""
    name = f"exc_planted_{next(_KEYS):03}"
    await desk.shop.sql(
        "INSERT INTO exceptions (exception_id, order_id, code, owner, detail, due_at)"
        " VALUES (:e, :o, :c, :t, 'planted', now() + interval '4 hours')",
        e=name,
        o=order_id,
        c=code,
        t=owner,
    )
    return name


async def resolve(
    caller: Caller, case: str, choice: str, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    """Resolve a case as this caller."""
    answer = await caller.post(f"/v1/exceptions/{case}/resolutions", {"choice": choice}, headers or WAIT)
    return answer.status_code, answer.json()


async def states(desk: FrontDesk, order_id: str) -> list[tuple[str, str]]:
    """Kind and state of the order's cases, oldest first."""
    rows = await desk.shop.sql(
        "SELECT code, state FROM exceptions WHERE order_id = :o ORDER BY created_at, exception_id", o=order_id
    )
    return [(row["code"], row["state"]) for row in rows]


async def events(desk: FrontDesk, order_id: str) -> list[dict[str, Any]]:
    """The order's timeline."""
    found = await (await desk.known("ops")).get(f"/v1/orders/{order_id}/events?limit=200")
    return list(found.json()["data"])


async def is_delivered(desk: FrontDesk, order_id: str) -> None:
    """The node packs and hands over, the carrier delivers; the timeline has no gaps."""
    part = await desk.packed(order_id)
    assert (await desk.report(part["id"], "handed_over"))["status"] == 201
    warehouse = await desk.known("warehouse")
    event = {"event_id": order_id, "type": "delivered", "occurred_at": AT}
    assert (await warehouse.post(f"/v1/shipments/{part['shipment_id']}/events", event, WAIT)).status_code == 200
    done = await desk.becomes(order_id, status="completed")
    assert [event["sequence"] for event in await events(desk, order_id)] == list(range(1, done["version"] + 1))


async def test_a_refused_release_is_listed_taken_and_retried_and_the_order_goes_on(desk: FrontDesk) -> None:
    """The whole way: the queue, a name on it, a command to the order, and a delivered parcel."""
    # given
    order, case = await refused_by_its_node(desk)
    warehouse = await desk.known("warehouse")
    seen = (await warehouse.get(f"/v1/exceptions?owner=fulfillment&state=open&order={order['id']}")).json()["data"]
    assert [found["id"] for found in seen] == [case["id"]]
    assert seen[0]["choices"] == ["retry", "dismiss"]  # a node's program does not cancel orders
    assert case["choices"] == ["retry", "cancel", "dismiss"]
    assert case["detail"].startswith("EAST refused the work")
    # when
    path = f"/v1/exceptions/{case['id']}"
    taken = await warehouse.call("PATCH", path, {"assignee": "maria"})
    desk.shop.simulation.clear_control("warehouses.decline", order["id"])
    answer = await warehouse.post(f"{path}/resolutions", {"choice": "retry"}, WAIT)
    # then
    assert (taken.status_code, taken.json()["state"], taken.json()["assignee"]) == (200, "assigned", "maria")
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == path
    resolved = answer.json()
    assert (resolved["state"], resolved["choices"]) == ("resolved", [])
    assert resolved["closed_at"] is not None
    assert (resolved["resolution"]["choice"], resolved["resolution"]["state"]) == ("retry", "applied")
    assert resolved["resolution"]["by"]["role"] == "warehouse"
    assert (await warehouse.get(path)).json() == resolved
    await is_delivered(desk, order["id"])
    assert await states(desk, order["id"]) == [("node_refused", "resolved")]
    rows = await desk.shop.sql(
        "SELECT kind, state FROM commands WHERE order_id = :o AND kind = 'retry_now'", o=order["id"]
    )
    assert rows == [{"kind": "retry_now", "state": "applied"}]


async def test_a_case_resolved_by_cancelling_ends_the_order(desk: FrontDesk) -> None:
    """The order is cancelled, its payment given back, and the cancellation is one like all others."""
    order, case = await refused_by_its_node(desk, 2)
    ops = await desk.known("ops")
    status, body = await resolve(ops, case["id"], "cancel")
    assert (status, body["state"]) == (201, "resolved")
    assert (body["resolution"]["choice"], body["resolution"]["state"]) == ("cancel", "applied")
    done = await desk.becomes(order["id"], status="cancelled")
    assert done["payment_status"] == "voided"
    (cancelled,) = (await ops.get(f"/v1/orders/{order['id']}/cancellations")).json()["data"]
    assert (cancelled["state"], cancelled["lines"][0]["cancelled"]) == ("confirmed", 2)
    assert await states(desk, order["id"]) == [("node_refused", "resolved")]


async def test_a_resolved_case_does_not_stand_in_the_way_of_the_next_one(desk: FrontDesk) -> None:
    """The node refuses again: a new case for the same cause, with its own time."""
    order, first = await refused_by_its_node(desk)
    warehouse = await desk.known("warehouse")
    assert (await resolve(warehouse, first["id"], "retry"))[0] == 201
    second = await case_of(desk, order["id"], "node_refused")
    assert second["id"] != first["id"]
    assert await states(desk, order["id"]) == [("node_refused", "resolved"), ("node_refused", "open")]
    desk.shop.simulation.clear_control("warehouses.decline", order["id"])
    assert (await resolve(warehouse, second["id"], "retry"))[0] == 201
    await is_delivered(desk, order["id"])


async def test_a_dismissed_case_is_closed_and_the_order_is_told_nothing(desk: FrontDesk) -> None:
    """No command, no event; the order waits as before, and can still be cancelled."""
    order, case = await refused_by_its_node(desk)
    ops = await desk.known("ops")
    before = await events(desk, order["id"])
    status, body = await resolve(ops, case["id"], "dismiss")
    assert (status, body["state"]) == (201, "resolved")
    assert body["resolution"] == {
        "choice": "dismiss",
        "state": "applied",
        "by": body["resolution"]["by"],
        "command_id": None,
        "reason": None,
    }
    assert await events(desk, order["id"]) == before
    kinds = await desk.shop.sql("SELECT kind FROM commands WHERE order_id = :o", o=order["id"])
    assert [row["kind"] for row in kinds] == ["payment_event"]
    cancelled = await ops.post(f"/v1/orders/{order['id']}/cancellations", {"reason": "other"}, WAIT)
    assert cancelled.status_code == 201


async def test_other_teams_see_the_case_and_may_not_touch_it(desk: FrontDesk) -> None:
    """403 names who may; nothing has changed afterwards."""
    order, case = await refused_by_its_node(desk)
    path = f"/v1/exceptions/{case['id']}"
    before = (await (await desk.known("ops")).get(path)).json()
    for role in ("finance", "service", "commerce"):
        caller = await desk.known(role)
        assert (await caller.get(path)).json()["choices"] == []
        for answer in (
            await caller.call("PATCH", path, {"assignee": "me"}),
            await caller.post(f"{path}/resolutions", {"choice": "dismiss"}),
        ):
            assert (answer.status_code, answer.json()["type"]) == (403, "/problems/forbidden")
            assert answer.json()["needs_role"] == ["ops", "warehouse"]
            assert answer.json()["order_id"] == order["id"]
    status, body = await resolve(await desk.known("warehouse"), case["id"], "cancel")
    assert (status, body["needs_role"]) == (403, ["ops"])
    auditor = await desk.known("auditor")
    assert (await auditor.get(path)).status_code == 200
    assert (await auditor.post(f"{path}/resolutions", {"choice": "retry"})).status_code == 403
    assert (await (await desk.known("ops")).get(path)).json() == before


async def test_a_case_of_an_order_that_is_not_ones_own_is_not_there(desk: FrontDesk) -> None:
    """Another channel, another node: 404 like an unknown one, and in no list."""
    order, case = await refused_by_its_node(desk)
    strangers = (
        await desk.caller("service", channels=["somebody-elses"]),
        await desk.caller("warehouse", channels=[], nodes=["WEST"]),
    )
    for stranger in strangers:
        path = f"/v1/exceptions/{case['id']}"
        for answer in (
            await stranger.get(path),
            await stranger.call("PATCH", path, {}),
            await stranger.post(f"{path}/resolutions", {"choice": "retry"}),
        ):
            assert (answer.status_code, answer.json()["resource"]) == (404, "exception case")
        assert (await stranger.get(f"/v1/exceptions?order={order['id']}")).json()["data"] == []
    here = await desk.caller("warehouse", channels=[], nodes=["EAST"])
    assert (await here.get(f"/v1/exceptions/{case['id']}")).status_code == 200


async def test_what_the_order_refuses_leaves_the_case_open(desk: FrontDesk) -> None:
    """A parcel that has left is not cancelled: 409 in the order's words; then the case can be dismissed."""
    order = await desk.place(("LAMP", 1))
    part = await desk.packed(order["id"])
    assert (await desk.report(part["id"], "handed_over"))["status"] == 201
    case = await planted(desk, order["id"], "promise_late")
    ops = await desk.known("ops")
    status, body = await resolve(ops, case, "cancel")
    assert (status, body["action"], body["reason"]) == (409, "cancel", "already_handed_over")
    assert body["alternative"] == "return"
    left = (await ops.get(f"/v1/exceptions/{case}")).json()
    assert (left["state"], left["choices"]) == ("open", ["cancel", "dismiss"])
    assert (left["resolution"]["state"], left["resolution"]["reason"]) == ("declined", "already_handed_over")
    assert (await resolve(ops, case, "dismiss"))[1]["state"] == "resolved"


async def test_what_a_case_does_not_allow_is_refused_by_name(desk: FrontDesk) -> None:
    """A choice that its kind does not have; anything on a closed one; and nothing is stored."""
    order = await desk.place(("LAMP", 1))
    await desk.at_node(order["id"])
    case = await planted(desk, order["id"], "promise_late")
    ops = await desk.known("ops")
    status, body = await resolve(ops, case, "retry")
    assert (status, body["reason"], body["alternative"]) == (409, "choice_not_offered", "cancel")
    assert (body["action"], body["state"]) == ("retry", "open")
    assert (await resolve(ops, case, "dismiss"))[0] == 201
    status, body = await resolve(ops, case, "cancel")
    assert (status, body["reason"], body["state"]) == (409, "case_closed", "resolved")
    given = await ops.call("PATCH", f"/v1/exceptions/{case}", {"assignee": "maria"})
    assert (given.status_code, given.json()["reason"], given.json()["action"]) == (409, "case_closed", "assign")
    assert await desk.shop.sql("SELECT 1 FROM commands WHERE order_id = :o", o=order["id"]) == []


@pytest.mark.parametrize(
    ("body", "pointer"),
    [({"choice": "force"}, "/choice"), ({}, "/choice"), ({"choice": "retry", "why": "x"}, "/why")],
)
async def test_a_resolution_that_cannot_be_read_is_refused(desk: FrontDesk, body: Any, pointer: str) -> None:
    """422 with a pointer."""
    answer = await (await desk.known("ops")).post("/v1/exceptions/exc_x/resolutions", body)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)


async def test_the_same_key_meets_the_same_resolution(desk: FrontDesk) -> None:
    """One command however often it is asked; the key with another choice is a mismatch."""
    order, case = await refused_by_its_node(desk)
    desk.shop.simulation.clear_control("warehouses.decline", order["id"])
    ops = await desk.known("ops")
    key = {"idempotency-key": f"resolve-{order['id']}", **WAIT}
    path = f"/v1/exceptions/{case['id']}/resolutions"
    first, second = [await ops.post(path, {"choice": "retry"}, key) for _ in range(2)]
    other = await ops.post(path, {"choice": "dismiss"}, key)
    assert (first.status_code, second.status_code) == (201, 201)
    assert second.json() == first.json() | {"order_status": second.json()["order_status"]}  # the order goes on
    assert second.headers["idempotency-replayed"] == "true"
    assert (other.status_code, other.json()["type"]) == (422, "/problems/idempotency-mismatch")
    rows = await desk.shop.sql("SELECT 1 FROM commands WHERE order_id = :o AND kind = 'retry_now'", o=order["id"])
    assert len(rows) == 1


async def test_a_dismissal_is_repeated_safely_too(desk: FrontDesk) -> None:
    """The same key answers as before, without it the closed case is refused."""
    order = await desk.place(("LAMP", 1))
    await desk.at_node(order["id"])
    case = await planted(desk, order["id"], "node_silent")
    ops = await desk.known("ops")
    key = {"idempotency-key": f"dismiss-{order['id']}"}
    path = f"/v1/exceptions/{case}/resolutions"
    first, second = [await ops.post(path, {"choice": "dismiss"}, key) for _ in range(2)]
    other = await ops.post(path, {"choice": "cancel"}, key)
    assert (first.status_code, second.status_code, second.json()) == (201, 201, first.json())
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert (other.status_code, other.json()["type"]) == (422, "/problems/idempotency-mismatch")
    assert (await resolve(ops, case, "dismiss"))[0] == 409


async def test_of_five_at_once_one_resolves(desk: FrontDesk) -> None:
    """All meet at the case, held up until they are there; the others are told, and the order hears of it once."""
    order, case = await refused_by_its_node(desk)
    desk.shop.simulation.clear_control("warehouses.decline", order["id"])
    ops = await desk.known("ops")
    async with desk.shop.engine.begin() as connection:
        hold = text("SELECT 1 FROM exceptions WHERE exception_id = :e FOR UPDATE")
        await connection.execute(hold, {"e": case["id"]})
        asking = [asyncio.create_task(resolve(ops, case["id"], "retry")) for _ in range(5)]
        await asyncio.sleep(0.5)
    answers = await asyncio.gather(*asking)
    assert sorted(status for status, _ in answers) == [201, 409, 409, 409, 409]
    assert {body["reason"] for status, body in answers if status == 409} <= {"case_closed", "resolution_under_way"}
    rows = await desk.shop.sql("SELECT 1 FROM commands WHERE order_id = :o AND kind = 'retry_now'", o=order["id"])
    assert len(rows) == 1


async def test_who_does_not_wait_finds_the_outcome_later(desk: FrontDesk) -> None:
    """202 with a place to look; the order goes on all the same."""
    order, case = await refused_by_its_node(desk)
    desk.shop.simulation.clear_control("warehouses.decline", order["id"])
    ops = await desk.known("ops")
    path = f"/v1/exceptions/{case['id']}"
    answer = await ops.post(f"{path}/resolutions", {"choice": "retry"}, {"prefer": "respond-async"})
    assert (answer.status_code, answer.headers["location"], answer.headers["retry-after"]) == (202, path, "1")
    assert answer.headers["preference-applied"] == "respond-async"
    assert answer.json()["resolution"]["state"] in ("requested", "applied")

    async def resolved() -> bool:
        return bool((await ops.get(path)).json()["state"] == "resolved")

    await eventually(resolved)
    await desk.at_node(order["id"])


async def test_without_a_worker_a_resolution_is_stored_and_done_later(
    new_site: Callable[[], Awaitable[Site]],
) -> None:
    """202 that says why; until the order has answered there is no other; then the order goes on."""
    site = await new_site()
    async with serving(site, start=False) as make:
        shop = await make().opens()
        await stock_up(shop)
        async with open_front(site.settings(), await front_client(site), shop) as desk:
            async with serving(site):
                order, case = await refused_by_its_node(desk)
            shop.simulation.clear_control("warehouses.decline", order["id"])
            ops = await desk.known("ops")
            key = {"idempotency-key": "later"}
            status, body = await resolve(ops, case["id"], "retry", key)
            assert (status, body["state"], body["choices"]) == (202, "open", [])
            assert (body["resolution"]["state"], "worker" in body["note"]) == ("requested", True)
            again, _ = await resolve(ops, case["id"], "retry", key)
            other, refusal = await resolve(ops, case["id"], "cancel")
            assert (again, other, refusal["reason"]) == (202, 409, "resolution_under_way")
            async with serving(site):
                await desk.at_node(order["id"])
            assert await states(desk, order["id"]) == [("node_refused", "resolved")]
            kinds = await shop.sql("SELECT kind FROM commands WHERE order_id = :o AND state = 'applied'", o=order["id"])
            assert sorted(row["kind"] for row in kinds) == ["payment_event", "retry_now"]


async def test_cases_are_what_they_document(desk: FrontDesk) -> None:
    """Every body fits its model, which allows no other field."""
    order = await desk.place(("LAMP", 1))
    case = await planted(desk, order["id"], "promise_late")
    ops = await desk.known("ops")
    ExceptionCaseList.model_validate((await ops.get(f"/v1/exceptions?order={order['id']}")).json())
    ExceptionCase.model_validate((await ops.call("PATCH", f"/v1/exceptions/{case}", {})).json())
    ExceptionCase.model_validate((await resolve(ops, case, "dismiss"))[1])


async def with_rules(desk: FrontDesk, **rules: Any) -> FrontDesk:
    """The same API, and a channel with rules of its own."""
    shop = await Shop(desk.shop.client, desk.shop.engine, desk.shop.simulation).opens(**rules)
    await stock_up(shop)
    return FrontDesk(desk.app, desk.http, shop, desk.pepper)


async def test_a_silent_node_is_asked_to_stop_and_its_answer_counts(desk: FrontDesk) -> None:
    """Cancelling goods at a node is a request: 202 until the node has spoken; the case is the node's no longer."""
    hasty = await with_rules(desk, node_accept_s=1)
    ops = await hasty.known("ops")
    rule = {"channel": hasty.shop.channel, "action": "case"}  # else another node would ship
    assert (await ops.post("/v1/rulesets/node-silence/versions", rule)).status_code == 201
    order = await hasty.place(("LAMP", 1))
    hasty.shop.simulation.set_control("warehouses.stop", "answer_follows", order["id"])
    case = await case_of(hasty, order["id"], "node_silent")
    assert case["choices"] == ["retry", "cancel", "dismiss"]
    status, body = await resolve(ops, case["id"], "cancel", {"prefer": "wait=1"})
    assert (status, body["state"], body["resolution"]["state"]) == (202, "resolved", "requested")
    part = await hasty.at_node(order["id"], "cancellation_requested")
    assert (await hasty.report(part["id"], "cancel_agreed"))["status"] == 201
    await hasty.becomes(order["id"], status="cancelled")
    found = (await ops.get(f"/v1/exceptions/{case['id']}")).json()
    assert (found["state"], found["resolution"]["state"]) == ("resolved", "applied")


async def test_while_one_resolution_is_under_way_there_is_no_other(desk: FrontDesk) -> None:
    """The late order is being cancelled at its node; when that could not stop, the case can be resolved again."""
    order = await desk.place(("LAMP", 1))
    part = await desk.at_node(order["id"])
    desk.shop.simulation.set_control("warehouses.stop", "answer_follows", order["id"])
    case = await planted(desk, order["id"], "promise_late")
    ops = await desk.known("ops")
    status, body = await resolve(ops, case, "cancel", {"prefer": "wait=1"})
    assert (status, body["state"], body["choices"]) == (202, "open", [])
    for choice in ("cancel", "dismiss"):
        status, body = await resolve(ops, case, choice)
        assert (status, body["reason"]) == (409, "resolution_under_way")
    assert (await desk.report(part["id"], "cancel_declined"))["status"] == 201

    async def declined() -> dict[str, Any] | None:
        found: dict[str, Any] = (await ops.get(f"/v1/exceptions/{case}")).json()
        return found if found["resolution"]["state"] == "declined" else None

    after = await eventually(declined)
    assert (after["state"], after["choices"]) == ("open", ["cancel", "dismiss"])
    await is_delivered(desk, order["id"])
    assert await states(desk, order["id"]) == [("promise_late", "auto_closed")]


async def test_a_case_is_given_taken_and_given_on(desk: FrontDesk) -> None:
    """Without a name the caller takes it; who takes it gets time, who is given it gets no more."""
    order, case = await refused_by_its_node(desk)
    warehouse = await desk.known("warehouse")
    path = f"/v1/exceptions/{case['id']}"
    taken = (await warehouse.call("PATCH", path, {})).json()
    given = (await warehouse.call("PATCH", path, {"assignee": "maria"})).json()
    again = (await warehouse.call("PATCH", path, {"assignee": "maria"})).json()
    assert (taken["state"], taken["assignee"][:4]) == ("assigned", "key:")
    assert taken["due_at"] > case["due_at"]
    assert (given["assignee"], given["due_at"]) == ("maria", taken["due_at"])
    assert again == given
    rows = await desk.shop.sql("SELECT assigned_by FROM exceptions WHERE exception_id = :e", e=case["id"])
    assert rows[0]["assigned_by"]["role"] == "warehouse"
    before = await events(desk, order["id"])
    assert [event["type"] for event in before][-1] == "order.needs_attention"  # a case is no state of its order


async def _listed(caller: Caller, query: str) -> list[str]:
    answer = await caller.get(f"/v1/exceptions?{query}")
    assert answer.status_code == 200, answer.text
    return [found["id"] for found in answer.json()["data"]]


async def test_each_filter_finds_what_fits_and_leaves_out_what_does_not(desk: FrontDesk) -> None:
    """Team, state, kind, person, and the order by each of its names."""
    order = await desk.place(("LAMP", 1), order_number="CASES-1")
    case = await planted(desk, order["id"], "promise_late")
    ops = await desk.known("ops")
    await ops.call("PATCH", f"/v1/exceptions/{case}", {"assignee": "maria"})
    this = f"order={order['id']}"
    external = f"external:{desk.shop.channel}:{order['external_ref']}"
    fits = (
        "owner=fulfillment", "owner=finance&owner=fulfillment", "state=assigned", "state=open&state=assigned",
        "code=promise_late", "assignee=maria", "order=number:CASES-1", f"order={external}", "order=ord_none",
    )  # fmt: skip
    fails = ("owner=finance", "state=open", "code=node_silent", "assignee=jo", "owner=fulfillment&state=resolved")
    assert [query for query in fits if await _listed(ops, f"{this}&{query}") != [case]] == []
    assert [query for query in fails if await _listed(ops, f"{this}&{query}")] == []
    for name in ("number:CASES-1", external):
        assert await _listed(ops, f"order={name}") == [case]
    for name in ("number:CASES", "external:nowhere", "external:a:b", "ord_none"):
        assert await _listed(ops, f"order={name}") == []


@pytest.mark.parametrize(
    "query", ["state=sideways", "owner=nobody", "limit=0", "&".join(["code=x"] * 21), f"order={'x' * 141}"]
)
async def test_a_filter_that_cannot_be_read_is_refused(desk: FrontDesk, query: str) -> None:
    """422 with a pointer to the parameter."""
    answer = await (await desk.known("ops")).get(f"/v1/exceptions?{query}")
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/validation")
    assert answer.json()["errors"][0]["pointer"].startswith(f"/query/{query.partition('=')[0]}")


async def test_the_queue_begins_with_what_is_due_first_and_leads_on(desk: FrontDesk) -> None:
    """Pages by the header Link, each case once; a cursor belongs to its filters."""
    order = await desk.place(("LAMP", 1))
    names = [await planted(desk, order["id"], f"kind_{n}") for n in range(5)]
    for hours, name in zip((5, 1, 4, 2, 2), names, strict=True):
        await desk.shop.sql(
            "UPDATE exceptions SET due_at = TIMESTAMPTZ '2031-01-01Z' + make_interval(hours => :h)"
            " WHERE exception_id = :e",
            h=hours,
            e=name,
        )
    ops = await desk.known("ops")
    path, pages = f"/v1/exceptions?order={order['id']}&limit=2", []
    while path:
        answer = await ops.get(path)
        pages.append([found["id"] for found in answer.json()["data"]])
        link = re.fullmatch(r'<([^>]+)>; rel="next"', answer.headers.get("link", ""))
        path = link.group(1) if link else ""
    assert pages == [[names[1], names[3]], [names[4], names[2]], [names[0]]]
    cursor = (await ops.get(f"/v1/exceptions?order={order['id']}&limit=1")).json()["next_cursor"]
    other = await ops.get(f"/v1/exceptions?owner=finance&limit=1&cursor={cursor}")
    assert (other.status_code, other.json()["type"]) == (400, "/problems/cursor-invalid")


# --- nobody answers -----------------------------------------------------------------------------------


async def _let_time_pass(desk: FrontDesk, cases: Sequence[str]) -> None:
    await desk.shop.sql(
        "UPDATE exceptions SET due_at = now() - interval '1 minute' WHERE exception_id = ANY(:e)", e=list(cases)
    )


async def _escalations(desk: FrontDesk, order_id: str) -> list[dict[str, Any]]:
    return [event for event in await events(desk, order_id) if event["type"] == "case.escalated"]


async def test_a_case_that_nobody_answers_is_passed_on_once(desk: FrontDesk) -> None:
    """However often the sweep runs; with a new due time, and told in the timeline. It can still be resolved."""
    # given
    order, case = await refused_by_its_node(desk)
    sweep = make_sweep(desk.shop.engine, desk.shop.client, 7)
    await sweep()
    assert await _escalations(desk, order["id"]) == []
    # when
    await _let_time_pass(desk, [case["id"]])
    await sweep()
    first = await case_of(desk, order["id"], "node_refused", "escalated")
    await sweep()
    # then
    (said,) = await _escalations(desk, order["id"])
    assert (said["cause"], said["actor"]) == ("node_refused", {"kind": "system", "id": "accord"})
    assert said["data"]["exception_id"] == case["id"]
    assert said["data"]["owner"] == "fulfillment"
    assert said["rulesets"] == ["order@1"]
    due_at = datetime.fromisoformat(first["due_at"])
    assert said["data"]["due_at"] == f"{due_at:%Y-%m-%dT%H:%M:%SZ}"
    assert timedelta(hours=23) < due_at - datetime.now(UTC) <= timedelta(hours=72)
    assert due_at.weekday() < 5
    # and when somebody takes it and lets it lie
    warehouse = await desk.known("warehouse")
    taken = (await warehouse.call("PATCH", f"/v1/exceptions/{case['id']}", {})).json()
    await _let_time_pass(desk, [case["id"]])
    await sweep()
    # then
    assert (taken["state"], taken["due_at"]) == ("assigned", first["due_at"])
    assert len(await _escalations(desk, order["id"])) == 1
    desk.shop.simulation.clear_control("warehouses.decline", order["id"])
    assert (await resolve(warehouse, case["id"], "retry"))[1]["state"] == "resolved"
    await is_delivered(desk, order["id"])


async def test_sweeps_at_once_and_several_cases_of_one_order_leave_no_gap(desk: FrontDesk) -> None:
    """Five sweeps of several workers, three cases: three events, one after the other; a closed case is left alone."""
    order = await desk.place(("LAMP", 1))
    await desk.at_node(order["id"])
    await desk.becomes(order["id"], payment_status="authorized")
    names = [await planted(desk, order["id"], f"late_{n}") for n in range(4)]
    ops = await desk.known("ops")
    assert (await resolve(ops, names[3], "dismiss"))[0] == 201
    before = (await ops.get(f"/v1/orders/{order['id']}")).json()["version"]
    await _let_time_pass(desk, names)
    sweep = make_sweep(desk.shop.engine, desk.shop.client, 7)
    await asyncio.gather(*(sweep() for _ in range(5)))
    await sweep()  # what another sweep had locked is met by the next one
    said = await _escalations(desk, order["id"])
    assert sorted(event["data"]["exception_id"] for event in said) == names[:3]
    assert [event["sequence"] for event in said] == [before + 1, before + 2, before + 3]
    assert (await ops.get(f"/v1/orders/{order['id']}")).json()["version"] == before + 3
    assert [state for _, state in await states(desk, order["id"])] == ["escalated"] * 3 + ["resolved"]
    await is_delivered(desk, order["id"])
    assert [state for _, state in await states(desk, order["id"])] == ["auto_closed"] * 3 + ["resolved"]
