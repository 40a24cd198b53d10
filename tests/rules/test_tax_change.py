"""The tax at a new address: exact to the penny, for what has not left, and for nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.amendment import (
    AddLine,
    AmendmentPlan,
    ConflictingChanges,
    PriceNotAllowed,
    SentInstead,
    SetQuantity,
    SetServiceLevel,
    SetShipTo,
    Substitute,
    amended_quantities,
    plan_amendment,
)
from domain.cancellation import UnknownLine
from domain.cut_offs import standard
from domain.lifecycle import Team
from domain.order_state import Hold, OrderState, Tender
from domain.orders import Actor, ActorKind, AtLimit, HoldBlock, HoldType, OrderRules, ServiceLevel
from domain.permissions import Role
from domain.quantities import BEFORE_HAND_OVER, Bucket
from domain.refusals import OrderRuleError
from domain.repricing import LineHeld
from domain.tax_change import LineTax, NewTax, NothingLeftToShip, WrongCurrency
from tests.support.order_states import NOW, order, put, states

AGENT = Actor(kind=ActorKind.PERSON, id="maria", role=Role.SERVICE)
amount = st.integers(0, 5000)


def there(
    *lines: tuple[int, int], shipping: int | None = None, currency: str = "USD", zone: str = "US-MA"
) -> SetShipTo:
    """Another address, with its tax."""
    taxes = tuple(LineTax(line=line, tax_minor=tax) for line, tax in lines)
    tax = NewTax(currency=currency, lines=taxes, shipping_tax_minor=shipping)
    return SetShipTo(country="US", region=zone[3:], zone_id=zone, tax=tax)


def ruled(state: OrderState) -> OrderState:
    """An order that can be changed."""
    state.rules = OrderRules(cut_offs=standard())
    return state


def carry_out(state: OrderState, plan: AmendmentPlan) -> None:
    """What the workflow does with a plan, as if every node had agreed; what has no node stays open."""
    taken = plan.taken
    for name, units in (*taken.at_once, *taken.asked) if taken else ():
        part = state.fulfillments[name]
        if part.has_only(units):
            state.withdraw(part)
        else:
            state.cut(part, units, Bucket.OPEN)
    state.release_held(taken.held_units if taken else (), Bucket.OPEN)
    state.move(plan.removed, Bucket.OPEN, Bucket.CANCELLED)
    for one in plan.added:
        state.add_line(one)
    state.order = plan.order


def _left(state: OrderState, line_no: int) -> tuple[int, int, int]:
    """Units of a line and its blocks that have not left, with their tax and the tax of their shipping."""
    units = tax = shipping_tax = 0
    for n, line in state.lines.items():
        there = line.buckets.of(*BEFORE_HAND_OVER)
        if there and line_no in (n, line.extends):
            shares = line.shares.last(line.buckets.cancelled, there)
            units, tax = units + there, tax + shares.tax_minor
            shipping_tax += shares.shipping_tax_minor
    return units, tax, shipping_tax


def _gone_minor(state: OrderState) -> int:
    return sum(line.shares.value_of_first(line.gone) for line in state.lines.values())


@given(states(), st.data())
def test_what_the_plan_says_is_what_happens(state: OrderState, data: st.DataObject) -> None:
    """Wherever the order is: what has left keeps its value, each line carries what was named, and again is nothing."""
    ruled(state)
    lines = [n for n in state.lines if data.draw(st.booleans())]
    change = there(*((n, data.draw(amount)) for n in lines), shipping=data.draw(st.none() | amount))
    before = {n: _left(state, n) for n in state.lines}
    owed, gone = state.owed_minor, _gone_minor(state)
    try:
        plan = plan_amendment(state, [change], AGENT)
    except OrderRuleError:
        assert state.owed_minor == owed
        return
    assert (plan.owed_before_minor, amended_quantities(state, plan)) == (owed, [])
    assert plan.owed_after_minor - owed == plan.tax_delta_minor
    carry_out(state, plan)
    assert state.owed_minor == plan.owed_after_minor
    assert _gone_minor(state) == gone
    assert change.tax is not None
    named = {line.line: line.tax_minor for line in change.tax.lines}
    for n, (units, tax, _) in before.items():
        assert _left(state, n)[:2] == (units, named.get(n, tax))
    if change.tax.shipping_tax_minor is not None:
        assert sum(_left(state, n)[2] for n in before) == change.tax.shipping_tax_minor
    again = plan_amendment(state, [change], AGENT)
    assert (again.added, again.removed, again.tax_delta_minor) == ((), (), 0)


def test_a_unit_that_has_left_keeps_its_tax() -> None:
    """Of three units with 3.00 tax one has left: the two others carry the 0.51 that is named."""
    state = ruled(order(3, 1, tax=300))
    put(state, "EAST", Bucket.SHIPPED, (1, 1))
    plan = plan_amendment(state, [there((1, 51))], AGENT)
    assert (plan.removed, plan.tax_delta_minor) == (((1, 2),), -149)
    (block,) = plan.added
    assert (block.extends, block.shares.tax_minor, block.line.tax_minor) == (1, 51, 51)
    assert block.shares.components_of_first(1).tax_minor == 26


def test_a_line_and_its_blocks_share_the_tax_by_price() -> None:
    """A change adds two units to one and names the tax of all three; a later one of the line, named by its block."""
    state = ruled(order(1, tax=100))
    plan = plan_amendment(state, [SetQuantity(line=1, quantity=3), there((1, 100))], AGENT)
    assert [(one.line.quantity, one.shares.tax_minor) for one in plan.added] == [(2, 67), (1, 33)]
    carry_out(state, plan)
    later = plan_amendment(state, [there((2, 9))], AGENT)
    assert (dict(later.removed), sum(one.shares.tax_minor for one in later.added)) == ({2: 2, 3: 1}, 9)


def test_the_tax_of_shipping_is_shared_by_its_price_and_kept_as_a_rate() -> None:
    """2.50 of 5.00 shipping have left; the rest is taxed with 0.25, so that the whole order would be with 0.50."""
    state = ruled(order(1, 1))
    put(state, "EAST", Bucket.SHIPPED, (1, 1))
    plan = plan_amendment(state, [there(shipping=25)], AGENT)
    assert [(one.extends, one.shares.shipping_tax_minor) for one in plan.added] == [(2, 25)]
    assert (plan.order.shipping_minor, plan.order.shipping_tax_minor) == (500, 50)
    assert (plan.tax_delta_minor, plan.shipping_delta_minor) == (25, 0)
    free = ruled(order(1, 3, shipping=0))
    shared = plan_amendment(free, [there(shipping=8)], AGENT)
    assert [one.shares.shipping_tax_minor for one in shared.added] == [2, 6]


def test_what_a_change_brings_along_has_its_own_tax() -> None:
    """The item that comes instead, and the line that is new: what they name, while the rest of the line is re-taxed."""
    state = ruled(order(3, tax=90))
    changes = [
        Substitute(line=1, sku="OTHER", quantity=1, unit_price_minor=500, tax_minor=7),
        AddLine(sku="MORE", quantity=1, unit_price_minor=100, tax_minor=5),
        there((1, 40)),
    ]
    plan = plan_amendment(state, changes, AGENT)
    assert [(one.line.sku, one.shares.tax_minor) for one in plan.added] == [("OTHER", 7), ("MORE", 5), ("SKU-1", 40)]


def test_more_tax_is_authorized_and_less_is_not_given_back() -> None:
    """The tenders cover what was owed: only what exceeds that is asked for."""
    state = ruled(order(2, tax=100))
    tender = Tender(
        tender_id="tnd_1",
        sequence=1,
        provider="simulated",
        reference="pm_ok",
        amount_minor=2600,
        since=NOW,
        deadline=NOW,
    )
    state.tenders = [tender]
    assert plan_amendment(state, [there((1, 150))], AGENT).to_authorize_minor == 50
    assert plan_amendment(state, [there((1, 0))], AGENT).to_authorize_minor == 0


def test_what_does_not_fit_is_refused_by_name() -> None:
    """Another currency, a line that there is not or that has left, one line twice, and who may not name a tax."""
    state = ruled(order(2, 1))
    put(state, "EAST", Bucket.SHIPPED, (2, 1))
    shopper = Actor(kind=ActorKind.CUSTOMER, id="cus_1", role=Role.SHOPPER)
    express = SetServiceLevel(service_level=ServiceLevel.EXPRESS, shipping_tax_minor=1)
    refused: list[tuple[type[OrderRuleError], list[SetShipTo | SetServiceLevel], Actor]] = [
        (WrongCurrency, [there((1, 5), currency="JPY")], AGENT),
        (UnknownLine, [there((3, 5))], AGENT),
        (NothingLeftToShip, [there((2, 5))], AGENT),
        (ConflictingChanges, [there((1, 5), (1, 6))], AGENT),
        (ConflictingChanges, [there(shipping=5), express], AGENT),
        (PriceNotAllowed, [there((1, 5))], shopper),
    ]
    for refusal, changes, who in refused:
        with pytest.raises(refusal):
            plan_amendment(state, changes, who)


def test_nothing_is_left_to_ship_at_all() -> None:
    """All of it is with the carrier: no tax of shipping either, as little as of a line."""
    state = ruled(order(1))
    put(state, "EAST", Bucket.SHIPPED, (1, 1))
    for change in (there(shipping=1), there(shipping=0), there((1, 1))):
        with pytest.raises(NothingLeftToShip):
            plan_amendment(state, [change], AGENT)


def test_what_has_no_price_of_its_own_and_what_is_held_stay() -> None:
    """A line that is sent instead of a lost parcel, and a line on which somebody has a hold."""
    state = ruled(order(2, 1))
    state.lines[2].replaces_parcel = "shp_1"
    with pytest.raises(SentInstead):
        plan_amendment(state, [there((2, 5))], AGENT)
    state.holds["hld_1"] = Hold(
        hold_id="hld_1",
        type=HoldType.QUALITY,
        blocks=(HoldBlock.SHIP,),
        owner=Team.SERVICE,
        at_limit=AtLimit.RELEASE,
        line_no=1,
        since=NOW,
        deadline=NOW,
    )
    with pytest.raises(LineHeld):
        plan_amendment(state, [there((1, 5))], AGENT)
    assert plan_amendment(state, [there((1, 0))], AGENT).added == ()
