"""The quote of a return: what may come back, and what for it. Reads the rows, changes nothing. Owner: service."""

from typing import Annotated, Any

from fastapi.responses import JSONResponse, Response
from pydantic import Field

from api.answers import Answer
from api.front import CurrentCall
from api.orders import PRIVATE, OrderId, etag
from api.problems import Problem
from api.routing import BODY_PROBLEMS, Routes
from api.schemas import Body, LineQuantity
from domain.orders import MAX_LINES
from domain.returns import NOTHING_HAS_LEFT, NotReturnable, QuotedLine, quote_return
from store.reads import OrderHead
from store.returns import Quotable, read_quotable

routes = Routes()

QUOTE = {"lines": [{"line": 1, "quantity": 1}]}


class QuoteReturn(Body):
    """Units that the customer may want to give back; without `lines` all that can come back."""

    lines: Annotated[tuple[LineQuantity, ...], Field(max_length=MAX_LINES)] = ()


class QuotedLineOut(Answer):
    """Units of a line: `returnable_now` are delivered, the others can come back `after_delivery`.

    `refund_minor` is what they cost with their tax; `refund_if_ours_minor` has their shipping too.
    """

    line: int
    sku: str
    quantity: int
    returnable_now: int
    after_delivery: int
    refund_minor: int
    refund_if_ours_minor: int


class QuotedMoney(Answer):
    """Sums over the lines, and what was taken and given back so far. Minor units."""

    refund_minor: int
    refund_if_ours_minor: int
    captured_minor: int
    refunded_minor: int


class ReturnQuote(Answer):
    """What a return would give back at this version of the order."""

    order_id: str
    order_version: int
    currency: str
    lines: list[QuotedLineOut]
    money: QuotedMoney


@routes.add(
    "POST",
    "/v1/orders/{order_id}/returns/quote",
    "quoteReturn",
    answers={200: (ReturnQuote, "What would come back. Nothing was changed.")},
    problems=(*BODY_PROBLEMS, "not-found", "action-not-available"),
    body=(QuoteReturn, QUOTE),
)
async def quote(call: CurrentCall, order_id: OrderId) -> Response:
    """Says which units can come back, now or after their delivery, and how much money for them; changes nothing.

    Units are credited from the front of those that left. What has not left, or is back, on its way back, credited or
    written off is 409 `not_returnable`, with the units that can come back in `lines`.
    """
    body, _ = await call.body(QuoteReturn, call.front.limits.command_bytes)
    head = await call.head(order_id)
    found = await call.front.read(lambda c: read_quotable(c, head.order_id))
    if found is None:  # taken in, and not answered yet
        raise _refused(head, head.status, NotReturnable(NOTHING_HAS_LEFT, alternative="cancel"))
    try:
        quoted = quote_return(found.lines, [(one.line, one.quantity) for one in body.lines])
    except NotReturnable as refusal:
        raise _refused(head, found.status, refusal) from None
    headers = {**PRIVATE, "ETag": etag(found.version)}
    return JSONResponse(_rendered(head, found, quoted), 200, headers)


def _rendered(head: OrderHead, found: Quotable, quoted: tuple[QuotedLine, ...]) -> dict[str, Any]:
    return {
        "order_id": head.order_id,
        "order_version": found.version,
        "currency": found.currency,
        "lines": [
            {
                "line": one.line_no,
                "sku": one.sku,
                "quantity": one.quantity,
                "returnable_now": one.now,
                "after_delivery": one.after_delivery,
                "refund_minor": one.refund_minor,
                "refund_if_ours_minor": one.refund_if_ours_minor,
            }
            for one in quoted
        ],
        "money": {
            "refund_minor": sum(one.refund_minor for one in quoted),
            "refund_if_ours_minor": sum(one.refund_if_ours_minor for one in quoted),
            "captured_minor": found.captured_minor,
            "refunded_minor": found.refunded_minor,
        },
    }


def _refused(head: OrderHead, status: str, refusal: NotReturnable) -> Problem:
    return Problem(
        "action-not-available",
        refusal.detail,
        order_id=head.order_id,
        action="return",
        reason=refusal.code,
        alternative=refusal.alternative,
        state=status,
        lines=[{"line": n, "quantity": asked, "returnable": units} for n, asked, units in refusal.lines],
    )
