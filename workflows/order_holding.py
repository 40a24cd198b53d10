"""Holding: stop some steps of an order until somebody, or the hold's limit, decides."""

import asyncio

from temporalio import workflow
from temporalio.common import RawValue

from workflows.order_base import Due
from workflows.order_cancelling import OrderCancelling
from workflows.order_desk import OWN, takes_anything, validated

with workflow.unsafe.imports_passed_through():
    from activities.contract import CommandRef
    from activities.records import EndHoldAsk, PlaceHoldAsk, RecordActivities
    from domain.cases import overdue_case
    from domain.holds import (
        HoldAsk,
        after_limit,
        new_hold,
        on_hold,
        plan_hold,
        plan_rejection,
        plan_release,
        rejection_reason,
    )
    from domain.ids import derived_id
    from domain.lifecycle import HoldState
    from domain.order_state import Hold
    from domain.orders import OPERATOR, SYSTEM, Actor, AtLimit, HoldBlock
    from domain.permissions import role_of
    from domain.refusals import OrderRuleError
    from workflows.messages import CancelOrder, HoldOutcome, LineUnits, PlaceHold, ReleaseHold


class OrderHolding(OrderCancelling):
    """The commands `place_hold` and `release_hold`, and what a hold's limit does."""

    # --- place ----------------------------------------------------------------------------------------

    @workflow.update(
        name="place_hold",
        description="Stop steps of the order, or of what contains one line: schedule, release, ship or refund. "
        '`{"command_id": "my-id", "type": "manual", "reason": "call_customer"}`; also `"line_no": 1`, '
        '`"blocks": ["release"]`, `"lasts_s": 3600`',
    )
    async def place_hold(self, command: PlaceHold) -> HoldOutcome:
        """Stop some steps."""
        return await self._command(command, "place_hold", self._place_hold, HoldOutcome)

    @place_hold.validator
    def _check_place_update(self, command: PlaceHold) -> None:
        validated(self._check_place, command, self.s.answered)

    @workflow.signal(name="place_hold", description="As the update `place_hold`, for senders that cannot wait.")
    @takes_anything
    async def place_hold_signal(self, raw: RawValue) -> None:
        """Stop some steps."""
        await self._signalled(raw, PlaceHold, "place_hold", _by_its_row, self._place_hold, HoldOutcome)

    def _check_place(self, command: PlaceHold) -> None:
        if self.s.acceptance is not None and not self._deciding:
            plan_hold(self.s, self._hold_ask(command), workflow.now())

    def _hold_ask(self, command: PlaceHold) -> HoldAsk:
        return HoldAsk(
            hold_id=derived_id("hld", self.s.order.order_id, command.command_id),
            type=command.type,
            line_no=command.line_no,
            blocks=command.blocks,
            lasts_s=command.lasts_s,
        )

    async def _place_hold(self, command: PlaceHold) -> HoldOutcome:
        opened = await self._opened(command, "place_hold", moves=False)
        await self._undecided()
        ask, now = self._hold_ask(command), workflow.now()
        try:
            hold = plan_hold(self.s, ask, now)
        except OrderRuleError as refusal:
            if not opened.applied:
                await self._refuse_signal(command, "place_hold", refusal.code, refusal.detail)
                raise
            hold = new_hold(ask, now)  # it has its row: it stands, even where it comes too late to stop anything
        return await self._hold(hold, command, opened.actor)

    async def _hold(self, hold: Hold, command: PlaceHold, actor: Actor) -> HoldOutcome:
        self.s.holds[hold.hold_id] = hold  # from here on the gates are closed
        if HoldBlock.SCHEDULE in hold.blocks and self.s.reserved_until:
            self.s.reserved_until = max(self.s.reserved_until, hold.deadline)
        self.s.changed_at = workflow.now()
        outcome = self._hold_outcome(hold)
        ask = PlaceHoldAsk(
            order_id=self.s.order.order_id,
            hold=hold,
            reason=command.reason,
            actor=actor,
            command=self._ref(command, "place_hold", outcome),
        )
        recorded = await self._database(RecordActivities.place_hold, ask, f"Place a {hold.type} hold")
        if recorded.state is not HoldState.PLACED:
            self._open_gates(hold, recorded.state)
        self._show()
        return outcome.model_copy(update={"order_version": recorded.version})

    # --- release or reject ----------------------------------------------------------------------------

    @workflow.update(
        name="release_hold",
        description='End a hold. `{"command_id": "my-id", "hold_id": "hld_...", "decision": "release"}`; with the '
        'decision `"reject"` what it holds is cancelled. The type of the hold says which roles may',
    )
    async def release_hold(self, command: ReleaseHold) -> HoldOutcome:
        """End a hold."""
        return await self._command(command, "release_hold", self._release_hold, HoldOutcome)

    @release_hold.validator
    def _check_release_update(self, command: ReleaseHold) -> None:
        validated(self._check_release, command, self.s.answered)

    @workflow.signal(name="release_hold", description="As the update `release_hold`, for senders that cannot wait.")
    @takes_anything
    async def release_hold_signal(self, raw: RawValue) -> None:
        """End a hold."""
        await self._signalled(raw, ReleaseHold, "release_hold", _by_its_row, self._release_hold, HoldOutcome)

    def _check_release(self, command: ReleaseHold) -> None:
        """By the role that the message claims. The role that is recorded has the last word."""
        if not self._deciding:
            self._plan_end(command, command.actor or OPERATOR)

    def _plan_end(self, command: ReleaseHold, actor: Actor) -> Hold:
        hold = plan_release(self.s, command.hold_id, role_of(actor))
        if command.decision == "reject":
            plan_rejection(self.s, hold)
        return hold

    async def _release_hold(self, command: ReleaseHold) -> HoldOutcome:
        opened = await self._opened(command, "release_hold")
        await self._undecided()
        rejects = command.decision == "reject"
        try:
            hold = self._plan_end(command, opened.actor)
        except OrderRuleError as refusal:
            known = self.s.holds.get(command.hold_id)
            if known is None or not opened.applied:
                await self._refuse_signal(command, "release_hold", refusal.code, refusal.detail)
                raise
            hold, rejects = known, False  # it has ended by its row, and nothing is left to cancel
        cancellation_id = self._reject(hold, opened.actor) if rejects else None
        state = HoldState.REJECTED if command.decision == "reject" else HoldState.RELEASED
        resumed = self._open_gates(hold, state)
        outcome = self._hold_outcome(hold, cancellation_id)
        ref = self._ref(command, "release_hold", outcome)
        version = await self._record_end(hold, opened.actor, resumed, command.reason, ref)
        return outcome.model_copy(update={"order_version": version})

    def _reject(self, hold: Hold, actor: Actor) -> str:
        """Cancel what it holds, while the gates are still closed: its units are marked before anything goes on.

        The nodes that must agree are heard beside everything else. Returns the id of the cancellation.
        """
        units = tuple(LineUnits(*unit) for unit in plan_rejection(self.s, hold))
        command = CancelOrder(
            command_id=f"{OWN}hold:{hold.hold_id}", reason=rejection_reason(hold), lines=units, actor=actor
        )
        decided = self._decide_cancel(command, SYSTEM)  # the right to reject is the hold type's own rule
        self._tracks.append(asyncio.create_task(self._carry_out(command, actor, decided)))
        return derived_id("can", command.command_id)

    def _open_gates(self, hold: Hold, state: HoldState) -> tuple[str, ...]:
        """Synchronous: the hold has ended. Returns the fulfillment orders that go on, with a new limit for it."""
        waiting = [part for part in self.s.fulfillments.values() if on_hold(self.s, part)]
        hold.state = state
        now = workflow.now()
        self.s.changed_at = now
        if self.s.supply_look_at is not None:
            self.s.supply_look_at = now  # what it kept back may be there by now
        resumed = [part for part in waiting if not on_hold(self.s, part)]
        for part in resumed:
            self.s.advance(part, part.state, part.stage, now)
        return tuple(part.fulfillment_id for part in resumed)

    async def _record_end(
        self,
        hold: Hold,
        actor: Actor,
        resumed: tuple[str, ...],
        reason: str,
        command: CommandRef | None = None,
    ) -> int:
        ask = EndHoldAsk(
            order_id=self.s.order.order_id,
            hold_id=hold.hold_id,
            type=hold.type,
            state=hold.state,
            actor=actor,
            resumed=resumed,
            reason=reason,
            command=command,
        )
        recorded = await self._database(RecordActivities.end_hold, ask, f"The {hold.type} hold is {hold.state}")
        self._show()
        return recorded.version

    def _hold_outcome(self, hold: Hold, cancellation_id: str | None = None) -> HoldOutcome:
        return HoldOutcome(
            hold_id=hold.hold_id,
            type=hold.type,
            state=hold.state,
            blocks=hold.blocks,
            line_no=hold.line_no,
            owner=hold.owner,
            at_limit=hold.at_limit,
            placed_at=hold.since,
            expires_at=hold.deadline,
            cancellation_id=cancellation_id,
            order_version=self.s.version,
        )

    # --- its limit ------------------------------------------------------------------------------------

    def _dues(self) -> list[Due]:
        """The watch looks at the limits of holds too; an overdue one it has seen."""
        holds = [hold for hold in self.s.live_holds if not hold.overdue]
        limits = [Due(h.deadline, f"hold:{h.hold_id}", overdue_case(h.type), h.owner, "") for h in holds]
        return [*super()._dues(), *limits]

    async def _fall_due(self, due: Due) -> None:
        hold = self.s.holds.get(due.key.removeprefix("hold:"))
        if hold is None:
            await super()._fall_due(due)
            return
        await self._undecided()
        if hold.live:  # somebody may have been quicker
            await self._at_limit(hold)

    async def _at_limit(self, hold: Hold) -> None:
        action = after_limit(self.s, hold)
        if action is AtLimit.ESCALATE:
            hold.overdue = True
            detail = f"the {hold.type} hold {hold.hold_id} has reached its limit: release or reject it"
            await self._attention(overdue_case(hold.type), hold.owner, detail)
            return
        if action is AtLimit.REJECT:
            self._reject(hold, SYSTEM)
        resumed = self._open_gates(hold, HoldState.EXPIRED)
        await self._record_end(hold, SYSTEM, resumed, action)


def _by_its_row(command: PlaceHold | ReleaseHold) -> None:
    """A signal is judged by the row of its command: what was written before is not refused any more."""
