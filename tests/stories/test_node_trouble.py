"""A node cannot ship: rejected, or short of some units; the remainder is sourced again without it."""

import pytest

from domain.amendment import SetQuantity
from domain.orders import NodeTrouble, ReportKind, Split
from tests.support.eventually import eventually
from tests.support.shop import Order, Shop, refusal_of


async def _released_at(shop: Shop, order: Order, node: str) -> dict[str, object]:
    """The fulfillment order that this node was given."""

    async def there() -> dict[str, object] | None:
        found = [p for p in await shop.parts(order) if p["node_id"] == node and p["stage"] == "released"]
        return found[0] if found else None

    return await eventually(there)


@pytest.mark.parametrize(
    ("cause", "on_hand", "unavailable"),
    [(NodeTrouble.NOT_FOUND, 1, 0), (NodeTrouble.DAMAGED, 2, 1), (NodeTrouble.OTHER, 2, 0)],
)
async def test_a_short_pick_moves_the_rest_to_another_node_and_corrects_the_stock(
    shop: Shop, cause: NodeTrouble, on_hand: int, unavailable: int
) -> None:
    """CAP-D08: one of two is missing at EAST; MID ships it later, so the promise moves once, with the reason."""
    # given
    await shop.stocks("LAMP", EAST=2, MID=5)
    order = await shop.place(("LAMP", 2))
    (east,) = await shop.released(order)
    # when
    outcome = await shop.report(order, east["fulfillment_id"], ReportKind.SHORT, lines=((1, 1),), cause=cause)
    mid = await _released_at(shop, order, "MID")
    # then
    assert (outcome.state, outcome.stage) == ("in_progress", "released")
    (level,) = await shop.sql(
        "SELECT on_hand, unavailable, reserved FROM stock_levels WHERE sku = :s AND node_id = 'EAST'",
        s=shop.sku("LAMP"),
    )
    assert level == {"on_hand": on_hand, "unavailable": unavailable, "reserved": 1}
    promises = await shop.sql(
        "SELECT version, cause, live, notice_event IS NOT NULL AS told FROM promises"
        " WHERE order_id = :o ORDER BY version",
        o=order.id,
    )
    assert promises == [
        {"version": 0, "cause": "acceptance", "live": False, "told": False},
        {"version": 1, "cause": "short_pick", "live": True, "told": True},
    ]
    for part in (east, mid):
        await shop.ships(order, part)
        await shop.delivers(order, part)
    assert (await order.handle.result()).status == "completed"
    assert (await shop.money(order))["captured"] == 2500
    events = await shop.rests(order)
    assert events.count("fulfillment.short") == 1
    assert events.count("promise.changed") == 1


async def test_a_promise_that_a_change_made_is_the_one_that_moves(shop: Shop) -> None:
    """The customer's change made a second original promise: what the node is short of moves that one, not the first."""
    # given
    await shop.stocks("LAMP", EAST=2, MID=5)
    order = await shop.held(("LAMP", 1))
    await shop.amend(order, SetQuantity(line=1, quantity=2))
    await shop.unheld(order)
    (east,) = await shop.released(order)
    # when
    await shop.report(order, east["fulfillment_id"], ReportKind.SHORT, lines=((2, 1),), cause=NodeTrouble.DAMAGED)
    mid = await _released_at(shop, order, "MID")
    # then
    promises = await shop.sql(
        "SELECT promise_no, version, cause, live FROM promises WHERE order_id = :o ORDER BY promise_no, version",
        o=order.id,
    )
    assert promises == [
        {"promise_no": 1, "version": 0, "cause": "acceptance", "live": False},
        {"promise_no": 2, "version": 0, "cause": "amendment", "live": False},
        {"promise_no": 2, "version": 1, "cause": "short_pick", "live": True},
    ]
    for part in (east, mid):
        await shop.ships(order, part)
        await shop.delivers(order, part)
    assert (await order.handle.result()).status == "completed"
    await shop.agrees(order)


async def test_a_rejection_sends_all_of_it_to_another_node(shop: Shop) -> None:
    """The node that rejected is left out, though it has the stock."""
    # given
    await shop.stocks("LAMP", EAST=2, MID=2)
    order = await shop.place(("LAMP", 2))
    (east,) = await shop.released(order)
    # when
    outcome = await shop.report(order, east["fulfillment_id"], ReportKind.REJECTED, cause=NodeTrouble.NO_CAPACITY)
    again = await shop.report(order, east["fulfillment_id"], ReportKind.REJECTED, cause=NodeTrouble.NO_CAPACITY)
    mid = await _released_at(shop, order, "MID")
    # then
    assert (outcome.state, outcome.stage) == ("rejected", "open")
    assert again == outcome
    assert await shop.reserved("LAMP") == {"EAST": 0, "MID": 2}
    (decision,) = await shop.sql(
        "SELECT record FROM decisions WHERE order_id = :o ORDER BY created_at DESC LIMIT 1", o=order.id
    )
    reasons = {left["node_id"]: left["reason"] for left in decision["record"]["excluded"]}
    assert reasons["EAST"] == "barred_after_short"
    await shop.ships(order, mid)
    await shop.delivers(order, mid)
    assert (await order.handle.result()).status == "completed"
    await shop.agrees(order)


async def test_what_nobody_has_is_cancelled_and_the_rest_ships(shop: Shop) -> None:
    """CASE-A13: the stock-out is found late; it is no error, what there is ships and what is missing is not charged."""
    # given
    await shop.stocks("LAMP", EAST=3)
    order = await shop.place(("LAMP", 3))
    (east,) = await shop.released(order)
    # when
    await shop.report(order, east["fulfillment_id"], ReportKind.SHORT, lines=((1, 1),), cause=NodeTrouble.NOT_FOUND)
    await shop.becomes(order, owed_minor=2334)
    # then
    assert (await shop.sees_through(order)).status == "completed"
    assert await shop.money(order) == {"authorized": 3500, "captured": 2334, "refunded": 0}
    assert "cancellation.confirmed" in await shop.rests(order)


async def test_who_wants_all_of_it_together_gets_none_of_it_in_part(shop: Shop) -> None:
    """A short pick that nothing can cover cancels the whole order where it must not be split."""
    # given
    await shop.stocks("LAMP", EAST=3)
    order = await shop.place(("LAMP", 3), split=Split.TOGETHER)
    (east,) = await shop.released(order)
    # when
    await shop.report(order, east["fulfillment_id"], ReportKind.SHORT, lines=((1, 1),), cause=NodeTrouble.NOT_FOUND)
    # then
    assert (await order.handle.result()).status == "cancelled"
    assert await shop.reserved("LAMP") == {"EAST": 0}
    await shop.agrees(order)


async def test_a_node_cannot_be_short_of_more_than_it_was_given(shop: Shop) -> None:
    """Refused by name, and nothing changes."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2))
    (east,) = await shop.released(order)
    before = await shop.header(order)
    # when
    refusal = await refusal_of(
        shop.report(order, east["fulfillment_id"], ReportKind.SHORT, lines=((1, 3),), cause=NodeTrouble.DAMAGED)
    )
    # then
    assert (refusal.code, refusal.detail) == ("quantity_exceeds_released", "line 1: 3 units reported, 2 are there")
    assert await shop.header(order) == before
    assert (await shop.sees_through(order)).status == "completed"


async def test_a_packed_parcel_that_turns_out_broken_gives_its_label_back(shop: Shop) -> None:
    """All of it is damaged after the label was bought: another node ships, the label is voided."""
    # given
    await shop.stocks("LAMP", EAST=1, MID=1)
    order = await shop.place(("LAMP", 1))
    (east,) = await shop.released(order)
    await shop.packs(order, east)
    # when
    await shop.report(order, east["fulfillment_id"], ReportKind.SHORT, lines=((1, 1),), cause=NodeTrouble.DAMAGED)
    mid = await _released_at(shop, order, "MID")
    await shop.ships(order, mid)
    await shop.delivers(order, mid)
    # then
    assert (await order.handle.result()).status == "completed"
    assert "shipment.label_voided" in await shop.rests(order)
