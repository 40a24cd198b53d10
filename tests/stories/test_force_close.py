"""An order that nothing else ends is closed by force: what can be undone is undone, and a person gets the rest."""

from typing import Any

import pytest
from temporalio.client import WorkflowUpdateStage

from domain.orders import Actor, ActorKind, CancelReason, CarrierEventType, Remedy
from store.checks import run_checks
from tests.support.eventually import eventually
from tests.support.shop import Order, Shop, refusal_of
from workflows.messages import CancelOrder, ForceClose


async def is_lawful(shop: Shop, order: Order) -> None:
    """The order is over, workflow and database agree, and no law is broken by it."""
    await shop.agrees(order)
    broken = [
        (verdict.check, key)
        for verdict in (await run_checks(shop.engine)).verdicts
        for key in verdict.keys
        if order.id in key or any(t["tender_id"] == key for t in await _tenders(shop, order))
    ]
    assert broken == []
    assert (await shop.header(order))["terminal"]


async def _tenders(shop: Shop, order: Order) -> list[dict[str, Any]]:
    return await shop.sql("SELECT tender_id FROM tenders WHERE order_id = :o", o=order.id)


async def the_case(shop: Shop, order: Order) -> tuple[str, str]:
    """Owner and text of the one case that is left."""
    rows = await shop.sql(
        "SELECT owner, detail FROM exceptions WHERE order_id = :o AND open AND code = 'closed_by_force'", o=order.id
    )
    assert len(rows) == 1
    return rows[0]["owner"], rows[0]["detail"]


async def test_an_unreleased_order_ends_without_a_trace(shop: Shop) -> None:
    """Held by somebody, reserved, authorized: all of it is undone, and there is nothing left for a person."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.held(("LAMP", 2))
    # when
    outcome = await shop.forces(order)
    # then
    assert (outcome.state, outcome.cancelled_units, outcome.left_at_nodes) == ("closing", 2, ())
    assert (await order.handle.result()).status == "cancelled"
    assert await shop.reserved("LAMP") == {"EAST": 0}
    assert await shop.tenders(order) == [("voided", 2500, 0, 0)]
    assert [state for _, state in await shop.holds(order)] == ["released"]
    assert await shop.cases(order) == []
    assert await shop.ledger(order) == {}
    await is_lawful(shop, order)


async def test_a_node_that_has_the_goods_is_not_asked_and_a_person_is_told(shop: Shop) -> None:
    """The units are free at once; what the node still has is in the case, which outlives the order."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2))
    (part,) = await shop.released(order)
    await shop.packs(order, part)
    await shop.labelled(order, part)
    # when
    outcome = await shop.forces(order)
    # then
    assert (await order.handle.result()).status == "cancelled"
    assert len(outcome.left_at_nodes) == 1
    owner, detail = await the_case(shop, order)
    assert owner == "fulfillment"
    assert detail == f"EAST has 2 units ({part['fulfillment_id']}, packed)"
    assert await shop.reserved("LAMP") == {"EAST": 0}
    events = await shop.rests(order)
    assert "cancellation.requested" not in events
    assert "shipment.label_voided" in events
    assert "order.closing" in events
    await is_lawful(shop, order)


async def test_what_has_left_is_paid_and_counts_as_arrived(shop: Shop) -> None:
    """One parcel is on its way, the other is not: the first stays paid, the second is not owed."""
    # given
    await shop.stocks("LAMP", EAST=1)
    await shop.stocks("RUG", MID=1)
    order = await shop.place(("LAMP", 1), ("RUG", 1))
    east, _ = await shop.released(order, 2)
    await shop.ships(order, east)
    await shop.becomes(order, payment_status="partially_captured")
    # when
    outcome = await shop.forces(order)
    # then
    assert (await order.handle.result()).status == "completed"
    assert outcome.on_their_way == (east["shipment_id"],)
    money = await shop.money(order)
    assert (money["captured"], money["refunded"]) == ((await shop.header(order))["owed_minor"], 0)
    _, detail = await the_case(shop, order)
    assert f"parcel {east['shipment_id']} is on its way" in detail
    assert "MID has 1 units" in detail
    await is_lawful(shop, order)


async def test_a_lost_parcel_that_nobody_decided_about_is_refunded(shop_with: Any) -> None:
    """What does not arrive is given back, as its rule at the limit would."""
    shop = await shop_with(carrier_trouble={"remedies": {"lost": Remedy.ASK}})
    await shop.stocks("LAMP", EAST=1)
    order = await shop.place(("LAMP", 1))
    (part,) = await shop.released(order)
    await shop.ships(order, part)
    await shop.becomes(order, payment_status="captured")
    await shop.scan(order, part["shipment_id"], CarrierEventType.LOST)
    await shop.forces(order)
    assert (await order.handle.result()).status == "completed"
    money = await shop.money(order)
    assert (money["captured"], money["refunded"]) == (1500, 1500)
    await is_lawful(shop, order)


async def test_while_the_payment_provider_is_down_the_order_ends_all_the_same(shop_with: Any) -> None:
    """Nobody knows what it holds: finance has a case, and its late answer changes nothing."""
    # given
    shop = await shop_with(force_close_s=1)
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2))
    (part,) = await shop.released(order)
    await shop.becomes(order, payment_status="authorized")
    shop.control(order.placed, "payments.down", 1)
    # when
    await shop.forces(order)
    # then
    assert (await order.handle.result()).status == "cancelled"
    owner, detail = await the_case(shop, order)
    assert owner == "finance"
    assert "25.00 USD may still be held" in detail
    assert f"EAST has 2 units ({part['fulfillment_id']}" in detail
    assert (await shop.tenders(order))[0][0] == "abandoned"
    await is_lawful(shop, order)
    shop.normal(order.placed, "payments.down")
    await is_lawful(shop, order)


async def test_a_payment_whose_outcome_is_not_known_does_not_keep_the_order(shop_with: Any) -> None:
    """The authorization is under way, its provider silent: the order ends, and a person looks there."""
    shop = await shop_with(force_close_s=1)
    await shop.stocks("LAMP", EAST=1)
    placed = shop.order(("LAMP", 1))
    shop.control(placed, "payments.down", 1)
    order = await shop.submit(placed)
    await shop.forces(order)
    assert (await order.handle.result()).status == "cancelled"
    assert await shop.reserved("LAMP") == {"EAST": 0}
    await is_lawful(shop, order)


async def test_a_capture_that_fails_for_ever_is_left_to_finance(shop_with: Any) -> None:
    """The parcel has left and is not paid: what is missing is booked as unsettled, and nothing is owed any more."""
    # given
    shop = await shop_with(force_close_s=1)
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2))
    (part,) = await shop.released(order)
    await shop.packs(order, part)
    await shop.labelled(order, part)
    shop.control(order.placed, "payments.down", 1)
    await shop.ships(order, part)
    # when
    await shop.forces(order)
    # then
    assert (await order.handle.result()).status == "completed"
    owner, detail = await the_case(shop, order)
    assert owner == "finance"
    assert "25.00 USD is owed and was not taken" in detail
    assert (await shop.ledger(order)).get("unsettled") == 2500
    assert (await shop.header(order))["owed_minor"] == 0
    await is_lawful(shop, order)


async def test_it_has_one_outcome(shop: Shop) -> None:
    """One row, one outcome."""
    await shop.stocks("LAMP", EAST=1)
    order = await shop.place(("LAMP", 1))
    await shop.released(order)
    first = await shop.forces(order)
    assert first.cancelled_units == 1
    await order.handle.result()
    assert await shop.commands(order) == [("force_close", "applied")]
    await is_lawful(shop, order)


async def test_who_waits_for_an_answer_is_told_that_there_will_be_none(shop: Shop) -> None:
    """A cancellation that asked a node: refused, since its order is over; no unit is freed twice."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2))
    await shop.released(order)
    shop.control(order.placed, "warehouses.stop", "answer_follows")
    accepted = WorkflowUpdateStage.ACCEPTED
    message = CancelOrder(command_id="c-1", reason=CancelReason.CHANGED_MIND)
    asking = await order.handle.start_update("cancel", message, id="c-1", wait_for_stage=accepted)

    async def asked() -> bool:
        return "cancellation.requested" in await shop.events(order)

    await eventually(asked)
    # when
    await shop.forces(order)
    # then
    assert (await refusal_of(asking.result())).code == "order_closed"
    assert (await order.handle.result()).status == "cancelled"
    assert await shop.reserved("LAMP") == {"EAST": 0}
    assert (await shop.events(order)).count("cancellation.confirmed") == 1
    await is_lawful(shop, order)


async def test_as_a_signal_too(shop: Shop) -> None:
    """The durable way, twice: one outcome."""
    await shop.stocks("LAMP", EAST=1)
    order = await shop.place(("LAMP", 1))
    message = ForceClose(command_id="force-s", reason="node_gone")
    await shop.signal(order, "force_close", message)
    assert (await order.handle.result()).status == "cancelled"
    assert (await shop.command(order, "force-s"))["state"] == "applied"
    await is_lawful(shop, order)


@pytest.mark.parametrize("role", ["service", "finance", "warehouse"])
async def test_only_operations_may(shop: Shop, role: str) -> None:
    """Another role is refused by the order itself, and nothing has changed."""
    await shop.stocks("LAMP", EAST=1)
    order = await shop.held(("LAMP", 1))
    message = ForceClose(command_id="f-1", actor=Actor(kind=ActorKind.PERSON, id="x", role=role))
    before = await shop.header(order)
    refusal = await refusal_of(order.handle.execute_update("force_close", message, id="f-1"))
    assert (refusal.code, refusal.alternative) == ("not_permitted", "cancel")
    assert (await shop.header(order))["version"] == before["version"]
    await shop.unheld(order)
    await shop.cancel(order)
