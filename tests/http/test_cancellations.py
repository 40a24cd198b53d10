"""Cancelling over HTTP: tried first, done, refused with an alternative, repeated, looked up."""

from tests.support.eventually import eventually
from tests.support.front_desk import FrontDesk

ASK = {"reason": "changed_mind"}
WAIT = {"prefer": "wait=15"}


async def test_a_dry_run_says_what_would_happen_and_changes_nothing(desk: FrontDesk) -> None:
    """200 with the plan; no command row, no event."""
    order = await desk.place(("LAMP", 2))
    await desk.at_node(order["id"])
    storefront = await desk.known("storefront")
    before = (await storefront.get(f"/v1/orders/{order['id']}")).json()["version"]
    plan = await storefront.post(f"/v1/orders/{order['id']}/cancellations", {**ASK, "dry_run": True})
    assert plan.status_code == 200
    assert plan.json()["allowed"] is True
    assert plan.json()["lines"] == [{"line": 1, "quantity": 2, "outcome": "needs_node", "node": "EAST"}]
    assert plan.json()["money"] == {
        "total_before_minor": 2500,
        "total_after_minor": 0,
        "needs_node_minor": 2500,
        "needs_carrier_minor": 0,
        "kept_minor": 0,
        "refund_minor": 0,
    }
    assert (await storefront.get(f"/v1/orders/{order['id']}")).json()["version"] == before
    assert await desk.shop.sql("SELECT 1 FROM commands WHERE order_id = :o", o=order["id"]) == []


async def test_a_cancellation_has_an_outcome_that_can_be_looked_up(desk: FrontDesk) -> None:
    """201 with lines, stock and money; list and single noun say the same."""
    order = await desk.place(("LAMP", 2))
    storefront = await desk.known("storefront")
    path = f"/v1/orders/{order['id']}/cancellations"
    answer = await storefront.post(path, ASK, WAIT)
    assert answer.status_code == 201, answer.text
    noun = answer.json()
    assert noun["state"] == "confirmed"
    assert noun["lines"] == [{"line": 1, "requested": 2, "cancelled": 2, "waiting": 0, "declined": 0}]
    assert noun["money"]["total_after_minor"] == 0
    assert answer.headers["location"] == f"{path}/{noun['id']}"
    assert (await storefront.get(answer.headers["location"])).json() == noun
    assert (await storefront.get(path)).json() == {"data": [noun]}
    assert (await storefront.get(f"{path}/can_00000000000000000000000000")).status_code == 404


async def test_the_same_key_meets_the_same_cancellation(desk: FrontDesk) -> None:
    """Same status, same body, marked as replayed; another body with that key is refused."""
    order = await desk.place(("LAMP", 1))
    storefront = await desk.known("storefront")
    path = f"/v1/orders/{order['id']}/cancellations"
    key = {"idempotency-key": f"cancel-{order['id']}", **WAIT}
    first = await storefront.post(path, ASK, key)
    second = await storefront.post(path, ASK, key)
    other = await storefront.post(path, {"reason": "fraud"}, key)
    assert (first.status_code, second.status_code, other.status_code) == (201, 201, 422)
    assert second.json() == first.json()
    assert second.headers["idempotency-replayed"] == "true"
    assert len((await storefront.get(path)).json()["data"]) == 1


async def test_after_hand_over_it_is_refused_and_points_to_a_return(desk: FrontDesk) -> None:
    """409 with reason and alternative, also in the stored noun and in available_actions."""
    order = await desk.place(("LAMP", 1))
    part = await desk.packed(order["id"])
    assert (await desk.report(part["id"], "handed_over"))["status"] == 201
    storefront = await desk.known("storefront")
    path = f"/v1/orders/{order['id']}/cancellations"
    key = {"idempotency-key": f"late-{order['id']}", **WAIT}
    refused = await storefront.post(path, ASK, key)
    again = await storefront.post(path, ASK, key)
    for answer in (refused, again):
        assert answer.status_code == 409
        problem = answer.json()
        assert problem["type"] == "/problems/action-not-available"
        assert (problem["action"], problem["reason"], problem["alternative"]) == (
            "cancel",
            "already_handed_over",
            "return",
        )
        assert problem["order_id"] == order["id"]
    assert again.headers["idempotency-replayed"] == "true"
    noun = (await storefront.get(path)).json()["data"][0]
    assert (noun["state"], noun["refusal"]["reason"]) == ("declined", "already_handed_over")
    snapshot = (await storefront.get(f"/v1/orders/{order['id']}")).json()
    offered = [action for action in snapshot["available_actions"] if action["action"] == "cancel"]
    assert [(a["available"], a["reason"], a["alternative"]) for a in offered] == [
        (False, "already_handed_over", "return")
    ]


async def test_a_closed_order_refuses_by_name(desk: FrontDesk) -> None:
    """`order_closed` for a command on an order that has ended."""
    order = await desk.place(("LAMP", 1))
    storefront = await desk.known("storefront")
    path = f"/v1/orders/{order['id']}/cancellations"
    await storefront.post(path, ASK, WAIT)
    await desk.becomes(order["id"], status="cancelled")
    refused = await storefront.post(path, ASK)
    plan = await storefront.post(path, {**ASK, "dry_run": True})
    assert refused.status_code == 409
    assert (refused.json()["reason"], refused.json()["state"]) == ("order_closed", "cancelled")
    assert (plan.status_code, plan.json()["allowed"]) == (200, False)
    states = [noun["state"] for noun in (await storefront.get(path)).json()["data"]]
    assert states == ["confirmed", "declined"]


async def test_a_declined_payment_is_fixed_with_a_new_reference(desk: FrontDesk) -> None:
    """402 while the new reference is declined too, 201 when it is good; the key is required."""
    order = await desk.place(("LAMP", 1), pay="pm_decline")
    waiting = await desk.becomes(order["id"], payment_status="pending")
    storefront = await desk.known("storefront")
    path = f"/v1/orders/{order['id']}/tenders"
    offered = await _offered(desk, order["id"])
    assert offered == waiting["payment"]["tenders"][0]["id"]
    missing = await storefront.post(path, {"reference": "pm_ok"})
    assert missing.json()["type"] == "/problems/idempotency-key-missing"
    declined = await storefront.post(path, {"reference": "pm_decline"}, {"idempotency-key": f"{order['id']}-1", **WAIT})
    assert declined.status_code == 402, declined.text
    assert declined.json()["tender_id"] == offered
    assert declined.json()["decline_code"]
    paid = await storefront.post(path, {"reference": "pm_ok"}, {"idempotency-key": f"{order['id']}-2", **WAIT})
    assert paid.status_code == 201, paid.text
    assert (paid.json()["id"], paid.json()["state"]) == (offered, "authorized")
    late = await storefront.post(path, {"reference": "pm_ok"}, {"idempotency-key": f"{order['id']}-3", **WAIT})
    assert (late.status_code, late.json()["reason"]) == (409, "not_yet")
    foreign = {"reference": "pm_ok", "tender_id": "tnd_" + "0" * 26}
    unknown = await storefront.post(path, foreign, {"idempotency-key": f"{order['id']}-4"})
    assert unknown.status_code == 404


async def _offered(desk: FrontDesk, order_id: str) -> str:
    storefront = await desk.known("storefront")

    async def fixable() -> str | None:
        order = (await storefront.get(f"/v1/orders/{order_id}")).json()
        offers = [a for a in order["available_actions"] if a["action"] == "add_tender" and a["available"]]
        return str(offers[0]["tender_id"]) if offers else None

    return await eventually(fixable)


SWAP = {"reason": "other", "lines": [{"line": 1, "quantity": 1}], "refund": "none", "restock": False}


async def test_service_swaps_a_unit_and_the_preview_says_what_the_result_says(desk: FrontDesk) -> None:
    """CASE-C11: no refund and written off: the same money before and after, and in the order's own totals."""
    # given
    order = await desk.place(("MUG", 2))
    await desk.at_node(order["id"])
    service = await desk.known("service")
    path = f"/v1/orders/{order['id']}/cancellations"
    # when
    plan = (await service.post(path, {**SWAP, "dry_run": True})).json()
    untouched = (await service.get(path)).json()["data"]
    done = await service.post(path, SWAP, WAIT)
    # then
    assert (plan["allowed"], plan["restock"], untouched) == (True, False, [])
    assert done.status_code == 201, done.text
    noun = done.json()
    shared = ("total_before_minor", "total_after_minor", "kept_minor", "refund_minor")
    assert {name: noun["money"][name] for name in shared} == {name: plan["money"][name] for name in shared}
    assert (noun["money"]["kept_minor"], noun["money"]["total_after_minor"]) == (1250, 2500)
    assert noun["stock"] == []
    assert noun["written_off"] == [{"sku": desk.shop.sku("MUG"), "node": "EAST", "quantity": 1}]
    assert (await service.get(done.headers["location"])).json() == noun
    snapshot = (await service.get(f"/v1/orders/{order['id']}")).json()
    names = ("ordered_minor", "cancelled_minor", "kept_minor", "owed_minor")
    assert [snapshot["totals"][name] for name in names] == [2500, 1250, 1250, 2500]
    assert [line["kept_minor"] for line in snapshot["lines"]] == [1250]


async def test_the_storefront_may_cancel_but_not_keep_or_write_off(desk: FrontDesk) -> None:
    """The cut-off rules decide, in the preview as in the command; what is malformed is a 422 and stores nothing."""
    # given
    order = await desk.place(("MUG", 2))
    await desk.at_node(order["id"])
    storefront = await desk.known("storefront")
    path = f"/v1/orders/{order['id']}/cancellations"
    # when
    for wish in ({"refund": "none"}, {"restock": False}):
        plan = (await storefront.post(path, {**ASK, **wish, "dry_run": True})).json()
        refused = await storefront.post(path, {**ASK, **wish}, WAIT)
        # then
        assert (plan["allowed"], plan["refusal"]["reason"]) == (False, "not_in_cut_off_rules")
        assert (refused.status_code, refused.json()["reason"]) == (409, "not_in_cut_off_rules")
    for wrong in ({"refund": "half"}, {"restock": "no"}, {"refund": None}):
        assert (await storefront.post(path, {**ASK, **wrong}, WAIT)).status_code == 422
    assert [one["state"] for one in (await storefront.get(path)).json()["data"]] == ["declined", "declined"]
    assert (await storefront.get(f"/v1/orders/{order['id']}")).json()["totals"]["owed_minor"] == 2500


async def test_all_or_nothing_turns_a_part_into_a_conflict(desk: FrontDesk) -> None:
    """One has left: the plan names it as refused, the wish for all is a 409; a node to be asked refuses nothing."""
    # given
    await desk.shop.stocks("ALL-HERE", EAST=1)
    await desk.shop.stocks("ALL-THERE", MID=1)
    order = await desk.place(("ALL-HERE", 1), ("ALL-THERE", 1))

    async def at_both() -> dict[str, str]:
        rows = await desk.shop.sql(
            "SELECT node_id, fulfillment_id FROM fulfillment_orders WHERE order_id = :o AND stage = 'released'",
            o=order["id"],
        )
        return {row["node_id"]: row["fulfillment_id"] for row in rows} if len(rows) == 2 else {}

    east = (await eventually(at_both))["EAST"]
    agent = await desk.known("service")
    path = f"/v1/orders/{order['id']}/cancellations"
    wish = {**ASK, "all_or_nothing": True}
    # when
    whole = (await agent.post(path, {**wish, "dry_run": True})).json()
    assert (await desk.report(east, "packed"))["status"] == 201
    await desk.labelled(east)
    assert (await desk.report(east, "handed_over"))["status"] == 201
    part = (await agent.post(path, {**ASK, "dry_run": True})).json()
    tried = (await agent.post(path, {**wish, "dry_run": True})).json()
    refused = await agent.post(path, wish, WAIT)
    wrong = await agent.post(path, {**ASK, "all_or_nothing": "yes"}, WAIT)
    done = await agent.post(path, ASK, WAIT)
    # then
    assert [(line["line"], line["outcome"]) for line in whole["lines"]] == [(1, "needs_node"), (2, "needs_node")]
    gone = {"outcome": "refused", "reason": "already_handed_over", "alternative": "return"}
    assert part["lines"] == [
        {"line": 1, "quantity": 1, **gone},
        {"line": 2, "quantity": 1, "outcome": "needs_node", "node": "MID"},
    ]
    assert (tried["allowed"], tried["refusal"]["reason"]) == (False, "only_part_possible")
    assert (refused.status_code, refused.json()["reason"]) == (409, "only_part_possible")
    assert refused.json()["detail"] == tried["refusal"]["detail"]
    assert (wrong.status_code, done.status_code) == (422, 201)
    assert [line["line"] for line in done.json()["lines"]] == [2]
