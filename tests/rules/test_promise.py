"""The promised date follows the calendars of node, carrier and destination, to the second and over clock changes."""

from datetime import UTC, date, datetime, time
from typing import NamedTuple

import pytest

from domain.promise import (
    plan_promise,
)
from tests.support.promise import CHRISTMAS, EVERY_DAY, FRIDAY, NEW_YEAR, THANKSGIVING, asked


class Case(NamedTuple):
    """An acceptance, what differs from the New York example, and when the goods leave and arrive."""

    why: str
    accepted: str
    changes: dict[str, object]
    ship_by: str
    deliver_by: str


CASES = (
    Case("plain working day", "2026-11-24T10:00-05:00", {}, "2026-11-24T21:30Z", "2026-11-27"),
    Case("one second before the cut-off", "2026-11-24T13:59:59-05:00", {}, "2026-11-24T21:30Z", "2026-11-27"),
    Case("at the cut-off", "2026-11-24T14:00:00-05:00", {}, "2026-11-24T21:30Z", "2026-11-27"),
    Case("one second after the cut-off", "2026-11-24T14:00:01-05:00", {}, "2026-11-25T21:30Z", "2026-11-30"),
    Case("Friday before the cut-off", "2026-11-27T13:59:59-05:00", {}, "2026-11-27T21:30Z", "2026-12-02"),
    Case("Friday after the cut-off", "2026-11-27T14:00:01-05:00", {}, "2026-11-30T21:30Z", "2026-12-03"),
    Case("Saturday", "2026-11-28T09:00-05:00", {}, "2026-11-30T21:30Z", "2026-12-03"),
    Case("last second of Sunday", "2026-11-29T23:59:59-05:00", {}, "2026-11-30T21:30Z", "2026-12-03"),
    Case("first second of Monday", "2026-11-30T00:00:00-05:00", {}, "2026-11-30T21:30Z", "2026-12-03"),
    Case("local Monday evening is Tuesday in UTC", "2026-12-01T01:00Z", {}, "2026-12-01T21:30Z", "2026-12-04"),
    Case(
        "over Thanksgiving",
        "2026-11-25T13:00-05:00",
        {"holidays": (THANKSGIVING,), "carrier_holidays": (THANKSGIVING,)},
        "2026-11-25T21:30Z",
        "2026-12-01",
    ),
    Case(
        "after the cut-off before Thanksgiving",
        "2026-11-25T15:00-05:00",
        {"holidays": (THANKSGIVING,), "carrier_holidays": (THANKSGIVING,)},
        "2026-11-27T21:30Z",
        "2026-12-02",
    ),
    Case(
        "only the carrier has a holiday",
        "2026-11-26T10:00-05:00",
        {"carrier_holidays": (THANKSGIVING,)},
        "2026-11-27T21:30Z",
        "2026-12-02",
    ),
    Case(
        "only the node has a holiday",
        "2026-11-26T10:00-05:00",
        {"holidays": (THANKSGIVING,)},
        "2026-11-27T21:30Z",
        "2026-12-02",
    ),
    Case(
        "a long weekend",
        "2026-11-25T15:00-05:00",
        {"holidays": (THANKSGIVING, FRIDAY)},
        "2026-11-30T21:30Z",
        "2026-12-03",
    ),
    Case(
        "a holiday on a Sunday changes nothing",
        "2026-11-27T10:00-05:00",
        {"holidays": (date(2026, 11, 29),), "carrier_holidays": (date(2026, 11, 29),)},
        "2026-11-27T21:30Z",
        "2026-12-02",
    ),
    Case("one day over the weekend", "2026-11-27T10:00-05:00", {"transit_days": 1}, "2026-11-27T21:30Z", "2026-11-30"),
    Case("same day delivery", "2026-11-27T10:00-05:00", {"transit_days": 0}, "2026-11-27T21:30Z", "2026-11-27"),
    Case("a buffer day", "2026-11-23T10:00-05:00", {"buffer_days": 1}, "2026-11-23T21:30Z", "2026-11-27"),
    Case(
        "the buffer counts calendar days",
        "2026-11-24T10:00-05:00",
        {"buffer_days": 1},
        "2026-11-24T21:30Z",
        "2026-11-28",
    ),
    Case("a day of processing", "2026-11-27T10:00-05:00", {"processing_days": 1}, "2026-11-30T21:30Z", "2026-12-03"),
    Case(
        "two days of processing over a holiday",
        "2026-11-25T10:00-05:00",
        {"processing_days": 2, "holidays": (THANKSGIVING,)},
        "2026-11-30T21:30Z",
        "2026-12-03",
    ),
    Case(
        "Christmas",
        "2026-12-24T10:00-05:00",
        {"transit_days": 2, "holidays": (CHRISTMAS,), "carrier_holidays": (CHRISTMAS,)},
        "2026-12-24T21:30Z",
        "2026-12-29",
    ),
    Case(
        "over the end of the year",
        "2026-12-31T15:00-05:00",
        {"holidays": (NEW_YEAR,), "carrier_holidays": (NEW_YEAR,)},
        "2027-01-04T21:30Z",
        "2027-01-07",
    ),
    Case("a leap day", "2028-02-28T15:00-05:00", {"transit_days": 1}, "2028-02-29T21:30Z", "2028-03-01"),
    Case(
        "the carrier moves at weekends",
        "2026-11-27T10:00-05:00",
        {"carrier_days": EVERY_DAY},
        "2026-11-27T21:30Z",
        "2026-11-30",
    ),
    Case(
        "the node works at weekends, the carrier does not",
        "2026-11-28T10:00-05:00",
        {"days": EVERY_DAY},
        "2026-11-30T21:30Z",
        "2026-12-03",
    ),
    Case(
        "the carrier comes on Saturday, but nobody is there",
        "2026-11-27T10:00-05:00",
        {"carrier_days": (0, 1, 2, 3, 4, 5), "pickup": time(15)},
        "2026-11-30T20:00Z",
        "2026-12-03",
    ),
    Case("the pickup is missed", "2026-11-24T10:00-05:00", {"pickup": time(15)}, "2026-11-25T20:00Z", "2026-11-30"),
    Case("ready just in time", "2026-11-24T10:00-05:00", {"pickup": time(16)}, "2026-11-24T21:00Z", "2026-11-27"),
    Case(
        "accepted after the day's dispatch",
        "2026-11-24T18:00-05:00",
        {"cut_off": time(20)},
        "2026-11-25T21:30Z",
        "2026-11-30",
    ),
    Case(
        "supply arrives later",
        "2026-11-24T10:00-05:00",
        {"not_before": datetime(2026, 11, 30, 14, tzinfo=UTC)},
        "2026-11-30T21:30Z",
        "2026-12-03",
    ),
    Case(
        "supply is already there",
        "2026-11-24T10:00-05:00",
        {"not_before": datetime(2026, 11, 2, 14, tzinfo=UTC)},
        "2026-11-24T21:30Z",
        "2026-11-27",
    ),
    Case(
        "capacity used up",
        "2026-11-24T10:00-05:00",
        {"full_days": (date(2026, 11, 24),)},
        "2026-11-25T21:30Z",
        "2026-11-30",
    ),
    # The United States put the clock back on 1 November 2026 and forward on 14 March 2027.
    Case("over the US clock change", "2026-10-30T15:00-04:00", {}, "2026-11-02T21:30Z", "2026-11-05"),
    Case("shipped before, delivered after", "2026-10-30T10:00-04:00", {}, "2026-10-30T20:30Z", "2026-11-04"),
    Case("summer cut-off in UTC", "2026-10-30T18:00:01Z", {}, "2026-11-02T21:30Z", "2026-11-05"),
    Case("winter cut-off in UTC is an hour later", "2026-11-02T19:00:00Z", {}, "2026-11-02T21:30Z", "2026-11-05"),
    Case("one second after the winter cut-off", "2026-11-02T19:00:01Z", {}, "2026-11-03T21:30Z", "2026-11-06"),
    Case("over the US change in spring", "2027-03-12T15:00-05:00", {}, "2027-03-15T20:30Z", "2027-03-18"),
    Case(
        "a cut-off that the clock skips, in time",
        "2027-03-14T07:30:00Z",
        {"cut_off": time(2, 30), "days": EVERY_DAY, "carrier_days": EVERY_DAY},
        "2027-03-14T20:30Z",
        "2027-03-17",
    ),
    Case(
        "a cut-off that the clock skips, too late",
        "2027-03-14T07:30:01Z",
        {"cut_off": time(2, 30), "days": EVERY_DAY, "carrier_days": EVERY_DAY},
        "2027-03-15T20:30Z",
        "2027-03-18",
    ),
    Case(
        "a cut-off that comes twice counts the first time",
        "2026-11-01T05:30:00Z",
        {"cut_off": time(1, 30), "days": EVERY_DAY, "carrier_days": EVERY_DAY},
        "2026-11-01T21:30Z",
        "2026-11-04",
    ),
    Case(
        "the second time is too late",
        "2026-11-01T06:30:00Z",
        {"cut_off": time(1, 30), "days": EVERY_DAY, "carrier_days": EVERY_DAY},
        "2026-11-02T21:30Z",
        "2026-11-05",
    ),
    # Europe puts the clock back on 25 October 2026 and forward on 28 March 2027.
    Case(
        "over the European change",
        "2026-10-23T15:00+02:00",
        {"time_zone": "Europe/Berlin", "zone_name": "Europe/Paris"},
        "2026-10-26T15:30Z",
        "2026-10-29",
    ),
    Case(
        "shipped in European summer time",
        "2026-10-23T13:59:59+02:00",
        {"time_zone": "Europe/Berlin", "zone_name": "Europe/Paris"},
        "2026-10-23T14:30Z",
        "2026-10-28",
    ),
    Case(
        "over the European change in spring",
        "2027-03-26T10:00+01:00",
        {"time_zone": "Europe/Berlin", "zone_name": "Europe/Paris", "transit_days": 2},
        "2027-03-26T15:30Z",
        "2027-03-30",
    ),
    Case(
        "Europe has changed, America has not",
        "2026-10-26T10:00+01:00",
        {"time_zone": "Europe/Berlin", "zone_name": "America/New_York"},
        "2026-10-26T15:30Z",
        "2026-10-29",
    ),
    Case(
        "over the date line the day may be gone",
        "2026-11-24T10:00-08:00",
        {"time_zone": "America/Los_Angeles", "zone_name": "Pacific/Auckland", "transit_days": 0},
        "2026-11-25T00:30Z",
        "2026-11-25",
    ),
    Case(
        "over the date line the other way",
        "2026-11-24T10:00+13:00",
        {"time_zone": "Pacific/Auckland", "zone_name": "America/Los_Angeles", "transit_days": 0},
        "2026-11-24T03:30Z",
        "2026-11-24",
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.why.replace(" ", "-"))
def test_the_goods_leave_and_arrive_as_the_calendars_say(case: Case) -> None:
    """Weekends, holidays, cut-offs to the second, capacity, supply dates and clock changes."""
    promise = plan_promise(asked(case.accepted, **case.changes))
    assert promise.ship_by == datetime.fromisoformat(case.ship_by)
    assert promise.deliver_by == date.fromisoformat(case.deliver_by)


@pytest.mark.parametrize(
    ("accepted", "deliver_by", "instant"),
    [
        ("2026-11-27T15:10-05:00", date(2026, 12, 4), "2026-12-05T05:59:59Z"),
        ("2026-11-27T13:59:59-05:00", date(2026, 12, 3), "2026-12-04T05:59:59Z"),
    ],
)
def test_the_example_of_the_domain_model(accepted: str, deliver_by: date, instant: str) -> None:
    """Friday 15:10 is promised for Friday in a week, one second before the cut-off for the day before."""
    promise = plan_promise(asked(accepted, buffer_days=1))
    assert promise.deliver_by == deliver_by
    assert promise.instant == datetime.fromisoformat(instant)


@pytest.mark.parametrize(
    ("zone_name", "transit_days", "instant"),
    [
        ("America/Chicago", 1, "2026-11-01T04:59:59Z"),  # Saturday, still summer time
        ("America/Chicago", 2, "2026-11-02T05:59:59Z"),  # Sunday ends in winter time, 25 hours after it began
        ("Europe/London", 2, "2026-11-01T23:59:59Z"),
        ("Asia/Kolkata", 2, "2026-11-01T18:29:59Z"),
        ("Pacific/Auckland", 2, "2026-11-01T10:59:59Z"),
    ],
)
def test_a_day_ends_where_the_customer_is(zone_name: str, transit_days: int, instant: str) -> None:
    """The instant is the last second of the promised day at the destination, also on the day of a clock change."""
    ask = asked("2026-10-30T10:00-04:00", zone_name=zone_name, transit_days=transit_days, carrier_days=EVERY_DAY)
    assert plan_promise(ask).instant == datetime.fromisoformat(instant)


def test_a_day_whose_last_hour_comes_twice_ends_the_second_time() -> None:
    """Chile puts the clock back at midnight: 3 April 2027 has 25 hours, and the customer waits for all of them."""
    ask = asked(
        "2027-04-02T10:00-03:00",
        time_zone="America/Santiago",
        zone_name="America/Santiago",
        transit_days=1,
        carrier_days=EVERY_DAY,
    )
    promise = plan_promise(ask)
    assert promise.deliver_by == date(2027, 4, 3)
    assert promise.instant == datetime.fromisoformat("2027-04-04T03:59:59Z")
