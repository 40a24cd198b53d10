"""Closing an order by force, and writing money off, over HTTP: who may, and what is answered."""

from typing import Any

from providers.payments import CaptureRequest, PaymentOk
from providers.payments.simulated import SimulatedPayments
from tests.http.test_exceptions import WAIT, case_of, resolve
from tests.support.eventually import eventually
from tests.support.front_desk import AT, FrontDesk
from worker import make_sweep

GONE = {"reason": "node_gone"}


async def _case(desk: FrontDesk, order_id: str, code: str) -> dict[str, Any]:
    ops = await desk.known("ops")

    async def there() -> dict[str, Any] | None:
        found = (await ops.get(f"/v1/exceptions?order={order_id}&code={code}")).json()["data"]
        return found[0] if found else None

    return await eventually(there)


async def test_operations_close_an_order_and_nobody_else_may(desk: FrontDesk) -> None:
    """201 with what was undone, the order is over, and one case says what its node still has."""
    # given
    order = await desk.place(("LAMP", 2))
    part = await desk.at_node(order["id"])
    path = f"/v1/orders/{order['id']}/force-closures"
    for role in ("service", "finance", "warehouse", "storefront", "commerce", "auditor"):
        refused = await (await desk.known(role)).post(path, GONE, WAIT)
        assert (refused.status_code, refused.json()["type"]) == (403, "/problems/forbidden"), role
    ops = await desk.known("ops")
    # when
    key = {"idempotency-key": f"force-{order['id']}", **WAIT}
    answer = await ops.post(path, GONE, key)
    again = await ops.post(path, GONE, key)
    # then
    assert answer.status_code == 201, answer.text
    told = answer.json()
    assert (told["state"], told["reason"], told["cancelled_units"]) == ("closing", "node_gone", 2)
    assert told["left_at_nodes"] == [f"EAST has 2 units ({part['id']}, released)"]
    assert (again.status_code, again.json()) == (201, told)
    assert again.headers["idempotency-replayed"] == "true"
    done = await desk.becomes(order["id"], status="cancelled")
    assert done["payment_status"] == "voided"
    case = await _case(desk, order["id"], "closed_by_force")
    assert (case["owner"], case["state"], case["choices"]) == ("fulfillment", "open", ["dismiss"])
    later = await ops.post(path, GONE, WAIT)
    assert (later.status_code, later.json()["reason"]) == (409, "order_closed")
    assert (await resolve(ops, case["id"], "dismiss"))[1]["state"] == "resolved"


async def test_a_parcel_that_leaves_afterwards_is_a_case_and_no_lost_unit(desk: FrontDesk) -> None:
    """The node ships though the order has ended: refused, and a person books the units out, once."""
    # given
    order = await desk.place(("LAMP", 1))
    part = await desk.packed(order["id"])
    ops = await desk.known("ops")
    assert (await ops.post(f"/v1/orders/{order['id']}/force-closures", GONE, WAIT)).status_code == 201
    await desk.becomes(order["id"], status="cancelled")
    # when
    warehouse = await desk.known("warehouse")
    report = {"report_id": "late-1", "kind": "handed_over", "occurred_at": AT}
    answer = await warehouse.post(f"/v1/fulfillment-orders/{part['id']}/reports", report, WAIT)
    event = {"event_id": f"late-{order['id']}", "type": "in_transit", "occurred_at": AT}
    scanned = await warehouse.post(f"/v1/shipments/{part['shipment_id']}/events", event, WAIT)
    await make_sweep(desk.shop.engine, desk.shop.client, 7)()
    # then
    assert (answer.status_code, answer.json()["reason"]) == (409, "order_closed")
    assert (scanned.status_code, scanned.json()["applied"]) == (200, False)
    case = await _case(desk, order["id"], "left_after_close")
    assert (case["owner"], case["state"]) == ("fulfillment", "open")
    assert part["id"] in case["detail"]
    found = (await ops.get(f"/v1/exceptions?order={order['id']}&code=left_after_close")).json()["data"]
    assert len(found) == 1


async def test_what_cannot_be_read_closes_nothing(desk: FrontDesk) -> None:
    """No reason, free text, too much: 422, and the order goes on."""
    order = await desk.place(("LAMP", 1))
    ops = await desk.known("ops")
    for body in ({}, {"reason": "Jamie said so"}, {**GONE, "force": True}):
        answer = await ops.post(f"/v1/orders/{order['id']}/force-closures", body)
        assert answer.status_code == 422
    assert (await desk.at_node(order["id"]))["state"] == "submitted"


async def test_finance_writes_off_what_cannot_be_taken(desk: FrontDesk) -> None:
    """The case is resolved by it, and the order ends; another team may not."""
    # given
    order = await desk.place(("LAMP", 1))
    part = await desk.at_node(order["id"])
    await _captured_outside(desk, order["id"], 500)
    service = await desk.known("service")
    body = {"reason": "other", "refund": "none"}
    assert (await service.post(f"/v1/orders/{order['id']}/cancellations", body, WAIT)).status_code in (201, 202)
    case = await case_of(desk, order["id"], "payment_kept_missing")
    finance = await desk.known("finance")
    assert (await finance.get(f"/v1/exceptions/{case['id']}")).json()["choices"] == ["write_off", "dismiss"]
    assert (await resolve(await desk.known("warehouse"), case["id"], "write_off"))[0] == 403
    # when
    status, resolved = await resolve(finance, case["id"], "write_off")
    # then
    assert (status, resolved["state"]) == (201, "resolved")
    assert (resolved["resolution"]["choice"], resolved["resolution"]["state"]) == ("write_off", "applied")
    done = await desk.becomes(order["id"], status="cancelled")
    assert done["totals"]["owed_minor"] == 500
    assert part["node"] == "EAST"


async def _captured_outside(desk: FrontDesk, order_id: str, amount_minor: int) -> None:
    """Somebody takes a part at the payment provider's own console."""
    (tender,) = await desk.shop.sql("SELECT authorization_ref FROM tenders WHERE order_id = :o", o=order_id)
    request = CaptureRequest(
        key=f"{order_id}:console",
        order_id=order_id,
        authorization_ref=tender["authorization_ref"],
        amount_minor=amount_minor,
        currency="USD",
    )
    assert isinstance(await SimulatedPayments(desk.shop.simulation).capture(request), PaymentOk)
