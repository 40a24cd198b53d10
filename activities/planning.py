"""From rows to a plan: load what the rules need, and let the pure rules decide."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.backorders import leave_to_others
from domain.geography import Point, distance_mi
from domain.ids import NodeId, Sku
from domain.orders import PlaceOrder, Split
from domain.promise import CarrierCalendar, NodeCalendar, NoWorkingDay, Promise, PromiseAsk, latest, plan_promise
from domain.sourcing import (
    Demand,
    NodeOffer,
    SourcingAsk,
    SourcingPlan,
    SourcingRules,
    Unfilled,
    canonical,
    could_ship_with_lanes,
    plan_sourcing,
)
from store import stock, supply

Rules = dict[str, tuple[str, dict[str, Any]]]


@dataclass(frozen=True)
class Plan:
    """What to hold where, what to promise, and why."""

    held: tuple[stock.Held, ...]
    promised_by: date
    promised_until: datetime
    zone_name: str
    steps_json: str
    ruleset: str
    promise_ruleset: str
    record: dict[str, Any]
    waiting: tuple[tuple[int, int], ...] = ()  # units that wait for supply: line number, units
    placed_by: date | None = None  # by when what is held arrives
    placed_until: datetime | None = None


class MayWait(NamedTuple):
    """The SKUs whose units may wait for supply, and for how long at most. `most`: so many units of each line only."""

    skus: frozenset[str]
    limit_s: int
    most: Mapping[int, int] | None = None

    def allows(self, short: Unfilled) -> bool:
        """Whether what is missing of a line may wait."""
        units = short.requested - short.available
        return short.sku in self.skus and (self.most is None or units <= self.most.get(short.line_no, 0))


NOBODY_WAITS = MayWait(frozenset(), 0)


class NoPlan(NamedTuple):
    """Why the order cannot be held. Lines: number, SKU, requested, available."""

    code: str
    detail: str
    lines: tuple[tuple[int, str, int, int], ...]


async def make_plan(
    connection: AsyncConnection,
    order: PlaceOrder,
    wanted: tuple[tuple[int, int], ...],
    rules: Rules,
    barred: tuple[tuple[str, str], ...] = (),
    may_wait: MayWait = NOBODY_WAITS,
    *,
    others_took_all: bool = False,
) -> Plan | NoPlan:
    """Choose nodes for the wanted units (line number, units) and compute the promise.

    What others wait for and get first is left to them. `barred` names nodes that were short of a SKU on this order:
    node, SKU. Units that no node has wait for supply if they may: there is no plan where some may not.
    `others_took_all`: plan as if there were no stock, because others are quicker each time.
    """
    skus = {line.line_no: line.sku for line in order.lines}
    network = await stock.load_network(connection, order.zone_id, order.service_level)
    version, body = rules["sourcing"]
    if order.split is Split.TOGETHER:
        body = {**body, "max_splits": 0}
    sourcing = SourcingRules.model_validate({**body, "version": version})
    demand = tuple(Demand(line_no=n, sku=skus[n], quantity=q) for n, q in wanted)
    atp = {} if others_took_all else await _free_stock(connection, order, network, demand, sourcing)
    promises = _promises(network, rules["promise"][1])
    ask = SourcingAsk(
        demand=demand,
        nodes=tuple(_offer(row, atp.get(row["node_id"], {}), promises, barred) for row in network),
        rules=sourcing,
    )
    plan = plan_sourcing(ask)
    if not plan.unfilled:
        return _plan(plan, ask, promises, rules)
    if all(may_wait.allows(unfilled) for unfilled in plan.unfilled) and not could_ship_with_lanes(ask):
        later = _promises(network, rules["promise"][1], timedelta(seconds=may_wait.limit_s))
        if later:
            return _plan(
                plan, ask, promises, rules, latest(list(later.values())), together=order.split is Split.TOGETHER
            )
    return _shortage(plan, ask, may_wait)


async def is_reachable(connection: AsyncConnection, order: PlaceOrder, rules: Rules) -> bool:
    """Whether any node can deliver there at that speed, if it only had the units."""
    network = await stock.load_network(connection, order.zone_id, order.service_level)
    return bool(_promises(network, rules["promise"][1]))


async def _free_stock(
    connection: AsyncConnection,
    order: PlaceOrder,
    network: list[dict[str, Any]],
    demand: tuple[Demand, ...],
    rules: SourcingRules,
) -> dict[str, dict[str, int]]:
    """What the order may take: the stock, less what others wait for and get first."""
    wanted: Counter[str] = Counter()
    for one in demand:
        wanted[one.sku] += one.quantity
    atp, ahead = await supply.free_and_ahead(connection, order.order_id, wanted)
    nodes = [row["node_id"] for row in network if not row["frozen"]]
    return leave_to_others(atp, nodes, wanted, ahead, rules.sourcing_minimum)


def _shortage(plan: SourcingPlan, ask: SourcingAsk, may_wait: MayWait) -> NoPlan:
    """What is missing and cannot wait: units, or only a way from the nodes that have them to the destination."""
    missing = [u for u in plan.unfilled if not may_wait.allows(u)] or plan.unfilled
    short = tuple((u.line_no, u.sku, u.requested, u.available) for u in missing)
    count = f"{len(short)} of {len(ask.demand)} lines"
    if could_ship_with_lanes(ask):
        return NoPlan("promise_not_possible", f"{count} are in stock where nothing can be delivered from.", short)
    return NoPlan("out_of_stock", f"{count} cannot be held.", short)


def _plan(
    plan: SourcingPlan,
    ask: SourcingAsk,
    promises: dict[str, Promise],
    rules: Rules,
    later: Promise | None = None,
    *,
    together: bool = False,
) -> Plan:
    """The plan. With `later`, the promise of what waits for supply, some units wait; where all goes together, all."""
    waits_whole = later is not None and together
    assignments = () if waits_whole else plan.assignments
    missing = [(u.line_no, u.requested - u.available) for u in plan.unfilled]
    if waits_whole:
        missing = [(demand.line_no, demand.quantity) for demand in ask.demand]
    here = [promises[node] for node in sorted({a.node_id for a in assignments})]
    placed = latest(here) if here else None
    promise = latest([*here, *([later] if later else [])])
    explanation = plan.explanation.model_dump(mode="json")
    return Plan(
        waiting=tuple(missing),
        placed_by=placed.deliver_by if placed else None,
        placed_until=placed.instant if placed else None,
        held=tuple((a.line_no, a.sku, a.node_id, a.quantity) for a in assignments),
        promised_by=promise.deliver_by,
        promised_until=promise.instant,
        zone_name=promise.zone_name,
        steps_json=json.dumps([step.model_dump(mode="json") for step in promise.steps]),
        ruleset=ask.rules.version,
        promise_ruleset=rules["promise"][0],
        record={**explanation, "input": canonical(ask).model_dump(mode="json"), "cost_micros": plan.cost_micros},
    )


def _promises(
    network: list[dict[str, Any]], body: dict[str, Any], after: timedelta = timedelta(0)
) -> dict[str, Promise]:
    """The promise from each node that has a lane to the destination and works at all, for goods that are there then."""
    carrier = CarrierCalendar(
        working_days=tuple(body.get("carrier_working_days", (0, 1, 2, 3, 4))),
        holidays=tuple(date.fromisoformat(d) for d in body.get("carrier_holidays", ())),
    )
    found = {}
    for row in network:
        if row["transit_days"] is None:
            continue
        calendar = NodeCalendar(
            node_id=NodeId(row["node_id"]),
            time_zone=row["time_zone"],
            working_days=tuple(row["working_days"]),
            holidays=tuple(row["holidays"]),
            cut_off=row["cut_off"],
            dispatch=row["dispatch"],
            pickup=row["pickup"],
            processing_days=row["processing_days"],
        )
        ask = PromiseAsk(
            accepted_at=row["now"] + after,
            node=calendar,
            carrier=carrier,
            transit_days=row["transit_days"],
            zone_name=row["zone_time_zone"],
            buffer_days=body.get("buffer_days", 0),
        )
        try:
            found[row["node_id"]] = plan_promise(ask)
        except NoWorkingDay:
            continue
    return found


def _offer(
    row: dict[str, Any], atp: dict[str, int], promises: dict[str, Promise], barred: tuple[tuple[str, str], ...]
) -> NodeOffer:
    promise = promises.get(row["node_id"])
    here = Point(latitude=row["latitude"], longitude=row["longitude"])
    there = Point(latitude=row["zone_latitude"], longitude=row["zone_longitude"])
    return NodeOffer(
        node_id=NodeId(row["node_id"]),
        usable=tuple(sorted(atp.items())),
        distance_mi=distance_mi(here, there),
        transit_days=row["transit_days"] if promise else None,
        arrival=promise.deliver_by if promise else None,
        frozen=row["frozen"],
        barred=tuple(sorted(Sku(sku) for node, sku in barred if node == row["node_id"])),
    )
