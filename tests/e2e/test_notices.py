"""The worker that sends notices is killed at every stage, with its own schedule: each notice arrives exactly once.

What it had claimed is due again when its lease is over, a minute later; here that minute is shortened in the rows.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from activities.contract import Stage
from activities.notifications import NAME
from providers.simulation import Simulation
from store.checks import run_checks
from store.engine import make_engine
from tests.support.eventually import eventually
from tests.support.failpoints import Failpoints, dying_worker
from tests.support.notices import customer
from tests.support.outlet import provider_objects
from tests.support.shop import Order, Shop
from tests.support.stack import RunStack

SOON_S = 10
"""A notice goes out within a second or two of its event; a busy machine gets some more."""
STAGES = (Stage.BEFORE_EFFECT, Stage.AFTER_EFFECT, Stage.AFTER_COMMIT)


@dataclass(frozen=True)
class Post:
    """A shop, and a worker that dies where it is told to."""

    shop: Shop
    points: Failpoints


@pytest.fixture(scope="module")
async def post(breakable_stack: RunStack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Post]:
    """On engines of its own, with the product's own schedule."""
    site = await breakable_stack.new_site()
    folder: Path = tmp_path_factory.mktemp("points")
    settings = site.settings()
    engine = make_engine(settings.dsn, 4)
    simulation = Simulation(site.simulated_state)
    shop = await Shop(await site.connect(), engine, simulation, settings.vault_key_ring).opens()
    await shop.stocks("LAMP", EAST=20)
    with dying_worker(site, folder) as points:
        yield Post(shop, points)
    simulation.close()
    await engine.dispose()


async def _confirmed_to_the_customer(post: Post, order: Order, within_s: float) -> None:
    """Its notice is sent; a lease of the dead ends at once."""

    async def sent() -> bool:
        await post.shop.sql("UPDATE notices SET next_attempt_at = now() WHERE state = 'sending' AND next_attempt_at"
                            " < now() + interval '57 s'")  # fmt: skip
        return await post.shop.notices(order) == [("order_confirmed", "sent", None)]

    await eventually(sent, within_s)


def _struck(points: Failpoints) -> Callable[[], Awaitable[bool]]:
    async def so() -> bool:
        return points.struck("Chore")

    return so


async def test_a_notice_goes_out_within_seconds(post: Post) -> None:
    """From the event to the provider, by the worker's own job."""
    order = await post.shop.buys(("LAMP", 1), personal=customer())
    began = time.monotonic()
    await _confirmed_to_the_customer(post, order, 60)
    first = time.monotonic() - began
    order = await post.shop.buys(("LAMP", 1), personal=customer())
    began = time.monotonic()
    await _confirmed_to_the_customer(post, order, SOON_S)
    assert time.monotonic() - began <= SOON_S, f"the first one took {first:.1f} s"


@pytest.mark.parametrize("stage", STAGES)
async def test_a_worker_killed_between_claim_and_settlement_sends_nothing_twice(post: Post, stage: Stage) -> None:
    """Before the claim, after the provider's reply, after the settlement: one message at the provider."""
    # given
    post.points.arm("Chore", NAME, stage)
    # when
    order = await post.shop.buys(("LAMP", 1), personal=customer())
    await _confirmed_to_the_customer(post, order, 90)
    # then
    await eventually(_struck(post.points))
    assert post.shop.told(order) == ["order_confirmed"]
    (row,) = await post.shop.sql("SELECT attempt_no FROM notices WHERE order_id = :o", o=order.id)
    assert row["attempt_no"] == (2 if stage is Stage.AFTER_EFFECT else 1)


async def test_every_law_holds_afterwards(post: Post) -> None:
    """Every event was told, once."""
    checked = await run_checks(post.shop.engine, lambda: provider_objects(post.shop.simulation))
    assert {verdict.name: verdict.keys for verdict in checked.verdicts if verdict.count} == {}
    assert checked.orders == len(STAGES) + 2
