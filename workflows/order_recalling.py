"""Parcels that their carrier is asked to bring back. Nothing else of the order waits for its answer."""

import asyncio
from collections.abc import Sequence

from temporalio import workflow

from workflows.order_base import Due
from workflows.order_desk import OWN
from workflows.order_trouble import OrderTrouble

with workflow.unsafe.imports_passed_through():
    from activities.recalls import CARRIER, DeclinedAsk, RecallActivities, RecallAsk
    from domain.cases import RECALL_FAILING, RECALL_UNANSWERED
    from domain.lifecycle import RecallState, Team, awaits_recall
    from domain.order_state import Fulfillment
    from domain.orders import CarrierEventType
    from workflows.messages import CarrierEvent


LAST_ANSWER_S = 16
"""As long as one attempt of a call may last."""


class OrderRecalling(OrderTrouble):
    """What follows from a cancellation with `recall`."""

    def _ask_carriers(self, parts: Sequence[Fulfillment]) -> None:
        self._recalls += [asyncio.create_task(self._bring_back(part)) for part in parts]

    async def _hear_carriers(self) -> None:
        """Let an answer come that is under way as the order ends.

        The engine refuses an end that crosses an answer, and breaks off the updates that were to end with it.
        """
        asking = [task for task in self._recalls if not task.done()]
        if asking:
            await workflow.wait(asking, timeout=LAST_ANSWER_S)

    def _is_recall_open(self, part: Fulfillment) -> bool:
        """Whether its answer still counts: a parcel that was scanned meanwhile may have decided it."""
        return awaits_recall(part.stage, part.tracking, part.recall.state if part.recall else None)

    async def _bring_back(self, part: Fulfillment) -> None:
        """Ask, and do what the answer says. What the carrier has to look up first is told by its scans."""
        ask = RecallAsk(
            order_id=self.s.order.order_id,
            shipment_id=part.shipment_id,
            tracking_number=part.tracking_number or "",
        )
        summary = f"Ask the carrier to bring {part.shipment_id} back"
        reply = await self._provider(RecallActivities.ask, ask, summary, RECALL_FAILING)
        if reply.answer == "answer_follows":
            return
        await self._catch_up()
        if not self._is_recall_open(part):
            return
        if reply.answer == "agreed":
            await self._turns_round(part)
        else:
            await self._goes_on(part, RecallState(reply.answer))

    async def _turns_round(self, part: Fulfillment) -> None:
        """It is on its way back: told like a carrier's event, later than all of them."""
        key = f"{OWN}recall:{part.shipment_id}"
        event = CarrierEvent(
            command_id=key,
            shipment_id=part.shipment_id,
            event_id=key,
            type=CarrierEventType.RETURN_TO_SENDER,
            occurred_at=max(workflow.now(), *part.seen.values()),
            actor=CARRIER,
        )
        await self._take_scan(event, CARRIER)
        self._show()

    async def _goes_on(self, part: Fulfillment, answer: RecallState) -> None:
        """It is too late, or this carrier brings nothing back."""
        if part.recall is None:
            return
        part.recall = part.recall.model_copy(update={"state": answer})
        ask = DeclinedAsk(
            order_id=self.s.order.order_id,
            shipment_id=part.shipment_id,
            answer=answer.value,
            command_id=part.recall.command_id,
        )
        await self._database(RecallActivities.decline, ask, f"{part.shipment_id} is not brought back: {answer}")
        self._show()

    def _dues(self) -> list[Due]:
        """The watch looks at carriers too that do not answer."""
        limits = [
            Due(
                part.recall.until,
                f"recall:{part.fulfillment_id}",
                RECALL_UNANSWERED,
                Team.FULFILLMENT,
                f"the carrier does not say whether it brings {part.shipment_id} back",
            )
            for part in self.s.fulfillments.values()
            if part.recall is not None and self._is_recall_open(part)
        ]
        return [*super()._dues(), *(due for due in limits if due.key not in self.s.cases)]
