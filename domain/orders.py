"""The order as the storefront placed it: what enters the workflow and never changes.

No name, address or e-mail is here: personal data stays in the vault, and the order carries the opaque
`customer_ref` and the coarse zone that sourcing needs. Lines are tuples on the wire, so that an order of
1,500 lines stays well below 128 KiB.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from domain.ids import OrderId, Sku, TenderId
from domain.quantities import Bucket

MAX_LINES = 1500
MAX_QUANTITY = 100_000
MAX_MINOR = 10**12

Minor = Annotated[int, Field(ge=0, le=MAX_MINOR, strict=True)]
Quantity = Annotated[int, Field(ge=1, le=MAX_QUANTITY, strict=True)]
Code = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class Frozen(BaseModel):
    """A value that never changes once made. Grows by optional fields only: it may be in a history."""

    model_config = ConfigDict(frozen=True)


class ServiceLevel(StrEnum):
    """How fast the customer asked for it."""

    STANDARD = "standard"
    EXPRESS = "express"


class Split(StrEnum):
    """May the order leave in parts?"""

    ASAP = "asap"  # each part as soon as it can
    TOGETHER = "together"  # all of it from one node


class Backorder(StrEnum):
    """What the customer wants when something is not in stock."""

    REFUSE = "refuse"  # no order then
    ACCEPT = "accept"  # wait for supply


class OrderLine(NamedTuple):
    """One line as ordered. Amounts are minor units of the order's currency, for the whole line but the price."""

    line_no: Annotated[int, Field(ge=1, le=MAX_LINES, strict=True)]
    sku: Annotated[Sku, Field(min_length=1, max_length=64)]
    quantity: Quantity
    unit_price_minor: Minor
    discount_minor: Minor = 0
    tax_minor: Minor = 0


class TenderAsk(Frozen):
    """One payment instrument, to be authorized for `amount_minor`. `reference` is the provider's token."""

    tender_id: TenderId
    sequence: int
    provider: Code
    reference: Code
    amount_minor: Minor


class PlaceOrder(Frozen):
    """Everything the workflow needs to see an order through."""

    order_id: OrderId
    order_number: Code
    channel: Code
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
    customer_ref: Code
    country: str
    region: str
    zone_id: str
    lines: tuple[OrderLine, ...]
    shipping_minor: Minor = 0
    shipping_tax_minor: Minor = 0
    service_level: ServiceLevel = ServiceLevel.STANDARD
    split: Split = Split.ASAP
    backorder: Backorder | None = None  # the customer did not say: the rules and the item decide
    tenders: tuple[TenderAsk, ...]
    total_minor: Minor
    placed_at: datetime
    replaces_order: OrderId | None = None  # an earlier order of the channel: this one brings later goods for it

    @property
    def units(self) -> int:
        """Units over all lines."""
        return sum(line.quantity for line in self.lines)


class ActorKind(StrEnum):
    """Who did it."""

    CUSTOMER = "customer"
    PERSON = "person"
    PROGRAM = "program"
    NODE = "node"
    CARRIER = "carrier"
    PROVIDER = "provider"
    SYSTEM = "system"
    OPERATOR = "operator"  # acted through Temporal directly


class Actor(Frozen):
    """Who asked for a change, as recorded with the command."""

    kind: ActorKind
    id: Annotated[str, StringConstraints(min_length=1, max_length=80)]
    role: str | None = None


SYSTEM = Actor(kind=ActorKind.SYSTEM, id="accord")
OPERATOR = Actor(kind=ActorKind.OPERATOR, id="temporal")


class CancelReason(StrEnum):
    """Why an order or part of it was cancelled."""

    CHANGED_MIND = "changed_mind"
    DUPLICATE = "duplicate"
    FOUND_ELSEWHERE = "found_elsewhere"
    FRAUD = "fraud"
    OTHER = "other"
    PAYMENT_DECLINED = "payment_declined"  # set by the payment window
    OUT_OF_STOCK = "out_of_stock"  # the reservation lapsed and nothing is left
    NO_SUPPLY = "no_supply"  # it was waited for, and did not come in time


RefundWish = Literal["full", "none"]
"""What becomes of the value of cancelled units: it is not owed any more, or is paid all the same."""


class ChangeKind(StrEnum):
    """What a customer or an agent may want to change on an order in flight."""

    CANCEL = "cancel"
    CANCEL_UNREFUNDED = "cancel_without_refund"  # the customer pays for it all the same
    RECALL = "recall"  # the carrier is asked to bring parcels back
    WRITE_OFF = "write_off"  # cancelled units do not come back to stock
    INCREASE = "increase"
    DECREASE = "decrease"
    ADD_LINE = "add_line"
    SUBSTITUTE = "substitute"
    SHIP_TO = "set_ship_to"
    SERVICE_LEVEL = "set_service_level"
    REQUESTED_BY = "set_requested_by"


class CutOffs(Frozen):
    """Who may change what until when: change -> role -> the last stage of the units at which it is allowed.

    What is not listed is refused. The table in force is the ruleset `cut_off`; read by `domain/cut_offs.py`.
    """

    version: str = "cut_off@1"
    until: dict[ChangeKind, dict[str, Bucket]] = Field(default_factory=dict)


class AtSilence(StrEnum):
    """What happens when a node has been silent beyond its limit."""

    RE_SOURCE = "re_source"  # it is asked to stop, and another node ships; a case where there is no other
    CASE = "case"  # a person looks, and may have another node looked for


LimitS = Annotated[int, Field(ge=1, le=30 * 86_400, strict=True)]
"""A limit for one step, in seconds."""


class NodeLimits(Frozen):
    """How long one node may be silent. Seconds; without one, the limit of all nodes."""

    accept_s: LimitS | None = None
    pack_s: LimitS | None = None


class NodeSilence(Frozen):
    """The ruleset `node_silence`. The limits of all nodes are `node_accept_s` and `node_pack_s`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str = "node_silence@1"
    action: AtSilence = AtSilence.RE_SOURCE
    nodes: dict[str, NodeLimits] = Field(default_factory=dict)


class WhyLeft(StrEnum):
    """Why units were taken from a node that had not said no."""

    SILENT = "node_silent"
    FROZEN = "node_frozen"  # it takes no new work


class ParcelTrouble(StrEnum):
    """What can become of a parcel instead of a delivery."""

    LOST = "lost"
    DAMAGED = "damaged"
    RETURNED = "returned"  # it is back where it came from


class Remedy(StrEnum):
    """How the customer of such a parcel is made good."""

    REFUND = "refund"
    RESHIP = "reship"  # the same units again at no charge; refunded where nobody has them
    ASK = "ask"  # a person decides


class CarrierTrouble(Frozen):
    """What follows when a parcel does not arrive: a remedy per kind of trouble, and limits in seconds.

    The rules in force are the ruleset `carrier_trouble`; read by `domain/carrier_trouble.py`.
    """

    version: str = "carrier_trouble@1"
    lost: Remedy = Remedy.RESHIP
    damaged: Remedy = Remedy.RESHIP
    returned: Remedy = Remedy.REFUND
    no_scan_s: dict[ServiceLevel, int] = Field(
        default_factory=lambda: {ServiceLevel.STANDARD: 1_209_600, ServiceLevel.EXPRESS: 604_800}
    )  # without a scan for so long a parcel counts as lost
    return_s: int = 1_209_600  # for a parcel on its way back
    decide_s: int = 172_800  # for a person to decide; then it is refunded
    claim_s: int = 172_800  # to bring the claim to the carrier
    recallable: tuple[ServiceLevel, ...] = tuple(ServiceLevel)  # whose carrier can be asked to bring a parcel back
    recall_answer_s: int = 14_400  # for its answer; then a person asks

    def remedy_for(self, trouble: ParcelTrouble) -> Remedy:
        """What the rules say about this kind of trouble."""
        return {
            ParcelTrouble.LOST: self.lost,
            ParcelTrouble.DAMAGED: self.damaged,
            ParcelTrouble.RETURNED: self.returned,
        }[trouble]


class OrderRules(Frozen):
    """Durations and limits of one order, pinned at acceptance. Seconds; from the `order` ruleset.

    `cut_offs`, `node_silence` and `carrier_trouble` are rulesets of their own, pinned with them.
    """

    version: str = "order@1"
    reservation_limit_s: int = 1800
    hold_through_payment_window: bool = True
    payment_pending_s: int = 900
    payment_window_s: int = 86_400
    node_accept_s: int = 7_200
    node_pack_s: int = 86_400
    pickup_grace_s: int = 86_400
    node_stop_answer_s: int = 3_600
    carrier_silence_s: int = 604_800
    settle_s: int = 86_400
    force_close_s: Annotated[int, Field(ge=1)] = 120  # how long each provider is waited for when an order is forced
    resource_s: int = 300
    backorder_unasked: bool = True  # whether units may wait for supply where the customer did not say
    backorder_limit_s: Annotated[int, Field(ge=1)] = 30 * 86_400  # then what still waits is cancelled
    backorder_retry_s: Annotated[int, Field(ge=1)] = 43_200  # between two looks for supply that nobody told of
    priority: int = 0  # who waits for the same supply is served by priority, highest first, then by age
    shipping_prices: dict[ServiceLevel, Minor] = Field(default_factory=dict)  # of a whole order, before tax
    cut_offs: CutOffs | None = None  # orders from before there were any may be changed as cancellation allows
    carrier_trouble: CarrierTrouble | None = None  # without it no parcel counts as lost for want of a scan
    node_silence: NodeSilence | None = None  # orders from before there were any only open a case

    risk: str | None = None  # the version of the risk rules that it was judged by

    def accept_limit_s(self, node_id: str | None) -> int:
        """How long this node may take to accept."""
        own = self._limits(node_id).accept_s
        return self.node_accept_s if own is None else own

    def pack_limit_s(self, node_id: str | None) -> int:
        """How long this node may take for the next step until the parcel is packed."""
        own = self._limits(node_id).pack_s
        return self.node_pack_s if own is None else own

    def _limits(self, node_id: str | None) -> NodeLimits:
        known = self.node_silence.nodes if self.node_silence else {}
        return known.get(node_id or "", NodeLimits())

    @property
    def leaves_silent_nodes(self) -> bool:
        """Whether the units of a node that is silent for too long go elsewhere."""
        return self.node_silence is not None and self.node_silence.action is AtSilence.RE_SOURCE


class ReportKind(StrEnum):
    """What a node can report on a fulfillment order."""

    ACCEPTED = "accepted"
    PICKED = "picked"
    PACKED = "packed"
    HANDED_OVER = "handed_over"
    REJECTED = "rejected"  # the node takes none of it
    SHORT = "short"  # some units cannot be shipped
    CANCEL_AGREED = "cancel_agreed"
    CANCEL_DECLINED = "cancel_declined"


class NodeTrouble(StrEnum):
    """Why a node does not ship units."""

    NOT_FOUND = "not_found"  # counted, but not on the shelf: on hand was wrong
    DAMAGED = "damaged"  # on hand, but not sellable
    NO_CAPACITY = "no_capacity"
    CLOSED = "closed"
    OTHER = "other"


class CarrierEventType(StrEnum):
    """What a carrier can tell of a parcel."""

    HANDED_OVER = "handed_over"
    PRE_TRANSIT = "pre_transit"
    IN_TRANSIT = "in_transit"
    OUT_FOR_DELIVERY = "out_for_delivery"
    AVAILABLE_FOR_PICKUP = "available_for_pickup"
    DELIVERY_EXCEPTION = "delivery_exception"
    DELIVERED = "delivered"
    LOST = "lost"
    DAMAGED = "damaged"
    RETURN_TO_SENDER = "return_to_sender"  # it is brought back
    RETURNED = "returned"  # it is back at the node


PaymentFact = Literal["method_updated", "authorized", "declined"]


class HoldType(StrEnum):
    """Why an order is held. The rules of each type stand in `domain/holds.py`."""

    FRAUD = "fraud"  # somebody looks whether the customer is who they say
    ADDRESS = "address"  # the parcel might not arrive there
    PAYMENT = "payment"  # the money is not safe any more
    CREDIT = "credit"  # the customer owes too much already
    MANUAL = "manual"  # a person wants it to wait
    QUALITY = "quality"  # the goods might be faulty


class HoldBlock(StrEnum):
    """A step that a hold can stop."""

    SCHEDULE = "schedule"  # committing units to a node
    RELEASE = "release"  # handing the work to the node
    SHIP = "ship"  # buying the label
    REFUND = "refund"  # giving captured money back


class AtLimit(StrEnum):
    """What happens when a hold has stood for its whole time."""

    RELEASE = "release"  # the order goes on
    REJECT = "reject"  # what it holds is cancelled
    ESCALATE = "escalate"  # it stands, and a case asks its owner to decide


HoldDecision = Literal["release", "reject"]
HoldReason = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z_]{0,39}$")]
"""Why, as a short code. Free text may hold personal data, and must not enter a history."""
