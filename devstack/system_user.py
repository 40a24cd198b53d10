"""The unprivileged user that runs PostgreSQL when the stack is started by root.

PostgreSQL refuses to run as root. No user is created: an existing one without rights is borrowed. What that
user cannot reach (a checkout below /root, for instance) is placed under `/var/lib/accord` instead.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

from devstack.report import StackError

CANDIDATES = ("accord", "postgres", "nobody")
ROOT_PLACE = Path("/var/lib/accord")


@dataclass(frozen=True)
class SystemUser:
    """An entry of the user database."""

    name: str
    uid: int
    gid: int


def postgres_user() -> SystemUser | None:
    """The user for PostgreSQL; None when we are not root and simply run it ourselves.

    Raises:
        StackError: root, and no unprivileged user exists.
    """
    if os.geteuid() != 0:
        return None
    for name in CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return SystemUser(name, entry.pw_uid, entry.pw_gid)
    raise StackError(
        "PostgreSQL does not run as root, and none of the users accord, postgres, nobody exists",
        "useradd --system accord, or start as another user",
    )


def can_reach(user: SystemUser | None, path: Path) -> bool:
    """True when `user` may pass through the folder, or run the program, at `path`."""
    return _may(user, "x", path)


def can_read(user: SystemUser | None, path: Path) -> bool:
    """True when `user` may read `path`."""
    return _may(user, "r", path)


def _may(user: SystemUser | None, right: str, path: Path) -> bool:
    """Ask the system itself, as that user, rather than compute it from modes."""
    probe = ("/bin/sh", "-c", f'test -{right} "$1"', "sh", str(path))
    if user is None:
        return subprocess.run(probe, check=False, capture_output=True).returncode == 0
    answer = subprocess.run(
        probe, user=user.uid, group=user.gid, extra_groups=(), cwd="/", check=False, capture_output=True
    )
    return answer.returncode == 0
