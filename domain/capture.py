"""How a parcel is paid: which tender gives how much. Owned by finance."""

from collections.abc import Sequence
from typing import NamedTuple

from domain.order_state import Tender
from domain.refusals import OrderRuleError


class NotCovered(OrderRuleError):
    """The authorizations do not cover what left. A payment case, never a silent loss."""

    code = "not_covered"


class CaptureShare(NamedTuple):
    """What one tender gives."""

    tender_id: str
    amount_minor: int


def plan_capture(tenders: Sequence[Tender], amount_minor: int) -> tuple[CaptureShare, ...]:
    """Walk the tenders by charge sequence; each gives what it has left until the amount is reached.

    Raises:
        NotCovered: all of them together have less left.
    """
    shares = []
    missing = amount_minor
    for tender in sorted(tenders, key=lambda t: t.sequence):
        taken = min(missing, tender.left_minor)
        if taken > 0:
            shares.append(CaptureShare(tender.tender_id, taken))
            missing -= taken
    if missing > 0:
        raise NotCovered(f"{missing} minor units are not covered by any authorization")
    return tuple(shares)
