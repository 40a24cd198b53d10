"""Units are moved between buckets and never made, lost or halved."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from domain.quantities import AT_THE_NODE, BEFORE_HAND_OVER, HANDED_OVER, TERMINAL, Bucket, Buckets, QuantityExceeded

buckets = st.dictionaries(st.sampled_from([b.value for b in Bucket]), st.integers(0, 50)).map(lambda d: Buckets(**d))
places = st.sampled_from(Bucket)


@given(buckets, places, places, st.integers(0, 60))
def test_a_move_conserves_the_total_or_is_refused(
    before: Buckets, source: Bucket, target: Bucket, quantity: int
) -> None:
    """Exactly the asked units arrive; too many are refused and nothing has changed."""
    if quantity > before.of(source):
        with pytest.raises(QuantityExceeded) as refusal:
            before.moved(source, target, quantity)
        assert refusal.value.code == "quantity_exceeded"
        return
    after = before.moved(source, target, quantity)
    assert after.total == before.total
    arrived = 0 if source is target else quantity
    assert after.of(target) - before.of(target) == arrived
    assert before.of(source) - after.of(source) == arrived
    assert all(after.of(other) == before.of(other) for other in Bucket if other not in (source, target))


@given(buckets, st.lists(st.tuples(places, places, st.integers(0, 20)), max_size=20))
def test_no_bucket_ever_falls_below_zero(start: Buckets, moves: list[tuple[Bucket, Bucket, int]]) -> None:
    """Through any sequence of moves, refused ones left out."""
    now = start
    for source, target, quantity in moves:
        if quantity <= now.of(source):
            now = now.moved(source, target, quantity)
        assert min(now.of(bucket) for bucket in Bucket) >= 0
        assert now.total == start.total


@pytest.mark.parametrize("quantity", [-1, -50])
def test_units_do_not_move_backwards(quantity: int) -> None:
    """A negative quantity is no move."""
    with pytest.raises(QuantityExceeded):
        Buckets(open=5).moved(Bucket.OPEN, Bucket.RESERVED, quantity)


@pytest.mark.parametrize("value", [-1, 1.5, "3", True])
def test_a_bucket_holds_whole_units(value: object) -> None:
    """No halves, no text, nothing below zero."""
    with pytest.raises(ValidationError):
        Buckets(open=value)  # type: ignore[arg-type]


@given(buckets)
def test_every_unit_is_live_or_at_its_end(some: Buckets) -> None:
    """Live and terminal units make up the whole, and so do those before and after the hand-over."""
    assert some.live + some.of(*TERMINAL) == some.total
    assert some.of(*BEFORE_HAND_OVER) + some.of(*HANDED_OVER) + some.cancelled == some.total


@given(buckets, buckets)
def test_lines_add_up_bucket_by_bucket(one: Buckets, other: Buckets) -> None:
    """The order's quantities are the sum of its lines, whichever way round."""
    assert one.plus(other) == other.plus(one)
    assert one.plus(other).total == one.total + other.total
    assert one.plus(Buckets()) == one


@given(buckets)
def test_only_what_holds_something_is_shown(some: Buckets) -> None:
    """And from what is shown the whole can be read back."""
    shown = some.nonzero()
    assert 0 not in shown.values()
    assert Buckets(**shown) == some


def test_the_groups_of_buckets_do_not_overlap() -> None:
    """A unit is before the hand-over, after it, or cancelled."""
    assert {*BEFORE_HAND_OVER, *HANDED_OVER, Bucket.CANCELLED} == set(Bucket)
    assert not {*BEFORE_HAND_OVER} & {*HANDED_OVER}
    assert {*AT_THE_NODE} < {*BEFORE_HAND_OVER}
