"""When the cause of an exception case is gone, so that nobody looks into what has solved itself. Owned by service."""

from datetime import datetime

from domain.lifecycle import FulfillmentState, OrderFacts, PaymentState, awaits_recall, awaits_remedy
from domain.notices import NOTICE_FAILING
from domain.orders import HoldType
from domain.quantities import HANDED_OVER, Bucket

_WORK = {
    "release_pending": (FulfillmentState.OPEN,),
    "release_failing": (FulfillmentState.OPEN, FulfillmentState.CANCELLATION_REQUESTED),
    "node_refused": (FulfillmentState.OPEN,),
    "node_silent": (FulfillmentState.SUBMITTED, FulfillmentState.ACCEPTED, FulfillmentState.IN_PROGRESS),
    "node_frozen": (FulfillmentState.OPEN, FulfillmentState.SUBMITTED),
    "node_silent_on_stop": (FulfillmentState.CANCELLATION_REQUESTED,),
    "stop_failing": (FulfillmentState.CANCELLATION_REQUESTED,),
    "booking_failing": (FulfillmentState.IN_PROGRESS, FulfillmentState.CANCELLATION_REQUESTED),
    "carrier_refused": (FulfillmentState.IN_PROGRESS,),
    "carrier_silent": (FulfillmentState.SHIPPED,),
}
_ANSWER = ("payment_pending", "payment_unknown")
RECALL_UNANSWERED = "recall_unanswered"  # the carrier does not say whether it brings a parcel back
RECALL_FAILING = "recall_failing"
_RECALL = (RECALL_UNANSWERED, RECALL_FAILING)
_CAPTURE = ("payment_capture_failing", "payment_capture_refused")
CARRIER_CLAIM = "carrier_claim"  # the carrier owes us something for a parcel that it lost or damaged
PARCEL_RETURNING = "parcel_returning"  # a parcel comes back: somebody asks the customer why
PARCEL_REMEDY = "parcel_remedy"  # a person decides whether a parcel is refunded or sent again
FOUND_AFTER_LOSS = "found_after_loss"  # a parcel turned up that was made good before
CLOSED_BY_FORCE = "closed_by_force"  # what could not be undone when an order was closed by force
LEFT_AFTER_CLOSE = "left_after_close"  # a parcel left though its order had ended: its units are not booked out
_OUTLIVE = (NOTICE_FAILING, CARRIER_CLAIM, FOUND_AFTER_LOSS, CLOSED_BY_FORCE, LEFT_AFTER_CLOSE)


def overdue_case(hold_type: HoldType) -> str:
    """The case that asks a hold's owner to decide: its limit has passed."""
    return f"{hold_type}_hold_overdue"


_OVERDUE = {overdue_case(hold_type): hold_type for hold_type in HoldType}


def outlives_order(code: str) -> bool:
    """Whether the case stays open when its order has ended: somebody still has to be told, asked or paid."""
    return code in _OUTLIVE


def case_is_over(code: str, opened_at: datetime, facts: OrderFacts) -> bool:
    """Whether nothing is left in the state that the case was opened for.

    A state that began after the case is not its cause. What no state tells of (a late promise, a void that the
    provider refuses) ends with the order.
    """
    if code in _ANSWER:
        return not any(t.state is PaymentState.PENDING and t.since <= opened_at for t in facts.tenders)
    if code in _CAPTURE:
        return not any(f.stage in HANDED_OVER and not f.captured for f in facts.fulfillments)
    if code in _RECALL:
        return not any(awaits_recall(f.stage, f.tracking, f.recall) for f in facts.fulfillments)
    if code == PARCEL_REMEDY:
        return not any(awaits_remedy(f.stage, f.tracking) for f in facts.fulfillments)
    if code == PARCEL_RETURNING:
        return not any(f.stage is Bucket.RETURN_PENDING for f in facts.fulfillments)
    if code in _OVERDUE:
        return not any(h.type is _OVERDUE[code] and h.since <= opened_at for h in facts.holds)
    states = _WORK.get(code)
    if states is None:
        return False
    return not any(f.state in states and f.since <= opened_at for f in facts.fulfillments)
