"""Risk rules judge an order once, at acceptance: what matches is held for finance; nothing is lost for a wrong rule."""

from typing import Any

from domain.orders import Actor, ActorKind
from tests.support.eventually import eventually
from tests.support.shop import Order, Shop
from workflows.messages import HoldOutcome, ReleaseHold

FINN = Actor(kind=ActorKind.PERSON, id="finn", role="finance")


async def _rules(shop: Shop, *rules: tuple[str, str], version: int = 1) -> None:
    """The ruleset `risk` of this shop's channel, unchecked: as somebody may have written it past the API."""
    body = {"rules": [{"name": name, "when": when} for name, when in rules]}
    await shop.ruleset("risk", body, version)


async def _holds(shop: Shop, order: Order) -> list[dict[str, Any]]:
    return await shop.sql(
        "SELECT hold_id, type, state, reason, at_limit, owner FROM holds WHERE order_id = :o", o=order.id
    )


async def test_an_order_that_a_rule_names_waits_for_finance(shop: Shop) -> None:
    """It is promised and paid, and nothing is committed before finance has looked; then it ships."""
    # given
    await _rules(shop, ("huge", "total_minor > 1000000"), ("many_lamps", "units >= 2"), ("any", "units >= 1"))
    await shop.stocks("LAMP", EAST=2)
    # when
    order = await shop.place(("LAMP", 2))
    header = await shop.becomes(order, payment_status="authorized", wait_cause="hold")
    # then
    (hold,) = await _holds(shop, order)
    assert (hold["type"], hold["state"], hold["reason"], hold["at_limit"], hold["owner"]) == (
        "fraud",
        "placed",
        "many_lamps",
        "reject",
        "finance",
    )
    assert (header["waiting_on"], header["wait_owner"]) == ("hold", "finance")
    assert await shop.parts(order) == []
    assert (await shop.attributes(order))["OrderHolds"] == ["fraud"]
    (decision,) = await shop.sql(
        "SELECT ruleset, record FROM decisions WHERE order_id = :o AND kind = 'risk'", o=order.id
    )
    assert decision["ruleset"] == f"risk:{shop.channel}@1"
    assert decision["record"]["matched"] == ["many_lamps", "any"]
    assert decision["record"]["failed"] == []
    assert decision["record"]["facts"]["total_minor"] == 2500
    message = ReleaseHold(command_id="ok", hold_id=hold["hold_id"], actor=FINN)
    await shop.stores(order, "release_hold", message, FINN)
    await order.handle.execute_update("release_hold", message, id="ok", result_type=HoldOutcome)
    assert (await shop.sees_through(order)).status == "completed"
    await shop.agrees(order)


async def test_rejecting_the_hold_cancels_the_order_with_stock_and_money_back(shop: Shop) -> None:
    """CAP-B03: as fraud."""
    # given
    await _rules(shop, ("any", "true"))
    await shop.stocks("LAMP", EAST=1)
    order = await shop.place(("LAMP", 1))
    await shop.becomes(order, payment_status="authorized", wait_cause="hold")
    (hold,) = await _holds(shop, order)
    # when
    await shop.end_hold(order, hold["hold_id"], "reject")
    # then
    assert (await order.handle.result()).status == "cancelled"
    assert await shop.reserved("LAMP") == {"EAST": 0}
    assert (await shop.money(order))["captured"] == 0
    await shop.agrees(order)


async def test_what_no_rule_names_goes_on_and_says_by_which_version(shop: Shop) -> None:
    """The version is pinned: newer rules are for newer orders."""
    # given
    await _rules(shop, ("huge", "total_minor > 1000000"))
    await shop.stocks("LAMP", EAST=2)
    # when
    order = await shop.place(("LAMP", 1))
    await _rules(shop, ("any", "true"), version=2)
    later = await shop.place(("LAMP", 1))
    # then
    assert await _holds(shop, order) == []
    assert [hold["reason"] for hold in await _holds(shop, later)] == ["any"]
    rules = [
        row["risk"]
        for one in (order, later)
        for row in await shop.sql("SELECT rules ->> 'risk' AS risk FROM orders WHERE order_id = :o", o=one.id)
    ]
    assert rules == [f"risk:{shop.channel}@1", f"risk:{shop.channel}@2"]
    assert (await shop.sees_through(order)).status == "completed"


async def test_a_rule_that_cannot_be_evaluated_holds_for_a_person_and_loses_nothing(shop: Shop) -> None:
    """At its limit finance is asked again; the order is neither cancelled nor let go by itself."""
    # given
    await _rules(shop, ("broken", "no_such_fact > 1"), ("unreadable", "total_minor >"))
    await shop.stocks("LAMP", EAST=1)
    # when
    order = await shop.place(("LAMP", 1))
    await shop.becomes(order, payment_status="authorized", wait_cause="hold")
    # then
    (hold,) = await _holds(shop, order)
    assert (hold["type"], hold["reason"], hold["at_limit"]) == ("fraud", "risk_not_evaluated", "escalate")
    (decision,) = await shop.sql("SELECT record FROM decisions WHERE order_id = :o AND kind = 'risk'", o=order.id)
    assert [one["rule"] for one in decision["record"]["failed"]] == ["broken", "unreadable"]
    await shop.end_hold(order, hold["hold_id"])
    assert (await shop.sees_through(order)).status == "completed"


async def test_a_document_that_cannot_be_read_holds_too(shop: Shop) -> None:
    """Somebody wrote it past the API."""
    # given
    await shop.ruleset("risk", {"rules": 7})
    await shop.stocks("LAMP", EAST=1)
    # when
    order = await shop.place(("LAMP", 1))
    # then
    assert [(hold["reason"], hold["at_limit"]) for hold in await _holds(shop, order)] == [
        ("risk_not_evaluated", "escalate")
    ]


async def test_the_units_of_a_held_order_are_kept_for_it(shop_with: Any) -> None:
    """The reservation lasts as long as the hold, not as long as the usual limit."""
    # given
    shop: Shop = await shop_with(reservation_limit_s=1)
    await _rules(shop, ("any", "true"))
    await shop.stocks("LAMP", EAST=1)
    # when
    order = await shop.place(("LAMP", 1))
    header = await shop.header(order)
    # then
    (row,) = await shop.sql("SELECT expires_at FROM holds WHERE order_id = :o", o=order.id)
    assert header["reserved_until"] == row["expires_at"]

    async def state() -> bool:
        told = await order.handle.query("state")
        return bool(told["holds"]) and told["reserved_until"] is not None

    await eventually(state)
