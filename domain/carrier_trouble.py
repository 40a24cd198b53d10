"""What follows when a parcel does not arrive: lost, damaged, or brought back. Owned by fulfillment.

A parcel's state is what its carrier told; what follows for its units is decided once and stands. The remedy per
kind of trouble is the ruleset `carrier_trouble`, pinned at acceptance. A refund gives back what the units cost,
their shipping included; a reshipment is a new line at no charge that names the line and the parcel it replaces.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from domain.lifecycle import FulfillmentState, TrackingState, awaits_remedy
from domain.order_state import AddedLine, Fulfillment, OrderState
from domain.orders import (
    MAX_LINES,
    CarrierEventType,
    CarrierTrouble,
    Frozen,
    OrderLine,
    OrderRules,
    ParcelTrouble,
    Remedy,
)
from domain.quantities import WITH_THE_CARRIER, Bucket
from domain.refusals import OrderRuleError
from domain.shares import LineShares

_GIVEN_UP = (Bucket.WRITTEN_OFF, Bucket.RETURNED)
_SAYS_NOTHING = (CarrierEventType.LOST, CarrierEventType.DAMAGED, CarrierEventType.PRE_TRANSIT)
_TROUBLE = {
    TrackingState.LOST: ParcelTrouble.LOST,
    TrackingState.DAMAGED: ParcelTrouble.DAMAGED,
    TrackingState.RETURNED: ParcelTrouble.RETURNED,
}


class NoParcelInTrouble(OrderRuleError):
    """No parcel of this order, or not this one, waits for a remedy."""

    code = "no_parcel_in_trouble"


class ScanEffect(NamedTuple):
    """What a parcel's new state does to its units.

    Attributes:
        stage: where they go, None where they stay.
        restock: they are back at their node, and on hand again.
        contradicts: they were made good before: a person has to look.
    """

    stage: Bucket | None = None
    restock: bool = False
    contradicts: bool = False


class RemedyPlan(Frozen):
    """How the units of a parcel are made good: what becomes of them, and the lines that are sent instead."""

    trouble: ParcelTrouble
    remedy: Remedy
    target: Bucket
    added: tuple[AddedLine, ...] = ()


def pinned(version: str, body: Mapping[str, Any]) -> CarrierTrouble:
    """The rules of a ruleset, as an order pins them; what it does not say is as the standard has it.

    Raises:
        ValidationError: a remedy or a service level that there is not.
    """
    limits = {**CarrierTrouble().no_scan_s, **body.get("no_scan_s", {})}
    return CarrierTrouble.model_validate({**body, "no_scan_s": limits, "version": version})


def rules_of(rules: OrderRules) -> CarrierTrouble:
    """The rules of an order; one from before there were any has the standard remedies."""
    return rules.carrier_trouble or CarrierTrouble()


def effect_of(part: Fulfillment, state: TrackingState | None) -> ScanEffect:
    """What follows for the units of a parcel from the state that a scan leads to; nothing without one."""
    if state is None or state is TrackingState.LABEL_CREATED:
        return ScanEffect()
    if part.stage in _GIVEN_UP:
        return ScanEffect(contradicts=state not in _TROUBLE or state is TrackingState.RETURNED)
    if part.stage not in WITH_THE_CARRIER:
        return ScanEffect()
    if part.restocked:  # its units are on hand again
        return ScanEffect(contradicts=state is not TrackingState.RETURNED)
    match state:
        case TrackingState.DELIVERED:
            return ScanEffect(Bucket.DELIVERED)
        case TrackingState.RETURNED:
            return ScanEffect(Bucket.RETURN_PENDING, restock=True)
        case TrackingState.RETURN_TO_SENDER:
            return ScanEffect(Bucket.RETURN_PENDING)
        case _:
            return ScanEffect()


def turns_up(stage: Bucket, event: CarrierEventType, at: datetime, last: datetime | None) -> bool:
    """Whether an event says that a parcel is there after all, though it was made good.

    Args:
        stage: where its units are.
        event: what the carrier tells.
        at: when the carrier saw it.
        last: the carrier's latest time before that.
    """
    if stage is Bucket.RETURNED:
        return event is CarrierEventType.DELIVERED
    if stage is not Bucket.WRITTEN_OFF or event in _SAYS_NOTHING:
        return False
    return event in (CarrierEventType.DELIVERED, CarrierEventType.RETURNED) or last is None or at > last


def needs_remedy(part: Fulfillment) -> bool:
    """Whether the parcel will not arrive, and nothing has followed from it yet."""
    return part.state is FulfillmentState.SHIPPED and awaits_remedy(part.stage, part.tracking)


def remedy_of(rules: OrderRules, part: Fulfillment) -> Remedy:
    """What a person has chosen, else what whoever recalled the parcel wants, else what the rules say."""
    if part.remedy is None and part.recall is not None and part.recall.wished:
        return Remedy.REFUND
    return part.remedy or rules_of(rules).remedy_for(trouble_of(part))


def awaits_choice(state: OrderState, shipment_id: str | None) -> list[Fulfillment]:
    """The parcels whose remedy a person may still choose: those in trouble, and those on their way back.

    Raises:
        NoParcelInTrouble: there is none.
    """
    found = [
        part
        for part in state.fulfillments.values()
        if shipment_id in (None, part.shipment_id)
        and (needs_remedy(part) or (part.tracking is TrackingState.RETURN_TO_SENDER and part.stage in WITH_THE_CARRIER))
    ]
    if not found:
        raise NoParcelInTrouble("no parcel waits for a remedy: it is on its way, or was made good already")
    return found


def trouble_of(part: Fulfillment) -> ParcelTrouble:
    """What became of a parcel that needs a remedy."""
    if part.tracking is None:
        return ParcelTrouble.LOST
    return _TROUBLE.get(part.tracking, ParcelTrouble.LOST)


def plan_remedy(state: OrderState, part: Fulfillment, remedy: Remedy) -> RemedyPlan:
    """How the units of a parcel are made good. Where an order cannot have more lines they are refunded."""
    trouble = trouble_of(part)
    target = Bucket.RETURNED if trouble is ParcelTrouble.RETURNED else Bucket.WRITTEN_OFF
    added = _replacements(state, part) if remedy is Remedy.RESHIP else ()
    return RemedyPlan(trouble=trouble, remedy=Remedy.RESHIP if added else Remedy.REFUND, target=target, added=added)


def _replacements(state: OrderState, part: Fulfillment) -> tuple[AddedLine, ...]:
    """The same units again, at no charge, each line naming the first one that it stands for."""
    first = max(state.lines) + 1
    if first + len(part.lines) - 1 > MAX_LINES:
        return ()
    return tuple(
        _replacement(state, first + position, line_no, units, part.shipment_id)
        for position, (line_no, units) in enumerate(part.lines)
    )


def _replacement(state: OrderState, number: int, line_no: int, units: int, shipment_id: str) -> AddedLine:
    line = OrderLine(number, state.lines[line_no].sku, units, 0)  # type: ignore[arg-type]
    free = LineShares(
        line_no=number,
        quantity=units,
        items_minor=0,
        discount_minor=0,
        tax_minor=0,
        shipping_minor=0,
        shipping_tax_minor=0,
    )
    return AddedLine(line=line, shares=free, replaces=state.root_of(line_no), replaces_parcel=shipment_id)
