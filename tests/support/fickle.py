"""An order to which everything happens, and beside it a reference model that knows nothing of workflows.

Commands are random, valid and invalid, said twice, as update and as signal, at random moments. The model is made of
counters and frozen shares. A run follows from its seed, but for the timing of the engine.
"""

import asyncio
import json
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from temporalio.client import WorkflowExecutionStatus, WorkflowUpdateFailedError
from temporalio.service import RPCError, RPCStatusCode

from domain.amendment import AddLine, Change, SetQuantity, SetRequestedBy, SetServiceLevel, SetShipTo, Substitute
from domain.orders import (
    CancelReason,
    CarrierEventType,
    HoldBlock,
    HoldType,
    NodeTrouble,
    ReportKind,
    ServiceLevel,
    Split,
)
from domain.shares import LineShares
from tests.support.shop import ZONE, Order, Shop, later
from workflows.messages import (
    AmendOrder,
    CancelOrder,
    CarrierEvent,
    ChooseRemedy,
    LeaveNode,
    LineUnits,
    NodeReport,
    PaymentEvent,
    PlaceHold,
    Rejected,
    ReleaseHold,
    RetryNow,
)

ITEMS = ("LAMP", "RUG")
ATTEMPTS = 20
OVER = "order_closed"
"""The engine's answer, not the order's: what became of the command stands in its row, and the front end reads it."""
TROUBLE = (
    CarrierEventType.LOST,
    CarrierEventType.DAMAGED,
    CarrierEventType.RETURN_TO_SENDER,
    CarrierEventType.RETURNED,
)


@dataclass(frozen=True)
class Said:
    """A command as it was sent, and what came back: the outcome, or the code of the refusal; None for a signal."""

    kind: str
    command_id: str
    answer: dict[str, Any] | str | None


@dataclass
class Fickle:
    """One order with a mind of its own."""

    shop: Shop
    seed: int
    steps: int = 8
    said: list[Said] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)
        self._numbers = iter(range(10_000))
        self._waiting: list[asyncio.Task[None]] = []

    async def lives(self) -> Order:
        """Place an order, say things to it at random moments, then let its nodes and carriers finish."""
        dice = self._dice
        placed = self.shop.order(
            *((item, dice.randint(1, 4)) for item in ITEMS),
            pay=dice.choice(["pm_ok", "pm_ok", "pm_slow", "pm_timeout", "pm_decline_once"]),
            split=dice.choice([Split.ASAP, Split.ASAP, Split.TOGETHER]),
        )
        self.shop.control(placed, "warehouses.stop", dice.choice(["stopped", "too_late", "answer_follows"]))
        order = await self.shop.submit(placed)
        for _ in range(dice.randint(1, self.steps)):
            await asyncio.sleep(dice.choice([0.0, 0.01, 0.05, 0.2]))
            await self._says_something(order)
        await self.ends(order)
        return order

    async def _says_something(self, order: Order) -> None:
        parts = await self.shop.parts(order)
        saying = [self._cancel, self._cancel, self._retry, self._pay, self._amend, self._amend, self._amend, self._hold]
        if parts:
            saying += [self._report, self._report, self._scan, self._leave, self._remedy]
        kind, message = self._dice.choice(saying)(order, parts)
        held = await self._live_holds(order)
        if held and self._dice.random() < 0.4:
            kind, message = self._end_hold(self._dice.choice(held))
        if self._dice.random() < 0.25:
            await self._signals(order, kind, message)
        else:
            copies = 2 if self._dice.random() < 0.3 else 1
            for copy in range(copies):  # a node may take its time to answer: nobody waits here
                self._waiting.append(asyncio.create_task(self.tell(order, kind, message, copy)))

    def _id(self, kind: str) -> str:
        return f"{kind}-{next(self._numbers)}"

    def _units(self, most: int = 5) -> tuple[LineUnits, ...]:
        lines = self._dice.sample(range(1, len(ITEMS) + 2), self._dice.randint(1, len(ITEMS)))  # one is not there
        return tuple(LineUnits(line, self._dice.randint(1, most)) for line in sorted(lines))

    def _cancel(self, order: Order, parts: list[dict[str, Any]]) -> tuple[str, BaseModel]:
        lines = () if self._dice.random() < 0.15 else self._units(3)
        return "cancel", CancelOrder(
            command_id=self._id("cancel"),
            reason=CancelReason.CHANGED_MIND,
            lines=lines,
            restock=self._dice.random() < 0.7,
            refund=self._dice.choice(["full", "full", "none"]),
        )

    def _retry(self, order: Order, parts: list[dict[str, Any]]) -> tuple[str, BaseModel]:
        return "retry_now", RetryNow(command_id=self._id("retry"))

    def _pay(self, order: Order, parts: list[dict[str, Any]]) -> tuple[str, BaseModel]:
        tender = order.tender_id
        key = self._id("pay")
        return "payment_event", PaymentEvent(command_id=key, tender_id=tender, fact="method_updated", reference="pm_ok")

    def _amend(self, order: Order, parts: list[dict[str, Any]]) -> tuple[str, BaseModel]:
        changes = tuple(self._change() for _ in range(self._dice.choice([1, 1, 2])))
        reference = self._dice.choice(["pm_ok", "pm_ok", "pm_declined", "pm_timeout"])
        return "amend", AmendOrder(command_id=self._id("amend"), changes=changes, reference=reference)

    def _change(self) -> Change:
        dice, line = self._dice, self._dice.randint(1, len(ITEMS) + 1)
        return dice.choice([
            lambda: SetQuantity(line=line, quantity=dice.randint(0, 5)),
            lambda: SetQuantity(line=line, quantity=dice.randint(0, 5)),
            lambda: AddLine(sku=dice.choice([*ITEMS, "NOWHERE"]), quantity=dice.randint(1, 3), unit_price_minor=777),
            lambda: Substitute(line=line, sku=dice.choice(ITEMS), unit_price_minor=dice.choice([None, 100, 2500])),
            lambda: SetShipTo(country="US", region="MA", zone_id=ZONE),
            lambda: SetServiceLevel(service_level=dice.choice(list(ServiceLevel))),
            lambda: SetServiceLevel(service_level=ServiceLevel.STANDARD, shipping_minor=dice.choice([0, 333, 1200])),
            lambda: SetRequestedBy(requested_by=later(days=dice.randint(0, 30)).date()),
        ])()  # fmt: skip

    def _hold(self, order: Order, parts: list[dict[str, Any]]) -> tuple[str, BaseModel]:
        dice = self._dice
        return "place_hold", PlaceHold(
            command_id=self._id("hold"),
            type=dice.choice(list(HoldType)),
            line_no=dice.choice([None, None, 1, len(ITEMS) + 1]),
            blocks=dice.choice([(), (dice.choice(list(HoldBlock)),)]),
            lasts_s=dice.choice([None, None, 1]),
        )

    async def _live_holds(self, order: Order) -> list[str]:
        rows = await self.shop.sql("SELECT hold_id FROM holds WHERE order_id = :o AND live", o=order.id)
        return [row["hold_id"] for row in rows]

    def _end_hold(self, hold_id: str, *, release: bool = False) -> tuple[str, BaseModel]:
        decision = "release" if release else self._dice.choice(["release", "release", "reject"])
        return "release_hold", ReleaseHold(command_id=self._id("end"), hold_id=hold_id, decision=decision)

    def _report(self, order: Order, parts: list[dict[str, Any]]) -> tuple[str, BaseModel]:
        kind = self._dice.choice(list(ReportKind))
        short = kind is ReportKind.SHORT
        key = self._id("report")
        return "node_report", NodeReport(
            command_id=key,
            fulfillment_id=self._dice.choice(parts)["fulfillment_id"],
            kind=kind,
            report_id=key,
            occurred_at=later(seconds=0),
            lines=self._units(2) if short else (),
            cause=self._dice.choice(list(NodeTrouble)),
        )

    def _leave(self, order: Order, parts: list[dict[str, Any]]) -> tuple[str, BaseModel]:
        part = self._dice.choice(parts)
        return "leave_node", LeaveNode(command_id=self._id("leave"), fulfillment_id=part["fulfillment_id"])

    def _scan(self, order: Order, parts: list[dict[str, Any]]) -> tuple[str, BaseModel]:
        key = self._id("scan")
        return "carrier_event", CarrierEvent(
            command_id=key,
            shipment_id=self._dice.choice(parts)["shipment_id"],
            event_id=key,
            type=self._dice.choice(list(CarrierEventType)),
            occurred_at=later(seconds=self._dice.randint(-500, 0)),
        )

    def _remedy(self, order: Order, parts: list[dict[str, Any]]) -> tuple[str, BaseModel]:
        key = self._id("remedy")
        return "choose_remedy", ChooseRemedy(command_id=key, remedy=self._dice.choice(["refund", "reship"]))

    async def tell(self, order: Order, kind: str, message: BaseModel, copy: int) -> None:
        """Say it until there is an answer, as the front end and its sweep do: a task of the engine may be lost."""
        key = json.loads(message.model_dump_json())["command_id"]
        answer: dict[str, Any] | str | None = None
        for attempt in range(ATTEMPTS):
            try:
                answer = await order.handle.execute_update(kind, message, id=f"{key}/{copy}/{attempt}")
            except WorkflowUpdateFailedError as error:
                answer = getattr(error.cause, "type", None) or str(error.cause)
            except RPCError as error:
                answer = await _over(order, error)
            if answer is not None:
                break
            await asyncio.sleep(0.5)
        self.said.append(Said(kind, key, answer))

    async def _signals(self, order: Order, kind: str, message: BaseModel) -> None:
        key = json.loads(message.model_dump_json())["command_id"]
        try:
            await order.handle.signal(kind, message)
        except RPCError as error:
            if await _over(order, error):
                return
            raise
        self.said.append(Said(kind, key, None))

    async def ends(self, order: Order) -> None:
        """The nodes answer, pack and hand over what they have, the carriers deliver, until the order is over."""
        while not (await self.shop.header(order))["terminal"]:
            for part in await self.shop.parts(order):
                await self._moves_on(order, part)
            for hold_id in await self._live_holds(order):
                await self.tell(order, *self._end_hold(hold_id, release=True), 0)
            if (await self.shop.header(order))["wait_cause"] == "payment_declined":
                await self.tell(order, *self._pay(order, []), 0)
            await asyncio.sleep(0.05)
        await order.handle.result()
        await asyncio.gather(*self._waiting)

    async def _moves_on(self, order: Order, part: dict[str, Any]) -> None:
        if part["state"] == "cancellation_requested":
            kind = self._dice.choice([ReportKind.CANCEL_AGREED, ReportKind.CANCEL_DECLINED])
        elif part["stage"] in ("released", "picked"):
            kind = ReportKind.PACKED
        elif part["stage"] == "packed" and part["tracking_number"]:
            kind = ReportKind.HANDED_OVER
        elif part["stage"] in ("shipped", "return_pending"):
            back = part["stage"] == "return_pending"
            trouble = self._dice.random() < 0.15
            end = CarrierEventType.RETURNED if back else CarrierEventType.DELIVERED
            event = {"shipment_id": part["shipment_id"], "type": self._dice.choice(TROUBLE) if trouble else end}
            key = self._id("scan")
            message = CarrierEvent(command_id=key, event_id=key, occurred_at=later(seconds=0), **event)
            await self.tell(order, "carrier_event", message, 0)
            return
        else:
            return
        key = self._id("report")
        await self.tell(
            order,
            "node_report",
            NodeReport(
                command_id=key,
                fulfillment_id=part["fulfillment_id"],
                kind=kind,
                report_id=key,
                occurred_at=later(seconds=0),
            ),
            0,
        )

    # --- the reference model ---------------------------------------------------------------------------

    async def problems(self, order: Order) -> list[str]:
        """Where the order and the model differ.

        The model: cancelled is what the outcomes say, all else was delivered, lost or brought back. What was lost
        or came back was sent instead or is not paid for: the money that stayed is the frozen value of the rest, and
        what the outcomes say is kept of what was cancelled.
        """
        if isinstance(order.outcome, Rejected):
            return []
        rows = await self.shop.sql("SELECT * FROM order_lines WHERE order_id = :o ORDER BY line_no", o=order.id)
        commands = await self.shop.sql(
            "SELECT command_id, kind, state, outcome FROM commands WHERE order_id = :o", o=order.id
        )
        found = self._outcomes(commands)
        wanted = _wanted(rows, commands)
        left: Counter[int] = Counter()
        missing: Counter[int] = Counter()  # units that nobody has and nobody sends, by the line with the price
        worth = 0
        for row in rows:
            n, gone, again = row["line_no"], row["written_off"] + row["returned"], bool(row["replaces_parcel"])
            stays = row["ordered"] - row["cancelled"]
            if row["delivered"] + gone != stays:
                found.append(f"line {n}: {stays} to come, {row['delivered']} came, {gone} did not arrive")
            left[row["extends_line"] or n] += stays - row["ordered"] if again else stays
            missing[row["replaces_line"] if again else n] += gone - stays if again else gone
            worth += _shares(row).value_to_ship(0, stays)
        for row in rows:
            n, lost = row["line_no"], missing[row["line_no"]]
            if not row["replaces_parcel"]:
                worth -= _shares(row).value_to_credit(0, lost, with_shipping=True)
                found += [f"line {n}: {row['credited']} credited, {lost} missing"] if row["credited"] != lost else []
        found += [f"line {n}: {left[n]} left, {wanted[n]} wanted" for n in wanted if wanted[n] != left[n]]
        kept = sum(c["outcome"]["kept_minor"] for c in commands if (c["kind"], c["state"]) == ("cancel", "applied"))
        if kept != sum(row["kept_minor"] for row in rows):
            found.append(f"{kept} is kept by the outcomes, the lines say {[row['kept_minor'] for row in rows]}")
        worth += kept
        money = await self.shop.money(order)
        if money["captured"] - money["refunded"] != worth:
            found.append(f"{money} was taken, {worth} was delivered or kept")
        taken = Counter(kind for kind, _ in self.shop.effects(order))
        dearer = sum(c["kind"] == "amend" for c in commands)
        if taken["authorization"] > 1 + dearer:
            found.append(f"{taken['authorization']} authorizations, {dearer} changes")
        return [f"seed {self.seed}: {text}" for text in found]

    def _outcomes(self, commands: list[dict[str, Any]]) -> list[str]:
        """Every command has one outcome, the one that everybody was told who asked."""
        stored = {command["command_id"]: command for command in commands}
        answers: dict[str, list[dict[str, Any] | str]] = {}
        for said in self.said:
            if said.answer is not None:
                answers.setdefault(said.command_id, []).append(said.answer)
        found = []
        for key, told in answers.items():
            applied = [answer for answer in told if isinstance(answer, dict)]
            if applied and any(_gist(answer) != _gist(applied[0]) for answer in applied):
                found.append(f"{key} was answered differently: {told}")
            if applied and stored.get(key, {}).get("state") != "applied":
                found.append(f"{key} was applied, its row says {stored.get(key)}")
            refused = any(answer != OVER for answer in told) and not applied
            if refused and key in stored and stored[key]["state"] == "applied":
                found.append(f"{key} was refused ({told}), its row says applied")
        for said in self.said:
            if said.answer is None and stored.get(said.command_id, {}).get("state") in (None, "received"):
                found.append(f"the signal {said.command_id} has no outcome")
        return found


def _wanted(rows: list[dict[str, Any]], commands: list[dict[str, Any]]) -> Counter[int]:
    """Units of each line that were to come, with what extends it: as placed, plus and minus what was answered."""
    roots = {row["line_no"]: row["extends_line"] or row["line_no"] for row in rows}
    wanted: Counter[int] = Counter()
    for row in rows:
        added = row["extends_line"] or row["line_no"] > len(ITEMS)
        wanted[roots[row["line_no"]]] += 0 if added else row["ordered"]
    for command in commands:
        if command["state"] != "applied" or command["kind"] not in ("cancel", "amend"):
            continue
        for line in command["outcome"]["lines"]:
            if command["kind"] == "cancel":
                line_no, _, cancelled, _, _ = line
                wanted[roots[line_no]] -= cancelled
            elif command["outcome"]["state"] == "confirmed":
                line_no, _, before, after = line
                wanted[roots[line_no]] += after - before
    return wanted


def _shares(row: dict[str, Any]) -> LineShares:
    """The frozen amounts of a line as they are stored."""
    named = ("items_minor", "discount_minor", "tax_minor", "shipping_minor", "shipping_tax_minor")
    return LineShares(line_no=row["line_no"], quantity=row["ordered"], **{name: row[name] for name in named})


async def _over(order: Order, error: RPCError) -> str | None:
    """The answer of an order that is over; None while it only missed the message, or lost a task."""
    if error.status is RPCStatusCode.FAILED_PRECONDITION:
        return None
    if error.status is not RPCStatusCode.NOT_FOUND:
        raise error
    described = await order.handle.describe()
    return None if described.status is WorkflowExecutionStatus.RUNNING else OVER


def _gist(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without the version: a repeat may be told a later one."""
    return {name: value for name, value in answer.items() if name != "order_version"}
