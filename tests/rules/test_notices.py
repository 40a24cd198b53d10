"""What the customer is told of: every event is decided, and when a notice is given up or sent again."""

from datetime import timedelta
from pathlib import Path

import pytest

from domain.notices import (
    MOST_ATTEMPTS,
    MOST_RESENDS,
    SILENT,
    TOLD,
    Notice,
    NoticeKind,
    NoticeState,
    check_resend,
    language_of,
    notice_for,
    notice_id_of,
    pause_before_next,
)
from domain.orders import SYSTEM, Actor, ActorKind
from domain.refusals import OrderRuleError
from domain.timeline import SENTENCES

CUSTOMER = Actor(kind=ActorKind.CUSTOMER, id="cus_1", role="shopper")
SERVICE = Actor(kind=ActorKind.PERSON, id="maria", role="service")
LATER = {
    "order.amended",
    "order.backordered",
    "parcel.lost",
    "parcel.damaged",
    "parcel.returning",
    "parcel.replaced",
    "parcel.recalled",
    "recall.declined",
}
"""Events that there were none of when the migration ran."""
AWAITED: set[str] = set()
"""Decided ahead of the code that will say them."""


def test_every_event_is_told_or_deliberately_silent() -> None:
    """A new kind of event has to be decided here."""
    assert not set(TOLD) & set(SILENT)
    assert set(SENTENCES) - set(TOLD) - set(SILENT) == set()
    assert (set(TOLD) | set(SILENT)) - set(SENTENCES) <= AWAITED


def test_every_kind_of_notice_belongs_to_an_event() -> None:
    """A kind that no event asks for would never be sent."""
    kinds = {
        kind
        for telling in TOLD.values()
        for kind in (telling.kind, telling.whole, *(telling.by_type or {}).values())
        if kind is not None
    }
    assert kinds == set(NoticeKind)


@pytest.mark.parametrize(
    ("event_type", "data", "actor", "nothing_left", "expected"),
    [
        ("order.confirmed", {}, SYSTEM, False, Notice(NoticeKind.ORDER_CONFIRMED, False)),
        ("cancellation.confirmed", {}, CUSTOMER, False, Notice(NoticeKind.UNITS_CANCELLED, False)),
        ("cancellation.confirmed", {}, CUSTOMER, True, Notice(NoticeKind.ORDER_CANCELLED, False)),
        ("cancellation.confirmed", {}, SYSTEM, True, Notice(NoticeKind.ORDER_CANCELLED, True)),
        ("cancellation.confirmed", {}, SERVICE, False, Notice(NoticeKind.UNITS_CANCELLED, True)),
        ("refund.succeeded", {}, CUSTOMER, False, Notice(NoticeKind.REFUNDED, True)),
        ("hold.placed", {"type": "address"}, SERVICE, False, Notice(NoticeKind.ADDRESS_QUESTION, False)),
        ("hold.placed", {"type": "payment"}, SERVICE, False, Notice(NoticeKind.PAYMENT_QUESTION, False)),
        ("hold.placed", {"type": "fraud"}, SERVICE, False, None),
        ("hold.placed", {}, SERVICE, False, None),
        ("order.rejected", {}, SYSTEM, True, None),
    ],
)
def test_an_event_asks_for_its_notice(
    event_type: str, data: dict[str, object], actor: Actor, nothing_left: bool, expected: Notice | None
) -> None:
    """Which kind, and whether the law wants it sent to those who want none."""
    assert notice_for(event_type, data, actor, nothing_left=nothing_left) == expected


def test_a_notice_bears_the_body_of_its_event() -> None:
    """So a second one for the same event cannot be written, and a migration can make it."""
    assert notice_id_of("evt_01M84BZNW0ABCDEFGHJKMNPQRS") == "ntc_01M84BZNW0ABCDEFGHJKMNPQRS"


def test_pauses_double_from_five_seconds_to_an_hour_and_end() -> None:
    """Twenty attempts in about eleven hours; the provider's wish counts, and an hour is the most."""
    pauses = [pause_before_next(number) for number in range(1, MOST_ATTEMPTS + 1)]
    assert pauses[:3] == [timedelta(seconds=5), timedelta(seconds=10), timedelta(seconds=20)]
    assert pauses[-2:] == [timedelta(hours=1), None]
    assert sum((pause for pause in pauses if pause), timedelta()) == timedelta(hours=10, seconds=1515)
    assert pause_before_next(1, asked_s=300) == timedelta(seconds=300)
    assert pause_before_next(1, asked_s=86_400) == timedelta(hours=1)
    assert pause_before_next(9, asked_s=1) == timedelta(seconds=1280)


@pytest.mark.parametrize(
    ("state", "why", "resends", "under_way", "code"),
    [
        (NoticeState.SENT, None, 0, False, None),
        (NoticeState.FAILED, "smtp_550", 0, False, None),
        (NoticeState.SUPPRESSED, "no_address", 0, False, None),
        (NoticeState.SENT, None, MOST_RESENDS - 1, False, None),
        (NoticeState.SENT, None, MOST_RESENDS, False, "too_many_resends"),
        (NoticeState.SENT, None, 1, True, "notice_not_over"),
        (NoticeState.PENDING, None, 0, False, "notice_not_over"),
        (NoticeState.SENDING, None, 0, False, "notice_not_over"),
        (NoticeState.SUPPRESSED, "opted_out", 0, False, "opted_out"),
    ],
)
def test_a_notice_is_sent_again_when_it_is_over(
    state: NoticeState, why: str | None, resends: int, under_way: bool, code: str | None
) -> None:
    """Not while it is on its way, not to those who want none, not for ever."""
    if code is None:
        check_resend(state, why, resends, under_way=under_way)
        return
    with pytest.raises(OrderRuleError) as refusal:
        check_resend(state, why, resends, under_way=under_way)
    assert refusal.value.code == code


@pytest.mark.parametrize(
    ("locale", "language"), [("de-AT", "de"), ("EN", "en"), ("gsw", "gsw"), (None, None), ("", None)]
)
def test_the_language_is_the_first_part_of_a_locale(locale: str | None, language: str | None) -> None:
    """In small letters, as the folders are named."""
    assert language_of(locale) == language


def test_the_migration_knows_the_events_of_its_time() -> None:
    """Rows for what happened before there were notices, by the same table; or old orders would break the law."""
    text = (Path(__file__).parents[2] / "store/migrations/versions/0003_notices.py").read_text()
    assert [event for event in TOLD if event not in {*AWAITED, *LATER} and f"'{event}'" not in text] == []
