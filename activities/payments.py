"""Finance's part of an order: authorize, capture, void, refund. Money moves once per business key."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Annotated, Literal, assert_never

from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from temporalio import activity

from activities.contract import Checkpoint, Effect, Grant, no_checkpoint, perform
from domain.orders import Actor, ActorKind, Frozen
from providers.outcomes import Absent, Found, Refused, Unknown
from providers.payments import (
    AuthorizeRequest,
    CaptureRequest,
    PaymentOk,
    PaymentOutcome,
    PaymentProvider,
    RefundRequest,
    VoidRequest,
)
from store import fulfillment, payments, stock
from store.engine import transaction
from store.orders import OrderChange, change_order, lock_order
from store.payments import Intent

PROVIDER = Actor(kind=ActorKind.PROVIDER, id="payments")
ALREADY_CAPTURED = "already_captured"
EXCEEDS_AUTHORIZATION = "exceeds_authorization"
Reply = PaymentOk | Refused


class MoneyAsk(Frozen):
    """One movement of money on one tender. `seq` numbers the intents of a kind: a new amount is a new seq."""

    order_id: str
    tender_id: str
    sequence: int
    seq: int
    amount_minor: int
    currency: str
    provider: str
    reference: str | None = None  # authorize: the payment method
    authorization_ref: str | None = None  # capture, void, refund: what the provider calls its authorization
    fulfillment_id: str | None = None  # capture: the parcel that it pays for
    shipment_id: str | None = None
    ends_parcel: bool = True  # capture: the parcel is paid in full with it
    reason_ref: str | None = None  # refund: what it is for
    for_change: bool = False  # authorize: what a change of the order costs more; declined, the order is unchanged
    grant: Grant | None = None

    def intent(self, kind: str) -> Intent:
        """The intent as it is stored, under its business key."""
        return Intent(
            business_key=f"{self.order_id}:{kind}:{self.sequence}:{self.seq}",
            order_id=self.order_id,
            tender_id=self.tender_id,
            intent=kind,
            seq=self.seq,
            amount_minor=self.amount_minor,
            currency=self.currency,
            provider=self.provider,
            reason_ref=self.reason_ref,
        )


class MoneyMoved(Frozen):
    """The provider did it."""

    kind: Literal["moved"] = "moved"
    amount_minor: int
    provider_ref: str
    version: int


class MoneyRefused(Frozen):
    """The provider said no, for good."""

    kind: Literal["refused"] = "refused"
    code: str
    version: int


MoneyOutcome = Annotated[MoneyMoved | MoneyRefused, Field(discriminator="kind")]


class PaymentActivities:
    """Calls to the payment provider: remote activities, each claim -> call -> settle."""

    def __init__(self, engine: AsyncEngine, provider: PaymentProvider, checkpoint: Checkpoint = no_checkpoint) -> None:
        self._engine = engine
        self._provider = provider
        self._checkpoint = checkpoint

    @activity.defn(name="payments.authorize")
    async def authorize(self, ask: MoneyAsk) -> MoneyOutcome:
        """Have the money held. A decline is an outcome; the customer may fix it."""

        async def call(claimed: payments.Claim) -> PaymentOutcome:
            return await self._provider.authorize(
                AuthorizeRequest(
                    key=ask.intent("authorize").business_key,
                    order_id=ask.order_id,
                    reference=claimed.reference,
                    amount_minor=ask.amount_minor,
                    currency=ask.currency,
                )
            )

        return await self._move(ask, "authorize", call, _authorized)

    @activity.defn(name="payments.capture")
    async def capture(self, ask: MoneyAsk) -> MoneyOutcome:
        """Take the money for a parcel that has left."""

        async def call(claimed: payments.Claim) -> PaymentOutcome:
            return await self._provider.capture(
                CaptureRequest(
                    key=ask.intent("capture").business_key,
                    order_id=ask.order_id,
                    authorization_ref=claimed.authorization_ref or "",
                    amount_minor=ask.amount_minor,
                    currency=ask.currency,
                )
            )

        return await self._move(ask, "capture", call, _captured)

    @activity.defn(name="payments.void")
    async def void(self, ask: MoneyAsk) -> MoneyOutcome:
        """Release what was not captured."""

        async def call(claimed: payments.Claim) -> PaymentOutcome:
            return await self._provider.void(
                VoidRequest(
                    key=ask.intent("void").business_key,
                    order_id=ask.order_id,
                    authorization_ref=claimed.authorization_ref or "",
                )
            )

        return await self._move(ask, "void", call, _voided)

    @activity.defn(name="payments.refund")
    async def refund(self, ask: MoneyAsk) -> MoneyOutcome:
        """Give captured money back; counted against the cap before it is sent."""

        async def call(claimed: payments.Claim) -> PaymentOutcome:
            return await self._provider.refund(
                RefundRequest(
                    key=ask.intent("refund").business_key,
                    order_id=ask.order_id,
                    authorization_ref=claimed.authorization_ref or "",
                    amount_minor=ask.amount_minor,
                    currency=ask.currency,
                )
            )

        return await self._move(ask, "refund", call, _refunded)

    async def _move(self, ask: MoneyAsk, kind: str, call: "_Call", write: "_Write") -> MoneyOutcome:
        intent = ask.intent(kind)
        key = intent.business_key
        claimed = payments.Claim(1, ask.reference or "", ask.authorization_ref) if ask.grant else None

        async def claim(token: str) -> int | None:
            nonlocal claimed
            claimed = await transaction(self._engine, lambda c: _claim(c, ask, intent, token))
            return None if claimed is None else claimed.attempt_no

        async def reply(look_up: bool) -> Reply | Unknown:
            if look_up:
                found = await self._provider.look_up(key)
                match found:
                    case Found():
                        return found.outcome
                    case Absent():
                        pass
                    case _:
                        assert_never(found)
            if claimed is None:
                raise AssertionError("called without a claim")
            return await call(claimed)

        async def settle(token: str, answer: Reply) -> MoneyMoved | MoneyRefused | None:
            return await self._settle(ask, intent, token, answer, write)

        return await perform(
            Effect[Reply, MoneyMoved | MoneyRefused](
                name=f"payments.{kind}",
                claim=claim,
                call=reply,
                settle=settle,
                unknown=lambda token: self._unknown(ask, key, token),
                stored=lambda: self._stored(ask.order_id, key),
            ),
            ask.grant,
            self._checkpoint,
        )

    async def _settle(
        self, ask: MoneyAsk, intent: Intent, token: str, answer: Reply, write: "_Write"
    ) -> MoneyMoved | MoneyRefused | None:
        async def work(change: OrderChange) -> bool:
            refusal = answer.code if isinstance(answer, Refused) else None
            amount = answer.amount_minor if isinstance(answer, PaymentOk) else None
            ref = answer.provider_ref if isinstance(answer, PaymentOk) else None
            owns = await payments.settle(
                change.connection,
                intent.business_key,
                token,
                provider_ref=ref,
                refusal=refusal,
                amount_minor=amount,
            )
            if owns:
                await write(change, ask, intent, answer)
            return owns

        owns, change = await change_order(self._engine, ask.order_id, work)
        if not owns:
            return None
        if isinstance(answer, Refused):
            return MoneyRefused(code=answer.code, version=change.version)
        return MoneyMoved(amount_minor=answer.amount_minor, provider_ref=answer.provider_ref, version=change.version)

    async def _unknown(self, ask: MoneyAsk, key: str, token: str) -> None:
        async def work(change: OrderChange) -> None:
            attempt_no = await payments.mark_unknown(change.connection, key, token)
            if attempt_no == 1:
                change.say("payment.unknown", PROVIDER)

        await change_order(self._engine, ask.order_id, work)

    async def _stored(self, order_id: str, key: str) -> MoneyMoved | MoneyRefused:
        async def work(change: OrderChange) -> payments.Settled:
            return await payments.settled(change.connection, key)

        found, change = await change_order(self._engine, order_id, work)
        if found.state == "refused":
            return MoneyRefused(code=found.refusal or "refused", version=change.version)
        return MoneyMoved(
            amount_minor=found.amount_minor, provider_ref=found.provider_ref or "", version=change.version
        )


_Call = Callable[[payments.Claim], Awaitable[PaymentOutcome]]
_Write = Callable[[OrderChange, MoneyAsk, Intent, Reply], Awaitable[None]]


async def _claim(connection: AsyncConnection, ask: MoneyAsk, intent: Intent, token: str) -> payments.Claim | None:
    """Store the intent if the decision has not, and take the right to call."""
    if intent.intent == "authorize":
        return await _claim_authorization(connection, ask, intent, token)
    if await payments.want(connection, intent) and intent.intent == "refund":
        await payments.refund_claimed(connection, ask.tender_id, ask.amount_minor)
    return await payments.claim(connection, intent.business_key, token)


async def _claim_authorization(
    connection: AsyncConnection, ask: MoneyAsk, intent: Intent, token: str
) -> payments.Claim | None:
    """The first attempt starts the wait for the provider, perhaps with another payment method."""
    pending_s = (await lock_order(connection, ask.order_id)).rules.payment_pending_s
    new = await payments.want(connection, intent)
    if new:
        await payments.tender_pending(connection, ask.tender_id, ask.reference, pending_s)
    claimed = await payments.claim(connection, intent.business_key, token)
    if claimed is not None and claimed.attempt_no == 1 and not new:
        await payments.tender_pending(connection, ask.tender_id, None, pending_s)
    return claimed


async def _authorized(change: OrderChange, ask: MoneyAsk, intent: Intent, answer: Reply) -> None:
    if isinstance(answer, PaymentOk):
        await payments.tender_authorized(
            change.connection, ask.tender_id, answer.amount_minor, answer.provider_ref, answer.capture_before
        )
        change.say("payment.authorized", PROVIDER, amount_minor=answer.amount_minor, tender_id=ask.tender_id)
        return
    if ask.for_change:
        await payments.tender_failed(change.connection, ask.tender_id, answer.code, change.now)
        change.say("payment.refused", PROVIDER, intent="authorize", code=answer.code)
        return
    until = change.now + timedelta(seconds=change.rules.payment_window_s)
    await payments.tender_failed(change.connection, ask.tender_id, answer.code, until)
    if change.rules.hold_through_payment_window:
        await stock.extend_hold(change.connection, ask.order_id, until)
    change.say(
        "payment.declined",
        PROVIDER,
        cause=answer.code,
        decline_code=answer.code,
        until=until.isoformat(timespec="seconds"),
        tender_id=ask.tender_id,
    )


async def _captured(change: OrderChange, ask: MoneyAsk, intent: Intent, answer: Reply) -> None:
    if isinstance(answer, Refused):
        change.say("payment.refused", PROVIDER, intent="capture", code=answer.code)
        return
    amount = answer.amount_minor
    await payments.tender_captured(change.connection, ask.tender_id, amount)
    await payments.post_capture(
        change.connection, ask.order_id, ask.currency, ask.tender_id, intent.business_key, amount
    )
    if ask.fulfillment_id and ask.ends_parcel:
        await fulfillment.mark_captured(change.connection, ask.fulfillment_id)
    what = ask.shipment_id or "what was cancelled without refund"
    change.say("payment.captured", PROVIDER, amount_minor=amount, shipment_id=ask.shipment_id, what=what)


async def _voided(change: OrderChange, ask: MoneyAsk, intent: Intent, answer: Reply) -> None:
    if isinstance(answer, Refused):
        if answer.code == ALREADY_CAPTURED:
            await _captured_outside(change, ask, intent, ask.amount_minor)
        change.say("payment.refused", PROVIDER, intent="void", code=answer.code)
        return
    outside = ask.amount_minor - answer.amount_minor
    if outside > 0:
        await _captured_outside(change, ask, intent, outside)
    await payments.tender_voided(change.connection, ask.tender_id)
    change.say("payment.voided", PROVIDER, amount_minor=answer.amount_minor, tender_id=ask.tender_id)


async def _captured_outside(change: OrderChange, ask: MoneyAsk, intent: Intent, amount_minor: int) -> None:
    """Somebody captured at the provider's own console: book it, so that it can be refunded."""
    await payments.tender_captured(change.connection, ask.tender_id, amount_minor)
    await payments.post_capture(
        change.connection, ask.order_id, ask.currency, ask.tender_id, intent.business_key, amount_minor
    )


async def _refunded(change: OrderChange, ask: MoneyAsk, intent: Intent, answer: Reply) -> None:
    done = isinstance(answer, PaymentOk)
    await payments.refund_settled(change.connection, ask.tender_id, ask.amount_minor, done=done)
    if not done:
        change.say("payment.refused", PROVIDER, intent="refund", code=getattr(answer, "code", ""))
        return
    await payments.post_refund(
        change.connection, ask.order_id, ask.currency, ask.tender_id, intent.business_key, ask.amount_minor
    )
    change.say("refund.succeeded", PROVIDER, amount_minor=ask.amount_minor, tender_id=ask.tender_id)
