"""Nodes and carriers over HTTP: the work list, reports, events of parcels, until the order is delivered."""

from tests.support.front_desk import AT, FrontDesk

WAIT = {"prefer": "wait=15"}


async def test_from_the_work_list_to_the_door(desk: FrontDesk) -> None:
    """A node sees its work, reports each step, the carrier scans, and the order is completed and paid."""
    order = await desk.place(("LAMP", 2))
    part = await desk.at_node(order["id"])
    warehouse = await desk.known("warehouse")
    listed = await warehouse.all_of("/v1/fulfillment-orders?node=EAST&state=submitted&limit=200")
    mine = next(work for work in listed if work["id"] == part["id"])
    assert mine["lines"] == [{"line": 1, "sku": desk.shop.sku("LAMP"), "quantity": 2}]
    assert "customer" not in mine
    for kind in ("accepted", "picked", "packed"):
        told = await desk.report(part["id"], kind)
        assert (told["status"], told["applied"]) == (201, True)
    parcel = await desk.labelled(part["id"])
    assert (await desk.report(part["id"], "handed_over"))["status"] == 201
    event = {"event_id": f"{order['id']}-1", "type": "delivered", "occurred_at": AT}
    path = f"/v1/shipments/{parcel['shipment_id']}/events"
    scanned = await warehouse.post(path, event, WAIT)
    assert (scanned.status_code, scanned.json()["applied"]) == (200, True)
    done = await desk.becomes(order["id"], status="completed")
    assert done["payment_status"] == "captured"
    assert done["payment"]["captured_minor"] == done["totals"]["owed_minor"] == 2500
    assert done["lines"][0]["quantities"] == {"delivered": 2}
    assert done["shipments"][0]["state"] == "delivered"
    assert done["wait"] is None
    late = await warehouse.post(path, {**event, "event_id": "late", "type": "in_transit"}, WAIT)
    assert (late.status_code, late.json()["applied"], late.json()["why"]) == (200, False, "the order is closed")
    rows = await desk.shop.sql(
        "SELECT applied, why FROM tracking_events WHERE shipment_id = :s AND event_id = 'late'", s=parcel["shipment_id"]
    )
    assert rows == [{"applied": False, "why": "the order is closed"}]
    too_late = await desk.report(part["id"], "accepted", "late")
    assert (too_late["status"], too_late["reason"]) == (409, "order_closed")


async def test_a_repeated_report_changes_nothing(desk: FrontDesk) -> None:
    """The node's own id is the key: 200, applied false; with other content it is refused."""
    order = await desk.place(("LAMP", 1))
    part = await desk.at_node(order["id"])
    first = await desk.report(part["id"], "accepted", "R-1")
    second = await desk.report(part["id"], "accepted", "R-1")
    other = await desk.report(part["id"], "packed", "R-1")
    assert (first["status"], first["applied"]) == (201, True)
    assert (second["status"], second["applied"], second["why"]) == (200, False, "reported before")
    assert (other["status"], other["type"]) == (422, "/problems/idempotency-mismatch")
    events = (await (await desk.known("ops")).get(f"/v1/orders/{order['id']}/events")).json()["data"]
    assert [event["type"] for event in events].count("fulfillment.accepted") == 1


async def test_a_report_that_does_not_fit_is_refused_with_what_does(desk: FrontDesk) -> None:
    """409 `illegal_transition`, the text names what is possible, and the state is unchanged."""
    order = await desk.place(("LAMP", 1))
    part = await desk.at_node(order["id"])
    warehouse = await desk.known("warehouse")
    refused = await desk.report(part["id"], "handed_over")
    assert (refused["status"], refused["reason"]) == (409, "illegal_transition")
    assert "accepted" in str(refused["detail"])
    assert (await warehouse.get(f"/v1/fulfillment-orders/{part['id']}")).json()["state"] == "submitted"
    unknown = await desk.report(part["id"], "vanished")
    assert (unknown["status"], unknown["type"]) == (422, "/problems/validation")


async def test_carrier_events_repeat_and_come_in_any_order(desk: FrontDesk) -> None:
    """A repeat is a duplicate, an older one is kept and answered with a why; none is refused."""
    order = await desk.place(("LAMP", 1))
    part = await desk.at_node(order["id"])
    warehouse = await desk.known("warehouse")
    await desk.report(part["id"], "packed")
    parcel = await desk.labelled(part["id"])
    path = f"/v1/shipments/{parcel['shipment_id']}/events"
    out = {"event_id": "E-1", "type": "out_for_delivery", "occurred_at": AT}
    first = (await warehouse.post(path, out, WAIT)).json()
    again = await warehouse.post(path, out, WAIT)
    older = (await warehouse.post(path, {**out, "event_id": "E-2", "type": "in_transit"}, WAIT)).json()
    assert (first["applied"], first["duplicate"], first["shipment"]["state"]) == (True, False, "out_for_delivery")
    assert again.status_code == 200
    assert (again.json()["applied"], again.json()["duplicate"]) == (False, True)
    assert (older["applied"], older["why"]) == (False, "parcel is already out_for_delivery")


async def test_the_work_list_is_paged_by_a_signed_cursor(desk: FrontDesk) -> None:
    """Pages do not overlap, and a cursor does not fit other filters."""
    for _ in range(3):
        order = await desk.place(("LAMP", 1))
        await desk.at_node(order["id"])
    warehouse = await desk.known("warehouse")
    seen: list[str] = []
    cursor = ""
    for _ in range(50):
        suffix = f"&cursor={cursor}" if cursor else ""
        page = (await warehouse.get(f"/v1/fulfillment-orders?state=submitted&limit=2{suffix}")).json()
        seen += [work["id"] for work in page["data"]]
        if not page["has_more"]:
            break
        cursor = page["next_cursor"]
    assert len(seen) == len(set(seen)) >= 3
    assert seen == sorted(seen)
    wrong = await warehouse.get(f"/v1/fulfillment-orders?state=shipped&cursor={cursor}")
    assert (wrong.status_code, wrong.json()["type"]) == (400, "/problems/cursor-invalid")
