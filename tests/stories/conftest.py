"""Stories run on the real server with a real, sandboxed worker in this process."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from providers.catalog import ProviderChoice, make_providers
from store.engine import make_engine
from tests.support.shop import Shop
from tests.support.stack import Site
from worker import make_activities, make_worker


@pytest.fixture(scope="session")
async def counter(site: Site) -> AsyncIterator[Callable[..., Shop]]:
    """Makes shops on the shared site; a worker serves them all."""
    settings = site.settings()
    engine = make_engine(settings.dsn, 10)
    client = await site.connect()
    choice = ProviderChoice(simulated_state=site.simulated_state, time_limit_s=2)
    with make_providers(choice) as providers:
        activities = make_activities(engine, providers, settings.vault_key_ring, "allow")
        async with make_worker(client, activities, sandbox=True, grace_s=2):
            yield lambda: Shop(client, engine, providers.simulation)  # type: ignore[arg-type]
    await engine.dispose()


@pytest.fixture
async def shop(counter: Callable[..., Shop]) -> Shop:
    """A shop with the default rules."""
    return await counter().opens()


@pytest.fixture
def shop_with(counter: Callable[..., Shop]) -> Callable[..., Awaitable[Shop]]:
    """Makes a shop with rules of its own, for example short windows."""

    async def make(**rules: Any) -> Shop:
        return await counter().opens(**rules)

    return make
