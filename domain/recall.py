"""Bringing back what a carrier has: which parcels it can be asked for, and what decides it. Owned by fulfillment.

Only a whole parcel can be brought back. One that comes back is refunded, never sent again: `domain/carrier_trouble.py`.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from domain.carrier_trouble import rules_of
from domain.lifecycle import IN_TROUBLE, RecallState, TrackingState
from domain.order_state import Fulfillment, OrderState, Recall
from domain.orders import Actor, OrderRules, ServiceLevel
from domain.quantities import HANDED_OVER, Bucket
from domain.refusals import OrderRuleError

LineUnits = tuple[int, int]
"""Line number, units."""


class CannotBeRecalled(OrderRuleError):
    """The carrier has, or had, the parcel, and will not bring it back for this."""

    code = "cannot_be_recalled"
    alternative = "return"


class RecallInProgress(OrderRuleError):
    """The carrier was asked already; its answer decides."""

    code = "recall_in_progress"


class WholeParcelsOnly(OrderRuleError):
    """Some units of a parcel cannot come back without the others."""

    code = "whole_parcels_only"
    alternative = "return"


class Parcel(NamedTuple):
    """A parcel that has left, as far as it matters here."""

    shipment_id: str
    lines: tuple[LineUnits, ...]
    stage: Bucket
    tracking: TrackingState | None
    recall: RecallState | None


def parcel_of(part: Fulfillment) -> Parcel:
    """The parcel of a fulfillment order."""
    state = part.recall.state if part.recall else None
    return Parcel(part.shipment_id, part.lines, part.stage, part.tracking, state)


def refusal_of(parcel: Parcel, rules: OrderRules, service_level: ServiceLevel) -> OrderRuleError | None:
    """Why the carrier is not asked to bring a parcel back; None where it can be."""
    name = f"parcel {parcel.shipment_id}"
    if parcel.recall is RecallState.REQUESTED and parcel.stage is Bucket.SHIPPED:
        return RecallInProgress(f"the carrier was asked for {name} already; its answer decides")
    if why := _where(parcel):
        return CannotBeRecalled(f"{name} {why}")
    if parcel.recall is RecallState.TOO_LATE:
        return CannotBeRecalled(f"the carrier was asked for {name}: it is too late")
    if parcel.recall is RecallState.UNSUPPORTED or service_level not in rules_of(rules).recallable:
        return CannotBeRecalled(f"the carrier of {name} brings nothing back (service {service_level})")
    return None


def _where(parcel: Parcel) -> str | None:
    """What became of a parcel that the carrier cannot turn round any more."""
    if parcel.stage is Bucket.DELIVERED:
        return "was delivered; it can come back as a return"
    if parcel.stage is Bucket.RETURN_PENDING or parcel.tracking is TrackingState.RETURNED:
        return "comes back already"
    if parcel.stage is not Bucket.SHIPPED or parcel.tracking in IN_TROUBLE:
        return f"is {parcel.tracking or parcel.stage}: that has a remedy of its own"
    return "comes back already" if parcel.recall is RecallState.AGREED else None


def recallable(state: OrderState) -> list[Fulfillment]:
    """The parcels that the carrier can be asked for: the largest first, so that the fewest are asked for."""
    found = [part for part in _gone(state) if _refused(state, part) is None]
    return sorted(found, key=lambda part: -part.units)


def take_parcels(state: OrderState, left: dict[int, int], *, everything: bool) -> list[Fulfillment]:
    """The parcels whose units are all still wanted (`left`: line -> units); with `everything`, all that can be had."""
    taken = []
    for part in recallable(state):
        if everything or all(left.get(line_no, 0) >= units for line_no, units in part.lines):
            taken.append(part)
            left.update({n: left[n] - units for n, units in part.lines if not everything})
    return taken


def why_none(state: OrderState, lines: Iterable[int], taken: Sequence[Fulfillment] = ()) -> OrderRuleError | None:
    """Why more units of these lines that have left are not brought back; None where no others have left."""
    wanted = set(lines)
    parts = [part for part in _gone(state) if wanted & set(part.line_nos) and part not in taken]
    refusals = [(part, _refused(state, part)) for part in parts]
    for part, refusal in refusals:
        if refusal is None:
            has = ", ".join(f"{units} of line {line_no}" for line_no, units in part.lines)
            return WholeParcelsOnly(f"parcel {part.shipment_id} has {has}: all of it can be brought back, or nothing")
    asked = (refusal for _, refusal in refusals if isinstance(refusal, RecallInProgress))
    return next(asked, None) or next((refusal for _, refusal in refusals), None)


def value_recalled(state: OrderState, parts: Iterable[Fulfillment]) -> int:
    """What is refunded once these parcels are back, in minor units: their shipping included."""
    units: dict[int, int] = {}
    for part in parts:
        for line_no, quantity in part.lines:
            root = state.root_of(line_no)
            units[root] = units.get(root, 0) + quantity
    return sum(
        state.lines[n].shares.value_to_credit(state.lines[n].credited, quantity, with_shipping=True)
        for n, quantity in units.items()
    )


def answer_until(rules: OrderRules, now: datetime) -> datetime:
    """Until when a carrier that is asked now should have answered."""
    return now + timedelta(seconds=rules_of(rules).recall_answer_s)


def asked_now(rules: OrderRules, command_id: str, actor: Actor, now: datetime) -> Recall:
    """The carrier is asked."""
    return Recall(command_id=command_id, actor=actor, since=now, until=answer_until(rules, now))


def after_scan(recall: Recall | None, tracking: TrackingState | None) -> Recall | None:
    """What a parcel's new state says about a recall that has no answer yet."""
    if recall is None or recall.state is not RecallState.REQUESTED:
        return recall
    if tracking in (TrackingState.RETURN_TO_SENDER, TrackingState.RETURNED):
        return recall.model_copy(update={"state": RecallState.AGREED})
    if tracking is TrackingState.DELIVERED:
        return recall.model_copy(update={"state": RecallState.TOO_LATE})
    return recall


def _gone(state: OrderState) -> list[Fulfillment]:
    return [part for part in state.fulfillments.values() if part.stage in HANDED_OVER]


def _refused(state: OrderState, part: Fulfillment) -> OrderRuleError | None:
    return refusal_of(parcel_of(part), state.rules, state.order.service_level)
