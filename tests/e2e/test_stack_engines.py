"""The engines of a test run: real, alone, and able to die and come back."""

from __future__ import annotations

import psycopg
import pytest

from tests.support.stack import RunStack


def test_postgres_is_durable_and_not_run_by_a_superuser_of_ours(stack: RunStack, database_url: str) -> None:
    """Commits reach the disk, and our role has no rights beyond its database."""
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        row = connection.execute(
            "SELECT current_setting('fsync'), current_setting('synchronous_commit'), current_setting('is_superuser')"
        ).fetchone()
    assert row == ("on", "on", "off")


def test_databases_are_private(stack: RunStack) -> None:
    """The role of Temporal cannot connect to the orders."""
    url = stack.stack.admin_url("accord").replace("postgres:", "temporal:", 1)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)


def test_fresh_databases_are_migrated_and_separate(stack: RunStack) -> None:
    """Each test gets all tables, and nothing of another test."""
    first, second = stack.new_database(), stack.new_database()
    with psycopg.connect(first.replace("+psycopg", "")) as connection:
        connection.execute("CREATE TABLE only_here (id int)")
    with psycopg.connect(second.replace("+psycopg", "")) as connection:
        row = connection.execute("SELECT to_regclass('only_here'), to_regclass('orders')::text").fetchone()
    assert row == (None, "orders")


async def test_sites_have_their_own_namespace(stack: RunStack) -> None:
    """Workflows of one site are not seen in another."""
    site = await stack.new_site()
    client = await site.connect()
    assert client.namespace == site.namespace != stack.site.namespace
    assert (await client.count_workflows("OrderNumber = 'none'")).count == 0


async def test_engines_can_be_killed_and_come_back(breakable_stack: RunStack) -> None:
    """After a crash of PostgreSQL and a restart of Temporal, both answer again with their data."""
    site = await breakable_stack.new_site()
    breakable_stack.stop_temporal()
    breakable_stack.kill_postgres()
    breakable_stack.start_postgres()
    breakable_stack.start_temporal()
    client = await site.connect()
    assert (await client.count_workflows("OrderStatus = 'none'")).count == 0
