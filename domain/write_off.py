"""Writing off what is owed and cannot be taken any more. Owned by finance."""

from domain.order_state import OrderState
from domain.orders import Actor, ActorKind
from domain.permissions import Role
from domain.refusals import OrderRuleError


class NothingMissing(OrderRuleError):
    """All that is owed was taken, or can still be taken."""

    code = "nothing_missing"


class NotAskedYet(OrderRuleError):
    """The order has not found out yet that what is kept cannot be taken."""

    code = "not_yet"


class FinanceDecides(OrderRuleError):
    """Only finance, and operations, may write money off."""

    code = "not_permitted"


def plan_write_off(state: OrderState, asked_minor: int, actor: Actor | None) -> int:
    """What is written off, in minor units: what finance was asked about, as far as it is still missing.

    Args:
        state: the order.
        asked_minor: what a case told finance of; zero while nobody was asked.
        actor: who decides; None where that is not known yet.

    Raises:
        FinanceDecides: somebody else.
        NotAskedYet: what is kept may still be taken.
        NothingMissing: there is nothing to write off.
    """
    if actor is not None and actor.kind is not ActorKind.OPERATOR and actor.role not in (Role.FINANCE, Role.OPS):
        raise FinanceDecides("money is written off by finance")
    missing = min(asked_minor, -state.excess_minor)
    if asked_minor == 0 and state.kept_minor and state.excess_minor < 0:
        raise NotAskedYet("the order takes what it can first")
    if missing <= 0:
        raise NothingMissing("nothing that is kept of this order is missing")
    return missing
