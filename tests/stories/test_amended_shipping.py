"""Faster or slower costs something else: what has not left is charged anew, what has left stays as it was."""

from collections.abc import AsyncIterator

import pytest

from domain.amendment import SetServiceLevel
from domain.orders import Actor, ActorKind, ServiceLevel
from domain.permissions import Role
from tests.support.arrivals import all_arrives
from tests.support.shop import ZONE, Shop, refusal_of

PRICES = {"shipping_prices": {"standard": 500, "express": 1200}}
EXPRESS = SetServiceLevel(service_level=ServiceLevel.EXPRESS)
STANDARD = SetServiceLevel(service_level=ServiceLevel.STANDARD)
SHOPPER = Actor(kind=ActorKind.CUSTOMER, id="cus_1", role=Role.SHOPPER)


@pytest.fixture(autouse=True)
async def _express(shop: Shop) -> AsyncIterator[None]:
    """MID ships express, for these stories only: others of this site count on nobody doing so."""
    await shop.sql("INSERT INTO lanes VALUES ('MID', :z, 'express', 1)", z=ZONE)
    yield
    await shop.sql("DELETE FROM lanes WHERE node_id = 'MID' AND zone_id = :z AND service_level = 'express'", z=ZONE)


async def _priced(shop: Shop) -> Shop:
    """A shop with a price list; only MID ships express."""
    return await Shop(shop.client, shop.engine, shop.simulation, shop.vault_keys).opens(**PRICES)


async def test_faster_is_paid_before_it_is_shipped(shop: Shop) -> None:
    """CAP-H04: the difference of the price list is authorized, the lines go on at the new price and speed."""
    # given
    shop = await _priced(shop)
    await shop.stocks("LAMP", MID=2)
    order = await shop.held(("LAMP", 2))
    # when
    tried = await shop.preview_amend(order, EXPRESS)
    outcome = await shop.amend(order, EXPRESS)
    # then
    assert (outcome.total_before_minor, outcome.total_after_minor) == (2500, 3200)
    assert (outcome.shipping_delta_minor, outcome.tax_delta_minor, outcome.lines) == (700, 0, ())
    assert outcome.additional_authorization_minor == 700
    told = tried["outcome"]
    for name in ("total_before_minor", "total_after_minor", "shipping_delta_minor", "additional_authorization_minor"):
        assert told[name] == getattr(outcome, name)
    await shop.unheld(order)
    await all_arrives(shop, order, 3200)
    assert await shop.ledger(order) == {"provider": 3200, "revenue": -2000, "shipping": -1200}


async def test_there_and_back_moves_no_money(shop: Shop) -> None:
    """CASE-C8: express and then standard again: what was authorized in between is let go, nothing is refunded."""
    # given
    shop = await _priced(shop)
    await shop.stocks("LAMP", MID=2)
    order = await shop.held(("LAMP", 2))
    # when
    await shop.amend(order, EXPRESS)
    back = await shop.amend(order, STANDARD, command_id="amend-2")
    # then
    assert (back.total_after_minor, back.shipping_delta_minor) == (2500, -700)
    await shop.unheld(order)
    await all_arrives(shop, order, 2500)
    assert [effect for effect in shop.effects(order) if effect[0] != "authorization"] == [
        ("capture", 2500),
        ("void", 700),
    ]


async def test_a_parcel_that_has_left_keeps_its_share(shop: Shop) -> None:
    """One of two has left from EAST at half of 5.00; the other one pays half of 12.00 and leaves from MID."""
    # given
    shop = await _priced(shop)
    await shop.stocks("LAMP", EAST=1, MID=1)
    order = await shop.place(("LAMP", 2))
    east, _ = await shop.released(order, 2)
    await shop.ships(order, east)
    await shop.becomes(order, payment_status="partially_captured")
    # when
    outcome = await shop.amend(order, EXPRESS)
    # then
    assert (outcome.state, outcome.shipping_delta_minor) == ("confirmed", 350)
    assert (outcome.total_after_minor, outcome.additional_authorization_minor) == (2850, 350)
    await shop.delivers(order, east)
    await all_arrives(shop, order, 2850)


async def test_a_price_is_named_by_who_may(shop: Shop) -> None:
    """Service names 9.00; a customer is refused, and gets what the list says."""
    # given
    shop = await _priced(shop)
    await shop.stocks("LAMP", MID=2)
    order = await shop.held(("LAMP", 2))
    named = EXPRESS.model_copy(update={"shipping_minor": 900})
    # when
    refusal = await refusal_of(shop.amend(order, named, actor=SHOPPER))
    outcome = await shop.amend(order, named, command_id="amend-2")
    # then
    assert refusal.code == "price_not_allowed"
    assert (outcome.shipping_delta_minor, outcome.total_after_minor) == (400, 2900)
    await shop.cancel(order)
    assert (await order.handle.result()).status == "cancelled"
    await shop.agrees(order)
