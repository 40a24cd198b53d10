"""Holds: which kinds there are, what each stops, who may end it, and what its limit does.

The table is owned by commerce; each kind is looked after by its owner team. A hold lies over an order: it is no
state of it, stops only the steps that it names, and never keeps anybody from cancelling or reporting.
"""

from collections.abc import Container, Iterable, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import NamedTuple

from domain.cancellation import LineUnits, UnknownLine, plan_cancellation
from domain.lifecycle import Team, next_step
from domain.order_state import Fulfillment, Hold, OrderState
from domain.orders import AtLimit, CancelReason, Frozen, HoldBlock, HoldType
from domain.permissions import Role
from domain.quantities import AT_THE_NODE, BEFORE_HAND_OVER, Bucket
from domain.refusals import OrderRuleError

MAX_HOLDS = 20
"""Holds of one order that stand at once."""
LONGEST_S = 30 * 86_400
_HOUR_S = 3_600


class HoldRule(NamedTuple):
    """What is true of every hold of one type. Times in seconds."""

    owner: Team
    released_by: tuple[Role, ...]
    blocks: tuple[HoldBlock, ...]  # unless asked for others
    may_block: tuple[HoldBlock, ...]
    lasts_s: int  # unless asked for less, or for more up to the longest
    longest_s: int
    at_limit: AtLimit


_S, _R, _P, _M = HoldBlock.SCHEDULE, HoldBlock.RELEASE, HoldBlock.SHIP, HoldBlock.REFUND
HOLD_RULES: Mapping[HoldType, HoldRule] = MappingProxyType(
    {
        HoldType.FRAUD: HoldRule(
            owner=Team.FINANCE,
            released_by=(Role.FINANCE, Role.OPS),
            blocks=(_S, _R, _P),
            may_block=(_S, _R, _P, _M),
            lasts_s=24 * _HOUR_S,
            longest_s=72 * _HOUR_S,
            at_limit=AtLimit.REJECT,
        ),
        HoldType.ADDRESS: HoldRule(
            owner=Team.SERVICE,
            released_by=(Role.SERVICE, Role.OPS),
            blocks=(_R, _P),
            may_block=(_S, _R, _P),
            lasts_s=48 * _HOUR_S,
            longest_s=7 * 24 * _HOUR_S,
            at_limit=AtLimit.ESCALATE,
        ),
        HoldType.PAYMENT: HoldRule(
            owner=Team.FINANCE,
            released_by=(Role.FINANCE, Role.OPS),
            blocks=(_R, _P),
            may_block=(_S, _R, _P, _M),
            lasts_s=24 * _HOUR_S,
            longest_s=72 * _HOUR_S,
            at_limit=AtLimit.REJECT,
        ),
        HoldType.CREDIT: HoldRule(
            owner=Team.FINANCE,
            released_by=(Role.FINANCE, Role.OPS),
            blocks=(_S, _R),
            may_block=(_S, _R, _P),
            lasts_s=72 * _HOUR_S,
            longest_s=LONGEST_S,
            at_limit=AtLimit.ESCALATE,
        ),
        HoldType.MANUAL: HoldRule(
            owner=Team.SERVICE,
            released_by=(Role.SERVICE, Role.OPS),
            blocks=(_R,),
            may_block=(_S, _R, _P, _M),
            lasts_s=7 * 24 * _HOUR_S,
            longest_s=LONGEST_S,
            at_limit=AtLimit.RELEASE,
        ),
        HoldType.QUALITY: HoldRule(
            owner=Team.COMMERCE,
            released_by=(Role.COMMERCE, Role.OPS),
            blocks=(_R, _P),
            may_block=(_S, _R, _P),
            lasts_s=72 * _HOUR_S,
            longest_s=LONGEST_S,
            at_limit=AtLimit.ESCALATE,
        ),
    }
)


class OrderOver(OrderRuleError):
    """Nothing of the order is under way any more."""

    code = "order_over"


class NothingToHold(OrderRuleError):
    """All that the hold could stop has happened."""

    code = "nothing_to_hold"


class TooManyHolds(OrderRuleError):
    """So many holds stand already that one more helps nobody."""

    code = "too_many_holds"


class MayNotBlock(OrderRuleError):
    """Holds of this type do not stop that step."""

    code = "hold_may_not_block"


class HoldTooLong(OrderRuleError):
    """Holds of this type do not stand for so long."""

    code = "hold_too_long"


class UnknownHold(OrderRuleError):
    """This order has no such hold."""

    code = "unknown_hold"


class HoldNotPlaced(OrderRuleError):
    """The hold has ended before."""

    code = "hold_not_placed"


class RoleMayNotRelease(OrderRuleError):
    """Holds of this type are ended by other roles."""

    code = "role_may_not_release"


class HoldAsk(Frozen):
    """A hold that somebody wants. What is not said is as the type's rule has it."""

    hold_id: str
    type: HoldType
    line_no: int | None = None
    blocks: tuple[HoldBlock, ...] = ()
    lasts_s: int | None = None


def plan_hold(state: OrderState, ask: HoldAsk, now: datetime) -> Hold:
    """The hold as it will stand, from now on.

    Raises:
        OrderOver: nothing of the order is under way any more.
        UnknownLine: the order has no such line.
        MayNotBlock: holds of this type do not stop that step.
        HoldTooLong: holds of this type do not stand for so long.
        TooManyHolds: as many holds as there may be stand already.
        NothingToHold: all that it could stop has happened.
    """
    if state.rejected or not state.quantities.live:
        raise OrderOver("nothing of this order is under way any more")
    if ask.line_no is not None and ask.line_no not in state.lines:
        raise UnknownLine(f"the order has no line {ask.line_no}")
    _check_rule(ask)
    if len(state.live_holds) >= MAX_HOLDS:
        raise TooManyHolds(f"{MAX_HOLDS} holds stand already: release one first")
    hold = new_hold(ask, now)
    if not matters(state, hold):
        raise NothingToHold(f"all that this would stop ({', '.join(hold.blocks)}) has happened already")
    return hold


def _check_rule(ask: HoldAsk) -> None:
    rule = HOLD_RULES[ask.type]
    foreign = [block for block in ask.blocks if block not in rule.may_block]
    if foreign:
        raise MayNotBlock(f"a {ask.type} hold may block {', '.join(rule.may_block)}, not {', '.join(foreign)}")
    if ask.lasts_s and ask.lasts_s > rule.longest_s:
        raise HoldTooLong(f"a {ask.type} hold stands for at most {rule.longest_s} seconds")


def new_hold(ask: HoldAsk, now: datetime) -> Hold:
    """The hold as its type's rule has it. Whether it may be placed is not asked here."""
    rule = HOLD_RULES[ask.type]
    return Hold(
        hold_id=ask.hold_id,
        type=ask.type,
        blocks=tuple(block for block in HoldBlock if block in (ask.blocks or rule.blocks)),
        owner=rule.owner,
        at_limit=rule.at_limit,
        line_no=ask.line_no,
        since=now,
        deadline=now + timedelta(seconds=ask.lasts_s or rule.lasts_s),
    )


def plan_release(state: OrderState, hold_id: str, role: str | None) -> Hold:
    """The hold that this role ends.

    Raises:
        UnknownHold: the order has no such hold.
        HoldNotPlaced: it has ended before.
        RoleMayNotRelease: other roles may; the text names them.
    """
    hold = state.holds.get(hold_id)
    if hold is None:
        raise UnknownHold(f"this order has no hold {hold_id}")
    if not hold.live:
        raise HoldNotPlaced(f"hold {hold_id} is {hold.state} already")
    roles = HOLD_RULES[hold.type].released_by
    if role not in roles:
        raise RoleMayNotRelease(f"a {hold.type} hold is released by the roles {', '.join(roles)}")
    return hold


# --- rejecting ----------------------------------------------------------------------------------------


def plan_rejection(state: OrderState, hold: Hold) -> tuple[LineUnits, ...]:
    """The units that are cancelled when the hold is rejected (line number, units); none named means all.

    Raises:
        OrderRuleError: none of them can be cancelled; the code says why.
    """
    if hold.line_no is None:
        units: tuple[LineUnits, ...] = ()
    else:
        units = ((hold.line_no, _cancellable(state, hold.line_no)),)
    plan_cancellation(state, units)
    return units


def _cancellable(state: OrderState, line_no: int) -> int:
    """Units of a line that have not left and that no node has been asked about."""
    waiting = sum(
        quantity
        for part in state.fulfillments.values()
        if part.being_stopped
        for number, quantity in part.lines
        if number == line_no
    )
    return state.lines[line_no].buckets.of(*BEFORE_HAND_OVER) - waiting


def rejection_reason(hold: Hold) -> CancelReason:
    """Why its units are cancelled."""
    return CancelReason.FRAUD if hold.type is HoldType.FRAUD else CancelReason.OTHER


def after_limit(state: OrderState, hold: Hold) -> AtLimit:
    """What happens now that the hold has stood for its whole time.

    One that stops nothing any more just ends. One that should be rejected, but whose units cannot be cancelled at
    this moment, asks its owner.
    """
    if not matters(state, hold):
        return AtLimit.RELEASE
    if hold.at_limit is AtLimit.REJECT:
        try:
            plan_rejection(state, hold)
        except OrderRuleError:
            return AtLimit.ESCALATE
    return hold.at_limit


# --- what a hold stops --------------------------------------------------------------------------------


def matters(state: OrderState, hold: Hold) -> bool:
    """Whether something that the hold could stop is still to come."""
    return any(_is_ahead(state, block, hold) for block in hold.blocks)


def _is_ahead(state: OrderState, block: HoldBlock, hold: Hold) -> bool:
    if block is HoldBlock.REFUND:
        return state.quantities.live > 0 or state.excess_minor > 0
    buckets = [line.buckets for n, line in state.lines.items() if hold.covers((n,))]
    if any(b.of(Bucket.OPEN, Bucket.RESERVED, Bucket.BACKORDERED) for b in buckets):
        return True
    stages = {HoldBlock.SCHEDULE: (), HoldBlock.RELEASE: (Bucket.ALLOCATED,)}.get(
        block, (Bucket.ALLOCATED, *AT_THE_NODE)
    )
    parts = (p for p in state.fulfillments.values() if p.stage in stages and hold.covers(p.line_nos))
    return any(block is not HoldBlock.SHIP or part.tracking_number is None for part in parts)


def blocked(state: OrderState, block: HoldBlock, part: Fulfillment | None = None) -> bool:
    """Whether a hold stops this step: of this fulfillment order, or of the order at all."""
    return any(block in h.blocks and (part is None or h.covers(part.line_nos)) for h in state.live_holds)


def on_hold(state: OrderState, part: Fulfillment) -> bool:
    """Whether a hold stops what this fulfillment order waits for next."""
    step = next_step(part.state, part.stage, booked=part.tracking_number is not None)
    return step is not None and blocked(state, step, part)


def nodes_to_allocate(state: OrderState) -> tuple[str, ...]:
    """The nodes whose held units may be committed now: those where no held line is kept back."""
    lines: dict[str, set[int]] = {}
    for line_no, node, _ in state.placements:
        lines.setdefault(node, set()).add(line_no)
    return tuple(sorted(node for node, line_nos in lines.items() if not keeps_back(state.live_holds, line_nos)))


def units_to_source(state: OrderState) -> tuple[LineUnits, ...]:
    """Open units that a node should hold now (line number, units).

    What waits for a hold is held for as long as the hold's limit runs. Once that has passed its units go back to
    stock, and are not held again before somebody has decided.
    """
    found = ((n, line.buckets.open) for n, line in state.lines.items() if line.buckets.open)
    overdue = [hold for hold in state.live_holds if hold.overdue]
    return tuple((n, units) for n, units in found if not keeps_back(overdue, (n,)))


def keeps_back(holds: Iterable[Hold], line_nos: Container[int]) -> bool:
    """Whether one of the holds keeps units of one of the lines from being committed."""
    return any(HoldBlock.SCHEDULE in hold.blocks and hold.covers(line_nos) for hold in holds)
