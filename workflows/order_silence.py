"""Leaving a node that is silent beyond its limit, or takes no new work: its units go elsewhere if anybody has them."""

import asyncio
from collections.abc import Callable

from temporalio import workflow
from temporalio.common import RawValue

from workflows.order_base import Due
from workflows.order_desk import OWN, takes_anything, validated
from workflows.order_supply import OrderSupply

with workflow.unsafe.imports_passed_through():
    from activities.leaving import LeavingActivities, LeftAsk, LookAsk, RecallAsk
    from domain.leaving import (
        Leaving,
        case_of,
        check_not_given_up,
        is_silent,
        may_leave_frozen,
        node_skus,
        promise_cause,
    )
    from domain.lifecycle import FulfillmentState
    from domain.order_state import Fulfillment
    from domain.orders import SYSTEM, WhyLeft
    from domain.quantities import AT_THE_NODE, Bucket
    from workflows.messages import LeaveNode, LeaveOutcome, NodeReport


class OrderSilence(OrderSupply):
    """The command `leave_node`, and what the watch does about silent nodes."""

    # --- a node that takes no new work ----------------------------------------------------------------

    @workflow.update(
        name="leave_node",
        description="Source what a frozen node has not accepted again, without it. "
        '`{"command_id": "my-id", "fulfillment_id": "ful_..."}`',
    )
    async def leave_node(self, command: LeaveNode) -> LeaveOutcome:
        """Leave a node."""
        return await self._command(command, "leave_node", self._leave_node, LeaveOutcome)

    @leave_node.validator
    def _check_leave_update(self, command: LeaveNode) -> None:
        validated(self._check_leave, command, self.s.answered)

    @workflow.signal(name="leave_node", description="As the update `leave_node`, for senders that cannot wait.")
    @takes_anything
    async def leave_node_signal(self, raw: RawValue) -> None:
        """Leave a node."""
        await self._signalled(raw, LeaveNode, "leave_node", self._check_leave, self._leave_node, LeaveOutcome)

    def _check_leave(self, command: LeaveNode) -> None:
        self._part(command.fulfillment_id)

    async def _leave_node(self, command: LeaveNode) -> LeaveOutcome:
        """The answer comes at once; what the node says to it follows in the timeline."""
        part = self._part(command.fulfillment_id)
        actor = (await self._opened(command, "leave_node")).actor
        leaves = may_leave_frozen(part)
        outcome = LeaveOutcome(
            applied=leaves,
            fulfillment_id=part.fulfillment_id,
            node_id=part.node_id,
            order_version=self.s.version,
            why=None if leaves else f"it is {part.state}: the node goes on with it",
        )
        told = (command.model_dump_json(), "applied", outcome.model_dump_json(), actor)
        await self._settle_command(command.command_id, "leave_node", *told)
        if leaves:
            leaving = Leaving(WhyLeft.FROZEN, command.command_id, actor)
            self._tracks.append(asyncio.create_task(self._leave(part, leaving, lambda: may_leave_frozen(part))))
        return outcome.model_copy(update={"order_version": self.s.version})

    # --- a silent node --------------------------------------------------------------------------------

    async def _fall_due(self, due: Due) -> None:
        part = self.s.fulfillments.get(due.key.partition(":")[0])
        if part is None or not is_silent(self.s, part):
            await super()._fall_due(due)
            return
        self.s.cases.append(due.key)  # each silence once
        leaving = Leaving(WhyLeft.SILENT, f"{OWN}{WhyLeft.SILENT}:{due.key}", SYSTEM)
        since, at_once = part.since, self.s.rules.leaves_silent_nodes
        silent = self._leave(part, leaving, lambda: part.since == since, at_once=at_once)
        self._tracks.append(asyncio.create_task(silent))

    def _check_report(self, command: NodeReport) -> None:
        check_not_given_up(self._part(command.fulfillment_id))
        super()._check_report(command)

    # --- both -----------------------------------------------------------------------------------------

    async def _leave(
        self, part: Fulfillment, leaving: Leaving, still: Callable[[], bool], *, at_once: bool = True
    ) -> None:
        """Take its units from a node, unless it speaks meanwhile.

        Where nobody else has them, or not `at_once`, a person is asked; `retry_now` looks again.
        """
        elsewhere = at_once and await self._is_elsewhere(part, still)
        while still() and not elsewhere:
            seen = self._retries
            text = f"{part.node_id} ({leaving.why}), {part.state}"
            why = "no other node has all of it" if at_once else "another node is looked for when told to retry"
            await self._attention(case_of(leaving.why), "fulfillment", f"{text}: {why}")
            await workflow.wait_condition(lambda seen=seen: self._retries > seen or not still())  # type: ignore[misc]
            elsewhere = await self._is_elsewhere(part, still)
        if not still():
            return
        if part.in_call or part.stage in AT_THE_NODE:
            await self._recall(part, leaving)
        else:
            await self._left(part, leaving)

    async def _is_elsewhere(self, part: Fulfillment, still: Callable[[], bool]) -> bool:
        """Whether another node has all of its units. Comes back when the order is free for a decision, or it moved."""
        await self._freed(still)
        if not still():
            return False
        barred = (*self.s.barred, *self.s.avoided, *node_skus(self.s, part))
        ask = LookAsk(order=self.s.order, units=part.lines, barred=barred)
        looked = await self._database(LeavingActivities.look, ask, f"Who else has what {part.node_id} has?")
        await self._freed(still)
        return looked.elsewhere

    async def _freed(self, still: Callable[[], bool]) -> None:
        """Wait until the order may decide, or it is too late to. All that wait are woken at once: each looks again."""
        while still() and not self._is_free():
            await workflow.wait_condition(lambda: self._is_free() or not still())

    async def _recall(self, part: Fulfillment, leaving: Leaving) -> None:
        """Ask the node to stop. Its answer decides; should it not come, the watch opens a case."""
        part.cancelling, part.stopping = leaving.command_id, part.lines
        part.before_stop, part.stop_answer = part.state, None
        self.s.advance(part, FulfillmentState.CANCELLATION_REQUESTED, part.stage, workflow.now())
        ask = RecallAsk(
            order_id=self.s.order.order_id,
            fulfillment_id=part.fulfillment_id,
            units=part.units,
            why=leaving.why,
            command_id=leaving.command_id,
            actor=leaving.actor,
        )
        await self._database(LeavingActivities.recall, ask, f"{part.node_id} is left: {leaving.why}")
        self._show()
        if await self._ask_to_stop(part, leaving.command_id):
            await self._left(part, leaving)
        else:
            await self._stays(part, leaving)

    async def _left(self, part: Fulfillment, leaving: Leaving) -> None:
        """Its units are open: they are held elsewhere next."""
        part.given_up, self.s.sourced_for = leaving.why, promise_cause(leaving.why)
        self.s.avoided = (*self.s.avoided, *node_skus(self.s, part))
        self.s.advance(part, FulfillmentState.REJECTED, Bucket.OPEN, workflow.now())
        ask = self._left_ask(part, leaving, left=True)
        await self._database(LeavingActivities.settle, ask, f"{part.node_id} is left: {leaving.why}")
        part.cancelling = None
        part.recorded = Bucket.OPEN
        self._show()

    async def _stays(self, part: Fulfillment, leaving: Leaving) -> None:
        """The node could not stop: it ships, and a person knows."""
        part.cancelling = None
        if part.state is not FulfillmentState.CANCELLATION_REQUESTED:
            return  # it has left meanwhile
        self.s.advance(part, part.before_stop, part.stage, workflow.now())
        ask = self._left_ask(part, leaving, left=False)
        await self._database(LeavingActivities.settle, ask, f"{part.node_id} could not stop")
        text = f"{part.node_id} was asked to stop ({leaving.why}) and could not: it ships {part.fulfillment_id}"
        await self._attention(case_of(leaving.why), "fulfillment", text)

    def _left_ask(self, part: Fulfillment, leaving: Leaving, *, left: bool) -> LeftAsk:
        return LeftAsk(
            order_id=self.s.order.order_id,
            fulfillment_id=part.fulfillment_id,
            units=part.lines,
            left=left,
            why=leaving.why,
            command_id=leaving.command_id,
            state=part.state,
            stage=part.stage,
            actor=leaving.actor,
        )
