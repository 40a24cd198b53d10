"""How every command speaks: JSON on standard output, everything for people on standard error, fixed exit codes."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from devstack.report import Say, StackError
from settings import InvalidSettings, SettingsError

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


class ExitCode(IntEnum):
    """What the caller of a command learns without reading."""

    DONE = 0  # also: accepted and pending
    FAILED = 1
    USAGE = 2  # the command or a setting was given wrongly
    REFUSED = 3  # a rule says no
    UNREACHABLE = 4  # database, engine or API did not answer


def people(text: str) -> None:
    """Tell people something."""
    print(text, file=sys.stderr, flush=True)


def speaker(as_json: bool) -> Say:
    """Where progress goes: standard output, or standard error when that is kept for JSON."""
    return people if as_json else _on_screen


def document(content: Mapping[str, Any]) -> None:
    """Print the one JSON document of this command."""
    print(json.dumps(content, indent=2, default=str), flush=True)


@contextmanager
def told_errors() -> Iterator[None]:
    """Turn what went wrong into one clear sentence, its fix, and the exit code of the contract."""
    try:
        yield
    except Exception as problem:
        code = exit_code_of(problem)
        if code is None:
            raise
        if "--json" in sys.argv:
            document({"error": str(problem).splitlines()[0], "detail": str(problem), "exit_code": int(code)})
        people(str(problem))
        if code is ExitCode.UNREACHABLE:
            people(f"  -> is it running? `{program()} status`, or `{program()} up`")
        sys.exit(code)


def exit_code_of(problem: Exception) -> ExitCode | None:
    """The exit code for an expected problem; None for a defect of ours, which keeps its traceback."""
    if isinstance(problem, StackError):
        return ExitCode.FAILED
    if isinstance(problem, InvalidSettings):
        return ExitCode.USAGE
    if isinstance(problem, SettingsError):
        return ExitCode.REFUSED
    return ExitCode.UNREACHABLE if _is_unreachable(problem) else _by_name(problem)


def _is_unreachable(problem: Exception) -> bool:
    """Database or engine did not answer; asked by module so that `--help` need not import them."""
    if type(problem).__name__ == "OperationalError":
        return type(problem).__module__.split(".")[0] in ("psycopg", "sqlalchemy")
    if isinstance(problem, RuntimeError) and "Failed client connect" in str(problem):
        return True
    if type(problem).__name__ == "RPCError":
        return getattr(getattr(problem, "status", None), "name", "") in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
    return isinstance(problem, ConnectionError)


def _by_name(problem: Exception) -> ExitCode | None:
    return ExitCode.FAILED if type(problem).__name__ == "SetupError" else None


def program() -> str:
    """How to call this command from where the user stands."""
    if shutil.which("accord"):
        return "accord"
    beside = Path(sys.executable).with_name("accord")
    if beside.exists():
        here = Path.cwd()
        return os.path.relpath(beside, here) if beside.is_relative_to(here) else str(beside)
    return "python -m cli.main"


def _on_screen(text: str) -> None:
    print(text, flush=True)
