"""What people may do with an exception case, whose team may, and what happens when nobody answers. Owned by service.

A case lies over an order and is no state of it. It is resolved by a command, so that the order goes on by
itself; when its cause is gone it closes by itself (`domain/cases.py`).
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from domain.orders import Frozen
from domain.permissions import TEAMS, Role
from domain.refusals import OrderRuleError

_SATURDAY = 5
LONGEST_PARKED = timedelta(days=30)
_LEAST_LEFT = timedelta(seconds=1)


class CaseState(StrEnum):
    """State of an exception case."""

    OPEN = "open"  # nobody has it yet
    ASSIGNED = "assigned"  # somebody works on it
    WAITING = "waiting"  # parked: somebody outside has to answer, until a date that was given
    ESCALATED = "escalated"  # not answered in time: the team's lead must look
    RESOLVED = "resolved"  # by a person
    AUTO_CLOSED = "auto_closed"  # its cause is gone


class Choice(StrEnum):
    """How a case can be resolved."""

    RETRY = "retry"  # the order does the step again that it waits for: command `retry_now`
    CANCEL = "cancel"  # the order cancels what has not left: command `cancel`
    REFUND = "refund"  # parcels that do not arrive are refunded: command `choose_remedy`
    RESHIP = "reship"  # they are sent again: command `choose_remedy`
    WRITE_OFF = "write_off"  # what is owed and cannot be taken any more is given up: command `write_off`
    DISMISS = "dismiss"  # nothing is to be done: the case is closed, the order is told nothing


class Case(Frozen):
    """What the rules look at. `under_way`: a resolution was asked for, and the order has not answered yet."""

    code: str
    owner: str
    state: CaseState
    due_at: datetime
    escalated: bool = False  # it was passed on before, whatever its state is now
    under_way: bool = False
    parked_until: datetime | None = None


class Assigned(NamedTuple):
    """What follows from giving a case to somebody."""

    state: CaseState
    due_at: datetime


class CaseClosed(OrderRuleError):
    """The case is closed already."""

    code = "case_closed"


class ChoiceNotOffered(OrderRuleError):
    """A case of this kind cannot be resolved that way."""

    code = "choice_not_offered"


class ResolutionUnderWay(OrderRuleError):
    """The order has not answered the resolution before."""

    code = "resolution_under_way"


class EscalatedBefore(OrderRuleError):
    """A case is passed on once."""

    code = "escalated_before"


class NotDueYet(OrderRuleError):
    """There is still time to answer."""

    code = "not_due_yet"


class NotAssigned(OrderRuleError):
    """Only a case that somebody works on is parked: at its date it is that person's again."""

    code = "not_assigned"


class ParkedBefore(OrderRuleError):
    """The case is parked already, until another date."""

    code = "parked_before"


class CaseOverdue(OrderRuleError):
    """Its time is over, and it is about to be passed on."""

    code = "case_overdue"


class DatePassed(OrderRuleError):
    """A case is parked until a moment to come."""

    code = "date_passed"


class DateTooFar(OrderRuleError):
    """Nobody would look for too long."""

    code = "date_too_far"


class OtherTeam(OrderRuleError):
    """The case belongs to another team. `roles` may decide it."""

    code = "other_team"

    def __init__(self, detail: str, roles: tuple[Role, ...]) -> None:
        super().__init__(detail)
        self.roles = roles


_OVERDUE_HOLD = "_hold_overdue"  # as `domain/cases.py` names them, one per type of hold
_AGAIN = (Choice.RETRY,)
_UNDO = (Choice.CANCEL,)
_BOTH = (Choice.RETRY, Choice.CANCEL)
_REMEDIES = (Choice.RESHIP, Choice.REFUND)
# A retry helps where the order waits for it; cancelling, where something has not left.
_CHOICES: Mapping[str, tuple[Choice, ...]] = MappingProxyType(
    {
        "node_refused": _BOTH,
        "release_failing": _BOTH,
        "booking_failing": _BOTH,
        "carrier_refused": _BOTH,
        "stop_failing": _AGAIN,
        "label_void_failing": _AGAIN,
        "payment_capture_failing": _AGAIN,
        "payment_capture_refused": _AGAIN,
        "payment_void_failing": _AGAIN,
        "payment_void_refused": _AGAIN,
        "payment_refund_failing": _AGAIN,
        "payment_refund_refused": _AGAIN,
        "payment_kept_failing": _AGAIN,
        "payment_kept_refused": _AGAIN,
        "payment_kept_missing": (Choice.WRITE_OFF,),
        "payment_pending": _UNDO,
        "payment_unknown": _UNDO,
        "release_pending": _UNDO,
        "node_silent": _BOTH,
        "node_frozen": _BOTH,
        "promise_late": _UNDO,
        "node_silent_on_stop": (),
        "carrier_silent": (),
        "recall_failing": _AGAIN,
        "recall_unanswered": (),  # the carrier is called; what it says is told by its next scan
        "parcel_remedy": _REMEDIES,
        "parcel_returning": _REMEDIES,
        "carrier_claim": (),
        "found_after_loss": (),
        "closed_by_force": (),  # the order is over: a person settles the rest outside
        "left_after_close": (),
        "notice_failing": (),  # a person sends it again, which closes the case when it arrives
    }
)


def choices_of(code: str) -> tuple[Choice, ...]:
    """How a case of this kind can be resolved; one that this table does not know, in every way.

    An overdue hold is ended by releasing it, which is a command of its own: no retry moves it.
    """
    known = _UNDO if code.endswith(_OVERDUE_HOLD) else _CHOICES.get(code, _BOTH)
    return (*known, Choice.DISMISS)


def deciders(owner: str, choice: Choice | None = None) -> tuple[Role, ...]:
    """The roles that may work on a case of this team; with a choice, those that may decide so.

    A node's program looks after its own node: what concerns the whole order is not for it to decide.
    """
    team = TEAMS.get(owner)
    whole_order = choice in (Choice.CANCEL, *_REMEDIES) and team is Role.WAREHOUSE
    return (Role.OPS,) if team is None or whole_order else tuple(sorted((Role.OPS, team)))


def offered(case: Case, roles: Iterable[Role]) -> tuple[Choice, ...]:
    """What somebody with these roles can choose now."""
    if _closed(case) or case.under_way:
        return ()
    held = set(roles)
    return tuple(choice for choice in choices_of(case.code) if held & set(deciders(case.owner, choice)))


def check_team(owner: str, roles: Iterable[Role], choice: Choice | None = None) -> None:
    """Whether somebody with these roles may work on the case, or decide it so.

    Raises:
        OtherTeam: it is not for them.
    """
    allowed = deciders(owner, choice)
    if not set(roles) & set(allowed):
        what = f"The choice {choice}" if choice else "This case"
        raise OtherTeam(f"{what} is for: {', '.join(allowed)}.", allowed)


def plan_assignment(case: Case, now: datetime) -> Assigned:
    """Give the case to somebody. Who takes it gets a business day; giving it on gives no more time.

    A parked one is taken up again with the time that was left when it was parked.

    Raises:
        CaseClosed: it is closed.
    """
    _refuse_closed(case)
    if case.state is CaseState.OPEN:
        return Assigned(CaseState.ASSIGNED, max(case.due_at, next_business_day(now)))
    if case.state is CaseState.WAITING and case.parked_until is not None:
        return Assigned(CaseState.ASSIGNED, case.due_at - max(case.parked_until - now, timedelta(0)))
    return Assigned(CaseState.ASSIGNED, case.due_at)


def plan_parking(case: Case, until: datetime, now: datetime) -> datetime:
    """Park a case that waits for somebody outside: until when it must be answered then.

    The time that was left is left afterwards too, so nothing is passed on meanwhile.

    Raises:
        CaseClosed: it is closed.
        ResolutionUnderWay: it was resolved, and the order has not answered.
        ParkedBefore: it is parked until another moment.
        NotAssigned: nobody works on it.
        CaseOverdue: its time is over.
        DatePassed: `until` is not to come.
        DateTooFar: nobody would look for too long.
    """
    _check_parking(case, now)
    if until <= now:
        raise DatePassed("a case is parked until a moment to come")
    if until > now + LONGEST_PARKED:
        raise DateTooFar(f"a case is parked for at most {LONGEST_PARKED.days} days")
    return until + max(case.due_at - now, _LEAST_LEFT)


def _check_parking(case: Case, now: datetime) -> None:
    _refuse_closed(case)
    if case.under_way:
        raise ResolutionUnderWay("the order has not answered the resolution before; look again")
    if case.state is CaseState.WAITING:
        raise ParkedBefore(f"it is parked until {case.parked_until:%Y-%m-%d %H:%M} UTC", alternative="assign")
    if case.state is not CaseState.ASSIGNED:
        raise NotAssigned("somebody takes the case first: at the date it is theirs again", alternative="assign")
    if case.due_at <= now and not case.escalated:
        raise CaseOverdue("its time is over, and it is being passed on")


def check_resolution(case: Case, choice: Choice) -> None:
    """Whether the case can be resolved so, now.

    Raises:
        CaseClosed: it is closed.
        ResolutionUnderWay: the one before has no outcome yet.
        ChoiceNotOffered: not this way.
    """
    _refuse_closed(case)
    if case.under_way:
        raise ResolutionUnderWay("the order has not answered the resolution before; look again")
    if choice not in choices_of(case.code):
        possible = choices_of(case.code)
        text = f"a case of the kind {case.code} can be resolved by: {', '.join(possible)}"
        raise ChoiceNotOffered(text, alternative=possible[0])


def plan_escalation(case: Case, now: datetime) -> datetime:
    """Pass a case on that nobody has answered in time: until when it must be answered now.

    Raises:
        CaseClosed: it is closed.
        EscalatedBefore: that was done already.
        NotDueYet: there is still time.
    """
    _refuse_closed(case)
    if case.escalated:
        raise EscalatedBefore("a case is passed on once")
    if case.due_at > now:
        raise NotDueYet(f"it is due at {case.due_at:%Y-%m-%d %H:%M} UTC")
    return next_business_day(now)


def next_business_day(moment: datetime) -> datetime:
    """The same time of the next day from Monday to Friday."""
    following = moment + timedelta(days=1)
    while following.weekday() >= _SATURDAY:
        following += timedelta(days=1)
    return following


def _closed(case: Case) -> bool:
    return case.state in (CaseState.RESOLVED, CaseState.AUTO_CLOSED)


def _refuse_closed(case: Case) -> None:
    if _closed(case):
        how = "closed itself: its cause is gone" if case.state is CaseState.AUTO_CLOSED else "is resolved"
        raise CaseClosed(f"the case {how}")
