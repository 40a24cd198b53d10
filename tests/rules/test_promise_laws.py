"""Laws of the promised date, for any calendars in any zones."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from domain.ids import NodeId
from domain.promise import (
    CarrierCalendar,
    NodeCalendar,
    Promise,
    PromiseAsk,
    plan_promise,
)

ZONES = (
    "America/New_York",
    "America/Los_Angeles",
    "America/Santiago",
    "Europe/Berlin",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "Pacific/Auckland",
    "Pacific/Kiritimati",
    "Africa/Cairo",
)
zones = st.sampled_from(ZONES)
moments = st.datetimes(datetime(2026, 9, 1), datetime(2027, 5, 1), timezones=st.just(UTC))  # noqa: DTZ001 - Hypothesis takes naive bounds
around_changes = st.builds(
    lambda base, seconds: datetime.fromisoformat(base) + timedelta(seconds=seconds),
    st.sampled_from(["2026-10-25T00:00Z", "2026-11-01T00:00Z", "2027-03-14T00:00Z", "2027-03-28T00:00Z"]),
    st.integers(-200_000, 200_000),
)
wall_clocks = st.times().map(lambda clock: clock.replace(microsecond=0))
holiday_lists = st.lists(st.dates(date(2026, 9, 1), date(2027, 5, 30)), max_size=12).map(tuple)


@st.composite
def promise_asks(draw: st.DrawFn) -> PromiseAsk:
    """Any question whose node and carrier share a weekday."""
    shared = draw(st.integers(0, 6))
    weeks = st.sets(st.integers(0, 6)).map(lambda days: tuple(sorted(days | {shared})))
    return PromiseAsk(
        accepted_at=draw(moments | around_changes),
        node=NodeCalendar(
            node_id=NodeId("N"),
            time_zone=draw(zones),
            working_days=draw(weeks),
            holidays=draw(holiday_lists),
            cut_off=draw(wall_clocks),
            dispatch=draw(wall_clocks),
            pickup=draw(wall_clocks),
            processing_days=draw(st.integers(0, 4)),
        ),
        carrier=CarrierCalendar(working_days=draw(weeks), holidays=draw(holiday_lists)),
        transit_days=draw(st.integers(0, 6)),
        zone_name=draw(zones),
        buffer_days=draw(st.integers(0, 2)),
        not_before=draw(st.none() | moments),
    )


def local_day(instant: datetime, zone_name: str) -> date:
    """The date on a calendar at the place."""
    return instant.astimezone(ZoneInfo(zone_name)).date()


@given(promise_asks())
def test_nothing_is_promised_before_it_can_be_there(ask: PromiseAsk) -> None:
    """Goods leave after acceptance and supply, on a day on which both sides work, and arrive after they left."""
    promise = plan_promise(ask)
    assert promise.ship_by >= ask.accepted_at
    assert ask.not_before is None or promise.ship_by >= ask.not_before
    assert promise.instant >= promise.ship_by
    pickup_day = local_day(promise.ship_by, ask.node.time_zone)
    assert ask.node.works_on(pickup_day)
    assert ask.carrier.works_on(pickup_day)
    assert ask.carrier.works_on(promise.deliver_by - timedelta(days=ask.buffer_days))


@given(promise_asks())
def test_the_instant_is_the_last_second_of_the_promised_day(ask: PromiseAsk) -> None:
    """One second later it is another day at the destination."""
    promise = plan_promise(ask)
    assert local_day(promise.instant, ask.zone_name) == promise.deliver_by
    assert local_day(promise.instant + timedelta(seconds=1), ask.zone_name) > promise.deliver_by


@given(promise_asks(), st.integers(0, 400_000))
def test_who_orders_later_is_never_served_earlier(ask: PromiseAsk, seconds: int) -> None:
    """The promise is monotone in the time of acceptance, over every clock change."""
    later = ask.model_copy(update={"accepted_at": ask.accepted_at + timedelta(seconds=seconds)})
    first, second = plan_promise(ask), plan_promise(later)
    assert first.ship_by <= second.ship_by
    assert first.deliver_by <= second.deliver_by


@given(promise_asks())
def test_a_longer_way_never_arrives_earlier(ask: PromiseAsk) -> None:
    """One more carrier day is at least one more day, one more buffer day exactly one."""
    promise = plan_promise(ask)
    farther = plan_promise(ask.model_copy(update={"transit_days": ask.transit_days + 1}))
    padded = plan_promise(ask.model_copy(update={"buffer_days": ask.buffer_days + 1}))
    assert farther.deliver_by >= promise.deliver_by
    assert farther.ship_by == promise.ship_by
    assert padded.deliver_by == promise.deliver_by + timedelta(days=1)


@given(promise_asks())
def test_the_same_question_has_the_same_answer_after_a_trip_through_json(ask: PromiseAsk) -> None:
    """Question and promise are plain values."""
    promise = plan_promise(ask)
    assert plan_promise(PromiseAsk.model_validate_json(ask.model_dump_json())) == promise
    assert Promise.model_validate_json(promise.model_dump_json()) == promise
