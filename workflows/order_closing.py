"""Closing an order by force: everything else stops, what can be undone is undone in a bounded time, the order ends."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import ActivityError

from workflows.order_desk import takes_anything, validated
from workflows.order_silence import OrderSilence

with workflow.unsafe.imports_passed_through():
    from activities.closing import (
        BeginClosingAsk,
        ClosingActivities,
        ClosingBegun,
        ClosingEnded,
        EndClosingAsk,
        OpenIntent,
        TenderMoney,
        Unheard,
    )
    from activities.payments import ALREADY_CAPTURED, MoneyAsk, MoneyMoved, PaymentActivities
    from activities.shipments import ShipmentActivities, VoidLabelAsk
    from activities.stock import CancelAsk, StockActivities
    from domain.capture import plan_capture
    from domain.force_close import (
        ClosingAlready,
        OrderClosed,
        check_may_force,
        left_at_nodes,
        not_arriving,
        on_their_way,
        plan_force_close,
    )
    from domain.lifecycle import FulfillmentState, PaymentState, TrackingState
    from domain.order_state import Fulfillment, Tender
    from domain.orders import OPERATOR, Actor, CancelReason, PlaceOrder, Remedy
    from domain.quantities import HANDED_OVER, Bucket
    from domain.refund import plan_refund
    from domain.refusals import OrderRuleError
    from workflows import policies
    from workflows.messages import ForceClose, ForceCloseOutcome

A = TypeVar("A")
R = TypeVar("R")
_CALLS: dict[str, Callable[[Any, MoneyAsk], Awaitable[Any]]] = {
    "authorize": PaymentActivities.authorize,
    "capture": PaymentActivities.capture,
    "refund": PaymentActivities.refund,
}


class OrderClosing(OrderSilence):
    """The command `force_close`, and the end that it brings."""

    def __init__(self, order: PlaceOrder) -> None:
        super().__init__(order)
        self._begun: ClosingBegun | None = None
        self._unfinished: list[str] = []  # what a person has to see to
        self._labels: list[Fulfillment] = []
        self._forced_by: Actor | None = None

    @workflow.update(
        name="force_close",
        description="Last resort instead of terminate: undoes what can be undone, opens a case for the rest. "
        '`{"command_id": "my-id", "reason": "node_gone"}`',
    )
    async def force_close(self, command: ForceClose) -> ForceCloseOutcome:
        """End the order."""
        return await self._command(command, "force_close", self._force_close, ForceCloseOutcome)

    @force_close.validator
    def _check_force_update(self, command: ForceClose) -> None:
        validated(self._check_force, command, self.s.answered)

    @workflow.signal(name="force_close", description="As the update `force_close`, for senders that cannot wait.")
    @takes_anything
    async def force_close_signal(self, raw: RawValue) -> None:
        """End the order."""
        await self._signalled(raw, ForceClose, "force_close", self._check_force, self._force_close, ForceCloseOutcome)

    def _check_force(self, command: ForceClose) -> None:
        if self.s.closing is not None and self.s.closing != command.command_id:
            raise ClosingAlready("the order is being closed by force already")
        if self.s.acceptance is not None and self._main is None:
            raise OrderClosed("the order is over")
        if command.actor is not None:
            check_may_force(command.actor)

    async def _force_close(self, command: ForceClose) -> ForceCloseOutcome:
        actor = (await self._opened(command, "force_close")).actor
        while self._is_writing():
            await workflow.wait_condition(lambda: not self._is_writing())
        try:
            check_may_force(actor)
            self._check_force(command)
        except OrderRuleError as refusal:
            await self._refuse_signal(command, "force_close", refusal.code, refusal.detail)
            raise
        return await self._stop_everything(command, actor)

    def _is_writing(self) -> bool:
        """Whether a step on our own database is under way or waits: until then the state is ahead of its rows."""
        return self.s.acceptance is None or self._deciding or self._steps > 0

    async def _stop_everything(self, command: ForceClose, actor: Actor) -> ForceCloseOutcome:
        """Plan and mark at once, and stop all else that is under way; then write it."""
        self.s.closing, self._forced_by = command.command_id, actor
        ask, outcome = self._mark_closed(command, actor)
        own = asyncio.current_task()
        self._closers.add(own)
        for task in (*self._handlers.values(), *self._tracks, *self._recalls, self._main):
            if task is not None and task is not own:
                task.cancel()
        begin = BeginClosingAsk(
            order_id=self.s.order.order_id, command_id=command.command_id, reason=command.reason, actor=actor
        )
        try:
            begun = await self._database(ClosingActivities.begin, begin, "Take back what is asked of others")
            recorded = await self._database(StockActivities.cancel, ask, "Cancel all that has not left")
        finally:
            self._closers.discard(own)
        for cut in ask.cuts:
            self._record_cut(cut)
        self._begun = begun
        return outcome.model_copy(update={"order_version": recorded.version})

    def _mark_closed(self, command: ForceClose, actor: Actor) -> tuple[CancelAsk, ForceCloseOutcome]:
        """Synchronous: what has not left is cancelled, and it is known who has to be told."""
        plan = plan_force_close(self.s)
        nodes = left_at_nodes(self.s)
        self._unfinished += nodes
        self._labels = [p for p in self.s.fulfillments.values() if _has_label(p) and p.stage not in HANDED_OVER]
        for part in self.s.fulfillments.values():
            part.cancelling, part.changing = None, False
        cuts, _ = self._mark_cancelled(plan)
        outcome = ForceCloseOutcome(
            cancelled_units=sum(units for _, units in plan.units_at_once),
            on_their_way=tuple(part.shipment_id for part in on_their_way(self.s)),
            left_at_nodes=nodes,
            order_version=self.s.version,
        )
        ask = CancelAsk(
            order_id=self.s.order.order_id,
            reason=CancelReason.OTHER,
            command_id=command.command_id,
            actor=actor,
            command=self._ref(command, "force_close", outcome),
            step="at_once",
            backordered_units=plan.backordered_units,
            open_units=plan.open_units,
            held_units=plan.held_units,
            cuts=cuts,
            no_longer_owed_minor=self._no_longer_owed(),
            promise_state=self._judge_promise(),
            credit=self.s.book_credit(),
            untried_tenders=self._drop_untried_tenders(),
        )
        return ask, outcome

    # --- the end --------------------------------------------------------------------------------------

    async def _close(self) -> None:
        """Undo what others have to undo, each with a limit; then end, with a case for what is left."""
        self._closers.add(asyncio.current_task())
        await workflow.wait_condition(lambda: self._begun is not None)
        begun = self._begun
        if begun is None:
            raise AssertionError("closing has not begun")
        for part in not_arriving(self.s):
            part.remedy, part.remedy_by = Remedy.REFUND, self._forced_by
            await self._make_good(part)
        self._adopt(begun.tenders)
        await self._end_money(begun)
        for part in self._labels:
            await self._take_back(part)
        await self._end()

    def _refund_credit(self) -> None:
        """While it is closed by force, money goes home at once and within limits."""
        if self.s.closing is None:
            super()._refund_credit()

    async def _end(self) -> None:
        arrived = on_their_way(self.s)
        self._unfinished += [f"parcel {part.shipment_id} is on its way: see that it arrives" for part in arrived]
        for part in arrived:
            self.s.advance(part, FulfillmentState.CLOSED, Bucket.DELIVERED, workflow.now())
            part.recorded = part.stage
        for part in self.s.fulfillments.values():
            part.captured = part.captured or part.stage in HANDED_OVER
        ask = EndClosingAsk(
            order_id=self.s.order.order_id,
            command_id=self.s.closing or "",
            arrived=tuple(part.fulfillment_id for part in arrived),
            left=tuple(self._unfinished),
            promise_state=self._judge_promise(),
        )
        ended = await self._write_end(ask)
        while self._unheard:  # they came while it was written
            ended = await self._write_end(ask)
        self._adopt(ended.tenders)
        self.s.unsettled_minor = ended.unsettled_minor
        self.s.changed_at = workflow.now()
        self._closed = True

    async def _write_end(self, ask: EndClosingAsk) -> ClosingEnded:
        """Write the end, with an outcome for the signals that nobody took any more."""
        unheard, self._unheard = self._unheard, []
        told = tuple(
            Unheard(
                command_id=command.command_id,
                kind=kind,
                payload_json=command.model_dump_json(),
                actor=command.actor or OPERATOR,
            )
            for kind, command in unheard
        )
        ask = ask.model_copy(update={"unheard": told})
        return await self._database(ClosingActivities.end, ask, "Closed by force: end what is open")

    def _adopt(self, rows: tuple[TenderMoney, ...]) -> None:
        """The rows may be ahead of what the order has heard: a call that nobody waits for any more was answered."""
        for row in rows:
            tender = self._tender(row.tender_id)
            tender.state, tender.authorization_ref, tender.in_call = row.state, row.authorization_ref, False
            tender.authorized_minor, tender.captured_minor = row.authorized_minor, row.captured_minor
            tender.refunded_minor, tender.refunding_minor = row.refunded_minor, 0
            tender.capturing_minor = 0

    # --- money ----------------------------------------------------------------------------------------

    async def _end_money(self, begun: ClosingBegun) -> None:
        """What is under way first, then what is owed and still covered, then voids before refunds."""
        for intent in begun.intents:
            await self._see_through(self._tender(intent.tender_id), intent)
        missing = -self.s.excess_minor
        covered = sum(_covered(tender) for tender in self.s.tenders)
        for share in plan_capture(self.s.tenders, max(0, min(missing, covered))):
            await self._take_owed(self._tender(share.tender_id), share.amount_minor)
        for tender in self.s.tenders:
            await self._release_rest(tender)
        for back in plan_refund(self.s.tenders, max(0, self.s.excess_minor)):
            await self._return(self._tender(back.tender_id), back.amount_minor)

    async def _see_through(self, tender: Tender, intent: OpenIntent) -> None:
        """Find out what became of a call, or make it; one that was never made is made only if money is owed."""
        call = _CALLS.get(intent.intent)
        if call is None or (intent.intent == "authorize" and not intent.called):
            return  # a void is tried again below
        ask = self._money(tender, intent.seq, intent.amount_minor)
        part = self._paid_by(tender, intent)
        moved = await self._once(
            call,
            ask.model_copy(
                update={
                    "reason_ref": intent.reason_ref,
                    "fulfillment_id": part.fulfillment_id if part else None,
                    "shipment_id": part.shipment_id if part else None,
                }
            ),
            f"Find out about {intent.intent} {self._amount(intent.amount_minor)}",
        )
        if not isinstance(moved, MoneyMoved):
            tender.refunding_minor += intent.amount_minor if intent.intent == "refund" and moved is None else 0
            return
        if intent.intent == "authorize":
            tender.state, tender.authorized_minor = PaymentState.AUTHORIZED, moved.amount_minor
            tender.authorization_ref = moved.provider_ref
        elif intent.intent == "capture":
            tender.note_captured(moved.amount_minor)
        else:
            tender.refunded_minor += moved.amount_minor

    def _paid_by(self, tender: Tender, intent: OpenIntent) -> Fulfillment | None:
        """The parcel that a capture was wanted for."""
        if intent.intent != "capture":
            return None
        wanted = (tender.tender_id, intent.seq)
        parts = self.s.fulfillments.values()
        return next((part for part in parts if wanted in {(t, n) for t, n, _ in part.captures}), None)

    async def _take_owed(self, tender: Tender, amount_minor: int) -> None:
        tender.captures += 1
        ask = self._money(tender, tender.captures, amount_minor)
        moved = await self._once(PaymentActivities.capture, ask, f"Capture {self._amount(amount_minor)}")
        if isinstance(moved, MoneyMoved):
            tender.note_captured(moved.amount_minor)

    async def _release_rest(self, tender: Tender) -> None:
        if tender.state not in (PaymentState.AUTHORIZED, PaymentState.PARTIALLY_CAPTURED):
            return
        left = tender.left_minor
        ask = self._money(tender, tender.seq, left)
        outcome = await self._once(PaymentActivities.void, ask, f"Release the unused {self._amount(left)}")
        if isinstance(outcome, MoneyMoved):
            tender.captured_minor += left - outcome.amount_minor  # taken behind our back before the void
            tender.state = PaymentState.CAPTURED if tender.captured_minor else PaymentState.VOIDED
        elif outcome is not None and outcome.code == ALREADY_CAPTURED:
            tender.captured_minor, tender.state = tender.authorized_minor, PaymentState.CAPTURED

    async def _return(self, tender: Tender, amount_minor: int) -> None:
        tender.refunds += 1
        ask = self._money(tender, tender.refunds, amount_minor)
        ask = ask.model_copy(update={"reason_ref": f"settlement:{tender.refunds}"})
        moved = await self._once(PaymentActivities.refund, ask, f"Refund {self._amount(amount_minor)}")
        if isinstance(moved, MoneyMoved):
            tender.refunded_minor += moved.amount_minor

    async def _take_back(self, part: Fulfillment) -> None:
        """A label that was bought for a parcel that will not travel."""
        ask = VoidLabelAsk(
            order_id=self.s.order.order_id,
            shipment_id=part.shipment_id,
            tracking_number=part.tracking_number or "",
        )
        if await self._once(ShipmentActivities.void_label, ask, "Take the label back") is None:
            self._unfinished.append(f"label {part.tracking_number} of {part.shipment_id} was not taken back")
        else:
            part.tracking = TrackingState.VOIDED

    async def _once(self, method: Callable[[Any, A], Awaitable[R]], ask: A, summary: str) -> R | None:
        """One call to a provider, tried for a limited time. None: nobody knows."""
        config = policies.provider(summary)
        config["schedule_to_close_timeout"] = timedelta(seconds=self.s.rules.force_close_s)
        try:
            result = await workflow.execute_activity_method(method, ask, **config)
        except ActivityError:
            return None
        self.s.version = max(self.s.version, getattr(result, "version", 0))
        return result


def _has_label(part: Fulfillment) -> bool:
    return part.tracking_number is not None and part.tracking is not TrackingState.VOIDED


def _covered(tender: Tender) -> int:
    return tender.left_minor if tender.state in (PaymentState.AUTHORIZED, PaymentState.PARTIALLY_CAPTURED) else 0
