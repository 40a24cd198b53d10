"""What can be cancelled now, what the node must be asked about, and what has left already. Owned by service.

One pure plan serves the validator (refuse before anything is written), the preview and the execution.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from domain.capture import NotCovered
from domain.order_state import Fulfillment, OrderState
from domain.orders import ChangeKind, Frozen, RefundWish
from domain.quantities import AT_THE_NODE, BEFORE_HAND_OVER, WITH_THE_CARRIER, Bucket, units_per_line
from domain.recall import recallable, take_parcels, value_recalled, why_none
from domain.refusals import OrderRuleError

LineUnits = tuple[int, int]
"""Line number, units."""
HAVE_LEFT = "the carrier has the goods; quoteReturn says which can come back as a return, and for how much"


class AlreadyHandedOver(OrderRuleError):
    """Everything that is not cancelled has left."""

    code = "already_handed_over"
    alternative = "return"


class NothingToCancel(OrderRuleError):
    """The order is over, or all of it is cancelled."""

    code = "nothing_to_cancel"


class CancellationInProgress(OrderRuleError):
    """The nodes were asked already; their answer decides."""

    code = "cancellation_in_progress"


class QuantityExceedsOpen(OrderRuleError):
    """More units of a line were asked for than can still be cancelled."""

    code = "quantity_exceeds_open"


class UnknownLine(OrderRuleError):
    """The order has no such line."""

    code = "unknown_line"


class OnlyPartPossible(OrderRuleError):
    """Some units cannot be cancelled, and all were wanted or none."""

    code = "only_part_possible"
    alternative = "cancel"


class NothingToWriteOff(OrderRuleError):
    """None of these units is in stock anywhere."""

    code = "nothing_to_write_off"
    alternative = "cancel"


class RecallIsRefunded(OrderRuleError):
    """What a carrier brings back goes back to stock, and its money to the customer."""

    code = "recall_is_refunded"


class CancelOptions(NamedTuple):
    """What becomes of the goods and of the money, and whether a part will do.

    Without `restock` the units that a node has are written off; with `refund` none their value is paid all the same.
    With `all_or_nothing` any unit that is refused refuses all; units that a node is asked for count as possible.
    """

    restock: bool = True
    refund: RefundWish = "full"
    all_or_nothing: bool = False

    @property
    def kinds(self) -> tuple[ChangeKind, ...]:
        """What the cut-off rules are asked about."""
        unrefunded = (ChangeKind.CANCEL_UNREFUNDED,) if self.refund == "none" else ()
        return (ChangeKind.CANCEL, *unrefunded, *(() if self.restock else (ChangeKind.WRITE_OFF,)))


class PartUnits(NamedTuple):
    """Units of one fulfillment order."""

    fulfillment_id: str
    units: tuple[LineUnits, ...]


class CancellationPlan(Frozen):
    """Units that are free at once, units whose node must agree, and money before and after."""

    backordered_units: tuple[LineUnits, ...] = ()  # they wait for supply
    open_units: tuple[LineUnits, ...]
    held_units: tuple[tuple[int, str, int], ...]  # line number, node, units
    at_once: tuple[PartUnits, ...]  # not sent to their node yet
    asked: tuple[PartUnits, ...]  # their node must agree
    handed_over: tuple[LineUnits, ...] = ()  # left already; where all that has not left is meant
    stopping: tuple[LineUnits, ...] = ()  # their node was asked before; likewise
    recalled: tuple[PartUnits, ...] = ()  # parcels that the carrier is asked to bring back
    handed_over_units: int
    value_at_once_minor: int
    value_asked_minor: int
    value_recalled_minor: int = 0

    @property
    def units_at_once(self) -> tuple[LineUnits, ...]:
        """What is free at once, wherever it is."""
        held = tuple((line_no, quantity) for line_no, _, quantity in self.held_units)
        return (*self.backordered_units, *self.open_units, *held, *(u for part in self.at_once for u in part.units))

    def stages(self, state: OrderState) -> tuple[Bucket, ...]:
        """Where the units are that it takes."""
        parts = (*self.at_once, *self.asked)
        waiting = (Bucket.BACKORDERED,) if self.backordered_units else ()
        held = (Bucket.RESERVED,) if self.held_units else ()
        return (*waiting, *held, *(state.fulfillments[part.fulfillment_id].stage for part in parts))

    @property
    def units_asked(self) -> tuple[LineUnits, ...]:
        """What the nodes must agree to."""
        return tuple(u for part in self.asked for u in part.units)

    @property
    def units_recalled(self) -> tuple[LineUnits, ...]:
        """What the carrier must agree to."""
        return tuple(u for part in self.recalled for u in part.units)


def plan_cancellation(
    state: OrderState,
    wanted: Iterable[LineUnits] = (),
    only: Bucket | None = None,
    spared: Mapping[int, int] = MappingProxyType({}),
    *,
    recall: bool = False,
) -> CancellationPlan:
    """Cancel the wanted units (line number, units), or everything that has not left when none are named.

    What costs least is taken first: units that wait for supply, open ones, held ones, those not sent to a node, then
    those at a node. `only` says from which of the first two they are taken, and from nowhere else; `spared` units of a
    line (line number -> units) go on waiting for supply. With `recall` parcels that have left come last, each of them
    whole or not at all.

    Raises:
        UnknownLine: the order has no such line.
        QuantityExceedsOpen: fewer units of a line can still be cancelled.
        NothingToCancel: no unit is left to cancel.
        AlreadyHandedOver: all units left; a return is possible instead.
        CannotBeRecalled, RecallInProgress, WholeParcelsOnly: with `recall`, why what left is not brought back.
        CancellationInProgress: all that could be cancelled is waiting for a node's answer.
    """
    named = units_per_line(wanted)
    left = dict(named) or {n: line.buckets.of(*BEFORE_HAND_OVER) for n, line in state.lines.items()}
    for line_no in left.keys() - state.lines.keys():
        raise UnknownLine(f"the order has no line {line_no}")
    free, asked, waiting = _by_answer(state) if only is None else ([], [], [])
    backordered = () if only is Bucket.OPEN else _take_from(state, left, Bucket.BACKORDERED, spared)
    open_units = () if only is Bucket.BACKORDERED else _take_from(state, left, Bucket.OPEN, {})
    placed = state.placements if only is None else ()
    held = tuple((n, node, q) for n, node, units in placed for _, q in _take(left, [(n, units)]))
    at_once = _take_parts(left, free)
    to_ask = _take_parts(left, asked)
    parcels = take_parcels(state, left, everything=not named) if recall else []
    if not (backordered or open_units or held or at_once or to_ask or parcels):
        raise _nothing_left(state, named, waiting, recall=recall)
    if named and any(left.values()):
        raise _too_many(state, named, left, parcels if recall else None)
    plan = CancellationPlan(
        backordered_units=backordered,
        open_units=open_units,
        held_units=held,
        at_once=at_once,
        asked=to_ask,
        recalled=tuple(PartUnits(part.fulfillment_id, part.lines) for part in parcels),
        handed_over=() if named else _gone(state, parcels),
        stopping=() if named else tuple(units_per_line(u for part in waiting for u in part.lines).items()),
        handed_over_units=state.quantities.of(*WITH_THE_CARRIER, Bucket.DELIVERED),
        value_at_once_minor=0,
        value_asked_minor=0,
        value_recalled_minor=value_recalled(state, parcels),
    )
    now = _value(state, plan.units_at_once)
    both = _value(state, (*plan.units_at_once, *plan.units_asked))
    # the units of one line differ by a penny: what goes first counts
    return plan.model_copy(update={"value_at_once_minor": now, "value_asked_minor": both - now})


def check_options(state: OrderState, plan: CancellationPlan, options: CancelOptions) -> None:
    """Whether the plan can be carried out with these options.

    Raises:
        OnlyPartPossible: some units are refused, and a part will not do.
        NothingToWriteOff: no node has any of the units.
        NotCovered: what would be kept is not authorized. Nobody can be made to pay for what is not delivered.
        RecallIsRefunded: neither option goes with a recall.
    """
    left, stopping = (sum(units for _, units in refused) for refused in (plan.handed_over, plan.stopping))
    if options.all_or_nothing and left + stopping:
        raise OnlyPartPossible(f"{left} units have left, {stopping} wait for their node's answer: all or nothing")
    if plan.recalled and not (options.restock and options.refund == "full"):
        raise RecallIsRefunded("what is brought back goes back to stock and is refunded: recall it as usual")
    if not options.restock and not (plan.held_units or plan.at_once or plan.asked):
        raise NothingToWriteOff("no node has any of these units; they are cancelled without a word about stock")
    if options.refund == "none":
        secured = sum(tender.left_minor for tender in state.tenders)
        taken = sum(t.captured_minor - t.refunded_minor + t.capturing_minor for t in state.tenders)
        if secured < state.owed_minor - taken:
            raise NotCovered("the payment does not cover what would be kept; with refund full it can be cancelled")


def check_no_node_is_asked(state: OrderState) -> None:
    """Units whose node was asked to stop are neither here nor there.

    Raises:
        CancellationInProgress: there are some.
    """
    if any(part.being_stopped for part in state.fulfillments.values()):
        raise CancellationInProgress("a node was asked to stop already; its answer decides")


def _by_answer(state: OrderState) -> tuple[list[Fulfillment], list[Fulfillment], list[Fulfillment]]:
    """Fulfillment orders that are ours alone, that need their node's answer, and that wait for one already."""
    parts = [f for f in state.fulfillments.values() if f.stage in (Bucket.ALLOCATED, *AT_THE_NODE)]
    waiting = [f for f in parts if f.being_stopped]
    others = [f for f in parts if f not in waiting]
    at_node = [f for f in others if f.stage in AT_THE_NODE or f.in_call]
    at_node.sort(key=lambda f: (Bucket.ALLOCATED, *AT_THE_NODE).index(f.stage))
    return [f for f in others if f not in at_node], at_node, waiting


def _gone(state: OrderState, recalled: Iterable[Fulfillment]) -> tuple[LineUnits, ...]:
    """Units that have left and are not recalled."""
    asked = units_per_line(u for part in recalled for u in part.lines)
    gone = ((n, line.gone - asked.get(n, 0)) for n, line in state.lines.items())
    return tuple((n, units) for n, units in gone if units)


def _take_from(
    state: OrderState, left: dict[int, int], bucket: Bucket, spared: Mapping[int, int]
) -> tuple[LineUnits, ...]:
    """As many units of the bucket as are still wanted, but for those that are spared."""
    return _take(left, [(n, line.buckets.of(bucket) - spared.get(n, 0)) for n, line in state.lines.items()])


def _take(left: dict[int, int], units: Iterable[LineUnits]) -> tuple[LineUnits, ...]:
    """As many of these units as are still wanted."""
    taken = []
    for line_no, quantity in units:
        take = min(quantity, left.get(line_no, 0))
        if take:
            left[line_no] -= take
            taken.append((line_no, take))
    return tuple(taken)


def _take_parts(left: dict[int, int], parts: Iterable[Fulfillment]) -> tuple[PartUnits, ...]:
    taken = ((part.fulfillment_id, _take(left, part.lines)) for part in parts)
    return tuple(PartUnits(name, units) for name, units in taken if units)


def _nothing_left(
    state: OrderState, named: dict[int, int], waiting: list[Fulfillment], *, recall: bool
) -> OrderRuleError:
    lines = named or state.lines
    if any(line_no in lines for part in waiting for line_no, _ in part.lines):
        return CancellationInProgress("the node was asked to stop already; its answer decides")
    if recall and (refusal := why_none(state, lines)):
        return refusal
    if any(state.lines[n].buckets.of(*WITH_THE_CARRIER, Bucket.DELIVERED) for n in lines):
        return AlreadyHandedOver(f"{HAVE_LEFT}{_recall_hint(state, lines)}")
    return NothingToCancel("nothing of this is left to cancel")


def _too_many(
    state: OrderState, named: dict[int, int], left: dict[int, int], parcels: list[Fulfillment] | None
) -> OrderRuleError:
    """Fewer units can be had than were named, though `parcels` would be brought back; None without a recall."""
    line_no = next(n for n, units in left.items() if units)
    if parcels is not None and (refusal := why_none(state, (line_no,), parcels)):
        return refusal
    possible = named[line_no] - left[line_no]
    hint = _recall_hint(state, (line_no,)) if parcels is None else ""
    return QuantityExceedsOpen(f"line {line_no}: {named[line_no]} units asked, {possible} can be cancelled{hint}")


def _recall_hint(state: OrderState, lines: Iterable[int]) -> str:
    """Whether the carrier could be asked, for somebody who has not said so."""
    wanted = set(lines)
    parcels = [part for part in recallable(state) if wanted & set(part.line_nos)]
    return f"; with recall the carrier is asked to bring {len(parcels)} of its parcels back" if parcels else ""


def _value(state: OrderState, units: Iterable[LineUnits]) -> int:
    """What would no longer be owed."""
    lines = state.lines
    return sum(lines[n].shares.value_to_cancel(lines[n].buckets.cancelled, q) for n, q in units_per_line(units).items())
