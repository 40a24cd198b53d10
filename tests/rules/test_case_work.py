"""What may be done with an exception case: who takes it, who decides it, and when it is passed on."""

from datetime import UTC, datetime, timedelta

import pytest

from domain.case_work import (
    LONGEST_PARKED,
    Case,
    CaseClosed,
    CaseOverdue,
    CaseState,
    Choice,
    ChoiceNotOffered,
    DatePassed,
    DateTooFar,
    EscalatedBefore,
    NotAssigned,
    NotDueYet,
    OtherTeam,
    ParkedBefore,
    ResolutionUnderWay,
    check_resolution,
    check_team,
    choices_of,
    deciders,
    next_business_day,
    offered,
    plan_assignment,
    plan_escalation,
    plan_parking,
)
from domain.permissions import OPERATIONS, TEAMS, Role
from domain.refusals import OrderRuleError

MONDAY = datetime(2026, 11, 23, 15, 30, tzinfo=UTC)
TUESDAY = MONDAY + timedelta(days=1)
FRIDAY = MONDAY + timedelta(days=4)
USUAL = (Choice.RETRY, Choice.CANCEL, Choice.DISMISS)
LIVE = (CaseState.OPEN, CaseState.ASSIGNED, CaseState.ESCALATED, CaseState.WAITING)
OVER = (CaseState.RESOLVED, CaseState.AUTO_CLOSED)


def a_case(state: CaseState = CaseState.OPEN, code: str = "node_refused", **more: object) -> Case:
    """A case of fulfillment, due on Monday evening unless told otherwise."""
    values = {"owner": "fulfillment", "due_at": MONDAY + timedelta(hours=4), **more}
    return Case(code=code, state=state, **values)  # type: ignore[arg-type]


def test_who_takes_a_case_gets_a_business_day_and_giving_it_on_gives_no_more_time() -> None:
    """From the queue: until tomorrow. From a colleague or from the lead: the time that is left."""
    due = a_case().due_at
    assert plan_assignment(a_case(), MONDAY) == (CaseState.ASSIGNED, TUESDAY)
    for state in (CaseState.ASSIGNED, CaseState.ESCALATED):
        assert plan_assignment(a_case(state), MONDAY) == (CaseState.ASSIGNED, due)


def test_a_late_due_time_is_not_brought_forward() -> None:
    """Taking a case never shortens its time."""
    later = MONDAY + timedelta(days=9)
    assert plan_assignment(a_case(due_at=later), MONDAY).due_at == later


@pytest.mark.parametrize("state", OVER)
def test_a_closed_case_is_neither_given_nor_resolved_nor_passed_on(state: CaseState) -> None:
    """Each is refused by name, and nothing is offered."""
    case = a_case(state)
    for refused in (
        lambda: plan_assignment(case, MONDAY),
        lambda: check_resolution(case, Choice.DISMISS),
        lambda: plan_escalation(case, FRIDAY),
        lambda: plan_parking(case, FRIDAY, MONDAY),
    ):
        with pytest.raises(CaseClosed) as refusal:
            refused()
        assert refusal.value.code == "case_closed"
    assert offered(case, [Role.OPS]) == ()


@pytest.mark.parametrize("state", LIVE)
def test_a_live_case_is_resolved_by_what_its_kind_offers(state: CaseState) -> None:
    """A refused release can be retried or cancelled; a late promise is not waiting for a retry."""
    for choice in USUAL:
        check_resolution(a_case(state), choice)
    for choice in (Choice.REFUND, Choice.RESHIP, Choice.DISMISS):
        check_resolution(a_case(state, "parcel_remedy"), choice)
    check_resolution(a_case(state, "promise_late"), Choice.CANCEL)
    with pytest.raises(ChoiceNotOffered) as refusal:
        check_resolution(a_case(state, "promise_late"), Choice.RETRY)
    assert (refusal.value.code, refusal.value.alternative) == ("choice_not_offered", "cancel")


def test_one_resolution_at_a_time() -> None:
    """While the order has not answered there is nothing to choose."""
    case = a_case(under_way=True)
    with pytest.raises(ResolutionUnderWay) as refusal:
        check_resolution(case, Choice.RETRY)
    assert refusal.value.code == "resolution_under_way"
    assert offered(case, [Role.OPS]) == ()


def test_what_has_left_cannot_be_cancelled_and_what_nobody_knows_can_be_everything() -> None:
    """Money to be taken or given back is only tried again; every case can be dismissed."""
    assert choices_of("payment_capture_refused") == (Choice.RETRY, Choice.DISMISS)
    assert choices_of("carrier_silent") == (Choice.DISMISS,)
    assert choices_of("address_hold_overdue") == (Choice.CANCEL, Choice.DISMISS)
    assert choices_of("something_new") == (Choice.RETRY, Choice.CANCEL, Choice.DISMISS)


def test_every_team_decides_its_own_cases_and_ops_all_of_them() -> None:
    """For each team and role: one's own or refused, with the roles that may."""
    for team, own in TEAMS.items():
        for role in Role:
            if role in (own, Role.OPS):
                check_team(team, [role])
                continue
            with pytest.raises(OtherTeam) as refusal:
                check_team(team, [role])
            assert refusal.value.roles == tuple(sorted({own, Role.OPS}))
    assert deciders("nobody_we_know") == (Role.OPS,)


def test_a_nodes_program_does_not_cancel_an_order() -> None:
    """It may say: again. What concerns other nodes too is decided by others."""
    check_team("fulfillment", [Role.WAREHOUSE], Choice.RETRY)
    with pytest.raises(OtherTeam) as refusal:
        check_team("fulfillment", [Role.WAREHOUSE], Choice.CANCEL)
    assert refusal.value.roles == (Role.OPS,)
    assert offered(a_case(), [Role.WAREHOUSE]) == (Choice.RETRY, Choice.DISMISS)
    assert offered(a_case(), [Role.FINANCE]) == ()
    assert offered(a_case(owner="finance"), [Role.FINANCE]) == USUAL
    with pytest.raises(OtherTeam):
        check_team("fulfillment", [Role.WAREHOUSE], Choice.REFUND)


def test_whose_cases_are_decided_here_may_use_the_operation() -> None:
    """The rule of teams and the table of permissions name the same roles."""
    for operation in ("assignException", "resolveException"):
        assert set(OPERATIONS[operation].allow) == {*TEAMS.values(), Role.OPS}


def test_a_parked_case_has_the_time_that_was_left_when_it_comes_back() -> None:
    """At its date, or when somebody takes it before: nothing of its time is lost or won."""
    left = a_case().due_at - MONDAY
    due = plan_parking(a_case(CaseState.ASSIGNED), FRIDAY, MONDAY)
    parked = a_case(CaseState.WAITING, due_at=due, parked_until=FRIDAY)
    assert due == FRIDAY + left
    assert plan_assignment(parked, TUESDAY) == (CaseState.ASSIGNED, TUESDAY + left)
    assert plan_assignment(parked, FRIDAY + timedelta(hours=1)) == (CaseState.ASSIGNED, due)


def test_a_case_that_was_passed_on_before_is_parked_with_no_time_left() -> None:
    """Its lead looks again as soon as it is back."""
    due_at = plan_parking(a_case(CaseState.ASSIGNED, due_at=MONDAY, escalated=True), FRIDAY, TUESDAY)
    assert FRIDAY < due_at <= FRIDAY + timedelta(seconds=1)


@pytest.mark.parametrize(
    ("case", "until", "refused", "alternative"),
    [
        (a_case(), FRIDAY, NotAssigned, "assign"),
        (a_case(CaseState.ESCALATED), FRIDAY, NotAssigned, "assign"),
        (a_case(CaseState.WAITING, parked_until=TUESDAY), FRIDAY, ParkedBefore, "assign"),
        (a_case(CaseState.ASSIGNED, due_at=MONDAY), FRIDAY, CaseOverdue, None),
        (a_case(CaseState.ASSIGNED), MONDAY, DatePassed, None),
        (a_case(CaseState.ASSIGNED), MONDAY + LONGEST_PARKED + timedelta(seconds=1), DateTooFar, None),
        (a_case(CaseState.ASSIGNED, under_way=True), FRIDAY, ResolutionUnderWay, None),
    ],
)
def test_what_cannot_be_parked_is_refused_by_name(
    case: Case, until: datetime, refused: type[OrderRuleError], alternative: str | None
) -> None:
    """Nobody has it, it waits already, its time is over, the date has passed or is too far, the order decides."""
    with pytest.raises(refused) as refusal:
        plan_parking(case, until, MONDAY)
    assert refusal.value.alternative == alternative


@pytest.mark.parametrize("state", [CaseState.OPEN, CaseState.ASSIGNED])
def test_a_case_past_its_time_is_passed_on_once(state: CaseState) -> None:
    """It gets a business day; before its time, or a second time, it is not."""
    due = a_case().due_at
    assert plan_escalation(a_case(state), due) == due + timedelta(days=1)
    with pytest.raises(NotDueYet) as early:
        plan_escalation(a_case(state), due - timedelta(seconds=1))
    with pytest.raises(EscalatedBefore) as again:
        plan_escalation(a_case(state, escalated=True), due)
    assert (early.value.code, again.value.code) == ("not_due_yet", "escalated_before")


def test_a_business_day_skips_the_weekend() -> None:
    """From Friday, Saturday and Sunday it is Monday."""
    monday = MONDAY + timedelta(days=7)
    assert next_business_day(MONDAY) == TUESDAY
    assert [next_business_day(FRIDAY + timedelta(days=n)) for n in range(3)] == [monday] * 3
