"""What every part of an order's story uses: its state, its database steps, its calls, its watch, its display."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeVar

from temporalio import workflow
from temporalio.common import SearchAttributeUpdate
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities.contract import Grant
    from activities.records import CaseAsk, RecordActivities
    from activities.stock import ExpireAsk, StockActivities
    from domain.carrier_trouble import needs_remedy
    from domain.holds import on_hold
    from domain.lifecycle import FulfillmentState, PaymentState, WaitingOn
    from domain.money import format_minor
    from domain.order_state import Fulfillment, Hold, OrderState
    from domain.orders import PlaceOrder
    from domain.quantities import Bucket
    from workflows import policies, visibility

A = TypeVar("A")
R = TypeVar("R")


class Due(NamedTuple):
    """A moment at which somebody must look: when, what, and the team that owns it."""

    at: datetime
    key: str
    code: str
    owner: str
    detail: str


class ClosingNow(Exception):
    """The order is being closed by force: what was under way ends here."""


class OrderBase:
    """State and steps. Database steps of one order run one after the other, in the order of the decisions."""

    def __init__(self, order: PlaceOrder) -> None:
        self.s = OrderState.begin(order, workflow.now())
        self._writing = asyncio.Lock()
        self._steps = 0  # steps that are being written, or wait for their turn
        self._deciding = False  # a stock decision is being written; new plans wait for it
        self._grants: dict[str, Grant | None] = {}  # first claims that rode with a decision, by call
        self._tracks: list[asyncio.Task[Any]] = []  # one per fulfillment order
        self._recalls: list[asyncio.Task[Any]] = []  # one per parcel asked back: the order may end before they do
        self._retries = 0
        self._shown: dict[str, object] = {}
        self._main: asyncio.Task[Any] | None = None  # the order's own story, while it can be stopped
        self._handlers: dict[str, asyncio.Task[Any] | None] = {}  # commands under way, by id
        self._closed = False  # by force, and recorded so
        self._closers: set[asyncio.Task[Any] | None] = set()  # who still acts while the order is closed by force

    # --- steps ---------------------------------------------------------------------------------------

    async def _database(self, method: Callable[[Any, A], Awaitable[R]], ask: A, summary: str) -> R:
        """One local activity: a transaction on our own database."""
        self._steps += 1  # at once: what asks for it is marked already, though others may be written first
        try:
            async with self._writing:
                self._stop_when_closing()
                result = await workflow.execute_local_activity_method(method, ask, **policies.database(summary))
        finally:
            self._steps -= 1
        self.s.version = max(self.s.version, getattr(result, "version", 0))
        return result

    async def _provider(self, method: Callable[[Any, A], Awaitable[R]], ask: A, summary: str, code: str) -> R:
        """One call to a provider. Should all patience end, a case is open and `retry_now` calls again."""
        while True:
            self._stop_when_closing()
            seen = self._retries
            try:
                result = await workflow.execute_activity_method(method, ask, **policies.provider(summary))
            except ActivityError as error:
                await self._attention(
                    code, "finance" if code.startswith("payment") else "fulfillment", str(error.cause)
                )
                await self._retry_asked(seen)
            else:
                self.s.version = max(self.s.version, getattr(result, "version", 0))
                return result

    def _stop_when_closing(self) -> None:
        """Once the order is closed by force, only that goes on.

        Raises:
            ClosingNow: for everybody else.
        """
        if self.s.closing is not None and not self._closed and asyncio.current_task() not in self._closers:
            raise ClosingNow

    async def _retry_asked(self, seen: int) -> None:
        """Wait for `retry_now`. `seen` was taken before the call: who reads of its end first may be quick."""
        await workflow.wait_condition(lambda: self._retries > seen)

    async def _until(self, condition: Callable[[], bool], deadline: datetime) -> bool:
        """Wait for the condition; False when the deadline came first."""
        left = deadline - workflow.now()
        if left <= timedelta(0):
            return condition()
        try:
            await workflow.wait_condition(condition, timeout=left)
        except TimeoutError:
            return condition()
        return True

    async def _attention(self, code: str, owner: str, detail: str, promise_state: str | None = None) -> None:
        """Open a case: a person of the owner team must look."""
        ask = CaseAsk(
            order_id=self.s.order.order_id, code=code, owner=owner, detail=detail[:200], promise_state=promise_state
        )
        await self._database(RecordActivities.open_case, ask, f"Open a case for {owner}: {code}")
        self.s.attention = {**self.s.attention, code: workflow.now()}
        self._show()

    def _is_free(self) -> bool:
        """Whether no decision is being written and no change is under way: it may move the same units."""
        return not self._deciding and self.s.amending is None

    def _note_held(self, units: Sequence[tuple[int, str, int]], until: datetime | None) -> None:
        """Open units (line number, node, units) are held at nodes until then; none are where there is no time."""
        if until is None or not units:
            return
        if not self.s.placements:
            self.s.oldest_held = self.s.generation
        self.s.hold_units(tuple((line_no, node, quantity) for line_no, node, quantity in units))
        self.s.reserved_until = until

    # --- the watch: one rolling timer ----------------------------------------------------------------

    async def _watch(self) -> None:
        """Look at whatever falls due first. The timer is set anew only when something nearer turns up."""
        while True:
            due = self._next_due()
            if due is None:
                await workflow.wait_condition(lambda: self._next_due() is not None)
                continue
            if await self._until(lambda at=due.at: self._nearer_than(at), due.at):  # type: ignore[misc]
                continue
            if self._is_due(due):
                await self._catch_up()
            if self._is_due(due):
                await self._fall_due(due)

    def _is_due(self, due: Due) -> bool:
        return any(d.key == due.key and d.at <= workflow.now() for d in self._dues())

    async def _catch_up(self) -> None:
        """Take what the rows know and the order lost. See `order_desk.py`."""
        raise NotImplementedError

    def _nearer_than(self, at: datetime) -> bool:
        due = self._next_due()
        return due is not None and due.at < at

    def _next_due(self) -> Due | None:
        return min(self._dues(), default=None)

    def _dues(self) -> list[Due]:
        found = []
        if self.s.reserved_until:
            found.append(Due(self.s.reserved_until, "reservation", "reservation", "inventory", ""))
        for tender in self.s.tenders:
            if tender.state is PaymentState.PENDING and tender.in_call:
                key = f"payment:{tender.tender_id}:{tender.seq}"
                found.append(Due(tender.deadline, key, "payment_pending", "finance", "the provider did not answer"))
        for part in self.s.fulfillments.values():
            over = (FulfillmentState.CLOSED, FulfillmentState.CANCELLED, FulfillmentState.REJECTED)
            if part.state not in over and not on_hold(self.s, part) and not needs_remedy(part):
                key = f"{part.fulfillment_id}:{part.state}:{part.stage}"
                code = _SILENCE.get(part.state, "node_silent")
                found.append(
                    Due(self._silent_at(part), key, code, "fulfillment", f"{part.node_id}: {part.state} for too long")
                )
        if self.s.due_until and self.s.promise_state == "on_track":
            found.append(Due(self.s.due_until, "promise", "promise_late", "fulfillment", "not delivered in time"))
        return [due for due in found if due.key not in self.s.cases]

    async def _undecided(self) -> None:
        """Wait until the order is accepted and no decision is being written.

        All that wait are woken at once, and the first may decide: each looks again.
        """
        while self.s.acceptance is None or self._deciding:
            await workflow.wait_condition(lambda: self.s.acceptance is not None and not self._deciding)

    async def _until_free(self) -> None:
        """As `_undecided`, and until no change of the order is under way: it may move units, or number lines."""
        while self.s.acceptance is None or not self._is_free():
            await workflow.wait_condition(lambda: self.s.acceptance is not None and self._is_free())

    def _silent_at(self, part: Fulfillment) -> datetime:
        """When somebody must look. At a parcel some time before it counts as lost."""
        if part.state is not FulfillmentState.SHIPPED:
            return part.deadline
        return min(part.deadline, part.since + timedelta(seconds=self.s.rules.carrier_silence_s))

    async def _fall_due(self, due: Due) -> None:
        if due.key == "reservation":
            await self._expire()
            return
        self.s.cases.append(due.key)
        if due.key == "promise":
            self.s.promise_state = "late"
        await self._attention(due.code, due.owner, due.detail, "late" if due.key == "promise" else None)

    async def _expire(self) -> None:
        """The reservation's time is over; the database's clock has the last word."""
        await self._undecided()
        if self.s.reserved_until is None or self.s.reserved_until > workflow.now():
            return
        self._deciding = True
        try:
            ask = ExpireAsk(order_id=self.s.order.order_id, generation=self.s.oldest_held)
            gone = await self._database(StockActivities.expire, ask, "Give back what was held too long")
            if gone.units:
                self.s.move(gone.units, Bucket.RESERVED, Bucket.OPEN)
                self.s.reserved_until, self.s.placements = None, ()
                self.s.changed_at = workflow.now()
            else:
                still = (gone.still_until or self.s.reserved_until) - self.s.reserved_until
                self.s.reserved_until = workflow.now() + max(still, timedelta(seconds=1))
        finally:
            self._deciding = False
        self._show()

    # --- what operators see --------------------------------------------------------------------------

    def _show(self) -> None:
        """Write search attributes that changed, in one go, and the current details (which cost nothing)."""
        self.s.drop_solved_cases()
        header = self.s.header()
        wait = header.wait
        nodes = sorted({f.node_id for f in self.s.fulfillments.values()})
        values: dict[str, tuple[SearchAttributeUpdate[Any], object]] = {}

        def put(update: SearchAttributeUpdate[Any], value: object) -> None:
            values[update.key.name] = (update, value)

        put(visibility.ORDER_STATUS.value_set(header.status.value), header.status)
        waiting = wait.waiting_on if wait else WaitingOn.NOBODY
        put(visibility.WAITING_ON.value_set(waiting.value), waiting)
        put(visibility.PAYMENT_STATUS.value_set(header.payment_status), header.payment_status)
        put(visibility.PROMISE_STATE.value_set(self.s.promise_state), self.s.promise_state)
        if nodes:
            put(visibility.SHIP_NODES.value_set(nodes), nodes)
        holds = [] if header.terminal else sorted({h.type.value for h in self.s.live_holds})
        if holds or self._shown.get("OrderHolds"):
            put(visibility.ORDER_HOLDS.value_set(holds) if holds else visibility.ORDER_HOLDS.value_unset(), holds)
        if self.s.due_until:
            put(visibility.PROMISED_BY.value_set(self.s.due_until), self.s.due_until)
        if self.s.attention:
            latest = next(reversed(self.s.attention))
            put(visibility.ATTENTION_CODE.value_set(latest), latest)
        elif "AttentionCode" in self._shown:
            put(visibility.ATTENTION_CODE.value_unset(), None)
        if self.s.attention or "NeedsAttention" in self._shown:
            needed = bool(self.s.attention) and not header.terminal
            put(visibility.NEEDS_ATTENTION.value_set(needed), needed)
        changed = [update for name, (update, value) in values.items() if self._shown.get(name) != value]
        if changed:
            workflow.upsert_search_attributes(changed)
            self._shown.update({name: value for name, (_, value) in values.items()})
        workflow.set_current_details(describe(self.s))

    def _describe(self) -> None:
        """The text that the Temporal UI shows for this order, served by a query.

        With a case open the search attributes too: whoever filters by them must see it go. And where units wait for
        supply: what else the order waits for ends long before that.
        """
        if self.s.attention or self.s.quantities.backordered:
            self._show()
        else:
            workflow.set_current_details(describe(self.s))


_SILENCE = {
    FulfillmentState.SHIPPED: "carrier_silent",
    FulfillmentState.CANCELLATION_REQUESTED: "node_silent_on_stop",
    FulfillmentState.OPEN: "release_pending",
}


def describe(state: OrderState) -> str:
    """Who is waited for, the promise, the money, the parcels: Markdown bullets, no personal data."""
    header = state.header()
    wait = header.wait
    currency = state.order.currency

    def money(minor: int) -> str:
        return f"{format_minor(minor, currency)} {currency}"

    waiting = (
        f"{wait.waiting_on} ({wait.cause}) since {wait.since:%d %b %H:%M}, until {wait.deadline:%d %b %H:%M} UTC, "
        f"owner {wait.owner}: {wait.next_event}"
        if wait
        else f"nobody: {header.status}"
    )
    authorized = sum(t.authorized_minor for t in state.tenders)
    captured = sum(t.captured_minor for t in state.tenders)
    refunded = sum(t.refunded_minor for t in state.tenders)
    parcels = ", ".join(
        f"{f.node_id} {f.state}" + (f" ({f.tracking_number} {f.tracking})" if f.tracking_number else "")
        for f in state.fulfillments.values()
    )
    holds = "" if header.terminal else "; ".join(_told(hold) for hold in state.live_holds)
    return "\n".join(
        [
            f"- **Waiting on** {waiting}",
            f"- **Promise** {state.current_by or state.promised_by or 'none'}, {state.promise_state}",
            f"- **Money** owed {money(state.owed_minor)}, authorized {money(authorized)}, "
            f"captured {money(captured)}, refunded {money(refunded)}",
            f"- **Shipments** {parcels or 'none'}",
            *_told_waiting(state),
            f"- **Holds** {holds or 'none'}",
            f"- **Open case** {', '.join(state.attention) or 'none'}",
            "- **If stuck** send the update `retry_now`, `force_close` last; never terminate: that skips every refund",
        ]
    )


def _told_waiting(state: OrderState) -> list[str]:
    """What waits for supply, and until when."""
    lines = [line for line in state.lines.values() if line.buckets.backordered and line.waits_until]
    told = (f"{n.buckets.backordered} of {n.sku} until {n.waits_until:%d %b %H:%M} UTC" for n in lines[:_LINES_TOLD])
    more = f", and {len(lines) - _LINES_TOLD} lines more" if len(lines) > _LINES_TOLD else ""
    return [f"- **Backordered** {', '.join(told)}{more}"] if lines else []


_LINES_TOLD = 5


def _told(hold: Hold) -> str:
    scope = "" if hold.line_no is None else f" line {hold.line_no}"
    until = f"{'overdue since' if hold.overdue else 'until'} {hold.deadline:%d %b %H:%M} UTC"
    return f"{hold.type}{scope} blocks {', '.join(hold.blocks)} {until}, owner {hold.owner} ({hold.hold_id})"
