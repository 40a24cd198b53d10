"""More of what is not in stock: it waits for supply, if item and customer allow it; else the change is declined."""

from typing import Any

from temporalio.testing import ActivityEnvironment

from activities.amendments import Amend, AmendmentActivities
from domain.amendment import AddLine, SetQuantity, SetRequestedBy, SetShipTo, Substitute
from domain.orders import Backorder, Split
from domain.tax_change import LineTax, NewTax
from store.checks import run_checks
from tests.support.eventually import eventually
from tests.support.shop import ZONE, Order, Shop, later


async def _lines(shop: Shop, order: Order) -> list[dict[str, int]]:
    """Units per bucket of every line, empty ones left out."""
    rows = await shop.sql(
        "SELECT open, reserved, backordered, allocated, released, packed, shipped, delivered, cancelled"
        " FROM order_lines WHERE order_id = :o ORDER BY line_no",
        o=order.id,
    )
    return [{name: units for name, units in row.items() if units} for row in rows]


async def _ends(shop: Shop, order: Order, captured: int) -> None:
    """All parts ship and arrive; the laws hold."""

    async def over() -> bool:
        for part in await shop.parts(order):
            if part["stage"] == "released":
                await shop.ships(order, part)
                await shop.delivers(order, part)
        return bool((await shop.header(order))["terminal"])

    await eventually(over)
    assert (await order.handle.result()).status == "completed"
    assert (await shop.money(order))["captured"] == captured
    await shop.agrees(order)
    broken = [key for verdict in (await run_checks(shop.engine)).verdicts for key in verdict.keys]
    assert [key for key in broken if order.id in key] == []


async def test_more_units_than_there_are_wait_for_the_rest(shop: Shop) -> None:
    """Two become five, three are there: two are paid and told with the rest, and ship when they come."""
    # given
    await shop.stocks("LAMP", EAST=3)
    await shop.lets_wait("LAMP")
    order = await shop.held(("LAMP", 2))
    # when
    told = await shop.preview_amend(order, SetQuantity(line=1, quantity=5))
    tried = await ActivityEnvironment().run(AmendmentActivities(shop.engine).preview, Amend.model_validate(told["ask"]))
    outcome = await shop.amend(order, SetQuantity(line=1, quantity=5))
    again = await shop.amend(order, SetQuantity(line=1, quantity=5), update_id="again")
    # then
    assert (outcome.state, outcome.nodes, outcome.waiting) == ("confirmed", ("EAST",), ((2, 2),))
    assert (outcome.total_after_minor, outcome.additional_authorization_minor) == (5500, 3000)
    assert (tried.waiting, str(tried.promised_by)) == (outcome.waiting, outcome.promised_by)  # type: ignore[union-attr]
    assert outcome.promised_before is not None
    assert outcome.promised_by is not None
    assert outcome.promised_by > outcome.promised_before
    assert again == outcome
    assert await _lines(shop, order) == [{"reserved": 2}, {"reserved": 1, "backordered": 2}]
    stored = (await shop.command(order, "amend-1"))["outcome"]
    assert (stored["waiting"], stored["promised_by"]) == ([[2, 2]], outcome.promised_by)
    # when
    await shop.unheld(order)
    (east,) = await shop.released(order)
    await shop.ships(order, east)
    await shop.delivers(order, east)
    assert (await shop.becomes(order, waiting_on="supply"))["wait_cause"] == "backorder"
    assert await shop.receives("LAMP", "MID", 2) == (order.id,)
    assert (await shop.supply_arrives(order, "LAMP")).units == 2
    # then
    await _ends(shop, order, 5500)
    promises = await shop.sql(
        "SELECT promise_no, cause FROM promises WHERE order_id = :o ORDER BY promise_no, version", o=order.id
    )
    assert [(row["promise_no"], row["cause"]) for row in promises] == [
        (1, "acceptance"),
        (2, "amendment"),
        (2, "supply_arrived"),
    ]
    kinds = [kind for kind, _, _ in await shop.notices(order)]
    assert (kinds.count("order_amended"), kinds.count("backordered")) == (1, 1)


async def test_a_new_line_of_what_nobody_has_waits_while_the_order_ships(shop: Shop) -> None:
    """Nothing of it is held at all; it is cancelled later for nothing but its own price."""
    # given
    await shop.stocks("LAMP", EAST=1)
    await shop.lets_wait("VASE")
    order = await shop.held(("LAMP", 1))
    # when
    outcome = await shop.amend(order, AddLine(sku=shop.sku("VASE"), quantity=2, unit_price_minor=700))
    await shop.unheld(order)
    # then
    assert (outcome.state, outcome.nodes, outcome.waiting) == ("confirmed", (), ((2, 2),))
    (east,) = await shop.released(order)
    await shop.ships(order, east)
    await shop.delivers(order, east)
    assert await _lines(shop, order) == [{"delivered": 1}, {"backordered": 2}]
    await shop.cancel(order, lines=[(2, 2)])
    await _ends(shop, order, 1500)


async def test_one_more_of_what_has_left_waits_and_follows(shop: Shop) -> None:
    """All of the order is with the carrier: the order stays open for the unit that waits."""
    # given
    await shop.stocks("LAMP", EAST=1)
    await shop.lets_wait("LAMP")
    order = await shop.place(("LAMP", 1))
    (east,) = await shop.released(order)
    await shop.ships(order, east)
    # when
    outcome = await shop.amend(order, SetQuantity(line=1, quantity=2))
    await shop.delivers(order, east)
    # then
    assert (outcome.state, outcome.waiting) == ("confirmed", ((2, 1),))
    await shop.becomes(order, waiting_on="supply")
    await shop.receives("LAMP", "MID", 1)
    assert (await shop.supply_arrives(order, "LAMP")).units == 1
    await _ends(shop, order, 2500)


async def test_what_may_not_wait_is_declined_as_before(shop: Shop) -> None:
    """The customer wants no waiting; the item may not; the wanted day is nearer; something is swapped for nothing."""
    # given
    await shop.stocks("LAMP", EAST=1)
    await shop.stocks("MUG", EAST=1)
    await shop.lets_wait("LAMP")
    refuses = await shop.held(("MUG", 1), backorder=Backorder.REFUSE)
    waits = await shop.held(("LAMP", 1))
    more = AddLine(sku=shop.sku("LAMP"), quantity=1, unit_price_minor=100)
    # when
    answers = [
        await shop.amend(refuses, more),
        await shop.amend(waits, AddLine(sku=shop.sku("MUG"), quantity=1, unit_price_minor=100)),
        await shop.amend(waits, more, SetRequestedBy(requested_by=later(days=14).date()), command_id="amend-2"),
        await shop.amend(waits, Substitute(line=1, sku=shop.sku("MUG")), command_id="amend-3"),
    ]
    # then
    codes = ["out_of_stock", "out_of_stock", "promise_not_possible", "out_of_stock"]
    assert [(answer.state, answer.code) for answer in answers] == [("declined", code) for code in codes]
    assert (await _lines(shop, refuses), await _lines(shop, waits)) == ([{"reserved": 1}], [{"reserved": 1}])
    for order in (refuses, waits):
        await shop.cancel(order)
        assert (await order.handle.result()).status == "cancelled"
        await shop.agrees(order)


async def test_where_all_goes_together_all_of_it_waits(shop: Shop) -> None:
    """One is held, two more are not there: nothing is held meanwhile, and one parcel leaves with all three."""
    # given
    await shop.stocks("LAMP", EAST=1)
    await shop.lets_wait("LAMP")
    order = await shop.held(("LAMP", 1), split=Split.TOGETHER)
    # when
    outcome = await shop.amend(order, SetQuantity(line=1, quantity=3))
    # then
    assert (outcome.state, outcome.nodes) == ("confirmed", ())
    assert sorted(outcome.waiting) == [(1, 1), (2, 2)]
    assert await _lines(shop, order) == [{"backordered": 1}, {"backordered": 2}]
    assert await shop.reserved("LAMP") == {"EAST": 0}
    await shop.unheld(order)
    await shop.receives("LAMP", "EAST", 2)
    assert (await shop.supply_arrives(order, "LAMP")).units == 3
    await _ends(shop, order, 3500)
    assert len(await shop.parts(order)) == 1


async def test_what_waits_goes_on_waiting_at_another_tax(shop: Shop) -> None:
    """The units are re-taxed where they are: in no stock. Nothing that is held begins to wait for it."""
    # given
    await shop.stocks("LAMP", EAST=1)
    await shop.lets_wait("LAMP")
    order = await shop.place(("LAMP", 3))
    await shop.released(order)
    await shop.becomes(order, payment_status="authorized")
    tax = NewTax(currency="USD", lines=(LineTax(line=1, tax_minor=60),))
    # when
    outcome = await shop.amend(order, SetShipTo(country="US", region="MA", zone_id=ZONE, tax=tax))
    # then
    assert (outcome.state, outcome.tax_delta_minor, outcome.waiting) == ("confirmed", 60, ((2, 2),))
    assert (await _lines(shop, order))[0] == {"cancelled": 3}
    await shop.receives("LAMP", "EAST", 2)
    assert (await shop.supply_arrives(order, "LAMP")).units == 2
    await _ends(shop, order, 3560)


async def test_a_lost_answer_is_given_again(shop: Shop) -> None:
    """The commit was not noticed: the next attempt tells the same, and holds and lets wait nothing twice."""
    # given
    await shop.stocks("LAMP", EAST=3)
    await shop.lets_wait("LAMP")
    order = await shop.held(("LAMP", 2))
    told: dict[str, Any] = await shop.preview_amend(order, SetQuantity(line=1, quantity=5))
    ask = Amend.model_validate(told["ask"])
    activities, environment = AmendmentActivities(shop.engine), ActivityEnvironment()
    # when
    first = await environment.run(activities.apply, ask)
    second = await environment.run(activities.apply, ask)
    # then
    assert second == first
    assert await _lines(shop, order) == [{"reserved": 2}, {"reserved": 1, "backordered": 2}]
    assert (await shop.events(order)).count("order.backordered") == 1
    outcome = await shop.amend(order, SetQuantity(line=1, quantity=5), command_id=ask.command_id)
    assert (outcome.state, outcome.nodes, outcome.waiting) == ("confirmed", ("EAST",), ((2, 2),))
    assert (await shop.events(order)).count("order.backordered") == 1
    await shop.cancel(order)
    assert (await order.handle.result()).status == "cancelled"
    await shop.agrees(order)
