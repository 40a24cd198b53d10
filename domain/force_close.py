"""Closing an order by force, the last resort instead of ending its workflow: what is undone, and what is left.

Nobody is asked any more: what has not left is cancelled at once, what has left counts as arrived unless its
carrier says otherwise, and money goes home as far as its provider answers. The rest is one case. Owned by operations.
"""

from collections.abc import Iterable

from domain.cancellation import CancellationPlan, PartUnits
from domain.lifecycle import IN_TROUBLE, FulfillmentState
from domain.order_state import Fulfillment, OrderState
from domain.orders import Actor, ActorKind
from domain.permissions import Role
from domain.quantities import AT_THE_NODE, BEFORE_HAND_OVER, WITH_THE_CARRIER, Bucket
from domain.refusals import OrderRuleError

LONGEST_TEXT = 900


class NotForYou(OrderRuleError):
    """Only operations may close an order by force."""

    code = "not_permitted"
    alternative = "cancel"


class ClosingAlready(OrderRuleError):
    """It is being closed by another command."""

    code = "closing_already"


class OrderClosed(OrderRuleError):
    """The order is over, or is being closed by force: it takes nothing more."""

    code = "order_closed"


def check_may_force(actor: Actor) -> None:
    """Whether this actor may close an order by force: operations, and whoever acts for it at the engine's console.

    Raises:
        NotForYou: somebody else.
    """
    if actor.kind is not ActorKind.OPERATOR and actor.role != Role.OPS:
        raise NotForYou("an order is closed by force by operations only; it can be cancelled")


def plan_force_close(state: OrderState) -> CancellationPlan:
    """All that has not left is cancelled at once, wherever it is; no node is asked."""
    parts = [part for part in state.fulfillments.values() if part.stage in BEFORE_HAND_OVER and _has_units(part)]
    return CancellationPlan(
        backordered_units=_units_in(state, Bucket.BACKORDERED),
        open_units=_units_in(state, Bucket.OPEN),
        held_units=state.placements,
        at_once=tuple(PartUnits(part.fulfillment_id, part.lines) for part in parts),
        asked=(),
        handed_over_units=sum(line.gone for line in state.lines.values()),
        value_at_once_minor=0,
        value_asked_minor=0,
    )


def left_at_nodes(state: OrderState) -> tuple[str, ...]:
    """What nodes have of the order, or may have: somebody has to tell them. Asked before anything is marked."""
    return tuple(
        f"{part.node_id} {'may have' if part.stage is Bucket.ALLOCATED else 'has'} {part.units} units "
        f"({part.fulfillment_id}, {part.stage})"
        for part in state.fulfillments.values()
        if part.stage in AT_THE_NODE or (part.stage is Bucket.ALLOCATED and part.in_call)
    )


def on_their_way(state: OrderState) -> tuple[Fulfillment, ...]:
    """The parcels that the carrier has and that are in no trouble: they count as arrived."""
    return tuple(
        part for part in state.fulfillments.values() if part.stage is Bucket.SHIPPED and part.tracking not in IN_TROUBLE
    )


def not_arriving(state: OrderState) -> tuple[Fulfillment, ...]:
    """The parcels that are lost, damaged or coming back, and were not made good: they are refunded."""
    found = (part for part in state.fulfillments.values() if part.stage in WITH_THE_CARRIER)
    return tuple(part for part in found if part.stage is Bucket.RETURN_PENDING or part.tracking in IN_TROUBLE)


def told(parts: Iterable[str]) -> str:
    """What is left to do, for a person, bounded."""
    return "; ".join(parts)[:LONGEST_TEXT]


def _units_in(state: OrderState, bucket: Bucket) -> tuple[tuple[int, int], ...]:
    return tuple((n, units) for n, line in state.lines.items() if (units := line.buckets.of(bucket)))


def _has_units(part: Fulfillment) -> bool:
    over = (FulfillmentState.CANCELLED, FulfillmentState.REJECTED, FulfillmentState.CLOSED)
    return part.state not in over and part.stage is not Bucket.OPEN
