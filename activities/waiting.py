"""Units that wait for supply, within a department's transaction: let them wait, say so, and find it again."""

from datetime import date, datetime, timedelta
from typing import Any

from activities.planning import NOBODY_WAITS, MayWait, Plan
from domain.backorders import agrees_to_wait
from domain.orders import PlaceOrder
from store import acceptance, supply
from store.orders import OrderChange
from store.supply import Waiting


async def what_may_wait(change: OrderChange, order: PlaceOrder) -> MayWait:
    """What may wait for supply: if the customer agrees, or was not asked and the rules do, the items that allow it."""
    if not agrees_to_wait(order.backorder, change.rules):
        return NOBODY_WAITS
    skus = await supply.backorderable(change.connection, {line.sku for line in order.lines})
    return MayWait(skus, change.rules.backorder_limit_s)


async def let_wait(change: OrderChange, plan: Plan) -> Waiting:
    """Let wait what no node has. The database's clock says since when and until when."""
    if not plan.waiting:
        return Waiting()
    until = change.now + timedelta(seconds=change.rules.backorder_limit_s)
    waiting = Waiting(plan.waiting, change.now, until)
    await supply.let_wait(change.connection, change.order_id, waiting)
    return waiting


def say_waiting(change: OrderChange, waiting: Waiting, plan: Plan) -> None:
    """Tell the customer: how many units, by when they come, and until when they are waited for."""
    if waiting.until is not None:
        units = sum(quantity for _, quantity in waiting.units)
        until = waiting.until.isoformat(timespec="seconds")
        change.say("order.backordered", units=units, until=until, to=str(plan.promised_by))


def noted(record: dict[str, Any], plan: Plan, waiting: Waiting) -> dict[str, Any]:
    """The record of the decision, with what waits: an attempt whose commit was not noticed reads it there."""
    if waiting.since is None or waiting.until is None:
        return record
    about = {
        "units": [list(unit) for unit in waiting.units],
        "since": waiting.since.isoformat(),
        "until": waiting.until.isoformat(),
        "placed_by": str(plan.placed_by) if plan.placed_by else None,
        "placed_until": plan.placed_until.isoformat() if plan.placed_until else None,
    }
    return {**record, "backordered": about}


def waiting_in(record: dict[str, Any]) -> Waiting:
    """What a decision let wait."""
    about = record.get("backordered")
    if about is None:
        return Waiting()
    units = tuple((line_no, quantity) for line_no, quantity in about["units"])
    return Waiting(units, datetime.fromisoformat(about["since"]), datetime.fromisoformat(about["until"]))


def placed_in(record: dict[str, Any], by: date, until: datetime) -> tuple[date | None, datetime | None]:
    """By when what a decision placed arrives: where nothing waits, by what was promised."""
    about = record.get("backordered")
    if about is None:
        return by, until
    if about["placed_until"] is None:
        return None, None
    return date.fromisoformat(about["placed_by"]), datetime.fromisoformat(about["placed_until"])


async def promise_sooner_or_later(
    change: OrderChange, plan: Plan, placed: tuple[date | None, datetime | None]
) -> tuple[date, datetime]:
    """The promise once supply has come for all that waited: the day of what comes last. A new day is told, once."""
    before, until = await acceptance.current_promise(change.connection, change.order_id)
    by, new = plan.promised_by, plan.promised_until
    if placed[0] is not None and placed[1] is not None and placed[1] > new:
        by, new = placed[0], placed[1]
    if new == until:
        return before, until
    change.say("promise.changed", cause="supply_arrived", promised_by=before, to=by, why="supply_arrived")
    await acceptance.re_promise(
        change.connection,
        change.order_id,
        by,
        new,
        plan.zone_name,
        "supply_arrived",
        change.events[-1]["event_id"],
        plan.steps_json,
        plan.promise_ruleset,
    )
    return by, new
