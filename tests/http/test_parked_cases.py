"""Cases that wait for somebody outside: parked until a day, and back with whoever had them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.http.test_exceptions import (
    case_of,
    events,
    is_delivered,
    planted,
    refused_by_its_node,
    resolve,
)
from tests.support.front_desk import Caller, FrontDesk
from worker import make_sweep


def in_days(days: float) -> str:
    """A time from now, as the API writes times."""
    return f"{datetime.now(UTC) + timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"


async def park(caller: Caller, case: str, until: str, reason: str = "carrier_asked") -> tuple[int, dict[str, Any]]:
    """Park a case as this caller."""
    body = {"state": "waiting", "until": until, "reason": reason}
    answer = await caller.call("PATCH", f"/v1/exceptions/{case}", body)
    return answer.status_code, answer.json()


async def taken(desk: FrontDesk) -> tuple[str, str]:
    """An order and a case of it that Maria works on."""
    order = await desk.place(("LAMP", 1))
    await desk.at_node(order["id"])
    await desk.becomes(order["id"], payment_status="authorized")
    case = await planted(desk, order["id"], "node_silent")
    await (await desk.known("ops")).call("PATCH", f"/v1/exceptions/{case}", {"assignee": "maria"})
    return order["id"], case


async def move_clock(desk: FrontDesk, case: str, days: int) -> None:
    """So many days have passed for this case."""
    await desk.shop.sql(
        "UPDATE exceptions SET due_at = due_at - make_interval(days => :d),"
        " parked_until = parked_until - make_interval(days => :d) WHERE exception_id = :e",
        d=days,
        e=case,
    )


async def test_a_parked_case_waits_and_is_back_at_its_date(desk: FrontDesk) -> None:
    """Nobody is asked meanwhile, however long it would have been overdue; then its assignee has the time left."""
    # given
    order, case = await refused_by_its_node(desk)
    warehouse = await desk.known("warehouse")
    path = f"/v1/exceptions/{case['id']}"
    given = (await warehouse.call("PATCH", path, {"assignee": "maria"})).json()
    until = in_days(10)
    # when
    status, parked = await park(warehouse, case["id"], until)
    # then
    assert (status, parked["state"], parked["assignee"]) == (200, "waiting", "maria")
    assert (parked["parked"]["until"], parked["parked"]["reason"]) == (until, "carrier_asked")
    assert parked["parked"]["by"]["role"] == "warehouse"
    listed = (await warehouse.get(f"/v1/exceptions?state=waiting&order={order['id']}")).json()["data"]
    assert [found["id"] for found in listed] == [case["id"]]
    # and when nine days pass
    sweep = make_sweep(desk.shop.engine, desk.shop.client, 7)
    await move_clock(desk, case["id"], 9)
    await sweep()
    assert (await warehouse.get(path)).json()["state"] == "waiting"
    # and the tenth
    await move_clock(desk, case["id"], 1)
    await sweep()
    back = (await warehouse.get(path)).json()
    assert (back["state"], back["assignee"], back["parked"]) == ("assigned", "maria", None)
    assert abs(datetime.fromisoformat(back["due_at"]) - datetime.fromisoformat(given["due_at"])) < timedelta(minutes=1)
    # and when it is left lying after that
    await move_clock(desk, case["id"], 4)
    await sweep()
    await case_of(desk, order["id"], "node_refused", "escalated")
    assert [e["type"] for e in await events(desk, order["id"])].count("case.escalated") == 1
    desk.shop.simulation.clear_control("warehouses.decline", order["id"])
    assert (await resolve(warehouse, case["id"], "retry"))[1]["state"] == "resolved"
    await is_delivered(desk, order["id"])


async def test_an_answer_that_comes_early_takes_it_up_again(desk: FrontDesk) -> None:
    """Whoever takes it has the time that was left; or it is resolved right away."""
    order, case = await taken(desk)
    ops = await desk.known("ops")
    path = f"/v1/exceptions/{case}"
    due = (await ops.get(path)).json()["due_at"]
    assert (await park(ops, case, in_days(5)))[0] == 200
    back = (await ops.call("PATCH", path, {"assignee": "jo"})).json()
    assert (back["state"], back["assignee"], back["parked"]) == ("assigned", "jo", None)
    assert abs(datetime.fromisoformat(back["due_at"]) - datetime.fromisoformat(due)) < timedelta(minutes=1)
    assert (await park(ops, case, in_days(5)))[0] == 200
    status, resolved = await resolve(ops, case, "cancel")
    assert (status, resolved["state"], resolved["parked"]) == (201, "resolved", None)
    await desk.becomes(order, status="cancelled")


async def test_a_parked_case_closes_itself_when_its_cause_is_gone(desk: FrontDesk) -> None:
    """The node speaks after all; nobody has to come back to it."""
    order, case = await taken(desk)
    ops = await desk.known("ops")
    assert (await park(ops, case, in_days(5)))[0] == 200
    await is_delivered(desk, order)
    assert (await ops.get(f"/v1/exceptions/{case}")).json()["state"] == "auto_closed"


async def test_parking_twice_is_safe_and_another_date_is_refused(desk: FrontDesk) -> None:
    """The same request again answers the same; who wants another date takes the case up first."""
    _, case = await taken(desk)
    ops = await desk.known("ops")
    until = in_days(5)
    first, second = [await park(ops, case, until) for _ in range(2)]
    assert first[0] == 200
    assert second == first
    status, refusal = await park(ops, case, in_days(6))
    assert (status, refusal["type"], refusal["action"]) == (409, "/problems/action-not-available", "park")
    assert (refusal["reason"], refusal["alternative"], refusal["state"]) == ("parked_before", "assign", "waiting")


async def test_what_cannot_be_parked_is_refused_by_name(desk: FrontDesk) -> None:
    """Nobody has it, a date that has passed or is too far, overdue, closed, another team; and nothing has changed."""
    order = await desk.place(("LAMP", 1))
    await desk.at_node(order["id"])
    case = await planted(desk, order["id"], "promise_late")
    ops = await desk.known("ops")
    path = f"/v1/exceptions/{case}"
    assert (await park(ops, case, in_days(1)))[1]["reason"] == "not_assigned"
    before = (await ops.call("PATCH", path, {})).json()
    assert (await park(ops, case, in_days(-1)))[1]["reason"] == "date_passed"
    assert (await park(ops, case, in_days(31)))[1]["reason"] == "date_too_far"
    status, refusal = await park(await desk.known("finance"), case, in_days(1))
    assert (status, refusal["needs_role"]) == (403, ["ops", "warehouse"])
    stranger = await desk.caller("warehouse", channels=[], nodes=["WEST"])
    assert (await park(stranger, case, in_days(1)))[0] == 404
    assert (await ops.get(path)).json() == before
    await desk.shop.sql("UPDATE exceptions SET due_at = now() - interval '1 second' WHERE exception_id = :e", e=case)
    assert (await park(ops, case, in_days(1)))[1]["reason"] == "case_overdue"
    assert (await resolve(ops, case, "dismiss"))[0] == 201
    status, refusal = await park(ops, case, in_days(1))
    assert (status, refusal["reason"]) == (409, "case_closed")


@pytest.mark.parametrize(
    "body",
    [
        {"state": "waiting"},
        {"state": "waiting", "until": "2026-12-24T09:00:00Z"},
        {"state": "waiting", "reason": "carrier_asked"},
        {"state": "waiting", "until": "2026-12-24T09:00:00Z", "reason": "carrier_asked", "assignee": "jo"},
        {"until": "2026-12-24T09:00:00Z", "reason": "carrier_asked"},
        {"state": "waiting", "until": "2026-12-24T09:00:00", "reason": "carrier_asked"},
        {"state": "waiting", "until": "2026-12-24T09:00:00Z", "reason": "Jamie said so"},
        {"state": "resolved", "until": "2026-12-24T09:00:00Z", "reason": "carrier_asked"},
    ],
)
async def test_what_does_not_say_until_when_and_why_is_refused(desk: FrontDesk, body: dict[str, str]) -> None:
    """422; no free text, and no other state."""
    answer = await (await desk.known("ops")).call("PATCH", "/v1/exceptions/exc_x", body)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/validation")
