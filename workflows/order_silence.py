"""Leaving a node: one that is silent beyond its limit. Its units go elsewhere if anybody has them."""

import asyncio

from temporalio import workflow

from workflows.order_base import Due
from workflows.order_supply import OrderSupply

with workflow.unsafe.imports_passed_through():
    from activities.leaving import LeavingActivities, LeftAsk, LookAsk, RecallAsk
    from domain.leaving import case_of, check_not_given_up, is_silent, node_skus, promise_cause
    from domain.lifecycle import FulfillmentState
    from domain.order_state import Fulfillment
    from domain.orders import SYSTEM, Actor, WhyLeft
    from domain.quantities import AT_THE_NODE, Bucket
    from workflows.messages import NodeReport


class OrderSilence(OrderSupply):
    """What the watch does about silent nodes."""

    async def _fall_due(self, due: Due) -> None:
        part = self.s.fulfillments.get(due.key.partition(":")[0])
        if part is None or not is_silent(self.s, part):
            await super()._fall_due(due)
            return
        self.s.cases.append(due.key)  # each silence once
        command_id = f"system:{WhyLeft.SILENT}:{due.key}"
        self._tracks.append(asyncio.create_task(self._leave(part, WhyLeft.SILENT, command_id, SYSTEM)))

    def _check_report(self, command: NodeReport) -> None:
        check_not_given_up(self._part(command.fulfillment_id))
        super()._check_report(command)

    async def _leave(self, part: Fulfillment, why: WhyLeft, command_id: str, actor: Actor) -> None:
        """Take its units from a node, unless it speaks meanwhile. Where nobody else has them a person decides."""
        before = (part.state, part.stage, part.since)

        def moved() -> bool:
            return before != (part.state, part.stage, part.since)

        await workflow.wait_condition(lambda: self._is_free() or moved())
        if moved():
            return
        looked = await self._database(
            LeavingActivities.look, self._look(part), f"Who else has what {part.node_id} has?"
        )
        await workflow.wait_condition(lambda: self._is_free() or moved())
        if moved():
            return
        if not looked.elsewhere:
            await self._attention(
                case_of(why), "fulfillment", f"{part.node_id}: {part.state}, {why}; no other node has all of it"
            )
            return
        if part.in_call or part.stage in AT_THE_NODE:
            await self._recall(part, why, command_id, actor)
        else:
            await self._left(part, why, command_id, actor)

    def _look(self, part: Fulfillment) -> LookAsk:
        barred = (*self.s.barred, *self.s.avoided, *node_skus(self.s, part))
        return LookAsk(order=self.s.order, units=part.lines, barred=barred)

    async def _recall(self, part: Fulfillment, why: WhyLeft, command_id: str, actor: Actor) -> None:
        """Ask the node to stop. Its answer decides; should it not come, the watch opens a case."""
        part.cancelling, part.stopping, part.before_stop, part.stop_answer = command_id, part.lines, part.state, None
        self.s.advance(part, FulfillmentState.CANCELLATION_REQUESTED, part.stage, workflow.now())
        ask = RecallAsk(
            order_id=self.s.order.order_id,
            fulfillment_id=part.fulfillment_id,
            units=part.units,
            why=why,
            command_id=command_id,
            actor=actor,
        )
        await self._database(LeavingActivities.recall, ask, f"{part.node_id} is left: {why}")
        self._show()
        if await self._ask_to_stop(part, command_id):
            await self._left(part, why, command_id, actor)
        else:
            await self._stays(part, why, command_id, actor)

    async def _left(self, part: Fulfillment, why: WhyLeft, command_id: str, actor: Actor) -> None:
        """Its units are open: they are held elsewhere next."""
        units = part.lines
        part.given_up, self.s.sourced_for = why, promise_cause(why)
        if why is WhyLeft.SILENT:
            self.s.avoided = (*self.s.avoided, *node_skus(self.s, part))
        self.s.advance(part, FulfillmentState.REJECTED, Bucket.OPEN, workflow.now())
        ask = self._left_ask(part, why, command_id, actor)
        ask = ask.model_copy(update={"units": units, "left": True})
        await self._database(LeavingActivities.settle, ask, f"{part.node_id} is left: {why}")
        part.cancelling = None
        part.recorded = part.stage
        self._show()

    async def _stays(self, part: Fulfillment, why: WhyLeft, command_id: str, actor: Actor) -> None:
        """The node could not stop: it ships, late, and a person knows."""
        part.cancelling = None
        if part.state is not FulfillmentState.CANCELLATION_REQUESTED:
            return  # it has left meanwhile
        self.s.advance(part, part.before_stop, part.stage, workflow.now())
        ask = self._left_ask(part, why, command_id, actor)
        await self._database(LeavingActivities.settle, ask, f"{part.node_id} could not stop")
        text = f"{part.node_id} was asked to stop ({why}) and could not: it ships {part.fulfillment_id}"
        await self._attention(case_of(why), "fulfillment", text)

    def _left_ask(self, part: Fulfillment, why: WhyLeft, command_id: str, actor: Actor) -> LeftAsk:
        return LeftAsk(
            order_id=self.s.order.order_id,
            fulfillment_id=part.fulfillment_id,
            units=(),
            left=False,
            why=why,
            command_id=command_id,
            state=part.state,
            stage=part.stage,
            actor=actor,
        )
