"""Closing an order by force: taking calls back from those who make them, and ending what stays open."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

FACTS = ("node_report", "carrier_event")
"""Commands that tell what has happened: they are kept when their order is over, and not refused."""

# Whoever is calling a node or a carrier for this order right now has lost its claim: its answer writes nothing.
_TAKE_BACK = (
    text("""
UPDATE fulfillment_orders SET claim_state = 'refused', refusal = 'closed_by_force', attempt_token = NULL
 WHERE order_id = :order_id AND claim_state IN ('claimed','calling','unknown')
"""),
    text("""
UPDATE shipments SET claim_state = 'refused', refusal = 'closed_by_force', attempt_token = NULL
 WHERE order_id = :order_id AND claim_state IN ('claimed','calling','unknown')
"""),
)
_TENDERS = text("""
SELECT tender_id, state, authorized_minor, captured_minor, refunded_minor, refund_pending_minor, authorization_ref
  FROM tenders WHERE order_id = :order_id ORDER BY sequence
""")
_OPEN_INTENTS = text("""
SELECT tender_id, intent, seq, amount_minor, reason_ref, first_call_at IS NOT NULL AS called
  FROM payment_intents WHERE order_id = :order_id AND state IN ('claimed','calling','unknown')
 ORDER BY created_at, business_key
""")
_ABANDON_INTENTS = text("""
UPDATE payment_intents SET state = 'abandoned', attempt_token = NULL
 WHERE order_id = :order_id AND state IN ('claimed','calling','unknown')
RETURNING tender_id, intent, amount_minor, first_call_at IS NOT NULL AS called
""")
_ABANDON_TENDERS = text("""
UPDATE tenders SET refund_pending_minor = 0, state = CASE
    WHEN state = 'pending' AND NOT tender_id = ANY(CAST(:called AS text[])) THEN 'failed' ELSE 'abandoned' END
 WHERE order_id = :order_id AND state IN ('pending','authorized','partially_captured')
""")
_NOTHING_PENDING = text("UPDATE tenders SET refund_pending_minor = 0 WHERE order_id = :order_id")
_UNSETTLED = text("""
UPDATE orders o SET unsettled_minor = o.unsettled_minor + k.kept - o.owed_minor, owed_minor = k.kept
  FROM (SELECT coalesce(sum(captured_minor - refunded_minor - charged_back_minor), 0)::bigint AS kept
          FROM tenders WHERE order_id = :order_id) k,
       (SELECT owed_minor AS owed FROM orders WHERE order_id = :order_id) b
 WHERE o.order_id = :order_id RETURNING k.kept - b.owed AS unsettled, o.unsettled_minor AS total
""")
_REFUSE_WISHES = text("""
UPDATE commands SET state = 'refused', settled_at = now(), outcome = CAST(:outcome AS jsonb)
 WHERE order_id = :order_id AND state = 'received' AND NOT kind = ANY(CAST(:facts AS text[]))
""")
_FACTS_LATER = text("""
UPDATE commands SET delivered = false, next_send_at = now()
 WHERE order_id = :order_id AND state = 'received' AND kind = ANY(CAST(:facts AS text[]))
""")


@dataclass(frozen=True)
class Abandoned:
    """A call to the payment provider that nobody waits for any more. `called`: it may have reached it."""

    tender_id: str
    intent: str
    amount_minor: int
    called: bool


async def take_work_back(connection: AsyncConnection, order_id: str) -> None:
    """No answer of a node or carrier to a call of ours changes the order any more."""
    for statement in _TAKE_BACK:
        await connection.execute(statement, {"order_id": order_id})


async def money_of(connection: AsyncConnection, order_id: str) -> list[dict[str, Any]]:
    """The tenders as the rows have them, by charge sequence."""
    return [dict(row) for row in (await connection.execute(_TENDERS, {"order_id": order_id})).mappings()]


async def open_intents(connection: AsyncConnection, order_id: str) -> list[dict[str, Any]]:
    """What was wanted of the payment provider and has no outcome yet."""
    return [dict(row) for row in (await connection.execute(_OPEN_INTENTS, {"order_id": order_id})).mappings()]


async def abandon_money(connection: AsyncConnection, order_id: str) -> list[Abandoned]:
    """Nobody waits for the payment provider any more: no answer of it changes the order."""
    rows = await connection.execute(_ABANDON_INTENTS, {"order_id": order_id})
    found = [Abandoned(**row) for row in rows.mappings()]
    called = sorted({one.tender_id for one in found if one.called})
    await connection.execute(_ABANDON_TENDERS, {"order_id": order_id, "called": called})
    await connection.execute(_NOTHING_PENDING, {"order_id": order_id})
    return found


async def leave_unsettled(connection: AsyncConnection, order_id: str) -> tuple[int, int]:
    """What was kept is what is owed from now on: the difference of this step, and of all so far, in minor units."""
    row = (await connection.execute(_UNSETTLED, {"order_id": order_id})).one()
    return int(row.unsettled), int(row.total)


async def end_commands(connection: AsyncConnection, order_id: str, outcome_json: str, facts: Sequence[str]) -> None:
    """Wishes that wait for their outcome are refused; facts are taken when the order is over, as others are."""
    values = {"order_id": order_id, "facts": list(facts)}
    await connection.execute(_REFUSE_WISHES, {**values, "outcome": outcome_json})
    await connection.execute(_FACTS_LATER, values)
