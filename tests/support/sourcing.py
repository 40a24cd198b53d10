"""Questions to the sourcing rule, in short."""

from collections import Counter
from collections.abc import Mapping
from datetime import date

from domain.ids import NodeId, Sku
from domain.sourcing import (
    Demand,
    NodeOffer,
    SourcingAsk,
    SourcingPlan,
    SourcingRules,
)

ARRIVAL = date(2026, 12, 1)


def wants(line_no: int, sku: str, quantity: int) -> Demand:
    """A line of the order."""
    return Demand(line_no=line_no, sku=Sku(sku), quantity=quantity)


def node(
    name: str,
    stock: Mapping[str, int],
    distance_mi: int = 100,
    arrival: date | None = ARRIVAL,
    preference: int = 0,
) -> NodeOffer:
    """A node that has `stock`."""
    return NodeOffer(
        node_id=NodeId(name),
        usable=tuple((Sku(sku), units) for sku, units in stock.items()),
        distance_mi=distance_mi,
        transit_days=2,
        arrival=arrival,
        preference=preference,
    )


def ask(*parts: Demand | NodeOffer, **rules: int | None) -> SourcingAsk:
    """A question made of lines and nodes."""
    return SourcingAsk(
        demand=tuple(part for part in parts if isinstance(part, Demand)),
        nodes=tuple(part for part in parts if isinstance(part, NodeOffer)),
        rules=SourcingRules.model_validate({"version": "sourcing@1"} | rules),
    )


def shipped(plan: SourcingPlan) -> Counter[tuple[str, str]]:
    """Units by SKU and node."""
    units: Counter[tuple[str, str]] = Counter()
    for part in plan.assignments:
        units[part.sku, part.node_id] += part.quantity
    return units


def excluded(plan: SourcingPlan) -> dict[str, str]:
    """Reasons by node."""
    return {left.node_id: left.reason.value for left in plan.explanation.excluded}
