"""What can be cancelled now, what the node must be asked about, and what has left already. Owned by service.

One pure plan serves the validator (refuse before anything is written), the preview and the execution.
"""

from domain.lifecycle import FulfillmentState
from domain.order_state import OrderState
from domain.orders import Frozen
from domain.quantities import AT_THE_NODE, Bucket
from domain.refusals import OrderRuleError


class AlreadyHandedOver(OrderRuleError):
    """Everything that is not cancelled has left."""

    code = "already_handed_over"
    alternative = "return"


class NothingToCancel(OrderRuleError):
    """The order is over, or all of it is cancelled."""

    code = "nothing_to_cancel"


class CancellationInProgress(OrderRuleError):
    """The nodes were asked already; their answer decides."""

    code = "cancellation_in_progress"


class CancellationPlan(Frozen):
    """Units that are free at once, fulfillment orders whose node must agree, and money before and after."""

    open_units: tuple[tuple[int, int], ...]  # line number, units
    held_units: tuple[tuple[int, int], ...]
    at_once: tuple[str, ...]  # fulfillment orders that were not sent to their node
    asked: tuple[str, ...]  # fulfillment orders whose node must agree
    handed_over_units: int
    value_at_once_minor: int
    value_asked_minor: int


def plan_cancellation(state: OrderState) -> CancellationPlan:
    """Cancel everything that has not left.

    Raises:
        NothingToCancel: no unit is left to cancel.
        AlreadyHandedOver: all units left; a return is possible instead.
        CancellationInProgress: all that could be cancelled is waiting for a node's answer.
    """
    quantities = state.quantities
    parts = [f for f in state.fulfillments.values() if f.stage in (Bucket.ALLOCATED, *AT_THE_NODE)]
    asked = [f for f in parts if f.stage in AT_THE_NODE or f.in_call]
    free = [f for f in parts if f not in asked]
    waiting = [f for f in asked if f.state is FulfillmentState.CANCELLATION_REQUESTED or f.cancelling]
    asked = [f for f in asked if f not in waiting]
    open_units = _units_in(state, Bucket.OPEN)
    held_units = _units_in(state, Bucket.RESERVED)
    if not (open_units or held_units or free or asked):
        if waiting:
            raise CancellationInProgress("the node was asked to stop already; its answer decides")
        if quantities.of(Bucket.SHIPPED, Bucket.DELIVERED):
            raise AlreadyHandedOver("the carrier has the goods; they can come back as a return")
        raise NothingToCancel("nothing of this order is left to cancel")
    at_once = _value(state, [*open_units, *held_units, *(u for f in free for u in f.lines)])
    everything = _value(state, [*open_units, *held_units, *(u for f in (*free, *asked) for u in f.lines)])
    return CancellationPlan(
        open_units=open_units,
        held_units=held_units,
        at_once=tuple(f.fulfillment_id for f in free),
        asked=tuple(f.fulfillment_id for f in asked),
        handed_over_units=quantities.of(Bucket.SHIPPED, Bucket.DELIVERED),
        value_at_once_minor=at_once,
        value_asked_minor=everything - at_once,  # the units of one line differ by a penny: what goes first counts
    )


def _units_in(state: OrderState, bucket: Bucket) -> tuple[tuple[int, int], ...]:
    units = ((line.line_no, line.buckets.of(bucket)) for line in state.lines.values())
    return tuple((line_no, quantity) for line_no, quantity in units if quantity)


def _value(state: OrderState, units: list[tuple[int, int]]) -> int:
    """What would no longer be owed."""
    per_line: dict[int, int] = {}
    for line_no, quantity in units:
        per_line[line_no] = per_line.get(line_no, 0) + quantity
    return sum(state.lines[n].shares.value_to_cancel(state.lines[n].buckets.cancelled, q) for n, q in per_line.items())
