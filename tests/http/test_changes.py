"""Units of an order over HTTP: cancelled in part after a look at the plan, and short at a node."""

from typing import Any

import pytest

from tests.support.eventually import eventually
from tests.support.front_desk import AT, FrontDesk

WAIT = {"prefer": "wait=15"}


async def _served_by(desk: FrontDesk, order_id: str, *nodes: str) -> dict[str, Any]:
    """The order once these nodes have a part of it."""
    ops = await desk.known("ops")

    async def so() -> dict[str, Any] | None:
        found: dict[str, Any] = (await ops.get(f"/v1/orders/{order_id}")).json()
        return found if {part["node"] for part in found["fulfillment_orders"]} == set(nodes) else None

    return await eventually(so)


async def test_units_are_cancelled_exactly_as_the_plan_said(desk: FrontDesk) -> None:
    """CASE-C10: the plan names node, units and money; doing it gives just that; the rest of the order goes on."""
    # given
    order = await desk.place(("LAMP", 3))
    await desk.at_node(order["id"])
    storefront = await desk.known("storefront")
    path = f"/v1/orders/{order['id']}/cancellations"
    ask = {"reason": "changed_mind", "lines": [{"line": 1, "quantity": 1}]}
    # when
    plan = (await storefront.post(path, {**ask, "dry_run": True})).json()
    done = await storefront.post(path, ask, WAIT)
    # then
    assert plan["lines"] == [{"line": 1, "quantity": 1, "outcome": "needs_node", "node": "EAST"}]
    assert plan["money"]["total_before_minor"] - plan["money"]["total_after_minor"] == 1166
    assert done.status_code == 201, done.text
    assert done.json()["lines"] == [{"line": 1, "requested": 1, "cancelled": 1, "waiting": 0, "declined": 0}]
    assert done.json()["money"]["total_after_minor"] == plan["money"]["total_after_minor"] == 2334
    snapshot = await desk.becomes(order["id"], status="in_fulfillment")
    assert snapshot["lines"][0]["quantities"] == {"released": 2, "cancelled": 1}


async def test_the_plan_is_refused_with_the_code_that_cancelling_is_refused_with(desk: FrontDesk) -> None:
    """More than is there: the same reason, tried first or not, and nothing has changed."""
    order = await desk.place(("LAMP", 2))
    await desk.at_node(order["id"])
    storefront = await desk.known("storefront")
    path = f"/v1/orders/{order['id']}/cancellations"
    ask = {"reason": "changed_mind", "lines": [{"line": 1, "quantity": 3}]}
    plan = (await storefront.post(path, {**ask, "dry_run": True})).json()
    refused = await storefront.post(path, ask, WAIT)
    assert (plan["allowed"], plan["refusal"]["reason"]) == (False, "quantity_exceeds_open")
    assert (refused.status_code, refused.json()["reason"]) == (409, "quantity_exceeds_open")
    assert refused.json()["detail"] == plan["refusal"]["detail"] == "line 1: 3 units asked, 2 can be cancelled"
    unknown = await storefront.post(path, {**ask, "lines": [{"line": 9, "quantity": 1}]}, WAIT)
    assert unknown.status_code == 404


async def test_a_node_is_short_of_a_unit_and_another_ships_it(desk: FrontDesk) -> None:
    """CAP-D08 over HTTP: reported with the reason, sourced again without that node, promised anew."""
    # given
    await desk.shop.stocks("VASE", EAST=2, MID=5)
    order = await desk.place(("VASE", 2))
    part = await desk.at_node(order["id"])
    warehouse = await desk.known("warehouse")
    body = {
        "report_id": f"{part['id']}-short",
        "kind": "short",
        "occurred_at": AT,
        "lines": [{"line": 1, "short": 1}],
        "reason": "damaged",
    }
    path = f"/v1/fulfillment-orders/{part['id']}/reports"
    # when
    told = await warehouse.post(path, body, WAIT)
    repeated = await warehouse.post(path, body, WAIT)
    altered = await warehouse.post(path, {**body, "lines": [{"line": 1, "short": 2}]}, WAIT)
    # then
    assert (told.status_code, told.json()["fulfillment_order"]["state"]) == (201, "in_progress"), told.text
    assert repeated.status_code == 200
    assert altered.status_code == 422
    snapshot = await _served_by(desk, order["id"], "EAST", "MID")
    promise = snapshot["promise"]
    assert promise["current_by"] > promise["original_by"]
    assert [change["cause"] for change in promise["changes"]] == ["short_pick"]


@pytest.mark.parametrize(
    "extra",
    [
        {"kind": "packed", "lines": [{"line": 1, "short": 1}]},
        {"kind": "packed", "reason": "damaged"},
        {"kind": "short", "lines": [{"line": 1, "short": 0}]},
        {"kind": "short", "reason": "boredom"},
    ],
)
async def test_a_report_that_makes_no_sense_is_refused_and_changes_nothing(
    desk: FrontDesk, extra: dict[str, object]
) -> None:
    """422, whatever is wrong with it."""
    order = await desk.place(("LAMP", 1))
    part = await desk.at_node(order["id"])
    warehouse = await desk.known("warehouse")
    body = {"report_id": f"{part['id']}-odd", "occurred_at": AT, **extra}
    answer = await warehouse.post(f"/v1/fulfillment-orders/{part['id']}/reports", body, WAIT)
    assert answer.status_code == 422
    assert (await desk.at_node(order["id"]))["id"] == part["id"]
