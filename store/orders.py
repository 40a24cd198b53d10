"""Orders, their lines and their timeline. Every change of an order goes through `change_order`.

`change_order` locks the order's row, lets the department do its part, then derives the header from the
rows, appends the timeline with the notices that tell the customer of it, and settles the command that asked for
the change: one transaction for all.
"""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from domain.cases import case_is_over, outlives_order
from domain.ids import derived_id
from domain.lifecycle import (
    FulfillmentFact,
    Header,
    HoldFact,
    OrderFacts,
    OrderStatus,
    SupplyFact,
    TenderFact,
    derive_header,
)
from domain.orders import SYSTEM, Actor, OrderRules
from domain.quantities import Buckets
from domain.timeline import sentence
from store import holds
from store.commands import forget_address
from store.engine import transaction
from store.notices import put_notices

T = TypeVar("T")


class OrderMissing(Exception):
    """The order has no row. Its acceptance has not been recorded."""


@dataclass(frozen=True)
class CommandRecord:
    """The command that asked for a change, and its outcome as JSON (the version is filled in here)."""

    command_id: str
    kind: str
    payload_json: str
    outcome_json: str
    state: str = "applied"
    origin: str = "direct"


@dataclass
class OrderChange:
    """One change under way: the locked order, and what the change wants to say about itself."""

    connection: AsyncConnection
    order_id: str
    channel: str
    currency: str
    rules: OrderRules
    now: datetime
    version: int
    status: str
    promised_by: str
    has_case: bool
    events: list[dict[str, Any]] = field(default_factory=list)
    commands: list[tuple[CommandRecord, Actor]] = field(default_factory=list)
    header: Header | None = None

    def say(
        self,
        event_type: str,
        actor: Actor = SYSTEM,
        cause: str | None = None,
        command_id: str | None = None,
        **data: object,
    ) -> None:
        """Append an event to the timeline. `data` must be small and free of personal data."""
        self.version += 1
        self.events.append(
            {
                "sequence": self.version,
                "event_id": derived_id("evt", self.order_id, self.version),
                "type": event_type,
                "actor": actor.model_dump(mode="json", exclude_none=True),
                "cause": cause,
                "command_id": command_id,
                "text": sentence(event_type, data, self.currency),
                "data": data,
            }
        )

    def settle_command(self, record: CommandRecord, actor: Actor) -> None:
        """Store the outcome of the command with this change."""
        self.commands.append((record, actor))


_LOCK = text("""
SELECT o.order_id, o.channel, o.currency, o.rules, o.version, o.status, o.promised_by,
       clock_timestamp() AS now,
       EXISTS (SELECT 1 FROM exceptions e WHERE e.order_id = o.order_id AND e.open) AS has_case
  FROM orders o WHERE order_id = :order_id FOR UPDATE
""")

_FACTS = text("""
SELECT o.total_minor, o.owed_minor, o.rules, o.rejection IS NOT NULL AS rejected,
  (SELECT coalesce(sum(credited), 0)::int FROM order_lines WHERE order_id = o.order_id) AS credited,
  (SELECT row_to_json(b) FROM (
     SELECT coalesce(sum(open),0)::int AS open, coalesce(sum(reserved),0)::int AS reserved,
       coalesce(sum(backordered),0)::int AS backordered, coalesce(sum(allocated),0)::int AS allocated,
       coalesce(sum(released),0)::int AS released, coalesce(sum(picked),0)::int AS picked,
       coalesce(sum(packed),0)::int AS packed, coalesce(sum(shipped),0)::int AS shipped,
       coalesce(sum(delivered),0)::int AS delivered, coalesce(sum(return_pending),0)::int AS return_pending,
       coalesce(sum(returned),0)::int AS returned, coalesce(sum(written_off),0)::int AS written_off,
       coalesce(sum(cancelled),0)::int AS cancelled
     FROM order_lines WHERE order_id = o.order_id) b) AS quantities,
  (SELECT coalesce(json_agg(json_build_object('tender_id', tender_id, 'state', state,
       'amount_minor', amount_minor, 'authorized_minor', authorized_minor, 'captured_minor', captured_minor,
       'refunded_minor', refunded_minor, 'since', wait_since, 'deadline', wait_deadline) ORDER BY sequence), '[]')
     FROM tenders WHERE order_id = o.order_id) AS tenders,
  (SELECT coalesce(json_agg(json_build_object('fulfillment_id', f.fulfillment_id, 'node_id', f.node_id,
       'state', f.state, 'stage', f.stage, 'units', f.units, 'captured', f.captured, 'tracking', s.tracking,
       'recall', s.recall, 'recall_since', s.recall_since, 'recall_until', s.recall_until,
       'since', f.wait_since, 'deadline', f.wait_deadline) ORDER BY f.fulfillment_id), '[]')
     FROM fulfillment_orders f LEFT JOIN shipments s USING (shipment_id) WHERE f.order_id = o.order_id)
     AS fulfillments,
  (SELECT coalesce(json_agg(json_build_object('hold_id', h.hold_id, 'type', h.type, 'blocks', h.blocks,
       'line_no', h.line_no, 'owner', h.owner, 'since', h.placed_at, 'deadline', h.expires_at,
       'parts', (SELECT coalesce(json_agg(l.fulfillment_id ORDER BY l.fulfillment_id), '[]') FROM fulfillment_lines l
                  WHERE l.order_id = h.order_id AND l.line_no = h.line_no),
       'unplaced', EXISTS (SELECT 1 FROM order_lines l WHERE l.order_id = h.order_id
                              AND l.line_no = coalesce(h.line_no, l.line_no) AND l.open + l.reserved > 0))
       ORDER BY h.hold_id), '[]')
     FROM holds h WHERE h.order_id = o.order_id AND h.live) AS holds,
  (SELECT json_build_object('skus', json_agg(DISTINCT sku ORDER BY sku), 'since', min(waits_since),
       'deadline', min(waits_until))
     FROM order_lines WHERE order_id = o.order_id AND backordered > 0 HAVING count(*) > 0) AS supply
  FROM orders o WHERE o.order_id = :order_id
""")

_FINISH = text("""
UPDATE orders SET version = :version, status = :status, payment_status = :payment_status,
  fulfillment_status = :fulfillment_status, state_digest = :digest, waiting_on = :waiting_on,
  wait_owner = :wait_owner, wait_cause = :wait_cause, wait_next_event = :wait_next_event,
  wait_since = CASE WHEN wait_cause IS NOT DISTINCT FROM :wait_cause AND wait_since IS NOT NULL
                    THEN least(wait_since, CAST(:wait_since AS timestamptz)) ELSE :wait_since END,
  wait_deadline = :wait_deadline, updated_at = clock_timestamp()
 WHERE order_id = :order_id
""")

_EVENTS = text("""
INSERT INTO order_events (order_id, sequence, event_id, type, occurred_at, actor, cause, command_id, rulesets,
                          text, data)
SELECT :order_id, e.sequence, e.event_id, e.type, :now, e.actor, e.cause, e.command_id, :rulesets, e.text, e.data
  FROM jsonb_to_recordset(CAST(:events AS jsonb)) AS e(sequence int, event_id text, type text, actor jsonb,
       cause text, command_id text, text text, data jsonb)
""")

_SETTLE_COMMAND = text("""
INSERT INTO commands (order_id, command_id, kind, payload, payload_hash, actor, origin, state, outcome, settled_at,
                      delivered)
VALUES (:order_id, :command_id, :kind, CAST(CAST(:payload AS text) AS jsonb),
        sha256(convert_to(CAST(:payload AS text), 'UTF8')),
        CAST(:actor AS jsonb), :origin, :state,
        CAST(:outcome AS jsonb) || jsonb_build_object('order_version', CAST(:version AS int)), now(),
        :state <> 'applied' OR starts_with(:command_id, 'system:'))
ON CONFLICT (order_id, command_id) DO UPDATE
  SET state = excluded.state, outcome = excluded.outcome, settled_at = now()
  WHERE commands.state = 'received'
""")

_CLOSE_CASES = text("""
UPDATE exceptions e SET closed_at = now(), updated_at = now(), state = CASE
    WHEN EXISTS (SELECT 1 FROM commands c WHERE c.order_id = e.order_id AND c.command_id = e.command_id
                    AND c.state = 'received') THEN 'resolved' ELSE 'auto_closed' END
 WHERE exception_id = ANY(:ids) AND open
""")
_RESOLVE_CASES = text("""
UPDATE exceptions e SET state = 'resolved', closed_at = now(), updated_at = now()
  FROM commands c
 WHERE e.order_id = :order_id AND e.open AND c.order_id = e.order_id AND c.command_id = e.command_id
   AND c.state = 'applied' AND c.outcome ->> 'state' IS DISTINCT FROM 'declined'
""")
_OPEN_CASES = text("""
SELECT exception_id, code, created_at FROM exceptions WHERE order_id = :order_id AND open
""")


async def change_order(
    engine: AsyncEngine, order_id: str, work: Callable[[OrderChange], Awaitable[T]]
) -> tuple[T, OrderChange]:
    """Run `work` on the locked order and write what follows from it, in one transaction.

    Raises:
        OrderMissing: the order has not been recorded.
    """

    async def locked(connection: AsyncConnection) -> tuple[T, OrderChange]:
        change = await lock_order(connection, order_id)
        result = await work(change)
        await finish(change)
        return result, change

    return await transaction(engine, locked)


async def lock_order(connection: AsyncConnection, order_id: str) -> OrderChange:
    """Lock the order's row; all changes of one order queue here."""
    row = (await connection.execute(_LOCK, {"order_id": order_id})).mappings().one_or_none()
    if row is None:
        raise OrderMissing(order_id)
    return OrderChange(
        connection=connection,
        order_id=order_id,
        channel=row["channel"],
        currency=row["currency"],
        rules=OrderRules.model_validate(row["rules"]),
        now=row["now"],
        version=row["version"],
        status=row["status"],
        promised_by=str(row["promised_by"]),
        has_case=row["has_case"],
    )


async def load_facts(connection: AsyncConnection, order_id: str, now: datetime) -> OrderFacts:
    """What the header of the order is derived from, as the rows say it."""
    row = (await connection.execute(_FACTS, {"order_id": order_id})).mappings().one()
    return OrderFacts(
        rejected=row["rejected"],
        total_minor=row["total_minor"],
        owed_minor=row["owed_minor"],
        credited=row["credited"],
        quantities=Buckets.model_validate(row["quantities"]),
        tenders=tuple(TenderFact.model_validate(t) for t in row["tenders"]),
        fulfillments=tuple(FulfillmentFact.model_validate(f) for f in row["fulfillments"]),
        holds=tuple(HoldFact.model_validate(h) for h in row["holds"]),
        supply=SupplyFact.model_validate(row["supply"]) if row["supply"] else None,
        rules=OrderRules.model_validate(row["rules"]),
        changed_at=now,
    )


async def finish(change: OrderChange) -> None:
    """Derive the header, append the timeline and the notices that it asks for, settle the commands."""
    facts = await load_facts(change.connection, change.order_id, change.now)
    header = derive_header(facts)
    if header.terminal and facts.holds:
        await _end_holds(change)
    if header.terminal and change.status != header.status and header.status is not OrderStatus.REJECTED:
        change.say(f"order.{header.status}")
    change.header = header
    wait = header.wait
    await change.connection.execute(
        _FINISH,
        {
            "order_id": change.order_id,
            "version": change.version,
            "status": header.status,
            "payment_status": header.payment_status,
            "fulfillment_status": header.fulfillment_status,
            "digest": header.digest,
            "waiting_on": wait.waiting_on if wait else None,
            "wait_owner": wait.owner if wait else None,
            "wait_cause": wait.cause if wait else None,
            "wait_next_event": wait.next_event if wait else None,
            "wait_since": wait.since if wait else None,
            "wait_deadline": wait.deadline if wait else None,
        },
    )
    await _append(change, facts)
    if change.has_case and change.commands:
        await change.connection.execute(_RESOLVE_CASES, {"order_id": change.order_id})
    if change.has_case or header.terminal:
        await _close_cases(change, facts, terminal=header.terminal)


async def _end_holds(change: OrderChange) -> None:
    """A hold ends with its order at the latest: there is nothing left that it could stop."""
    for hold_id, hold_type in await holds.end_all(change.connection, change.order_id, SYSTEM, change.now):
        change.say("hold.released", cause="order_over", hold_id=hold_id, type=hold_type, reason="order_over")


async def _close_cases(change: OrderChange, facts: OrderFacts, *, terminal: bool) -> None:
    """Close the cases whose cause is gone, and almost all of them once the order is over."""
    rows = (await change.connection.execute(_OPEN_CASES, {"order_id": change.order_id})).all()
    over = [
        row.exception_id
        for row in rows
        if (terminal and not outlives_order(row.code)) or case_is_over(row.code, row.created_at, facts)
    ]
    if over:
        await change.connection.execute(_CLOSE_CASES, {"ids": over})


async def _append(change: OrderChange, facts: OrderFacts) -> None:
    if change.events:
        await change.connection.execute(
            _EVENTS,
            {
                "order_id": change.order_id,
                "now": change.now,
                "rulesets": [change.rules.version],
                "events": json.dumps(change.events, default=str),
            },
        )
        nothing_left = facts.quantities.total == facts.quantities.cancelled
        await put_notices(change.connection, change.order_id, change.channel, change.events, nothing_left=nothing_left)
    for record, actor in change.commands:
        await change.connection.execute(
            _SETTLE_COMMAND,
            {
                "order_id": change.order_id,
                "command_id": record.command_id,
                "kind": record.kind,
                "payload": record.payload_json,
                "actor": actor.model_dump_json(exclude_none=True),
                "origin": record.origin,
                "state": record.state,
                "outcome": record.outcome_json,
                "version": change.version,
            },
        )
        if record.kind == "amend":
            await forget_address(change.connection, change.order_id, record.command_id)
