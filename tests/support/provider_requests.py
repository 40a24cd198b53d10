"""Requests to providers, for tests: every field has a sound value unless the test says otherwise."""

from providers.carriers import BookRequest
from providers.notifications import NoticeRequest
from providers.outcomes import Refused
from providers.payments import (
    AuthorizeRequest,
    CaptureRequest,
    PaymentOk,
    PaymentOutcome,
    RefundRequest,
    VoidRequest,
)
from providers.warehouses import ReleaseLine, ReleaseRequest, ShipTo


def hold(order: str = "ord_1", *, reference: str = "pm_ok", amount: int = 1000, seq: int = 1) -> AuthorizeRequest:
    """Authorize 10.00 USD."""
    return AuthorizeRequest(
        key=f"{order}:authorize:{seq}",
        order_id=order,
        reference=reference,
        amount_minor=amount,
        currency="USD",
    )


def take(ref: str, amount: int, seq: int = 1, *, order: str = "ord_1", currency: str = "USD") -> CaptureRequest:
    """Capture from the authorization `ref`."""
    return CaptureRequest(
        key=f"{order}:capture:{seq}",
        order_id=order,
        authorization_ref=ref,
        amount_minor=amount,
        currency=currency,
    )


def let_go(ref: str, seq: int = 1) -> VoidRequest:
    """Void what is left of the authorization `ref`."""
    return VoidRequest(key=f"ord_1:void:{seq}", order_id="ord_1", authorization_ref=ref)


def give_back(ref: str, amount: int, seq: int = 1) -> RefundRequest:
    """Refund what was captured from the authorization `ref`."""
    return RefundRequest(
        key=f"ord_1:refund:{seq}",
        order_id="ord_1",
        authorization_ref=ref,
        amount_minor=amount,
        currency="USD",
    )


def parcel(key: str = "ful_1:1", order: str = "ord_1") -> BookRequest:
    """Book one parcel of two units."""
    return BookRequest(
        key=key,
        order_id=order,
        fulfillment_id="ful_1",
        node_id="BOS",
        zone_id="US-MA",
        service_level="ground",
        units=2,
    )


def work(fulfillment: str = "ful_1", version: int = 1) -> ReleaseRequest:
    """Release two lamps to a node, with an address that must not turn up anywhere."""
    return ReleaseRequest(
        key=f"{fulfillment}:{version}",
        order_id="ord_1",
        fulfillment_id=fulfillment,
        node_id="BOS",
        lines=(ReleaseLine(line_no=1, sku="LAMP", quantity=2),),
        ship_to=ShipTo(name="Canary Person", line1="1 Canary Street", city="Boston", country="US"),
    )


def notice() -> NoticeRequest:
    """Tell the customer of a delay."""
    return NoticeRequest(
        key="ntc_1",
        order_id="ord_1",
        channel="email",
        address="canary@example.org",
        kind="delayed",
        subject="A new date, Canary",
        text="Hello Canary Person, it comes later.",
        data=(("new_date", "2026-12-01"),),
    )


def ok(outcome: PaymentOutcome) -> PaymentOk:
    """The outcome, which must be a success."""
    assert isinstance(outcome, PaymentOk), outcome
    return outcome


def code(outcome: object) -> str:
    """The code of the outcome, which must be a refusal."""
    assert isinstance(outcome, Refused), outcome
    return outcome.code
