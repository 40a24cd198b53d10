"""Asking a carrier to bring a parcel back. What it does then is told by its scans: `activities/shipments.py`."""

from typing import Literal

from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio import activity

from activities.contract import Checkpoint, Stage, no_checkpoint, retry_me
from domain.orders import Actor, ActorKind, Frozen
from providers.carriers import CarrierProvider, FoundRecall, RecallRequest
from providers.outcomes import NotSent, ProviderUnavailable, Unknown
from store import recalls
from store.orders import OrderChange, change_order

CARRIER = Actor(kind=ActorKind.CARRIER, id="carrier")
RecallWord = Literal["agreed", "too_late", "unsupported", "answer_follows"]


class RecallAsk(Frozen):
    """A parcel that the carrier shall bring back."""

    order_id: str
    shipment_id: str
    tracking_number: str


class RecallReply(Frozen):
    """What the carrier says now."""

    answer: RecallWord


class DeclinedAsk(Frozen):
    """The carrier does not bring it back, and why."""

    order_id: str
    shipment_id: str
    answer: Literal["too_late", "unsupported"]
    command_id: str


class Declined(Frozen):
    """Written."""

    version: int


class RecallActivities:
    """The call is remote; what it decides is written by a local activity, in the order of the decisions."""

    def __init__(self, engine: AsyncEngine, carrier: CarrierProvider, checkpoint: Checkpoint = no_checkpoint) -> None:
        self._engine = engine
        self._carrier = carrier
        self._checkpoint = checkpoint

    @activity.defn(name="recalls.ask")
    async def ask(self, ask: RecallAsk) -> RecallReply:
        """Ask the carrier. Silence is never consent: an unknown answer is looked up, not guessed."""
        key = f"{ask.shipment_id}:recall"
        self._checkpoint("recalls.ask", Stage.BEFORE_EFFECT)
        try:
            if activity.info().attempt > 1:
                found = await self._carrier.look_up_recall(key)
                if isinstance(found, FoundRecall):
                    return RecallReply(answer=found.outcome.kind)
            answer = await self._carrier.recall(RecallRequest(key=key, tracking_number=ask.tracking_number))
        except (NotSent, ProviderUnavailable) as error:
            raise retry_me(type(error).__name__, f"recalls.ask: {error}", error.retry_after_s) from error
        if isinstance(answer, Unknown):
            raise retry_me("ProviderUnknown", f"recalls.ask: {answer.why}")
        self._checkpoint("recalls.ask", Stage.BEFORE_REPORT)
        return RecallReply(answer=answer.kind)

    @activity.defn(name="recalls.decline")
    async def decline(self, ask: DeclinedAsk) -> Declined:
        """The parcel goes on to the customer, who is told."""
        self._checkpoint("recalls.decline", Stage.BEFORE_EFFECT)

        async def work(change: OrderChange) -> None:
            if await recalls.decline(change.connection, ask.shipment_id, ask.answer):
                about = {"shipment_id": ask.shipment_id, "why": ask.answer}
                change.say("recall.declined", CARRIER, ask.answer, ask.command_id, **about)
            self._checkpoint("recalls.decline", Stage.AFTER_EFFECT)

        _, change = await change_order(self._engine, ask.order_id, work)
        self._checkpoint("recalls.decline", Stage.BEFORE_REPORT)
        return Declined(version=change.version)
