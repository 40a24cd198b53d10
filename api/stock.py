"""Routes of inventory: goods that come in, and which items may be waited for. Owner: inventory."""

import time
from typing import Annotated, Any

from fastapi import Path
from fastapi.responses import JSONResponse, Response
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection

from api.answers import Answer
from api.front import Call, CurrentCall
from api.gateway import Pending, send_command
from api.orders import PRIVATE
from api.problems import Finding, Problem, invalid, not_found
from api.routing import BODY_PROBLEMS, Routes
from api.schemas import Body
from api.text_rules import Reference
from domain.backorders import SupplyArrived
from domain.orders import MAX_QUANTITY
from domain.permissions import Scope, actor_of
from store.arrivals import (
    Receipt,
    ReceiptDiffers,
    Received,
    UnknownItem,
    UnknownNode,
    receive,
    set_backorder,
    tell,
)
from store.commands import NewCommand

routes = Routes()

_TELL_S = 2.0
"""Orders that were not told by then are told by the sweep, half a minute later."""
RECEIPT = {"receipt_id": "ASN-20418", "node": "SCK", "sku": "LAMP-OAK", "quantity": 40}
BACKORDER = {"allowed": True}


class ReceiveStock(Body):
    """Units that came in at a node. `receipt_id` is the node's own id: a repeat changes nothing."""

    receipt_id: Reference
    node: Reference
    sku: Reference
    quantity: Annotated[int, Field(ge=1, le=MAX_QUANTITY, strict=True)]


class StockReceipt(Answer):
    """What was booked. `orders_told`: orders that wait for it and come first, in turn."""

    receipt_id: str
    node: str
    sku: str
    quantity: int
    on_hand: int
    orders_told: int


class BackorderRuleIn(Body):
    """Whether an order may wait for units of the item that no node has."""

    allowed: Annotated[bool, Field(strict=True)]


class BackorderRule(Answer):
    """The item's rule. It counts from the next decision on; what waits already goes on waiting."""

    sku: str
    allowed: bool


@routes.add(
    "POST",
    "/v1/stock/receipts",
    "receiveStock",
    answers={
        200: (StockReceipt, "It was booked before, and changed nothing."),
        201: (StockReceipt, "The units are on hand, and the orders that wait for them are being told."),
    },
    problems=(*BODY_PROBLEMS, "not-found", "idempotency-mismatch"),
    body=(ReceiveStock, RECEIPT),
)
async def receive_stock(call: CurrentCall) -> Response:
    """Books units that came in at a node, and tells the orders that wait for them: by priority, then by age.

    Nobody needs to be there for that: an order that is not told looks by itself when its interval is over.
    """
    body, _ = await call.body(ReceiveStock, call.front.limits.command_bytes)
    if not _has_node(call.scope, body.node):
        raise not_found("node")
    receipt = Receipt(body.receipt_id, body.sku, body.node, body.quantity)
    try:
        received, told = await call.front.write(lambda c: _book(c, call, receipt))
    except UnknownItem:
        raise invalid([Finding("/sku", "unknown_sku", "there is no such item")]) from None
    except UnknownNode:
        raise not_found("node") from None
    except ReceiptDiffers:
        raise Problem("idempotency-mismatch", "This receipt of the node was booked with other units.") from None
    await _tell(call, told)
    content = {**body.model_dump(), "on_hand": received.on_hand, "orders_told": len(told)}
    return JSONResponse(content, 200 if received.repeated else 201, PRIVATE)


def _has_node(scope: Scope, node: str) -> bool:
    return scope.everything or node in scope.nodes


async def _book(connection: AsyncConnection, call: Call, receipt: Receipt) -> tuple[Received, list[NewCommand]]:
    """One transaction: the units, and a command for each order that is to be told of them."""
    actor = actor_of(call.principal, call.operation_id)
    received = await receive(connection, receipt, actor)
    if received.repeated:
        return received, []
    return received, await tell(connection, [receipt.sku], (receipt.node_id, receipt.receipt_id), actor)


async def _tell(call: Call, commands: list[NewCommand]) -> None:
    """Signal the orders in turn, as long as there is time."""
    until = time.monotonic() + _TELL_S
    for one in commands:
        if time.monotonic() > until:
            return
        message = SupplyArrived.model_validate_json(one.payload_json)
        said = await send_command(call.front.client, one.order_id, one.kind, message, one.command_id, 0)
        if isinstance(said, Pending) and said.delivered:
            call.front.deliveries.note(one.order_id, one.command_id)


@routes.add(
    "PUT",
    "/v1/items/{sku}/backorder",
    "setBackorder",
    answers={200: (BackorderRule, "The rule that counts from now on.")},
    problems=(*BODY_PROBLEMS, "not-found"),
    body=(BackorderRuleIn, BACKORDER),
)
async def set_rule(call: CurrentCall, sku: Annotated[str, Path(max_length=64, examples=["LAMP-OAK"])]) -> Response:
    """Says whether orders may wait for units of an item that no node has. Customers can refuse to wait."""
    body, _ = await call.body(BackorderRuleIn, call.front.limits.command_bytes)
    known = call.scope.everything and await call.front.write(lambda c: set_backorder(c, sku, allowed=body.allowed))
    if not known:
        raise not_found("item")
    content: dict[str, Any] = {"sku": sku, "allowed": body.allowed}
    return JSONResponse(content, 200, PRIVATE)
