"""Changing an order in flight: what is wanted, what follows from it, and what is refused. Owned by service.

One pure plan serves validator, preview and execution. The change is whole or not at all. Units that are no
longer wanted are cancelled, units that are wanted in addition become a line of their own with their own frozen
shares, and units that must come from elsewhere are sourced again: nothing that is there is re-priced.
"""

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Annotated, Literal

from pydantic import Field

from domain.backorders import may_wait_after
from domain.cancellation import (
    CancellationPlan,
    LineUnits,
    UnknownLine,
    check_no_node_is_asked,
    plan_cancellation,
)
from domain.cut_offs import check_cut_off, furthest
from domain.ended import LINKED_ORDER, NOTHING_UNDER_WAY
from domain.holds import OrderOver
from domain.lifecycle import PaymentState
from domain.order_state import AddedLine, LineState, OrderState
from domain.orders import (
    MAX_LINES,
    MAX_QUANTITY,
    Actor,
    ChangeKind,
    Frozen,
    Minor,
    OrderLine,
    PlaceOrder,
    Quantity,
    ServiceLevel,
    Split,
)
from domain.permissions import Role, role_of
from domain.quantities import AT_THE_NODE, BEFORE_HAND_OVER, Bucket, units_per_line
from domain.refusals import OrderRuleError
from domain.repricing import Prices, fitting, repriced
from domain.shares import LineShares
from domain.shipping_price import Shipping, shipping_at, shipping_of
from domain.tax_change import NewTax, check_currency

LineNo = Annotated[int, Field(ge=1, le=MAX_LINES, strict=True)]
SkuText = Annotated[str, Field(min_length=1, max_length=64)]
MAX_CHANGES = 50


class SetQuantity(Frozen):
    """The line shall have so many units that are not cancelled, those that have left included."""

    op: Literal["set_quantity"] = "set_quantity"
    line: LineNo
    quantity: Annotated[int, Field(ge=0, le=MAX_QUANTITY, strict=True)]


class AddLine(Frozen):
    """A new line, at the price that the sender names. `discount_minor` and `tax_minor` are for the whole line."""

    op: Literal["add_line"] = "add_line"
    sku: SkuText
    quantity: Quantity
    unit_price_minor: Minor
    discount_minor: Minor = 0
    tax_minor: Minor = 0


class Substitute(Frozen):
    """Another item instead, for so many units (all that have not left). Without a price it costs what they cost."""

    op: Literal["substitute"] = "substitute"
    line: LineNo
    sku: SkuText
    quantity: Quantity | None = None
    unit_price_minor: Minor | None = None
    tax_minor: Minor = 0


class SetShipTo(Frozen):
    """Another destination. The address itself is in the vault, under the id of the command.

    With `tax` what has not left is taxed as at the new address; without it the frozen shares stay.
    """

    op: Literal["set_ship_to"] = "set_ship_to"
    country: str
    region: str
    zone_id: str
    tax: NewTax | None = None


class SetServiceLevel(Frozen):
    """Faster or slower. Shipping of the whole order then costs what is named here, else what the price list says."""

    op: Literal["set_service_level"] = "set_service_level"
    service_level: ServiceLevel
    shipping_minor: Minor | None = None
    shipping_tax_minor: Minor | None = None


class SetRequestedBy(Frozen):
    """Deliver by this day at the destination."""

    op: Literal["set_requested_by"] = "set_requested_by"
    requested_by: date


Change = Annotated[
    SetQuantity | AddLine | Substitute | SetShipTo | SetServiceLevel | SetRequestedBy, Field(discriminator="op")
]


class AmendmentInProgress(OrderRuleError):
    """Another change of this order is under way."""

    code = "amendment_in_progress"


class ConflictingChanges(OrderRuleError):
    """Two changes of one request are about the same thing."""

    code = "conflicting_changes"


class NothingChanges(OrderRuleError):
    """The order is as it is wanted."""

    code = "nothing_changes"


class QuantityBelowShipped(OrderRuleError):
    """More units have left than are wanted."""

    code = "quantity_below_shipped"
    alternative = "return"


class NothingWouldBeLeft(OrderRuleError):
    """The change would cancel all that has not left."""

    code = "nothing_would_be_left"
    alternative = "cancel"


class SentInstead(OrderRuleError):
    """The line stands for units that did not arrive: it has no price of its own."""

    code = "line_sent_instead"
    alternative = "cancel"


class PaymentNotSecured(OrderRuleError):
    """The order is not paid; it cannot become dearer before it is."""

    code = "payment_not_secured"
    alternative = "add_tender"


class RequestedDateNotPossible(OrderRuleError):
    """What is promised is later than what is wanted."""

    code = "promise_not_possible"


class PriceNotAllowed(OrderRuleError):
    """Customers name neither prices nor taxes."""

    code = "price_not_allowed"


class OrderMoved(OrderRuleError):
    """The order went on while the change was being agreed."""

    code = "order_changed"


class AmendmentPlan(Frozen):
    """What follows from a change. Units are (line number, units), amounts minor units.

    `moved` units are sourced again. `taken` says where removed and moved units are now.
    """

    order: PlaceOrder  # as it will be, but for the lines' cancelled units
    kinds: tuple[ChangeKind, ...]
    removed: tuple[LineUnits, ...] = ()
    moved: tuple[LineUnits, ...] = ()
    taken: CancellationPlan | None = None
    added: tuple[AddedLine, ...] = ()
    may_wait: tuple[LineUnits, ...] = ()  # for supply, at most, where no node has them
    requested_by: date | None = None
    owed_before_minor: int
    owed_after_minor: int
    tax_delta_minor: int
    shipping_delta_minor: int = 0
    to_authorize_minor: int

    @property
    def wanted(self) -> tuple[LineUnits, ...]:
        """The units that need a node."""
        new = tuple((one.line.line_no, one.line.quantity) for one in self.added)
        return (*self.moved, *new)

    @property
    def asks_nodes(self) -> bool:
        """Whether a node must agree."""
        return self.taken is not None and bool(self.taken.asked)


def plan_amendment(state: OrderState, changes: Sequence[Change], actor: Actor | None) -> AmendmentPlan:
    """The whole change, or its refusal.

    Raises:
        OrderRuleError: the order's rules say no; the code says why.
    """
    if state.rejected or not state.quantities.live:
        raise OrderOver(NOTHING_UNDER_WAY, LINKED_ORDER)
    _check_conflicts(state, changes)
    _check_prices(changes, actor)
    removed = units_per_line(unit for change in changes for unit in _removed(state, change))
    added = _all_added(state, changes)
    new = added
    removed, added, shipping, waited = repriced(state, removed, new, _prices_after(state, changes))
    order = _order_after(state, changes, added, shipping)
    moved = _moved(state, changes, order, removed, added)
    taken = _taken(state, removed, moved, spared=_spared(state, order, removed, added))
    kinds = tuple(_kind(state, change) for change in changes)
    for change, kind in zip(changes, kinds, strict=True):
        check_cut_off(state.rules, kind, actor, _stage(state, change, kind, taken))
    requested = next((c.requested_by for c in changes if isinstance(c, SetRequestedBy)), None)
    address = any(isinstance(change, SetShipTo) for change in changes)
    same = order == state.order and requested in (None, state.requested_by) and not address
    if same and not (removed or added or moved):
        raise NothingChanges("the order is as it is wanted already")
    if removed and not added and sum(removed.values()) == state.quantities.of(*BEFORE_HAND_OVER):
        raise NothingWouldBeLeft("this would cancel all that has not left")
    _check_requested(state, requested, moved, added)
    removed_units = tuple(removed.items())
    together = _goes_together(order, added)
    along = (*moved, *((one.line.line_no, one.line.quantity) for one in added)) if together else ()
    owed_after = state.owed_minor - _value(state, removed) + sum(one.shares.total_minor for one in added)
    return AmendmentPlan(
        order=order,
        kinds=kinds,
        removed=removed_units,
        moved=moved,
        taken=taken,
        added=added,
        may_wait=may_wait_after(state, new, waited, along),
        requested_by=requested,
        owed_before_minor=state.owed_minor,
        owed_after_minor=owed_after,
        tax_delta_minor=_tax_of(added) - _tax_removed(state, removed),
        shipping_delta_minor=_shipping_of(added) - _shipping_removed(state, removed),
        to_authorize_minor=_to_authorize(state, owed_after),
    )


def amended_quantities(state: OrderState, plan: AmendmentPlan) -> list[tuple[int, str, int, int]]:
    """Line number, SKU, units before and after, of every line that the plan touches; blocks count with their line."""
    change: dict[int, int] = {}
    for line_no, units in plan.removed:
        root = state.lines[line_no].extends or line_no
        change[root] = change.get(root, 0) - units
    new = {one.line.line_no: one for one in plan.added if one.extends is None}
    for one in plan.added:
        if one.extends is not None:
            change[one.extends] = change.get(one.extends, 0) + one.line.quantity
    old = [
        (n, state.lines[n].sku, _wanted_now(state, n), _wanted_now(state, n) + units)
        for n, units in sorted(change.items())
        if units
    ]
    return [*old, *((n, one.line.sku, 0, one.line.quantity) for n, one in new.items())]


def _check_conflicts(state: OrderState, changes: Sequence[Change]) -> None:
    taxes = [change.tax for change in changes if isinstance(change, SetShipTo) and change.tax]
    named = [getattr(change, "line", 0) for change in changes] + [line.line for tax in taxes for line in tax.lines]
    for line in (state.lines[number] for number in named if number in state.lines):
        if line.replaces_parcel:
            raise SentInstead(f"line {line.line_no} is sent instead of units that did not arrive; it can be cancelled")
    about = [getattr(change, "line", change.op) for change in changes if not isinstance(change, AddLine)]
    if len(about) != len(set(about)):
        raise ConflictingChanges("two changes are about the same line, or the same property of the order")
    shipping = [
        change.shipping_tax_minor for change in (*changes, *taxes) if isinstance(change, SetServiceLevel | NewTax)
    ]
    if len([amount for amount in shipping if amount is not None]) > 1:
        raise ConflictingChanges("the tax of shipping is named twice")


def _check_prices(changes: Sequence[Change], actor: Actor | None) -> None:
    if role_of(actor) != Role.SHOPPER:
        return
    if any(isinstance(change, SetShipTo) and change.tax for change in changes):
        raise PriceNotAllowed("tax is not the customer's to name")
    if any(
        isinstance(c, SetServiceLevel) and (c.shipping_minor, c.shipping_tax_minor) != (None, None) for c in changes
    ):
        raise PriceNotAllowed("the price of shipping is not the customer's to name")


def _kind(state: OrderState, change: Change) -> ChangeKind:
    if isinstance(change, SetQuantity):
        more = change.quantity > _wanted_now(state, change.line)
        return ChangeKind.INCREASE if more else ChangeKind.DECREASE
    return ChangeKind(change.op)


# --- units --------------------------------------------------------------------------------------------


def _family(state: OrderState, line_no: int) -> list[LineState]:
    """A line and those that extend it, in the order in which they came.

    Raises:
        UnknownLine: the order has no such line.
    """
    if line_no not in state.lines:
        raise UnknownLine(f"the order has no line {line_no}")
    root = state.lines[line_no].extends or line_no
    return [line for n, line in sorted(state.lines.items()) if root in (n, line.extends)]


def _wanted_now(state: OrderState, line_no: int) -> int:
    return sum(line.shares.quantity - line.buckets.cancelled for line in _family(state, line_no))


def _removed(state: OrderState, change: Change) -> tuple[LineUnits, ...]:
    """The units that the change takes out of the order: of the newest block first."""
    if isinstance(change, Substitute):
        return ((change.line, _substituted(state, change)),)
    if not isinstance(change, SetQuantity):
        return ()
    family, left = _family(state, change.line), _wanted_now(state, change.line) - change.quantity
    units = []
    for line in reversed(family):
        take = min(left, line.buckets.of(*BEFORE_HAND_OVER))
        if take > 0:
            units.append((line.line_no, take))
            left -= take
    if left > 0:
        gone = sum(line.gone for line in family)
        raise QuantityBelowShipped(f"line {change.line}: {gone} units have left, {change.quantity} are wanted")
    return tuple(units)


def _substituted(state: OrderState, change: Substitute) -> int:
    if change.line not in state.lines:
        raise UnknownLine(f"the order has no line {change.line}")
    line = state.lines[change.line]
    there = line.buckets.of(*BEFORE_HAND_OVER)
    if change.sku == line.sku and change.unit_price_minor is None:
        raise NothingChanges(f"line {change.line} is of {line.sku} already")
    if there < (change.quantity or 1):
        raise QuantityBelowShipped(f"line {change.line}: {there} units have not left")
    return change.quantity or there


def _moved(
    state: OrderState,
    changes: Sequence[Change],
    order: PlaceOrder,
    removed: dict[int, int],
    added: tuple[AddedLine, ...],
) -> tuple[LineUnits, ...]:
    """What must be sourced again: all that has not left, where destination or speed change or all goes together.

    Another address in the same zone moves nothing, unless a node may have the old one on its papers. What waits for
    supply goes on waiting, unless all goes together.
    """
    relocated = (order.zone_id, order.service_level) != (state.order.zone_id, state.order.service_level)
    relocated = relocated or (any(isinstance(c, SetShipTo) for c in changes) and _is_on_papers(state))
    if not relocated and not _goes_together(order, added):
        return ()
    check_no_node_is_asked(state)
    spared = _spared(state, order, removed, added)
    units = (
        (n, line.buckets.of(*BEFORE_HAND_OVER) - removed.get(n, 0) - spared.get(n, 0))
        for n, line in state.lines.items()
    )
    return tuple((n, quantity) for n, quantity in units if quantity > 0)


def _is_on_papers(state: OrderState) -> bool:
    """Whether a node may have the address on its papers: it has the work, or is being told of it.

    Orders of the first flow did not count those that are being told.
    """
    told = state.flow > 1 and any(part.in_call for part in state.fulfillments.values())
    return told or state.quantities.of(*AT_THE_NODE) > 0


def _goes_together(order: PlaceOrder, added: tuple[AddedLine, ...]) -> bool:
    """Whether what is added must come from where all the rest comes from."""
    return bool(added) and order.split is Split.TOGETHER


def _spared(
    state: OrderState, order: PlaceOrder, removed: dict[int, int], added: tuple[AddedLine, ...]
) -> dict[int, int]:
    """Units per line that go on waiting for supply. What is removed takes those first that wait."""
    if _goes_together(order, added):
        return {}
    waiting = ((n, line.buckets.backordered - removed.get(n, 0)) for n, line in state.lines.items())
    return {n: units for n, units in waiting if units > 0}


def _taken(
    state: OrderState, removed: dict[int, int], moved: Iterable[LineUnits], spared: dict[int, int]
) -> CancellationPlan | None:
    units = units_per_line([*removed.items(), *moved])
    return plan_cancellation(state, tuple(units.items()), spared=spared) if units else None


def _stage(state: OrderState, change: Change, kind: ChangeKind, taken: CancellationPlan | None) -> Bucket:
    """How far the units are that the change is about."""
    if kind in (ChangeKind.DECREASE, ChangeKind.SUBSTITUTE) and isinstance(change, SetQuantity | Substitute):
        lines = {line.line_no for line in _family(state, change.line)}
        return furthest(_stages_taken(state, lines, taken))
    stages = {bucket for bucket in BEFORE_HAND_OVER if state.quantities.of(bucket)}
    if kind in (ChangeKind.INCREASE, ChangeKind.ADD_LINE) and state.quantities.of(Bucket.SHIPPED):
        stages.add(Bucket.SHIPPED)
    return furthest(tuple(stages) or (Bucket.SHIPPED,))  # where nothing is left to ship it is too late


def _stages_taken(state: OrderState, lines: set[int], taken: CancellationPlan | None) -> tuple[Bucket, ...]:
    if taken is None:
        return ()
    parts = [p for p in (*taken.at_once, *taken.asked) if any(n in lines for n, _ in p.units)]
    held = [Bucket.RESERVED for n, _, _ in taken.held_units if n in lines]
    waiting = [Bucket.BACKORDERED for n, _ in taken.backordered_units if n in lines]
    return (*waiting, *held, *(state.fulfillments[p.fulfillment_id].stage for p in parts))


# --- lines and money ----------------------------------------------------------------------------------


def _all_added(state: OrderState, changes: Sequence[Change]) -> tuple[AddedLine, ...]:
    """The new lines, numbered on from the last one there is."""
    added: list[AddedLine] = []
    for change in changes:
        number = max(state.lines) + 1 + len(added)
        line = _added(state, change, number)
        if line is not None:
            added.append(line)
    return tuple(added)


def _added(state: OrderState, change: Change, number: int) -> AddedLine | None:
    if isinstance(change, SetQuantity):
        more = change.quantity - _wanted_now(state, change.line)
        return _block(state, change.line, more, fitting(number)) if more > 0 else None
    if isinstance(change, AddLine):
        return _new_line(change, fitting(number))
    if isinstance(change, Substitute):
        return _substitute(state, change, fitting(number))
    return None


def _shipping_after(state: OrderState, changes: Sequence[Change]) -> Shipping:
    """What the order pays for shipping once it is changed."""
    for change in changes:
        if isinstance(change, SetServiceLevel):
            named = (change.shipping_minor, change.shipping_tax_minor)
            return shipping_at(state.order, state.rules, change.service_level, *named)
    return shipping_of(state.order)


def _prices_after(state: OrderState, changes: Sequence[Change]) -> Prices:
    """What is to be paid for shipping and tax once the order is changed."""
    tax = next((change.tax for change in changes if isinstance(change, SetShipTo) and change.tax), None)
    if tax is None:
        return Prices(_shipping_after(state, changes), {})
    check_currency(tax, state.order.currency)
    taxes: dict[int, int] = {}
    for line in tax.lines:
        root = _family(state, line.line)[0].line_no
        if root in taxes:
            raise ConflictingChanges(f"two taxes are about line {root}, or what extends it")
        taxes[root] = line.tax_minor
    return Prices(_shipping_after(state, changes), taxes, tax.shipping_tax_minor)


def _block(state: OrderState, line_no: int, units: int, number: int) -> AddedLine:
    """More of a line, at its price: discount and tax in proportion, no further share of shipping."""
    root = _family(state, line_no)[0]
    line, shares = _ordered(state, root.line_no), root.shares
    discount = shares.discount_minor * units // shares.quantity  # never more than the line's own rate
    tax = (2 * shares.tax_minor * units + shares.quantity) // (2 * shares.quantity)  # to the nearest
    more = OrderLine(number, root.sku, units, line.unit_price_minor, discount, tax)  # type: ignore[arg-type]
    return AddedLine(line=more, shares=_shares(more), extends=root.line_no)


def _new_line(change: AddLine, number: int) -> AddedLine:
    line = OrderLine(
        number,
        change.sku,  # type: ignore[arg-type]
        change.quantity,
        change.unit_price_minor,
        change.discount_minor,
        change.tax_minor,
    )
    return AddedLine(line=line, shares=_shares(line))


def _substitute(state: OrderState, change: Substitute, number: int) -> AddedLine:
    """The new item takes over the share of shipping; and the price and tax too, where no other price is named."""
    old, units = state.lines[change.line], _substituted(state, change)
    taken = old.shares.last(old.buckets.cancelled, units).model_copy(update={"line_no": number})
    price = _ordered(state, change.line).unit_price_minor
    if change.unit_price_minor is not None:
        price = change.unit_price_minor
        taken = taken.model_copy(
            update={"items_minor": price * units, "discount_minor": 0, "tax_minor": change.tax_minor}
        )
    line = OrderLine(number, change.sku, units, price, taken.discount_minor, taken.tax_minor)  # type: ignore[arg-type]
    return AddedLine(line=line, shares=taken, replaces=change.line)


def _shares(line: OrderLine) -> LineShares:
    return LineShares(
        line_no=line.line_no,
        quantity=line.quantity,
        items_minor=line.unit_price_minor * line.quantity,
        discount_minor=line.discount_minor,
        tax_minor=line.tax_minor,
        shipping_minor=0,
        shipping_tax_minor=0,
    )


def _ordered(state: OrderState, line_no: int) -> OrderLine:
    return next(line for line in state.order.lines if line.line_no == line_no)


def _order_after(
    state: OrderState, changes: Sequence[Change], added: tuple[AddedLine, ...], shipping: Shipping
) -> PlaceOrder:
    update: dict[str, object] = {}
    if shipping != shipping_of(state.order):
        update |= {"shipping_minor": shipping.price_minor, "shipping_tax_minor": shipping.tax_minor}
    for change in changes:
        if isinstance(change, SetShipTo):
            update |= {"country": change.country, "region": change.region, "zone_id": change.zone_id}
        elif isinstance(change, SetServiceLevel):
            update["service_level"] = change.service_level
    if added:
        update["lines"] = (*state.order.lines, *(one.line for one in added))
        update["total_minor"] = state.order.total_minor + sum(one.shares.total_minor for one in added)
    return state.order.model_copy(update=update)


def _value(state: OrderState, removed: dict[int, int]) -> int:
    lines = state.lines
    return sum(lines[n].shares.value_to_cancel(lines[n].buckets.cancelled, q) for n, q in removed.items())


def _tax_removed(state: OrderState, removed: dict[int, int]) -> int:
    taken = (state.lines[n].shares.last(state.lines[n].buckets.cancelled, q) for n, q in removed.items())
    return sum(shares.tax_minor + shares.shipping_tax_minor for shares in taken)


def _shipping_removed(state: OrderState, removed: dict[int, int]) -> int:
    return sum(
        state.lines[n].shares.last(state.lines[n].buckets.cancelled, q).shipping_minor for n, q in removed.items()
    )


def _shipping_of(added: Iterable[AddedLine]) -> int:
    return sum(one.shares.shipping_minor for one in added)


def _tax_of(added: Iterable[AddedLine]) -> int:
    return sum(one.shares.tax_minor + one.shares.shipping_tax_minor for one in added)


def _to_authorize(state: OrderState, owed_after: int) -> int:
    """What the tenders do not cover. Those that are still in their first call count with what is asked of them.

    Raises:
        PaymentNotSecured: a declined tender comes first.
    """
    secured = sum(
        tender.amount_minor
        if tender.state is PaymentState.PENDING
        else tender.authorized_minor - tender.refunded_minor - tender.refunding_minor
        for tender in state.tenders
        if tender.state not in (PaymentState.VOIDED, PaymentState.FAILED)
    )
    missing = max(0, owed_after - secured)
    if missing and any(tender.state is PaymentState.FAILED for tender in state.tenders):
        if owed_after > state.owed_minor:
            raise PaymentNotSecured("a payment was declined; it is replaced first")
        return 0
    return missing


def _check_requested(
    state: OrderState, requested: date | None, moved: tuple[LineUnits, ...], added: tuple[AddedLine, ...]
) -> None:
    """Units that stay where they are come when they come; what is sourced again is judged by its new plan."""
    promised = state.current_by or state.promised_by
    if requested and not (moved or added) and promised and promised > requested:
        raise RequestedDateNotPossible(f"it is promised by {promised}, not by {requested}")
