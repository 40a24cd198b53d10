"""A parcel that has left is asked back over HTTP: tried first, asked for, seen on the order, refused with a reason."""

from typing import Any

from tests.http.test_remedies import _shipped, _told
from tests.support.eventually import eventually
from tests.support.front_desk import FrontDesk

ASK = {"reason": "changed_mind", "recall": True}
WAIT = {"prefer": "wait=15"}


def _actions(order: dict[str, Any]) -> list[dict[str, Any]]:
    return [action for action in order["available_actions"] if action["action"] == "recall"]


async def _turned_round(desk: FrontDesk, order_id: str) -> dict[str, Any]:
    """The order, once its parcel comes back."""
    ops = await desk.known("ops")

    async def so() -> dict[str, Any] | None:
        found: dict[str, Any] = (await ops.get(f"/v1/orders/{order_id}")).json()
        return found if found["shipments"][0]["state"] == "return_to_sender" else None

    return await eventually(so)


async def test_a_parcel_is_asked_back_and_refunded_when_it_is_there(desk: FrontDesk) -> None:
    """Offered, planned, asked for at once; the plan's money is the refund. The order shows what the carrier says."""
    # given
    order, part = await _shipped(desk, 2)
    storefront = await desk.known("storefront")
    path = f"/v1/orders/{order['id']}"
    before = await desk.becomes(order["id"], payment_status="captured")
    assert _actions(before) == [
        {"action": "recall", "available": True, "lines": [{"line": 1, "quantity": 2}], "until_stage": "shipped"}
    ]
    # when
    plan = (await storefront.post(f"{path}/cancellations", {**ASK, "dry_run": True})).json()
    asked = await storefront.post(f"{path}/cancellations", ASK, WAIT)
    # then
    assert plan["lines"] == [{"line": 1, "quantity": 2, "outcome": "needs_carrier", "node": "EAST"}]
    assert (plan["money"]["needs_carrier_minor"], plan["money"]["refund_minor"]) == (2500, 2500)
    assert asked.status_code == 201, asked.text
    noun = asked.json()
    assert noun["state"] == "recall_requested"
    assert noun["recalled"] == [{"shipment_id": part["shipment_id"], "units": 2}]
    assert noun["lines"] == [{"line": 1, "requested": 2, "cancelled": 0, "waiting": 2, "declined": 0}]
    assert noun["answer_by"] is not None
    assert noun["money"]["total_after_minor"] == 2500
    assert (await storefront.get(asked.headers["location"])).json() == noun

    returning = await _turned_round(desk, order["id"])
    assert (returning["shipments"][0]["recall"], returning["wait"]["cause"]) == ("agreed", "return_to_sender")
    assert [(a["available"], a["reason"], a["alternative"]) for a in _actions(returning)] == [
        (False, "cannot_be_recalled", "return")
    ]
    await _told(desk, part, "returned")
    ended = await desk.becomes(order["id"], status="completed", payment_status="refunded")
    assert (ended["totals"]["credited_minor"], ended["fulfillment_orders"][0]["remedy"]) == (2500, "refund")


async def test_what_cannot_come_back_is_refused_with_a_reason(desk: FrontDesk) -> None:
    """Part of a parcel, other options with it, what was delivered; the plan says so too; a plain refusal hints."""
    order, part = await _shipped(desk, 2)
    service = await desk.known("service")
    path = f"/v1/orders/{order['id']}/cancellations"
    some = await service.post(path, {**ASK, "lines": [{"line": 1, "quantity": 1}]}, WAIT)
    kept = await service.post(path, {**ASK, "refund": "none"}, WAIT)
    plain = await service.post(path, {"reason": "changed_mind"}, WAIT)
    bad = await service.post(path, {**ASK, "recall": "yes"}, WAIT)
    assert [(a.status_code, a.json()["reason"]) for a in (some, kept, plain)] == [
        (409, "whole_parcels_only"),
        (409, "recall_is_refunded"),
        (409, "already_handed_over"),
    ]
    assert "with recall the carrier is asked" in plain.json()["detail"]
    assert bad.status_code == 422
    await desk.becomes(order["id"], payment_status="captured")
    await _told(desk, part, "in_transit")
    plan = (await service.post(path, {**ASK, "lines": [{"line": 1, "quantity": 1}], "dry_run": True})).json()
    assert (plan["allowed"], plan["refusal"]["reason"], plan["refusal"]["alternative"]) == (
        False,
        "whole_parcels_only",
        "return",
    )
    await _told(desk, part, "delivered")
    await desk.becomes(order["id"], status="completed")
    late = (await service.post(path, ASK, WAIT)).json()
    plan = (await service.post(path, {**ASK, "dry_run": True})).json()
    assert [(no["reason"], no["alternative"]) for no in (late, plan["refusal"])] == [("order_closed", "return")] * 2


async def test_before_anything_has_left_a_recall_is_a_cancellation(desk: FrontDesk) -> None:
    """Nobody is asked who has nothing; and nothing is offered."""
    order = await desk.place(("LAMP", 1))
    storefront = await desk.known("storefront")
    assert _actions((await storefront.get(f"/v1/orders/{order['id']}")).json()) == []
    answer = await storefront.post(f"/v1/orders/{order['id']}/cancellations", ASK, WAIT)
    assert (answer.status_code, answer.json()["state"], answer.json()["recalled"]) == (201, "confirmed", [])
