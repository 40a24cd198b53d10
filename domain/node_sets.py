"""Which nodes are worth considering, and which set of them is cheapest: the arithmetic of sourcing.

Owner: inventory. `domain/sourcing.py` says what is decided and why; this module only counts. The cost of
a set of nodes is `fixed` per node, each unit at the cost of the cheapest node of the set that has it, and
`backorder` for every unit that no node of the set has. Costs are whole millionths, so equal is equal.
"""

import heapq
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from operator import add
from typing import Literal

from domain.ids import NodeId

DecidedBy = Literal["cost", "fewer_nodes", "earlier_arrival", "preference", "node_ids", "only_choice"]

_STARTS = 20
_RATING_SCALE = 1 << 20
_DECIDERS: tuple[DecidedBy, ...] = ("cost", "fewer_nodes", "earlier_arrival", "preference", "node_ids")

SetKey = tuple[int, int, date, int, tuple[NodeId, ...]]
"""Cost, number of nodes, last arrival, preferences, node ids: what decides between two sets, in order."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a set of nodes costs, in millionths, and how many nodes it may have."""

    fixed_micros: int
    backorder_micros: int
    max_nodes: int


@dataclass(frozen=True, slots=True)
class Site:
    """A node that can give something: units per demanded SKU, in the order of the quantities asked for."""

    node_id: NodeId
    unit_micros: int
    preference: int
    arrival: date
    usable: tuple[int, ...]

    @property
    def fill_order(self) -> tuple[int, int, NodeId]:
        """Inside a line: unit cost, then preference, then node id."""
        return self.unit_micros, self.preference, self.node_id


@dataclass(frozen=True, slots=True)
class Choice:
    """The cheapest set (in fill order), the second best, and what told them apart."""

    sites: tuple[Site, ...]
    cost_micros: int
    runner_up: SetKey | None
    decided_by: DecidedBy
    sets_tried: int


def rank(sites: Sequence[Site], quantities: Sequence[int], terms: Terms, limit: int) -> tuple[Site, ...]:
    """The at most `limit` nodes worth enumerating, most promising first.

    With more nodes than that, those of the cheapest greedy covers come first. No cover is built without a
    start: it would begin with the best-rated node, which is the first start.
    """
    order = sorted(sites, key=lambda s: (_rating(terms, s, sum(s.usable)), s.preference, s.node_id))
    if len(order) <= limit:
        return tuple(order)
    ratings = [(_rating(terms, site, sum(site.usable)), i) for i, site in enumerate(order)]
    covers = {_cover(start, order, ratings, quantities, terms) for start in range(min(_STARTS, len(order)))}
    by_cost = sorted(covers, key=lambda cover: (_cover_cost([order[i] for i in cover], quantities, terms), cover))
    picked = dict.fromkeys(position for cover in by_cost for position in cover)
    picked.update(dict.fromkeys(range(len(order))))
    return tuple(order[position] for position in list(picked)[:limit])


def cheapest_set(sites: Sequence[Site], quantities: Sequence[int], terms: Terms) -> Choice:
    """The best set of `sites`, exactly: every set within `max_nodes` is tried, smallest first.

    Sets in which a node receives nothing are passed over: the set without it is cheaper or smaller. The
    search ends where the fixed cost alone exceeds the second best, so the runner-up is exact too.

    Raises:
        ValueError: there is no node to choose from.
    """
    if not sites:
        raise ValueError("a choice needs at least one node")
    ordered = sorted(sites, key=lambda site: site.fill_order)
    uncovered = _uncovered_units(ordered, quantities)
    variable = _variable_cost(ordered, uncovered, terms.backorder_micros)
    leaders: list[tuple[SetKey, int]] = []
    tried = 0
    for size, masks in _masks_by_size(len(ordered), terms.max_nodes):
        fixed = size * terms.fixed_micros
        if len(leaders) == 2 and fixed > leaders[1][0][0]:
            break
        tried += len(masks)
        for mask in masks:
            cost = fixed + variable[mask]
            if len(leaders) == 2 and cost > leaders[1][0][0]:
                continue
            if _every_node_gives(mask, uncovered):
                leaders = sorted([*leaders, (_key(cost, _members(mask, ordered)), mask)])[:2]
    best, mask = leaders[0]
    second = leaders[1][0] if len(leaders) == 2 else None
    return Choice(tuple(_members(mask, ordered)), best[0], second, _decided_by(best, second), tried)


def fill(sites: Sequence[Site], quantities: Sequence[int]) -> Iterator[tuple[Site, tuple[int, ...]]]:
    """What each node gives per SKU, when the nodes are used in the order they come in."""
    left = list(quantities)
    for site in sites:
        given = tuple(map(min, left, site.usable))
        left = [wanted - got for wanted, got in zip(left, given, strict=True)]
        yield site, given


def _rating(terms: Terms, site: Site, units: int) -> int:
    """Cost per unit of a parcel with `units` units, scaled to stay whole."""
    return terms.fixed_micros * _RATING_SCALE // units + site.unit_micros * _RATING_SCALE


def _cover(
    start: int,
    order: Sequence[Site],
    ratings: Sequence[tuple[int, int]],
    quantities: Sequence[int],
    terms: Terms,
) -> tuple[int, ...]:
    """Greedily add the node with the least cost per newly covered unit; positions in `order`, sorted.

    A node's gain only ever shrinks, so an outdated rating is a lower bound and most need no update.
    `ratings` come in ascending order, which is a heap.
    """
    left = _take(quantities, order[start])
    cover = [start]
    heap = [*ratings[:start], *ratings[start + 1 :]]
    while heap and len(cover) < terms.max_nodes and any(left):
        position = heap[0][1]
        gain = sum(map(min, left, order[position].usable))
        if not gain:
            heapq.heappop(heap)
            continue
        current = (_rating(terms, order[position], gain), position)
        if current > heap[0]:
            heapq.heapreplace(heap, current)
            continue
        heapq.heappop(heap)
        cover.append(position)
        left = _take(left, order[position])
    return tuple(sorted(cover))


def _take(left: Sequence[int], site: Site) -> list[int]:
    """What is still wanted when the site has given all it can."""
    return [wanted - has if has < wanted else 0 for wanted, has in zip(left, site.usable, strict=True)]


def _cover_cost(cover: Sequence[Site], quantities: Sequence[int], terms: Terms) -> int:
    ordered = sorted(cover, key=lambda site: site.fill_order)
    given = [(site, sum(units)) for site, units in fill(ordered, quantities)]
    unfilled = sum(quantities) - sum(units for _, units in given)
    shipped = sum(terms.fixed_micros + units * site.unit_micros for site, units in given)
    return shipped + unfilled * terms.backorder_micros


def _uncovered_units(ordered: Sequence[Site], quantities: Sequence[int]) -> list[int]:
    """For every set of nodes (bit i = node i) the units that the set does not have.

    SKUs that every node has in full or not at all are counted by the mask of the nodes that have them: a
    set misses them where it shares no node with the mask, which one sum over subsets answers for all masks.
    The others are few in practice, and each is worked out set by set.
    """
    by_mask = [0] * (1 << len(ordered))
    partial = [0] * len(by_mask)
    columns = zip(*(site.usable for site in ordered), strict=True)
    for (quantity, column), times in Counter(zip(quantities, columns, strict=True)).items():
        if all(has == 0 or has >= quantity for has in column):
            by_mask[sum(1 << i for i, has in enumerate(column) if has)] += quantity * times
        else:
            has = _stock_of_sets(quantity, column)
            partial = [p + (quantity - h) * times if h < quantity else p for p, h in zip(partial, has, strict=True)]
    sums = by_mask
    for _ in ordered:
        # One step adds along the lowest bit and turns it into the highest; after n steps all are back.
        without = sums[0::2]
        sums = without + list(map(add, without, sums[1::2]))
    sums.reverse()  # The masks that a set misses lie within its complement.
    return list(map(add, sums, partial))


def _stock_of_sets(quantity: int, column: Sequence[int]) -> list[int]:
    """For every set the units of one SKU that it has, where `quantity` and more all count as enough."""
    has = [0]
    for units in column:
        if units == 0:
            has += has
        elif units >= quantity:
            has += [quantity] * len(has)
        else:
            has += [others + units for others in has]
    return has


def _variable_cost(ordered: Sequence[Site], uncovered: Sequence[int], backorder_micros: int) -> list[int]:
    """For every set the cost of its units and of those it lacks, without the fixed cost.

    The dearest node of a set gives what the others lack, so each set follows from the one without it.
    """
    cost = [backorder_micros * uncovered[0]]
    for i, site in enumerate(ordered):
        half = 1 << i
        saving = backorder_micros - site.unit_micros
        cost += [
            base - saving * (before - after)
            for base, before, after in zip(cost, uncovered[:half], uncovered[half : 2 * half], strict=True)
        ]
    return cost


def _masks_by_size(count: int, max_nodes: int) -> Iterator[tuple[int, tuple[int, ...]]]:
    for size in range(1, min(count, max_nodes) + 1):
        yield size, _masks(count)[size]


@lru_cache(maxsize=16)
def _masks(count: int) -> tuple[tuple[int, ...], ...]:
    """All sets of `count` nodes, grouped by how many nodes they have."""
    groups: list[list[int]] = [[] for _ in range(count + 1)]
    for mask in range(1 << count):
        groups[mask.bit_count()].append(mask)
    return tuple(map(tuple, groups))


def _every_node_gives(mask: int, uncovered: Sequence[int]) -> bool:
    cheaper = 0
    while mask:
        node = mask & -mask
        if uncovered[cheaper | node] == uncovered[cheaper]:
            return False
        cheaper |= node
        mask ^= node
    return True


def _members(mask: int, ordered: Sequence[Site]) -> list[Site]:
    return [site for i, site in enumerate(ordered) if mask >> i & 1]


def _key(cost: int, members: Sequence[Site]) -> SetKey:
    return (
        cost,
        len(members),
        max(site.arrival for site in members),
        sum(site.preference for site in members),
        tuple(sorted(site.node_id for site in members)),
    )


def _decided_by(best: SetKey, second: SetKey | None) -> DecidedBy:
    if second is None:
        return "only_choice"
    return next(name for name, a, b in zip(_DECIDERS, best, second, strict=True) if a != b)
