"""`accord up` as a person meets it: start, look, break, stop, start again, remove."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from devstack.children import recorded_process
from tests.support.command import Folder, wait_until

CHILDREN = {"postgres", "temporal", "ui", "worker", "api"}


@pytest.fixture(scope="module")
def folder() -> Iterator[Folder]:
    """A working folder that PostgreSQL's user can reach, also when we are root."""
    path = Path(tempfile.mkdtemp(prefix="accord-up-"))
    path.chmod(0o711)
    folder = Folder(path)
    folder.remember_ports()
    yield folder
    folder.accord("down", "--wipe", "--yes")
    shutil.rmtree(path, ignore_errors=True)


def _processes(run: dict[str, Any]) -> dict[str, psutil.Process | None]:
    return {name: recorded_process(record) for name, record in run["children"].items()}


def _count_orders(run: dict[str, Any]) -> int:
    with psycopg.connect(run["database_url"].replace("+psycopg", "")) as connection:
        row = connection.execute("SELECT count(*) FROM api_keys").fetchone()
    return int(row[0]) if row else -1


def test_up_starts_everything_and_stops_it_in_order(folder: Folder) -> None:
    """One command: five children, links printed, doctor content; Ctrl-C ends all of them and keeps the data."""
    # given
    up = folder.start("up", "--no-demo")
    # when
    wait_until(lambda: folder.run_file().get("phase") == "ready" or up.poll() is not None)
    assert up.poll() is None, up.communicate()[0]
    run = folder.run_file()
    # then
    processes = _processes(run)
    assert processes.keys() == CHILDREN
    assert None not in processes.values()
    if os.geteuid() == 0:
        assert processes["postgres"].uids().real != 0  # type: ignore[union-attr]
    code, report = folder.accord_json("doctor")
    assert (code, report["problems"]) == (0, 0), report
    # and when
    up.send_signal(signal.SIGINT)
    printed = up.communicate(timeout=60)[0]
    # then
    assert up.returncode == 0, printed
    assert f"http://localhost:{run['ports']['api']}/docs" in printed
    assert f"http://localhost:{run['ports']['ui']}/namespaces/default/workflows" in printed
    assert "killed" not in printed
    assert [name for name, process in processes.items() if process and process.is_running()] == []
    assert folder.run_file() == {}
    assert (folder.data / "pg" / "PG_VERSION").exists() or (folder.data / "stack.json").exists()


def test_secrets_are_readable_by_their_owner_only(folder: Folder) -> None:
    """Generated at the first start, mode 0600, one key per role."""
    path = folder.data / "secrets.toml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    keys = re.findall(r'^(\w+) = "acc_dev_[0-9a-z]{12}_[0-9a-f]{64}"$', path.read_text(), re.MULTILINE)
    assert keys == ["storefront", "service", "warehouse", "finance", "ops", "inventory", "commerce", "auditor"]


def test_a_second_start_goes_on_with_the_same_data_and_ports(folder: Folder) -> None:
    """Detached this time; secrets, ports and rows are the old ones, and a second `up` only prints the links."""
    # given
    secrets = (folder.data / "secrets.toml").read_text()
    # when
    done = folder.accord("up", "--detach", "--no-demo")
    # then
    assert done.returncode == 0, done.stderr + done.stdout
    run = folder.run_file()
    assert (folder.data / "secrets.toml").read_text() == secrets
    assert _count_orders(run) == 8
    # and when
    again = folder.accord("up")
    # then
    assert again.returncode == 0
    assert "already running" in again.stdout
    assert folder.run_file() == run


def test_status_is_one_json_document(folder: Folder) -> None:
    """Programs read standard output; people read standard error; no secret in either."""
    done = folder.accord("status", "--json")
    code, document = folder.accord_json("status")
    assert (code, document["phase"]) == (0, "ready")
    assert document["links"]["API and docs"] == f"http://localhost:{document['ports']['api']}/docs"
    password = folder.run_file()["database_url"].split(":")[2].split("@")[0]
    assert password not in done.stdout + done.stderr


@pytest.mark.parametrize("name", ["worker", "api", "temporal", "postgres"])
def test_a_child_that_dies_is_started_again(name: str, folder: Folder) -> None:
    """Killed by its id, it is back within seconds, and the stack is whole again."""
    before = folder.run_file()["children"][name]
    os.kill(int(before["pid"]), signal.SIGKILL)
    wait_until(lambda: folder.run_file()["children"][name]["pid"] != before["pid"])
    wait_until(lambda: folder.accord("doctor").returncode == 0, 60)


def test_a_child_that_keeps_dying_stops_everything(folder: Folder) -> None:
    """Five restarts in a minute, then the whole stack ends, shows the log and says so with its exit code."""
    # given
    folder.accord("down")
    up = folder.start("up", "--no-demo")
    wait_until(lambda: folder.run_file().get("phase") == "ready" or up.poll() is not None)
    processes = [process for process in _processes(folder.run_file()).values() if process]
    # when
    for _ in range(6):
        victim = folder.run_file()["children"]["ui"]
        os.kill(int(victim["pid"]), signal.SIGKILL)
        wait_until(lambda old=victim: folder.run_file().get("children", {}).get("ui") != old or up.poll() is not None)
    # then
    printed = up.communicate(timeout=60)[0]
    assert up.returncode == 1
    assert "ui died 6 times within a minute" in printed
    assert [process for process in processes if process.is_running()] == []
    assert folder.accord("up", "--detach", "--no-demo").returncode == 0


def test_children_end_with_a_supervisor_that_is_killed(folder: Folder) -> None:
    """Nothing is left behind, and the next start takes the folder over."""
    # given
    run = folder.run_file()
    processes = [process for process in _processes(run).values() if process]
    assert len(processes) == len(CHILDREN)
    # when
    os.kill(int(run["supervisor"]["pid"]), signal.SIGKILL)
    # then
    _, alive = psutil.wait_procs(processes, timeout=45)
    assert alive == []
    code, document = folder.accord_json("status")
    assert (code, document["phase"]) == (4, "stopped")
    # and when
    done = folder.accord("up", "--detach", "--no-demo")
    # then
    assert done.returncode == 0, done.stderr + done.stdout
    assert _count_orders(folder.run_file()) == 8


def test_down_stops_and_says_so(folder: Folder) -> None:
    """After `down` nothing runs; a second one is harmless."""
    processes = [process for process in _processes(folder.run_file()).values() if process]
    code, document = folder.accord_json("down")
    assert (code, document) == (0, {"was_running": True, "leftovers": [], "wiped": False})
    assert [process for process in processes if process.is_running()] == []
    code, document = folder.accord_json("down")
    assert (code, document["was_running"]) == (0, False)


def test_doctor_names_the_fix_when_nothing_runs(folder: Folder) -> None:
    """Every failure comes with the command that repairs it."""
    nowhere = {"TEMPORAL_ADDRESS": "127.0.0.1:9", "ACCORD_API_PORT": "9"}  # not somebody's stack on the usual ports
    code, report = folder.accord_json("doctor", **nowhere)
    assert code == 1
    failures = [finding for finding in report["findings"] if finding["verdict"] == "FAIL"]
    assert len(failures) == report["problems"] == 3
    assert [finding for finding in failures if not finding["fix"]] == []


def test_a_port_that_is_taken_moves_and_is_told(folder: Folder) -> None:
    """The usual ports are preferred, the next free ones are taken, and commands find them."""
    wanted = int(re.search(r'"api": (\d+)', (folder.data / "stack.json").read_text()).group(1))  # type: ignore[union-attr]
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", wanted))
        stranger.listen()
        assert folder.accord("up", "--detach", "--no-demo").returncode == 0
        code, document = folder.accord_json("status")
        assert code == 0
        assert document["ports"]["api"] > wanted
        assert folder.accord("doctor").returncode == 0
        assert folder.accord("down").returncode == 0


def test_wipe_removes_everything(folder: Folder) -> None:
    """Asked first; refused for a folder that is not ours; then nothing is left."""
    assert folder.accord("down", "--wipe").returncode == 1  # nobody answered the question
    assert folder.data.exists()
    stranger = folder.path / "stranger"
    stranger.mkdir()
    (stranger / "letter").write_text("dear")
    assert folder.accord("down", "--wipe", "--yes", ACCORD_DATA_DIR=str(stranger)).returncode == 1
    assert (stranger / "letter").exists()
    assert folder.accord("down", "--wipe", "--yes").returncode == 0
    assert not folder.data.exists()


def test_production_is_not_for_up(folder: Folder) -> None:
    """Exit code 3: a rule says no, and nothing has been created."""
    done = folder.accord("up", ACCORD_ENV="production")
    assert done.returncode == 3
    assert not folder.data.exists()
