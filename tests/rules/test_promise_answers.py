"""A promise explains itself, and a question that has no answer is a named error."""

from datetime import date, time, timedelta

import pytest
from pydantic import ValidationError

from domain.promise import (
    NoWorkingDay,
    PromiseStep,
    UnknownTimeZone,
    latest,
    plan_promise,
)
from tests.support.promise import FRIDAY, THANKSGIVING, asked


def test_the_steps_tell_how_the_date_came_about() -> None:
    """Each step names its value, and the ones that cost time name their cause."""
    promise = plan_promise(
        asked(
            "2026-11-25T15:00-05:00",
            holidays=(THANKSGIVING,),
            carrier_holidays=(THANKSGIVING, date(2026, 12, 1)),
            pickup=time(15),
            buffer_days=1,
        )
    )
    assert promise.steps == (
        PromiseStep(step="node", value="NYC-1"),
        PromiseStep(step="start", value="2026-11-25T15:00:00-05:00"),
        PromiseStep(step="processing_day", value="2026-11-27", because="the cut-off at 14:00 of 2026-11-25 has passed"),
        PromiseStep(step="skipped", value="2026-11-26", because="node holiday"),
        PromiseStep(step="ready", value="2026-11-27T16:00:00-05:00"),
        PromiseStep(
            step="pickup", value="2026-11-30T15:00:00-05:00", because="the pickup at 15:00 of 2026-11-27 is missed"
        ),
        PromiseStep(step="transit", value="3 carrier days"),
        PromiseStep(step="skipped", value="2026-12-01", because="carrier holiday"),
        PromiseStep(step="arrival", value="2026-12-04"),
        PromiseStep(step="buffer", value="1 day"),
        PromiseStep(step="promise", value="2026-12-05", because="in America/Chicago"),
    )


@pytest.mark.parametrize(
    ("changes", "because"),
    [
        ({"full_days": (date(2026, 11, 27),)}, "capacity of 2026-11-27 used up"),
        ({"holidays": (FRIDAY,)}, "the node does not work on 2026-11-27"),
        ({"cut_off": time(9)}, "the cut-off at 09:00 of 2026-11-27 has passed"),
        ({}, None),
    ],
)
def test_a_later_processing_day_names_its_cause(changes: dict[str, object], because: str | None) -> None:
    """The first obstacle is the one that is told."""
    steps = {step.step: step for step in plan_promise(asked("2026-11-27T10:00-05:00", **changes)).steps}
    assert steps["processing_day"].because == because


def test_an_order_is_promised_with_its_latest_part() -> None:
    """Later is the later instant: the end of a day comes last in the west."""
    chicago, honolulu = (
        plan_promise(asked("2026-11-24T10:00-05:00", zone_name=zone))
        for zone in ("America/Chicago", "Pacific/Honolulu")
    )
    sooner = plan_promise(asked("2026-11-24T10:00-05:00", transit_days=1))
    assert latest((sooner, chicago)) == chicago
    assert latest((chicago, honolulu, sooner)) == honolulu
    with pytest.raises(ValueError, match="empty"):
        latest(())


# --- calendars that never open ---------------------------------------------------------------------------

MANY_DAYS = tuple(date(2026, 11, 1) + timedelta(days=i) for i in range(500))


@pytest.mark.parametrize(
    ("changes", "who"),
    [
        ({"days": ()}, "node NYC-1 takes no work"),
        ({"holidays": MANY_DAYS}, "node NYC-1 takes no work"),
        ({"full_days": MANY_DAYS}, "node NYC-1 takes no work"),
        ({"carrier_days": ()}, "share no working day"),
        ({"days": (0, 1), "carrier_days": (5, 6)}, "share no working day"),
        ({"carrier_holidays": MANY_DAYS[24:]}, "the carrier has no working day"),
    ],
)
def test_a_calendar_that_never_opens_is_a_named_error(changes: dict[str, object], who: str) -> None:
    """Instead of searching for ever."""
    with pytest.raises(NoWorkingDay, match=who) as error:
        plan_promise(asked("2026-11-24T10:00-05:00", **changes))
    assert error.value.code == "no_working_day"


@pytest.mark.parametrize("field", ["time_zone", "zone_name"])
@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../etc/passwd", "America"])
def test_an_unknown_time_zone_is_a_named_error(field: str, name: str) -> None:
    """Of the node as of the destination."""
    with pytest.raises(UnknownTimeZone):
        plan_promise(asked("2026-11-24T10:00-05:00", **{field: name}))


def test_a_question_without_a_zone_on_its_times_is_refused() -> None:
    """A naive time could mean any zone."""
    with pytest.raises(ValidationError, match="timezone"):
        asked("2026-11-24T10:00")
