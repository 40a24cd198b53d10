"""Routes of decisions: why this node, why this date. Owner: commerce."""

from typing import Annotated

from fastapi import Path
from fastapi.responses import JSONResponse, Response

from api.front import CurrentCall
from api.orders import PRIVATE, OrderId
from api.problems import not_found
from api.rendering import render_decision
from api.routing import Routes
from api.work_answers import Decision, DecisionList
from store.reads import list_decisions, read_decision

routes = Routes()


@routes.add(
    "GET",
    "/v1/orders/{order_id}/decisions",
    "listDecisions",
    answers={200: (DecisionList, "At most 200, oldest first.")},
    problems=("not-found",),
)
async def list_(call: CurrentCall, order_id: OrderId) -> Response:
    """The decisions made for the order, each with rule version, inputs, candidates and reasons."""
    head = await call.head(order_id)
    rows = await call.front.read(lambda c: list_decisions(c, call.principal, head.order_id))
    return JSONResponse({"data": [render_decision(row) for row in rows]}, 200, PRIVATE)


@routes.add(
    "GET",
    "/v1/decisions/{decision_id}",
    "getDecision",
    answers={200: (Decision, "The decision.")},
    problems=("not-found",),
)
async def get(call: CurrentCall, decision_id: Annotated[str, Path(max_length=64)]) -> Response:
    """One decision with its reasons."""
    row = await call.front.read(lambda c: read_decision(c, call.principal, decision_id))
    if row is None:
        raise not_found("decision")
    return JSONResponse(render_decision(row), 200, PRIVATE)
