"""A real PostgreSQL and a real Temporal server for one test run, on their own ports, in a temporary folder.

Nothing is downloaded or built here (`accord temporal install` does that before), and a stack that is running on
this machine is never touched. Fault injection happens by killing and restarting what is started here, by its id.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import signal
import tempfile
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from cli.setup import ensure_namespace, ensure_search_attributes, set_up
from devstack.children import Child, ChildSpec
from devstack.ports import choose_ports, scattered_ports
from devstack.postgres import create_database, wait_ready
from devstack.report import silent
from devstack.stack import TEST_CONFIG, Stack, StackOptions
from devstack.temporal import wait_frontend, wait_http
from settings import Settings, load_settings

T = TypeVar("T")
TEMPLATE = "accord_template"


@dataclass(frozen=True)
class Site:
    """One installation of Accord on the test stack: a database, a namespace and simulated providers of its own.

    Attributes:
        keys: role -> API key in plain text, registered in this database.
    """

    stack: RunStack
    name: str
    namespace: str
    database_url: str
    simulated_state: Path
    keys: Mapping[str, str]

    def settings(self, **overrides: object) -> Settings:
        """Settings for code that runs inside the test process."""
        return load_settings(
            **{
                "data_dir": self.stack.root,
                "database_url": self.database_url,
                "simulated_state": self.simulated_state,
                "worker_processes": 1,
                "worker_grace_s": 5,
                **overrides,
            }
        )

    async def connect(self, **options: Any) -> Client:
        """A client of this site's namespace, with the Pydantic converter unless another is given."""
        options.setdefault("data_converter", pydantic_data_converter)
        return await Client.connect(self.stack.temporal_address, namespace=self.namespace, **options)

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """Environment for processes of this site."""
        ours = {
            "ACCORD_DATABASE_URL": self.database_url,
            "ACCORD_SIMULATED_STATE": str(self.simulated_state),
            "ACCORD_WORKER_PROCESSES": "1",
            "ACCORD_WORKER_GRACE_S": "5",
            "TEMPORAL_NAMESPACE": self.namespace,
        }
        return ours | dict(extra or {})

    def start_worker(self, **extra: str) -> RunningProcess:
        """Start a real worker process; it polls when its readiness has been seen (see `RunningProcess`)."""
        return self.stack.start_process("worker", self.environment(extra))

    def start_api(self, *, ready: str = "/healthz", **extra: str) -> RunningProcess:
        """Start a real API process on a free port and wait until it answers at `ready`."""
        port = choose_ports({"api": scattered_ports()["api"]})["api"]
        process = self.stack.start_process("api", self.environment({"ACCORD_API_PORT": str(port), **extra}))
        process.url = f"http://127.0.0.1:{port}"
        wait_http(process.child, process.url + ready, 30, "see its log")
        return process


@dataclass
class RunningProcess:
    """A worker or an API of ours, as a real process."""

    child: Child
    url: str = ""

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.child.pid

    def running(self) -> bool:
        """True while it runs."""
        return self.child.running()

    def kill(self) -> None:
        """SIGKILL to it and to whatever it has started."""
        self.child.kill()

    def stop(self, limit_s: float | None = None) -> bool:
        """SIGTERM; True when it ended by itself within its limit."""
        return self.child.stop(limit_s)

    def restart(self) -> None:
        """Start the same command again, with the same environment."""
        self.child.start()

    def log(self, count: int = 200) -> str:
        """The end of what it printed."""
        return "\n".join(self.child.last_lines(count))


@dataclass
class RunStack:
    """The engines of one test run."""

    stack: Stack
    root: Path
    keys: Mapping[str, str] = field(default_factory=dict)
    _names: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _processes: list[Child] = field(default_factory=list)

    @property
    def temporal_address(self) -> str:
        """Where the Temporal frontend listens."""
        return self.stack.temporal_address

    @property
    def site(self) -> Site:
        """The installation that tests share: database `accord`, namespace `default`."""
        return Site(self, "shared", "default", self.stack.database_url(), self.root / "simulated.db", self.keys)

    def new_database(self, *, migrated: bool = True) -> str:
        """A fresh database, with all tables unless asked for empty; returns its address."""
        name = f"accord_{next(self._names)}"
        with psycopg.connect(self.stack.admin_url("postgres"), autocommit=True) as connection:
            create_database(connection, name, "accord", TEMPLATE if migrated else "template0")
        return self.stack.database_url(name)

    async def new_site(self) -> Site:
        """A fresh installation: its own database, namespace and simulated providers."""
        name = f"site-{next(self._names)}"
        client = await Client.connect(self.temporal_address, namespace=name)
        await ensure_namespace(client, name)
        await ensure_search_attributes(client)
        return Site(self, name, name, self.new_database(), self.root / f"{name}.db", self.keys)

    def start_process(self, command: str, environment: Mapping[str, str]) -> RunningProcess:
        """Start `accord COMMAND` as a real process; it is ended with the stack at the latest."""
        spec = self.stack.process_spec(f"{command}-{next(self._names)}", (command,), 15.0, environment)
        child = Child(spec)
        child.start()
        self._processes.append(child)
        return RunningProcess(child)

    def kill_postgres(self) -> None:
        """SIGKILL to PostgreSQL and all its backends."""
        self.stack.children["postgres"].kill()

    def start_postgres(self) -> None:
        """Start PostgreSQL again and wait until it has recovered."""
        child = self.stack.children["postgres"]
        child.start()
        wait_ready(child, self.stack.admin_url("postgres"))

    def restart_postgres(self) -> None:
        """Orderly restart: open connections are broken."""
        self.stack.children["postgres"].stop()
        self.start_postgres()

    def stop_temporal(self) -> None:
        """End the Temporal server; its data stays."""
        self.stack.children["temporal"].stop()

    def start_temporal(self) -> None:
        """Start the Temporal server again and wait until it answers."""
        child = self.stack.children["temporal"]
        child.start()
        wait_frontend(child, self.stack.ports["temporal_http"])

    def stop(self) -> None:
        """End everything that was started here, and remove the folder."""
        for child in self._processes:
            child.signal(signal.SIGTERM)
        for child in self._processes:
            child.wait_for_end(child.spec.stop_limit_s)
        self.stack.stop()
        elsewhere = self.stack.folder.read_marker().get("elsewhere")
        for folder in filter(None, (elsewhere, self.root)):
            shutil.rmtree(folder, ignore_errors=True)


def start_run_stack(dynamic_config: Path = TEST_CONFIG) -> RunStack:
    """Start the engines and set up the shared site; about four seconds."""
    root = Path(tempfile.mkdtemp(prefix="accord-test-"))
    root.chmod(0o711)  # PostgreSQL may run as another user
    options = StackOptions(
        root,
        temporal_server=load_settings().temporal_server,
        may_fetch=False,
        ui=False,
        dynamic_config=dynamic_config,
        preferred_ports=scattered_ports(),
    )
    run = RunStack(Stack(options, silent), root)
    try:
        run.stack.start_engines()
        run.keys = run.stack.keys
        _outside_loop(_set_up(run))
        with psycopg.connect(run.stack.admin_url("postgres"), autocommit=True) as connection:
            create_database(connection, TEMPLATE, "accord", "accord")
    except BaseException:
        run.stop()
        raise
    return run


async def _set_up(run: RunStack) -> None:
    client = await Client.connect(run.temporal_address)
    await set_up(client, run.stack.database_url(), run.keys, run.site.settings().pepper)


def _outside_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end beside the event loop of the tests, which is not running yet."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


__all__ = ["ChildSpec", "RunStack", "RunningProcess", "Site", "start_run_stack"]
