"""From rows to answers: the snapshot of an order and the nouns around it."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from itertools import pairwise
from typing import Any

from api.actions import available_actions
from api.masking import shown_address, shown_customer
from api.outsiders import shown_hold
from domain.holds import HOLD_RULES
from domain.ids import derived_id
from domain.lifecycle import PaymentState
from domain.orders import HoldType
from domain.permissions import Personal, Principal, personal_view
from store.commands import StoredCommand
from store.vault import KeyRing, Sealed, unseal
from workflows.starting import order_workflow_id

Row = Mapping[str, Any]

ALTERNATIVES = {"already_handed_over": "return"}
_COMPONENTS = ("items_minor", "discount_minor", "tax_minor", "shipping_minor", "shipping_tax_minor")


def stamp(moment: datetime | str | None) -> str | None:
    """A time as RFC 3339 in UTC."""
    if moment is None:
        return None
    at = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def day(value: date | str | None) -> str | None:
    """A day as the customer reads it."""
    return None if value is None else str(value)


def render_order(row: Row, principal: Principal, ring: KeyRing) -> dict[str, Any]:
    """The full snapshot of an order that the workflow has answered."""
    view = personal_view(principal)
    personal = _personal(row, ring, view)
    return {
        "id": row["order_id"],
        "order_number": row["order_number"],
        "version": row["version"],
        "channel": row["channel"],
        "external_ref": row["external_ref"],
        "currency": row["currency"],
        "created_at": stamp(row["created_at"]),
        "updated_at": stamp(row["updated_at"]),
        "status": row["status"],
        "fulfillment_status": row["fulfillment_status"],
        "payment_status": row["payment_status"],
        "service_level": row["service_level"],
        "split": row["split"],
        "backorder": row["backorder"],
        "customer": shown_customer(row["customer_ref"], personal, view),
        "ship_to": shown_address(row["country"], row["region"], personal, view),
        "lines": [_line(line, row["promises"]) for line in row["lines"]],
        "totals": _totals(row),
        "payment": _payment(row),
        "reservation": _reservation(row),
        "promise": _promise(row),
        "fulfillment_orders": [_part(part) for part in row["fulfillment_orders"]],
        "shipments": [_parcel(parcel) for parcel in row["shipments"]],
        "holds": [shown_hold(render_hold(hold), principal) for hold in row["holds"]],
        "wait": _wait(row),
        "rejection": row["rejection"],
        "available_actions": available_actions(principal, dict(row)),
        "replaces_order": row["replaces_order"],
        "replaced_by": row["replaced_by"],
        "workflow_id": order_workflow_id(row["order_id"]),
        "links": links_of(row["order_id"]),
    }


def render_received(row: Row, note: str | None = None) -> dict[str, Any]:
    """An order that was taken in and that the workflow has not answered yet."""
    return {
        "id": row["order_id"],
        "order_number": row["order_number"],
        "version": 0,
        "channel": row["channel"],
        "external_ref": row["external_ref"],
        "currency": row["currency"],
        "created_at": stamp(row["created_at"]),
        "status": "received",
        "replaces_order": row["replaces_order"],
        "totals": {"ordered_minor": int(row["total_minor"])},
        "note": note or "The order is stored; stock and promise follow.",
        "links": links_of(row["order_id"]),
    }


def links_of(order_id: str) -> dict[str, str]:
    """Where to go from an order."""
    base = f"/v1/orders/{order_id}"
    return {
        "self": base,
        "events": f"{base}/events",
        "cancellations": f"{base}/cancellations",
        "holds": f"{base}/holds",
        "decisions": f"{base}/decisions",
        "return_quote": f"{base}/returns/quote",
    }


def render_listed(row: Row) -> dict[str, Any]:
    """One entry of a list of orders."""
    return {
        "id": row["order_id"],
        "order_number": row["order_number"],
        "version": row["version"],
        "channel": row["channel"],
        "external_ref": row["external_ref"],
        "currency": row["currency"],
        "status": row["status"],
        "payment_status": row["payment_status"],
        "fulfillment_status": row["fulfillment_status"],
        "waiting_on": row["waiting_on"],
        "wait_deadline": stamp(row["wait_deadline"]),
        "promised_by": day(row["promised_by"]),
        "promise_state": row["promise_state"],
        "total_minor": row["total_minor"],
        "owed_minor": row["owed_minor"],
        "created_at": stamp(row["created_at"]),
        "updated_at": stamp(row["updated_at"]),
    }


def _personal(row: Row, ring: KeyRing, view: Personal) -> dict[str, Any] | None:
    """Opened only when the caller may see some of it."""
    if view is Personal.NONE or row["sealed"] is None:
        return None
    sealed = Sealed(row["key_version"], bytes(row["wrapped_key"]), bytes(row["sealed"]))
    return unseal(ring, row["order_id"], row["customer_ref"], sealed)


def _totals(row: Row) -> dict[str, int]:
    lines = row["lines"]
    cancelled = sum(line["cancelled_minor"] for line in lines)
    return {
        "ordered_minor": row["total_minor"],
        "cancelled_minor": cancelled,
        "kept_minor": sum(line["kept_minor"] for line in lines),
        "credited_minor": sum(line["credited_minor"] for line in lines),
        "owed_minor": row["owed_minor"],
        **{name: sum(line[name] for line in lines) for name in _COMPONENTS},
    }


def _payment(row: Row) -> dict[str, Any]:
    tenders = [{**tender, "capture_before": stamp(tender["capture_before"])} for tender in row["tenders"]]
    captured = sum(tender["captured_minor"] for tender in tenders)
    refunded = sum(tender["refunded_minor"] for tender in tenders)
    return {
        "authorized_minor": sum(t["authorized_minor"] for t in tenders if t["state"] != PaymentState.VOIDED),
        "captured_minor": captured,
        "refunded_minor": refunded,
        "to_capture_minor": max(0, row["owed_minor"] - (captured - refunded)),
        "tenders": tenders,
    }


def _reservation(row: Row) -> dict[str, Any] | None:
    held = any(line["quantities"].get("reserved") for line in row["lines"])
    return {"state": "held", "expires_at": stamp(row["reserved_until"])} if held else None


def _promise(row: Row) -> dict[str, Any] | None:
    promises = row["promises"]
    if not promises:
        return None
    changes = [
        {"from": before["promised_by"], "to": after["promised_by"], "cause": after["cause"], "at": stamp(after["at"])}
        for before, after in pairwise(promises)
    ]
    return {
        "original_by": day(promises[0]["promised_by"]),
        "current_by": day(promises[-1]["promised_by"]),
        "state": row["promise_state"],
        "ruleset": promises[-1]["ruleset"],
        "changes": changes,
    }


def _line(line: Row, promises: list[Row]) -> dict[str, Any]:
    """A line; what waits for supply is promised by the order's current day."""
    waits = line["backorder"]
    if waits is None:
        return {name: value for name, value in line.items() if name != "backorder"}
    promised = day(promises[-1]["promised_by"]) if promises else None
    times = {"since": stamp(waits["since"]), "until": stamp(waits["until"])}
    return {**line, "backorder": {"units": waits["units"], **times, "promised_by": promised}}


def _part(part: Row) -> dict[str, Any]:
    return {**part, "ship_by": stamp(part["ship_by"])}


def _parcel(parcel: Row) -> dict[str, Any]:
    times = {name: stamp(parcel[name]) for name in ("handed_over_at", "delivered_at", "returned_at", "recall_until")}
    return {**parcel, **times}


def _wait(row: Row) -> dict[str, Any] | None:
    if row["waiting_on"] is None:
        return None
    return {
        "waiting_on": row["waiting_on"],
        "owner": row["wait_owner"],
        "cause": row["wait_cause"],
        "since": stamp(row["wait_since"]),
        "next_event": row["wait_next_event"],
        "deadline": stamp(row["wait_deadline"]),
    }


# --- nouns --------------------------------------------------------------------------------------------


def cancellation_id(command_id: str) -> str:
    """The id of the cancellation that a command asked for; the workflow derives the same one."""
    return derived_id("can", command_id)


def render_cancellation(command: StoredCommand, note: str | None = None) -> dict[str, Any]:
    """A cancellation from its command's row, whatever became of it."""
    base = {
        "id": cancellation_id(command.command_id),
        "order_id": command.order_id,
        "reason": command.payload.get("reason", "other"),
        "requested_at": command.received_at,
        "settled_at": command.settled_at,
    }
    outcome = command.outcome
    if outcome is None:
        return {**base, "state": "requested", **({"note": note} if note else {})}
    if command.state != "applied":
        return {**base, "state": "declined", "refusal": refusal_of(outcome)}
    return {**base, **render_cancel_outcome(outcome)}


def render_cancel_outcome(outcome: Row) -> dict[str, Any]:
    """What a cancellation did."""
    money = ("total_before_minor", "total_after_minor", "captured_minor", "refund_minor")
    lines = ("line", "requested", "cancelled", "waiting", "declined")
    return {
        "state": outcome["state"],
        "lines": [dict(zip(lines, line, strict=True)) for line in outcome["lines"]],
        "stock": [{"sku": sku, "node": node, "released": quantity} for sku, node, quantity in outcome.get("stock", ())],
        "written_off": [
            {"sku": sku, "node": node, "quantity": quantity} for sku, node, quantity in outcome.get("written_off", ())
        ],
        "recalled": [{"shipment_id": name, "units": units} for name, units in outcome.get("recalled", ())],
        "money": {
            **{name: outcome[name] for name in money},
            "kept_minor": outcome.get("kept_minor", 0),
            "authorization_to_release_minor": outcome["authorization_to_release_minor"],
        },
        "answer_by": stamp(outcome.get("answer_by")),
        "order_version": outcome["order_version"],
    }


def refusal_of(outcome: Row) -> dict[str, Any]:
    """Why a command was refused, in the words of every refusal."""
    code = outcome.get("code", "refused")
    return {
        "reason": code,
        "detail": outcome.get("detail", "The order refused the command."),
        "alternative": outcome.get("alternative") or ALTERNATIVES.get(code),
    }


def render_hold(row: Row) -> dict[str, Any]:
    """A hold that was placed, whatever became of it."""
    return {
        "id": row["hold_id"],
        "order_id": row["order_id"],
        "type": row["type"],
        "state": row["state"],
        "blocks": row["blocks"],
        "line": row["line_no"],
        "owner": row["owner"],
        "released_by": list(HOLD_RULES[HoldType(row["type"])].released_by),
        "reason": row["reason"],
        "at_limit": row["at_limit"],
        "placed_by": _who(row["placed_by"]),
        "placed_at": stamp(row["placed_at"]),
        "expires_at": stamp(row["expires_at"]),
        "ended_by": _who(row["ended_by"]),
        "ended_at": stamp(row["ended_at"]),
    }


def _who(actor: Row | None) -> str | None:
    """Somebody in a role, like `service:maria`."""
    return f"{actor.get('role') or actor['kind']}:{actor['id']}" if actor else None


def render_work(row: Row) -> dict[str, Any]:
    """A fulfillment order as lists show it: no customer, no address, no payment."""
    return {
        "id": row["fulfillment_id"],
        "order_id": row["order_id"],
        "order_number": row["order_number"],
        "node": row["node_id"],
        "state": row["state"],
        "stage": row["stage"],
        "units": row["units"],
        "lines": row["lines"],
        "ship_by": stamp(row["ship_by"]),
        "shipment_id": row["shipment_id"],
        "carrier": row["carrier"],
        "tracking_number": row["tracking_number"],
        "tracking_state": row["tracking"],
        "created_at": stamp(row["created_at"]),
        "updated_at": stamp(row["updated_at"]),
        "order_version": row["version"],
    }


def render_event(row: Row) -> dict[str, Any]:
    """One entry of the timeline."""
    return {
        "id": row["event_id"],
        "type": row["type"],
        "sequence": row["sequence"],
        "order_id": row["order_id"],
        "occurred_at": stamp(row["occurred_at"]),
        "actor": row["actor"],
        "cause": row["cause"],
        "command_id": row["command_id"],
        "rulesets": list(row["rulesets"]),
        "text": row["text"],
        "data": row["data"],
    }


def render_decision(row: Row) -> dict[str, Any]:
    """One decision with its reasons."""
    return {
        "id": row["decision_id"],
        "order_id": row["order_id"],
        "kind": row["kind"],
        "ruleset": row["ruleset"],
        "decided_at": stamp(row["created_at"]),
        "record": row["record"],
    }
