"""The budgets of one order: events, server commits, remote activities, own transactions.

Events are exact; commits are averaged over many orders, with the idle server's own taken off. How much
the engine does together depends on how busy the machine is otherwise, so `make test` runs these by themselves.
"""

import pytest

from bench.counts import Counts, measure
from bench.meters import engines

pytestmark = pytest.mark.alone
ORDERS = 150


@pytest.fixture(scope="module")
async def counts(_no_settings_from_outside: None) -> Counts:
    """Measured once, on engines of their own."""
    with engines() as stack:
        return await measure(stack, ORDERS)


def test_history_stays_short(counts: Counts) -> None:
    """At most 55 events, in every order that was looked at."""
    assert counts.events_most <= 55


def test_only_providers_are_called_remotely(counts: Counts) -> None:
    """Authorize, release, book, capture."""
    assert counts.remote_activities == 4


def test_own_transactions_are_ten(counts: Counts) -> None:
    """Writing transactions on our own database, the front end's intake among them."""
    assert counts.own_writing_transactions <= 10


def test_server_commits_stay_within_the_budget(counts: Counts) -> None:
    """What the engine's databases commit for one order; the ratio to a bare workflow is only reported."""
    assert counts.server_commits <= 66
