"""Leaving a node that has not said no: which of its work can go elsewhere, what it hears later. Owner: fulfillment.

A silent node is asked to stop, like for a cancellation: its silence is no consent. It is asked only where another node
has the units, and it is the last resort should they be gone by then: a slow parcel is better than none.
"""

from typing import NamedTuple

from domain.lifecycle import FulfillmentState, may_be_silent
from domain.order_state import Fulfillment, OrderState
from domain.orders import Actor, WhyLeft
from domain.quantities import Bucket
from domain.refusals import OrderRuleError

NodeSku = tuple[str, str]


class Leaving(NamedTuple):
    """Why a node is left, under which id it is asked, and for whom."""

    why: WhyLeft
    command_id: str
    actor: Actor


class NodeGivenUp(OrderRuleError):
    """The node's units were taken from it, and go elsewhere."""

    code = "node_given_up"


def check_not_given_up(part: Fulfillment) -> None:
    """A late report changes nothing.

    Raises:
        NodeGivenUp: the node was left before.
    """
    if part.given_up is not None:
        text = f"{part.node_id} was given up for {part.fulfillment_id} ({part.given_up}): its units go elsewhere"
        raise NodeGivenUp(f"{text}; put back what was picked")


def is_silent(state: OrderState, part: Fulfillment) -> bool:
    """Whether its node may be left once its limit has passed: at once, or when a person says so."""
    idle = not (part.being_stopped or part.changing or part.in_call)
    return state.rules.node_silence is not None and idle and may_be_silent(part.state, part.stage)


def may_leave_frozen(part: Fulfillment) -> bool:
    """Whether a node that takes no new work gives this back: it has not accepted it."""
    early = part.state in (FulfillmentState.OPEN, FulfillmentState.SUBMITTED)
    return early and part.stage in (Bucket.ALLOCATED, Bucket.RELEASED) and not part.being_stopped


def node_skus(state: OrderState, part: Fulfillment) -> tuple[NodeSku, ...]:
    """The items that this node is left out for."""
    return tuple((part.node_id, sku) for sku in sorted({state.lines[line_no].sku for line_no in part.line_nos}))


def case_of(why: WhyLeft) -> str:
    """The case that asks a person, where nobody else has the units or the node could not stop."""
    return str(why)


def promise_cause(why: WhyLeft) -> str:
    """What a later promise gives as its reason."""
    return "node_late" if why is WhyLeft.SILENT else "capacity"
