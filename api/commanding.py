"""Sending a command to an order: the row first, then the message; one outcome for ever."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from api.front import Call, Wait
from api.gateway import Answered, Closed, Pending, Refused, Sent, ask, send_command
from api.problems import Problem, not_found
from api.rendering import ALTERNATIVES
from domain.backorders import SupplyArrived
from domain.ended import ended
from domain.orders import Actor, Frozen
from domain.permissions import actor_of
from store.commands import (
    MAX_IN_FLIGHT,
    DueCommand,
    NewCommand,
    Opened,
    StoredCommand,
    find_command,
    open_command,
    settle_command,
)
from store.control import settle_after_end
from store.intake import Asked, mark_answered
from store.reads import OrderHead, OrderRef, read_heads
from workflows.messages import (
    AmendOrder,
    CancelOrder,
    CarrierEvent,
    ChooseRemedy,
    ForceClose,
    NodeReport,
    PaymentEvent,
    PlaceHold,
    ReleaseHold,
    RetryNow,
    WriteOff,
)

_MARGIN_S = 1.0
_PREVIEW_S = 3.0
_MAYBE_EARLY = ("not_yet", "illegal_transition")
_PAUSES_S = (0.1, 0.3, 0.6)
ORDER_CLOSED = "order_closed"
MESSAGES: dict[str, type[Frozen]] = {
    "cancel": CancelOrder,
    "amend": AmendOrder,
    "place_hold": PlaceHold,
    "release_hold": ReleaseHold,
    "node_report": NodeReport,
    "carrier_event": CarrierEvent,
    "choose_remedy": ChooseRemedy,
    "payment_event": PaymentEvent,
    "retry_now": RetryNow,
    "force_close": ForceClose,
    "write_off": WriteOff,
    "supply_arrived": SupplyArrived,
}


@dataclass(frozen=True)
class Message:
    """A command about to be sent. `action` is its name in answers.

    `alongside` is written in the transaction that stores a new command; a problem raised there stores nothing.
    `actor` is the caller in a role of the route's choice.
    """

    kind: str
    action: str
    command_id: str
    content: Frozen
    alongside: Callable[[AsyncConnection], Awaitable[None]] | None = None
    actor: Actor | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a command.

    Attributes:
        command: the row; its `outcome` is what the order answered.
        done: whether the order applied it; False: it has not spoken yet.
        replayed: the same Idempotency-Key was answered before.
        repeated: the same thing was reported before, under its own id.
        note: why there is no outcome yet.
    """

    command: StoredCommand
    outcome: dict[str, Any]
    done: bool
    replayed: bool = False
    repeated: bool = False
    note: str | None = None


async def command(call: Call, head: OrderHead, message: Message, asked: Asked, wait: Wait) -> Outcome:
    """Store the command, send it, and say what became of it.

    Raises:
        Problem: refused by the order's rules, or not storable.
    """
    opened = await call.front.write(lambda c: _opened(c, call, head, message, asked, wait))
    if opened.mismatch or opened.command is None:
        raise Problem("idempotency-mismatch", "This Idempotency-Key was used with another request.")
    stored = opened.command
    if not opened.fresh and not opened.by_key and _differs(stored, message):
        raise Problem("idempotency-mismatch", "This id was used before for something else.")
    if stored.outcome is not None:
        return _settled(head, message, stored, opened)
    if opened.answering:
        raise Problem("idempotency-in-progress", "The first request is still being answered.", retry_after_s=1)
    if head.terminal:
        return await _order_closed(call, head, message, stored, opened)
    return await _sent(call, head, message, stored, opened, asked, wait)


async def _opened(
    connection: AsyncConnection, call: Call, head: OrderHead, message: Message, asked: Asked, wait: Wait
) -> Opened:
    new = NewCommand(
        order_id=head.order_id,
        command_id=message.command_id,
        kind=message.kind,
        payload_json=message.content.model_dump_json(),
        actor=message.actor or actor_of(call.principal, call.operation_id),
    )
    opened = await open_command(connection, asked, new, wait.total_s + _MARGIN_S)
    if opened.fresh and opened.in_flight > MAX_IN_FLIGHT:
        raise Problem("too-many-commands", "10 commands of this order wait for their outcome.", retry_after_s=1)
    if opened.fresh and message.alongside is not None:
        await message.alongside(connection)
    return opened


def _differs(stored: StoredCommand, message: Message) -> bool:
    """Whether a report that came before, under the same id, said something else."""
    sent = message.content.model_dump(mode="json")
    names = ("fulfillment_id", "shipment_id", "kind", "type", "lines")
    return any(stored.payload.get(name) != sent.get(name) for name in names)


def _settled(head: OrderHead, message: Message, stored: StoredCommand, opened: Opened) -> Outcome:
    """The outcome that is stored already."""
    told = stored.outcome or {}
    if stored.state != "applied":
        problem = refusal(head, message.action, _refused(told))
        if opened.by_key:
            problem.headers["Idempotency-Replayed"] = "true"
        raise problem
    repeated = not opened.by_key and not opened.fresh
    return Outcome(stored, told, done=True, replayed=opened.by_key, repeated=repeated)


async def _sent(
    call: Call,
    head: OrderHead,
    message: Message,
    stored: StoredCommand,
    opened: Opened,
    asked: Asked,
    wait: Wait,
) -> Outcome:
    result = await _send(call, head, stored, wait)
    match result:
        case Answered(outcome):
            told = outcome.model_dump(mode="json")
            if asked.key is not None or stored.kind == "cancel":
                return await _recorded(call, stored, told, replayed=opened.by_key)
            return Outcome(stored, told, done=True, replayed=opened.by_key)
        case Refused(code=code) if code == ORDER_CLOSED:  # it is ending: what is told of it is kept when it is over
            return await _nobody_there(call, head, message, stored, opened)
        case Refused():
            return await _refuse(call, head, message, stored, opened, result)
        case Closed():
            return await _nobody_there(call, head, message, stored, opened)
        case Pending(note=note):
            if asked.key is not None:
                await call.front.write(lambda c: mark_answered(c, asked))
            if wait.total_s > 0 and (known := await _settled_meanwhile(call, head, message, stored, opened)):
                return known
            return Outcome(stored, {}, done=False, replayed=opened.by_key, note=note)


async def _settled_meanwhile(
    call: Call, head: OrderHead, message: Message, stored: StoredCommand, opened: Opened
) -> Outcome | None:
    """The outcome that came another way, or just as the time to wait was over: nobody should have to look for it."""
    found = await call.front.read(lambda c: find_command(c, stored.order_id, stored.command_id))
    if found is None or found.outcome is None:
        return None
    return _settled(head, message, found, opened)


async def _send(call: Call, head: OrderHead, stored: StoredCommand, wait: Wait) -> Sent:
    """Send the command; again after a moment when the order may not have heard yet what its rows show.

    A row is committed some milliseconds before the workflow learns of it. Who acts on what the row shows (a
    label is there, a payment was declined) must not be refused for that. A refused update leaves nothing behind,
    so it can be sent again under its id.
    """
    argument = MESSAGES[stored.kind].model_validate(stored.payload)
    began = time.monotonic()
    pauses = _PAUSES_S if head.changed_lately else ()
    for pause_s in (*pauses, None):
        left = max(0.0, wait.total_s - (time.monotonic() - began))
        result = await send_command(
            call.front.client, head.order_id, stored.kind, argument, stored.command_id, left, wait.acceptance_s
        )
        early = isinstance(result, Refused) and result.code in _MAYBE_EARLY
        if pause_s is None or not early or left <= pause_s:
            break
        await asyncio.sleep(pause_s)
    if isinstance(result, Answered) or (isinstance(result, Pending) and result.delivered):
        call.front.deliveries.note(head.order_id, stored.command_id)
    return result


async def _recorded(call: Call, stored: StoredCommand, told: dict[str, Any], *, replayed: bool) -> Outcome:
    """The outcome as the row has it: a later repeat reads it there, and must meet the same answer."""
    found = await call.front.read(lambda c: find_command(c, stored.order_id, stored.command_id))
    if found is None or found.outcome is None:
        return Outcome(stored, told, done=True, replayed=replayed)
    return Outcome(found, found.outcome, done=True, replayed=replayed)


async def _refuse(
    call: Call, head: OrderHead, message: Message, stored: StoredCommand, opened: Opened, said: Refused
) -> Outcome:
    """Store a refusal; a settled outcome that came another way stands."""
    content = {
        "code": said.code,
        "detail": said.detail,
        "alternative": said.alternative,
        "state": said.state,
        "lines": list(said.lines),
    }
    settled = await _settle(call, stored, "refused", content)
    return _settled(head, message, settled, opened)


async def _nobody_there(
    call: Call, head: OrderHead, message: Message, stored: StoredCommand, opened: Opened
) -> Outcome:
    """No open workflow: the order has ended meanwhile, or has not been started yet."""
    if known := await _settled_meanwhile(call, head, message, stored, opened):
        return known
    ref = OrderRef("id", head.order_id)
    for now in await call.front.read(lambda c: read_heads(c, call.principal, call.operation_id, ref)):
        if now.terminal:
            return await _order_closed(call, now, message, stored, opened)
    return Outcome(stored, {}, done=False, note="The order is not under way yet, or is ending; this follows.")


async def _order_closed(
    call: Call, head: OrderHead, message: Message, stored: StoredCommand, opened: Opened
) -> Outcome:
    """The order is over: a fact is kept, a wish is refused."""
    command = DueCommand(stored.order_id, stored.command_id, stored.kind, stored.payload)

    async def settle(connection: AsyncConnection) -> StoredCommand | None:
        await settle_after_end(connection, command)
        return await find_command(connection, stored.order_id, stored.command_id)

    settled = await call.front.write(settle) or stored
    if settled.state == "applied":
        return Outcome(settled, settled.outcome or {}, done=True, replayed=opened.by_key)
    return _settled(head, message, settled, opened)


async def _settle(call: Call, stored: StoredCommand, state: str, content: dict[str, Any]) -> StoredCommand:
    """Store an outcome and give the one that counts."""

    async def settle(connection: AsyncConnection) -> StoredCommand | None:
        await settle_command(connection, stored.order_id, stored.command_id, state, content)
        return await find_command(connection, stored.order_id, stored.command_id)

    return await call.front.write(settle) or stored


def _refused(told: dict[str, Any]) -> Refused:
    return Refused(
        code=told.get("code", "refused"),
        detail=told.get("detail", "The order refused the command."),
        alternative=told.get("alternative"),
        state=told.get("state"),
        lines=tuple(told.get("lines") or ()),
    )


async def previewed(call: Call, head: OrderHead, query: str, *arguments: object) -> Any:
    """What the order says that a command would do now; or Refused, also where the order is over.

    Raises:
        Problem: the order did not answer.
    """
    if head.terminal:
        told = ended(head.status, query.removeprefix("preview_"))
        return Refused(ORDER_CLOSED, told.detail, told.alternative)
    said = await ask(call.front.client, head.order_id, query, _PREVIEW_S, *arguments)
    if isinstance(said, Pending):
        text = "The order did not answer the preview. Commands are accepted all the same."
        raise Problem("engine-unavailable", text, retry_after_s=2)
    if isinstance(said, dict) and "code" in said:
        return Refused(said["code"], said["detail"], alternative=said["alternative"])
    return said


def not_allowed(said: Refused) -> dict[str, Any]:
    """A preview that ends with a refusal."""
    alternative = said.alternative or ALTERNATIVES.get(said.code)
    return {"allowed": False, "refusal": {"reason": said.code, "detail": said.detail, "alternative": alternative}}


def refusal(head: OrderHead, action: str, said: Refused) -> Problem:
    """The answer to a command that the order's rules refuse."""
    if said.code.startswith("unknown_"):
        return not_found(said.code.removeprefix("unknown_").replace("_", " "))
    return Problem(
        "action-not-available",
        said.detail,
        order_id=head.order_id,
        action=action,
        reason=said.code,
        alternative=said.alternative or ALTERNATIVES.get(said.code),
        state=said.state or head.status,
        lines=list(said.lines),
    )
