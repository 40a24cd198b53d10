"""Which parcels come back: whole ones, only those that the carrier still has, for exactly what is refunded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.cancellation import (
    AlreadyHandedOver,
    CancellationInProgress,
    CancellationPlan,
    CancelOptions,
    NothingToCancel,
    QuantityExceedsOpen,
    RecallIsRefunded,
    check_options,
    plan_cancellation,
)
from domain.carrier_trouble import remedy_of
from domain.lifecycle import FulfillmentState, RecallState, TrackingState, WaitingOn
from domain.offers import Standing, offers
from domain.order_state import Fulfillment, OrderState
from domain.orders import SYSTEM, CarrierTrouble, ChangeKind, CutOffs, OrderRules, Remedy, ServiceLevel
from domain.permissions import EVERY, Role
from domain.quantities import HANDED_OVER, Bucket, units_per_line
from domain.recall import (
    CannotBeRecalled,
    RecallInProgress,
    WholeParcelsOnly,
    after_scan,
    asked_now,
    parcel_of,
)
from domain.refusals import OrderRuleError
from tests.rules.test_cancellation import carry_out, wishes
from tests.support.order_states import NOW, order, put, states

T = TrackingState


def recalled(state: OrderState, part: Fulfillment, answer: RecallState = RecallState.REQUESTED) -> Fulfillment:
    """The carrier was asked for it."""
    part.recall = asked_now(state.rules, "earlier", SYSTEM, NOW).model_copy(update={"state": answer})
    return part


@st.composite
def travelling(draw: st.DrawFn) -> OrderState:
    """An order anywhere on its way, whose parcels were scanned, and some of them asked for before."""
    state = draw(states())
    for part in state.fulfillments.values():
        if part.stage is Bucket.SHIPPED:
            part.tracking = draw(st.sampled_from([T.IN_TRANSIT, T.OUT_FOR_DELIVERY, T.LOST, T.RETURNED]))
            answer = draw(st.sampled_from([None, None, *RecallState]))
            if answer is not None:
                recalled(state, part, answer)
    return state


def come_back(state: OrderState, plan: CancellationPlan) -> None:
    """The carrier agrees, the parcels come back and are credited."""
    for name, _ in plan.recalled:
        part = state.fulfillments[name]
        state.advance(part, FulfillmentState.SHIPPED, Bucket.RETURN_PENDING, NOW)
        state.advance(part, FulfillmentState.CLOSED, Bucket.RETURNED, NOW)
    state.book_credit()


@given(travelling())
def test_what_is_planned_is_what_is_refunded(state: OrderState) -> None:
    """To the penny: at once, by the nodes, and when the parcels are back. No unit is lost, none that was delivered."""
    before, units = state.owed_minor, state.quantities
    try:
        plan = plan_cancellation(state, recall=True)
    except OrderRuleError:
        return
    assert state.quantities == units, "planning changes nothing"
    carry_out(state, plan, asked=True)
    come_back(state, plan)
    assert before - state.owed_minor == plan.value_at_once_minor + plan.value_asked_minor + plan.value_recalled_minor
    after = state.quantities
    assert after.total == units.total
    assert after.delivered == units.delivered
    assert after.returned - units.returned == sum(q for _, q in plan.units_recalled)


@given(st.data(), travelling())
def test_named_units_are_had_exactly_or_refused_whole(data: st.DataObject, state: OrderState) -> None:
    """With a recall too: neither more nor fewer units than were named, and only whole parcels of them."""
    wanted = data.draw(wishes(state))
    try:
        plan = plan_cancellation(state, wanted, recall=True)
    except OrderRuleError:
        return
    assert units_per_line((*plan.units_at_once, *plan.units_asked, *plan.units_recalled)) == units_per_line(wanted)
    for name, units in plan.recalled:
        assert units == state.fulfillments[name].lines


@given(travelling())
def test_a_carrier_is_asked_once_and_only_for_what_it_has(state: OrderState) -> None:
    """Never for a parcel that was delivered, is in trouble, or was asked for before."""
    try:
        plan = plan_cancellation(state, recall=True)
    except (CannotBeRecalled, RecallInProgress, CancellationInProgress, NothingToCancel):
        return
    for name, _ in plan.recalled:
        part = state.fulfillments[name]
        assert (part.stage, part.recall) == (Bucket.SHIPPED, None)
        assert part.tracking in (T.IN_TRANSIT, T.OUT_FOR_DELIVERY)
        recalled(state, part)
    carry_out(state, plan, asked=True)
    with pytest.raises(OrderRuleError):
        plan_cancellation(state, recall=True)


@given(travelling())
def test_what_is_offered_is_what_can_be_had(state: OrderState) -> None:
    """`available_actions` and the plan speak of the same parcels, with the same codes."""
    state.rules = OrderRules(cut_offs=CutOffs(until={ChangeKind.RECALL: {EVERY: Bucket.SHIPPED}}))
    gone = tuple(parcel_of(p) for p in state.fulfillments.values() if p.stage in HANDED_OVER)
    said = offers(Standing(state.rules, {}, {}, parcels=gone), ChangeKind.RECALL, Role.SERVICE)
    possible = [offer for offer in said if offer.available]
    try:
        plan = plan_cancellation(state, recall=True)
    except OrderRuleError:
        assert possible == []
        return
    assert [dict(offer.lines) for offer in possible] == ([units_per_line(plan.units_recalled)] if plan.recalled else [])
    assert all(offer.reason in ("cannot_be_recalled", "recall_in_progress") for offer in said if not offer.available)


def test_a_role_that_may_not_is_told_so() -> None:
    """As the cut-off rules refuse it."""
    state = order(1)
    parcels = (parcel_of(put(state, "EAST", Bucket.SHIPPED, (1, 1))),)
    (offer,) = offers(Standing(OrderRules(cut_offs=CutOffs()), {}, {}, parcels=parcels), ChangeKind.RECALL, "service")
    assert (offer.available, offer.reason, offer.lines) == (False, "not_in_cut_off_rules", ((1, 1),))


def test_before_anything_has_left_nothing_is_said_of_it() -> None:
    """Nobody is puzzled by a recall of what can simply be cancelled."""
    assert offers(Standing(OrderRules(), {1: {Bucket.OPEN: 1}}, {}), ChangeKind.RECALL, "service") == ()


def test_what_costs_least_comes_first() -> None:
    """Open units before parcels; of the parcels the largest that fits."""
    state = order(7)
    put(state, "EAST", Bucket.SHIPPED, (1, 1))
    put(state, "MID", Bucket.SHIPPED, (1, 3))
    plan = plan_cancellation(state, [(1, 6)], recall=True)
    assert plan.open_units == ((1, 3),)
    assert plan.recalled == (("ful_MID", ((1, 3),)),)


def test_part_of_a_parcel_stays_where_it_is() -> None:
    """The refusal says what it holds."""
    state = order(3, 1)
    put(state, "EAST", Bucket.SHIPPED, (1, 3), (2, 1))
    with pytest.raises(WholeParcelsOnly, match="3 of line 1, 1 of line 2") as refusal:
        plan_cancellation(state, [(1, 3)], recall=True)
    assert refusal.value.alternative == "return"
    assert plan_cancellation(state, [(1, 3), (2, 1)], recall=True).recalled


def test_more_than_there_is_is_no_matter_of_parcels() -> None:
    """All of the line comes back, and more of it was named."""
    state = order(2)
    put(state, "EAST", Bucket.SHIPPED, (1, 2))
    with pytest.raises(QuantityExceedsOpen, match=r"5 units asked, 2 can be cancelled$"):
        plan_cancellation(state, [(1, 5)], recall=True)


@pytest.mark.parametrize(
    ("stage", "tracking", "answer", "error", "text"),
    [
        (Bucket.DELIVERED, T.DELIVERED, None, CannotBeRecalled, "was delivered"),
        (Bucket.DELIVERED, T.DELIVERED, RecallState.TOO_LATE, CannotBeRecalled, "was delivered"),
        (Bucket.SHIPPED, T.LOST, None, CannotBeRecalled, "is lost"),
        (Bucket.SHIPPED, T.DAMAGED, RecallState.AGREED, CannotBeRecalled, "is damaged"),
        (Bucket.SHIPPED, T.RETURNED, None, CannotBeRecalled, "comes back already"),
        (Bucket.SHIPPED, T.IN_TRANSIT, RecallState.REQUESTED, RecallInProgress, "asked for"),
        (Bucket.SHIPPED, T.IN_TRANSIT, RecallState.TOO_LATE, CannotBeRecalled, "too late"),
        (Bucket.SHIPPED, T.IN_TRANSIT, RecallState.UNSUPPORTED, CannotBeRecalled, "brings nothing back"),
    ],
)
def test_why_a_parcel_does_not_come_back(
    stage: Bucket, tracking: T, answer: RecallState | None, error: type[OrderRuleError], text: str
) -> None:
    """Each with its reason; what the carrier has no more can still be a return."""
    state = order(1)
    part = put(state, "EAST", stage, (1, 1), tracking=tracking)
    if answer:
        recalled(state, part, answer)
    with pytest.raises(error, match=text):
        plan_cancellation(state, recall=True)
    with pytest.raises(AlreadyHandedOver) as plain:
        plan_cancellation(state)
    assert "recall" not in plain.value.detail


def test_a_service_without_recall_is_known_beforehand() -> None:
    """By the rules, without asking anybody."""
    state = order(1)
    put(state, "EAST", Bucket.SHIPPED, (1, 1), tracking=T.IN_TRANSIT)
    with pytest.raises(AlreadyHandedOver, match="with recall"):
        plan_cancellation(state)
    state.rules = OrderRules(carrier_trouble=CarrierTrouble(recallable=(ServiceLevel.EXPRESS,)))
    with pytest.raises(CannotBeRecalled, match="service standard"):
        plan_cancellation(state, recall=True)


def test_an_order_of_which_nothing_left_is_refused_as_before() -> None:
    """A recall changes no other refusal."""
    state = order(1)
    state.move(((1, 1),), Bucket.OPEN, Bucket.CANCELLED)
    with pytest.raises(NothingToCancel):
        plan_cancellation(state, recall=True)


@pytest.mark.parametrize("options", [CancelOptions(restock=False), CancelOptions(refund="none")])
def test_other_options_do_not_go_with_a_recall(options: CancelOptions) -> None:
    """What comes back is restocked and refunded; where nothing comes back, the options are as ever."""
    state = order(2)
    put(state, "EAST", Bucket.SHIPPED, (1, 1))
    with pytest.raises(RecallIsRefunded):
        check_options(state, plan_cancellation(state, recall=True), options)


def test_a_scan_may_answer_before_the_carrier_does() -> None:
    """It turned back: agreed. It was delivered: too late. Anything else answers nothing, and an answer stands."""
    state = order(1)
    asked = asked_now(state.rules, "cancel-1", SYSTEM, NOW)
    answers = {tracking: after_scan(asked, tracking) for tracking in (T.RETURN_TO_SENDER, T.DELIVERED, T.IN_TRANSIT)}
    assert [answer.state for answer in answers.values() if answer] == ["agreed", "too_late", "requested"]
    assert after_scan(answers[T.RETURN_TO_SENDER], T.DELIVERED) == answers[T.RETURN_TO_SENDER]
    assert after_scan(None, T.RETURNED) is None


@pytest.mark.parametrize(
    ("answer", "chosen", "remedy"),
    [
        (RecallState.REQUESTED, None, Remedy.REFUND),
        (RecallState.AGREED, None, Remedy.REFUND),
        (RecallState.AGREED, Remedy.RESHIP, Remedy.RESHIP),
        (RecallState.TOO_LATE, None, Remedy.RESHIP),
    ],
)
def test_whoever_recalls_wants_the_money(answer: RecallState, chosen: Remedy | None, remedy: Remedy) -> None:
    """As long as it comes back or gets lost on the way; a person's later choice counts more."""
    state = order(1)
    part = recalled(state, put(state, "EAST", Bucket.SHIPPED, (1, 1), tracking=T.LOST, remedy=chosen), answer)
    assert remedy_of(state.rules, part) is remedy


def test_the_order_says_that_it_waits_for_the_carrier() -> None:
    """Until the carrier has answered, or the parcel is there."""
    state = order(1)
    part = recalled(state, put(state, "EAST", Bucket.SHIPPED, (1, 1), tracking=T.IN_TRANSIT))
    wait = state.header().wait
    assert wait is not None
    assert part.recall is not None
    assert (wait.waiting_on, wait.cause, wait.deadline) == (WaitingOn.CARRIER, "recall_answer", part.recall.until)
    part.recall = after_scan(part.recall, T.RETURN_TO_SENDER)
    after = state.header().wait
    assert after is not None
    assert after.cause == "delivery"
