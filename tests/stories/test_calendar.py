"""Days of waiting in seconds: time is skipped by the real server, for one order at a time."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from temporalio.testing import TimeSkipper

from domain.orders import ReportKind
from tests.support.eventually import eventually
from tests.support.shop import Order, Shop


@pytest.fixture
async def skipper(shop: Shop) -> AsyncIterator[TimeSkipper]:
    """Moves an order's clock. Orders start unskipped, so that nothing jumps before a story says so."""
    skipper = TimeSkipper(shop.client)
    with skipper.with_time_skipping_disabled():
        yield skipper


async def _still(shop: Shop, order: Order, **wanted: object) -> None:
    header = await shop.header(order)
    assert {name: header[name] for name in wanted} == wanted


async def test_after_a_day_without_a_payment_the_order_is_cancelled(shop: Shop, skipper: TimeSkipper) -> None:
    """After 23 hours the units are still held; after 24 everything has been given back."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2), pay="pm_declined")
    await shop.becomes(order, wait_cause="payment_declined")
    # when
    await skipper.fast_forward(order.handle, timedelta(hours=23))
    # then
    await _still(shop, order, status="confirmed", waiting_on="customer")
    assert await shop.reserved("LAMP") == {"EAST": 2}
    # and when
    await skipper.fast_forward(order.handle, timedelta(hours=1, minutes=1))
    # then
    assert (await order.handle.result()).status == "cancelled"
    assert (await shop.command(order, "system:payment_declined:1"))["state"] == "applied"
    assert await shop.reserved("LAMP") == {"EAST": 0}
    await shop.agrees(order)


async def test_a_payment_fixed_after_23_hours_saves_the_order(shop: Shop, skipper: TimeSkipper) -> None:
    """The window is a day, and the last hour of it counts."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2), pay="pm_declined")
    await shop.becomes(order, wait_cause="payment_declined")
    await skipper.fast_forward(order.handle, timedelta(hours=23))
    # when
    answer = await shop.new_method(order, "pm_ok")
    # then
    assert answer.state == "authorized"
    assert (await shop.sees_through(order)).status == "completed"
    await shop.agrees(order)


async def test_the_databases_clock_has_the_last_word_on_a_reservation(shop: Shop, skipper: TimeSkipper) -> None:
    """The order's own clock jumps an hour ahead; the units are held until the database says that time is over."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2), pay="pm_declined")
    await shop.becomes(order, wait_cause="payment_declined")
    # when
    await skipper.fast_forward(order.handle, timedelta(hours=12))
    # then
    assert "reservation.expired" not in await shop.events(order)
    assert await shop.reserved("LAMP") == {"EAST": 2}
    await shop.cancel(order)
    await shop.agrees(order)


async def test_after_seven_days_without_a_scan_a_case_is_opened(shop: Shop, skipper: TimeSkipper) -> None:
    """Six days are patience, seven are silence; a late scan closes the case, and the parcel arrives after all."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2))
    (part,) = await shop.released(order)
    await shop.ships(order, part)
    await shop.becomes(order, payment_status="captured")
    # when
    await skipper.fast_forward(order.handle, timedelta(days=6))
    patient = await shop.cases(order)
    await skipper.fast_forward(order.handle, timedelta(days=1, minutes=1))
    # then
    assert [code for code, _, _ in patient] == ["promise_late"]

    async def silent() -> bool:
        return ("carrier_silent", "fulfillment", "open") in await shop.cases(order)

    await eventually(silent)
    await shop.shows(
        order, WaitingOn="carrier", AttentionCode="carrier_silent", PromiseState="late", NeedsAttention=True
    )
    # and then
    await shop.delivers(order, part)
    assert (await order.handle.result()).status == "completed"
    await shop.agrees(order)
    assert {state for _, _, state in await shop.cases(order)} == {"auto_closed"}


async def test_a_node_has_two_hours_to_accept_and_a_day_to_pack(shop: Shop, skipper: TimeSkipper) -> None:
    """Each step has a limit of its own."""
    # given
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2))
    (part,) = await shop.released(order)
    # when
    await skipper.fast_forward(order.handle, timedelta(hours=1, minutes=58))
    in_time = await shop.cases(order)
    await skipper.fast_forward(order.handle, timedelta(minutes=5))
    # then
    assert in_time == []
    assert await eventually(lambda: shop.cases(order)) == [("node_silent", "fulfillment", "open")]
    # and when
    await shop.report(order, part["fulfillment_id"], ReportKind.ACCEPTED)
    await skipper.fast_forward(order.handle, timedelta(hours=23))
    assert ("node_silent", "fulfillment", "open") not in await shop.cases(order)
    await skipper.fast_forward(order.handle, timedelta(hours=2))

    # then
    async def again() -> bool:
        return [code for code, _, state in await shop.cases(order) if state == "open"].count("node_silent") == 1

    await eventually(again)
    await shop.ships(order, part)
    await shop.delivers(order, part)
    await shop.agrees(order)
