"""The templates of notices: every kind in every language can be filled in, and what is missing falls back."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from domain.notices import NoticeKind
from templates.rendering import (
    OWN,
    Filling,
    Line,
    Rendered,
    TemplateBroken,
    Templates,
    Wanted,
    happening,
)

LANGUAGES = sorted(path.name for path in (OWN / "email" / "default").iterdir() if path.is_dir())
DATA = {
    "units": 2,
    "reason": "payment_declined",
    "until": "2026-11-25T10:00:00+00:00",
    "promised_by": "2026-11-26",
    "to": "2026-11-30",
    "amount_minor": 1550,
    "type": "address",
}
FULL = Filling(
    name="Zoë <b>Example</b>",
    order_number="10042",
    currency="EUR",
    total="138.00",
    promised_by=date(2026, 11, 26),
    lines=(Line("Lamp & shade", 2, "90.00"), Line("Mug", 1, "48.00")),
    more_lines=3,
    parcel={"carrier": "Post", "tracking_number": "TRACK-1"},
    event=happening(DATA, "EUR", "Europe/Berlin"),
)
BARE = Filling(
    name="Zoë",
    order_number="10042",
    currency="EUR",
    total="0.00",
    promised_by=None,
    lines=(),
    more_lines=0,
    parcel=None,
    event=happening({}, "EUR", "UTC"),
)


def _render(kind: NoticeKind, language: str = "en", filling: Filling = FULL, channel: str = "web-us") -> Rendered:
    return Templates().render(Wanted("email", channel, language, kind), filling)


def test_there_are_two_languages() -> None:
    """English is what everything falls back to."""
    assert LANGUAGES == ["de", "en"]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", NoticeKind)
@pytest.mark.parametrize("filling", [FULL, BARE], ids=["full", "bare"])
def test_every_kind_can_be_filled_in(kind: NoticeKind, language: str, filling: Filling) -> None:
    """In its own language, with all that an event may tell or nothing of it; no hole, nothing left unfilled."""
    made = _render(kind, language, filling)
    assert (made.template, made.fell_back) == (f"email/default/{language}/{kind}.txt", False)
    assert "10042" in made.subject
    assert filling.name in made.text
    for text in (made.subject, made.text, made.html):
        assert text.strip()
        assert not any(word in text for word in ("None", "{{", "{%", "Undefined", "Subject:"))
    assert f'<html lang="{language}">' in made.html


@pytest.mark.parametrize(
    ("kind", "language", "words"),
    [
        (NoticeKind.SHIPPED, "en", ["TRACK-1 (Post)"]),
        (NoticeKind.ORDER_CONFIRMED, "en", ["26 November 2026", "2 x Lamp & shade: 90.00 EUR", "and 3 more"]),
        (NoticeKind.ORDER_CONFIRMED, "de", ["26. November 2026", "2 x Lamp & shade: 90,00 EUR", "und 3 weitere"]),
        (NoticeKind.PROMISE_CHANGED, "en", ["30 November 2026 instead of 26 November 2026"]),
        (NoticeKind.PAYMENT_DECLINED, "de", ["25. November 2026, 11:00 CET"]),
        (NoticeKind.ORDER_CANCELLED, "en", ["because we received no payment in time"]),
        (NoticeKind.UNITS_CANCELLED, "de", ["2 Artikel Ihrer Bestellung sind storniert"]),
        (NoticeKind.REFUNDED, "de", ["15,50 EUR"]),
    ],
)
def test_a_notice_says_what_happened(kind: NoticeKind, language: str, words: list[str]) -> None:
    """Dates, times in the customer's zone, amounts and reasons as the language writes them."""
    text = _render(kind, language).text
    assert [word for word in words if word not in text] == []


def test_html_is_escaped_and_text_is_not() -> None:
    """A name is a name, whatever is in it."""
    made = _render(NoticeKind.ORDER_CONFIRMED)
    assert "Zoë <b>Example</b>" in made.text
    assert "Zoë &lt;b&gt;Example&lt;/b&gt;" in made.html
    assert "<b>" not in made.html


def test_what_is_rendered_does_not_show_when_printed() -> None:
    """An error message or a log that prints it shows nothing personal."""
    assert "Zoë" not in repr(_render(NoticeKind.SHIPPED))


Write = Callable[..., Templates]


@pytest.fixture
def own(tmp_path: Path) -> Write:
    """Writes templates into a folder of one's own."""

    def write(**files: str) -> Templates:
        for name, text in files.items():
            path = tmp_path.joinpath(*name.split("__")).with_suffix(".txt")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return Templates(tmp_path)

    return write


def _used(templates: Templates, language: str, kind: str = "shipped", channel: str = "brand") -> tuple[str, bool]:
    made = templates.render(Wanted("email", channel, language, kind), FULL)
    return made.template, made.fell_back


def test_the_chain_is_language_before_channel(own: Write) -> None:
    """The channel's own text, else the default in the right language, else English; each lack is told."""
    templates = own(email__brand__en__shipped="Subject: Brand {{ order_number }}\n\nHello")
    assert _used(templates, "en") == ("email/brand/en/shipped.txt", False)
    assert _used(templates, "de") == ("email/default/de/shipped.txt", True)  # this channel has a text, not in German
    assert _used(templates, "fr") == ("email/brand/en/shipped.txt", True)
    assert _used(templates, "en", "delivered") == ("email/default/en/delivered.txt", True)
    assert _used(templates, "de", channel="other") == ("email/default/de/shipped.txt", False)


def test_a_kind_without_any_template_is_named(own: Write) -> None:
    """Nothing is sent that nobody wrote."""
    with pytest.raises(TemplateBroken, match=r"email/default/en/unheard_of\.txt"):
        _used(own(), "en", "unheard_of")


@pytest.mark.parametrize(
    "text",
    [
        "Hello",  # no subject
        "Subject: x\n\n{{ no_such_name }}",
        "Subject: x\n\n{{ name",
        "Subject: x\n\n{{ ''.__class__.__mro__ }}",  # out of the sandbox
        "Subject: x\n\n{{ name / 2 }}",
    ],
)
def test_a_broken_template_says_which_and_nothing_personal(own: Write, text: str) -> None:
    """Named by its file; no value, no trace of one."""
    with pytest.raises(TemplateBroken) as problem:
        _used(own(email__brand__en__shipped=text), "en")
    assert "email/brand/en/shipped.txt" in str(problem.value)
    assert "Zoë" not in f"{problem.value} {problem.value.__cause__}"


@pytest.mark.parametrize("name", ["../../etc", "/etc", "..", "", "a/b", "x" * 200])
def test_a_channel_s_name_leads_out_of_no_folder(name: str) -> None:
    """It is no path."""
    assert _render(NoticeKind.SHIPPED, channel=name).template == "email/default/en/shipped.txt"


def test_a_subject_is_one_line(own: Write) -> None:
    """A line break from a value makes no second header."""
    templates = own(email__brand__en__shipped="Subject: {{ name }}\n\nHello")
    made = templates.render(Wanted("email", "brand", "en", "shipped"), replace(FULL, name="A\tB  C" + "x" * 500))
    assert made.subject == ("A B C" + "x" * 500)[:200]


def test_what_an_event_tells_wrongly_is_left_out() -> None:
    """A date that is none, a time without a zone, an amount in words."""
    told = happening({"to": "soon", "until": "2026-11-25T10:00:00", "amount_minor": "1"}, "EUR", "Nowhere/Land")
    assert (told.to, told.until, told.amount) == (None, None, None)


@pytest.mark.parametrize("kind", [NoticeKind.ORDER_CANCELLED, NoticeKind.UNITS_CANCELLED])
@pytest.mark.parametrize(
    ("language", "kept", "free"), [("en", "12.50 EUR", "do not pay"), ("de", "12,50 EUR", "nicht")]
)
def test_who_pays_all_the_same_is_told_so(kind: NoticeKind, language: str, kept: str, free: str) -> None:
    """Without refund the notice names the amount, and does not say that nothing is to be paid."""
    usual = _render(kind, language).text
    agreed = _render(kind, language, replace(FULL, event=happening({**DATA, "kept_minor": 1250}, "EUR", "UTC"))).text
    assert free in usual
    assert kept not in usual
    assert kept in agreed
    assert free not in agreed
