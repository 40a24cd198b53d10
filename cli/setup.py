"""The one-off step before anything of ours runs: tables, namespace, search attributes, API keys.

Idempotent, and safe when several run at once. A worker that starts before its search attributes can be read dies
at its first upsert, so this step ends only when they can be read: that they are registered is not enough.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeAlias

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import (
    AddSearchAttributesRequest,
    ListSearchAttributesRequest,
    RemoveSearchAttributesRequest,
)
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from api.credentials import digest, key_id_of
from store.engine import make_engine
from store.keys import put_key
from workflows.visibility import SEARCH_ATTRIBUTES

MIGRATIONS = Path(__file__).parents[1] / "store" / "migrations"
MIGRATION_LOCK = 7_233_001  # advisory lock: two `init` at once upgrade one after the other
RETENTION = timedelta(days=30)
TypeNumber: TypeAlias = IndexedValueType.ValueType
OURS: Mapping[str, TypeNumber] = {
    key.name: IndexedValueType.ValueType(int(key.indexed_value_type)) for key in SEARCH_ATTRIBUTES
}
NAMESPACE_LIMIT_S = 60.0
READABLE_LIMIT_S = 150.0  # without the development setting the server refreshes its cache once a minute


class SetupError(Exception):
    """The installation cannot be set up; the text says what to do."""


@dataclass(frozen=True)
class SetupDone:
    """What `init` found or made."""

    revision: str
    namespace: str
    retention_days: int
    search_attributes: int
    keys: int


def upgrade_database(url: str) -> str:
    """Bring the tables to the newest revision.

    Returns:
        The revision.
    """
    engine = create_engine(url, connect_args={"options": "-c lock_timeout=10000"})
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
            connection.commit()
            config = migration_config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": MIGRATION_LOCK})
            connection.commit()
            return MigrationContext.configure(connection).get_current_revision() or ""
    finally:
        engine.dispose()


def migration_config() -> Config:
    """Alembic's settings, made in code so that they also hold where the project is installed."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    return config


def newest_revision() -> str:
    """The revision that this code needs."""
    return ScriptDirectory.from_config(migration_config()).get_current_head() or ""


async def ensure_namespace(client: Client, namespace: str) -> int:
    """Register the namespace where it does not exist.

    Returns:
        Its retention in days.
    """
    try:
        found = await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=namespace))
        return found.config.workflow_execution_retention_ttl.ToTimedelta().days
    except RPCError as problem:
        if problem.status is not RPCStatusCode.NOT_FOUND:
            raise
    await _register_namespace(client, namespace)
    return RETENTION.days


async def ensure_search_attributes(client: Client, recreate: Sequence[str] = ()) -> int:
    """Register what is missing, then wait until a query can name all of them.

    Args:
        client: connected to the namespace.
        recreate: names to remove first, because they have another type; what they held is lost.

    Raises:
        SetupError: one exists with another type.
    """
    if recreate:
        removal = RemoveSearchAttributesRequest(namespace=client.namespace, search_attributes=recreate)
        await client.operator_service.remove_search_attributes(removal)
    existing = await registered_search_attributes(client)
    wrong = wrong_types(existing)
    if wrong:
        raise SetupError("; ".join(wrong) + " -> accord init --recreate NAME")
    missing = {name: number for name, number in OURS.items() if name not in existing}
    if missing:
        await _add(client, missing)
    await _wait_readable(client)
    return len(OURS)


async def registered_search_attributes(client: Client) -> Mapping[str, TypeNumber]:
    """Name -> type of every custom search attribute of the namespace."""
    request = ListSearchAttributesRequest(namespace=client.namespace)
    return dict((await client.operator_service.list_search_attributes(request)).custom_attributes)


def wrong_types(existing: Mapping[str, TypeNumber]) -> list[str]:
    """One sentence per search attribute that exists with another type than ours."""
    return [
        f"search attribute {name} is {_type_name(existing[name])}, must be {_type_name(number)}"
        for name, number in OURS.items()
        if existing.get(name, number) != number
    ]


async def are_readable(client: Client) -> bool:
    """True when a query may name all of our search attributes."""
    try:
        await client.count_workflows(" AND ".join(f"{name} IS NULL" for name in OURS))
    except RPCError as problem:
        if problem.status in (RPCStatusCode.INVALID_ARGUMENT, RPCStatusCode.NOT_FOUND, RPCStatusCode.UNAVAILABLE):
            return False
        raise
    return True


async def register_keys(url: str, keys: Mapping[str, str], pepper: bytes) -> int:
    """Store the digests of the API keys of a development stack, one per role.

    Raises:
        SetupError: a text is not a key.
    """
    engine = make_engine(url, pool_size=1)
    try:
        async with engine.begin() as connection:
            for role, key in keys.items():
                key_id = key_id_of(key)
                if key_id is None:
                    raise SetupError(f"The key of {role} is not of the form acc_<env>_<id>_<secret>")
                await put_key(
                    connection, key_id, digest(key, pepper), f"{role} (generated)", [role], channels=["*"], nodes=["*"]
                )
    finally:
        await engine.dispose()
    return len(keys)


async def set_up(
    client: Client, url: str, keys: Mapping[str, str], pepper: bytes | None, recreate: Sequence[str] = ()
) -> SetupDone:
    """Everything, in the order in which it is needed."""
    revision = await asyncio.to_thread(upgrade_database, url)
    retention_days = await ensure_namespace(client, client.namespace)
    attributes = await ensure_search_attributes(client, recreate=recreate)
    registered = await register_keys(url, keys, pepper) if keys and pepper else 0
    return SetupDone(revision, client.namespace, retention_days, attributes, registered)


async def _register_namespace(client: Client, namespace: str) -> None:
    """Register, then wait until every part of the server knows it: that takes up to some seconds."""
    request = RegisterNamespaceRequest(namespace=namespace)
    request.workflow_execution_retention_period.FromTimedelta(RETENTION)
    try:
        await client.workflow_service.register_namespace(request)
    except RPCError as problem:
        if problem.status is not RPCStatusCode.ALREADY_EXISTS:
            raise
    limit = time.monotonic() + NAMESPACE_LIMIT_S
    while not await _is_known(client, namespace):
        if time.monotonic() > limit:
            raise SetupError(f"The namespace {namespace} is registered but stays unknown -> accord doctor")
        await asyncio.sleep(0.1)


async def _is_known(client: Client, namespace: str) -> bool:
    try:
        await client.operator_service.list_search_attributes(ListSearchAttributesRequest(namespace=namespace))
    except RPCError as problem:
        if problem.status is RPCStatusCode.NOT_FOUND:
            return False
        raise
    return True


async def _add(client: Client, missing: Mapping[str, TypeNumber]) -> None:
    request = AddSearchAttributesRequest(namespace=client.namespace, search_attributes=missing)
    try:
        await client.operator_service.add_search_attributes(request)
    except RPCError as problem:
        if problem.status is not RPCStatusCode.ALREADY_EXISTS:
            raise


async def _wait_readable(client: Client) -> None:
    limit = time.monotonic() + READABLE_LIMIT_S
    while not await are_readable(client):
        if time.monotonic() > limit:
            raise SetupError("The search attributes are registered but cannot be read -> accord doctor")
        await asyncio.sleep(0.1)


def _type_name(number: TypeNumber) -> str:
    return IndexedValueType.Name(number).removeprefix("INDEXED_VALUE_TYPE_").replace("_", " ").title().replace(" ", "")
