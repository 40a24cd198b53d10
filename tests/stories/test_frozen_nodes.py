"""A frozen node gets no new work, and what it has not accepted goes elsewhere; what it has accepted stays."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from domain.orders import Actor, ActorKind, HoldBlock, HoldType, ReportKind
from store.engine import transaction
from store.nodes import freeze, recall_frozen, unfreeze
from tests.support.eventually import eventually
from tests.support.serving import serving
from tests.support.shop import Order, Shop, later
from tests.support.stack import Site
from worker import make_sweep
from workflows.messages import leave_payload

MARIA = Actor(kind=ActorKind.PERSON, id="maria", role="inventory")
NODE = "EAST"


@pytest.fixture(scope="module")
async def makes(new_site: Callable[[], Awaitable[Site]]) -> AsyncIterator[Callable[[], Shop]]:
    """A site of its own: a freeze recalls the work of every order at the node."""
    async with serving(await new_site()) as make:
        yield make


@pytest.fixture
async def shop(makes: Callable[[], Shop]) -> Shop:
    """A shop with the default rules."""
    return await makes().opens()


@pytest.fixture(autouse=True)
async def thawed(shop: Shop) -> AsyncIterator[None]:
    """All stories here share their nodes: whatever happens, this one works again afterwards."""
    yield
    await transaction(shop.engine, lambda c: unfreeze(c, NODE, "over", MARIA))


async def _freezes(shop: Shop, begins: Any = None, ends: Any = None) -> None:
    assert await transaction(shop.engine, lambda c: freeze(c, NODE, begins, ends, "flooded", MARIA))


async def _sweeps(shop: Shop) -> None:
    await make_sweep(shop.engine, shop.client, 7)()


async def _at(shop: Shop, order: Order, node: str, stage: str) -> dict[str, Any]:
    async def there() -> dict[str, Any] | None:
        found = [part for part in await shop.parts(order) if (part["node_id"], part["stage"]) == (node, stage)]
        return found[0] if found else None

    return await eventually(there)


async def _commands(shop: Shop, order: Order) -> list[dict[str, Any]]:
    return await shop.sql(
        "SELECT state, outcome ->> 'applied' AS applied, actor ->> 'id' AS who FROM commands"
        " WHERE order_id = :o AND kind = 'leave_node' ORDER BY command_id",
        o=order.id,
    )


async def test_nothing_is_sourced_at_a_frozen_node(shop: Shop) -> None:
    """From now on, until it is unfrozen; the decision says why."""
    # given
    await shop.stocks("LAMP", EAST=5, MID=5)
    await _freezes(shop)
    # when
    order = await shop.place(("LAMP", 1))
    # then
    assert await shop.reserved("LAMP") == {"EAST": 0, "MID": 1}
    (decision,) = await shop.sql("SELECT record FROM decisions WHERE order_id = :o", o=order.id)
    reasons = {left["node_id"]: left["reason"] for left in decision["record"]["excluded"]}
    assert reasons["EAST"] == "node_frozen"
    await transaction(shop.engine, lambda c: unfreeze(c, NODE, "dry_again", MARIA))
    again = await shop.place(("LAMP", 1))
    assert await shop.reserved("LAMP") == {"EAST": 1, "MID": 1}
    for one in (order, again):
        assert (await shop.sees_through(one)).status == "completed"


async def test_a_freeze_for_a_period_counts_in_the_period(shop: Shop) -> None:
    """A planned one does not count yet; one that has ended, or is inverted, is not taken."""
    await shop.stocks("LAMP", EAST=5, MID=5)
    await _freezes(shop, later(hours=1), later(hours=2))
    order = await shop.place(("LAMP", 1))
    assert await shop.reserved("LAMP") == {"EAST": 1, "MID": 0}
    for begins, ends in ((later(hours=2), later(hours=1)), (None, later(hours=-1))):
        assert not await transaction(shop.engine, lambda c, b=begins, e=ends: freeze(c, NODE, b, e, "flooded", MARIA))
    assert (await shop.sees_through(order)).status == "completed"


async def test_what_a_frozen_node_has_not_accepted_goes_elsewhere_once(shop: Shop) -> None:
    """Told twice it is done once; the node's stock is as it was, and who froze it is in the timeline."""
    # given
    await shop.stocks("LAMP", EAST=2, MID=2)
    order = await shop.place(("LAMP", 2))
    await shop.released(order)
    # when
    await _freezes(shop)
    await _sweeps(shop)
    mid = await _at(shop, order, "MID", "released")
    await shop.sql("UPDATE commands SET delivered = false, next_send_at = now() WHERE order_id = :o", o=order.id)
    await _sweeps(shop)
    # then
    await shop.ships(order, mid)
    await shop.delivers(order, mid)
    assert (await order.handle.result()).status == "completed"
    events = await shop.rests(order)
    assert [events.count(f"fulfillment.{kind}") for kind in ("recalled", "given_up", "kept")] == [1, 1, 0]
    assert await _commands(shop, order) == [{"state": "applied", "applied": "true", "who": "maria"}]
    (told,) = await shop.sql(
        "SELECT actor, cause FROM order_events WHERE order_id = :o AND type = 'fulfillment.given_up'", o=order.id
    )
    assert (told["actor"]["id"], told["cause"]) == ("maria", "node_frozen")
    (level,) = await shop.sql(
        "SELECT on_hand, unavailable, reserved FROM stock_levels WHERE sku = :s AND node_id = 'EAST'",
        s=shop.sku("LAMP"),
    )
    assert level == {"on_hand": 2, "unavailable": 0, "reserved": 0}


async def test_what_it_has_accepted_stays_with_it(shop: Shop) -> None:
    """It is not asked at all; and an order that comes to it by an old message says that it goes on."""
    # given
    await shop.stocks("LAMP", EAST=1, MID=1)
    order = await shop.place(("LAMP", 1))
    (east,) = await shop.released(order)
    await shop.report(order, east["fulfillment_id"], ReportKind.ACCEPTED)
    # when
    await _freezes(shop)
    await _sweeps(shop)
    outcome = await shop.leaves(order, east)
    # then
    assert (outcome.applied, outcome.why) == (False, "it is accepted: the node goes on with it")
    assert [one["applied"] for one in await _commands(shop, order)] == ["false"]
    assert (await shop.sees_through(order)).status == "completed"


async def test_work_that_is_not_sent_yet_leaves_without_a_question(shop: Shop) -> None:
    """A hold keeps it from the node: the node never hears of it."""
    # given
    await shop.stocks("LAMP", EAST=1, MID=1)
    hold = {"command_id": "hold-1", "type": HoldType.MANUAL, "blocks": [HoldBlock.RELEASE]}
    order = await shop.starts_with(shop.order(("LAMP", 1)), "place_hold", hold)
    await _at(shop, order, "EAST", "allocated")
    # when
    await _freezes(shop)
    await _sweeps(shop)
    await _at(shop, order, "MID", "allocated")
    # then
    assert "fulfillment.recalled" not in await shop.events(order)
    assert await shop.reserved("LAMP") == {"EAST": 0, "MID": 1}
    await shop.unheld(order)
    mid = await _at(shop, order, "MID", "released")
    await shop.ships(order, mid)
    await shop.delivers(order, mid)
    assert (await order.handle.result()).status == "completed"
    assert [e.kind for e in shop.simulation.effects(order.id) if e.kind in ("release", "stop")] == ["release"]


async def test_what_nobody_else_has_stays_and_a_person_decides(shop: Shop) -> None:
    """A freeze cancels nobody's order."""
    # given
    await shop.stocks("LAMP", EAST=1)
    order = await shop.place(("LAMP", 1))
    await shop.released(order)
    # when
    await _freezes(shop)
    await _sweeps(shop)

    async def case() -> bool:
        return ("node_frozen", "fulfillment", "open") in await shop.cases(order)

    await eventually(case)
    # then
    assert [part["state"] for part in await shop.parts(order)] == ["submitted"]
    assert (await shop.sees_through(order)).status == "completed"
    assert await shop.cases(order) == [("node_frozen", "fulfillment", "auto_closed")]
    await shop.agrees(order)


async def test_what_reaches_a_frozen_node_later_is_recalled_by_the_sweep(shop: Shop) -> None:
    """Its units were held there before; each freeze tells each fulfillment order once."""
    # given
    await shop.stocks("LAMP", EAST=1, MID=1)
    order = await shop.held(("LAMP", 1))
    await _freezes(shop)
    await _sweeps(shop)
    assert await _commands(shop, order) == []
    # when
    await shop.unheld(order)
    await _at(shop, order, "EAST", "released")
    await _sweeps(shop)
    mid = await _at(shop, order, "MID", "released")
    # then
    assert await transaction(shop.engine, lambda c: recall_frozen(c, leave_payload, 100)) == 0
    await shop.ships(order, mid)
    await shop.delivers(order, mid)
    assert (await order.handle.result()).status == "completed"
    await shop.agrees(order)
