"""Whether somebody must look at a new order before it goes on: the ruleset `risk`, judged once, at acceptance."""

import hashlib
from typing import Any, NamedTuple

from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.holds import HoldAsk, new_hold
from domain.ids import derived_id
from domain.order_state import Hold
from domain.orders import SYSTEM, AtLimit, HoldType, PlaceOrder
from domain.risk import RiskFacts, RiskRules, RiskVerdict, facts_of, judge
from store import acceptance, holds
from store.orders import OrderChange


class Screened(NamedTuple):
    """What the rules said of an order, and the hold that follows from it, if one does."""

    ruleset: str
    facts: RiskFacts
    verdict: RiskVerdict
    hold: Hold | None


def screen(change: OrderChange, order: PlaceOrder, ruleset: tuple[str, dict[str, Any]]) -> Screened | None:
    """Judge the order; None where there are no rules. A document that cannot be read holds every order."""
    version, body = ruleset
    facts = facts_of(order)
    try:
        rules = RiskRules.model_validate(body)
    except ValidationError as problem:
        verdict = RiskVerdict(failed=((version, f"{problem.error_count()} things are wrong with the document"),))
    else:
        if not rules.rules:
            return None
        verdict = judge(rules, facts)
    return Screened(version, facts, verdict, _hold(change, verdict))


def _hold(change: OrderChange, verdict: RiskVerdict) -> Hold | None:
    """A `fraud` hold. One because of a rule that failed rejects nothing at its limit: it asks its owner."""
    if verdict.reason is None:
        return None
    hold = new_hold(HoldAsk(hold_id=hold_id_of(change.order_id), type=HoldType.FRAUD), change.now)
    return hold if verdict.matched else hold.model_copy(update={"at_limit": AtLimit.ESCALATE})


async def record_screening(change: OrderChange, screened: Screened) -> None:
    """Write the decision with its facts, and place the hold."""
    verdict, facts = screened.verdict, screened.facts.model_dump(mode="json")
    record = {
        "facts": facts,
        "matched": list(verdict.matched),
        "failed": [{"rule": name, "why": why} for name, why in verdict.failed],
        "input_hash": _hash(screened.facts.model_dump_json()),
        "output_hash": _hash(verdict.model_dump_json()),
    }
    await acceptance.record_decision(change.connection, change.order_id, "risk", 1, screened.ruleset, record)
    hold = screened.hold
    if hold is None or verdict.reason is None:
        return
    await holds.place(change.connection, change.order_id, hold, verdict.reason, SYSTEM)
    about: dict[str, object] = {
        "hold_id": hold.hold_id,
        "type": hold.type,
        "scope": "the order",
        "blocks": hold.blocks,
        "until": hold.deadline.isoformat(timespec="seconds"),
        "reason": verdict.reason,
    }
    change.say("hold.placed", SYSTEM, verdict.reason, None, **about)


async def recorded_holds(connection: AsyncConnection, order_id: str) -> tuple[Hold, ...]:
    """The hold that an earlier attempt of the acceptance placed."""
    row = await holds.find_hold(connection, order_id, hold_id_of(order_id))
    if row is None:
        return ()
    return (
        Hold(
            hold_id=row["hold_id"],
            type=row["type"],
            blocks=tuple(row["blocks"]),
            owner=row["owner"],
            at_limit=row["at_limit"],
            since=row["placed_at"],
            deadline=row["expires_at"],
            state=row["state"],
        ),
    )


def hold_id_of(order_id: str) -> str:
    """At most one per order."""
    return derived_id("hld", order_id, "risk")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
