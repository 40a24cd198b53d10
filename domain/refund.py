"""How money goes home: which tender gives how much back. Owned by finance."""

from collections.abc import Sequence
from typing import NamedTuple

from domain.order_state import Tender


class RefundShare(NamedTuple):
    """What goes back to one tender."""

    tender_id: str
    amount_minor: int


def plan_refund(tenders: Sequence[Tender], amount_minor: int) -> tuple[RefundShare, ...]:
    """Walk the tenders against their charge sequence; each gives back at most what it has taken and kept.

    What no tender has taken yet is not part of the plan: it will not be taken, or goes home at settlement.
    """
    shares = []
    for tender in sorted(tenders, key=lambda t: t.sequence, reverse=True):
        given = min(amount_minor, tender.kept_minor)
        if given > 0:
            shares.append(RefundShare(tender.tender_id, given))
            amount_minor -= given
    return tuple(shares)
