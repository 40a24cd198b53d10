"""Every unit owns its shares from acceptance on, and whatever happens to the units sums to the whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from domain.money import share
from domain.shares import Components, LineAmounts, LineShares, UnitsOutOfRange, freeze


def amounts(line_no: int, quantity: int, price: int, discount: int = 0, tax: int = 0) -> LineAmounts:
    """An order line in short."""
    return LineAmounts(
        line_no=line_no, quantity=quantity, unit_price_minor=price, discount_minor=discount, tax_minor=tax
    )


def example_of_the_api() -> tuple[LineShares, ...]:
    """Two lamps, four mugs and a rug (api.md, section 4)."""
    lines = [amounts(1, 2, 4500, 900, 648), amounts(2, 4, 1200, 0, 384), amounts(3, 1, 8000, 0, 640)]
    return freeze(lines, 900, 72)


def example_of_the_domain() -> tuple[LineShares, ...]:
    """Discount, tax and shipping (domain.md, section 4.4), each shared by the rule that example follows."""
    gross = [5997, 4500, 2500]
    discounts = share(1000, gross)
    nets = [g - d for g, d in zip(gross, discounts, strict=True)]
    *taxes, shipping_tax = share(1055, [*nets, 795])
    quantities, prices = [3, 1, 2], [1999, 4500, 1250]
    lines = [amounts(i + 1, quantities[i], prices[i], discounts[i], taxes[i]) for i in range(3)]
    return freeze(lines, 795, shipping_tax)


def unit_values(line: LineShares) -> list[int]:
    """What each unit is worth, from the first to the last."""
    return [line.value_to_ship(unit, 1) for unit in range(line.quantity)]


def test_lamps_mugs_and_a_rug_own_what_the_api_says() -> None:
    """45.63 and 45.62, 13.52 three times and 13.51, 90.12: together 235.44."""
    lamp, mug, rug = example_of_the_api()
    assert unit_values(lamp) == [4563, 4562]
    assert unit_values(mug) == [1352, 1352, 1352, 1351]
    assert unit_values(rug) == [9012]
    assert (lamp.shipping_minor, lamp.shipping_tax_minor) == (349, 28)
    assert sum(line.total_minor for line in (lamp, mug, rug)) == 23544


def test_the_journey_of_the_api_example_adds_up() -> None:
    """Two lamps and three mugs leave (131.81), the rug is cancelled, a lamp comes back for 43.74 or 45.63."""
    lamp, mug, rug = example_of_the_api()
    assert lamp.value_to_ship(0, 2) + mug.value_to_ship(0, 3) == 9125 + 4056
    assert rug.value_to_cancel(0, 1) == 9012
    assert lamp.value_to_credit(0, 1, with_shipping=False) == 4374
    assert lamp.value_to_credit(0, 1, with_shipping=True) == 4563


def test_the_worked_example_of_the_domain_model() -> None:
    """Every amount of domain.md, section 4.4: lines, units, cancellation, two shipments, two returns."""
    first, second, third = example_of_the_domain()
    assert [line.total_minor for line in (first, second, third)] == [6388, 4795, 2664]
    assert unit_values(first) == [2130, 2129, 2129]
    assert unit_values(third) == [1333, 1331]
    assert first.value_to_cancel(0, 1) == 2129
    assert first.value_to_ship(0, 2) + second.value_to_ship(0, 1) == 9054
    assert third.value_to_ship(0, 2) == 2664
    assert first.value_to_credit(0, 1, with_shipping=True) == 2130
    assert third.value_to_credit(0, 1, with_shipping=False) == 1249
    assert first.goods_of_first(1) == 1997


def test_the_postings_of_the_worked_example() -> None:
    """Invoices less credit memos leave revenue 71.53, shipping 5.50 and tax 6.36 (domain.md, section 4.6)."""
    first, second, third = example_of_the_domain()
    posted = first.components_to_ship(0, 2) + second.components_to_ship(0, 1) + third.components_to_ship(0, 2)
    posted = posted - first.components_to_credit(0, 1, with_shipping=True)
    posted = posted - third.components_to_credit(0, 1, with_shipping=False)
    assert posted == Components(revenue_minor=7153, shipping_minor=550, tax_minor=636)
    assert posted.total_minor == 8339


def test_shipping_goes_in_equal_parts_where_nothing_has_a_price() -> None:
    """An order of gifts still carries its shipping charge."""
    shares = freeze([amounts(1, 1, 0), amounts(2, 5, 0)], 501, 1)
    assert [(line.shipping_minor, line.shipping_tax_minor) for line in shares] == [(251, 1), (250, 0)]


@pytest.mark.parametrize(("start", "n"), [(0, 3), (2, 1), (-1, 1), (0, -1)])
def test_units_beyond_the_line_have_no_value(start: int, n: int) -> None:
    """Asking for more units than there are is refused, from the front and from the back."""
    lamp = example_of_the_api()[0]
    with pytest.raises(UnitsOutOfRange):
        lamp.value_to_ship(start, n)
    with pytest.raises(UnitsOutOfRange):
        lamp.value_to_cancel(start, n)
    with pytest.raises(UnitsOutOfRange):
        lamp.value_to_credit(start, n, with_shipping=True)


@pytest.mark.parametrize("field", ["quantity", "unit_price_minor", "discount_minor", "tax_minor"])
def test_a_line_has_no_negative_amounts(field: str) -> None:
    """Amounts are positive; the verb gives the direction."""
    good = amounts(1, 2, 100, 10, 8).model_dump()
    with pytest.raises(ValidationError, match=field):
        LineAmounts.model_validate(good | {field: -1})


def test_a_discount_is_never_larger_than_the_price() -> None:
    """Otherwise a unit would have to be paid for having it."""
    with pytest.raises(ValidationError, match="discount is larger"):
        amounts(1, 2, 100, 201)
    assert amounts(1, 2, 100, 200).net_minor == 0
    with pytest.raises(ValidationError, match="discount is larger"):
        LineShares(
            line_no=1, quantity=2, items_minor=9, discount_minor=10, tax_minor=0, shipping_minor=0, shipping_tax_minor=0
        )


@st.composite
def order_lines(draw: st.DrawFn) -> list[LineAmounts]:
    """Between one and eight lines with any discount up to the price."""
    lines = []
    for line_no in range(1, draw(st.integers(1, 8)) + 1):
        quantity, price = draw(st.integers(1, 30)), draw(st.integers(0, 50_000))
        discount = draw(st.integers(0, quantity * price))
        lines.append(amounts(line_no, quantity, price, discount, draw(st.integers(0, 9_999))))
    return lines


charges = st.integers(0, 99_999)


@given(order_lines(), charges, charges)
def test_the_lines_sum_to_the_order_and_the_units_to_the_lines(
    lines: list[LineAmounts], shipping: int, shipping_tax: int
) -> None:
    """Freezing moves no minor unit in or out, and no unit is worth less than nothing."""
    shares = freeze(lines, shipping, shipping_tax)
    order_total = sum(line.net_minor + line.tax_minor for line in lines) + shipping + shipping_tax
    assert sum(line.total_minor for line in shares) == order_total
    for line in shares:
        values = unit_values(line)
        assert sum(values) == line.total_minor
        assert min(values) >= 0


@given(order_lines(), charges, charges, st.data())
def test_ship_cancel_and_credit_in_any_order_sum_exactly(
    lines: list[LineAmounts], shipping: int, shipping_tax: int, data: st.DataObject
) -> None:
    """What was captured, cancelled and is left makes the line; what is credited never exceeds what was captured."""
    for line in freeze(lines, shipping, shipping_tax):
        shipped = cancelled = credited = 0
        captured = released = refunded = 0
        for _ in range(data.draw(st.integers(0, 12))):
            verb = data.draw(st.sampled_from(["ship", "cancel", "credit"]))
            live = line.quantity - shipped - cancelled
            n = data.draw(st.integers(0, shipped - credited if verb == "credit" else live))
            if verb == "ship":
                captured += line.value_to_ship(shipped, n)
                shipped += n
            elif verb == "cancel":
                released += line.value_to_cancel(cancelled, n)
                cancelled += n
            else:
                refunded += line.value_to_credit(credited, n, with_shipping=data.draw(st.booleans()))
                credited += n
            assert refunded <= captured
        still_owed = line.value_to_ship(shipped, line.quantity - shipped - cancelled)
        assert captured + released + still_owed == line.total_minor
        rest = line.value_to_credit(credited, shipped - credited, with_shipping=True)
        assert rest <= captured - refunded


@given(order_lines(), charges, charges, st.data())
def test_a_value_is_its_components(
    lines: list[LineAmounts], shipping: int, shipping_tax: int, data: st.DataObject
) -> None:
    """Invoices of any stretches post revenue, shipping and tax that sum to the frozen amounts of the line."""
    for line in freeze(lines, shipping, shipping_tax):
        cut = data.draw(st.integers(0, line.quantity))
        whole = line.components_to_ship(0, cut) + line.components_to_ship(cut, line.quantity - cut)
        assert whole == Components(
            revenue_minor=line.items_minor - line.discount_minor,
            shipping_minor=line.shipping_minor,
            tax_minor=line.tax_minor + line.shipping_tax_minor,
        )
        assert line.value_of_first(cut) == line.components_to_ship(0, cut).total_minor
        goods = line.components_of_first(cut, with_shipping=False)
        assert goods.shipping_minor == 0
        assert goods.total_minor == line.goods_of_first(cut)
