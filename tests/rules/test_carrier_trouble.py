"""Units that did not arrive: what follows from a scan, and that each is credited or sent again exactly once."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.carrier_trouble import (
    NoParcelInTrouble,
    awaits_choice,
    effect_of,
    pinned,
    plan_remedy,
    turns_up,
)
from domain.lifecycle import FulfillmentState, Journey, TrackingState, deadline_after
from domain.order_state import Fulfillment, OrderState, Tender
from domain.orders import (
    MAX_LINES,
    CarrierEventType,
    CarrierTrouble,
    OrderRules,
    ParcelTrouble,
    Remedy,
    ServiceLevel,
)
from domain.quantities import Bucket
from domain.refund import plan_refund
from tests.support.order_states import NOW, order, put

T, B = TrackingState, Bucket


def lost(state: OrderState, node: str, *units: tuple[int, int], tracking: TrackingState = T.LOST) -> Fulfillment:
    """A parcel of these units that its carrier has lost, or worse."""
    return put(state, node, B.SHIPPED, *units, tracking=tracking)


def make_good(state: OrderState, part: Fulfillment, remedy: Remedy) -> int:
    """Carry the plan out as the workflow does. Returns what is credited, in minor units."""
    plan = plan_remedy(state, part, remedy)
    state.replace(plan.added)
    state.advance(part, FulfillmentState.CLOSED, plan.target, NOW)
    credit = state.book_credit()
    return credit.worth.total_minor if credit else 0


EFFECTS = [
    (B.SHIPPED, False, T.DELIVERED, (B.DELIVERED, False, False)),
    (B.SHIPPED, False, T.LOST, (None, False, False)),
    (B.SHIPPED, False, T.DAMAGED, (None, False, False)),
    (B.SHIPPED, False, T.RETURN_TO_SENDER, (B.RETURN_PENDING, False, False)),
    (B.SHIPPED, False, T.RETURNED, (B.RETURN_PENDING, True, False)),
    (B.RETURN_PENDING, False, T.DELIVERED, (B.DELIVERED, False, False)),
    (B.RETURN_PENDING, False, T.RETURNED, (B.RETURN_PENDING, True, False)),
    (B.RETURN_PENDING, True, T.DELIVERED, (None, False, True)),
    (B.RETURN_PENDING, True, T.DAMAGED, (None, False, True)),
    (B.WRITTEN_OFF, False, T.DELIVERED, (None, False, True)),
    (B.WRITTEN_OFF, False, T.IN_TRANSIT, (None, False, True)),
    (B.WRITTEN_OFF, False, T.RETURNED, (None, False, True)),
    (B.WRITTEN_OFF, False, T.DAMAGED, (None, False, False)),
    (B.RETURNED, True, T.DELIVERED, (None, False, True)),
    (B.DELIVERED, False, T.LOST, (None, False, False)),
    (B.SHIPPED, False, None, (None, False, False)),
]


@pytest.mark.parametrize(("stage", "restocked", "tracking", "expected"), EFFECTS)
def test_what_follows_from_a_scan(
    stage: Bucket, restocked: bool, tracking: TrackingState | None, expected: tuple[Bucket | None, bool, bool]
) -> None:
    """Where the units go, whether they are on hand again, and whether a person has to look."""
    state = order(1)
    part = put(state, "N", B.SHIPPED, (1, 1), restocked=restocked)
    part.stage = stage
    assert tuple(effect_of(part, tracking)) == expected


@pytest.mark.parametrize(
    ("stage", "event", "hours", "expected"),
    [
        (B.WRITTEN_OFF, CarrierEventType.DELIVERED, -5, True),
        (B.WRITTEN_OFF, CarrierEventType.IN_TRANSIT, 1, True),
        (B.WRITTEN_OFF, CarrierEventType.IN_TRANSIT, -1, False),
        (B.WRITTEN_OFF, CarrierEventType.LOST, 1, False),
        (B.RETURNED, CarrierEventType.DELIVERED, 1, True),
        (B.RETURNED, CarrierEventType.RETURNED, 1, False),
        (B.DELIVERED, CarrierEventType.LOST, 1, False),
    ],
)
def test_when_a_parcel_turns_up(stage: Bucket, event: CarrierEventType, hours: int, expected: bool) -> None:
    """After its order is over too."""
    assert turns_up(stage, event, NOW + timedelta(hours=hours), NOW) is expected


def test_what_is_sent_again_stands_for_the_line_with_the_price() -> None:
    """Also the second time; no line of it has a value."""
    state = order(3)
    first = lost(state, "A", (1, 2))
    assert make_good(state, first, Remedy.RESHIP) == 0
    second = lost(state, "B", (2, 2))
    assert make_good(state, second, Remedy.RESHIP) == 0
    assert [(n, line.replaces, line.replaces_parcel) for n, line in state.lines.items()] == [
        (1, None, None),
        (2, 1, "shp_A"),
        (3, 1, "shp_B"),
    ]
    assert [line.shares.total_minor for line in state.lines.values()][1:] == [0, 0]
    assert state.owed_minor == state.order.total_minor


def test_a_refund_of_what_was_sent_again_gives_back_what_the_first_one_cost() -> None:
    """The line that was sent again has no price; the line that it stands for has."""
    state = order(2)
    assert make_good(state, lost(state, "A", (1, 2)), Remedy.RESHIP) == 0
    assert make_good(state, lost(state, "B", (2, 2)), Remedy.REFUND) == 2500
    assert (state.owed_minor, state.lines[1].credited, state.lines[2].credited) == (0, 2, 0)


def test_an_order_that_cannot_have_more_lines_is_refunded() -> None:
    """Never stuck: the money goes back."""
    state = order(*([1] * MAX_LINES))
    part = lost(state, "A", (1, 1))
    plan = plan_remedy(state, part, Remedy.RESHIP)
    assert (plan.remedy, plan.added, plan.target, plan.trouble) == (
        Remedy.REFUND,
        (),
        B.WRITTEN_OFF,
        ParcelTrouble.LOST,
    )


def test_a_choice_needs_a_parcel_that_waits_for_it() -> None:
    """One on its way back counts; one that was delivered or made good does not."""
    state = order(3)
    back = put(state, "A", B.SHIPPED, (1, 1), tracking=T.RETURN_TO_SENDER)
    gone = lost(state, "B", (1, 1))
    put(state, "C", B.SHIPPED, (1, 1), tracking=T.IN_TRANSIT)
    assert awaits_choice(state, None) == [back, gone]
    assert awaits_choice(state, "shp_B") == [gone]
    with pytest.raises(NoParcelInTrouble):
        awaits_choice(state, "shp_C")


Fate = tuple[int, TrackingState, Remedy]
FATES = st.tuples(
    st.integers(1, 3), st.sampled_from([T.LOST, T.DAMAGED, T.RETURNED]), st.sampled_from([Remedy.REFUND, Remedy.RESHIP])
)


@given(st.lists(FATES, min_size=1, max_size=8), st.data())
def test_every_unit_is_credited_or_sent_again_once(fates: list[Fate], data: st.DataObject) -> None:
    """Whatever gets lost in whatever order, and whatever of it is cancelled: units and money add up to the penny."""
    state = order(data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5)), shipping=997, price=333, tax=7)
    credited = 0
    for number, (units, tracking, remedy) in enumerate(fates):
        open_lines = [line for line in state.lines.values() if line.buckets.open]
        if not open_lines:
            break
        line = data.draw(st.sampled_from(open_lines))
        taken = min(units, line.buckets.open)
        credited += make_good(state, lost(state, f"N{number}", (line.line_no, taken), tracking=tracking), remedy)
        again = [one for one in state.lines.values() if one.replaces_parcel and one.buckets.open]
        if again and data.draw(st.booleans()):
            one = again[0]
            state.move(((one.line_no, one.buckets.open),), B.OPEN, B.CANCELLED)
            credit = state.book_credit()
            credited += credit.worth.total_minor if credit else 0
    gone = state.quantities.of(B.WRITTEN_OFF, B.RETURNED)
    sent_again = sum(
        line.shares.quantity - line.buckets.cancelled for line in state.lines.values() if line.replaces_parcel
    )
    assert gone == sum(line.credited for line in state.lines.values()) + sent_again
    assert credited == sum(line.credited_minor for line in state.lines.values())
    assert state.owed_minor == state.order.total_minor - credited
    assert state.owed_minor >= 0
    assert all(line.credited <= line.shares.quantity for line in state.lines.values())


def test_limits_depend_on_where_the_parcel_is() -> None:
    """By service level, on its way back, and while a person decides; without rules, the carrier's silence."""
    rules = OrderRules(carrier_trouble=CarrierTrouble(return_s=30, decide_s=20, no_scan_s={ServiceLevel.EXPRESS: 10}))

    def limit_s(stage: Bucket, tracking: TrackingState, level: ServiceLevel, of: OrderRules = rules) -> float:
        journey = Journey(tracking=tracking, service_level=level)
        return (deadline_after(FulfillmentState.SHIPPED, stage, of, NOW, journey=journey) - NOW).total_seconds()

    assert limit_s(B.SHIPPED, T.IN_TRANSIT, ServiceLevel.EXPRESS) == 10
    assert limit_s(B.SHIPPED, T.IN_TRANSIT, ServiceLevel.STANDARD) == 1_209_600
    assert limit_s(B.SHIPPED, T.LOST, ServiceLevel.EXPRESS) == 20
    assert limit_s(B.RETURN_PENDING, T.RETURN_TO_SENDER, ServiceLevel.EXPRESS) == 30
    assert limit_s(B.RETURN_PENDING, T.RETURNED, ServiceLevel.EXPRESS) == 20
    assert limit_s(B.SHIPPED, T.LOST, ServiceLevel.EXPRESS, OrderRules()) == 604_800


def test_a_ruleset_says_only_what_differs() -> None:
    """The rest is the standard; a remedy that there is not is refused."""
    rules = pinned("carrier_trouble:web@2", {"lost": "refund", "no_scan_s": {"express": 5}})
    assert (rules.version, rules.lost, rules.damaged) == ("carrier_trouble:web@2", Remedy.REFUND, Remedy.RESHIP)
    assert rules.no_scan_s == {ServiceLevel.STANDARD: 1_209_600, ServiceLevel.EXPRESS: 5}
    with pytest.raises(ValueError, match="lost"):
        pinned("carrier_trouble@2", {"lost": "voucher"})


def test_refunds_walk_the_tenders_backwards_and_never_beyond_what_is_kept() -> None:
    """What is on its way home counts as given back."""
    tenders = [
        Tender(
            tender_id=f"t{n}",
            sequence=n,
            provider="p",
            reference="r",
            amount_minor=1000,
            captured_minor=captured,
            refunding_minor=refunding,
            since=NOW,
            deadline=NOW,
        )
        for n, captured, refunding in ((1, 500, 0), (2, 1000, 300), (3, 0, 0))
    ]
    assert [tuple(share) for share in plan_refund(tenders, 900)] == [("t2", 700), ("t1", 200)]
    assert sum(share.amount_minor for share in plan_refund(tenders, 9000)) == 1200
    assert plan_refund(tenders, 0) == ()
