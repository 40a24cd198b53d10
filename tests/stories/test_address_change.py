"""What becomes of an address that waits for a change of its order, when things go wrong in between."""

from domain.amendment import SetShipTo
from domain.ids import new_id
from domain.orders import Actor, ActorKind
from domain.permissions import Role
from store.amendments import keep_address
from store.commands import forget_addresses
from store.engine import transaction
from store.vault import open_vault, seal
from tests.support.arrivals import all_arrives
from tests.support.eventually import eventually
from tests.support.shop import ZONE, Order, Shop
from workflows.messages import AmendOrder

AGENT = Actor(kind=ActorKind.PERSON, id="maria", role=Role.SERVICE)
HERE = SetShipTo(country="US", region="MA", zone_id=ZONE)
AT_HOME = {
    "name": "Jamie Example",
    "lines": ["1 Sample Street"],
    "city": "Cambridge",
    "region": "MA",
    "postal_code": "02139",
    "country": "US",
}
OLD = {"customer": {"name": "Jamie Example"}, "ship_to": AT_HOME}


async def _bought(shop: Shop) -> Order:
    await shop.stocks("LAMP", EAST=1)
    return await shop.buys(("LAMP", 1), personal=OLD)


async def _stored(shop: Shop, order: Order, *, address: bool) -> AmendOrder:
    """A change of the address as the front end stores it, with the address or (it was lost) without."""
    command = AmendOrder(command_id=new_id("cmd", 0), changes=(HERE,), actor=AGENT)
    await shop.stores(order, "amend", command, AGENT)
    if address:
        new = {**OLD, "ship_to": {**AT_HOME, "city": "Boston"}}
        sealed = seal(shop.vault_keys, order.id, order.placed.customer_ref, new)
        await transaction(shop.engine, lambda c: keep_address(c, order.id, command.command_id, sealed))
    return command


async def _city(shop: Shop, order: Order) -> str:
    async with shop.engine.connect() as connection:
        content = await open_vault(connection, shop.vault_keys, order.id)
    return str(content and content["ship_to"]["city"])


async def _waiting(shop: Shop, order: Order) -> int:
    return len(await shop.sql("SELECT 1 FROM vault_changes WHERE order_id = :o", o=order.id))


async def test_a_signal_that_was_left_by_a_dead_front_end_moves_the_order(shop: Shop) -> None:
    """The sweep hands the command on as a signal: the vault takes the address over, once."""
    # given
    order = await _bought(shop)
    command = await _stored(shop, order, address=True)
    # when
    await shop.signal(order, "amend", command)
    await shop.signal(order, "amend", command)
    # then
    told = await shop.command(order, command.command_id)
    assert (told["state"], told["outcome"]["state"]) == ("applied", "confirmed")
    assert (await _city(shop, order), await _waiting(shop, order)) == ("Boston", 0)
    assert (await shop.events(order)).count("order.amended") == 1


async def test_an_address_that_is_gone_declines_the_change(shop: Shop) -> None:
    """A command that came through the front end has its address; without it nobody knows where to ship to."""
    # given
    order = await _bought(shop)
    command = await _stored(shop, order, address=False)
    # when
    await shop.signal(order, "amend", command)
    # then
    told = await shop.command(order, command.command_id)
    assert (told["outcome"]["state"], told["outcome"]["code"]) == ("declined", "address_gone")
    assert await _city(shop, order) == "Cambridge"


async def test_a_signal_that_is_refused_takes_its_address_along(shop: Shop) -> None:
    """The parcel has left: refused and recorded, and nothing waits any more."""
    # given
    order = await _bought(shop)
    (part,) = await shop.released(order)
    await shop.ships(order, part)
    command = await _stored(shop, order, address=True)
    # when
    await shop.signal(order, "amend", command)
    # then
    told = await shop.command(order, command.command_id)
    assert (told["state"], told["outcome"]["code"]) == ("refused", "cut_off_passed")
    assert (await _city(shop, order), await _waiting(shop, order)) == ("Cambridge", 0)


async def test_the_sweep_forgets_what_waits_for_nothing(shop: Shop) -> None:
    """An address whose command is settled goes; one whose command still waits stays."""
    # given
    order = await _bought(shop)
    waits = await _stored(shop, order, address=True)
    over = await _stored(shop, order, address=True)
    await shop.sql("UPDATE commands SET state = 'refused', outcome = '{}' WHERE command_id = :c", c=over.command_id)
    # when
    forgotten = await transaction(shop.engine, forget_addresses)
    # then
    assert forgotten >= 1
    rows = await shop.sql("SELECT command_id FROM vault_changes WHERE order_id = :o", o=order.id)
    assert [row["command_id"] for row in rows] == [waits.command_id]


async def test_a_node_that_is_being_told_of_the_work_is_stopped_and_told_anew(shop: Shop) -> None:
    """Its reply is on the way when the address changes: the old one may be on its papers by then."""
    # given
    await shop.stocks("LAMP", EAST=1)
    placed = shop.order(("LAMP", 1))
    shop.control(placed, "warehouses.delay_ms", 1200)
    order = await shop.submit(placed)

    async def is_told() -> bool:
        parts = (await order.handle.query("state"))["fulfillments"].values()
        return any(part["in_call"] for part in parts)

    await eventually(is_told)
    # when
    outcome = await shop.amend(order, HERE)
    # then
    assert outcome.state == "confirmed"
    shop.normal(placed, "warehouses.delay_ms")
    await all_arrives(shop, order, captured=1500)
    assert shop.effects(order, "warehouses") == [("release", 0), ("stop", 0), ("release", 0)]
