"""Units that stay while their shipping or tax costs something else. Owned by finance.

Shares are frozen for ever: what has not left goes on as a line that extends its own, with the new shares; what has
left, or is cancelled, keeps the old ones.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from domain.cancellation import check_no_node_is_asked
from domain.order_state import AddedLine, OrderState
from domain.orders import MAX_LINES, OrderLine
from domain.quantities import BEFORE_HAND_OVER, units_per_line
from domain.refusals import OrderRuleError
from domain.shares import LineShares
from domain.shipping_price import Shipping, at_the_rate_of, reprice, shipping_of
from domain.tax_change import NothingLeftToShip, taxed, with_shipping_tax


class TooManyLines(OrderRuleError):
    """The order would have more lines than an order may have."""

    code = "too_many_lines"


class LineHeld(OrderRuleError):
    """A hold stands on a line whose shipping or tax would cost something else; it is ended first."""

    code = "line_held"


class Prices(NamedTuple):
    """What is to be paid for what has not left: shipping of the whole order, and the tax that somebody named."""

    shipping: Shipping
    line_taxes: Mapping[int, int]  # line (blocks that extend it included) -> tax in minor units
    shipping_tax_minor: int | None = None  # of what has not left


class Repriced(NamedTuple):
    """Units that end as they are (line -> units), lines that begin, and what shipping of the whole order costs.

    `waited`: units of the lines that go on which waited for supply.
    """

    removed: dict[int, int]
    added: tuple[AddedLine, ...]
    shipping: Shipping
    waited: dict[int, int]


def repriced(state: OrderState, removed: dict[int, int], added: tuple[AddedLine, ...], prices: Prices) -> Repriced:
    """The change with its new prices; nothing happens where they are those that there are.

    Raises:
        NothingLeftToShip: a tax is named for a line, or for shipping, of which nothing is to leave.
        LineHeld: a hold on a line would lose its units.
    """
    left = _left(state, removed)
    taxes = _other_taxes(state, left, added, prices.line_taxes)
    if not _shipping_differs(state, left, added, prices):
        left = {n: shares for n, shares in left.items() if _root(state, n) in taxes}
        if not taxes:
            return Repriced(removed, added, prices.shipping, {})
    _check_may_go_on(state, left)
    going_on = [_going_on(state, n, shares, len(added) + at) for at, (n, shares) in enumerate(left.items())]
    whole = (*added, *going_on)
    shares, shipping = _shares(state, whole, prices)
    shares = taxed(shares, [one.extends or 0 for one in whole], taxes)
    priced = tuple(_with_shares(one, mine) for one, mine in zip(whole, shares, strict=True))
    ended = ((n, shares.quantity) for n, shares in left.items())
    waited = {
        one.line.line_no: max(0, state.lines[n].buckets.backordered - removed.get(n, 0))
        for n, one in zip(left, going_on, strict=True)
    }
    return Repriced(units_per_line([*removed.items(), *ended]), priced, shipping, waited)


def _left(state: OrderState, removed: Mapping[int, int]) -> dict[int, LineShares]:
    """What the units of each line own that have not left and are still wanted."""
    found = {}
    for n, line in state.lines.items():
        dropped = removed.get(n, 0)
        units = line.buckets.of(*BEFORE_HAND_OVER) - dropped
        if units > 0:
            found[n] = line.shares.last(line.buckets.cancelled + dropped, units)
    return found


def _root(state: OrderState, line_no: int) -> int:
    return state.lines[line_no].extends or line_no


def _other_taxes(
    state: OrderState, left: Mapping[int, LineShares], added: Sequence[AddedLine], named: Mapping[int, int]
) -> dict[int, int]:
    """The named taxes that differ from what the units of their line carry."""
    found = {}
    for root, amount_minor in named.items():
        parts = [shares for n, shares in left.items() if _root(state, n) == root]
        parts += [one.shares for one in added if one.extends == root]
        if not parts:
            raise NothingLeftToShip(f"no unit of line {root} is still to leave")
        if sum(part.tax_minor for part in parts) != amount_minor:
            found[root] = amount_minor
    return found


def _shipping_differs(
    state: OrderState, left: Mapping[int, LineShares], added: Sequence[AddedLine], prices: Prices
) -> bool:
    if prices.shipping_tax_minor is not None and not (left or added):
        raise NothingLeftToShip("nothing is still to leave: its shipping is taxed as it was")
    if prices.shipping != shipping_of(state.order):
        return True
    carried = sum(shares.shipping_tax_minor for shares in (*left.values(), *(one.shares for one in added)))
    return prices.shipping_tax_minor not in (None, carried)


def _check_may_go_on(state: OrderState, left: Mapping[int, LineShares]) -> None:
    check_no_node_is_asked(state)
    for hold in state.live_holds:
        if hold.line_no in left:
            raise LineHeld(f"line {hold.line_no} is held ({hold.hold_id}); it is not re-priced before that ends")


def _going_on(state: OrderState, line_no: int, shares: LineShares, position: int) -> AddedLine:
    """Units of a line that stay, as a line of their own."""
    old, number = state.lines[line_no], fitting(max(state.lines) + 1 + position)
    price = next(line.unit_price_minor for line in state.order.lines if line.line_no == line_no)
    line = OrderLine(number, old.sku, shares.quantity, price, shares.discount_minor, shares.tax_minor)  # type: ignore[arg-type]
    mine = shares.model_copy(update={"line_no": number})
    return AddedLine(line=line, shares=mine, extends=old.extends or line_no)


def _shares(state: OrderState, parts: Sequence[AddedLine], prices: Prices) -> tuple[tuple[LineShares, ...], Shipping]:
    """The parts with their shares of shipping and of its tax, and what the whole order pays for it."""
    shares, shipping, before = tuple(one.shares for one in parts), prices.shipping, shipping_of(state.order)
    if shipping != before:
        gone = sum(line.shares.components_of_first(line.gone).revenue_minor for line in state.lines.values())
        shares = reprice(shares, gone, before, shipping)
    named = prices.shipping_tax_minor
    if named is not None:
        shares = with_shipping_tax(shares, named)
        shipping = at_the_rate_of(shipping, named, sum(part.shipping_minor for part in shares))
    return shares, shipping


def _with_shares(one: AddedLine, shares: LineShares) -> AddedLine:
    return one.model_copy(update={"shares": shares, "line": one.line._replace(tax_minor=shares.tax_minor)})


def fitting(number: int) -> int:
    """A line number that an order may have.

    Raises:
        TooManyLines: there are not so many.
    """
    if number > MAX_LINES:
        raise TooManyLines(f"an order has at most {MAX_LINES} lines")
    return number
