"""What the stack tells people while it works, and the error that names its repair.

Standard library only: the environment is created with it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

Say = Callable[[str], None]
TELL_EVERY_S = 5.0
TAIL_LINES = 10


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


@dataclass(frozen=True)
class Ended:
    """How a program ended: its exit code, None when its time was over, and the last lines that it printed."""

    code: int | None
    tail: tuple[str, ...]


def run_told(
    command: Sequence[str],
    say: Say,
    title: str,
    limit_s: float,
    detail: Callable[[Sequence[str]], str] = lambda lines: "",
    directory: Path | None = None,
) -> Ended:
    """Run a program to its end and tell every few seconds how long it has been at it.

    Args:
        command: the program and its arguments.
        say: told about progress.
        title: what it is doing, for people.
        limit_s: it is killed when it takes longer.
        detail: how far it is, read from the lines printed so far.
        directory: where it runs; here by default.
    """
    began = told = time.monotonic()
    printed: list[str] = []
    in_time = True
    with followed(command, directory=directory) as process:
        for line in lines_of(process, 1.0):
            now = time.monotonic()
            printed += [line] if line is not None else []
            in_time = now - began <= limit_s
            if not in_time:
                break
            if now - told >= TELL_EVERY_S:
                told = now
                say(f"   {title}: {detail(printed)}{now - began:4.0f} s")
    return Ended(process.returncode if in_time else None, tuple(printed[-TAIL_LINES:]))


@contextmanager
def followed(
    command: Sequence[str], environment: Mapping[str, str] | None = None, directory: Path | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A program whose output is read. Whoever stops reading early ends it, with everything that it has started."""
    with subprocess.Popen(
        command,
        env=environment,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


def lines_of(process: subprocess.Popen[str], every_s: float) -> Iterator[str | None]:
    """What a program prints, line by line, until it ends; None whenever it has been silent for `every_s`."""
    lines: SimpleQueue[str | _End] = SimpleQueue()
    Thread(target=_read, args=(process, lines), daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=every_s)
        except Empty:
            yield None
            continue
        if isinstance(line, _End):
            process.wait()
            return
        yield line


class _End:
    """Nothing more will be printed."""


def _read(process: subprocess.Popen[str], lines: SimpleQueue[str | _End]) -> None:
    try:
        for line in process.stdout or ():
            lines.put(line.rstrip())
    except ValueError:  # closed meanwhile: whoever followed has given up
        pass
    finally:
        lines.put(_End())
