"""Every tracking state with every carrier event, and the law that the order of arrival decides nothing."""

from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.lifecycle import TrackingState
from domain.orders import CarrierEventType
from domain.parcels import after_scan, tracking_of

T, E = TrackingState, CarrierEventType
START = datetime(2026, 11, 24, 12, tzinfo=UTC)
COLUMNS = (
    E.HANDED_OVER,
    E.PRE_TRANSIT,
    E.IN_TRANSIT,
    E.OUT_FOR_DELIVERY,
    E.AVAILABLE_FOR_PICKUP,
    E.DELIVERY_EXCEPTION,
    E.DELIVERED,
    E.LOST,
    E.DAMAGED,
    E.RETURN_TO_SENDER,
    E.RETURNED,
)
IT, PT, OUT, PICK, EXC, DONE = (
    T.IN_TRANSIT,
    T.PRE_TRANSIT,
    T.OUT_FOR_DELIVERY,
    T.AVAILABLE_FOR_PICKUP,
    T.DELIVERY_EXCEPTION,
    T.DELIVERED,
)
LOST, BROKEN, BACK, HOME = T.LOST, T.DAMAGED, T.RETURN_TO_SENDER, T.RETURNED
LATER = {
    T.LABEL_CREATED: (IT, PT, IT, OUT, PICK, EXC, DONE, LOST, BROKEN, BACK, HOME),
    T.PRE_TRANSIT: (IT, None, IT, OUT, PICK, EXC, DONE, LOST, BROKEN, BACK, HOME),
    T.IN_TRANSIT: (None, None, None, OUT, PICK, EXC, DONE, LOST, BROKEN, BACK, HOME),
    T.OUT_FOR_DELIVERY: (None, None, None, None, PICK, EXC, DONE, LOST, BROKEN, BACK, HOME),
    T.AVAILABLE_FOR_PICKUP: (None, None, None, OUT, None, EXC, DONE, LOST, BROKEN, BACK, HOME),
    T.DELIVERY_EXCEPTION: (IT, PT, IT, OUT, PICK, EXC, DONE, LOST, BROKEN, BACK, HOME),
    T.DELIVERED: (None,) * 11,
    T.LOST: (IT, PT, IT, OUT, PICK, EXC, DONE, None, BROKEN, BACK, HOME),
    T.DAMAGED: (None,) * 6 + (DONE,) + (None,) * 4,
    T.RETURN_TO_SENDER: (None,) * 6 + (DONE, LOST, BROKEN, None, HOME),
    T.RETURNED: (None,) * 6 + (DONE, None, BROKEN, None, None),
    T.VOIDED: (None,) * 11,
}
EARLIER = {
    T.LABEL_CREATED: (IT, PT, IT, OUT, PICK, EXC, DONE, LOST, BROKEN, BACK, HOME),
    T.PRE_TRANSIT: (IT, None, IT, OUT, PICK, None, DONE, None, BROKEN, BACK, HOME),
    T.IN_TRANSIT: (None, None, None, OUT, PICK, None, DONE, None, BROKEN, BACK, HOME),
    T.OUT_FOR_DELIVERY: (None, None, None, None, None, None, DONE, None, BROKEN, BACK, HOME),
    T.AVAILABLE_FOR_PICKUP: (None, None, None, None, None, None, DONE, None, BROKEN, BACK, HOME),
    T.DELIVERY_EXCEPTION: (None, None, None, None, None, None, DONE, None, BROKEN, BACK, HOME),
    T.DELIVERED: (None,) * 11,
    T.LOST: (None,) * 6 + (DONE, None, BROKEN, None, HOME),
    T.DAMAGED: (None,) * 6 + (DONE,) + (None,) * 4,
    T.RETURN_TO_SENDER: (None,) * 6 + (DONE, None, BROKEN, None, HOME),
    T.RETURNED: (None,) * 6 + (DONE, None, BROKEN, None, None),
    T.VOIDED: (None,) * 11,
}
TROUBLE = (E.DELIVERY_EXCEPTION, E.LOST, E.DAMAGED, E.RETURN_TO_SENDER, E.RETURNED)


def seen_before(state: TrackingState) -> dict[TrackingState, datetime]:
    """What a carrier must have told for a parcel to be in this state."""
    return {} if state in (T.LABEL_CREATED, T.VOIDED) else {state: START}


@pytest.mark.parametrize(("table", "hours"), [(LATER, 1), (EARLIER, -1)], ids=["later", "earlier"])
@pytest.mark.parametrize("current", list(T))
def test_every_event_in_every_state(
    current: TrackingState, table: dict[TrackingState, tuple[TrackingState | None, ...]], hours: int
) -> None:
    """By the carrier's time later or earlier than the state; what changes nothing says why."""
    for event, wanted in zip(COLUMNS, table[current], strict=True):
        scan = after_scan(event, START + timedelta(hours=hours), current, seen_before(current))
        assert scan.state == wanted, event
        assert (scan.why is None) == (wanted is not None), event


def test_the_tables_are_complete() -> None:
    """A new event or state must be given its place."""
    assert set(COLUMNS) == set(CarrierEventType)
    assert set(LATER) == set(EARLIER) == set(TrackingState)


@pytest.mark.parametrize("event", list(E))
def test_a_parcel_that_moves_was_handed_over(event: CarrierEventType) -> None:
    """Only the announcement of a parcel proves nothing."""
    scan = after_scan(event, START, T.LABEL_CREATED, {})
    assert scan.implies_hand_over == (event is not E.PRE_TRANSIT)


Told = tuple[CarrierEventType, int]


def follow(events: list[Told]) -> TrackingState:
    """The state of a new parcel after these events, each with the carrier's hour."""
    state: TrackingState = T.LABEL_CREATED
    seen: dict[TrackingState, datetime] = {}
    for event, hour in events:
        scan = after_scan(event, START + timedelta(hours=hour), state, seen)
        state, seen = scan.state or state, scan.seen
    return state


RANK = {PT: 1, IT: 2, OUT: 3, PICK: 3, DONE: 4}
SMOOTH = [event for event in E if event not in TROUBLE]


@given(st.data(), st.lists(st.tuples(st.sampled_from(SMOOTH), st.integers(0, 50)), min_size=1, max_size=8))
def test_the_highest_rank_wins_and_within_a_rank_the_latest(data: st.DataObject, events: list[Told]) -> None:
    """Whatever the times say: repeated and in any order, the same set of events ends in the same state."""
    states = [(T.IN_TRANSIT if event is E.HANDED_OVER else T(event.value), hour) for event, hour in events]
    _, _, best = max((RANK[state], hour, state) for state, hour in states)
    shuffled = data.draw(st.permutations(events * 2))
    assert follow(shuffled) == best


@given(st.data(), st.lists(st.tuples(st.sampled_from(E), st.integers(0, 20)), min_size=1, max_size=8))
def test_no_order_of_arrival_decides(data: st.DataObject, events: list[Told]) -> None:
    """Any events at any times, failed attempts among them, told in any order and often, end in one state."""
    shuffled = data.draw(st.permutations(events * 2))
    assert follow(shuffled) == follow(events)


def test_a_failed_attempt_takes_back_what_was_before_it() -> None:
    """Out for delivery, nobody at home, back in the depot: in transit again, in whatever order it was told."""
    journey = [(E.OUT_FOR_DELIVERY, 3), (E.DELIVERY_EXCEPTION, 5), (E.IN_TRANSIT, 6)]
    assert {follow(list(told)) for told in permutations(journey)} == {T.IN_TRANSIT}
    assert follow(journey[:2]) == T.DELIVERY_EXCEPTION


def test_a_lost_parcel_is_found_by_a_later_scan_only() -> None:
    """Whatever the order of arrival: what the carrier saw before it was lost does not bring it back."""
    told = [(E.OUT_FOR_DELIVERY, 3), (E.LOST, 5)]
    assert {follow(list(order)) for order in permutations(told)} == {T.LOST}
    assert {follow(list(order)) for order in permutations([*told, (E.IN_TRANSIT, 6)])} == {T.IN_TRANSIT}


def test_a_parcel_that_turned_back_goes_back() -> None:
    """A scan on the way back says nothing else; a damaged parcel that comes back is still damaged."""
    told = [(E.RETURN_TO_SENDER, 3), (E.IN_TRANSIT, 5)]
    assert {follow(list(order)) for order in permutations(told)} == {T.RETURN_TO_SENDER}
    assert {follow(list(order)) for order in permutations([*told, (E.RETURNED, 9)])} == {T.RETURNED}
    assert {follow(list(order)) for order in permutations([*told, (E.RETURNED, 9), (E.DAMAGED, 4)])} == {T.DAMAGED}


def test_a_parcel_of_which_nothing_was_told_has_its_label() -> None:
    """The state before the first scan."""
    assert tracking_of({}) == T.LABEL_CREATED
