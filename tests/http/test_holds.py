"""Holding over HTTP: placed, seen, released or rejected by whose type it is, repeated, looked up."""

from typing import Any

from domain.ids import derived_id
from tests.support.front_desk import Caller, FrontDesk

WAIT = {"prefer": "wait=15"}


async def _waiting(desk: FrontDesk) -> tuple[str, str]:
    """An order whose payment was declined: nothing of it is at a node. Its id, and the path of its holds."""
    order = await desk.place(("LAMP", 2), pay="pm_decline")
    await desk.becomes(order["id"], payment_status="pending")
    return order["id"], f"/v1/orders/{order['id']}/holds"


async def _placed(caller: Caller, path: str, **body: Any) -> dict[str, Any]:
    answer = await caller.post(path, body, WAIT)
    assert answer.status_code == 201, answer.text
    noun: dict[str, Any] = answer.json()
    return noun


async def _pays(desk: FrontDesk, order_id: str) -> None:
    storefront = await desk.known("storefront")
    headers = {"idempotency-key": f"pay-{order_id}", **WAIT}
    paid = await storefront.post(f"/v1/orders/{order_id}/tenders", {"reference": "pm_ok"}, headers)
    assert paid.status_code == 201, paid.text


async def test_a_hold_is_placed_seen_and_released(desk: FrontDesk) -> None:
    """201 with what it stops, for how long and who may end it; the snapshot waits for it; then the order goes on."""
    service = await desk.known("service")
    order_id, path = await _waiting(desk)
    answer = await service.post(path, {"type": "address", "blocks": ["release"], "reason": "number_missing"}, WAIT)
    assert answer.status_code == 201, answer.text
    hold = answer.json()
    assert answer.headers["location"] == f"{path}/{hold['id']}"
    assert answer.headers["etag"] == f'"v{hold["order_version"]}"'
    told = {
        name: hold[name] for name in ("type", "state", "blocks", "owner", "released_by", "at_limit", "reason", "line")
    }
    assert told == {
        "type": "address",
        "state": "placed",
        "blocks": ["release"],
        "owner": "service",
        "released_by": ["service", "ops"],
        "at_limit": "escalate",
        "reason": "number_missing",
        "line": None,
    }
    assert hold["placed_by"].startswith("service:")
    await _pays(desk, order_id)
    held = await desk.becomes(order_id, payment_status="authorized")
    seen = {name: value for name, value in hold.items() if name != "order_version"}
    assert held["holds"] == [seen]
    wait = held["wait"]
    assert (wait["waiting_on"], wait["owner"], wait["cause"], wait["deadline"]) == (
        "hold",
        "service",
        "hold",
        hold["expires_at"],
    )
    released = await service.post(f"{path}/{hold['id']}/release", {"reason": "customer_confirmed"}, WAIT)
    assert released.status_code == 200, released.text
    assert released.json()["state"] == "released"
    assert released.json()["ended_by"] == hold["placed_by"]
    await desk.at_node(order_id)
    assert (await desk.becomes(order_id, holds=[]))["status"] == "in_fulfillment"
    ended = (await service.get(f"{path}/{hold['id']}")).json()
    assert ended == {name: value for name, value in released.json().items() if name != "order_version"}
    assert (await service.get(path)).json() == {"data": [ended]}
    texts = [event["text"] for event in (await service.get(f"/v1/orders/{order_id}/events")).json()["data"]]
    assert any(text.startswith("Hold address on the order: blocks release until") for text in texts)
    assert "Hold address released (customer_confirmed)" in texts


async def test_a_rejected_hold_cancels_the_order(desk: FrontDesk) -> None:
    """200 with the id of the cancellation, which can be looked up like any other."""
    ops = await desk.known("ops")
    order_id, path = await _waiting(desk)
    hold = await _placed(ops, path, type="fraud")
    rejected = await ops.post(f"{path}/{hold['id']}/release", {"decision": "reject"}, WAIT)
    assert (rejected.status_code, rejected.json()["state"]) == (200, "rejected")
    await desk.becomes(order_id, status="cancelled")
    found = await ops.get(f"/v1/orders/{order_id}/cancellations/{rejected.json()['cancellation_id']}")
    assert (found.json()["state"], found.json()["reason"]) == ("confirmed", "fraud")
    again = await ops.post(f"{path}/{hold['id']}/release", {})
    assert (again.status_code, again.json()["reason"]) == (409, "order_closed")


async def test_the_type_decides_which_role_may_end_a_hold(desk: FrontDesk) -> None:
    """Service places a fraud hold and may not release it; finance may, also somebody who has both roles."""
    service, finance = await desk.known("service"), await desk.known("finance")
    both = await desk.caller("service", "finance")
    _, path = await _waiting(desk)
    first = await _placed(service, path, type="fraud")
    second = await _placed(service, path, type="fraud")
    foreign = await service.post(f"{path}/{first['id']}/release", {}, WAIT)
    assert (foreign.status_code, foreign.json()["reason"]) == (409, "role_may_not_release")
    assert foreign.json()["detail"] == "a fraud hold is released by the roles finance, ops"
    assert (await finance.post(f"{path}/{first['id']}/release", {}, WAIT)).json()["state"] == "released"
    released = await both.post(f"{path}/{second['id']}/release", {}, WAIT)
    assert released.status_code == 200, released.text
    assert released.json()["ended_by"].startswith("finance:")


async def test_who_may_place_a_hold(desk: FrontDesk) -> None:
    """Service and operations; nobody else, and nobody on an order that is not theirs."""
    _, path = await _waiting(desk)
    for role in ("storefront", "finance", "commerce", "warehouse", "auditor"):
        refused = await (await desk.known(role)).post(path, {"type": "manual"})
        assert (refused.status_code, refused.json()["needs_role"]) == (403, ["ops", "service"])
    stranger = await desk.caller("service", channels=["somebody-elses"])
    assert (await stranger.post(path, {"type": "manual"})).status_code == 404


async def test_what_can_be_done_about_holds_is_offered(desk: FrontDesk) -> None:
    """Placing with the lines that it would stop; ending each one, or why not."""
    service = await desk.known("service")
    order_id, path = await _waiting(desk)
    fraud = await _placed(service, path, type="fraud")
    manual = await _placed(service, path, type="manual", line=1, lasts_s=3600)
    offered = (await service.get(f"/v1/orders/{order_id}")).json()["available_actions"]
    about = [action for action in offered if "hold" in action["action"]]
    detail = "a fraud hold is released by the roles finance, ops"
    assert about == [
        {"action": "place_hold", "available": True, "lines": [{"line": 1, "quantity": 2}]},
        {
            "action": "release_hold",
            "hold_id": fraud["id"],
            "available": False,
            "reason": "role_may_not_release",
            "detail": detail,
        },
        {"action": "release_hold", "hold_id": manual["id"], "available": True},
    ]


async def test_the_same_key_meets_the_same_hold(desk: FrontDesk) -> None:
    """Same status, same body, marked as replayed; another body with that key is refused. So for its release."""
    ops = await desk.known("ops")
    order_id, path = await _waiting(desk)
    key = {"idempotency-key": f"hold-{order_id}", **WAIT}
    first = await ops.post(path, {"type": "manual"}, key)
    second = await ops.post(path, {"type": "manual"}, key)
    other = await ops.post(path, {"type": "fraud"}, key)
    assert (first.status_code, second.status_code, other.status_code) == (201, 201, 422)
    assert second.json() == first.json()
    assert second.headers["idempotency-replayed"] == "true"
    assert len((await ops.get(path)).json()["data"]) == 1
    ending = f"{path}/{first.json()['id']}/release"
    ended = [await ops.post(ending, {}, {"idempotency-key": f"end-{order_id}", **WAIT}) for _ in range(2)]
    assert [answer.status_code for answer in ended] == [200, 200]
    assert ended[0].json() == ended[1].json()
    late = await ops.post(ending, {}, WAIT)
    assert (late.status_code, late.json()["reason"]) == (409, "hold_not_placed")


async def test_what_the_order_refuses_says_why(desk: FrontDesk) -> None:
    """409 by code for what the rules refuse; 404 for a line or a hold that is not there."""
    ops = await desk.known("ops")
    _, path = await _waiting(desk)
    long = await ops.post(path, {"type": "fraud", "lasts_s": 30 * 86_400}, WAIT)
    foreign = await ops.post(path, {"type": "address", "blocks": ["refund"]}, WAIT)
    missing = await ops.post(path, {"type": "manual", "line": 7}, WAIT)
    unknown = await ops.post(f"{path}/hld_nothing/release", {}, WAIT)
    assert (long.status_code, long.json()["reason"]) == (409, "hold_too_long")
    assert (foreign.status_code, foreign.json()["reason"]) == (409, "hold_may_not_block")
    assert (missing.status_code, missing.json()["resource"]) == (404, "line")
    assert (unknown.status_code, unknown.json()["resource"]) == (404, "hold")
    assert (await ops.get(path)).json() == {"data": []}


async def test_a_body_that_cannot_be_meant_is_named(desk: FrontDesk) -> None:
    """An unknown type or step, free text for a reason, less than a minute, a field that is not there."""
    ops = await desk.known("ops")
    _, path = await _waiting(desk)
    wrong = {
        "/type": {"type": "mood"},
        "/blocks/0": {"type": "manual", "blocks": ["sleep"]},
        "/reason": {"type": "manual", "reason": "Jamie's door is at the back"},
        "/lasts_s": {"type": "manual", "lasts_s": 59},
        "/line": {"type": "manual", "line": 0},
        "/note": {"type": "manual", "note": "x"},
    }
    for pointer, body in wrong.items():
        refused = await ops.post(path, body)
        assert refused.status_code == 422, pointer
        assert [error["pointer"] for error in refused.json()["errors"]] == [pointer]


async def test_a_hold_that_nobody_has_answered_yet_can_be_looked_up(idle_desk: FrontDesk) -> None:
    """Without a worker: 202 with a place to look, where it is `requested` until the order has spoken."""
    storefront, ops = await idle_desk.known("storefront"), await idle_desk.known("ops")
    body = idle_desk.order(("LAMP", 1))
    order = (await storefront.post("/v1/orders", body, {"prefer": "respond-async"})).json()
    path = f"/v1/orders/{order['id']}/holds"
    answer = await ops.post(path, {"type": "address", "line": 1}, {"prefer": "respond-async"})
    assert answer.status_code == 202, answer.text
    hold = answer.json()
    assert (hold["state"], hold["blocks"], hold["line"], hold["owner"]) == (
        "requested",
        ["release", "ship"],
        1,
        "service",
    )
    assert answer.headers["location"] == f"{path}/{hold['id']}"
    (row,) = await idle_desk.shop.sql("SELECT command_id FROM commands WHERE order_id = :o", o=order["id"])
    assert hold["id"] == derived_id("hld", order["id"], row["command_id"])
    looked_up = (await ops.get(answer.headers["location"])).json()
    assert looked_up == {name: value for name, value in hold.items() if name != "note"}
    assert (await ops.get(f"{path}/hld_nothing")).status_code == 404
