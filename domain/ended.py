"""What is said to a wish about an order of which nothing is under way any more. Owner: service.

Such an order never changes again: later goods travel on a linked order, goods that come back on a return.
"""

from typing import NamedTuple

LINKED_ORDER = "linked_order"
"""The alternative: a new order that names this one as the order it replaces."""
NOTHING_UNDER_WAY = "nothing of this order is under way any more; later goods travel on a linked order"


class Ended(NamedTuple):
    """Why a command comes too late, and what is possible instead."""

    detail: str
    alternative: str | None = None


def ended(status: str, kind: str) -> Ended:
    """What a command of this kind hears from an order that has ended."""
    if kind == "amend":
        return Ended(f"The order is {status}. Later goods travel on a linked order.", LINKED_ORDER)
    if kind == "cancel" and status == "completed":
        return Ended("The order is completed. quoteReturn says what comes back for goods that do.", "return")
    return Ended(f"The order is {status}.")
