"""Parcels that do not arrive: counted as lost when nobody scans them, and made good by rule or by a person."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RawValue

from workflows.order_base import Due
from workflows.order_desk import OWN, takes_anything, validated
from workflows.order_shipping import OrderShipping

with workflow.unsafe.imports_passed_through():
    from activities.parcels import MakeGoodAsk, ParcelActivities
    from domain.carrier_trouble import (
        awaits_choice,
        needs_remedy,
        plan_remedy,
        remedy_of,
        rules_of,
        trouble_of,
    )
    from domain.cases import CARRIER_CLAIM, PARCEL_REMEDY
    from domain.lifecycle import FulfillmentState, Team
    from domain.order_state import Fulfillment
    from domain.orders import SYSTEM, CarrierEventType, ParcelTrouble, Remedy
    from domain.quantities import TERMINAL, WITH_THE_CARRIER
    from domain.refusals import OrderRuleError
    from workflows.messages import CarrierEvent, ChooseRemedy, RemedyOutcome

_PARCEL = "parcel:"
BEFORE_REMEDY = timedelta(milliseconds=100)
"""Until then the engine has for good what a parcel's remedy follows from.

Without it a worker could die after the database knows of a scan and of its remedy, and before the engine knows of
either: what comes next would be decided without them.
"""


class OrderTrouble(OrderShipping):
    """The command `choose_remedy`, and what follows from a parcel's trouble."""

    @workflow.update(
        name="choose_remedy",
        description="Refund parcels that do not arrive, or send them again. "
        '`{"command_id": "my-id", "remedy": "reship"}`; also `"shipment_id": "shp_..."`, else all that wait for it. '
        "For one that is on its way back it counts when it is there",
    )
    async def choose_remedy(self, command: ChooseRemedy) -> RemedyOutcome:
        """Decide how parcels are made good."""
        return await self._command(command, "choose_remedy", self._choose_remedy, RemedyOutcome)

    @choose_remedy.validator
    def _check_remedy_update(self, command: ChooseRemedy) -> None:
        validated(self._check_remedy, command, self.s.answered)

    @workflow.signal(name="choose_remedy", description="As the update `choose_remedy`, for senders that cannot wait.")
    @takes_anything
    async def choose_remedy_signal(self, raw: RawValue) -> None:
        """Decide how parcels are made good."""
        await self._signalled(
            raw, ChooseRemedy, "choose_remedy", self._check_remedy, self._choose_remedy, RemedyOutcome
        )

    def _check_remedy(self, command: ChooseRemedy) -> None:
        awaits_choice(self.s, command.shipment_id)

    async def _choose_remedy(self, command: ChooseRemedy) -> RemedyOutcome:
        actor = (await self._opened(command, "choose_remedy")).actor
        try:
            parts = awaits_choice(self.s, command.shipment_id)
        except OrderRuleError as refusal:
            await self._refuse_signal(command, "choose_remedy", refusal.code, refusal.detail)
            raise
        for part in parts:
            part.remedy, part.remedy_by = Remedy(command.remedy), actor
        outcome = RemedyOutcome(
            remedy=command.remedy,
            shipments=tuple(part.shipment_id for part in parts),
            order_version=self.s.version,
        )
        told = (command.model_dump_json(), "applied", outcome.model_dump_json(), actor)
        await self._settle_command(command.command_id, "choose_remedy", *told)
        return outcome.model_copy(update={"order_version": self.s.version})

    # --- one parcel -----------------------------------------------------------------------------------

    async def _see_home(self, part: Fulfillment) -> None:
        """Until it is delivered, or its units are made good."""
        while True:
            await workflow.wait_condition(lambda: part.recorded in TERMINAL or self._is_in_trouble(part))
            if part.recorded in TERMINAL:
                return
            await self._hear_choice(part)
            await workflow.sleep(BEFORE_REMEDY, summary=f"What was told of {part.shipment_id} is kept first")
            await self._until_free()
            if self._is_in_trouble(part):
                await self._make_good(part)

    def _is_in_trouble(self, part: Fulfillment) -> bool:
        return needs_remedy(part) and part.recorded is part.stage

    def _remedy_of(self, part: Fulfillment) -> Remedy:
        """What a person has chosen, else what the rules say."""
        return remedy_of(self.s.rules, part)

    async def _hear_choice(self, part: Fulfillment) -> None:
        """Where the rules leave it to a person: ask, and wait; the parcel may turn up meanwhile."""
        if self._remedy_of(part) is not Remedy.ASK:
            return
        detail = f"parcel {part.shipment_id} is {trouble_of(part)}: refund it, or send it again"
        await self._attention(PARCEL_REMEDY, Team.SERVICE, detail)
        await workflow.wait_condition(lambda: part.remedy is not None or not needs_remedy(part))

    async def _make_good(self, part: Fulfillment) -> None:
        """Plan and mark at once; then write it, and give back what is not sent again."""
        plan = plan_remedy(self.s, part, self._remedy_of(part))
        claim = plan.trouble is not ParcelTrouble.RETURNED
        self.s.replace(plan.added)
        self.s.advance(part, FulfillmentState.CLOSED, plan.target, workflow.now())
        ask = MakeGoodAsk(
            order_id=self.s.order.order_id,
            fulfillment_id=part.fulfillment_id,
            shipment_id=part.shipment_id,
            trouble=plan.trouble,
            remedy=plan.remedy,
            target=plan.target,
            units=part.units,
            added=plan.added,
            credit=self.s.book_credit(),
            promise_state=self._judge_promise(),
            claim_s=rules_of(self.s.rules).claim_s if claim else None,
            actor=part.remedy_by or (part.recall.actor if part.recall and part.recall.wished else SYSTEM),
        )
        await self._database(ParcelActivities.make_good, ask, f"{part.shipment_id} is {plan.trouble}: {plan.remedy}")
        if claim:
            self.s.attention = {**self.s.attention, CARRIER_CLAIM: workflow.now()}
        self._refund_credit()
        part.recorded = part.stage
        self._show()

    # --- its limits -----------------------------------------------------------------------------------

    def _dues(self) -> list[Due]:
        """The watch looks at parcels too: when they count as lost, and when nobody has decided."""
        limits = [
            Due(part.deadline, f"{_PARCEL}{part.fulfillment_id}", "", Team.FULFILLMENT, "")
            for part in self.s.fulfillments.values()
            if self._has_limit(part)
        ]
        return [*super()._dues(), *limits]

    def _has_limit(self, part: Fulfillment) -> bool:
        if part.state is not FulfillmentState.SHIPPED or part.recorded not in WITH_THE_CARRIER:
            return False
        if needs_remedy(part):
            return self._remedy_of(part) is Remedy.ASK
        return self.s.rules.carrier_trouble is not None

    async def _fall_due(self, due: Due) -> None:
        part = self.s.fulfillments.get(due.key.removeprefix(_PARCEL))
        if part is None:
            await super()._fall_due(due)
        elif needs_remedy(part):
            part.remedy = Remedy.REFUND
        else:
            await self._count_as_lost(part)

    async def _count_as_lost(self, part: Fulfillment) -> None:
        """Nobody has scanned it for too long. It is told like a carrier's event, later than all of them."""
        key = f"{OWN}no_scan:{part.shipment_id}:{len(part.scans)}"
        event = CarrierEvent(
            command_id=key,
            shipment_id=part.shipment_id,
            event_id=key,
            type=CarrierEventType.LOST,
            occurred_at=max(workflow.now(), *part.seen.values()),
            actor=SYSTEM,
        )
        await self._take_scan(event, SYSTEM)
