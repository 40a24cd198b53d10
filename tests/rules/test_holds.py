"""What a hold stops: exactly the steps that it names, on exactly its scope, until a role or its limit ends it."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.cancellation import CancellationInProgress, UnknownLine
from domain.cases import case_is_over, overdue_case
from domain.holds import (
    HOLD_RULES,
    LONGEST_S,
    MAX_HOLDS,
    HoldAsk,
    HoldNotPlaced,
    HoldTooLong,
    MayNotBlock,
    NothingToHold,
    OrderOver,
    RoleMayNotRelease,
    TooManyHolds,
    UnknownHold,
    after_limit,
    blocked,
    matters,
    nodes_to_allocate,
    on_hold,
    plan_hold,
    plan_rejection,
    plan_release,
    rejection_reason,
    units_to_source,
)
from domain.lifecycle import HoldState, derive_header, next_step
from domain.order_state import Hold, OrderState
from domain.orders import OPERATOR, Actor, ActorKind, AtLimit, CancelReason, HoldBlock, HoldType
from domain.permissions import OPERATIONS, Role, role_of
from domain.quantities import BEFORE_HAND_OVER, Bucket
from domain.refusals import OrderRuleError
from tests.support.order_states import NOW, order, put, states

LONG_AGO = NOW - timedelta(days=60)


def place(state: OrderState, hold_type: HoldType = HoldType.MANUAL, **more: object) -> Hold:
    """Place a hold, long before anything else is due."""
    ask = HoldAsk(hold_id=f"hld_{len(state.holds) + 1}", type=hold_type, **more)  # type: ignore[arg-type]
    placed = plan_hold(state, ask, LONG_AGO)
    state.holds[placed.hold_id] = placed
    return placed


@st.composite
def asks(draw: st.DrawFn, state: OrderState) -> HoldAsk:
    """A hold that may be placed, on the whole order or on one line."""
    hold_type = draw(st.sampled_from(HoldType))
    may = HOLD_RULES[hold_type].may_block
    return HoldAsk(
        hold_id=f"hld_{draw(st.integers(1, 10**6))}",
        type=hold_type,
        line_no=draw(st.one_of(st.none(), st.sampled_from(sorted(state.lines)))),
        blocks=tuple(draw(st.lists(st.sampled_from(may), unique=True))),
    )


@st.composite
def held_states(draw: st.DrawFn) -> OrderState:
    """An order anywhere on its way, under up to three holds."""
    state = draw(states())
    for ask in draw(st.lists(asks(state), max_size=3)):
        try:
            state.holds[ask.hold_id] = plan_hold(state, ask, LONG_AGO)
        except OrderRuleError:
            continue
    return state


# --- the table ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("hold_type", HoldType)
def test_every_type_has_a_rule_that_can_be_kept(hold_type: HoldType) -> None:
    """It stops something, for a bounded time, and somebody who may come through the API can end it."""
    rule = HOLD_RULES[hold_type]
    assert rule.blocks
    assert set(rule.blocks) <= set(rule.may_block)
    assert 0 < rule.lasts_s <= rule.longest_s <= LONGEST_S
    assert Role.OPS in rule.released_by
    assert set(rule.released_by) <= set(OPERATIONS["releaseHold"].allow)


def test_the_limits_of_the_types() -> None:
    """What is promised to the teams: how long, and then what."""
    hours = {name.value: (rule.lasts_s / 3600, rule.at_limit.value) for name, rule in HOLD_RULES.items()}
    assert hours == {
        "fraud": (24, "reject"),
        "address": (48, "escalate"),
        "payment": (24, "reject"),
        "credit": (72, "escalate"),
        "manual": (168, "release"),
        "quality": (72, "escalate"),
    }


# --- placing ------------------------------------------------------------------------------------------


@given(st.data(), states())
def test_placing_is_refused_whole_or_gives_what_was_asked(data: st.DataObject, state: OrderState) -> None:
    """A refusal changes nothing; a hold stands from now on, for its type's time, under its type's owner."""
    ask = data.draw(asks(state))
    before = state.model_copy(deep=True)
    try:
        planned = plan_hold(state, ask, NOW)
    except (OrderOver, NothingToHold):
        assert state == before
        return
    rule = HOLD_RULES[ask.type]
    assert set(planned.blocks) == set(ask.blocks or rule.blocks)
    assert (planned.owner, planned.at_limit, planned.line_no) == (rule.owner, rule.at_limit, ask.line_no)
    assert planned.deadline - planned.since == timedelta(seconds=rule.lasts_s)
    assert matters(state, planned)
    assert state == before, "planning changes nothing"


def test_a_step_that_the_type_does_not_stop_is_refused() -> None:
    """The refusal says what it may stop."""
    with pytest.raises(MayNotBlock, match="may block schedule, release, ship, not refund"):
        place(order(1), HoldType.ADDRESS, blocks=(HoldBlock.REFUND,))


def test_a_hold_that_would_stand_too_long_is_refused() -> None:
    """A fraud check takes three days at most."""
    place(order(1), HoldType.FRAUD, lasts_s=72 * 3600)
    with pytest.raises(HoldTooLong, match="at most 259200 seconds"):
        place(order(1), HoldType.FRAUD, lasts_s=72 * 3600 + 1)


def test_a_line_that_is_not_there_cannot_be_held() -> None:
    """By name, not by silence."""
    with pytest.raises(UnknownLine):
        place(order(1), line_no=2)


def test_an_order_that_is_over_cannot_be_held() -> None:
    """Rejected, or nothing of it under way."""
    done, no = order(1), order(1)
    put(done, "EAST", Bucket.DELIVERED, (1, 1))
    no.rejected = True
    for state in (done, no):
        with pytest.raises(OrderOver):
            place(state)


def test_what_has_happened_cannot_be_stopped() -> None:
    """At the node: no release any more. With its label: no booking any more."""
    state = order(1)
    part = put(state, "EAST", Bucket.PACKED, (1, 1))
    with pytest.raises(NothingToHold):
        place(state, blocks=(HoldBlock.SCHEDULE, HoldBlock.RELEASE))
    place(state, blocks=(HoldBlock.SHIP,))
    part.tracking_number = "T1"
    with pytest.raises(NothingToHold):
        place(state, blocks=(HoldBlock.SHIP,))


def test_twenty_holds_are_enough() -> None:
    """Several stand at once, and the number has a bound; an ended one makes room."""
    state = order(1)
    first = place(state)
    for _ in range(MAX_HOLDS - 1):
        place(state)
    with pytest.raises(TooManyHolds):
        place(state)
    first.state = HoldState.RELEASED
    place(state)


# --- what is stopped ----------------------------------------------------------------------------------


@given(held_states())
def test_exactly_the_named_steps_are_stopped_on_exactly_the_scope(state: OrderState) -> None:
    """A fulfillment order is stopped when a hold of the order or of one of its lines names its step; else it is not."""
    for part in state.fulfillments.values():
        for block in HoldBlock:
            reasons = [
                h
                for h in state.holds.values()
                if block in h.blocks and (h.line_no is None or h.line_no in dict(part.lines))
            ]
            assert blocked(state, block, part) == bool(reasons)
        step = next_step(part.state, part.stage, booked=part.tracking_number is not None)
        assert on_hold(state, part) == (step is not None and blocked(state, step, part))


@given(held_states())
def test_units_are_kept_back_or_committed_and_never_forgotten(state: OrderState) -> None:
    """Each node that holds units may get them, or holds a line under a hold that stops allocation."""
    free = set(nodes_to_allocate(state))
    stopping = [h for h in state.holds.values() if HoldBlock.SCHEDULE in h.blocks]
    for node in {node for _, node, _ in state.placements}:
        lines = {line_no for line_no, at, _ in state.placements if at == node}
        kept_back = any(h.line_no is None or h.line_no in lines for h in stopping)
        assert (node in free) != kept_back


@given(st.data(), held_states())
def test_ending_one_opens_only_what_no_other_stops(data: st.DataObject, state: OrderState) -> None:
    """Several stand at once: the last one to go opens the gate."""
    if not state.holds:
        return
    ended = data.draw(st.sampled_from(sorted(state.holds)))
    others = state.model_copy(deep=True)
    del others.holds[ended]
    state.holds[ended].state = HoldState.RELEASED
    assert nodes_to_allocate(state) == nodes_to_allocate(others)
    for name, part in state.fulfillments.items():
        assert on_hold(state, part) == on_hold(others, others.fulfillments[name])


@given(held_states())
def test_the_order_waits_for_a_hold_exactly_when_one_stops_what_is_next(state: OrderState) -> None:
    """These holds were due first: when one of them stops something, the header names it, its owner and its limit."""
    header = state.header()
    if header.terminal:
        return
    open_units = any(line.buckets.open for line in state.lines.values())
    kept_back = bool(state.placements) and set(nodes_to_allocate(state)) != {node for _, node, _ in state.placements}
    stopped = any(on_hold(state, part) for part in state.fulfillments.values())
    assert header.wait is not None
    if kept_back or stopped:
        assert (header.wait.waiting_on, header.wait.cause) == ("hold", "hold")
        standing = {(h.owner, h.since, h.deadline) for h in state.live_holds}
        assert (header.wait.owner, header.wait.since, header.wait.deadline) in standing
    elif not open_units:
        assert header.wait.waiting_on != "hold"


@given(held_states())
def test_holds_count_in_the_digest_while_they_stand(state: OrderState) -> None:
    """Workflow and database must agree about what is held; once all have ended it is as if there had been none."""
    bare = derive_header(state.facts().model_copy(update={"holds": ()}))
    header = state.header()
    assert (header.digest != bare.digest) == (bool(state.live_holds) and not header.terminal)
    for one in state.holds.values():
        one.state = HoldState.RELEASED
    assert state.header().digest == bare.digest


def test_a_held_line_keeps_back_the_parcels_that_contain_it_and_no_others() -> None:
    """Line 1 is at EAST together with line 2; line 3 at WEST goes on."""
    state = order(1, 1, 1)
    east = put(state, "EAST", Bucket.ALLOCATED, (1, 1), (2, 1))
    west = put(state, "WEST", Bucket.ALLOCATED, (3, 1))
    place(state, line_no=1)
    assert (on_hold(state, east), on_hold(state, west)) == (True, False)


def test_units_that_nobody_holds_are_held_again_until_the_limit_has_passed() -> None:
    """A hold keeps units for its time; overdue, it must not take them from others over and over."""
    state = order(2)
    standing = place(state, blocks=(HoldBlock.SCHEDULE,))
    assert units_to_source(state) == ((1, 2),)
    standing.overdue = True
    assert units_to_source(state) == ()
    standing.state = HoldState.RELEASED
    assert units_to_source(state) == ((1, 2),)


# --- ending -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [*Role, None])
@pytest.mark.parametrize("hold_type", HoldType)
def test_only_the_roles_of_the_type_may_end_it(hold_type: HoldType, role: Role | None) -> None:
    """The refusal names those that may."""
    state = order(1)
    standing = place(state, hold_type)
    may = HOLD_RULES[hold_type].released_by
    if role in may:
        assert plan_release(state, standing.hold_id, role) is standing
        return
    with pytest.raises(RoleMayNotRelease) as refusal:
        plan_release(state, standing.hold_id, role)
    assert refusal.value.code == "role_may_not_release"
    assert all(name.value in refusal.value.detail for name in may)


def test_an_operator_at_the_engine_acts_for_operations() -> None:
    """Nobody else gets a role that is not recorded."""
    assert role_of(OPERATOR) == Role.OPS
    assert role_of(Actor(kind=ActorKind.PERSON, id="ada", role="service")) == Role.SERVICE
    assert role_of(Actor(kind=ActorKind.PERSON, id="ada")) is None
    assert role_of(None) == Role.OPS  # not named yet: the row of the command will tell


def test_a_hold_that_is_not_there_or_has_ended_cannot_be_ended() -> None:
    """Each has its own code."""
    state = order(1)
    with pytest.raises(UnknownHold):
        plan_release(state, "hld_9", Role.OPS)
    place(state).state = HoldState.EXPIRED
    with pytest.raises(HoldNotPlaced, match="is expired already"):
        plan_release(state, "hld_1", Role.OPS)


@given(held_states())
def test_rejecting_cancels_all_of_the_scope_that_has_not_left(state: OrderState) -> None:
    """Every unit of the line, or of the order, but those that a node has been asked about before."""
    for one in state.holds.values():
        waiting = [p for p in state.fulfillments.values() if p.cancelling]
        scope = [n for n in state.lines if one.covers((n,))]
        left = sum(state.lines[n].buckets.of(*BEFORE_HAND_OVER) for n in scope)
        left -= sum(units for part in waiting for n, units in part.lines if n in scope)
        try:
            units = plan_rejection(state, one)
        except OrderRuleError:
            assert left == 0
            continue
        assert left > 0
        assert units == (() if one.line_no is None else ((one.line_no, left),))


def test_what_a_fraud_check_rejects_is_cancelled_as_fraud() -> None:
    """Everything else has no reason of its own."""
    reasons = {kind: rejection_reason(place(order(1), kind)) for kind in HoldType}
    assert reasons.pop(HoldType.FRAUD) is CancelReason.FRAUD
    assert set(reasons.values()) == {CancelReason.OTHER}


def test_at_its_limit_a_hold_does_what_its_type_says() -> None:
    """Unless nothing is left to stop, or what it would cancel waits for a node's answer: then a person decides."""
    state = order(1, 1)
    for kind, rule in HOLD_RULES.items():
        assert after_limit(state, place(state, kind)) is rule.at_limit
    fraud = state.holds["hld_1"]
    part = put(state, "EAST", Bucket.PACKED, (1, 1), (2, 1), cancelling="earlier")
    with pytest.raises(CancellationInProgress):
        plan_rejection(state, fraud)
    assert after_limit(state, fraud) is AtLimit.ESCALATE
    part.tracking_number = "T1"
    assert after_limit(state, fraud) is AtLimit.RELEASE


def test_the_case_about_an_overdue_hold_is_over_when_the_hold_is() -> None:
    """Not earlier, and not kept open by another hold that began later."""
    state = order(1)
    address = place(state, HoldType.ADDRESS)
    code = overdue_case(HoldType.ADDRESS)
    assert not case_is_over(code, NOW, state.facts())
    address.state = HoldState.RELEASED
    place(state, HoldType.FRAUD)
    late = place(state, HoldType.ADDRESS)
    late.since = NOW + timedelta(seconds=1)
    assert case_is_over(code, NOW, state.facts())
