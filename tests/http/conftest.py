"""Two installations: one with a worker, one where nobody polls. The API runs in this process."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from providers.catalog import ProviderChoice, make_providers
from store.engine import make_engine
from tests.support.front_desk import FrontDesk, front_client, open_front
from tests.support.shop import Shop
from tests.support.stack import Site
from worker import Outbox, make_activities, make_worker


@pytest.fixture(scope="session")
async def desk(new_site: Callable[[], Awaitable[Site]]) -> AsyncIterator[FrontDesk]:
    """The API of an installation with a worker. LAMP and MUG are in stock."""
    site = await new_site()
    settings = site.settings()
    engine = make_engine(settings.dsn, 5)
    client = await site.connect()
    choice = ProviderChoice(simulated_state=site.simulated_state, time_limit_s=2)
    with make_providers(choice) as providers:
        activities = make_activities(engine, providers, settings.vault_key_ring, "allow", outbox=Outbox(watch_s=0))
        shop = await Shop(client, engine, providers.simulation).opens()  # type: ignore[arg-type]
        await stock_up(shop)
        async with (
            make_worker(client, activities, sandbox=False, grace_s=2),
            open_front(settings, await front_client(site), shop) as front,
        ):
            yield front
    await engine.dispose()


@pytest.fixture(scope="session")
async def idle_desk(new_site: Callable[[], Awaitable[Site]]) -> AsyncIterator[FrontDesk]:
    """The API of an installation without any worker."""
    site = await new_site()
    settings = site.settings()
    engine = make_engine(settings.dsn, 3)
    client = await front_client(site)
    shop = await Shop(client, engine, None).opens()  # type: ignore[arg-type]
    await stock_up(shop)
    async with open_front(settings, client, shop) as front:
        yield front
    await engine.dispose()


async def stock_up(shop: Shop) -> None:
    """Plenty of LAMP and MUG, and one RARE."""
    await shop.stocks("LAMP", EAST=1000, MID=1000)
    await shop.stocks("MUG", EAST=1000)
    await shop.stocks("RARE", EAST=1)
