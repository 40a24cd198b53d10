"""A cancellation as a command: once for ever, by update or by signal, and only from who may send it."""

import asyncio

import pytest
from temporalio.client import WorkflowUpdateFailedError

from domain.orders import CancelReason, ReportKind
from tests.support.shop import Order, Shop
from workflows.messages import CancelOrder, CancelOutcome

GOODBYE = {"command_id": "signal-1", "reason": "duplicate"}


async def _placed(shop: Shop, **controls: str | int) -> Order:
    await shop.stocks("LAMP", EAST=2)
    placed = shop.order(("LAMP", 2))
    for name, value in controls.items():
        shop.control(placed, name.replace("_", ".", 1), value)
    order = await shop.submit(placed)
    await shop.released(order)
    return order


async def test_the_same_command_twice_has_one_outcome(shop: Shop) -> None:
    """The second time comes as another update; it meets the first answer, and nothing happens again."""
    # given
    order = await _placed(shop, payments_delay_ms=1500)
    # when
    first = await shop.cancel(order, "cancel-1", update_id="update-1")
    second = await shop.cancel(order, "cancel-1", update_id="update-2")
    # then
    assert second.model_dump(exclude={"order_version"}) == first.model_dump(exclude={"order_version"})
    assert (await shop.rests(order)).count("cancellation.confirmed") == 1
    assert await shop.commands(order) == [("cancel", "applied")]


async def test_the_same_command_at_the_same_moment_has_one_outcome(shop: Shop) -> None:
    """The copy waits for the first while the node is still being asked."""
    # given
    order = await _placed(shop, warehouses_stop="answer_follows")
    (part,) = await shop.parts(order)
    # when
    copies = [asyncio.create_task(shop.cancel(order, "cancel-1", update_id=f"update-{n}")) for n in (1, 2, 3)]
    await shop.becomes(order, wait_cause="stop_answer")
    await shop.report(order, part["fulfillment_id"], ReportKind.CANCEL_AGREED)
    outcomes = await asyncio.gather(*copies)
    # then
    assert [outcome.state for outcome in outcomes] == ["confirmed"] * 3
    assert len({outcome.cancellation_id for outcome in outcomes}) == 1
    assert (await shop.rests(order)).count("cancellation.requested") == 1


async def test_another_command_while_the_node_is_asked_is_refused(shop: Shop) -> None:
    """One question at a time: the answer to the first decides."""
    # given
    order = await _placed(shop, warehouses_stop="answer_follows")
    (part,) = await shop.parts(order)
    cancelling = asyncio.create_task(shop.cancel(order, "cancel-1"))
    before = await shop.becomes(order, wait_cause="stop_answer")
    # when
    refusal = await shop.try_cancel(order, "cancel-2")
    # then
    assert refusal.code == "cancellation_in_progress"
    assert (await shop.header(order))["version"] == before["version"]
    await shop.report(order, part["fulfillment_id"], ReportKind.CANCEL_AGREED)
    assert (await cancelling).state == "confirmed"


async def test_another_command_when_nothing_is_left_is_refused(shop: Shop) -> None:
    """The units are free and the money is on its way back: there is nothing to cancel any more."""
    # given
    order = await _placed(shop, payments_delay_ms=1500)
    await shop.cancel(order, "cancel-1")
    # when
    refusal = await shop.try_cancel(order, "cancel-2")
    # then
    assert (refusal.code, refusal.alternative) == ("nothing_to_cancel", None)
    await shop.agrees(order)


async def test_a_signal_cancels_and_leaves_its_outcome_behind(shop: Shop) -> None:
    """Who cannot wait for an answer finds it with the command."""
    # given
    order = await _placed(shop)
    # when
    await shop.signal(order, "cancel", GOODBYE)
    # then
    command = await shop.command(order, "signal-1")
    assert (command["kind"], command["state"]) == ("cancel", "applied")
    assert command["actor"] == {"kind": "operator", "id": "temporal"}
    assert CancelOutcome.model_validate(command["outcome"]).state == "confirmed"
    assert CancelOrder.model_validate(command["payload"]).reason is CancelReason.DUPLICATE
    assert (await order.handle.result()).status == "cancelled"


async def test_a_signal_that_is_refused_leaves_the_reason_behind(shop: Shop) -> None:
    """A cancellation after the hand-over changes nothing but the list of commands."""
    # given
    order = await _placed(shop)
    (part,) = await shop.parts(order)
    await shop.ships(order, part)
    before = await shop.becomes(order, payment_status="captured")
    # when
    await shop.signal(order, "cancel", GOODBYE)
    # then
    command = await shop.command(order, "signal-1")
    assert (command["state"], command["outcome"]["code"]) == ("refused", "already_handed_over")
    assert (await shop.header(order))["version"] == before["version"]
    await shop.delivers(order, part)
    await shop.agrees(order)


@pytest.mark.parametrize(
    "content", ["not a command", {"command_id": ""}, {"reason": "no id"}, [1, 2], 7, None], ids=str
)
async def test_a_signal_that_cannot_be_read_is_recorded_as_a_failed_command(shop: Shop, content: object) -> None:
    """It is not lost, and the order goes on as if it had not come."""
    # given
    order = await _placed(shop)
    # when
    await shop.signal(order, "cancel", content)
    closed = await shop.sees_through(order)
    # then
    assert closed.status == "completed"
    failed = await shop.sql(
        "SELECT outcome, payload FROM commands WHERE order_id = :o AND state = 'failed'", o=order.id
    )
    assert [row["outcome"]["code"] for row in failed] == ["unreadable"]
    assert list(failed[0]["payload"]) == ["text"]
    await shop.agrees(order)


SIGNALS = (
    "cancel",
    "place_hold",
    "release_hold",
    "node_report",
    "carrier_event",
    "payment_event",
    "retry_now",
    "accept",
)


@pytest.mark.parametrize("content", [(), ("one", "two"), (None,)], ids=["nothing", "too much", "null"])
async def test_a_signal_without_its_one_value_is_recorded_and_does_no_harm(shop: Shop, content: object) -> None:
    """Somebody pressed send in the Temporal UI with nothing written, or with two values."""
    # given
    order = await _placed(shop)
    # when
    for name in SIGNALS:
        await order.handle.signal(name, args=content)
    # then
    assert (await shop.sees_through(order)).status == "completed"
    failed = [kind for kind, state in await shop.commands(order) if state == "failed"]
    assert sorted(failed) == sorted(SIGNALS[:-1])
    await shop.agrees(order)


@pytest.mark.parametrize("content", [(), ("one", "two"), (None,), ({"command_id": 7},)], ids=str)
async def test_an_update_that_cannot_be_read_is_refused_and_leaves_nothing_behind(shop: Shop, content: object) -> None:
    """Refused before it is written; the order is not disturbed."""
    # given
    order = await _placed(shop)
    # when
    for name in SIGNALS[:-1]:
        with pytest.raises(WorkflowUpdateFailedError):
            await order.handle.execute_update(name, args=content)
    # then
    assert await shop.commands(order) == []
    assert (await shop.sees_through(order)).status == "completed"
    await shop.agrees(order)
