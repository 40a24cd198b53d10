"""Routes of amendments: an order in flight is changed, all of it or nothing. Owner: service."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import Path
from fastapi.responses import JSONResponse, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.amendments import Amend, AmendResult, NotAmended, preview
from api.amendment_models import AMENDMENT, Amendment, AmendmentList, AmendmentPlanOut, AmendOrderIn, SetShipToIn
from api.cancellations import command_headers, fresh_command_id
from api.commanding import Message, Outcome, command, not_allowed, previewed, refusal
from api.front import Call, CurrentCall
from api.gateway import Refused
from api.orders import PRIVATE, OrderId
from api.placing import city_key
from api.problems import Finding, Problem, invalid, not_found
from api.rendering import refusal_of, stamp
from api.routing import COMMAND_PROBLEMS, KEY_HEADER, WAIT_HEADER, Routes
from domain.amendment import Change, SetShipTo
from domain.ids import derived_id
from domain.permissions import actor_of
from domain.tax_change import NewTax
from store.amendments import keep_address
from store.commands import StoredCommand, list_commands
from store.intake import find_zone
from store.reads import OrderHead
from store.vault import seal_anew
from workflows.messages import AmendOrder

routes = Routes()


@routes.add(
    "POST",
    "/v1/orders/{order_id}/amendments",
    "amendOrder",
    answers={
        200: (AmendmentPlanOut, "`dry_run`: what the change would do now. Nothing was changed."),
        201: (Amendment, "The order was changed."),
        202: (Amendment, "Stored; a node's answer, the provider's, or the order's, follows. Look at `Location`."),
    },
    problems=(*COMMAND_PROBLEMS, "engine-unavailable", "payment-declined", "out-of-stock"),
    body=(AmendOrderIn, AMENDMENT),
    headers={**KEY_HEADER, **WAIT_HEADER},
)
async def amend(call: CurrentCall, order_id: OrderId) -> Response:
    """Changes an order in flight to what is wanted: whole, or not at all.

    What it costs more is authorized first; nodes that have the work are asked to stop. Prices that the caller
    names are taken as given. If-Match is not evaluated yet, and refused.
    """
    body, request_fingerprint = await call.body(AmendOrderIn, call.front.limits.command_bytes)
    head = await call.head(order_id)
    command_id = fresh_command_id()
    content = AmendOrder(
        command_id=command_id,
        changes=await _changes(call, body),
        reason=body.reason,
        reference=body.reference,
        actor=actor_of(call.principal, call.operation_id),
    )
    if body.dry_run:
        return JSONResponse(await _plan(call, head, content), 200, PRIVATE)
    wait = call.wait()
    message = Message("amend", "amend", command_id, content, _keeping(call, head, command_id, body))
    outcome = await command(call, head, message, call.asked(request_fingerprint), wait)
    if outcome.done and outcome.outcome["state"] == "declined":
        raise _declined(head, outcome)
    noun = render(outcome.command, outcome.note)
    if outcome.done:
        noun = {**noun, **render_outcome(outcome.outcome)}
    location = f"/v1/orders/{head.order_id}/amendments/{noun['id']}"
    return JSONResponse(noun, 201 if outcome.done else 202, command_headers(location, outcome, wait.headers))


async def _changes(call: Call, body: AmendOrderIn) -> tuple[Change, ...]:
    """The changes as the order gets them: an address becomes its zone.

    Raises:
        Problem: `validation` where nothing is delivered to.
    """
    found: list[Change] = []
    for position, change in enumerate(body.changes):
        if not isinstance(change, SetShipToIn):
            found.append(change)
            continue
        to = change.ship_to
        zone_id = await call.front.read(lambda c, to=to: find_zone(c, to.country, to.region, city_key(to)))  # type: ignore[misc]
        if zone_id is None:
            text = "we do not deliver to this country and region"
            raise invalid([Finding(f"/changes/{position}/ship_to", "unknown_destination", text)])
        tax = NewTax.model_validate(change.tax.model_dump()) if change.tax else None
        found.append(SetShipTo(country=to.country, region=to.region, zone_id=zone_id, tax=tax))
    return tuple(found)


def _keeping(
    call: Call, head: OrderHead, command_id: str, body: AmendOrderIn
) -> Callable[[AsyncConnection], Awaitable[None]] | None:
    """What keeps the new address, sealed, in the transaction that stores the command; None where there is none."""
    address = next((change.ship_to for change in body.changes if isinstance(change, SetShipToIn)), None)
    if address is None:
        return None

    async def keep(connection: AsyncConnection) -> None:
        content = address.model_dump(mode="json")
        sealed = await seal_anew(connection, call.front.vault, head.order_id, content)
        if sealed is None:
            text = "The customer's personal data was erased: nobody can be shipped to."
            raise refusal(head, "amend", Refused("personal_data_erased", text))
        await keep_address(connection, head.order_id, command_id, sealed)

    return keep


async def _plan(call: Call, head: OrderHead, content: AmendOrder) -> dict[str, Any]:
    """What the order's rules say, and what stock and calendars say: the change, done and rolled back."""
    base: dict[str, Any] = {"dry_run": True, "order_version": head.version}
    said = await previewed(call, head, "preview_amend", content)
    if isinstance(said, Refused):
        return {**base, **not_allowed(said)}
    tried: AmendResult = await preview(call.front.engine, Amend.model_validate(said["ask"]))
    if isinstance(tried, NotAmended):
        return {**base, **not_allowed(Refused(tried.code, tried.detail))}
    told = render_outcome(said["outcome"])
    promised = str(tried.promised_by) if tried.promised_by else told["promise"]["to"]
    sourcing = [{"line": n, "node": node, "quantity": q} for n, node, q in tried.placements]
    return {
        **base,
        "allowed": True,
        "lines": told["lines"],
        "money": told["money"],
        "promise": {"from": told["promise"]["from"], "to": promised},
        "sourcing": sourcing,
        "backordered": _backordered(tried.waiting, tried.waits_until, promised),
        "cost_of_change": {"nodes_asked": list(said["asked"]), "labels_voided": said["labels"]},
    }


def _declined(head: OrderHead, outcome: Outcome) -> Problem:
    """The order is as it was; why, in the words of every refusal."""
    told = outcome.outcome
    if told["code"] == "payment_declined":
        return Problem(
            "payment-declined",
            told["detail"],
            order_id=head.order_id,
            decline_code=told["decline_code"],
            tender_id=None,
        )
    names = ("line", "sku", "requested", "available")
    lines = [dict(zip(names, line, strict=True)) for line in told["lines_short"]]
    if told["code"] == "out_of_stock":
        return Problem("out-of-stock", told["detail"], order_id=head.order_id, lines=lines)
    return refusal(head, "amend", Refused(told["code"], told["detail"]))


@routes.add(
    "GET",
    "/v1/orders/{order_id}/amendments",
    "listAmendments",
    answers={200: (AmendmentList, "At most 200, oldest first.")},
    problems=("not-found",),
)
async def list_(call: CurrentCall, order_id: OrderId) -> Response:
    """The changes that were asked for, with what became of them."""
    head = await call.head(order_id)
    found = await call.front.read(lambda c: list_commands(c, head.order_id, "amend"))
    return JSONResponse({"data": [render(one) for one in found]}, 200, PRIVATE)


@routes.add(
    "GET",
    "/v1/orders/{order_id}/amendments/{amendment_id}",
    "getAmendment",
    answers={200: (Amendment, "The change; `requested` until there is an outcome.")},
    problems=("not-found",),
)
async def get(
    call: CurrentCall,
    order_id: OrderId,
    amendment: Annotated[str, Path(alias="amendment_id", max_length=64)],
) -> Response:
    """One change and what became of it."""
    head = await call.head(order_id)
    for one in await call.front.read(lambda c: list_commands(c, head.order_id, "amend")):
        if _id_of(one) == amendment:
            return JSONResponse(render(one), 200, PRIVATE)
    raise not_found("amendment")


def _id_of(command: StoredCommand) -> str:
    """The workflow derives the same one."""
    return derived_id("amd", command.order_id, command.command_id)


def render(command: StoredCommand, note: str | None = None) -> dict[str, Any]:
    """A change from its command's row, whatever became of it."""
    base = {
        "id": _id_of(command),
        "order_id": command.order_id,
        "reason": command.payload.get("reason", "customer_request"),
        "changes": command.payload.get("changes", []),
        "requested_at": command.received_at,
        "settled_at": command.settled_at,
    }
    if command.outcome is None:
        return {**base, "state": "requested", **({"note": note} if note else {})}
    if command.state != "applied":
        return {**base, "state": "declined", "refusal": refusal_of(command.outcome)}
    return {**base, **render_outcome(command.outcome)}


def render_outcome(outcome: dict[str, Any]) -> dict[str, Any]:
    """What a change did, or why it did not happen."""
    names = ("line", "sku", "from_quantity", "to_quantity")
    before, after = outcome["total_before_minor"], outcome["total_after_minor"]
    noun: dict[str, Any] = {
        "state": outcome["state"],
        "lines": [dict(zip(names, line, strict=True)) for line in outcome["lines"]],
        "money": {
            "total_before_minor": before,
            "total_after_minor": after,
            "delta_minor": after - before,
            "tax_delta_minor": outcome["tax_delta_minor"],
            "shipping_delta_minor": outcome.get("shipping_delta_minor", 0),
            "additional_authorization_minor": outcome["additional_authorization_minor"],
        },
        "promise": {"from": outcome["promised_before"], "to": outcome["promised_by"]},
        "backordered": _backordered(outcome.get("waiting", ()), outcome.get("waits_until"), outcome["promised_by"]),
        "order_version": outcome["order_version"],
    }
    if outcome["state"] == "declined":
        noun["refusal"] = refusal_of(outcome)
    return noun


def _backordered(
    waiting: Sequence[tuple[int, int]], until: datetime | str | None, expected_by: str | None
) -> list[dict[str, Any]]:
    """What is not in stock and waits for supply: until when at most, and by when it arrives at the latest."""
    return [
        {"line": line, "quantity": units, "until": stamp(until), "expected_by": expected_by} for line, units in waiting
    ]
