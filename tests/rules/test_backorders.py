"""Who waits for supply, whose turn it is, and what is given up."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.amendment import (
    AddLine,
    Change,
    SetQuantity,
    SetServiceLevel,
    SetShipTo,
    Substitute,
    plan_amendment,
)
from domain.backorders import (
    NothingWaits,
    agrees_to_wait,
    check_waits_for,
    leave_to_others,
    lifted,
    may_wait,
    units_to_fill,
    units_to_give_up,
)
from domain.cancellation import plan_cancellation
from domain.cut_offs import standard
from domain.holds import HoldAsk, new_hold
from domain.lifecycle import WaitingOn
from domain.order_state import OrderState
from domain.orders import SYSTEM, Actor, ActorKind, Backorder, HoldBlock, HoldType, OrderRules, ServiceLevel, Split
from domain.permissions import Role
from domain.quantities import Bucket
from domain.tax_change import LineTax, NewTax
from tests.support.order_states import NOW, hold, order, put

LATER = NOW + timedelta(days=30)


def waiting(*quantities: int, units: tuple[tuple[int, int], ...]) -> OrderState:
    """An order some of whose open units (line number, units) wait for supply."""
    state = order(*quantities)
    state.rules = OrderRules(cut_offs=standard())
    state.wait_for_supply(units, NOW, LATER)
    return state


@pytest.mark.parametrize(
    ("preference", "unasked", "waits"),
    [
        (None, True, True),
        (None, False, False),
        (Backorder.ACCEPT, False, True),
        (Backorder.REFUSE, True, False),
    ],
)
def test_the_customer_decides_and_the_rules_for_those_who_did_not(
    preference: Backorder | None, unasked: bool, waits: bool
) -> None:
    """What the customer said counts; else the channel's rule."""
    assert agrees_to_wait(preference, OrderRules(backorder_unasked=unasked)) is waits


def test_what_a_change_adds_may_wait_and_what_is_there_may_not() -> None:
    """More units, a new line; of what is swapped or re-priced what waited before; all where all goes together."""
    state = waiting(3, 2, units=((1, 1),))
    hold(state, 1, "EAST", 2)
    hold(state, 2, "EAST", 2)
    agent = Actor(kind=ActorKind.PERSON, id="maria", role=Role.SERVICE)
    more: list[Change] = [SetQuantity(line=2, quantity=5), AddLine(sku="NEW", quantity=4, unit_price_minor=1)]
    assert plan_amendment(state, more, agent).may_wait == ((3, 3), (4, 4))
    other = Substitute(line=1, sku="OTHER", quantity=2)
    assert plan_amendment(state, [other], agent).may_wait == ((3, 1),)
    taxes = (LineTax(line=1, tax_minor=9), LineTax(line=2, tax_minor=9))
    moved = SetShipTo(country="US", region="MA", zone_id="US-MA", tax=NewTax(currency="USD", lines=taxes))
    assert plan_amendment(state, [moved], agent).may_wait == ((3, 1), (4, 0))
    fewer = SetQuantity(line=1, quantity=2)
    assert plan_amendment(state, [fewer, moved], agent).may_wait == ((3, 0), (4, 0))
    relocated = moved.model_copy(update={"zone_id": "US-NY", "tax": None})
    assert plan_amendment(state, [relocated], agent).may_wait == ()
    state.order = state.order.model_copy(update={"split": Split.TOGETHER})
    along = plan_amendment(state, more, agent)
    assert dict(along.may_wait) == {1: 3, 2: 2, 3: 3, 4: 4}
    assert dict(along.may_wait) == dict(along.wanted)


def test_where_all_goes_together_nothing_may_be_at_a_node() -> None:
    """The short units of one parcel cannot wait while the rest of it is packed."""
    state = order(3)
    assert may_wait(state)
    put(state, "EAST", Bucket.RELEASED, (1, 2))
    assert may_wait(state)
    state.order = state.order.model_copy(update={"split": Split.TOGETHER})
    assert not may_wait(state)


def test_what_an_overdue_hold_keeps_back_is_not_filled() -> None:
    """It would only lapse again; a hold that still runs keeps the units reserved for itself."""
    state = waiting(2, 1, units=((1, 2), (2, 1)))
    assert units_to_fill(state) == ((1, 2), (2, 1))
    hold = new_hold(HoldAsk(hold_id="h", type=HoldType.MANUAL, line_no=1, blocks=(HoldBlock.SCHEDULE,)), NOW)
    state.holds["h"] = hold
    assert units_to_fill(state) == ((1, 2), (2, 1))
    hold.overdue = True
    assert units_to_fill(state) == ((2, 1),)


def test_supply_of_something_else_is_refused() -> None:
    """By name; what waits passes."""
    state = waiting(1, 1, units=((1, 1),))
    check_waits_for(state, "SKU-1")
    with pytest.raises(NothingWaits, match="SKU-2"):
        check_waits_for(state, "SKU-2")


def test_only_what_has_waited_long_enough_is_given_up() -> None:
    """Each line has its own limit; it runs from the latest units that joined."""
    state = waiting(2, 1, units=((1, 1), (2, 1)))
    state.wait_for_supply(((1, 1),), NOW, LATER + timedelta(days=1))
    assert units_to_give_up(state, LATER - timedelta(seconds=1)) == ()
    assert units_to_give_up(state, LATER) == ((2, 1),)
    assert units_to_give_up(state, LATER + timedelta(days=1)) == ((1, 2), (2, 1))


def test_a_node_is_asked_again_once_goods_have_come_there() -> None:
    """Other bars stay."""
    barred = (("EAST", "LAMP"), ("EAST", "MUG"), ("MID", "LAMP"))
    assert lifted(barred, {("EAST", "LAMP")}) == (("EAST", "MUG"), ("MID", "LAMP"))


def test_the_header_names_what_is_waited_for_and_until_when() -> None:
    """Three items by name, the others by number; the first limit counts."""
    state = waiting(1, 1, 1, 1, 1, units=((1, 1), (2, 1), (3, 1), (4, 1), (5, 1)))
    wait = state.header().wait
    assert wait is not None
    assert (wait.waiting_on, wait.cause, wait.deadline) == (WaitingOn.SUPPLY, "backorder", LATER)
    assert wait.next_event == "supply of SKU-1, SKU-2, SKU-3 and 2 more arrives, else it is cancelled"


def test_cancelling_takes_what_waits_first_and_nothing_else_of_it() -> None:
    """CASE-A12: of one line the waiting units go first; the other line stays where it is."""
    state = waiting(3, 2, units=((1, 2), (2, 1)))
    put(state, "EAST", Bucket.RELEASED, (1, 1))
    plan = plan_cancellation(state, ((1, 1),))
    assert (plan.backordered_units, plan.open_units, plan.asked) == (((1, 1),), (), ())
    plan = plan_cancellation(state, ((1, 3),))
    assert plan.backordered_units == ((1, 2),)
    assert [part.units for part in plan.asked] == [((1, 1),)]


def test_what_is_given_up_is_taken_from_one_bucket_only() -> None:
    """A limit ends what waits, a shortage what is open; neither touches the other."""
    state = waiting(2, units=((1, 1),))
    ended = plan_cancellation(state, ((1, 1),), Bucket.BACKORDERED)
    short = plan_cancellation(state, ((1, 1),), Bucket.OPEN)
    assert (ended.backordered_units, ended.open_units) == (((1, 1),), ())
    assert (short.backordered_units, short.open_units) == ((), ((1, 1),))


def test_another_speed_leaves_what_waits_waiting() -> None:
    """Only what a node has, or could have, is sourced again."""
    state = waiting(3, units=((1, 2),))
    state.hold_units(((1, "EAST", 1),))
    plan = plan_amendment(state, (SetServiceLevel(service_level=ServiceLevel.EXPRESS),), SYSTEM)
    assert plan.moved == ((1, 1),)
    assert plan.taken is not None
    assert (plan.taken.backordered_units, plan.taken.held_units) == ((), ((1, "EAST", 1),))


def test_fewer_units_and_another_speed_at_once_take_what_waits_first() -> None:
    """One unit less: of those that wait. The reserved one moves, the other waiting one stays."""
    state = waiting(3, units=((1, 2),))
    state.hold_units(((1, "EAST", 1),))
    changes = (SetQuantity(line=1, quantity=2), SetServiceLevel(service_level=ServiceLevel.EXPRESS))
    plan = plan_amendment(state, changes, SYSTEM)
    assert (plan.removed, plan.moved) == (((1, 1),), ((1, 1),))
    assert plan.taken is not None
    assert (plan.taken.backordered_units, plan.taken.held_units) == (((1, 1),), ((1, "EAST", 1),))


def test_a_substitute_takes_the_place_of_what_waits() -> None:
    """The customer takes another item instead of waiting; nothing that a node has is touched."""
    state = waiting(2, units=((1, 1),))
    put(state, "EAST", Bucket.RELEASED, (1, 1))
    plan = plan_amendment(state, (Substitute(line=1, sku="OTHER", quantity=1),), SYSTEM)
    assert plan.taken is not None
    assert (plan.taken.backordered_units, plan.asks_nodes, plan.wanted) == (((1, 1),), False, ((2, 1),))


def test_enough_for_all_changes_nothing() -> None:
    """Those who come first and this order can all be served: its choice of nodes is free."""
    stock = {"EAST": {"LAMP": 1}, "MID": {"LAMP": 2}}
    assert leave_to_others(stock, ["EAST", "MID"], {"LAMP": 1}, {"LAMP": 2}, 0) == stock


def test_others_are_left_what_they_wait_for_where_most_is() -> None:
    """Three there, two wanted before: one is left. What a frozen node has, or a node keeps, helps nobody."""
    stock = {"EAST": {"LAMP": 1, "MUG": 4}, "MID": {"LAMP": 2}, "FROZEN": {"LAMP": 9}}
    left = leave_to_others(stock, ["EAST", "MID"], {"LAMP": 2}, {"LAMP": 2}, 0)
    assert left == {"EAST": {"LAMP": 1, "MUG": 4}, "MID": {"LAMP": 0}, "FROZEN": {"LAMP": 9}}
    kept = leave_to_others(stock, ["EAST", "MID"], {"LAMP": 1}, {"LAMP": 1}, 1)
    assert kept["MID"] == {"LAMP": 1}


@given(
    stock=st.dictionaries(st.sampled_from("ABCD"), st.integers(0, 5)),
    wanted=st.integers(1, 6),
    ahead=st.integers(0, 8),
    keeps=st.integers(0, 2),
)
def test_nobody_takes_what_those_before_it_wait_for(stock: dict[str, int], wanted: int, ahead: int, keeps: int) -> None:
    """Law: what the order can take and what others wait for fits into the stock; nothing grows or falls below zero."""
    before = {node: {"LAMP": units} for node, units in stock.items()}
    left = leave_to_others(before, sorted(stock), {"LAMP": wanted}, {"LAMP": ahead}, keeps)
    usable = sum(max(0, units - keeps) for units in stock.values())
    takes = min(wanted, sum(max(0, units["LAMP"] - keeps) for units in left.values()))
    assert takes == max(0, min(wanted, usable - ahead))
    assert all(0 <= left[node]["LAMP"] <= units for node, units in stock.items())
