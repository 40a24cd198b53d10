"""Cancelled while a node has the work: it is asked, and its answer decides."""

import pytest

from domain.orders import ReportKind
from tests.support.shop import Shop
from workflows.messages import CancelledLine

REPORTS = {
    "released": (),
    "accepted": (ReportKind.ACCEPTED,),
    "picked": (ReportKind.ACCEPTED, ReportKind.PICKED),
}


@pytest.mark.parametrize("stage", list(REPORTS))
async def test_the_node_stops_and_everything_goes_back(shop: Shop, stage: str) -> None:
    """CASE-R4, CASE-R5: released, accepted or picked, the node says that it stopped; nothing is captured."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2))
    (part,) = await shop.released(order)
    for kind in REPORTS[stage]:
        await shop.report(order, part["fulfillment_id"], kind)
    # when
    outcome = await shop.cancel(order)
    # then
    assert outcome.state == "confirmed"
    assert outcome.lines == (CancelledLine(line_no=1, requested=2, cancelled=2, waiting=0, declined=0),)
    assert outcome.authorization_to_release_minor == 2500
    assert (await shop.rests(order))[-4:] == [
        "cancellation.requested",
        "cancellation.confirmed",
        "payment.voided",
        "order.cancelled",
    ]
    assert shop.effects(order) == [("authorization", 2500), ("void", 2500)]
    assert shop.effects(order, "carriers") == []
    assert await shop.reserved("LAMP") == {"EAST": 0}
    assert await shop.on_hand("LAMP") == {"EAST": 2}


async def test_a_packed_parcel_is_stopped_and_its_label_taken_back(shop: Shop) -> None:
    """The money is let go first; the label, which costs us and not the customer, comes after it."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2))
    (part,) = await shop.released(order)
    await shop.packs(order, part)
    # when
    outcome = await shop.cancel(order)
    # then
    assert outcome.state == "confirmed"
    events = await shop.rests(order)
    assert {"shipment.label_voided", "order.cancelled", "payment.voided"} <= set(events)
    assert shop.effects(order, "carriers") == [("label", 0), ("label_void", 0)]
    assert [part["tracking"] for part in await shop.parts(order)] == ["voided"]
    assert await shop.on_hand("LAMP") == {"EAST": 2}
    assert await shop.reserved("LAMP") == {"EAST": 0}


async def test_after_the_hand_over_it_is_refused_and_changes_nothing(shop: Shop) -> None:
    """CASE-R5: the carrier has the goods: cancelling is refused and points to a return."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2))
    (part,) = await shop.released(order)
    await shop.ships(order, part)
    before = await shop.becomes(order, payment_status="captured")
    # when
    refusal = await shop.try_cancel(order)
    # then
    assert (refusal.code, refusal.alternative) == ("already_handed_over", "return")
    assert (await shop.header(order))["version"] == before["version"]
    assert await shop.money(order) == {"authorized": 2500, "captured": 2500, "refunded": 0}
    assert ("cancel", "refused") not in await shop.commands(order)
    await shop.delivers(order, part)
    await shop.agrees(order)


async def test_what_has_left_is_delivered_and_only_the_rest_is_cancelled(shop: Shop) -> None:
    """One of two parcels is on its way: the other is cancelled, paid is what arrives, the promise is judged by it."""
    # given
    await shop.stocks("LAMP", EAST=1)
    await shop.stocks("RUG", MID=1)
    order = await shop.place(("LAMP", 1), ("RUG", 1))
    east, _ = await shop.released(order, 2)
    await shop.ships(order, east)
    # when
    outcome = await shop.cancel(order)
    again = await shop.try_cancel(order, "cancel-2")
    await shop.delivers(order, east)
    # then
    assert outcome.state == "confirmed"
    assert outcome.lines == (CancelledLine(line_no=2, requested=1, cancelled=1, waiting=0, declined=0),)
    assert (outcome.total_before_minor, outcome.total_after_minor) == (2500, 1250)
    assert again.code == "already_handed_over"
    assert (await order.handle.result()).status == "completed"
    await shop.agrees(order)
    assert shop.effects(order) == [("authorization", 2500), ("capture", 1250), ("void", 1250)]
    assert await shop.tenders(order) == [("captured", 2500, 1250, 0)]
    header = await shop.header(order)
    assert (header["owed_minor"], header["promise_state"], header["fulfillment_status"]) == (1250, "kept", "delivered")
    assert await shop.ledger(order) == {"provider": 1250, "revenue": -1000, "shipping": -250}


async def test_the_rest_cancelled_after_the_first_parcel_arrived_closes_the_promise(shop: Shop) -> None:
    """Nothing is left to wait for: what was promised is judged by what has arrived."""
    # given
    await shop.stocks("LAMP", EAST=1)
    await shop.stocks("RUG", MID=1)
    order = await shop.place(("LAMP", 1), ("RUG", 1))
    east, _ = await shop.released(order, 2)
    await shop.ships(order, east)
    await shop.delivers(order, east)
    # when
    await shop.cancel(order)
    # then
    events = await shop.rests(order)
    assert events.count("promise.kept") == 1
    assert events[-1] == "order.completed"
    assert (await shop.header(order))["promise_state"] == "kept"
