"""What a carrier's event does to a parcel, whatever order the events come in. Owned by fulfillment."""

from datetime import datetime

from domain.lifecycle import TrackingState
from domain.orders import CarrierEventType, Frozen

_RANK = {
    TrackingState.LABEL_CREATED: 0,
    TrackingState.PRE_TRANSIT: 1,
    TrackingState.IN_TRANSIT: 2,
    TrackingState.DELIVERY_EXCEPTION: 2,
    TrackingState.OUT_FOR_DELIVERY: 3,
    TrackingState.AVAILABLE_FOR_PICKUP: 3,
    TrackingState.DELIVERED: 4,
    TrackingState.VOIDED: 4,
}


KNOWN_ALREADY = "known already"


class Scan(Frozen):
    """What a carrier event does: the new state, or None with the reason why it changes nothing.

    `known_at` is the carrier time of the state from now on, where the event says something about it.
    """

    state: TrackingState | None
    known_at: datetime | None = None
    why: str | None = None
    implies_hand_over: bool = False
    repeated: bool = False  # the very event was told before


def after_scan(event: CarrierEventType, current: TrackingState, last_at: datetime | None, at: datetime) -> Scan:
    """What a carrier event does to a parcel. The highest rank wins, the first terminal state stands.

    Within a rank the later carrier time wins (`last_at` is that of the current state), so that the order of
    arrival decides nothing. Facts are never refused: what changes nothing says why.
    """
    moves = event not in (CarrierEventType.PRE_TRANSIT,)
    if current in (TrackingState.DELIVERED, TrackingState.VOIDED):
        return Scan(state=None, why=f"parcel is already {current}")
    new = TrackingState.IN_TRANSIT if event is CarrierEventType.HANDED_OVER else TrackingState(event.value)
    if TrackingState.DELIVERY_EXCEPTION in (new, current) and new is not TrackingState.DELIVERED:
        if last_at is not None and at <= last_at:
            return Scan(state=None, why="older than what is known")
        return Scan(state=new, known_at=at, implies_hand_over=moves)
    if new == current:
        latest = max(at, last_at or at)
        return Scan(state=None, known_at=latest, why=KNOWN_ALREADY, implies_hand_over=moves)
    same_rank = _RANK[new] == _RANK[current]
    if _RANK[new] < _RANK[current] or (same_rank and last_at is not None and (at, new) <= (last_at, current)):
        return Scan(state=None, why=f"parcel is already {current}", implies_hand_over=moves)
    return Scan(state=new, known_at=at, implies_hand_over=moves)
