"""What the customer is told of, and what not: one table from event to notice. Owned by service.

Every kind of event is in `TOLD` or in `SILENT`; a test walks all of them, so that a new one has to be decided.
A notice is sent once per event. The rules of sending again, of back-off and of giving up stand below the table.
"""

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from domain.orders import Actor, ActorKind
from domain.refusals import OrderRuleError

DEFAULT_LANGUAGE = "en"
MOST_ATTEMPTS = 20
"""With the pauses of `pause_before_next` about eleven hours; then a person of service looks."""
MOST_RESENDS = 10
NOTICE_FAILING = "notice_failing"
_FIRST_PAUSE = timedelta(seconds=5)
_LONGEST_PAUSE = timedelta(hours=1)


class NoticeKind(StrEnum):
    """What a notice says; templates are named after it."""

    ORDER_CONFIRMED = "order_confirmed"
    PAYMENT_DECLINED = "payment_declined"  # names the time until which it can be fixed
    ADDRESS_QUESTION = "address_question"  # a hold that only the customer's answer can end
    PAYMENT_QUESTION = "payment_question"
    PROMISE_CHANGED = "promise_changed"
    UNITS_CANCELLED = "units_cancelled"  # some of the order
    ORDER_CANCELLED = "order_cancelled"  # all of it
    CANCELLATION_DECLINED = "cancellation_declined"
    REFUNDED = "refunded"
    SHIPPED = "shipped"  # names the tracking number
    DELIVERED = "delivered"
    ORDER_AMENDED = "order_amended"
    BACKORDERED = "backordered"
    PARCEL_LOST = "parcel_lost"
    PARCEL_DAMAGED = "parcel_damaged"
    PARCEL_RETURNING = "parcel_returning"
    PARCEL_RECALLED = "parcel_recalled"  # it is brought back because somebody asked for it
    RECALL_DECLINED = "recall_declined"
    PARCEL_REPLACED = "parcel_replaced"


class NoticeState(StrEnum):
    """Where a notice is."""

    PENDING = "pending"  # due now or after a pause
    SENDING = "sending"  # somebody has it
    SENT = "sent"
    FAILED = "failed"  # refused for good, or tried too often
    SUPPRESSED = "suppressed"  # `why` says the reason


class Required(StrEnum):
    """Whether the law wants a notice to be sent even to those who want none."""

    NO = "no"
    YES = "yes"
    UNLESS_ASKED = "unless_asked"  # unless the customer asked for it, and so knows


class Telling(NamedTuple):
    """How an event is told.

    Attributes:
        whole: the kind when nothing of the order is left to come; without it always `kind`.
        by_type: where only some events are told: the field `type` of their data decides, and names the kind.
    """

    kind: NoticeKind
    required: Required = Required.NO
    whole: NoticeKind | None = None
    by_type: Mapping[str, NoticeKind] | None = None


class Notice(NamedTuple):
    """A notice that an event asks for."""

    kind: NoticeKind
    required: bool


_QUESTIONS = MappingProxyType({"address": NoticeKind.ADDRESS_QUESTION, "payment": NoticeKind.PAYMENT_QUESTION})

TOLD: Mapping[str, Telling] = MappingProxyType(
    {
        "order.confirmed": Telling(NoticeKind.ORDER_CONFIRMED),
        "payment.declined": Telling(NoticeKind.PAYMENT_DECLINED),
        "hold.placed": Telling(NoticeKind.ADDRESS_QUESTION, by_type=_QUESTIONS),
        "promise.changed": Telling(NoticeKind.PROMISE_CHANGED),
        "cancellation.confirmed": Telling(
            NoticeKind.UNITS_CANCELLED, Required.UNLESS_ASKED, whole=NoticeKind.ORDER_CANCELLED
        ),
        "cancellation.declined": Telling(NoticeKind.CANCELLATION_DECLINED),
        "refund.succeeded": Telling(NoticeKind.REFUNDED, Required.YES),
        "shipment.handed_over": Telling(NoticeKind.SHIPPED),
        "shipment.delivered": Telling(NoticeKind.DELIVERED),
        "order.amended": Telling(NoticeKind.ORDER_AMENDED),
        "order.backordered": Telling(NoticeKind.BACKORDERED),
        "parcel.lost": Telling(NoticeKind.PARCEL_LOST),
        "parcel.damaged": Telling(NoticeKind.PARCEL_DAMAGED),
        "parcel.returning": Telling(NoticeKind.PARCEL_RETURNING),
        "parcel.recalled": Telling(NoticeKind.PARCEL_RECALLED),
        "recall.declined": Telling(NoticeKind.RECALL_DECLINED),
        "parcel.replaced": Telling(NoticeKind.PARCEL_REPLACED),
    }
)

SILENT: Mapping[str, str] = MappingProxyType(
    {
        "order.rejected": "the storefront answers the customer at once",
        "order.completed": "the last delivery is told",
        "order.cancelled": "its cancellation is told",
        "order.replaces": "its confirmation is told",
        "order.replaced": "the confirmation of the new order is told",
        "order.closing": "what is cancelled, and what is refunded, is told",
        "order.forced": "our own business",
        "order.unsettled": "our own business: a case is opened",
        "order.allocated": "our own business",
        "backorder.filled": "the new day is told by promise.changed, once for all that waited",
        "order.needs_attention": "our own business",
        "case.escalated": "our own business",
        "reservation.expired": "the declined payment named the time",
        "reservation.renewed": "a later day is told by promise.changed",
        "payment.authorized": "no money has moved",
        "payment.unknown": "it is being found out",
        "payment.captured": "the shipment is told; the bank tells the amount",
        "payment.voided": "the cancellation is told, and no money has moved",
        "payment.refused": "our own business: a case is opened",
        "payment.written_off": "our own business",
        "payment.kept": "the cancellation tells it",
        "stock.written_off": "our own business",
        "cancellation.requested": "the answer follows",
        "recall.requested": "the answer follows",
        "amendment.requested": "the answer follows",
        "amendment.declined": "whoever asked has the answer, and the order is as before",
        "hold.released": "the order goes on",
        "hold.rejected": "its cancellation is told",
        "hold.expired": "what follows from it is told",
        "fulfillment.released": "our own business",
        "fulfillment.accepted": "our own business",
        "fulfillment.picked": "our own business",
        "fulfillment.packed": "our own business",
        "fulfillment.short": "what follows for the customer is told by promise.changed or a cancellation",
        "fulfillment.recalled": "our own business",
        "fulfillment.given_up": "what follows for the customer is told by promise.changed or a cancellation",
        "fulfillment.kept": "our own business",
        "fulfillment.rejected": "what follows for the customer is told by promise.changed or a cancellation",
        "shipment.booked": "the tracking number is told when the parcel has left",
        "shipment.label_voided": "our own business",
        "shipment.scanned": "the carrier's page tells it",
        "parcel.returned": "that it comes back was told; what follows is told by a refund or parcel.replaced",
        "parcel.credited": "the refund is told",
        "units.credited": "the refund is told",
        "promise.withdrawn": "what took its units away is told",
        "promise.kept": "the delivery is told",
        "promise.broken": "the delivery is told",
        "promise.late": "the new day is told by promise.changed",
    }
)
"""Events that tell the customer nothing, each with the reason."""


def notice_for(event_type: str, data: Mapping[str, object], actor: Actor, *, nothing_left: bool) -> Notice | None:
    """The notice that an event asks for, None when it tells the customer nothing.

    Args:
        event_type: type of the event.
        data: its data.
        actor: who caused it.
        nothing_left: every unit of the order is cancelled.
    """
    telling = TOLD.get(event_type)
    if telling is None:
        return None
    kind = telling.kind
    if telling.by_type is not None:
        named = telling.by_type.get(str(data.get("type")))
        if named is None:
            return None
        kind = named
    elif telling.whole is not None and nothing_left:
        kind = telling.whole
    asked = actor.kind is ActorKind.CUSTOMER
    required = telling.required is Required.YES or (telling.required is Required.UNLESS_ASKED and not asked)
    return Notice(kind, required)


def language_of(locale: str | None) -> str | None:
    """The language of a locale like `de-AT`: `de`."""
    return locale.split("-", 1)[0].lower() if locale else None


def notice_id_of(event_id: str) -> str:
    """The id of the notice that tells of an event: it bears the event's own body."""
    return f"ntc_{event_id.partition('_')[2]}"


def pause_before_next(attempt_no: int, asked_s: float | None = None) -> timedelta | None:
    """How long to wait after this attempt failed (1, 2, 3 ...); None: it was the last one.

    Args:
        attempt_no: number of the attempt that failed.
        asked_s: how long the provider asked to wait, in seconds.
    """
    if attempt_no >= MOST_ATTEMPTS:
        return None
    usual = min(_FIRST_PAUSE * int(2 ** (attempt_no - 1)), _LONGEST_PAUSE)
    return min(max(usual, timedelta(seconds=asked_s or 0)), _LONGEST_PAUSE)


class NoticeNotOver(OrderRuleError):
    """The notice has not been sent yet."""

    code = "notice_not_over"


class CustomerOptedOut(OrderRuleError):
    """The customer wants no notices of this kind."""

    code = "opted_out"


class TooManyResends(OrderRuleError):
    """The notice was sent again too often."""

    code = "too_many_resends"


OPTED_OUT = "opted_out"  # why a notice is suppressed
NO_ADDRESS = "no_address"


def check_resend(state: NoticeState, why: str | None, resends: int, *, under_way: bool) -> None:
    """Whether a notice may be sent again.

    Args:
        state: of the original.
        why: its reason.
        resends: how often it was sent again before.
        under_way: the latest of those is not over.

    Raises:
        NoticeNotOver: it is going to be sent.
        CustomerOptedOut: the customer wants none.
        TooManyResends: somebody is annoyed by now.
    """
    if under_way or state in (NoticeState.PENDING, NoticeState.SENDING):
        raise NoticeNotOver("it has not been sent yet, and will be: look again in a while")
    if state is NoticeState.SUPPRESSED and why == OPTED_OUT:
        raise CustomerOptedOut("the customer wants no notices but those that the law requires")
    if resends >= MOST_RESENDS:
        raise TooManyResends(f"a notice is sent again at most {MOST_RESENDS} times")
