"""What the caller can do about an order's holds now, with the reason codes of `domain/holds.py`."""

from typing import Any

from domain.holds import HOLD_RULES
from domain.orders import HoldType
from domain.permissions import Principal, may
from domain.quantities import BEFORE_HAND_OVER


def hold_actions(principal: Principal, order: dict[str, Any]) -> list[dict[str, Any]]:
    """Placing a hold, and ending each one that stands."""
    actions = [_place(order)] if may(principal, "placeHold") else []
    if may(principal, "releaseHold"):
        actions += [_release(principal, hold) for hold in order["holds"]]
    return actions


def _place(order: dict[str, Any]) -> dict[str, Any]:
    counted = (
        (line["line"], sum(line["quantities"].get(b.value, 0) for b in BEFORE_HAND_OVER)) for line in order["lines"]
    )
    lines = [{"line": number, "quantity": quantity} for number, quantity in counted if quantity]
    if lines:
        return {"action": "place_hold", "available": True, "lines": lines}
    over = order["terminal"]
    return {
        "action": "place_hold",
        "available": False,
        "reason": "order_over" if over else "nothing_to_hold",
        "detail": "the order is over" if over else "all that a hold would stop has happened",
    }


def _release(principal: Principal, hold: dict[str, Any]) -> dict[str, Any]:
    roles = HOLD_RULES[HoldType(hold["type"])].released_by
    action = {"action": "release_hold", "hold_id": hold["hold_id"]}
    if set(principal.roles) & set(roles):
        return {**action, "available": True}
    detail = f"a {hold['type']} hold is released by the roles {', '.join(roles)}"
    return {**action, "available": False, "reason": "role_may_not_release", "detail": detail}
