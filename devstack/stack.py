"""The stack of one folder: PostgreSQL, Temporal, its UI, our own processes; started and stopped in order."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devstack import postgres, temporal
from devstack.children import Child, ChildSpec, last_lines, process_record
from devstack.folder import StackFolder
from devstack.generated import GeneratedSecrets, load_or_generate
from devstack.ports import LOOPBACK, PREFERRED, choose_ports
from devstack.report import Say, StackError, step
from devstack.sources import SourceKind, TemporalSource, find_temporal
from devstack.versions import TEMPORAL_VERSION, UI_VERSION

CHECKOUT = Path(__file__).parents[1]
STOP_ORDER = ("api", "worker", "ui", "temporal", "postgres")
HURRY_S = 2.0
STEP_LIMIT_S = 300.0
DEVELOPMENT_CONFIG = temporal.CONFIG / "development.yaml"
TEST_CONFIG = temporal.CONFIG / "test.yaml"
ENGINES = {
    "server": "the Temporal server with its data in PostgreSQL here",
    "dev server": "the SDK's dev server with a data file of its own",
    "elsewhere": "a Temporal server that TEMPORAL_ADDRESS or a profile names",
}
_WAYS_BACK = {
    "server": "unset ACCORD_TEMPORAL_SERVER and TEMPORAL_ADDRESS, then accord temporal install",
    "dev server": "ACCORD_TEMPORAL_SERVER=PATH of that dev server, and unset TEMPORAL_ADDRESS",
    "elsewhere": "name that server again",
}


@dataclass(frozen=True)
class StackOptions:
    """What to start, and what exists already.

    Attributes:
        own_database: our data is in a database that a setting names; none is created.
        own_temporal: a setting names somebody else's Temporal; none is started.
        temporal_server: program to use instead of the cached one.
        may_fetch: build or download Temporal where it is missing; tests never do.
        preferred_ports: listener -> port to try first.
    """

    folder: Path
    own_database: bool = False
    own_temporal: bool = False
    temporal_server: Path | None = None
    may_fetch: bool = True
    ui: bool = True
    dynamic_config: Path = DEVELOPMENT_CONFIG
    preferred_ports: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Stopped:
    """How one child ended: by itself, or killed when its limit had passed."""

    name: str
    seconds: float
    by_itself: bool


class Stack:
    """Owns the children. Whoever creates it holds the folder's lock until `stop`."""

    def __init__(self, options: StackOptions, say: Say) -> None:
        self.options = options
        self.folder = StackFolder(options.folder)
        self.children: dict[str, Child] = {}
        self.ports: dict[str, int] = {}
        self.source = TemporalSource(SourceKind.ELSEWHERE)
        self._secrets = GeneratedSecrets({}, {}, {})
        self._say = say
        self._run: dict[str, Any] = {}

    # -- start ---------------------------------------------------------------------------------------------

    def start_engines(self) -> None:
        """Bring up PostgreSQL, Temporal and the UI, each ready before the next one starts.

        Raises:
            StackError: the folder is taken, or a step failed.
        """
        self.folder.prepare()
        if not self.folder.try_lock():
            raise StackError(f"A stack is running in {self.folder.root}", "accord status, or accord down")
        for name in self.folder.end_leftovers():
            self._say(f" · {name} was left by a stack that died: ended")
        self._prepare()
        if self._needs_postgres():
            self._start_postgres()
        if not self.options.own_temporal:
            self._start_temporal()
        self._record_engine()
        if self.options.ui and (self.source.ui or self.source.kind is SourceKind.DEV_SERVER):
            self._start_ui()

    def _prepare(self) -> None:
        marker = self.folder.read_marker()
        began_with = marker.get("workflows", {}).get(self._orders_in)
        if not self.options.own_temporal:
            self.source = find_temporal(
                self.options.temporal_server,
                self._say,
                may_fetch=self.options.may_fetch,
                may_build=began_with != SourceKind.DEV_SERVER,
            )
        _refuse_older_temporal(marker, self.source)
        _refuse_other_engine(began_with, self.source.engine)
        self.ports = choose_ports({**PREFERRED, **marker.get("ports", {}), **self.options.preferred_ports})
        self._secrets = load_or_generate(self.folder.secrets)
        made_with = {
            "temporal": temporal_version(self.source) or marker.get("temporal", ""),
            "shards": temporal.SHARDS,
        }
        self.folder.write_marker({**marker, **made_with, "ports": self.ports})
        self._run = {
            "phase": "starting",
            "supervisor": process_record(os.getpid()),
            "api_host": LOOPBACK,
            "api_port": self.ports["api"],
            "ports": self.ports,
            "temporal_source": self.source.kind.value,
            "children": {},
        }
        self.tell("starting")

    @property
    def _orders_in(self) -> str:
        """Which orders the engine of this start will know: those of our database, or of one that a setting names."""
        return "named database" if self.options.own_database else "own database"

    def _record_engine(self) -> None:
        """From now on these orders are on this engine, and no other one may have them."""
        marker = self.folder.read_marker()
        workflows = {**marker.get("workflows", {}), self._orders_in: self.source.engine}
        self.folder.write_marker({**marker, "workflows": workflows})

    def _needs_postgres(self) -> bool:
        temporal_needs_it = not self.options.own_temporal and self.source.kind is not SourceKind.DEV_SERVER
        return temporal_needs_it or not self.options.own_database

    def _start_postgres(self) -> None:
        with step(self._say, "PostgreSQL") as line:
            line.version = postgres.wheel_version()
            place = postgres.find_place(self.folder.root)
            self.folder.write_marker(
                {**self.folder.read_marker(), "elsewhere": str(place.elsewhere) if place.elsewhere else None}
            )
            postgres.initialize(place, self._secrets.database["postgres"])
            postgres.end_leftover_server(place)
            spec = postgres.server_spec(place, self.ports["postgres"], self.folder.logs / "postgres.log")
            child = self.start_child(spec)
            postgres.wait_ready(child, self.admin_url("postgres"))
            postgres.ensure_databases(self.admin_url("postgres"), self._secrets.database)
            line.detail = f"{LOOPBACK}:{self.ports['postgres']:<7} data {_short(place.data)}"
            if not self.options.own_database:
                self._run["database_url"] = self.database_url()
                self.tell("starting")

    def _start_temporal(self) -> None:
        with step(self._say, "Temporal") as line:
            spec = self._temporal_spec()
            child = self.start_child(spec)
            line.version = temporal.wait_frontend(child, self.ports["temporal_http"])
            line.detail = f"{self.temporal_address:<21} {self.source.describe()}"
            if self.source.kind is not SourceKind.DEV_SERVER:
                line.detail += f", {temporal.SHARDS} shards"
        self._run["temporal_address"] = self.temporal_address
        self.tell("starting")

    def _temporal_spec(self) -> ChildSpec:
        log = self.folder.logs / "temporal.log"
        server, tool = self.source.server, self.source.sql_tool
        if server is None:
            raise StackError("No Temporal server was found", "accord temporal install")
        if self.source.kind is SourceKind.DEV_SERVER or tool is None:
            return temporal.dev_server_spec(server, self.ports, self.folder.root / "temporal.db", log)
        database = temporal.TemporalDatabase(self.ports["postgres"], self._secrets.database["temporal"])
        temporal.ensure_schema(tool, database)
        return temporal.server_spec(server, self.ports, database, self.options.dynamic_config, log)

    def _start_ui(self) -> None:
        with step(self._say, "Temporal UI") as line:
            line.detail = f"{LOOPBACK}:{self.ports['ui']}"
            if self.source.ui is not None:  # the dev server brings its own
                line.version = UI_VERSION
                log = self.folder.logs / "ui.log"
                child = self.start_child(temporal.ui_spec(self.source.ui, self.ports, self.folder.root / "ui", log))
                temporal.wait_http(child, f"http://{LOOPBACK}:{self.ports['ui']}/healthz", 20, "accord logs ui")

    # -- our own processes ---------------------------------------------------------------------------------

    def run_step(self, *arguments: str, extra: Mapping[str, str] | None = None) -> str:
        """Run one `accord` command to its end.

        Returns:
            What it printed on standard output.

        Raises:
            StackError: it failed; shows the end of what it said.
        """
        command = (sys.executable, "-m", "cli.main", *arguments)
        done = subprocess.run(
            command,
            env=self.environment(extra),
            check=False,
            capture_output=True,
            text=True,
            timeout=STEP_LIMIT_S,
        )
        with (self.folder.logs / "steps.log").open("a") as log:
            log.write(f"$ accord {' '.join(arguments)}\n{done.stderr}{done.stdout}\n")
        if done.returncode != 0:
            last = "\n    ".join((done.stdout + done.stderr).splitlines()[-10:])
            raise StackError(f"accord {' '.join(arguments)} failed:\n    {last}", "accord doctor")
        return done.stdout

    def process_spec(
        self, name: str, arguments: tuple[str, ...], stop_limit_s: float, extra: Mapping[str, str] | None = None
    ) -> ChildSpec:
        """One of our own processes as a child."""
        return ChildSpec(
            name=name,
            command=(sys.executable, "-m", "cli.main", *arguments),
            log=self.folder.logs / f"{name}.log",
            environment=self.environment(extra),
            stop_limit_s=stop_limit_s,
        )

    def start_child(self, spec: ChildSpec) -> Child:
        """Start a child and record who it is."""
        child = self.children.get(spec.name) or Child(spec)
        child.start()
        self.children[spec.name] = child
        self._run.setdefault("children", {})[spec.name] = child.record()
        self.tell(self._run["phase"])
        return child

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """Environment of our own processes: the caller's, with what this stack decides."""
        inherited = os.environ.get("PYTHONPATH")
        ours = {
            "PYTHONPATH": os.pathsep.join(filter(None, (str(CHECKOUT), inherited))),
            "PYTHONUNBUFFERED": "1",
            "ACCORD_DATA_DIR": str(self.folder.root),
            "ACCORD_API_HOST": LOOPBACK,
            "ACCORD_API_PORT": str(self.ports["api"]),
        }
        if not self.options.own_temporal:
            ours["TEMPORAL_ADDRESS"] = self.temporal_address
        return os.environ | ours | dict(extra or {})

    # -- addresses -----------------------------------------------------------------------------------------

    @property
    def temporal_address(self) -> str:
        """Where the Temporal frontend of this stack listens."""
        return f"{LOOPBACK}:{self.ports['temporal']}"

    @property
    def api_url(self) -> str:
        """Where the API of this stack listens."""
        return f"http://{LOOPBACK}:{self.ports['api']}"

    @property
    def keys(self) -> Mapping[str, str]:
        """Role -> API key in plain text."""
        return self._secrets.keys

    def admin_url(self, database: str) -> str:
        """Address for the superuser of the embedded PostgreSQL."""
        return postgres.url_of("postgres", self._secrets.database["postgres"], self.ports["postgres"], database)

    def database_url(self, database: str = "accord") -> str:
        """Address of one of our databases, as SQLAlchemy writes it."""
        url = postgres.url_of("accord", self._secrets.database["accord"], self.ports["postgres"], database)
        return url.replace("postgresql://", "postgresql+psycopg://", 1)

    # -- state and end -------------------------------------------------------------------------------------

    def tell(self, phase: str) -> None:
        """Write what every command may know about the running stack."""
        self._run["phase"] = phase
        self.folder.write_run(self._run)

    def stop(self, hurry: Callable[[], bool] = lambda: False) -> tuple[Stopped, ...]:
        """Stop all children in order, then give the folder back.

        Args:
            hurry: asked while waiting; True shortens the limits.

        Returns:
            How each of them ended.
        """
        stopped = tuple(_stop(self.children[name], hurry) for name in sorted(self.children, key=_stop_position))
        self.folder.release()
        return stopped

    def log_end(self, name: str, count: int = 15) -> list[str]:
        """The last lines of one child's log."""
        return last_lines(self.folder.logs / f"{name}.log", count)


def _stop(child: Child, hurry: Callable[[], bool]) -> Stopped:
    began = time.monotonic()
    child.signal(child.spec.stop_signal)
    while child.running() and time.monotonic() - began < child.spec.stop_limit_s and not hurry():
        time.sleep(0.05)
    by_itself = child.wait_for_end(HURRY_S if hurry() else 0.1)
    return Stopped(child.spec.name, time.monotonic() - began, by_itself)


def temporal_version(source: TemporalSource) -> str:
    """Version that the data of this folder is made with; empty when Temporal is somebody else's."""
    return "" if source.kind is SourceKind.ELSEWHERE else TEMPORAL_VERSION


def _refuse_older_temporal(marker: Mapping[str, Any], source: TemporalSource) -> None:
    """Data that a newer Temporal has written is not given to an older one."""
    found, ours = marker.get("temporal") or "", temporal_version(source)
    if found and ours and _numbers(found) > _numbers(ours):
        raise StackError(
            f"This folder was used by Temporal {found}, this version of Accord has {ours}",
            "use the newer Accord again, or accord down --wipe",
        )


def _refuse_other_engine(began_with: str | None, now: str) -> None:
    """Orders in flight are known to the engine that they began with: another one would never end them."""
    if began_with in (None, now):
        return
    raise StackError(
        f"The orders of this folder are on {ENGINES[began_with]}; now they would be on {ENGINES[now]}, "
        "which does not know those in flight",
        f"{_WAYS_BACK[began_with]}; or another folder: ACCORD_DATA_DIR=...; or start over: accord down --wipe",
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _stop_position(name: str) -> int:
    return STOP_ORDER.index(name) if name in STOP_ORDER else 0


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
