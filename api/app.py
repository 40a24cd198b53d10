"""Composition root of the front end: connections, settings, and the server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio.client import Client, RetryConfig
from temporalio.contrib.pydantic import pydantic_data_converter

from api.assembly import assemble
from api.cursors import Cursors
from api.deliveries import Deliveries
from api.front import Front
from api.identity import Identity
from api.limits import Limits, RateLimiter
from api.openapi import document
from api.tokens import KeySet, Tokens, fetch_from
from settings import Environment, Settings, configure_logging, load_settings, load_temporal
from store.engine import make_engine

# A dead engine must be noticed while the caller waits: no long series of tries behind our back.
RETRY = RetryConfig(
    initial_interval_millis=100, max_interval_millis=400, multiplier=2.0, max_elapsed_time_millis=800, max_retries=3
)
GRACE_S = 20


def create_app(settings: Settings, limits: Limits | None = None, client: Client | None = None) -> FastAPI:
    """The application with its connections; both are made when it starts and neither needs its server to live.

    Args:
        settings: settings of the installation.
        limits: other limits than the product's, for a benchmark.
        client: a Temporal client to use instead of one made from the environment.
    """
    chosen = limits or Limits()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        engine = make_engine(
            settings.dsn, settings.db_pool_size, settings.db_statement_timeout_ms, settings.db_lock_timeout_ms
        )
        front = await _front(settings, chosen, engine, client)
        app.state.front = front
        writing = asyncio.create_task(front.deliveries.run())
        try:
            yield
        finally:
            writing.cancel()
            await front.deliveries.flush()
            await engine.dispose()

    app = assemble(chosen, lifespan, docs=settings.env is Environment.DEVELOPMENT)
    app.openapi = lambda: document(app)  # type: ignore[method-assign]
    return app


async def _front(settings: Settings, limits: Limits, engine: AsyncEngine, client: Client | None) -> Front:
    tokens = _tokens(settings)
    return Front(
        engine=engine,
        client=client or await connect_lazily(settings),
        identity=Identity(engine, settings.pepper, tokens, limits.credential_cache_s),
        limits=limits,
        limiter=RateLimiter(limits.requests_per_s, limits.burst),
        cursors=Cursors(settings.cursor_key_ring),
        vault=settings.vault_key_ring,
        pepper=settings.pepper,
        wait_default_s=settings.wait_default_s,
        wait_max_s=settings.wait_max_s,
        deliveries=Deliveries(engine),
    )


async def connect_lazily(settings: Settings) -> Client:
    """A client that connects with its first call: an engine that is down does not keep the API from starting."""
    return await Client.connect(
        **load_temporal(settings), data_converter=pydantic_data_converter, lazy=True, retry_config=RETRY
    )


def _tokens(settings: Settings) -> Tokens | None:
    if not (settings.oidc_issuer and settings.oidc_audience and settings.oidc_jwks_url):
        return None
    return Tokens(settings.oidc_issuer, settings.oidc_audience, KeySet(fetch_from(settings.oidc_jwks_url)))


def main(settings: Settings | None = None, limits: Limits | None = None) -> None:
    """Serve until told to stop; requests under way are finished first."""
    found = settings or load_settings()
    chosen = limits or Limits()
    configure_logging(found.log_format, found.log_level)
    uvicorn.run(
        create_app(found, chosen),
        host=found.api_host,
        port=found.api_port,
        loop="uvloop",
        lifespan="on",
        server_header=False,
        date_header=False,
        access_log=False,
        log_level="warning",
        limit_concurrency=chosen.connections,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=GRACE_S,
        h11_max_incomplete_event_size=chosen.header_bytes * 2,
    )


if __name__ == "__main__":
    main()
