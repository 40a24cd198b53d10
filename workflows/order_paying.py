"""What can be said about an order's payment, and the word that makes a waiting step try again."""

from temporalio import workflow
from temporalio.common import RawValue

from workflows.order_desk import NotYet, takes_anything, validated
from workflows.order_recalling import OrderRecalling

with workflow.unsafe.imports_passed_through():
    from activities.payments import ALREADY_CAPTURED, MoneyMoved, PaymentActivities
    from domain.lifecycle import PaymentState
    from domain.order_state import Tender
    from domain.orders import OPERATOR
    from workflows.messages import PaymentEvent, PaymentEventOutcome, RetryNow, RetryOutcome


class OrderPaying(OrderRecalling):
    """The commands `payment_event` and `retry_now`, and the release of money that is not needed."""

    @workflow.update(
        name="payment_event",
        description='Replace a declined payment method. `{"command_id": "my-id", "tender_id": "tnd_...", '
        '"fact": "method_updated", "reference": "pm_ok"}`',
    )
    async def payment_event(self, command: PaymentEvent) -> PaymentEventOutcome:
        """Take a fact about a tender, or a new payment method."""
        return await self._command(command, "payment_event", self._payment_event, PaymentEventOutcome)

    @payment_event.validator
    def _check_payment_update(self, command: PaymentEvent) -> None:
        validated(self._check_payment, command, self.s.answered)

    @workflow.signal(name="payment_event", description="As the update `payment_event`, for senders that cannot wait.")
    @takes_anything
    async def payment_event_signal(self, raw: RawValue) -> None:
        """Take a fact about a tender."""
        await self._signalled(
            raw, PaymentEvent, "payment_event", self._check_payment, self._payment_event, PaymentEventOutcome
        )

    def _check_payment(self, command: PaymentEvent) -> None:
        tender = self._tender(command.tender_id)
        if command.fact == "method_updated":
            if not command.reference:
                raise NotYet("a new payment method needs its reference")
            if tender.in_call:
                return  # the decline may be known outside before it is here: the handler waits for the call's end
            if tender.state is not PaymentState.FAILED or not self.s.quantities.live:
                raise NotYet(f"tender {tender.tender_id} is {tender.state}: only a declined one can be replaced")

    async def _payment_event(self, command: PaymentEvent) -> PaymentEventOutcome:
        """A provider's own facts are hints: our call or its look-up decides. A new method is tried at once."""
        tender = self._tender(command.tender_id)
        opened = await self._opened_since_2(command, "payment_event", OPERATOR)
        if opened.outcome_json:  # it is done and answered: only its answer was lost
            return PaymentEventOutcome.model_validate_json(opened.outcome_json)
        await workflow.wait_condition(lambda: not tender.in_call)
        self._check_payment(command)
        applied = command.fact == "method_updated"
        if applied and command.reference:
            tender.reference, tender.retry_asked = command.reference, True
            seq = tender.seq
            await workflow.wait_condition(
                lambda: (tender.seq > seq and tender.state is not PaymentState.PENDING) or not self.s.quantities.live
            )
        outcome = PaymentEventOutcome(
            applied=applied,
            tender_id=tender.tender_id,
            state=tender.state,
            order_version=self.s.version,
            decline_code=tender.decline_code,
            why=None if applied else "noted; the provider's own answer to our request decides",
        )
        await self._settle_command(
            command.command_id,
            "payment_event",
            command.model_dump_json(),
            "applied",
            outcome.model_dump_json(),
            opened.actor,
        )
        return outcome.model_copy(update={"order_version": self.s.version})

    @workflow.update(
        name="retry_now", description='Do the waiting step again now. `{"command_id": "my-id", "reason": "fixed"}`'
    )
    async def retry_now(self, command: RetryNow) -> RetryOutcome:
        """Wake whatever waits for a retry."""
        return await self._command(command, "retry_now", self._retry_now, RetryOutcome)

    @retry_now.validator
    def _check_retry_update(self, command: RetryNow) -> None:
        validated(lambda _: None, command, self.s.answered)

    @workflow.signal(name="retry_now", description="As the update `retry_now`, for senders that cannot wait.")
    @takes_anything
    async def retry_now_signal(self, raw: RawValue) -> None:
        """Wake whatever waits for a retry."""
        await self._signalled(raw, RetryNow, "retry_now", lambda _: None, self._retry_now, RetryOutcome)

    async def _retry_now(self, command: RetryNow) -> RetryOutcome:
        actor = (await self._opened_since_2(command, "retry_now", OPERATOR, moves=False)).actor
        self._retries += 1
        if self.s.supply_look_at is not None:
            self.s.supply_look_at = workflow.now()
        outcome = RetryOutcome(applied=True, order_version=self.s.version)
        await self._settle_command(
            command.command_id,
            "retry_now",
            command.model_dump_json(),
            "applied",
            outcome.model_dump_json(),
            actor,
        )
        return outcome.model_copy(update={"order_version": self.s.version})

    async def _void(self, tender: Tender) -> None:
        """Release what was not captured; nothing where nothing is held."""
        while tender.state in (PaymentState.AUTHORIZED, PaymentState.PARTIALLY_CAPTURED):
            seen, left = self._retries, tender.left_minor
            summary = f"Release the unused {self._amount(left)}"
            ask = self._money(tender, tender.seq, left)
            outcome = await self._provider(PaymentActivities.void, ask, summary, "payment_void_failing")
            if isinstance(outcome, MoneyMoved):
                tender.captured_minor += left - outcome.amount_minor  # taken behind our back before the void
                tender.state = PaymentState.CAPTURED if tender.captured_minor else PaymentState.VOIDED
            elif outcome.code == ALREADY_CAPTURED:
                tender.captured_minor, tender.state = tender.authorized_minor, PaymentState.CAPTURED
            else:
                await self._attention("payment_void_refused", "finance", f"the provider refused: {outcome.code}")
                await self._retry_asked(seen)
                tender.seq += 1
