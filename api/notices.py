"""Routes of notices to customers: what they were told, and telling it again. Owner: service."""

from typing import Annotated, Any

from fastapi import Query
from fastapi.responses import JSONResponse, Response
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection

from api.answers import Answer
from api.front import Call, CurrentCall
from api.orders import PRIVATE, Limit, OrderId, page_of
from api.problems import Problem, not_found
from api.rendering import stamp
from api.routing import BODY_PROBLEMS, KEY_HEADER, Routes
from api.schemas import Body
from domain.notices import check_resend
from domain.permissions import actor_of
from domain.refusals import OrderRuleError
from store.intake import Asked
from store.notices import Row, find_notice, list_notices, lock_original, put_resend
from store.reads import OrderHead
from store.repeats import claim_key

routes = Routes()

RESEND = {"notice": "ntc_01M84BZNW00000000000000000"}


class ResendNotification(Body):
    """Which notice is sent again; one that was itself sent again stands for its original."""

    notice: Annotated[str, Field(pattern=r"^ntc_[0-9A-HJKMNP-TV-Z]{26}$")]


class Notice(Answer):
    """A notice to the customer. Address and text are nowhere in it, and are stored nowhere.

    `fell_back`: there was no template in the wanted language, or none of the sales channel's own. `resends` is the
    notice that this one sends again, `asked_by` who wanted that.
    """

    id: str
    order_id: str
    event_id: str
    event_type: str
    kind: str
    required: bool
    medium: str
    language: str
    state: str
    why: str | None
    attempts: int
    next_attempt_at: str | None
    template: str | None
    fell_back: bool
    resends: str | None
    asked_by: dict[str, Any] | None
    created_at: str
    settled_at: str | None


class NoticeList(Answer):
    """A page of an order's notices."""

    data: list[Notice]
    next_cursor: str | None
    has_more: bool


@routes.add(
    "GET",
    "/v1/orders/{order_id}/notices",
    "listNotices",
    answers={200: (NoticeList, "A page of notices.")},
    problems=("not-found", "cursor-invalid"),
)
async def list_(
    call: CurrentCall,
    order_id: OrderId,
    limit: Limit = 50,
    cursor: Annotated[str | None, Query(max_length=600, description="`next_cursor` of the page before.")] = None,
) -> Response:
    """What the customer was told, is going to be told, or was not told and why. One notice per event."""
    head = await call.head(order_id)
    filters = {"notices_of": head.order_id}
    after = call.front.cursors.read(cursor, filters) if cursor else None
    rows = await call.front.read(lambda c: list_notices(c, head, after, limit + 1))
    page = rows[:limit]
    following = None
    if len(rows) > limit:
        last = page[-1]
        following = call.front.cursors.write(filters, (last["created_at"].isoformat(), last["notice_id"]))
    return page_of(call, [render_notice(row) for row in page], following)


@routes.add(
    "POST",
    "/v1/orders/{order_id}/resends",
    "resendNotification",
    answers={202: (Notice, "The new notice; it goes out within seconds.")},
    problems=(*BODY_PROBLEMS, "not-found", "action-not-available", "idempotency-mismatch"),
    body=(ResendNotification, RESEND),
    headers=KEY_HEADER,
)
async def resend(call: CurrentCall, order_id: OrderId) -> Response:
    """Sends a notice again: a new notice that names its original, which stays as it is.

    It is filled in with the order and the address as they are now. Refused while the notice is still to be sent, when
    the customer wants none, and after ten times. The order is not changed, and has no new version.
    """
    body, request_fingerprint = await call.body(ResendNotification, call.front.limits.command_bytes)
    head = await call.head(order_id)
    asked = call.asked(request_fingerprint)
    row, replayed = await call.front.write(lambda c: _written(c, call, head, asked, body.notice))
    headers = {"Location": f"/v1/orders/{head.order_id}/notices", **PRIVATE}
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    return JSONResponse(render_notice(row), 202, headers)


async def _written(
    connection: AsyncConnection, call: Call, head: OrderHead, asked: Asked, notice_id: str
) -> tuple[Row, bool]:
    """The new notice, and whether the same request wrote it before."""
    standing = await lock_original(connection, head, notice_id)
    if standing is None:
        raise not_found("notice")
    claim = await claim_key(connection, asked, head.order_id, standing.next_id)
    if claim.mismatch:
        raise Problem("idempotency-mismatch", "This Idempotency-Key was used with another request.")
    if claim.fresh:
        try:
            check_resend(standing.state, standing.why, standing.resends, under_way=standing.under_way)
        except OrderRuleError as refusal:
            raise _refused(head, standing.state, refusal) from None
        await put_resend(connection, standing, actor_of(call.principal, call.operation_id))
    row = await find_notice(connection, head, claim.thing_id)
    if row is None:
        raise not_found("notice")
    return row, not claim.fresh


def _refused(head: OrderHead, state: str, refusal: OrderRuleError) -> Problem:
    return Problem(
        "action-not-available",
        f"{refusal.detail[:1].upper()}{refusal.detail[1:]}.",
        order_id=head.order_id,
        action="resend",
        reason=refusal.code,
        alternative=refusal.alternative,
        state=state,
        lines=[],
    )


def render_notice(row: Row) -> dict[str, Any]:
    """A notice as callers see it."""
    same = ("order_id", "event_id", "event_type", "kind", "required", "medium", "language", "state", "why")
    open_ = row["settled_at"] is None
    return {
        "id": row["notice_id"],
        **{name: row[name] for name in same},
        "attempts": row["attempt_no"],
        "next_attempt_at": stamp(row["next_attempt_at"]) if open_ else None,
        **{name: row[name] for name in ("template", "fell_back", "resends", "asked_by")},
        "created_at": stamp(row["created_at"]),
        "settled_at": stamp(row["settled_at"]),
    }
