"""How the workflow of an order is started: the same way from the API and from the sweeper.

The workflow is named, not imported: a process that starts orders does not need their implementation.
"""

from datetime import timedelta
from typing import Any

from temporalio.client import Client, WithStartWorkflowOperation
from temporalio.common import (
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import WorkflowAlreadyStartedError

from domain.lifecycle import OrderStatus, WaitingOn
from domain.money import format_minor
from domain.orders import PlaceOrder
from workflows import visibility
from workflows.messages import OrderClosed

TASK_QUEUE = "orders"
ORDER_WORKFLOW = "Order"
ACCEPT_UPDATE = "accept"


def order_workflow_id(order_id: str) -> str:
    """The id of the workflow that sees this order through."""
    return f"order-{order_id}"


def order_summary(place: PlaceOrder) -> str:
    """The line that operators read in the list of workflows: ``10042 · web-us · 3 lines · 235.44 USD``."""
    count = len(place.lines)
    lines = f"{count} line" if count == 1 else f"{count} lines"
    amount = format_minor(place.total_minor, place.currency)
    return f"{place.order_number} · {place.channel} · {lines} · {amount} {place.currency}"


def first_attributes(place: PlaceOrder) -> TypedSearchAttributes:
    """What an order can be found by before it has done anything."""
    return TypedSearchAttributes(
        [
            SearchAttributePair(visibility.ORDER_NUMBER, place.order_number),
            SearchAttributePair(visibility.ORDER_STATUS, OrderStatus.RECEIVED.value),
            SearchAttributePair(visibility.WAITING_ON, WaitingOn.PAYMENT.value),
            SearchAttributePair(visibility.PAYMENT_STATUS, "pending"),
            SearchAttributePair(visibility.PROMISE_STATE, "on_track"),
            SearchAttributePair(visibility.SALES_CHANNEL, place.channel),
            SearchAttributePair(visibility.CUSTOMER_REF, place.customer_ref),
        ]
    )


def start_operation(place: PlaceOrder) -> WithStartWorkflowOperation[Any, OrderClosed]:
    """The start half of update-with-start. An order that runs already is met, never started twice."""
    return WithStartWorkflowOperation(
        ORDER_WORKFLOW,
        place,
        id=order_workflow_id(place.order_id),
        task_queue=TASK_QUEUE,
        result_type=OrderClosed,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
        static_summary=order_summary(place),
        search_attributes=first_attributes(place),
    )


async def start_unanswered(client: Client, place: PlaceOrder, rpc_timeout: timedelta | None = None) -> bool:
    """Start the order without waiting for its answer. False when it has been started before."""
    try:
        await client.start_workflow(
            ORDER_WORKFLOW,
            place,
            id=order_workflow_id(place.order_id),
            task_queue=TASK_QUEUE,
            result_type=OrderClosed,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            static_summary=order_summary(place),
            search_attributes=first_attributes(place),
            rpc_timeout=rpc_timeout,
        )
    except WorkflowAlreadyStartedError:
        return False
    return True
