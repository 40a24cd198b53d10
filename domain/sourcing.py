"""Which nodes ship which units of an order, and why. Owner: inventory.

The plan is the exact optimum over the candidate nodes of
`fixed per node used + units x (unit cost + miles x mile cost) + backorder x unfilled units`, with ties
decided the same way every time, and it explains itself. The counting is in `domain/node_sets.py`.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from domain.ids import NodeId, Sku
from domain.node_sets import Choice, Site, Terms, cheapest_set, fill, rank
from domain.sourcing_record import (
    Candidate,
    ExcludedNode,
    ExclusionReason,
    LineCost,
    NodeCost,
    RunnerUp,
    SourcingExplanation,
)

_LINES_EXPLAINED = 50
_FARTHEST_MI = 12_500  # half the way around the earth
_WIDEST_SEARCH = 12  # nodes; 4,095 sets


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Demand(_Value):
    """Units wanted by one order line. Two lines may want the same SKU."""

    line_no: int
    sku: Sku
    quantity: int = Field(ge=1)


class NodeOffer(_Value):
    """What one node could do for this order.

    `usable` is ATP per demanded SKU; a SKU that is not named is not there. `transit_days` None means that no
    carrier serves the lane. `arrival` is the promise calculation's answer. A lower `preference` is better.
    `barred` names SKUs that the node was short of on this order already.
    """

    node_id: NodeId
    usable: tuple[tuple[Sku, int], ...]
    distance_mi: int = Field(ge=0, le=_FARTHEST_MI)
    transit_days: int | None
    arrival: date | None
    frozen: bool = False
    preference: int = 0
    barred: tuple[Sku, ...] = ()

    @model_validator(mode="after")
    def _one_entry_per_sku(self) -> "NodeOffer":
        if len(dict(self.usable)) != len(self.usable):
            raise ValueError(f"node {self.node_id} names a SKU twice")
        return self


class SourcingRules(_Value):
    """A version of the rules: costs in millionths of the currency unit, and limits.

    `max_splits` counts how often an order may be divided: 0 means one node, None any number.
    `sourcing_minimum` is the number of units of each SKU that a node keeps for itself.
    """

    version: str
    fixed_micros: int = Field(default=8_759_000, ge=0)
    unit_micros: int = Field(default=423_000, ge=0)
    unit_mile_micros: int = Field(default=541, ge=0)
    backorder_micros: int = Field(default=1_000_000_000, ge=0)
    max_splits: int | None = Field(default=None, ge=0)
    max_candidates: int = Field(default=10, ge=1, le=_WIDEST_SEARCH)
    sourcing_minimum: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _shipping_beats_backorder(self) -> "SourcingRules":
        dearest = self.fixed_micros + self.unit_cost_micros(_FARTHEST_MI)
        if self.backorder_micros <= dearest:
            raise ValueError(f"backorder_micros must exceed {dearest}, or goods in stock would not be shipped")
        return self

    def unit_cost_micros(self, distance_mi: int) -> int:
        """What one unit costs from a node so far away."""
        return self.unit_micros + self.unit_mile_micros * distance_mi


class SourcingAsk(_Value):
    """Everything the decision depends on."""

    demand: tuple[Demand, ...] = Field(min_length=1)
    nodes: tuple[NodeOffer, ...]
    rules: SourcingRules

    @model_validator(mode="after")
    def _no_duplicates(self) -> "SourcingAsk":
        if len({demand.line_no for demand in self.demand}) != len(self.demand):
            raise ValueError("a line number is used twice")
        if len({node.node_id for node in self.nodes}) != len(self.nodes):
            raise ValueError("a node is offered twice")
        return self


class Assignment(_Value):
    """Units of one line that one node ships."""

    line_no: int
    sku: Sku
    node_id: NodeId
    quantity: int


class Unfilled(_Value):
    """A line that is not covered in full; `available` units of it are in the plan."""

    line_no: int
    sku: Sku
    requested: int
    available: int


class SourcingPlan(_Value):
    """Who ships what, what is missing, what it costs, and why. Lines and nodes come in ascending order."""

    assignments: tuple[Assignment, ...]
    unfilled: tuple[Unfilled, ...]
    cost_micros: int
    explanation: SourcingExplanation


class _Search(NamedTuple):
    """One enumeration: the candidates and what was chosen among them."""

    candidates: tuple[Site, ...]
    choice: Choice


def canonical(ask: SourcingAsk) -> SourcingAsk:
    """The same question in one order and without what cannot matter: the form to record and to hash."""
    wanted = {demand.sku for demand in ask.demand}
    nodes = (
        node.model_copy(
            update={
                "usable": tuple(sorted(pair for pair in node.usable if pair[1] > 0 and pair[0] in wanted)),
                "barred": tuple(sorted(sku for sku in node.barred if sku in wanted)),
            }
        )
        for node in ask.nodes
    )
    return ask.model_copy(
        update={
            "demand": tuple(sorted(ask.demand, key=lambda demand: demand.line_no)),
            "nodes": tuple(sorted(nodes, key=lambda node: node.node_id)),
        }
    )


def plan_sourcing(ask: SourcingAsk) -> SourcingPlan:
    """Choose the nodes that ship the order; what no node has is left unfilled, never dropped."""
    ask = canonical(ask)
    wanted: dict[Sku, int] = defaultdict(int)
    for demand in ask.demand:
        wanted[demand.sku] += demand.quantity
    sites, excluded = _filter(ask, wanted)
    searches, given = _search(sites, list(wanted.values()), ask.rules)
    assignments, unfilled = _deal(ask.demand, tuple(wanted), given)
    missing = sum(line.requested - line.available for line in unfilled)
    winner = _winner(assignments, sites, ask.rules)
    cost = sum(node.fixed_micros + node.units_micros for node in winner)
    cost += missing * ask.rules.backorder_micros
    return SourcingPlan(
        assignments=assignments,
        unfilled=unfilled,
        cost_micros=cost,
        explanation=SourcingExplanation(
            rules_version=ask.rules.version,
            input_hash=_hash(ask.model_dump_json(exclude_none=True)),
            output_hash=_output_hash(assignments, unfilled, cost),
            candidates=_candidates(searches),
            excluded=_excluded(excluded, sites, searches),
            winner=winner,
            lines_left_out=len(assignments) if len(assignments) > _LINES_EXPLAINED else 0,
            runner_up=_runner_up(searches),
            decided_by=searches[0].choice.decided_by if searches else "nothing_usable",
            sets_tried=sum(search.choice.sets_tried for search in searches),
            searches=len(searches),
            unfilled_units=missing,
        ),
    )


def could_ship_with_lanes(ask: SourcingAsk) -> bool:
    """Whether the same plan would leave nothing unfilled if every node had a lane and a working day.

    Then the units are there and only the way to the customer is missing: no date can be promised.
    """
    nodes = tuple(node.model_copy(update={"transit_days": node.transit_days or 0}) for node in ask.nodes)
    return not plan_sourcing(ask.model_copy(update={"nodes": nodes})).unfilled


def _filter(ask: SourcingAsk, wanted: dict[Sku, int]) -> tuple[list[Site], list[ExcludedNode]]:
    sites: list[Site] = []
    excluded: list[ExcludedNode] = []
    for node in ask.nodes:
        atp = {sku: units for sku, units in node.usable if sku not in node.barred}
        keeps = ask.rules.sourcing_minimum
        usable = tuple(max(0, min(quantity, atp.get(sku, 0) - keeps)) for sku, quantity in wanted.items())
        reason = _unfit(node, usable)
        if reason is not None:
            excluded.append(ExcludedNode(node_id=node.node_id, reason=reason))
            continue
        unit_micros = ask.rules.unit_cost_micros(node.distance_mi)
        arrival = node.arrival or date.max
        sites.append(Site(node.node_id, unit_micros, node.preference, arrival, usable))
    return sites, excluded


def _unfit(node: NodeOffer, usable: Sequence[int]) -> ExclusionReason | None:
    if node.frozen:
        return ExclusionReason.NODE_FROZEN
    if node.transit_days is None:
        return ExclusionReason.NO_LANE
    if any(usable):
        return None
    if node.barred:
        return ExclusionReason.BARRED_AFTER_SHORT
    return ExclusionReason.BELOW_SOURCING_MINIMUM if node.usable else ExclusionReason.NO_STOCK


def _search(
    sites: Sequence[Site], quantities: list[int], rules: SourcingRules
) -> tuple[list[_Search], list[tuple[NodeId, tuple[int, ...]]]]:
    """Plan among the best candidates, then what they lack among the other nodes, until nothing is gained."""
    left = quantities
    rest = list(sites)
    max_nodes = len(sites) if rules.max_splits is None else rules.max_splits + 1
    searches: list[_Search] = []
    given: list[tuple[NodeId, tuple[int, ...]]] = []
    while rest and max_nodes > len(given):
        terms = Terms(rules.fixed_micros, rules.backorder_micros, max_nodes - len(given))
        candidates = rank(rest, left, terms, rules.max_candidates)
        choice = cheapest_set(candidates, left, terms)
        searches.append(_Search(candidates, choice))
        for site, units in fill(choice.sites, left):
            given.append((site.node_id, units))
            left = [wanted - got for wanted, got in zip(left, units, strict=True)]
        searched = {site.node_id for site in candidates}
        rest = _still_useful([site for site in rest if site.node_id not in searched], left)
    return searches, given


def _still_useful(sites: Sequence[Site], left: Sequence[int]) -> list[Site]:
    cut = (replace(site, usable=tuple(map(min, site.usable, left))) for site in sites)
    return [site for site in cut if any(site.usable)]


def _deal(
    lines: Sequence[Demand], skus: Sequence[Sku], given: Sequence[tuple[NodeId, tuple[int, ...]]]
) -> tuple[tuple[Assignment, ...], tuple[Unfilled, ...]]:
    """Give the planned units of each SKU to its lines, in line order, the cheapest node's units first."""
    supply: dict[Sku, list[tuple[NodeId, int]]] = {sku: [] for sku in skus}
    for node_id, units in reversed(given):
        for sku, quantity in zip(skus, units, strict=True):
            if quantity:
                supply[sku].append((node_id, quantity))
    assignments: list[Assignment] = []
    unfilled: list[Unfilled] = []
    for line in lines:
        left = line.quantity
        stack = supply[line.sku]
        while left and stack:
            node_id, has = stack.pop()
            take = min(left, has)
            left -= take
            if has > take:
                stack.append((node_id, has - take))
            assignments.append(Assignment(line_no=line.line_no, sku=line.sku, node_id=node_id, quantity=take))
        if left:
            unfilled.append(
                Unfilled(line_no=line.line_no, sku=line.sku, requested=line.quantity, available=line.quantity - left)
            )
    assignments.sort(key=lambda a: (a.line_no, a.node_id))
    return tuple(assignments), tuple(unfilled)


def _winner(assignments: Sequence[Assignment], sites: Sequence[Site], rules: SourcingRules) -> tuple[NodeCost, ...]:
    """The cost parts per node and line. Long orders keep the sums only: the unit cost gives the rest."""
    unit_costs = {site.node_id: site.unit_micros for site in sites}
    by_node: dict[NodeId, list[Assignment]] = defaultdict(list)
    for assignment in assignments:
        by_node[assignment.node_id].append(assignment)
    explained = len(assignments) <= _LINES_EXPLAINED
    return tuple(
        NodeCost(
            node_id=node_id,
            fixed_micros=rules.fixed_micros,
            unit_cost_micros=unit_costs[node_id],
            units=(units := sum(part.quantity for part in parts)),
            units_micros=units * unit_costs[node_id],
            lines=tuple(
                LineCost(line_no=p.line_no, quantity=p.quantity, micros=p.quantity * unit_costs[node_id])
                for p in parts
                if explained
            ),
        )
        for node_id, parts in sorted(by_node.items())
    )


def _candidates(searches: Sequence[_Search]) -> tuple[Candidate, ...]:
    return tuple(
        Candidate(
            node_id=site.node_id,
            search=number,
            usable_units=sum(site.usable),
            unit_cost_micros=site.unit_micros,
            arrival=None if site.arrival == date.max else site.arrival,
            preference=site.preference,
        )
        for number, search in enumerate(searches, start=1)
        for site in search.candidates
    )


def _excluded(
    excluded: Sequence[ExcludedNode], sites: Sequence[Site], searches: Sequence[_Search]
) -> tuple[ExcludedNode, ...]:
    searched = {site.node_id for search in searches for site in search.candidates}
    outranked = (
        ExcludedNode(node_id=site.node_id, reason=ExclusionReason.OUTRANKED)
        for site in sites
        if site.node_id not in searched
    )
    return tuple(sorted([*excluded, *outranked], key=lambda node: node.node_id))


def _runner_up(searches: Sequence[_Search]) -> RunnerUp | None:
    second = searches[0].choice.runner_up if searches else None
    if second is None:
        return None
    cost = second[0]
    return RunnerUp(node_ids=second[4], cost_micros=cost, gap_micros=cost - searches[0].choice.cost_micros)


def _output_hash(assignments: Sequence[Assignment], unfilled: Sequence[Unfilled], cost: int) -> str:
    output = [
        [[a.line_no, a.sku, a.node_id, a.quantity] for a in assignments],
        [[u.line_no, u.sku, u.requested, u.available] for u in unfilled],
        cost,
    ]
    return _hash(json.dumps(output, separators=(",", ":")))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
