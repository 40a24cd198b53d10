"""Writing a new order: header, lines, tenders, promise, decision. Part of the reservation's transaction."""

import json
from datetime import date, datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.ids import derived_id
from domain.orders import OrderRules, PlaceOrder
from domain.shares import LineShares

_ORDER = text("""
INSERT INTO orders (order_id, order_number, channel, external_ref, customer_ref, currency, country, region, zone_id,
  service_level, split, backorder, rules, total_minor, owed_minor, status, payment_status, fulfillment_status,
  waiting_on, wait_owner, wait_since, wait_deadline, track_token, replaces_order)
VALUES (:order_id, :order_number, :channel,
  (SELECT external_ref FROM intake WHERE order_id = :order_id), :customer_ref, :currency, :country, :region,
  :zone_id, :service_level, :split, :backorder, CAST(:rules AS jsonb), :total_minor, :total_minor, 'received',
  'pending', 'unfulfilled', 'payment', 'commerce', now(), now() + interval '15 minutes', :track_token,
  :replaces_order)
ON CONFLICT (order_id) DO NOTHING RETURNING order_id
""")

_LINES = text("""
INSERT INTO order_lines (order_id, line_no, sku, ordered, unit_price_minor, items_minor, discount_minor, tax_minor,
  shipping_minor, shipping_tax_minor, total_minor, open)
SELECT :order_id, w.* , w.ordered FROM unnest(CAST(:line_no AS int[]), CAST(:sku AS text[]), CAST(:ordered AS int[]),
  CAST(:unit_price AS bigint[]), CAST(:items AS bigint[]), CAST(:discount AS bigint[]), CAST(:tax AS bigint[]),
  CAST(:shipping AS bigint[]), CAST(:shipping_tax AS bigint[]), CAST(:total AS bigint[]))
  AS w(line_no, sku, ordered, unit_price, items, discount, tax, shipping, shipping_tax, total)
""")

_TENDER = text("""
INSERT INTO tenders (tender_id, order_id, sequence, provider, reference, state, amount_minor, wait_since, wait_deadline)
VALUES (:tender_id, :order_id, :sequence, :provider, :reference, 'pending', :amount_minor, now(),
  now() + make_interval(secs => :pending_s))
""")

_PROMISE = text("""
INSERT INTO promises (order_id, promise_no, version, promised_by, promised_until, zone_name, cause, steps, ruleset)
VALUES (:order_id, 1, 0, :promised_by, :promised_until, :zone_name, 'acceptance', CAST(:steps AS jsonb), :ruleset)
""")

_PROMISED = text("""
UPDATE orders SET promised_by = :promised_by, reserved_until = :reserved_until WHERE order_id = :order_id
""")

_CURRENT_PROMISE = text("""
SELECT promised_by, promised_until FROM promises WHERE order_id = :order_id
 ORDER BY promise_no DESC, version DESC LIMIT 1
""")
_RE_PROMISE = text("""
WITH before AS (
  UPDATE promises SET live = false WHERE order_id = :order_id AND live RETURNING version)
INSERT INTO promises (order_id, promise_no, version, promised_by, promised_until, zone_name, cause, notice_event, steps,
                      ruleset)
SELECT :order_id, promise_no, version + 1, :promised_by, :promised_until, :zone_name, :cause, :notice_event,
       CAST(:steps AS jsonb), :ruleset
  FROM promises WHERE order_id = :order_id ORDER BY promise_no DESC, version DESC LIMIT 1
""")

_DECISION = text("""
INSERT INTO decisions (decision_id, order_id, kind, ruleset, input_hash, output_hash, record)
VALUES (:decision_id, :order_id, :kind, :ruleset, :input_hash, :output_hash, CAST(:record AS jsonb))
ON CONFLICT DO NOTHING
""")

_DECIDED = text("SELECT record FROM decisions WHERE decision_id = :decision_id")

_REJECT = text("""
UPDATE orders SET rejection = CAST(:rejection AS jsonb), owed_minor = 0, promise_state = 'withdrawn'
 WHERE order_id = :order_id
""")
_REJECT_LINES = text("""
UPDATE order_lines SET cancelled = ordered, open = 0, cancelled_minor = total_minor WHERE order_id = :order_id
""")
_REJECT_TENDERS = text("DELETE FROM tenders WHERE order_id = :order_id")
_INTAKE = text("UPDATE intake SET state = :state WHERE order_id = :order_id")

_OUTCOME = text("""
SELECT o.rejection, o.version, o.reserved_until, o.rules, p.promised_by, p.promised_until
  FROM orders o LEFT JOIN LATERAL (SELECT promised_by, promised_until FROM promises WHERE order_id = o.order_id
    ORDER BY promise_no DESC, version DESC LIMIT 1) p ON true
 WHERE o.order_id = :order_id
""")

_HAS_INTAKE = text("SELECT 1 FROM intake WHERE order_id = :order_id")


async def has_intake(connection: AsyncConnection, order_id: str) -> bool:
    """Whether the order came in through the API."""
    return (await connection.execute(_HAS_INTAKE, {"order_id": order_id})).first() is not None


async def record_order(
    connection: AsyncConnection,
    order: PlaceOrder,
    shares: tuple[LineShares, ...],
    rules: OrderRules,
    track_token: str,
) -> bool:
    """Write the order with all units open. False when it was there already: an earlier attempt committed."""
    row = await connection.execute(
        _ORDER,
        {
            **order.model_dump(
                include={
                    "order_id",
                    "order_number",
                    "channel",
                    "customer_ref",
                    "currency",
                    "country",
                    "region",
                    "zone_id",
                    "service_level",
                    "split",
                    "backorder",
                    "total_minor",
                    "replaces_order",
                }
            ),
            "rules": rules.model_dump_json(),
            "track_token": track_token,
        },
    )
    if row.first() is None:
        return False
    await connection.execute(_LINES, {"order_id": order.order_id, **_line_columns(order, shares)})
    for tender in order.tenders:
        await connection.execute(
            _TENDER,
            {
                **tender.model_dump(include={"tender_id", "sequence", "provider", "reference", "amount_minor"}),
                "order_id": order.order_id,
                "pending_s": rules.payment_pending_s,
            },
        )
    return True


def _line_columns(order: PlaceOrder, shares: tuple[LineShares, ...]) -> dict[str, list[Any]]:
    return {
        "line_no": [line.line_no for line in order.lines],
        "sku": [line.sku for line in order.lines],
        "ordered": [line.quantity for line in order.lines],
        "unit_price": [line.unit_price_minor for line in order.lines],
        "items": [s.items_minor for s in shares],
        "discount": [s.discount_minor for s in shares],
        "tax": [s.tax_minor for s in shares],
        "shipping": [s.shipping_minor for s in shares],
        "shipping_tax": [s.shipping_tax_minor for s in shares],
        "total": [s.total_minor for s in shares],
    }


async def record_promise(
    connection: AsyncConnection,
    order_id: str,
    promised_by: date,
    promised_until: datetime,
    zone_name: str,
    steps_json: str,
    ruleset: str,
    reserved_until: datetime | None,
) -> None:
    """Write the original promise and until when units are held, if any are; the intake row is answered."""
    await connection.execute(
        _PROMISE,
        {
            "order_id": order_id,
            "promised_by": promised_by,
            "promised_until": promised_until,
            "zone_name": zone_name,
            "steps": steps_json,
            "ruleset": ruleset,
        },
    )
    await connection.execute(
        _PROMISED, {"order_id": order_id, "promised_by": promised_by, "reserved_until": reserved_until}
    )
    await connection.execute(_INTAKE, {"order_id": order_id, "state": "accepted"})


async def current_promise(connection: AsyncConnection, order_id: str) -> tuple[date, datetime]:
    """The day that is promised now, and the instant when it is over."""
    row = (await connection.execute(_CURRENT_PROMISE, {"order_id": order_id})).one()
    return row.promised_by, row.promised_until


async def re_promise(
    connection: AsyncConnection,
    order_id: str,
    promised_by: date,
    promised_until: datetime,
    zone_name: str,
    cause: str,
    notice_event: str,
    steps_json: str,
    ruleset: str,
) -> None:
    """Append the next version of the promise, with its cause and the event that tells of it."""
    await connection.execute(
        _RE_PROMISE,
        {
            "order_id": order_id,
            "promised_by": promised_by,
            "promised_until": promised_until,
            "zone_name": zone_name,
            "cause": cause,
            "notice_event": notice_event,
            "steps": steps_json,
            "ruleset": ruleset,
        },
    )


async def record_decision(
    connection: AsyncConnection, order_id: str, kind: str, number: int, ruleset: str, record: dict[str, Any]
) -> str:
    """Write the explanation of a decision; `record` carries `input_hash` and `output_hash`."""
    decision_id = derived_id("dec", order_id, kind, number)
    await connection.execute(
        _DECISION,
        {
            "decision_id": decision_id,
            "order_id": order_id,
            "kind": kind,
            "ruleset": ruleset,
            "input_hash": record.get("input_hash", ""),
            "output_hash": record.get("output_hash", ""),
            "record": json.dumps(record),
        },
    )
    return decision_id


async def recorded_decision(
    connection: AsyncConnection, order_id: str, kind: str, number: int
) -> dict[str, Any] | None:
    """The record of a decision that an earlier attempt has committed, if one has."""
    row = (await connection.execute(_DECIDED, {"decision_id": derived_id("dec", order_id, kind, number)})).first()
    return None if row is None else dict(row.record)


async def reject_order(connection: AsyncConnection, order_id: str, rejection: dict[str, Any]) -> None:
    """Nothing is reserved, nothing is owed; the storefront may use its reference again."""
    await connection.execute(_REJECT, {"order_id": order_id, "rejection": json.dumps(rejection)})
    await connection.execute(_REJECT_LINES, {"order_id": order_id})
    await connection.execute(_REJECT_TENDERS, {"order_id": order_id})
    await connection.execute(_INTAKE, {"order_id": order_id, "state": "rejected"})


async def recorded_outcome(connection: AsyncConnection, order_id: str) -> dict[str, Any]:
    """What an earlier attempt of the acceptance wrote."""
    return dict((await connection.execute(_OUTCOME, {"order_id": order_id})).mappings().one())


_OWE_LESS = text("""
WITH lines AS (
  UPDATE order_lines l SET cancelled_minor = greatest(l.cancelled_minor, w.amount)
    FROM unnest(CAST(:lines AS int[]), CAST(:amounts AS bigint[])) AS w(line_no, amount),
         order_lines o
   WHERE l.order_id = :order_id AND l.line_no = w.line_no AND o.order_id = l.order_id AND o.line_no = l.line_no
  RETURNING l.cancelled_minor - o.cancelled_minor AS less)
UPDATE orders SET owed_minor = owed_minor - (SELECT coalesce(sum(less), 0) FROM lines) WHERE order_id = :order_id
""")


async def owe_less(connection: AsyncConnection, order_id: str, cancelled: tuple[tuple[int, int], ...]) -> None:
    """Write what is no longer owed per line (line number, amount cancelled so far)."""
    if cancelled:
        values = {"order_id": order_id, "lines": [n for n, _ in cancelled], "amounts": [a for _, a in cancelled]}
        await connection.execute(_OWE_LESS, values)


_KEEP = text("""
WITH lines AS (
  UPDATE order_lines l SET kept_minor = greatest(l.kept_minor, w.amount)
    FROM unnest(CAST(:lines AS int[]), CAST(:amounts AS bigint[])) AS w(line_no, amount),
         order_lines o
   WHERE l.order_id = :order_id AND l.line_no = w.line_no AND o.order_id = l.order_id AND o.line_no = l.line_no
  RETURNING l.kept_minor - o.kept_minor AS more)
UPDATE orders SET owed_minor = owed_minor + (SELECT coalesce(sum(more), 0) FROM lines) WHERE order_id = :order_id
""")


async def keep(connection: AsyncConnection, order_id: str, kept: tuple[tuple[int, int], ...]) -> None:
    """Write what is owed per line (line number, amount so far) for units that were cancelled without refund."""
    values = {"order_id": order_id, "lines": [n for n, _ in kept], "amounts": [a for _, a in kept]}
    await connection.execute(_KEEP, values)
