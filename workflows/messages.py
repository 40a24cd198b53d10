"""What can be said to an order: the arguments and the answers of its updates, signals and queries.

Every command carries a `command_id` chosen by the sender (the API mints it). It is the idempotency key:
one outcome for ever, whichever way the command came in. Fields may be added with defaults, never removed.
"""

from datetime import datetime
from typing import Annotated, Literal, NamedTuple, Protocol

from pydantic import Field, StringConstraints

from activities.amendments import Amend
from domain.amendment import MAX_CHANGES, Change
from domain.lifecycle import HoldState
from domain.orders import (
    MAX_LINES,
    Actor,
    AtLimit,
    CancelReason,
    CarrierEventType,
    Frozen,
    HoldBlock,
    HoldDecision,
    HoldReason,
    HoldType,
    NodeTrouble,
    PaymentFact,
    Quantity,
    RefundWish,
    ReportKind,
)

CommandKey = Annotated[str, StringConstraints(min_length=1, max_length=120)]


class Accept(Frozen):
    """Wait for the answer to the order: accepted with a promise, or rejected with the reason."""

    command_id: CommandKey = "accept"


class ShortLine(NamedTuple):
    """A line that cannot be held. `available` counts the units that could be."""

    line_no: int
    sku: str
    requested: int
    available: int


class Accepted(Frozen):
    """Stock is held on concrete nodes, or waited for, and a promise is made: a date at the destination."""

    kind: Literal["accepted"] = "accepted"
    order_version: int
    promised_by: str
    reserved_until: datetime | None = None  # where nothing is held, all of it waits for supply
    nodes: tuple[str, ...]
    waiting: tuple[tuple[int, int], ...] = ()  # what waits for supply: line number, units


class Rejected(Frozen):
    """Nothing was reserved and nothing will be charged."""

    kind: Literal["rejected"] = "rejected"
    code: str
    detail: str
    order_version: int
    lines: tuple[ShortLine, ...] = ()


AcceptOutcome = Annotated[Accepted | Rejected, Field(discriminator="kind")]


class LineUnits(NamedTuple):
    """Units of one line."""

    line_no: Annotated[int, Field(ge=1, strict=True)]
    quantity: Quantity


class CancelOrder(Frozen):
    """Cancel units of lines; with no lines named, everything that has not left yet.

    Without `restock` what a node has of them is written off; with `refund` none the customer pays for them. With
    `all_or_nothing` it is refused where some of it has left, or is being stopped already. With `recall` the carrier is
    asked to bring back parcels that have left.
    """

    command_id: CommandKey
    reason: CancelReason = CancelReason.OTHER
    lines: tuple[LineUnits, ...] = Field(default=(), max_length=MAX_LINES)
    restock: Annotated[bool, Field(strict=True)] = True
    refund: RefundWish = "full"
    all_or_nothing: Annotated[bool, Field(strict=True)] = False
    recall: Annotated[bool, Field(strict=True)] = False
    actor: Actor | None = None


class CancelledLine(NamedTuple):
    """Units of one line: asked for, cancelled, still waiting for the node or the carrier, declined."""

    line_no: int
    requested: int
    cancelled: int
    waiting: int
    declined: int


class CancelRefused(Frozen):
    """What `cancel` would be refused with."""

    code: str
    detail: str
    alternative: str | None = None


class FreedStock(NamedTuple):
    """Units that a node does not keep for the order any more: given back to it, or written off."""

    sku: str
    node_id: str
    quantity: int


class RecalledParcel(NamedTuple):
    """A parcel that its carrier is asked to bring back. What becomes of it is told by the parcel."""

    shipment_id: str
    units: int


CancellationState = Literal["requested", "confirmed", "partially_confirmed", "declined", "recall_requested"]


class CancelOutcome(Frozen):
    """What became of a cancellation. Amounts in minor units.

    `kept_minor` is paid all the same; `refund_minor` was taken and goes back once the order is settled. What is
    `recalled` stays shipped and paid until it is back.
    """

    cancellation_id: str
    state: CancellationState
    reason: CancelReason
    lines: tuple[CancelledLine, ...]
    stock: tuple[FreedStock, ...] = ()
    written_off: tuple[FreedStock, ...] = ()
    recalled: tuple[RecalledParcel, ...] = ()
    total_before_minor: int
    total_after_minor: int
    kept_minor: int = 0
    captured_minor: int = 0
    refund_minor: int = 0
    authorization_to_release_minor: int = 0
    order_version: int
    answer_by: datetime | None = None


class AmendOrder(Frozen):
    """Change an order in flight to what is wanted: all of it, or nothing. `reason` is a short code.

    What it costs more is authorized with the payment reference named here, else with the order's own.
    """

    command_id: CommandKey
    changes: tuple[Change, ...] = Field(min_length=1, max_length=MAX_CHANGES)
    reason: HoldReason = "customer_request"
    reference: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    actor: Actor | None = None


class AmendedLine(NamedTuple):
    """A line before and after: units that are not cancelled. A line that is new had none."""

    line_no: int
    sku: str
    from_quantity: int
    to_quantity: int


AmendmentState = Literal["confirmed", "declined"]


class AmendOutcome(Frozen):
    """What became of a change. Declined: the order is as before. Amounts in minor units.

    `lines_short` names what no node has: line, SKU, requested, available; `waiting` what is waited for: line, units.
    """

    amendment_id: str
    state: AmendmentState
    code: str | None = None
    detail: str | None = None
    lines: tuple[AmendedLine, ...] = ()
    lines_short: tuple[ShortLine, ...] = ()
    total_before_minor: int
    total_after_minor: int
    tax_delta_minor: int = 0
    shipping_delta_minor: int = 0
    additional_authorization_minor: int = 0
    promised_before: str | None = None
    promised_by: str | None = None
    nodes: tuple[str, ...] = ()
    waiting: tuple[tuple[int, int], ...] = ()
    waits_until: datetime | None = None
    decline_code: str | None = None
    order_version: int


class AmendRefused(Frozen):
    """What `amend` would be refused with."""

    code: str
    detail: str
    alternative: str | None = None


class AmendPreview(Frozen):
    """What `amend` would do now, as far as the order alone knows: stock and promise are asked of the database."""

    outcome: AmendOutcome
    asked: tuple[str, ...] = ()  # nodes that must agree
    labels: int = 0  # parcels whose label would be taken back
    ask: Amend


class PlaceHold(Frozen):
    """Stop some steps of an order, or of the fulfillment orders that contain one line.

    Without `blocks` and `lasts_s` the type decides. `reason` is a short code, never free text.
    """

    command_id: CommandKey
    type: HoldType
    line_no: Annotated[int, Field(ge=1, strict=True)] | None = None
    blocks: tuple[HoldBlock, ...] = Field(default=(), max_length=4)
    lasts_s: Annotated[int, Field(ge=1, le=10**8, strict=True)] | None = None
    reason: HoldReason = "unspecified"
    actor: Actor | None = None


class ReleaseHold(Frozen):
    """End a hold: let the order go on, or cancel what it holds."""

    command_id: CommandKey
    hold_id: Annotated[str, StringConstraints(max_length=64)]
    decision: HoldDecision = "release"
    reason: HoldReason = "unspecified"
    actor: Actor | None = None


class HoldOutcome(Frozen):
    """A hold after a command. With `rejected` the cancellation of what it held is under way."""

    hold_id: str
    type: HoldType
    state: HoldState
    blocks: tuple[HoldBlock, ...]
    line_no: int | None = None
    owner: str
    at_limit: AtLimit
    placed_at: datetime
    expires_at: datetime
    cancellation_id: str | None = None
    order_version: int


class NodeReport(Frozen):
    """A node tells what happened to a fulfillment order. `report_id` is the node's own id.

    `short` names the units that it cannot ship; `short` and `rejected` may say why.
    """

    command_id: CommandKey
    fulfillment_id: str
    kind: ReportKind
    report_id: CommandKey
    occurred_at: datetime
    lines: tuple[LineUnits, ...] = Field(default=(), max_length=MAX_LINES)
    cause: NodeTrouble = NodeTrouble.OTHER
    actor: Actor | None = None


class ReportOutcome(Frozen):
    """What a report did. `applied` is False for a repeat that changed nothing."""

    applied: bool
    fulfillment_id: str
    state: str
    stage: str
    order_version: int
    why: str | None = None


class CarrierEvent(Frozen):
    """A carrier tells what happened to a parcel. Never refused; what changes nothing says why."""

    command_id: CommandKey
    shipment_id: str
    event_id: CommandKey
    type: CarrierEventType
    occurred_at: datetime
    actor: Actor | None = None


class ScanOutcome(Frozen):
    """What a carrier event did."""

    applied: bool
    duplicate: bool
    shipment_id: str
    state: str
    order_version: int
    why: str | None = None


class ChooseRemedy(Frozen):
    """How parcels that do not arrive are made good: one of them, or all that wait for it."""

    command_id: CommandKey
    remedy: Literal["refund", "reship"]
    shipment_id: Annotated[str, StringConstraints(max_length=64)] | None = None
    actor: Actor | None = None


class RemedyOutcome(Frozen):
    """The parcels that it was chosen for. What follows is told by the timeline."""

    remedy: str
    shipments: tuple[str, ...]
    order_version: int


class PaymentEvent(Frozen):
    """A fact or a change about a tender. `method_updated` brings a new `reference` to try."""

    command_id: CommandKey
    tender_id: str
    fact: PaymentFact
    reference: str | None = None
    actor: Actor | None = None


class PaymentEventOutcome(Frozen):
    """What the event did: with `method_updated`, whether the new reference was authorized."""

    applied: bool
    tender_id: str
    state: str
    order_version: int
    decline_code: str | None = None
    why: str | None = None


class LeaveNode(Frozen):
    """Source a fulfillment order that its frozen node has not accepted again, without that node."""

    command_id: CommandKey
    fulfillment_id: str
    actor: Actor | None = None


def leave_payload(work: "LeavingWork") -> str:
    """The command for one fulfillment order of a frozen node, as it is stored and sent."""
    return LeaveNode(command_id=work.command_id, fulfillment_id=work.fulfillment_id).model_dump_json()


class LeavingWork(Protocol):
    """A fulfillment order that must leave its node, and the id of the command that says so."""

    @property
    def command_id(self) -> str:
        """Id of the command."""

    @property
    def fulfillment_id(self) -> str:
        """Id of the fulfillment order."""


class LeaveOutcome(Frozen):
    """Whether the node is being left; `applied` is False where it has accepted, or is asked to stop already."""

    applied: bool
    fulfillment_id: str
    node_id: str
    order_version: int
    why: str | None = None


class RetryNow(Frozen):
    """Do the waiting step again now."""

    command_id: CommandKey
    reason: Annotated[str, StringConstraints(max_length=80)] = ""
    actor: Actor | None = None


class WriteOff(Frozen):
    """What is owed and cannot be taken any more is not owed any more."""

    command_id: CommandKey
    actor: Actor | None = None


class WriteOffOutcome(Frozen):
    """What was given up."""

    amount_minor: int
    order_version: int


class ForceClose(Frozen):
    """Last resort: end the order. `reason` is a short code, never free text."""

    command_id: CommandKey
    reason: HoldReason = "unspecified"
    actor: Actor | None = None


class ForceCloseOutcome(Frozen):
    """What was undone at once. Money and labels follow, each with a limit; what is left then is a case."""

    state: Literal["closing"] = "closing"
    cancelled_units: int
    on_their_way: tuple[str, ...]  # parcels that count as arrived
    left_at_nodes: tuple[str, ...]  # what nodes still have, in words
    order_version: int


class RetryOutcome(Frozen):
    """Whether something was waiting for a retry."""

    applied: bool
    order_version: int
    why: str | None = None


class SupplyOutcome(Frozen):
    """What the order got of it. `units` are held now; without any, `why` or whoever comes first says why not."""

    applied: bool
    sku: str
    units: int = 0
    order_version: int
    why: str | None = None


class OrderClosed(Frozen):
    """The result of an `Order` workflow. `digest` is what `orders.state_digest` must hold."""

    status: str
    order_version: int
    digest: str
