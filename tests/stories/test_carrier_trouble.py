"""A parcel gets lost, breaks or comes back: its customer is made good once, whatever the carrier tells afterwards."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from domain.amendment import SetQuantity
from domain.orders import Actor, ActorKind, CarrierEventType, HoldBlock, HoldType, ReportKind
from store.commands import DueCommand
from store.control import settle_after_end
from store.engine import transaction
from tests.support.eventually import eventually
from tests.support.shop import Order, Shop, later, refusal_of
from workflows.messages import CarrierEvent

ShopWith = Callable[..., Awaitable[Shop]]
E = CarrierEventType
REFUND = {"lost": "refund", "damaged": "refund", "returned": "refund"}
ASK = {"lost": "ask", "damaged": "ask", "returned": "ask"}


async def _shipped(shop: Shop, units: int = 1, stock: int = 5) -> tuple[Order, dict[str, Any]]:
    """An order whose only parcel has left and is paid."""
    await shop.stocks("LAMP", EAST=stock)
    order = await shop.place(("LAMP", units))
    (part,) = await shop.released(order)
    await shop.ships(order, part)
    await shop.becomes(order, payment_status="captured")
    return order, part


async def _second(shop: Shop, order: Order, first: dict[str, Any]) -> dict[str, Any]:
    """The fulfillment order of what is sent again, at its node."""

    async def there() -> dict[str, Any] | None:
        parts = [p for p in await shop.parts(order) if p["fulfillment_id"] != first["fulfillment_id"]]
        return next((part for part in parts if part["stage"] == "released"), None)

    return await eventually(there)


async def _lines(shop: Shop, order: Order) -> list[dict[str, Any]]:
    return await shop.sql(
        "SELECT * FROM order_lines WHERE order_id = :o ORDER BY line_no",
        o=order.id,
    )


async def test_a_lost_parcel_is_sent_again_at_no_charge(shop: Shop) -> None:
    """The same units again, linked to the line and the parcel that they stand for; no money moves."""
    # given
    order, part = await _shipped(shop, 2)
    # when
    scan = await shop.scan(order, part["shipment_id"], E.LOST)
    again = await _second(shop, order, part)
    await shop.ships(order, again)
    await shop.delivers(order, again)
    # then
    assert (scan.applied, scan.state, scan.why) == (True, "lost", None)
    events = await shop.rests(order)
    assert [e for e in events if e.startswith(("parcel.", "refund."))] == ["parcel.lost", "parcel.replaced"]
    first, second = await _lines(shop, order)
    assert (first["written_off"], first["credited"], second["delivered"]) == (2, 0, 2)
    assert (second["replaces_line"], second["replaces_parcel"]) == (1, part["shipment_id"])
    header = await shop.header(order)
    assert (header["status"], header["fulfillment_status"], header["owed_minor"]) == ("completed", "delivered", 2500)
    assert shop.effects(order) == [("authorization", 2500), ("capture", 2500)]
    assert await shop.on_hand("LAMP") == {"EAST": 1}
    assert await shop.reserved("LAMP") == {"EAST": 0}
    assert [kind for kind, _, _ in await shop.notices(order)][-4:] == [
        "parcel_lost",
        "parcel_replaced",
        "shipped",
        "delivered",
    ]


async def test_a_lost_parcel_is_refunded_where_the_rule_says_so(shop_with: ShopWith) -> None:
    """All that it cost, its shipping included; the claim against the carrier outlives the order."""
    # given
    shop = await shop_with(carrier_trouble=REFUND)
    order, part = await _shipped(shop, 2)
    # when
    await shop.scan(order, part["shipment_id"], E.LOST)
    closed = await order.handle.result()
    # then
    events = await shop.rests(order)
    assert events[-6:] == [
        "parcel.lost",
        "parcel.credited",
        "promise.broken",
        "order.needs_attention",
        "refund.succeeded",
        "order.completed",
    ]
    header = await shop.header(order)
    assert (closed.status, header["fulfillment_status"], header["payment_status"]) == (
        "completed",
        "not_delivered",
        "refunded",
    )
    assert (header["owed_minor"], header["promise_state"]) == (0, "broken")
    assert shop.effects(order) == [("authorization", 2500), ("capture", 2500), ("refund", 2500)]
    assert await shop.ledger(order) == {}
    assert await shop.cases(order) == [("carrier_claim", "fulfillment", "open")]
    assert await shop.on_hand("LAMP") == {"EAST": 3}


async def test_one_lost_parcel_of_two_is_refunded_at_once_and_the_order_goes_on(shop_with: ShopWith) -> None:
    """CASE-R3: the order is not completed by it; a claim and a refund exist while the other parcel travels."""
    # given
    shop = await shop_with(carrier_trouble=REFUND)
    await shop.stocks("LAMP", EAST=1)
    await shop.stocks("RUG", MID=1)
    order = await shop.place(("LAMP", 1), ("RUG", 1))
    east, mid = await shop.released(order, 2)
    for part in (east, mid):
        await shop.ships(order, part)
    await shop.becomes(order, payment_status="captured")
    # when
    await shop.scan(order, east["shipment_id"], E.LOST)
    header = await shop.becomes(order, payment_status="partially_refunded")
    # then
    assert (header["status"], header["fulfillment_status"]) == ("in_fulfillment", "fulfilled")
    assert header["owed_minor"] == 1250
    assert await shop.cases(order) == [("carrier_claim", "fulfillment", "open")]
    await shop.delivers(order, mid)
    assert "promise.broken" in await shop.rests(order)
    after = await shop.header(order)
    assert (after["status"], after["fulfillment_status"]) == ("completed", "partially_delivered")
    assert shop.effects(order)[-1] == ("refund", 1250)
    assert await shop.ledger(order) == {"provider": 1250, "revenue": -1000, "shipping": -250}


async def test_where_nobody_has_the_units_any_more_they_are_refunded(shop: Shop) -> None:
    """Sent again by rule, and there is nothing to send: what cannot be sent is refunded, the rest is sent."""
    # given
    order, part = await _shipped(shop, 3, stock=4)
    # when
    await shop.scan(order, part["shipment_id"], E.DAMAGED)
    again = await _second(shop, order, part)
    await shop.ships(order, again)
    await shop.delivers(order, again)
    # then
    events = await shop.rests(order)
    assert [e for e in events if e.startswith(("parcel.", "units.", "refund.", "cancellation."))] == [
        "parcel.damaged",
        "parcel.replaced",
        "units.credited",
        "cancellation.confirmed",
        "refund.succeeded",
    ]
    first, second = await _lines(shop, order)
    assert (first["written_off"], first["credited"]) == (3, 2)
    assert (second["ordered"], second["delivered"], second["cancelled"]) == (3, 1, 2)
    money = await shop.money(order)
    assert (money["captured"], money["refunded"]) == (3500, first["credited_minor"])
    header = await shop.header(order)
    assert header["fulfillment_status"] == "partially_delivered"
    assert header["owed_minor"] == 3500 - money["refunded"]
    ledger = await shop.ledger(order)
    assert ledger["provider"] == header["owed_minor"]
    assert "customer" not in ledger


async def test_what_is_sent_again_does_not_wait_for_supply(shop: Shop) -> None:
    """Others may wait for this item; who paid for a parcel that did not arrive gets the money back at once."""
    # given
    order, part = await _shipped(shop, stock=1)
    await shop.lets_wait("LAMP")
    # when
    await shop.scan(order, part["shipment_id"], E.LOST)
    # then
    events = await shop.rests(order)
    assert "order.backordered" not in events
    assert shop.effects(order)[-1] == ("refund", 1500)


async def test_two_orders_that_end_the_same_way_have_each_its_own_credit_memo(shop: Shop) -> None:
    """What the system decides has the same name in every order; its bookings have not."""
    # given
    await shop.stocks("LAMP", EAST=2)
    orders = [await shop.place(("LAMP", 1)) for _ in range(2)]
    # when
    for order in orders:
        (part,) = await shop.released(order)
        await shop.ships(order, part)
        await shop.scan(order, part["shipment_id"], E.LOST)
    # then
    for order in orders:
        await shop.agrees(order)
        assert await shop.ledger(order) == {}
        assert shop.effects(order)[-1] == ("refund", 1500)


async def test_what_is_sent_again_can_be_lost_again(shop: Shop) -> None:
    """The third one arrives; every lost one is on its line, and nothing is charged or given back."""
    # given
    order, part = await _shipped(shop)
    # when
    await shop.scan(order, part["shipment_id"], E.LOST)
    second = await _second(shop, order, part)
    await shop.ships(order, second)
    await shop.scan(order, second["shipment_id"], E.DAMAGED)

    async def third() -> dict[str, Any] | None:
        return next((p for p in await shop.parts(order) if p["stage"] == "released"), None)

    last = await eventually(third)
    await shop.ships(order, last)
    await shop.delivers(order, last)
    # then
    await shop.agrees(order)
    rows = await _lines(shop, order)
    assert [(row["written_off"], row["delivered"], row["replaces_line"]) for row in rows] == [
        (1, 0, None),
        (1, 0, 1),
        (0, 1, 1),
    ]
    assert (await shop.header(order))["fulfillment_status"] == "delivered"
    assert shop.effects(order) == [("authorization", 1500), ("capture", 1500)]


async def test_cancelling_what_is_sent_again_gives_the_money_back(shop: Shop) -> None:
    """It has no price of its own: what is refunded is what the lost units cost, once."""
    # given
    order, part = await _shipped(shop)
    await shop.scan(order, part["shipment_id"], E.LOST)
    await _second(shop, order, part)
    # when
    outcome = await shop.cancel(order)
    # then
    assert (outcome.state, outcome.total_before_minor, outcome.total_after_minor) == ("confirmed", 1500, 0)
    assert (await order.handle.result()).status == "completed"
    await shop.agrees(order)
    assert shop.effects(order) == [("authorization", 1500), ("capture", 1500), ("refund", 1500)]
    assert await shop.ledger(order) == {}
    assert await shop.on_hand("LAMP") == {"EAST": 4}
    assert await shop.reserved("LAMP") == {"EAST": 0}


async def test_what_is_sent_again_cannot_be_changed_for_nothing(shop: Shop) -> None:
    """It has no price: more of it would be free."""
    # given
    order, part = await _shipped(shop)
    await shop.scan(order, part["shipment_id"], E.LOST)
    await _second(shop, order, part)
    # when
    refusal = await refusal_of(shop.amend(order, SetQuantity(line=2, quantity=5)))
    # then
    assert (refusal.code, refusal.alternative) == ("line_sent_instead", "cancel")
    await shop.cancel(order)
    await shop.agrees(order)


@pytest.mark.parametrize("again", [E.DELIVERED, E.IN_TRANSIT, E.RETURN_TO_SENDER, E.RETURNED])
async def test_a_parcel_that_turns_up_after_it_was_refunded_doubles_nothing(shop_with: ShopWith, again: E) -> None:
    """What followed stands, whatever is told now; the answer says so, and a person gets a case."""
    # given
    shop = await shop_with(carrier_trouble=REFUND)
    await shop.stocks("LAMP", EAST=1)
    await shop.stocks("RUG", MID=1)
    order = await shop.place(("LAMP", 1), ("RUG", 1))
    east, mid = await shop.released(order, 2)
    for part in (east, mid):
        await shop.ships(order, part)
    await shop.scan(order, east["shipment_id"], E.LOST)
    await shop.becomes(order, payment_status="partially_refunded")
    # when
    scan = await shop.scan(order, east["shipment_id"], again, at=later(hours=1))
    # then
    assert (scan.applied, scan.state, scan.why) == (False, "lost", "lost, and made good: a person looks")
    assert sorted(await shop.cases(order)) == [
        ("carrier_claim", "fulfillment", "open"),
        ("found_after_loss", "service", "open"),
    ]
    await shop.delivers(order, mid)
    await shop.agrees(order)
    assert [effect for effect in shop.effects(order) if effect[0] == "refund"] == [("refund", 1250)]
    assert await shop.on_hand("LAMP") == {"EAST": 0}
    assert (await _lines(shop, order))[0]["written_off"] == 1


async def test_a_parcel_that_nobody_scans_counts_as_lost(shop_with: ShopWith) -> None:
    """First a case for somebody to ask the carrier; then, by the limit of its service level, it is lost."""
    # given
    shop = await shop_with(carrier_silence_s=1, carrier_trouble={**REFUND, "no_scan_s": {"standard": 4}})
    order, _ = await _shipped(shop)
    wait = await order.handle.query("waits")
    # when
    await order.handle.result()
    # then
    assert (wait["waiting_on"], wait["cause"]) == ("carrier", "delivery")
    events = await shop.rests(order)
    told = [e for e in events if e in ("order.needs_attention", "parcel.lost", "refund.succeeded")]
    assert told[:3] == ["order.needs_attention", "parcel.lost", "order.needs_attention"]
    (said,) = await shop.sql(
        "SELECT text, actor FROM order_events WHERE order_id = :o AND type = 'parcel.lost'", o=order.id
    )
    assert said["actor"]["kind"] == "system"
    assert said["text"].endswith("is lost (no scan in time)")
    assert sorted(await shop.cases(order)) == [
        ("carrier_claim", "fulfillment", "open"),
        ("carrier_silent", "fulfillment", "auto_closed"),
    ]
    assert shop.effects(order)[-1] == ("refund", 1500)
    assert await shop.scans(order) == [("lost", True, None)]


async def test_a_scan_in_time_keeps_a_parcel_from_counting_as_lost(shop_with: ShopWith) -> None:
    """The limit begins anew with each scan."""
    # given
    shop = await shop_with(carrier_trouble={**REFUND, "no_scan_s": {"standard": 4}})
    order, part = await _shipped(shop)

    # when
    for number in range(3):
        before = (await shop.header(order))["wait_deadline"]

        async def nearly(limit: Any = before) -> bool:
            return bool(await shop.now() > limit - timedelta(seconds=2))

        await eventually(nearly)
        await shop.scan(order, part["shipment_id"], E.IN_TRANSIT, f"HUB-{number}")
    await shop.delivers(order, part)
    # then
    assert "parcel.lost" not in await shop.rests(order)


async def test_a_parcel_that_comes_back_puts_its_units_on_hand_once(shop: Shop) -> None:
    """CASE-D1: told three times, in any order, the units are back once and the money goes home once."""
    # given
    order, part = await _shipped(shop, 2)
    parcel = part["shipment_id"]
    # when
    turned = await shop.scan(order, parcel, E.RETURN_TO_SENDER, "R1")
    between = (await shop.header(order), await shop.cases(order), await shop.on_hand("LAMP"))
    shop.control(order.placed, "payments.delay_ms", 1500)  # the refund keeps the order open for the stragglers
    back = await shop.scan(order, parcel, E.RETURNED, "R2")
    copies = [await shop.scan(order, parcel, E.RETURNED, name, command_id=f"copy-{name}") for name in ("R2", "R3")]
    # then
    assert (turned.state, back.state, [copy.applied for copy in copies]) == (
        "return_to_sender",
        "returned",
        [False, False],
    )
    header, cases, on_hand = between
    assert (header["wait_cause"], on_hand) == ("return_to_sender", {"EAST": 3})
    assert cases == [("parcel_returning", "service", "open")]
    events = await shop.rests(order)
    assert [e for e in events if e.startswith(("parcel.", "refund.", "promise."))] == [
        "parcel.returning",
        "parcel.returned",
        "parcel.credited",
        "promise.withdrawn",
        "refund.succeeded",
    ]
    assert await shop.on_hand("LAMP") == {"EAST": 5}
    assert shop.effects(order)[-1] == ("refund", 2500)
    assert await shop.cases(order) == [("parcel_returning", "service", "auto_closed")]
    assert (await _lines(shop, order))[0]["returned"] == 2


async def test_a_person_has_a_parcel_that_comes_back_sent_again(shop: Shop) -> None:
    """Chosen while it is on its way back; it counts when the goods are there."""
    # given
    order, part = await _shipped(shop, stock=1)
    await shop.scan(order, part["shipment_id"], E.RETURN_TO_SENDER)
    # when
    chosen = await shop.remedy(order, "reship")
    before = [p["stage"] for p in await shop.parts(order)]
    await shop.scan(order, part["shipment_id"], E.RETURNED)
    again = await _second(shop, order, part)
    await shop.ships(order, again)
    await shop.delivers(order, again)
    # then
    assert (chosen.remedy, chosen.shipments) == ("reship", (part["shipment_id"],))
    assert before == ["return_pending"]
    await shop.agrees(order)
    assert await shop.on_hand("LAMP") == {"EAST": 0}
    assert shop.effects(order) == [("authorization", 1500), ("capture", 1500)]


async def test_where_the_rule_asks_a_person_decides(shop_with: ShopWith) -> None:
    """Nothing happens before; a second choice finds nothing to choose."""
    # given
    shop = await shop_with(carrier_trouble=ASK)
    order, part = await _shipped(shop)
    await shop.scan(order, part["shipment_id"], E.LOST)
    await eventually(lambda: shop.cases(order))
    waiting = await shop.header(order)
    # when
    await shop.remedy(order, "reship")
    again = await _second(shop, order, part)
    refusal = await refusal_of(shop.remedy(order, "refund", "remedy-2"))
    # then
    assert (waiting["waiting_on"], waiting["wait_owner"], waiting["wait_cause"]) == (
        "approver",
        "service",
        "parcel_remedy",
    )
    assert refusal.code == "no_parcel_in_trouble"
    await shop.ships(order, again)
    await shop.delivers(order, again)
    await shop.agrees(order)
    assert sorted(await shop.cases(order)) == [
        ("carrier_claim", "fulfillment", "open"),
        ("parcel_remedy", "service", "auto_closed"),
    ]


async def test_where_nobody_decides_in_time_the_parcel_is_refunded(shop_with: ShopWith) -> None:
    """The limit of the rule decides."""
    # given
    shop = await shop_with(carrier_trouble={**ASK, "decide_s": 2})
    order, part = await _shipped(shop)
    # when
    await shop.scan(order, part["shipment_id"], E.LOST)
    # then
    assert "refund.succeeded" in await shop.rests(order)


async def test_a_lost_parcel_that_turns_up_before_anybody_decided_goes_on(shop_with: ShopWith) -> None:
    """Nothing has followed yet: it is delivered as if it had never been lost."""
    # given
    shop = await shop_with(carrier_trouble=ASK)
    order, part = await _shipped(shop)
    await shop.scan(order, part["shipment_id"], E.LOST, at=later(minutes=1))
    await eventually(lambda: shop.cases(order))
    # when
    found = await shop.scan(order, part["shipment_id"], E.OUT_FOR_DELIVERY, at=later(minutes=2))
    await shop.delivers(order, part)
    # then
    assert (found.applied, found.state) == (True, "out_for_delivery")
    events = await shop.rests(order)
    assert [e for e in events if e.startswith(("parcel.", "refund."))] == ["parcel.lost"]
    assert await shop.cases(order) == [("parcel_remedy", "service", "auto_closed")]
    assert (await shop.header(order))["fulfillment_status"] == "delivered"


async def test_a_parcel_lost_before_its_hand_over_was_reported_is_paid_and_refunded(shop_with: ShopWith) -> None:
    """The carrier's word proves that it had the parcel."""
    # given
    shop = await shop_with(carrier_trouble=REFUND)
    await shop.stocks("LAMP", EAST=1)
    order = await shop.place(("LAMP", 1))
    (part,) = await shop.released(order)
    await shop.packs(order, part)
    # when
    await shop.scan(order, part["shipment_id"], E.LOST)
    late = await shop.report(order, part["fulfillment_id"], ReportKind.HANDED_OVER)
    # then
    assert (late.applied, late.why) == (False, "the carrier has told already that it left")
    await shop.agrees(order)
    assert shop.effects(order) == [("authorization", 1500), ("capture", 1500), ("refund", 1500)]


async def test_a_refund_whose_reply_is_lost_is_looked_up_and_not_sent_twice(shop_with: ShopWith) -> None:
    """Unknown is never guessed."""
    # given
    shop = await shop_with(carrier_trouble=REFUND)
    order, part = await _shipped(shop)
    shop.control(order.placed, "payments.lose_reply", 1)
    # when
    await shop.scan(order, part["shipment_id"], E.LOST)
    # then
    assert "payment.unknown" in await shop.rests(order)
    assert shop.effects(order) == [("authorization", 1500), ("capture", 1500), ("refund", 1500)]
    assert await shop.money(order) == {"authorized": 1500, "captured": 1500, "refunded": 1500}


async def test_two_parcels_lost_at_the_same_moment_are_refunded_each_under_its_own_number(shop_with: ShopWith) -> None:
    """Two refunds of one tender, two keys, all of the money."""
    # given
    shop = await shop_with(carrier_trouble=REFUND)
    await shop.stocks("LAMP", EAST=1)
    await shop.stocks("RUG", MID=1)
    order = await shop.place(("LAMP", 1), ("RUG", 1))
    parts = await shop.released(order, 2)
    for part in parts:
        await shop.ships(order, part)
    await shop.becomes(order, payment_status="captured")
    # when
    await asyncio.gather(*(shop.scan(order, part["shipment_id"], E.LOST) for part in parts))
    # then
    await shop.agrees(order)
    refunds = await shop.sql("SELECT seq FROM payment_intents WHERE order_id = :o AND intent = 'refund'", o=order.id)
    assert sorted(row["seq"] for row in refunds) == list(range(1, len(refunds) + 1))
    assert sum(amount for kind, amount in shop.effects(order) if kind == "refund") == 2500
    assert await shop.ledger(order) == {}


async def test_a_refund_waits_for_a_hold_that_stops_it(shop_with: ShopWith) -> None:
    """Credited at once, given back once finance lets it go."""
    # given
    shop = await shop_with(carrier_trouble=REFUND)
    order, part = await _shipped(shop)
    held = await shop.hold(order, HoldType.MANUAL, blocks=(HoldBlock.REFUND,))
    # when
    await shop.scan(order, part["shipment_id"], E.LOST)
    waiting = await shop.becomes(order, wait_cause="hold", owed_minor=0)
    before = shop.effects(order)
    await shop.end_hold(order, held.hold_id)
    # then
    assert (waiting["status"], before[-1]) == ("in_fulfillment", ("capture", 1500))
    await shop.agrees(order)
    assert shop.effects(order)[-1] == ("refund", 1500)


async def test_a_parcel_that_turns_up_after_its_order_has_ended_gets_a_case(shop_with: ShopWith) -> None:
    """The order is over, and somebody looks for units and money."""
    # given
    shop = await shop_with(carrier_trouble=REFUND)
    order, part = await _shipped(shop)
    await shop.scan(order, part["shipment_id"], E.LOST)
    await order.handle.result()
    event = CarrierEvent(
        command_id="late-1",
        shipment_id=part["shipment_id"],
        event_id="late-1",
        type=E.DELIVERED,
        occurred_at=later(hours=1),
    )
    await shop.stores(order, "carrier_event", event, Actor(kind=ActorKind.CARRIER, id="carrier"))
    due = DueCommand(order.id, "late-1", "carrier_event", event.model_dump(mode="json"))
    # when
    settled = [await transaction(shop.engine, lambda c: settle_after_end(c, due)) for _ in range(2)]
    # then
    assert settled == [True, True]
    outcome = (await shop.command(order, "late-1"))["outcome"]
    why = "the order is closed, and the parcel was made good: a person looks"
    assert (outcome["applied"], outcome["state"], outcome["why"]) == (False, "lost", why)
    assert sorted(await shop.cases(order)) == [
        ("carrier_claim", "fulfillment", "open"),
        ("found_after_loss", "service", "open"),
    ]
    assert (await shop.events(order)).count("order.needs_attention") == 2
    await shop.agrees(order)
