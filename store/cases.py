"""Exception cases as people work on them: the queue, who has a case, what is parked, what nobody answered.

A case is resolved by the transaction in which the order applies the command that was sent for it
(`store/orders.py`), so that the next trouble of the same kind always finds the way free for a case of its own.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.case_work import Assigned, Case, CaseState, Choice, plan_escalation
from domain.ids import derived_id
from domain.orders import SYSTEM, Actor
from domain.permissions import Principal, Scope, scope_of
from domain.timeline import sentence
from store.sql_parts import LATELY

Row = dict[str, Any]

ESCALATED = "case.escalated"

# Orders of the caller's channels, orders with work at the caller's nodes, or all of them.
_VISIBLE = """(:everything OR o.channel = ANY(:channels) OR EXISTS (
  SELECT 1 FROM fulfillment_orders f WHERE f.order_id = o.order_id AND f.node_id = ANY(:nodes)))"""
_CASES = f"""
SELECT e.exception_id, e.order_id, o.order_number, o.channel, o.status AS order_status, o.terminal, o.version,
       e.code, e.owner, e.state, e.detail, e.assignee, e.due_at, e.created_at, e.updated_at, e.escalated_at,
       e.closed_at, e.parked_until, e.parked_reason, e.parked_by, e.resolution, e.resolved_by, e.command_id,
       c.state AS command_state, c.outcome AS command_outcome, {LATELY}
  FROM exceptions e JOIN orders o USING (order_id)
  LEFT JOIN commands c ON c.order_id = e.order_id AND c.command_id = e.command_id
"""  # noqa: S608 - constants only
_CASE = text(f"{_CASES} WHERE e.exception_id = :exception_id AND {_VISIBLE}")

_FILTERS: Mapping[str, str] = {
    "owner": "e.owner = ANY(:owner)",
    "state": "e.state = ANY(:state)",
    "code": "e.code = ANY(:code)",
    "assignee": "e.assignee = ANY(:assignee)",
    "order": """e.order_id IN (
      SELECT order_id FROM orders WHERE order_id = ANY(:order) OR order_number = ANY(:order_numbers)
      UNION ALL SELECT n.order_id FROM unnest(CAST(:order_channels AS text[]), CAST(:order_refs AS text[])) AS x(c, r)
        JOIN orders n ON n.channel = x.c AND n.external_ref = x.r)""",
}
_AFTER = "(e.due_at, e.exception_id) > (CAST(:after_due AS timestamptz), :after_id)"


class Parked(NamedTuple):
    """Until when a case waits for somebody outside, why (a short code), and when it is due after that."""

    until: datetime
    reason: str
    due_at: datetime


@dataclass(frozen=True)
class CaseFilter:
    """Filters of the queue; an empty tuple means: any. `order` holds ids, `number:...` and `external:...`."""

    owner: tuple[str, ...] = ()
    state: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    assignee: tuple[str, ...] = ()
    order: tuple[str, ...] = ()


async def list_cases(
    connection: AsyncConnection, principal: Principal, wanted: CaseFilter, after: Sequence[str] | None, limit: int
) -> list[Row]:
    """Cases by due time, the most urgent first, continuing behind `after`: due time and id of an earlier row."""
    given = {name: list(value) for name, value in vars(wanted).items() if value}
    conditions = [_VISIBLE, *(_FILTERS[name] for name in given), *([_AFTER] if after else [])]
    statement = f"{_CASES} WHERE {' AND '.join(conditions)} ORDER BY e.due_at, e.exception_id LIMIT :limit"
    position = dict(zip(("after_due", "after_id"), after or (), strict=False))
    rows = await connection.execute(
        text(statement),
        {**_bound(scope_of(principal, "listExceptions")), **given, **_names(wanted), **position, "limit": limit},
    )
    return [dict(row) for row in rows.mappings()]


async def read_case(
    connection: AsyncConnection, principal: Principal, operation_id: str, exception_id: str
) -> Row | None:
    """One case of an order that the caller may see."""
    bound = _bound(scope_of(principal, operation_id))
    row = (await connection.execute(_CASE, {**bound, "exception_id": exception_id})).mappings().one_or_none()
    return dict(row) if row else None


def case_of(row: Row) -> Case:
    """The case as the rules look at it."""
    return Case(
        code=row["code"],
        owner=row["owner"],
        state=CaseState(row["state"]),
        due_at=row["due_at"],
        escalated=row["escalated_at"] is not None,
        parked_until=row["parked_until"],
        under_way=row["command_state"] == "received",
    )


# --- one case, worked on ------------------------------------------------------------------------------

_LOCK = text("SELECT 1 FROM exceptions WHERE exception_id = :exception_id FOR UPDATE")
_ASSIGN = text("""
UPDATE exceptions SET assignee = :assignee, assigned_by = CAST(:actor AS jsonb), state = :state, due_at = :due_at,
       parked_until = NULL, parked_reason = NULL, parked_by = NULL, updated_at = now()
 WHERE exception_id = :exception_id
""")
_PARK = text("""
UPDATE exceptions SET state = 'waiting', parked_until = :until, parked_reason = :reason,
       parked_by = CAST(:actor AS jsonb), due_at = :due_at, updated_at = now()
 WHERE exception_id = :exception_id
""")
_ASK = text("""
UPDATE exceptions SET resolution = :choice, resolved_by = CAST(:actor AS jsonb), command_id = :command_id,
       updated_at = now()
 WHERE exception_id = :exception_id
""")
_DISMISS = text("""
UPDATE exceptions SET resolution = 'dismiss', resolved_by = CAST(:actor AS jsonb), command_id = NULL,
       state = 'resolved', closed_at = now(), updated_at = now()
 WHERE exception_id = :exception_id
""")


async def lock_case(
    connection: AsyncConnection, principal: Principal, operation_id: str, exception_id: str
) -> Row | None:
    """As `read_case`; until the end of the transaction nobody else changes the case."""
    await connection.execute(_LOCK, {"exception_id": exception_id})
    return await read_case(connection, principal, operation_id, exception_id)


async def assign_case(
    connection: AsyncConnection, exception_id: str, assignee: str, actor: Actor, assigned: Assigned
) -> None:
    """Give a locked case to somebody."""
    who = {"assignee": assignee, "actor": _json(actor)}
    await connection.execute(_ASSIGN, {"exception_id": exception_id, **who, **assigned._asdict()})


async def park_case(connection: AsyncConnection, exception_id: str, parked: Parked, actor: Actor) -> None:
    """Note on a locked case that somebody outside is waited for. At the date it is its assignee's again."""
    values = {"exception_id": exception_id, "actor": _json(actor), **parked._asdict()}
    await connection.execute(_PARK, values)


async def ask_resolution(
    connection: AsyncConnection, exception_id: str, choice: Choice, actor: Actor, command_id: str
) -> None:
    """Note on a locked case which command was stored to resolve it; it is closed when the order applies that."""
    asked = {"choice": choice, "actor": _json(actor), "command_id": command_id}
    await connection.execute(_ASK, {"exception_id": exception_id, **asked})


async def dismiss_case(connection: AsyncConnection, exception_id: str, actor: Actor) -> None:
    """Close a locked case without telling the order anything."""
    await connection.execute(_DISMISS, {"exception_id": exception_id, "actor": _json(actor)})


# --- what nobody answered -----------------------------------------------------------------------------

# Whoever changes one of these orders or cases right now is not waited for: the next sweep meets them.
_UNANSWERED = text("""
SELECT e.exception_id, e.order_id, e.code, e.owner, e.state, e.due_at, e.escalated_at, e.parked_until,
       NULL AS command_state,
       o.version, o.rules ->> 'version' AS ruleset, clock_timestamp() AS now
  FROM exceptions e JOIN orders o USING (order_id)
 WHERE e.open AND e.escalated_at IS NULL AND e.due_at <= now() AND e.state <> 'waiting'
 ORDER BY e.due_at LIMIT :limit FOR UPDATE OF o, e SKIP LOCKED
""")
_RESUME = text("""
WITH due AS (
  SELECT exception_id FROM exceptions WHERE state = 'waiting' AND parked_until <= now()
   ORDER BY parked_until LIMIT :limit FOR UPDATE SKIP LOCKED
)
UPDATE exceptions e SET state = 'assigned', parked_until = NULL, parked_reason = NULL, parked_by = NULL,
       updated_at = now()
  FROM due WHERE e.exception_id = due.exception_id
""")
_ESCALATE = text("""
WITH due AS (
  SELECT * FROM jsonb_to_recordset(CAST(:cases AS jsonb)) AS d(exception_id text, order_id text, sequence int,
    event_id text, code text, ruleset text, due_at timestamptz, actor jsonb, text text, data jsonb)
), passed_on AS (
  UPDATE exceptions e SET state = 'escalated', escalated_at = now(), due_at = d.due_at, updated_at = now()
    FROM due d WHERE e.exception_id = d.exception_id
), said AS (
  INSERT INTO order_events (order_id, sequence, event_id, type, occurred_at, actor, cause, rulesets, text, data)
  SELECT order_id, sequence, event_id, :type, clock_timestamp(), actor, code, ARRAY[ruleset], text, data FROM due
)
UPDATE orders o SET version = d.version, updated_at = clock_timestamp()
  FROM (SELECT order_id, max(sequence) AS version FROM due GROUP BY order_id) d WHERE o.order_id = d.order_id
""")


async def resume_parked(connection: AsyncConnection, limit: int) -> int:
    """Give at most `limit` parked cases whose date has come back to those who parked them; how many there were."""
    return (await connection.execute(_RESUME, {"limit": limit})).rowcount


async def escalate_due(connection: AsyncConnection, limit: int) -> int:
    """Pass on, once each, at most `limit` cases that nobody answered in time; how many there were.

    The orders are locked, as for every change of them, so that their timelines stay without gaps.
    """
    rows = (await connection.execute(_UNANSWERED, {"limit": limit})).mappings().all()
    versions: dict[str, int] = {}
    cases = []
    for row in rows:
        versions[row["order_id"]] = sequence = versions.get(row["order_id"], row["version"]) + 1
        cases.append(_passed_on(dict(row), sequence))
    if cases:
        await connection.execute(_ESCALATE, {"cases": json.dumps(cases, default=str), "type": ESCALATED})
    return len(cases)


def _passed_on(row: Row, sequence: int) -> Row:
    """The case with its new due time, and the event that says so."""
    due_at: datetime = plan_escalation(case_of(row), row["now"])
    data = {
        "exception_id": row["exception_id"],
        "code": row["code"],
        "owner": row["owner"],
        "due_at": f"{due_at:%Y-%m-%dT%H:%M:%SZ}",
    }
    return {
        **{name: row[name] for name in ("exception_id", "order_id", "code", "ruleset")},
        "sequence": sequence,
        "event_id": derived_id("evt", row["order_id"], sequence),
        "due_at": due_at,
        "actor": SYSTEM.model_dump(mode="json", exclude_none=True),
        "text": sentence(ESCALATED, data, ""),
        "data": data,
    }


def _names(wanted: CaseFilter) -> Row:
    """The orders that are not named by their id."""
    numbers = [name.removeprefix("number:") for name in wanted.order if name.startswith("number:")]
    external = [name.split(":", 2) for name in wanted.order if name.startswith("external:")]
    pairs = [parts[1:] for parts in external if len(parts) == 3]
    if not wanted.order:
        return {}
    return {
        "order_numbers": numbers,
        "order_channels": [channel for channel, _ in pairs],
        "order_refs": [reference for _, reference in pairs],
    }


def _bound(scope: Scope) -> Row:
    return {"everything": scope.everything, "channels": list(scope.channels), "nodes": list(scope.nodes)}


def _json(actor: Actor) -> str:
    return actor.model_dump_json(exclude_none=True)
