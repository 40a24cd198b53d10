"""Brings the whole stack up, keeps it up, and takes it down in order: what `accord up` is."""

from __future__ import annotations

import json
import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType

from devstack import temporal
from devstack.children import rotate
from devstack.ports import LOOPBACK
from devstack.report import Say, StackError, step
from devstack.stack import Stack

RESTARTS = 5
WINDOW_S = 60.0
FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 8.0
WATCH_EVERY_S = 0.2
ROTATE_EVERY_S = 60.0
API_LIMIT_S = 60.0
POLLER_LIMIT_S = 60.0
QUEUE = "orders"


class StopRequested(BaseException):
    """Somebody asked to stop while the stack was still coming up."""


@dataclass
class RestartBudget:
    """How often one child may die before the whole stack is stopped: five times in a minute."""

    deaths: deque[float] = field(default_factory=deque)

    def delay_after_death(self, now_s: float) -> float | None:
        """Seconds to wait before the next start; None when it has died too often."""
        while self.deaths and now_s - self.deaths[0] > WINDOW_S:
            self.deaths.popleft()
        self.deaths.append(now_s)
        if len(self.deaths) > RESTARTS:
            return None
        return min(FIRST_DELAY_S * 2.0 ** (len(self.deaths) - 1), LONGEST_DELAY_S)


class Supervisor:
    """Owns one stack from the first step to the last."""

    def __init__(self, stack: Stack, say: Say, *, demo: bool, grace_s: float) -> None:
        self._stack = stack
        self._say = say
        self._demo = demo
        self._grace_s = grace_s
        self._stops = 0
        self._starting = True
        self._budgets: dict[str, RestartBudget] = {}
        self._due: dict[str, float] = {}

    def run(self, when_ready: Callable[[], None]) -> int:
        """Start, watch until asked to stop, stop.

        Args:
            when_ready: called once, when everything answers.

        Returns:
            Exit code: 0 after an orderly end, 1 when a child kept dying.

        Raises:
            StackError: a step of the start failed; everything started before has been stopped.
        """
        before = {number: signal.signal(number, self._on_signal) for number in _STOP_SIGNALS}
        try:
            self._bring_up()
            self._starting = False
            when_ready()
            broken = self._watch()
        except StopRequested:
            broken = None
        finally:
            self._starting = False
            self._stop()
            for number, handler in before.items():
                signal.signal(number, handler)
        if broken is None:
            return 0
        self._say(f"{broken} died {RESTARTS + 1} times within a minute. The last lines of its log:")
        for line in self._stack.log_end(broken):
            self._say(f"    {line}")
        return 1

    # -- up ------------------------------------------------------------------------------------------------

    def _bring_up(self) -> None:
        self._stack.start_engines()
        self._set_up()
        if self._demo:
            self._load_demo_data()
        with step(self._say, "processes") as line:
            worker = self._stack.process_spec("worker", ("worker",), self._grace_s + 10)
            api = self._stack.process_spec("api", ("api",), 15.0)
            self._stack.start_child(worker)
            child = self._stack.start_child(api)
            temporal.wait_http(child, f"{self._stack.api_url}/healthz", API_LIMIT_S, "accord logs api")
            self._wait_for_poller()
            line.detail = f'worker polls "{QUEUE}", API answers at {LOOPBACK}:{self._stack.ports["api"]}'
        self._stack.tell("ready")

    def _set_up(self) -> None:
        with step(self._say, "set-up") as line:
            done = json.loads(self._stack.run_step("init", "--json"))
            line.detail = (
                f"database at revision {done['revision']}; namespace {done['namespace']}, "
                f"{done['search_attributes']} search attributes"
            )

    def _load_demo_data(self) -> None:
        """Network, items and stock for the demo, at the first start of this folder only."""
        marker = self._stack.folder.read_marker()
        if marker.get("demo_data"):
            return
        with step(self._say, "demo data") as line:
            new = json.loads(self._stack.run_step("demo", "seed", "--json"))
            line.detail = (
                f"{new['nodes']} nodes, {new['zones']} zones, {new['items']} items in stock (first start only)"
            )
        self._stack.folder.write_marker({**marker, "demo_data": True})

    def _wait_for_poller(self) -> None:
        """Wait until the worker asks for work; cannot be seen from here on somebody else's Temporal."""
        if self._stack.options.own_temporal:
            return
        namespace = self._stack.environment().get("TEMPORAL_NAMESPACE", "default")
        port = self._stack.ports["temporal_http"]
        url = f"http://{LOOPBACK}:{port}/api/v1/namespaces/{namespace}/task-queues/{QUEUE}"
        worker = self._stack.children["worker"]
        limit = time.monotonic() + POLLER_LIMIT_S
        while time.monotonic() < limit and worker.running():
            if (temporal.fetch_json(url) or {}).get("pollers"):
                return
            time.sleep(0.1)
        lines = "\n    ".join(worker.last_lines(12))
        raise StackError(f"The worker did not start polling:\n    {lines}", "accord logs worker")

    # -- watch ---------------------------------------------------------------------------------------------

    def _watch(self) -> str | None:
        """Restart what dies, until asked to stop.

        Returns:
            The child that died too often, or None after a request to stop.
        """
        rotate_at = time.monotonic() + ROTATE_EVERY_S
        while not self._stops:
            broken = self._look_once(time.monotonic())
            if broken is not None:
                return broken
            if time.monotonic() >= rotate_at:
                rotate_at += ROTATE_EVERY_S
                for child in self._stack.children.values():
                    rotate(child.spec.log)
            time.sleep(WATCH_EVERY_S)
        return None

    def _look_once(self, now_s: float) -> str | None:
        for name, child in self._stack.children.items():
            if child.running():
                continue
            if name not in self._due:
                child.end_group()
                delay_s = self._budgets.setdefault(name, RestartBudget()).delay_after_death(now_s)
                if delay_s is None:
                    return name
                self._say(f" ! {name} ended with code {child.exit_code()}: starting it again in {delay_s:.1f} s")
                self._due[name] = now_s + delay_s
            elif now_s >= self._due[name]:
                del self._due[name]
                self._stack.start_child(child.spec)
        return None

    # -- down ----------------------------------------------------------------------------------------------

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stops += 1
        if self._starting:
            self._starting = False  # a second signal only hurries the stop
            raise StopRequested

    def _stop(self) -> None:
        if not self._stack.children:
            self._stack.stop()
            return
        self._say("\n stopping (again to hurry)")
        requested = self._stops
        stopped = self._stack.stop(hurry=lambda: self._stops > max(requested, 1))
        for child in stopped:
            if not child.by_itself:
                self._say(f" ! {child.name} did not end in time and was killed")
        each = ", ".join(f"{child.name} {child.seconds:.1f} s" for child in stopped)
        self._say(f" stopped: {each}; data stays in {self._stack.folder.root}")


_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
