"""The route by which people decide about parcels that do not arrive. Owner: service."""

from typing import Annotated, Any, Literal

from fastapi.responses import JSONResponse, Response
from pydantic import Field

from api.answers import Answer
from api.cancellations import command_headers, fresh_command_id
from api.commanding import Message, Outcome, command
from api.front import CurrentCall
from api.orders import OrderId
from api.routing import COMMAND_PROBLEMS, KEY_HEADER, WAIT_HEADER, Routes
from api.schemas import Body
from domain.permissions import actor_of
from workflows.messages import ChooseRemedy

routes = Routes()

REMEDY = {"remedy": "reship"}


class RemedyIn(Body):
    """How a parcel that does not arrive is made good; without `shipment_id` all of the order that wait for it."""

    remedy: Literal["refund", "reship"]
    shipment_id: Annotated[str, Field(min_length=1, max_length=64)] | None = None


class RemedyResult(Answer):
    """The choice. `requested`: the order has not spoken yet. What follows from it is in the timeline."""

    state: str
    remedy: str
    shipments: list[str]
    order_version: int | None = None
    note: str | None = None


@routes.add(
    "POST",
    "/v1/orders/{order_id}/remedies",
    "chooseRemedy",
    answers={
        201: (RemedyResult, "Chosen, for these parcels."),
        202: (RemedyResult, "Stored; the order's answer follows."),
    },
    problems=COMMAND_PROBLEMS,
    body=(RemedyIn, REMEDY),
    headers={**KEY_HEADER, **WAIT_HEADER},
)
async def choose(call: CurrentCall, order_id: OrderId) -> Response:
    """Decides whether parcels that are lost, damaged or coming back are refunded or sent again at no charge.

    For a parcel on its way back the choice counts when it is there. One that was made good already, or that is
    on its way to the customer, is 409 `no_parcel_in_trouble`. Where nobody has the units they are refunded.
    """
    body, request_fingerprint = await call.body(RemedyIn, call.front.limits.command_bytes)
    head = await call.head(order_id)
    wait = call.wait()
    command_id = fresh_command_id()
    content = ChooseRemedy(
        command_id=command_id,
        remedy=body.remedy,
        shipment_id=body.shipment_id,
        actor=actor_of(call.principal, call.operation_id),
    )
    message = Message("choose_remedy", "choose_remedy", command_id, content)
    outcome = await command(call, head, message, call.asked(request_fingerprint), wait)
    headers = command_headers(f"/v1/orders/{head.order_id}", outcome, wait.headers)
    return JSONResponse(_chosen(outcome), 201 if outcome.done else 202, headers)


def _chosen(outcome: Outcome) -> dict[str, Any]:
    if not outcome.done:
        asked = outcome.command.payload
        named = [asked["shipment_id"]] if asked["shipment_id"] else []
        return {"state": "requested", "remedy": asked["remedy"], "shipments": named, "note": outcome.note}
    told = outcome.outcome
    names = ("remedy", "shipments", "order_version")
    return {"state": "applied", **{name: told[name] for name in names}}
