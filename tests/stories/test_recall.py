"""A parcel that has left is asked back: the carrier decides, stock and money follow only what is confirmed."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from domain.lifecycle import Team
from domain.orders import Actor, ActorKind, CarrierEventType
from tests.support.eventually import eventually
from tests.support.journeys import insist
from tests.support.shop import Order, Shop, later, refusal_of

ShopWith = Callable[..., Awaitable[Shop]]
E = CarrierEventType
MARIA = Actor(kind=ActorKind.PERSON, id="maria", role="service")
PAID = [("authorization", 1500), ("capture", 1500)]


async def _shipped(shop: Shop, answer: str = "agreed", units: int = 1, **controls: Any) -> tuple[Order, dict[str, Any]]:
    """An order whose only parcel has left and is paid; its carrier answers a recall so."""
    await shop.stocks("LAMP", EAST=5)
    placed = shop.order(("LAMP", units))
    shop.control(placed, "carriers.recall", answer)
    order = await shop.submit(placed)
    (part,) = await shop.released(order)
    await shop.ships(order, part)
    await shop.becomes(order, payment_status="captured")
    for name, value in controls.items():
        shop.control(placed, f"carriers.{name}", value)
    return order, part


async def _recall(shop: Shop, order: Order) -> str | None:
    (row,) = await shop.sql("SELECT recall FROM shipments WHERE order_id = :o", o=order.id)
    value: str | None = row["recall"]
    return value


async def _recall_is(shop: Shop, order: Order, wanted: str) -> None:
    async def so() -> bool:
        return await _recall(shop, order) == wanted

    await eventually(so)


async def _stage_is(shop: Shop, order: Order, wanted: str) -> None:
    async def so() -> bool:
        return [part["stage"] for part in await shop.parts(order)] == [wanted]

    await eventually(so)


def _told(events: list[str]) -> list[str]:
    """What they say of recalls, parcels and money going home."""
    return [e for e in events if e.startswith(("recall.", "parcel.", "refund.")) or e == "shipment.delivered"]


async def test_a_recalled_parcel_is_refunded_once_it_is_back(shop: Shop) -> None:
    """Asked and answered at once; nothing is refunded before it is there, and then all of it, once."""
    # given
    order, part = await _shipped(shop)
    # when
    outcome = await shop.cancel(order, recall=True, actor=MARIA)
    # then
    assert (outcome.state, outcome.lines) == ("recall_requested", ((1, 1, 0, 1, 0),))
    assert outcome.recalled == ((part["shipment_id"], 1),)
    assert (outcome.total_before_minor, outcome.total_after_minor, outcome.refund_minor) == (1500, 1500, 0)
    await _stage_is(shop, order, "return_pending")
    header = await shop.becomes(order, wait_cause="return_to_sender")
    assert (header["waiting_on"], header["owed_minor"], header["payment_status"]) == ("carrier", 1500, "captured")
    assert await shop.on_hand("LAMP") == {"EAST": 4}
    assert await shop.cases(order) == []
    # when
    await shop.scan(order, part["shipment_id"], E.RETURNED)
    # then
    assert _told(await shop.rests(order)) == [
        "recall.requested",
        "parcel.recalled",
        "parcel.returned",
        "parcel.credited",
        "refund.succeeded",
    ]
    after = await shop.header(order)
    assert (after["status"], after["owed_minor"], after["promise_state"]) == ("completed", 0, "withdrawn")
    assert shop.effects(order) == [*PAID, ("refund", 1500)]
    assert [e.kind for e in shop.simulation.effects(order.id)].count("recall") == 1
    assert await shop.on_hand("LAMP") == {"EAST": 5}
    assert await shop.ledger(order) == {}
    kinds = [kind for kind, _, _ in await shop.notices(order)]
    assert kinds[-2:] == ["parcel_recalled", "refunded"]


async def test_it_is_not_sent_again_whatever_the_rules_say(shop_with: ShopWith) -> None:
    """What comes back would be sent again by rule; whoever cancelled wants the money."""
    shop = await shop_with(carrier_trouble={"returned": "reship"})
    order, part = await _shipped(shop)
    await shop.cancel(order, recall=True)
    await _stage_is(shop, order, "return_pending")
    await shop.scan(order, part["shipment_id"], E.RETURNED)
    assert _told(await shop.rests(order))[-2:] == ["parcel.credited", "refund.succeeded"]
    assert len(await shop.parts(order)) == 1


@pytest.mark.parametrize(
    ("answer", "detail"),
    [("too_late", "it is too late"), ("unsupported", "brings nothing back")],
)
async def test_a_carrier_that_says_no_takes_it_on_to_the_customer(shop: Shop, answer: str, detail: str) -> None:
    """The customer is told, the order goes on, nothing is refunded; it is not asked twice."""
    # given
    order, part = await _shipped(shop, answer)
    # when
    await shop.cancel(order, recall=True)
    await _recall_is(shop, order, answer)
    again = await shop.try_cancel(order, "cancel-2", recall=True)
    # then
    assert (again.code, again.alternative) == ("cannot_be_recalled", "return")
    assert detail in again.detail
    await shop.delivers(order, part)
    assert _told(await shop.rests(order)) == ["recall.requested", "recall.declined", "shipment.delivered"]
    assert (await shop.header(order))["promise_state"] == "kept"
    assert shop.effects(order) == PAID
    kinds = [kind for kind, _, _ in await shop.notices(order)]
    assert kinds[-2:] == ["recall_declined", "delivered"]


async def test_a_carrier_that_looks_first_answers_by_its_scan(shop: Shop) -> None:
    """Until then the order says who is waited for, and until when."""
    # given
    order, part = await _shipped(shop, "answer_follows")
    # when
    outcome = await shop.cancel(order, recall=True)
    header = await shop.becomes(order, wait_cause="recall_answer")
    # then
    assert (header["waiting_on"], header["wait_owner"]) == ("carrier", Team.FULFILLMENT)
    assert outcome.answer_by is not None
    assert abs((header["wait_deadline"] - outcome.answer_by).total_seconds()) < 60
    again = await shop.try_cancel(order, "cancel-2", recall=True)
    assert again.code == "recall_in_progress"
    await shop.scan(order, part["shipment_id"], E.RETURN_TO_SENDER)
    assert await _recall(shop, order) == "agreed"
    assert await shop.cases(order) == []
    await shop.scan(order, part["shipment_id"], E.RETURNED)
    assert _told(await shop.rests(order))[1:] == [
        "parcel.recalled",
        "parcel.returned",
        "parcel.credited",
        "refund.succeeded",
    ]


async def test_a_carrier_that_never_answers_is_a_case(shop_with: ShopWith) -> None:
    """CAP-I03: an unknown becomes a case of fulfillment, which ends when the parcel is delivered."""
    shop = await shop_with(carrier_trouble={"recall_answer_s": 1})
    order, part = await _shipped(shop, "answer_follows")
    await shop.cancel(order, recall=True)

    async def case() -> bool:
        return ("recall_unanswered", "fulfillment", "open") in await shop.cases(order)

    await eventually(case)
    await shop.delivers(order, part)
    assert _told(await shop.rests(order)) == ["recall.requested", "shipment.delivered"]
    assert await shop.cases(order) == [("recall_unanswered", "fulfillment", "auto_closed")]
    assert (await _recall(shop, order), shop.effects(order)) == ("too_late", PAID)


async def test_a_lost_reply_is_looked_up(shop: Shop) -> None:
    """The carrier has agreed, and its reply was lost: it is asked what it said, and not again."""
    order, part = await _shipped(shop, lose_reply=1)
    await shop.cancel(order, recall=True)
    await _stage_is(shop, order, "return_pending")
    assert [e.kind for e in shop.simulation.effects(order.id)].count("recall") == 1
    await shop.scan(order, part["shipment_id"], E.RETURNED)
    assert _told(await shop.rests(order))[-1] == "refund.succeeded"


async def test_nothing_waits_for_a_dead_carrier(shop: Shop) -> None:
    """The command is answered at once, other parcels and commands go on, and the order ends without the answer."""
    # given
    await shop.stocks("LAMP", EAST=1)
    await shop.stocks("RUG", MID=1)
    order = await shop.place(("LAMP", 1), ("RUG", 1))
    east, mid = await shop.released(order, 2)
    await shop.ships(order, east)
    await shop.becomes(order, payment_status="partially_captured")
    await shop.packs(order, mid)
    shop.control(order.placed, "carriers.down", 1)
    # when
    outcome = await shop.cancel(order, recall=True, lines=[(1, 1)])
    # then
    assert outcome.state == "recall_requested"
    await shop.becomes(order, wait_cause="recall_answer")
    other = await shop.cancel(order, "cancel-2", lines=[(2, 1)])
    assert other.state == "confirmed"
    shop.normal(order.placed, "carriers.down")
    await shop.delivers(order, east)
    assert (await order.handle.result()).status == "completed"
    assert await _recall_of(shop, east) == "too_late"


async def _recall_of(shop: Shop, part: dict[str, Any]) -> str | None:
    (row,) = await shop.sql("SELECT recall FROM shipments WHERE shipment_id = :s", s=part["shipment_id"])
    value: str | None = row["recall"]
    return value


async def test_the_order_ends_while_a_dead_carrier_is_still_asked(shop: Shop) -> None:
    """Delivered before anybody could tell the carrier: the recall is over with it, and nothing hangs."""
    order, part = await _shipped(shop, down=1)
    await shop.cancel(order, recall=True)
    await shop.delivers(order, part)
    assert (await order.handle.result()).status == "completed"
    assert (await _recall(shop, order), shop.effects(order)) == ("too_late", PAID)
    await shop.agrees(order)


async def test_a_parcel_that_is_delivered_in_spite_of_the_recall_stays_delivered(shop: Shop) -> None:
    """Nothing is refunded for what the customer has."""
    order, part = await _shipped(shop)
    await shop.cancel(order, recall=True)
    await _stage_is(shop, order, "return_pending")
    await shop.delivers(order, part)
    assert _told(await shop.rests(order)) == ["recall.requested", "parcel.recalled", "shipment.delivered"]
    assert shop.effects(order) == PAID
    header = await shop.header(order)
    assert (header["owed_minor"], header["fulfillment_status"]) == (1500, "delivered")
    assert await shop.on_hand("LAMP") == {"EAST": 4}


@pytest.mark.parametrize("answer", ["agreed", "answer_follows", "too_late"])
async def test_a_recall_that_crosses_the_delivery_has_one_outcome(shop: Shop, answer: str) -> None:
    """Both at the same moment: delivered stands, and nobody is refunded."""
    order, part = await _shipped(shop, answer)
    recalled = insist(lambda: shop.cancel(order, recall=True))
    told, _ = await asyncio.gather(recalled, insist(lambda: shop.delivers(order, part)), return_exceptions=True)
    events = await shop.rests(order)
    assert "shipment.delivered" in events
    assert "refund.succeeded" not in events
    assert shop.effects(order) == PAID
    refused = isinstance(told, BaseException)
    assert await _recall(shop, order) in ((None,) if refused else ("too_late", "agreed"))
    await shop.agrees(order)


@pytest.mark.parametrize("answer", ["agreed", "answer_follows"])
async def test_a_recalled_parcel_that_gets_lost_is_refunded_once(shop: Shop, answer: str) -> None:
    """By rule a lost parcel is sent again; whoever cancelled wants the money. The claim is opened all the same."""
    order, part = await _shipped(shop, answer)
    await shop.cancel(order, recall=True)
    if answer == "agreed":
        await _stage_is(shop, order, "return_pending")
    await shop.scan(order, part["shipment_id"], E.LOST, at=later(seconds=5))
    events = _told(await shop.rests(order))
    assert events[-3:] == ["parcel.lost", "parcel.credited", "refund.succeeded"]
    assert events.count("refund.succeeded") == 1
    assert len(await shop.parts(order)) == 1
    assert ("carrier_claim", "fulfillment", "open") in await shop.cases(order)


async def test_a_repeated_command_asks_once(shop: Shop) -> None:
    """The same answer, one question to the carrier, one event."""
    order, part = await _shipped(shop, "answer_follows")
    first = await shop.cancel(order, "cancel-1", "update-1", recall=True)
    second = await shop.cancel(order, "cancel-1", "update-2", recall=True)
    assert first == second
    await shop.delivers(order, part)
    assert (await shop.rests(order)).count("recall.requested") == 1


async def test_what_has_not_left_is_cancelled_and_what_has_left_is_recalled(shop: Shop) -> None:
    """All of an order in one command: the node stops its part, the carrier is asked for the other."""
    # given
    await shop.stocks("LAMP", EAST=1)
    await shop.stocks("RUG", MID=1)
    order = await shop.place(("LAMP", 1), ("RUG", 1))
    east, _ = await shop.released(order, 2)
    await shop.ships(order, east)
    await shop.becomes(order, payment_status="partially_captured")
    preview = await order.handle.query("preview_cancel", args=[(), "service", True, "full", False, True])
    # when
    outcome = await shop.cancel(order, recall=True)
    await shop.becomes(order, wait_cause="return_to_sender")
    await shop.scan(order, east["shipment_id"], E.RETURNED)
    # then
    assert outcome.state == "partially_confirmed"
    assert outcome.lines == ((1, 1, 0, 1, 0), (2, 1, 1, 0, 0))
    await shop.rests(order)
    header = await shop.header(order)
    assert header["owed_minor"] == 0
    value = preview["value_at_once_minor"] + preview["value_asked_minor"] + preview["value_recalled_minor"]
    assert value == 2500
    assert await shop.ledger(order) == {}


async def test_without_the_option_the_refusal_says_that_it_is_possible(shop: Shop) -> None:
    """Still refused with the pointer to a return; once delivered, nothing is said of a recall."""
    order, part = await _shipped(shop, units=2)
    late = await shop.try_cancel(order)
    assert (late.code, late.alternative) == ("already_handed_over", "return")
    assert "with recall the carrier is asked" in late.detail
    some = await shop.try_cancel(order, "cancel-2", lines=[(1, 1)], recall=True)
    assert (some.code, some.alternative) == ("whole_parcels_only", "return")
    assert "2 of line 1" in some.detail
    kept = await shop.try_cancel(order, "cancel-3", recall=True, refund="none", actor=MARIA)
    assert kept.code == "recall_is_refunded"
    assert await _recall(shop, order) is None
    await shop.delivers(order, part)
    assert "recall.requested" not in await shop.rests(order)


async def test_a_delivered_parcel_is_not_recalled(shop: Shop) -> None:
    """CAP-I03: refused with the alternative `return`; the other parcel of the order still can be."""
    await shop.stocks("LAMP", EAST=1)
    await shop.stocks("RUG", MID=1)
    order = await shop.place(("LAMP", 1), ("RUG", 1))
    east, mid = await shop.released(order, 2)
    for part in (east, mid):
        await shop.ships(order, part)
    await shop.delivers(order, east)
    refusal = await shop.try_cancel(order, lines=[(1, 1)], recall=True)
    assert (refusal.code, refusal.alternative) == ("cannot_be_recalled", "return")
    assert "was delivered" in refusal.detail
    plain = await shop.try_cancel(order, "cancel-2", lines=[(1, 1)])
    assert (plain.code, "recall" in plain.detail) == ("already_handed_over", False)
    outcome = await shop.cancel(order, "cancel-3", recall=True)
    assert outcome.recalled == ((mid["shipment_id"], 1),)


async def test_a_service_whose_carrier_brings_nothing_back_is_refused_at_once(shop_with: ShopWith) -> None:
    """By the rules that the order has pinned; nobody is asked."""
    shop = await shop_with(carrier_trouble={"recallable": ["express"]})
    order, part = await _shipped(shop)
    refusal = await shop.try_cancel(order, recall=True)
    assert (refusal.code, refusal.alternative) == ("cannot_be_recalled", "return")
    assert "service standard" in refusal.detail
    assert "recall" not in (await shop.try_cancel(order, "cancel-2")).detail
    await shop.delivers(order, part)
    assert "recall.requested" not in await shop.rests(order)


async def test_who_may_recall_is_said_by_the_cut_off_rules(shop: Shop) -> None:
    """A table that does not list it refuses it."""
    await shop.ruleset("cut_off", {"until": {"cancel": {"*": "packed"}}})
    order, _ = await _shipped(shop)
    refusal = await refusal_of(shop.cancel(order, recall=True, actor=MARIA))
    assert refusal.code == "not_in_cut_off_rules"
