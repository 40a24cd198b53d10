"""Money: tenders, payment intents with their claims, and the ledger. Journals are posted by templates only."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.shares import Components


@dataclass(frozen=True)
class Intent:
    """One thing we want of a payment provider. Its business key is stored before the call."""

    business_key: str
    order_id: str
    tender_id: str
    intent: str
    seq: int
    amount_minor: int
    currency: str
    provider: str
    reason_ref: str | None = None


@dataclass(frozen=True)
class Claim:
    """An attempt's right to call. `attempt_no` counts from 1."""

    attempt_no: int
    reference: str
    authorization_ref: str | None


@dataclass(frozen=True)
class Settled:
    """How an intent ended."""

    state: str
    amount_minor: int
    provider_ref: str | None
    refusal: str | None


_INSERT = text("""
INSERT INTO payment_intents (business_key, order_id, tender_id, intent, seq, reason_ref, amount_minor, currency,
  provider, state, attempt_token, attempt_no, first_call_at)
VALUES (:business_key, :order_id, :tender_id, :intent, :seq, :reason_ref, :amount_minor, :currency, :provider,
  CASE WHEN CAST(:token AS text) IS NULL THEN 'claimed' ELSE 'calling' END, :token,
  CASE WHEN CAST(:token AS text) IS NULL THEN 0 ELSE 1 END,
  CASE WHEN CAST(:token AS text) IS NULL THEN NULL ELSE now() END)
ON CONFLICT (business_key) DO NOTHING RETURNING business_key
""")
_CLAIM = text("""
UPDATE payment_intents i SET attempt_token = :token, attempt_no = attempt_no + 1, state = 'calling',
  first_call_at = coalesce(first_call_at, now())
  FROM tenders t WHERE i.business_key = :key AND i.state IN ('claimed','calling','unknown')
   AND t.tender_id = i.tender_id
 RETURNING i.attempt_no, t.reference, t.authorization_ref
""")
_SETTLED = text("""
SELECT state, amount_minor, provider_ref, refusal FROM payment_intents WHERE business_key = :key
""")
_SETTLE = text("""
UPDATE payment_intents SET state = :state, provider_ref = :provider_ref, refusal = :refusal,
  amount_minor = coalesce(:amount_minor, amount_minor), settled_at = now()
 WHERE business_key = :key AND attempt_token = :token AND state = 'calling' RETURNING business_key
""")
_UNKNOWN = text("""
UPDATE payment_intents SET state = 'unknown' WHERE business_key = :key AND attempt_token = :token
   AND state = 'calling' RETURNING attempt_no
""")
_TENDER_PENDING = text("""
UPDATE tenders SET state = 'pending', reference = coalesce(:reference, reference), decline_code = NULL,
  wait_since = now(), wait_deadline = now() + make_interval(secs => :pending_s) WHERE tender_id = :tender_id
""")
_TENDER_AUTHORIZED = text("""
UPDATE tenders SET state = 'authorized', authorized_minor = :amount_minor, authorization_ref = :provider_ref,
  capture_before = :capture_before WHERE tender_id = :tender_id
""")
_TENDER_FAILED = text("""
UPDATE tenders SET state = 'failed', decline_code = :code, wait_since = now(), wait_deadline = :until
 WHERE tender_id = :tender_id
""")
_TENDERS_DROPPED = text("""
UPDATE tenders SET state = 'failed', decline_code = 'not_tried' WHERE tender_id = ANY(:tender_ids) AND state = 'pending'
""")
_TENDER_CAPTURED = text("""
UPDATE tenders SET captured_minor = captured_minor + :amount_minor,
  state = CASE WHEN captured_minor + :amount_minor = authorized_minor THEN 'captured' ELSE 'partially_captured' END
 WHERE tender_id = :tender_id
""")
_TENDER_VOIDED = text("""
UPDATE tenders SET state = CASE WHEN captured_minor = 0 THEN 'voided' ELSE 'captured' END WHERE tender_id = :tender_id
""")
_TENDER_REFUND_CLAIMED = text("""
UPDATE tenders SET refund_pending_minor = refund_pending_minor + :amount_minor WHERE tender_id = :tender_id
""")
_TENDER_REFUNDED = text("""
UPDATE tenders SET refund_pending_minor = refund_pending_minor - :amount_minor,
  refunded_minor = refunded_minor + CASE WHEN :done THEN :amount_minor ELSE 0 END WHERE tender_id = :tender_id
""")
_JOURNAL = text("""
WITH j AS (INSERT INTO ledger_journals (order_id, kind, business_key) VALUES (:order_id, :kind, :key)
  ON CONFLICT (business_key) DO NOTHING RETURNING journal_id)
INSERT INTO ledger_entries (journal_id, order_id, account, currency, amount_minor)
SELECT j.journal_id, :order_id, e.account, :currency, e.amount_minor
  FROM j, unnest(CAST(:accounts AS text[]), CAST(:amounts AS bigint[])) AS e(account, amount_minor)
 WHERE e.amount_minor <> 0
""")


async def want(connection: AsyncConnection, intent: Intent, token: str | None = None) -> bool:
    """Store an intent; with `token` the first attempt is claimed with it. False: it was there already."""
    return (await connection.execute(_INSERT, {**intent.__dict__, "token": token})).first() is not None


async def claim(connection: AsyncConnection, key: str, token: str) -> Claim | None:
    """Take the right to call. None: the intent is settled already."""
    row = (await connection.execute(_CLAIM, {"key": key, "token": token})).one_or_none()
    return None if row is None else Claim(row.attempt_no, row.reference, row.authorization_ref)


async def settled(connection: AsyncConnection, key: str) -> Settled:
    """How the intent stands."""
    row = (await connection.execute(_SETTLED, {"key": key})).one()
    return Settled(row.state, row.amount_minor, row.provider_ref, row.refusal)


async def settle(
    connection: AsyncConnection,
    key: str,
    token: str,
    *,
    provider_ref: str | None = None,
    refusal: str | None = None,
    amount_minor: int | None = None,
) -> bool:
    """Write the outcome if this attempt still owns the intent; False: a newer attempt does, write nothing."""
    row = await connection.execute(
        _SETTLE,
        {
            "key": key,
            "token": token,
            "state": "ok" if refusal is None else "refused",
            "provider_ref": provider_ref,
            "refusal": refusal,
            "amount_minor": amount_minor,
        },
    )
    return row.first() is not None


async def mark_unknown(connection: AsyncConnection, key: str, token: str) -> int | None:
    """Nobody knows yet: the next attempt looks it up. Returns the attempt's number, None when it lost its claim."""
    row = (await connection.execute(_UNKNOWN, {"key": key, "token": token})).one_or_none()
    return None if row is None else int(row.attempt_no)


async def tender_pending(connection: AsyncConnection, tender_id: str, reference: str | None, pending_s: int) -> None:
    """A new attempt to authorize is under way, perhaps with another payment method."""
    values = {"tender_id": tender_id, "reference": reference, "pending_s": pending_s}
    await connection.execute(_TENDER_PENDING, values)


async def tender_authorized(
    connection: AsyncConnection,
    tender_id: str,
    amount_minor: int,
    provider_ref: str,
    capture_before: datetime | None,
) -> None:
    """The provider holds the money."""
    values = {
        "tender_id": tender_id,
        "amount_minor": amount_minor,
        "provider_ref": provider_ref,
        "capture_before": capture_before,
    }
    await connection.execute(_TENDER_AUTHORIZED, values)


async def tender_failed(connection: AsyncConnection, tender_id: str, code: str, until: datetime) -> None:
    """The provider declined; the customer may fix it until then."""
    await connection.execute(_TENDER_FAILED, {"tender_id": tender_id, "code": code, "until": until})


async def drop_tenders(connection: AsyncConnection, tender_ids: Sequence[str]) -> None:
    """These tenders were never sent to their provider and will not be."""
    if tender_ids:
        await connection.execute(_TENDERS_DROPPED, {"tender_ids": list(tender_ids)})


async def tender_captured(connection: AsyncConnection, tender_id: str, amount_minor: int) -> None:
    """Part or all of the authorization was taken. The table refuses more than was authorized."""
    await connection.execute(_TENDER_CAPTURED, {"tender_id": tender_id, "amount_minor": amount_minor})


async def tender_voided(connection: AsyncConnection, tender_id: str) -> None:
    """What was not captured has been released."""
    await connection.execute(_TENDER_VOIDED, {"tender_id": tender_id})


async def refund_claimed(connection: AsyncConnection, tender_id: str, amount_minor: int) -> None:
    """Count a refund against the cap before it is sent. The table refuses more than was captured."""
    await connection.execute(_TENDER_REFUND_CLAIMED, {"tender_id": tender_id, "amount_minor": amount_minor})


async def refund_settled(connection: AsyncConnection, tender_id: str, amount_minor: int, *, done: bool) -> None:
    """The pending refund was paid out, or was refused."""
    values = {"tender_id": tender_id, "amount_minor": amount_minor, "done": done}
    await connection.execute(_TENDER_REFUNDED, values)


async def post_invoice(
    connection: AsyncConnection, order_id: str, currency: str, shipment_id: str, parts: Components
) -> None:
    """Hand-over: the customer owes the units; revenue, shipping and tax are earned."""
    entries = {
        "customer": parts.total_minor,
        "revenue": -parts.revenue_minor,
        "shipping": -parts.shipping_minor,
        "tax": -parts.tax_minor,
    }
    await _post(connection, order_id, currency, "invoice", f"{shipment_id}:invoice", entries)


async def post_kept(connection: AsyncConnection, order_id: str, currency: str, step: str, parts: Components) -> None:
    """Cancelled without refund: the customer owes the units all the same, and it is earned as if they had left."""
    entries = {
        "customer": parts.total_minor,
        "revenue": -parts.revenue_minor,
        "shipping": -parts.shipping_minor,
        "tax": -parts.tax_minor,
    }
    await _post(connection, order_id, currency, "kept", f"{order_id}:{step}:kept", entries)


async def post_credit(connection: AsyncConnection, order_id: str, currency: str, key: str, parts: Components) -> None:
    """Credit memo: of what was invoiced, these units are not owed any more."""
    entries = {
        "customer": -parts.total_minor,
        "revenue": parts.revenue_minor,
        "shipping": parts.shipping_minor,
        "tax": parts.tax_minor,
    }
    await _post(connection, order_id, currency, "credit_memo", f"{key}:credit", entries)


async def post_capture(
    connection: AsyncConnection, order_id: str, currency: str, tender_id: str, key: str, amount_minor: int
) -> None:
    """The provider owes us the money, the customer no longer does."""
    entries = {f"provider:{tender_id}": amount_minor, "customer": -amount_minor}
    await _post(connection, order_id, currency, "capture", key, entries)


async def post_unsettled(
    connection: AsyncConnection, order_id: str, currency: str, key: str, amount_minor: int, account: str
) -> None:
    """What was kept beyond what is owed (negative: what is missing) is no longer the customer's account's."""
    entries = {"customer": amount_minor, account: -amount_minor}
    await _post(connection, order_id, currency, "unsettled", key, entries)


async def post_refund(
    connection: AsyncConnection, order_id: str, currency: str, tender_id: str, key: str, amount_minor: int
) -> None:
    """Money went back to the customer."""
    entries = {f"provider:{tender_id}": -amount_minor, "customer": amount_minor}
    await _post(connection, order_id, currency, "refund", key, entries)


async def _post(
    connection: AsyncConnection, order_id: str, currency: str, kind: str, key: str, entries: dict[str, int]
) -> None:
    await connection.execute(
        _JOURNAL,
        {
            "order_id": order_id,
            "kind": kind,
            "key": key,
            "currency": currency,
            "accounts": list(entries),
            "amounts": list(entries.values()),
        },
    )
