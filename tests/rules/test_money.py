"""Money is whole minor units, and dividing it loses nothing."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from domain.money import (
    CurrencyMismatch,
    Money,
    NegativeAmount,
    UnknownCurrency,
    currency_digits,
    format_minor,
    share,
)

amounts = st.integers(min_value=0, max_value=10**12)
weight_lists = st.lists(st.integers(min_value=0, max_value=10**9), min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("code", "digits"), [("JPY", 0), ("KRW", 0), ("USD", 2), ("EUR", 2), ("MGA", 2), ("KWD", 3), ("TND", 3)]
)
def test_a_currency_has_the_digits_of_iso_4217(code: str, digits: int) -> None:
    """Yen have none, dollars two, Kuwaiti dinars three."""
    assert currency_digits(code) == digits


@pytest.mark.parametrize("code", ["", "usd", "US", "XXX", "HRK", "ABC", "USD "])
def test_an_unknown_currency_is_refused(code: str) -> None:
    """Lower case, test codes and retired currencies are all unknown."""
    with pytest.raises(UnknownCurrency) as refusal:
        currency_digits(code)
    assert refusal.value.code == "unknown_currency"
    with pytest.raises(ValidationError):
        Money(minor=1, currency=code)


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [
        (23544, "USD", "235.44"),
        (5, "USD", "0.05"),
        (0, "USD", "0.00"),
        (-105, "EUR", "-1.05"),
        (-5, "EUR", "-0.05"),
        (500, "JPY", "500"),
        (-500, "JPY", "-500"),
        (1234, "KWD", "1.234"),
        (7, "KWD", "0.007"),
    ],
)
def test_an_amount_is_written_with_the_digits_of_its_currency(minor: int, currency: str, text: str) -> None:
    """The sign stands before the whole, also where the whole is zero."""
    assert format_minor(minor, currency) == text


def test_money_carries_its_currency() -> None:
    """Amounts of one currency add up; of two they do not."""
    assert Money(minor=150, currency="USD") + Money(minor=50, currency="USD") == Money(minor=200, currency="USD")
    assert str(Money(minor=23544, currency="USD")) == "235.44 USD"
    with pytest.raises(CurrencyMismatch):
        Money(minor=1, currency="USD") + Money(minor=1, currency="EUR")


@pytest.mark.parametrize("minor", [1.0, "1", True, None])
def test_only_whole_numbers_are_money(minor: object) -> None:
    """A float, a text or a truth value is never taken for an amount."""
    with pytest.raises(ValidationError):
        Money.model_validate({"minor": minor, "currency": "USD"})


@pytest.mark.parametrize(
    ("total", "weights", "parts"),
    [
        (1000, [5997, 4500, 2500], (462, 346, 192)),  # the discount of domain.md, example 1
        (1055, [5535, 4154, 2308, 795], (456, 343, 190, 66)),  # and its tax
        (900, [8100, 4800, 8000], (349, 207, 344)),  # the shipping of api.md, section 4
        (10, [0, 0, 0], (4, 3, 3)),  # all weights 0: equal, ties to the lower position
        (2, [1, 1, 1], (1, 1, 0)),
        (5, [0, 1], (0, 5)),
        (0, [3, 4], (0, 0)),
        (0, [], ()),
    ],
)
def test_an_amount_is_divided_by_largest_remainder(total: int, weights: list[int], parts: tuple[int, ...]) -> None:
    """The odd units go to the largest remainders, ties to the lower position."""
    assert share(total, weights) == parts


@given(amounts, weight_lists)
def test_the_parts_are_the_proportions_rounded_up_or_down_and_sum_to_the_whole(total: int, weights: list[int]) -> None:
    """No unit is lost, none is invented, and nobody is more than one unit off."""
    parts = share(total, weights)
    effective = weights if any(weights) else [1] * len(weights)
    exact = [Fraction(total * weight, sum(effective)) for weight in effective]
    assert sum(parts) == total
    assert all(part in (wish.__floor__(), wish.__ceil__()) for part, wish in zip(parts, exact, strict=True))
    up = [(wish - wish.__floor__(), -i) for i, wish in enumerate(exact) if parts[i] > wish.__floor__()]
    down = [
        (wish - wish.__floor__(), -i)
        for i, wish in enumerate(exact)
        if parts[i] == wish.__floor__() and wish.denominator > 1
    ]
    assert not up or not down or min(up) > max(down)


@pytest.mark.parametrize(("total", "weights"), [(-1, [1]), (1, [1, -1]), (0, [-1])])
def test_nothing_negative_is_divided(total: int, weights: list[int]) -> None:
    """A negative amount would hide a direction that only the verb may carry."""
    with pytest.raises(NegativeAmount):
        share(total, weights)


def test_an_amount_cannot_be_divided_over_nobody() -> None:
    """Where there are no parts, an amount would vanish."""
    with pytest.raises(ValueError, match="no parts"):
        share(1, [])
