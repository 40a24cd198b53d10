"""Waiting for supply: look for it when somebody tells of it, and now and then; give up when the limit has passed."""

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RawValue

from workflows.order_amending import OrderAmending
from workflows.order_base import Due
from workflows.order_desk import takes_anything, validated

with workflow.unsafe.imports_passed_through():
    from activities.amendments import Amend, Amended
    from activities.contract import CommandRef
    from activities.stock import StockReserved
    from activities.supply import FillAsk, SupplyActivities, SupplyTaken
    from domain.amendment import AmendmentPlan
    from domain.backorders import SupplyArrived, check_waits_for, lifted, units_to_fill, units_to_give_up
    from domain.orders import SYSTEM, Actor, CancelReason, PlaceOrder
    from domain.quantities import Bucket
    from workflows.messages import SupplyOutcome

_LOOK, _LIMIT = "supply:look", "supply:limit"


class OrderSupply(OrderAmending):
    """The command `supply_arrived`, and what the clock does for units that wait."""

    def __init__(self, order: PlaceOrder) -> None:
        super().__init__(order)
        self._serving = False  # a look for supply, or its end, is under way

    @workflow.update(
        name="supply_arrived",
        description="Units have come that this order may wait for. "
        '`{"command_id": "my-id", "sku": "LAMP-OAK"}`. Who waits is served by priority, then by age',
    )
    async def supply_arrived(self, command: SupplyArrived) -> SupplyOutcome:
        """Look for what the order waits for."""
        return await self._command(command, "supply_arrived", self._supply_arrived, SupplyOutcome)

    @supply_arrived.validator
    def _check_supply_update(self, command: SupplyArrived) -> None:
        validated(self._check_supply, command, self.s.answered)

    @workflow.signal(name="supply_arrived", description="As the update `supply_arrived`, for senders that cannot wait.")
    @takes_anything
    async def supply_arrived_signal(self, raw: RawValue) -> None:
        """Look for what the order waits for."""
        await self._signalled(
            raw, SupplyArrived, "supply_arrived", self._check_supply, self._supply_arrived, SupplyOutcome
        )

    def _check_supply(self, command: SupplyArrived) -> None:
        if self.s.acceptance is not None and not self._deciding:
            check_waits_for(self.s, command.sku)

    async def _supply_arrived(self, command: SupplyArrived) -> SupplyOutcome:
        actor = (await self._opened_since_2(command, "supply_arrived", SYSTEM, moves=False)).actor
        await self._until_free()
        check_waits_for(self.s, command.sku)
        outcome = SupplyOutcome(applied=False, sku=command.sku, order_version=self.s.version)
        if not units_to_fill(self.s):
            self.s.supply_look_at = workflow.now()  # as soon as it may
            outcome = outcome.model_copy(update={"why": "the payment, or a hold that is overdue, comes first"})
            told = (command.model_dump_json(), "applied", outcome.model_dump_json(), actor)
            await self._settle_command(command.command_id, "supply_arrived", *told)
            return outcome.model_copy(update={"order_version": self.s.version})
        taken = await self._fill(actor, self._ref(command, "supply_arrived", outcome))
        units = sum(filled.quantity for filled in taken.placements)
        return outcome.model_copy(update={"applied": units > 0, "units": units, "order_version": self.s.version})

    async def _fill(self, actor: Actor = SYSTEM, command: CommandRef | None = None) -> SupplyTaken:
        """Hold what waits and a node has by now. Call it when no decision is being written."""
        self.s.generation += 1
        self.s.supply_looks += 1
        self._deciding = True
        self._look_again_later()
        units = units_to_fill(self.s)
        ask = FillAsk(
            order=self.s.order,
            number=self.s.supply_looks,
            generation=self.s.generation,
            units=units,
            all_waiting=self.s.quantities.backordered,
            barred=self.s.barred,
            placed_by=self.s.placed_by,
            placed_until=self.s.placed_until,
            actor=actor,
            command=command,
        )
        count = sum(quantity for _, quantity in units)
        try:
            taken = await self._database(SupplyActivities.fill, ask, f"Look for {count} units that wait for supply")
            self._note_filled(taken)
        finally:
            self._deciding = False
        if taken.placements:
            self._show()
        return taken

    def _note_filled(self, taken: SupplyTaken) -> None:
        """Synchronous: what the database has is what the order knows."""
        if not taken.placements:
            return
        self.s.move(tuple((n, quantity) for n, _, quantity in taken.placements), Bucket.BACKORDERED, Bucket.OPEN)
        self._note_held(taken.placements, taken.reserved_until)
        came = {(node, self.s.lines[line_no].sku) for line_no, node, _ in taken.placements}
        self.s.barred = lifted(self.s.barred, came)
        self.s.place_by(taken.placed_by, taken.placed_until)
        if taken.promised_until is not None:
            self.s.current_by, self.s.current_until = taken.promised_by, taken.promised_until
        self.s.changed_at = workflow.now()

    def _note_reserved(self, outcome: StockReserved) -> None:
        """Synchronous: what is held, and what waits for supply."""
        self._note_held(outcome.placements, outcome.reserved_until)
        self.s.place_by(outcome.placed_by, outcome.placed_until)
        if outcome.waits_since is not None and outcome.waits_until is not None:
            self.s.wait_for_supply(outcome.waiting, outcome.waits_since, outcome.waits_until)
            self._look_again_later()

    def _note_change(self, plan: AmendmentPlan, ask: Amend, done: Amended) -> None:
        """Synchronous: what came in addition may wait for supply."""
        super()._note_change(plan, ask, done)
        if done.waits_since is not None and done.waits_until is not None:
            self.s.wait_for_supply(done.waiting, done.waits_since, done.waits_until)
            self._look_again_later()

    def _show_waiting(self, outcome: StockReserved) -> None:
        if outcome.waiting:
            self._show()

    def _look_again_later(self) -> None:
        self.s.supply_look_at = workflow.now() + timedelta(seconds=self.s.rules.backorder_retry_s)

    # --- the clock ------------------------------------------------------------------------------------

    def _dues(self) -> list[Due]:
        """The watch looks for supply now and then, in case nobody told of it, and ends the waiting at its limit."""
        found = super()._dues()
        if self._serving:
            return found
        waiting = [line for line in self.s.lines.values() if line.buckets.backordered]
        if waiting and self.s.supply_look_at and self.s.paid():
            found.append(Due(self.s.supply_look_at, _LOOK, "supply", "inventory", ""))
        limits = [line.waits_until for line in waiting if line.waits_until is not None]
        if limits:
            found.append(Due(min(limits), _LIMIT, "supply", "inventory", ""))
        return found

    async def _fall_due(self, due: Due) -> None:
        if due.key not in (_LOOK, _LIMIT):
            await super()._fall_due(due)
            return
        self._serving = True  # beside the watch, which has others to look after
        self._tracks.append(asyncio.create_task(self._serve(due.key)))

    async def _serve(self, key: str) -> None:
        try:
            await self._until_free()
            if key == _LIMIT:
                await self._end_waiting()
            elif units_to_fill(self.s):
                await self._fill()
            else:
                self._look_again_later()
        finally:
            self._serving = False

    async def _end_waiting(self) -> None:
        """No supply came in time: cancel those units. Whoever was quicker has taken them already."""
        units = units_to_give_up(self.s, workflow.now())
        if units:
            self.s.supply_ends += 1
            await self._give_up(CancelReason.NO_SUPPLY, units)
