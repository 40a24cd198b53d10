"""The bank's answer was lost: nobody guesses, the business key is looked up, and money moves once."""

from tests.support.shop import Shop


async def test_an_authorization_whose_answer_was_lost_is_found_again(shop: Shop) -> None:
    """The bank had approved: the look-up finds it, and no second hold is made."""
    # given
    await shop.stocks("LAMP", EAST=2)
    # when
    order = await shop.place(("LAMP", 2), pay="pm_timeout")
    header = await shop.becomes(order, wait_cause="payment_pending")
    await shop.sees_through(order)
    # then
    assert (header["waiting_on"], header["wait_owner"], header["payment_status"]) == ("payment", "finance", "pending")
    assert (await shop.rests(order))[:3] == ["order.confirmed", "payment.unknown", "payment.authorized"]
    assert shop.effects(order) == [("authorization", 2500), ("capture", 2500)]


async def test_a_request_that_never_arrived_is_sent_again(shop: Shop) -> None:
    """The look-up finds nothing, so the same request goes out under the same key."""
    # given
    await shop.stocks("LAMP", EAST=2)
    # when
    order = await shop.place(("LAMP", 2), pay="pm_lost")
    await shop.sees_through(order)
    # then
    assert (await shop.rests(order))[:3] == ["order.confirmed", "payment.unknown", "payment.authorized"]
    assert shop.effects(order) == [("authorization", 2500), ("capture", 2500)]
    (intent,) = await shop.sql(
        "SELECT attempt_no, state FROM payment_intents WHERE order_id = :o AND intent = 'authorize'", o=order.id
    )
    assert (intent["attempt_no"], intent["state"]) == (2, "ok")


async def test_a_capture_whose_answer_was_lost_is_not_taken_twice(shop: Shop) -> None:
    """The parcel arrives while the capture is unknown; the order closes once it has been found."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2))
    (part,) = await shop.released(order)
    await shop.packs(order, part)
    shop.control(order.placed, "payments.lose_reply", 1)
    # when
    await shop.ships(order, part)
    await shop.delivers(order, part)
    header = await shop.header(order)
    # then
    assert (header["status"], header["fulfillment_status"]) == ("in_fulfillment", "delivered")
    assert (await order.handle.result()).status == "completed"
    events = await shop.rests(order)
    assert [events.count(e) for e in ("payment.unknown", "payment.captured", "shipment.delivered")] == [1, 1, 1]
    assert events[-2:] == ["payment.captured", "order.completed"]
    assert shop.effects(order) == [("authorization", 2500), ("capture", 2500)]
    assert await shop.ledger(order) == {"provider": 2500, "revenue": -2000, "shipping": -500}


async def test_a_void_whose_answer_was_lost_is_found_again(shop: Shop) -> None:
    """Cancelled, and the bank's answer to the void is lost: the order closes with one void."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2))
    await shop.released(order)
    shop.control(order.placed, "payments.lose_reply", 1)
    # when
    await shop.cancel(order)
    # then
    assert (await order.handle.result()).status == "cancelled"
    await shop.agrees(order)
    assert shop.effects(order) == [("authorization", 2500), ("void", 2500)]


async def test_cancelled_while_the_authorization_is_unknown(shop: Shop) -> None:
    """The units are free at once; the hold, once found, is let go."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2), pay="pm_timeout")
    # when
    outcome = await shop.cancel(order)
    # then
    assert outcome.state == "confirmed"
    assert await shop.reserved("LAMP") == {"EAST": 0}
    assert (await order.handle.result()).status == "cancelled"
    await shop.agrees(order)
    assert shop.effects(order) == [("authorization", 2500), ("void", 2500)]
