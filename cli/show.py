"""An order, its timeline and its cancellations as text for people."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from cli.client import CancellationView, EventView, OrderView
from cli.output import program
from domain.money import format_minor

_WIDTH = 100


def order_text(order: OrderView, events: Sequence[EventView], ui: str | None) -> str:
    """One order on one screen: header, promise, parcels, timeline, who is waited for, what can be done."""
    lines = [_header(order), *_links(order), *_promise(order), *_parts(order), *_holds(order)]
    lines += [f" ├ {event_text(event)}" for event in events]
    lines.append(_waiting(order))
    lines += _actions(order)
    if ui:
        lines.append(f" Temporal  {ui}/order-{order.id}")
    return "\n".join(lines)


def event_text(event: EventView) -> str:
    """One event on one line."""
    who = str(event.actor.get("id", ""))
    actor = "" if who in ("accord", "") else f"   by {who}"
    return f"{_time(event.occurred_at)}  {event.type:<24} {event.text}{actor}"


def row_text(order: OrderView) -> str:
    """One order in a list."""
    document = order.document
    total = money(int(document.get("total_minor", 0)), order.currency)
    wait = f"waits for {order.waiting_on}" if order.waiting_on and not order.ended else ""
    words = f"{order.order_number:<14} {order.channel:<10} {total:>14}  {order.status:<15} {order.payment_status:<19}"
    return f" {words} {order.fulfillment_status:<20} {wait}".rstrip()


def cancellation_text(cancellation: CancellationView, currency: str) -> str:
    """What became of a cancellation."""
    lines = [f" Cancellation {cancellation.id}: {cancellation.state}"]
    if cancellation.money:
        told = (
            ("total_before_minor", "owed before"),
            ("total_after_minor", "owed now"),
            ("kept_minor", "paid all the same"),
            ("authorization_to_release_minor", "authorization to release"),
            ("refund_minor", "refund"),
        )
        lines += [f"   {word:<26}{money(int(cancellation.money[name]), currency):>16}" for name, word in told]
    lines += [f"   written off at {one['node']}: {one['quantity']} {one['sku']}" for one in cancellation.written_off]
    lines += [
        f"   asked back from the carrier: {one['shipment_id']}, {one['units']} units" for one in cancellation.recalled
    ]
    if cancellation.recalled:
        lines.append("   It is refunded when it is back. Silence is never consent: it may be delivered all the same.")
    if cancellation.refusal:
        lines.append(f"   {refusal_text(cancellation.refusal)}")
    if cancellation.state == "requested":
        lines.append("   The node was asked to stop; its answer follows. Silence is never consent.")
    return "\n".join(lines)


def refusal_text(document: dict[str, Any]) -> str:
    """Why something is refused, and what is possible instead."""
    reason = document.get("reason")
    text = str(document.get("detail") or document.get("title") or "refused")
    parts = [f"[{reason}] {text}" if reason else text]
    if document.get("alternative"):
        parts.append(f"possible instead: {_instead(document)}")
    for line in document.get("lines") or []:
        if "available" in line:
            parts.append(
                f"line {line['line']}: {line['requested']} x {line['sku']} asked, {line['available']} available"
            )
    for finding in document.get("errors") or []:
        parts.append(f"{finding['pointer'] or '/'}: {finding['message']} ({finding['code']})")
    return "\n   ".join(parts)


def _instead(document: dict[str, Any]) -> str:
    """The alternative, with the command for it where it is not a change of this order."""
    alternative, order = str(document["alternative"]), document.get("order_id", "ORDER")
    commands = {
        "return": f"orders return-quote {order}",
        "linked_order": f"orders create --replaces {order}",
    }
    return f"{alternative}  -> {program()} {commands[alternative]}" if alternative in commands else alternative


def money(minor: int, currency: str) -> str:
    """An amount for people; without a known currency in minor units."""
    return f"{format_minor(minor, currency)} {currency}" if currency else f"{minor} minor units"


def _header(order: OrderView) -> str:
    ordered, owed = order.totals.get("ordered_minor", 0), order.totals.get("owed_minor")
    amount = money(owed if owed is not None else ordered, order.currency)
    if owed is not None and owed != ordered:
        amount += f" (ordered {format_minor(ordered, order.currency)})"
    left = f" Order {order.order_number} · {order.channel} · {len(order.lines)} lines · {amount}"
    return f"{left:<{_WIDTH - 34}}  {order.status.upper().replace('_', ' ')} · version {order.version}"


def _links(order: OrderView) -> list[str]:
    """The order that this one was placed for, and those that were placed for it."""
    earlier = order.document.get("replaces_order")
    lines = [f" Replaces  {earlier}"] if earlier else []
    for later in order.document.get("replaced_by", ()):
        lines.append(f" Replaced  by order {later['order_number']}  {later['status']}  {later['id']}")
    return lines


def _promise(order: OrderView) -> list[str]:
    promise = order.document.get("promise")
    if not promise:
        return []
    paid = order.payment_status.replace("_", " ")
    return [f" Promise   {promise['current_by']}  {promise['state'].replace('_', ' ')}       Payment  {paid}"]


def _parts(order: OrderView) -> list[str]:
    parcels = {parcel["id"]: parcel for parcel in order.shipments}
    lines = []
    for part in order.fulfillment_orders:
        parcel = parcels.get(part["shipment_id"], {})
        units = sum(line["quantity"] for line in part["lines"])
        track = f"  {parcel.get('carrier')} {parcel.get('tracking_number')} {parcel.get('state')}" if parcel else ""
        recall = f"  recall {parcel['recall']}" if parcel.get("recall") else ""
        lines.append(f" Part      {part['node']}  {units} units  {part['state']}{track}{recall}")
    return lines


def _holds(order: OrderView) -> list[str]:
    """The holds that stand, each with the id that ends it."""
    lines = []
    for hold in order.document.get("holds", ()):
        scope = "" if hold["line"] is None else f"line {hold['line']}  "
        until = _day_time(datetime.fromisoformat(hold["expires_at"]))
        blocks = ", ".join(hold["blocks"])
        lines.append(f" Hold      {hold['type']}  {scope}blocks {blocks} until {until}  {hold['owner']}  {hold['id']}")
    return lines


def _waiting(order: OrderView) -> str:
    if order.ended:
        return f" └ ended     {order.status}"
    if order.wait is None:
        return " └ waiting   for the order's first answer"
    wait = order.wait
    until = _day_time(datetime.fromisoformat(wait["deadline"]))
    return (
        f" └ waiting   for {wait['waiting_on']} until {until}: {wait['next_event'] or wait['cause']}   {wait['owner']}"
    )


def _actions(order: OrderView) -> list[str]:
    can, cannot = [], []
    for action in order.document.get("available_actions", ()):
        if action["available"]:
            can.append(action["action"])
        else:
            instead = f" -> {action['alternative']}" if action.get("alternative") else ""
            cannot.append(f"{action['action']} ({action.get('reason')}{instead})")
    lines = [f" Can do    {' · '.join(dict.fromkeys(can))}"] if can else []
    return [*lines, *([f" Cannot    {' · '.join(dict.fromkeys(cannot))}"] if cannot else [])]


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%H:%M:%S")


def _day_time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%d %b %H:%M UTC")
