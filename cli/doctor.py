"""`accord doctor`: check every part that exists, and print the fix for what is wrong."""

from __future__ import annotations

import asyncio
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import typer

from cli.config import unknown_variables
from cli.output import AsJson, ExitCode, document, exit_code_of, program, speaker
from devstack import sources
from devstack.children import recorded_process
from devstack.folder import StackFolder
from devstack.ports import PREFERRED
from devstack.report import StackError, silent
from devstack.temporal import fetch_json
from devstack.versions import TEMPORAL_VERSION
from settings import SECRETS_FILE, Settings, load_settings, load_temporal, names_temporal

if TYPE_CHECKING:
    from temporalio.client import Client

DISTRIBUTION = "accord-oms"
CHECKOUT = Path(__file__).parents[1]
ROOMS = ("domain", "store", "providers", "activities", "workflows", "api", "cli", "devstack")
LEAST_FREE_BYTES = 2 * 1024**3
CLOCK_LIMIT_MS = 1000


class Verdict(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"  # works, but somebody should look
    FAIL = "FAIL"


@dataclass(frozen=True)
class Finding:
    """One line of the report, with the command that repairs it."""

    verdict: Verdict
    text: str
    fix: str = ""


Check = Callable[[Settings], Iterator[Finding]]


def doctor(as_json: AsJson = False) -> None:
    """Run all checks; exit code 1 when one fails."""
    settings = load_settings()
    findings = [finding for check in CHECKS for finding in run_check(check, settings)]
    say = speaker(as_json)
    for finding in findings:
        say(f" {finding.verdict.value:<5} {finding.text}")
        if finding.fix:
            say(f"       -> {finding.fix}")
    failures = sum(finding.verdict is Verdict.FAIL for finding in findings)
    warnings = sum(finding.verdict is Verdict.WARN for finding in findings)
    say(f" {failures} problems, {warnings} warnings")
    if as_json:
        content = {"problems": failures, "warnings": warnings, "findings": [asdict(finding) for finding in findings]}
        document(content)
    if failures:
        raise typer.Exit(ExitCode.FAILED)


def run_check(check: Check, settings: Settings) -> list[Finding]:
    """Run one check; what it cannot reach is a finding, not an end of the report."""
    try:
        return list(check(settings))
    except Exception as problem:
        if exit_code_of(problem) is None:
            raise
        fix = problem.fix if isinstance(problem, StackError) else f"{program()} status, then {program()} up"
        what = check.__name__.removeprefix("_check_").replace("_", " ")
        return [Finding(Verdict.FAIL, f"{what}: {str(problem).splitlines()[0]}", fix)]


def _check_environment(settings: Settings) -> Iterator[Finding]:
    strangers = [room for room in ROOMS if not _is_ours(room)]
    version = ".".join(map(str, sys.version_info[:3]))
    if strangers:
        yield Finding(
            Verdict.FAIL,
            f"another package is imported as {', '.join(strangers)}",
            "install Accord alone in its own environment: make up does",
        )
    else:
        yield Finding(Verdict.OK, f"Python {version}, accord {_version()}, alone in its environment")
    unknown = unknown_variables()
    if unknown:
        yield Finding(Verdict.WARN, f"no setting is called {', '.join(unknown)}", f"{program()} config show")
    yield from _lock_findings()


def _lock_findings() -> Iterator[Finding]:
    """Compare what is installed with the lock, in a checkout."""
    lock = CHECKOUT / "requirements.lock"
    if not lock.exists():
        return
    different = [
        f"{name} {installed or 'is missing'} (lock: {pinned})"
        for name, pinned in locked_versions(lock.read_text())
        if (installed := _installed(name)) != pinned and installed is not None
    ]
    if different:
        yield Finding(Verdict.WARN, "not as locked: " + "; ".join(different[:5]), "rm -r .venv && make up")
    else:
        yield Finding(Verdict.OK, "packages are those of requirements.lock")


def locked_versions(lock: str) -> Iterator[tuple[str, str]]:
    """Name and version of every pin in a lock file."""
    for line in lock.splitlines():
        name, found, rest = line.partition("==")
        if found and not line.startswith((" ", "#")):
            yield name.strip(), rest.split()[0].rstrip("\\;")


def _check_temporal_binaries(settings: Settings) -> Iterator[Finding]:
    if names_temporal():
        yield Finding(Verdict.OK, f"Temporal is named by the environment: {load_temporal(settings)['target_host']}")
        return
    source = sources.find_temporal(settings.temporal_server, silent, may_fetch=False)
    yield Finding(Verdict.OK, f"Temporal {TEMPORAL_VERSION} {source.describe()}")


def _check_stack(settings: Settings) -> Iterator[Finding]:
    folder = StackFolder(settings.data_dir)
    run = folder.read_run()
    if folder.root.exists() and folder.taken():
        yield Finding(Verdict.OK, f"stack in {folder.root}: {run.get('phase', 'starting')}")
        children = run.get("children", {})
        dead = [name for name, record in children.items() if recorded_process(record) is None]
        for name in dead:
            yield Finding(Verdict.FAIL, f"{name} does not run", f"{program()} logs {name}")
        for name, port in run.get("ports", {}).items():
            if port != PREFERRED[name]:
                yield Finding(Verdict.OK, f"{name} moved from port {PREFERRED[name]} to {port}")
        return
    yield Finding(Verdict.WARN, f"no stack runs in {folder.root}", f"{program()} up")


def _check_secrets(settings: Settings) -> Iterator[Finding]:
    path = settings.data_dir / SECRETS_FILE
    if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        yield Finding(Verdict.FAIL, f"others can read {path}", f"chmod 600 {path}")
    missing = [name for name in ("key_pepper", "vault_keys", "cursor_keys") if getattr(settings, name) is None]
    if missing:
        yield Finding(
            Verdict.FAIL, "not set: " + ", ".join(f"ACCORD_{name.upper()}" for name in missing), f"{program()} up"
        )
    else:
        yield Finding(Verdict.OK, "secrets present")


def _check_database(settings: Settings) -> Iterator[Finding]:
    from cli.setup import newest_revision

    url = settings.dsn.replace("postgresql+psycopg://", "postgresql://", 1)
    began = time.time()
    with psycopg.connect(url, connect_timeout=5) as connection:
        row = connection.execute(
            "SELECT current_setting('server_version'), extract(epoch FROM clock_timestamp())::float8,"
            " to_regclass('alembic_version') IS NOT NULL"
        ).fetchone()
        version, clock, migrated = row or ("?", 0.0, False)
        offset_ms = int((clock - (began + time.time()) / 2) * 1000)
        found = connection.execute("SELECT version_num FROM alembic_version").fetchone() if migrated else None
    revision = found[0] if found else "none"
    if revision != newest_revision():
        yield Finding(
            Verdict.FAIL,
            f"PostgreSQL {version}: revision {revision}, needed {newest_revision()}",
            f"{program()} db upgrade",
        )
        return
    yield Finding(Verdict.OK, f"PostgreSQL {version}, revision {revision} is the newest, clock offset {offset_ms} ms")
    if abs(offset_ms) > CLOCK_LIMIT_MS:
        yield Finding(Verdict.WARN, f"clocks differ by {offset_ms} ms", "synchronize the clock of this machine")


def _check_temporal(settings: Settings) -> Iterator[Finding]:
    yield from asyncio.run(_temporal_findings(settings))


async def _temporal_findings(settings: Settings) -> list[Finding]:
    from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, GetSystemInfoRequest
    from temporalio.client import Client
    from temporalio.service import RPCError

    from cli.setup import OURS, are_readable, registered_search_attributes, wrong_types

    client = await Client.connect(**load_temporal(settings))
    info = await client.workflow_service.get_system_info(GetSystemInfoRequest())
    try:
        found = await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=client.namespace))
    except RPCError:
        return [Finding(Verdict.FAIL, f"namespace {client.namespace} does not exist", f"{program()} init")]
    days = found.config.workflow_execution_retention_ttl.ToTimedelta().days
    findings = [
        Finding(Verdict.OK, f"Temporal {info.server_version}, namespace {client.namespace}, retention {days} d")
    ]
    existing = await registered_search_attributes(client)
    for sentence in wrong_types(existing):
        findings.append(Finding(Verdict.FAIL, sentence, f"{program()} init --recreate {sentence.split()[2]}"))
    missing = sorted(set(OURS) - set(existing))
    if missing:
        findings.append(Finding(Verdict.FAIL, f"search attributes missing: {', '.join(missing)}", f"{program()} init"))
    elif not await are_readable(client):
        findings.append(Finding(Verdict.FAIL, "search attributes cannot be read yet", f"{program()} init"))
    else:
        findings.append(Finding(Verdict.OK, f"{len(OURS)} search attributes present and readable"))
    return [*findings, await _poller_finding(client)]


async def _poller_finding(client: Client) -> Finding:
    from temporalio.api.enums.v1 import TaskQueueType
    from temporalio.api.taskqueue.v1 import TaskQueue
    from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest

    from devstack.supervisor import QUEUE

    answer = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace,
            task_queue=TaskQueue(name=QUEUE),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        )
    )
    pollers = {poller.identity for poller in answer.pollers}
    if not pollers:
        return Finding(Verdict.FAIL, f'no worker polls "{QUEUE}"', f"{program()} worker, or {program()} up")
    return Finding(Verdict.OK, f'{len(pollers)} worker processes poll "{QUEUE}"')


def _check_api(settings: Settings) -> Iterator[Finding]:
    url = f"http://{settings.api_host}:{settings.api_port}/version"
    answer = fetch_json(url)
    if answer is None:
        yield Finding(Verdict.FAIL, f"the API does not answer at {url}", f"{program()} logs api, or {program()} up")
    else:
        yield Finding(Verdict.OK, f"API answers at {settings.api_host}:{settings.api_port}")


def _check_disk(settings: Settings) -> Iterator[Finding]:
    folder = settings.data_dir if settings.data_dir.exists() else settings.data_dir.parent
    free = shutil.disk_usage(folder).free
    verdict = Verdict.OK if free >= LEAST_FREE_BYTES else Verdict.WARN
    fix = "" if verdict is Verdict.OK else "free some space: PostgreSQL stops when the disk is full"
    yield Finding(verdict, f"{free / 1024**3:.0f} GiB free at {folder}", fix)


def _is_ours(room: str) -> bool:
    spec = util.find_spec(room)
    return spec is not None and spec.origin is not None and Path(spec.origin).parent.parent == CHECKOUT


def _version() -> str:
    return _installed(DISTRIBUTION) or "from the checkout"


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


CHECKS: tuple[Check, ...] = (
    _check_environment,
    _check_temporal_binaries,
    _check_stack,
    _check_secrets,
    _check_database,
    _check_temporal,
    _check_api,
    _check_disk,
)
