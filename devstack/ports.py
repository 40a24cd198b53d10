"""Which ports the stack listens on: the usual ones where they are free, else the next free ones."""

from __future__ import annotations

import random
import socket
from collections.abc import Mapping
from contextlib import ExitStack, suppress

import psutil

from devstack.report import StackError

LOOPBACK = "127.0.0.1"
TRIES = 200

PREFERRED = {
    "api": 8000,
    "ui": 8233,
    "postgres": 15432,
    "temporal": 7233,
    "temporal_http": 7243,
    "frontend_membership": 6933,
    "history": 7234,
    "history_membership": 6934,
    "matching": 7235,
    "matching_membership": 6935,
    "system_worker": 7239,
    "system_worker_membership": 6939,
}


def choose_ports(preferred: Mapping[str, int] | None = None) -> dict[str, int]:
    """Choose a free port per listener, all of them together so that no two get the same.

    Args:
        preferred: listener -> port to try first; the next free one is taken where it is in use.

    Raises:
        StackError: no free port within reach of a preferred one.
    """
    wanted = dict(PREFERRED if preferred is None else preferred)
    chosen: dict[str, int] = {}
    with ExitStack() as held:
        for name, first in wanted.items():
            listener = held.enter_context(_first_free(name, first, taken=set(wanted.values()) - {first}))
            chosen[name] = listener.getsockname()[1]
    return chosen


def scattered_ports() -> dict[str, int]:
    """Ports for a test run: a random region below the range from which the system takes outgoing ports."""
    start = random.randrange(20_000, 31_000)  # noqa: S311 - spreads parallel runs, guards nothing
    return choose_ports({name: start + offset for offset, name in enumerate(PREFERRED)})


def holder_of(port: int) -> str:
    """Who listens on this loopback port, for people; not every system tells about programs of others."""
    with suppress(psutil.Error):
        for connection in psutil.net_connections(kind="inet"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return "another program"


def is_free(port: int) -> bool:
    """True when nobody listens on this loopback port."""
    try:
        _bind(port).close()
    except OSError:
        return False
    return True


def _first_free(name: str, first: int, taken: set[int]) -> socket.socket:
    for port in range(first, min(first + TRIES, 65_536)):
        if port in taken:
            continue
        try:
            return _bind(port)
        except OSError:
            continue
    raise StackError(f"No free port for {name} between {first} and {first + TRIES}", "stop what listens there")


def _bind(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # Servers bind with this option too: without it a port in TIME_WAIT would look taken.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, port))
        listener.listen(1)
    except OSError:
        listener.close()
        raise
    return listener
