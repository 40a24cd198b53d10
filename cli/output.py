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
from typing import Annotated, Any, NoReturn

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
    INTERRUPTED = 130  # Ctrl-C, as shells count it


def people(text: str) -> None:
    """Tell people something."""
    print(text, file=sys.stderr, flush=True)


def speaker(as_json: bool) -> Say:
    """Where progress goes: standard output, or standard error when that is kept for JSON."""
    return people if as_json else _on_screen


def document(content: Mapping[str, Any]) -> None:
    """Print the one JSON document of this command."""
    print(json.dumps(content, indent=2, default=str), flush=True)


def document_line(content: Mapping[str, Any]) -> None:
    """Print a JSON document on one line: what failed, and where documents come one a line."""
    print(json.dumps(content, default=str), flush=True)


def leave(text: str, code: ExitCode, *, as_json: bool) -> NoReturn:
    """End the command: one sentence for people, a document for programs, and the exit code."""
    if as_json:
        _document_of_failure(text, code)
    people(text)
    raise typer.Exit(code)


@contextmanager
def told_errors() -> Iterator[None]:
    """Turn what went wrong into one clear sentence, its fix, and the exit code of the contract."""
    as_json = "--json" in sys.argv
    try:
        yield
    except typer.TyperException as problem:  # the command was typed wrongly
        code = ExitCode(problem.exit_code)
        if as_json:
            _document_of_failure(problem.format_message(), code)
        _show_usage(problem)
        sys.exit(code)
    except typer.Abort:
        if as_json:
            _document_of_failure("not confirmed", ExitCode.FAILED)
        people("Aborted: not confirmed")
        sys.exit(ExitCode.FAILED)
    except Exception as problem:
        found = exit_code_of(problem)
        if found is None:
            raise
        text = _said(problem)
        if as_json:
            _document_of_failure(text, found)
        people(text)
        if found is ExitCode.UNREACHABLE:
            people(f"  -> is it running? `{program()} status`, or `{program()} up`")
        sys.exit(found)


def interrupted() -> None:
    """What to say when somebody pressed Ctrl-C."""
    if "--json" in sys.argv:
        _document_of_failure("interrupted", ExitCode.INTERRUPTED)


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
    failed = type(problem).__name__ == "SetupError" or _has_no_tables(problem)
    return ExitCode.FAILED if failed else None


def _has_no_tables(problem: Exception) -> bool:
    return type(getattr(problem, "orig", None)).__name__ == "UndefinedTable"


def _said(problem: Exception) -> str:
    """What people read. Of a database's error only its own words: the statement carries values."""
    if _has_no_tables(problem):
        return f"The database has no tables of Accord\n  -> {program()} init"
    return str(getattr(problem, "orig", None) or problem)


def _show_usage(problem: typer.TyperException) -> None:
    show = getattr(problem, "show", None)  # usage errors also say how the command is called
    if show is None:
        people(problem.format_message())
    else:
        show()


def _document_of_failure(text: str, code: ExitCode) -> None:
    document_line({"error": next(iter(text.splitlines()), ""), "detail": text, "exit_code": int(code)})


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
