"""Several payment instruments on one order: charged in sequence, let go in full."""

from tests.support.shop import Shop


async def test_captures_walk_the_tenders_in_their_sequence(shop: Shop) -> None:
    """The gift card goes first; the parcel that exhausts it takes the rest from the card."""
    # given
    await shop.stocks("LAMP", EAST=2)
    await shop.stocks("RUG", MID=1)
    # when
    order = await shop.place(("LAMP", 2), ("RUG", 1), pay=[("pm_ok", 1500), ("pm_ok", 2000)])
    closed = await shop.sees_through(order, nodes=2)
    # then
    assert closed.status == "completed"
    assert shop.effects(order) == [
        ("authorization", 1500),
        ("authorization", 2000),
        ("capture", 1500),
        ("capture", 833),
        ("capture", 1167),
    ]
    assert await shop.tenders(order) == [("captured", 1500, 1500, 0), ("captured", 2000, 2000, 0)]
    assert (await shop.rests(order)).count("payment.captured") == 3
    assert [(p["value_minor"], p["captured"]) for p in await shop.parts(order)] == [(2333, True), (1167, True)]


async def test_a_cancellation_lets_every_tender_go(shop: Shop) -> None:
    """Each authorization is voided by itself."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2), pay=[("pm_ok", 500), ("pm_ok", 800), ("pm_ok", 1200)])
    await shop.released(order)
    # when
    await shop.cancel(order)
    # then
    await shop.agrees(order)
    assert shop.effects(order)[3:] == [("void", 500), ("void", 800), ("void", 1200)]
    assert await shop.tenders(order) == [("voided", 500, 0, 0), ("voided", 800, 0, 0), ("voided", 1200, 0, 0)]


async def test_the_second_tender_is_fixed_while_the_first_stays_authorized(shop: Shop) -> None:
    """Only the declined one is asked for again."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2), pay=[("pm_ok", 500), ("pm_declined", 2000)])
    await shop.becomes(order, wait_cause="payment_declined")
    assert await shop.tenders(order) == [("authorized", 500, 0, 0), ("failed", 0, 0, 0)]
    # when
    answer = await shop.new_method(order, "pm_ok", tender=1)
    await shop.sees_through(order)
    # then
    assert (answer.tender_id, answer.state) == (order.placed.tenders[1].tender_id, "authorized")
    assert shop.effects(order) == [
        ("authorization", 500),
        ("authorization", 2000),
        ("capture", 500),
        ("capture", 2000),
    ]
    await shop.agrees(order)


async def test_a_tender_that_waits_for_its_turn_is_not_waited_for(shop: Shop) -> None:
    """The first is declined: the header waits for the customer, not for a bank that nobody has asked."""
    # given
    await shop.stocks("LAMP", EAST=2)
    # when
    order = await shop.place(("LAMP", 2), pay=[("pm_declined", 500), ("pm_ok", 2000)])
    header = await shop.becomes(order, wait_cause="payment_declined")
    # then
    assert (header["waiting_on"], header["wait_owner"]) == ("customer", "service")
    assert await shop.tenders(order) == [("failed", 0, 0, 0), ("pending", 0, 0, 0)]
    await shop.new_method(order, "pm_ok")
    await shop.sees_through(order)
    await shop.agrees(order)
