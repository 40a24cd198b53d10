"""Fixtures that every test may use: the real engines of this run, and sites on them."""

import os
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from temporalio.client import Client

from tests.support.stack import RunStack, Site, start_run_stack

KEPT = ("ACCORD_TEMPORAL_SERVER",)


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside() -> Iterator[None]:
    """What is set in the shell of whoever runs the tests must not steer them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("ACCORD_", "TEMPORAL_")) and name not in KEPT:
                patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def stack(_no_settings_from_outside: None) -> Iterator[RunStack]:
    """PostgreSQL and Temporal of this test run, without any process of ours."""
    run = start_run_stack()
    yield run
    run.stop()


@pytest.fixture(scope="module")
def breakable_stack(_no_settings_from_outside: None) -> Iterator[RunStack]:
    """Engines of one module's own, for tests that kill or restart them."""
    run = start_run_stack()
    yield run
    run.stop()


@pytest.fixture(scope="session")
def site(stack: RunStack) -> Site:
    """The installation that tests share; take `new_site` to be alone."""
    return stack.site


@pytest.fixture(scope="session")
def new_site(stack: RunStack) -> Callable[[], Awaitable[Site]]:
    """Makes a fresh installation: database, namespace, simulated providers."""
    return stack.new_site


@pytest.fixture
def database_url(stack: RunStack) -> str:
    """A fresh, migrated database for one test."""
    return stack.new_database()


@pytest.fixture(scope="session")
def temporal_address(stack: RunStack) -> str:
    """Where the Temporal server of this run listens."""
    return stack.temporal_address


@pytest.fixture(scope="session")
def connect(site: Site) -> Callable[..., Awaitable[Client]]:
    """Makes clients of the shared namespace; takes the options of `Client.connect`."""

    async def _connect(**options: Any) -> Client:
        return await site.connect(**options)

    return _connect


def pytest_unconfigure() -> None:
    """Let the SDK's threads end before the interpreter does.

    With SDK 1.35.0 a process that ends right after a worker has shut down aborts now and then.
    """
    time.sleep(0.3)
