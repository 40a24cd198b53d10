"""Commands that were born in the Temporal UI, or that somebody altered: what the stored row says counts."""

import hashlib
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest
from pydantic import BaseModel

from activities.records import DirectCommands
from domain.orders import Actor, ActorKind, CancelReason, CarrierEventType, ReportKind
from tests.support.serving import serving
from tests.support.shop import Order, Shop, refusal_of
from tests.support.stack import Site
from workflows.messages import CancelOrder, CarrierEvent, NodeReport, PaymentEvent, RetryNow

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
FORGED = Actor(kind=ActorKind.NODE, id="EAST", role="warehouse")
ADA = {"kind": "person", "id": "ada", "role": "service"}
NewSite = Callable[[], Awaitable[Site]]


async def _placed_through_the_api(shop: Shop, **options: str) -> Order:
    await shop.stocks("LAMP", EAST=2)
    placed = shop.order(("LAMP", 2), **options)  # type: ignore[arg-type]
    await shop.takes_in(placed, "WEB-1")
    return await shop.submit(placed)


async def _stored(shop: Shop, order: Order, kind: str, message: BaseModel) -> None:
    """What the API writes before it sends a command."""
    text = message.model_dump_json()
    await shop.sql(
        "INSERT INTO commands (order_id, command_id, kind, payload, payload_hash, actor, origin)"
        " VALUES (:o, :c, :k, CAST(:p AS jsonb), :h, CAST(:a AS jsonb), 'api')",
        o=order.id,
        c=json.loads(text)["command_id"],
        k=kind,
        p=text,
        h=hashlib.sha256(text.encode()).digest(),
        a=json.dumps(ADA),
    )


def _report(part: dict[str, str], kind: ReportKind, command_id: str) -> NodeReport:
    return NodeReport(
        command_id=command_id,
        fulfillment_id=part["fulfillment_id"],
        kind=kind,
        report_id=command_id,
        occurred_at=NOON,
        actor=FORGED,
    )


@pytest.mark.parametrize("policy", ["refuse", "limited"])
async def test_where_direct_commands_are_not_wanted_goods_and_money_move_through_the_api_only(
    new_site: NewSite, policy: DirectCommands
) -> None:
    """Reports, scans and cancellations, as update, as signal and said twice: refused, recorded, nothing moved."""
    async with serving(await new_site(), direct_commands=policy) as make:
        # given
        shop = await make().opens()
        order = await _placed_through_the_api(shop)
        (part,) = await shop.released(order)
        before = await shop.header(order)
        scan = CarrierEvent(
            command_id="direct-scan",
            shipment_id=part["shipment_id"],
            event_id="E1",
            type=CarrierEventType.DELIVERED,
            occurred_at=NOON,
        )
        said = (
            ("node_report", _report(part, ReportKind.PACKED, "direct-packed")),
            ("cancel", CancelOrder(command_id="direct-cancel", reason=CancelReason.FRAUD)),
            ("carrier_event", scan),
        )
        # when
        for kind, message in said * 2:
            refusal = await refusal_of(order.handle.execute_update(kind, message))
            assert refusal.code == "direct_command_refused", kind
        await shop.signal(order, "cancel", {"command_id": "direct-signal", "reason": "fraud"})
        # then
        for name in ("direct-packed", "direct-cancel", "direct-scan", "direct-signal"):
            command = await shop.command(order, name)
            assert (command["state"], command["outcome"]["code"]) == ("refused", "direct_command_refused"), name
        after = await shop.header(order)
        assert (after["version"], after["state_digest"]) == (before["version"], before["state_digest"])
        await _stored(shop, order, "cancel", CancelOrder(command_id="api-1", reason=CancelReason.CHANGED_MIND))
        assert (await shop.cancel(order, "api-1")).state == "confirmed"
        assert (await shop.command(order, "api-1"))["actor"] == ADA
        await shop.agrees(order)


async def test_what_the_api_has_stored_is_carried_out_by_the_actor_of_record(new_site: NewSite) -> None:
    """The message may claim to be anybody."""
    async with serving(await new_site(), direct_commands="refuse") as make:
        # given
        shop = await make().opens()
        order = await _placed_through_the_api(shop)
        (part,) = await shop.released(order)
        packed = _report(part, ReportKind.PACKED, "api-packed")
        await _stored(shop, order, "node_report", packed)
        # when
        outcome = await order.handle.execute_update("node_report", packed)
        # then
        assert outcome["stage"] == "packed"
        events = await shop.sql("SELECT actor FROM order_events WHERE command_id = 'api-packed'")
        assert [event["actor"] for event in events] == [ADA]


async def test_an_altered_command_is_refused_and_the_real_one_still_counts(new_site: NewSite) -> None:
    """Somebody who saw the id of a command sends another one under it, as update and as signal."""
    async with serving(await new_site(), direct_commands="refuse") as make:
        # given
        shop = await make().opens()
        order = await _placed_through_the_api(shop)
        (part,) = await shop.released(order)
        real, altered = (_report(part, kind, "api-1") for kind in (ReportKind.PICKED, ReportKind.PACKED))
        await _stored(shop, order, "node_report", real)
        # when
        refusal = await refusal_of(order.handle.execute_update("node_report", altered))
        await shop.signal(order, "node_report", altered)
        outcome = await order.handle.execute_update("node_report", real)
        # then
        assert refusal.code == "command_altered"
        assert outcome["stage"] == "picked"
        assert (await shop.command(order, "api-1"))["state"] == "applied"
        assert sorted(await shop.commands(order)) == [("node_report", "applied"), ("node_report", "refused")]


@pytest.mark.parametrize(("policy", "allowed"), [("limited", True), ("refuse", False)])
async def test_a_retry_moves_nothing_and_may_come_directly_where_that_is_limited(
    new_site: NewSite, policy: DirectCommands, allowed: bool
) -> None:
    """An operator may wake a waiting step from the Temporal UI; a card may not be swapped there."""
    async with serving(await new_site(), direct_commands=policy) as make:
        # given
        shop = await make().opens()
        order = await _placed_through_the_api(shop, pay="pm_declined")
        await shop.becomes(order, wait_cause="payment_declined")
        swap = PaymentEvent(
            command_id="swap", tender_id=order.placed.tenders[0].tender_id, fact="method_updated", reference="pm_ok"
        )
        # when
        swapped = await refusal_of(order.handle.execute_update("payment_event", swap))
        # then
        assert swapped.code == "direct_command_refused"
        retry = order.handle.execute_update("retry_now", RetryNow(command_id="retry-1"))
        if allowed:
            assert (await retry)["applied"] is True
        else:
            assert (await refusal_of(retry)).code == "direct_command_refused"


async def test_where_direct_orders_are_not_wanted_an_order_must_come_through_the_api(
    new_site: NewSite,
) -> None:
    """It is rejected, nothing of it is stored, and a command that comes with it does not hold it up."""
    async with serving(await new_site(), direct_commands="refuse") as make:
        # given
        shop = await make().opens()
        await shop.stocks("LAMP", EAST=2)
        # when
        order = await shop.starts_with(shop.order(("LAMP", 2)), "retry_now", {"command_id": "retry-1"})
        closed = await order.handle.result()
        # then
        assert closed.status == "rejected"
        answer = json.loads((await order.handle.query("state"))["acceptance"])
        assert (answer["kind"], answer["code"]) == ("rejected", "direct_order_refused")
        assert await shop.sql("SELECT 1 FROM orders WHERE order_id = :o", o=order.id) == []
        assert await shop.reserved("LAMP") == {"EAST": 0}
