"""Nobody serves when the order comes in: whatever is said meanwhile is met, in order, once somebody does."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

from tests.support.serving import serving
from tests.support.shop import Order, Shop
from tests.support.stack import Site
from workflows.messages import OrderClosed
from workflows.starting import start_unanswered

NewSite = Callable[[], Awaitable[Site]]


async def _waiting_order(shop: Shop, pay: str = "pm_ok") -> Order:
    placed = shop.order(("LAMP", 2), pay=pay)
    assert await start_unanswered(shop.client, placed, timedelta(seconds=5))
    return Order(placed, shop.client.get_workflow_handle(f"order-{placed.order_id}", result_type=OrderClosed))


async def test_signals_sent_before_the_first_worker_are_all_answered(new_site: NewSite) -> None:
    """One garbage, one too early, one for a parcel that nobody knows, one retry: and the order goes its way."""
    site = await new_site()
    async with serving(site, start=False) as make:
        # given
        shop = await make().opens()
        await shop.stocks("LAMP", EAST=2)
        order = await _waiting_order(shop)
        assert not await start_unanswered(shop.client, order.placed, timedelta(seconds=5))
        await shop.signal(order, "cancel", "garbage")
        await shop.signal(order, "retry_now", {"command_id": "retry-1"})
        method = {"command_id": "pay-1", "tender_id": order.tender_id, "fact": "method_updated", "reference": "pm_ok"}
        await shop.signal(order, "payment_event", method)
        event = {"shipment_id": "shp_nobody", "event_id": "E1", "type": "delivered"}
        await shop.signal(
            order, "carrier_event", {"command_id": "scan-1", "occurred_at": "2026-11-24T10:00:00Z", **event}
        )
        # when
        async with serving(site):
            closed = await shop.sees_through(order)
            # then
            assert closed.status == "completed"
            assert (await shop.command(order, "retry-1"))["state"] == "applied"
            assert (await shop.command(order, "pay-1"))["outcome"]["code"] == "not_yet"
            assert (await shop.command(order, "scan-1"))["outcome"]["code"] == "unknown_shipment"
            assert ("cancel", "failed") in await shop.commands(order)
            await shop.agrees(order)


async def test_a_cancellation_sent_before_the_first_worker_is_carried_out(new_site: NewSite) -> None:
    """The customer changed their mind before anybody had read the order."""
    site = await new_site()
    async with serving(site, start=False) as make:
        # given
        shop = await make().opens()
        await shop.stocks("LAMP", EAST=2)
        order = await _waiting_order(shop)
        await shop.signal(order, "cancel", {"command_id": "cancel-1", "reason": "changed_mind"})
        # when
        async with serving(site):
            closed = await order.handle.result()
            # then
            assert closed.status == "cancelled"
            assert (await shop.command(order, "cancel-1"))["outcome"]["state"] == "confirmed"
            assert await shop.reserved("LAMP") == {"EAST": 0}
            await shop.agrees(order)


async def test_a_cancellation_of_an_order_that_cannot_be_accepted_is_refused(new_site: NewSite) -> None:
    """Too late and too early at once: the order is rejected, and the cancellation is told so."""
    site = await new_site()
    async with serving(site, start=False) as make:
        # given
        shop = await make().opens()
        await shop.stocks("LAMP", EAST=1)
        order = await _waiting_order(shop)
        await shop.signal(order, "cancel", {"command_id": "cancel-1"})
        # when
        async with serving(site):
            closed = await order.handle.result()
            # then
            assert closed.status == "rejected"
            assert (await shop.command(order, "cancel-1"))["outcome"]["code"] == "nothing_to_cancel"
            await shop.agrees(order)
