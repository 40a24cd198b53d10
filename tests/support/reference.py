"""The reference model: counters and frozen shares, and nothing of workflows."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from domain.shares import LineShares
from tests.support.fickle import ITEMS
from tests.support.shop import Shop
from tests.support.shop_views import Order
from workflows.messages import Rejected

OVER = "order_closed"
"""The engine's answer, not the order's: what became of the command stands in its row, and the front end reads it."""


@dataclass(frozen=True)
class Said:
    """A command as it was sent, and what came back: the outcome, or the code of the refusal; None for a signal."""

    kind: str
    command_id: str
    answer: dict[str, Any] | str | None


async def differences(shop: Shop, order: Order, said: Sequence[Said]) -> list[str]:
    """Where the order and the model differ.

    The model: cancelled is what the outcomes say, all else was delivered, lost or brought back. What was lost
    or came back was sent instead or is not paid for: the money that stayed is the frozen value of the rest, and
    what the outcomes say is kept of what was cancelled.
    """
    if isinstance(order.outcome, Rejected):
        return []
    rows = await shop.sql("SELECT * FROM order_lines WHERE order_id = :o ORDER BY line_no", o=order.id)
    commands = await shop.sql("SELECT command_id, kind, state, outcome FROM commands WHERE order_id = :o", o=order.id)
    found = _outcomes(said, commands)
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
    kept_by_lines = sum(row["kept_minor"] for row in rows)
    kept = sum(c["outcome"]["kept_minor"] for c in commands if (c["kind"], c["state"]) == ("cancel", "applied"))
    if any((c["kind"], c["state"]) == ("force_close", "applied") for c in commands):
        kept = kept_by_lines  # it took what nobody had asked for, and ended what was asked for
    else:
        found += [f"line {n}: {left[n]} left, {wanted[n]} wanted" for n in wanted if wanted[n] != left[n]]
    if kept != kept_by_lines:
        found.append(f"{kept} is kept by the outcomes, the lines say {[row['kept_minor'] for row in rows]}")
    worth += kept
    money = await shop.money(order)
    if money["captured"] - money["refunded"] != worth:
        found.append(f"{money} was taken, {worth} was delivered or kept")
    taken = Counter(kind for kind, _ in shop.effects(order))
    stored = {c["command_id"] for c in commands if c["kind"] == "amend"}
    dearer = len(stored | {one.command_id for one in said if one.kind == "amend"})  # one may be broken off by force
    if taken["authorization"] > 1 + dearer:
        found.append(f"{taken['authorization']} authorizations, {dearer} changes")
    return found


def _outcomes(everything: Sequence[Said], commands: list[dict[str, Any]]) -> list[str]:
    """Every command has one outcome, the one that everybody was told who asked."""
    stored = {command["command_id"]: command for command in commands}
    answers: dict[str, list[dict[str, Any] | str]] = {}
    for said in everything:
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
    for said in everything:
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


def _gist(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without the version: a repeat may be told a later one."""
    return {name: value for name, value in answer.items() if name != "order_version"}
