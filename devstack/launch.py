"""Starts one program so that it ends with its parent, and without root's rights where asked.

Run as a script, never imported: ``python -I -S launch.py PARENT_PID SIGNAL UID GID PROGRAM ARGUMENT...``.
A separate program instead of code between fork and exec, because that code would run in a copy of a process
whose other threads have stopped in the middle of whatever they were doing. It keeps its process id, so the
parent controls the program itself.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1
KEEP = -1


def _become(uid: int, gid: int) -> None:
    if uid == KEEP:
        return
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def _end_with_parent(parent: int, signal_number: int) -> None:
    """Ask the kernel for a signal when the parent ends; elsewhere the next start finds us by our id."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the request was made
        sys.exit(1)


def main() -> None:
    """Change user, bind to the parent, become the program."""
    parent, signal_number, uid, gid = map(int, sys.argv[1:5])
    program = sys.argv[5:]
    # The user changes first: a change of credentials clears the parent-death signal.
    _become(uid, gid)
    _end_with_parent(parent, signal_number)
    os.execvp(program[0], program)  # noqa: S606 - becoming another program is the purpose


if __name__ == "__main__":
    main()
