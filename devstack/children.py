"""One child process of the stack: start it, watch it, stop it, read its log."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from devstack.report import StackError
from devstack.system_user import SystemUser

LAUNCHER = Path(__file__).with_name("launch.py")
LOG_LIMIT_BYTES = 20 * 1024 * 1024


@dataclass(frozen=True)
class ChildSpec:
    """How to run one child.

    Attributes:
        stop_signal: what asks it to end in order.
        death_signal: what it gets from the kernel when the supervisor is gone.
        stop_limit_s: how long it may take to end before it is killed.
    """

    name: str
    command: tuple[str, ...]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: Path | None = None
    user: SystemUser | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGTERM
    stop_limit_s: float = 10.0


class Child:
    """A running child. It leads its own session, so that Ctrl-C reaches the supervisor only."""

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the program, with its output appended to its log.

        Must be called in the main thread: the kernel ties the parent-death signal to the calling thread.
        """
        spec = self.spec
        user = spec.user
        command = (
            sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), str(int(spec.death_signal)),
            str(user.uid if user else -1), str(user.gid if user else -1), *spec.command,
        )  # fmt: skip
        rotate(spec.log)
        with spec.log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(spec.environment),
                cwd=spec.directory,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id of the program.

        Raises:
            StackError: it has never been started.
        """
        if self._process is None:
            raise StackError(f"{self.spec.name} has not been started", "accord up")
        return self._process.pid

    def exit_code(self) -> int | None:
        """Exit code, or None while it runs."""
        return None if self._process is None else self._process.poll()

    def running(self) -> bool:
        """True while the program runs."""
        return self._process is not None and self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send one signal to the program; nothing happens when it has already ended."""
        if self.running():
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End the program and everything it started, at once."""
        if self._process is not None:
            self.end_group()
            self._process.wait()

    def end_group(self) -> None:
        """End what the program started and left behind, by the id of its own process group."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def stop(self, limit_s: float | None = None) -> bool:
        """Ask the program to end, wait, and kill it when the limit has passed.

        Returns:
            True when it ended by itself.
        """
        self.signal(self.spec.stop_signal)
        return self.wait_for_end(self.spec.stop_limit_s if limit_s is None else limit_s)

    def wait_for_end(self, limit_s: float) -> bool:
        """Wait until the program has ended; kill it when it has not within `limit_s`."""
        if self._process is None:
            return True
        try:
            self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        return True

    def last_lines(self, count: int = 15) -> list[str]:
        """The end of its log."""
        return last_lines(self.spec.log, count)

    def record(self) -> dict[str, float]:
        """Process id and start time: together they name this process for ever."""
        return process_record(self.pid)


def last_lines(log: Path, count: int) -> list[str]:
    """The last lines of a log file, at most 64 KiB of it."""
    if not log.exists():
        return []
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 65_536))
        return file.read().decode(errors="replace").splitlines()[-count:]


def rotate(log: Path, limit_bytes: int = LOG_LIMIT_BYTES) -> None:
    """Keep one old copy of a log that has grown too long.

    The content is copied and the file emptied in place, because the writer keeps it open for appending.
    """
    if not log.exists() or log.stat().st_size <= limit_bytes:
        return
    shutil.copyfile(log, log.with_suffix(log.suffix + ".1"))
    os.truncate(log, 0)


def process_record(pid: int) -> dict[str, float]:
    """Process id and start time of a process; the time is 0 when it has already ended."""
    try:
        return {"pid": pid, "started": psutil.Process(pid).create_time()}
    except psutil.NoSuchProcess:
        return {"pid": pid, "started": 0.0}


def recorded_process(record: Mapping[str, float]) -> psutil.Process | None:
    """The very process of a record, or None when it has ended, even when its id is in use again."""
    try:
        process = psutil.Process(int(record["pid"]))
        same = abs(process.create_time() - record["started"]) < 1.0
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None
