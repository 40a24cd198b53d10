"""The simulated payment provider: holds, takes, releases and gives back money that does not exist.

The payment reference chooses what happens; see `Reference`. Faults and controls come on top.
"""

import sqlite3
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Literal

from pydantic import TypeAdapter

from providers.faults import ProviderKind, SimulationFaults
from providers.outcomes import Absent, Found, Refused
from providers.payments import (
    AuthorizeRequest,
    CaptureRequest,
    PaymentLookUp,
    PaymentOk,
    PaymentOutcome,
    ProviderObject,
    RefundRequest,
    VoidRequest,
)
from providers.simulated_peer import DEFAULT_TIME_LIMIT_S, Call, SimulatedPeer, Visit, fingerprint
from providers.simulation import Simulation

HOLD: Final = timedelta(days=7)
"""How long an authorization can be captured."""
SLOW_MS: Final = 1000
PAGE_MAX: Final = 1000

PaymentAnswer = PaymentOk | Refused
_ANSWERS: TypeAdapter[PaymentAnswer] = TypeAdapter(PaymentAnswer)
_OPERATIONS: Final = ("authorize", "capture", "void", "refund")

_OBJECTS: Final = """
SELECT e.key, e.order_id, e.kind, e.provider_ref, e.amount_minor, e.currency,
  CASE WHEN a.authorization_ref IS NULL THEN 'succeeded'
       WHEN a.captured_minor > 0 AND a.captured_minor + a.voided_minor = a.authorized_minor THEN 'captured'
       WHEN a.voided_minor > 0 THEN 'voided'
       WHEN a.captured_minor > 0 THEN 'partly_captured'
       ELSE 'open' END
  FROM effects e LEFT JOIN authorizations a ON a.authorization_ref = e.provider_ref
 WHERE e.provider = 'payments' AND e.effect_id > ?
 ORDER BY e.effect_id LIMIT ?"""


class Reference(StrEnum):
    """The payment references that the simulated provider knows."""

    OK = "pm_ok"  # approved at once
    DECLINED = "pm_declined"  # always refused with card_declined
    DECLINE_ONCE = "pm_decline_once"  # the first authorization of the order is refused, a later key approved
    INSUFFICIENT = "pm_insufficient"  # always refused with insufficient_funds
    TIMEOUT = "pm_timeout"  # approved, but the first reply is lost
    LOST = "pm_lost"  # the first request of the order never arrives, the second does
    SLOW = "pm_slow"  # approved after a second


class UnknownCursorError(ValueError):
    """`after` names no object of this provider."""


class SimulatedPayments:
    """A `PaymentProvider` on the simulation's file."""

    def __init__(
        self,
        simulation: Simulation,
        faults: SimulationFaults | None = None,
        time_limit_s: float = DEFAULT_TIME_LIMIT_S,
    ) -> None:
        self._peer = SimulatedPeer(simulation, ProviderKind.PAYMENTS, faults, time_limit_s)

    async def authorize(self, request: AuthorizeRequest) -> PaymentOutcome:
        """See `PaymentProvider.authorize`."""
        call = Call(
            "authorize",
            request.key,
            request.order_id,
            fingerprint("authorize", request),
            first_loses=_first_loses(request.reference),
            extra_delay_ms=SLOW_MS if request.reference == Reference.SLOW else 0,
        )
        return await self._peer.send(call, _ANSWERS, lambda visit: _authorize(visit, request))

    async def capture(self, request: CaptureRequest) -> PaymentOutcome:
        """See `PaymentProvider.capture`."""
        call = Call("capture", request.key, request.order_id, fingerprint("capture", request))
        return await self._peer.send(call, _ANSWERS, lambda visit: _capture(visit, request))

    async def void(self, request: VoidRequest) -> PaymentOutcome:
        """See `PaymentProvider.void`."""
        call = Call("void", request.key, request.order_id, fingerprint("void", request))
        return await self._peer.send(call, _ANSWERS, lambda visit: _void(visit, request))

    async def refund(self, request: RefundRequest) -> PaymentOutcome:
        """See `PaymentProvider.refund`."""
        call = Call("refund", request.key, request.order_id, fingerprint("refund", request))
        return await self._peer.send(call, _ANSWERS, lambda visit: _refund(visit, request))

    async def look_up(self, key: str) -> PaymentLookUp:
        """See `PaymentProvider.look_up`."""
        answer = await self._peer.look_up(key, _OPERATIONS, _ANSWERS)
        return Absent() if answer is None else Found[PaymentOk](outcome=answer)

    async def objects(self, after: str | None, limit: int) -> tuple[ProviderObject, ...]:
        """See `PaymentProvider.objects`; at most 1,000 a page. Raises `UnknownCursorError`."""
        return await self._peer.ask(lambda db: _page(db, after, limit))


@dataclass(frozen=True)
class _Authorization:
    """What the provider knows about one hold."""

    ref: str
    currency: str
    authorized_minor: int
    captured_minor: int
    voided_minor: int
    refunded_minor: int
    capture_before_text: str

    @property
    def capture_before(self) -> datetime:
        return datetime.fromisoformat(self.capture_before_text)

    @property
    def remaining_minor(self) -> int:
        return self.authorized_minor - self.captured_minor - self.voided_minor


def _first_loses(reference: str) -> Literal["request", "reply"] | None:
    if reference == Reference.LOST:
        return "request"
    return "reply" if reference == Reference.TIMEOUT else None


def _authorize(visit: Visit, request: AuthorizeRequest) -> PaymentAnswer:
    if refusal := _decline(visit, request.reference):
        return refusal
    ref = visit.reference("auth")
    capture_before = datetime.fromisoformat(visit.now_text) + HOLD
    visit.db.execute(
        "INSERT INTO authorizations (authorization_ref, order_id, currency, authorized_minor, capture_before)"
        " VALUES (?, ?, ?, ?, ?)",
        (ref, request.order_id, request.currency, request.amount_minor, capture_before.isoformat()),
    )
    visit.record(
        "authorization",
        ref,
        ref,
        amount=(request.amount_minor, request.currency),
        detail=(("reference", request.reference),),
    )
    return PaymentOk(
        provider_ref=ref,
        amount_minor=request.amount_minor,
        currency=request.currency,
        capture_before=capture_before,
    )


def _decline(visit: Visit, reference: str) -> Refused | None:
    """The refusal that the reference, the seed or a control asks for."""
    if reference not in set(Reference):
        return Refused(code="unknown_reference", detail="no payment method has this reference")
    if reference == Reference.INSUFFICIENT:
        return Refused(code="insufficient_funds", detail="the account does not cover the amount")
    is_declined = (
        visit.declined
        or reference == Reference.DECLINED
        or (reference == Reference.DECLINE_ONCE and not _was_answered_before(visit))
    )
    return Refused(code="card_declined", detail="the bank declined the payment") if is_declined else None


def _was_answered_before(visit: Visit) -> bool:
    """Whether an earlier authorization of this order got an answer."""
    row = visit.db.execute(
        "SELECT 1 FROM requests WHERE order_id = ? AND provider = ? AND operation = 'authorize'"
        " AND answer IS NOT NULL LIMIT 1",
        (visit.call.order_id, visit.provider),
    ).fetchone()
    return row is not None


def _capture(visit: Visit, request: CaptureRequest) -> PaymentAnswer:
    hold = _find(visit, request.authorization_ref, request.currency)
    if isinstance(hold, Refused):
        return hold
    if hold.voided_minor > 0:
        return Refused(code="authorization_voided", detail="what was not captured has been let go")
    if datetime.fromisoformat(visit.now_text) >= hold.capture_before:
        return Refused(code="authorization_expired", detail="the hold has lapsed")
    if request.amount_minor > hold.remaining_minor:
        return Refused(code="exceeds_authorization", detail=f"{hold.remaining_minor} minor units are left")
    visit.db.execute(
        "UPDATE authorizations SET captured_minor = captured_minor + ? WHERE authorization_ref = ?",
        (request.amount_minor, hold.ref),
    )
    return _moved(visit, "capture", hold, request.amount_minor)


def _void(visit: Visit, request: VoidRequest) -> PaymentAnswer:
    hold = _find(visit, request.authorization_ref)
    if isinstance(hold, Refused):
        return hold
    if hold.voided_minor > 0:
        return Refused(code="already_voided", detail="what was not captured has been let go before")
    if hold.remaining_minor == 0:
        return Refused(code="already_captured", detail="everything has been captured; refund it instead")
    visit.db.execute(
        "UPDATE authorizations SET voided_minor = ? WHERE authorization_ref = ?",
        (hold.remaining_minor, hold.ref),
    )
    return _moved(visit, "void", hold, hold.remaining_minor)


def _refund(visit: Visit, request: RefundRequest) -> PaymentAnswer:
    hold = _find(visit, request.authorization_ref, request.currency)
    if isinstance(hold, Refused):
        return hold
    left_minor = hold.captured_minor - hold.refunded_minor
    if request.amount_minor > left_minor:
        return Refused(code="exceeds_captured", detail=f"{left_minor} minor units can be refunded")
    visit.db.execute(
        "UPDATE authorizations SET refunded_minor = refunded_minor + ? WHERE authorization_ref = ?",
        (request.amount_minor, hold.ref),
    )
    return _moved(visit, "refund", hold, request.amount_minor)


def _find(visit: Visit, authorization_ref: str, currency: str | None = None) -> _Authorization | Refused:
    """The order's hold of this name; refused when it is not known, another order's or in another currency."""
    row = visit.db.execute(
        "SELECT authorization_ref, currency, authorized_minor, captured_minor, voided_minor, refunded_minor,"
        " capture_before FROM authorizations WHERE authorization_ref = ? AND order_id = ?",
        (authorization_ref, visit.call.order_id),
    ).fetchone()
    if row is None:
        return Refused(code="unknown_authorization", detail="this order has no such authorization")
    hold = _Authorization(*row)
    if currency is not None and currency != hold.currency:
        return Refused(code="currency_mismatch", detail=f"the authorization is in {hold.currency}")
    return hold


def _moved(visit: Visit, kind: str, hold: _Authorization, amount_minor: int) -> PaymentOk:
    ref = visit.reference(kind)
    visit.record(kind, ref, hold.ref, amount=(amount_minor, hold.currency))
    return PaymentOk(provider_ref=ref, amount_minor=amount_minor, currency=hold.currency)


def _page(db: sqlite3.Connection, after: str | None, limit: int) -> tuple[ProviderObject, ...]:
    start = 0
    if after is not None:
        row = db.execute(
            "SELECT effect_id FROM effects WHERE provider = 'payments' AND provider_ref = ?", (after,)
        ).fetchone()
        if row is None:
            raise UnknownCursorError(f"no payment object is named {after!r}")
        start = row[0]
    rows = db.execute(_OBJECTS, (start, max(0, min(limit, PAGE_MAX)))).fetchall()
    names = tuple(ProviderObject.model_fields)
    return tuple(ProviderObject.model_validate(dict(zip(names, row, strict=True))) for row in rows)
