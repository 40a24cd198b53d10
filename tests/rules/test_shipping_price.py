"""What shipping costs after a change of speed: exact to the penny, and nothing for units that it is not about."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.amendment import (
    PriceNotAllowed,
    SetQuantity,
    SetServiceLevel,
    amended_quantities,
    plan_amendment,
)
from domain.cut_offs import standard
from domain.lifecycle import Team
from domain.order_state import Hold, OrderState
from domain.orders import Actor, ActorKind, AtLimit, HoldBlock, HoldType, OrderRules, ServiceLevel
from domain.permissions import Role
from domain.quantities import BEFORE_HAND_OVER
from domain.refusals import OrderRuleError
from domain.repricing import LineHeld
from domain.shares import LineShares
from domain.shipping_price import Shipping, reprice, shipping_at
from tests.support.order_states import NOW, order, states

FASTER = SetServiceLevel(service_level=ServiceLevel.EXPRESS)
AGENT = Actor(kind=ActorKind.PERSON, id="maria", role=Role.SERVICE)
minor = st.integers(0, 100_000)


@st.composite
def parts(draw: st.DrawFn) -> list[LineShares]:
    """Units that have not left, of some lines."""
    return [
        LineShares(
            line_no=n,
            quantity=draw(st.integers(1, 5)),
            items_minor=draw(minor),
            discount_minor=0,
            tax_minor=draw(minor),
            shipping_minor=draw(st.integers(0, 500)),
            shipping_tax_minor=draw(st.integers(0, 50)),
        )
        for n in range(1, draw(st.integers(1, 5)) + 1)
    ]


@given(parts(), minor, minor)
def test_with_nothing_gone_the_parts_pay_exactly_the_new_price(units: list[LineShares], price: int, tax: int) -> None:
    """No penny is lost between the lines; goods and their tax stay as they were."""
    before = Shipping(sum(part.shipping_minor for part in units), sum(part.shipping_tax_minor for part in units))
    after = Shipping(price, tax if price else 0)
    priced = reprice(units, 0, before, after)
    assert sum(part.shipping_minor for part in priced) == after.price_minor
    assert sum(part.shipping_tax_minor for part in priced) == after.tax_minor
    assert [part.goods_of_first(part.quantity) for part in priced] == [
        part.goods_of_first(part.quantity) for part in units
    ]


@given(parts(), st.integers(1, 100_000), st.integers(1, 100_000))
def test_there_and_back_costs_nothing(units: list[LineShares], price: int, tax: int) -> None:
    """CASE-C8: faster and then as before: each line carries in sum what all carried."""
    before = Shipping(sum(part.shipping_minor for part in units), sum(part.shipping_tax_minor for part in units))
    again = reprice(reprice(units, 0, before, Shipping(price, tax)), 0, Shipping(price, tax), before)
    assert sum(part.shipping_minor for part in again) == before.price_minor
    if before.price_minor:
        assert sum(part.shipping_tax_minor for part in again) == before.tax_minor


def test_what_has_left_keeps_its_share() -> None:
    """Half of 5.00 has left: of 12.00 the other half pays 6.00. An order that paid nothing goes by net price."""
    half = LineShares(
        line_no=1,
        quantity=1,
        items_minor=1000,
        discount_minor=0,
        tax_minor=0,
        shipping_minor=250,
        shipping_tax_minor=25,
    )
    (priced,) = reprice([half], 1000, Shipping(500, 50), Shipping(1200, 120))
    assert (priced.shipping_minor, priced.shipping_tax_minor) == (600, 60)
    free = half.model_copy(update={"shipping_minor": 0, "shipping_tax_minor": 0})
    (priced,) = reprice([free], 3000, Shipping(0, 0), Shipping(1200, 120))
    assert (priced.shipping_minor, priced.shipping_tax_minor) == (300, 30)
    assert reprice([], 0, Shipping(0, 0), Shipping(1200, 0)) == ()


@pytest.mark.parametrize(
    ("prices", "named", "expected"),
    [
        ({}, None, 500),  # no list, no name: as it is
        ({"standard": 700}, None, 500),  # a list without the level says nothing
        ({"standard": 700, "express": 1500}, None, 1300),  # a voucher of 2.00 on shipping stays worth 2.00
        ({"standard": 1500, "express": 700}, None, 0),  # never below nothing
        ({"standard": 700, "express": 1500}, 900, 900),  # who names a price is believed
    ],
)
def test_the_price_is_named_or_listed_or_stays(prices: dict[str, int], named: int | None, expected: int) -> None:
    """The order pays 5.00 at standard speed."""
    rules = OrderRules.model_validate({"shipping_prices": prices})
    placed = order(2).order.model_copy(update={"shipping_minor": 500, "shipping_tax_minor": 50})
    assert shipping_at(placed, rules, ServiceLevel.EXPRESS, named, None) == Shipping(expected, expected // 10)
    assert shipping_at(placed, rules, ServiceLevel.EXPRESS, named, 7).tax_minor == 7


def _priced(state: OrderState) -> OrderState:
    prices = {ServiceLevel.STANDARD: 500, ServiceLevel.EXPRESS: 1200}
    state.rules = OrderRules(cut_offs=standard(), shipping_prices=prices)
    state.tenders = []
    return state


@given(states())
def test_a_change_of_speed_costs_what_shipping_and_its_tax_cost_more(state: OrderState) -> None:
    """Wherever the order is: goods are not re-priced, units are not lost, and nothing that has left is touched."""
    _priced(state)
    try:
        plan = plan_amendment(state, [FASTER], AGENT)
    except OrderRuleError:
        return
    assert plan.owed_after_minor - plan.owed_before_minor == plan.shipping_delta_minor + plan.tax_delta_minor
    left = {n: line.buckets.of(*BEFORE_HAND_OVER) for n, line in state.lines.items()}
    assert sum(units for _, units in plan.wanted) == sum(left.values())
    assert plan.order.shipping_minor == state.order.shipping_minor + 700
    for one in plan.added:
        root = one.extends or 0
        assert one.line.quantity == left[root]
        old = state.lines[root].shares.last(state.lines[root].buckets.cancelled, left[root])
        assert one.shares.goods_of_first(one.shares.quantity) == old.goods_of_first(old.quantity)
    assert amended_quantities(state, plan) == []


def test_fewer_units_and_faster_in_one_change() -> None:
    """Of three units one is dropped with its share; the other two pay two thirds of the new price."""
    state = _priced(order(3, shipping=600))
    state.rules = state.rules.model_copy(
        update={"shipping_prices": {ServiceLevel.STANDARD: 600, ServiceLevel.EXPRESS: 1200}}
    )
    plan = plan_amendment(state, [SetQuantity(line=1, quantity=2), FASTER], AGENT)
    assert plan.removed == ((1, 3),)
    (block,) = plan.added
    assert (block.line.quantity, block.extends, block.shares.shipping_minor) == (2, 1, 800)
    assert (plan.owed_before_minor, plan.owed_after_minor) == (3600, 2800)
    assert plan.shipping_delta_minor == 200
    assert amended_quantities(state, plan) == [(1, "SKU-1", 3, 2)]


def test_customers_do_not_name_prices_and_a_held_line_stays_what_it_is() -> None:
    """Each is refused by name; the listed price is for customers too."""
    state = _priced(order(2, 1))
    shopper = Actor(kind=ActorKind.CUSTOMER, id="cus_1", role=Role.SHOPPER)
    with pytest.raises(PriceNotAllowed):
        plan_amendment(state, [FASTER.model_copy(update={"shipping_minor": 1})], shopper)
    assert plan_amendment(state, [FASTER], shopper).shipping_delta_minor == 700
    state.holds["hld_1"] = Hold(
        hold_id="hld_1",
        type=HoldType.QUALITY,
        blocks=(HoldBlock.SHIP,),
        owner=Team.SERVICE,
        at_limit=AtLimit.RELEASE,
        line_no=2,
        since=NOW,
        deadline=NOW,
    )
    with pytest.raises(LineHeld):
        plan_amendment(state, [FASTER], AGENT)
