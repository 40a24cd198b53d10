"""Units that wait for supply: who may wait, whose turn it is, and what is given up. Owned by inventory.

Whoever waits for a SKU is served by priority, then by age. Units on the shelf that others wait for are not promised
to anybody behind them.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated

from pydantic import StringConstraints

from domain.cancellation import LineUnits
from domain.holds import keeps_back
from domain.order_state import AddedLine, OrderState
from domain.orders import Actor, Backorder, Frozen, OrderRules, Split
from domain.quantities import BEFORE_HAND_OVER
from domain.refusals import OrderRuleError


class SupplyArrived(Frozen):
    """Units of a SKU have come somewhere: does the order wait for them?"""

    command_id: Annotated[str, StringConstraints(min_length=1, max_length=120)]
    sku: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    actor: Actor | None = None


class NothingWaits(OrderRuleError):
    """The order does not wait for supply of this SKU."""

    code = "nothing_backordered"


def agrees_to_wait(preference: Backorder | None, rules: OrderRules) -> bool:
    """Whether the customer waits for supply, if the item allows it. Who was not asked is treated as the rules say."""
    return rules.backorder_unasked if preference is None else preference is Backorder.ACCEPT


def may_wait(state: OrderState) -> bool:
    """Whether open units may wait for supply. Where all goes together nothing may be at a node meanwhile."""
    if state.order.split is not Split.TOGETHER:
        return True
    return state.quantities.open == state.quantities.of(*BEFORE_HAND_OVER)


def may_wait_after(
    state: OrderState, new: Iterable[AddedLine], going_on: Mapping[int, int], together: Iterable[LineUnits]
) -> tuple[LineUnits, ...]:
    """Of a change: the units (line number, units) that may wait, where item and customer allow it.

    What comes in addition may; what takes the place of units, or goes on at another price, as far as they waited
    before. What is there is not given up for it, but where all goes `together`: then all of it waits along.
    """
    most = dict(going_on)
    for one in new:
        waited = one.line.quantity if one.replaces is None else state.lines[one.replaces].buckets.backordered
        most[one.line.line_no] = min(waited, one.line.quantity)
    return tuple((most | dict(together)).items())


def units_to_fill(state: OrderState) -> tuple[LineUnits, ...]:
    """Units (line number, units) that a node should hold as soon as one has them.

    Not before the payment is secured, and not what an overdue hold keeps back: that would only lapse again.
    """
    if not state.paid():
        return ()
    overdue = [hold for hold in state.live_holds if hold.overdue]
    found = ((n, line.buckets.backordered) for n, line in state.lines.items() if line.buckets.backordered)
    return tuple((n, units) for n, units in found if not keeps_back(overdue, (n,)))


def check_waits_for(state: OrderState, sku: str) -> None:
    """Whether supply of this SKU concerns the order.

    Raises:
        NothingWaits: it does not.
    """
    if not any(line.sku == sku and line.buckets.backordered for line in state.lines.values()):
        raise NothingWaits(f"nothing of this order waits for supply of {sku}")


def units_to_give_up(state: OrderState, now: datetime) -> tuple[LineUnits, ...]:
    """Units (line number, units) that have waited for as long as the rules allow."""
    return tuple(
        (n, line.buckets.backordered)
        for n, line in state.lines.items()
        if line.buckets.backordered and line.waits_until is not None and line.waits_until <= now
    )


def lifted(barred: Iterable[tuple[str, str]], came: Container[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """The bars (node, SKU) that still hold: where units have come since, the node is asked again."""
    return tuple(bar for bar in barred if bar not in came)


def leave_to_others(
    stock: Mapping[str, Mapping[str, int]],
    nodes: Sequence[str],
    wanted: Mapping[str, int],
    ahead: Mapping[str, int],
    keeps: int,
) -> dict[str, dict[str, int]]:
    """The stock (node -> SKU -> units) that an order may take, where others wait before it.

    Where there is enough for those before it and for itself, nothing changes. Else it gets what they leave; units
    are left to them where most are.

    Args:
        stock: units that can be promised.
        nodes: the nodes that take work.
        wanted: units of each SKU that the order needs.
        ahead: units of each SKU that others wait for, and come first.
        keeps: units of each SKU that a node keeps for itself.
    """
    left = {node: dict(units) for node, units in stock.items()}
    for sku, others in ahead.items():
        usable = {node: max(0, left.get(node, {}).get(sku, 0) - keeps) for node in nodes}
        total = sum(usable.values())
        if wanted.get(sku, 0) + others <= total:
            continue
        to_leave = min(others, total)
        for node in sorted(nodes, key=lambda name: (-usable[name], name)):
            cut = min(to_leave, usable[node])
            if cut:
                left[node][sku] -= cut
                to_leave -= cut
    return left
