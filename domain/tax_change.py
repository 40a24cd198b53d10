"""The tax of an order in flight that goes somewhere else. Owned by finance; the amounts are the storefront's.

Nobody here knows a rate. Whoever changes the address may name the new tax, for the units that have not left: per line
one amount, and one for their shipping. Units that have left or are cancelled keep the tax that they were sold with.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

from pydantic import Field, StringConstraints

from domain.money import share
from domain.orders import MAX_LINES, Frozen, Minor
from domain.refusals import OrderRuleError
from domain.shares import LineShares


class LineTax(Frozen):
    """The tax of all units of a line that have not left once the order is changed; those that extend it included."""

    line: Annotated[int, Field(ge=1, le=MAX_LINES, strict=True)]
    tax_minor: Minor


class NewTax(Frozen):
    """Tax at a new address, in minor units of `currency`. What is not named stays as it is."""

    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
    lines: Annotated[tuple[LineTax, ...], Field(max_length=MAX_LINES)] = ()
    shipping_tax_minor: Minor | None = None


class WrongCurrency(OrderRuleError):
    """The tax is in another currency, whose minor units may be worth something else."""

    code = "currency_mismatch"


class NothingLeftToShip(OrderRuleError):
    """No unit of the line is still to leave: its tax is what it was."""

    code = "nothing_left_to_ship"


def check_currency(tax: NewTax, currency: str) -> None:
    """Amounts count in the order's own minor units.

    Raises:
        WrongCurrency: they are in others.
    """
    if tax.currency != currency:
        raise WrongCurrency(f"the order is in {currency}, the tax in {tax.currency}")


def taxed(parts: Sequence[LineShares], roots: Sequence[int], lines: Mapping[int, int]) -> tuple[LineShares, ...]:
    """The parts with the new tax of their lines, shared by net price; parts of other lines are as before.

    Args:
        parts: units that have not left.
        roots: the line that each part belongs to.
        lines: the new tax in minor units, by line; each has a part.
    """
    found = list(parts)
    for root, amount_minor in lines.items():
        at = [position for position, one in enumerate(roots) if one == root]
        taxes = share(amount_minor, _net(parts[position] for position in at))
        for position, tax_minor in zip(at, taxes, strict=True):
            found[position] = parts[position].model_copy(update={"tax_minor": tax_minor})
    return tuple(found)


def with_shipping_tax(parts: Sequence[LineShares], amount_minor: int) -> tuple[LineShares, ...]:
    """The parts with a new tax of their shipping, shared by its price; by net price where it costs nothing."""
    prices = [part.shipping_minor for part in parts]
    taxes = share(amount_minor, prices if any(prices) else _net(parts))
    return tuple(
        part.model_copy(update={"shipping_tax_minor": tax_minor}) for part, tax_minor in zip(parts, taxes, strict=True)
    )


def _net(parts: Iterable[LineShares]) -> list[int]:
    return [part.items_minor - part.discount_minor for part in parts]
