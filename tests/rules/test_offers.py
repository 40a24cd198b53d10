"""What is offered is what the order would do: the same table, the same codes, held against the plans themselves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.amendment import AddLine, Change, SetQuantity, SetServiceLevel, SetShipTo, Substitute, plan_amendment
from domain.cancellation import CancelOptions, check_options, plan_cancellation
from domain.cut_offs import STAGES, check_cut_off, furthest, standard
from domain.lifecycle import PaymentState
from domain.offers import BY_LINE, Offer, Standing, cancel_ways, offers
from domain.order_state import OrderState, Tender
from domain.orders import Actor, ActorKind, ChangeKind, CutOffs, OrderRules, ServiceLevel
from domain.permissions import EVERY, Role
from domain.quantities import AT_THE_NODE, Bucket
from domain.refusals import OrderRuleError
from tests.support.order_states import NOW, order, put, states

ADA = Actor(kind=ActorKind.PERSON, id="ada", role=Role.SERVICE)
MOVES = (ChangeKind.SHIP_TO, ChangeKind.SERVICE_LEVEL)
WHOLE = (ChangeKind.INCREASE, ChangeKind.ADD_LINE, ChangeKind.SHIP_TO, ChangeKind.SERVICE_LEVEL)


def standing_of(state: OrderState) -> Standing:
    """What the rows of this order say."""
    stopping: dict[int, dict[Bucket, int]] = {}
    for part in state.fulfillments.values():
        if part.being_stopped and part.stage in (Bucket.ALLOCATED, *AT_THE_NODE):
            for line_no, units in part.lines:
                stages = stopping.setdefault(line_no, {})
                stages[part.stage] = stages.get(part.stage, 0) + units
    lines = {n: {Bucket(b): units for b, units in line.buckets.nonzero().items()} for n, line in state.lines.items()}
    return Standing(state.rules, lines, stopping)


def do(state: OrderState, change: ChangeKind, line_no: int = 1, units: int = 1) -> None:
    """What happens when somebody asks.

    Raises:
        OrderRuleError: it is refused.
    """
    if change is ChangeKind.CANCEL:
        plan = plan_cancellation(state, ((line_no, units),))
        check_cut_off(state.rules, change, ADA, furthest(plan.stages(state)))
        return
    line = state.lines[line_no]
    wanted = line.shares.quantity - line.buckets.cancelled
    asked: dict[ChangeKind, Change] = {
        ChangeKind.DECREASE: SetQuantity(line=line_no, quantity=max(0, wanted - units)),
        ChangeKind.SUBSTITUTE: Substitute(line=line_no, sku="OTHER", quantity=units),
        ChangeKind.INCREASE: SetQuantity(line=line_no, quantity=wanted + 1),
        ChangeKind.ADD_LINE: AddLine(sku="NEW", quantity=1, unit_price_minor=100),
        ChangeKind.SHIP_TO: SetShipTo(country="US", region="NY", zone_id="US-NY"),
        ChangeKind.SERVICE_LEVEL: SetServiceLevel(service_level=ServiceLevel.EXPRESS),
    }
    plan_amendment(state, (asked[change],), ADA)


@st.composite
def ruled(draw: st.DrawFn) -> tuple[OrderState, ChangeKind]:
    """An order on its way, a change, and a table that allows it until some stage, or not at all."""
    state, change = draw(states()), draw(st.sampled_from((*BY_LINE, *WHOLE)))
    until = draw(st.sampled_from((*STAGES, None)))
    table = {change: {EVERY: until}} if until else {}
    state.rules = OrderRules(cut_offs=CutOffs(until=table))
    return state, change


@given(ruled())
def test_what_is_offered_is_done(asked: tuple[OrderState, ChangeKind]) -> None:
    """For every line and quantity that is named; or for the whole order."""
    state, change = asked
    for offer in offers(standing_of(state), change, Role.SERVICE):
        if offer.available and change in BY_LINE:
            assert offer.lines
            for line_no, units in offer.lines:
                do(state, change, line_no, units)
        elif offer.available:
            do(state, change)


@given(ruled())
def test_what_is_not_offered_is_refused(asked: tuple[OrderState, ChangeKind]) -> None:
    """One unit more than offered is refused, of every line; of the whole order with the very code that was told."""
    state, change = asked
    told = offers(standing_of(state), change, Role.SERVICE)
    possible = dict(next((offer.lines for offer in told if offer.available), ()))
    if change in BY_LINE:
        for line_no, line in state.lines.items():
            wanted = line.shares.quantity - line.buckets.cancelled
            if change is ChangeKind.DECREASE and possible.get(line_no, 0) >= wanted:
                continue  # there is no number below none
            with pytest.raises(OrderRuleError):
                do(state, change, line_no, possible.get(line_no, 0) + 1)
    elif not told[0].available and told[0].reason in ("cut_off_passed", "not_in_cut_off_rules", "order_over"):
        with pytest.raises(OrderRuleError) as refusal:
            do(state, change)
        stopping = any(part.being_stopped for part in state.fulfillments.values())
        first = "cancellation_in_progress" if stopping and change in MOVES else told[0].reason
        assert refusal.value.code in (told[0].reason, first)  # the plan may meet the node's answer first


@st.composite
def optional(draw: st.DrawFn) -> OrderState:
    """An order on its way, paid or not, and a table for cancelling, keeping the money and writing off."""
    state = draw(states())
    table = {ChangeKind.CANCEL: {EVERY: draw(st.sampled_from(STAGES))}}
    for change in (ChangeKind.CANCEL_UNREFUNDED, ChangeKind.WRITE_OFF):
        until = draw(st.sampled_from((*STAGES, None)))
        table |= {change: {EVERY: until}} if until else {}
    state.rules = OrderRules(cut_offs=CutOffs(until=table))
    state.tenders = [
        Tender(
            tender_id="tnd_1",
            sequence=1,
            provider="simulated",
            reference="pm_ok",
            amount_minor=state.owed_minor,
            state=PaymentState.AUTHORIZED,
            authorized_minor=state.owed_minor - draw(st.integers(0, 1)),
            since=NOW,
            deadline=NOW,
        )
    ]
    return state


@given(optional())
def test_an_option_is_offered_exactly_where_it_can_be_used(state: OrderState) -> None:
    """For all units that can be cancelled; all or nothing where that is all there is."""
    standing = standing_of(state)._replace(secured=state.tenders[0].authorized_minor >= state.owed_minor)
    told = offers(standing, ChangeKind.CANCEL, Role.SERVICE)
    if not told[0].available:
        return
    ways = cancel_ways(standing, Role.SERVICE, told[0])
    assert (ways.restock[0], ways.refund[0], ways.all_or_nothing[0]) == CancelOptions()
    asked = [(told[0].lines, CancelOptions(restock=False), False in ways.restock)]
    asked += [(told[0].lines, CancelOptions(refund="none"), "none" in ways.refund)]
    asked += [((), CancelOptions(all_or_nothing=True), True in ways.all_or_nothing)]
    for lines, options, offered in asked:
        if offered:
            _cancel_with(state, lines, options)
        else:
            with pytest.raises(OrderRuleError):
                _cancel_with(state, lines, options)


def _cancel_with(state: OrderState, lines: tuple[tuple[int, int], ...], options: CancelOptions) -> None:
    plan = plan_cancellation(state, lines)
    for kind in options.kinds:
        check_cut_off(state.rules, kind, ADA, furthest(plan.stages(state)))
    check_options(state, plan, options)


def _rules() -> OrderRules:
    return OrderRules(cut_offs=standard().model_copy(update={"version": "cut_off@1"}))


def test_the_words_are_those_of_the_refusal_with_what_to_do_instead() -> None:
    """A shopper may not have fewer of what the node has; service may, until it is packed."""
    state = order(3)
    state.rules = _rules()
    put(state, "EAST", Bucket.RELEASED, (1, 2))
    shopper = offers(standing_of(state), ChangeKind.DECREASE, Role.SHOPPER)
    assert shopper == (
        Offer(ChangeKind.DECREASE, ((1, 1),), Bucket.ALLOCATED),
        Offer(
            ChangeKind.DECREASE,
            ((1, 2),),
            None,
            "cut_off_passed",
            "cut_off@1: decrease is possible for the role shopper until the units are allocated; they are released",
            "cancel",
        ),
    )
    service = offers(standing_of(state), ChangeKind.DECREASE, Role.SERVICE)
    assert service == (Offer(ChangeKind.DECREASE, ((1, 2),), Bucket.PACKED),)  # all three would be a cancellation
    (not_listed,) = offers(standing_of(state), ChangeKind.ADD_LINE, Role.SHOPPER)
    assert (not_listed.reason, not_listed.detail) == (
        "not_in_cut_off_rules",
        "cut_off@1: add_line is not for the role shopper",
    )


def test_one_thing_at_a_time() -> None:
    """Another change, a declined payment, a node that was asked: each is named."""
    state = order(2, 2)
    state.rules = _rules()
    put(state, "EAST", Bucket.RELEASED, (1, 2))
    standing = standing_of(state)
    codes = {
        "amending": offers(standing._replace(amending=True), ChangeKind.SHIP_TO, Role.SERVICE)[0].reason,
        "declined": offers(standing._replace(declined=True), ChangeKind.INCREASE, Role.SERVICE)[0].reason,
        "stopping": offers(standing._replace(stopping={1: {Bucket.RELEASED: 2}}), ChangeKind.SHIP_TO, Role.SERVICE)[
            0
        ].reason,
        "cancelling": [
            offer.reason
            for offer in offers(
                standing._replace(stopping={1: {Bucket.RELEASED: 2}}, amending=True), ChangeKind.CANCEL, Role.SERVICE
            )
        ],
    }
    assert codes == {
        "amending": "amendment_in_progress",
        "declined": "payment_not_secured",
        "stopping": "cancellation_in_progress",
        "cancelling": [None, "cancellation_in_progress"],
    }


@pytest.mark.parametrize("stage", [Bucket.DELIVERED, Bucket.CANCELLED])
def test_an_order_of_which_nothing_is_under_way_points_to_a_linked_order(stage: Bucket) -> None:
    """In the offers and in the plan's own refusal, whatever the change; goods that left come back as a return."""
    state = order(2)
    state.rules = _rules()
    state.move(((1, 2),), Bucket.OPEN, stage)
    with pytest.raises(OrderRuleError) as refusal:
        do(state, ChangeKind.ADD_LINE)
    told = (refusal.value.code, refusal.value.detail, refusal.value.alternative)
    for change in (kind for kind in ChangeKind if not kind.value.startswith(("cancel", "recall", "write_off"))):
        (offer,) = offers(standing_of(state), change, Role.SERVICE)
        assert (offer.reason, offer.detail, offer.alternative) == told
    assert told[0] == "order_over"
    assert told[2] == "linked_order"
    (cancel,) = offers(standing_of(state), ChangeKind.CANCEL, Role.SERVICE)
    assert cancel.alternative == ("return" if stage is Bucket.DELIVERED else None)


def test_an_order_from_before_there_were_cut_offs_is_cancelled_and_not_amended() -> None:
    """As its own rules have it."""
    state = order(1)
    assert offers(standing_of(state), ChangeKind.CANCEL, Role.SHOPPER)[0].available
    assert offers(standing_of(state), ChangeKind.INCREASE, Role.SERVICE)[0].reason == "not_in_cut_off_rules"
