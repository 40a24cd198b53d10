"""The route by which operations close an order by force, the last resort. Owner: operations."""

from typing import Any

from fastapi.responses import JSONResponse, Response
from pydantic import Field

from api.answers import Answer
from api.cancellations import command_headers, fresh_command_id
from api.commanding import Message, Outcome, command
from api.front import CurrentCall
from api.orders import OrderId
from api.routing import COMMAND_PROBLEMS, KEY_HEADER, WAIT_HEADER, Routes
from api.schemas import Body
from domain.orders import HoldReason
from domain.permissions import actor_of
from workflows.messages import ForceClose

routes = Routes()

FORCE = {"reason": "node_gone"}


class ForceCloseIn(Body):
    """Why; a short code, never free text."""

    reason: HoldReason


class ForceClosing(Answer):
    """What was undone at once. `requested`: the order has not spoken yet. It is over a few minutes later at the latest.

    `on_their_way` are parcels that count as arrived, `left_at_nodes` what nodes still have: nobody asks for it back.
    """

    state: str
    reason: str
    cancelled_units: int | None = None
    on_their_way: list[str] = Field(default_factory=list)
    left_at_nodes: list[str] = Field(default_factory=list)
    order_version: int | None = None
    note: str | None = None


@routes.add(
    "POST",
    "/v1/orders/{order_id}/force-closures",
    "forceCloseOrder",
    answers={
        201: (ForceClosing, "It is being closed; what was undone at once."),
        202: (ForceClosing, "Stored; the order's answer follows."),
    },
    problems=COMMAND_PROBLEMS,
    body=(ForceCloseIn, FORCE),
    headers={**KEY_HEADER, **WAIT_HEADER},
)
async def force_close(call: CurrentCall, order_id: OrderId) -> Response:
    """Closes an order that nothing else ends. What can be undone is undone; the rest is one case, `closed_by_force`.

    What has not left is cancelled at once, without asking nodes; parcels on their way count as arrived, those that are
    lost, damaged or coming back are refunded. Authorizations are voided and what is not owed is refunded as far as
    providers answer; each is waited for two minutes at most. The order takes nothing else meanwhile.
    """
    body, request_fingerprint = await call.body(ForceCloseIn, call.front.limits.command_bytes)
    head = await call.head(order_id)
    wait = call.wait()
    command_id = fresh_command_id()
    actor = actor_of(call.principal, call.operation_id)
    message = Message(
        "force_close", "force_close", command_id, ForceClose(command_id=command_id, reason=body.reason, actor=actor)
    )
    outcome = await command(call, head, message, call.asked(request_fingerprint), wait)
    headers = command_headers(f"/v1/orders/{head.order_id}", outcome, wait.headers)
    return JSONResponse(_closing(outcome), 201 if outcome.done else 202, headers)


def _closing(outcome: Outcome) -> dict[str, Any]:
    reason = outcome.command.payload["reason"]
    if not outcome.done:
        return {"state": "requested", "reason": reason, "note": outcome.note}
    told = outcome.outcome
    names = ("state", "cancelled_units", "on_their_way", "left_at_nodes", "order_version")
    return {"reason": reason, **{name: told[name] for name in names}}
