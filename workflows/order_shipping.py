"""What nodes and carriers tell of an order's parcels, and what follows from it."""

from datetime import datetime

from temporalio import workflow
from temporalio.common import RawValue

from workflows.order_desk import NotYet, UnknownShipment, takes_anything, validated
from workflows.order_holding import OrderHolding

with workflow.unsafe.imports_passed_through():
    from activities.contract import CommandRef
    from activities.shipments import CapturePart, HandOverAsk, ReportAsk, ScanAsk, ShipmentActivities, ShortAsk
    from domain.capture import plan_capture
    from domain.carrier_trouble import ScanEffect, effect_of
    from domain.cases import FOUND_AFTER_LOSS, PARCEL_RETURNING
    from domain.lifecycle import FulfillmentState, TrackingState, after_report
    from domain.node_trouble import plan_short
    from domain.order_state import Fulfillment
    from domain.orders import Actor, ActorKind, ReportKind
    from domain.parcels import KNOWN_ALREADY, Scan, after_scan, noted_scan
    from domain.quantities import HANDED_OVER, WITH_THE_CARRIER, Bucket
    from domain.recall import after_scan as recall_after
    from workflows.messages import CarrierEvent, NodeReport, ReportOutcome, ScanOutcome


class OrderShipping(OrderHolding):
    """The commands `node_report` and `carrier_event`."""

    @workflow.update(
        name="node_report",
        description='What a node did. `{"command_id": "my-id", "fulfillment_id": "ful_...", "kind": "packed", '
        '"report_id": "WMS-1", "occurred_at": "2026-11-24T10:00:00Z"}`. With `"kind": "short"` also '
        '`"lines": [[1, 2]], "cause": "damaged"`',
    )
    async def node_report(self, command: NodeReport) -> ReportOutcome:
        """Take a node's report."""
        return await self._command(command, "node_report", self._node_report, ReportOutcome)

    @node_report.validator
    def _check_report_update(self, command: NodeReport) -> None:
        validated(self._check_report, command, self.s.answered)

    @workflow.signal(name="node_report", description="As the update `node_report`, for senders that cannot wait.")
    @takes_anything
    async def node_report_signal(self, raw: RawValue) -> None:
        """Take a node's report."""
        await self._signalled(raw, NodeReport, "node_report", self._check_report, self._node_report, ReportOutcome)

    def _check_report(self, command: NodeReport) -> None:
        part = self._part(command.fulfillment_id)
        if part.in_call or _left_already(command.kind, part):
            return  # the node is faster than its own reply to us: the handler waits for that
        after_report(command.kind, part.state, part.stage)
        if command.kind is ReportKind.HANDED_OVER and part.tracking_number is None:
            raise NotYet("the label is not booked yet; hand over once the parcel has its tracking number")
        if command.kind is ReportKind.SHORT:
            plan_short(part, command.lines)

    async def _node_report(self, command: NodeReport) -> ReportOutcome:
        part = self._part(command.fulfillment_id)
        actor = await self._teller(command, "node_report", Actor(kind=ActorKind.NODE, id=part.node_id))
        await self._called(part)
        self._check_report(command)
        if _left_already(command.kind, part):
            return await self._known_already(command, part, actor)
        state, stage = after_report(command.kind, part.state, part.stage)
        outcome = ReportOutcome(
            applied=True,
            fulfillment_id=part.fulfillment_id,
            state=state,
            stage=stage,
            order_version=self.s.version,
        )
        if command.kind is ReportKind.HANDED_OVER:
            ref = self._ref(command, "node_report", outcome)
            await self._hand_over(part, command.occurred_at, actor, ref, None)
        elif command.kind in (ReportKind.SHORT, ReportKind.REJECTED):
            outcome = await self._short(part, command, actor, outcome)
        elif command.kind in (ReportKind.CANCEL_AGREED, ReportKind.CANCEL_DECLINED):
            agreed = command.kind is ReportKind.CANCEL_AGREED
            part.stop_answer = "stopped" if agreed else "too_late"
            await self._settle_command(
                command.command_id,
                "node_report",
                command.model_dump_json(),
                "applied",
                outcome.model_dump_json(),
                actor,
            )
        else:
            self.s.advance(part, state, stage, workflow.now())
            ask = ReportAsk(
                order_id=self.s.order.order_id,
                fulfillment_id=part.fulfillment_id,
                shipment_id=part.shipment_id,
                kind=command.kind,
                state=state,
                stage=stage,
                actor=actor,
                command=self._ref(command, "node_report", outcome),
            )
            recorded = await self._database(ShipmentActivities.report, ask, f"{part.node_id}: {command.kind}")
            if command.kind is ReportKind.PACKED:
                self._grants[f"book:{part.fulfillment_id}"] = recorded.grant
            part.recorded = stage
            self._describe()
        return outcome.model_copy(update={"order_version": self.s.version})

    async def _called(self, part: Fulfillment) -> None:
        """Wait until no provider is being called about it."""
        while part.in_call:
            await workflow.wait_condition(lambda: not part.in_call)

    async def _short(
        self, part: Fulfillment, command: NodeReport, actor: Actor, outcome: ReportOutcome
    ) -> ReportOutcome:
        """Units that the node does not ship go back to sourcing, which leaves this node out for them."""
        plan = plan_short(part, command.lines if command.kind is ReportKind.SHORT else ())
        skus = sorted({self.s.lines[line_no].sku for line_no, _ in plan.units})
        self.s.barred = (*self.s.barred, *((part.node_id, sku) for sku in skus))
        if plan.whole:
            self.s.advance(part, FulfillmentState.REJECTED, Bucket.OPEN, workflow.now())
        else:
            self.s.cut(part, plan.units, Bucket.OPEN)
            self.s.advance(part, FulfillmentState.IN_PROGRESS, part.stage, workflow.now())
        outcome = outcome.model_copy(update={"state": part.state, "stage": part.stage})
        ask = ShortAsk(
            order_id=self.s.order.order_id,
            fulfillment_id=part.fulfillment_id,
            units=plan.units,
            whole=plan.whole,
            kind=command.kind,
            cause=command.cause,
            state=part.state,
            stage=part.stage,
            actor=actor,
            command=self._ref(command, "node_report", outcome),
        )
        units, stage = sum(quantity for _, quantity in plan.units), part.stage
        await self._database(ShipmentActivities.short, ask, f"{part.node_id} is short of {units} units")
        part.recorded = stage
        self._show()
        return outcome

    async def _known_already(self, command: NodeReport, part: Fulfillment, actor: Actor) -> ReportOutcome:
        outcome = ReportOutcome(
            applied=False,
            fulfillment_id=part.fulfillment_id,
            state=part.state,
            stage=part.stage,
            order_version=self.s.version,
            why="the carrier has told already that it left",
        )
        told = (command.model_dump_json(), "applied", outcome.model_dump_json(), actor)
        await self._settle_command(command.command_id, "node_report", *told)
        return outcome.model_copy(update={"order_version": self.s.version})

    async def _hand_over(
        self, part: Fulfillment, at: datetime, actor: Actor, ref: CommandRef | None, evidence: str | None
    ) -> None:
        """The parcel has left: mark it, then consume stock, post the invoice and want the captures."""
        worth = self.s.worth(part)
        shares = plan_capture(self.s.tenders, worth.total_minor)
        captures = []
        for share in shares:
            tender = self._tender(share.tender_id)
            tender.captures += 1
            tender.capturing_minor += share.amount_minor
            captures.append((tender, share.amount_minor))
        self.s.advance(part, FulfillmentState.SHIPPED, Bucket.SHIPPED, workflow.now())
        part.captures = tuple((t.tender_id, t.captures, amount) for t, amount in captures)
        part.tracking, part.value_minor = TrackingState.IN_TRANSIT, worth.total_minor
        part.seen = noted_scan(part.seen, TrackingState.IN_TRANSIT, at)
        part.captured = not captures
        ask = HandOverAsk(
            order_id=self.s.order.order_id,
            fulfillment_id=part.fulfillment_id,
            shipment_id=part.shipment_id,
            worth=worth,
            captures=tuple(
                CapturePart(
                    tender_id=t.tender_id, sequence=t.sequence, seq=t.captures, amount_minor=amount, provider=t.provider
                )
                for t, amount in captures
            ),
            occurred_at=at,
            actor=actor,
            command=ref,
            evidence=evidence,
        )
        recorded = await self._database(ShipmentActivities.hand_over, ask, f"{part.shipment_id} left {part.node_id}")
        self._grants[f"capture:{part.fulfillment_id}"] = recorded.grant
        part.recorded = Bucket.SHIPPED
        self._show()

    @workflow.update(
        name="carrier_event",
        description='What a carrier scanned; never refused. `{"command_id": "my-id", "shipment_id": "shp_...", '
        '"event_id": "E1", "type": "delivered", "occurred_at": "2026-11-25T10:00:00Z"}`',
    )
    async def carrier_event(self, command: CarrierEvent) -> ScanOutcome:
        """Take a carrier's event."""
        return await self._command(command, "carrier_event", self._carrier_event, ScanOutcome)

    @carrier_event.validator
    def _check_event_update(self, command: CarrierEvent) -> None:
        validated(self._check_event, command, self.s.answered)

    @workflow.signal(name="carrier_event", description="As the update `carrier_event`, for senders that cannot wait.")
    @takes_anything
    async def carrier_event_signal(self, raw: RawValue) -> None:
        """Take a carrier's event."""
        await self._signalled(raw, CarrierEvent, "carrier_event", self._check_event, self._carrier_event, ScanOutcome)

    def _check_event(self, command: CarrierEvent) -> None:
        if self.s.by_shipment(command.shipment_id) is None:
            raise UnknownShipment(f"this order has no shipment {command.shipment_id}")

    async def _carrier_event(self, command: CarrierEvent) -> ScanOutcome:
        self._check_event(command)
        actor = await self._teller(command, "carrier_event", Actor(kind=ActorKind.CARRIER, id="carrier"))
        return await self._take_scan(command, actor)

    async def _take_scan(self, command: CarrierEvent, actor: Actor) -> ScanOutcome:
        """What a carrier has seen, or that nobody has seen anything for too long."""
        part = self.s.by_shipment(command.shipment_id)
        if part is None:
            raise UnknownShipment(command.shipment_id)
        await self._called(part)
        scan = _read_scan(command, part)
        if part.tracking and not scan.repeated:  # what came before there was a label may be told again
            part.scans = (*part.scans, command.event_id)
        handed_over = scan.implies_hand_over and part.stage is Bucket.PACKED
        if handed_over:
            await self._hand_over(part, command.occurred_at, actor, None, f"carrier_scan:{command.type}")
            if part.tracking:  # another scan may have been quicker meanwhile
                scan = after_scan(command.type, command.occurred_at, part.tracking, part.seen)
        return await self._apply_scan(part, command, actor, scan, handed_over)

    async def _apply_scan(
        self, part: Fulfillment, command: CarrierEvent, actor: Actor, scan: Scan, handed_over: bool
    ) -> ScanOutcome:
        effect = effect_of(part, scan.state)
        if effect.contradicts:  # what followed once stands, and so does the state that it followed from
            scan = scan.model_copy(update={"state": None, "why": f"{part.tracking}, and made good: a person looks"})
        delivered = effect.stage is Bucket.DELIVERED
        part.tracking, part.seen = scan.state or part.tracking, scan.seen
        part.restocked = part.restocked or effect.restock
        part.recall = recall_after(part.recall, scan.state)
        if delivered:
            self.s.advance(part, FulfillmentState.CLOSED, Bucket.DELIVERED, workflow.now())
        elif part.stage in WITH_THE_CARRIER and not scan.repeated:  # the carrier is not silent
            self.s.advance(part, part.state, effect.stage or part.stage, workflow.now())
        outcome = ScanOutcome(
            applied=scan.state is not None or handed_over,
            duplicate=scan.repeated,
            shipment_id=part.shipment_id,
            state=part.tracking or "not_booked",
            order_version=self.s.version,
            why=scan.why,
        )
        ask = ScanAsk(
            order_id=self.s.order.order_id,
            fulfillment_id=part.fulfillment_id,
            shipment_id=part.shipment_id,
            event_id=command.event_id,
            type=command.type,
            occurred_at=command.occurred_at,
            state=scan.state,
            why=scan.why,
            delivered=delivered,
            promise_state=self._judge_promise() if delivered else None,
            actor=actor,
            command=self._ref(command, "carrier_event", outcome),
            stage=None if delivered else effect.stage,
            restock=effect.restock,
            contradicts=effect.contradicts,
        )
        stage = part.stage
        await self._database(ShipmentActivities.scan, ask, f"{part.shipment_id}: {command.type}")
        if part.recorded in WITH_THE_CARRIER:
            part.recorded = stage
        for code in _cases_of(part, scan, effect):
            self.s.attention = {**self.s.attention, code: workflow.now()}
        self._describe()
        return outcome.model_copy(update={"order_version": self.s.version})


def _cases_of(part: Fulfillment, scan: Scan, effect: ScanEffect) -> list[str]:
    """The cases that the database opens with a scan. Whoever had it recalled has said what they want."""
    recalled = part.recall is not None and part.recall.wished
    returning = [PARCEL_RETURNING] if scan.state is TrackingState.RETURN_TO_SENDER and not recalled else []
    return [*returning, *([FOUND_AFTER_LOSS] if effect.contradicts else [])]


def _left_already(kind: ReportKind, part: Fulfillment) -> bool:
    """Whether a node reports the hand-over of a parcel that its carrier has scanned before."""
    return kind is ReportKind.HANDED_OVER and part.stage in HANDED_OVER


def _read_scan(command: CarrierEvent, part: Fulfillment) -> Scan:
    if command.event_id in part.scans:
        return Scan(state=None, seen=part.seen, why=KNOWN_ALREADY, repeated=True)
    if part.tracking is None:
        return Scan(state=None, seen=part.seen, why="the parcel has no label yet")
    if part.stage in (Bucket.CANCELLED, Bucket.OPEN) and part.tracking is not TrackingState.VOIDED:
        return Scan(state=None, seen=part.seen, why="the parcel does not travel: its label is being taken back")
    return after_scan(command.type, command.occurred_at, part.tracking, part.seen)
