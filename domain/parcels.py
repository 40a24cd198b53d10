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

    The state follows from all that was seen, so that the order of arrival decides nothing; the first terminal
    state stands. Facts are never refused: what changes nothing says why.
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

    A failed attempt takes back what was told before it, by the carrier's time; of the rest the highest rank wins,
    and within a rank the latest.
    """
    trouble = seen.get(TrackingState.DELIVERY_EXCEPTION)
    smooth = {s: at for s, at in seen.items() if s in _RANK and (trouble is None or at > trouble)}
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
