"""What a client can get: the bodies of answers, for OpenAPI and for the tests that compare.

Answers may gain fields at any time, and enums are open: a client treats an unknown value as "other".
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Answer(BaseModel):
    """An answer's body. Strict here, so that a test notices a field that is not documented."""

    model_config = ConfigDict(extra="forbid")


class Links(Answer):
    """Where to go from an order."""

    self: str
    events: str
    cancellations: str
    holds: str
    decisions: str
    return_quote: str


class CustomerRefOnly(Answer):
    """The customer, for roles that see no personal data."""

    ref: str


class CustomerShown(Answer):
    """The customer: masked like `J*** E***`, or in full for the customer."""

    ref: str
    name: str
    email: str | None


class PlaceCoarse(Answer):
    """The destination, for roles that see no personal data."""

    region: str
    country: str


class PlaceMasked(PlaceCoarse):
    """The destination, masked."""

    postal_code: str


class PlaceFull(PlaceMasked):
    """The destination, for the customer, and for the node that ships."""

    name: str
    lines: list[str]
    city: str


class BackorderOut(Answer):
    """Units of a line that wait for supply. What has not come by `until` is cancelled, and the customer told."""

    units: int
    since: str
    until: str
    promised_by: str | None


class LineOut(Answer):
    """One line; `quantities` are the buckets that hold something and sum to `ordered`.

    `kept_minor` is what is paid all the same of what is cancelled.
    `credited_minor` is given back for units that left and did not arrive. A line with `replaces_parcel` is sent
    again at no charge for such units of the line `replaces_line`; without it, it is another item instead.
    """

    line: int
    sku: str
    ordered: int
    unit_price_minor: int
    items_minor: int
    discount_minor: int
    tax_minor: int
    shipping_minor: int
    shipping_tax_minor: int
    total_minor: int
    cancelled_minor: int
    kept_minor: int
    credited_minor: int
    replaces_line: int | None
    replaces_parcel: str | None
    quantities: dict[str, int]
    backorder: BackorderOut | None = None


class Totals(Answer):
    """Sums over the lines, in minor units: ordered - cancelled + kept = owed."""

    ordered_minor: int
    cancelled_minor: int
    kept_minor: int
    credited_minor: int
    owed_minor: int
    items_minor: int
    discount_minor: int
    tax_minor: int
    shipping_minor: int
    shipping_tax_minor: int


class TenderOut(Answer):
    """One payment instrument."""

    id: str
    provider: str
    sequence: int
    state: str
    amount_minor: int
    authorized_minor: int
    captured_minor: int
    refunded_minor: int
    decline_code: str | None
    capture_before: str | None


class Payment(Answer):
    """Money of the order."""

    authorized_minor: int
    captured_minor: int
    refunded_minor: int
    to_capture_minor: int
    tenders: list[TenderOut]


class Reservation(Answer):
    """Units are held at nodes until then, unless the payment is secured before."""

    state: str
    expires_at: str | None


class Promise(Answer):
    """The delivery promise. The original never changes; days are read at the destination."""

    original_by: str
    current_by: str
    state: str
    ruleset: str
    changes: list[dict[str, Any]]


class PartLine(Answer):
    """Units of one line."""

    line: int
    quantity: int


class Part(Answer):
    """One node's part of the order. `remedy`: how it was made good that its parcel did not arrive."""

    id: str
    node: str
    state: str
    stage: str
    remedy: str | None
    shipment_id: str
    ship_by: str
    value_minor: int
    lines: list[PartLine]


class Parcel(Answer):
    """One parcel."""

    id: str
    fulfillment_id: str
    carrier: str | None
    tracking_number: str | None
    state: str
    handed_over_at: str | None
    delivered_at: str | None
    returned_at: str | None
    recall: str | None = None
    recall_until: str | None = None


class WaitOut(Answer):
    """Who is waited for, which team owns the wait, since when and until when."""

    waiting_on: str
    owner: str
    cause: str | None
    since: str | None
    next_event: str | None
    deadline: str


class Refusal(Answer):
    """Why the order refused."""

    reason: str
    detail: str
    alternative: str | None


class Hold(Answer):
    """A hold: requested, placed, released, rejected, expired or declined. It stops the steps in `blocks`.

    Without a `line` it holds the whole order. `at_limit` is what happens at `expires_at`: release, reject, escalate.
    """

    id: str
    order_id: str
    type: str
    state: str
    blocks: list[str]
    line: int | None
    owner: str
    released_by: list[str]
    reason: str
    at_limit: str
    placed_by: str | None = None
    placed_at: str | None = None
    expires_at: str | None = None
    ended_by: str | None = None
    ended_at: str | None = None
    cancellation_id: str | None = None
    order_version: int | None = None
    refusal: Refusal | None = None
    note: str | None = None


class CancelOptions(Answer):
    """The values that the caller may give to the options of a cancellation, for all of the offered units."""

    restock: list[bool]
    refund: list[str]
    all_or_nothing: list[bool]  # true: nothing would be refused


class Action(Answer):
    """Something the caller may do, or why not now and what instead."""

    action: str
    available: bool
    change: str | None = None  # which kind of `amend`
    until_stage: str | None = None  # possible until the units have passed this stage
    lines: list[PartLine] = []
    options: CancelOptions | None = None  # of `cancel`
    tender_id: str | None = None
    hold_id: str | None = None
    reason: str | None = None
    detail: str | None = None
    alternative: str | None = None


class LinkedOrder(Answer):
    """An order that was placed to replace this one."""

    id: str
    order_number: str
    status: str


class Order(Answer):
    """The snapshot of an order. Later goods travel on linked orders: `replaces_order`, `replaced_by`."""

    id: str
    order_number: str
    version: int
    channel: str
    external_ref: str | None
    currency: str
    created_at: str
    updated_at: str
    status: str
    fulfillment_status: str
    payment_status: str
    service_level: str
    split: str
    backorder: str | None
    customer: CustomerShown | CustomerRefOnly
    ship_to: PlaceFull | PlaceMasked | PlaceCoarse
    lines: list[LineOut]
    totals: Totals
    payment: Payment
    reservation: Reservation | None
    promise: Promise | None
    fulfillment_orders: list[Part]
    shipments: list[Parcel]
    holds: list[Hold]
    wait: WaitOut | None
    rejection: dict[str, Any] | None
    available_actions: list[Action]
    replaces_order: str | None
    replaced_by: list[LinkedOrder]
    workflow_id: str
    links: Links


class ReceivedOrder(Answer):
    """An order that is stored and not answered yet; it goes on by itself."""

    id: str
    order_number: str
    version: int
    channel: str
    external_ref: str | None
    currency: str
    created_at: str
    status: Literal["received"]
    replaces_order: str | None
    totals: dict[str, int]
    note: str
    links: Links


class ListedOrder(Answer):
    """The header of an order."""

    id: str
    order_number: str
    version: int
    channel: str
    external_ref: str | None
    currency: str
    status: str
    payment_status: str
    fulfillment_status: str
    waiting_on: str | None
    wait_deadline: str | None
    promised_by: str | None
    promise_state: str
    total_minor: int
    owed_minor: int
    created_at: str
    updated_at: str


class OrderList(Answer):
    """A page of orders."""

    data: list[ListedOrder]
    next_cursor: str | None
    has_more: bool


class Event(Answer):
    """One transition of an order."""

    id: str
    type: str
    sequence: int
    order_id: str
    occurred_at: str
    actor: dict[str, Any]
    cause: str | None
    command_id: str | None
    rulesets: list[str]
    text: str
    data: dict[str, Any]


class EventList(Answer):
    """A page of the timeline; go on with `after=next_after`."""

    data: list[Event]
    next_after: int
    has_more: bool


class CancelledLineOut(Answer):
    """Units of one line: asked for, cancelled, waiting for the node or the carrier, declined by the node."""

    line: int
    requested: int
    cancelled: int
    waiting: int
    declined: int


class Freed(Answer):
    """Units that can be sold again."""

    sku: str
    node: str
    released: int


class WrittenOff(Answer):
    """Units that do not come back to stock."""

    sku: str
    node: str
    quantity: int


class RecalledOut(Answer):
    """A parcel that its carrier was asked to bring back. `shipments` of the order say what became of it."""

    shipment_id: str
    units: int


class CancellationMoney(Answer):
    """Money before and after, in minor units; `kept_minor` is paid all the same."""

    total_before_minor: int
    total_after_minor: int
    kept_minor: int
    captured_minor: int
    refund_minor: int
    authorization_to_release_minor: int


class Cancellation(Answer):
    """A cancellation: requested, confirmed, partially_confirmed, declined, or recall_requested (of the carrier)."""

    id: str
    order_id: str
    state: str
    reason: str
    requested_at: str
    settled_at: str | None
    lines: list[CancelledLineOut] = []
    stock: list[Freed] = []
    written_off: list[WrittenOff] = []
    recalled: list[RecalledOut] = []
    money: CancellationMoney | None = None
    answer_by: str | None = None
    order_version: int | None = None
    refusal: Refusal | None = None
    note: str | None = None


class CancellationList(Answer):
    """The cancellations of an order, oldest first."""

    data: list[Cancellation]


class CancellationPlanOut(Answer):
    """What cancelling would do now."""

    dry_run: Literal[True]
    allowed: bool
    order_version: int
    lines: list[dict[str, Any]] = []
    restock: bool = True
    money: dict[str, int] = {}
    refusal: Refusal | None = None


class TenderAdded(Answer):
    """A tender with its new reference."""

    id: str
    order_id: str
    state: str
    order_version: int | None = None
    note: str | None = None
