"""What follows when a node cannot ship units: which ones, and what that says about its stock. Owned by fulfillment."""

from collections.abc import Iterable
from typing import NamedTuple

from domain.order_state import Fulfillment
from domain.orders import NodeTrouble
from domain.quantities import units_per_line
from domain.refusals import OrderRuleError


class QuantityExceedsReleased(OrderRuleError):
    """The node reports more units than it was given."""

    code = "quantity_exceeds_released"


class ShortPlan(NamedTuple):
    """Units that go back to sourcing (line number, units); `whole` when the node ships none of what it has."""

    units: tuple[tuple[int, int], ...]
    whole: bool


class StockCorrection(NamedTuple):
    """How a missing unit changes the node's stock, per unit."""

    on_hand: int
    unavailable: int


def plan_short(part: Fulfillment, missing: Iterable[tuple[int, int]]) -> ShortPlan:
    """The units that a node cannot ship. None named means none of them can be.

    Raises:
        QuantityExceedsReleased: the fulfillment order does not have so many units of a line.
    """
    named = units_per_line(missing)
    has = dict(part.lines)
    for line_no, quantity in named.items():
        if quantity > has.get(line_no, 0):
            text = f"line {line_no}: {quantity} units reported, {has.get(line_no, 0)} are there"
            raise QuantityExceedsReleased(text)
    if not named or named == has:
        return ShortPlan(part.lines, whole=True)
    return ShortPlan(tuple(sorted(named.items())), whole=False)


def correction_for(cause: NodeTrouble) -> StockCorrection:
    """A unit that was not found is not on hand; a damaged one is, but cannot be sold. Others change nothing."""
    match cause:
        case NodeTrouble.NOT_FOUND:
            return StockCorrection(on_hand=-1, unavailable=0)
        case NodeTrouble.DAMAGED:
            return StockCorrection(on_hand=0, unavailable=1)
        case _:
            return StockCorrection(on_hand=0, unavailable=0)
