"""The Temporal server on our PostgreSQL, and its UI: schema, environment, readiness."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from devstack.children import Child, ChildSpec
from devstack.ports import LOOPBACK
from devstack.report import StackError

SHARDS = 8
PLUGIN = "postgres12_pgx"
CONFIG = Path(__file__).with_name("config")
SCHEMAS = {"temporal": "postgresql/v12/temporal", "temporal_visibility": "postgresql/v12/visibility"}
READY_LIMIT_S = 60.0
PORT_VARIABLES = {
    "temporal": "FRONTEND_GRPC_PORT",
    "temporal_http": "FRONTEND_HTTP_PORT",
    "frontend_membership": "FRONTEND_MEMBERSHIP_PORT",
    "history": "HISTORY_GRPC_PORT",
    "history_membership": "HISTORY_MEMBERSHIP_PORT",
    "matching": "MATCHING_GRPC_PORT",
    "matching_membership": "MATCHING_MEMBERSHIP_PORT",
    "system_worker": "WORKER_GRPC_PORT",
    "system_worker_membership": "WORKER_MEMBERSHIP_PORT",
}


@dataclass(frozen=True)
class TemporalDatabase:
    """Where Temporal keeps its data."""

    port: int
    password: str


def ensure_schema(tool: Path, database: TemporalDatabase) -> None:
    """Set up, or bring up to date, both schemas of the Temporal server; nothing happens where they are current."""
    for name, schema in SCHEMAS.items():
        _sql_tool(tool, database, name, "setup-schema", "-v", "0.0")
        _sql_tool(tool, database, name, "update-schema", "--schema-name", schema)


def server_spec(
    server: Path, ports: Mapping[str, int], database: TemporalDatabase, dynamic_config: Path, log: Path
) -> ChildSpec:
    """The server as a child: its embedded template reads the environment, no configuration file is needed."""
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "DB": PLUGIN,
        "POSTGRES_SEEDS": LOOPBACK,
        "DB_PORT": str(database.port),
        "POSTGRES_USER": "temporal",
        "POSTGRES_PWD": database.password,
        "DBNAME": "temporal",
        "VISIBILITY_DBNAME": "temporal_visibility",
        "NUM_HISTORY_SHARDS": str(SHARDS),
        "BIND_ON_IP": LOOPBACK,
        "TEMPORAL_BROADCAST_ADDRESS": LOOPBACK,
        "SQL_MAX_CONNS": "20",
        "DYNAMIC_CONFIG_FILE_PATH": str(dynamic_config),
        "LOG_LEVEL": "warn",
        **{variable: str(ports[name]) for name, variable in PORT_VARIABLES.items()},
    }
    return ChildSpec(
        name="temporal",
        command=(str(server), "--allow-no-auth", "start"),
        log=log,
        environment=environment,
        stop_limit_s=20.0,
    )


def dev_server_spec(program: Path, ports: Mapping[str, int], data: Path, log: Path) -> ChildSpec:
    """The SDK's dev server as a child: one program with its UI, its data in one file, one history shard."""
    return ChildSpec(
        name="temporal",
        command=(
            *(str(program), "server", "start-dev", "--ip", LOOPBACK, "--port", str(ports["temporal"])),
            *("--http-port", str(ports["temporal_http"]), "--ui-port", str(ports["ui"])),
            *("--db-filename", str(data), "--log-level", "warn"),
            *("--dynamic-config-value", "system.forceSearchAttributesCacheRefreshOnRead=true"),
        ),
        log=log,
        environment={name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        stop_limit_s=20.0,
    )


def ui_spec(ui: Path, ports: Mapping[str, int], folder: Path, log: Path) -> ChildSpec:
    """The UI as a child; it reads its configuration from a folder, which is written here."""
    config = folder / "config"
    config.mkdir(parents=True, exist_ok=True)
    (config / "development.yaml").write_text(
        f"temporalGrpcAddress: {LOOPBACK}:{ports['temporal']}\n"
        f"host: {LOOPBACK}\n"
        f"port: {ports['ui']}\n"
        "enableUi: true\n"
        "defaultNamespace: default\n"
        "disableNewsFetch: true\n"  # a laptop's stack talks to nobody outside
    )
    return ChildSpec(
        name="ui",
        command=(str(ui), "--root", str(folder), "--env", "development", "start"),
        log=log,
        environment={"PATH": os.environ.get("PATH", "")},
        stop_limit_s=5.0,
    )


def wait_frontend(child: Child | None, http_port: int) -> str:
    """Wait until the frontend answers.

    Returns:
        The server's version.

    Raises:
        StackError: it ended, or did not answer in time.
    """
    limit = time.monotonic() + READY_LIMIT_S
    url = f"http://{LOOPBACK}:{http_port}/api/v1/system-info"
    while time.monotonic() < limit and (child is None or child.running()):
        answer = fetch_json(url)
        if answer is not None:
            return str(answer.get("serverVersion", "unknown"))
        time.sleep(0.1)
    lines = child.last_lines(8) if child else []
    raise StackError("The Temporal server did not start:\n    " + "\n    ".join(lines), "accord logs temporal")


def wait_http(child: Child, url: str, limit_s: float, fix: str) -> None:
    """Wait until `url` answers with success.

    Raises:
        StackError: the child ended, or nothing answered in time.
    """
    limit = time.monotonic() + limit_s
    while time.monotonic() < limit and child.running():
        if responds(url):
            return
        time.sleep(0.1)
    lines = "\n    ".join(child.last_lines(12))
    raise StackError(f"{child.spec.name} did not get ready:\n    {lines}", fix)


def responds(url: str) -> bool:
    """True when `url` answers with success."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - http on loopback, built by us
            return bool(200 <= answer.status < 300)
    except (OSError, urllib.error.URLError):
        return False


def fetch_json(url: str) -> dict[str, object] | None:
    """The JSON object at `url`, or None when nothing usable answers."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - http on loopback, built by us
            content = json.load(answer)
    except (OSError, urllib.error.URLError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _sql_tool(tool: Path, database: TemporalDatabase, name: str, *arguments: str) -> None:
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "SQL_PLUGIN": PLUGIN,
        "SQL_HOST": LOOPBACK,
        "SQL_PORT": str(database.port),
        "SQL_USER": "temporal",
        "SQL_PASSWORD": database.password,
        "SQL_DATABASE": name,
    }
    done = subprocess.run(
        (str(tool), *arguments), env=environment, check=False, capture_output=True, text=True, timeout=120
    )
    if done.returncode != 0:
        last = "\n    ".join((done.stdout + done.stderr).splitlines()[-6:])
        raise StackError(f"Temporal's schema step failed on {name}:\n    {last}", "accord doctor")
