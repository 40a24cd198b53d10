"""Exception cases, and the rows that sweepers look for."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.carrier_trouble import turns_up
from domain.cases import FOUND_AFTER_LOSS, LEFT_AFTER_CLOSE
from domain.ended import ended
from domain.ids import derived_id
from domain.lifecycle import Team
from domain.orders import CarrierEventType, ReportKind
from domain.quantities import Bucket
from store.commands import DueCommand, mark_delivered, record_late_scan, settle_command
from store.orders import finish, lock_order

USUAL_DUE_S = 4 * 3_600
_OPEN_CASE = text("""
INSERT INTO exceptions (exception_id, order_id, code, owner, detail, due_at)
VALUES (:exception_id, :order_id, :code, :owner, :detail, now() + make_interval(secs => :due_s))
ON CONFLICT DO NOTHING RETURNING exception_id
""")
_PROMISE_STATE = text("UPDATE orders SET promise_state = :state WHERE order_id = :order_id")
_PROMISE_ENDED = text("UPDATE promises SET live = false WHERE order_id = :order_id AND live")
_COMMAND = text("""
SELECT kind, actor, origin, state, outcome, encode(payload_hash, 'hex') AS payload_sha256
  FROM commands WHERE order_id = :order_id AND command_id = :command_id
""")


@dataclass(frozen=True)
class KnownCommand:
    """A command that has a row. `origin` is `api` where it was stored before it was sent."""

    kind: str
    actor: dict[str, Any]
    origin: str
    state: str
    outcome: dict[str, Any] | None
    payload_sha256: str


async def open_case(
    connection: AsyncConnection,
    order_id: str,
    code: str,
    owner: str,
    detail: str,
    version: int,
    due_s: int = USUAL_DUE_S,
) -> bool:
    """Open an exception case, one per order and cause, to be answered in `due_s` seconds. False: there is one."""
    values = {
        "exception_id": derived_id("exc", order_id, code, version),
        "order_id": order_id,
        "code": code,
        "owner": owner,
        "detail": detail,
        "due_s": due_s,
    }
    return (await connection.execute(_OPEN_CASE, values)).first() is not None


async def set_promise_state(connection: AsyncConnection, order_id: str, state: str) -> None:
    """Write the state of the promise; `kept`, `broken` and `withdrawn` end it."""
    await connection.execute(_PROMISE_STATE, {"order_id": order_id, "state": state})
    if state in ("kept", "broken", "withdrawn"):
        await connection.execute(_PROMISE_ENDED, {"order_id": order_id})


async def find_command(connection: AsyncConnection, order_id: str, command_id: str) -> KnownCommand | None:
    """The row of a command, if it has one."""
    rows = await connection.execute(_COMMAND, {"order_id": order_id, "command_id": command_id})
    row = rows.mappings().one_or_none()
    return None if row is None else KnownCommand(**row)


_SAID = text("""
SELECT 1 FROM order_events WHERE order_id = :order_id AND type = :type AND command_id = :command_id
   AND (CAST(:step AS text) IS NULL OR data->>'step' = :step) LIMIT 1
""")


async def was_said(
    connection: AsyncConnection, order_id: str, event_type: str, command_id: str, step: str | None = None
) -> bool:
    """Whether a command (or one step of it) already left this event: an earlier attempt has committed."""
    values = {"order_id": order_id, "type": event_type, "command_id": command_id, "step": step}
    return (await connection.execute(_SAID, values)).first() is not None


_LOST = text("""
WITH own AS (
  SELECT (outcome->>'order_version')::int AS version FROM commands
   WHERE order_id = :order_id AND command_id = :command_id AND state = 'applied')
SELECT kind, payload::text AS payload FROM commands
 WHERE order_id = :order_id AND command_id <> :command_id AND state = 'applied'
   AND (NOT starts_with(command_id, 'system:') OR kind = 'cancel' AND NOT starts_with(command_id, 'system:hold:'))
   AND command_id <> ALL (CAST(:known AS text[]))
   AND (outcome->>'order_version')::int < coalesce((SELECT version FROM own), 2147483647)
 ORDER BY (outcome->>'order_version')::int, settled_at
""")


async def lost_commands(
    connection: AsyncConnection, order_id: str, command_id: str, known: Sequence[str]
) -> list[tuple[str, str]]:
    """Kind and payload of the commands that were applied and are not among the known ones, in their order.

    Only those before the command named, if that was applied too. Of the order's own ones only the units that it gave
    up: everything else it does again by itself.
    """
    values = {"order_id": order_id, "command_id": command_id, "known": list(known)}
    return [(row.kind, row.payload) for row in await connection.execute(_LOST, values)]


_SETTLED = text("""
SELECT 1 FROM commands WHERE order_id = :order_id AND command_id = :command_id AND state <> 'received'
""")


async def was_settled(connection: AsyncConnection, order_id: str, command_id: str) -> bool:
    """Whether the command has its outcome: an earlier attempt of its change has committed."""
    values = {"order_id": order_id, "command_id": command_id}
    return (await connection.execute(_SETTLED, values)).first() is not None


_ENDED = text("SELECT status, version FROM orders WHERE order_id = :order_id AND terminal")
_PARCEL = text("""
SELECT s.tracking, s.last_scan_at, f.stage FROM shipments s JOIN fulfillment_orders f USING (fulfillment_id)
 WHERE s.shipment_id = :shipment_id AND s.order_id = :order_id
""")
ORDER_CLOSED = "order_closed"
_TOO_LATE = "the order is closed"
_TURNED_UP = "the order is closed, and the parcel was made good: a person looks"


async def settle_after_end(connection: AsyncConnection, command: DueCommand) -> bool:
    """Give a command its outcome because its order is over: a fact is kept, a wish is refused.

    An outcome that was stored before stands. False, and nothing is written, while the order is not over: an
    order without a running workflow may just not have been started yet. A parcel that turns up after it was
    made good gets a case.
    """
    row = (await connection.execute(_ENDED, {"order_id": command.order_id})).one_or_none()
    if row is None:
        return False
    if await _left_after_close(connection, command):
        await _open_left(connection, command)
    fact = command.kind == "carrier_event"
    parcel = await _parcel(connection, command) if fact else None
    outcome = _kept(command, row.status, row.version, parcel) if fact else _refused(command, row.status)
    state = "applied" if fact else "refused"
    if await settle_command(connection, command.order_id, command.command_id, state, outcome) and fact:
        event = {**command.payload, "occurred_at": datetime.fromisoformat(command.payload["occurred_at"])}
        await record_late_scan(connection, command.order_id, event, outcome["why"])
        if parcel is not None and parcel.turned_up:
            await _open_found(connection, command)
    await mark_delivered(connection, [(command.order_id, command.command_id)])
    return True


@dataclass(frozen=True)
class _Parcel:
    """A parcel of an order that is over, and whether this event says that it turned up after it was made good."""

    state: str
    turned_up: bool


async def _parcel(connection: AsyncConnection, command: DueCommand) -> _Parcel | None:
    about = {"shipment_id": command.payload["shipment_id"], "order_id": command.order_id}
    row = (await connection.execute(_PARCEL, about)).one_or_none()
    if row is None or row.tracking is None:
        return None
    at = datetime.fromisoformat(command.payload["occurred_at"])
    event = CarrierEventType(command.payload["type"])
    return _Parcel(row.tracking, turns_up(Bucket(row.stage), event, at, row.last_scan_at))


_CANCELLED_PART = text("""
SELECT 1 FROM fulfillment_orders f WHERE f.order_id = :order_id AND f.stage = 'cancelled'
   AND (f.fulfillment_id = CAST(:fulfillment_id AS text) OR f.shipment_id = CAST(:shipment_id AS text))
""")
_MOVES = tuple(event for event in CarrierEventType if event is not CarrierEventType.PRE_TRANSIT)


async def _left_after_close(connection: AsyncConnection, command: DueCommand) -> bool:
    """Whether it tells that goods have left that were cancelled: their units are not booked out."""
    about = command.payload
    left = (command.kind == "node_report" and about.get("kind") == ReportKind.HANDED_OVER) or (
        command.kind == "carrier_event" and about.get("type") in _MOVES
    )
    if not left:
        return False
    names = {name: about.get(name) for name in ("fulfillment_id", "shipment_id")}
    found = await connection.execute(_CANCELLED_PART, {"order_id": command.order_id, **names})
    return found.first() is not None


async def _open_left(connection: AsyncConnection, command: DueCommand) -> None:
    """A person books the units out, and decides whether they are called back or paid."""
    change = await lock_order(connection, command.order_id)
    owner, code = Team.FULFILLMENT.value, LEFT_AFTER_CLOSE
    what = command.payload.get("fulfillment_id") or command.payload.get("shipment_id")
    detail = f"{what} has left though it was cancelled: its units are still counted as on hand"
    if await open_case(connection, command.order_id, code, owner, detail, change.version):
        change.say("order.needs_attention", cause=code, code=code, owner=owner, detail=detail)
        await finish(change)


async def _open_found(connection: AsyncConnection, command: DueCommand) -> None:
    """The order is over, and somebody has to look for units and money."""
    change = await lock_order(connection, command.order_id)
    owner = Team.SERVICE.value
    detail = f"parcel {command.payload['shipment_id']} is {command.payload['type']} though it was made good"
    if await open_case(connection, command.order_id, FOUND_AFTER_LOSS, owner, detail, change.version):
        code = FOUND_AFTER_LOSS
        change.say("order.needs_attention", cause=code, code=code, owner=owner, detail=detail)
        await finish(change)


def _kept(command: DueCommand, status: str, version: int, parcel: _Parcel | None) -> dict[str, Any]:
    """What the order would have answered to a carrier's event that changes nothing any more."""
    usual = "delivered" if status == "completed" else "voided"
    return {
        "applied": False,
        "duplicate": False,
        "shipment_id": command.payload["shipment_id"],
        "state": parcel.state if parcel else usual,
        "order_version": version,
        "why": _TURNED_UP if parcel and parcel.turned_up else _TOO_LATE,
    }


def _refused(command: DueCommand, status: str) -> dict[str, Any]:
    told = ended(status, command.kind)
    return {
        "code": ORDER_CLOSED,
        "detail": told.detail,
        "alternative": told.alternative,
        "state": status,
        "lines": [],
    }
