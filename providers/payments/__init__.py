"""Payment providers: hold money, take it, let it go, give it back. Finance owns this room.

The key is our business key (`order:intent:seq`), sent with every request and kept by the provider: the
same key with the same parameters meets the same object again. Amounts are positive minor units. Identifiers
are plain text here, since a provider knows nothing of our types.
"""

from datetime import datetime
from typing import Literal, Protocol, TypeAlias

from pydantic import Field

from providers.outcomes import Absent, Found, Message, Ok, Refused, Unknown


class PaymentOk(Ok):
    """The provider holds, took, let go or gave back `amount_minor`."""

    currency: str = Field(min_length=3, max_length=3)
    capture_before: datetime | None = None
    """Authorizations only: after this instant the hold lapses and nothing can be captured."""


PaymentOutcome: TypeAlias = PaymentOk | Refused | Unknown
PaymentLookUp: TypeAlias = Found[PaymentOk] | Absent


class PaymentRequest(Message):
    """What every payment request carries: the business key, and our order in the provider's metadata."""

    key: str = Field(min_length=1, max_length=200)
    order_id: str = Field(min_length=1, max_length=100)


class AuthorizeRequest(PaymentRequest):
    """Hold money on the payment method that `reference` names (never card data)."""

    reference: str = Field(min_length=1, max_length=200)
    amount_minor: int = Field(gt=0)
    currency: str = Field(min_length=3, max_length=3)


class CaptureRequest(PaymentRequest):
    """Take part or all of what was authorized; an authorization may be captured several times."""

    authorization_ref: str
    amount_minor: int = Field(gt=0)
    currency: str = Field(min_length=3, max_length=3)


class VoidRequest(PaymentRequest):
    """Let go whatever has not been captured."""

    authorization_ref: str


class RefundRequest(PaymentRequest):
    """Give back part or all of what was captured."""

    authorization_ref: str
    amount_minor: int = Field(gt=0)
    currency: str = Field(min_length=3, max_length=3)


class ProviderObject(Message):
    """One object as the provider keeps it, for reconciliation."""

    key: str
    order_id: str
    kind: Literal["authorization", "capture", "void", "refund"]
    provider_ref: str
    amount_minor: int
    currency: str
    state: Literal["open", "partly_captured", "captured", "voided", "succeeded"]
    """Of an authorization the first four; `captured` also when only a remainder was let go."""


class PaymentProvider(Protocol):
    """What Accord asks of a payment provider."""

    async def authorize(self, request: AuthorizeRequest) -> PaymentOutcome:
        """Hold money. Raises `NotSent` when the request never reached the provider."""
        ...

    async def capture(self, request: CaptureRequest) -> PaymentOutcome:
        """Take held money. Raises `NotSent` when the request never reached the provider."""
        ...

    async def void(self, request: VoidRequest) -> PaymentOutcome:
        """Let go the uncaptured remainder; `already_captured` is refused when there is none.

        Raises `NotSent` when the request never reached the provider.
        """
        ...

    async def refund(self, request: RefundRequest) -> PaymentOutcome:
        """Give captured money back. Raises `NotSent` when the request never reached the provider."""
        ...

    async def look_up(self, key: str) -> PaymentLookUp:
        """How the request with this key was answered. Raises `ProviderUnavailable`."""
        ...

    async def objects(self, after: str | None, limit: int) -> tuple[ProviderObject, ...]:
        """At most `limit` objects in the order they were made, starting behind the one named `after`.

        `after` is the `provider_ref` of the last object seen, None for the first page. A page shorter than
        `limit` is the last one. Raises `ProviderUnavailable`.
        """
        ...
