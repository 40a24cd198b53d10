"""What the stack tells people while it works, and the error that names its repair."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

Say = Callable[[str], None]


class StackError(Exception):
    """A step failed.

    Attributes:
        fix: the command or act that repairs it, for people.
    """

    def __init__(self, problem: str, fix: str) -> None:
        self.problem = problem
        self.fix = fix
        super().__init__(f"{problem}\n  -> {fix}")


def silent(text: str) -> None:
    """Say nothing; for tests and for `--json`."""


@dataclass
class Step:
    """One line of the first-run output, completed while the step runs."""

    name: str
    version: str = ""
    detail: str = ""


@contextmanager
def step(say: Say, name: str) -> Iterator[Step]:
    """Print one line when the step is done, with the seconds it took."""
    began = time.monotonic()
    line = Step(name)
    yield line
    seconds = time.monotonic() - began
    say(f" · {line.name:<14} {line.version:<10} {line.detail:<62} {seconds:6.1f} s".rstrip())
