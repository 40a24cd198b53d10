"""The bank says no, and the customer puts it right in time."""

from collections.abc import Awaitable, Callable

from tests.support.shop import Shop, refusal_of

ShopWith = Callable[..., Awaitable[Shop]]


async def test_a_declined_payment_waits_for_the_customer_with_everything_held(shop: Shop) -> None:
    """The header names customer, owner and deadline; the units stay held through the payment window."""
    # given
    await shop.stocks("LAMP", EAST=2)
    # when
    order = await shop.place(("LAMP", 2), pay="pm_declined")
    header = await shop.becomes(order, wait_cause="payment_declined")
    # then
    assert (header["waiting_on"], header["wait_owner"], header["status"]) == ("customer", "service", "confirmed")
    assert round((header["wait_deadline"] - header["wait_since"]).total_seconds()) == 86_400
    assert header["reserved_until"] == header["wait_deadline"]
    assert await shop.reserved("LAMP") == {"EAST": 2}
    await shop.shows(order, WaitingOn="customer")


async def test_a_new_payment_method_is_tried_at_once_and_the_order_goes_on(shop: Shop) -> None:
    """The answer to the new method says that it was authorized, and the rest follows by itself."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2), pay="pm_declined")
    await shop.becomes(order, wait_cause="payment_declined")
    # when
    answer = await shop.new_method(order, "pm_ok")
    closed = await shop.sees_through(order)
    # then
    assert (answer.applied, answer.state, answer.decline_code) == (True, "authorized", None)
    assert closed.status == "completed"
    assert (await shop.rests(order))[:4] == [
        "order.confirmed",
        "payment.declined",
        "payment.authorized",
        "order.allocated",
    ]
    assert shop.effects(order) == [("authorization", 2500), ("capture", 2500)]
    assert await shop.commands(order) == [
        ("payment_event", "applied"),
        ("node_report", "applied"),
        ("node_report", "applied"),
        ("carrier_event", "applied"),
    ]


async def test_a_second_method_may_be_declined_too_and_a_third_still_saves_the_order(shop: Shop) -> None:
    """Each attempt is an intent of its own, under its own key; the window starts anew with each."""
    # given
    await shop.stocks("LAMP", EAST=1)
    order = await shop.place(("LAMP", 1), pay="pm_declined")
    await shop.becomes(order, wait_cause="payment_declined")
    # when
    second = await shop.new_method(order, "pm_insufficient", "pay-1")
    third = await shop.new_method(order, "pm_ok", "pay-2")
    # then
    assert (second.applied, second.state, second.decline_code) == (True, "failed", "insufficient_funds")
    assert (third.state, third.decline_code) == ("authorized", None)
    await shop.sees_through(order)
    intents = await shop.sql(
        "SELECT business_key, state FROM payment_intents WHERE order_id = :o AND intent = 'authorize' ORDER BY 1",
        o=order.id,
    )
    assert [(row["business_key"].split(":", 1)[1], row["state"]) for row in intents] == [
        ("authorize:1:1", "refused"),
        ("authorize:1:2", "refused"),
        ("authorize:1:3", "ok"),
    ]
    await shop.agrees(order)


async def test_retry_now_tries_the_same_method_again(shop: Shop) -> None:
    """The customer topped the card up; nobody has to type its number again."""
    # given
    await shop.stocks("LAMP", EAST=1)
    order = await shop.place(("LAMP", 1), pay="pm_decline_once")
    await shop.becomes(order, wait_cause="payment_declined")
    # when
    answer = await shop.retry(order)
    closed = await shop.sees_through(order)
    # then
    assert answer.applied
    assert closed.status == "completed"
    await shop.agrees(order)


async def test_a_method_that_was_not_declined_cannot_be_replaced(shop: Shop) -> None:
    """The refusal says why, and nothing changes."""
    # given
    await shop.stocks("LAMP", EAST=1)
    order = await shop.place(("LAMP", 1))
    await shop.released(order)
    version = (await shop.header(order))["version"]
    # when
    refusal = await refusal_of(shop.new_method(order, "pm_ok"))
    # then
    assert refusal.code == "not_yet"
    assert "authorized: only a declined one can be replaced" in refusal.detail
    assert (await shop.header(order))["version"] == version
    assert shop.effects(order) == [("authorization", 1500)]
