"""Fills in the templates of notices. Pure: what a notice is made of comes in, subject and text go out. Owner: service.

A kind's file is looked for in the customer's language first, then in English, and in each at the sales channel's own
folder first, then at `default`. Files: `MEDIUM/CHANNEL/LANGUAGE/KIND.txt`; its first line is `Subject: ...`. The HTML
part is the text in `MEDIUM/CHANNEL/layout.html`. A folder of one's own is searched before the files beside this one.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from jinja2 import ChoiceLoader, FileSystemLoader, StrictUndefined, TemplateError, TemplateNotFound
from jinja2.sandbox import ImmutableSandboxedEnvironment

from domain.money import format_minor
from domain.notices import DEFAULT_LANGUAGE

OWN = Path(__file__).parent
ANY_CHANNEL = "default"
SUBJECT_CHARS = 200
_SUBJECT = "Subject:"
_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LANGUAGE = re.compile(r"[a-z]{2,3}")


class TemplateBroken(Exception):
    """A template cannot be filled in; the text names the template and the kind of fault, never a value."""


@dataclass(frozen=True)
class Wanted:
    """Which notice: `channel` is the sales channel."""

    medium: str
    channel: str
    language: str
    kind: str


@dataclass(frozen=True)
class Line:
    """A line of the order. `total` is written in the order's currency, without its name."""

    name: str
    quantity: int
    total: str


@dataclass(frozen=True)
class Happening:
    """What the event tells, as far as templates use it; None where it does not."""

    units: int | None = None
    reason: str | None = None
    until: datetime | None = None
    was: date | None = None
    to: date | None = None
    amount: str | None = None
    kept: str | None = None


@dataclass(frozen=True)
class Filling:
    """What templates are filled in with. `name` is the customer's: personal, as is everything rendered."""

    name: str
    order_number: str
    currency: str
    total: str
    promised_by: date | None
    lines: Sequence[Line]
    more_lines: int
    parcel: Mapping[str, str | None] | None
    event: Happening


@dataclass(frozen=True, repr=False)
class Rendered:
    """A notice as the customer reads it: personal data, kept nowhere. Only `template` and `fell_back` may be stored."""

    subject: str
    text: str
    html: str
    template: str
    fell_back: bool


def happening(data: Mapping[str, object], currency: str, zone_name: str) -> Happening:
    """What an event's data tells; what cannot be read is left out."""
    units, amount, kept = data.get("units"), data.get("amount_minor"), data.get("kept_minor")
    until = _moment(data.get("until"))
    return Happening(
        units=units if isinstance(units, int) else None,
        reason=str(data["reason"]) if data.get("reason") else None,
        until=until.astimezone(_zone(zone_name)) if until else None,
        was=_day(data.get("promised_by")),
        to=_day(data.get("to")),
        amount=format_minor(amount, currency) if isinstance(amount, int) else None,
        kept=format_minor(kept, currency) if isinstance(kept, int) else None,
    )


class Templates:
    """The templates of this installation."""

    def __init__(self, own_folder: Path | None = None) -> None:
        folders = [folder for folder in (own_folder, OWN) if folder is not None]
        self._environment = ImmutableSandboxedEnvironment(
            loader=ChoiceLoader([FileSystemLoader(folder) for folder in folders]),
            autoescape=lambda name: bool(name and name.endswith(".html")),
            undefined=StrictUndefined,
            keep_trailing_newline=True,
        )

    def render(self, wanted: Wanted, filling: Filling) -> Rendered:
        """Fill in a notice.

        Raises:
            TemplateBroken: no template of this kind at all, or one that cannot be filled in.
        """
        chain = _chain(wanted)
        text, name = self._first([f"{place}/{wanted.kind}.txt" for place in chain], vars(filling))
        subject, text = _split(name, text)
        language = name.split("/")[2]
        paragraphs = [block.split("\n") for block in text.strip().split("\n\n")]
        about = {"subject": subject, "paragraphs": paragraphs, "language": language}
        html, _ = self._first(list(dict.fromkeys(f"{place.rpartition('/')[0]}/layout.html" for place in chain)), about)
        return Rendered(subject, text, html, name, fell_back=self._fell_back(wanted, name))

    def _first(self, names: Sequence[str], values: Mapping[str, object]) -> tuple[str, str]:
        """The first of these templates that exists, filled in, and its name."""
        try:
            template = self._environment.select_template(list(names))
            return template.render(values), str(template.name)
        except TemplateNotFound as error:
            raise TemplateBroken(f"{names[-1]}: there is no such template") from error
        except (TemplateError, TypeError, ValueError, AttributeError, KeyError) as error:
            # Not the error's own text, nor the error itself: both may show what was to be filled in.
            raise TemplateBroken(f"{names[0]}: {type(error).__name__}") from None

    def _fell_back(self, wanted: Wanted, name: str) -> bool:
        """Whether something is missing: the language, or one kind of a sales channel that has others."""
        _, channel, language, _ = name.split("/")
        if language != wanted.language:
            return True
        return channel != wanted.channel and self._has_own(wanted)

    def _has_own(self, wanted: Wanted) -> bool:
        prefix = f"{wanted.medium}/{wanted.channel}/"
        return any(name.startswith(prefix) for name in self._environment.list_templates(extensions=["txt"]))


def _chain(wanted: Wanted) -> list[str]:
    """Where a template is looked for, in order. Names that are no folder names are left out."""
    languages = dict.fromkeys(code for code in (wanted.language, DEFAULT_LANGUAGE) if _LANGUAGE.fullmatch(code))
    channels = dict.fromkeys(name for name in (wanted.channel, ANY_CHANNEL) if _FOLDER.fullmatch(name))
    return [f"{wanted.medium}/{channel}/{language}" for language in languages for channel in channels]


def _split(name: str, text: str) -> tuple[str, str]:
    """Subject and text of a filled-in file."""
    first, _, rest = text.lstrip().partition("\n")
    if not first.startswith(_SUBJECT):
        raise TemplateBroken(f"{name}: the first line must be `{_SUBJECT} ...`")
    subject = " ".join(first.removeprefix(_SUBJECT).split())[:SUBJECT_CHARS]
    return subject, rest.strip() + "\n"


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo("UTC")


def _day(value: object) -> date | None:
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        return None


def _moment(value: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return moment if moment.tzinfo else None
