"""Parcels that do not arrive over HTTP: what the carrier tells, whose case it is, and who decides."""

from typing import Any

from tests.http.test_exceptions import WAIT, case_of
from tests.support.eventually import eventually
from tests.support.front_desk import AT, FrontDesk


async def _shipped(desk: FrontDesk, units: int = 1) -> tuple[dict[str, Any], dict[str, Any]]:
    """An order whose parcel has left."""
    order = await desk.place(("LAMP", units))
    part = await desk.packed(order["id"])
    floor = await desk.known("warehouse")
    report = {"report_id": f"{part['id']}-out", "kind": "handed_over", "occurred_at": AT}
    assert (await floor.post(f"/v1/fulfillment-orders/{part['id']}/reports", report, WAIT)).status_code == 201
    return order, part


async def _told(desk: FrontDesk, part: dict[str, Any], kind: str, at: str = AT) -> dict[str, Any]:
    floor = await desk.known("warehouse")
    event = {"event_id": f"{part['id']}-{kind}", "type": kind, "occurred_at": at}
    answer = await floor.post(f"/v1/shipments/{part['shipment_id']}/events", event, WAIT)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_parcel_that_comes_back_is_sent_again_by_resolving_its_case(desk: FrontDesk) -> None:
    """Service asks the customer, chooses, and the order shows what stands for what."""
    # given
    order, part = await _shipped(desk)
    told = await _told(desk, part, "return_to_sender")
    case = await case_of(desk, order["id"], "parcel_returning")
    service = await desk.known("service")
    # when
    resolved = await service.post(f"/v1/exceptions/{case['id']}/resolutions", {"choice": "reship"}, WAIT)
    back = await _told(desk, part, "returned")
    # then
    assert (told["applied"], told["shipment"]["state"]) == (True, "return_to_sender")
    assert (resolved.status_code, resolved.json()["state"]) == (201, "resolved")
    assert case["choices"] == ["reship", "refund", "dismiss"]
    assert (back["applied"], back["shipment"]["state"]) == (True, "returned")

    async def again() -> dict[str, Any] | None:
        found: dict[str, Any] = (await service.get(f"/v1/orders/{order['id']}")).json()
        return found if len(found["fulfillment_orders"]) == 2 else None

    found = await eventually(again)
    assert [(line["replaces_line"], line["replaces_parcel"], line["total_minor"]) for line in found["lines"]] == [
        (None, None, found["totals"]["ordered_minor"]),
        (1, part["shipment_id"], 0),
    ]
    assert found["totals"]["credited_minor"] == 0
    parts = {one["id"]: one for one in found["fulfillment_orders"]}
    assert (parts[part["id"]]["stage"], parts[part["id"]]["remedy"]) == ("returned", "reship")
    assert found["shipments"][0]["returned_at"] is not None


async def test_a_choice_is_refused_where_nothing_waits_for_it(desk: FrontDesk) -> None:
    """A parcel on its way is in no trouble; a remedy that there is not is named."""
    # given
    order, _ = await _shipped(desk)
    service = await desk.known("service")
    path = f"/v1/orders/{order['id']}/remedies"
    # when
    early = await service.post(path, {"remedy": "refund"}, WAIT)
    wrong = await service.post(path, {"remedy": "voucher"}, WAIT)
    # then
    assert (early.status_code, early.json()["reason"]) == (409, "no_parcel_in_trouble")
    assert wrong.status_code == 422


async def test_a_choice_by_its_own_route_names_the_parcels(desk: FrontDesk) -> None:
    """The same key again is the same choice."""
    # given
    order, part = await _shipped(desk)
    await _told(desk, part, "return_to_sender")
    service = await desk.known("service")
    path = f"/v1/orders/{order['id']}/remedies"
    body = {"remedy": "refund", "shipment_id": part["shipment_id"]}
    key = {"idempotency-key": f"remedy-{order['id']}", **WAIT}
    # when
    first = await service.post(path, body, key)
    again = await service.post(path, body, key)
    await _told(desk, part, "returned")
    # then
    assert (first.status_code, first.json()["shipments"], first.json()["state"]) == (
        201,
        [part["shipment_id"]],
        "applied",
    )
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json() == first.json()

    async def ended() -> dict[str, Any] | None:
        found: dict[str, Any] = (await service.get(f"/v1/orders/{order['id']}")).json()
        return found if found["status"] == "completed" else None

    found = await eventually(ended)
    assert (found["payment_status"], found["fulfillment_status"]) == ("refunded", "not_delivered")
    assert (found["totals"]["credited_minor"], found["totals"]["owed_minor"]) == (found["totals"]["ordered_minor"], 0)
    late = await _told(desk, part, "delivered")
    assert (late["applied"], late["why"]) == (
        False,
        "the order is closed, and the parcel was made good: a person looks",
    )
    await case_of(desk, order["id"], "found_after_loss")
    refused = await service.post(path, {"remedy": "reship"}, WAIT)
    assert (refused.status_code, refused.json()["reason"]) == (409, "order_closed")
