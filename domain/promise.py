"""When the goods are with the customer: the date we promise, and how it came about. Owner: fulfillment.

The same calculation answers a quote and makes the promise at acceptance. Wall-clock times belong to the
place they are kept at and are compared as instants, so a change to or from summer time moves nothing but
the clock. A wall-clock time that happens twice counts the first time, one that is skipped counts as if the
clock had not been put forward.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from domain.ids import NodeId

_HORIZON_DAYS = 400
_DAY = timedelta(days=1)
_LAST_SECOND = time(23, 59, 59)


class NoWorkingDay(ValueError):
    """A calendar is closed on every day that could be promised."""

    code = "no_working_day"


class UnknownTimeZone(ValueError):
    """The name is not in the time zone database."""

    code = "unknown_time_zone"


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WorkCalendar(_Value):
    """Days on which somebody works: weekdays (0 is Monday) less holidays."""

    working_days: tuple[int, ...]
    holidays: tuple[date, ...] = ()

    def works_on(self, day: date) -> bool:
        """Whether `day` is a working day."""
        return day.weekday() in self.working_days and day not in self.holidays


class CarrierCalendar(WorkCalendar):
    """Days on which the carrier collects, moves and delivers."""


class NodeCalendar(WorkCalendar):
    """When a node works; the times are wall-clock times in its own zone.

    An order that is in by `cut_off` (inclusive) counts for that day and is ready at `dispatch`,
    `processing_days` working days later. The carrier collects at `pickup`.
    """

    node_id: NodeId
    time_zone: str
    cut_off: time
    dispatch: time
    pickup: time
    processing_days: int = Field(ge=0, le=60)


class PromiseAsk(_Value):
    """Everything the date depends on, for the goods of one order at one node.

    `not_before` is the supply or preorder date, `full_days` are working days of the node whose capacity is
    used up. `buffer_days` are calendar days added to the arrival. `zone_name` is the destination's time zone.
    """

    accepted_at: AwareDatetime
    node: NodeCalendar
    carrier: CarrierCalendar
    transit_days: int = Field(ge=0, le=60)
    zone_name: str
    buffer_days: int = Field(default=0, ge=0, le=60)
    not_before: AwareDatetime | None = None
    full_days: tuple[date, ...] = ()


class PromiseStep(_Value):
    """One step of the calculation: what it gave, and why where that is not obvious."""

    step: str
    value: str
    because: str | None = None


class Promise(_Value):
    """Delivered by the end of `deliver_by` at the destination.

    `instant` is that end in UTC; `ship_by` is the pickup (UTC) by which the goods must have left.
    """

    deliver_by: date
    zone_name: str
    instant: AwareDatetime
    ship_by: AwareDatetime
    steps: tuple[PromiseStep, ...]


def plan_promise(ask: PromiseAsk) -> Promise:
    """The earliest date that the calendars allow, with the steps that lead to it.

    Raises:
        NoWorkingDay: the node or the carrier is closed on every day of the next 400.
        UnknownTimeZone: the node's or the destination's zone does not exist.
    """
    zone, destination = _zone(ask.node.time_zone), _zone(ask.zone_name)
    start = max(ask.accepted_at, ask.not_before or ask.accepted_at)
    first_day = start.astimezone(zone).date()
    processing_day, why_processing = _processing_day(ask, start, zone)
    ready_day = _working_days_later(ask.node, processing_day, ask.node.processing_days, "the node")
    ready = max(_instant(ready_day, ask.node.dispatch, zone), start)
    pickup_day, why_pickup = _pickup_day(ask, ready_day, ready, zone)
    pickup = _instant(pickup_day, ask.node.pickup, zone)
    arrival = _arrival(ask, pickup_day, pickup, destination)
    deliver_by = arrival + ask.buffer_days * _DAY
    steps = (
        PromiseStep(step="node", value=ask.node.node_id),
        PromiseStep(step="start", value=_local(start, zone), because=_why_start(ask, start)),
        PromiseStep(step="processing_day", value=processing_day.isoformat(), because=why_processing),
        *_skipped(ask.node, first_day, ready_day, "node holiday"),
        PromiseStep(step="ready", value=_local(ready, zone)),
        PromiseStep(step="pickup", value=_local(pickup, zone), because=why_pickup),
        PromiseStep(step="transit", value=_count(ask.transit_days, "carrier day")),
        *_skipped(ask.carrier, ready_day, arrival, "carrier holiday"),
        PromiseStep(step="arrival", value=arrival.isoformat()),
        PromiseStep(step="buffer", value=_count(ask.buffer_days, "day")),
        PromiseStep(step="promise", value=deliver_by.isoformat(), because=f"in {ask.zone_name}"),
    )
    return Promise(
        deliver_by=deliver_by,
        zone_name=ask.zone_name,
        instant=_end_of_day(deliver_by, destination),
        ship_by=pickup,
        steps=steps,
    )


def latest(promises: Sequence[Promise]) -> Promise:
    """The promise of goods that count together: the part that comes last.

    Raises:
        ValueError: there is no part.
    """
    return max(promises, key=lambda promise: (promise.instant, promise.ship_by))


def _processing_day(ask: PromiseAsk, start: datetime, zone: ZoneInfo) -> tuple[date, str | None]:
    """The first working day with capacity whose cut-off has not passed, and why not an earlier one."""
    why: str | None = None
    for day in _days(start.astimezone(zone).date()):
        if not ask.node.works_on(day):
            why = why or f"the node does not work on {day}"
        elif start > _instant(day, ask.node.cut_off, zone):
            why = why or f"the cut-off at {ask.node.cut_off:%H:%M} of {day} has passed"
        elif day in ask.full_days:
            why = why or f"capacity of {day} used up"
        else:
            return day, why
    raise NoWorkingDay(f"node {ask.node.node_id} takes no work within {_HORIZON_DAYS} days of {start:%Y-%m-%d}")


def _pickup_day(ask: PromiseAsk, ready_day: date, ready: datetime, zone: ZoneInfo) -> tuple[date, str | None]:
    """The first pickup at or after `ready`: the carrier comes where both it and the node work."""
    why: str | None = None
    for day in _days(ready_day):
        if not (ask.carrier.works_on(day) and ask.node.works_on(day)):
            who = "node" if ask.carrier.works_on(day) else "carrier"
            why = why or f"the {who} does not work on {day}"
        elif _instant(day, ask.node.pickup, zone) < ready:
            why = why or f"the pickup at {ask.node.pickup:%H:%M} of {day} is missed"
        else:
            return day, why
    raise NoWorkingDay(
        f"node {ask.node.node_id} and its carrier share no working day within {_HORIZON_DAYS} days of {ready_day}"
    )


def _arrival(ask: PromiseAsk, pickup_day: date, pickup: datetime, destination: ZoneInfo) -> date:
    """`transit_days` carrier days after the pickup; never a day that is over there before the pickup."""
    arrival = _working_days_later(ask.carrier, pickup_day, ask.transit_days, "the carrier")
    # Only across the date line, with no or one day of transit: there the pickup's day may have ended.
    while _end_of_day(arrival, destination) < pickup:
        arrival = _working_days_later(ask.carrier, arrival, 1, "the carrier")
    return arrival


def _working_days_later(calendar: WorkCalendar, day: date, count: int, who: str) -> date:
    for _ in range(count):
        day = _first(day + _DAY, calendar.works_on, who)
    return day


def _first(day: date, fits: Callable[[date], bool], who: str) -> date:
    for candidate in _days(day):
        if fits(candidate):
            return candidate
    raise NoWorkingDay(f"{who} has no working day within {_HORIZON_DAYS} days of {day}")


def _days(day: date) -> Iterator[date]:
    return (day + offset * _DAY for offset in range(_HORIZON_DAYS))


def _instant(day: date, wall_clock: time, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, wall_clock.replace(fold=0), tzinfo=zone).astimezone(UTC)


def _end_of_day(day: date, zone: ZoneInfo) -> datetime:
    """The day's last second; where the clock is put back at midnight, the second time it comes."""
    return datetime.combine(day, _LAST_SECOND.replace(fold=1), tzinfo=zone).astimezone(UTC)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as missing:
        raise UnknownTimeZone(f"{name[:64]!r} is no time zone; write it like 'America/New_York'") from missing


def _skipped(calendar: WorkCalendar, after: date, upto: date, because: str) -> Iterator[PromiseStep]:
    """The holidays from `after` to `upto` that would have been working days."""
    for day in sorted(set(calendar.holidays)):
        if after <= day <= upto and day.weekday() in calendar.working_days:
            yield PromiseStep(step="skipped", value=day.isoformat(), because=because)


def _why_start(ask: PromiseAsk, start: datetime) -> str | None:
    return "supply or release date" if start > ask.accepted_at else None


def _local(instant: datetime, zone: ZoneInfo) -> str:
    return instant.astimezone(zone).isoformat(timespec="seconds")


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}{'' if number == 1 else 's'}"
