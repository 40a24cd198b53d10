"""What a cancellation touches: every unit that has not left, no unit that has, and exactly its value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.cancellation import (
    AlreadyHandedOver,
    CancellationInProgress,
    CancellationPlan,
    CancelOptions,
    LineUnits,
    NothingToCancel,
    OnlyPartPossible,
    QuantityExceedsOpen,
    UnknownLine,
    check_options,
    plan_cancellation,
)
from domain.lifecycle import FulfillmentState
from domain.order_state import OrderState
from domain.quantities import AT_THE_NODE, HANDED_OVER, TERMINAL, Bucket
from domain.refusals import OrderRuleError
from tests.support.order_states import NOW, hold, order, put, states


def carry_out(state: OrderState, plan: CancellationPlan, *, asked: bool) -> None:
    """Cancel what the plan says, as if every node that is asked had agreed (or without asking)."""
    state.move(plan.open_units, Bucket.OPEN, Bucket.CANCELLED)
    state.release_held(plan.held_units, Bucket.CANCELLED)
    for name, units in (*plan.at_once, *(plan.asked if asked else ())):
        stop(state, name, units)


def stop(state: OrderState, name: str, units: tuple[LineUnits, ...]) -> None:
    """These units of a fulfillment order are cancelled; it ends with its last ones."""
    part = state.fulfillments[name]
    if dict(units) == dict(part.lines):
        state.advance(part, FulfillmentState.CANCELLED, Bucket.CANCELLED, NOW)
    else:
        state.cut(part, units, Bucket.CANCELLED)


@st.composite
def wishes(draw: st.DrawFn, state: OrderState) -> tuple[LineUnits, ...]:
    """Units that somebody wants to cancel: possible ones and others."""
    lines = draw(st.lists(st.sampled_from(sorted(state.lines)), min_size=1, max_size=3))
    return tuple((line_no, draw(st.integers(1, 6))) for line_no in lines)


def waiting_units(state: OrderState) -> int:
    """Units whose node was asked before."""
    return sum(part.units for part in state.fulfillments.values() if part.cancelling)


@given(states())
def test_units_are_conserved_and_nothing_that_left_is_touched(state: OrderState) -> None:
    """What is free, what is asked for, what waits already, what has left or ended: together the whole order."""
    before = state.quantities
    try:
        plan = plan_cancellation(state)
    except OrderRuleError:
        assert before.live - before.shipped == waiting_units(state)
        return
    named = [name for name, _ in (*plan.at_once, *plan.asked)]
    assert len(named) == len(set(named))
    units = sum(q for _, q in (*plan.units_at_once, *plan.units_asked))
    assert units + waiting_units(state) + before.of(*HANDED_OVER) + before.cancelled == before.total
    assert plan.handed_over_units == before.shipped + before.delivered
    assert state.quantities == before, "planning changes nothing"
    carry_out(state, plan, asked=True)
    after = state.quantities
    assert [after.of(bucket) for bucket in HANDED_OVER] == [before.of(bucket) for bucket in HANDED_OVER]
    assert after.cancelled - before.cancelled == units
    assert after.live - after.shipped == waiting_units(state)


@given(states())
def test_the_money_before_less_the_money_after_is_the_value_of_the_units(state: OrderState) -> None:
    """To the penny, at once and after the nodes have agreed, whatever was cancelled before."""
    before = state.owed_minor
    try:
        plan = plan_cancellation(state)
    except OrderRuleError:
        return
    carry_out(state, plan, asked=False)
    assert before - state.owed_minor == plan.value_at_once_minor
    for name, units in plan.asked:
        stop(state, name, units)
    assert before - state.owed_minor == plan.value_at_once_minor + plan.value_asked_minor
    if state.quantities.cancelled == state.quantities.total:
        assert state.owed_minor == 0


@given(states())
def test_a_node_is_asked_exactly_when_it_may_have_acted(state: OrderState) -> None:
    """Work that was sent, or is being sent right now, is never taken back without the node's word."""
    try:
        plan = plan_cancellation(state)
    except OrderRuleError:
        return
    for name, _ in plan.asked:
        part = state.fulfillments[name]
        assert part.stage in AT_THE_NODE or part.in_call
    for name, _ in plan.at_once:
        part = state.fulfillments[name]
        assert part.stage is Bucket.ALLOCATED
        assert not part.in_call
    touched = {name for name, _ in (*plan.asked, *plan.at_once)}
    assert all(part.stage not in (*HANDED_OVER, *TERMINAL) for part in map(state.fulfillments.get, touched) if part)


@given(states())
def test_all_or_nothing_is_refused_exactly_where_a_unit_is(state: OrderState) -> None:
    """What is possible and what is refused are the whole order; with units named nothing is left to refuse."""
    try:
        plan = plan_cancellation(state)
    except OrderRuleError:
        return
    units = sum(q for _, q in (*plan.units_at_once, *plan.units_asked))
    refused = sum(q for _, q in (*plan.handed_over, *plan.stopping))
    assert units + refused + state.quantities.cancelled == state.quantities.total
    check_options(state, plan, CancelOptions())
    if refused:
        with pytest.raises(OnlyPartPossible):
            check_options(state, plan, CancelOptions(all_or_nothing=True))
    else:
        check_options(state, plan, CancelOptions(all_or_nothing=True))
    named = plan_cancellation(state, [*plan.units_at_once, *plan.units_asked])
    check_options(state, named, CancelOptions(all_or_nothing=True))


@given(states())
def test_planning_again_after_it_was_carried_out_is_refused(state: OrderState) -> None:
    """A second cancellation finds nothing more to do."""
    try:
        plan = plan_cancellation(state)
    except OrderRuleError:
        return
    carry_out(state, plan, asked=True)
    with pytest.raises(OrderRuleError):
        plan_cancellation(state)


def test_all_of_it_has_left() -> None:
    """Refused, and the way back is a return."""
    state = order(2)
    put(state, "EAST", Bucket.SHIPPED, (1, 2))
    with pytest.raises(AlreadyHandedOver) as refusal:
        plan_cancellation(state)
    assert (refusal.value.code, refusal.value.alternative) == ("already_handed_over", "return")


def test_all_that_is_left_was_asked_for_before() -> None:
    """One part left, the other waits for its node: it is the node's turn."""
    state = order(1, 1)
    put(state, "EAST", Bucket.SHIPPED, (1, 1))
    put(state, "MID", Bucket.PACKED, (2, 1), cancelling="earlier")
    with pytest.raises(CancellationInProgress):
        plan_cancellation(state)


def test_all_of_it_is_cancelled() -> None:
    """There is nothing left to cancel, and nothing to return."""
    state = order(2)
    put(state, "EAST", Bucket.CANCELLED, (1, 2))
    with pytest.raises(NothingToCancel) as refusal:
        plan_cancellation(state)
    assert refusal.value.alternative is None


def test_the_penny_that_cannot_be_shared_goes_with_the_unit_that_owns_it() -> None:
    """5.00 over three units is 1.67, 1.67 and 1.66: two from the back are free, the first one is asked for."""
    state = order(3)
    put(state, "EAST", Bucket.PACKED, (1, 1))
    plan = plan_cancellation(state)
    assert (plan.open_units, plan.asked) == (((1, 2),), (("ful_EAST", ((1, 1),)),))
    assert (plan.value_at_once_minor, plan.value_asked_minor) == (2333, 1167)
    assert plan.value_at_once_minor + plan.value_asked_minor == state.owed_minor


@given(st.data(), states())
def test_named_units_are_cancelled_to_the_unit_and_to_the_penny_or_refused_whole(
    data: st.DataObject, state: OrderState
) -> None:
    """Exactly what was named, of exactly those lines; what cannot be done as a whole changes nothing."""
    wanted = data.draw(wishes(state))
    per_line: dict[int, int] = {}
    for line_no, units in wanted:
        per_line[line_no] = per_line.get(line_no, 0) + units
    before, owed = {n: line.buckets.cancelled for n, line in state.lines.items()}, state.owed_minor
    try:
        plan = plan_cancellation(state, wanted)
    except OrderRuleError:
        assert {n: line.buckets.cancelled for n, line in state.lines.items()} == before
        return
    carry_out(state, plan, asked=True)
    after = {n: line.buckets.cancelled for n, line in state.lines.items()}
    assert {n: after[n] - before[n] for n in after if after[n] > before[n]} == per_line
    assert owed - state.owed_minor == plan.value_at_once_minor + plan.value_asked_minor
    assert sum(q for _, _, q in state.placements) == state.quantities.reserved


@given(st.data(), states())
def test_two_cancellations_give_what_one_gives(data: st.DataObject, state: OrderState) -> None:
    """2 of 3 and then 1, or all 3 at once: the same units, the same money."""
    wanted = data.draw(wishes(state))
    once = state.model_copy(deep=True)
    try:
        carry_out(once, plan_cancellation(once, wanted), asked=True)
    except OrderRuleError:
        return
    for line_no, units in wanted:
        for _ in range(units):
            carry_out(state, plan_cancellation(state, ((line_no, 1),)), asked=True)
    assert {n: line.buckets.cancelled for n, line in state.lines.items()} == {
        n: line.buckets.cancelled for n, line in once.lines.items()
    }
    assert state.owed_minor == once.owed_minor


def test_what_costs_least_is_taken_first() -> None:
    """Open units before held ones, those before work that was not sent, and only then a node is asked."""
    state = order(4)
    put(state, "EAST", Bucket.RELEASED, (1, 1))
    put(state, "MID", Bucket.ALLOCATED, (1, 1))
    hold(state, 1, "WEST", 1)
    plan = plan_cancellation(state, ((1, 3),))
    assert (plan.open_units, plan.held_units) == (((1, 1),), ((1, "WEST", 1),))
    assert (plan.at_once, plan.asked) == ((("ful_MID", ((1, 1),)),), ())


def test_more_than_is_left_is_refused_with_what_is() -> None:
    """Of three units one has left: two can be cancelled."""
    state = order(3)
    put(state, "EAST", Bucket.SHIPPED, (1, 1))
    with pytest.raises(QuantityExceedsOpen, match="3 units asked, 2 can be cancelled"):
        plan_cancellation(state, ((1, 3),))


def test_a_line_that_is_not_there_is_refused() -> None:
    """By name, not by silence."""
    with pytest.raises(UnknownLine):
        plan_cancellation(order(3), ((2, 1),))


@given(states(), st.data())
def test_what_is_kept_and_what_is_let_go_make_up_what_is_cancelled(state: OrderState, data: st.DataObject) -> None:
    """Whatever is cancelled with and without refund, in any order: nothing is owed twice, nothing is lost."""
    total = state.order.total_minor
    for _ in range(3):
        units = data.draw(wishes(state))
        try:
            plan = plan_cancellation(state, units)
        except OrderRuleError:
            continue
        owed, value = state.owed_minor, plan.value_at_once_minor
        keeps = data.draw(st.booleans())
        kept = state.keep(plan.units_at_once).total_minor if keeps else 0
        carry_out(state, plan, asked=False)
        assert kept == (value if keeps else 0)
        assert state.owed_minor == owed - value + kept
    lines = state.lines.values()
    assert all(0 <= line.kept_minor <= line.cancelled_minor for line in lines)
    assert state.owed_minor == total - sum(line.cancelled_minor - line.kept_minor for line in lines)
