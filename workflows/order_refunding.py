"""Giving money back: what was credited at once, and at settlement what was taken beyond what is owed."""

import asyncio

from temporalio import workflow

from workflows.order_desk import OrderDesk

with workflow.unsafe.imports_passed_through():
    from activities.payments import MoneyAsk, MoneyMoved, PaymentActivities
    from domain.holds import blocked
    from domain.order_state import Tender
    from domain.orders import HoldBlock
    from domain.refund import RefundShare, plan_refund


class OrderRefunding(OrderDesk):
    """Refunds, each under its own number per tender. What is on its way is counted from the moment of the plan."""

    def _refund_credit(self) -> None:
        """Synchronous: what was credited goes home from now on, beside everything else."""
        for share in plan_refund(self.s.tenders, self.s.credit_due_minor):
            self._tracks.append(asyncio.create_task(self._give_back(share, self._mark_refund(share), "credit")))

    async def _refund_excess(self) -> None:
        """Money that was taken behind our back for units that nobody owes any more goes home."""
        for share in plan_refund(self.s.tenders, max(0, self.s.excess_minor)):
            await self._give_back(share, self._mark_refund(share), "settlement")

    def _mark_refund(self, share: RefundShare) -> int:
        """Synchronous: it counts as on its way. Returns its number at the tender."""
        tender = self._tender(share.tender_id)
        tender.refunds += 1
        tender.refunding_minor += share.amount_minor
        return tender.refunds

    async def _give_back(self, share: RefundShare, number: int, reason: str) -> None:
        """One refund; after a provider's refusal the next attempt is a new one, once somebody says so."""
        tender, amount = self._tender(share.tender_id), share.amount_minor
        while blocked(self.s, HoldBlock.REFUND):
            await workflow.wait_condition(lambda: not blocked(self.s, HoldBlock.REFUND))
        while True:
            seen = self._retries
            ask = self._money(tender, number, amount).model_copy(update={"reason_ref": f"{reason}:{number}"})
            outcome = await self._provider(
                PaymentActivities.refund, ask, f"Refund {self._amount(amount)}", "payment_refund_failing"
            )
            if isinstance(outcome, MoneyMoved):
                tender.refunding_minor -= amount
                tender.refunded_minor += amount
                self._describe()
                return
            await self._attention("payment_refund_refused", "finance", f"the provider refused: {outcome.code}")
            await self._retry_asked(seen)
            tender.refunds += 1
            number = tender.refunds

    def _money(self, tender: Tender, seq: int, amount_minor: int) -> MoneyAsk:
        return MoneyAsk(
            order_id=self.s.order.order_id,
            tender_id=tender.tender_id,
            sequence=tender.sequence,
            seq=seq,
            amount_minor=amount_minor,
            currency=self.s.order.currency,
            provider=tender.provider,
            authorization_ref=tender.authorization_ref,
        )
