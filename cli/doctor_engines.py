"""The doctor's look at what is behind the command: database, Temporal, providers, API."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

import psycopg

from cli.findings import Finding, Verdict
from cli.output import program
from devstack.temporal import fetch_json
from settings import Settings, load_temporal

if TYPE_CHECKING:
    from temporalio.client import Client

CLOCK_LIMIT_MS = 1000
PROVIDER_LIMIT_S = 10.0
EXTENSION = "btree_gin"  # what Temporal's schema needs besides PostgreSQL itself
PROVIDERS = {"payments": "payment", "carriers": "carrier", "warehouses": "warehouse", "notifications": "notify"}


def check_database(settings: Settings) -> Iterator[Finding]:
    """Reachable, migrated, in time, and able to hold Temporal's data too."""
    from cli.setup import newest_revision

    url = settings.dsn.replace("postgresql+psycopg://", "postgresql://", 1)
    began = time.time()
    with psycopg.connect(url, connect_timeout=5) as connection:
        row = connection.execute(
            "SELECT current_setting('server_version'), extract(epoch FROM clock_timestamp())::float8,"
            " to_regclass('alembic_version') IS NOT NULL,"
            " EXISTS (SELECT FROM pg_available_extensions WHERE name = %s)",
            (EXTENSION,),
        ).fetchone()
        version, clock, migrated, extension = row or ("?", 0.0, False, False)
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
    if not extension:
        text = f"this PostgreSQL does not offer {EXTENSION}: Temporal cannot keep its data here"
        yield Finding(Verdict.WARN, text, "install PostgreSQL's contrib modules, such as postgresql-contrib")


def check_temporal(settings: Settings) -> Iterator[Finding]:
    """Reachable, with our namespace and search attributes, and with a worker that polls."""
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


def check_providers(settings: Settings) -> Iterator[Finding]:
    """Ask every provider about a request that nobody has made: that changes nothing."""
    from providers.catalog import AdapterNotSetUp, ProviderChoice, UnknownAdapterError, make_providers
    from providers.simulation import SimulationVersionError

    names = {kind: getattr(settings, setting) for kind, setting in PROVIDERS.items()}
    simulated = [kind for kind, name in names.items() if name == "simulated"]
    if len(simulated) == len(names) and not settings.simulated_state.exists():
        yield Finding(Verdict.OK, "providers are simulated and have not been used yet")  # looking would make the file
        return
    from worker import smtp_account  # last: with a stranger among the rooms it cannot be imported

    choice = ProviderChoice(**names, simulated_state=settings.simulated_state, smtp=smtp_account(settings))
    try:
        with make_providers(choice) as providers:
            silent_ones = asyncio.run(_silent_providers({kind: getattr(providers, kind) for kind in names}))
    except (UnknownAdapterError, AdapterNotSetUp) as problem:
        yield Finding(Verdict.FAIL, str(problem), f"{program()} config show")
        return
    except (sqlite3.Error, SimulationVersionError) as problem:
        fix = f"rm {settings.simulated_state}: a fresh one knows nothing of what was paid and shipped"
        yield Finding(Verdict.FAIL, f"the simulated providers' file cannot be used: {problem}", fix)
        return
    for kind, why in silent_ones.items():
        fix = "orders wait and ask again by themselves: look at that provider's own status"
        yield Finding(Verdict.FAIL, f"{kind} ({names[kind]}) do not answer: {why}", fix)
    if not silent_ones:
        yield Finding(Verdict.OK, "providers answer: " + ", ".join(f"{kind} {name}" for kind, name in names.items()))


async def _silent_providers(providers: Mapping[str, LooksUp]) -> dict[str, str]:
    """Which of them cannot be asked, and why."""
    from providers.outcomes import ProviderUnavailable

    silent_ones = {}
    for kind, provider in providers.items():
        try:
            await asyncio.wait_for(provider.look_up("doctor"), PROVIDER_LIMIT_S)
        except (ProviderUnavailable, TimeoutError) as problem:
            silent_ones[kind] = str(problem) or "no answer in time"
    return silent_ones


class LooksUp(Protocol):
    """What every kind of provider can be asked."""

    async def look_up(self, key: str) -> object:
        """How the request with this key was answered."""
        ...


def check_api(settings: Settings) -> Iterator[Finding]:
    """Whether it answers."""
    url = f"http://{settings.api_host}:{settings.api_port}/version"
    answer = fetch_json(url)
    if answer is None:
        yield Finding(Verdict.FAIL, f"the API does not answer at {url}", f"{program()} logs api, or {program()} up")
    else:
        yield Finding(Verdict.OK, f"API answers at {settings.api_host}:{settings.api_port}")
