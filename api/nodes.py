"""Routes of nodes: look, freeze, unfreeze. Owner: inventory."""

from typing import Annotated, Any

from fastapi import Path
from fastapi.responses import JSONResponse, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from api.front import Call, CurrentCall
from api.node_models import FREEZE, UNFREEZE, FreezeIn, Node, NodeList, UnfreezeIn
from api.orders import PRIVATE
from api.problems import Finding, invalid, not_found
from api.rendering import stamp
from api.routing import BODY_PROBLEMS, Routes
from domain.permissions import actor_of
from store.nodes import Row, find_node, freeze, list_nodes, recall_frozen, unfreeze
from workflows.messages import leave_payload

routes = Routes()

AT_ONCE = 2000
"""Fulfillment orders that one request recalls; the sweep goes on with the rest."""
NodeName = Annotated[str, Path(max_length=64, examples=["STL"])]


@routes.add(
    "GET",
    "/v1/nodes",
    "listNodes",
    answers={200: (NodeList, "Every node that the caller may see.")},
)
async def list_(call: CurrentCall) -> Response:
    """The nodes, which of them are frozen, and how much work they have not accepted."""
    rows = await call.front.read(lambda c: list_nodes(c, call.scope))
    return JSONResponse({"data": [_rendered(row) for row in rows]}, 200, PRIVATE)


@routes.add(
    "POST",
    "/v1/nodes/{node_id}/freeze",
    "freezeNode",
    answers={200: (Node, "The node takes no new work, now or in the period.")},
    problems=(*BODY_PROBLEMS, "not-found"),
    body=(FreezeIn, FREEZE),
)
async def freeze_(call: CurrentCall, node_id: NodeName) -> Response:
    """Nothing is sourced at the node any more. What it has not accepted goes elsewhere, if another node has it.

    What it has accepted stays with it. Asking twice is safe; another period takes the place of the first.
    """
    body, _ = await call.body(FreezeIn, call.front.limits.command_bytes)
    node, recalled = await call.front.write(lambda c: _frozen(c, call, node_id, body))
    return JSONResponse({**_rendered(node), "recalled": recalled}, 200, PRIVATE)


async def _frozen(connection: AsyncConnection, call: Call, node_id: str, body: FreezeIn) -> tuple[Row, int]:
    node = await _found(connection, call, node_id)
    actor = actor_of(call.principal, call.operation_id)
    if not _is_so(node, body) and not await freeze(
        connection, node_id, body.begins_at, body.ends_at, body.reason, actor
    ):
        text = "the period ends before it begins, or has ended already"
        raise invalid([Finding("/ends_at", "inverted_period", text)])
    recalled = await recall_frozen(connection, leave_payload, AT_ONCE)
    return await _found(connection, call, node_id), recalled


def _is_so(node: Row, body: FreezeIn) -> bool:
    """Whether the node is frozen like that already: the request came twice."""
    begins = node["frozen"] if body.begins_at is None else node["frozen_from"] == body.begins_at
    return bool(begins and node["frozen_until"] == body.ends_at and node["reason"] == body.reason)


@routes.add(
    "POST",
    "/v1/nodes/{node_id}/unfreeze",
    "unfreezeNode",
    answers={200: (Node, "The node takes new work.")},
    problems=(*BODY_PROBLEMS, "not-found"),
    body=(UnfreezeIn, UNFREEZE),
)
async def unfreeze_(call: CurrentCall, node_id: NodeName) -> Response:
    """The node takes new work again; a node that does already is left as it is."""
    body, _ = await call.body(UnfreezeIn, call.front.limits.command_bytes)
    node = await call.front.write(lambda c: _unfrozen(c, call, node_id, body))
    return JSONResponse(_rendered(node), 200, PRIVATE)


async def _unfrozen(connection: AsyncConnection, call: Call, node_id: str, body: UnfreezeIn) -> Row:
    await _found(connection, call, node_id)
    await unfreeze(connection, node_id, body.reason, actor_of(call.principal, call.operation_id))
    return await _found(connection, call, node_id)


async def _found(connection: AsyncConnection, call: Call, node_id: str) -> Row:
    node = await find_node(connection, call.scope, node_id)
    if node is None:
        raise not_found("node")
    return node


def _rendered(row: Row) -> dict[str, Any]:
    freeze_now = {
        "reason": row["reason"],
        "actor": row["actor"]["id"] if row["actor"] else None,
        "begins_at": stamp(row["frozen_from"]),
        "ends_at": stamp(row["frozen_until"]),
    }
    return {
        "id": row["node_id"],
        "name": row["name"],
        "country": row["country"],
        "region": row["region"],
        "time_zone": row["time_zone"],
        "enabled": row["enabled"],
        "frozen": row["frozen"],
        "freeze": freeze_now if row["frozen_from"] else None,
        "not_accepted": row["not_accepted"],
    }
