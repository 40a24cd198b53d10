"""Creates `.venv` from the development lock: ``python3 devstack/environment.py``, called by every `make` target.

Standard library only, because it runs before anything is installed. What is installed is recorded as a checksum
of the lock, so that the next call does nothing, and a changed lock brings the environment up to date.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT))  # run as a script, before anything is installed

from devstack.report import run_told  # noqa: E402 - found through the line above

ENVIRONMENT = CHECKOUT / ".venv"
STAMP = ENVIRONMENT / "accord.stamp"
INPUTS = ("requirements-dev.lock", "pyproject.toml")
OLDEST_PYTHON = (3, 11)
PIP_LIMIT_S = 3600.0


def main() -> int:
    """Bring the environment up to date; 0 when it is."""
    if sys.version_info < OLDEST_PYTHON:
        sys.stderr.write("Accord needs Python 3.11 or newer; name one with: make PYTHON=python3.12\n")
        return 1
    with Path(__file__).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two `make` at once: the second one waits, then finds it done
        if not is_current():
            sys.stderr.write(" · environment    .venv, from requirements-dev.lock\n")
            return _install()
    return 0


def checksum() -> str:
    """What the environment was made from, and by which interpreter."""
    content = b"".join((CHECKOUT / name).read_bytes() for name in INPUTS)
    return hashlib.sha256(content + str(sys.version_info[:2]).encode()).hexdigest()


def is_current() -> bool:
    """True when `.venv` was completely installed from the lock as it is now, and still runs."""
    try:
        return STAMP.read_text() == checksum() and os.access(python(), os.X_OK)
    except OSError:
        return False


def python() -> Path:
    """The environment's interpreter."""
    return ENVIRONMENT / "bin" / "python"


def _install() -> int:
    STAMP.unlink(missing_ok=True)
    venv.EnvBuilder(with_pip=True, clear=not _runs()).create(ENVIRONMENT)
    lock = CHECKOUT / "requirements-dev.lock"
    locked = _pip("packages", "--require-hashes", "-r", str(lock))
    # The project itself, from the checkout; its build backend comes from the lock, nothing is fetched here.
    if locked and _pip("Accord itself", "--no-deps", "--no-build-isolation", "--no-index", "-e", str(CHECKOUT)):
        STAMP.write_text(checksum())
        return 0
    sys.stderr.write("The environment is not complete\n  -> is a package registry in reach? Then the same again\n")
    return 1


def _runs() -> bool:
    """True when an older environment is there and its interpreter is the one that we would use."""
    if not python().exists():
        return False
    question = (str(python()), "-c", "import sys, pip; print(sys.version_info[:2])")
    answer = subprocess.run(question, check=False, capture_output=True, text=True)
    return answer.stdout.strip() == str(sys.version_info[:2])


def _pip(title: str, *arguments: str) -> bool:
    """Install, and tell how far it is; pip's own last words only where it fails."""
    command = (str(python()), "-m", "pip", "--disable-pip-version-check", "install", "--progress-bar=off", *arguments)
    ended = run_told(command, _say, title, PIP_LIMIT_S, _how_far)
    if ended.code != 0:
        _say("    " + "\n    ".join(ended.tail))
    return ended.code == 0


def _how_far(printed: Sequence[str]) -> str:
    """How many packages pip has come to, or that it is installing them."""
    if any(line.startswith("Installing") for line in printed):
        return "installing  "
    return f"{sum(line.startswith('Collecting') for line in printed)} fetched  "


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
