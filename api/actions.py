"""What the caller can do with an order now; and what not, why not, and what to do instead.

The reason codes are those that the order's own rules refuse with (`domain/cancellation.py`, `domain/holds.py`).
"""

from typing import Any

from api.hold_actions import hold_actions
from domain.lifecycle import FulfillmentState, PaymentState
from domain.permissions import Principal, may
from domain.quantities import AT_THE_NODE, BEFORE_HAND_OVER, HANDED_OVER

_LEFT = "already_handed_over"


def available_actions(principal: Principal, order: dict[str, Any]) -> list[dict[str, Any]]:
    """The actions that the caller's roles have at all, each with whether it is possible now."""
    actions: list[dict[str, Any]] = []
    if may(principal, "requestCancellation"):
        actions += _cancel(order)
    if may(principal, "addTender"):
        actions.append(_add_tender(order))
    return actions + hold_actions(principal, order)


def _cancel(order: dict[str, Any]) -> list[dict[str, Any]]:
    lines = order["lines"]
    stopping = _stopping(order)
    free = []
    for line in lines:
        before = sum(line["quantities"].get(bucket.value, 0) for bucket in BEFORE_HAND_OVER)
        waiting = stopping.get(line["line"], 0)
        if before - waiting > 0:
            free.append({"line": line["line"], "quantity": before - waiting})
    asked = [{"line": number, "quantity": quantity} for number, quantity in sorted(stopping.items())]
    left = _units(lines, HANDED_OVER)
    found = [{"action": "cancel", "available": True, "lines": free}] if free else []
    if asked:
        text = "the node was asked to stop already; its answer decides"
        found.append(_no("cancel", "cancellation_in_progress", text, None, asked))
    if left:
        text = "the carrier has the goods; they can come back as a return"
        found.append(_no("cancel", _LEFT, text, "return", left))
    if not found:
        found.append(_no("cancel", "nothing_to_cancel", "nothing of this order is left to cancel", None, []))
    return found


def _stopping(order: dict[str, Any]) -> dict[int, int]:
    """Units per line whose node was asked to stop."""
    units: dict[int, int] = {}
    for part in order["fulfillment_orders"]:
        if part["state"] == FulfillmentState.CANCELLATION_REQUESTED and part["stage"] in AT_THE_NODE:
            for line in part["lines"]:
                units[line["line"]] = units.get(line["line"], 0) + line["quantity"]
    return units


def _units(lines: list[dict[str, Any]], buckets: tuple[str, ...]) -> list[dict[str, int]]:
    counted = ((line["line"], sum(line["quantities"].get(str(b), 0) for b in buckets)) for line in lines)
    return [{"line": number, "quantity": quantity} for number, quantity in counted if quantity]


def _add_tender(order: dict[str, Any]) -> dict[str, Any]:
    for tender in order["tenders"]:
        if tender["state"] == PaymentState.FAILED and not order["terminal"]:
            return {"action": "add_tender", "available": True, "tender_id": tender["id"]}
    return _no("add_tender", "not_yet", "only a declined payment can be replaced", None, [])


def _no(action: str, reason: str, detail: str, alternative: str | None, lines: list[dict[str, int]]) -> dict[str, Any]:
    return {
        "action": action,
        "available": False,
        "lines": lines,
        "reason": reason,
        "detail": detail,
        "alternative": alternative,
    }
