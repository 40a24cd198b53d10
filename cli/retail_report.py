"""What a run of the retail demo came to: counts, units, money, and whether they add up."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict
from rich.table import Table

from cli.checking import CheckReport
from cli.client import OrderView
from cli.floor import FloorCounts
from cli.retail_plan import CURRENCY, RetailPlan
from cli.show import money
from domain.retail import REFUSING

_GONE = ("shipped", "closed")
_OVER = ("cancelled", "delivered", "written_off", "returned")


class Units(BaseModel):
    """Units of the accepted orders, those sent again among them.

    They add up: ordered = cancelled + delivered + not delivered + open.
    """

    model_config = ConfigDict(frozen=True)

    ordered: int = 0
    cancelled: int = 0
    delivered: int = 0
    not_delivered: int = 0
    sent_again: int = 0
    open: int = 0


class Amounts(BaseModel):
    """Money of the accepted orders in minor units.

    They add up: ordered = cancelled + credited + owed; captured = owed + refunded.
    """

    model_config = ConfigDict(frozen=True)

    ordered_minor: int = 0
    cancelled_minor: int = 0
    credited_minor: int = 0
    owed_minor: int = 0
    authorized_minor: int = 0
    captured_minor: int = 0
    voided_minor: int = 0
    refunded_minor: int = 0


class RetailReport(BaseModel):
    """The result of `accord demo retail`."""

    model_config = ConfigDict(frozen=True)

    run: str
    file: dict[str, Any]
    posted: int
    accepted: int
    refused: dict[str, int]
    completed: int
    cancelled: int
    still_open: int
    cancellations: dict[str, int]
    moments: dict[str, int]
    amendments: dict[str, int]
    units_cancelled_in_parts: int
    parcels_sourced_again: int
    payments: dict[str, int]
    parcels: int
    split_rate: float
    units: Units
    money: Amounts
    currency: str
    floor: dict[str, Any]
    repeated_requests: int
    seconds: float
    orders_per_s: float
    unbalanced: tuple[str, ...]
    check: CheckReport

    @property
    def ok(self) -> bool:
        """Every law holds, everything adds up, and every order has ended."""
        return not (self.check.violations or self.unbalanced or self.still_open)


def units_of(orders: Iterable[OrderView]) -> Units:
    """Where the units of these orders are."""
    found: Counter[str] = Counter()
    for order in orders:
        for line in order.lines:
            buckets = line["quantities"]
            found["ordered"] += line["ordered"]
            found["cancelled"] += buckets.get("cancelled", 0)
            found["delivered"] += buckets.get("delivered", 0)
            found["not_delivered"] += buckets.get("written_off", 0) + buckets.get("returned", 0)
            found["sent_again"] += line["ordered"] if line["replaces_parcel"] else 0
            found["open"] += sum(units for name, units in buckets.items() if name not in _OVER)
    return Units(**found)


def amounts_of(orders: Iterable[OrderView]) -> Amounts:
    """Where the money of these orders is."""
    found: Counter[str] = Counter()
    for order in orders:
        for name in ("ordered_minor", "cancelled_minor", "credited_minor", "owed_minor"):
            found[name] += order.totals[name]
        for tender in order.payment["tenders"]:
            for name in ("authorized_minor", "captured_minor", "refunded_minor"):
                found[name] += tender[name]
            if order.ended:
                found["voided_minor"] += tender["authorized_minor"] - tender["captured_minor"]
    return Amounts(**found)


def unbalanced(posted: int, refused: int, orders: list[OrderView]) -> tuple[str, ...]:
    """Sentences about what does not add up, seen from outside."""
    found = []
    if posted != refused + len(orders):
        found.append(f"{posted} orders posted, but {refused} refused and {len(orders)} accepted")
    for order in orders:
        units, amounts = units_of([order]), amounts_of([order])
        if units.ordered != units.cancelled + units.delivered + units.not_delivered + units.open:
            found.append(f"{order.id}: units do not add up: {units}")
        if amounts.ordered_minor != amounts.cancelled_minor + amounts.credited_minor + amounts.owed_minor:
            found.append(f"{order.id}: amounts do not add up: {amounts}")
        if order.ended and amounts.captured_minor - amounts.refunded_minor != amounts.owed_minor:
            found.append(f"{order.id}: kept is not what is owed: {amounts}")
    return tuple(found)


def parcels_of(orders: Iterable[OrderView]) -> list[int]:
    """Parcels that left, per order that shipped anything."""
    counts = [sum(part["state"] in _GONE for part in order.fulfillment_orders) for order in orders]
    return [count for count in counts if count]


def sourced_again(orders: Iterable[OrderView]) -> int:
    """Fulfillment orders that were rejected as a whole: what they had was placed elsewhere, or given up."""
    return sum(part["state"] == "rejected" for order in orders for part in order.fulfillment_orders)


def file_facts(plan: RetailPlan) -> dict[str, Any]:
    """What was read, and which rule met how many rows, invoices and cancellations."""
    refusing = {rule.value for rule in REFUSING}
    return {
        "rows": plan.file.rows,
        "invoices": plan.file.invoices,
        "sales": len(plan.file.sales),
        "cancellations": len(plan.file.cancellations),
        "refused_by_rule": {name: count for name, count in plan.file.rules.items() if name in refusing},
        "handled_by_rule": {name: count for name, count in plan.file.rules.items() if name not in refusing},
        "chosen": len(plan.orders),
        "chosen_lines": sum(len(order.body["lines"]) for order in plan.orders),
        "stock_levels": len(plan.counts),
    }


def floor_facts(counts: FloorCounts) -> dict[str, Any]:
    """What the simulated warehouse and carrier did."""
    return {**vars(counts), "refused": dict(counts.refused)}


def report_table(report: RetailReport) -> Table:
    """The report for people."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(style="dim", overflow="fold")
    file = report.file
    table.add_row("invoices read", str(file["invoices"]), f"{file['rows']} rows; {_told(file['handled_by_rule'])}")
    table.add_row("  sales", str(file["sales"]), f"refused by rule: {_told(file['refused_by_rule'])}")
    table.add_row("orders posted", str(report.posted), f"{file['chosen_lines']} lines, run {report.run}")
    table.add_row("  accepted", str(report.accepted), f"payments: {_told(report.payments)}")
    table.add_row("  refused", str(sum(report.refused.values())), _told(report.refused))
    table.add_row("  completed", str(report.completed), f"{report.still_open} still open")
    table.add_row("  cancelled", str(report.cancelled), f"cancellations: {_told(report.cancellations)}")
    table.add_row("  in parts", str(report.units_cancelled_in_parts), f"units; by moment: {_told(report.moments)}")
    table.add_row("  amended", str(report.amendments.get("answered_confirmed", 0)), _told(report.amendments))
    table.add_row("parcels", str(report.parcels), f"split rate {report.split_rate:.1%}")
    floor = report.floor
    trouble = f"{floor['short_units']} units missing, {floor['rejected']} rejected"
    table.add_row(
        "  short picks", str(floor["short_picks"]), f"{trouble}, {report.parcels_sourced_again} left their node"
    )
    wrong = floor["lost"] + floor["damaged"] + floor["brought_back"]
    made_good = f"{floor['lost']} lost, {floor['damaged']} damaged, {floor['brought_back']} brought back"
    table.add_row("  in trouble", str(wrong), f"{made_good}; {report.units.sent_again} units sent again")
    units = report.units
    ends = f"{units.delivered} delivered, {units.cancelled} cancelled, {units.not_delivered} did not arrive"
    table.add_row("units ordered", str(units.ordered), ends)
    _add_money(table, report)
    speed = f"{report.seconds:.1f} s, {report.repeated_requests} requests repeated"
    table.add_row("orders/s", f"{report.orders_per_s:.2f}", speed)
    laws = "every law holds" if not report.check.violations else "see accord check"
    table.add_row("violations", str(report.check.violations), laws, style=None if report.ok else "bold red")
    for sentence in report.unbalanced[:20]:
        table.add_row("does not add up", "", sentence, style="bold red")
    return table


def _add_money(table: Table, report: RetailReport) -> None:
    amounts = report.money
    for title, minor, other, word in (
        ("ordered", amounts.ordered_minor, amounts.cancelled_minor, "cancelled"),
        ("authorized", amounts.authorized_minor, amounts.voided_minor, "voided"),
        ("captured", amounts.captured_minor, amounts.refunded_minor, "refunded"),
    ):
        table.add_row(title, money(minor, CURRENCY), f"{money(other, CURRENCY)} {word}")


def _told(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"
