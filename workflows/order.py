"""One order, from acceptance to settlement. The class reads as the process."""

import asyncio
from datetime import timedelta

from temporalio import workflow

from workflows.order_base import ClosingNow
from workflows.order_write_off import OrderWriteOff

with workflow.unsafe.imports_passed_through():
    from activities.payments import EXCEEDS_AUTHORIZATION, MoneyAsk, MoneyMoved, PaymentActivities
    from activities.shipments import ShipmentActivities, VoidLabelAsk, WorkAsk, WorkDone
    from activities.stock import (
        AllocateAsk,
        Allocated,
        ReservationLost,
        ReserveAsk,
        StockActivities,
        StockReserved,
        StockShort,
    )
    from domain.backorders import may_wait
    from domain.capture import plan_capture
    from domain.holds import blocked, nodes_to_allocate, units_to_source
    from domain.lifecycle import FulfillmentState, PaymentState, TrackingState, deadline_after
    from domain.order_state import Fulfillment, Tender
    from domain.orders import CancelReason, HoldBlock, PlaceOrder, Split
    from domain.quantities import HANDED_OVER, Bucket
    from workflows.messages import Accepted, OrderClosed, Rejected, ShortLine


LOST_PAUSE = timedelta(seconds=5)
"""Between two attempts to commit units that the database no longer holds."""


@workflow.defn(name="Order")
class Order(OrderWriteOff):
    """Reserve, secure the payment, allocate, ship from every node at its own pace, settle."""

    @workflow.init
    def __init__(self, order: PlaceOrder) -> None:
        super().__init__(order)

    @workflow.run
    async def run(self, order: PlaceOrder) -> OrderClosed:
        """See the order through."""
        await self._accept()
        if not self.s.rejected:
            watch = asyncio.create_task(self._watch())
            self._main = asyncio.current_task()
            try:
                await self._secure_payment()
                await self._fulfill()
                await self._settle()
                await asyncio.gather(*self._tracks)  # labels of cancelled parcels: nobody's money waits for a carrier
                await self._hear_carriers()
            except (asyncio.CancelledError, ClosingNow):
                if self.s.closing is None:
                    raise
                await self._close()
            self._main = None
            del watch  # it ends with the workflow: cancelling its timer would cost an event for nothing
        self._show()
        await workflow.wait_condition(workflow.all_handlers_finished)
        header = self.s.header()
        return OrderClosed(status=header.status, order_version=self.s.version, digest=header.digest)

    # --- accept ---------------------------------------------------------------------------------------

    async def _accept(self) -> None:
        """Hold stock on concrete nodes and make the promise, or reject."""
        if self.s.acceptance is not None:
            return
        order = self.s.order
        self._deciding = True
        outcome = await self._database(
            StockActivities.reserve, ReserveAsk(order=order), f"Hold {order.units} units of {len(order.lines)} lines"
        )
        self._deciding = False
        self.s.changed_at = workflow.now()
        if isinstance(outcome, StockReserved):
            self.s.rules, self.s.sealed, self.s.flow = outcome.rules, outcome.sealed, outcome.flow
            self._note_reserved(outcome)
            self._grants["authorize"] = outcome.grant
            self.s.promised_by, self.s.promised_until = outcome.promised_by, outcome.promised_until
            self.s.holds |= {hold.hold_id: hold for hold in outcome.holds}
            nodes = tuple(sorted({p.node_id for p in outcome.placements}))
            self.s.acceptance = Accepted(
                order_version=outcome.version,
                promised_by=str(outcome.promised_by),
                reserved_until=outcome.reserved_until,
                nodes=nodes,
                waiting=outcome.waiting,
            ).model_dump_json()
        else:
            self.s.rejected = True
            self.s.promise_state = "withdrawn"
            for line in self.s.lines.values():
                line.buckets = line.buckets.moved(Bucket.OPEN, Bucket.CANCELLED, line.buckets.open)
            self.s.acceptance = Rejected(
                code=outcome.code,
                detail=outcome.detail,
                order_version=outcome.version,
                lines=tuple(ShortLine(*line) for line in outcome.lines),
            ).model_dump_json()
        if self.s.holds:
            self._show()
        self._describe()

    # --- payment --------------------------------------------------------------------------------------

    async def _secure_payment(self) -> None:
        """Authorize every tender in charge sequence; a decline gives the customer a window to fix it."""
        for tender in tuple(self.s.tenders):  # a change may add one, and authorizes it itself
            seen = self._retries
            while tender.state in (PaymentState.PENDING, PaymentState.FAILED) and self.s.quantities.live:
                if tender.state is PaymentState.PENDING:
                    seen = self._retries
                    await self._authorize(tender)
                else:
                    await self._wait_for_fix(tender, seen)

    async def _authorize(self, tender: Tender) -> None:
        ask = self._money(tender, tender.seq, tender.amount_minor)
        ask = ask.model_copy(update={"reference": tender.reference, "grant": self._grants.pop("authorize", None)})
        amount = self._amount(tender.amount_minor)
        tender.in_call, tender.since = True, workflow.now()
        tender.deadline = tender.since + timedelta(seconds=self.s.rules.payment_pending_s)
        outcome = await self._provider(PaymentActivities.authorize, ask, f"Authorize {amount}", "payment_unknown")
        tender.in_call = False
        now = workflow.now()
        tender.since, self.s.changed_at = now, now
        if isinstance(outcome, MoneyMoved):
            tender.state = PaymentState.AUTHORIZED
            tender.authorized_minor = outcome.amount_minor
            tender.authorization_ref = outcome.provider_ref
            return
        tender.state, tender.decline_code = PaymentState.FAILED, outcome.code
        tender.deadline = now + timedelta(seconds=self.s.rules.payment_window_s)
        if self.s.rules.hold_through_payment_window and self.s.reserved_until:
            self.s.reserved_until = max(self.s.reserved_until, tender.deadline)
        self._show()

    async def _wait_for_fix(self, tender: Tender, seen: int) -> None:
        """Until the customer brings another payment method, somebody says retry, or the window ends."""
        fixed = await self._until(
            lambda: tender.retry_asked or self._retries > seen or not self.s.quantities.live, tender.deadline
        )
        if not self.s.quantities.live:
            return
        if not fixed:
            await self._give_up(CancelReason.PAYMENT_DECLINED)
            return
        tender.retry_asked = False
        tender.seq += 1
        tender.state, tender.decline_code = PaymentState.PENDING, None

    # --- fulfillment ----------------------------------------------------------------------------------

    async def _fulfill(self) -> None:
        """Allocate, then one track per fulfillment order, until no unit is under way. Nodes may give units back."""
        if self.s.quantities.backordered:
            self.s.supply_look_at = workflow.now()  # what came while the payment was not secured was nobody's turn
            self._show()  # it may be a long time before anything else happens
        while True:
            await workflow.wait_condition(lambda: self._is_free() and (self._may_place() or self._is_placed()))
            if not self._is_free():
                continue  # all who wait are woken at once, and a decision may have come first: look again
            if units_to_source(self.s):
                await self._reserve_again()
            elif nodes_to_allocate(self.s):
                self._tracks += [asyncio.create_task(self._track(part)) for part in await self._allocate()]
            elif self._is_placed():
                return

    def _may_place(self) -> bool:
        """Whether there are units that a node should hold or get now. What a hold keeps back waits."""
        return bool(units_to_source(self.s) or nodes_to_allocate(self.s))

    def _is_placed(self) -> bool:
        """Whether nothing is left to place or to wait for, and every part is over."""
        unplaced = self.s.quantities.of(Bucket.OPEN, Bucket.RESERVED, Bucket.BACKORDERED)
        return self._nothing_under_way() and not unplaced

    def _nothing_under_way(self) -> bool:
        """Whether every part is over, or delivered and paid, and no money is going home.

        A broken track is raised, not awaited.
        """
        for track in (*self._tracks, *self._recalls):
            if track.done():
                track.result()
        refunding = any(tender.refunding_minor for tender in self.s.tenders)
        return not refunding and not any(part.open for part in self.s.fulfillments.values())

    async def _reserve_again(self) -> None:
        """Units lost their place, because the payment came late or a node is short: hold them again, or give up."""
        await self._catch_up()
        units = units_to_source(self.s)
        if not units or not self._is_free():
            return
        self.s.generation += 1
        self._deciding = True
        again = tuple(unit for unit in units if self.s.lines[unit[0]].replaces_parcel)
        units = again or units  # first what is sent instead: it is refunded where nobody has it, and does not wait
        ask = ReserveAsk(
            order=self.s.order,
            generation=self.s.generation,
            open_units=units,
            barred=(*self.s.barred, *self.s.avoided),
            # a node that was left is better than waiting; what is sent instead does not wait
            may_wait=may_wait(self.s) and not self.s.avoided and not again,
            cause="parcel_not_delivered"
            if again
            else self.s.sourced_for or ("short_pick" if self.s.barred else "reservation_expired"),
        )
        outcome = await self._database(StockActivities.reserve, ask, "Hold the units again")
        if isinstance(outcome, StockReserved):
            self._note_reserved(outcome)
            self.s.current_by, self.s.current_until = outcome.promised_by, outcome.promised_until
            self.s.sourced_for = None
        self._deciding = False
        if isinstance(outcome, StockReserved):
            self._show_waiting(outcome)
        elif self.s.avoided:
            self.s.avoided = ()  # next time with the nodes that were left: late is better than never
        else:
            await self._do_without(outcome, again)

    async def _do_without(self, short: StockShort, again: tuple[tuple[int, int], ...] = ()) -> None:
        """No node has these units. Who wants all of it together gets none; else what there is ships.

        `again` are those that were to be sent instead of others: only they are given up.
        """
        if self.s.order.split is Split.TOGETHER and not again:
            await self._give_up(CancelReason.OUT_OF_STOCK)
            return
        missing = tuple((line.line_no, line.requested - line.available) for line in short.lines)
        await self._give_up(CancelReason.OUT_OF_STOCK, missing or again or units_to_source(self.s))

    async def _allocate(self) -> list[Fulfillment]:
        """Commit the held units that no hold keeps back: one fulfillment order per node."""
        self._deciding = True
        nodes = nodes_to_allocate(self.s)
        units = sum(quantity for _, node, quantity in self.s.placements if node in nodes)
        ask = AllocateAsk(
            order_id=self.s.order.order_id,
            generation=self.s.generation,
            units=units,
            nodes=nodes,
            known=self._heard(),
        )
        outcome = await self._database(StockActivities.allocate, ask, f"Commit {units} units")
        parts = self._apply_allocation(outcome) if isinstance(outcome, Allocated) else []
        self._deciding = False
        if isinstance(outcome, ReservationLost) and outcome.lost:
            await self._hear_again(outcome.lost)
        elif not parts:
            self.s.reserved_until = workflow.now()
            await self._expire()
            # units that still seem held are gone by a command whose task was lost; it is on its way here again
            await self._until(lambda: not self.s.quantities.reserved, workflow.now() + LOST_PAUSE)
        self._show()
        return parts

    def _apply_allocation(self, outcome: Allocated) -> list[Fulfillment]:
        now = workflow.now()
        parts = []
        for made in outcome.parts:
            lines = tuple((n, q) for n, node, q in self.s.placements if node == made.node_id)
            part = Fulfillment(
                fulfillment_id=made.fulfillment_id,
                shipment_id=made.shipment_id,
                node_id=made.node_id,
                lines=lines,
                since=now,
                deadline=deadline_after(FulfillmentState.OPEN, Bucket.ALLOCATED, self.s.rules, now),
            )
            self.s.move(lines, Bucket.RESERVED, Bucket.ALLOCATED)
            self.s.fulfillments[part.fulfillment_id] = part
            self._grants[f"release:{part.fulfillment_id}"] = outcome.grant
            parts.append(part)
        committed = {part.node_id for part in parts}
        self.s.placements = tuple(placement for placement in self.s.placements if placement[1] not in committed)
        if not self.s.placements:
            self.s.reserved_until = None
        self.s.changed_at = now
        return parts

    async def _track(self, part: Fulfillment) -> None:
        """One fulfillment order: release, book, capture. It never waits for another track's provider."""
        await self._release(part)
        await workflow.wait_condition(
            lambda: part.recorded is not Bucket.RELEASED and part.recorded is not Bucket.PICKED
        )
        await self._book(part)
        over = (Bucket.CANCELLED, Bucket.OPEN)
        await workflow.wait_condition(lambda: part.recorded in (*HANDED_OVER, *over))
        if part.recorded in over:
            await self._take_label_back(part)
            return
        await self._capture(part)
        await self._see_home(part)

    async def _release(self, part: Fulfillment) -> None:
        number, grant = 1, self._grants.pop(f"release:{part.fulfillment_id}", None)
        while await self._is_next(part, Bucket.ALLOCATED, HoldBlock.RELEASE):
            seen, part.in_call = self._retries, True
            lines = tuple((n, self.s.lines[n].sku, q) for n, q in part.lines)
            ask = self._work(part).model_copy(update={"lines": lines, "number": number, "grant": grant})
            summary = f"Release {part.units} units to {part.node_id}"
            outcome = await self._provider(ShipmentActivities.release, ask, summary, "release_failing")
            part.in_call = False
            if isinstance(outcome, WorkDone):
                asked = part.state is FulfillmentState.CANCELLATION_REQUESTED
                state = part.state if asked else FulfillmentState.SUBMITTED
                part.before_stop = FulfillmentState.SUBMITTED
                self.s.advance(part, state, Bucket.RELEASED, workflow.now())
                part.recorded = Bucket.RELEASED
                self._describe()
                return
            number, grant = number + 1, None
            if part.cancelling:
                part.stop_answer = "stopped"
                await workflow.wait_condition(lambda: part.cancelling is None)
                if _is_over(part):
                    return
            await self._attention("node_refused", "fulfillment", f"{part.node_id} refused the work: {outcome.code}")
            await self._retry_or_cancelled(part, seen)

    async def _is_next(self, part: Fulfillment, stage: Bucket, step: HoldBlock) -> bool:
        """Whether the step is to be done, once no hold stops it any more."""
        while part.stage is stage and (part.changing or blocked(self.s, step, part)):
            await workflow.wait_condition(
                lambda: part.stage is not stage or not (part.changing or blocked(self.s, step, part))
            )
        return part.stage is stage

    async def _retry_or_cancelled(self, part: Fulfillment, seen: int) -> None:
        await workflow.wait_condition(lambda: self._retries > seen or _is_over(part))

    async def _book(self, part: Fulfillment) -> None:
        """Buy the label once the parcel is packed."""
        ask = self._work(part).model_copy(update={"grant": self._grants.pop(f"book:{part.fulfillment_id}", None)})
        while await self._is_next(part, Bucket.PACKED, HoldBlock.SHIP) and part.tracking_number is None:
            seen, part.in_call = self._retries, True
            summary = f"Book the carrier for {part.shipment_id}"
            outcome = await self._provider(ShipmentActivities.book, ask, summary, "booking_failing")
            part.in_call = False
            if isinstance(outcome, WorkDone):
                part.tracking_number, part.tracking = outcome.tracking_number, TrackingState.LABEL_CREATED
                self._describe()
                return
            if part.stage is Bucket.PACKED:
                await self._attention("carrier_refused", "fulfillment", f"the carrier refused it: {outcome.code}")
                await self._retry_or_cancelled(part, seen)
                ask = ask.model_copy(update={"number": ask.number + 1, "grant": None})

    async def _take_label_back(self, part: Fulfillment) -> None:
        """A cancelled parcel will not travel: its label is worth money until it is taken back."""
        if part.tracking_number is None:
            return
        ask = VoidLabelAsk(
            order_id=self.s.order.order_id, shipment_id=part.shipment_id, tracking_number=part.tracking_number
        )
        await self._provider(ShipmentActivities.void_label, ask, "Take the label back", "label_void_failing")
        part.tracking = TrackingState.VOIDED

    async def _capture(self, part: Fulfillment) -> None:
        """Take the money for what has left."""
        grant = self._grants.pop(f"capture:{part.fulfillment_id}", None)
        for position, (tender_id, number, amount) in enumerate(part.captures):
            tender = next(t for t in self.s.tenders if t.tender_id == tender_id)
            ask = self._money(tender, number, amount).model_copy(
                update={
                    "fulfillment_id": part.fulfillment_id,
                    "shipment_id": part.shipment_id,
                    "ends_parcel": position == len(part.captures) - 1,
                    "grant": grant,
                }
            )
            await self._take(tender, ask, f"Capture {self._amount(amount)} for {part.shipment_id}")
        part.captured = True

    async def _take(self, tender: Tender, ask: MoneyAsk, summary: str) -> None:
        while True:
            seen = self._retries
            outcome = await self._provider(PaymentActivities.capture, ask, summary, "payment_capture_failing")
            if isinstance(outcome, MoneyMoved):
                tender.capturing_minor -= ask.amount_minor
                self._note_captured(tender, outcome.amount_minor)
                return
            await self._attention("payment_capture_refused", "finance", f"the provider refused: {outcome.code}")
            await self._retry_asked(seen)
            tender.captures += 1
            ask = ask.model_copy(update={"seq": tender.captures, "grant": None})

    # --- settlement -----------------------------------------------------------------------------------

    async def _settle(self) -> None:
        """Void before refund: a void costs no fee and frees the customer's money at once."""
        await self._capture_kept()
        for tender in self.s.tenders:
            await self._void(tender)
        while self.s.kept_minor and self.s.excess_minor < 0:
            await self._ask_finance_for(-self.s.excess_minor)
        await self._refund_excess()
        self.s.changed_at = workflow.now()

    async def _capture_kept(self) -> None:
        """Units that were cancelled without refund are paid without a parcel, as far as they are not paid already."""
        missing = min(self.s.kept_minor, -self.s.excess_minor)
        if missing <= 0:
            return
        covered = sum(tender.left_minor for tender in self.s.tenders)
        for share in plan_capture(self.s.tenders, min(missing, covered)):
            await self._take_kept(self._tender(share.tender_id), share.amount_minor)

    async def _take_kept(self, tender: Tender, amount_minor: int) -> None:
        while True:
            seen = self._retries
            tender.captures += 1
            ask = self._money(tender, tender.captures, amount_minor)
            summary = f"Capture {self._amount(amount_minor)} for what was cancelled without refund"
            outcome = await self._provider(PaymentActivities.capture, ask, summary, "payment_kept_failing")
            if isinstance(outcome, MoneyMoved):
                self._note_captured(tender, outcome.amount_minor)
                return
            if outcome.code == EXCEEDS_AUTHORIZATION:
                return  # it was taken behind our back: the void that follows says how much
            await self._attention("payment_kept_refused", "finance", f"the provider refused: {outcome.code}")
            await self._retry_asked(seen)

    def _note_captured(self, tender: Tender, amount_minor: int) -> None:
        tender.note_captured(amount_minor)
        self._describe()

    def _work(self, part: Fulfillment) -> WorkAsk:
        return WorkAsk(
            order_id=self.s.order.order_id,
            fulfillment_id=part.fulfillment_id,
            shipment_id=part.shipment_id,
            node_id=part.node_id,
            zone_id=self.s.order.zone_id,
            service_level=self.s.order.service_level,
            units=part.units,
        )


def _is_over(part: Fulfillment) -> bool:
    """Whether the node ships none of it any more."""
    return part.stage in (Bucket.CANCELLED, Bucket.OPEN)
