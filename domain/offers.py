"""What can be changed on an order now, by whom, until when; and what not, why not, and what instead. Owner: service.

The order itself decides with `plan_cancellation`, `plan_amendment` and the cut-off rules when somebody asks. This says
beforehand, from quantities alone, what it would answer: with the same table, the same codes and the same words.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from domain.cancellation import HAVE_LEFT
from domain.cut_offs import STAGES, check_cut_off, furthest, is_within, limit_of
from domain.ended import LINKED_ORDER, NOTHING_UNDER_WAY
from domain.orders import Actor, ActorKind, ChangeKind, OrderRules, RefundWish, ServiceLevel
from domain.quantities import AT_THE_NODE, BEFORE_HAND_OVER, HANDED_OVER, Bucket, units_per_line
from domain.recall import Parcel, refusal_of
from domain.refusals import OrderRuleError

LineUnits = tuple[int, int]
"""Line number, units."""

BY_LINE = (ChangeKind.CANCEL, ChangeKind.DECREASE, ChangeKind.SUBSTITUTE)
"""About units of a line: each has a stage of its own. The other changes are about the whole order."""
_ADDS = (ChangeKind.INCREASE, ChangeKind.ADD_LINE)
_MOVES = (ChangeKind.SHIP_TO, ChangeKind.SERVICE_LEVEL)
_STOPPING = "the node was asked to stop already; its answer decides"


class Standing(NamedTuple):
    """How an order stands. `stopping` are the units at nodes that were asked to stop: line -> stage -> units."""

    rules: OrderRules
    lines: Mapping[int, Mapping[Bucket, int]]  # line number -> stage -> units
    stopping: Mapping[int, Mapping[Bucket, int]]
    amending: bool = False  # another change is under way
    declined: bool = False  # a payment was declined, and is to be replaced
    secured: bool = True  # all that is owed is authorized or taken: some of it can be kept
    parcels: tuple[Parcel, ...] = ()  # those that have left
    service_level: ServiceLevel = ServiceLevel.STANDARD


class Offer(NamedTuple):
    """A change that is possible for these units, until they pass `until`; or, with a reason, that is not."""

    change: ChangeKind
    lines: tuple[LineUnits, ...] = ()
    until: Bucket | None = None
    reason: str | None = None
    detail: str | None = None
    alternative: str | None = None

    @property
    def available(self) -> bool:
        """Whether it is possible."""
        return self.reason is None


def offers(standing: Standing, change: ChangeKind, role: str) -> tuple[Offer, ...]:
    """What somebody in this role hears of a change: what is possible first."""
    _, until = limit_of(standing.rules, change, role)
    if change is ChangeKind.RECALL:
        return _recall(standing, role, until)
    live = any(units for stages in standing.lines.values() for stage, units in stages.items() if stage in STAGES)
    if change is not ChangeKind.CANCEL and not live:
        return (_over(standing, change),)  # whatever the table says
    if until is None:
        return (_refused(standing, change, role, Bucket.OPEN),)
    if change is not ChangeKind.CANCEL and standing.amending:
        text = "another change of this order is under way; its outcome comes first"
        return (_no(change, "amendment_in_progress", text),)
    if change in BY_LINE:
        return _by_line(standing, change, role, until)
    return (_whole(standing, change, role, until),)


class CancelWays(NamedTuple):
    """The options with which all units of an offer can be cancelled. The usual one is first."""

    restock: tuple[bool, ...]
    refund: tuple[RefundWish, ...]
    all_or_nothing: tuple[bool, ...]  # true: nothing of the order would be refused


def cancel_ways(standing: Standing, role: str, offer: Offer) -> CancelWays:
    """What somebody in this role may say about the units that can be cancelled, all of them together."""
    stages = _stages_offered(standing, offer)
    stocked = any(stage in (Bucket.RESERVED, Bucket.ALLOCATED, *AT_THE_NODE) for stage in stages)
    may_write_off = stocked and _may(standing, ChangeKind.WRITE_OFF, role, stages)
    may_keep = standing.secured and _may(standing, ChangeKind.CANCEL_UNREFUNDED, role, stages)
    all_units = sum(stages.get(b, 0) for stages in standing.lines.values() for b in (*BEFORE_HAND_OVER, *HANDED_OVER))
    whole = sum(units for _, units in offer.lines) == all_units
    return CancelWays(
        restock=(True, False) if may_write_off else (True,),
        refund=("full", "none") if may_keep else ("full",),
        all_or_nothing=(False, True) if whole else (False,),
    )


def _stages_offered(standing: Standing, offer: Offer) -> tuple[Bucket, ...]:
    """Where the units are that are offered."""
    found = set()
    for line_no, _ in offer.lines:
        asked = standing.stopping.get(line_no, {})
        for stage, units in standing.lines[line_no].items():
            if offer.until and is_within(stage, offer.until) and units > asked.get(stage, 0):
                found.add(stage)
    return tuple(stage for stage in STAGES if stage in found)


def _may(standing: Standing, change: ChangeKind, role: str, stages: tuple[Bucket, ...]) -> bool:
    until = limit_of(standing.rules, change, role).until
    return until is not None and is_within(furthest(stages), until)


def _recall(standing: Standing, role: str, until: Bucket | None) -> tuple[Offer, ...]:
    """Parcels come back whole. Nothing is said of it before the first one has left."""
    possible: list[LineUnits] = []
    found: dict[tuple[str, str], Offer] = {}
    for parcel in standing.parcels:
        refusal = refusal_of(parcel, standing.rules, standing.service_level)
        if refusal is None:
            possible += parcel.lines
        else:
            said = _no(ChangeKind.RECALL, refusal.code, refusal.detail, parcel.lines, refusal.alternative)
            found[refusal.code, refusal.detail] = said
    units = _units(sorted(units_per_line(possible).items()))
    if not units:
        return tuple(found.values())
    if until is None or not is_within(Bucket.SHIPPED, until):
        return (_refused(standing, ChangeKind.RECALL, role, Bucket.SHIPPED, units), *found.values())
    return (Offer(ChangeKind.RECALL, units, until), *found.values())


def _whole(standing: Standing, change: ChangeKind, role: str, until: Bucket) -> Offer:
    """A change that is about all of it: the unit that is furthest decides."""
    stages = {stage for line in standing.lines.values() for stage, units in line.items() if units}
    relevant = (*BEFORE_HAND_OVER, Bucket.SHIPPED) if change in _ADDS else BEFORE_HAND_OVER
    present = tuple(stage for stage in STAGES if stage in relevant and stage in stages)
    if not present:
        return _over(standing, change)
    if not is_within(furthest(present), until):
        return _refused(standing, change, role, furthest(present))
    if change in _ADDS and standing.declined:
        return _no(change, "payment_not_secured", "a payment was declined; it is replaced first")
    if change in _MOVES and any(sum(units.values()) for units in standing.stopping.values()):
        return _no(change, "cancellation_in_progress", _STOPPING)
    return Offer(change, until=until)


def _by_line(standing: Standing, change: ChangeKind, role: str, until: Bucket) -> tuple[Offer, ...]:
    free, beyond, stopping = [], [], []
    too_far: set[Bucket] = set()
    for line_no, stages in standing.lines.items():
        asked = standing.stopping.get(line_no, {})
        ours = {b: stages.get(b, 0) - asked.get(b, 0) for b in BEFORE_HAND_OVER}
        free.append((line_no, sum(units for b, units in ours.items() if is_within(b, until))))
        far = {b: units for b, units in ours.items() if units > 0 and not is_within(b, until)}
        beyond.append((line_no, sum(far.values())))
        too_far |= far.keys()
        stopping.append((line_no, sum(asked.values())))
    found = []
    if possible := _units(_but_the_last(standing, change, free)):
        found.append(Offer(change, possible, until))
    if late := _units(beyond):
        found.append(_refused(standing, change, role, furthest(tuple(too_far)), late))
    if waiting := _units(stopping):
        found.append(_no(change, "cancellation_in_progress", _STOPPING, waiting))
    if change is ChangeKind.CANCEL and (left := _handed_over(standing)):
        found.append(_no(change, "already_handed_over", HAVE_LEFT, left, "return"))
    if found:
        return tuple(found)
    if _units(free):
        text = "this would cancel all that has not left"
        return (_no(change, "nothing_would_be_left", text, _units(free), "cancel"),)
    return (_over(standing, change),)


def _but_the_last(standing: Standing, change: ChangeKind, free: list[LineUnits]) -> list[LineUnits]:
    """Fewer units are not none at all: that is a cancellation."""
    left = [(n, sum(stages.get(b, 0) for b in BEFORE_HAND_OVER)) for n, stages in standing.lines.items()]
    whole = _units(left)
    if change is not ChangeKind.DECREASE or len(whole) != 1:
        return free
    return [(n, min(units, whole[0][1] - 1)) if n == whole[0][0] else (n, units) for n, units in free]


def _over(standing: Standing, change: ChangeKind) -> Offer:
    """Nothing is left that this could be about."""
    if change is ChangeKind.CANCEL:
        return _no(change, "nothing_to_cancel", "nothing of this order is left to cancel")
    left = _handed_over(standing)
    if any(stages.get(Bucket.SHIPPED) for stages in standing.lines.values()):
        return _no(change, "already_handed_over", HAVE_LEFT, left, "return")
    return _no(change, "order_over", NOTHING_UNDER_WAY, alternative=LINKED_ORDER)


def _refused(
    standing: Standing, change: ChangeKind, role: str, stage: Bucket, lines: tuple[LineUnits, ...] = ()
) -> Offer:
    """As the cut-off rules refuse it."""
    try:
        check_cut_off(standing.rules, change, Actor(kind=ActorKind.PERSON, id="offer", role=role), stage)
    except OrderRuleError as refusal:
        return _no(change, refusal.code, refusal.detail, lines, refusal.alternative)
    raise AssertionError(f"{change} is within its limit")


def _handed_over(standing: Standing) -> tuple[LineUnits, ...]:
    return _units((n, sum(stages.get(b, 0) for b in HANDED_OVER)) for n, stages in standing.lines.items())


def _units(found: Iterable[LineUnits]) -> tuple[LineUnits, ...]:
    return tuple((line_no, units) for line_no, units in found if units > 0)


def _no(
    change: ChangeKind,
    reason: str,
    detail: str,
    lines: tuple[LineUnits, ...] = (),
    alternative: str | None = None,
) -> Offer:
    return Offer(change, lines, None, reason, detail, alternative)
