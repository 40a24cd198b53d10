"""`accord up` as a person meets it: start, look, break, stop, start again, remove."""

from __future__ import annotations

import json
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
from psycopg import sql

from devstack.children import recorded_process
from tests.support.command import Folder, wait_until
from tests.support.stack import RunStack

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


@pytest.fixture
def running(folder: Folder) -> Folder:
    """The folder with its stack running; where it runs already, `up` changes nothing."""
    done = folder.accord("up", "--detach", "--no-demo")
    assert done.returncode == 0, done.stderr + done.stdout
    return folder


@pytest.fixture
def stopped(folder: Folder) -> Folder:
    """The folder with nothing running in it."""
    assert folder.accord("down").returncode == 0
    return folder


def _processes(run: dict[str, Any]) -> dict[str, psutil.Process | None]:
    return {name: recorded_process(record) for name, record in run["children"].items()}


def _count_keys(run: dict[str, Any]) -> int:
    return _count(run["database_url"], "api_keys")


def _count(url: str, table: str) -> int:
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))).fetchone()
    return int(row[0]) if row else -1


def test_up_starts_everything_and_stops_it_in_order(stopped: Folder) -> None:
    """One command: five children, links printed, doctor content; Ctrl-C ends all of them and keeps the data."""
    # given
    up = stopped.start("up", "--no-demo")
    # when
    wait_until(lambda: stopped.run_file().get("phase") == "ready" or up.poll() is not None)
    assert up.poll() is None, up.communicate()[0]
    run = stopped.run_file()
    # then
    processes = _processes(run)
    assert processes.keys() == CHILDREN
    assert None not in processes.values()
    if os.geteuid() == 0:
        assert processes["postgres"].uids().real != 0  # type: ignore[union-attr]
    code, report = stopped.accord_json("doctor")
    assert (code, report["problems"]) == (0, 0), report
    # and when
    up.send_signal(signal.SIGINT)
    printed = up.communicate(timeout=60)[0]
    # then
    assert up.returncode == 0, printed
    assert f"http://localhost:{run['ports']['api']}/docs" in printed
    assert f"http://localhost:{run['ports']['ui']}/namespaces/default/workflows" in printed
    assert "killed" not in printed
    (stopped_in,) = re.findall(r"^ stopped: (.+); data stays in ", printed, re.MULTILINE)
    assert [each.split()[0] for each in stopped_in.split(", ")] == ["api", "worker", "ui", "temporal", "postgres"]
    assert [name for name, process in processes.items() if process and process.is_running()] == []
    assert stopped.run_file() == {}
    assert (stopped.data / "pg" / "PG_VERSION").exists() or (stopped.data / "stack.json").exists()


def test_secrets_are_readable_by_their_owner_only(running: Folder) -> None:
    """Generated at the first start, mode 0600, one key per role."""
    path = running.data / "secrets.toml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    keys = re.findall(r'^(\w+) = "acc_dev_[0-9a-z]{12}_[0-9a-f]{64}"$', path.read_text(), re.MULTILINE)
    assert keys == ["storefront", "service", "warehouse", "finance", "ops", "inventory", "commerce", "auditor"]


def test_a_second_start_goes_on_with_the_same_data_and_ports(running: Folder) -> None:
    """Secrets, ports and rows are the old ones, and an `up` beside a running stack only prints the links."""
    # given
    secrets, ports = (running.data / "secrets.toml").read_text(), running.run_file()["ports"]
    assert running.accord("down").returncode == 0
    # when
    done = running.accord("up", "--detach", "--no-demo")
    # then
    assert done.returncode == 0, done.stderr + done.stdout
    run = running.run_file()
    assert (running.data / "secrets.toml").read_text() == secrets
    assert run["ports"] == ports
    assert _count_keys(run) == 8
    # and when
    again = running.accord("up")
    # then
    assert again.returncode == 0
    assert "already running" in again.stdout
    assert running.run_file() == run


def test_orders_in_flight_go_on_after_a_second_start(running: Folder) -> None:
    """Placed before `down`, waiting for its node; after `up` it is packed, delivered and paid for."""
    # given
    assert running.accord("demo", "seed").returncode == 0
    code, order = running.accord_json("orders", "create", "--sku", "LAMP-OAK:2", "--city", "Boston", "--wait", "20")
    assert (code, order["status"]) == (0, "confirmed")
    number = str(order["order_number"])
    wait_until(lambda: "for node until" in running.accord("orders", "show", number).stdout)
    # when
    assert running.accord("down").returncode == 0
    assert running.accord("up", "--detach", "--no-demo").returncode == 0
    # then
    assert "for node until" in running.accord("orders", "show", number).stdout
    assert running.accord("demo", "floor", "--until-idle", "--seconds", "60").returncode == 0
    assert running.accord("orders", "watch", number, "--timeout", "60").returncode == 0
    code, ended = running.accord_json("orders", "show", number)
    assert (ended["status"], ended["payment_status"]) == ("completed", "captured")
    code, report = running.accord_json("check")
    assert (code, report["violations"], report["workflows"]["agreed"]) == (0, 0, 1)


def test_another_engine_than_the_orders_began_with_is_refused(running: Folder) -> None:
    """The dev server would not know the orders in flight: nothing is started, and the plain start goes on."""
    # given
    marker = json.loads((running.data / "stack.json").read_text())
    assert marker["workflows"] == {"own database": "server"}
    assert running.accord("down").returncode == 0
    dev_server = running.path / "temporal"
    dev_server.write_text("#!/bin/sh\n")
    dev_server.chmod(0o755)
    # when
    for named in ({"ACCORD_TEMPORAL_SERVER": str(dev_server)}, {"TEMPORAL_ADDRESS": "127.0.0.1:9"}):
        done = running.accord("up", "--no-demo", **named)
        # then
        assert done.returncode == 1
        assert "does not know those in flight" in done.stderr
        assert "unset ACCORD_TEMPORAL_SERVER and TEMPORAL_ADDRESS" in done.stderr
        assert running.run_file() == {}
    assert running.accord("up", "--detach", "--no-demo").returncode == 0


def test_status_is_one_json_document(running: Folder) -> None:
    """Programs read standard output; people read standard error; no secret in either."""
    done = running.accord("status", "--json")
    code, document = running.accord_json("status")
    assert (code, document["phase"]) == (0, "ready")
    assert document["links"]["API and docs"] == f"http://localhost:{document['ports']['api']}/docs"
    password = running.run_file()["database_url"].split(":")[2].split("@")[0]
    assert password not in done.stdout + done.stderr


@pytest.mark.parametrize("name", ["worker", "api", "temporal", "postgres"])
def test_a_child_that_dies_is_started_again(name: str, running: Folder) -> None:
    """Killed by its id, it is back within seconds, and the stack is whole again."""
    before = running.run_file()["children"][name]
    os.kill(int(before["pid"]), signal.SIGKILL)
    wait_until(lambda: running.run_file()["children"][name]["pid"] != before["pid"])
    wait_until(lambda: running.accord("doctor").returncode == 0, 60)


def test_a_child_that_keeps_dying_stops_everything(stopped: Folder) -> None:
    """Five restarts in a minute, then the whole stack ends, shows the log and says so with its exit code."""
    # given
    up = stopped.start("up", "--no-demo")
    wait_until(lambda: stopped.run_file().get("phase") == "ready" or up.poll() is not None)
    processes = [process for process in _processes(stopped.run_file()).values() if process]
    # when
    for _ in range(6):
        victim = stopped.run_file()["children"]["ui"]
        os.kill(int(victim["pid"]), signal.SIGKILL)
        wait_until(lambda old=victim: stopped.run_file().get("children", {}).get("ui") != old or up.poll() is not None)
    # then
    printed = up.communicate(timeout=60)[0]
    assert up.returncode == 1
    assert "ui died 6 times within a minute" in printed
    assert [process for process in processes if process.is_running()] == []
    assert stopped.accord("up", "--detach", "--no-demo").returncode == 0


def test_children_end_with_a_supervisor_that_is_killed(running: Folder) -> None:
    """Nothing is left behind, and the next start takes the folder over."""
    # given
    run = running.run_file()
    processes = [process for process in _processes(run).values() if process]
    assert len(processes) == len(CHILDREN)
    # when
    os.kill(int(run["supervisor"]["pid"]), signal.SIGKILL)
    # then
    _, alive = psutil.wait_procs(processes, timeout=45)
    assert alive == []
    code, document = running.accord_json("status")
    assert (code, document["phase"]) == (4, "stopped")
    # and when
    done = running.accord("up", "--detach", "--no-demo")
    # then
    assert done.returncode == 0, done.stderr + done.stdout
    assert _count_keys(running.run_file()) == 8


def test_down_stops_and_says_so(running: Folder) -> None:
    """After `down` nothing runs; a second one is harmless."""
    processes = [process for process in _processes(running.run_file()).values() if process]
    code, document = running.accord_json("down")
    assert (code, document) == (0, {"was_running": True, "leftovers": [], "wiped": False})
    assert [process for process in processes if process.is_running()] == []
    code, document = running.accord_json("down")
    assert (code, document["was_running"]) == (0, False)


def test_doctor_names_the_fix_when_nothing_runs(stopped: Folder) -> None:
    """Every failure comes with the command that repairs it."""
    nowhere = {"TEMPORAL_ADDRESS": "127.0.0.1:9", "ACCORD_API_PORT": "9"}  # not somebody's stack on the usual ports
    code, report = stopped.accord_json("doctor", **nowhere)
    assert code == 1
    failures = [finding for finding in report["findings"] if finding["verdict"] == "FAIL"]
    assert len(failures) == report["problems"] == 3
    assert [finding for finding in failures if not finding["fix"]] == []


def test_a_port_that_is_taken_moves_and_is_told(stopped: Folder) -> None:
    """The usual ports are preferred, the next free ones are taken, and commands find them."""
    wanted = int(re.search(r'"api": (\d+)', (stopped.data / "stack.json").read_text()).group(1))  # type: ignore[union-attr]
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", wanted))
        stranger.listen()
        assert stopped.accord("up", "--detach", "--no-demo").returncode == 0
        code, document = stopped.accord_json("status")
        assert code == 0
        assert document["ports"]["api"] > wanted
        assert stopped.accord("doctor").returncode == 0
        assert stopped.accord("down").returncode == 0


def test_wipe_removes_everything(stopped: Folder) -> None:
    """Asked first; refused for a folder that is not ours; then nothing is left."""
    assert stopped.data.exists()
    assert stopped.accord("down", "--wipe").returncode == 1  # nobody answered the question
    assert stopped.data.exists()
    stranger = stopped.path / "stranger"
    stranger.mkdir()
    (stranger / "letter").write_text("dear")
    assert stopped.accord("down", "--wipe", "--yes", ACCORD_DATA_DIR=str(stranger)).returncode == 1
    assert (stranger / "letter").exists()
    assert stopped.accord("down", "--wipe", "--yes").returncode == 0
    assert not stopped.data.exists()


async def test_engines_of_somebody_else_are_used_and_left_alone(stack: RunStack, tmp_path: Path) -> None:
    """With a database and a Temporal server named, only our own two processes are started, and no demo is loaded."""
    # given
    site = await stack.new_site()
    named = {
        "ACCORD_DATABASE_URL": site.database_url,
        "TEMPORAL_ADDRESS": stack.temporal_address,
        "TEMPORAL_NAMESPACE": site.namespace,
    }
    folder = Folder(tmp_path)
    folder.remember_ports()
    # when
    done = folder.accord("up", "--detach", **named)
    # then
    assert done.returncode == 0, done.stderr + done.stdout
    try:
        assert folder.run_file()["children"].keys() == {"worker", "api"}
        assert "demo" not in done.stdout
        assert _count(site.database_url, "nodes") == _count(site.database_url, "channels") == 0
        code, report = folder.accord_json("doctor", **named)
        assert (code, report["problems"]) == (0, 0), report
    finally:
        assert folder.accord("down", **named).returncode == 0
    assert (await (await site.connect()).count_workflows("OrderStatus = 'none'")).count == 0


def test_production_is_not_for_up(tmp_path: Path) -> None:
    """Exit code 3: a rule says no, and nothing has been created."""
    done = Folder(tmp_path).accord("up", ACCORD_ENV="production")
    assert done.returncode == 3
    assert list(tmp_path.iterdir()) == []
