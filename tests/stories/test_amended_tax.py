"""Another address with its tax: what has not left is taxed anew, what has left stays as it was sold."""

from domain.amendment import SetShipTo
from domain.orders import Actor, ActorKind
from domain.permissions import Role
from domain.tax_change import LineTax, NewTax
from tests.support.arrivals import all_arrives
from tests.support.shop import ZONE, Shop, refusal_of

SHOPPER = Actor(kind=ActorKind.CUSTOMER, id="cus_1", role=Role.SHOPPER)


def there(*lines: tuple[int, int], shipping: int | None = None) -> SetShipTo:
    """Another address in the same zone, with its tax."""
    taxes = tuple(LineTax(line=line, tax_minor=tax) for line, tax in lines)
    tax = NewTax(currency="USD", lines=taxes, shipping_tax_minor=shipping)
    return SetShipTo(country="US", region="MA", zone_id=ZONE, tax=tax)


async def test_more_tax_is_authorized_before_anything_changes(shop: Shop) -> None:
    """CAP-H01: 1.40 more, on a tender of its own; the invoice posts it as tax. Said twice it happens once."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.held(("LAMP", 2))
    # when
    tried = (await shop.preview_amend(order, there((1, 120), shipping=20)))["outcome"]
    outcome = await shop.amend(order, there((1, 120), shipping=20))
    again = await shop.amend(order, there((1, 120), shipping=20), update_id="amend-1-again")
    # then
    assert (outcome.total_before_minor, outcome.total_after_minor) == (2500, 2640)
    assert (outcome.tax_delta_minor, outcome.shipping_delta_minor, outcome.lines) == (140, 0, ())
    assert outcome.additional_authorization_minor == 140
    for name in ("total_before_minor", "total_after_minor", "tax_delta_minor", "additional_authorization_minor"):
        assert tried[name] == getattr(outcome, name)
    assert again.total_after_minor == 2640
    await shop.unheld(order)
    await all_arrives(shop, order, 2640)
    assert await shop.ledger(order) == {"provider": 2640, "revenue": -2000, "shipping": -500, "tax": -140}
    assert [amount for kind, amount in shop.effects(order) if kind == "authorization"] == [2500, 140]


async def test_less_tax_is_never_captured(shop: Shop) -> None:
    """Taxed and then moved to where there is none: nothing is refunded, the difference is let go at the end."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.held(("LAMP", 2))
    await shop.amend(order, there((1, 200)))
    # when
    outcome = await shop.amend(order, there((1, 0)), command_id="amend-2")
    # then
    assert (outcome.tax_delta_minor, outcome.total_after_minor) == (-200, 2500)
    assert outcome.additional_authorization_minor == 0
    await shop.unheld(order)
    await all_arrives(shop, order, 2500)
    assert [effect for effect in shop.effects(order) if effect[0] != "authorization"] == [
        ("capture", 2500),
        ("void", 200),
    ]


async def test_the_same_tax_moves_neither_money_nor_units(shop: Shop) -> None:
    """What it carries already: no line begins, nothing is asked of the provider."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.held(("LAMP", 2))
    # when
    outcome = await shop.amend(order, there((1, 0), shipping=0))
    # then
    assert (outcome.state, outcome.tax_delta_minor, outcome.total_after_minor) == ("confirmed", 0, 2500)
    assert len(await shop.sql("SELECT 1 FROM order_lines WHERE order_id = :o", o=order.id)) == 1
    await shop.unheld(order)
    await all_arrives(shop, order, 2500)
    assert [kind for kind, _ in shop.effects(order)] == ["authorization", "capture"]


async def test_a_parcel_that_has_left_keeps_its_tax(shop: Shop) -> None:
    """Of two units with 2.00 tax one has left with 1.00; the other one goes to where it is 0.30."""
    # given
    await shop.stocks("LAMP", EAST=1, MID=1)
    await shop.stocks("MUG", EAST=1)
    order = await shop.held(("LAMP", 2))
    await shop.amend(order, there((1, 200)))
    await shop.unheld(order)
    east, _ = await shop.released(order, 2)
    await shop.ships(order, east)
    await shop.becomes(order, payment_status="partially_captured")
    # when
    outcome = await shop.amend(order, there((1, 30)), command_id="amend-2")
    # then
    assert (outcome.state, outcome.tax_delta_minor, outcome.total_after_minor) == ("confirmed", -70, 2630)
    await shop.delivers(order, east)
    await all_arrives(shop, order, 2630)
    assert (await shop.ledger(order))["tax"] == -130


async def test_a_tax_that_is_not_paid_leaves_the_order_as_it_was(shop: Shop) -> None:
    """The provider declines 0.40 more; and a customer may not name a tax at all."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.held(("LAMP", 2))
    # when
    declined = await shop.amend(order, there((1, 40)), reference="pm_declined")
    refusal = await refusal_of(shop.amend(order, there((1, 0)), command_id="amend-2", actor=SHOPPER))
    # then
    assert (declined.state, declined.code, declined.total_after_minor) == ("declined", "payment_declined", 2500)
    assert refusal.code == "price_not_allowed"
    await shop.unheld(order)
    await all_arrives(shop, order, 2500)
