"""Cancelling: plan and mark at once, free what is free, and hear the nodes that must agree."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from temporalio import workflow
from temporalio.common import RawValue

from workflows.order_desk import OWN, takes_anything, validated
from workflows.order_refunding import OrderRefunding

with workflow.unsafe.imports_passed_through():
    from activities.contract import CommandRef
    from activities.records import RecordActivities, SettleAsk
    from activities.shipments import ReportAsk, ShipmentActivities, StopAsk
    from activities.stock import CancelAsk, PartCut, StockActivities
    from domain.cancellation import CancellationPlan, CancelOptions, check_options, plan_cancellation
    from domain.cut_offs import check_cut_off, furthest
    from domain.ids import derived_id
    from domain.lifecycle import FulfillmentState, PaymentState
    from domain.order_state import Credit, Fulfillment
    from domain.orders import OPERATOR, SYSTEM, Actor, ActorKind, CancelReason, ChangeKind, RefundWish, ReportKind
    from domain.quantities import HANDED_OVER, Bucket, units_per_line
    from domain.recall import asked_now
    from domain.refusals import OrderRuleError
    from domain.shares import Components
    from workflows.messages import (
        CancellationState,
        CancelledLine,
        CancelOrder,
        CancelOutcome,
        CancelRefused,
        FreedStock,
        LineUnits,
        RecalledParcel,
    )


class Freed(NamedTuple):
    """Units of a line that a node has free again."""

    node_id: str
    line_no: int
    quantity: int


NOTHING = Components(revenue_minor=0, shipping_minor=0, tax_minor=0)


class NodeAnswer(NamedTuple):
    """Whether a node stopped, and what its units are worth where that is paid all the same."""

    stopped: bool
    kept: Components | None = None


class Decided(NamedTuple):
    """A cancellation whose units are marked, to be carried out. The sum owed before, in minor units.

    `kept` is what the units that are free at once are worth, where that is paid all the same.
    """

    before_minor: int
    plan: CancellationPlan
    kept: Components | None
    cuts: tuple[PartCut, ...]
    freed: list[Freed]
    asked: list[Fulfillment]
    recalled: list[Fulfillment]
    credit: Credit | None  # for units that were to be sent instead of others that did not arrive


class OrderCancelling(OrderRefunding):
    """The command `cancel`, and the cancellations that the order decides itself."""

    @workflow.update(
        name="cancel",
        description="Cancel what has not left, all of it or `lines` as [line number, units]. "
        '`{"command_id": "my-id", "reason": "changed_mind", "lines": [[1, 2]]}`. `"restock": false` writes the goods '
        'off, `"refund": "none"` keeps the money, `"all_or_nothing": true` refuses a part, `"recall": true` asks the '
        "carrier to bring back what has left. Preview first: query `preview_cancel`",
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
        if self._can_plan(command):
            self._plan_cancel(command, command.actor)

    def _can_plan(self, command: CancelOrder) -> bool:
        """Whether it can be said now what would happen. What is kept must be paid: a call under way is waited for."""
        paying = command.refund == "none" and any(tender.in_call for tender in self.s.tenders)
        return self.s.acceptance is not None and not self._deciding and not paying

    def _plan_cancel(self, command: CancelOrder, actor: Actor | None, only: Bucket | None = None) -> CancellationPlan:
        """What cancelling does now, within the cut-off rules; of units in one bucket only, if one is named.

        Raises:
            OrderRuleError: nothing of this can be cancelled, or not by this actor.
        """
        plan = plan_cancellation(self.s, command.lines, only, recall=command.recall)
        options = CancelOptions(command.restock, command.refund, command.all_or_nothing)
        for kind in options.kinds:
            check_cut_off(self.s.rules, kind, actor, furthest(plan.stages(self.s)))
        if plan.recalled:
            check_cut_off(self.s.rules, ChangeKind.RECALL, actor, Bucket.SHIPPED)
        check_options(self.s, plan, options)
        return plan

    async def _cancel(self, command: CancelOrder) -> CancelOutcome:
        actor = (await self._opened(command, "cancel")).actor
        try:
            return await self._cancel_all(command, actor)
        except OrderRuleError as refusal:
            await self._refuse_signal(command, "cancel", refusal.code, refusal.detail)
            raise

    async def _cancel_all(self, command: CancelOrder, actor: Actor, only: Bucket | None = None) -> CancelOutcome:
        """Plan and mark at once, then free what is free, then hear the nodes that must agree."""
        while not self._can_plan(command):  # all that wait are woken at once, and the first may decide
            await workflow.wait_condition(lambda: self._can_plan(command))
        return await self._carry_out(command, actor, self._decide_cancel(command, actor, only))

    def _decide_cancel(self, command: CancelOrder, actor: Actor, only: Bucket | None = None) -> Decided:
        """Synchronous: plan and mark, so that no other decision comes between.

        Raises:
            OrderRuleError: nothing of this can be cancelled.
        """
        before = self.s.owed_minor
        plan = self._plan_cancel(command, actor, only)
        kept = self._keep(command, plan.units_at_once)
        cuts, freed = self._mark_cancelled(plan)
        asked = self._mark_asked(plan, command.command_id)
        recalled = self._mark_recalled(plan, command.command_id, actor)
        return Decided(before, plan, kept, cuts, freed, asked, recalled, self.s.book_credit())

    def _keep(self, command: CancelOrder, units: Iterable[tuple[int, int]]) -> Components | None:
        """Synchronous: what these units, about to be cancelled, are worth, where it is paid all the same."""
        return self.s.keep(units) if command.refund == "none" else None

    async def _carry_out(self, command: CancelOrder, actor: Actor, decided: Decided) -> CancelOutcome:
        _, plan, kept, cuts, freed, asked, recalled, credit = decided
        done = bool(freed or plan.open_units or plan.backordered_units)
        outcome = self._cancel_outcome(command, decided, "requested" if asked else _state(decided, done=done))
        ask = CancelAsk(
            order_id=self.s.order.order_id,
            reason=command.reason,
            command_id=command.command_id,
            actor=actor,
            command=None if asked else self._ref(command, "cancel", outcome),
            step="at_once",
            backordered_units=plan.backordered_units,
            open_units=plan.open_units,
            held_units=plan.held_units,
            cuts=cuts,
            asked=tuple(part.fulfillment_id for part in asked),
            recalled=tuple(part.shipment_id for part in recalled),
            recalled_units=sum(part.units for part in recalled),
            no_longer_owed_minor=self._no_longer_owed(),
            restock=command.restock,
            kept_minor=self._kept(kept),
            kept=kept,
            promise_state=self._judge_promise(),
            credit=credit,
            untried_tenders=self._drop_untried_tenders(),
        )
        recorded = await self._database(StockActivities.cancel, ask, f"Cancel: {command.reason}")
        self._refund_credit()
        for cut in cuts:
            self._record_cut(cut)
        self._ask_carriers(recalled)
        if asked:
            outcome = await self._hear_nodes(command, actor, decided)
        self._show()
        return outcome.model_copy(update={"order_version": recorded.version if not asked else self.s.version})

    async def _give_up(self, reason: CancelReason, units: Sequence[tuple[int, int]] = ()) -> None:
        """Cancel (some units) because nothing else is left to do; somebody may have been quicker."""
        await self._catch_up()
        lines = tuple(LineUnits(*unit) for unit in units)
        number = self.s.supply_ends if reason is CancelReason.NO_SUPPLY else self.s.generation
        key = f"{OWN}{reason}:{number}"
        await self._give_up_by(CancelOrder(command_id=key, reason=reason, lines=lines, actor=SYSTEM))

    async def _give_up_by(self, command: CancelOrder) -> None:
        key = command.command_id
        if key in self.s.answered:
            return
        self.s.answered[key] = ""
        try:
            outcome = await self._cancel_all(command, SYSTEM, _only_from(command))
        except OrderRuleError as refusal:
            del self.s.answered[key]
            workflow.logger.info("cancel.not_needed", extra={"code": refusal.code})
        else:
            self.s.answered[key] = outcome.model_dump_json()

    def _mark_cancelled(self, plan: CancellationPlan) -> tuple[tuple[PartCut, ...], list[Freed]]:
        """Synchronous: from here on no other decision sees these units. Returns the cuts, and what became free."""
        self.s.move(plan.backordered_units, Bucket.BACKORDERED, Bucket.CANCELLED)
        self.s.move(plan.open_units, Bucket.OPEN, Bucket.CANCELLED)
        self.s.release_held(plan.held_units, Bucket.CANCELLED)
        freed = [Freed(node, line_no, quantity) for line_no, node, quantity in plan.held_units]
        cuts = tuple(self._cut(self.s.fulfillments[name], units) for name, units in plan.at_once)
        for cut in cuts:
            node = self.s.fulfillments[cut.fulfillment_id].node_id
            freed += [Freed(node, line_no, quantity) for line_no, quantity in cut.units]
        self.s.changed_at = workflow.now()
        return cuts, freed

    def _mark_asked(self, plan: CancellationPlan, command_id: str) -> list[Fulfillment]:
        parts = [self.s.fulfillments[name] for name, _ in plan.asked]
        for part, (_, units) in zip(parts, plan.asked, strict=True):
            part.cancelling, part.stopping, part.before_stop, part.stop_answer = command_id, units, part.state, None
            self.s.advance(part, FulfillmentState.CANCELLATION_REQUESTED, part.stage, workflow.now())
        return parts

    def _mark_recalled(self, plan: CancellationPlan, command_id: str, actor: Actor) -> list[Fulfillment]:
        """Synchronous: their carrier is asked for these parcels, once."""
        parts = [self.s.fulfillments[name] for name, _ in plan.recalled]
        for part in parts:
            part.recall = asked_now(self.s.rules, command_id, actor, workflow.now())
        return parts

    def _ask_carriers(self, parts: Sequence[Fulfillment]) -> None:
        """Have parcels brought back; nobody waits for it. See `order_recalling.py`."""
        raise NotImplementedError

    def _cut(self, part: Fulfillment, units: tuple[tuple[int, int], ...]) -> PartCut:
        """Take cancelled units out of a fulfillment order; it ends with its last ones."""
        now = workflow.now()
        whole = part.has_only(units)
        if whole:
            self.s.advance(part, FulfillmentState.CANCELLED, Bucket.CANCELLED, now)
        else:
            self.s.cut(part, units, Bucket.CANCELLED)
            asked = part.state is FulfillmentState.CANCELLATION_REQUESTED
            self.s.advance(part, part.before_stop if asked else part.state, part.stage, now)
        return PartCut(fulfillment_id=part.fulfillment_id, units=units, whole=whole, state=part.state)

    def _record_cut(self, cut: PartCut) -> None:
        if cut.whole:
            self.s.fulfillments[cut.fulfillment_id].recorded = Bucket.CANCELLED

    async def _hear_nodes(self, command: CancelOrder, actor: Actor, decided: Decided) -> CancelOutcome:
        plan, freed = decided.plan, decided.freed
        stops = (asyncio.create_task(self._stop(part, command, actor)) for part in decided.asked)
        answers = await asyncio.gather(*stops)
        declined: list[tuple[int, int]] = []
        for (name, units), answer in zip(plan.asked, answers, strict=True):
            if answer.stopped:
                node = self.s.fulfillments[name].node_id
                freed += [Freed(node, line_no, quantity) for line_no, quantity in units]
            else:
                declined += units
        done = bool(freed or plan.open_units or plan.backordered_units)
        kept = [decided.kept, *(answer.kept for answer in answers)]
        decided = decided._replace(kept=sum((one for one in kept if one), NOTHING) if any(kept) else None)
        outcome = self._cancel_outcome(command, decided, _state(decided, done=done, declined=bool(declined)), declined)
        ref = self._ref(command, "cancel", outcome)
        await self._database(
            RecordActivities.settle_command,
            SettleAsk(order_id=self.s.order.order_id, actor=actor, command=ref),
            "Store the outcome of the cancellation",
        )
        return outcome

    async def _stop(self, part: Fulfillment, command: CancelOrder, actor: Actor) -> NodeAnswer:
        """Have one node stop, and free its units."""
        if await self._ask_to_stop(part, command.command_id):
            return NodeAnswer(stopped=True, kept=await self._stopped(part, command, actor))
        await self._not_stopped(part, command.command_id, "cancel")
        return NodeAnswer(stopped=False)

    async def _ask_to_stop(self, part: Fulfillment, command_id: str) -> bool:
        """Ask one node to stop. Its answer decides; silence never does. Whether it stopped."""
        await workflow.wait_condition(
            lambda: not part.in_call or part.stop_answer is not None or part.stage is Bucket.PACKED
        )  # a node must know the work before it can stop it; a booking at the carrier is no reason to wait
        if part.stop_answer is None and part.stage in (Bucket.RELEASED, Bucket.PICKED, Bucket.PACKED):
            ask = StopAsk(
                order_id=self.s.order.order_id,
                fulfillment_id=part.fulfillment_id,
                node_id=part.node_id,
                command_id=command_id,
                lines=self._lines_to_stop(part),
            )
            reply = await self._provider(
                ShipmentActivities.stop, ask, f"Ask {part.node_id} to stop {part.fulfillment_id}", "stop_failing"
            )
            if reply.answer != "answer_follows" and part.stop_answer is None:
                part.stop_answer = reply.answer
        await workflow.wait_condition(lambda: part.stop_answer is not None or part.stage in HANDED_OVER)
        return part.stop_answer == "stopped" and part.stage not in HANDED_OVER

    def _lines_to_stop(self, part: Fulfillment) -> tuple[tuple[int, str, int], ...]:
        """The units to name to the node; none for all that it has."""
        if part.has_only(part.stopping):
            return ()
        return tuple((line_no, self.s.lines[line_no].sku, quantity) for line_no, quantity in part.stopping)

    async def _stopped(self, part: Fulfillment, command: CancelOrder, actor: Actor) -> Components | None:
        kept = self._keep(command, part.stopping)
        cut = self._cut(part, part.stopping)
        ask = CancelAsk(
            order_id=self.s.order.order_id,
            reason=command.reason,
            command_id=command.command_id,
            actor=actor,
            step=part.fulfillment_id,
            cuts=(cut,),
            no_longer_owed_minor=self._no_longer_owed(),
            restock=command.restock,
            kept_minor=self._kept(kept),
            kept=kept,
            promise_state=self._judge_promise(),
            credit=self.s.book_credit(),
        )
        await self._database(StockActivities.cancel, ask, f"{part.node_id} stopped: free its units")
        self._refund_credit()
        self._record_cut(cut)
        part.cancelling = None
        return kept

    async def _not_stopped(self, part: Fulfillment, command_id: str, kind: str) -> None:
        part.cancelling = None
        if part.state is not FulfillmentState.CANCELLATION_REQUESTED:
            return
        self.s.advance(part, part.before_stop, part.stage, workflow.now())
        ask = ReportAsk(
            order_id=self.s.order.order_id,
            fulfillment_id=part.fulfillment_id,
            shipment_id=part.shipment_id,
            kind=ReportKind.CANCEL_DECLINED,
            state=part.state,
            stage=part.stage,
            actor=SYSTEM,
            command=CommandRef(command_id=command_id, kind=kind, payload_json="{}", outcome_json="{}"),
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

    def _kept(self, kept: Components | None) -> tuple[tuple[int, int], ...]:
        """Line number and amount kept so far, where this step keeps something."""
        return () if kept is None else tuple((n, line.kept_minor) for n, line in self.s.lines.items())

    def _cancel_outcome(
        self,
        command: CancelOrder,
        decided: Decided,
        state: CancellationState,
        declined: Sequence[tuple[int, int]] = (),
    ) -> CancelOutcome:
        plan, freed = decided.plan, decided.freed
        asked = [self.s.fulfillments[name] for name, _ in plan.asked]
        stock = tuple(FreedStock(self.s.lines[n].sku, node, q) for node, n, q in freed)
        captured = sum(t.captured_minor for t in self.s.tenders)
        authorized = sum(t.authorized_minor for t in self.s.tenders)
        waiting = (*(plan.units_asked if state == "requested" else ()), *plan.units_recalled)
        answers = [f.deadline for f in asked] if state == "requested" else []
        answers += [part.recall.until for part in decided.recalled if part.recall]
        return CancelOutcome(
            cancellation_id=derived_id("can", command.command_id),
            state=state,
            reason=command.reason,
            lines=_cancelled_lines(
                [*plan.backordered_units, *plan.open_units, *((n, q) for _, n, q in freed)], waiting, declined
            ),
            stock=stock if command.restock else (),
            written_off=() if command.restock else stock,
            recalled=tuple(RecalledParcel(part.shipment_id, part.units) for part in decided.recalled),
            total_before_minor=decided.before_minor,
            total_after_minor=self.s.owed_minor,
            kept_minor=decided.kept.total_minor if decided.kept else 0,
            captured_minor=captured,
            refund_minor=max(0, self.s.excess_minor),
            authorization_to_release_minor=max(0, authorized - max(captured, self.s.owed_minor)),
            order_version=self.s.version,
            answer_by=max(answers, default=None),
        )

    @workflow.query(
        name="preview_cancel",
        description="What would cancelling do now? Changes nothing. Without an argument: everything. `[[1, 2]]`",
    )
    def preview_cancel(
        self,
        lines: tuple[LineUnits, ...] = (),
        role: str | None = None,
        restock: bool = True,
        refund: RefundWish = "full",
        all_or_nothing: bool = False,
        recall: bool = False,
    ) -> CancellationPlan | CancelRefused:
        """The plan that `cancel` would carry out now for somebody in this role, or its refusal."""
        who = Actor(kind=ActorKind.PERSON, id="preview", role=role) if role else OPERATOR
        wish = CancelOrder(
            command_id="preview",
            lines=lines,
            restock=restock,
            refund=refund,
            all_or_nothing=all_or_nothing,
            recall=recall,
        )
        try:
            return self._plan_cancel(wish, who)
        except OrderRuleError as refusal:
            return CancelRefused(code=refusal.code, detail=refusal.detail, alternative=refusal.alternative)


def _state(decided: Decided, *, done: bool, declined: bool = False) -> CancellationState:
    """What became of it, once no node is waited for: a carrier's answer is told by its parcel."""
    if decided.recalled:
        return "partially_confirmed" if done else "recall_requested"
    return "declined" if not done else "partially_confirmed" if declined else "confirmed"


def _cancelled_lines(
    cancelled: Iterable[tuple[int, int]], waiting: Iterable[tuple[int, int]], declined: Iterable[tuple[int, int]]
) -> tuple[CancelledLine, ...]:
    """What became of the units, per line."""
    done, open_, refused = (Counter(units_per_line(units)) for units in (cancelled, waiting, declined))
    return tuple(
        CancelledLine(
            line_no=n,
            requested=done[n] + open_[n] + refused[n],
            cancelled=done[n],
            waiting=open_[n],
            declined=refused[n],
        )
        for n in sorted({*done, *open_, *refused})
    )


def _only_from(command: CancelOrder) -> Bucket | None:
    """Where the units are that the order gives up: those that wait, or those that no node has; else wherever."""
    if command.reason is CancelReason.NO_SUPPLY:
        return Bucket.BACKORDERED
    return Bucket.OPEN if command.reason is CancelReason.OUT_OF_STOCK and command.lines else None
