"""The state of one order inside its workflow: quantities, money, work at nodes, and what was answered.

Changed in synchronous code only. `facts` gives what the header is derived from.
"""

from collections.abc import Container, Iterable
from datetime import date, datetime, timedelta
from typing import NamedTuple

from pydantic import BaseModel, Field

from domain.cases import case_is_over
from domain.lifecycle import (
    FulfillmentFact,
    FulfillmentState,
    Header,
    HoldFact,
    HoldState,
    Journey,
    OrderFacts,
    PaymentState,
    RecallState,
    SupplyFact,
    Team,
    TenderFact,
    TrackingState,
    deadline_after,
    derive_header,
)
from domain.orders import (
    Actor,
    AtLimit,
    Frozen,
    HoldBlock,
    HoldType,
    OrderLine,
    OrderRules,
    PlaceOrder,
    Remedy,
    WhyLeft,
)
from domain.quantities import TERMINAL, Bucket, Buckets, units_per_line
from domain.shares import Components, LineAmounts, LineShares, freeze


class LineState(BaseModel):
    """One line: where its units are and what they are worth."""

    line_no: int
    sku: str
    shares: LineShares
    buckets: Buckets
    kept_minor: int = 0  # of what is cancelled: what is paid all the same
    extends: int | None = None  # more of that line, added by a change
    replaces: int | None = None  # instead of units of that line
    waits_since: datetime | None = None  # the latest of its units that wait for supply
    waits_until: datetime | None = None
    replaces_parcel: str | None = None  # sent again at no charge, for units of this parcel
    credited: int = 0  # units that left and are not owed any more; counted on the line that has their price

    @property
    def priced_by(self) -> int:
        """The line that has the price of its units: what is sent again stands for units of another line."""
        return self.replaces if self.replaces_parcel and self.replaces else self.line_no

    @property
    def gone(self) -> int:
        """Units that have been handed over."""
        b = self.buckets
        return b.shipped + b.delivered + b.return_pending + b.returned + b.written_off

    @property
    def cancelled_minor(self) -> int:
        """What is no longer owed for this line."""
        return self.shares.value_to_cancel(0, self.buckets.cancelled)

    @property
    def credited_minor(self) -> int:
        """What is given back for units that left, their shipping included: the cause is ours."""
        return self.shares.value_to_credit(0, self.credited, with_shipping=True)


class AddedLine(Frozen):
    """A line that comes to the order. `extends`: more of that line; `replaces`: instead of units of that line.

    With `replaces_parcel` it is sent again at no charge, because that parcel did not arrive.
    """

    line: OrderLine
    shares: LineShares
    extends: int | None = None
    replaces: int | None = None
    replaces_parcel: str | None = None


class CreditedLine(NamedTuple):
    """A line with all the units that are credited by now, and what they are worth."""

    line_no: int
    units: int
    amount_minor: int


class Credit(Frozen):
    """What is not owed any more, though it left. `worth` is what is new, by account: the entry of the credit memo."""

    lines: tuple[CreditedLine, ...]
    worth: Components


class Recall(Frozen):
    """The carrier was asked to bring a parcel back: for whom, since when, and until when it should have answered."""

    command_id: str
    actor: Actor
    since: datetime
    until: datetime
    state: RecallState = RecallState.REQUESTED

    @property
    def wished(self) -> bool:
        """Whether it comes back, as far as anybody knows: then it is refunded, and not sent again."""
        return self.state in (RecallState.REQUESTED, RecallState.AGREED)


class Fulfillment(BaseModel):
    """One node's part of the order, and its parcel. All units that it still has are in one bucket: `stage`.

    Units that are cancelled or short leave `lines`. A part that ends as a whole keeps them, to tell what it was.
    """

    fulfillment_id: str
    shipment_id: str
    node_id: str
    lines: tuple[tuple[int, int], ...]  # line number, units
    state: FulfillmentState = FulfillmentState.OPEN
    stage: Bucket = Bucket.ALLOCATED
    recorded: Bucket = Bucket.ALLOCATED  # the stage that the database has; the track goes by it
    since: datetime
    deadline: datetime
    in_call: bool = False  # a release or booking is under way
    cancelling: str | None = None  # the cancellation command that asked the node to stop
    stopping: tuple[tuple[int, int], ...] = ()  # the units that it asked for: line number, units
    changing: bool = False  # a change of the order is about its units: it is not released meanwhile
    before_stop: FulfillmentState = FulfillmentState.OPEN  # where it goes on if the node ships the rest, or all
    stop_answer: str | None = None
    given_up: WhyLeft | None = None  # its units were taken from a node that had not said no
    tracking: TrackingState | None = None
    tracking_number: str | None = None
    seen: dict[TrackingState, datetime] = Field(default_factory=dict)  # the carrier's latest time of each state
    scans: tuple[str, ...] = ()  # event ids that the carrier has told already
    value_minor: int = 0
    restocked: bool = False  # it came back, and its units are on hand again
    remedy: Remedy | None = None  # a person's choice, or the rule's at its limit
    remedy_by: Actor | None = None
    recall: Recall | None = None
    captured: bool = False
    captures: tuple[tuple[str, int, int], ...] = ()  # tender, number of the capture, amount

    @property
    def delivered_at(self) -> datetime | None:
        """When the carrier delivered it, by the carrier's time."""
        return self.seen.get(TrackingState.DELIVERED)

    @property
    def line_nos(self) -> tuple[int, ...]:
        """The lines that it has units of."""
        return tuple(line_no for line_no, _ in self.lines)

    @property
    def being_stopped(self) -> bool:
        """Whether its node was asked to stop and has not been heard."""
        return self.cancelling is not None or self.state is FulfillmentState.CANCELLATION_REQUESTED

    def has_only(self, units: tuple[tuple[int, int], ...]) -> bool:
        """Whether these units (line number, units) are all that it has."""
        return dict(units) == dict(self.lines)

    @property
    def units(self) -> int:
        """Units in this part."""
        return sum(quantity for _, quantity in self.lines)

    @property
    def open(self) -> bool:
        """Whether something is still to happen to it."""
        if self.recorded in (Bucket.CANCELLED, Bucket.OPEN):  # open: the units went back to sourcing
            return False
        return not (self.recorded in TERMINAL and self.captured)


class Tender(BaseModel):
    """One payment instrument. Amounts in minor units."""

    tender_id: str
    sequence: int
    provider: str
    reference: str
    amount_minor: int
    state: PaymentState = PaymentState.PENDING
    seq: int = 1
    retry_asked: bool = False
    in_call: bool = False  # an authorization is under way
    authorized_minor: int = 0
    captured_minor: int = 0
    refunded_minor: int = 0
    refunding_minor: int = 0  # on its way back to the customer
    refunds: int = 0  # how many refunds were wanted so far
    capturing_minor: int = 0  # wanted for parcels that left, not taken yet
    captures: int = 0  # how many captures were wanted so far
    authorization_ref: str | None = None
    decline_code: str | None = None
    since: datetime
    deadline: datetime

    @property
    def kept_minor(self) -> int:
        """What was taken and is neither given back nor on its way back."""
        return self.captured_minor - self.refunded_minor - self.refunding_minor

    @property
    def left_minor(self) -> int:
        """What can still be captured."""
        if self.state is PaymentState.VOIDED:
            return 0
        return self.authorized_minor - self.captured_minor - self.capturing_minor

    def note_captured(self, amount_minor: int) -> None:
        """So much more was taken."""
        self.captured_minor += amount_minor
        whole = self.captured_minor == self.authorized_minor
        self.state = PaymentState.CAPTURED if whole else PaymentState.PARTIALLY_CAPTURED


class Hold(BaseModel):
    """A block on some steps, of the whole order or of the fulfillment orders that contain one line."""

    hold_id: str
    type: HoldType
    blocks: tuple[HoldBlock, ...]
    owner: Team
    at_limit: AtLimit
    line_no: int | None = None
    since: datetime
    deadline: datetime
    state: HoldState = HoldState.PLACED
    overdue: bool = False  # its limit has passed and its owner was asked: it stands until somebody decides

    @property
    def live(self) -> bool:
        """Whether it stands."""
        return self.state is HoldState.PLACED

    def covers(self, line_nos: Container[int]) -> bool:
        """Whether what contains these lines is within its scope."""
        return self.line_no is None or self.line_no in line_nos


class OrderState(BaseModel):
    """Everything the workflow knows. Serializable, so that it can be carried to a new run."""

    order: PlaceOrder
    rules: OrderRules = OrderRules()
    lines: dict[int, LineState]
    tenders: list[Tender]
    fulfillments: dict[str, Fulfillment] = Field(default_factory=dict)
    holds: dict[str, Hold] = Field(default_factory=dict)  # those that have ended too
    placements: tuple[tuple[int, str, int], ...] = ()  # held units: line number, node, units
    barred: tuple[tuple[str, str], ...] = ()  # nodes that were short: node, SKU
    avoided: tuple[tuple[str, str], ...] = ()  # nodes that were left, the last resort: node, SKU
    sourced_for: str | None = None  # why open units are without a node, where that is no short pick
    amending: str | None = None  # the command whose change is under way
    closing: str | None = None  # the command that closes the order by force: it takes no other
    unsettled_minor: int = 0  # what was kept beyond what is owed (or, negative, is missing) and is settled outside
    requested_by: date | None = None  # the day that the customer wants it by
    generation: int = 1
    oldest_held: int = 1  # the oldest generation that `placements` may come from
    version: int = 0
    acceptance: str | None = None  # the answer of `accept`, as JSON
    rejected: bool = False
    sealed: bool = False  # who sent a command is what its stored row says
    flow: int = 1  # as it was accepted, see `StockReserved`
    reserved_until: datetime | None = None
    promised_by: date | None = None
    promised_until: datetime | None = None
    current_by: date | None = None  # the promise in force, where it differs from the original
    current_until: datetime | None = None
    placed_by: date | None = None  # by when what nodes hold, or held, arrives
    placed_until: datetime | None = None
    supply_look_at: datetime | None = None  # when to look for supply that nobody told of
    supply_looks: int = 0  # how often it was looked for
    supply_ends: int = 0  # how often units were given up that no supply came for
    promise_state: str = "on_track"
    attention: dict[str, datetime] = Field(default_factory=dict)  # open cases: code, since when
    cases: list[str] = Field(default_factory=list)
    answered: dict[str, str] = Field(default_factory=dict)
    changed_at: datetime

    @classmethod
    def begin(cls, order: PlaceOrder, now: datetime) -> "OrderState":
        """The state before anything happened: all units open, nothing authorized."""
        amounts = [
            LineAmounts(
                line_no=line.line_no,
                quantity=line.quantity,
                unit_price_minor=line.unit_price_minor,
                discount_minor=line.discount_minor,
                tax_minor=line.tax_minor,
            )
            for line in order.lines
        ]
        shares = freeze(amounts, order.shipping_minor, order.shipping_tax_minor)
        return cls(
            order=order,
            lines={
                line.line_no: LineState(
                    line_no=line.line_no, sku=line.sku, shares=share, buckets=Buckets(open=line.quantity)
                )
                for line, share in zip(order.lines, shares, strict=True)
            },
            tenders=[
                Tender(
                    **t.model_dump(),
                    since=now,
                    deadline=now + timedelta(seconds=OrderRules().payment_pending_s),
                )
                for t in sorted(order.tenders, key=lambda t: t.sequence)
            ],
            changed_at=now,
        )

    @property
    def quantities(self) -> Buckets:
        """Units per bucket over all lines."""
        totals = dict.fromkeys((b.value for b in Bucket), 0)
        for line in self.lines.values():
            for name, units in line.buckets.nonzero().items():
                totals[name] += units
        return Buckets(**totals)

    @property
    def owed_minor(self) -> int:
        """What the customer must have paid in the end."""
        if self.rejected:
            return 0
        less = sum(line.cancelled_minor + line.credited_minor for line in self.lines.values())
        return self.order.total_minor - less + self.kept_minor + self.unsettled_minor

    @property
    def kept_minor(self) -> int:
        """What is paid for units that were cancelled without refund."""
        return sum(line.kept_minor for line in self.lines.values())

    def keep(self, units: Iterable[tuple[int, int]]) -> Components:
        """These units (line number, units), about to be cancelled, are paid all the same. What they are worth."""
        total = Components(revenue_minor=0, shipping_minor=0, tax_minor=0)
        for line_no, quantity in units_per_line(units).items():
            line = self.lines[line_no]
            worth = line.shares.components_to_cancel(line.buckets.cancelled, quantity)
            line.kept_minor += worth.total_minor
            total = total + worth
        return total

    def move(self, units: tuple[tuple[int, int], ...], source: Bucket, target: Bucket) -> None:
        """Move units (line number, units) between buckets."""
        for line_no, quantity in units:
            line = self.lines[line_no]
            line.buckets = line.buckets.moved(source, target, quantity)

    @property
    def excess_minor(self) -> int:
        """What was taken beyond what is owed, and is not on its way back."""
        return sum(t.kept_minor for t in self.tenders) - self.owed_minor

    @property
    def credit_due_minor(self) -> int:
        """What was credited and is not on its way back yet: no need to wait for the end of the order."""
        credited = sum(line.credited_minor for line in self.lines.values())
        return max(0, credited - sum(t.refunded_minor + t.refunding_minor for t in self.tenders))

    def root_of(self, line_no: int) -> int:
        """The line that has the price of these units: what is sent again stands for units of another line."""
        return self.lines[line_no].priced_by

    def add_line(self, added: AddedLine) -> None:
        """A line more, all of its units open."""
        self.lines[added.line.line_no] = LineState(
            line_no=added.line.line_no,
            sku=added.line.sku,
            shares=added.shares,
            buckets=Buckets(open=added.line.quantity),
            extends=added.extends,
            replaces=added.replaces,
            replaces_parcel=added.replaces_parcel,
        )

    def replace(self, added: tuple[AddedLine, ...]) -> None:
        """Send units again: lines at no charge."""
        for one in added:
            self.add_line(one)
        self.order = self.order.model_copy(update={"lines": (*self.order.lines, *(one.line for one in added))})

    def book_credit(self) -> Credit | None:
        """Count the units that left, did not arrive and are not sent again (any more) as not owed.

        Returns what is new, None where nothing is.
        """
        lines, worth = [], Components(revenue_minor=0, shipping_minor=0, tax_minor=0)
        for line_no, units in self._not_made_good().items():
            line = self.lines[line_no]
            if units > line.credited:
                more = units - line.credited
                worth = worth + line.shares.components_to_credit(line.credited, more, with_shipping=True)
                line.credited = units
                lines.append(CreditedLine(line_no, units, line.credited_minor))
        return Credit(lines=tuple(lines), worth=worth) if lines else None

    def _not_made_good(self) -> dict[int, int]:
        """Per line with a price: units that were lost or came back, less those that are sent instead."""
        units: dict[int, int] = {}
        for line_no, line in self.lines.items():
            instead = line.shares.quantity - line.buckets.cancelled if line.replaces_parcel else 0
            root = self.root_of(line_no)
            units[root] = units.get(root, 0) + line.buckets.of(Bucket.WRITTEN_OFF, Bucket.RETURNED) - instead
        return units

    def withdraw(self, part: Fulfillment) -> None:
        """End a fulfillment order whose units, open again, are sourced anew."""
        self.move(part.lines, part.stage, Bucket.OPEN)
        part.state, part.stage = FulfillmentState.CANCELLED, Bucket.CANCELLED

    @property
    def due_until(self) -> datetime | None:
        """When the promise in force is over. Whether it was kept is judged by the original one."""
        return self.current_until or self.promised_until

    def hold_units(self, units: tuple[tuple[int, str, int], ...]) -> None:
        """Open units (line number, node, units) are held at nodes, beside what is held already."""
        self.move(tuple((line_no, quantity) for line_no, _, quantity in units), Bucket.OPEN, Bucket.RESERVED)
        held: dict[tuple[int, str], int] = {}
        for line_no, node, quantity in (*self.placements, *units):
            held[line_no, node] = held.get((line_no, node), 0) + quantity
        self.placements = tuple((line_no, node, quantity) for (line_no, node), quantity in held.items())

    def wait_for_supply(self, units: tuple[tuple[int, int], ...], since: datetime, until: datetime) -> None:
        """Open units (line number, units) wait for supply; the limit of a line runs from its latest ones."""
        self.move(units, Bucket.OPEN, Bucket.BACKORDERED)
        for line_no, _ in units:
            self.lines[line_no].waits_since, self.lines[line_no].waits_until = since, until

    def place_by(self, by: date | None, until: datetime | None) -> None:
        """Units that a node holds arrive by then; the latest of them counts."""
        if until is not None and (self.placed_until is None or until > self.placed_until):
            self.placed_by, self.placed_until = by, until

    def release_held(self, units: tuple[tuple[int, str, int], ...], target: Bucket) -> None:
        """Take held units (line number, node, units) out of the reservation, whose time limit ends with its last."""
        self.move(tuple((line_no, quantity) for line_no, _, quantity in units), Bucket.RESERVED, target)
        less = {(line_no, node): quantity for line_no, node, quantity in units}
        rest = ((n, node, quantity - less.get((n, node), 0)) for n, node, quantity in self.placements)
        self.placements = tuple(placement for placement in rest if placement[2])
        if units and not self.placements:
            self.reserved_until = None

    def advance(self, part: Fulfillment, state: FulfillmentState, stage: Bucket, now: datetime) -> None:
        """Give a fulfillment order its next state, and move its units along."""
        self.move(part.lines, part.stage, stage)
        part.state, part.stage = state, stage
        journey = Journey(tracking=part.tracking, service_level=self.order.service_level)
        part.since, part.deadline = now, deadline_after(state, stage, self.rules, now, part.node_id, journey)
        self.changed_at = now

    def cut(self, part: Fulfillment, units: tuple[tuple[int, int], ...], target: Bucket) -> None:
        """Take units (line number, units) out of a fulfillment order; the rest of it goes on."""
        self.move(units, part.stage, target)
        less = dict(units)
        rest = ((line_no, quantity - less.get(line_no, 0)) for line_no, quantity in part.lines)
        part.lines = tuple((line_no, quantity) for line_no, quantity in rest if quantity)

    def worth(self, part: Fulfillment) -> Components:
        """What the parcel of this fulfillment order is worth if it leaves next."""
        total = Components(revenue_minor=0, shipping_minor=0, tax_minor=0)
        for line_no, quantity in part.lines:
            line = self.lines[line_no]
            total = total + line.shares.components_to_ship(line.gone, quantity)
        return total

    def by_shipment(self, shipment_id: str) -> Fulfillment | None:
        """The fulfillment order behind a parcel."""
        return next((f for f in self.fulfillments.values() if f.shipment_id == shipment_id), None)

    @property
    def live_holds(self) -> list[Hold]:
        """The holds that stand."""
        return [hold for hold in self.holds.values() if hold.live]

    def paid(self) -> bool:
        """Whether every tender is authorized (or further)."""
        return all(t.state not in (PaymentState.PENDING, PaymentState.FAILED) for t in self.tenders)

    def drop_solved_cases(self) -> None:
        """Forget the cases whose cause is gone, as the database does."""
        if self.attention:
            facts = self.facts()
            self.attention = {c: at for c, at in self.attention.items() if not case_is_over(c, at, facts)}

    def facts(self) -> OrderFacts:
        """What the header is derived from."""
        return OrderFacts(
            rejected=self.rejected,
            total_minor=self.order.total_minor,
            owed_minor=self.owed_minor,
            quantities=self.quantities,
            credited=sum(line.credited for line in self.lines.values()),
            tenders=() if self.rejected else tuple(_tender_fact(t) for t in self.tenders),
            fulfillments=tuple(_fulfillment_fact(f) for f in self.fulfillments.values()),
            holds=tuple(self._hold_fact(h) for h in self.live_holds),
            supply=self._supply_fact(),
            rules=self.rules,
            changed_at=self.changed_at,
        )

    def _hold_fact(self, hold: Hold) -> HoldFact:
        parts = self.fulfillments.values() if hold.line_no is not None else ()
        return HoldFact(
            hold_id=hold.hold_id,
            type=hold.type,
            blocks=hold.blocks,
            owner=hold.owner,
            line_no=hold.line_no,
            parts=tuple(p.fulfillment_id for p in parts if hold.covers(p.line_nos)),
            unplaced=any(
                line.buckets.of(Bucket.OPEN, Bucket.RESERVED) for n, line in self.lines.items() if hold.covers((n,))
            ),
            since=hold.since,
            deadline=hold.deadline,
        )

    def _supply_fact(self) -> SupplyFact | None:
        lines = [line for line in self.lines.values() if line.buckets.backordered]
        since = [line.waits_since for line in lines if line.waits_since]
        until = [line.waits_until for line in lines if line.waits_until]
        if not since or not until:
            return None
        return SupplyFact(skus=tuple(sorted({line.sku for line in lines})), since=min(since), deadline=min(until))

    def header(self) -> Header:
        """The derived header."""
        return derive_header(self.facts())


def _tender_fact(tender: Tender) -> TenderFact:
    return TenderFact(
        tender_id=tender.tender_id,
        state=tender.state,
        amount_minor=tender.amount_minor,
        authorized_minor=tender.authorized_minor,
        captured_minor=tender.captured_minor,
        refunded_minor=tender.refunded_minor,
        since=tender.since,
        deadline=tender.deadline,
    )


def _fulfillment_fact(part: Fulfillment) -> FulfillmentFact:
    return FulfillmentFact(
        fulfillment_id=part.fulfillment_id,
        node_id=part.node_id,
        state=part.state,
        stage=part.stage,
        units=part.units,
        captured=part.captured,
        tracking=part.tracking,
        recall=part.recall.state if part.recall else None,
        recall_since=part.recall.since if part.recall else None,
        recall_until=part.recall.until if part.recall else None,
        since=part.since,
        deadline=part.deadline,
    )
