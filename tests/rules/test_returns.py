"""The quote of a return: never more money than was taken for the units, and parts that sum to the whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.order_state import LineState
from domain.quantities import HANDED_OVER, Bucket, Buckets
from domain.returns import NotReturnable, quote_return, returnable
from domain.shares import LineShares

WAYS = tuple(Bucket)


def line(line_no: int, buckets: Buckets, credited: int = 0, **shares: int) -> LineState:
    """A line whose units are there."""
    amounts = {"items_minor": 0, "discount_minor": 0, "tax_minor": 0, "shipping_minor": 0, "shipping_tax_minor": 0}
    frozen = LineShares(line_no=line_no, quantity=buckets.total, **{**amounts, **shares})
    return LineState(line_no=line_no, sku=f"SKU-{line_no}", shares=frozen, buckets=buckets, credited=credited)


def lamp(**buckets: int) -> LineState:
    """Two lamps of the example in api.md: 43.74 and 43.74 without shipping, 45.63 and 45.62 with it."""
    shares = {"items_minor": 9000, "discount_minor": 900, "tax_minor": 648, "shipping_minor": 349}
    return line(1, Buckets(**buckets), **shares, shipping_tax_minor=28)


@st.composite
def orders(draw: st.DrawFn) -> dict[int, LineState]:
    """Lines with units anywhere; what came back or was lost was credited, or is sent again on another line."""
    lines: dict[int, LineState] = {}
    for line_no in range(1, draw(st.integers(1, 3)) + 1):
        units = draw(st.lists(st.sampled_from(WAYS), min_size=1, max_size=6))
        buckets = Buckets(**{b.value: units.count(b) for b in Bucket})
        gone = buckets.of(Bucket.RETURNED, Bucket.WRITTEN_OFF)
        items = draw(st.integers(0, 5000))
        lines[line_no] = line(
            line_no,
            buckets,
            items_minor=items,
            discount_minor=draw(st.integers(0, items)),
            tax_minor=draw(st.integers(0, 500)),
            shipping_minor=draw(st.integers(0, 500)),
            shipping_tax_minor=draw(st.integers(0, 50)),
        )
        again = draw(st.integers(0, gone))
        lines[line_no].credited = gone - again
        if again:
            where = draw(st.sampled_from((Bucket.OPEN, Bucket.SHIPPED, Bucket.DELIVERED)))
            instead = line(10 + line_no, Buckets(**{where.value: again}))
            instead.replaces, instead.replaces_parcel = line_no, "shp_1"
            lines[10 + line_no] = instead
    return lines


def captured(found: LineState) -> int:
    """What was taken for the units of a line that left, at their hand-over."""
    return found.shares.value_of_first(found.gone)


def given_back(found: LineState, amount_of: str) -> int:
    """What was credited for a line so far."""
    first = found.shares.value_of_first if amount_of == "refund_if_ours_minor" else found.shares.goods_of_first
    return first(found.credited)


@given(orders())
def test_never_more_comes_back_than_was_taken_for_the_units(lines: dict[int, LineState]) -> None:
    """Of each line with a price: what was credited and what is quoted is at most what was captured for what left."""
    if not any(returnable(found) for found in lines.values()):
        return
    quoted = quote_return(lines)
    for number, found in lines.items():
        mine = [one for one in quoted if lines[one.line_no].priced_by == number]
        ours = sum(one.refund_if_ours_minor for one in mine)
        assert ours + given_back(found, "refund_if_ours_minor") <= captured(found)
        for one in mine:
            assert 0 <= one.refund_minor <= one.refund_if_ours_minor
    assert {one.line_no: one.quantity for one in quoted} == {
        n: returnable(found) for n, found in lines.items() if returnable(found)
    }


@given(orders(), st.data())
def test_the_parts_of_a_return_sum_to_the_whole(lines: dict[int, LineState], data: st.DataObject) -> None:
    """Units of a line that come back one after the other give what they give together, to the cent."""
    able = [n for n, found in lines.items() if returnable(found)]
    if not able:
        return
    number = data.draw(st.sampled_from(able))
    units = data.draw(st.integers(1, returnable(lines[number])))
    (whole,) = quote_return(lines, [(number, units)])
    sums = [0, 0]
    for _ in range(units):
        (one,) = quote_return(lines, [(number, 1)])
        sums = [sums[0] + one.refund_minor, sums[1] + one.refund_if_ours_minor]
        found = lines[number]
        source = Bucket.DELIVERED if found.buckets.delivered else Bucket.SHIPPED
        assert one.now == (source is Bucket.DELIVERED)
        found.buckets = found.buckets.moved(source, Bucket.RETURNED, 1)
        lines[found.priced_by].credited += 1
    assert sums == [whole.refund_minor, whole.refund_if_ours_minor]


@given(orders(), st.data())
def test_what_is_not_there_is_refused_with_what_is(lines: dict[int, LineState], data: st.DataObject) -> None:
    """One unit more than can come back, of any line: refused whole, and the line says how many there are."""
    number = data.draw(st.sampled_from(sorted(lines)))
    there = returnable(lines[number])
    with pytest.raises(NotReturnable) as refusal:
        quote_return(lines, [(number, there), (number, 1)] if there else [(number, 1)])
    assert refusal.value.lines == ((number, there + 1, there),)
    assert refusal.value.code == "not_returnable"
    left = lines[number].buckets.of(*(b for b in Bucket if b not in (Bucket.CANCELLED, *HANDED_OVER)))
    assert refusal.value.alternative == ("cancel" if left else None)


def test_a_lamp_comes_back_for_what_the_api_says() -> None:
    """43.74 for a changed mind, 45.63 where the cause is ours; the second one 43.74 and 45.62."""
    both = {1: lamp(delivered=1, shipped=1)}
    (one,) = quote_return(both, [(1, 1)])
    assert one == (1, "SKU-1", 1, 0, 4374, 4563)
    (two,) = quote_return(both)
    assert two == (1, "SKU-1", 1, 1, 8748, 9125)
    after_one = {1: lamp(delivered=1, returned=1).model_copy(update={"credited": 1})}
    assert quote_return(after_one) == ((1, "SKU-1", 1, 0, 4374, 4562),)


def test_what_is_sent_again_is_worth_what_it_stands_for() -> None:
    """A line at no charge gives back the price of the line whose parcel was lost; both together never more than it."""
    instead = line(2, Buckets(delivered=1))
    instead.replaces, instead.replaces_parcel = 1, "shp_1"
    lines = {1: lamp(delivered=1, written_off=1), 2: instead}
    first, second = quote_return(lines)
    assert (first.refund_if_ours_minor, second.refund_if_ours_minor) == (4563, 4562)
    (alone,) = quote_return(lines, [(2, 1)])
    assert alone.refund_if_ours_minor == 4563


@pytest.mark.parametrize(
    ("buckets", "wanted", "detail", "alternative"),
    [
        ({"packed": 2}, (), "nothing of this order has left", "cancel"),
        ({"cancelled": 2}, (), "nothing of this order has left", None),
        ({"released": 2}, ((1, 1),), "nothing of line 1 has left", "cancel"),
        (
            {"returned": 1, "written_off": 1},
            (),
            "all that has left is back, on its way back, or made good already",
            None,
        ),
        ({"delivered": 1, "return_pending": 1}, ((1, 2),), "line 1: 2 units asked, 1 can come back", None),
        ({"delivered": 2}, ((7, 1),), "the order has no line 7", None),
    ],
)
def test_a_refusal_says_why_and_what_instead(
    buckets: dict[str, int], wanted: tuple[tuple[int, int], ...], detail: str, alternative: str | None
) -> None:
    """What has not left can be cancelled; what is back cannot come back."""
    with pytest.raises(NotReturnable) as refusal:
        quote_return({1: lamp(**buckets)}, wanted)
    assert (refusal.value.detail, refusal.value.alternative) == (detail, alternative)
