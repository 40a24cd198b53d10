"""Carriers: book a parcel, get a label and a tracking number. Fulfillment owns this room.

The key is `fulfillment_order:package_no`, sent with every request: the same key meets the same label.
"""

from typing import Literal, Protocol, TypeAlias

from pydantic import Field

from providers.outcomes import Absent, Found, Message, Ok, Refused, Unknown


class LabelOk(Ok):
    """The carrier expects the parcel, or no longer expects it after `void_label`. The amount is 0."""

    carrier: str
    tracking_number: str
    label_url: str


LabelOutcome: TypeAlias = LabelOk | Refused | Unknown
LabelLookUp: TypeAlias = Found[LabelOk] | Absent


class BookRequest(Message):
    """One parcel from a node into a zone. No address: the label is printed where the goods are."""

    key: str = Field(min_length=1, max_length=200)
    order_id: str = Field(min_length=1, max_length=100)
    fulfillment_id: str
    node_id: str
    zone_id: str
    service_level: str
    units: int = Field(gt=0)
    weight_g: int | None = Field(default=None, gt=0)


class VoidLabelRequest(Message):
    """Take back a label that no parcel will travel under."""

    key: str = Field(min_length=1, max_length=200)
    tracking_number: str


class RecallRequest(Message):
    """Bring a parcel that has left back to where it came from. The key is the parcel's: it is asked once."""

    key: str = Field(min_length=1, max_length=200)
    tracking_number: str


class RecallAgreed(Message):
    """The carrier brings it back. Its scans tell when it is there, or that it was delivered all the same."""

    kind: Literal["agreed"] = "agreed"


class RecallTooLate(Message):
    """It was delivered, or nothing can keep it from being."""

    kind: Literal["too_late"] = "too_late"


class RecallUnsupported(Message):
    """This carrier, or this service, brings nothing back."""

    kind: Literal["unsupported"] = "unsupported"


class RecallFollows(Message):
    """The carrier has to find it first; its scans will tell. Silence is never consent."""

    kind: Literal["answer_follows"] = "answer_follows"


RecallAnswer: TypeAlias = RecallAgreed | RecallTooLate | RecallUnsupported | RecallFollows
RecallOutcome: TypeAlias = RecallAnswer | Unknown


class FoundRecall(Message):
    """The carrier knows the request, and this is how it answered at the time."""

    kind: Literal["found"] = "found"
    outcome: RecallAnswer


RecallLookUp: TypeAlias = FoundRecall | Absent


class CarrierProvider(Protocol):
    """What Accord asks of a carrier."""

    async def book(self, request: BookRequest) -> LabelOutcome:
        """Buy a label. Raises `NotSent` when the request never reached the carrier."""
        ...

    async def void_label(self, request: VoidLabelRequest) -> LabelOutcome:
        """Take a label back; `already_voided` is refused under another key.

        Raises `NotSent` when the request never reached the carrier.
        """
        ...

    async def recall(self, request: RecallRequest) -> RecallOutcome:
        """Ask for a parcel back. Raises `NotSent` when the request never reached the carrier."""
        ...

    async def look_up(self, key: str) -> LabelLookUp:
        """How the request with this key was answered. Raises `ProviderUnavailable`."""
        ...

    async def look_up_recall(self, key: str) -> RecallLookUp:
        """How the recall with this key was answered. Raises `ProviderUnavailable`."""
        ...
