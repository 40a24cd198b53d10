"""What the caller can do with an order now; and what not, why not, and what to do instead.

Changes are offered by the cut-off rules that the order has pinned (`domain/offers.py`), with the reason codes that the
order's own rules refuse with.
"""

from types import MappingProxyType
from typing import Any

from api.hold_actions import hold_actions
from domain.lifecycle import FulfillmentState, PaymentState, RecallState, TrackingState
from domain.offers import Offer, Standing, cancel_ways, offers
from domain.orders import ChangeKind, OrderRules, ServiceLevel
from domain.permissions import Principal, acting_role, may
from domain.quantities import AT_THE_NODE, HANDED_OVER, Bucket
from domain.recall import Parcel

_OFFERED = MappingProxyType({ChangeKind.CANCEL: "cancel", ChangeKind.RECALL: "recall"})
_CANCELS = (*_OFFERED, ChangeKind.CANCEL_UNREFUNDED, ChangeKind.WRITE_OFF)
AMENDMENTS = tuple(kind for kind in ChangeKind if kind not in _CANCELS)


def available_actions(principal: Principal, order: dict[str, Any]) -> list[dict[str, Any]]:
    """The actions that the caller's roles have at all, each with whether it is possible now."""
    standing = _standing(order)
    actions = _changes(principal, "requestCancellation", standing, tuple(_OFFERED))
    actions += _changes(principal, "amendOrder", standing, AMENDMENTS)
    if may(principal, "addTender"):
        actions.append(_add_tender(order))
    return actions + hold_actions(principal, order)


def _changes(
    principal: Principal, operation: str, standing: Standing, kinds: tuple[ChangeKind, ...]
) -> list[dict[str, Any]]:
    """What the cut-off rules allow in the role in which the caller's command would be recorded."""
    role = acting_role(principal, operation)
    if role is None:
        return []
    return [_offered(standing, role, offer) for kind in kinds for offer in offers(standing, kind, role)]


def _offered(standing: Standing, role: str, offer: Offer) -> dict[str, Any]:
    cancels = offer.change in _OFFERED
    lines = [{"line": number, "quantity": quantity} for number, quantity in offer.lines]
    action: dict[str, Any] = {"action": _OFFERED.get(offer.change, "amend"), "available": offer.available}
    if not cancels:
        action["change"] = offer.change
    if lines or cancels:
        action["lines"] = lines
    if offer.available:
        plain = offer.change is ChangeKind.CANCEL
        ways = {"options": cancel_ways(standing, role, offer)._asdict()} if plain else {}
        return {**action, "until_stage": offer.until, **ways}
    return {**action, "reason": offer.reason, "detail": offer.detail, "alternative": offer.alternative}


def _standing(order: dict[str, Any]) -> Standing:
    """How the order stands, as its rows say it."""
    lines = {line["line"]: {Bucket(name): n for name, n in line["quantities"].items()} for line in order["lines"]}
    declined = any(tender["state"] == PaymentState.FAILED for tender in order["tenders"])
    return Standing(
        rules=OrderRules.model_validate(order["rules"]),
        lines=lines,
        stopping=_stopping(order),
        amending=order["amending"],
        declined=declined,
        secured=_secured(order),
        parcels=_parcels(order),
        service_level=ServiceLevel(order["service_level"]),
    )


def _parcels(order: dict[str, Any]) -> tuple[Parcel, ...]:
    """The parcels that have left."""
    told = {parcel["id"]: parcel for parcel in order["shipments"]}
    parts = [part for part in order["fulfillment_orders"] if Bucket(part["stage"]) in HANDED_OVER]
    return tuple(_parcel(part, told[part["shipment_id"]]) for part in parts if part["shipment_id"] in told)


def _parcel(part: dict[str, Any], told: dict[str, Any]) -> Parcel:
    return Parcel(
        shipment_id=told["id"],
        lines=tuple((line["line"], line["quantity"]) for line in part["lines"]),
        stage=Bucket(part["stage"]),
        tracking=TrackingState(told["state"]),
        recall=RecallState(told["recall"]) if told["recall"] else None,
    )


def _secured(order: dict[str, Any]) -> bool:
    """Whether what is owed is authorized or taken, as the order would ask before it keeps some of it."""
    secured = sum(
        (tender["captured_minor"] if tender["state"] == PaymentState.VOIDED else tender["authorized_minor"])
        - tender["refunded_minor"]
        for tender in order["tenders"]
    )
    return bool(order["owed_minor"] <= secured)


def _stopping(order: dict[str, Any]) -> dict[int, dict[Bucket, int]]:
    """Units per line and stage whose node was asked to stop."""
    found: dict[int, dict[Bucket, int]] = {}
    for part in order["fulfillment_orders"]:
        stage = Bucket(part["stage"])
        if part["state"] == FulfillmentState.CANCELLATION_REQUESTED and stage in (Bucket.ALLOCATED, *AT_THE_NODE):
            for line in part["lines"]:
                stages = found.setdefault(line["line"], {})
                stages[stage] = stages.get(stage, 0) + line["quantity"]
    return found


def _add_tender(order: dict[str, Any]) -> dict[str, Any]:
    for tender in order["tenders"]:
        if tender["state"] == PaymentState.FAILED and not order["terminal"]:
            return {"action": "add_tender", "available": True, "tender_id": tender["id"]}
    return {
        "action": "add_tender",
        "available": False,
        "reason": "not_yet",
        "detail": "only a declined payment can be replaced",
    }
