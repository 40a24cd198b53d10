"""What people may type: normal form, no control or direction-changing characters, no card numbers."""

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator, Field

_FORBIDDEN_CATEGORIES = ("Cc", "Cs", "Co", "Cn", "Zl", "Zp")
_DIRECTION = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_DIGIT_RUN = re.compile(r"(?:\d[ -]?){12,18}\d")


class TextRefused(ValueError):
    """The text must not enter. `code` is the stable reason."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def looks_like_card_number(text: str) -> bool:
    """Whether a run of 13 to 19 digits in the text passes the check digit of payment cards."""
    return any(_passes_check_digit(re.sub(r"\D", "", run)) for run in _DIGIT_RUN.findall(text))


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
