"""Cancelling: plan and mark at once, free what is free, and hear the nodes that must agree."""

import asyncio
from collections.abc import Sequence
from typing import Any

from temporalio import workflow
from temporalio.common import RawValue

from workflows.order_desk import OrderDesk, takes_anything, validated

with workflow.unsafe.imports_passed_through():
    from activities.contract import CommandRef
    from activities.records import RecordActivities, SettleAsk
    from activities.shipments import ReportAsk, ShipmentActivities, StopAsk
    from activities.stock import CancelAsk, StockActivities
    from domain.cancellation import CancellationPlan, plan_cancellation
    from domain.ids import derived_id
    from domain.lifecycle import FulfillmentState, PaymentState
    from domain.order_state import Fulfillment
    from domain.orders import SYSTEM, Actor, CancelReason, ReportKind
    from domain.quantities import Bucket
    from domain.refusals import OrderRuleError
    from workflows.messages import CancelledLine, CancelOrder, CancelOutcome, FreedStock


class OrderCancelling(OrderDesk):
    """The command `cancel`, and the cancellations that the order decides itself."""

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
        validated(self._check_cancel, command, self.s.answered)

    @workflow.signal(name="cancel", description="As the update `cancel`, for senders that cannot wait.")
    @takes_anything
    async def cancel_signal(self, raw: RawValue) -> None:
        """Cancel what has not left."""
        await self._signalled(raw, CancelOrder, "cancel", self._check_cancel, self._cancel, CancelOutcome)

    def _check_cancel(self, command: CancelOrder) -> None:
        if self.s.acceptance is not None and not self._deciding:
            plan_cancellation(self.s)

    async def _cancel(self, command: CancelOrder) -> CancelOutcome:
        actor = await self._recorded_sender(command, "cancel")
        try:
            return await self._cancel_all(command, actor)
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
            promise_state=self._judge_promise(),
            untried_tenders=self._drop_untried_tenders(),
        )
        recorded = await self._database(StockActivities.cancel, done, f"Cancel: {command.reason}")
        for fulfillment_id in plan.at_once:
            self.s.fulfillments[fulfillment_id].recorded = Bucket.CANCELLED
        if asked:
            outcome = await self._hear_nodes(command, actor, plan, before, freed, asked)
        self._show()
        return outcome.model_copy(update={"order_version": recorded.version if not asked else self.s.version})

    async def _give_up(self, reason: CancelReason) -> None:
        """Cancel because nothing else is left to do; somebody may have been quicker."""
        command = CancelOrder(command_id=f"system:{reason}", reason=reason, actor=SYSTEM)
        try:
            await self._cancel_all(command, SYSTEM)
        except OrderRuleError as refusal:
            workflow.logger.info("cancel.not_needed", extra={"code": refusal.code})

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
        await workflow.wait_condition(
            lambda: not part.in_call or part.stop_answer is not None or part.stage is Bucket.PACKED
        )  # a node must know the work before it can stop it; a booking at the carrier is no reason to wait
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
            promise_state=self._judge_promise(),
        )
        await self._database(StockActivities.cancel, ask, f"{part.node_id} stopped: free its units")
        part.recorded = Bucket.CANCELLED

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
