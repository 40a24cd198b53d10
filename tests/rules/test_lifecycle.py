"""Every state with every report, and the headers that follow from the facts."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.cases import case_is_over
from domain.lifecycle import (
    FulfillmentFact,
    FulfillmentState,
    Header,
    IllegalTransition,
    OrderFacts,
    OrderStatus,
    PaymentState,
    TenderFact,
    WaitingOn,
    after_report,
    deadline_after,
    derive_header,
    is_settled,
)
from domain.orders import OrderRules, ReportKind
from domain.quantities import Bucket, Buckets

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
S, K, B = FulfillmentState, ReportKind, Bucket
POSITIONS = {
    S.OPEN: (B.ALLOCATED,),
    S.SUBMITTED: (B.RELEASED,),
    S.ACCEPTED: (B.RELEASED,),
    S.IN_PROGRESS: (B.RELEASED, B.PICKED, B.PACKED),  # released: the node declined to stop
    S.CANCELLATION_REQUESTED: (B.ALLOCATED, B.RELEASED, B.PICKED, B.PACKED),
    S.SHIPPED: (B.SHIPPED,),
    S.CLOSED: (B.DELIVERED,),
    S.REJECTED: (B.OPEN,),
    S.CANCELLED: (B.CANCELLED,),
}
LEGAL = {
    (S.SUBMITTED, B.RELEASED, K.ACCEPTED): (S.ACCEPTED, B.RELEASED),
    (S.SUBMITTED, B.RELEASED, K.REJECTED): (S.REJECTED, B.OPEN),
    (S.ACCEPTED, B.RELEASED, K.REJECTED): (S.REJECTED, B.OPEN),
    (S.SUBMITTED, B.RELEASED, K.SHORT): (S.IN_PROGRESS, B.RELEASED),
    (S.ACCEPTED, B.RELEASED, K.SHORT): (S.IN_PROGRESS, B.RELEASED),
    **{(S.IN_PROGRESS, stage, K.SHORT): (S.IN_PROGRESS, stage) for stage in POSITIONS[S.IN_PROGRESS]},
    (S.SUBMITTED, B.RELEASED, K.PICKED): (S.IN_PROGRESS, B.PICKED),
    (S.SUBMITTED, B.RELEASED, K.PACKED): (S.IN_PROGRESS, B.PACKED),
    (S.ACCEPTED, B.RELEASED, K.PICKED): (S.IN_PROGRESS, B.PICKED),
    (S.ACCEPTED, B.RELEASED, K.PACKED): (S.IN_PROGRESS, B.PACKED),
    (S.IN_PROGRESS, B.RELEASED, K.PICKED): (S.IN_PROGRESS, B.PICKED),
    (S.IN_PROGRESS, B.RELEASED, K.PACKED): (S.IN_PROGRESS, B.PACKED),
    (S.IN_PROGRESS, B.PICKED, K.PACKED): (S.IN_PROGRESS, B.PACKED),
    (S.IN_PROGRESS, B.PACKED, K.HANDED_OVER): (S.SHIPPED, B.SHIPPED),
    (S.CANCELLATION_REQUESTED, B.PACKED, K.HANDED_OVER): (S.SHIPPED, B.SHIPPED),
    **{
        (S.CANCELLATION_REQUESTED, stage, kind): target
        for stage in POSITIONS[S.CANCELLATION_REQUESTED]
        for kind, target in (
            (K.CANCEL_AGREED, (S.CANCELLED, B.CANCELLED)),
            (K.CANCEL_DECLINED, (S.IN_PROGRESS, stage)),
        )
    },
}
EVERY_PAIR = [(state, stage, kind) for state, stages in POSITIONS.items() for stage in stages for kind in K]


@pytest.mark.parametrize(("state", "stage", "kind"), EVERY_PAIR, ids=str)
def test_every_report_in_every_state(state: FulfillmentState, stage: Bucket, kind: ReportKind) -> None:
    """What is listed happens; everything else is refused, and the refusal names what would fit."""
    if (state, stage, kind) in LEGAL:
        assert after_report(kind, state, stage) == LEGAL[state, stage, kind]
        return
    with pytest.raises(IllegalTransition) as refusal:
        after_report(kind, state, stage)
    assert refusal.value.code == "illegal_transition"
    assert str(kind) in refusal.value.detail
    assert "possible:" in refusal.value.detail


def test_the_list_of_states_is_complete() -> None:
    """A new state must be given its reports, and every pair that is allowed must be asked for above."""
    assert set(POSITIONS) == set(FulfillmentState)
    assert set(LEGAL) <= set(EVERY_PAIR)


@pytest.mark.parametrize("state", [S.SHIPPED, S.CLOSED, S.CANCELLED, S.REJECTED])
def test_a_refusal_in_a_state_without_reports_says_that_nothing_is_possible(state: FulfillmentState) -> None:
    """A parcel that left, arrived or was cancelled hears nothing from its node any more."""
    (stage,) = POSITIONS[state]
    with pytest.raises(IllegalTransition, match="possible: nothing"):
        after_report(K.PACKED, state, stage)


@pytest.mark.parametrize(
    ("state", "stage", "rule"),
    [
        (S.OPEN, B.ALLOCATED, "node_accept_s"),
        (S.SUBMITTED, B.RELEASED, "node_accept_s"),
        (S.ACCEPTED, B.RELEASED, "node_pack_s"),
        (S.IN_PROGRESS, B.PICKED, "node_pack_s"),
        (S.IN_PROGRESS, B.PACKED, "pickup_grace_s"),
        (S.CANCELLATION_REQUESTED, B.PACKED, "node_stop_answer_s"),
        (S.SHIPPED, B.SHIPPED, "carrier_silence_s"),
    ],
)
def test_each_state_has_a_limit_of_its_own(state: FulfillmentState, stage: Bucket, rule: str) -> None:
    """The limit is a rule of the order, in seconds."""
    names = [name for name in OrderRules.model_fields if name.endswith("_s")]
    rules = OrderRules(**{name: 1000 + place for place, name in enumerate(names)})
    assert deadline_after(state, stage, rules, NOW) == NOW + timedelta(seconds=getattr(rules, rule))


# --- headers ------------------------------------------------------------------------------------------


def tender(
    state: PaymentState, authorized: int = 0, captured: int = 0, refunded: int = 0, number: int = 1
) -> TenderFact:
    """A tender of 10.00."""
    return TenderFact(
        tender_id=f"tnd_{number}",
        state=state,
        amount_minor=1000,
        authorized_minor=authorized,
        captured_minor=captured,
        refunded_minor=refunded,
        since=NOW,
        deadline=NOW + timedelta(hours=1),
    )


def part(
    state: FulfillmentState, stage: Bucket, due_h: float = 2, captured: bool = False, node: str = "EAST"
) -> FulfillmentFact:
    """A fulfillment order of one unit."""
    return FulfillmentFact(
        fulfillment_id=f"ful_{node}",
        node_id=node,
        state=state,
        stage=stage,
        units=1,
        captured=captured,
        since=NOW,
        deadline=NOW + timedelta(hours=due_h),
    )


def facts(
    tenders: list[TenderFact], parts: list[FulfillmentFact] | None = None, owed: int = 1000, **units: int
) -> OrderFacts:
    """An order of 10.00."""
    return OrderFacts(
        total_minor=1000,
        owed_minor=owed,
        quantities=Buckets(**units),
        tenders=tuple(tenders),
        fulfillments=tuple(parts or ()),
        changed_at=NOW,
    )


def header(*args: Any, **units: int) -> Header:
    """The header of such an order."""
    return derive_header(facts(*args, **units))


P = PaymentState
PAID = tender(P.AUTHORIZED, 1000)
TAKEN = tender(P.CAPTURED, 1000, 1000)
STATUSES = {
    "just accepted": (facts([tender(P.PENDING)], reserved=1), "confirmed", "pending", "unfulfilled", "payment"),
    "declined": (facts([tender(P.FAILED)], reserved=1), "confirmed", "pending", "unfulfilled", "customer"),
    "paid and held": (facts([PAID], reserved=1), "confirmed", "authorized", "unfulfilled", "supply"),
    "lapsed and paid": (facts([PAID], open=1), "confirmed", "authorized", "unfulfilled", "supply"),
    "allocated": (
        facts([PAID], [part(S.OPEN, B.ALLOCATED)], allocated=1),
        "confirmed",
        "authorized",
        "unfulfilled",
        "node",
    ),
    "released": (
        facts([PAID], [part(S.SUBMITTED, B.RELEASED)], released=1),
        "in_fulfillment",
        "authorized",
        "unfulfilled",
        "node",
    ),
    "asked to stop": (
        facts([PAID], [part(S.CANCELLATION_REQUESTED, B.PACKED)], packed=1),
        "in_fulfillment",
        "authorized",
        "unfulfilled",
        "node",
    ),
    "left, not captured": (
        facts([PAID], [part(S.SHIPPED, B.SHIPPED)], shipped=1),
        "in_fulfillment",
        "authorized",
        "fulfilled",
        "carrier",
    ),
    "on its way": (
        facts([TAKEN], [part(S.SHIPPED, B.SHIPPED)], shipped=1),
        "in_fulfillment",
        "captured",
        "fulfilled",
        "carrier",
    ),
    "one left, one packed": (
        facts(
            [tender(P.PARTIALLY_CAPTURED, 1000, 400)],
            [part(S.SHIPPED, B.SHIPPED), part(S.IN_PROGRESS, B.PACKED, 1, node="MID")],
            shipped=1,
            packed=1,
        ),
        "in_fulfillment",
        "partially_captured",
        "partially_fulfilled",
        "node",
    ),
    "one arrived, one on its way": (
        facts([TAKEN], [part(S.CLOSED, B.DELIVERED), part(S.SHIPPED, B.SHIPPED, node="MID")], delivered=1, shipped=1),
        "in_fulfillment",
        "captured",
        "partially_delivered",
        "carrier",
    ),
    "arrived, not captured": (
        facts([PAID], [part(S.CLOSED, B.DELIVERED)], delivered=1),
        "in_fulfillment",
        "authorized",
        "delivered",
        "payment",
    ),
    "completed": (
        facts([TAKEN], [part(S.CLOSED, B.DELIVERED)], delivered=1),
        "completed",
        "captured",
        "delivered",
        None,
    ),
    "completed in part": (
        facts([tender(P.CAPTURED, 1000, 400)], [part(S.CLOSED, B.DELIVERED)], 400, delivered=1, cancelled=1),
        "completed",
        "captured",
        "delivered",
        None,
    ),
    "cancelled, not voided": (facts([PAID], owed=0, cancelled=1), "confirmed", "authorized", "unfulfilled", "payment"),
    "cancelled": (facts([tender(P.VOIDED, 1000)], owed=0, cancelled=1), "cancelled", "voided", "unfulfilled", None),
    "cancelled, never paid": (
        facts([tender(P.FAILED)], owed=0, cancelled=1),
        "cancelled",
        "pending",
        "unfulfilled",
        None,
    ),
    "cancelled, taken outside": (
        facts([TAKEN], owed=0, cancelled=1),
        "confirmed",
        "partially_captured",
        "unfulfilled",
        "payment",
    ),
    "cancelled, refunded": (
        facts([tender(P.CAPTURED, 1000, 1000, 1000)], owed=0, cancelled=1),
        "cancelled",
        "refunded",
        "unfulfilled",
        None,
    ),
    "refunded in part": (
        facts([tender(P.CAPTURED, 1000, 1000, 300)], [part(S.CLOSED, B.DELIVERED)], 700, delivered=1),
        "completed",
        "partially_refunded",
        "delivered",
        None,
    ),
}


@pytest.mark.parametrize("name", list(STATUSES))
def test_the_header_follows_from_the_facts(name: str) -> None:
    """Order, payment and fulfillment status, and who is waited for."""
    given_facts, status, payment, fulfillment, waiting_on = STATUSES[name]
    derived = derive_header(given_facts)
    assert (derived.status, derived.payment_status, derived.fulfillment_status) == (status, payment, fulfillment)
    assert (derived.wait.waiting_on if derived.wait else None) == waiting_on
    assert derived.terminal == (waiting_on is None)


def test_a_rejected_order_waits_for_nobody() -> None:
    """Whatever its quantities say."""
    rejected = facts([], owed=0, cancelled=2).model_copy(update={"rejected": True})
    assert derive_header(rejected).status is OrderStatus.REJECTED
    assert derive_header(rejected).wait is None


def test_the_wait_whose_deadline_comes_first_is_named() -> None:
    """Two parcels on their way to nodes and carrier: the earlier date is the one to look at."""
    slow, quick = part(S.SHIPPED, B.SHIPPED, 48), part(S.SUBMITTED, B.RELEASED, 2, node="MID")
    wait = header([PAID], [slow, quick], shipped=1, released=1).wait
    assert wait is not None
    assert (wait.cause, wait.deadline, wait.owner) == ("node_acceptance", NOW + timedelta(hours=2), "fulfillment")


def test_of_several_tenders_only_the_one_whose_turn_it_is_is_waited_for() -> None:
    """The second is not asked before the first is secured."""
    wait = header([tender(P.FAILED), tender(P.PENDING, number=2)], reserved=1).wait
    assert wait is not None
    assert (wait.waiting_on, wait.cause) == (WaitingOn.CUSTOMER, "payment_declined")


def test_the_digest_knows_states_quantities_and_money_and_no_times() -> None:
    """Two clocks may differ; anything else may not."""
    one = facts([PAID], [part(S.SUBMITTED, B.RELEASED)], released=1)
    later = facts([PAID], [part(S.SUBMITTED, B.RELEASED, 99)], released=1).model_copy(
        update={"changed_at": NOW + timedelta(days=1)}
    )
    digests = {
        header([PAID], [part(S.SUBMITTED, B.RELEASED)], released=2).digest,
        header([PAID], [part(S.ACCEPTED, B.RELEASED)], released=1).digest,
        header([tender(P.AUTHORIZED, 999)], [part(S.SUBMITTED, B.RELEASED)], released=1).digest,
        header([PAID], [part(S.SUBMITTED, B.RELEASED)], 999, released=1).digest,
    }
    assert derive_header(one).digest == derive_header(later).digest
    assert len({*digests, derive_header(one).digest}) == 5


amounts = st.integers(0, 1000)


@st.composite
def any_facts(draw: st.DrawFn) -> OrderFacts:
    """Facts in any combination, possible or not."""
    tenders = [
        tender(draw(st.sampled_from(P)), draw(amounts), draw(amounts), draw(amounts), number)
        for number in range(draw(st.integers(0, 3)))
    ]
    parts = [
        part(state, draw(st.sampled_from(POSITIONS[state])), draw(st.integers(1, 9)), draw(st.booleans()), f"N{number}")
        for number, state in enumerate(draw(st.lists(st.sampled_from(S), max_size=3)))
    ]
    units = draw(st.dictionaries(st.sampled_from([b.value for b in B]), st.integers(0, 3)))
    return facts(tenders, parts, draw(amounts), **units)


@given(any_facts())
def test_an_order_waits_for_somebody_until_it_is_over(some: OrderFacts) -> None:
    """CASE-D5: nothing is stuck: a header is terminal, or names who is waited for, which team, why and until when."""
    derived = derive_header(some)
    assert (derived.wait is None) == derived.terminal
    if derived.wait:
        assert derived.wait.owner
        assert derived.wait.deadline > derived.wait.since
    if derived.status in (OrderStatus.COMPLETED, OrderStatus.CANCELLED):
        assert is_settled(some)
        assert some.quantities.live == 0


# --- cases --------------------------------------------------------------------------------------------


def test_a_case_is_over_when_nothing_is_left_in_the_state_that_it_was_opened_for() -> None:
    """The node spoke; a node that was given work later is not the cause."""
    opened = NOW + timedelta(hours=2)
    silent = facts([PAID], [part(S.SUBMITTED, B.RELEASED)], released=1)
    moved = facts([PAID], [part(S.SHIPPED, B.SHIPPED)], shipped=1)
    begun_later = part(S.ACCEPTED, B.RELEASED).model_copy(update={"since": opened + timedelta(seconds=1)})
    assert not case_is_over("node_silent", opened, silent)
    assert case_is_over("node_silent", opened, moved)
    assert case_is_over("node_silent", opened, facts([PAID], [begun_later], released=1))


@pytest.mark.parametrize("code", ["payment_pending", "payment_unknown"])
def test_a_case_about_a_missing_answer_is_over_with_the_answer(code: str) -> None:
    """Whatever the answer was."""
    assert not case_is_over(code, NOW, facts([tender(P.PENDING)], reserved=1))
    assert case_is_over(code, NOW, facts([tender(P.FAILED)], reserved=1))


def test_a_case_about_a_capture_is_over_once_every_parcel_that_left_is_paid() -> None:
    """One of two parcels is still unpaid."""
    parts = [part(S.SHIPPED, B.SHIPPED, captured=True), part(S.CLOSED, B.DELIVERED, node="MID")]
    paid = [one.model_copy(update={"captured": True}) for one in parts]
    assert not case_is_over("payment_capture_refused", NOW, facts([PAID], parts, shipped=1, delivered=1))
    assert case_is_over("payment_capture_refused", NOW, facts([TAKEN], paid, shipped=1, delivered=1))


@pytest.mark.parametrize("code", ["promise_late", "payment_void_refused", "something_new"])
def test_what_no_state_tells_of_stays_open_until_a_person_or_the_end_closes_it(code: str) -> None:
    """Better a case too many than a problem that nobody looks at."""
    assert not case_is_over(code, NOW, facts([TAKEN], [part(S.CLOSED, B.DELIVERED)], delivered=1))
