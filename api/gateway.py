"""Speaking to the workflow of an order: what it answered, what it refused, or that it has not spoken yet.

Nobody here waits longer than asked, and nothing here decides: the command's row was stored before. A command
that the workflow has not accepted in time is left with it as a signal of the same name.
"""

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, TypeAlias, TypeVar, cast

from temporalio.client import (
    Client,
    WorkflowHandle,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
    WorkflowUpdateHandle,
    WorkflowUpdateRPCTimeoutOrCancelledError,
    WorkflowUpdateStage,
)
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from domain.orders import Frozen, PlaceOrder
from workflows.messages import (
    Accept,
    Accepted,
    AcceptOutcome,
    AmendOutcome,
    CancelOutcome,
    ForceCloseOutcome,
    HoldOutcome,
    PaymentEventOutcome,
    Rejected,
    RemedyOutcome,
    ReportOutcome,
    RetryOutcome,
    ScanOutcome,
    SupplyOutcome,
    WriteOffOutcome,
)
from workflows.starting import ACCEPT_UPDATE, order_workflow_id, start_operation, start_unanswered

T = TypeVar("T")

OUTCOMES: dict[str, type[Frozen]] = {
    "cancel": CancelOutcome,
    "amend": AmendOutcome,
    "place_hold": HoldOutcome,
    "release_hold": HoldOutcome,
    "node_report": ReportOutcome,
    "carrier_event": ScanOutcome,
    "choose_remedy": RemedyOutcome,
    "payment_event": PaymentEventOutcome,
    "retry_now": RetryOutcome,
    "force_close": ForceCloseOutcome,
    "write_off": WriteOffOutcome,
    "supply_arrived": SupplyOutcome,
}
# How long an order may take to take a message in when the caller has not asked for a certain time: a
# worker that polls does it in milliseconds, so this is how soon we know that nobody polls.
ACCEPTANCE_LIMIT_S = 1.8
_SIGNAL_LIMIT_S = 1.0
_GRACE_S = 0.3


@dataclass(frozen=True)
class Answered(Generic[T]):
    """The workflow has spoken."""

    outcome: T


@dataclass(frozen=True)
class Refused:
    """A rule of the order says no; nothing was changed."""

    code: str
    detail: str
    alternative: str | None = None
    state: str | None = None
    lines: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Pending:
    """Durable, and no outcome yet. `note` says why when it is not just slow.

    `delivered`: the engine has it for good; otherwise the sweep hands it on.
    """

    note: str | None = None
    delivered: bool = False


@dataclass(frozen=True)
class Closed:
    """There is no open workflow: the order has ended, or was never started."""


Sent: TypeAlias = Answered[Frozen] | Refused | Pending | Closed

NOBODY_ANSWERS = "No worker answers at the moment; the order goes on by itself as soon as one does."
ENGINE_AWAY = "The order engine cannot be reached; a sweeper hands this on as soon as it can."


async def start_order(
    client: Client, place: PlaceOrder, wait_s: float, acceptance_s: float
) -> Answered[Accepted | Rejected] | Pending | Closed:
    """Start the order, or meet it, and wait for its answer at most `wait_s`."""
    deadline = time.monotonic() + wait_s
    if wait_s <= 0:
        return await _start_only(client, place)
    try:
        handle = await _within(
            min(wait_s, acceptance_s),
            client.start_update_with_start_workflow(
                ACCEPT_UPDATE,
                Accept(),
                start_workflow_operation=start_operation(place),
                wait_for_stage=WorkflowUpdateStage.ACCEPTED,
                id=ACCEPT_UPDATE,
                result_type=cast("type[Accepted | Rejected]", AcceptOutcome),
                rpc_timeout=timedelta(seconds=min(wait_s, acceptance_s)),
            ),
        )
        return Answered(await _result(handle, deadline))
    except WorkflowAlreadyStartedError:
        return Closed()
    except (TimeoutError, WorkflowUpdateRPCTimeoutOrCancelledError):
        return Pending(NOBODY_ANSWERS if time.monotonic() < deadline - _GRACE_S else None)
    except RPCError as problem:
        if problem.status is RPCStatusCode.ALREADY_EXISTS:
            return Closed()
        return Pending(ENGINE_AWAY)


async def _start_only(client: Client, place: PlaceOrder) -> Pending:
    try:
        limit = timedelta(seconds=_SIGNAL_LIMIT_S)
        await _within(_SIGNAL_LIMIT_S, start_unanswered(client, place, limit))
    except (TimeoutError, RPCError):
        return Pending(ENGINE_AWAY)
    return Pending()


async def send_command(
    client: Client,
    order_id: str,
    update_name: str,
    argument: Frozen,
    command_id: str,
    wait_s: float,
    acceptance_s: float = ACCEPTANCE_LIMIT_S,
) -> Sent:
    """Send a stored command to its order and wait for the outcome at most `wait_s`."""
    handle = client.get_workflow_handle(order_workflow_id(order_id))
    if wait_s <= 0:
        return await _leave(handle, update_name, argument, None)
    deadline = time.monotonic() + wait_s
    limit = min(wait_s, acceptance_s)
    try:
        update: WorkflowUpdateHandle[Frozen] = await _within(
            limit,
            handle.start_update(
                update_name,
                argument,
                wait_for_stage=WorkflowUpdateStage.ACCEPTED,
                id=command_id,
                result_type=OUTCOMES[update_name],
                rpc_timeout=timedelta(seconds=limit),
            ),
        )
    except (TimeoutError, WorkflowUpdateRPCTimeoutOrCancelledError):
        return await _leave(handle, update_name, argument, NOBODY_ANSWERS)
    except WorkflowUpdateFailedError as problem:
        return _refusal(problem)
    except RPCError as problem:
        if problem.status is RPCStatusCode.NOT_FOUND:
            return Closed()
        return await _leave(handle, update_name, argument, ENGINE_AWAY)
    return await _outcome(update, deadline)


async def _outcome(update: WorkflowUpdateHandle[Frozen], deadline: float) -> Sent:
    """The outcome of an update that was accepted: it is durable, so there is nothing to hand on."""
    try:
        return Answered(await _result(update, deadline))
    except (TimeoutError, WorkflowUpdateRPCTimeoutOrCancelledError):
        return Pending(delivered=True)
    except WorkflowUpdateFailedError as problem:
        return _refusal(problem)
    except RPCError as problem:
        return Closed() if problem.status is RPCStatusCode.NOT_FOUND else Pending(delivered=True)


async def _leave(handle: WorkflowHandle[Any, Any], name: str, argument: Frozen, note: str | None) -> Pending | Closed:
    """Leave the command with the order as a signal: durable, answered whenever a worker comes."""
    try:
        limit = timedelta(seconds=_SIGNAL_LIMIT_S)
        await _within(_SIGNAL_LIMIT_S, handle.signal(name, argument, rpc_timeout=limit))
    except TimeoutError:
        return Pending(ENGINE_AWAY)
    except RPCError as problem:
        return Closed() if problem.status is RPCStatusCode.NOT_FOUND else Pending(ENGINE_AWAY)
    return Pending(note, delivered=True)


async def ask(client: Client, order_id: str, query: str, wait_s: float, *arguments: object) -> Any:
    """The order's answer to a query, as plain JSON values; Pending or Refused when there is none."""
    handle = client.get_workflow_handle(order_workflow_id(order_id))
    try:
        limit = timedelta(seconds=wait_s)
        return await _within(wait_s, handle.query(query, args=arguments, rpc_timeout=limit))
    except WorkflowQueryFailedError as problem:
        return Refused(code="refused", detail=str(problem)[:500])
    except (TimeoutError, RPCError):
        return Pending(ENGINE_AWAY)


async def _result(handle: WorkflowUpdateHandle[T], deadline: float) -> T:
    remaining = max(0.05, deadline - time.monotonic())
    return await _within(remaining, handle.result(rpc_timeout=timedelta(seconds=remaining)))


async def _within(limit_s: float, work: Awaitable[T]) -> T:
    """The result within the limit: also when the connection itself hangs and no deadline is honored."""
    return await asyncio.wait_for(work, limit_s + _GRACE_S)


def _refusal(problem: WorkflowUpdateFailedError) -> Refused:
    cause = problem.cause
    if not isinstance(cause, ApplicationError) or cause.type is None:
        return Refused(code="refused", detail="The order refused the command.")
    details = cause.details[0] if cause.details and isinstance(cause.details[0], dict) else {}
    return Refused(
        code=cause.type,
        detail=cause.message[:500],
        alternative=details.get("alternative"),
        state=details.get("state"),
        lines=tuple(details.get("lines") or ()),
    )
