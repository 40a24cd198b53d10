"""What a client can send: bodies of requests. Unknown fields are refused, numbers are whole and bounded."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from api.text_rules import AddressLine, Name, Reference, TextRefused, clean_text
from domain.orders import (
    MAX_LINES,
    MAX_MINOR,
    MAX_QUANTITY,
    Backorder,
    CancelReason,
    CarrierEventType,
    NodeTrouble,
    RefundWish,
    ReportKind,
    ServiceLevel,
    Split,
)

Minor = Annotated[int, Field(ge=0, le=MAX_MINOR, strict=True)]
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s.]+(\.[^@\s.]+)+")


def _email(text: str) -> str:
    if not _EMAIL.fullmatch(text):
        raise TextRefused("email", "write it like name@example.com")
    return clean_text(text)


Locale = Annotated[
    str, Field(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$", max_length=35), AfterValidator(clean_text)
]
PostalCode = Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[A-Za-z0-9 -]+$"), AfterValidator(clean_text)]


class Body(BaseModel):
    """A request's body."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class CustomerIn(Body):
    """Who buys. Kept in the vault; `external_ref` is the shop's own id of the customer."""

    external_ref: Reference | None = None
    name: Name
    email: Annotated[str, Field(max_length=254), AfterValidator(_email)] | None = None
    locale: Locale | None = None


class ShipTo(Body):
    """Where it goes. Country as ISO 3166-1 alpha-2; `region` as the country writes it, like MA."""

    name: Name
    lines: Annotated[tuple[AddressLine, ...], Field(min_length=1, max_length=4)]
    city: AddressLine
    region: Reference
    postal_code: PostalCode
    country: Annotated[str, Field(pattern=r"^[A-Z]{2}$")]


class LineIn(Body):
    """One line. Discount and tax are for the whole line; the same SKU may be on several lines."""

    sku: Reference
    quantity: Annotated[int, Field(ge=1, le=MAX_QUANTITY, strict=True)]
    unit_price_minor: Minor
    discount_minor: Minor = 0
    tax_minor: Minor = 0


class ShippingIn(Body):
    """How it is shipped, and what the customer pays for that."""

    method: Literal["ship"] = "ship"
    service_level: ServiceLevel = ServiceLevel.STANDARD
    price_minor: Minor = 0
    tax_minor: Minor = 0


class PreferencesIn(Body):
    """What the customer wants when not everything can leave at once."""

    split: Split = Split.ASAP
    backorder: Annotated[
        Backorder | None,
        Field(
            description="What is not in stock: `accept` waits for supply where the item allows it, `refuse` wants no "
            "order then. Not said: the channel's rule `backorder_unasked` speaks for the customer."
        ),
    ] = None
    substitution: Literal["ask", "never"] = "ask"
    notices: Annotated[
        bool,
        Field(
            strict=True, description="false: only the notices that the law requires, like a cancellation by the shop."
        ),
    ] = True


class TenderIn(Body):
    """A payment instrument, as the provider's reference; never a card number."""

    provider: Literal["simulated"] = "simulated"
    reference: Reference
    state: Literal["to_authorize"] = "to_authorize"
    amount_minor: Minor


class CreateOrder(Body):
    """An order as the storefront placed it. Amounts are minor units of `currency` and must add up."""

    channel: Reference
    external_ref: Reference | None = None
    order_number: Reference | None = None
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    customer: CustomerIn
    ship_to: ShipTo
    lines: Annotated[tuple[LineIn, ...], Field(min_length=1, max_length=MAX_LINES)]
    shipping: ShippingIn = ShippingIn()
    preferences: PreferencesIn = PreferencesIn()
    tenders: Annotated[tuple[TenderIn, ...], Field(min_length=1, max_length=4)]
    total_minor: Minor
    placed_at: AwareDatetime | None = None
    replaces_order: Annotated[
        str | None,
        Field(
            pattern=r"^ord_[0-9A-HJKMNP-TV-Z]{26}$",
            description="An earlier order of the same channel and customer, whatever became of it: this one brings "
            "later goods for it. Without `customer.external_ref` it is of the earlier order's customer.",
        ),
    ] = None


CustomerReason = Literal[
    CancelReason.CHANGED_MIND,
    CancelReason.DUPLICATE,
    CancelReason.FOUND_ELSEWHERE,
    CancelReason.FRAUD,
    CancelReason.OTHER,
]


class LineQuantity(Body):
    """Units of one line of the order."""

    line: Annotated[int, Field(ge=1, le=MAX_LINES, strict=True)]
    quantity: Annotated[int, Field(ge=1, le=MAX_QUANTITY, strict=True)]


class RequestCancellation(Body):
    """Cancel the named units, or everything that has not left. `dry_run` answers with the plan and changes nothing.

    `restock` false: what a node has of them is written off. `refund` none: they are paid all the same, by agreement.
    Both are for the roles that the order's cut-off rules name. `all_or_nothing`: refused where some units cannot be
    cancelled. Units whose node must agree count as possible, whatever it answers then. `recall`: the carrier is asked
    to bring back whole parcels that have left; without the first two options.
    """

    reason: CustomerReason
    lines: Annotated[tuple[LineQuantity, ...], Field(max_length=MAX_LINES)] = ()
    restock: Annotated[bool, Field(strict=True)] = True
    refund: RefundWish = "full"
    all_or_nothing: Annotated[bool, Field(strict=True)] = False
    recall: Annotated[bool, Field(strict=True)] = False
    dry_run: Annotated[bool, Field(strict=True)] = False


class AddTender(Body):
    """A new reference for a declined tender; without `tender_id` for the one that was declined."""

    tender_id: Annotated[str, Field(pattern=r"^tnd_[0-9A-HJKMNP-TV-Z]{26}$")] | None = None
    reference: Reference


class ShortUnits(Body):
    """Units of one line that the node cannot ship."""

    line: Annotated[int, Field(ge=1, le=MAX_LINES, strict=True)]
    short: Annotated[int, Field(ge=1, le=MAX_QUANTITY, strict=True)]


class FulfillmentReport(Body):
    """What a node did with a fulfillment order. `report_id` is the node's own id: a repeat changes nothing.

    `short` names the units in `lines` (none: all of them); `reason` says why, for `short` and `rejected`.
    """

    report_id: Reference
    kind: ReportKind
    occurred_at: AwareDatetime
    lines: Annotated[tuple[ShortUnits, ...], Field(max_length=MAX_LINES)] = ()
    reason: NodeTrouble | None = None

    @model_validator(mode="after")
    def _only_trouble_has_lines_and_a_reason(self) -> "FulfillmentReport":
        if self.lines and self.kind is not ReportKind.SHORT:
            raise ValueError("lines belong to a report of kind short")
        if self.reason is not None and self.kind not in (ReportKind.SHORT, ReportKind.REJECTED):
            raise ValueError("a reason belongs to a report of kind short or rejected")
        return self


class ShipmentEvent(Body):
    """What a carrier saw of a parcel. `event_id` is the carrier's own id: a repeat changes nothing."""

    event_id: Reference
    type: CarrierEventType
    occurred_at: AwareDatetime
