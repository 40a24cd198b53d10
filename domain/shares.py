"""What each unit of an order is worth, for ever: the frozen shares. Owner: finance.

At acceptance every order-level amount becomes part of a line, and every amount of a line belongs to
its units in equal parts (the first units carry the odd minor units). Units ship from the front, are
cancelled from the back and are credited from the front of the shipped ones, so counters are enough
to know every amount later, and the sums are exact by construction.
"""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field, model_validator

from domain.money import share


class UnitsOutOfRange(ValueError):
    """More units were asked for than the line has, or fewer than none."""

    code = "units_out_of_range"


class LineAmounts(BaseModel):
    """What the storefront charges for one order line, order-level discounts already shared over the lines.

    `unit_price_minor` is per unit and without tax; the other amounts are for the whole line.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    line_no: int
    quantity: int = Field(ge=1)
    unit_price_minor: int = Field(ge=0)
    discount_minor: int = Field(ge=0)
    tax_minor: int = Field(ge=0)

    @property
    def gross_minor(self) -> int:
        """Price of all units before discount and tax."""
        return self.quantity * self.unit_price_minor

    @property
    def net_minor(self) -> int:
        """Price of all units after discount, before tax."""
        return self.gross_minor - self.discount_minor

    @model_validator(mode="after")
    def _discount_within_gross(self) -> "LineAmounts":
        if self.discount_minor > self.gross_minor:
            raise ValueError(f"line {self.line_no}: the discount is larger than the price of its units")
        return self


class Components(BaseModel):
    """One value by the account it is posted to. `tax_minor` includes the tax on shipping."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    revenue_minor: int
    shipping_minor: int
    tax_minor: int

    @property
    def total_minor(self) -> int:
        """The value that the parts make up."""
        return self.revenue_minor + self.shipping_minor + self.tax_minor

    def __add__(self, other: "Components") -> "Components":
        return Components(
            revenue_minor=self.revenue_minor + other.revenue_minor,
            shipping_minor=self.shipping_minor + other.shipping_minor,
            tax_minor=self.tax_minor + other.tax_minor,
        )

    def __sub__(self, other: "Components") -> "Components":
        return Components(
            revenue_minor=self.revenue_minor - other.revenue_minor,
            shipping_minor=self.shipping_minor - other.shipping_minor,
            tax_minor=self.tax_minor - other.tax_minor,
        )


class LineShares(BaseModel):
    """The frozen amounts of one line, each for all of its units, and the value of any stretch of units."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    line_no: int
    quantity: int = Field(ge=1)
    items_minor: int = Field(ge=0)
    discount_minor: int = Field(ge=0)
    tax_minor: int = Field(ge=0)
    shipping_minor: int = Field(ge=0)
    shipping_tax_minor: int = Field(ge=0)

    @model_validator(mode="after")
    def _discount_within_items(self) -> "LineShares":
        if self.discount_minor > self.items_minor:
            raise ValueError(f"line {self.line_no}: the discount is larger than the price of its units")
        return self

    @property
    def total_minor(self) -> int:
        """What the customer owes for the whole line."""
        return self.value_of_first(self.quantity)

    def components_of_first(self, k: int, *, with_shipping: bool = True) -> Components:
        """The first `k` units by account; without shipping, its tax stays out of the tax as well.

        Raises:
            UnitsOutOfRange: the line does not have `k` units.
        """
        if not 0 <= k <= self.quantity:
            raise UnitsOutOfRange(f"line {self.line_no} has {self.quantity} units, not {k}")
        shipping = self._first(self.shipping_minor, k) if with_shipping else 0
        shipping_tax = self._first(self.shipping_tax_minor, k) if with_shipping else 0
        return Components(
            revenue_minor=self._first(self.items_minor, k) - self._first(self.discount_minor, k),
            shipping_minor=shipping,
            tax_minor=self._first(self.tax_minor, k) + shipping_tax,
        )

    def value_of_first(self, k: int) -> int:
        """A(k): everything that the first `k` units are charged."""
        return self.components_of_first(k).total_minor

    def goods_of_first(self, k: int) -> int:
        """G(k): the first `k` units without shipping and its tax."""
        return self.components_of_first(k, with_shipping=False).total_minor

    def components_to_ship(self, shipped: int, n: int) -> Components:
        """The next `n` units by account, when `shipped` have already left: the entry of their invoice."""
        return self._stretch(shipped, n, with_shipping=True)

    def value_to_ship(self, shipped: int, n: int) -> int:
        """What to capture for the next `n` units, when `shipped` have already left."""
        return self.components_to_ship(shipped, n).total_minor

    def components_to_cancel(self, cancelled: int, n: int) -> Components:
        """The next `n` units to be cancelled by account, after `cancelled` from the back."""
        return self._stretch(self.quantity - cancelled - n, n, with_shipping=True)

    def value_to_cancel(self, cancelled: int, n: int) -> int:
        """What is no longer owed when `n` more units are cancelled, after `cancelled` from the back."""
        return self.components_to_cancel(cancelled, n).total_minor

    def last(self, cancelled: int, n: int) -> "LineShares":
        """What the next `n` units to be cancelled own, as a line of their own, after `cancelled` from the back.

        Raises:
            UnitsOutOfRange: the line does not have so many units left.
        """
        start = self.quantity - cancelled - n
        if n < 1 or start < 0:
            raise UnitsOutOfRange(f"line {self.line_no} has {self.quantity} units: {n} more are not left")

        def stretch(amount_minor: int) -> int:
            return self._first(amount_minor, start + n) - self._first(amount_minor, start)

        return LineShares(
            line_no=self.line_no,
            quantity=n,
            items_minor=stretch(self.items_minor),
            discount_minor=stretch(self.discount_minor),
            tax_minor=stretch(self.tax_minor),
            shipping_minor=stretch(self.shipping_minor),
            shipping_tax_minor=stretch(self.shipping_tax_minor),
        )

    def components_to_credit(self, credited: int, n: int, *, with_shipping: bool) -> Components:
        """The next `n` shipped units by account, when `credited` were given back: the credit memo."""
        return self._stretch(credited, n, with_shipping=with_shipping)

    def value_to_credit(self, credited: int, n: int, *, with_shipping: bool) -> int:
        """What to give back for `n` more units; with their shipping where the cause is ours."""
        return self.components_to_credit(credited, n, with_shipping=with_shipping).total_minor

    def _stretch(self, start: int, n: int, *, with_shipping: bool) -> Components:
        if n < 0 or start < 0:
            raise UnitsOutOfRange(f"line {self.line_no} has {self.quantity} units: {n} more are not left")
        upto = self.components_of_first(start + n, with_shipping=with_shipping)
        return upto - self.components_of_first(start, with_shipping=with_shipping)

    def _first(self, amount_minor: int, k: int) -> int:
        """What the first `k` units carry of an amount that all units share equally."""
        each, odd = divmod(amount_minor, self.quantity)
        return each * k + min(k, odd)


def freeze(lines: Sequence[LineAmounts], shipping_minor: int, shipping_tax_minor: int) -> tuple[LineShares, ...]:
    """Give every line its share of shipping and of the tax on it, by net amount; done once, at acceptance.

    The result keeps the order of `lines` (ties between remainders go to the earlier line), and its
    totals sum to prices - discounts + taxes + shipping + shipping tax.

    Raises:
        NegativeAmount: a shipping amount is below zero.
        ValueError: there is shipping to share and no line.
    """
    weights = [line.net_minor for line in lines]
    shippings = share(shipping_minor, weights)
    shipping_taxes = share(shipping_tax_minor, weights)
    return tuple(
        LineShares(
            line_no=line.line_no,
            quantity=line.quantity,
            items_minor=line.gross_minor,
            discount_minor=line.discount_minor,
            tax_minor=line.tax_minor,
            shipping_minor=shipping,
            shipping_tax_minor=shipping_tax,
        )
        for line, shipping, shipping_tax in zip(lines, shippings, shipping_taxes, strict=True)
    )
