"""Changing an order in flight: plan, have everybody agree who must, then change all of it at once.

What can be undone comes first: the money is authorized, then the nodes are asked, and one transaction does the
rest. Whoever says no leaves the order as it was.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RawValue

from workflows.order_desk import takes_anything, validated
from workflows.order_paying import OrderPaying

with workflow.unsafe.imports_passed_through():
    from activities.amendments import (
        Amend,
        Amended,
        AmendmentActivities,
        Begin,
        DeclineAsk,
        NotAmended,
        TakeBack,
        TakenPart,
    )
    from activities.payments import MoneyMoved, PaymentActivities
    from domain.amendment import (
        AmendmentInProgress,
        AmendmentPlan,
        OrderMoved,
        SetShipTo,
        amended_quantities,
        plan_amendment,
    )
    from domain.ids import derived_id
    from domain.lifecycle import PaymentState
    from domain.order_state import Fulfillment, Tender
    from domain.orders import OPERATOR, Actor
    from domain.quantities import Bucket
    from domain.refusals import OrderRuleError
    from workflows.messages import (
        AmendedLine,
        AmendOrder,
        AmendOutcome,
        AmendPreview,
        AmendRefused,
        ShortLine,
    )


class NodeTooLate(OrderRuleError):
    """A node could not stop: what it has goes its way."""

    code = "node_too_late"
    alternative = "return"


class NodeSilent(OrderRuleError):
    """A node did not say in time whether it could stop. Silence is no consent."""

    code = "node_silent_on_stop"


class NotPossible(OrderRuleError):
    """The database says what is missing."""

    def __init__(self, said: NotAmended) -> None:
        super().__init__(said.detail)
        self.code, self.lines = said.code, said.lines


class MoreDeclined(OrderRuleError):
    """The provider holds nothing for what the change costs more; the order is unchanged."""

    code = "payment_declined"

    def __init__(self, detail: str, tender: Tender) -> None:
        super().__init__(detail)
        self.tender = tender


class OrderAmending(OrderPaying):
    """The command `amend`."""

    @workflow.update(
        name="amend",
        description="Change an order in flight: all of it or nothing. "
        '`{"command_id": "my-id", "changes": [{"op": "set_quantity", "line": 1, "quantity": 3}]}`; also `add_line`, '
        "`substitute`, `set_ship_to`, `set_service_level`, `set_requested_by`. Preview first: query `preview_amend`",
    )
    async def amend(self, command: AmendOrder) -> AmendOutcome:
        """Change what is wanted."""
        return await self._command(command, "amend", self._amend, AmendOutcome)

    @amend.validator
    def _check_amend_update(self, command: AmendOrder) -> None:
        validated(self._check_amend, command, self.s.answered)

    @workflow.signal(name="amend", description="As the update `amend`, for senders that cannot wait.")
    @takes_anything
    async def amend_signal(self, raw: RawValue) -> None:
        """Change what is wanted."""
        await self._signalled(raw, AmendOrder, "amend", self._check_amend, self._amend, AmendOutcome)

    @workflow.query(
        name="preview_amend",
        description="What would `amend` do now? Changes nothing; takes the same command, whose actor's role counts.",
    )
    def preview_amend(self, command: AmendOrder) -> AmendPreview | AmendRefused:
        """The plan that `amend` would carry out now, or its refusal."""
        who = command.actor or OPERATOR
        try:
            plan = self._plan_change(command, who)
        except OrderRuleError as refusal:
            return AmendRefused(code=refusal.code, detail=refusal.detail, alternative=refusal.alternative)
        asked = [self.s.fulfillments[part.fulfillment_id] for part in plan.taken.asked] if plan.taken else []
        return AmendPreview(
            outcome=self._amend_outcome(command, plan),
            asked=tuple(part.node_id for part in asked),
            labels=sum(part.tracking_number is not None for part in asked),
            ask=self._amend_ask(command, who, plan),
        )

    def _check_amend(self, command: AmendOrder) -> None:
        if self.s.acceptance is not None and not self._deciding:
            self._plan_change(command, command.actor)

    def _plan_change(self, command: AmendOrder, actor: Actor | None) -> AmendmentPlan:
        """The whole change, or its refusal. One change of an order at a time.

        Raises:
            OrderRuleError: the order's rules say no.
        """
        if self.s.amending not in (None, command.command_id):
            raise AmendmentInProgress("another change of this order is under way; its outcome comes first")
        return plan_amendment(self.s, command.changes, actor)

    async def _amend(self, command: AmendOrder) -> AmendOutcome:
        actor = (await self._opened(command, "amend")).actor
        try:
            plan = await self._plan_when_paid(command, actor)
        except OrderRuleError as refusal:
            await self._refuse_signal(command, "amend", refusal.code, refusal.detail)
            raise
        self.s.amending = command.command_id  # no await between the plan and this mark
        try:
            return await self._change(command, actor, plan)
        finally:
            self.s.amending = None
            self._show()

    async def _plan_when_paid(self, command: AmendOrder, actor: Actor) -> AmendmentPlan:
        """The plan; what makes the order dearer waits for the payment that is under way."""
        while True:
            await self._undecided()
            plan = self._plan_change(command, actor)
            if not plan.to_authorize_minor or self.s.paid():
                return plan
            seen = self._payment_states()
            await workflow.wait_condition(lambda: self._payment_states() != seen)  # noqa: B023 - awaited at once

    def _payment_states(self) -> tuple[PaymentState, ...]:
        return tuple(tender.state for tender in self.s.tenders)

    async def _change(self, command: AmendOrder, actor: Actor, plan: AmendmentPlan) -> AmendOutcome:
        before, tender = plan, None
        parts = [self.s.fulfillments[p.fulfillment_id] for p in plan.taken.at_once] if plan.taken else []
        for part in parts:
            part.changing = True
        try:
            if plan.to_authorize_minor or plan.asks_nodes:
                await self._try_out(command, actor, plan)
                if plan.to_authorize_minor:
                    tender = await self._authorize_more(command, actor, plan)
                plan = await self._plan_secured(command, actor)
                if plan.asks_nodes:
                    await self._have_nodes_stop(command, actor, plan)
                    plan = await self._plan_secured(command, actor)
                if plan.asks_nodes:
                    raise OrderMoved("the order went on while the change was being agreed")
            return await self._change_all(command, actor, before, plan)
        except OrderRuleError as refusal:
            return await self._decline(command, actor, before, tender, refusal)
        finally:
            for part in parts:
                part.changing = False

    async def _try_out(self, command: AmendOrder, actor: Actor, plan: AmendmentPlan) -> None:
        """Before anybody else is asked: is there stock, and a day?

        Raises:
            NotPossible: there is not.
        """
        ask = self._amend_ask(command, actor, plan)
        said = await self._database(AmendmentActivities.preview, ask, "Could the order be changed so?")
        if isinstance(said, NotAmended):
            raise NotPossible(said)

    async def _plan_secured(self, command: AmendOrder, actor: Actor) -> AmendmentPlan:
        """The plan for the order as it is by now; nothing is awaited between it and what the caller marks by it.

        Raises:
            OrderRuleError: what was decided meanwhile came first.
        """
        await self._undecided()
        plan = self._plan_change(command, actor)
        if plan.to_authorize_minor:
            raise OrderMoved("the order became dearer while the change was being agreed")
        return plan

    # --- money ----------------------------------------------------------------------------------------

    async def _authorize_more(self, command: AmendOrder, actor: Actor, plan: AmendmentPlan) -> Tender:
        """Have what it costs more held, on a tender of its own.

        Raises:
            MoreDeclined: the provider says no; nothing is held.
        """
        first, now = self.s.tenders[-1], workflow.now()
        sequence = max(tender.sequence for tender in self.s.tenders) + 1
        tender = Tender(
            tender_id=derived_id("tnd", self.s.order.order_id, sequence),
            sequence=sequence,
            provider=first.provider,
            reference=command.reference or first.reference,
            amount_minor=plan.to_authorize_minor,
            since=now,
            deadline=now,
        )
        begun = await self._database(
            AmendmentActivities.begin,
            self._begin_ask(command, actor, plan).model_copy(
                update={
                    "tender_id": tender.tender_id,
                    "sequence": sequence,
                    "provider": tender.provider,
                    "reference": tender.reference,
                    "amount_minor": tender.amount_minor,
                }
            ),
            f"Want {self._amount(tender.amount_minor)} more",
        )
        self._start_call(tender)
        self.s.tenders.append(tender)
        ask = self._money(tender, 1, tender.amount_minor)
        ask = ask.model_copy(update={"reference": tender.reference, "grant": begun.grant, "for_change": True})
        amount = self._amount(tender.amount_minor)
        said = await self._provider(PaymentActivities.authorize, ask, f"Authorize {amount} more", "payment_unknown")
        tender.in_call = False
        self.s.changed_at = workflow.now()
        if isinstance(said, MoneyMoved):
            tender.state, tender.authorized_minor = PaymentState.AUTHORIZED, said.amount_minor
            tender.authorization_ref = said.provider_ref
            return tender
        tender.state, tender.decline_code = PaymentState.VOIDED, said.code
        raise MoreDeclined(f"the provider declined {amount} more: {said.code}", tender)

    # --- nodes ----------------------------------------------------------------------------------------

    async def _have_nodes_stop(self, command: AmendOrder, actor: Actor, plan: AmendmentPlan) -> None:
        """Ask every node that has some of the units; what they have stopped is open again, whatever comes of it.

        Raises:
            NodeTooLate: one of them could not stop.
            NodeSilent: one of them did not answer in time. Its late answer still counts for its units.
        """
        if plan.taken is None:
            return
        parts = self._mark_asked(plan.taken, command.command_id)
        ask = self._begin_ask(command, actor, plan)
        asked = tuple(part.fulfillment_id for part in parts)
        await self._database(
            AmendmentActivities.begin, ask.model_copy(update={"asked": asked}), "Ask the nodes to stop"
        )
        answers = [asyncio.create_task(self._stop_for_change(part, command.command_id)) for part in parts]
        self._tracks += answers
        limit = max(part.deadline for part in parts)
        await self._until(lambda: all(answer.done() for answer in answers), limit)
        if not all(answer.done() for answer in answers):
            raise NodeSilent("a node did not say in time whether it could stop")
        late = [part.node_id for part, answer in zip(parts, answers, strict=True) if not answer.result()]
        if late:
            raise NodeTooLate(f"{', '.join(late)} could not stop: what is there goes its way")

    async def _stop_for_change(self, part: Fulfillment, command_id: str) -> bool:
        """One node's answer, and what follows for its units. Whether it stopped."""
        stopped = await self._ask_to_stop(part, command_id)
        if not stopped:
            await self._not_stopped(part, command_id, "amend")
            return False
        taken = self._taken(part, part.stopping)
        self._open_again(taken)
        ask = TakeBack(order_id=self.s.order.order_id, command_id=command_id, taken=(taken,))
        await self._database(AmendmentActivities.take_back, ask, f"{part.node_id} stopped: its units are open")
        part.cancelling = None
        self._note_withdrawn(taken)
        return True

    def _taken(self, part: Fulfillment, units: tuple[tuple[int, int], ...]) -> TakenPart:
        state = part.before_stop if part.being_stopped else part.state
        return TakenPart(fulfillment_id=part.fulfillment_id, units=units, whole=part.has_only(units), state=state)

    def _open_again(self, taken: TakenPart) -> None:
        """Synchronous: units leave their fulfillment order, and are open."""
        part = self.s.fulfillments[taken.fulfillment_id]
        if taken.whole:
            self.s.withdraw(part)
            return
        self.s.cut(part, taken.units, Bucket.OPEN)
        self.s.advance(part, taken.state, part.stage, workflow.now())

    def _note_withdrawn(self, taken: TakenPart) -> None:
        """The database has it: the track may end."""
        if taken.whole:
            self.s.fulfillments[taken.fulfillment_id].recorded = Bucket.CANCELLED

    # --- all of it, or nothing ------------------------------------------------------------------------

    async def _change_all(
        self, command: AmendOrder, actor: Actor, before: AmendmentPlan, plan: AmendmentPlan
    ) -> AmendOutcome:
        """One transaction.

        Raises:
            NotPossible: the stock is gone, or the day is.
        """
        outcome = self._amend_outcome(command, plan).model_copy(
            update={"additional_authorization_minor": before.to_authorize_minor}
        )
        ask = self._amend_ask(command, actor, plan)
        ask = ask.model_copy(update={"command": self._ref(command, "amend", outcome)})
        self._deciding = True
        said = await self._database(AmendmentActivities.apply, ask, f"Change the order: {', '.join(plan.kinds)}")
        if isinstance(said, Amended):
            self._note_change(plan, ask, said)
        self._deciding = False
        if isinstance(said, NotAmended):
            raise NotPossible(said)
        nodes = tuple(sorted({unit.node_id for unit in said.placements}))
        promised = str(said.promised_by) if said.promised_by else outcome.promised_by
        told = {"promised_by": promised, "nodes": nodes, "waiting": said.waiting, "waits_until": said.waits_until}
        return outcome.model_copy(update={**told, "order_version": self.s.version})

    def _note_change(self, plan: AmendmentPlan, ask: Amend, done: Amended) -> None:
        """Synchronous: what the database has is what the order knows."""
        for taken in ask.taken:
            self._open_again(taken)
            self._note_withdrawn(taken)
        self.s.move(ask.backordered_units, Bucket.BACKORDERED, Bucket.OPEN)
        self.s.release_held(ask.held_units, Bucket.OPEN)
        self.s.move(ask.removed, Bucket.OPEN, Bucket.CANCELLED)
        for one in plan.added:
            self.s.add_line(one)
        self.s.order = plan.order
        self.s.requested_by = plan.requested_by or self.s.requested_by
        self.s.changed_at = workflow.now()
        if done.promised_until is not None:
            self.s.generation = ask.generation
            self._note_held(done.placements, done.reserved_until)
            self.s.place_by(done.placed_by, done.placed_until)
            self.s.promised_by, self.s.promised_until = done.promised_by, done.promised_until
            self.s.current_by = self.s.current_until = None
            self.s.promise_state = "on_track"
            self.s.cases = [case for case in self.s.cases if case != "promise"]

    async def _decline(
        self,
        command: AmendOrder,
        actor: Actor,
        plan: AmendmentPlan,
        tender: Tender | None,
        refusal: OrderRuleError,
    ) -> AmendOutcome:
        """The change does not happen: what was held for it is released."""
        if tender is not None:
            await self._void(tender)
        declined = refusal.tender if isinstance(refusal, MoreDeclined) else None
        outcome = self._amend_outcome(command, plan).model_copy(
            update={
                "state": "declined",
                "code": refusal.code,
                "detail": refusal.detail,
                "total_after_minor": self.s.owed_minor,
                "lines": (),
                "tax_delta_minor": 0,
                "shipping_delta_minor": 0,
                "additional_authorization_minor": plan.to_authorize_minor,
                "decline_code": declined.decline_code if declined else None,
                "lines_short": _short_lines(refusal),
            }
        )
        ask = DeclineAsk(
            order_id=self.s.order.order_id,
            command_id=command.command_id,
            code=refusal.code,
            tender_id=declined.tender_id if declined else None,
            actor=actor,
            command=self._ref(command, "amend", outcome),
        )
        done = await self._database(AmendmentActivities.decline, ask, f"The change is declined: {refusal.code}")
        return outcome.model_copy(update={"order_version": done.version})

    # --- asks and answers -----------------------------------------------------------------------------

    def _begin_ask(self, command: AmendOrder, actor: Actor, plan: AmendmentPlan) -> Begin:
        return Begin(
            order_id=self.s.order.order_id,
            amendment_id=derived_id("amd", self.s.order.order_id, command.command_id),
            command_id=command.command_id,
            kinds=plan.kinds,
            generation=self.s.generation + 1,
            owed_before_minor=plan.owed_before_minor,
            owed_after_minor=plan.owed_after_minor,
            actor=actor,
        )

    def _amend_ask(self, command: AmendOrder, actor: Actor, plan: AmendmentPlan) -> Amend:
        """The change for the database. In a try-out what nodes must still give counts as given."""
        taken = plan.taken
        parts = () if taken is None else (*taken.at_once, *taken.asked)
        return Amend(
            order=plan.order,
            amendment_id=derived_id("amd", self.s.order.order_id, command.command_id),
            command_id=command.command_id,
            kinds=plan.kinds,
            generation=self.s.generation + 1,
            taken=tuple(self._taken(self.s.fulfillments[p.fulfillment_id], p.units) for p in parts),
            backordered_units=() if taken is None else taken.backordered_units,
            held_units=() if taken is None else taken.held_units,
            removed=plan.removed,
            added=plan.added,
            wanted=plan.wanted,
            may_wait=plan.may_wait,
            barred=self.s.barred,
            no_longer_owed_minor=self._owed_less_by(plan),
            owed_before_minor=plan.owed_before_minor,
            owed_after_minor=plan.owed_after_minor,
            requested_by=plan.requested_by or self.s.requested_by,
            address=any(isinstance(change, SetShipTo) for change in command.changes),
            actor=actor,
        )

    def _owed_less_by(self, plan: AmendmentPlan) -> tuple[tuple[int, int], ...]:
        lines = self.s.lines
        return tuple(
            (n, lines[n].shares.value_to_cancel(0, lines[n].buckets.cancelled + units)) for n, units in plan.removed
        )

    def _amend_outcome(self, command: AmendOrder, plan: AmendmentPlan) -> AmendOutcome:
        promised = self.s.current_by or self.s.promised_by
        return AmendOutcome(
            amendment_id=derived_id("amd", self.s.order.order_id, command.command_id),
            state="confirmed",
            lines=tuple(AmendedLine(*line) for line in amended_quantities(self.s, plan)),
            total_before_minor=plan.owed_before_minor,
            total_after_minor=plan.owed_after_minor,
            tax_delta_minor=plan.tax_delta_minor,
            shipping_delta_minor=plan.shipping_delta_minor,
            additional_authorization_minor=plan.to_authorize_minor,
            promised_before=str(promised) if promised else None,
            promised_by=str(promised) if promised else None,
            order_version=self.s.version,
        )

    def _start_call(self, tender: Tender) -> None:
        tender.in_call, tender.since = True, workflow.now()
        tender.deadline = tender.since + timedelta(seconds=self.s.rules.payment_pending_s)


def _short_lines(refusal: OrderRuleError) -> Sequence[ShortLine]:
    lines = refusal.lines if isinstance(refusal, NotPossible) else ()
    return tuple(ShortLine(*line) for line in lines)
