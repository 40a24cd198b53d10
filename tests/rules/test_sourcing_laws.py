"""No plan is cheaper, and none breaks a law: sourcing against brute force and as properties."""

import random
from collections import Counter
from collections.abc import Iterator
from datetime import date
from itertools import combinations, product
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from domain.ids import NodeId, Sku
from domain.sourcing import (
    NodeOffer,
    SourcingAsk,
    SourcingPlan,
    Unfilled,
    canonical,
    plan_sourcing,
)
from tests.support.sourcing import ARRIVAL, ask, node, shipped, wants

# --- an independent brute force ---------------------------------------------------------------------------


class Option(NamedTuple):
    """A set of nodes with everything that decides between sets, in the order in which it decides."""

    cost: int
    size: int
    last_arrival: date
    preference: int
    node_ids: tuple[str, ...]


def units_of(option: tuple[NodeOffer, ...], question: SourcingAsk) -> Iterator[tuple[str, int, str | None]]:
    """Every unit of demand with its cost and its node, taken from the cheapest stock in the set."""
    rules = question.rules
    need: Counter[str] = Counter()
    for line in question.demand:
        need[line.sku] += line.quantity
    for sku, quantity in need.items():
        shelf = sorted(
            (rules.unit_micros + rules.unit_mile_micros * site.distance_mi, site.preference, site.node_id)
            for site in option
            for _ in range(dict(site.usable).get(Sku(sku), 0) - rules.sourcing_minimum)
        )
        for cost, _, node_id in shelf[:quantity]:
            yield sku, cost, node_id
        for _ in range(quantity - len(shelf)):
            yield sku, rules.backorder_micros, None


def options(question: SourcingAsk) -> list[Option]:
    """All sets of nodes that could serve the question, best first."""
    most = len(question.nodes) if question.rules.max_splits is None else question.rules.max_splits + 1
    able = [site for site in question.nodes if not site.frozen and site.transit_days is not None]
    found = []
    for size in range(min(most, len(able)) + 1):
        for members in combinations(able, size):
            cost = sum(unit_cost for _, unit_cost, _ in units_of(members, question))
            found.append(
                Option(
                    cost + size * question.rules.fixed_micros,
                    size,
                    max((site.arrival or date.max for site in members), default=date.min),
                    sum(site.preference for site in members),
                    tuple(sorted(site.node_id for site in members)),
                )
            )
    return sorted(found)


def random_question(rnd: random.Random, nodes: int, most_lines: int, most_units: int) -> SourcingAsk:
    """A question with many ties: few distances, few dates, little stock, sometimes the same SKU twice."""
    skus = [f"S{i}" for i in range(most_lines)]
    lines = [wants(i, rnd.choice(skus), rnd.randint(1, most_units)) for i in range(1, rnd.randint(1, most_lines) + 1)]
    sites = [
        NodeOffer(
            node_id=NodeId(f"N{i}"),
            usable=tuple((Sku(sku), rnd.randint(0, most_units + 2)) for sku in skus if rnd.random() < 0.6),
            distance_mi=rnd.choice([0, 100, 100, 900, 2_400]),
            transit_days=None if rnd.random() < 0.05 else 3,
            arrival=rnd.choice([None, ARRIVAL, ARRIVAL, date(2026, 12, 3)]),
            frozen=rnd.random() < 0.05,
            preference=rnd.choice([0, 0, 1]),
        )
        for i in range(nodes)
    ]
    return ask(
        *lines,
        *sites,
        max_splits=rnd.choice([None, None, None, 0, 1, 2]),
        sourcing_minimum=rnd.choice([0, 0, 0, 1]),
        fixed_micros=rnd.choice([8_759_000, 8_759_000, 423_000, 0]),
    )


def assert_is_the_best(question: SourcingAsk, plan: SourcingPlan, case: int) -> None:
    """The plan is the first option, unit for unit, and the runner-up is the second one that uses all its nodes."""
    ranked = options(question)
    best = ranked[0]
    by_id = {site.node_id: site for site in question.nodes}
    members = tuple(by_id[NodeId(name)] for name in best.node_ids)
    units = Counter((sku, name) for sku, _, name in units_of(members, question) if name is not None)
    assert plan.cost_micros == best.cost, case
    assert shipped(plan) == units, case
    assert tuple(part.node_id for part in plan.explanation.winner) == best.node_ids, case
    useful = [
        option
        for option in ranked
        if option.node_ids
        and {name for _, _, name in units_of(tuple(by_id[NodeId(n)] for n in option.node_ids), question)}
        >= set(option.node_ids)
    ]
    found = plan.explanation.runner_up
    second = (useful[1].cost, useful[1].node_ids) if len(useful) > 1 else None
    assert ((found.cost_micros, found.node_ids) if found else None) == second, case


def test_a_thousand_random_plans_equal_the_brute_force_over_all_subsets() -> None:
    """Cost, nodes, units and ties agree with trying every set of nodes, unit by unit."""
    for case in range(1_000):
        rnd = random.Random(case)
        question = random_question(rnd, nodes=rnd.randint(1, 7), most_lines=4, most_units=3)
        assert_is_the_best(question, plan_sourcing(question), case)


def test_ten_nodes_equal_the_brute_force_too() -> None:
    """The widest enumeration: 1,023 sets."""
    for case in range(20):
        question = random_question(random.Random(f"ten-{case}"), nodes=10, most_lines=5, most_units=3)
        assert_is_the_best(question, plan_sourcing(question), case)


def test_no_way_to_deal_the_units_is_cheaper() -> None:
    """For a fixed set of nodes the lines separate: no distribution of units over nodes beats the plan."""
    for case in range(150):
        rnd = random.Random(f"deal-{case}")
        quantities = {sku: rnd.randint(1, 3) for sku in ("A", "B")}
        sites = [node(f"N{i}", {s: rnd.randint(0, 3) for s in "AB"}, rnd.choice([0, 500, 2_000])) for i in range(3)]
        question = ask(*(wants(i, sku, q) for i, (sku, q) in enumerate(quantities.items(), 1)), *sites)
        shelves = [(sku, site) for sku in quantities for site in sites]
        cheapest = None
        for units in product(*(range(dict(site.usable)[Sku(sku)] + 1) for sku, site in shelves)):
            given = {sku: sum(u for u, (s, _) in zip(units, shelves, strict=True) if s == sku) for sku in quantities}
            if any(given[sku] > quantities[sku] for sku in quantities):
                continue
            used = {site.node_id for u, (_, site) in zip(units, shelves, strict=True) if u}
            cost = len(used) * 8_759_000 + sum(
                u * (423_000 + 541 * site.distance_mi) for u, (_, site) in zip(units, shelves, strict=True)
            )
            cost += sum(quantities[sku] - given[sku] for sku in quantities) * 1_000_000_000
            cheapest = cost if cheapest is None else min(cheapest, cost)
        assert plan_sourcing(question).cost_micros == cheapest, case


# --- laws ----------------------------------------------------------------------------------------------------


@st.composite
def questions(draw: st.DrawFn) -> SourcingAsk:
    """Any question, also with more nodes than are enumerated."""
    rnd = random.Random(draw(st.integers(0, 2**32)))
    return random_question(rnd, nodes=draw(st.integers(1, 14)), most_lines=6, most_units=4)


@given(questions(), st.randoms(use_true_random=False))
def test_the_same_question_in_another_order_gives_the_same_plan(question: SourcingAsk, rnd: random.Random) -> None:
    """Lines, nodes and stock may come in any order; plan, explanation and hashes stay."""
    nodes = [
        site.model_copy(update={"usable": tuple(rnd.sample(site.usable, len(site.usable)))}) for site in question.nodes
    ]
    shuffled = question.model_copy(
        update={
            "demand": tuple(rnd.sample(question.demand, len(question.demand))),
            "nodes": tuple(rnd.sample(nodes, len(nodes))),
        }
    )
    assert plan_sourcing(shuffled) == plan_sourcing(question)


@given(questions())
def test_units_are_conserved_and_stock_is_never_exceeded(question: SourcingAsk) -> None:
    """Every line is assigned or reported missing, and no node gives more than it has to spare."""
    plan = plan_sourcing(question)
    missing = {line.line_no: line for line in plan.unfilled}
    for line in question.demand:
        given = sum(part.quantity for part in plan.assignments if part.line_no == line.line_no)
        if line.line_no in missing:
            assert missing[line.line_no] == Unfilled(
                line_no=line.line_no, sku=line.sku, requested=line.quantity, available=given
            )
            assert given < line.quantity
        else:
            assert given == line.quantity
    assert set(missing) <= {line.line_no for line in question.demand}
    assert all(part.quantity > 0 for part in plan.assignments)
    stock = {(sku, site.node_id): units for site in question.nodes for sku, units in site.usable}
    for (sku, node_id), units in shipped(plan).items():
        assert units <= stock[Sku(sku), NodeId(node_id)] - question.rules.sourcing_minimum
    if question.rules.max_splits is not None:
        assert len({part.node_id for part in plan.assignments}) <= question.rules.max_splits + 1


@given(questions())
def test_the_recorded_question_answers_the_same(question: SourcingAsk) -> None:
    """Written to JSON and read back, the recorded input gives the same hashes and the same plan."""
    plan = plan_sourcing(question)
    recorded = SourcingAsk.model_validate(canonical(question).model_dump(mode="json"))
    again = plan_sourcing(recorded)
    assert again.explanation.output_hash == plan.explanation.output_hash
    assert again.explanation.input_hash == plan.explanation.input_hash
    assert SourcingPlan.model_validate(plan.model_dump(mode="json")) == again


@given(questions())
def test_the_explanation_accounts_for_every_node_and_every_millionth(question: SourcingAsk) -> None:
    """Each node is a candidate or left out with a reason, and the cost parts sum to the cost of the plan."""
    plan = plan_sourcing(question)
    record = plan.explanation
    named = [candidate.node_id for candidate in record.candidates] + [left.node_id for left in record.excluded]
    assert sorted(named) == sorted(site.node_id for site in question.nodes)
    parts = sum(part.fixed_micros + part.units_micros for part in record.winner)
    assert plan.cost_micros == parts + record.unfilled_units * question.rules.backorder_micros
    for part in record.winner:
        assert sum(line.quantity for line in part.lines) == part.units
        assert sum(line.micros for line in part.lines) == part.units_micros
    assert 0 <= record.sets_tried <= 1_023 * max(1, record.searches)


@given(questions())
def test_another_hash_means_another_answer(question: SourcingAsk) -> None:
    """One more unit on the first line changes the input hash, and the output hash with it."""
    first, *others = question.demand
    more = first.model_copy(update={"quantity": first.quantity + 1})
    changed = question.model_copy(update={"demand": (more, *others)})
    a, b = plan_sourcing(question), plan_sourcing(changed)
    assert a.explanation.input_hash != b.explanation.input_hash
    same = (a.assignments, a.unfilled, a.cost_micros) == (b.assignments, b.unfilled, b.cost_micros)
    assert same == (a.explanation.output_hash == b.explanation.output_hash)
