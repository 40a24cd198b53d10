"""From rows to a plan: load what the rules need, and let the pure rules decide."""

import json
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

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
    canonical,
    could_ship_with_lanes,
    plan_sourcing,
)
from store import stock

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
) -> Plan | NoPlan:
    """Choose nodes for the wanted units (line number, units) and compute the promise.

    `barred` names nodes that were short of a SKU on this order: node, SKU.
    """
    skus = {line.line_no: line.sku for line in order.lines}
    network = await stock.load_network(connection, order.zone_id, order.service_level)
    atp = await stock.load_atp(connection, sorted(set(skus.values())))
    promises = _promises(network, rules["promise"][1])
    version, body = rules["sourcing"]
    if order.split is Split.TOGETHER:
        body = {**body, "max_splits": 0}
    ask = SourcingAsk(
        demand=tuple(Demand(line_no=n, sku=skus[n], quantity=q) for n, q in wanted),
        nodes=tuple(_offer(row, atp.get(row["node_id"], {}), promises, barred) for row in network),
        rules=SourcingRules.model_validate({**body, "version": version}),
    )
    plan = plan_sourcing(ask)
    if plan.unfilled:
        return _shortage(plan, ask)
    return _plan(plan, ask, promises, rules)


def _shortage(plan: SourcingPlan, ask: SourcingAsk) -> NoPlan:
    """What is missing: units, or only a way from the nodes that have them to the destination."""
    short = tuple((u.line_no, u.sku, u.requested, u.available) for u in plan.unfilled)
    count = f"{len(short)} of {len(ask.demand)} lines"
    if could_ship_with_lanes(ask):
        return NoPlan("promise_not_possible", f"{count} are in stock where nothing can be delivered from.", short)
    return NoPlan("out_of_stock", f"{count} cannot be held.", short)


def _plan(plan: SourcingPlan, ask: SourcingAsk, promises: dict[str, Promise], rules: Rules) -> Plan:
    nodes = sorted({a.node_id for a in plan.assignments})
    promise = latest([promises[node] for node in nodes])
    explanation = plan.explanation.model_dump(mode="json")
    return Plan(
        held=tuple((a.line_no, a.sku, a.node_id, a.quantity) for a in plan.assignments),
        promised_by=promise.deliver_by,
        promised_until=promise.instant,
        zone_name=promise.zone_name,
        steps_json=json.dumps([step.model_dump(mode="json") for step in promise.steps]),
        ruleset=ask.rules.version,
        promise_ruleset=rules["promise"][0],
        record={**explanation, "input": canonical(ask).model_dump(mode="json"), "cost_micros": plan.cost_micros},
    )


def _promises(network: list[dict[str, Any]], body: dict[str, Any]) -> dict[str, Promise]:
    """The promise from each node that has a lane to the destination and works at all."""
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
            accepted_at=row["now"],
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
