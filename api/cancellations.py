"""Routes of cancellations and of replaced payments. Owner: service."""

import time
from typing import Annotated, Any

from fastapi import Path
from fastapi.responses import JSONResponse, Response

from api import examples
from api.answers import Cancellation, CancellationList, CancellationPlanOut, TenderAdded
from api.commanding import Message, Outcome, command, not_allowed, previewed
from api.front import Call, CurrentCall
from api.gateway import Refused
from api.orders import PRIVATE, OrderId, etag
from api.problems import Problem, not_found
from api.rendering import ALTERNATIVES, cancellation_id, render_cancel_outcome, render_cancellation
from api.routing import COMMAND_PROBLEMS, KEY_HEADER, WAIT_HEADER, Routes
from api.schemas import AddTender, RequestCancellation
from domain.ids import new_id
from domain.lifecycle import PaymentState
from domain.orders import CancelReason
from domain.permissions import actor_of
from store.commands import list_commands
from store.reads import OrderHead, read_order
from workflows.messages import CancelOrder, LineUnits, PaymentEvent

routes = Routes()


def command_headers(location: str, outcome: Outcome, preference: dict[str, str]) -> dict[str, str]:
    """Headers of an answer to a command."""
    headers = {"Location": location, **PRIVATE, **preference}
    if outcome.done:
        version = outcome.outcome.get("order_version")
        if version is not None:
            headers["ETag"] = etag(version)
    else:
        headers["Retry-After"] = "1"
        headers.setdefault("Preference-Applied", "respond-async")
    if outcome.replayed:
        headers["Idempotency-Replayed"] = "true"
    return headers


def fresh_command_id() -> str:
    """The id of a command that has no name of its own."""
    return new_id("cmd", time.time_ns() // 1_000_000)


@routes.add(
    "POST",
    "/v1/orders/{order_id}/cancellations",
    "requestCancellation",
    answers={
        200: (CancellationPlanOut, "`dry_run`: what cancelling would do now. Nothing was changed."),
        201: (Cancellation, "The outcome of the cancellation."),
        202: (Cancellation, "Stored; a node's answer, or the order's, follows. Look at `Location`."),
    },
    problems=(*COMMAND_PROBLEMS, "engine-unavailable"),
    body=(RequestCancellation, examples.CANCELLATION),
    headers={**KEY_HEADER, **WAIT_HEADER},
)
async def request(call: CurrentCall, order_id: OrderId) -> Response:
    """Cancels units of lines, or everything that has not left. A node that has them must agree: silence is no consent.

    With `recall` the carrier is asked to bring back whole parcels that have left: the answer comes at once, and what
    the carrier says is told by the shipment. What comes back is refunded when it is there.

    A plan (`dry_run`) names the `order_version` it was made for. If-Match is not evaluated yet, and refused.
    """
    body, request_fingerprint = await call.body(RequestCancellation, call.front.limits.command_bytes)
    head = await call.head(order_id)
    lines = tuple(LineUnits(units.line, units.quantity) for units in body.lines)
    if body.dry_run:
        return JSONResponse(await _plan(call, head, lines, body), 200, PRIVATE)
    wait = call.wait()
    command_id = fresh_command_id()
    content = CancelOrder(
        command_id=command_id,
        reason=CancelReason(body.reason),
        lines=lines,
        restock=body.restock,
        refund=body.refund,
        all_or_nothing=body.all_or_nothing,
        recall=body.recall,
        actor=actor_of(call.principal, call.operation_id),
    )
    message = Message("cancel", "cancel", command_id, content)
    outcome = await command(call, head, message, call.asked(request_fingerprint), wait)
    noun = render_cancellation(outcome.command, outcome.note)
    if outcome.done:
        noun = {**noun, **render_cancel_outcome(outcome.outcome)}
    location = f"/v1/orders/{head.order_id}/cancellations/{noun['id']}"
    return JSONResponse(noun, 201 if outcome.done else 202, command_headers(location, outcome, wait.headers))


async def _plan(call: Call, head: OrderHead, lines: tuple[LineUnits, ...], body: RequestCancellation) -> dict[str, Any]:
    """What the order's own rules say about cancelling it now."""
    role = actor_of(call.principal, call.operation_id).role
    wish = (lines, role, body.restock, body.refund, body.all_or_nothing, body.recall)
    said = await previewed(call, head, "preview_cancel", *wish)
    base: dict[str, Any] = {"dry_run": True, "order_version": head.version}
    if isinstance(said, Refused):
        return {**base, **not_allowed(said)}
    row = await call.front.read(lambda c: read_order(c, call.principal, call.operation_id, head.order_id))
    return {**base, "allowed": True, **_planned(said, row or {}, body)}


def _planned(plan: dict[str, Any], row: dict[str, Any], body: RequestCancellation) -> dict[str, Any]:
    """The plan in the words of the API. A node or a carrier that does not agree changes its part of it."""
    nowhere = [*plan["backordered_units"], *plan["open_units"]]
    lines = [{"line": n, "quantity": q, "outcome": "immediate"} for n, q in nowhere]
    lines += [{"line": n, "quantity": q, "outcome": "immediate", "node": node} for n, node, q in plan["held_units"]]
    nodes = {part["id"]: part["node"] for part in row.get("fulfillment_orders", ())}
    for outcome, parts in (
        ("immediate", plan["at_once"]),
        ("needs_node", plan["asked"]),
        ("needs_carrier", plan["recalled"]),
    ):
        for part, units in parts:
            lines += [{"line": n, "quantity": q, "outcome": outcome, "node": nodes.get(part)} for n, q in units]
    refused = (("handed_over", "already_handed_over"), ("stopping", "cancellation_in_progress"))
    for name, reason in refused:
        why = {"outcome": "refused", "reason": reason, "alternative": ALTERNATIVES.get(reason)}
        lines += [{"line": n, "quantity": q, **why} for n, q in plan[name]]
    money = _planned_money(plan, row, body)
    return {"lines": sorted(lines, key=lambda line: line["line"]), "restock": body.restock, "money": money}


def _planned_money(plan: dict[str, Any], row: dict[str, Any], body: RequestCancellation) -> dict[str, int]:
    owed, value = row.get("owed_minor", 0), plan["value_at_once_minor"] + plan["value_asked_minor"]
    kept = value if body.refund == "none" else 0
    value += plan["value_recalled_minor"]
    taken = sum(tender["captured_minor"] - tender["refunded_minor"] for tender in row.get("tenders", ()))
    return {
        "total_before_minor": owed,
        "total_after_minor": owed - value + kept,
        "needs_node_minor": plan["value_asked_minor"],
        "needs_carrier_minor": plan["value_recalled_minor"],
        "kept_minor": kept,
        "refund_minor": max(0, taken - (owed - value + kept)),
    }


@routes.add(
    "GET",
    "/v1/orders/{order_id}/cancellations",
    "listCancellations",
    answers={200: (CancellationList, "At most 200, oldest first.")},
    problems=("not-found",),
)
async def list_(call: CurrentCall, order_id: OrderId) -> Response:
    """The cancellations that were asked for, with what became of them."""
    head = await call.head(order_id)
    found = await call.front.read(lambda c: list_commands(c, head.order_id, "cancel"))
    return JSONResponse({"data": [render_cancellation(one) for one in found]}, 200, PRIVATE)


@routes.add(
    "GET",
    "/v1/orders/{order_id}/cancellations/{cancellation_id}",
    "getCancellation",
    answers={200: (Cancellation, "The cancellation; `requested` until there is an outcome.")},
    problems=("not-found",),
)
async def get(
    call: CurrentCall,
    order_id: OrderId,
    cancellation: Annotated[str, Path(alias="cancellation_id", max_length=64)],
) -> Response:
    """One cancellation and what became of it."""
    head = await call.head(order_id)
    for one in await call.front.read(lambda c: list_commands(c, head.order_id, "cancel")):
        if cancellation_id(one.command_id) == cancellation:
            return JSONResponse(render_cancellation(one), 200, PRIVATE)
    raise not_found("cancellation")


@routes.add(
    "POST",
    "/v1/orders/{order_id}/tenders",
    "addTender",
    answers={
        201: (TenderAdded, "The new reference was authorized."),
        202: (TenderAdded, "Stored; the provider's answer follows."),
    },
    problems=(*COMMAND_PROBLEMS, "idempotency-key-missing", "payment-declined"),
    body=(AddTender, examples.TENDER),
    headers={**KEY_HEADER, **WAIT_HEADER},
)
async def add_tender(call: CurrentCall, order_id: OrderId) -> Response:
    """Gives a declined tender a new reference, which is tried at once. Needs an Idempotency-Key."""
    body, request_fingerprint = await call.body(AddTender, call.front.limits.command_bytes)
    asked = call.asked(request_fingerprint)
    if asked.key is None:
        raise Problem("idempotency-key-missing", "Adding a tender needs the header Idempotency-Key.")
    head = await call.head(order_id)
    tender_id = await _tender_to_replace(call, head, body)
    wait = call.wait()
    command_id = fresh_command_id()
    content = PaymentEvent(
        command_id=command_id,
        tender_id=tender_id,
        fact="method_updated",
        reference=body.reference,
        actor=actor_of(call.principal, call.operation_id),
    )
    message = Message("payment_event", "add_tender", command_id, content)
    outcome = await command(call, head, message, asked, wait)
    return _tender_answer(head, outcome, wait.headers)


async def _tender_to_replace(call: Call, head: OrderHead, body: AddTender) -> str:
    row = await call.front.read(lambda c: read_order(c, call.principal, call.operation_id, head.order_id))
    tenders = row["tenders"] if row else []
    declined = [tender["id"] for tender in tenders if tender["state"] == PaymentState.FAILED]
    if body.tender_id is not None and body.tender_id not in [tender["id"] for tender in tenders]:
        raise not_found("tender")
    found = body.tender_id or next(iter([*declined, *(tender["id"] for tender in tenders)]), None)
    if found is None:
        text = "The order has no payment that could be replaced."
        raise Problem(
            "action-not-available",
            text,
            order_id=head.order_id,
            action="add_tender",
            reason="no_tender",
            alternative=None,
            state=head.status,
            lines=[],
        )
    return str(found)


def _tender_answer(head: OrderHead, outcome: Outcome, preference: dict[str, str]) -> Response:
    tender_id = outcome.command.payload["tender_id"]
    told = outcome.outcome
    headers = command_headers(f"/v1/orders/{head.order_id}", outcome, preference)
    if outcome.done and told["state"] == PaymentState.FAILED:
        kept = {name: value for name, value in headers.items() if name != "Location"}
        raise Problem(
            "payment-declined",
            "The provider declined the new reference; the order is unchanged.",
            headers=kept,
            order_id=head.order_id,
            decline_code=told.get("decline_code"),
            tender_id=tender_id,
        )
    noun = {"id": tender_id, "order_id": head.order_id, "state": told.get("state", "requested")}
    if outcome.done:
        noun["order_version"] = told["order_version"]
    elif outcome.note:
        noun["note"] = outcome.note
    return JSONResponse(noun, 201 if outcome.done else 202, headers)
