"""A worker for stories in this process, and the shops that it serves."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from activities.records import DirectCommands
from providers.catalog import ProviderChoice, Providers, make_providers
from store.engine import make_engine
from tests.support.shop import Shop
from tests.support.stack import Site
from worker import Outbox, make_activities, make_worker

TIME_LIMIT_S = 2
"""How long a call to a simulated provider waits for its reply in a story."""


@asynccontextmanager
async def serving(
    site: Site,
    *,
    cache: int = 1000,
    direct_commands: DirectCommands = "allow",
    start: bool = True,
    hook: Callable[[Providers], Providers] = lambda providers: providers,
) -> AsyncIterator[Callable[[], Shop]]:
    """Makes shops on this site while a real, sandboxed worker serves them.

    With `start=False` nobody serves: a story that begins without a worker opens its own later. `hook` may put
    something between the worker and the providers, for example one that records.
    """
    settings = site.settings()
    engine = make_engine(settings.dsn, 10)
    client = await site.connect()
    choice = ProviderChoice(simulated_state=site.simulated_state, time_limit_s=TIME_LIMIT_S)
    try:
        with make_providers(choice) as providers:
            simulation = providers.simulation
            assert simulation is not None

            def shop() -> Shop:
                return Shop(client, engine, simulation, settings.vault_key_ring)

            if not start:
                yield shop
                return
            activities = make_activities(
                engine, hook(providers), settings.vault_key_ring, direct_commands, outbox=Outbox(watch_s=0)
            )
            async with make_worker(client, activities, sandbox=True, cache=cache, grace_s=2):
                yield shop
    finally:
        await engine.dispose()
