"""Stories run on the real server with a real, sandboxed worker in this process."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from tests.support.serving import serving
from tests.support.shop import Shop
from tests.support.stack import Site


@pytest.fixture(scope="session")
async def counter(site: Site) -> AsyncIterator[Callable[[], Shop]]:
    """Makes shops on the shared site; one worker serves them all."""
    async with serving(site) as make:
        yield make


@pytest.fixture
async def shop(counter: Callable[[], Shop]) -> Shop:
    """A shop with the default rules."""
    return await counter().opens()


@pytest.fixture
def shop_with(counter: Callable[[], Shop]) -> Callable[..., Awaitable[Shop]]:
    """Makes a shop with rules of its own, for example short windows."""

    async def make(**rules: Any) -> Shop:
        return await counter().opens(**rules)

    return make
