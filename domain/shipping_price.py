"""What shipping costs once an order in flight goes faster or slower. Owned by commerce.

The price is that of the whole order at a service level: the one that the sender of the change names, else the order's
own plus the difference between the two levels in the price list that the order pinned. Units that have left or are
cancelled keep their shares; the others get theirs of the new price, by what they carried before.
"""

from collections.abc import Sequence
from typing import NamedTuple

from domain.money import share
from domain.orders import OrderRules, PlaceOrder, ServiceLevel
from domain.shares import LineShares


class Shipping(NamedTuple):
    """What a whole order pays for shipping, in minor units."""

    price_minor: int
    tax_minor: int


def shipping_of(order: PlaceOrder) -> Shipping:
    """What the order pays for its service level now."""
    return Shipping(order.shipping_minor, order.shipping_tax_minor)


def shipping_at(
    order: PlaceOrder, rules: OrderRules, level: ServiceLevel, named_minor: int | None, named_tax_minor: int | None
) -> Shipping:
    """What the order pays at this service level. Without a price that is known it pays what it pays now.

    A tax that nobody names follows the price at the rate of the order's own shipping tax; without one it is zero.
    """
    before, prices = shipping_of(order), rules.shipping_prices
    price = named_minor
    if price is None:
        listed = level in prices and order.service_level in prices
        more = prices[level] - prices[order.service_level] if listed else 0
        price = max(0, before.price_minor + more)
    tax = named_tax_minor
    if tax is None:
        tax = _nearest(before.tax_minor * price, before.price_minor) if before.price_minor else 0
    return Shipping(price, tax)


def reprice(
    parts: Sequence[LineShares], gone_net_minor: int, before: Shipping, after: Shipping
) -> tuple[LineShares, ...]:
    """The units that have not left, with their shares of the new price.

    An order that paid nothing has no shares to go by: then it is shared by net price, with the units that have left,
    whose net price is `gone_net_minor`.
    """
    if not parts:
        return ()
    if before.price_minor:
        weights = [part.shipping_minor for part in parts]
        whole = before.price_minor
    else:
        weights = [part.items_minor - part.discount_minor for part in parts]
        whole = gone_net_minor + sum(weights)
    price = _nearest(after.price_minor * sum(weights), whole) if whole else after.price_minor
    prices = share(price, weights)
    tax = _nearest(after.tax_minor * price, after.price_minor) if after.price_minor else 0
    taxes = share(tax, prices)
    return tuple(
        part.model_copy(update={"shipping_minor": price_minor, "shipping_tax_minor": tax_minor})
        for part, price_minor, tax_minor in zip(parts, prices, taxes, strict=True)
    )


def at_the_rate_of(shipping: Shipping, tax_minor: int, price_minor: int) -> Shipping:
    """Shipping of the whole order with the tax that a part of it has: later changes go by that rate."""
    tax = _nearest(tax_minor * shipping.price_minor, price_minor) if price_minor else tax_minor
    return Shipping(shipping.price_minor, tax)


def _nearest(amount: int, whole: int) -> int:
    return (2 * amount + whole) // (2 * whole)
