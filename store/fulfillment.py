"""Fulfillment orders, parcels and their scans, with the claims of the calls to nodes and carriers."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.quantities import Bucket

_CREATE = text("""
INSERT INTO fulfillment_orders (fulfillment_id, order_id, node_id, generation, shipment_id, state, stage, units,
  ship_by, wait_since, wait_deadline, business_key, claim_state, attempt_token, attempt_no, first_call_at)
VALUES (:fulfillment_id, :order_id, :node_id, :generation, :shipment_id, 'open', 'allocated', :units, :ship_by,
  :now, :deadline, :business_key, 'calling', :token, 1, now())
""")
_LINES = text("""
INSERT INTO fulfillment_lines (fulfillment_id, order_id, line_no, sku, quantity)
SELECT :fulfillment_id, :order_id, w.line_no, w.sku, w.quantity
  FROM unnest(CAST(:lines AS int[]), CAST(:skus AS text[]), CAST(:quantities AS int[])) AS w(line_no, sku, quantity)
""")
_EXISTING = text("""
SELECT fulfillment_id, node_id, shipment_id, generation FROM fulfillment_orders
 WHERE order_id = :order_id AND generation = :generation ORDER BY fulfillment_id
""")
_ADVANCE = text("""
UPDATE fulfillment_orders SET state = :state, stage = :stage, wait_since = :now, wait_deadline = :deadline,
  updated_at = now() WHERE fulfillment_id = :fulfillment_id
""")
_CUT_LINES = text("""
WITH w AS (SELECT * FROM unnest(CAST(:lines AS int[]), CAST(:quantities AS int[])) AS w(line_no, quantity)),
gone AS (
  DELETE FROM fulfillment_lines l USING w
   WHERE l.fulfillment_id = :fulfillment_id AND l.line_no = w.line_no AND l.quantity = w.quantity)
UPDATE fulfillment_lines l SET quantity = l.quantity - w.quantity FROM w
 WHERE l.fulfillment_id = :fulfillment_id AND l.line_no = w.line_no AND l.quantity > w.quantity
""")
_FEWER = text("UPDATE fulfillment_orders SET units = units - :fewer WHERE fulfillment_id = :fulfillment_id")
_CAPTURED = text("UPDATE fulfillment_orders SET captured = true WHERE fulfillment_id = :fulfillment_id")
_HANDED_OVER = text("""
UPDATE fulfillment_orders SET value_minor = :value_minor, captured = :captured WHERE fulfillment_id = :fulfillment_id
""")
_READ = text("""
SELECT f.fulfillment_id, f.order_id, f.node_id, f.state, f.stage, f.claim_state, f.refusal, f.provider_ref, f.units,
       s.shipment_id, s.claim_state AS label_state, s.tracking_number, s.carrier, s.refusal AS label_refusal,
       s.tracking, s.returned_at, s.recall,
       o.zone_id, o.service_level
  FROM fulfillment_orders f JOIN orders o USING (order_id) LEFT JOIN shipments s USING (shipment_id)
 WHERE f.fulfillment_id = :fulfillment_id
""")
_READ_LINES = text("""
SELECT line_no, sku, quantity FROM fulfillment_lines WHERE fulfillment_id = :fulfillment_id ORDER BY line_no
""")

_NOTHING_TO_CAPTURE = text("""
UPDATE fulfillment_orders SET captured = true WHERE order_id = :order_id AND NOT captured
   AND stage IN ('shipped','delivered','return_pending','returned','written_off')
""")
_CLAIM_RELEASE = text("""
UPDATE fulfillment_orders SET attempt_token = :token, attempt_no = attempt_no + 1, claim_state = 'calling'
 WHERE fulfillment_id = :id AND claim_state IN ('claimed','calling','unknown') RETURNING attempt_no
""")
_RECLAIM_RELEASE = text("""
UPDATE fulfillment_orders SET claim_state = 'claimed', business_key = :key
 WHERE fulfillment_id = :id AND claim_state = 'refused' AND business_key <> :key
""")
_SETTLE_RELEASE = text("""
UPDATE fulfillment_orders SET claim_state = :state, provider_ref = :provider_ref, refusal = :refusal
 WHERE fulfillment_id = :id AND attempt_token = :token AND claim_state = 'calling' RETURNING fulfillment_id
""")
_PARCEL = text("""
INSERT INTO shipments (shipment_id, fulfillment_id, order_id, business_key, claim_state, attempt_token, attempt_no,
  first_call_at)
VALUES (:shipment_id, :fulfillment_id, :order_id, :business_key, 'calling', :token, 1, now())
ON CONFLICT (shipment_id) DO NOTHING
""")
_CLAIM_LABEL = text("""
UPDATE shipments SET attempt_token = :token, attempt_no = attempt_no + 1, claim_state = 'calling'
 WHERE shipment_id = :id AND claim_state IN ('claimed','calling','unknown') RETURNING attempt_no
""")
_RECLAIM_LABEL = text(
    "UPDATE shipments SET claim_state = 'claimed', business_key = :key"
    " WHERE shipment_id = :id AND claim_state = 'refused' AND business_key <> :key"
)
_SETTLE_LABEL = text("""
UPDATE shipments SET claim_state = :state, provider_ref = :provider_ref, refusal = :refusal, carrier = :carrier,
  tracking_number = :tracking_number, label_url = :label_url, tracking = :tracking
 WHERE shipment_id = :id AND attempt_token = :token AND claim_state = 'calling' RETURNING shipment_id
""")
_VOID_LABEL = text("""
UPDATE shipments SET claim_state = 'voided', tracking = 'voided' WHERE shipment_id = :id AND claim_state = 'ok'
 RETURNING tracking_number
""")
_TRACK = text("""
UPDATE shipments SET tracking = coalesce(:state, tracking), last_scan_at = greatest(last_scan_at, :at),
  handed_over_at = CASE WHEN :handed_over THEN coalesce(handed_over_at, :at) ELSE handed_over_at END,
  delivered_at = CASE WHEN :state = 'delivered' THEN coalesce(delivered_at, :at) ELSE delivered_at END,
  returned_at = CASE WHEN :state = 'returned' THEN coalesce(returned_at, :at) ELSE returned_at END,
  recall = CASE WHEN recall = 'requested' AND :state IN ('return_to_sender', 'returned') THEN 'agreed'
                WHEN recall = 'requested' AND :state = 'delivered' THEN 'too_late' ELSE recall END
 WHERE shipment_id = :id
""")
_SCAN = text("""
INSERT INTO tracking_events (shipment_id, event_id, order_id, type, occurred_at, applied, why)
VALUES (:shipment_id, :event_id, :order_id, :type, :at, :applied, :why)
ON CONFLICT (shipment_id, event_id) DO UPDATE SET applied = true, why = NULL
 WHERE excluded.applied AND NOT tracking_events.applied
RETURNING event_id
""")


@dataclass(frozen=True)
class Work:
    """A fulfillment order to be created: one node's part of an order."""

    fulfillment_id: str
    shipment_id: str
    node_id: str
    ship_by: datetime
    lines: tuple[tuple[int, str, int], ...]  # line number, SKU, units


async def create(
    connection: AsyncConnection,
    order_id: str,
    generation: int,
    work: Work,
    *,
    now: datetime,
    deadline: datetime,
    token: str,
) -> None:
    """Write a fulfillment order with its lines; the first attempt to release it is claimed by `token`."""
    await connection.execute(
        _CREATE,
        {
            "fulfillment_id": work.fulfillment_id,
            "order_id": order_id,
            "node_id": work.node_id,
            "generation": generation,
            "shipment_id": work.shipment_id,
            "units": sum(q for _, _, q in work.lines),
            "ship_by": work.ship_by,
            "now": now,
            "deadline": deadline,
            "business_key": f"{work.fulfillment_id}:1",
            "token": token,
        },
    )
    await connection.execute(
        _LINES,
        {
            "fulfillment_id": work.fulfillment_id,
            "order_id": order_id,
            "lines": [line for line, _, _ in work.lines],
            "skus": [sku for _, sku, _ in work.lines],
            "quantities": [q for _, _, q in work.lines],
        },
    )


async def existing(connection: AsyncConnection, order_id: str, generation: int) -> Sequence[dict[str, Any]]:
    """Fulfillment orders that an earlier attempt of the allocation wrote."""
    rows = await connection.execute(_EXISTING, {"order_id": order_id, "generation": generation})
    return [dict(row) for row in rows.mappings()]


async def read(connection: AsyncConnection, fulfillment_id: str) -> dict[str, Any]:
    """A fulfillment order with its parcel."""
    return dict((await connection.execute(_READ, {"fulfillment_id": fulfillment_id})).mappings().one())


async def read_lines(connection: AsyncConnection, fulfillment_id: str) -> list[tuple[int, str, int]]:
    """Line number, SKU and units."""
    rows = await connection.execute(_READ_LINES, {"fulfillment_id": fulfillment_id})
    return [(row.line_no, row.sku, row.quantity) for row in rows]


async def advance(
    connection: AsyncConnection,
    fulfillment_id: str,
    state: str,
    stage: Bucket,
    now: datetime,
    deadline: datetime,
) -> None:
    """Write state and stage, and until when it may stay so."""
    await connection.execute(
        _ADVANCE,
        {
            "fulfillment_id": fulfillment_id,
            "state": state,
            "stage": stage.value,
            "now": now,
            "deadline": deadline,
        },
    )


async def cut(connection: AsyncConnection, fulfillment_id: str, units: Sequence[tuple[int, int]]) -> None:
    """Take units (line number, units) out of a fulfillment order that keeps others."""
    values = {
        "fulfillment_id": fulfillment_id,
        "lines": [line_no for line_no, _ in units],
        "quantities": [quantity for _, quantity in units],
    }
    await connection.execute(_CUT_LINES, values)
    fewer = sum(quantity for _, quantity in units)
    await connection.execute(_FEWER, {"fulfillment_id": fulfillment_id, "fewer": fewer})


async def mark_handed_over(
    connection: AsyncConnection, fulfillment_id: str, value_minor: int, *, captured: bool
) -> None:
    """Keep what the parcel is worth; `captured` when there is nothing to capture."""
    values = {"fulfillment_id": fulfillment_id, "value_minor": value_minor, "captured": captured}
    await connection.execute(_HANDED_OVER, values)


async def nothing_to_capture(connection: AsyncConnection, order_id: str) -> None:
    """No money is taken for the parcels of this order any more."""
    await connection.execute(_NOTHING_TO_CAPTURE, {"order_id": order_id})


async def mark_captured(connection: AsyncConnection, fulfillment_id: str) -> None:
    """The money for this parcel was taken."""
    await connection.execute(_CAPTURED, {"fulfillment_id": fulfillment_id})


async def claim_release(connection: AsyncConnection, fulfillment_id: str, token: str, key: str) -> int | None:
    """Take the right to call the node; after a refusal only under a new key. None: it is settled already."""
    await connection.execute(_RECLAIM_RELEASE, {"id": fulfillment_id, "key": key})
    row = (await connection.execute(_CLAIM_RELEASE, {"id": fulfillment_id, "token": token})).one_or_none()
    return None if row is None else int(row.attempt_no)


async def settle_release(
    connection: AsyncConnection,
    fulfillment_id: str,
    token: str,
    state: str,
    provider_ref: str | None = None,
    refusal: str | None = None,
) -> bool:
    """Write the node's answer if this attempt still owns the call."""
    values = {
        "id": fulfillment_id,
        "token": token,
        "state": state,
        "provider_ref": provider_ref,
        "refusal": refusal,
    }
    return (await connection.execute(_SETTLE_RELEASE, values)).first() is not None


async def expect_parcel(
    connection: AsyncConnection, order_id: str, fulfillment_id: str, shipment_id: str, token: str
) -> None:
    """Write the parcel; the first attempt to book it is claimed by `token`."""
    await connection.execute(
        _PARCEL,
        {
            "shipment_id": shipment_id,
            "fulfillment_id": fulfillment_id,
            "order_id": order_id,
            "business_key": f"{fulfillment_id}:package-1",
            "token": token,
        },
    )


async def claim_label(connection: AsyncConnection, shipment_id: str, token: str, key: str) -> int | None:
    """Take the right to call the carrier; after a refusal only under a new key. None: it is settled already."""
    await connection.execute(_RECLAIM_LABEL, {"id": shipment_id, "key": key})
    row = (await connection.execute(_CLAIM_LABEL, {"id": shipment_id, "token": token})).one_or_none()
    return None if row is None else int(row.attempt_no)


async def settle_label(
    connection: AsyncConnection,
    shipment_id: str,
    token: str,
    state: str,
    *,
    refusal: str | None = None,
    provider_ref: str | None = None,
    carrier: str | None = None,
    tracking_number: str | None = None,
    label_url: str | None = None,
) -> bool:
    """Write the carrier's answer if this attempt still owns the call."""
    values = {
        "id": shipment_id,
        "token": token,
        "state": state,
        "refusal": refusal,
        "provider_ref": provider_ref,
        "carrier": carrier,
        "tracking_number": tracking_number,
        "label_url": label_url,
        "tracking": "label_created" if state == "ok" else None,
    }
    return (await connection.execute(_SETTLE_LABEL, values)).first() is not None


async def void_label(connection: AsyncConnection, shipment_id: str) -> str | None:
    """Mark the label as taken back; returns its tracking number, None when there was none."""
    row = (await connection.execute(_VOID_LABEL, {"id": shipment_id})).one_or_none()
    return None if row is None else str(row.tracking_number)


async def track(
    connection: AsyncConnection, shipment_id: str, state: str | None, at: datetime, *, handed_over: bool
) -> None:
    """Write what the carrier told of the parcel."""
    values = {"id": shipment_id, "state": state, "at": at, "handed_over": handed_over}
    await connection.execute(_TRACK, values)


async def store_scan(
    connection: AsyncConnection,
    order_id: str,
    shipment_id: str,
    event_id: str,
    event_type: str,
    at: datetime,
    *,
    applied: bool,
    why: str | None,
) -> bool:
    """Keep a carrier's event, once. False: it was known; one that changed nothing before may be told again."""
    values = {
        "order_id": order_id,
        "shipment_id": shipment_id,
        "event_id": event_id,
        "type": event_type,
        "at": at,
        "applied": applied,
        "why": why,
    }
    return (await connection.execute(_SCAN, values)).first() is not None


_ASK_TO_STOP = text("""
UPDATE fulfillment_orders SET state = 'cancellation_requested', wait_since = :now,
  wait_deadline = CAST(:now AS timestamptz) + make_interval(secs => :answer_s)
 WHERE fulfillment_id = ANY(:ids) AND stage IN ('allocated', 'released', 'picked', 'packed')
""")


async def ask_to_stop(
    connection: AsyncConnection, fulfillment_ids: Sequence[str], now: datetime, answer_s: int
) -> None:
    """The nodes of these fulfillment orders are asked to stop; they have `answer_s` seconds to answer."""
    if fulfillment_ids:
        await connection.execute(_ASK_TO_STOP, {"ids": list(fulfillment_ids), "now": now, "answer_s": answer_s})


_REMEDY = text("UPDATE fulfillment_orders SET remedy = :remedy WHERE fulfillment_id = :fulfillment_id")


async def mark_remedy(connection: AsyncConnection, fulfillment_id: str, remedy: str) -> None:
    """Keep how the units of a parcel that did not arrive are made good."""
    await connection.execute(_REMEDY, {"fulfillment_id": fulfillment_id, "remedy": remedy})
