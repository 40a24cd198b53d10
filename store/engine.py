"""The one way to a connection and the one way to a transaction.

Serialization failures and deadlocks repeat the whole transaction, at most three times. Every other database
error is raised: whether the commit happened is then unknown, and a retry under the same business key finds out.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

T = TypeVar("T")

_RETRYABLE = ("40001", "40P01")
_TRIES = 3


def make_engine(
    url: str, pool_size: int = 10, statement_timeout_ms: int = 5000, lock_timeout_ms: int = 1000
) -> AsyncEngine:
    """An engine with a small pool and time limits on every statement and lock."""
    options = f"-c statement_timeout={statement_timeout_ms} -c lock_timeout={lock_timeout_ms} -c timezone=UTC"
    return create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=statement_timeout_ms / 1000,
        pool_pre_ping=False,
        connect_args={"options": options, "connect_timeout": 2, "prepare_threshold": 2},
    )


async def transaction(engine: AsyncEngine, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    """Run `work` in one transaction; again from the start after a deadlock or serialization failure."""
    for attempt in range(_TRIES):
        try:
            async with engine.begin() as connection:
                return await work(connection)
        except DBAPIError as error:
            if attempt == _TRIES - 1 or getattr(error.orig, "sqlstate", None) not in _RETRYABLE:
                raise
            await asyncio.sleep(random.uniform(0.005, 0.05))  # noqa: S311 - jitter, not a secret
    raise AssertionError("unreachable: the last try returns or raises")
