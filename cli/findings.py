"""What a check of the doctor finds: one line, a verdict, and the command that repairs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from settings import Settings


class Verdict(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"  # works, but somebody should look
    FAIL = "FAIL"


@dataclass(frozen=True)
class Finding:
    """One line of the report, with the command that repairs it."""

    verdict: Verdict
    text: str
    fix: str = ""


Check = Callable[[Settings], Iterator[Finding]]
