"""Routes of nodes and carriers: the work list, reports, events of parcels. Owner: fulfillment."""

from typing import Annotated, Any

from fastapi import Path, Query
from fastapi.responses import JSONResponse, Response

from api import examples
from api.cancellations import command_headers
from api.commanding import Message, Outcome, command
from api.front import CurrentCall
from api.masking import shown_address
from api.orders import PRIVATE, Limit, page_of
from api.problems import not_found
from api.rendering import render_work
from api.routing import COMMAND_PROBLEMS, KEY_HEADER, WAIT_HEADER, Routes
from api.schemas import FulfillmentReport, ShipmentEvent
from api.work_answers import FulfillmentOrder, FulfillmentOrderList, ReportResult, ScanResult
from domain.ids import derived_id
from domain.lifecycle import FulfillmentState
from domain.orders import NodeTrouble
from domain.permissions import Personal, actor_of, ship_to_view
from store.reads import OrderHead, list_work, read_parcel, read_work
from store.vault import open_vault
from workflows.messages import CarrierEvent, LineUnits, NodeReport

routes = Routes()

FulfillmentId = Annotated[str, Path(max_length=64, examples=["ful_01M84BJY070000000000000000"])]
Nodes = Annotated[list[str], Query(max_length=20, description="Repeat it for: any of these.")]
ShipmentId = Annotated[str, Path(max_length=64, examples=["shp_01M84V7R2C0000000000000000"])]


@routes.add(
    "GET",
    "/v1/fulfillment-orders",
    "listFulfillmentOrders",
    answers={200: (FulfillmentOrderList, "A page of the work, oldest first.")},
    problems=("cursor-invalid",),
)
async def list_(
    call: CurrentCall,
    node: Nodes = [],  # noqa: B006 - FastAPI copies it
    state: Annotated[list[FulfillmentState], Query(max_length=10)] = [],  # noqa: B006
    limit: Limit = 50,
    cursor: Annotated[str | None, Query(max_length=600)] = None,
) -> Response:
    """What the caller's nodes have to do, and have done."""
    filters = {"node": tuple(node), "state": tuple(state)}
    after = call.front.cursors.read(cursor, filters, length=1)[0] if cursor else ""
    rows = await call.front.read(
        lambda c: list_work(c, call.principal, filters["node"], filters["state"], after, limit + 1)
    )
    page = rows[:limit]
    more = len(rows) > limit
    following = call.front.cursors.write(filters, (page[-1]["fulfillment_id"],)) if more else None
    return page_of(call, [render_work(row) for row in page], following)


@routes.add(
    "GET",
    "/v1/fulfillment-orders/{fulfillment_id}",
    "getFulfillmentOrder",
    answers={200: (FulfillmentOrder, "The fulfillment order.")},
    problems=("not-found",),
)
async def get(call: CurrentCall, fulfillment_id: FulfillmentId) -> Response:
    """One fulfillment order: what to pick, the parcel's label, and where it goes.

    A node's own program gets the whole address, without the customer's e-mail.
    """
    row = await call.front.read(lambda c: read_work(c, call.principal, call.operation_id, fulfillment_id))
    if row is None:
        raise not_found("fulfillment order")
    view = ship_to_view(call.principal, row["node_id"])
    personal = None
    if view is not Personal.NONE:
        personal = await call.front.read(lambda c: open_vault(c, call.front.vault, row["order_id"]))
    ship_to = shown_address(row["country"], row["region"], personal, view)
    return JSONResponse({**render_work(row), "ship_to": ship_to}, 200, PRIVATE)


@routes.add(
    "POST",
    "/v1/fulfillment-orders/{fulfillment_id}/reports",
    "reportFulfillment",
    answers={
        200: (ReportResult, "The same report was taken before; nothing was changed."),
        201: (ReportResult, "The report was taken."),
        202: (ReportResult, "Stored; the order's answer follows."),
    },
    problems=COMMAND_PROBLEMS,
    body=(FulfillmentReport, examples.REPORT),
    headers={**KEY_HEADER, **WAIT_HEADER},
)
async def report(call: CurrentCall, fulfillment_id: FulfillmentId) -> Response:
    """Accepted, picked, packed, handed over, or the answer to a cancellation. A repeat changes nothing.

    `rejected` and `short` send all units of the fulfillment order back to be placed at other nodes.
    """
    body, request_fingerprint = await call.body(FulfillmentReport, call.front.limits.command_bytes)
    row = await call.front.read(lambda c: read_work(c, call.principal, call.operation_id, fulfillment_id))
    if row is None:
        raise not_found("fulfillment order")
    command_id = derived_id("cmd", fulfillment_id, "report", body.report_id)
    content = NodeReport(
        command_id=command_id,
        fulfillment_id=fulfillment_id,
        kind=body.kind,
        report_id=body.report_id,
        occurred_at=body.occurred_at,
        lines=tuple(LineUnits(units.line, units.short) for units in body.lines),
        cause=body.reason or NodeTrouble.OTHER,
        actor=actor_of(call.principal, call.operation_id),
    )
    message = Message("node_report", f"report_{body.kind}", command_id, content)
    wait = call.wait()
    outcome = await command(call, _head(row, row["order_status"]), message, call.asked(request_fingerprint), wait)
    location = f"/v1/fulfillment-orders/{fulfillment_id}"
    status = _status(outcome, changed=201)
    return JSONResponse(_reported(body.report_id, outcome), status, command_headers(location, outcome, wait.headers))


def _reported(report_id: str, outcome: Outcome) -> dict[str, Any]:
    if not outcome.done:
        found = {"report_id": report_id, "applied": False, "state": "requested"}
        return {**found, **({"note": outcome.note} if outcome.note else {})}
    told = outcome.outcome
    part = {"id": told["fulfillment_id"], "state": told["state"], "stage": told["stage"]}
    why = "reported before" if outcome.repeated else told.get("why")
    return {
        "report_id": report_id,
        "applied": told["applied"] and not outcome.repeated,
        "state": "applied",
        "fulfillment_order": part,
        "order_version": told["order_version"],
        "why": why,
    }


@routes.add(
    "POST",
    "/v1/shipments/{shipment_id}/events",
    "recordShipmentEvent",
    answers={
        200: (ScanResult, "Stored. `applied` says whether anything followed from it."),
        202: (ScanResult, "Stored; the order's answer follows."),
    },
    problems=COMMAND_PROBLEMS,
    body=(ShipmentEvent, examples.SHIPMENT_EVENT),
    headers={**KEY_HEADER, **WAIT_HEADER},
)
async def record(call: CurrentCall, shipment_id: ShipmentId) -> Response:
    """A fact about a parcel: one that comes late, twice or in another order is stored and answered with a `why`.

    A parcel that is `lost`, `damaged` or `returned` is refunded or sent again, by rule or by a person, once.
    """
    body, request_fingerprint = await call.body(ShipmentEvent, call.front.limits.command_bytes)
    row = await call.front.read(lambda c: read_parcel(c, call.principal, call.operation_id, shipment_id))
    if row is None:
        raise not_found("shipment")
    command_id = derived_id("cmd", shipment_id, "event", body.event_id)
    content = CarrierEvent(
        command_id=command_id,
        shipment_id=shipment_id,
        event_id=body.event_id,
        type=body.type,
        occurred_at=body.occurred_at,
        actor=actor_of(call.principal, call.operation_id),
    )
    message = Message("carrier_event", "record_event", command_id, content)
    wait = call.wait()
    outcome = await command(call, _head(row, row["status"]), message, call.asked(request_fingerprint), wait)
    headers = command_headers(f"/v1/orders/{row['order_id']}", outcome, wait.headers)
    scan = _scanned(body.event_id, shipment_id, outcome)
    return JSONResponse(scan, _status(outcome, changed=200), headers)


def _scanned(event_id: str, shipment_id: str, outcome: Outcome) -> dict[str, Any]:
    if not outcome.done:
        shipment = {"id": shipment_id}
        found = {"event_id": event_id, "applied": False, "duplicate": outcome.repeated, "shipment": shipment}
        return {**found, "why": "stored; the order's answer follows", "note": outcome.note}
    told = outcome.outcome
    return {
        "event_id": event_id,
        "applied": told["applied"] and not outcome.repeated,
        "duplicate": told["duplicate"] or outcome.repeated,
        "shipment": {"id": shipment_id, "state": told["state"]},
        "order_version": told["order_version"],
        "why": "known already" if outcome.repeated else told.get("why"),
    }


def _status(outcome: Outcome, changed: int) -> int:
    if not outcome.done:
        return 202
    return 200 if outcome.repeated else changed


def _head(row: dict[str, Any], status: str) -> OrderHead:
    return OrderHead(
        order_id=row["order_id"],
        status=status,
        terminal=row["terminal"],
        version=row["version"],
        changed_lately=row["changed_lately"],
    )
