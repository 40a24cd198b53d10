"""Waiting for what happens by itself, with a bound."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(look: Callable[[], Awaitable[T | None]], within_s: float = 60, every_s: float = 0.05) -> T:
    """Look until there is something to see.

    Raises:
        AssertionError: nothing turned up in time.
    """
    end = time.monotonic() + within_s
    while True:
        seen = await look()
        if seen:
            return seen
        if time.monotonic() > end:
            raise AssertionError(f"nothing to see within {within_s} s: {look.__qualname__}")
        await asyncio.sleep(every_s)
