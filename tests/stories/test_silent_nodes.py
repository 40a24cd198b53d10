"""A node is silent beyond its limit: it is asked to stop, and another node ships; silence is never consent."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from domain.orders import NodeTrouble, ReportKind
from tests.support.eventually import eventually
from tests.support.shop import Order, Shop, refusal_of

ShopWith = Callable[..., Awaitable[Shop]]
EAST_IS_SLOW = {"nodes": {"EAST": {"accept_s": 1}}}


async def _at(shop: Shop, order: Order, node: str, **wanted: object) -> dict[str, Any]:
    """The newest fulfillment order of a node, once it is as wanted."""

    async def there() -> dict[str, Any] | None:
        found = [part for part in await shop.parts(order) if part["node_id"] == node]
        newest = max(found, key=lambda part: part["generation"], default=None)
        return newest if newest and all(newest[name] == value for name, value in wanted.items()) else None

    return await eventually(there)


async def _case(shop: Shop, order: Order, code: str) -> None:
    async def opened() -> bool:
        return (code, "fulfillment", "open") in await shop.cases(order)

    await eventually(opened)


async def test_what_a_silent_node_does_not_accept_another_node_ships(shop: Shop) -> None:
    """It is asked to stop, its stock is as it was, the promise moves once with the reason, and nothing doubles."""
    # given
    await shop.ruleset("node_silence", EAST_IS_SLOW)
    await shop.stocks("LAMP", EAST=2, MID=5)
    # when
    order = await shop.place(("LAMP", 2))
    mid = await _at(shop, order, "MID", stage="released")
    # then
    east = await _at(shop, order, "EAST", state="rejected", stage="open")
    levels = await shop.sql(
        "SELECT node_id, on_hand, unavailable, reserved FROM stock_levels WHERE sku = :s ORDER BY node_id",
        s=shop.sku("LAMP"),
    )
    assert [tuple(level.values()) for level in levels] == [("EAST", 2, 0, 0), ("MID", 5, 0, 2)]
    promises = await shop.sql("SELECT cause, live FROM promises WHERE order_id = :o ORDER BY version", o=order.id)
    assert promises == [{"cause": "acceptance", "live": False}, {"cause": "node_late", "live": True}]
    (decision,) = await shop.sql(
        "SELECT record FROM decisions WHERE order_id = :o ORDER BY created_at DESC LIMIT 1", o=order.id
    )
    reasons = {left["node_id"]: left["reason"] for left in decision["record"]["excluded"]}
    assert reasons["EAST"] == "barred_after_short"
    await shop.ships(order, mid)
    await shop.delivers(order, mid)
    assert (await order.handle.result()).status == "completed"
    events = await shop.rests(order)
    assert [events.count(f"fulfillment.{kind}") for kind in ("recalled", "given_up", "kept")] == [1, 1, 0]
    assert await shop.cases(order) == []
    assert (await shop.money(order))["captured"] == 2500
    assert east["tracking_number"] is None


@pytest.mark.parametrize("kind", [ReportKind.ACCEPTED, ReportKind.PACKED, ReportKind.SHORT, ReportKind.REJECTED])
async def test_a_late_report_of_a_node_that_was_given_up_is_refused_by_name(shop: Shop, kind: ReportKind) -> None:
    """It changes nothing, and says what to do with the goods."""
    # given
    await shop.ruleset("node_silence", EAST_IS_SLOW)
    await shop.stocks("LAMP", EAST=1, MID=1)
    order = await shop.place(("LAMP", 1))
    mid = await _at(shop, order, "MID", stage="released")
    east = await _at(shop, order, "EAST", state="rejected")
    before = await shop.header(order)
    # when
    more = {"lines": ((1, 1),), "cause": NodeTrouble.DAMAGED} if kind is ReportKind.SHORT else {}
    refusal = await refusal_of(shop.report(order, east["fulfillment_id"], kind, **more))
    # then
    assert refusal.code == "node_given_up"
    assert refusal.detail == (
        f"EAST was given up for {east['fulfillment_id']} (node_silent): its units go elsewhere;"
        " put back what was picked"
    )
    assert await shop.header(order) == before
    await shop.ships(order, mid)
    await shop.delivers(order, mid)
    assert (await order.handle.result()).status == "completed"
    await shop.agrees(order)


async def test_a_node_that_accepted_and_does_not_pack_is_left_too(shop: Shop) -> None:
    """Its longer limit begins with the acceptance."""
    # given
    await shop.ruleset("node_silence", {"nodes": {"EAST": {"pack_s": 1}}})
    await shop.stocks("LAMP", EAST=1, MID=1)
    order = await shop.place(("LAMP", 1))
    (east,) = await shop.released(order)
    # when
    await shop.report(order, east["fulfillment_id"], ReportKind.ACCEPTED)
    mid = await _at(shop, order, "MID", stage="released")
    # then
    await _at(shop, order, "EAST", state="rejected", stage="open")
    await shop.ships(order, mid)
    await shop.delivers(order, mid)
    assert (await order.handle.result()).status == "completed"
    await shop.agrees(order)


async def test_a_node_that_cannot_stop_any_more_ships_and_a_person_knows(shop: Shop) -> None:
    """Nothing is sourced anew; the case closes once the node goes on."""
    # given
    await shop.ruleset("node_silence", EAST_IS_SLOW)
    await shop.stocks("LAMP", EAST=1, MID=1)
    placed = shop.order(("LAMP", 1))
    shop.control(placed, "warehouses.stop", "too_late")
    # when
    order = await shop.submit(placed)
    await _case(shop, order, "node_silent")
    # then
    east = await _at(shop, order, "EAST", state="submitted", stage="released")
    assert await shop.reserved("LAMP") == {"EAST": 1, "MID": 0}
    await shop.ships(order, east)
    await shop.delivers(order, east)
    assert (await order.handle.result()).status == "completed"
    events = await shop.rests(order)
    assert [events.count(f"fulfillment.{kind}") for kind in ("recalled", "given_up", "kept")] == [1, 0, 1]
    assert await shop.cases(order) == [("node_silent", "fulfillment", "auto_closed")]


async def test_silence_on_the_question_to_stop_is_no_consent(shop_with: ShopWith) -> None:
    """A case is open and nothing moves; the late consent counts."""
    # given
    shop = await shop_with(node_stop_answer_s=1)
    await shop.ruleset("node_silence", EAST_IS_SLOW)
    await shop.stocks("LAMP", EAST=1, MID=1)
    placed = shop.order(("LAMP", 1))
    shop.control(placed, "warehouses.stop", "answer_follows")
    order = await shop.submit(placed)
    # when
    await _case(shop, order, "node_silent_on_stop")
    # then
    assert await shop.reserved("LAMP") == {"EAST": 1, "MID": 0}
    east = await _at(shop, order, "EAST", state="cancellation_requested")
    await shop.report(order, east["fulfillment_id"], ReportKind.CANCEL_AGREED)
    mid = await _at(shop, order, "MID", stage="released")
    await shop.ships(order, mid)
    await shop.delivers(order, mid)
    assert (await order.handle.result()).status == "completed"
    await shop.agrees(order)


async def test_the_silent_node_is_the_last_resort(shop: Shop) -> None:
    """Others took the units while it was asked: it gets the work again, and nobody's order is cancelled for it."""
    # given
    await shop.ruleset("node_silence", EAST_IS_SLOW)
    await shop.stocks("LAMP", EAST=1, MID=1)
    placed = shop.order(("LAMP", 1))
    shop.control(placed, "warehouses.stop", "answer_follows")
    order = await shop.submit(placed)
    east = await _at(shop, order, "EAST", state="cancellation_requested")
    await shop.sql("UPDATE stock_levels SET safety = 1 WHERE sku = :s AND node_id = 'MID'", s=shop.sku("LAMP"))
    # when
    await shop.report(order, east["fulfillment_id"], ReportKind.CANCEL_AGREED)

    async def again() -> dict[str, Any] | None:
        new = [p for p in await shop.parts(order) if p["fulfillment_id"] != east["fulfillment_id"]]
        return new[0] if new and new[0]["stage"] == "released" else None

    second = await eventually(again)
    # then
    assert second["node_id"] == "EAST"
    await shop.ships(order, second)
    await shop.delivers(order, second)
    assert (await order.handle.result()).status == "completed"
    await shop.agrees(order)


async def test_where_the_rule_says_case_a_person_decides(shop_with: ShopWith) -> None:
    """The other node has the units, and nothing is taken from the silent one before somebody says: again."""
    # given
    shop = await shop_with(node_accept_s=1)
    await shop.ruleset("node_silence", {"action": "case"})
    await shop.stocks("LAMP", EAST=1, MID=1)
    # when
    order = await shop.place(("LAMP", 1))
    await _case(shop, order, "node_silent")
    # then
    assert [part["state"] for part in await shop.parts(order)] == ["submitted"]
    assert "fulfillment.recalled" not in await shop.events(order)
    await shop.retry(order)
    mid = await _at(shop, order, "MID", stage="released")
    await shop.ships(order, mid)
    await shop.delivers(order, mid)
    assert (await order.handle.result()).status == "completed"
    await shop.agrees(order)


async def test_stock_that_arrives_later_is_found_by_a_retry(shop: Shop) -> None:
    """At first no other node has it; told to look again, the order finds it."""
    # given
    await shop.ruleset("node_silence", EAST_IS_SLOW)
    await shop.stocks("LAMP", EAST=1)
    order = await shop.place(("LAMP", 1))
    await _case(shop, order, "node_silent")
    # when
    await shop.retry(order, "too-early")
    await shop.stocks("LAMP", MID=1)
    await shop.retry(order, "in-time")
    mid = await _at(shop, order, "MID", stage="released")
    # then
    await shop.ships(order, mid)
    await shop.delivers(order, mid)
    assert (await order.handle.result()).status == "completed"
    events = await shop.rests(order)
    assert events.count("fulfillment.given_up") == 1


async def test_the_limit_and_what_follows_are_seen_by_everybody(shop: Shop) -> None:
    """The details of the workflow, and the row that the API shows, name the node's own limit."""
    # given
    await shop.ruleset("node_silence", {"nodes": {"EAST": {"accept_s": 3600}}})
    await shop.stocks("LAMP", EAST=1)
    # when
    order = await shop.place(("LAMP", 1))
    (east,) = await shop.released(order)
    header = await shop.header(order)
    # then
    text = "the node accepts or packs; else another node is looked for"
    assert (header["wait_cause"], header["wait_next_event"]) == ("node_acceptance", text)
    assert header["wait_deadline"] == east["wait_deadline"]
    assert (east["wait_deadline"] - east["wait_since"]).total_seconds() == 3600
    assert text in await shop.details(order)
    assert (await shop.sees_through(order)).status == "completed"


async def test_a_cancellation_while_the_node_is_asked_meets_its_answer(shop: Shop) -> None:
    """Two questions about the same units are one too many; afterwards the units are cancelled at once."""
    # given
    await shop.ruleset("node_silence", EAST_IS_SLOW)
    await shop.stocks("LAMP", EAST=1, MID=1)
    placed = shop.order(("LAMP", 1))
    shop.control(placed, "warehouses.stop", "answer_follows")
    order = await shop.submit(placed)
    east = await _at(shop, order, "EAST", state="cancellation_requested")
    # when
    refusal = await shop.try_cancel(order)
    await shop.report(order, east["fulfillment_id"], ReportKind.CANCEL_AGREED)
    await _at(shop, order, "MID", stage="released")
    # then
    assert refusal.code == "cancellation_in_progress"
    shop.control(placed, "warehouses.stop", "stopped")
    await shop.cancel(order, "cancel-2")
    assert (await order.handle.result()).status == "cancelled"
    assert await shop.reserved("LAMP") == {"EAST": 0, "MID": 0}
    await shop.agrees(order)
