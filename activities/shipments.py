"""Fulfillment's part of an order: release to nodes, reports, labels, hand-over, carrier scans, stopping."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from temporalio import activity

from activities.contract import (
    Checkpoint,
    CommandRef,
    Effect,
    Grant,
    Stage,
    grant_token,
    no_checkpoint,
    own_grant,
    perform,
    retry_me,
)
from domain.cases import FOUND_AFTER_LOSS, PARCEL_RETURNING
from domain.lifecycle import FulfillmentState, Journey, RecallState, Team, TrackingState, deadline_after
from domain.node_trouble import correction_for
from domain.orders import Actor, ActorKind, CarrierEventType, Frozen, NodeTrouble, ReportKind
from domain.quantities import WITH_THE_CARRIER, Bucket
from domain.shares import Components
from providers.carriers import BookRequest, CarrierProvider, LabelOk, VoidLabelRequest
from providers.outcomes import Absent, NotSent, Ok, ProviderUnavailable, Refused, Unknown
from providers.warehouses import (
    FoundStop,
    ReleaseLine,
    ReleaseRequest,
    ShipTo,
    Stopped,
    StopRequest,
    TooLate,
    WarehouseProvider,
)
from store import arrivals, control, fulfillment, payments, stock
from store.engine import transaction
from store.lines import move_fulfillment, move_lines
from store.orders import OrderChange, change_order
from store.vault import KeyRing, open_vault

CARRIER = Actor(kind=ActorKind.CARRIER, id="carrier")


class WorkAsk(Frozen):
    """One fulfillment order, for the calls to its node and carrier."""

    order_id: str
    fulfillment_id: str
    shipment_id: str
    node_id: str
    zone_id: str
    service_level: str
    lines: tuple[tuple[int, str, int], ...] = ()  # release: line number, SKU, units
    units: int = 1
    number: int = 1  # of the request: a refusal is final for its key, so a person's retry is a new request
    grant: Grant | None = None


class WorkDone(Frozen):
    """The node or the carrier took it. `tracking_number` with a label."""

    kind: Literal["done"] = "done"
    version: int
    tracking_number: str | None = None


class WorkRefused(Frozen):
    """The node or the carrier said no."""

    kind: Literal["refused"] = "refused"
    code: str
    version: int


WorkOutcome = Annotated[WorkDone | WorkRefused, Field(discriminator="kind")]


class ReportAsk(Frozen):
    """A node's report, with the state it leads to."""

    order_id: str
    fulfillment_id: str
    shipment_id: str
    kind: ReportKind
    state: FulfillmentState
    stage: Bucket
    actor: Actor
    command: CommandRef


class ShortAsk(Frozen):
    """Units that a node does not ship (line number, units) go back to sourcing; with `whole` it ships none."""

    order_id: str
    fulfillment_id: str
    units: tuple[tuple[int, int], ...]
    whole: bool
    kind: ReportKind
    cause: NodeTrouble
    state: FulfillmentState
    stage: Bucket
    actor: Actor
    command: CommandRef


class CapturePart(Frozen):
    """What a tender pays for a parcel."""

    tender_id: str
    sequence: int
    seq: int
    amount_minor: int
    provider: str


class HandOverAsk(Frozen):
    """A parcel has left: stock is consumed, the invoice is posted, the captures are wanted."""

    order_id: str
    fulfillment_id: str
    shipment_id: str
    worth: Components
    captures: tuple[CapturePart, ...]
    occurred_at: datetime
    actor: Actor
    command: CommandRef | None = None
    evidence: str | None = None  # a carrier's scan that proves the hand-over


class ScanAsk(Frozen):
    """A carrier's event and what it does to the parcel."""

    order_id: str
    fulfillment_id: str
    shipment_id: str
    event_id: str
    type: CarrierEventType
    occurred_at: datetime
    state: TrackingState | None
    why: str | None
    delivered: bool
    promise_state: str | None  # set by the delivery of the last units
    actor: Actor
    command: CommandRef
    stage: Bucket | None = None  # where its units go, when it turns back or is back
    restock: bool = False  # they are at their node and on hand again
    contradicts: bool = False  # they were made good before: a person has to look


class StopAsk(Frozen):
    """Ask a node to stop: all of it, or the named units (line number, SKU, units)."""

    order_id: str
    fulfillment_id: str
    node_id: str
    command_id: str
    lines: tuple[tuple[int, str, int], ...] = ()


class StopReply(Frozen):
    """`stopped`, `too_late` or `answer_follows`."""

    answer: Literal["stopped", "too_late", "answer_follows"]


class VoidLabelAsk(Frozen):
    """Take back the label of a parcel that will not travel."""

    order_id: str
    shipment_id: str
    tracking_number: str


class Recorded(Frozen):
    """Written. `grant` is the claim for the call that follows."""

    version: int
    grant: Grant | None = None


class ShipmentActivities:
    """Reports are local activities, one transaction each; calls to nodes and carriers are remote."""

    def __init__(
        self,
        engine: AsyncEngine,
        warehouse: WarehouseProvider,
        carrier: CarrierProvider,
        vault_keys: KeyRing,
        checkpoint: Checkpoint = no_checkpoint,
    ) -> None:
        self._engine = engine
        self._warehouse = warehouse
        self._carrier = carrier
        self._vault_keys = vault_keys
        self._checkpoint = checkpoint

    @activity.defn(name="shipments.release")
    async def release(self, ask: WorkAsk) -> WorkOutcome:
        """Hand the work to the node. The address is read from the vault now and kept nowhere."""
        key = f"{ask.fulfillment_id}:{ask.number}"

        async def call(look_up: bool) -> Ok | Refused | Unknown:
            if look_up:
                found = await self._warehouse.look_up(key)
                if not isinstance(found, Absent):
                    return found.outcome
            vault = await transaction(self._engine, lambda c: open_vault(c, self._vault_keys, ask.order_id))
            return await self._warehouse.release(
                ReleaseRequest(
                    key=key,
                    order_id=ask.order_id,
                    fulfillment_id=ask.fulfillment_id,
                    node_id=ask.node_id,
                    lines=_lines_of(ask.lines),
                    ship_to=_ship_to(vault),
                )
            )

        async def write(change: OrderChange, token: str, reply: Ok | Refused) -> bool:
            ref = reply.provider_ref if isinstance(reply, Ok) else None
            code = reply.code if isinstance(reply, Refused) else None
            state = "refused" if code else "ok"
            owns = await fulfillment.settle_release(change.connection, ask.fulfillment_id, token, state, ref, code)
            if owns and code is None:
                row = await fulfillment.read(change.connection, ask.fulfillment_id)
                asked = FulfillmentState.CANCELLATION_REQUESTED  # a cancellation may have come meanwhile
                state_after = asked if row["state"] == asked else FulfillmentState.SUBMITTED
                await _advance(change, ask.fulfillment_id, state_after, Bucket.RELEASED)
                change.say("fulfillment.released", node=ask.node_id, fulfillment_id=ask.fulfillment_id)
            return owns

        return await self._work(
            "shipments.release",
            ask,
            lambda c, token: fulfillment.claim_release(c, ask.fulfillment_id, token, key),
            call,
            write,
        )

    @activity.defn(name="shipments.book")
    async def book(self, ask: WorkAsk) -> WorkOutcome:
        """Book the carrier: one label and tracking number per parcel."""
        key = f"{ask.fulfillment_id}:package-{ask.number}"

        async def call(look_up: bool) -> LabelOk | Refused | Unknown:
            if look_up:
                found = await self._carrier.look_up(key)
                if not isinstance(found, Absent):
                    return found.outcome
            return await self._carrier.book(
                BookRequest(
                    key=key,
                    order_id=ask.order_id,
                    fulfillment_id=ask.fulfillment_id,
                    node_id=ask.node_id,
                    zone_id=ask.zone_id,
                    service_level=ask.service_level,
                    units=ask.units,
                )
            )

        async def write(change: OrderChange, token: str, reply: Ok | Refused) -> bool:
            if not isinstance(reply, LabelOk):
                code = reply.code if isinstance(reply, Refused) else "unreadable"
                return await fulfillment.settle_label(
                    change.connection, ask.shipment_id, token, "refused", refusal=code
                )
            owns = await fulfillment.settle_label(
                change.connection,
                ask.shipment_id,
                token,
                "ok",
                provider_ref=reply.provider_ref,
                carrier=reply.carrier,
                tracking_number=reply.tracking_number,
                label_url=reply.label_url,
            )
            if owns:
                change.say(
                    "shipment.booked",
                    shipment_id=ask.shipment_id,
                    carrier=reply.carrier,
                    tracking_number=reply.tracking_number,
                )
            return owns

        return await self._work(
            "shipments.book",
            ask,
            lambda c, token: fulfillment.claim_label(c, ask.shipment_id, token, key),
            call,
            write,
        )

    async def _work(
        self, name: str, ask: WorkAsk, claim: "_ClaimWork", call: "_Call", write: "_Write"
    ) -> WorkDone | WorkRefused:
        async def settle(token: str, reply: Ok | Refused) -> WorkDone | WorkRefused | None:
            owns, change = await change_order(self._engine, ask.order_id, lambda ch: write(ch, token, reply))
            if not owns:
                return None
            if isinstance(reply, Refused):
                return WorkRefused(code=reply.code, version=change.version)
            number = reply.tracking_number if isinstance(reply, LabelOk) else None
            return WorkDone(version=change.version, tracking_number=number)

        async def stored() -> WorkDone | WorkRefused:
            row, change = await change_order(
                self._engine, ask.order_id, lambda ch: fulfillment.read(ch.connection, ask.fulfillment_id)
            )
            prefix = "label_" if name == "shipments.book" else "claim_"
            if row[f"{prefix}state"] == "refused":
                refusal = row["label_refusal"] if prefix == "label_" else row["refusal"]
                return WorkRefused(code=refusal or "refused", version=change.version)
            return WorkDone(version=change.version, tracking_number=row["tracking_number"])

        async def unknown(token: str) -> None:
            """Nothing to write: the claim stays `calling`, and the next attempt looks it up."""

        effect = Effect[Ok | Refused, WorkDone | WorkRefused](
            name=name,
            claim=lambda token: transaction(self._engine, lambda c: claim(c, token)),
            call=call,
            settle=settle,
            unknown=unknown,
            stored=stored,
        )
        return await perform(effect, ask.grant, self._checkpoint)

    @activity.defn(name="shipments.report")
    async def report(self, ask: ReportAsk) -> Recorded:
        """Write what a node reported; a packed parcel is about to be booked."""
        self._checkpoint("shipments.report", Stage.BEFORE_EFFECT)

        async def work(change: OrderChange) -> None:
            if await control.was_settled(change.connection, ask.order_id, ask.command.command_id):
                return
            row = await _advance(change, ask.fulfillment_id, ask.state, ask.stage)
            if ask.kind is ReportKind.PACKED:
                await fulfillment.expect_parcel(
                    change.connection, ask.order_id, ask.fulfillment_id, ask.shipment_id, grant_token()
                )
            if ask.kind is ReportKind.CANCEL_DECLINED:
                _say_declined(change, ask.actor, row["node_id"], ask.fulfillment_id, ask.command.command_id)
            elif ask.kind is not ReportKind.CANCEL_AGREED:
                change.say(f"fulfillment.{ask.kind}", ask.actor, None, ask.command.command_id, node=row["node_id"])
            change.settle_command(ask.command.record(), ask.actor)
            self._checkpoint("shipments.report", Stage.AFTER_EFFECT)

        _, change = await change_order(self._engine, ask.order_id, work)
        self._checkpoint("shipments.report", Stage.BEFORE_REPORT)
        return Recorded(version=change.version, grant=own_grant())

    @activity.defn(name="shipments.short")
    async def short(self, ask: ShortAsk) -> Recorded:
        """Free units that a node does not ship, correct its stock by the cause, and open them for sourcing."""
        self._checkpoint("shipments.short", Stage.BEFORE_EFFECT)

        async def work(change: OrderChange) -> None:
            if await control.was_settled(change.connection, ask.order_id, ask.command.command_id):
                return
            await _short(change, ask)
            self._checkpoint("shipments.short", Stage.AFTER_EFFECT)

        _, change = await change_order(self._engine, ask.order_id, work)
        self._checkpoint("shipments.short", Stage.BEFORE_REPORT)
        return Recorded(version=change.version)

    @activity.defn(name="shipments.hand_over")
    async def hand_over(self, ask: HandOverAsk) -> Recorded:
        """Consume the stock, post the invoice, want the captures: what follows when a parcel leaves."""
        self._checkpoint("shipments.hand_over", Stage.BEFORE_EFFECT)

        async def work(change: OrderChange) -> None:
            row = await fulfillment.read(change.connection, ask.fulfillment_id)
            if row["stage"] not in (Bucket.PACKED, Bucket.PICKED, Bucket.RELEASED):
                return
            await _hand_over(change, ask)
            self._checkpoint("shipments.hand_over", Stage.AFTER_EFFECT)

        _, change = await change_order(self._engine, ask.order_id, work)
        self._checkpoint("shipments.hand_over", Stage.BEFORE_REPORT)
        return Recorded(version=change.version, grant=own_grant())

    @activity.defn(name="shipments.scan")
    async def scan(self, ask: ScanAsk) -> Recorded:
        """Keep a carrier's event, and what it did to the parcel, the units and the promise."""
        self._checkpoint("shipments.scan", Stage.BEFORE_EFFECT)

        async def work(change: OrderChange) -> None:
            if await control.was_settled(change.connection, ask.order_id, ask.command.command_id):
                return
            await _scan(change, ask)
            self._checkpoint("shipments.scan", Stage.AFTER_EFFECT)

        _, change = await change_order(self._engine, ask.order_id, work)
        self._checkpoint("shipments.scan", Stage.BEFORE_REPORT)
        return Recorded(version=change.version)

    @activity.defn(name="shipments.stop")
    async def stop(self, ask: StopAsk) -> StopReply:
        """Ask the node to stop. Silence is never consent: an unknown answer is looked up, not guessed."""
        key = f"{ask.fulfillment_id}:stop:{ask.command_id}"  # another cancellation is another question
        self._checkpoint("shipments.stop", Stage.BEFORE_EFFECT)
        try:
            if activity.info().attempt > 1:
                found = await self._warehouse.look_up_stop(key)
                if isinstance(found, FoundStop):
                    return _stop_reply(found.outcome)
            answer = await self._warehouse.stop(
                StopRequest(key=key, fulfillment_id=ask.fulfillment_id, lines=_lines_of(ask.lines))
            )
        except (NotSent, ProviderUnavailable) as error:
            raise retry_me(type(error).__name__, f"shipments.stop: {error}", error.retry_after_s) from error
        if isinstance(answer, Unknown):
            raise retry_me("ProviderUnknown", f"shipments.stop: {answer.why}")
        self._checkpoint("shipments.stop", Stage.BEFORE_REPORT)
        return _stop_reply(answer)

    @activity.defn(name="shipments.stop_declined")
    async def stop_declined(self, ask: ReportAsk) -> Recorded:
        """The node could not stop: the fulfillment order goes on where it was."""
        self._checkpoint("shipments.stop_declined", Stage.BEFORE_EFFECT)

        async def work(change: OrderChange) -> None:
            row = await fulfillment.read(change.connection, ask.fulfillment_id)
            if row["state"] != FulfillmentState.CANCELLATION_REQUESTED:
                return
            await _advance(change, ask.fulfillment_id, ask.state, ask.stage)
            _say_declined(change, ask.actor, row["node_id"], ask.fulfillment_id, ask.command.command_id)
            self._checkpoint("shipments.stop_declined", Stage.AFTER_EFFECT)

        _, change = await change_order(self._engine, ask.order_id, work)
        self._checkpoint("shipments.stop_declined", Stage.BEFORE_REPORT)
        return Recorded(version=change.version)

    @activity.defn(name="shipments.void_label")
    async def void_label(self, ask: VoidLabelAsk) -> Recorded:
        """Take a label back at the carrier. It costs nothing to ask twice: the key is the parcel's."""
        self._checkpoint("shipments.void_label", Stage.BEFORE_EFFECT)
        try:
            reply = await self._carrier.void_label(
                VoidLabelRequest(key=f"{ask.shipment_id}:void", tracking_number=ask.tracking_number)
            )
        except (NotSent, ProviderUnavailable) as error:
            raise retry_me(type(error).__name__, f"shipments.void_label: {error}", error.retry_after_s) from error
        if isinstance(reply, Unknown):
            raise retry_me("ProviderUnknown", f"shipments.void_label: {reply.why}")
        self._checkpoint("shipments.void_label", Stage.AFTER_EFFECT)

        async def work(change: OrderChange) -> None:
            number = await fulfillment.void_label(change.connection, ask.shipment_id)
            if number is not None:
                change.say("shipment.label_voided", tracking_number=number)

        _, change = await change_order(self._engine, ask.order_id, work)
        self._checkpoint("shipments.void_label", Stage.BEFORE_REPORT)
        return Recorded(version=change.version)


async def _advance(
    change: OrderChange,
    fulfillment_id: str,
    state: FulfillmentState,
    stage: Bucket,
    tracking: TrackingState | None = None,
) -> dict[str, Any]:
    """Give a fulfillment order its next state and move its units along; `tracking` is what its parcel becomes."""
    row = await fulfillment.read(change.connection, fulfillment_id)
    await move_fulfillment(change.connection, fulfillment_id, Bucket(row["stage"]), stage)
    journey = Journey(tracking=tracking or row["tracking"], service_level=row["service_level"])
    deadline = deadline_after(state, stage, change.rules, change.now, row["node_id"], journey)
    await fulfillment.advance(change.connection, fulfillment_id, state, stage, change.now, deadline)
    return row


async def _short(change: OrderChange, ask: ShortAsk) -> None:
    connection, step = change.connection, ask.command.command_id
    row = await fulfillment.read(connection, ask.fulfillment_id)
    at_node = [(line_no, row["node_id"], quantity) for line_no, quantity in ask.units]
    freed = await stock.cut(connection, ask.order_id, ask.fulfillment_id, at_node, step)
    correction = correction_for(ask.cause)
    key = f"{ask.fulfillment_id}:{step}"
    await stock.correct(connection, freed, correction, f"short_pick_{ask.cause}", key, ask.actor.id)
    await move_lines(connection, ask.order_id, Bucket(row["stage"]), Bucket.OPEN, ask.units)
    if not ask.whole:
        await fulfillment.cut(connection, ask.fulfillment_id, ask.units)
    deadline = deadline_after(ask.state, ask.stage, change.rules, change.now, row["node_id"])
    await fulfillment.advance(connection, ask.fulfillment_id, ask.state, ask.stage, change.now, deadline)
    units = sum(quantity for _, quantity in ask.units)
    kind = f"fulfillment.{ask.kind}"
    change.say(kind, ask.actor, ask.cause, step, node=row["node_id"], units=units, why=ask.cause)
    change.settle_command(ask.command.record(), ask.actor)


async def _hand_over(change: OrderChange, ask: HandOverAsk) -> None:
    connection = change.connection
    await _advance(change, ask.fulfillment_id, FulfillmentState.SHIPPED, Bucket.SHIPPED)
    await stock.consume(connection, ask.order_id, ask.fulfillment_id, ask.actor.id)
    await fulfillment.track(connection, ask.shipment_id, TrackingState.IN_TRANSIT, ask.occurred_at, handed_over=True)
    await payments.post_invoice(connection, ask.order_id, change.currency, ask.shipment_id, ask.worth)
    await fulfillment.mark_handed_over(connection, ask.fulfillment_id, ask.worth.total_minor, captured=not ask.captures)
    for part in ask.captures:
        intent = payments.Intent(
            business_key=f"{ask.order_id}:capture:{part.sequence}:{part.seq}",
            order_id=ask.order_id,
            tender_id=part.tender_id,
            intent="capture",
            seq=part.seq,
            amount_minor=part.amount_minor,
            currency=change.currency,
            provider=part.provider,
        )
        await payments.want(connection, intent, grant_token())
    command_id = ask.command.command_id if ask.command else None
    change.say("shipment.handed_over", ask.actor, ask.evidence, command_id, shipment_id=ask.shipment_id)
    if ask.command:
        change.settle_command(ask.command.record(), ask.actor)


async def _scan(change: OrderChange, ask: ScanAsk) -> None:
    connection = change.connection
    stored = await fulfillment.store_scan(
        connection,
        ask.order_id,
        ask.shipment_id,
        ask.event_id,
        ask.type,
        ask.occurred_at,
        applied=ask.state is not None,
        why=ask.why,
    )
    row = await fulfillment.read(connection, ask.fulfillment_id)
    stage = Bucket(row["stage"])
    if stored and not ask.delivered and stage in WITH_THE_CARRIER:  # the carrier is not silent
        state, next_stage = FulfillmentState(row["state"]), ask.stage or stage
        await _advance(change, ask.fulfillment_id, state, next_stage, ask.state)
    if stored and ask.state is not None:
        await fulfillment.track(connection, ask.shipment_id, ask.state, ask.occurred_at, handed_over=False)
        if ask.delivered:
            await _advance(change, ask.fulfillment_id, FulfillmentState.CLOSED, Bucket.DELIVERED)
        await _tell_scan(change, ask, ask.state, row)
        if ask.promise_state:
            await control.set_promise_state(connection, ask.order_id, ask.promise_state)
            change.say(f"promise.{ask.promise_state}", promised_by=change.promised_by)
    if stored and ask.contradicts:
        detail = f"parcel {ask.shipment_id} is {ask.type} though it was made good: look for its units and money"
        await _open_case(change, FOUND_AFTER_LOSS, detail)
    change.settle_command(ask.command.record(), ask.actor)


_SAID = {
    TrackingState.LOST: "parcel.lost",
    TrackingState.DAMAGED: "parcel.damaged",
    TrackingState.RETURN_TO_SENDER: "parcel.returning",  # of its own accord
    TrackingState.RETURNED: "parcel.returned",
    TrackingState.DELIVERED: "shipment.delivered",
}


async def _tell_scan(change: OrderChange, ask: ScanAsk, state: TrackingState, row: dict[str, Any]) -> None:
    """Say what became of the parcel. One that is back puts its units on hand, one on its way back opens a case."""
    about: dict[str, object] = {"shipment_id": ask.shipment_id, "state": state.value}
    if ask.restock:
        lines = await fulfillment.read_lines(change.connection, ask.fulfillment_id)
        units = [(line_no, sku, row["node_id"], quantity) for line_no, sku, quantity in lines]
        await stock.take_back(change.connection, ask.order_id, ask.shipment_id, units, ask.actor.id)
        await arrivals.offer(change.connection, units, (ask.order_id, ask.shipment_id, "returned"))
        about |= {"node": row["node_id"], "units": sum(quantity for _, _, _, quantity in units)}
    if state is TrackingState.LOST:
        about["why"] = "no scan in time" if ask.actor.kind is ActorKind.SYSTEM else "says the carrier"
    kind = _SAID.get(state, "shipment.scanned") if row["stage"] in WITH_THE_CARRIER else "shipment.scanned"
    turns = state is TrackingState.RETURN_TO_SENDER
    recalled = turns and row["recall"] in (RecallState.REQUESTED, RecallState.AGREED)
    kind = "parcel.recalled" if recalled and kind == "parcel.returning" else kind
    change.say(kind, ask.actor, None, ask.command.command_id, **about)
    if turns and not recalled:  # else its customer has said already what they want
        detail = f"parcel {ask.shipment_id} is brought back: ask the customer; refund it or send it again"
        await _open_case(change, PARCEL_RETURNING, detail)


async def _open_case(change: OrderChange, code: str, detail: str) -> None:
    owner = Team.SERVICE.value
    if await control.open_case(change.connection, change.order_id, code, owner, detail, change.version):
        change.say("order.needs_attention", cause=code, code=code, owner=owner, detail=detail)


def _say_declined(change: OrderChange, actor: Actor, node: str, fulfillment_id: str, command_id: str) -> None:
    change.say("cancellation.declined", actor, "too_late", command_id, node=node, fulfillment_id=fulfillment_id)


def _lines_of(units: Sequence[tuple[int, str, int]]) -> tuple[ReleaseLine, ...]:
    return tuple(ReleaseLine(line_no=n, sku=sku, quantity=q) for n, sku, q in units)


def _stop_reply(answer: object) -> StopReply:
    if isinstance(answer, Stopped):
        return StopReply(answer="stopped")
    return StopReply(answer="too_late" if isinstance(answer, TooLate) else "answer_follows")


def _ship_to(vault: dict[str, Any] | None) -> ShipTo | None:
    """The address as the node needs it; None when it was erased or the order has none."""
    if not vault or not vault.get("ship_to"):
        return None
    place = vault["ship_to"]
    lines: Sequence[str] = place.get("lines") or [""]
    return ShipTo(
        name=place.get("name") or "",
        line1=lines[0],
        line2=", ".join(lines[1:]),
        city=place.get("city") or "",
        region=place.get("region") or "",
        postal_code=place.get("postal_code") or "",
        country=place["country"],
    )


_ClaimWork = Callable[[AsyncConnection, str], Awaitable[int | None]]
_Call = Callable[[bool], Awaitable[Ok | Refused | Unknown]]
_Write = Callable[[OrderChange, str, Ok | Refused], Awaitable[bool]]
