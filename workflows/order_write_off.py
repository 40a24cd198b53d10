"""The command by which finance gives up what is owed and cannot be taken any more."""

from temporalio import workflow
from temporalio.common import RawValue

from workflows.order_closing import OrderClosing
from workflows.order_desk import takes_anything, validated

with workflow.unsafe.imports_passed_through():
    from activities.write_offs import WriteOffActivities, WriteOffAsk
    from domain.orders import PlaceOrder
    from domain.refusals import OrderRuleError
    from domain.write_off import plan_write_off
    from workflows.messages import WriteOff, WriteOffOutcome


class OrderWriteOff(OrderClosing):
    """The command `write_off`."""

    def __init__(self, order: PlaceOrder) -> None:
        super().__init__(order)
        self._missing_minor = 0  # what finance was told of: it cannot be taken any more

    @workflow.update(
        name="write_off",
        description="Give up what is owed and cannot be taken any more, so that the order ends. "
        '`{"command_id": "my-id"}`',
    )
    async def write_off(self, command: WriteOff) -> WriteOffOutcome:
        """Give up what is missing."""
        return await self._command(command, "write_off", self._write_off, WriteOffOutcome)

    @write_off.validator
    def _check_write_off_update(self, command: WriteOff) -> None:
        validated(self._check_write_off, command, self.s.answered)

    @workflow.signal(name="write_off", description="As the update `write_off`, for senders that cannot wait.")
    @takes_anything
    async def write_off_signal(self, raw: RawValue) -> None:
        """Give up what is missing."""
        await self._signalled(raw, WriteOff, "write_off", self._check_write_off, self._write_off, WriteOffOutcome)

    def _check_write_off(self, command: WriteOff) -> None:
        plan_write_off(self.s, self._missing_minor, command.actor)

    async def _write_off(self, command: WriteOff) -> WriteOffOutcome:
        actor = (await self._opened(command, "write_off")).actor
        try:
            amount = plan_write_off(self.s, self._missing_minor, actor)
        except OrderRuleError as refusal:
            await self._refuse_signal(command, "write_off", refusal.code, refusal.detail)
            raise
        self._missing_minor -= amount
        outcome = WriteOffOutcome(amount_minor=amount, order_version=self.s.version)
        ask = WriteOffAsk(
            order_id=self.s.order.order_id,
            amount_minor=amount,
            actor=actor,
            command=self._ref(command, "write_off", outcome),
        )
        written = await self._database(WriteOffActivities.write_off, ask, f"Write off {self._amount(amount)}")
        self.s.unsettled_minor -= amount
        self.s.changed_at = workflow.now()
        return outcome.model_copy(update={"order_version": written.version})

    async def _ask_finance_for(self, missing_minor: int) -> None:
        """Somebody took a part at the provider's own console, and the rest cannot be taken any more."""
        seen = self._retries
        self._missing_minor = missing_minor
        text = f"{self._amount(missing_minor)} of what was cancelled without refund could not be captured"
        await self._attention("payment_kept_missing", "finance", text)
        await workflow.wait_condition(lambda: self._retries > seen or self.s.excess_minor >= 0)
