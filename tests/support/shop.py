"""A shop for stories: real stock in a real database, real orders on a real engine, in a few words.

Every shop has a channel and SKUs of its own, so that stories run side by side on one site.
"""

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel
from temporalio.client import WorkflowUpdateFailedError, WorkflowUpdateStage
from temporalio.exceptions import ApplicationError

from domain.backorders import SupplyArrived
from domain.ids import derived_id, new_id
from domain.orders import (
    SYSTEM,
    Actor,
    Backorder,
    CancelReason,
    CarrierEventType,
    HoldBlock,
    HoldDecision,
    HoldType,
    OrderLine,
    PlaceOrder,
    ReportKind,
    Split,
    TenderAsk,
)
from providers.payments import CaptureRequest, PaymentOk
from providers.payments.simulated import SimulatedPayments
from store.arrivals import Receipt, receive, whose_turn
from store.engine import transaction
from store.intake import USUAL, Asked, Wishes, put_order
from store.vault import KeyRing, seal
from tests.support.eventually import eventually
from tests.support.shop_views import Order, Refusal, ShopViews
from workflows.messages import (
    Accept,
    Accepted,
    AmendOrder,
    AmendOutcome,
    CancelOrder,
    CancelOutcome,
    CarrierEvent,
    ChooseRemedy,
    ForceClose,
    ForceCloseOutcome,
    HoldOutcome,
    LeaveNode,
    LeaveOutcome,
    LineUnits,
    NodeReport,
    OrderClosed,
    PaymentEvent,
    PaymentEventOutcome,
    PlaceHold,
    Rejected,
    ReleaseHold,
    RemedyOutcome,
    ReportOutcome,
    RetryNow,
    RetryOutcome,
    ScanOutcome,
    SupplyOutcome,
    WriteOff,
    WriteOffOutcome,
)
from workflows.starting import ORDER_WORKFLOW, TASK_QUEUE, first_attributes, start_operation

_NUMBERS = itertools.count(1)
# The days of transit are far enough apart that no hour and no weekday changes which node is first.
NODES = {
    "EAST": ("NY", 40.7, -74.0, "America/New_York", 2),
    "MID": ("IL", 41.9, -87.6, "America/Chicago", 6),
    "WEST": ("CA", 34.1, -118.2, "America/Los_Angeles", 10),
}
ZONE = "US-MA"


@dataclass
class Shop(ShopViews):
    """A channel with its own SKUs on a site."""

    vault_keys: KeyRing = field(default=(), repr=False)
    channel: str = field(default_factory=lambda: f"shop-{next(_NUMBERS)}-{new_id('x', 0)[-6:].lower()}")

    async def opens(self, carrier_trouble: dict[str, Any] | None = None, **rules: Any) -> "Shop":
        """Write the channel, the network and this channel's own rules: of orders, and of parcels in trouble."""
        await self.sql(
            "INSERT INTO channels (channel, currency) VALUES (:c, 'USD') ON CONFLICT DO NOTHING", c=self.channel
        )
        await self.sql(
            "INSERT INTO zones VALUES (:z, 'US', 'MA', NULL, 42.36, -71.06, 'America/New_York') ON CONFLICT DO NOTHING",
            z=ZONE,
        )
        for node, (region, lat, lon, zone, days) in NODES.items():
            await self.sql(
                "INSERT INTO nodes (node_id, name, country, region, latitude, longitude, time_zone)"
                " VALUES (:n, :n, 'US', :r, :lat, :lon, :tz) ON CONFLICT DO NOTHING",
                n=node,
                r=region,
                lat=lat,
                lon=lon,
                tz=zone,
            )
            await self.sql(
                "INSERT INTO node_calendars VALUES (:n, '{0,1,2,3,4}', '{}', '14:00', '16:00', '16:30', 0)"
                " ON CONFLICT DO NOTHING",
                n=node,
            )
            await self.sql(
                "INSERT INTO lanes VALUES (:n, :z, 'standard', :d) ON CONFLICT DO NOTHING", n=node, z=ZONE, d=days
            )
        for kind, body in (("order", rules), ("carrier_trouble", carrier_trouble)):
            if body:
                await self.sql(
                    "INSERT INTO ruleset_versions (kind, channel, version, owner, body)"
                    " VALUES (:k, :c, 1, 'commerce', CAST(:b AS jsonb))",
                    k=kind,
                    c=self.channel,
                    b=json.dumps(body),
                )
        return self

    async def ruleset(self, kind: str, body: dict[str, Any], version: int = 1) -> None:
        """A ruleset of this shop's own channel, as if somebody had set it: it is not checked here."""
        await self.sql(
            "INSERT INTO ruleset_versions (kind, channel, version, owner, body)"
            " VALUES (:k, :c, :v, 'test', CAST(:b AS jsonb))",
            k=kind,
            c=self.channel,
            v=version,
            b=json.dumps(body),
        )

    def sku(self, name: str) -> str:
        """This shop's own SKU of that name."""
        return f"{name}-{self.channel}"

    async def stocks(self, name: str, **nodes: int) -> None:
        """Put units on hand, as an opening count."""
        sku = self.sku(name)
        await self.sql("INSERT INTO items (sku, name) VALUES (:s, :s) ON CONFLICT DO NOTHING", s=sku)
        for node, units in nodes.items():
            await self.sql(
                "INSERT INTO stock_levels (sku, node_id, on_hand) VALUES (:s, :n, :q)", s=sku, n=node, q=units
            )
            await self.sql(
                "INSERT INTO stock_movements (sku, node_id, on_hand_delta, reason, business_key, actor)"
                " VALUES (:s, :n, :q, 'opening_count', :k, 'test')",
                s=sku,
                n=node,
                q=units,
                k=f"opening:{sku}:{node}",
            )

    async def lets_wait(self, *names: str) -> None:
        """Items that may be backordered."""
        for name in names:
            sku = self.sku(name)
            await self.sql(
                "INSERT INTO items (sku, name, backorder) VALUES (:s, :s, true)"
                " ON CONFLICT (sku) DO UPDATE SET backorder = true",
                s=sku,
            )

    async def receives(self, name: str, node: str, units: int, receipt_id: str = "") -> tuple[str, ...]:
        """Goods come in at a node. The orders that are to be told of it, in turn; none of them is."""
        receipt = Receipt(receipt_id or new_id("rcp", 0), self.sku(name), node, units)
        await transaction(self.engine, lambda c: receive(c, receipt, SYSTEM))
        return await transaction(self.engine, lambda c: whose_turn(c, receipt.sku))

    async def waits_for_supply(self, order: Order) -> dict[str, Any]:
        """Wait until the order is paid, has looked once for what it waits for, and says so."""

        async def has_looked() -> bool:
            return bool((await order.handle.query("state"))["supply_looks"])

        await eventually(has_looked)
        return await self.becomes(order, payment_status="authorized", wait_cause="backorder")

    async def supply_arrives(self, order: Order, name: str, command_id: str = "supply-1") -> SupplyOutcome:
        """Somebody tells the order."""
        message = SupplyArrived(command_id=command_id, sku=self.sku(name))
        return await order.update("supply_arrived", message, id=command_id, result_type=SupplyOutcome)

    def order(
        self,
        *lines: tuple[str, int],
        pay: str | Sequence[tuple[str, int]] = "pm_ok",
        split: Split = Split.ASAP,
        backorder: Backorder | None = None,
    ) -> PlaceOrder:
        """An order of (item, units) lines at 10.00 each, plus 5.00 shipping; `pay` may name several tenders."""
        order_id = new_id("ord", int(datetime.now(UTC).timestamp() * 1000))
        total = sum(q * 1000 for _, q in lines) + 500
        parts = [(pay, total)] if isinstance(pay, str) else list(pay)
        return PlaceOrder(
            order_id=order_id,  # type: ignore[arg-type]
            order_number=order_id[-8:],
            channel=self.channel,
            currency="USD",
            customer_ref=f"cus_{order_id[-10:]}",
            country="US",
            region="MA",
            zone_id=ZONE,
            lines=tuple(
                OrderLine(n, self.sku(name), q, 1000)  # type: ignore[arg-type]
                for n, (name, q) in enumerate(lines, 1)
            ),
            shipping_minor=500,
            split=split,
            backorder=backorder,
            tenders=tuple(
                TenderAsk(
                    tender_id=derived_id("tnd", order_id, n),  # type: ignore[arg-type]
                    sequence=n,
                    provider="simulated",
                    reference=reference,
                    amount_minor=amount,
                )
                for n, (reference, amount) in enumerate(parts, 1)
            ),
            total_minor=total,
            placed_at=datetime.now(UTC),
        )

    async def takes_in(
        self,
        placed: PlaceOrder,
        reference: str,
        personal: dict[str, Any] | None = None,
        wishes: Wishes = USUAL,
    ) -> bool:
        """Store the order as the front end does; False when the channel's reference is taken."""
        asked = Asked("stories", "createOrder", new_id("key", 0), b"fingerprint")
        sealed = seal(self.vault_keys, placed.order_id, placed.customer_ref, personal or {})
        return await transaction(self.engine, lambda c: put_order(c, asked, placed, reference, sealed, 1.0, wishes))

    async def place(self, *lines: tuple[str, int], **options: Any) -> Order:
        """Place an order and wait for the answer."""
        return await self.submit(self.order(*lines, **options))

    async def submit(self, placed: PlaceOrder) -> Order:
        """Start the order and wait for its answer."""
        operation = start_operation(placed)
        handle: Any = self.client.get_workflow_handle(f"order-{placed.order_id}", result_type=OrderClosed)
        outcome: Any = await self.client.execute_update_with_start_workflow(
            "accept",
            Accept(),
            id="accept",
            start_workflow_operation=operation,
            result_type=Accepted | Rejected,  # type: ignore[arg-type]
        )
        return Order(placed, handle, outcome)

    async def buys(
        self, *lines: tuple[str, int], personal: dict[str, Any], wishes: Wishes = USUAL, **options: Any
    ) -> Order:
        """A customer whom the vault knows places an order."""
        placed = self.order(*lines, **options)
        assert await self.takes_in(placed, f"W-{placed.order_number}", personal, wishes)
        return await self.submit(placed)

    async def outbox_runs(self) -> None:
        """The job that sends what is due, once."""
        name = f"chore-notices-{new_id('run', 0)}"
        await self.client.execute_workflow("Chore", "notices", id=name, task_queue=TASK_QUEUE)

    async def starts_with(self, placed: PlaceOrder, signal: str, content: object) -> Order:
        """Signal with start: the signal is in the first task, before the order has done anything."""
        handle = await self.client.start_workflow(
            ORDER_WORKFLOW,
            placed,
            id=f"order-{placed.order_id}",
            task_queue=TASK_QUEUE,
            search_attributes=first_attributes(placed),
            start_signal=signal,
            start_signal_args=[content],
            result_type=OrderClosed,
        )
        return Order(placed, handle)

    def control(self, placed: PlaceOrder, name: str, value: str | int) -> None:
        """Change how the simulated providers treat this order; `down`, `decline`, `delay_ms`, `stop` and so on."""
        self.simulation.set_control(name, value, placed.order_id)

    def normal(self, placed: PlaceOrder, name: str) -> None:
        """Take a control back."""
        self.simulation.clear_control(name, placed.order_id)

    async def captured_at_the_console(self, order: Order, amount_minor: int) -> None:
        """Somebody takes money at the bank's own console, under a key that we do not know."""
        (tender,) = await self.sql("SELECT authorization_ref FROM tenders WHERE order_id = :o", o=order.id)
        request = CaptureRequest(
            key=f"console-{order.id}",
            order_id=order.id,
            authorization_ref=tender["authorization_ref"],
            amount_minor=amount_minor,
            currency="USD",
        )
        assert isinstance(await SimulatedPayments(self.simulation).capture(request), PaymentOk)

    # --- the world outside ----------------------------------------------------------------------------

    async def parts(self, order: Order) -> list[dict[str, Any]]:
        """The order's fulfillment orders with their parcels, by node."""
        return await self.sql(
            "SELECT f.*, s.tracking_number, s.tracking FROM fulfillment_orders f"
            " LEFT JOIN shipments s USING (shipment_id) WHERE f.order_id = :o ORDER BY f.node_id",
            o=order.id,
        )

    async def released(self, order: Order, count: int = 1) -> list[dict[str, Any]]:
        """Wait until the nodes have the work."""

        async def at_nodes() -> list[dict[str, Any]]:
            parts = await self.parts(order)
            return parts if len([p for p in parts if p["stage"] != "allocated"]) >= count else []

        return await eventually(at_nodes)

    async def knows(self, order: Order, part: dict[str, Any], stage: str) -> None:
        """Wait until the order itself knows the stage; the database has it a moment before."""

        async def known() -> bool:
            state = await order.handle.query("state")
            return bool(state["fulfillments"][part["fulfillment_id"]]["stage"] == stage)

        await eventually(known)

    async def report(
        self, order: Order, fulfillment_id: str, kind: ReportKind, report_id: str = "", **more: Any
    ) -> ReportOutcome:
        """A node reports; `more` are the lines that are short, and the cause."""
        key = report_id or f"{fulfillment_id}-{kind}"
        message = NodeReport(
            command_id=key,
            fulfillment_id=fulfillment_id,
            kind=kind,
            report_id=key,
            occurred_at=datetime.now(UTC),
            **more,
        )
        return await order.update("node_report", message, id=key, result_type=ReportOutcome)

    async def scan(
        self,
        order: Order,
        shipment_id: str,
        kind: CarrierEventType,
        event_id: str = "",
        at: datetime | None = None,
        command_id: str = "",
    ) -> ScanOutcome:
        """A carrier scans. The command id is the event id unless a story sends the event twice."""
        event = event_id or f"{shipment_id}-{kind}"
        key = command_id or event
        message = CarrierEvent(
            command_id=key, shipment_id=shipment_id, event_id=event, type=kind, occurred_at=at or datetime.now(UTC)
        )
        return await order.update("carrier_event", message, id=key, result_type=ScanOutcome)

    async def packs(self, order: Order, part: dict[str, Any]) -> None:
        """A node packs, and the label is there."""
        await self.report(order, part["fulfillment_id"], ReportKind.PACKED)
        await self.labelled(order, part)

    async def labelled(self, order: Order, part: dict[str, Any]) -> None:
        """Wait until the workflow knows the parcel's tracking number."""

        async def there() -> bool:
            state = await order.handle.query("state")
            return bool(state["fulfillments"][part["fulfillment_id"]]["tracking_number"])

        await eventually(there)

    async def ships(self, order: Order, part: dict[str, Any]) -> None:
        """A node packs and hands over."""
        await self.packs(order, part)
        await self.report(order, part["fulfillment_id"], ReportKind.HANDED_OVER)

    async def delivers(self, order: Order, part: dict[str, Any]) -> None:
        """The carrier delivers."""
        await self.scan(order, part["shipment_id"], CarrierEventType.DELIVERED)

    async def sees_to(self, order: Order, node: str) -> None:
        """This node ships what it has, and the carrier delivers; other parts may be anywhere."""

        async def there() -> dict[str, Any] | None:
            parts = [p for p in await self.parts(order) if (p["node_id"], p["stage"]) == (node, "released")]
            return parts[0] if parts else None

        part = await eventually(there)
        await self.ships(order, part)
        await self.delivers(order, part)

    async def sees_through(self, order: Order, nodes: int = 1) -> OrderClosed:
        """All nodes ship, the carrier delivers, the order closes."""
        for part in await self.released(order, nodes):
            await self.ships(order, part)
            await self.delivers(order, part)
        return await order.handle.result()

    async def is_paid_and_arrives(self, order: Order) -> OrderClosed:
        """Its only parcel leaves, is paid, and is delivered then. Unwaited for, the delivery may come first."""
        (part,) = await self.released(order)
        await self.ships(order, part)
        await self.becomes(order, payment_status="captured")
        await self.delivers(order, part)
        return await order.handle.result()

    async def lapses(self, order: Order) -> None:
        """Wait until the order's reservation has expired."""

        async def expired() -> bool:
            return "reservation.expired" in await self.events(order)

        await eventually(expired)

    async def cancel(
        self,
        order: Order,
        command_id: str = "cancel-1",
        update_id: str = "",
        lines: Sequence[tuple[int, int]] = (),
        **more: Any,
    ) -> CancelOutcome:
        """Somebody cancels; `more` are restock, refund, actor. A story that sends it twice names the update id."""
        named = tuple(LineUnits(*units) for units in lines)
        message = CancelOrder(command_id=command_id, reason=CancelReason.CHANGED_MIND, lines=named, **more)
        return await order.update("cancel", message, id=update_id or command_id, result_type=CancelOutcome)

    async def amend(
        self, order: Order, *changes: Any, command_id: str = "amend-1", update_id: str = "", **more: Any
    ) -> AmendOutcome:
        """Somebody changes the order; `more` are actor, reason, reference."""
        message = AmendOrder(command_id=command_id, changes=changes, **more)
        return await order.update("amend", message, id=update_id or command_id, result_type=AmendOutcome)

    async def begins_to_amend(self, order: Order, *changes: Any, command_id: str = "amend-1") -> Any:
        """Somebody changes the order and does not wait; the handle gives the outcome."""
        message = AmendOrder(command_id=command_id, changes=changes)
        return await order.handle.start_update(
            "amend",
            message,
            id=command_id,
            wait_for_stage=WorkflowUpdateStage.ACCEPTED,
            result_type=AmendOutcome,
        )

    async def preview_amend(self, order: Order, *changes: Any, **more: Any) -> dict[str, Any]:
        """What a change would do now, as far as the order alone knows."""
        message = AmendOrder(command_id="preview", changes=changes, **more)
        told: dict[str, Any] = await order.handle.query("preview_amend", message)
        return told

    async def held(self, *lines: tuple[str, int], **options: Any) -> Order:
        """An order that is paid and reserved, and that a hold keeps from being allocated."""
        hold = {"command_id": "hold-1", "type": HoldType.MANUAL, "blocks": [HoldBlock.SCHEDULE]}
        order = await self.starts_with(self.order(*lines, **options), "place_hold", hold)
        await self.becomes(order, payment_status="authorized", wait_cause="hold")
        return order

    async def unheld(self, order: Order) -> None:
        """The hold of `held` ends: the order goes on."""
        (hold,) = await self.sql("SELECT hold_id FROM holds WHERE order_id = :o AND live", o=order.id)
        await self.end_hold(order, hold["hold_id"])

    async def signal(self, order: Order, name: str, content: object) -> None:
        """Somebody who cannot wait for an answer sends a signal."""
        await order.handle.signal(name, content)

    async def try_cancel(
        self, order: Order, command_id: str = "cancel-1", lines: Sequence[tuple[int, int]] = (), **more: Any
    ) -> Refusal:
        """Somebody cancels and is refused."""
        return await refusal_of(self.cancel(order, command_id, lines=lines, **more))

    async def new_method(
        self, order: Order, reference: str, command_id: str = "pay-1", tender: int = 0
    ) -> PaymentEventOutcome:
        """The customer brings another payment method for a tender."""
        message = PaymentEvent(
            command_id=command_id,
            tender_id=order.placed.tenders[tender].tender_id,
            fact="method_updated",
            reference=reference,
        )
        return await order.update("payment_event", message, id=command_id, result_type=PaymentEventOutcome)

    async def hold(
        self, order: Order, hold_type: HoldType, command_id: str = "hold-1", update_id: str = "", **more: Any
    ) -> HoldOutcome:
        """Somebody holds the order; `more` are line_no, blocks, lasts_s, reason."""
        message = PlaceHold(command_id=command_id, type=hold_type, **more)
        return await order.update("place_hold", message, id=update_id or command_id, result_type=HoldOutcome)

    async def end_hold(
        self, order: Order, hold_id: str, decision: HoldDecision = "release", command_id: str = ""
    ) -> HoldOutcome:
        """Somebody releases or rejects a hold."""
        key = command_id or f"end-{hold_id}"
        message = ReleaseHold(command_id=key, hold_id=hold_id, decision=decision)
        return await order.update("release_hold", message, id=key, result_type=HoldOutcome)

    async def stores(self, order: Order, kind: str, message: BaseModel, actor: Actor) -> None:
        """What the front end writes before it sends a command."""
        text = message.model_dump_json()
        await self.sql(
            "INSERT INTO commands (order_id, command_id, kind, payload, payload_hash, actor, origin)"
            " VALUES (:o, :c, :k, CAST(:p AS jsonb), :h, CAST(:a AS jsonb), 'api')",
            o=order.id,
            c=json.loads(text)["command_id"],
            k=kind,
            p=text,
            h=hashlib.sha256(text.encode()).digest(),
            a=actor.model_dump_json(exclude_none=True),
        )

    async def leaves(self, order: Order, part: dict[str, Any], command_id: str = "leave-1") -> LeaveOutcome:
        """Somebody has a fulfillment order sourced again, without its node."""
        message = LeaveNode(command_id=command_id, fulfillment_id=part["fulfillment_id"])
        return await order.update("leave_node", message, id=command_id, result_type=LeaveOutcome)

    async def remedy(
        self, order: Order, remedy: Literal["refund", "reship"], command_id: str = "remedy-1", shipment_id: str = ""
    ) -> RemedyOutcome:
        """Somebody decides how parcels that do not arrive are made good."""
        message = ChooseRemedy(command_id=command_id, remedy=remedy, shipment_id=shipment_id or None)
        return await order.update("choose_remedy", message, id=command_id, result_type=RemedyOutcome)

    async def forces(self, order: Order, command_id: str = "force-1") -> ForceCloseOutcome:
        """Operations close the order by force."""
        message = ForceClose(command_id=command_id, reason="node_gone")
        return await order.update("force_close", message, id=command_id, result_type=ForceCloseOutcome)

    async def writes_off(self, order: Order, command_id: str = "write-off-1") -> WriteOffOutcome:
        """Finance gives up what cannot be taken any more."""
        message = WriteOff(command_id=command_id)
        return await order.update("write_off", message, id=command_id, result_type=WriteOffOutcome)

    async def retry(self, order: Order, command_id: str = "retry-1") -> RetryOutcome:
        """Somebody says: now."""
        message = RetryNow(command_id=command_id)
        return await order.update("retry_now", message, id=command_id, result_type=RetryOutcome)


async def refusal_of(call: Any) -> Refusal:
    """What a refused update said."""
    try:
        answer = await call
    except WorkflowUpdateFailedError as error:
        cause = error.cause
        assert isinstance(cause, ApplicationError)
        details = cause.details[0] if cause.details else {}
        return Refusal(cause.type or "", cause.message, details.get("alternative"))
    raise AssertionError(f"expected a refusal, got {answer}")


def later(**delta: float) -> datetime:
    """A moment after now."""
    return datetime.now(UTC) + timedelta(**delta)
