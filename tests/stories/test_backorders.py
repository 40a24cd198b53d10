"""Units that nobody has wait for supply: by the item's rule and the customer's wish, in turn, and not for ever."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from domain.orders import Backorder, NodeTrouble, ReportKind, Split
from tests.support.eventually import eventually
from tests.support.shop import Order, Shop, refusal_of
from workflows.messages import Accepted, Rejected

ShopWith = Callable[..., Awaitable[Shop]]
Part = dict[str, Any]


async def _lines(shop: Shop, order: Order) -> list[dict[str, int]]:
    """Units per bucket of every line, empty ones left out."""
    rows = await shop.sql(
        "SELECT open, reserved, backordered, allocated, released, shipped, delivered, cancelled FROM order_lines"
        " WHERE order_id = :o ORDER BY line_no",
        o=order.id,
    )
    return [{name: units for name, units in row.items() if units} for row in rows]


async def _waits(shop: Shop, order: Order, units: int) -> None:
    async def so() -> bool:
        return sum(line.get("backordered", 0) for line in await _lines(shop, order)) == units

    await eventually(so)


async def _promises(shop: Shop, order: Order) -> list[tuple[str, bool]]:
    """Cause of every promise, and whether the customer was told of it."""
    rows = await shop.sql(
        "SELECT cause, notice_event IS NOT NULL AS told FROM promises WHERE order_id = :o ORDER BY version", o=order.id
    )
    return [(row["cause"], row["told"]) for row in rows]


async def test_what_is_missing_waits_and_what_is_there_ships(shop: Shop) -> None:
    """CASE-R8, CAP-A08: one of three is there. It ships; the others wait, and go out when they have come."""
    # given
    await shop.stocks("LAMP", EAST=1)
    await shop.lets_wait("LAMP")
    # when
    order = await shop.place(("LAMP", 3))
    (east,) = await shop.released(order)
    # then
    assert isinstance(order.outcome, Accepted)
    assert order.outcome.waiting == ((1, 2),)
    assert await _lines(shop, order) == [{"backordered": 2, "released": 1}]
    await shop.ships(order, east)
    await shop.delivers(order, east)
    header = await shop.becomes(order, waiting_on="supply")
    assert (header["wait_cause"], header["wait_owner"]) == ("backorder", "inventory")
    assert header["wait_next_event"] == f"supply of {shop.sku('LAMP')} arrives, else it is cancelled"
    assert (await shop.money(order))["captured"] == 1167
    # when
    assert await shop.receives("LAMP", "MID", 5) == (order.id,)
    outcome = await shop.supply_arrives(order, "LAMP")
    again = await shop.supply_arrives(order, "LAMP")
    # then
    assert (outcome.applied, outcome.units) == (True, 2)
    assert again == outcome
    parts = await shop.released(order, 2)
    (mid,) = [part for part in parts if part["node_id"] == "MID"]
    await shop.ships(order, mid)
    await shop.delivers(order, mid)
    assert (await order.handle.result()).status == "completed"
    assert await shop.money(order) == {"authorized": 3500, "captured": 3500, "refunded": 0}
    assert await _promises(shop, order) == [("acceptance", False), ("supply_arrived", True)]
    events = await shop.rests(order)
    assert [e for e in events if "backorder" in e] == ["order.backordered", "backorder.filled"]
    kinds = [kind for kind, _, _ in await shop.notices(order)]
    assert kinds == [
        "order_confirmed",
        "backordered",
        "shipped",
        "delivered",
        "promise_changed",
        "shipped",
        "delivered",
    ]


async def test_who_refuses_to_wait_is_told_at_once(shop: Shop) -> None:
    """The item may be backordered; the customer does not want that."""
    await shop.stocks("LAMP", EAST=1)
    await shop.lets_wait("LAMP")
    order = await shop.place(("LAMP", 3), backorder=Backorder.REFUSE)
    assert isinstance(order.outcome, Rejected)
    assert order.outcome.code == "out_of_stock"
    assert await shop.reserved("LAMP") == {"EAST": 0}


async def test_an_item_that_may_not_wait_refuses_the_order(shop: Shop) -> None:
    """The customer would wait for both; the mug is not ordered again, and the order is refused for it alone."""
    await shop.stocks("LAMP", EAST=1)
    await shop.stocks("MUG", EAST=1)
    await shop.lets_wait("LAMP")
    order = await shop.place(("LAMP", 2), ("MUG", 2), backorder=Backorder.ACCEPT)
    assert isinstance(order.outcome, Rejected)
    assert [(line.sku, line.available) for line in order.outcome.lines] == [(shop.sku("MUG"), 1)]


async def test_the_rules_speak_for_customers_who_were_not_asked(shop_with: ShopWith) -> None:
    """A channel whose rule says no backorders only who asked for them."""
    shop = await shop_with(backorder_unasked=False)
    await shop.lets_wait("LAMP")
    assert isinstance((await shop.place(("LAMP", 1))).outcome, Rejected)
    assert isinstance((await shop.place(("LAMP", 1), backorder=Backorder.ACCEPT)).outcome, Accepted)


async def test_an_order_of_nothing_but_backorders_waits_for_all_of_it(shop: Shop) -> None:
    """CASE-R8, CASE-D5: nothing is there at all. It is paid, waits, shows it, and ships, earlier than promised."""
    # given
    await shop.lets_wait("LAMP")
    order = await shop.place(("LAMP", 2))
    header = await shop.waits_for_supply(order)
    # then
    assert header["reserved_until"] is None

    async def shown() -> bool:
        return (await shop.attributes(order))["WaitingOn"] == "supply"

    await eventually(shown)
    assert "backorder" in await shop.details(order)
    waits = await order.handle.query("waits")
    assert shop.when(waits["deadline"]) == header["wait_deadline"]
    # when
    await shop.receives("LAMP", "EAST", 1)
    first = await shop.supply_arrives(order, "LAMP")
    assert (first.units, await _promises(shop, order)) == (1, [("acceptance", False)])
    await shop.receives("LAMP", "EAST", 1)
    await shop.supply_arrives(order, "LAMP", "supply-2")
    # then
    (before, after) = await shop.sql(
        "SELECT promised_by FROM promises WHERE order_id = :o ORDER BY version", o=order.id
    )
    assert after["promised_by"] < before["promised_by"]
    assert (await shop.sees_through(order, 2)).status == "completed"
    await shop.agrees(order)


async def test_what_goes_together_waits_together(shop: Shop) -> None:
    """Nothing is held for weeks: all of it waits, until one node has all of it."""
    # given
    await shop.stocks("LAMP", EAST=1)
    await shop.lets_wait("LAMP")
    order = await shop.place(("LAMP", 2), split=Split.TOGETHER)
    await shop.waits_for_supply(order)
    assert await _lines(shop, order) == [{"backordered": 2}]
    assert await shop.reserved("LAMP") == {"EAST": 0}
    # when
    await shop.receives("LAMP", "MID", 1)
    apart = await shop.supply_arrives(order, "LAMP")
    await shop.receives("LAMP", "EAST", 1)
    whole = await shop.supply_arrives(order, "LAMP", "supply-2")
    # then
    assert (apart.applied, whole.units) == (False, 2)
    assert (await shop.sees_through(order)).status == "completed"
    assert await shop.on_hand("LAMP") == {"EAST": 0, "MID": 1}


async def test_supply_is_served_by_priority_then_by_age(shop_with: ShopWith) -> None:
    """CASE-A11: three wait for one unit; the important one gets it, then the oldest; nobody new gets in between."""
    # given
    shop = await shop_with()
    club = await shop_with(priority=5)
    await shop.lets_wait("LAMP")
    older = await shop.place(("LAMP", 1))
    younger = await shop.place(("LAMP", 1))
    member = await _same_item(club, shop, "LAMP")
    for order in (older, younger, member):
        await shop.waits_for_supply(order)
    # when
    assert await shop.receives("LAMP", "EAST", 2) == (member.id, older.id)
    new = await shop.place(("LAMP", 1), backorder=Backorder.REFUSE)
    outcomes = [await shop.supply_arrives(order, "LAMP") for order in (younger, older, member)]
    # then
    assert isinstance(new.outcome, Rejected)
    assert [outcome.units for outcome in outcomes] == [0, 1, 1]
    await shop.cancel(younger)
    assert (await younger.handle.result()).status == "cancelled"


async def _same_item(buyer: Shop, owner: Shop, name: str) -> Order:
    """An order in one channel for an item of another shop."""
    placed = buyer.order((name, 1))
    line = placed.lines[0]._replace(sku=owner.sku(name))
    return await buyer.submit(placed.model_copy(update={"lines": (line,)}))


async def test_units_that_others_wait_for_are_not_promised_again(shop: Shop) -> None:
    """CASE-A11: a short pick opens demand again; what comes in meanwhile is not sold to the next one before it."""
    # given
    await shop.stocks("LAMP", EAST=2)
    await shop.lets_wait("LAMP")
    order = await shop.place(("LAMP", 2))
    (east,) = await shop.released(order)
    await shop.report(order, east["fulfillment_id"], ReportKind.SHORT, lines=((1, 1),), cause=NodeTrouble.NOT_FOUND)
    await _waits(shop, order, 1)
    # when
    await shop.receives("LAMP", "MID", 2)
    greedy = await shop.place(("LAMP", 2), backorder=Backorder.REFUSE)
    modest = await shop.place(("LAMP", 1))
    # then
    assert isinstance(greedy.outcome, Rejected)
    assert greedy.outcome.lines[0].available == 1
    assert isinstance(modest.outcome, Accepted)
    assert (await shop.supply_arrives(order, "LAMP")).units == 1


async def test_a_short_pick_waits_for_supply_and_asks_the_node_again(shop: Shop) -> None:
    """CASE-A13: found late, and no error. The node that was short is asked again, once goods have come there."""
    # given
    await shop.stocks("LAMP", EAST=2)
    await shop.lets_wait("LAMP")
    order = await shop.place(("LAMP", 2))
    (east,) = await shop.released(order)
    await shop.report(order, east["fulfillment_id"], ReportKind.SHORT, lines=((1, 1),), cause=NodeTrouble.OTHER)
    await _waits(shop, order, 1)
    # when
    in_vain = await shop.supply_arrives(order, "LAMP")  # the unit is on the books there, and the node was short of it
    await shop.receives("LAMP", "EAST", 1)
    outcome = await shop.supply_arrives(order, "LAMP", "supply-2")
    # then
    assert (in_vain.applied, outcome.units) == (False, 1)
    parts = await shop.released(order, 2)
    assert [part["node_id"] for part in parts] == ["EAST", "EAST"]
    for part in parts:
        await shop.ships(order, part)
        await shop.delivers(order, part)
    assert (await order.handle.result()).status == "completed"
    await shop.agrees(order)
    assert await _promises(shop, order) == [("acceptance", False), ("short_pick", True), ("supply_arrived", True)]


async def test_a_lost_word_loses_nothing(shop_with: ShopWith) -> None:
    """Nobody tells the order; it looks by itself."""
    shop = await shop_with(backorder_retry_s=2)
    await shop.lets_wait("LAMP")
    order = await shop.place(("LAMP", 1))
    await shop.waits_for_supply(order)
    await shop.receives("LAMP", "EAST", 1)
    assert (await shop.sees_through(order)).status == "completed"
    await shop.agrees(order)


async def test_what_no_supply_came_for_is_cancelled_and_the_rest_goes_on(shop_with: ShopWith) -> None:
    """The limit passes: exactly the units that waited are cancelled, with notice, and are not charged."""
    shop = await shop_with(backorder_limit_s=2)
    await shop.stocks("LAMP", EAST=1)
    await shop.lets_wait("LAMP")
    order = await shop.place(("LAMP", 2))
    await shop.becomes(order, owed_minor=1250)
    assert (await shop.sees_through(order)).status == "completed"
    assert await shop.money(order) == {"authorized": 2500, "captured": 1250, "refunded": 0}
    await shop.agrees(order)
    (event,) = await shop.sql(
        "SELECT cause, data FROM order_events WHERE order_id = :o AND type = 'cancellation.confirmed'", o=order.id
    )
    assert (event["cause"], event["data"]["units"]) == ("no_supply", 1)
    assert "units_cancelled" in [kind for kind, _, _ in await shop.notices(order)]


async def test_every_order_ends_by_rule_whatever_becomes_of_its_neighbour(shop_with: ShopWith) -> None:
    """CASE-D10: one never pays, one is never filled, one cannot let its money go; each ends on its own."""
    shop = await shop_with(backorder_limit_s=2, payment_window_s=2)
    await shop.stocks("MUG", EAST=1)
    await shop.lets_wait("LAMP")
    bad = shop.order(("LAMP", 1))
    shop.control(bad, "payments.down", 1)
    stuck = await shop.submit(bad)
    unpaid = await shop.place(("MUG", 1), pay="pm_declined")
    unfillable = await shop.place(("LAMP", 1))
    for order in (unpaid, unfillable):
        assert (await order.handle.result()).status == "cancelled"
        assert [kind for kind, _, _ in await shop.notices(order)][-1] == "order_cancelled"
        await shop.agrees(order)
    shop.normal(bad, "payments.down")
    assert (await stuck.handle.result()).status == "cancelled"
    assert (await shop.money(unfillable))["captured"] == 0


async def test_cancelling_and_splitting_leave_what_waits_where_it_is(shop: Shop) -> None:
    """CASE-A12: the other line is cancelled, then one of the waiting units: each leaves the others' buckets alone."""
    # given
    await shop.stocks("MUG", EAST=1, MID=1)
    await shop.lets_wait("LAMP")
    order = await shop.place(("LAMP", 3), ("MUG", 2))
    parts = await shop.released(order, 2)
    # when
    await shop.cancel(order, lines=[(2, 1)])
    # then
    lines = await _lines(shop, order)
    assert lines[0] == {"backordered": 3}
    assert (lines[1]["cancelled"], lines[1].get("released")) == (1, 1)
    # when
    outcome = await shop.cancel(order, "cancel-2", lines=[(1, 1)])
    # then
    assert (outcome.state, outcome.lines[0].cancelled) == ("confirmed", 1)
    assert await _lines(shop, order) == [{"backordered": 2, "cancelled": 1}, {"released": 1, "cancelled": 1}]
    live = [part for part in await shop.parts(order) if part["stage"] == "released"]
    await shop.ships(order, live[0])
    await shop.delivers(order, live[0])
    await shop.cancel(order, "cancel-3")
    assert (await order.handle.result()).status == "completed"
    await shop.agrees(order)
    assert len(parts) == 2


async def test_supply_of_something_else_is_no_business_of_the_order(shop: Shop) -> None:
    """Refused by name, and nothing is written; a late word to an order that has all of it too."""
    await shop.stocks("MUG", EAST=2)
    await shop.lets_wait("LAMP")
    order = await shop.place(("LAMP", 1), ("MUG", 1))
    (part,) = await shop.released(order)
    before = await shop.header(order)
    refusal = await refusal_of(shop.supply_arrives(order, "MUG"))
    assert refusal.code == "nothing_backordered"
    assert await shop.header(order) == before
    await shop.signal(order, "supply_arrived", {"command_id": "signal-1", "sku": shop.sku("MUG")})
    assert (await shop.command(order, "signal-1"))["state"] == "refused"
    await shop.signal(order, "supply_arrived", {"sku": 7})
    await shop.cancel(order, lines=[(1, 1)])
    await shop.ships(order, part)
    await shop.delivers(order, part)
    assert (await order.handle.result()).status == "completed"
    assert ("supply_arrived", "failed") in await shop.commands(order)


async def test_who_has_not_paid_is_not_served_and_looks_as_soon_as_it_has(shop: Shop) -> None:
    """Supply that comes too early is held once the payment is there."""
    await shop.lets_wait("LAMP")
    order = await shop.place(("LAMP", 1), pay="pm_declined")
    await shop.becomes(order, wait_cause="payment_declined")
    await shop.receives("LAMP", "EAST", 1)
    early = await shop.supply_arrives(order, "LAMP")
    assert (early.applied, early.why) == (False, "the payment, or a hold that is overdue, comes first")
    await shop.new_method(order, "pm_ok")
    assert (await shop.sees_through(order)).status == "completed"
    await shop.agrees(order)


async def test_what_somebody_cancels_goes_to_who_waits(shop: Shop) -> None:
    """CASE-A11: freed units are told to whom they belong next, by a command that the sweep sends, and to no other."""
    # given
    await shop.stocks("LAMP", EAST=2)
    await shop.lets_wait("LAMP")
    has_them = await shop.place(("LAMP", 2))
    await shop.released(has_them)
    first, second = await shop.place(("LAMP", 1)), await shop.place(("LAMP", 2))
    for order in (first, second):
        await shop.waits_for_supply(order)
    # when
    await shop.cancel(has_them, lines=[(1, 1)])
    told = await shop.sql(
        "SELECT order_id, command_id, payload, next_send_at <= now() AS due FROM commands"
        " WHERE kind = 'supply_arrived' AND order_id = ANY(:o)",
        o=[first.id, second.id],
    )
    # then
    assert [(row["order_id"], row["due"]) for row in told] == [(first.id, True)]
    await shop.signal(first, "supply_arrived", told[0]["payload"])
    command = await shop.command(first, told[0]["command_id"])
    assert (command["state"], command["outcome"]["units"], command["actor"]["kind"]) == ("applied", 1, "system")
    for order in (first, second, has_them):
        await shop.cancel(order, "cancel-2")
        await shop.agrees(order)


async def test_a_crowd_is_served_in_turn_whoever_shouts_first(shop: Shop) -> None:
    """CASE-A1: twelve wait, six units come, all are told at once, the youngest first: the oldest six get them."""
    # given
    await shop.lets_wait("LAMP")
    orders = [await shop.place(("LAMP", 1)) for _ in range(12)]
    for order in orders:
        await shop.waits_for_supply(order)
    # when
    told = await shop.receives("LAMP", "EAST", 6)
    first = await asyncio.gather(*(shop.supply_arrives(order, "LAMP") for order in reversed(orders)))
    again = await asyncio.gather(*(_asks_again(shop, order) for order in orders))
    # then
    assert told == tuple(order.id for order in orders[:6])
    assert sum(outcome.units for outcome in first) <= 6
    assert again == [True] * 6 + [False] * 6
    assert await shop.reserved("LAMP") == {"EAST": 6}


async def _asks_again(shop: Shop, order: Order) -> bool:
    """Whether the order has its units, once it has been told again."""
    if (await _lines(shop, order)) == [{"backordered": 1}]:
        await shop.supply_arrives(order, "LAMP", "supply-2")
    return (await _lines(shop, order)) != [{"backordered": 1}]


async def test_an_operator_makes_it_look_now(shop: Shop) -> None:
    """`retry_now` is the word for every order that waits: it looks, long before its interval is over."""
    await shop.lets_wait("LAMP")
    order = await shop.place(("LAMP", 1))
    await shop.waits_for_supply(order)
    await shop.receives("LAMP", "EAST", 1)
    await shop.retry(order)
    assert (await shop.sees_through(order)).status == "completed"
