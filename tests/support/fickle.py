"""What can be said to an order: commands of every kind, valid and invalid, built with dice that are not its own."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal

from pydantic import BaseModel

from domain.amendment import AddLine, Change, SetQuantity, SetRequestedBy, SetServiceLevel, SetShipTo, Substitute
from domain.backorders import SupplyArrived
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
from domain.tax_change import LineTax, NewTax
from tests.support.shop import ZONE, later
from workflows.messages import (
    AmendOrder,
    CancelOrder,
    CarrierEvent,
    ChooseRemedy,
    ForceClose,
    LeaveNode,
    LineUnits,
    NodeReport,
    PaymentEvent,
    PlaceHold,
    ReleaseHold,
    RetryNow,
    WriteOff,
)

ITEMS = ("LAMP", "RUG")
WAITED_FOR = "VASE"
"""Nobody has it, orders may wait for it, and it comes in when an order is about to end."""
WARES = (*ITEMS, WAITED_FOR)
Parts = Sequence[dict[str, Any]]
PARTS: Parts = tuple({"fulfillment_id": f"fulfillment#{n}", "shipment_id": f"shipment#{n}"} for n in range(3))
"""Names for what an order does not have yet; who says it puts the true name in (see `tests.support.lives`)."""
WORK = "work"
Way = Literal["update", "signal"]
WAYS: Sequence[tuple[Way, ...]] = (
    ("update",),
    ("update",),
    ("update",),
    ("update", "update"),
    ("signal",),
    ("signal", "signal"),
    ("update", "signal"),
)
"""How a command is sent: each copy of it as an update or as a signal, none waiting for the other."""


@dataclass(frozen=True)
class Step:
    """One command to an order: `pause_s` after the one before, and where it says so after the answers to all before.

    With the kind `WORK` nothing is said: nodes and carriers do what comes next.
    """

    pause_s: float
    kind: str
    content: dict[str, Any]
    ways: tuple[Way, ...] = ("update",)
    after_answers: bool = False


@dataclass
class Script:
    """How an order is placed, what is said to it and when, and the seed of what its nodes and carriers do in the end.

    Printed it is Python: what went wrong once can be kept as a test.
    """

    lines: tuple[tuple[str, int], ...]
    pay: str = "pm_ok"
    split: str = "asap"
    stop: str = "stopped"
    recall: str = "agreed"
    seed: int = 0
    steps: list[Step] = field(default_factory=list)


def a_script(dice: random.Random) -> Script:
    """Any order, with nothing said to it yet."""
    return Script(
        lines=tuple((item, dice.randint(1, 4)) for item in ITEMS),
        pay=dice.choice(["pm_ok", "pm_ok", "pm_slow", "pm_timeout", "pm_decline_once"]),
        split=dice.choice([Split.ASAP, Split.ASAP, Split.TOGETHER]).value,
        stop=dice.choice(["stopped", "too_late", "answer_follows"]),
        seed=dice.randint(0, 999),
        recall=dice.choice(["agreed", "agreed", "too_late", "unsupported", "answer_follows"]),
    )


class Sayings:
    """Builds commands to one order."""

    def __init__(self) -> None:
        self._numbers = count()
        self._dice = random.Random(0)

    def step(self, kind: str, dice: random.Random) -> Step:
        """A command of this kind, and when and how it is said."""
        self._dice = dice
        pause_s = dice.choice([0.0, 0.02, 0.07, 0.22])
        if kind == WORK:
            return Step(pause_s, WORK, {})
        _, message = BUILDERS[kind](self, PARTS)
        return Step(
            pause_s=pause_s,
            kind=kind,
            content=message.model_dump(mode="json", exclude_none=True),
            ways=dice.choice(WAYS),
            after_answers=dice.choice([False, False, False, True]),
        )

    def _id(self, kind: str) -> str:
        return f"{kind}-{next(self._numbers)}"

    def _units(self, most: int = 5) -> tuple[LineUnits, ...]:
        lines = self._dice.sample(range(1, len(ITEMS) + 2), self._dice.randint(1, len(ITEMS)))  # one is not there
        return tuple(LineUnits(line, self._dice.randint(1, most)) for line in sorted(lines))

    def _cancel(self, parts: Parts) -> tuple[str, BaseModel]:
        lines = () if self._dice.random() < 0.15 else self._units(3)
        return "cancel", CancelOrder(
            command_id=self._id("cancel"),
            reason=CancelReason.CHANGED_MIND,
            lines=lines,
            restock=self._dice.random() < 0.7,
            refund=self._dice.choice(["full", "full", "none"]),
            all_or_nothing=self._dice.random() < (0.2 if lines else 0.6),
            recall=self._dice.random() < 0.3,
        )

    def _retry(self, parts: Parts) -> tuple[str, BaseModel]:
        return "retry_now", RetryNow(command_id=self._id("retry"))

    def _pay(self, parts: Parts) -> tuple[str, BaseModel]:
        key = self._id("pay")
        return "payment_event", PaymentEvent(
            command_id=key, tender_id="tender#0", fact="method_updated", reference="pm_ok"
        )

    def _amend(self, parts: Parts) -> tuple[str, BaseModel]:
        changes = tuple(self._change() for _ in range(self._dice.choice([1, 1, 2])))
        reference = self._dice.choice(["pm_ok", "pm_ok", "pm_declined", "pm_timeout"])
        return "amend", AmendOrder(command_id=self._id("amend"), changes=changes, reference=reference)

    def _change(self) -> Change:
        dice, line = self._dice, self._dice.randint(1, len(ITEMS) + 1)
        return dice.choice([
            lambda: SetQuantity(line=line, quantity=dice.randint(0, 5)),
            lambda: SetQuantity(line=line, quantity=dice.randint(0, 5)),
            lambda: AddLine(sku=dice.choice([*WARES, "NOWHERE"]), quantity=dice.randint(1, 3), unit_price_minor=777),
            lambda: Substitute(line=line, sku=dice.choice(WARES), unit_price_minor=dice.choice([None, 100, 2500])),
            lambda: SetShipTo(country="US", region="MA", zone_id=ZONE, tax=self._tax()),
            lambda: SetServiceLevel(service_level=dice.choice(list(ServiceLevel))),
            lambda: SetServiceLevel(service_level=ServiceLevel.STANDARD, shipping_minor=dice.choice([0, 333, 1200])),
            lambda: SetRequestedBy(requested_by=later(days=dice.randint(0, 30)).date()),
        ])()  # fmt: skip

    def _tax(self) -> NewTax | None:
        dice = self._dice
        lines = dice.sample(range(1, len(ITEMS) + 2), dice.choice([0, 1, 1, 2]))
        taxes = tuple(LineTax(line=line, tax_minor=dice.choice([0, 1, 333])) for line in lines)
        shipping = dice.choice([None, 0, 45])
        return NewTax(currency="USD", lines=taxes, shipping_tax_minor=shipping) if dice.random() < 0.6 else None

    def _hold(self, parts: Parts) -> tuple[str, BaseModel]:
        dice = self._dice
        return "place_hold", PlaceHold(
            command_id=self._id("hold"),
            type=dice.choice(list(HoldType)),
            line_no=dice.choice([None, None, 1, len(ITEMS) + 1]),
            blocks=dice.choice([(), (dice.choice(list(HoldBlock)),)]),
            lasts_s=dice.choice([None, None, 1]),
        )

    def _end_hold(self, parts: Parts) -> tuple[str, BaseModel]:
        decision = self._dice.choice(["release", "release", "reject"])
        hold = f"hold#{self._dice.randint(0, 2)}"
        return "release_hold", ReleaseHold(command_id=self._id("end"), hold_id=hold, decision=decision)

    def _report(self, parts: Parts) -> tuple[str, BaseModel]:
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

    def _leave(self, parts: Parts) -> tuple[str, BaseModel]:
        part = self._dice.choice(parts)
        return "leave_node", LeaveNode(command_id=self._id("leave"), fulfillment_id=part["fulfillment_id"])

    def _scan(self, parts: Parts) -> tuple[str, BaseModel]:
        key = self._id("scan")
        return "carrier_event", CarrierEvent(
            command_id=key,
            shipment_id=self._dice.choice(parts)["shipment_id"],
            event_id=key,
            type=self._dice.choice(list(CarrierEventType)),
            occurred_at=later(seconds=self._dice.randint(-500, 0)),
        )

    def _remedy(self, parts: Parts) -> tuple[str, BaseModel]:
        key = self._id("remedy")
        return "choose_remedy", ChooseRemedy(command_id=key, remedy=self._dice.choice(["refund", "reship"]))

    def _force(self, parts: Parts) -> tuple[str, BaseModel]:
        return "force_close", ForceClose(command_id=self._id("force"), reason="nobody_answers")

    def _write_off(self, parts: Parts) -> tuple[str, BaseModel]:
        return "write_off", WriteOff(command_id=self._id("write-off"))

    def _supply(self, parts: Parts) -> tuple[str, BaseModel]:
        return "supply_arrived", SupplyArrived(command_id=self._id("supply"), sku=self._dice.choice(ITEMS))


BUILDERS: Mapping[str, Callable[[Sayings, Parts], tuple[str, BaseModel]]] = {
    "amend": Sayings._amend,
    "cancel": Sayings._cancel,
    "carrier_event": Sayings._scan,
    "choose_remedy": Sayings._remedy,
    "force_close": Sayings._force,
    "leave_node": Sayings._leave,
    "node_report": Sayings._report,
    "payment_event": Sayings._pay,
    "place_hold": Sayings._hold,
    "release_hold": Sayings._end_hold,
    "retry_now": Sayings._retry,
    "supply_arrived": Sayings._supply,
    "write_off": Sayings._write_off,
}
