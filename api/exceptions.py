"""Routes of the exception queue: look, take, park, resolve. A resolution is a command to the order. Owner: service."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Path, Query
from fastapi.responses import JSONResponse, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from api.cancellations import fresh_command_id
from api.case_models import (
    ASSIGNMENT,
    RESOLUTION,
    AssignException,
    CaseQuery,
    ExceptionCase,
    ExceptionCaseList,
    ResolveException,
)
from api.commanding import Message, Outcome, command
from api.front import Call, CurrentCall
from api.orders import PRIVATE, page_of
from api.problems import Problem, not_found
from api.rendering import links_of, stamp
from api.routing import BODY_PROBLEMS, COMMAND_PROBLEMS, KEY_HEADER, WAIT_HEADER, Routes
from domain.case_work import (
    CaseState,
    Choice,
    OtherTeam,
    check_resolution,
    check_team,
    offered,
    plan_assignment,
    plan_parking,
)
from domain.orders import CancelReason, Frozen
from domain.permissions import actor_of
from domain.refusals import OrderRuleError
from store.cases import (
    CaseFilter,
    Parked,
    Row,
    ask_resolution,
    assign_case,
    case_of,
    dismiss_case,
    list_cases,
    lock_case,
    park_case,
    read_case,
)
from store.intake import Asked
from store.reads import OrderHead
from store.repeats import claim_key
from workflows.messages import CancelOrder, ChooseRemedy, RetryNow, WriteOff

routes = Routes()

ExceptionId = Annotated[str, Path(max_length=64, examples=["exc_01M84BZNW00000000000000000"])]


@routes.add(
    "GET",
    "/v1/exceptions",
    "listExceptions",
    answers={200: (ExceptionCaseList, "A page of the queue.")},
    problems=("cursor-invalid",),
)
async def list_(call: CurrentCall, asked: Annotated[CaseQuery, Query()]) -> Response:
    """Cases of orders that the caller may see, by due time. Closed ones too, unless `state` says otherwise."""
    wanted = CaseFilter(**asked.model_dump(exclude={"limit", "cursor"}))
    filters = vars(wanted)
    after = _position(call, asked.cursor, filters)
    rows = await call.front.read(lambda c: list_cases(c, call.principal, wanted, after, asked.limit + 1))
    page = rows[: asked.limit]
    following = None
    if len(rows) > asked.limit:
        last = page[-1]
        following = call.front.cursors.write(filters, (last["due_at"].isoformat(), last["exception_id"]))
    return page_of(call, [render_case(call, row) for row in page], following)


def _position(call: Call, cursor: str | None, filters: dict[str, Any]) -> tuple[str, ...] | None:
    return call.front.cursors.read(cursor, filters) if cursor else None


@routes.add(
    "GET",
    "/v1/exceptions/{exception_id}",
    "getException",
    answers={200: (ExceptionCase, "The case.")},
    problems=("not-found",),
)
async def get(call: CurrentCall, exception_id: ExceptionId) -> Response:
    """One case: what happened, whose it is, until when, what can be chosen, and what became of the last choice."""
    return JSONResponse(render_case(call, await _case(call, exception_id)), 200, PRIVATE)


@routes.add(
    "PATCH",
    "/v1/exceptions/{exception_id}",
    "assignException",
    answers={200: (ExceptionCase, "The case as it is now.")},
    problems=(*BODY_PROBLEMS, "not-found", "action-not-available"),
    body=(AssignException, ASSIGNMENT),
)
async def assign(call: CurrentCall, exception_id: ExceptionId) -> Response:
    """Gives the case to somebody, takes it, or parks it. Only the team that owns the case, and ops, can do that.

    Who takes a case that nobody had gets a business day for it; giving it on gives no more time. With `state`
    `waiting` a case that somebody has waits for somebody outside, at most 30 days: nothing is passed on meanwhile,
    and at `until`, or when somebody takes it before, it is `assigned` with the time that was left.
    """
    body, _ = await call.body(AssignException, call.front.limits.command_bytes)
    row = await _case(call, exception_id)
    _check_team(row, call)
    row = await call.front.write(lambda c: _changed(c, call, exception_id, body))
    return JSONResponse(render_case(call, row), 200, PRIVATE)


async def _changed(connection: AsyncConnection, call: Call, exception_id: str, body: AssignException) -> Row:
    if body.until is not None and body.reason is not None:
        return await _parked(connection, call, exception_id, body.until, body.reason)
    return await _assigned(connection, call, exception_id, body.assignee or call.principal.id)


async def _parked(connection: AsyncConnection, call: Call, exception_id: str, until: datetime, reason: str) -> Row:
    """Park it; asked again for the same, nothing changes."""
    row = await _locked(connection, call, exception_id)
    if row["state"] == CaseState.WAITING and (row["parked_until"], row["parked_reason"]) == (until, reason):
        return row
    with _refusals(row, "park"):
        due_at = plan_parking(case_of(row), until, datetime.now(UTC))
    actor = actor_of(call.principal, call.operation_id)
    await park_case(connection, exception_id, Parked(until, reason, due_at), actor)
    return await _locked(connection, call, exception_id)


async def _assigned(connection: AsyncConnection, call: Call, exception_id: str, assignee: str) -> Row:
    row = await _locked(connection, call, exception_id)
    with _refusals(row, "assign"):
        assigned = plan_assignment(case_of(row), datetime.now(UTC))
    if row["assignee"] != assignee or row["state"] != assigned.state:
        await assign_case(connection, exception_id, assignee, actor_of(call.principal, call.operation_id), assigned)
    return await _locked(connection, call, exception_id)


@routes.add(
    "POST",
    "/v1/exceptions/{exception_id}/resolutions",
    "resolveException",
    answers={
        201: (ExceptionCase, "The order has answered; `resolution` says what."),
        202: (ExceptionCase, "Stored; the order's answer, or a node's, follows. Look at `Location`."),
    },
    problems=COMMAND_PROBLEMS,
    body=(ResolveException, RESOLUTION),
    headers={**KEY_HEADER, **WAIT_HEADER},
)
async def resolve(call: CurrentCall, exception_id: ExceptionId) -> Response:
    """Resolves the case by a command to its order: `retry` sends `retry_now`, `cancel` sends `cancel`.

    `refund` and `reship` send `choose_remedy`: all parcels of the order that wait for it are made good so.
    `write_off` gives up what is owed and cannot be taken any more.

    The case is closed by what the order makes of it; refused, it stays open. `dismiss` closes the case and tells
    the order nothing. Only the team that owns the case, and ops, can do that; a node's program cannot cancel.
    """
    body, request_fingerprint = await call.body(ResolveException, call.front.limits.command_bytes)
    row = await _case(call, exception_id)
    _check_team(row, call, body.choice)
    asked = call.asked(request_fingerprint)
    if body.choice is Choice.DISMISS:
        replayed = await call.front.write(lambda c: _dismissed(c, call, row, asked))
        return await _resolved(call, exception_id, None, replayed=replayed)
    wait = call.wait()
    message = _message(call, row, body.choice)
    outcome = await command(call, _head(row), message, asked, wait)
    return await _resolved(call, exception_id, outcome, replayed=outcome.replayed, preference=wait.headers)


def _message(call: Call, row: Row, choice: Choice) -> Message:
    """The command that resolves the case, with what is noted on the case beside it."""
    command_id = fresh_command_id()
    actor = actor_of(call.principal, call.operation_id)
    content: Frozen
    if choice is Choice.CANCEL:
        kind, content = "cancel", CancelOrder(command_id=command_id, reason=CancelReason.OTHER, actor=actor)
    elif choice is Choice.WRITE_OFF:
        kind, content = "write_off", WriteOff(command_id=command_id, actor=actor)
    elif choice is Choice.REFUND or choice is Choice.RESHIP:
        kind, content = "choose_remedy", ChooseRemedy(command_id=command_id, remedy=choice.value, actor=actor)
    else:
        reason = f"case {row['code']}"[:80]
        kind, content = "retry_now", RetryNow(command_id=command_id, reason=reason, actor=actor)

    async def note(connection: AsyncConnection) -> None:
        locked = await _locked(connection, call, row["exception_id"])
        with _refusals(locked, choice):
            check_resolution(case_of(locked), choice)
        await ask_resolution(connection, row["exception_id"], choice, actor, command_id)

    return Message(kind, choice, command_id, content, alongside=note)


async def _dismissed(connection: AsyncConnection, call: Call, row: Row, asked: Asked) -> bool:
    """Close the case; True when the same request did so before."""
    claim = await claim_key(connection, asked, row["order_id"], row["exception_id"])
    if claim.mismatch:
        raise Problem("idempotency-mismatch", "This Idempotency-Key was used with another request.")
    if not claim.fresh:
        return True
    locked = await _locked(connection, call, row["exception_id"])
    with _refusals(locked, Choice.DISMISS):
        check_resolution(case_of(locked), Choice.DISMISS)
    await dismiss_case(connection, row["exception_id"], actor_of(call.principal, call.operation_id))
    return False


async def _resolved(
    call: Call,
    exception_id: str,
    outcome: Outcome | None,
    *,
    replayed: bool,
    preference: dict[str, str] | None = None,
) -> Response:
    """The case after the order has answered, or while its answer is awaited."""
    content = render_case(call, await _case(call, exception_id))
    headers = {"Location": content["links"]["self"], **PRIVATE, **(preference or {})}
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    if outcome is None or outcome.done:
        return JSONResponse(content, 201, headers)
    headers["Retry-After"] = "1"
    headers.setdefault("Preference-Applied", "respond-async")
    return JSONResponse({**content, "note": outcome.note}, 202, headers)


# --- what all of them need ----------------------------------------------------------------------------


@contextmanager
def _refusals(row: Row, action: str) -> Iterator[None]:
    """What the rules of cases refuse is answered as what the rules of orders refuse."""
    try:
        yield
    except OrderRuleError as refusal:
        raise Problem(
            "action-not-available",
            f"{refusal.detail[:1].upper()}{refusal.detail[1:]}.",
            order_id=row["order_id"],
            action=action,
            reason=refusal.code,
            alternative=refusal.alternative,
            state=row["state"],
            lines=[],
        ) from None


def _check_team(row: Row, call: Call, choice: Choice | None = None) -> None:
    try:
        check_team(row["owner"], call.principal.roles, choice)
    except OtherTeam as refusal:
        roles = [role.value for role in refusal.roles]
        raise Problem("forbidden", refusal.detail, needs_role=roles, order_id=row["order_id"]) from None


async def _case(call: Call, exception_id: str) -> Row:
    return _there(await call.front.read(lambda c: read_case(c, call.principal, call.operation_id, exception_id)))


async def _locked(connection: AsyncConnection, call: Call, exception_id: str) -> Row:
    return _there(await lock_case(connection, call.principal, call.operation_id, exception_id))


def _there(row: Row | None) -> Row:
    if row is None:
        raise not_found("exception case")
    return row


def _head(row: Row) -> OrderHead:
    return OrderHead(
        order_id=row["order_id"],
        status=row["order_status"],
        terminal=row["terminal"],
        version=row["version"],
        changed_lately=row["changed_lately"],
    )


def render_case(call: Call, row: Row) -> dict[str, Any]:
    """A case as the caller sees it."""
    times = ("due_at", "created_at", "updated_at", "escalated_at", "closed_at")
    names = ("order_id", "order_number", "channel", "order_status", "code", "owner", "state", "detail", "assignee")
    path = f"/v1/exceptions/{row['exception_id']}"
    return {
        "id": row["exception_id"],
        **{name: row[name] for name in names},
        **{name: stamp(row[name]) for name in times},
        "choices": list(offered(case_of(row), call.principal.roles)),
        "parked": _parking(row),
        "resolution": _resolution(row),
        "links": {"self": path, "resolutions": f"{path}/resolutions", "order": links_of(row["order_id"])["self"]},
    }


def _parking(row: Row) -> dict[str, Any] | None:
    if row["state"] != CaseState.WAITING:
        return None
    return {"until": stamp(row["parked_until"]), "reason": row["parked_reason"], "by": row["parked_by"]}


def _resolution(row: Row) -> dict[str, Any] | None:
    if row["resolution"] is None:
        return None
    outcome = row["command_outcome"] or {}
    by_command = row["command_id"] is not None
    applied = not by_command or (row["command_state"] == "applied" and outcome.get("state") != "declined")
    state = "requested" if row["command_state"] == "received" else "applied" if applied else "declined"
    return {
        "choice": row["resolution"],
        "state": state,
        "by": row["resolved_by"],
        "command_id": row["command_id"],
        "reason": None if state != "declined" else outcome.get("code") or "declined",
    }
