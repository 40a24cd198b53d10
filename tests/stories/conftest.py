"""Stories run on the real server with a real, sandboxed worker in this process."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.serving import serving
from tests.support.shop import Shop
from tests.support.stack import Site

HERE = Path(__file__).parent
PATIENCE_S = 150
"""A story takes seconds; one that waits for longer waits for something that will not come."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every story its limit; those that name one of their own keep it."""
    for item in items:
        if item.path.is_relative_to(HERE) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(PATIENCE_S))


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
