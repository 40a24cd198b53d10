"""The same journeys on a worker that forgets every order after each task and must replay it from its history."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from temporalio.api.enums.v1 import WorkflowTaskFailedCause

from domain.ids import derived_id
from domain.orders import CarrierEventType, HoldType
from tests.support.eventually import eventually
from tests.support.serving import serving
from tests.support.shop import Shop
from tests.support.stack import Site


@pytest.fixture(scope="module")
async def forgetful(new_site: Callable[[], Awaitable[Site]]) -> AsyncIterator[Callable[[], Shop]]:
    """Makes shops on a site of their own, served without any cache of workflows."""
    async with serving(await new_site(), cache=0) as make:
        yield make


async def test_all_the_way(forgetful: Callable[[], Shop]) -> None:
    """One lamp, from the shelf to the door."""
    # given
    shop = await forgetful().opens()
    await shop.stocks("LAMP", EAST=2)
    # when
    order = await shop.place(("LAMP", 2))
    closed = await shop.sees_through(order)
    # then
    assert closed.status == "completed"
    assert shop.effects(order) == [("authorization", 2500), ("capture", 2500)]
    await _never_failed(shop, order.id)
    await shop.agrees(order)


async def test_split_over_three_nodes(forgetful: Callable[[], Shop]) -> None:
    """Three tracks, three parcels, three captures."""
    # given
    shop = await forgetful().opens()
    await shop.stocks("LAMP", EAST=3, MID=2, WEST=1)
    # when
    order = await shop.place(("LAMP", 6))
    closed = await shop.sees_through(order, nodes=3)
    # then
    assert closed.status == "completed"
    assert shop.effects(order) == [("authorization", 6500), ("capture", 3251), ("capture", 2166), ("capture", 1083)]
    await _never_failed(shop, order.id)
    await shop.agrees(order)


async def test_cancelled_when_packed(forgetful: Callable[[], Shop]) -> None:
    """The node stops, the label is taken back, the money let go."""
    # given
    shop = await forgetful().opens()
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2))
    (part,) = await shop.released(order)
    await shop.packs(order, part)
    # when
    outcome = await shop.cancel(order)
    # then
    assert outcome.state == "confirmed"
    assert (await order.handle.result()).status == "cancelled"
    assert shop.effects(order, "carriers") == [("label", 0), ("label_void", 0)]
    await _never_failed(shop, order.id)
    await shop.agrees(order)


async def test_declined_then_fixed(forgetful: Callable[[], Shop]) -> None:
    """The reservation lapses meanwhile and is made again."""
    # given
    shop = await forgetful().opens(reservation_limit_s=1, hold_through_payment_window=False)
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2), pay="pm_declined")
    await shop.lapses(order)
    # when
    await shop.new_method(order, "pm_ok")
    closed = await shop.sees_through(order)
    # then
    assert closed.status == "completed"
    assert "reservation.renewed" in await shop.events(order)
    await _never_failed(shop, order.id)
    await shop.agrees(order)


async def test_commands_by_signal_garbage_and_early_scans(forgetful: Callable[[], Shop]) -> None:
    """Whatever comes in is met the same way each time it is read again."""
    # given
    shop = await forgetful().opens(node_accept_s=1)
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2))
    (part,) = await shop.released(order)
    # when
    await shop.signal(order, "cancel", "garbage")
    await order.handle.signal("retry_now")
    await shop.packs(order, part)
    await shop.scan(order, part["shipment_id"], CarrierEventType.OUT_FOR_DELIVERY)
    await shop.scan(order, part["shipment_id"], CarrierEventType.IN_TRANSIT)
    await shop.delivers(order, part)
    # then
    assert (await order.handle.result()).status == "completed"
    await _never_failed(shop, order.id)
    await shop.agrees(order)


async def test_held_released_and_rejected(forgetful: Callable[[], Shop]) -> None:
    """One hold lapses, one is released, one line is rejected: the same gates each time."""
    # given
    shop = await forgetful().opens()
    await shop.stocks("LAMP", EAST=2)
    await shop.stocks("RUG", WEST=1)
    content = {"command_id": "hold-1", "type": "credit"}
    order = await shop.starts_with(shop.order(("LAMP", 2), ("RUG", 1)), "place_hold", content)
    await shop.becomes(order, wait_cause="hold", payment_status="authorized")
    await shop.hold(order, HoldType.MANUAL, "hold-2", lasts_s=1)
    quality = await shop.hold(order, HoldType.QUALITY, "hold-3", line_no=2)
    # when
    await shop.end_hold(order, derived_id("hld", order.id, "hold-1"))
    await shop.end_hold(order, quality.hold_id, "reject")
    (lamps,) = [part for part in await shop.released(order, 2) if part["node_id"] == "EAST"]
    await shop.ships(order, lamps)
    await shop.delivers(order, lamps)
    # then
    assert (await order.handle.result()).status == "completed"
    assert dict(await shop.holds(order)) == {"credit": "released", "manual": "expired", "quality": "rejected"}
    assert await shop.money(order) == {"authorized": 3500, "captured": 2333, "refunded": 0}
    await _never_failed(shop, order.id)
    await shop.agrees(order)


async def test_waiting_for_supply(forgetful: Callable[[], Shop]) -> None:
    """One ships, one is held when it has come, one is given up at the limit."""
    # given
    shop = await forgetful().opens(backorder_limit_s=8, backorder_retry_s=2)
    await shop.stocks("LAMP", EAST=1)
    await shop.lets_wait("LAMP")
    order = await shop.place(("LAMP", 3))
    await shop.sees_to(order, "EAST")
    # when
    await shop.receives("LAMP", "MID", 1)
    await shop.sees_to(order, "MID")
    # then
    assert (await order.handle.result()).status == "completed"
    assert await shop.money(order) == {"authorized": 3500, "captured": 2334, "refunded": 0}
    await _never_failed(shop, order.id)
    await shop.agrees(order)


async def test_lost_sent_again_and_brought_back(forgetful: Callable[[], Shop]) -> None:
    """Lost, sent again, then back at the node and refunded: the same remedies each time."""
    # given
    shop = await forgetful().opens(carrier_trouble={"no_scan_s": {"standard": 3}})
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 1))
    (first,) = await shop.released(order)
    await shop.ships(order, first)  # nobody scans it

    async def again() -> dict[str, Any] | None:
        return next((part for part in await shop.parts(order) if part["stage"] == "released"), None)

    # when
    second = await eventually(again)
    await shop.ships(order, second)
    await shop.scan(order, second["shipment_id"], CarrierEventType.RETURN_TO_SENDER)
    await shop.remedy(order, "refund")
    await shop.scan(order, second["shipment_id"], CarrierEventType.RETURNED)
    # then
    assert (await order.handle.result()).status == "completed"
    assert shop.effects(order) == [("authorization", 1500), ("capture", 1500), ("refund", 1500)]
    assert await shop.on_hand("LAMP") == {"EAST": 1}
    await _never_failed(shop, order.id)
    await shop.agrees(order)


async def _never_failed(shop: Shop, order_id: str) -> None:
    """No task of this order failed: a replay that goes another way would be seen here.

    `UNHANDLED_COMMAND` is no failure of ours: a message came while the order was about to close.
    """
    handle = shop.client.get_workflow_handle(f"order-{order_id}")
    history = await handle.fetch_history()
    tasks = [e.workflow_task_failed_event_attributes for e in history.events]
    harmless = (WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND, 0)
    assert [str(task) for task in tasks if task.cause not in harmless] == []
    assert history.events[-1].HasField("workflow_execution_completed_event_attributes")
