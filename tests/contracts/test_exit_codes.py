"""What the caller of `accord` learns without reading: exit codes, and one JSON document on standard output."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from cli.main import HEAVY, make_app, names
from tests.support.command import Folder

API_NOWHERE = {"ACCORD_API_URL": "http://127.0.0.1:9", "ACCORD_API_KEY": "acc_dev_x"}
NOWHERE = "postgresql+psycopg://accord:secret-word@127.0.0.1:9/accord"


@pytest.mark.parametrize(
    ("arguments", "extra", "code"),
    [
        (("nonsense",), {}, 2),
        (("up", "--nonsense"), {}, 2),
        (("logs", "nonsense"), {}, 2),
        (("config", "show"), {"ACCORD_API_PORT": "many"}, 2),
        (("db", "upgrade"), {}, 2),
        (("init", "--keys", "absent.toml"), {"ACCORD_DATABASE_URL": NOWHERE}, 2),
        (("config", "show"), {"ACCORD_ENV": "production"}, 3),
        (("worker",), {"ACCORD_ENV": "production"}, 3),
        (("status",), {}, 4),
        (("db", "upgrade"), {"ACCORD_DATABASE_URL": NOWHERE}, 4),
        (("init",), {"ACCORD_DATABASE_URL": NOWHERE, "TEMPORAL_ADDRESS": "127.0.0.1:9"}, 4),
        (("logs", "api"), {}, 1),
        (("config", "show"), {}, 0),
        (("down",), {}, 0),
    ],
)
def test_exit_codes(arguments: tuple[str, ...], extra: dict[str, str], code: int, tmp_path: Path) -> None:
    """0 done, 1 failed, 2 usage, 3 refused by a rule, 4 something could not be reached; never a traceback."""
    done = Folder(tmp_path).accord(*arguments, **extra)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "secret-word" not in done.stdout + done.stderr
    assert code == 0 or done.stderr.strip()


@pytest.mark.parametrize(
    ("arguments", "extra", "code"),
    [
        (("config", "show"), {}, 0),
        (("down",), {}, 0),
        (("demo", "list"), {}, 0),
        (("status",), {}, 4),
        (("config", "show"), {"ACCORD_ENV": "production"}, 3),
        (("db", "upgrade"), {"ACCORD_DATABASE_URL": NOWHERE}, 4),
        (("init",), {"ACCORD_DATABASE_URL": NOWHERE, "TEMPORAL_ADDRESS": "127.0.0.1:9"}, 4),
        (("check",), {"ACCORD_DATABASE_URL": NOWHERE}, 4),
        (("keys", "list"), {"ACCORD_DATABASE_URL": NOWHERE}, 4),
        (("orders", "list"), API_NOWHERE, 4),
        (("orders", "watch", "1"), API_NOWHERE, 4),
        (("logs", "api"), {}, 1),
        (("logs", "nonsense"), {}, 2),
        (("nonsense",), {}, 2),
        (("up", "--nonsense"), {}, 2),
        (("orders", "list", "--limit", "0"), {}, 2),
        (("orders", "list"), {}, 2),
        (("orders", "create"), API_NOWHERE, 2),
        (("orders", "cancel"), {}, 2),
        (("demo", "run", "teleport"), {}, 2),
        (("demo", "retail", "--file", "absent.csv"), {}, 2),
        (("demo", "retail", "--file", str(Path(__file__))), {}, 2),
        (("demo", "retail", "--from", "2030-01-01"), {}, 2),
    ],
)
def test_json_is_one_document(arguments: tuple[str, ...], extra: dict[str, str], code: int, tmp_path: Path) -> None:
    """Also when the command fails: programs always have something to parse, and what failed is on one line."""
    done = Folder(tmp_path).accord(*arguments, "--json", **extra)
    told = json.loads(done.stdout)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    if code and arguments != ("status",):
        assert (told["exit_code"], done.stdout.count("\n")) == (code, 1)
        assert told["error"] == told["detail"].splitlines()[0] != ""


def test_the_exit_code_is_ours_also_right_after_a_call_of_the_engine(tmp_path: Path) -> None:
    """The SDK's threads end before the process does: without a pause one in four of these was aborted."""
    nowhere = {"ACCORD_DATABASE_URL": NOWHERE, "TEMPORAL_ADDRESS": "127.0.0.1:9"}
    processes = [Folder(tmp_path).start("init", **nowhere) for _ in range(12)]
    printed = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [4] * 12, printed


def test_a_question_that_nobody_answers_is_told_as_json(tmp_path: Path) -> None:
    """`down --wipe` in a script without `--yes`: nothing is removed."""
    folder = Folder(tmp_path)
    folder.remember_ports()
    code, told = folder.accord_json("down", "--wipe")
    assert (code, told["exit_code"]) == (1, 1)
    assert (folder.data / "stack.json").exists()


def test_every_command_but_the_two_processes_takes_json() -> None:
    """As the README says."""
    commands = dict(_commands(get_command(make_app(None)), ()))
    without = {" ".join(words) for words, options in commands.items() if "--json" not in options}
    assert without == {"worker", "api"}
    assert len(commands) > 20


def _commands(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Every command with the names of its options."""
    for name, inner in getattr(command, "commands", {}).items():
        yield from _commands(inner, (*words, name))
    if not hasattr(command, "commands"):
        yield words, [option for parameter in command.params for option in parameter.opts]


def test_secrets_are_masked_unless_asked_for(tmp_path: Path) -> None:
    """`config show` names every setting; the masked form is what one may send to a colleague."""
    folder = Folder(tmp_path)
    masked = folder.accord("config", "show", "--redact", ACCORD_KEY_PEPPER="hidden-pepper")
    assert "hidden-pepper" not in masked.stdout
    assert re.search(r"^ACCORD_KEY_PEPPER +\*+ +environment$", masked.stdout, re.MULTILINE)
    assert "hidden-pepper" in folder.accord("config", "show", "--no-redact", ACCORD_KEY_PEPPER="hidden-pepper").stdout


def test_every_command_is_mounted_and_only_the_wanted_one_is_imported() -> None:
    """`accord --help` lists all; `accord up` does not carry the HTTP client."""
    everything = names(make_app(None))
    assert everything == {
        *("up", "down", "status", "logs", "doctor", "config", "worker", "api", "init", "db", "temporal"),
        *HEAVY,
    }
    assert names(make_app("up")) == everything - set(HEAVY)
    assert names(make_app("orders")) == everything - (set(HEAVY) - {"orders"})


def test_a_misspelled_variable_is_noticed(tmp_path: Path) -> None:
    """A variable with our prefix that no setting reads is a warning of the doctor."""
    nowhere = {"TEMPORAL_ADDRESS": "127.0.0.1:9", "ACCORD_API_PORT": "9"}
    done = Folder(tmp_path).accord("doctor", "--json", ACCORD_DATABSE_URL="x", **nowhere)
    report = json.loads(done.stdout)
    warnings = [finding["text"] for finding in report["findings"] if finding["verdict"] == "warn"]
    assert "no setting is called ACCORD_DATABSE_URL" in warnings
