"""The timeline of an order in words: one sentence per kind of event. Owned by service.

No sentence holds personal data; amounts are formatted in the order's currency.
"""

from collections.abc import Mapping
from string import Formatter

from domain.money import format_minor

SENTENCES = {
    "order.confirmed": "{units} units held at {nodes}; promised by {promised_by}",
    "order.rejected": "Rejected: {reason}",
    "order.completed": "Completed: everything delivered and settled",
    "order.cancelled": "Cancelled and settled",
    "order.replaces": "Placed to replace order {order_number}",
    "order.replaced": "Order {order_number} was placed to replace it",
    "order.backordered": "{units} units wait for supply until {until}; promised by {to}",
    "backorder.filled": "Supply has come: {units} units held at {nodes}, {waiting} still wait",
    "order.closing": "Closed by force ({reason}): what has not left is cancelled, nobody is asked any more",
    "order.forced": "Nobody is waited for any more; {left} things are left for a person",
    "order.unsettled": "{amount_minor} is left to be settled outside",
    "order.allocated": "Committed to {nodes}",
    "order.needs_attention": "Needs attention ({code}), owner {owner}: {detail}",
    "case.escalated": "Nobody answered the case {code} in time: escalated for {owner}, to be answered by {due_at}",
    "reservation.expired": "The reservation lapsed: {units} units went back to stock",
    "reservation.renewed": "{units} units held again at {nodes}",
    "payment.authorized": "Payment of {amount_minor} authorized",
    "payment.declined": "Payment declined ({decline_code}); it can be fixed until {until}",
    "payment.unknown": "The payment provider's answer was lost; it is being looked up",
    "payment.captured": "{amount_minor} captured for {what}",
    "payment.voided": "Authorization of {amount_minor} released",
    "payment.refused": "The provider refused to {intent}: {code}",
    "refund.succeeded": "{amount_minor} refunded",
    "cancellation.requested": "Cancellation asked of {nodes} ({reason})",
    "cancellation.confirmed": "{units} units cancelled ({reason})",
    "stock.written_off": "{units} units written off at {nodes}: they do not come back to stock",
    "payment.written_off": "{amount_minor} that could not be taken is written off",
    "payment.kept": "{amount_minor} is paid all the same for what was cancelled",
    "cancellation.declined": "{node} could not stop {fulfillment_id}: it ships",
    "amendment.requested": "Change asked for ({kinds}): {more_minor} more to authorize, nodes asked: {nodes}",
    "order.amended": "Changed ({kinds}): now owed {owed_minor}",
    "amendment.declined": "The change was declined: {why}",
    "hold.placed": "Hold {type} on {scope}: blocks {blocks} until {until} ({reason})",
    "hold.released": "Hold {type} released ({reason})",
    "hold.rejected": "Hold {type} rejected ({reason}): what it held is cancelled",
    "hold.expired": "Hold {type} reached its limit; it says: {reason}",
    "fulfillment.released": "Released to {node}",
    "fulfillment.accepted": "{node} accepted the work",
    "fulfillment.picked": "Picked at {node}",
    "fulfillment.packed": "Packed at {node}",
    "fulfillment.short": "{node} cannot ship {units} units ({why}); they are sourced again",
    "fulfillment.rejected": "{node} rejected {units} units ({why}); they are sourced again",
    "fulfillment.recalled": "{node} is asked to give {units} units back ({why})",
    "fulfillment.given_up": "{units} units are taken from {node} ({why}); they are sourced again",
    "fulfillment.kept": "{node} could not stop {fulfillment_id} ({why}): it ships",
    "shipment.booked": "Parcel {shipment_id} booked with {carrier}, tracking {tracking_number}",
    "shipment.label_voided": "Label {tracking_number} taken back",
    "shipment.handed_over": "Parcel {shipment_id} handed over to the carrier",
    "shipment.scanned": "Parcel {shipment_id}: {state}",
    "shipment.delivered": "Parcel {shipment_id} delivered",
    "parcel.lost": "Parcel {shipment_id} is lost ({why})",
    "parcel.damaged": "Parcel {shipment_id} is damaged",
    "parcel.returning": "Parcel {shipment_id} is brought back",
    "recall.requested": "The carrier is asked to bring {units} units back ({reason}): {shipments}",
    "recall.declined": "The carrier does not bring parcel {shipment_id} back ({why}): it goes on to the customer",
    "parcel.recalled": "The carrier brings parcel {shipment_id} back, as it was asked to",
    "parcel.returned": "Parcel {shipment_id} is back at {node}: {units} units on hand again",
    "parcel.credited": "{units} units of parcel {shipment_id} are not owed any more ({why}): {amount_minor} to refund",
    "parcel.replaced": "{units} units of parcel {shipment_id} are sent again at no charge ({why}), lines {lines}",
    "units.credited": "{units} units that were to be sent again are not: {amount_minor} to refund",
    "promise.withdrawn": "The promise for {promised_by} is withdrawn: nothing is to be delivered any more",
    "promise.kept": "Delivered by the promised day {promised_by}",
    "promise.broken": "Delivered after the promised day {promised_by}",
    "promise.changed": "Now promised by {to} (was {promised_by}): {why}",
    "promise.late": "The promised day {promised_by} has passed",
}


def sentence(event_type: str, data: Mapping[str, object], currency: str) -> str:
    """The event in words. Fields that end in `_minor` are read as amounts of money."""
    template = SENTENCES[event_type]
    names = {name for _, name, _, _ in Formatter().parse(template) if name}
    values = {name: _shown(name, data.get(name, "-"), currency) for name in names}
    return template.format(**values)


def _shown(name: str, value: object, currency: str) -> str:
    if name.endswith("_minor") and isinstance(value, int):
        return f"{format_minor(value, currency)} {currency}"
    if isinstance(value, list | tuple):
        return ", ".join(str(v) for v in value) or "none"
    return str(value)
