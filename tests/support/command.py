"""Runs the `accord` command as a real process, in a folder of its own, on ports of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devstack.ports import scattered_ports

ROOT = Path(__file__).parents[2]


@dataclass
class Folder:
    """One working folder in which somebody types commands."""

    path: Path

    @property
    def data(self) -> Path:
        """Where the stack of this folder keeps everything."""
        return self.path / ".accord"

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of that person."""
        small = {"PYTHONPATH": str(ROOT), "ACCORD_WORKER_PROCESSES": "1", "ACCORD_WORKER_GRACE_S": "5"}
        return os.environ | small | dict(extra or {})

    def accord(self, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        return subprocess.run(
            (sys.executable, "-m", "cli.main", *arguments), cwd=self.path, env=self.environment(extra), check=False,
            capture_output=True, text=True, timeout=180,
        )  # fmt: skip

    def accord_json(self, *arguments: str, **extra: str) -> tuple[int, dict[str, Any]]:
        """Run one command with `--json`; its exit code and its document."""
        done = self.accord(*arguments, "--json", **extra)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    def start(self, *arguments: str, **extra: str) -> subprocess.Popen[str]:
        """Start one command and let it run."""
        return subprocess.Popen(
            (sys.executable, "-m", "cli.main", *arguments), cwd=self.path, env=self.environment(extra),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def run_file(self) -> dict[str, Any]:
        """What the running stack says about itself; empty when none runs."""
        try:
            content: dict[str, Any] = json.loads((self.data / "run.json").read_text())
        except FileNotFoundError:
            return {}
        return content

    def remember_ports(self) -> None:
        """Make the stack of this folder prefer ports far from those of a person's own stack."""
        self.data.mkdir(mode=0o711)
        (self.data / "stack.json").write_text(json.dumps({"ports": scattered_ports()}))


def wait_until(true: Callable[[], bool], limit_s: float = 60.0) -> None:
    """Wait for something to become true.

    Raises:
        AssertionError: it did not in time.
    """
    limit = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < limit, "it did not happen in time"
        time.sleep(0.05)
