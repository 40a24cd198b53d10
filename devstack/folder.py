"""The folder of one stack: its lock, what it says about itself, leftovers of one that died, its removal."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from devstack.children import recorded_process
from devstack.generated import write_private
from devstack.report import StackError

MARKER = "stack.json"
RUN_FILE = "run.json"
LEFTOVER_LIMIT_S = 15.0


class StackFolder:
    """Paths and files of one stack, usually `.accord/`."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.logs = self.root / "logs"
        self.secrets = self.root / "secrets.toml"
        self.run_file = self.root / RUN_FILE
        self.marker = self.root / MARKER
        self._lock: int | None = None

    def prepare(self) -> None:
        """Create the folder; others may pass through it, because PostgreSQL may run as another user."""
        self.root.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.logs.mkdir(mode=0o700, exist_ok=True)

    def try_lock(self) -> bool:
        """Take the folder for this process; False when a living process has it.

        The system frees the lock when its owner ends, however it ends: there is no stale lock to judge.
        """
        descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._lock = descriptor
        return True

    def unlock(self) -> None:
        """Give the folder back."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def taken(self) -> bool:
        """True when a living process has the folder."""
        if not (self.root / "lock").exists():
            return False
        if self._lock is not None:
            return True
        free = self.try_lock()
        self.unlock()
        return not free

    def write_run(self, content: Mapping[str, Any]) -> None:
        """Tell every command where things listen and which processes they are."""
        write_private(self.run_file, json.dumps(content, indent=1) + "\n")

    def read_run(self) -> dict[str, Any]:
        """What the running stack says about itself; empty when there is none."""
        return _read_json(self.run_file)

    def read_marker(self) -> dict[str, Any]:
        """What the data of this folder was made with."""
        return _read_json(self.marker)

    def write_marker(self, content: Mapping[str, Any]) -> None:
        """Record what the data of this folder was made with."""
        write_private(self.marker, json.dumps(content, indent=1) + "\n")

    def end_leftovers(self) -> list[str]:
        """End children of a supervisor that is gone, each known by id and start time, never by name.

        Returns:
            The names of those that were still there.
        """
        recorded: Mapping[str, Mapping[str, float]] = self.read_run().get("children", {})
        alive = {name: process for name, record in recorded.items() if (process := recorded_process(record))}
        for process in alive.values():
            with _already_gone():
                process.terminate()
        _, stubborn = psutil.wait_procs(list(alive.values()), timeout=LEFTOVER_LIMIT_S)
        for process in stubborn:
            with _already_gone():
                process.kill()
        return list(alive)

    def release(self) -> None:
        """Remove what the stack said about itself and give the folder back; nothing when it was not ours."""
        if self._lock is not None:
            self.run_file.unlink(missing_ok=True)
            self.unlock()

    def wipe(self) -> None:
        """Remove the folder and everything that belongs to it elsewhere.

        Raises:
            StackError: it does not look like a folder of ours.
        """
        if not self.root.exists():
            return
        if not self.marker.exists():
            raise StackError(f"{self.root} was not made by `accord up`: nothing is removed", "remove it yourself")
        elsewhere = self.read_marker().get("elsewhere")
        if elsewhere:
            shutil.rmtree(elsewhere, ignore_errors=True)
        shutil.rmtree(self.root)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


@contextlib.contextmanager
def _already_gone() -> Iterator[None]:
    with contextlib.suppress(psutil.NoSuchProcess):
        yield
