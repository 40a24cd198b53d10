"""What storefronts and shoppers are not told: by which rule an order is held on suspicion. Owner: security.

Who knows the rule can avoid it. The hold's type is told, and that somebody looks; the teams see all of it.
"""

from collections.abc import Mapping
from typing import Any

from domain.orders import HoldType
from domain.permissions import Principal, Role

OUTSIDERS = frozenset({Role.SHOPPER, Role.STOREFRONT})
NEUTRAL = "under_review"
_ENDS = {"hold.released": "has ended", "hold.rejected": "was rejected", "hold.expired": "has reached its limit"}


def is_outsider(principal: Principal) -> bool:
    """Whether the caller belongs to no team of ours."""
    return set(principal.roles) <= OUTSIDERS


def shown_hold(hold: dict[str, Any], principal: Principal) -> dict[str, Any]:
    """A hold, without the rule behind it where that is not the caller's business."""
    hidden = hold["type"] == HoldType.FRAUD and is_outsider(principal)
    return {**hold, "reason": NEUTRAL} if hidden else hold


def shown_event(event: dict[str, Any], principal: Principal) -> dict[str, Any]:
    """An entry of the timeline, without the rule behind a hold where that is not the caller's business."""
    if not is_outsider(principal) or not _tells_of_suspicion(event["type"], event["data"]):
        return event
    data = {name: value for name, value in event["data"].items() if name in ("hold_id", "type", "scope", "until")}
    told = _ENDS.get(event["type"], "is placed: somebody looks at the order")
    return {**event, "cause": NEUTRAL, "text": f"Hold fraud {told}", "data": {**data, "reason": NEUTRAL}}


def _tells_of_suspicion(event_type: str, data: Mapping[str, Any]) -> bool:
    return event_type.startswith("hold.") and data.get("type") == HoldType.FRAUD
