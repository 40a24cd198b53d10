"""The plan is the cheapest there is, the same every time, and it says why."""

import random
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from domain.ids import NodeId, Sku
from domain.sourcing import (
    Assignment,
    NodeOffer,
    SourcingAsk,
    SourcingPlan,
    Unfilled,
    plan_sourcing,
)
from domain.sourcing_record import ExcludedNode, ExclusionReason, LineCost, RunnerUp
from tests.support.sourcing import ARRIVAL, ask, excluded, node, shipped, wants

# --- single decisions ------------------------------------------------------------------------------------


def test_one_parcel_beats_two_nearer_ones() -> None:
    """A second parcel costs 8.759, more than the longer way of two units."""
    plan = plan_sourcing(
        ask(
            wants(1, "LAMP", 1),
            wants(2, "MUG", 1),
            node("A", {"LAMP": 1}, 10),
            node("B", {"MUG": 1}, 10),
            node("C", {"LAMP": 1, "MUG": 1}, 900),
        )
    )
    assert [(part.line_no, part.node_id) for part in plan.assignments] == [(1, "C"), (2, "C")]
    assert plan.cost_micros == 8_759_000 + 2 * (423_000 + 900 * 541)
    assert plan.explanation.runner_up == RunnerUp(
        node_ids=(NodeId("A"), NodeId("B")),
        cost_micros=2 * 8_759_000 + 2 * (423_000 + 10 * 541),
        gap_micros=8_759_000 - 2 * 890 * 541,
    )
    assert plan.explanation.decided_by == "cost"
    (winner,) = plan.explanation.winner
    assert winner.lines == (
        LineCost(line_no=1, quantity=1, micros=909_900),
        LineCost(line_no=2, quantity=1, micros=909_900),
    )


def test_many_units_are_worth_a_second_parcel() -> None:
    """Forty units that save 800 miles each pay for the parcel."""
    plan = plan_sourcing(ask(wants(1, "MUG", 50), node("A", {"MUG": 40}, 100), node("B", {"MUG": 50}, 900)))
    assert shipped(plan) == {("MUG", "A"): 40, ("MUG", "B"): 10}


@pytest.mark.parametrize(
    ("first", "second", "winner", "decided_by"),
    [
        (node("A", {"X": 1}, arrival=date(2026, 12, 2)), node("B", {"X": 1}, arrival=ARRIVAL), "B", "earlier_arrival"),
        (node("A", {"X": 1}, arrival=None), node("B", {"X": 1}, arrival=ARRIVAL), "B", "earlier_arrival"),
        (node("A", {"X": 1}, preference=1), node("B", {"X": 1}, preference=0), "B", "preference"),
        (node("B", {"X": 1}), node("A", {"X": 1}), "A", "node_ids"),
        (node("A", {"X": 1}, 101), node("B", {"X": 1}, 100), "B", "cost"),
        (node("A", {"X": 1}), node("B", {"Y": 1}), "A", "only_choice"),
    ],
)
def test_equal_costs_are_decided_by_the_next_criterion(
    first: NodeOffer, second: NodeOffer, winner: str, decided_by: str
) -> None:
    """Arrival, then preference, then the node id; the record names what decided."""
    plan = plan_sourcing(ask(wants(1, "X", 1), first, second))
    assert [part.node_id for part in plan.assignments] == [winner]
    assert plan.explanation.decided_by == decided_by


def test_of_equally_dear_sets_the_smaller_one_wins() -> None:
    """Two units from one node cost as much as from two: without a fixed cost the number of nodes decides."""
    plan = plan_sourcing(
        ask(
            wants(1, "X", 1),
            wants(2, "Y", 1),
            node("A", {"X": 1}),
            node("B", {"Y": 1}),
            node("C", {"X": 1, "Y": 1}),
            fixed_micros=0,
        )
    )
    assert {part.node_id for part in plan.assignments} == {"C"}
    assert plan.explanation.decided_by == "fewer_nodes"


def test_lines_of_one_sku_are_planned_together_and_dealt_in_line_order() -> None:
    """The nearer node's units go to the earlier line; the shortage lands on the later one."""
    plan = plan_sourcing(
        ask(wants(2, "X", 3), wants(1, "X", 3), node("FAR", {"X": 2}, 900), node("NEAR", {"X": 2}, 100))
    )
    assert plan.assignments == (
        Assignment(line_no=1, sku=Sku("X"), node_id=NodeId("FAR"), quantity=1),
        Assignment(line_no=1, sku=Sku("X"), node_id=NodeId("NEAR"), quantity=2),
        Assignment(line_no=2, sku=Sku("X"), node_id=NodeId("FAR"), quantity=1),
    )
    assert plan.unfilled == (Unfilled(line_no=2, sku=Sku("X"), requested=3, available=1),)


def test_nodes_are_left_out_for_named_reasons() -> None:
    """Frozen, without a lane, without stock, and with stock that it keeps for itself."""
    frozen = node("FROZEN", {"X": 9}).model_copy(update={"frozen": True})
    remote = node("REMOTE", {"X": 9}).model_copy(update={"transit_days": None})
    empty = node("EMPTY", {"X": 0, "OTHER": 5})
    scarce = node("SCARCE", {"X": 2})
    plan = plan_sourcing(
        ask(wants(1, "X", 1), frozen, remote, empty, scarce, node("GOOD", {"X": 3}, 2_000), sourcing_minimum=2)
    )
    assert excluded(plan) == {
        "FROZEN": "node_frozen",
        "REMOTE": "no_lane",
        "EMPTY": "no_stock",
        "SCARCE": "below_sourcing_minimum",
    }
    assert [part.node_id for part in plan.assignments] == ["GOOD"]


def test_without_any_usable_node_everything_is_unfilled() -> None:
    """No stock at all, or no node at all: nothing is assigned, and the record says so."""
    for nodes in ((), (node("A", {"X": 0}),)):
        plan = plan_sourcing(ask(wants(1, "X", 2), *nodes))
        assert plan.assignments == ()
        assert plan.unfilled == (Unfilled(line_no=1, sku=Sku("X"), requested=2, available=0),)
        assert plan.explanation.decided_by == "nothing_usable"
        assert plan.cost_micros == 2_000_000_000


def test_max_splits_zero_keeps_the_order_in_one_parcel() -> None:
    """What that parcel cannot hold is unfilled, though another node has it."""
    sites = node("A", {"X": 2}), node("B", {"X": 2, "Y": 1})
    lines = wants(1, "X", 4), wants(2, "Y", 1)
    assert plan_sourcing(ask(*lines, *sites)).unfilled == ()
    limited = plan_sourcing(ask(*lines, *sites, max_splits=0))
    assert shipped(limited) == {("X", "B"): 2, ("Y", "B"): 1}
    assert limited.unfilled == (Unfilled(line_no=1, sku=Sku("X"), requested=4, available=2),)


# --- more nodes than are enumerated ------------------------------------------------------------------------


def test_what_the_candidates_lack_is_planned_among_the_others() -> None:
    """Twenty-five nodes with a unit each serve twenty-three: three searches of ten."""
    sites = [node(f"N{i:02}", {"X": 1}, 100 + i) for i in range(25)]
    plan = plan_sourcing(ask(wants(1, "X", 23), *sites))
    assert plan.unfilled == ()
    assert {part.node_id for part in plan.assignments} == {f"N{i:02}" for i in range(23)}
    assert plan.explanation.searches == 3
    assert [c.node_id for c in plan.explanation.candidates if c.search == 2] == [f"N{i:02}" for i in range(10, 20)]


def test_later_searches_keep_to_the_split_limit() -> None:
    """Twelve parcels at most: the second search may add two nodes."""
    sites = [node(f"N{i:02}", {"X": 1}, 100 + i) for i in range(25)]
    plan = plan_sourcing(ask(wants(1, "X", 23), *sites, max_splits=11))
    assert [part.node_id for part in plan.assignments] == [f"N{i:02}" for i in range(12)]
    assert plan.explanation.unfilled_units == 11


def test_nodes_that_did_not_make_the_ten_are_named() -> None:
    """They could have given something; the record says that they were outranked."""
    sites = [node(f"N{i:02}", {"X": 5}, 100 + i) for i in range(12)]
    plan = plan_sourcing(ask(wants(1, "X", 5), *sites))
    assert plan.explanation.excluded == (
        ExcludedNode(node_id=NodeId("N10"), reason=ExclusionReason.OUTRANKED),
        ExcludedNode(node_id=NodeId("N11"), reason=ExclusionReason.OUTRANKED),
    )


def test_a_complete_far_node_reaches_the_candidates() -> None:
    """Twelve near nodes with one SKU each do not crowd out the one that saves all the parcels."""
    skus = [f"S{i:02}" for i in range(12)]
    near = [node(f"N{sku}", {sku: 9}, 10) for sku in skus]
    plan = plan_sourcing(
        ask(*(wants(i, sku, 1) for i, sku in enumerate(skus, 1)), *near, node("ALL", dict.fromkeys(skus, 1), 2_500))
    )
    assert {part.node_id for part in plan.assignments} == {"ALL"}


def _ranked_and_best(seed: int) -> tuple[SourcingPlan, SourcingPlan]:
    """Plans of one random order over the six best-ranked of twelve nodes, and over all twelve."""
    rnd = random.Random(seed)
    lines = [wants(i, f"S{i}", rnd.randint(1, 3)) for i in range(1, 7)]
    sites = [
        node(f"N{i:02}", {line.sku: rnd.randint(1, 5) for line in lines if rnd.random() < 0.5}, rnd.randint(10, 2_500))
        for i in range(12)
    ]
    ranked, best = (plan_sourcing(ask(*lines, *sites, max_candidates=most)) for most in (6, 12))
    return ranked, best


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_ranking_to_six_of_twelve_nodes_loses_no_unit(seed: int) -> None:
    """What all twelve could fill, the six best-ranked fill too; the plan over all is never dearer."""
    ranked, best = _ranked_and_best(seed)
    assert ranked.explanation.unfilled_units == best.explanation.unfilled_units
    assert best.cost_micros <= ranked.cost_micros


def test_ranking_to_six_of_twelve_nodes_loses_little() -> None:
    """Ranking is a heuristic: now and then an order is some per cent dearer. Over 300 orders it is a thousandth."""
    losses = [ranked.cost_micros / best.cost_micros - 1 for ranked, best in map(_ranked_and_best, range(300))]
    assert sum(losses) / len(losses) < 0.001
    assert max(losses) < 0.1


# --- size ----------------------------------------------------------------------------------------------------


def test_the_explanation_of_a_thousand_lines_stays_small() -> None:
    """An order of 1,114 lines keeps sums per node instead of lines, and says how many were left out."""
    rnd = random.Random(1114)
    lines = [wants(i, f"S{i}", rnd.randint(1, 4)) for i in range(1, 1_115)]
    sites = [
        node(f"N{i}", {line.sku: rnd.randint(1, 9) for line in lines if rnd.random() < 0.6}, rnd.randint(10, 2_500))
        for i in range(10)
    ]
    plan = plan_sourcing(ask(*lines, *sites))
    assert len(plan.explanation.model_dump_json()) < 8_000
    assert plan.explanation.lines_left_out == len(plan.assignments) > 1_000
    assert all(part.lines == () for part in plan.explanation.winner)
    assert sum(part.units for part in plan.explanation.winner) == sum(part.quantity for part in plan.assignments)


# --- refused questions -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("demand", [], "at least 1 item"),
        ("demand", [{"line_no": 1, "sku": "X", "quantity": 0}], "greater than or equal to 1"),
        ("demand", [{"line_no": 1, "sku": s, "quantity": 1} for s in "XY"], "line number is used twice"),
        ("nodes", [node("A", {"X": 1}).model_dump()] * 2, "node is offered twice"),
        ("nodes", [node("A", {}).model_dump() | {"usable": [("X", 1), ("X", 2)]}], "names a SKU twice"),
        ("nodes", [node("A", {}).model_dump() | {"distance_mi": -1}], "greater than or equal to 0"),
        ("rules", {"version": "1", "max_splits": -1}, "greater than or equal to 0"),
        ("rules", {"version": "1", "max_candidates": 13}, "less than or equal to 12"),
        ("rules", {"version": "1", "backorder_micros": 15_000_000}, "must exceed 15944500"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(field: str, value: object, reason: str) -> None:
    """Duplicates, empty demand and rules under which goods in stock would stay there."""
    good = ask(wants(1, "X", 1), node("A", {"X": 1})).model_dump()
    with pytest.raises(ValidationError, match=reason):
        SourcingAsk.model_validate(good | {field: value})
