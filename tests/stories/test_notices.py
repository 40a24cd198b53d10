"""Customers are told of what happens to their order: each fact once, in their language, whoever fails meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from domain.notices import MOST_ATTEMPTS, NoticeState
from domain.orders import CarrierEventType, HoldType, NodeTrouble, ReportKind
from providers.catalog import Providers
from store.engine import transaction
from store.intake import Wishes
from store.notices import Settlement, claim_due, settle_notice, try_again
from tests.support.eventually import eventually
from tests.support.notices import EMAIL, RecordingNotifications, customer
from tests.support.serving import serving
from tests.support.shop import Order, Shop
from tests.support.stack import Site

JAMIE = customer()


class PostOffice:
    """A site of its own, where everything that is sent is kept."""

    def __init__(self, make: Callable[[], Shop], sent: RecordingNotifications) -> None:
        self.make = make
        self.sent = sent


@pytest.fixture(scope="module")
async def office(new_site: Callable[[], Awaitable[Site]]) -> AsyncIterator[PostOffice]:
    """One worker for all stories here."""
    recorders: list[RecordingNotifications] = []

    def record(providers: Providers) -> Providers:
        recorders.append(RecordingNotifications(providers.notifications))
        return replace(providers, notifications=recorders[0])

    async with serving(await new_site(), hook=record) as make:
        yield PostOffice(make, recorders[0])


@pytest.fixture
async def shop(office: PostOffice) -> Shop:
    """A shop with ten lamps."""
    opened = await office.make().opens()
    await opened.stocks("LAMP", EAST=10)
    return opened


async def _due_now(shop: Shop, order: Order) -> None:
    """The pause before the next attempt is over."""
    await shop.sql("UPDATE notices SET next_attempt_at = now() WHERE order_id = :o AND state = 'pending'", o=order.id)


async def test_each_milestone_is_told_once(shop: Shop, office: PostOffice) -> None:
    """Confirmed, shipped with the tracking number, delivered; however often the outbox is emptied."""
    # given
    order = await shop.buys(("LAMP", 2), personal=JAMIE)
    await shop.sees_through(order)
    (part,) = await shop.parts(order)
    # when
    for _ in range(2):
        await shop.outbox_runs()
    # then
    kinds = ["order_confirmed", "shipped", "delivered"]
    assert await shop.notices(order) == [(kind, "sent", None) for kind in kinds]
    assert sorted(shop.told(order)) == sorted(kinds)
    requests = {request.kind: request for request in office.sent.of(order.id)}
    assert {request.address for request in requests.values()} == {EMAIL}
    assert part["tracking_number"] in requests["shipped"].text
    confirmed = requests["order_confirmed"]
    assert confirmed.subject == f"Your order {order.placed.order_number} is confirmed"
    assert "Hello Jamie Example," in confirmed.text
    assert f"2 x {shop.sku('LAMP')}: 25.00 USD\nTotal: 25.00 USD" in confirmed.text
    assert confirmed.html is not None
    await shop.agrees(order)


async def test_the_notice_stands_with_its_event_before_anybody_sends_it(shop: Shop) -> None:
    """Written in the transaction of the event: due at once, nothing at the provider yet."""
    order = await shop.buys(("LAMP", 1), personal=JAMIE)
    rows = await shop.sql(
        "SELECT n.state, n.xmin::text = e.xmin::text AS together FROM notices n JOIN order_events e USING (event_id)"
        " WHERE n.order_id = :o",
        o=order.id,
    )
    assert rows == [{"state": "pending", "together": True}]
    assert shop.told(order) == []


async def test_the_customer_s_language_counts_then_the_channel_s_then_english(shop: Shop, office: PostOffice) -> None:
    """A language without templates falls back to English, and the row says so."""
    german = await shop.buys(("LAMP", 1), personal=JAMIE, wishes=Wishes(language="de"))
    breton = await shop.buys(("LAMP", 1), personal=JAMIE, wishes=Wishes(language="br"))
    await shop.sql("UPDATE channels SET language = 'de' WHERE channel = :c", c=shop.channel)
    by_channel = await shop.buys(("LAMP", 1), personal=JAMIE)
    await shop.outbox_runs()
    subjects = [office.sent.of(order.id)[0].subject.split()[0] for order in (german, breton, by_channel)]
    assert subjects == ["Ihre", "Your", "Ihre"]
    rows = await shop.sql(
        "SELECT language, template, fell_back FROM notices WHERE sales_channel = :c ORDER BY created_at", c=shop.channel
    )
    assert [tuple(row.values()) for row in rows] == [
        ("de", "email/default/de/order_confirmed.txt", False),
        ("br", "email/default/en/order_confirmed.txt", True),
        ("de", "email/default/de/order_confirmed.txt", False),
    ]


async def test_a_declined_payment_names_the_window_and_its_end_the_reason(office: PostOffice) -> None:
    """Told until when; and when nobody paid, that the order is cancelled for that reason."""
    # given
    shop = await office.make().opens(payment_window_s=3)
    await shop.stocks("LAMP", EAST=1)
    order = await shop.buys(("LAMP", 1), pay="pm_declined", personal=JAMIE)
    # when
    await order.handle.result()
    await shop.outbox_runs()
    # then
    kinds = ["order_confirmed", "payment_declined", "order_cancelled"]
    assert await shop.notices(order) == [(kind, "sent", None) for kind in kinds]
    texts = {request.kind: request.text for request in office.sent.of(order.id)}
    assert "another payment method by " in texts["payment_declined"]
    assert "cancelled, because we received no payment in time." in texts["order_cancelled"]


async def test_a_part_and_the_rest_are_told_as_such(shop: Shop) -> None:
    """One unit of two, then the other one; the same command twice tells nothing twice."""
    order = await shop.buys(("LAMP", 2), pay="pm_declined", personal=JAMIE)
    await shop.becomes(order, wait_cause="payment_declined")
    await shop.cancel(order, "cancel-1", lines=[(1, 1)])
    await shop.cancel(order, "cancel-1", update_id="again", lines=[(1, 1)])
    await shop.cancel(order, "cancel-2")
    await order.handle.result()
    await shop.outbox_runs()
    kinds = ["order_confirmed", "payment_declined", "units_cancelled", "order_cancelled"]
    assert [kind for kind, *_ in await shop.notices(order)] == kinds
    assert sorted(shop.told(order)) == sorted(kinds)


async def test_a_cancellation_that_came_too_late_is_told(shop: Shop) -> None:
    """The node could not stop: declined, then shipped."""
    order = await shop.buys(("LAMP", 1), personal=JAMIE)
    shop.control(order.placed, "warehouses.stop", "too_late")
    await shop.released(order)
    await shop.cancel(order)
    await shop.sees_through(order)
    kinds = ["order_confirmed", "cancellation_declined", "shipped", "delivered"]
    assert [kind for kind, *_ in await shop.notices(order)] == kinds


async def test_a_later_promise_is_told_once_and_before_the_old_day_has_passed(
    office: PostOffice,
) -> None:
    """The node is short and the next one is slower: one promise.changed, one notice, the new date in it."""
    # given
    shop = await office.make().opens()
    await shop.stocks("LAMP", EAST=1, WEST=1)
    order = await shop.buys(("LAMP", 1), personal=JAMIE)
    (part,) = await shop.released(order)
    # when
    cause = NodeTrouble.NOT_FOUND
    for command_id in ("short-1", "short-1"):
        await shop.report(order, part["fulfillment_id"], ReportKind.SHORT, command_id, cause=cause, lines=((1, 1),))

    async def promised_again() -> bool:
        return "promise.changed" in await shop.events(order)

    await eventually(promised_again)
    await shop.outbox_runs()
    # then
    assert shop.told(order).count("promise_changed") == 1
    (row,) = await shop.sql(
        "SELECT n.state, n.settled_at < before.promised_until AS in_time, after.promised_by FROM promises after"
        " JOIN promises before ON before.order_id = after.order_id AND before.version = after.version - 1"
        " JOIN notices n ON n.event_id = after.notice_event WHERE after.order_id = :o AND after.version > 0",
        o=order.id,
    )
    assert (row["state"], row["in_time"]) == ("sent", True)
    told = next(request for request in office.sent.of(order.id) if request.kind == "promise_changed")
    assert f"The new date is {row['promised_by'].day} " in told.text


async def test_who_wants_no_notices_gets_those_that_the_law_requires(shop: Shop) -> None:
    """Confirmed is not told; that the shop cancelled is."""
    order = await shop.buys(("LAMP", 1), personal=JAMIE, wishes=Wishes(notices=False))
    await shop.released(order)
    await shop.cancel(order)
    await order.handle.result()
    await shop.outbox_runs()
    assert await shop.notices(order) == [
        ("order_confirmed", "suppressed", "opted_out"),
        ("order_cancelled", "sent", None),
    ]
    assert shop.told(order) == ["order_cancelled"]


async def test_only_a_hold_that_the_customer_can_end_is_told(shop: Shop) -> None:
    """A question about the address, none about suspicion."""
    order = await shop.buys(("LAMP", 1), personal=JAMIE)
    await shop.released(order)
    await shop.hold(order, HoldType.FRAUD, "hold-1")
    await shop.hold(order, HoldType.ADDRESS, "hold-2")
    assert [kind for kind, *_ in await shop.notices(order)] == ["order_confirmed", "address_question"]


async def test_an_order_without_an_address_tells_nobody_and_says_so(shop: Shop) -> None:
    """Born in the Temporal UI, erased, or bought without an e-mail address."""
    direct = await shop.place(("LAMP", 1))
    silent = await shop.buys(("LAMP", 1), personal=customer(email=None))
    await shop.outbox_runs()
    for order in (direct, silent):
        assert await shop.notices(order) == [("order_confirmed", "suppressed", "no_address")]
        assert shop.told(order) == []


async def test_a_lost_reply_is_looked_up_and_nothing_is_sent_twice(shop: Shop, office: PostOffice) -> None:
    """The provider sent it and its answer was lost: the next attempt asks and does not send."""
    # given
    order = await shop.buys(("LAMP", 1), personal=JAMIE)
    shop.control(order.placed, "notifications.lose_reply", 1)
    # when
    await shop.outbox_runs()
    assert await shop.notices(order) == [("order_confirmed", "pending", "outcome_unknown")]
    await _due_now(shop, order)
    await shop.outbox_runs()
    # then
    assert await shop.notices(order) == [("order_confirmed", "sent", None)]
    assert shop.told(order) == ["order_confirmed"]
    assert len(office.sent.of(order.id)) == 1


async def test_a_lost_request_is_sent_again(shop: Shop, office: PostOffice) -> None:
    """The provider never got it: asked, it knows nothing, and the second one arrives."""
    order = await shop.buys(("LAMP", 1), personal=JAMIE)
    shop.control(order.placed, "notifications.lose_request", 1)
    await shop.outbox_runs()
    shop.normal(order.placed, "notifications.lose_request")
    await _due_now(shop, order)
    await shop.outbox_runs()
    assert await shop.notices(order) == [("order_confirmed", "sent", None)]
    assert shop.told(order) == ["order_confirmed"]
    assert len(office.sent.of(order.id)) == 2


async def test_a_sender_that_fails_delays_no_order_and_no_other_notice(shop: Shop) -> None:
    """The provider takes nothing for one customer; the order goes to the door and the others are told."""
    unlucky = await shop.buys(("LAMP", 1), personal=JAMIE)
    lucky = await shop.buys(("LAMP", 1), personal=JAMIE)
    shop.control(unlucky.placed, "notifications.down", 1)
    await shop.outbox_runs()
    await shop.sees_through(unlucky)
    await shop.outbox_runs()
    assert await shop.notices(lucky) == [("order_confirmed", "sent", None)]
    assert await shop.notices(unlucky) == [
        (kind, "pending", "provider_unavailable") for kind in ("order_confirmed", "shipped", "delivered")
    ]
    await shop.agrees(unlucky)


async def test_after_the_last_attempt_service_gets_a_case_which_a_resend_closes(shop: Shop, office: PostOffice) -> None:
    """Failed, one case for two notices although the order has ended; it closes when both have arrived after all."""
    # given
    order = await shop.buys(("LAMP", 1), personal=JAMIE)
    shop.control(order.placed, "notifications.down", 1)
    await shop.released(order)
    await shop.cancel(order)
    await order.handle.result()
    await shop.sql("UPDATE notices SET attempt_no = :n WHERE order_id = :o", n=MOST_ATTEMPTS - 1, o=order.id)
    # when
    await shop.outbox_runs()
    # then
    kinds = ["order_confirmed", "order_cancelled"]
    assert await shop.notices(order) == [(kind, "failed", "provider_unavailable") for kind in kinds]
    assert await shop.cases(order) == [("notice_failing", "service", "open")]
    assert (await shop.events(order)).count("order.needs_attention") == 1
    assert (await shop.header(order))["state_digest"] == (await order.handle.result()).digest


async def test_what_the_provider_refuses_has_failed_at_once(shop: Shop) -> None:
    """No second try at an address that takes no messages; a case instead."""
    order = await shop.buys(("LAMP", 1), personal=JAMIE)
    shop.control(order.placed, "notifications.decline", 1)
    await shop.outbox_runs()
    assert await shop.notices(order) == [("order_confirmed", "failed", "address_rejected")]
    assert await shop.cases(order) == [("notice_failing", "service", "open")]
    shop.normal(order.placed, "notifications.decline")
    await shop.sees_through(order)
    assert await shop.cases(order) == [("notice_failing", "service", "open")]


async def test_several_outboxes_at_once_send_each_notice_once(shop: Shop) -> None:
    """Three runs over nine notices: whoever claims one has it."""
    orders = [await shop.buys(("LAMP", 1), personal=JAMIE) for _ in range(9)]
    await asyncio.gather(*(shop.outbox_runs() for _ in range(3)))
    for order in orders:
        assert shop.told(order) == ["order_confirmed"]
        assert await shop.notices(order) == [("order_confirmed", "sent", None)]


async def test_an_attempt_that_lost_its_lease_writes_nothing(shop: Shop) -> None:
    """It comes back after another one has taken the notice: neither its end nor its pause counts."""
    # given
    order = await shop.buys(("LAMP", 1), personal=JAMIE)
    claim = timedelta(seconds=0)
    (slow,) = await transaction(shop.engine, lambda c: claim_due(c, "slow", 1, claim))
    (quick,) = await transaction(shop.engine, lambda c: claim_due(c, "quick", 1, timedelta(seconds=60)))
    assert (slow.notice_id, slow.attempt_no, quick.attempt_no) == (quick.notice_id, 1, 2)
    # when
    end = Settlement(NoticeState.FAILED, why="late")
    assert not await transaction(shop.engine, lambda c: settle_notice(c, slow, "slow", end))
    await transaction(shop.engine, lambda c: try_again(c, slow, "slow", "late", timedelta()))
    # then
    assert await shop.notices(order) == [("order_confirmed", "sending", None)]
    sent = Settlement(NoticeState.SENT, provider_ref="n-1")
    assert await transaction(shop.engine, lambda c: settle_notice(c, quick, "quick", sent))
    assert await shop.notices(order) == [("order_confirmed", "sent", None)]


async def test_a_scan_that_comes_twice_tells_once(shop: Shop) -> None:
    """Under two command ids: one event, one notice."""
    order = await shop.buys(("LAMP", 1), personal=JAMIE)
    (part,) = await shop.released(order)
    await shop.ships(order, part)
    at = await shop.now()
    both = ("one", "two")
    await asyncio.gather(
        *(
            shop.scan(order, part["shipment_id"], CarrierEventType.DELIVERED, "scan-1", at, command_id=command_id)
            for command_id in both
        ),
        return_exceptions=True,
    )
    await order.handle.result()
    assert [kind for kind, *_ in await shop.notices(order)].count("delivered") == 1
