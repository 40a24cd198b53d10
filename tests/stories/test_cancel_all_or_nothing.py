"""All of it or none: a part that cannot be cancelled refuses the rest; a node that must be asked does not."""

from domain.orders import ReportKind
from tests.support.eventually import eventually
from tests.support.shop import Order, Shop
from workflows.messages import CancelledLine, CancelOrder


async def _half_gone(shop: Shop) -> Order:
    """One of two has left from EAST, the other one is at MID."""
    await shop.stocks("LAMP", EAST=1, MID=1)
    order = await shop.place(("LAMP", 2))
    east, _ = await shop.released(order, 2)
    await shop.ships(order, east)
    await shop.becomes(order, payment_status="partially_captured")
    return order


async def test_a_unit_that_has_left_refuses_the_rest(shop: Shop) -> None:
    """Refused and previewed alike, and nothing is changed; the one that is still there can be named."""
    # given
    order = await _half_gone(shop)
    before = await shop.header(order)
    # when
    refusal = await shop.try_cancel(order, all_or_nothing=True)
    plan = await order.handle.query("preview_cancel", args=[[], None, True, "full", True])
    # then
    assert (refusal.code, refusal.alternative) == ("only_part_possible", "cancel")
    assert (plan["code"], plan["detail"]) == (refusal.code, refusal.detail)
    assert await shop.header(order) == before
    named = await shop.cancel(order, "cancel-2", lines=[(1, 1)], all_or_nothing=True)
    assert (named.state, named.lines) == ("confirmed", (CancelledLine(1, 1, 1, 0, 0),))
    (east,) = [part for part in await shop.parts(order) if part["node_id"] == "EAST"]
    await shop.delivers(order, east)
    assert (await order.handle.result()).status == "completed"
    await shop.agrees(order)


async def test_a_signal_that_comes_too_late_is_recorded_as_refused(shop: Shop) -> None:
    """Nobody waits for the answer; the row of the command has it."""
    # given
    order = await _half_gone(shop)
    # when
    await shop.signal(order, "cancel", CancelOrder(command_id="whole", all_or_nothing=True))

    async def settled() -> bool:
        return bool(await shop.sql("SELECT 1 FROM commands WHERE order_id = :o AND command_id = 'whole'", o=order.id))

    # then
    await eventually(settled)
    told = await shop.command(order, "whole")
    assert (told["state"], told["outcome"]["code"]) == ("refused", "only_part_possible")
    await shop.cancel(order)


async def test_a_node_is_asked_and_its_answer_stands(shop: Shop) -> None:
    """EAST stops, MID cannot: what was possible when it was asked is done as far as the nodes agree."""
    # given
    await shop.stocks("LAMP", EAST=1, MID=1)
    placed = shop.order(("LAMP", 2))
    shop.control(placed, "warehouses.stop", "answer_follows")
    order = await shop.submit(placed)
    east, mid = await shop.released(order, 2)
    await shop.knows(order, east, "released")
    await shop.knows(order, mid, "released")
    # when
    handle = await order.handle.start_update(
        "cancel", CancelOrder(command_id="whole", all_or_nothing=True), id="whole", wait_for_stage=2
    )

    async def asked() -> bool:
        return all(part["state"] == "cancellation_requested" for part in await shop.parts(order))

    await eventually(asked)
    meanwhile = await shop.try_cancel(order, "again", all_or_nothing=True)
    await shop.report(order, east["fulfillment_id"], ReportKind.CANCEL_AGREED)
    await shop.report(order, mid["fulfillment_id"], ReportKind.CANCEL_DECLINED)
    outcome = await handle.result()
    # then
    assert meanwhile.code == "cancellation_in_progress"
    assert (outcome["state"], outcome["lines"]) == ("partially_confirmed", [[1, 2, 1, 0, 1]])
    await shop.ships(order, mid)
    await shop.delivers(order, mid)
    assert (await order.handle.result()).status == "completed"
    await shop.agrees(order)
