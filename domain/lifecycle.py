"""States, transitions and what follows from them: the header of an order and who is waited for.

Truth is quantities and money; nothing here is assigned, everything is derived. The workflow derives from
its state, the database from its rows, both by `derive_header`: two independent roads to one answer (law I15).
"""

import hashlib
import json
from datetime import datetime, timedelta
from enum import StrEnum

from domain.orders import Frozen, HoldBlock, HoldType, OrderRules, ReportKind, ServiceLevel
from domain.quantities import HANDED_OVER, WITH_THE_CARRIER, Bucket, Buckets
from domain.refusals import OrderRuleError


class OrderStatus(StrEnum):
    """Header status of an order."""

    RECEIVED = "received"  # intake stored, acceptance under way
    CONFIRMED = "confirmed"  # promised; nothing is at a node yet
    IN_FULFILLMENT = "in_fulfillment"  # at least one unit was released
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    REJECTED = "rejected"


TERMINAL_STATUSES = (OrderStatus.COMPLETED, OrderStatus.CANCELLED, OrderStatus.REJECTED)


class PaymentState(StrEnum):
    """State of one tender."""

    PENDING = "pending"  # a call is under way, or its outcome is not known yet
    FAILED = "failed"  # declined; another attempt is a new intent
    AUTHORIZED = "authorized"
    PARTIALLY_CAPTURED = "partially_captured"
    CAPTURED = "captured"
    VOIDED = "voided"
    ABANDONED = "abandoned"  # closed by force before its provider answered: a person looks there


class FulfillmentState(StrEnum):
    """State of one fulfillment order."""

    OPEN = "open"  # allocated, to be released
    SUBMITTED = "submitted"  # the node has it
    ACCEPTED = "accepted"
    IN_PROGRESS = "in_progress"  # picking or packed
    CANCELLATION_REQUESTED = "cancellation_requested"
    SHIPPED = "shipped"
    CLOSED = "closed"
    REJECTED = "rejected"  # the node ships none of it; its units went back to sourcing
    CANCELLED = "cancelled"


class TrackingState(StrEnum):
    """State of one parcel, as the carrier tells it."""

    LABEL_CREATED = "label_created"
    PRE_TRANSIT = "pre_transit"
    IN_TRANSIT = "in_transit"
    OUT_FOR_DELIVERY = "out_for_delivery"
    AVAILABLE_FOR_PICKUP = "available_for_pickup"
    DELIVERY_EXCEPTION = "delivery_exception"
    DELIVERED = "delivered"
    LOST = "lost"
    DAMAGED = "damaged"
    RETURN_TO_SENDER = "return_to_sender"  # on its way back
    RETURNED = "returned"  # back at the node
    VOIDED = "voided"


class RecallState(StrEnum):
    """Whether the carrier brings a parcel back, once it was asked."""

    REQUESTED = "requested"  # its answer decides; silence never does
    AGREED = "agreed"  # it brings it back
    TOO_LATE = "too_late"  # it goes on to the customer, or was there first
    UNSUPPORTED = "unsupported"  # this carrier brings nothing back


IN_TROUBLE = (TrackingState.LOST, TrackingState.DAMAGED, TrackingState.RETURNED)
"""It will not arrive: as long as its units are with the carrier, somebody or a rule has to make it good."""


class HoldState(StrEnum):
    """State of one hold."""

    PLACED = "placed"
    RELEASED = "released"  # the order goes on
    REJECTED = "rejected"  # what it held is cancelled
    EXPIRED = "expired"  # its limit ended it


class WaitingOn(StrEnum):
    """Who is waited for."""

    NOBODY = "nobody"
    CUSTOMER = "customer"
    PAYMENT = "payment"
    HOLD = "hold"
    SUPPLY = "supply"
    NODE = "node"
    CARRIER = "carrier"
    APPROVER = "approver"  # somebody who decides


class Team(StrEnum):
    """Owner teams."""

    COMMERCE = "commerce"
    INVENTORY = "inventory"
    FULFILLMENT = "fulfillment"
    FINANCE = "finance"
    SERVICE = "service"


class IllegalTransition(OrderRuleError):
    """The state does not allow this event."""

    code = "illegal_transition"


class Wait(Frozen):
    """Who is waited for, which team owns the wait, why, since when and until when."""

    waiting_on: WaitingOn
    owner: Team
    cause: str
    since: datetime
    next_event: str
    deadline: datetime


class TenderFact(Frozen):
    """What the header must know of one tender. Amounts in minor units."""

    tender_id: str
    state: PaymentState
    amount_minor: int
    authorized_minor: int = 0
    captured_minor: int = 0
    refunded_minor: int = 0
    since: datetime
    deadline: datetime


class FulfillmentFact(Frozen):
    """What the header must know of one fulfillment order. `stage` is the bucket that its units are in."""

    fulfillment_id: str
    node_id: str
    state: FulfillmentState
    stage: Bucket
    units: int
    captured: bool = False
    tracking: TrackingState | None = None
    recall: RecallState | None = None
    recall_since: datetime | None = None
    recall_until: datetime | None = None
    since: datetime
    deadline: datetime


class HoldFact(Frozen):
    """What the header must know of one hold that stands."""

    hold_id: str
    type: HoldType
    blocks: tuple[HoldBlock, ...]
    owner: Team
    line_no: int | None = None  # without one it holds the whole order
    parts: tuple[str, ...] = ()  # with a line: the fulfillment orders that contain it
    unplaced: bool = False  # some of its units are not committed to a node
    since: datetime
    deadline: datetime

    def covers(self, part: FulfillmentFact) -> bool:
        """Whether the fulfillment order is within its scope."""
        return self.line_no is None or part.fulfillment_id in self.parts


class SupplyFact(Frozen):
    """What the header must know of units that wait for supply: of what, since when, and when the first are given up."""

    skus: tuple[str, ...]
    since: datetime
    deadline: datetime


class OrderFacts(Frozen):
    """Everything that the header of an order is derived from."""

    rejected: bool = False
    total_minor: int
    owed_minor: int
    quantities: Buckets
    tenders: tuple[TenderFact, ...]
    fulfillments: tuple[FulfillmentFact, ...]
    credited: int = 0  # units that left, did not arrive and are not sent again
    holds: tuple[HoldFact, ...] = ()  # those that stand
    supply: SupplyFact | None = None  # where units wait for it
    rules: OrderRules = OrderRules()
    changed_at: datetime


class Header(Frozen):
    """The derived header of an order."""

    status: OrderStatus
    payment_status: str
    fulfillment_status: str
    wait: Wait | None
    digest: str

    @property
    def terminal(self) -> bool:
        """Whether the order waits for nobody any more."""
        return self.status in TERMINAL_STATUSES


def derive_header(facts: OrderFacts) -> Header:
    """The header that follows from the facts."""
    status = _order_status(facts)
    return Header(
        status=status,
        payment_status=_payment_status(facts),
        fulfillment_status=_fulfillment_status(facts.quantities, facts.credited),
        wait=None if status in TERMINAL_STATUSES else _first_wait(facts),
        digest=digest(facts, status),
    )


def is_settled(facts: OrderFacts) -> bool:
    """Captured less refunded equals what is owed, and no authorization is left open."""
    kept = sum(t.captured_minor - t.refunded_minor for t in facts.tenders)
    closed = all(t.state not in _OPEN_MONEY for t in facts.tenders)
    return kept == facts.owed_minor and closed


_OPEN_MONEY = (PaymentState.PENDING, PaymentState.AUTHORIZED, PaymentState.PARTIALLY_CAPTURED)


def covers(facts: OrderFacts) -> bool:
    """Whether the authorizations cover what is owed."""
    return sum(t.authorized_minor for t in facts.tenders if t.state is not PaymentState.VOIDED) >= facts.owed_minor


def _order_status(facts: OrderFacts) -> OrderStatus:
    q = facts.quantities
    if facts.rejected:
        return OrderStatus.REJECTED
    if q.live == 0 and is_settled(facts):
        return OrderStatus.COMPLETED if q.of(*HANDED_OVER) else OrderStatus.CANCELLED
    if any(f.stage not in (Bucket.ALLOCATED, Bucket.CANCELLED) for f in facts.fulfillments):
        return OrderStatus.IN_FULFILLMENT
    return OrderStatus.CONFIRMED


def _fulfillment_status(q: Buckets, credited: int) -> str:
    with_the_carrier = q.of(*WITH_THE_CARRIER)
    if q.of(*HANDED_OVER) == 0:
        return "unfulfilled"
    if q.live - with_the_carrier > 0:
        return "partially_fulfilled"
    if with_the_carrier == 0 and credited == 0:
        return "delivered"
    if with_the_carrier == 0 and q.delivered == 0:
        return "not_delivered"
    return "partially_delivered" if q.delivered else "fulfilled"


def _payment_status(facts: OrderFacts) -> str:
    captured = sum(t.captured_minor for t in facts.tenders)
    refunded = sum(t.refunded_minor for t in facts.tenders)
    if captured and refunded == captured:
        return "refunded"
    if refunded:
        return "partially_refunded"
    if captured:
        to_ship = facts.quantities.live - facts.quantities.of(*WITH_THE_CARRIER)
        return "captured" if captured == facts.owed_minor and to_ship == 0 else "partially_captured"
    live = [t for t in facts.tenders if t.state is not PaymentState.VOIDED]
    if facts.tenders and not live:
        return "voided"
    if live and covers(facts) and all(t.state is PaymentState.AUTHORIZED for t in live):
        return "authorized"
    return "pending"


def _first_wait(facts: OrderFacts) -> Wait:
    """The wait whose deadline comes first."""
    waits = [
        *_payment_waits(facts),
        *_stock_waits(facts),
        *_supply_waits(facts),
        *_fulfillment_waits(facts),
        *_hold_waits(facts),
    ]
    if not waits:
        since = facts.changed_at
        waits = [
            Wait(
                waiting_on=WaitingOn.PAYMENT,
                owner=Team.FINANCE,
                cause="settlement",
                since=since,
                next_event="open authorizations are voided and the order closes",
                deadline=since + timedelta(seconds=facts.rules.settle_s),
            )
        ]
    return min(waits, key=lambda w: (w.deadline, w.cause))


def _payment_waits(facts: OrderFacts) -> list[Wait]:
    """The first tender that is not secured: the next ones are not tried before it is."""
    for tender in facts.tenders:
        if tender.state is PaymentState.PENDING:
            return [_wait(tender, WaitingOn.PAYMENT, Team.FINANCE, "payment_pending", "the provider answers")]
        if tender.state is PaymentState.FAILED and facts.quantities.live:
            text = "the customer fixes the payment, else the order is cancelled"
            return [_wait(tender, WaitingOn.CUSTOMER, Team.SERVICE, "payment_declined", text)]
    return []


def _stock_waits(facts: OrderFacts) -> list[Wait]:
    """Units that are about to be committed to nodes. Where a hold keeps some of them back, it is waited for."""
    unallocated = facts.quantities.of(Bucket.OPEN, Bucket.RESERVED)
    if not _is_paid(facts) or not unallocated or any(_stops_allocation(h, facts) for h in facts.holds):
        return []
    since = facts.changed_at
    return [
        Wait(
            waiting_on=WaitingOn.SUPPLY,
            owner=Team.INVENTORY,
            cause="allocation",
            since=since,
            next_event="units are committed to nodes",
            deadline=since + timedelta(seconds=facts.rules.resource_s),
        )
    ]


_SKUS_NAMED = 3


def _supply_waits(facts: OrderFacts) -> list[Wait]:
    """Units that nobody has. What has not come by the deadline is cancelled."""
    if facts.supply is None:
        return []
    skus = facts.supply.skus
    more = f" and {len(skus) - _SKUS_NAMED} more" if len(skus) > _SKUS_NAMED else ""
    text = f"supply of {', '.join(skus[:_SKUS_NAMED])}{more} arrives, else it is cancelled"
    return [_wait(facts.supply, WaitingOn.SUPPLY, Team.INVENTORY, "backorder", text)]


_FULFILLMENT_WAITS = {
    FulfillmentState.OPEN: (WaitingOn.NODE, "release", "the node takes the work"),
    FulfillmentState.SUBMITTED: (WaitingOn.NODE, "node_acceptance", "the node accepts or packs"),
    FulfillmentState.ACCEPTED: (WaitingOn.NODE, "picking", "the node picks and packs"),
    FulfillmentState.IN_PROGRESS: (WaitingOn.NODE, "hand_over", "the parcel is handed over"),
    FulfillmentState.CANCELLATION_REQUESTED: (
        WaitingOn.NODE,
        "stop_answer",
        "the node says whether it could stop",
    ),
    FulfillmentState.SHIPPED: (WaitingOn.CARRIER, "delivery", "the carrier scans or delivers the parcel"),
}


def _fulfillment_waits(facts: OrderFacts) -> list[Wait]:
    waits = []
    for fulfillment in facts.fulfillments:
        if fulfillment.state not in _FULFILLMENT_WAITS or any(_stops(h, fulfillment) for h in facts.holds):
            continue
        waiting_on, cause, text = _FULFILLMENT_WAITS[fulfillment.state]
        owner = Team.FULFILLMENT
        if awaits_remedy(fulfillment.stage, fulfillment.tracking):
            waiting_on, owner, cause = WaitingOn.APPROVER, Team.SERVICE, "parcel_remedy"
            text = f"the parcel is {fulfillment.tracking}: it is refunded or sent again"
        elif awaits_recall(fulfillment.stage, fulfillment.tracking, fulfillment.recall):
            waits.append(_recall_wait(fulfillment))
            continue
        elif fulfillment.stage is Bucket.RETURN_PENDING:
            cause, text = "return_to_sender", "the carrier brings the parcel back"
        elif facts.rules.leaves_silent_nodes and may_be_silent(fulfillment.state, fulfillment.stage):
            text += "; else another node is looked for"
        waits.append(_wait(fulfillment, waiting_on, owner, cause, text))
    return waits


def awaits_remedy(stage: Bucket, tracking: TrackingState | None) -> bool:
    """Whether a parcel will not arrive, and nothing has followed from it yet."""
    return stage in WITH_THE_CARRIER and tracking in IN_TROUBLE


def awaits_recall(stage: Bucket, tracking: TrackingState | None, recall: RecallState | None) -> bool:
    """Whether the carrier was asked to bring a parcel back, and neither its answer nor the parcel has decided it."""
    return recall is RecallState.REQUESTED and stage is Bucket.SHIPPED and tracking not in IN_TROUBLE


def _recall_wait(fulfillment: FulfillmentFact) -> Wait:
    return Wait(
        waiting_on=WaitingOn.CARRIER,
        owner=Team.FULFILLMENT,
        cause="recall_answer",
        since=fulfillment.recall_since or fulfillment.since,
        next_event="the carrier says whether it brings the parcel back",
        deadline=fulfillment.recall_until or fulfillment.deadline,
    )


def _hold_waits(facts: OrderFacts) -> list[Wait]:
    """The holds that stand in the way of what would be next."""
    return [
        _wait(hold, WaitingOn.HOLD, hold.owner, "hold", f"the {hold.type} hold is released or rejected")
        for hold in facts.holds
        if _stops_allocation(hold, facts)
        or _stops_refund(hold, facts)
        or any(_stops(hold, part) for part in facts.fulfillments)
    ]


def _is_paid(facts: OrderFacts) -> bool:
    return all(t.state not in (PaymentState.PENDING, PaymentState.FAILED) for t in facts.tenders)


def _stops_allocation(hold: HoldFact, facts: OrderFacts) -> bool:
    return HoldBlock.SCHEDULE in hold.blocks and hold.unplaced and _is_paid(facts)


def _stops_refund(hold: HoldFact, facts: OrderFacts) -> bool:
    kept = sum(t.captured_minor - t.refunded_minor for t in facts.tenders)
    return HoldBlock.REFUND in hold.blocks and facts.quantities.live == 0 and kept > facts.owed_minor


def _stops(hold: HoldFact, part: FulfillmentFact) -> bool:
    return next_step(part.state, part.stage, booked=part.tracking is not None) in hold.blocks and hold.covers(part)


def _wait(
    fact: TenderFact | FulfillmentFact | HoldFact | SupplyFact,
    waiting_on: WaitingOn,
    owner: Team,
    cause: str,
    next_event: str,
) -> Wait:
    return Wait(
        waiting_on=waiting_on,
        owner=owner,
        cause=cause,
        since=fact.since,
        next_event=next_event,
        deadline=fact.deadline,
    )


def digest(facts: OrderFacts, status: OrderStatus) -> str:
    """What must be the same in workflow and database once both are quiet: states, quantities, money; no times.

    Holds count while the order is open; they end with it.
    """
    content: dict[str, object] = {
        "status": status,
        "owed": facts.owed_minor,
        "quantities": facts.quantities.nonzero(),
        "tenders": sorted(
            (t.tender_id, t.state, t.authorized_minor, t.captured_minor, t.refunded_minor) for t in facts.tenders
        ),
        "fulfillments": sorted((f.fulfillment_id, f.state, f.stage, f.captured) for f in facts.fulfillments),
    }
    if facts.holds and status not in TERMINAL_STATUSES:
        content["holds"] = sorted((h.hold_id, h.type, sorted(h.blocks), h.line_no) for h in facts.holds)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


# --- fulfillment orders -------------------------------------------------------------------------------

_REPORTS: dict[ReportKind, tuple[tuple[FulfillmentState, ...], FulfillmentState, Bucket | None]] = {
    ReportKind.ACCEPTED: ((FulfillmentState.SUBMITTED,), FulfillmentState.ACCEPTED, None),
    ReportKind.PICKED: (
        (FulfillmentState.SUBMITTED, FulfillmentState.ACCEPTED, FulfillmentState.IN_PROGRESS),
        FulfillmentState.IN_PROGRESS,
        Bucket.PICKED,
    ),
    ReportKind.PACKED: (
        (FulfillmentState.SUBMITTED, FulfillmentState.ACCEPTED, FulfillmentState.IN_PROGRESS),
        FulfillmentState.IN_PROGRESS,
        Bucket.PACKED,
    ),
    ReportKind.HANDED_OVER: (
        (FulfillmentState.IN_PROGRESS, FulfillmentState.CANCELLATION_REQUESTED),
        FulfillmentState.SHIPPED,
        Bucket.SHIPPED,
    ),
    ReportKind.REJECTED: (
        (FulfillmentState.SUBMITTED, FulfillmentState.ACCEPTED),
        FulfillmentState.REJECTED,
        Bucket.OPEN,
    ),
    ReportKind.SHORT: (
        (FulfillmentState.SUBMITTED, FulfillmentState.ACCEPTED, FulfillmentState.IN_PROGRESS),
        FulfillmentState.IN_PROGRESS,
        None,
    ),
    ReportKind.CANCEL_AGREED: (
        (FulfillmentState.CANCELLATION_REQUESTED,),
        FulfillmentState.CANCELLED,
        Bucket.CANCELLED,
    ),
    ReportKind.CANCEL_DECLINED: (
        (FulfillmentState.CANCELLATION_REQUESTED,),
        FulfillmentState.IN_PROGRESS,
        None,
    ),
}


_STEPS = {ReportKind.PICKED: (Bucket.PICKED, Bucket.PACKED), ReportKind.PACKED: (Bucket.PACKED,)}
"""Steps of the work, and the stages that they cannot lead to any more."""


def after_report(kind: ReportKind, state: FulfillmentState, stage: Bucket) -> tuple[FulfillmentState, Bucket]:
    """State and stage of a fulfillment order after a node's report.

    Raises:
        IllegalTransition: the report does not fit the state; the text says what does.
    """
    allowed, target, bucket = _REPORTS[kind]
    possible = ", ".join(k for k, (states, _, _) in _REPORTS.items() if state in states) or "nothing"
    if state not in allowed or (kind in _STEPS and stage in _STEPS[kind]):
        raise IllegalTransition(f"{kind} does not fit state {state} ({stage}); possible: {possible}")
    if kind is ReportKind.HANDED_OVER and stage is not Bucket.PACKED:
        raise IllegalTransition(f"{kind} needs a packed parcel, the units are {stage}; possible: {possible}")
    return target, bucket or stage


def next_step(state: FulfillmentState, stage: Bucket, *, booked: bool) -> HoldBlock | None:
    """The step of ours that this fulfillment order waits for, by the name under which a hold can stop it."""
    if state is FulfillmentState.OPEN:
        return HoldBlock.RELEASE
    if state is FulfillmentState.IN_PROGRESS and stage is Bucket.PACKED and not booked:
        return HoldBlock.SHIP
    return None


def may_be_silent(state: FulfillmentState, stage: Bucket) -> bool:
    """Whether it waits for a word of its node: to accept, or to pack."""
    working = (FulfillmentState.SUBMITTED, FulfillmentState.ACCEPTED, FulfillmentState.IN_PROGRESS)
    return state in working and stage in (Bucket.RELEASED, Bucket.PICKED)


class Journey(Frozen):
    """What decides how long a parcel may be on its way."""

    tracking: TrackingState | None = None
    service_level: ServiceLevel = ServiceLevel.STANDARD


def deadline_after(
    state: FulfillmentState,
    stage: Bucket,
    rules: OrderRules,
    now: datetime,
    node_id: str | None = None,
    journey: Journey | None = None,
) -> datetime:
    """Until when a fulfillment order may stay so before somebody must look, its node is given up, or it is lost."""
    seconds = {
        FulfillmentState.OPEN: rules.node_accept_s,
        FulfillmentState.SUBMITTED: rules.accept_limit_s(node_id),
        FulfillmentState.CANCELLATION_REQUESTED: rules.node_stop_answer_s,
        FulfillmentState.SHIPPED: _carrier_limit_s(stage, rules, journey or Journey()),
    }.get(state, rules.pickup_grace_s if stage is Bucket.PACKED else rules.pack_limit_s(node_id))
    return now + timedelta(seconds=seconds)


def _carrier_limit_s(stage: Bucket, rules: OrderRules, journey: Journey) -> int:
    """Until a person has decided, the parcel is back, or it counts as lost."""
    trouble = rules.carrier_trouble
    if trouble is None:
        return rules.carrier_silence_s
    if journey.tracking in IN_TROUBLE:
        return trouble.decide_s
    if stage is Bucket.RETURN_PENDING:
        return trouble.return_s
    return trouble.no_scan_s.get(journey.service_level, 2 * rules.carrier_silence_s)
