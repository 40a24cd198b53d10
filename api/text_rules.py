"""What people may type: normal form, no control or direction-changing characters, no card numbers."""

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator, Field

_FORBIDDEN_CATEGORIES = ("Cc", "Cs", "Co", "Cn", "Zl", "Zp")
_DIRECTION = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_DIGIT_RUN = re.compile(r"(?<!\d)(?:\d[ -]?){13,18}\d(?!\d)")
# Length and first digits of the card schemes in use. Without them one in ten article numbers would look like
# a card: the check digit alone is no sign. Cards of 13 digits are not issued any more; article numbers are.
_SCHEMES = re.compile(
    r"4\d{15}(?:\d{3})?|5[1-5]\d{14}|(?:222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}|3[47]\d{13}"
    r"|3(?:0[0-5]|[689]\d)\d{11}|35(?:2[89]|[3-8]\d)\d{12,15}|6(?:011|4[4-9]\d|5\d\d)\d{12,15}|62\d{14,17}"
    r"|(?:5[06-9]|6[0-9])\d{14,17}"
)


class TextRefused(ValueError):
    """The text must not enter. `code` is the stable reason."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def looks_like_card_number(text: str) -> bool:
    """Whether the text holds digits that fit a card scheme and pass the check digit."""
    runs = (re.sub(r"\D", "", run) for run in _DIGIT_RUN.findall(text))
    return any(_SCHEMES.fullmatch(run) is not None and _passes_check_digit(run) for run in runs)


def _passes_check_digit(digits: str) -> bool:
    total = 0
    for position, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if position % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def clean_text(text: str) -> str:
    """The text in Unicode's normal form C.

    Raises:
        TextRefused: control or direction-changing characters, or what looks like a card number.
    """
    if any(c in _DIRECTION or unicodedata.category(c) in _FORBIDDEN_CATEGORIES for c in text):
        raise TextRefused("forbidden_characters", "control or direction-changing characters are not allowed")
    if looks_like_card_number(text):
        raise TextRefused("card_number", "this looks like a card number: send the provider's reference instead")
    return unicodedata.normalize("NFC", text)


def clean_reference(text: str) -> str:
    """A reference of another system: printable characters without a space, in normal form.

    Raises:
        TextRefused: something else is inside.
    """
    if not text.isprintable() or text != text.strip():
        raise TextRefused("forbidden_characters", "printable characters only, without spaces around")
    return clean_text(text)


Name = Annotated[str, Field(min_length=1, max_length=120), AfterValidator(clean_text)]
AddressLine = Annotated[str, Field(min_length=1, max_length=120), AfterValidator(clean_text)]
Reference = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(clean_reference)]
