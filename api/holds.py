"""Routes of holds: place, look, release or reject. Owner: service."""

from typing import Annotated, Any

from fastapi import Path
from fastapi.responses import JSONResponse, Response

from api.answers import Hold
from api.cancellations import command_headers, fresh_command_id
from api.commanding import Message, Outcome, command
from api.front import Call, CurrentCall
from api.hold_models import PLACE, RELEASE, HoldList, PlaceHoldIn, ReleaseHoldIn
from api.orders import PRIVATE, OrderId
from api.outsiders import shown_hold
from api.problems import not_found
from api.rendering import refusal_of, render_hold
from api.routing import COMMAND_PROBLEMS, KEY_HEADER, WAIT_HEADER, Routes
from domain.holds import HOLD_RULES
from domain.ids import derived_id
from domain.orders import Actor, HoldType
from domain.permissions import actor_of
from store.commands import StoredCommand, list_commands
from store.holds import find_hold, list_holds
from store.reads import OrderHead
from workflows.messages import PlaceHold, ReleaseHold

routes = Routes()

HoldId = Annotated[str, Path(max_length=64, examples=["hld_01M84BZNW00000000000000000"])]


@routes.add(
    "POST",
    "/v1/orders/{order_id}/holds",
    "placeHold",
    answers={
        201: (Hold, "The hold stands."),
        202: (Hold, "Stored; the order's answer follows. Look at `Location`."),
    },
    problems=COMMAND_PROBLEMS,
    body=(PlaceHoldIn, PLACE),
    headers={**KEY_HEADER, **WAIT_HEADER},
)
async def place(call: CurrentCall, order_id: OrderId) -> Response:
    """Stops steps of an order until somebody decides, or the hold's limit does. It still answers every command.

    The type says what a hold stops, for how long, which roles may end it, and what its limit does.
    """
    body, request_fingerprint = await call.body(PlaceHoldIn, call.front.limits.command_bytes)
    head = await call.head(order_id)
    wait = call.wait()
    command_id = fresh_command_id()
    content = PlaceHold(
        command_id=command_id,
        type=body.type,
        line_no=body.line,
        blocks=body.blocks,
        lasts_s=body.lasts_s,
        reason=body.reason,
        actor=actor_of(call.principal, call.operation_id),
    )
    message = Message("place_hold", "place_hold", command_id, content)
    outcome = await command(call, head, message, call.asked(request_fingerprint), wait)
    hold_id = _hold_id(outcome.command)
    noun = await _now(call, head, hold_id) or _from_command(outcome.command)
    location = f"/v1/orders/{head.order_id}/holds/{hold_id}"
    return _answer(noun, outcome, location, 201, wait.headers)


def _hold_id(stored: StoredCommand) -> str:
    """The id of the hold that a command asked for; the order derives the same one."""
    return derived_id("hld", stored.order_id, stored.command_id)


async def _now(call: Call, head: OrderHead, hold_id: str) -> dict[str, Any] | None:
    row = await call.front.read(lambda c: find_hold(c, head.order_id, hold_id))
    return shown_hold(render_hold(row), call.principal) if row else None


def _from_command(stored: StoredCommand) -> dict[str, Any]:
    """A hold that the order has not answered yet, or has refused."""
    asked = stored.payload
    rule = HOLD_RULES[HoldType(asked["type"])]
    refusal = {"refusal": refusal_of(stored.outcome)} if stored.outcome else {}
    return {
        "id": _hold_id(stored),
        "order_id": stored.order_id,
        "type": asked["type"],
        "state": "declined" if refusal else "requested",
        "blocks": asked["blocks"] or list(rule.blocks),
        "line": asked["line_no"],
        "owner": rule.owner,
        "released_by": list(rule.released_by),
        "reason": asked["reason"],
        "at_limit": rule.at_limit,
        **refusal,
    }


def _answer(noun: dict[str, Any], outcome: Outcome, location: str, done: int, preference: dict[str, str]) -> Response:
    told = outcome.outcome
    found = {name: told[name] for name in ("order_version", "cancellation_id") if told.get(name) is not None}
    note = {"note": outcome.note} if outcome.note else {}
    headers = command_headers(location, outcome, preference)
    return JSONResponse({**noun, **found, **note}, done if outcome.done else 202, headers)


@routes.add(
    "GET",
    "/v1/orders/{order_id}/holds",
    "listHolds",
    answers={200: (HoldList, "At most 200, oldest first.")},
    problems=("not-found",),
)
async def list_(call: CurrentCall, order_id: OrderId) -> Response:
    """The holds that were placed on the order, with what became of them."""
    head = await call.head(order_id)
    rows = await call.front.read(lambda c: list_holds(c, head.order_id))
    return JSONResponse({"data": [shown_hold(render_hold(row), call.principal) for row in rows]}, 200, PRIVATE)


@routes.add(
    "GET",
    "/v1/orders/{order_id}/holds/{hold_id}",
    "getHold",
    answers={200: (Hold, "The hold; `requested` until the order has answered.")},
    problems=("not-found",),
)
async def get(call: CurrentCall, order_id: OrderId, hold_id: HoldId) -> Response:
    """One hold and what became of it."""
    head = await call.head(order_id)
    noun = await _now(call, head, hold_id)
    if noun is None:
        asked = await call.front.read(lambda c: list_commands(c, head.order_id, "place_hold"))
        noun = next((shown_hold(_from_command(one), call.principal) for one in asked if _hold_id(one) == hold_id), None)
    if noun is None:
        raise not_found("hold")
    return JSONResponse(noun, 200, PRIVATE)


@routes.add(
    "POST",
    "/v1/orders/{order_id}/holds/{hold_id}/release",
    "releaseHold",
    answers={
        200: (Hold, "The hold has ended. With `reject` the cancellation of what it held is under way."),
        202: (Hold, "Stored; the order's answer follows. Look at `Location`."),
    },
    problems=COMMAND_PROBLEMS,
    body=(ReleaseHoldIn, RELEASE),
    headers={**KEY_HEADER, **WAIT_HEADER},
)
async def release(call: CurrentCall, order_id: OrderId, hold_id: HoldId) -> Response:
    """Lets the order go on, or cancels what the hold holds. The type's rule says which roles may: `released_by`."""
    body, request_fingerprint = await call.body(ReleaseHoldIn, call.front.limits.command_bytes)
    head = await call.head(order_id)
    before = await _now(call, head, hold_id)
    if before is None:
        raise not_found("hold")
    wait = call.wait()
    command_id = fresh_command_id()
    actor = _actor(call, HoldType(before["type"]))
    content = ReleaseHold(
        command_id=command_id, hold_id=hold_id, decision=body.decision, reason=body.reason, actor=actor
    )
    message = Message("release_hold", "release_hold", command_id, content, actor=actor)
    outcome = await command(call, head, message, call.asked(request_fingerprint), wait)
    noun = await _now(call, head, hold_id) or before
    return _answer(noun, outcome, f"/v1/orders/{head.order_id}/holds/{hold_id}", 200, wait.headers)


def _actor(call: Call, hold_type: HoldType) -> Actor:
    """The caller, in the role that may end holds of this type where the caller has it."""
    actor = actor_of(call.principal, call.operation_id)
    role = next((role for role in call.principal.roles if role in HOLD_RULES[hold_type].released_by), None)
    return actor.model_copy(update={"role": role}) if role else actor
