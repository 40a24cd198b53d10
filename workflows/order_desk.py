"""The desk where commands arrive: one path for updates and signals, one outcome per command for ever.

An update is refused before anything is written; a signal cannot answer, so its refusal is stored as the
command's outcome.
"""

import asyncio
import functools
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from pydantic import BaseModel
from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError

from workflows.order_base import ClosingNow, OrderBase

with workflow.unsafe.imports_passed_through():
    from activities.contract import CommandRef, LostCommand
    from activities.records import (
        COMMAND_ALTERED,
        DIRECT_COMMAND_REFUSED,
        CommandOpened,
        HearAsk,
        OpenCommandAsk,
        RecordActivities,
        SettleAsk,
    )
    from domain.backorders import SupplyArrived
    from domain.force_close import OrderClosed
    from domain.ids import derived_id
    from domain.money import format_minor
    from domain.order_state import Fulfillment, Tender
    from domain.orders import OPERATOR, Actor, PlaceOrder
    from domain.quantities import Bucket
    from domain.refusals import OrderRuleError
    from workflows.messages import (
        Accept,
        Accepted,
        AcceptOutcome,
        AmendOrder,
        CancelOrder,
        CarrierEvent,
        ChooseRemedy,
        ForceClose,
        LeaveNode,
        NodeReport,
        PaymentEvent,
        PlaceHold,
        Rejected,
        ReleaseHold,
        RetryNow,
        WriteOff,
    )

COMMANDS: Mapping[str, type[BaseModel]] = {
    "amend": AmendOrder,
    "cancel": CancelOrder,
    "place_hold": PlaceHold,
    "release_hold": ReleaseHold,
    "node_report": NodeReport,
    "carrier_event": CarrierEvent,
    "choose_remedy": ChooseRemedy,
    "payment_event": PaymentEvent,
    "retry_now": RetryNow,
    "force_close": ForceClose,
    "write_off": WriteOff,
    "supply_arrived": SupplyArrived,
    "leave_node": LeaveNode,
}
OWN = "system:"
"""How the ids of the commands begin that an order gives itself."""
C = TypeVar(
    "C",
    AmendOrder,
    CancelOrder,
    PlaceHold,
    ReleaseHold,
    NodeReport,
    CarrierEvent,
    ChooseRemedy,
    PaymentEvent,
    RetryNow,
    ForceClose,
    WriteOff,
    SupplyArrived,
    LeaveNode,
)
D = TypeVar("D", bound=OrderBase)
O = TypeVar("O", bound=BaseModel)  # noqa: E741 - O for outcome, beside C for command


class UnknownFulfillment(OrderRuleError):
    """This order has no such fulfillment order."""

    code = "unknown_fulfillment_order"


class UnknownShipment(OrderRuleError):
    """This order has no such parcel."""

    code = "unknown_shipment"


class UnknownTender(OrderRuleError):
    """This order has no such tender."""

    code = "unknown_tender"


class NotYet(OrderRuleError):
    """The order is not ready for this; the text says what comes first."""

    code = "not_yet"


class SenderRefused(OrderRuleError):
    """Who sent it may not, or the row of the command says something else. The code is the row's."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def takes_anything(handler: Callable[[D, RawValue], Awaitable[None]]) -> Callable[[D, RawValue], Awaitable[None]]:
    """A signal may come with nothing at all, or with too much: either becomes one value that cannot be read.

    Without this the handler could not even be called, and the workflow task would fail for ever.
    """

    @functools.wraps(handler)
    async def taken(self: D, *values: object) -> None:
        one = values[0] if len(values) == 1 else None
        await handler(self, one if isinstance(one, RawValue) else RawValue(Payload(data=repr(values).encode())))

    return taken


class OrderDesk(OrderBase):
    """Takes commands, meets repeats with their outcome, and answers questions."""

    def __init__(self, order: PlaceOrder) -> None:
        super().__init__(order)
        self._unheard: list[tuple[str, Any]] = []  # signals that came while the order was closed by force

    async def _command(self, command: C, kind: str, do: Callable[[C], Awaitable[O]], outcome: type[O]) -> O:
        """Once per command id: a repeat meets the stored outcome, a copy under way is waited for."""
        key = command.command_id
        while key in self.s.answered:  # a copy under way may be refused: then this one asks for itself
            await workflow.wait_condition(lambda: self.s.answered.get(key) != "")
            if answered := self.s.answered.get(key):
                return outcome.model_validate_json(answered)
        if self.s.closing is not None:
            raise refused(OrderClosed("the order is being closed by force"))
        self.s.answered[key], self._handlers[key] = "", asyncio.current_task()
        try:
            answer = await do(command)
        except OrderRuleError as refusal:
            del self.s.answered[key]
            raise refused(refusal) from refusal
        except (asyncio.CancelledError, ClosingNow) as ended:
            if self.s.closing is None:
                raise
            del self.s.answered[key]
            raise refused(OrderClosed("the order is being closed by force")) from ended
        finally:
            self._handlers.pop(key, None)
        self.s.answered[key] = answer.model_dump_json()
        return answer

    async def _signalled(
        self,
        raw: RawValue,
        model: type[C],
        kind: str,
        check: Callable[[C], None],
        do: Callable[[C], Awaitable[O]],
        outcome: type[O],
    ) -> None:
        """A command that came as a signal. What cannot be understood becomes a failed command, never a loss."""
        try:
            command = _read(raw, model)
        except Exception as error:
            text = raw.payload.data[:2000].decode("utf-8", "replace").replace("\x00", "")
            key = derived_id("cmd", self.s.order.order_id, kind, text)
            with suppress(ClosingNow):
                await self._settle_command(key, kind, text, "failed", type(error).__name__, OPERATOR)
            return
        try:
            await self._take_signal(command, kind, check, do, outcome)
        except ClosingNow:
            self._unheard.append((kind, command))  # its outcome is written when the order ends

    async def _take_signal(
        self,
        command: C,
        kind: str,
        check: Callable[[C], None],
        do: Callable[[C], Awaitable[O]],
        outcome: type[O],
    ) -> None:
        try:
            if command.command_id not in self.s.answered:
                check(command)
            await self._command(command, kind, do, outcome)
        except OrderRuleError as refusal:
            await self._refuse_signal(command, kind, refusal.code, refusal.detail)
        except ApplicationError as refusal:
            await self._refuse_signal(command, kind, refusal.type or "refused", refusal.message)

    async def _teller(self, command: C, kind: str, unnamed: Actor) -> Actor:
        """Who tells a fact: its row, where commands must come through the API, else the message or `unnamed`.

        It costs a step of its own only there: a fact is taken or refused by the state, whoever tells it.
        """
        if self.s.sealed:
            return (await self._opened(command, kind)).actor
        return command.actor or unnamed

    async def _opened_since_2(self, command: C, kind: str, unnamed: Actor, *, moves: bool = True) -> CommandOpened:
        """As `_opened`; an order of the first flow reads the row only where commands must come through the API."""
        claimed = command.actor or unnamed
        if self.s.sealed or self.s.flow > 1:
            return await self._opened(command, kind, claimed, moves=moves)
        return CommandOpened(actor=claimed)

    async def _opened(self, command: C, kind: str, unnamed: Actor = OPERATOR, *, moves: bool = True) -> CommandOpened:
        """What is recorded about the command, once the order knows what was recorded before it.

        Raises:
            SenderRefused: the command may not go on.
        """
        ask = OpenCommandAsk(
            order_id=self.s.order.order_id,
            command_id=command.command_id,
            kind=kind,
            payload_sha256=hashlib.sha256(command.model_dump_json().encode()).hexdigest(),
            moves_money_or_goods=moves,
            known=self._heard(),
            unnamed=unnamed,
        )
        opened = await self._database(RecordActivities.open_command, ask, f"Who sent this {kind}?")
        await self._hear_again(opened.lost)
        if opened.code is None:
            return opened
        if opened.code == DIRECT_COMMAND_REFUSED:
            await self._refuse_signal(command, kind, opened.code, opened.detail)
        raise SenderRefused(opened.code, opened.detail)

    def _heard(self) -> tuple[str, ...]:
        """The commands whose outcome this order knows. One that was sent and is under way may be a lost one again."""
        return tuple(key for key, outcome in self.s.answered.items() if outcome or key.startswith(OWN))

    async def _catch_up(self) -> None:
        """Before the order decides by itself: take what it lost, so that it decides by what its rows say."""
        ask = HearAsk(order_id=self.s.order.order_id, known=self._heard())
        heard = await self._database(RecordActivities.hear, ask, "Was anything said that was lost?")
        await self._hear_again(heard.lost)

    async def _hear_again(self, lost: Sequence[LostCommand]) -> None:
        """Take commands that the database has and this order lost with a workflow task, before anything later.

        What they did is done already, and their activities say so: only the order itself catches up. Their senders
        may send them again meanwhile, and get the same answers.
        """
        for one in lost:
            command = COMMANDS[one.kind].model_validate_json(one.payload_json)
            if isinstance(command, CancelOrder) and command.command_id.startswith(OWN):
                await self._give_up_by(command)
                continue
            with suppress(ApplicationError):
                await getattr(self, one.kind)(command)

    async def _give_up_by(self, command: CancelOrder) -> None:
        """Cancel because nothing else is left to do. See `order_cancelling.py`."""
        raise NotImplementedError

    async def _refuse_signal(self, command: C, kind: str, code: str, detail: str) -> None:
        content = {"code": code, "detail": detail}
        altered = code == COMMAND_ALTERED  # the outcome of the real command is not its business
        text = command.model_dump_json()
        await self._settle_command(
            derived_id("cmd", self.s.order.order_id, kind, text) if altered else command.command_id,
            kind,
            text,
            "refused",
            json.dumps(content),
            OPERATOR if altered else command.actor or OPERATOR,
        )

    async def _settle_command(self, key: str, kind: str, payload: str, state: str, why: str, actor: Actor) -> None:
        await workflow.wait_condition(lambda: self.s.acceptance is not None)  # until then there is no order's row
        outcome = why if why.startswith("{") else json.dumps({"code": "unreadable", "detail": why})
        body = payload if payload.startswith("{") and state != "failed" else json.dumps({"text": payload})
        ref = CommandRef(command_id=key, kind=kind, payload_json=body, outcome_json=outcome, state=state)
        ask = SettleAsk(order_id=self.s.order.order_id, actor=actor, command=ref)
        await self._database(RecordActivities.settle_command, ask, f"Store the outcome of {kind}")

    def _ref(self, command: C, kind: str, outcome: BaseModel) -> CommandRef:
        return CommandRef(
            command_id=command.command_id,
            kind=kind,
            payload_json=command.model_dump_json(),
            outcome_json=outcome.model_dump_json(),
        )

    @workflow.update(name="accept", description='Wait for the answer to the order. `{"command_id": "accept"}`')
    async def accept(self, ask: Accept) -> AcceptOutcome:
        """The answer to the order."""
        await workflow.wait_condition(lambda: self.s.acceptance is not None)
        told = json.loads(self.s.acceptance or "{}")
        return Accepted.model_validate(told) if told["kind"] == "accepted" else Rejected.model_validate(told)

    @accept.validator
    def _check_accept_update(self, ask: Accept) -> None:
        """That it could be read is enough."""

    @workflow.signal(name="accept", description="Does nothing: an order accepts itself when it starts.")
    @takes_anything
    async def accept_signal(self, raw: RawValue) -> None:
        """Starting the order is what counts."""

    @workflow.query(name="state", description="Everything that this order knows. Read only, any time.")
    def state(self) -> Any:
        """The state as JSON."""
        return self.s.model_dump(mode="json")

    @workflow.query(name="waits", description="Who is waited for, since when, until when. Read only, any time.")
    def waits(self) -> Any:
        """The first wait, or null."""
        wait = self.s.header().wait
        return wait.model_dump(mode="json") if wait else None

    @workflow.query(name="digest", description="The digest that the database must agree with.")
    def digest(self) -> str:
        """Law I15."""
        return self.s.header().digest

    def _judge_promise(self) -> str | None:
        """Once no unit is under way: kept or broken by what was delivered, withdrawn where nothing was.

        What got lost on its way and was not sent again breaks it.
        """
        quantities = self.s.quantities
        if quantities.live or self.s.promised_until is None:
            return None
        if quantities.written_off and any(line.credited for line in self.s.lines.values()):
            self.s.promise_state = "broken"
            return self.s.promise_state
        arrivals = [f.delivered_at for f in self.s.fulfillments.values() if f.stage is Bucket.DELIVERED]
        last = max((at for at in arrivals if at is not None), default=None)
        if last is None:
            self.s.promise_state = "withdrawn"
        else:
            self.s.promise_state = "kept" if last <= self.s.promised_until else "broken"
        return self.s.promise_state

    def _part(self, fulfillment_id: str) -> Fulfillment:
        part = self.s.fulfillments.get(fulfillment_id)
        if part is None:
            raise UnknownFulfillment(f"this order has no fulfillment order {fulfillment_id}")
        return part

    def _tender(self, tender_id: str) -> Tender:
        for tender in self.s.tenders:
            if tender.tender_id == tender_id:
                return tender
        raise UnknownTender(f"this order has no tender {tender_id}")

    def _amount(self, minor: int) -> str:
        return f"{format_minor(minor, self.s.order.currency)} {self.s.order.currency}"


def _read(raw: RawValue, model: type[C]) -> C:
    """The command in a signal.

    Raises:
        TypeError: there is none.
        ValueError: it is not what it should be.
    """
    command = workflow.payload_converter().from_payload(raw.payload, model)
    if not isinstance(command, model):
        raise TypeError(f"a {model.__name__} was expected")
    return command


def validated(check: Callable[[C], None], command: C, answered: dict[str, str]) -> None:
    """Run a validator; a repeat of an answered command passes, so that it meets its outcome."""
    if command.command_id in answered:
        return
    try:
        check(command)
    except OrderRuleError as refusal:
        raise refused(refusal) from refusal


def refused(refusal: OrderRuleError) -> ApplicationError:
    """The refusal as the error that fails an update: type is the code, the detail names the alternative."""
    details = {"alternative": refusal.alternative}
    return ApplicationError(refusal.detail, details, type=refusal.code, non_retryable=True)
