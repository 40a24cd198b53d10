"""What a carrier's event does to a parcel, whatever order the events come in. Owned by fulfillment."""

from collections.abc import Mapping
from datetime import datetime

from pydantic import Field

from domain.lifecycle import TrackingState
from domain.orders import CarrierEventType, Frozen

_RANK = {
    TrackingState.PRE_TRANSIT: 1,
    TrackingState.IN_TRANSIT: 2,
    TrackingState.OUT_FOR_DELIVERY: 3,
    TrackingState.AVAILABLE_FOR_PICKUP: 3,
}
_ENDS = (TrackingState.DELIVERED, TrackingState.DAMAGED, TrackingState.RETURNED)
"""The first of these that was told stands: a damaged parcel that comes back is still damaged."""
KNOWN_ALREADY = "known already"

Seen = Mapping[TrackingState, datetime]
"""Of each state that the carrier told of, the latest carrier time."""


class Scan(Frozen):
    """What a carrier event does: the new state, or None with the reason why it changes nothing.

    `seen` is what the carrier has told from now on.
    """

    state: TrackingState | None
    seen: dict[TrackingState, datetime] = Field(default_factory=dict)
    why: str | None = None
    implies_hand_over: bool = False
    repeated: bool = False  # the very event was told before


def after_scan(event: CarrierEventType, at: datetime, current: TrackingState, seen: Seen) -> Scan:
    """What a carrier event does to a parcel in state `current`.

    The state follows from all that was seen, so that the order of arrival decides nothing. Facts are never
    refused: what changes nothing says why. What follows for the units: `domain/carrier_trouble.py`.
    """
    if current in (TrackingState.DELIVERED, TrackingState.VOIDED):
        return Scan(state=None, seen=dict(seen), why=f"parcel is already {current}")
    told = _told(event)
    noted = noted_scan(seen, told, at)
    moves = event is not CarrierEventType.PRE_TRANSIT
    state = told if told is TrackingState.DELIVERED else tracking_of(noted)
    failed_again = told is state is TrackingState.DELIVERY_EXCEPTION and noted != seen
    if state is current and not failed_again:
        why = KNOWN_ALREADY if told is current else f"parcel is already {current}"
        return Scan(state=None, seen=noted, why=why, implies_hand_over=moves)
    return Scan(state=state, seen=noted, implies_hand_over=moves)


def tracking_of(seen: Seen) -> TrackingState:
    """The state that the carrier's events add up to.

    What ends a journey stands above all else. A failed attempt, or that it was lost, takes back what was told
    before it, by the carrier's time; a parcel that turned back goes back. Of the rest the highest rank wins, and
    within a rank the latest.
    """
    for end in _ENDS:
        if end in seen:
            return end
    lost, back = seen.get(TrackingState.LOST), seen.get(TrackingState.RETURN_TO_SENDER)
    if lost is not None and all(at <= lost for at in seen.values()):
        return TrackingState.LOST
    if back is not None:
        return TrackingState.RETURN_TO_SENDER
    trouble = seen.get(TrackingState.DELIVERY_EXCEPTION)
    setbacks = [at for at in (trouble, lost) if at is not None]
    smooth = {s: at for s, at in seen.items() if s in _RANK and all(at > setback for setback in setbacks)}
    if smooth:
        return max(smooth, key=lambda s: (_RANK[s], smooth[s], s))
    return TrackingState.DELIVERY_EXCEPTION if trouble else TrackingState.LABEL_CREATED


def noted_scan(seen: Seen, state: TrackingState, at: datetime) -> dict[TrackingState, datetime]:
    """What was seen, and this."""
    return {**seen, state: max(at, seen.get(state, at))}


def _told(event: CarrierEventType) -> TrackingState:
    if event is CarrierEventType.HANDED_OVER:
        return TrackingState.IN_TRANSIT
    return TrackingState(event.value)
