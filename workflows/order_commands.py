"""What can be said to an order while it runs: each command as an update with a validator, and as a signal.

An update is refused before anything is written; a signal cannot answer, so its refusal is stored as the
command's outcome. Both meet one path, and a command has one outcome for ever.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from pydantic import BaseModel
from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from activities.contract import CommandRef
    from activities.records import OpenCommandAsk, RecordActivities, SettleAsk
    from activities.shipments import (
        CapturePart,
        HandOverAsk,
        ReportAsk,
        ScanAsk,
        ShipmentActivities,
        StopAsk,
        VoidLabelAsk,
    )
    from activities.stock import CancelAsk, StockActivities
    from domain.cancellation import CancellationPlan, plan_cancellation
    from domain.capture import plan_capture
    from domain.ids import derived_id
    from domain.lifecycle import FulfillmentState, PaymentState, Scan, TrackingState, after_report, after_scan
    from domain.money import format_minor
    from domain.order_state import Fulfillment, Tender
    from domain.orders import OPERATOR, SYSTEM, Actor, ActorKind, CarrierEventType, ReportKind
    from domain.quantities import Bucket
    from domain.refusals import OrderRuleError
    from workflows.messages import (
        Accept,
        Accepted,
        AcceptOutcome,
        CancelledLine,
        CancelOrder,
        CancelOutcome,
        CarrierEvent,
        FreedStock,
        NodeReport,
        PaymentEvent,
        PaymentEventOutcome,
        Rejected,
        ReportOutcome,
        RetryNow,
        RetryOutcome,
        ScanOutcome,
    )
    from workflows.order_base import OrderBase

C = TypeVar("C", CancelOrder, NodeReport, CarrierEvent, PaymentEvent, RetryNow)
O = TypeVar("O", bound=BaseModel)  # noqa: E741 - O for outcome, beside C for command


class UnknownFulfillment(OrderRuleError):
    """This order has no such fulfillment order."""

    code = "unknown_fulfillment_order"


class UnknownShipment(OrderRuleError):
    """This order has no such parcel."""

    code = "unknown_shipment"


class UnknownTender(OrderRuleError):
    """This order has no such tender."""

    code = "unknown_tender"


class NotYet(OrderRuleError):
    """The order is not ready for this; the text says what comes first."""

    code = "not_yet"


class DirectCommandRefused(OrderRuleError):
    """Commands that move money or goods must come through the API here."""

    code = "direct_command_refused"


class OrderCommands(OrderBase):
    """Validators, updates, signals and queries of an order."""

    # --- one path for all -----------------------------------------------------------------------------

    async def _command(self, command: C, kind: str, do: Callable[[C], Awaitable[O]], outcome: type[O]) -> O:
        """Once per command id: a repeat meets the stored outcome, a copy under way is waited for."""
        key = command.command_id
        if key in self.s.answered:
            await workflow.wait_condition(lambda: self.s.answered[key] != "")
            return outcome.model_validate_json(self.s.answered[key])
        self.s.answered[key] = ""
        try:
            answer = await do(command)
        except OrderRuleError as refusal:
            del self.s.answered[key]
            raise _refused(refusal) from refusal
        self.s.answered[key] = answer.model_dump_json()
        return answer

    async def _signalled(
        self,
        raw: RawValue,
        model: type[C],
        kind: str,
        check: Callable[[C], None],
        do: Callable[[C], Awaitable[O]],
        outcome: type[O],
    ) -> None:
        """A command that came as a signal. What cannot be understood becomes a failed command, never a loss."""
        try:
            command = workflow.payload_converter().from_payload(raw.payload, model)
        except Exception as error:
            text = raw.payload.data[:2000].decode("utf-8", "replace").replace("\x00", "")
            key = derived_id("cmd", self.s.order.order_id, kind, text)
            await self._settle_command(key, kind, text, "failed", type(error).__name__, OPERATOR)
            return
        try:
            if command.command_id not in self.s.answered:
                check(command)
            await self._command(command, kind, do, outcome)
        except OrderRuleError as refusal:
            await self._refuse_signal(command, kind, refusal.code, refusal.detail)
        except ApplicationError as refusal:
            await self._refuse_signal(command, kind, refusal.type or "refused", refusal.message)

    async def _refuse_signal(self, command: C, kind: str, code: str, detail: str) -> None:
        content = {"code": code, "detail": detail}
        await self._settle_command(
            command.command_id,
            kind,
            command.model_dump_json(),
            "refused",
            json.dumps(content),
            command.actor or OPERATOR,
        )

    async def _settle_command(self, key: str, kind: str, payload: str, state: str, why: str, actor: Actor) -> None:
        outcome = why if why.startswith("{") else json.dumps({"code": "unreadable", "detail": why})
        body = payload if payload.startswith("{") and state != "failed" else json.dumps({"text": payload})
        ref = CommandRef(command_id=key, kind=kind, payload_json=body, outcome_json=outcome, state=state)
        ask = SettleAsk(order_id=self.s.order.order_id, actor=actor, command=ref)
        await self._database(RecordActivities.settle_command, ask, f"Store the outcome of {kind}")

    def _ref(self, command: C, kind: str, outcome: BaseModel) -> CommandRef:
        return CommandRef(
            command_id=command.command_id,
            kind=kind,
            payload_json=command.model_dump_json(),
            outcome_json=outcome.model_dump_json(),
        )

    # --- accept ---------------------------------------------------------------------------------------

    @workflow.update(name="accept", description='Wait for the answer to the order. `{"command_id": "accept"}`')
    async def accept(self, ask: Accept) -> AcceptOutcome:
        """The answer to the order."""
        await workflow.wait_condition(lambda: self.s.acceptance is not None)
        told = json.loads(self.s.acceptance or "{}")
        return Accepted.model_validate(told) if told["kind"] == "accepted" else Rejected.model_validate(told)

    @workflow.signal(name="accept", description="Does nothing: an order accepts itself when it starts.")
    async def accept_signal(self, raw: RawValue) -> None:
        """Starting the order is what counts."""

    # --- cancel ---------------------------------------------------------------------------------------

    @workflow.update(
        name="cancel",
        description="Cancel everything that has not left. "
        '`{"command_id": "my-id", "reason": "changed_mind"}`. Preview first: query `preview_cancel`',
    )
    async def cancel(self, command: CancelOrder) -> CancelOutcome:
        """Cancel what has not left."""
        return await self._command(command, "cancel", self._cancel, CancelOutcome)

    @cancel.validator
    def _check_cancel_update(self, command: CancelOrder) -> None:
        _validated(self._check_cancel, command, self.s.answered)

    @workflow.signal(name="cancel", description="As the update `cancel`, for senders that cannot wait.")
    async def cancel_signal(self, raw: RawValue) -> None:
        """Cancel what has not left."""
        await self._signalled(raw, CancelOrder, "cancel", self._check_cancel, self._cancel, CancelOutcome)

    def _check_cancel(self, command: CancelOrder) -> None:
        if self.s.acceptance is not None and not self._deciding:
            plan_cancellation(self.s)

    async def _cancel(self, command: CancelOrder) -> CancelOutcome:
        ask = OpenCommandAsk(order_id=self.s.order.order_id, command_id=command.command_id)
        opened = await self._database(RecordActivities.open_command, ask, "Who cancels?")
        if not opened.allowed:
            await self._refuse_signal(command, "cancel", DirectCommandRefused.code, "send it through the API")
            raise DirectCommandRefused("commands that move money or goods must come through the API here")
        try:
            return await self._cancel_all(command, opened.actor)
        except OrderRuleError as refusal:
            await self._refuse_signal(command, "cancel", refusal.code, refusal.detail)
            raise

    async def _cancel_all(self, command: CancelOrder, actor: Actor) -> CancelOutcome:
        """Plan and mark at once, then free what is free, then hear the nodes that must agree."""
        await workflow.wait_condition(lambda: self.s.acceptance is not None and not self._deciding)
        before = self.s.owed_minor
        plan = plan_cancellation(self.s)
        asked = [self.s.fulfillments[f] for f in plan.asked]
        freed = self._mark_cancelled(plan, command.command_id, asked)
        outcome = self._cancel_outcome(command, plan, before, freed, "requested" if asked else "confirmed")
        done = CancelAsk(
            order_id=self.s.order.order_id,
            reason=command.reason,
            command_id=command.command_id,
            actor=actor,
            command=None if asked else self._ref(command, "cancel", outcome),
            open_units=plan.open_units,
            held_units=plan.held_units,
            fulfillments=plan.at_once,
            asked=plan.asked,
            no_longer_owed_minor=self._no_longer_owed(),
            promise_withdrawn=self._withdraw_promise(),
            untried_tenders=self._drop_untried_tenders(),
        )
        recorded = await self._database(StockActivities.cancel, done, f"Cancel: {command.reason}")
        for fulfillment_id in plan.at_once:
            self.s.fulfillments[fulfillment_id].recorded = Bucket.CANCELLED
        if asked:
            outcome = await self._hear_nodes(command, actor, plan, before, freed, asked)
        self._show()
        return outcome.model_copy(update={"order_version": recorded.version if not asked else self.s.version})

    def _mark_cancelled(
        self, plan: CancellationPlan, command_id: str, asked: Sequence[Fulfillment]
    ) -> list[tuple[str, int, int]]:
        """Synchronous: from here on no other decision sees these units. Returns node, line number, units."""
        now = workflow.now()
        freed = [(node, n, q) for n, node, q in self.s.placements] if plan.held_units else []
        self.s.move(plan.open_units, Bucket.OPEN, Bucket.CANCELLED)
        self.s.move(plan.held_units, Bucket.RESERVED, Bucket.CANCELLED)
        if plan.held_units:
            self.s.reserved_until, self.s.placements = None, ()
        for fulfillment_id in plan.at_once:
            part = self.s.fulfillments[fulfillment_id]
            self.s.advance(part, FulfillmentState.CANCELLED, Bucket.CANCELLED, now)
            freed += [(part.node_id, n, q) for n, q in part.lines]
        for part in asked:
            part.cancelling, part.stop_answer = command_id, None
            self.s.advance(part, FulfillmentState.CANCELLATION_REQUESTED, part.stage, now)
        self.s.changed_at = now
        return freed

    async def _hear_nodes(
        self,
        command: CancelOrder,
        actor: Actor,
        plan: CancellationPlan,
        before: int,
        freed: list[tuple[str, int, int]],
        asked: Sequence[Fulfillment],
    ) -> CancelOutcome:
        stops = [asyncio.create_task(self._stop(part, command, actor)) for part in asked]
        await asyncio.gather(*stops)
        for part in asked:
            if part.stage is Bucket.CANCELLED:
                freed += [(part.node_id, n, q) for n, q in part.lines]
        declined = [f for f in asked if f.stage is not Bucket.CANCELLED]
        state = "confirmed" if not declined else "partially_confirmed" if freed or plan.open_units else "declined"
        outcome = self._cancel_outcome(command, plan, before, freed, state, declined)
        ref = self._ref(command, "cancel", outcome)
        await self._database(
            RecordActivities.settle_command,
            SettleAsk(order_id=self.s.order.order_id, actor=actor, command=ref),
            "Store the outcome of the cancellation",
        )
        return outcome

    async def _stop(self, part: Fulfillment, command: CancelOrder, actor: Actor) -> None:
        """Ask one node to stop. Its answer decides; silence never does."""
        await workflow.wait_condition(lambda: not part.in_call or part.stop_answer is not None)
        if part.stop_answer is None and part.stage in (Bucket.RELEASED, Bucket.PICKED, Bucket.PACKED):
            ask = StopAsk(
                order_id=self.s.order.order_id,
                fulfillment_id=part.fulfillment_id,
                node_id=part.node_id,
                command_id=command.command_id,
            )
            reply = await self._provider(
                ShipmentActivities.stop, ask, f"Ask {part.node_id} to stop {part.fulfillment_id}", "stop_failing"
            )
            if reply.answer != "answer_follows" and part.stop_answer is None:
                part.stop_answer = reply.answer
        await workflow.wait_condition(lambda: part.stop_answer is not None or part.stage is Bucket.SHIPPED)
        if part.stage in (Bucket.SHIPPED, Bucket.DELIVERED):
            part.cancelling = None
        elif part.stop_answer == "stopped":
            await self._stopped(part, command, actor)
        else:
            await self._not_stopped(part, command)

    async def _stopped(self, part: Fulfillment, command: CancelOrder, actor: Actor) -> None:
        self.s.advance(part, FulfillmentState.CANCELLED, Bucket.CANCELLED, workflow.now())
        ask = CancelAsk(
            order_id=self.s.order.order_id,
            reason=command.reason,
            command_id=command.command_id,
            actor=actor,
            fulfillments=(part.fulfillment_id,),
            no_longer_owed_minor=self._no_longer_owed(),
            promise_withdrawn=self._withdraw_promise(),
        )
        await self._database(StockActivities.cancel, ask, f"{part.node_id} stopped: free its units")
        part.recorded = Bucket.CANCELLED
        await workflow.wait_condition(lambda: not part.in_call)
        if part.tracking_number:
            void = VoidLabelAsk(
                order_id=self.s.order.order_id, shipment_id=part.shipment_id, tracking_number=part.tracking_number
            )
            await self._provider(ShipmentActivities.void_label, void, "Take the label back", "label_void_failing")
            part.tracking = TrackingState.VOIDED

    async def _not_stopped(self, part: Fulfillment, command: CancelOrder) -> None:
        part.cancelling = None
        if part.state is not FulfillmentState.CANCELLATION_REQUESTED:
            return
        self.s.advance(part, FulfillmentState.IN_PROGRESS, part.stage, workflow.now())
        ask = ReportAsk(
            order_id=self.s.order.order_id,
            fulfillment_id=part.fulfillment_id,
            shipment_id=part.shipment_id,
            kind=ReportKind.CANCEL_DECLINED,
            state=part.state,
            stage=part.stage,
            actor=SYSTEM,
            command=CommandRef(command_id=command.command_id, kind="cancel", payload_json="{}", outcome_json="{}"),
        )
        await self._database(ShipmentActivities.stop_declined, ask, f"{part.node_id} could not stop")

    def _drop_untried_tenders(self) -> tuple[str, ...]:
        """With nothing left to pay, tenders that were never sent to their provider are not tried any more."""
        if self.s.quantities.live:
            return ()
        untried = [t for t in self.s.tenders if t.state is PaymentState.PENDING and not t.in_call]
        for tender in untried:
            tender.state = PaymentState.FAILED
        return tuple(t.tender_id for t in untried)

    def _no_longer_owed(self) -> tuple[tuple[int, int], ...]:
        return tuple((n, line.cancelled_minor) for n, line in self.s.lines.items() if line.buckets.cancelled)

    def _withdraw_promise(self) -> bool:
        """When no unit is left to deliver and none was, the promise is withdrawn."""
        quantities = self.s.quantities
        gone = quantities.live == 0 and quantities.delivered == 0
        if gone:
            self.s.promise_state = "withdrawn"
        return gone

    def _cancel_outcome(
        self,
        command: CancelOrder,
        plan: CancellationPlan,
        before: int,
        freed: Sequence[tuple[str, int, int]],
        state: Any,
        declined: Sequence[Fulfillment] = (),
    ) -> CancelOutcome:
        asked = [self.s.fulfillments[f] for f in plan.asked]
        captured = sum(t.captured_minor for t in self.s.tenders)
        authorized = sum(t.authorized_minor for t in self.s.tenders)
        return CancelOutcome(
            cancellation_id=derived_id("can", command.command_id),
            state=state,
            reason=command.reason,
            lines=_cancelled_lines(freed, plan, asked, declined),
            stock=tuple(FreedStock(self.s.lines[n].sku, node, q) for node, n, q in freed),
            total_before_minor=before,
            total_after_minor=self.s.owed_minor,
            captured_minor=captured,
            authorization_to_release_minor=max(0, authorized - max(captured, self.s.owed_minor)),
            order_version=self.s.version,
            answer_by=max((f.deadline for f in asked), default=None) if state == "requested" else None,
        )

    @workflow.query(name="preview_cancel", description="What would cancelling do now? Changes nothing.")
    def preview_cancel(self) -> CancellationPlan:
        """The plan that `cancel` would carry out now; refusals raise with their code in the message."""
        return plan_cancellation(self.s)

    # --- nodes ----------------------------------------------------------------------------------------

    @workflow.update(
        name="node_report",
        description='What a node did. `{"command_id": "my-id", "fulfillment_id": "ful_...", "kind": "packed", '
        '"report_id": "WMS-1", "occurred_at": "2026-11-24T10:00:00Z"}`',
    )
    async def node_report(self, command: NodeReport) -> ReportOutcome:
        """Take a node's report."""
        return await self._command(command, "node_report", self._node_report, ReportOutcome)

    @node_report.validator
    def _check_report_update(self, command: NodeReport) -> None:
        _validated(self._check_report, command, self.s.answered)

    @workflow.signal(name="node_report", description="As the update `node_report`, for senders that cannot wait.")
    async def node_report_signal(self, raw: RawValue) -> None:
        """Take a node's report."""
        await self._signalled(raw, NodeReport, "node_report", self._check_report, self._node_report, ReportOutcome)

    def _check_report(self, command: NodeReport) -> None:
        part = self._part(command.fulfillment_id)
        if part.in_call:
            return  # the node is faster than its own reply to us: the handler waits for that
        after_report(command.kind, part.state, part.stage)
        if command.kind is ReportKind.HANDED_OVER and part.tracking_number is None:
            raise NotYet("the label is not booked yet; hand over once the parcel has its tracking number")

    async def _node_report(self, command: NodeReport) -> ReportOutcome:
        part = self._part(command.fulfillment_id)
        await workflow.wait_condition(lambda: not part.in_call)
        self._check_report(command)
        state, stage = after_report(command.kind, part.state, part.stage)
        actor = command.actor or Actor(kind=ActorKind.NODE, id=part.node_id)
        outcome = ReportOutcome(
            applied=True,
            fulfillment_id=part.fulfillment_id,
            state=state,
            stage=stage,
            order_version=self.s.version,
        )
        if command.kind is ReportKind.HANDED_OVER:
            ref = self._ref(command, "node_report", outcome)
            await self._hand_over(part, command.occurred_at, actor, ref, None)
        elif command.kind in (ReportKind.CANCEL_AGREED, ReportKind.CANCEL_DECLINED):
            agreed = command.kind is ReportKind.CANCEL_AGREED
            part.stop_answer = "stopped" if agreed else "too_late"
            await self._settle_command(
                command.command_id,
                "node_report",
                command.model_dump_json(),
                "applied",
                outcome.model_dump_json(),
                actor,
            )
        else:
            self.s.advance(part, state, stage, workflow.now())
            ask = ReportAsk(
                order_id=self.s.order.order_id,
                fulfillment_id=part.fulfillment_id,
                shipment_id=part.shipment_id,
                kind=command.kind,
                state=state,
                stage=stage,
                actor=actor,
                command=self._ref(command, "node_report", outcome),
            )
            recorded = await self._database(ShipmentActivities.report, ask, f"{part.node_id}: {command.kind}")
            if command.kind is ReportKind.PACKED:
                self._grants[f"book:{part.fulfillment_id}"] = recorded.grant
            part.recorded = stage
            self._describe()
        return outcome.model_copy(update={"order_version": self.s.version})

    async def _hand_over(
        self, part: Fulfillment, at: datetime, actor: Actor, ref: CommandRef | None, evidence: str | None
    ) -> None:
        """The parcel has left: mark it, then consume stock, post the invoice and want the captures."""
        worth = self.s.worth(part)
        shares = plan_capture(self.s.tenders, worth.total_minor)
        captures = []
        for share in shares:
            tender = self._tender(share.tender_id)
            tender.captures += 1
            tender.capturing_minor += share.amount_minor
            captures.append((tender, share.amount_minor))
        self.s.advance(part, FulfillmentState.SHIPPED, Bucket.SHIPPED, workflow.now())
        part.captures = tuple((t.tender_id, t.captures, amount) for t, amount in captures)
        part.tracking, part.last_scan_at, part.value_minor = TrackingState.IN_TRANSIT, at, worth.total_minor
        part.captured = not captures
        ask = HandOverAsk(
            order_id=self.s.order.order_id,
            fulfillment_id=part.fulfillment_id,
            shipment_id=part.shipment_id,
            worth=worth,
            captures=tuple(
                CapturePart(
                    tender_id=t.tender_id, sequence=t.sequence, seq=t.captures, amount_minor=amount, provider=t.provider
                )
                for t, amount in captures
            ),
            occurred_at=at,
            actor=actor,
            command=ref,
            evidence=evidence,
        )
        recorded = await self._database(ShipmentActivities.hand_over, ask, f"{part.shipment_id} left {part.node_id}")
        self._grants[f"capture:{part.fulfillment_id}"] = recorded.grant
        part.recorded = Bucket.SHIPPED
        self._show()

    # --- carriers -------------------------------------------------------------------------------------

    @workflow.update(
        name="carrier_event",
        description='What a carrier scanned; never refused. `{"command_id": "my-id", "shipment_id": "shp_...", '
        '"event_id": "E1", "type": "delivered", "occurred_at": "2026-11-25T10:00:00Z"}`',
    )
    async def carrier_event(self, command: CarrierEvent) -> ScanOutcome:
        """Take a carrier's event."""
        return await self._command(command, "carrier_event", self._carrier_event, ScanOutcome)

    @carrier_event.validator
    def _check_event_update(self, command: CarrierEvent) -> None:
        _validated(self._check_event, command, self.s.answered)

    @workflow.signal(name="carrier_event", description="As the update `carrier_event`, for senders that cannot wait.")
    async def carrier_event_signal(self, raw: RawValue) -> None:
        """Take a carrier's event."""
        await self._signalled(raw, CarrierEvent, "carrier_event", self._check_event, self._carrier_event, ScanOutcome)

    def _check_event(self, command: CarrierEvent) -> None:
        if self.s.by_shipment(command.shipment_id) is None:
            raise UnknownShipment(f"this order has no shipment {command.shipment_id}")

    async def _carrier_event(self, command: CarrierEvent) -> ScanOutcome:
        self._check_event(command)
        part = self.s.by_shipment(command.shipment_id)
        if part is None:
            raise UnknownShipment(command.shipment_id)
        actor = command.actor or Actor(kind=ActorKind.CARRIER, id="carrier")
        await workflow.wait_condition(lambda: not part.in_call)
        handed_over = False
        scan = Scan(state=None, why="the parcel has no label yet")
        if part.tracking is not None:
            scan = after_scan(command.type, part.tracking, part.last_scan_at, command.occurred_at)
            if scan.implies_hand_over and part.stage is Bucket.PACKED:
                handed_over = True
                await self._hand_over(part, command.occurred_at, actor, None, f"carrier_scan:{command.type}")
                if command.type in (CarrierEventType.HANDED_OVER, CarrierEventType.IN_TRANSIT):
                    scan = Scan(state=TrackingState.IN_TRANSIT)
        return await self._apply_scan(part, command, actor, scan, handed_over)

    async def _apply_scan(
        self, part: Fulfillment, command: CarrierEvent, actor: Actor, scan: Scan, handed_over: bool
    ) -> ScanOutcome:
        delivered = scan.state is TrackingState.DELIVERED and part.stage is Bucket.SHIPPED
        if scan.state is not None:
            part.tracking, part.last_scan_at = scan.state, command.occurred_at
            state = FulfillmentState.CLOSED if delivered else part.state
            stage = Bucket.DELIVERED if delivered else part.stage
            self.s.advance(part, state, stage, workflow.now())
        promise = self._promise_outcome(command.occurred_at) if delivered else None
        outcome = ScanOutcome(
            applied=scan.state is not None or handed_over,
            duplicate=scan.why == "known already",
            shipment_id=part.shipment_id,
            state=part.tracking or "not_booked",
            order_version=self.s.version,
            why=scan.why,
        )
        ask = ScanAsk(
            order_id=self.s.order.order_id,
            fulfillment_id=part.fulfillment_id,
            shipment_id=part.shipment_id,
            event_id=command.event_id,
            type=command.type,
            occurred_at=command.occurred_at,
            state=scan.state,
            why=scan.why,
            delivered=delivered,
            promise_state=promise,
            actor=actor,
            command=self._ref(command, "carrier_event", outcome),
        )
        await self._database(ShipmentActivities.scan, ask, f"{part.shipment_id}: {command.type}")
        if delivered:
            part.recorded = Bucket.DELIVERED
        self._describe()
        return outcome.model_copy(update={"order_version": self.s.version})

    def _promise_outcome(self, delivered_at: datetime) -> str | None:
        """With the last units delivered the promise is judged, against the original date."""
        if self.s.quantities.live or self.s.promised_until is None:
            return None
        self.s.promise_state = "kept" if delivered_at <= self.s.promised_until else "broken"
        return self.s.promise_state

    # --- money and retries ----------------------------------------------------------------------------

    @workflow.update(
        name="payment_event",
        description='Replace a declined payment method. `{"command_id": "my-id", "tender_id": "tnd_...", '
        '"fact": "method_updated", "reference": "pm_ok"}`',
    )
    async def payment_event(self, command: PaymentEvent) -> PaymentEventOutcome:
        """Take a fact about a tender, or a new payment method."""
        return await self._command(command, "payment_event", self._payment_event, PaymentEventOutcome)

    @payment_event.validator
    def _check_payment_update(self, command: PaymentEvent) -> None:
        _validated(self._check_payment, command, self.s.answered)

    @workflow.signal(name="payment_event", description="As the update `payment_event`, for senders that cannot wait.")
    async def payment_event_signal(self, raw: RawValue) -> None:
        """Take a fact about a tender."""
        await self._signalled(
            raw, PaymentEvent, "payment_event", self._check_payment, self._payment_event, PaymentEventOutcome
        )

    def _check_payment(self, command: PaymentEvent) -> None:
        tender = self._tender(command.tender_id)
        if command.fact == "method_updated":
            if not command.reference:
                raise NotYet("a new payment method needs its reference")
            if tender.state is not PaymentState.FAILED or not self.s.quantities.live:
                raise NotYet(f"tender {tender.tender_id} is {tender.state}: only a declined one can be replaced")

    async def _payment_event(self, command: PaymentEvent) -> PaymentEventOutcome:
        """A provider's own facts are hints: our call or its look-up decides. A new method is tried at once."""
        self._check_payment(command)
        tender = self._tender(command.tender_id)
        applied = command.fact == "method_updated"
        if applied and command.reference:
            tender.reference, tender.retry_asked = command.reference, True
            seq = tender.seq
            await workflow.wait_condition(
                lambda: (tender.seq > seq and tender.state is not PaymentState.PENDING) or not self.s.quantities.live
            )
        outcome = PaymentEventOutcome(
            applied=applied,
            tender_id=tender.tender_id,
            state=tender.state,
            order_version=self.s.version,
            decline_code=tender.decline_code,
            why=None if applied else "noted; the provider's own answer to our request decides",
        )
        await self._settle_command(
            command.command_id,
            "payment_event",
            command.model_dump_json(),
            "applied",
            outcome.model_dump_json(),
            command.actor or OPERATOR,
        )
        return outcome.model_copy(update={"order_version": self.s.version})

    @workflow.update(
        name="retry_now", description='Do the waiting step again now. `{"command_id": "my-id", "reason": "fixed"}`'
    )
    async def retry_now(self, command: RetryNow) -> RetryOutcome:
        """Wake whatever waits for a retry."""
        return await self._command(command, "retry_now", self._retry_now, RetryOutcome)

    @workflow.signal(name="retry_now", description="As the update `retry_now`, for senders that cannot wait.")
    async def retry_now_signal(self, raw: RawValue) -> None:
        """Wake whatever waits for a retry."""
        await self._signalled(raw, RetryNow, "retry_now", lambda _: None, self._retry_now, RetryOutcome)

    async def _retry_now(self, command: RetryNow) -> RetryOutcome:
        self._retries += 1
        self.s.attention = None
        outcome = RetryOutcome(applied=True, order_version=self.s.version)
        await self._settle_command(
            command.command_id,
            "retry_now",
            command.model_dump_json(),
            "applied",
            outcome.model_dump_json(),
            command.actor or OPERATOR,
        )
        return outcome.model_copy(update={"order_version": self.s.version})

    # --- questions ------------------------------------------------------------------------------------

    @workflow.query(name="state", description="Everything that this order knows. Read only, any time.")
    def state(self) -> Any:
        """The state as JSON."""
        return self.s.model_dump(mode="json")

    @workflow.query(name="waits", description="Who is waited for, since when, until when. Read only, any time.")
    def waits(self) -> Any:
        """The first wait, or null."""
        wait = self.s.header().wait
        return wait.model_dump(mode="json") if wait else None

    @workflow.query(name="digest", description="The digest that the database must agree with.")
    def digest(self) -> str:
        """Law I15."""
        return self.s.header().digest

    # --- small things ---------------------------------------------------------------------------------

    def _part(self, fulfillment_id: str) -> Fulfillment:
        part = self.s.fulfillments.get(fulfillment_id)
        if part is None:
            raise UnknownFulfillment(f"this order has no fulfillment order {fulfillment_id}")
        return part

    def _tender(self, tender_id: str) -> Tender:
        for tender in self.s.tenders:
            if tender.tender_id == tender_id:
                return tender
        raise UnknownTender(f"this order has no tender {tender_id}")

    def _amount(self, minor: int) -> str:
        return f"{format_minor(minor, self.s.order.currency)} {self.s.order.currency}"


def _validated(check: Callable[[C], None], command: C, answered: dict[str, str]) -> None:
    """Run a validator; a repeat of an answered command passes, so that it meets its outcome."""
    if command.command_id in answered:
        return
    try:
        check(command)
    except OrderRuleError as refusal:
        raise _refused(refusal) from refusal


def _refused(refusal: OrderRuleError) -> ApplicationError:
    details = {"alternative": refusal.alternative}
    return ApplicationError(refusal.detail, details, type=refusal.code, non_retryable=True)


def _cancelled_lines(
    freed: Sequence[tuple[str, int, int]],
    plan: CancellationPlan,
    asked: Sequence[Fulfillment],
    declined: Sequence[Fulfillment],
) -> tuple[CancelledLine, ...]:
    cancelled: dict[int, int] = {}
    for n, q in [*plan.open_units, *((n, q) for _, n, q in freed)]:
        cancelled[n] = cancelled.get(n, 0) + q
    refused: dict[int, int] = {}
    for n, q in (u for part in declined for u in part.lines):
        refused[n] = refused.get(n, 0) + q
    waiting: dict[int, int] = {}
    for part in asked:
        if part.state is FulfillmentState.CANCELLATION_REQUESTED:
            for n, q in part.lines:
                waiting[n] = waiting.get(n, 0) + q
    return tuple(
        CancelledLine(
            line_no=n,
            requested=cancelled.get(n, 0) + refused.get(n, 0) + waiting.get(n, 0),
            cancelled=cancelled.get(n, 0),
            waiting=waiting.get(n, 0),
            declined=refused.get(n, 0),
        )
        for n in sorted({*cancelled, *refused, *waiting})
    )
