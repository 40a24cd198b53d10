"""What a list of orders can be asked for: its filters, its order, and the page. Owner: commerce."""

from datetime import date
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, Field

from api.limits import PAGE_ROWS
from domain.lifecycle import OrderStatus, WaitingOn
from store.reads import Sort

_REPEAT = "Repeat it for: any of these."

Several = Annotated[tuple[str, ...], Field(max_length=20, description=_REPEAT)]
PaymentStatus = Literal[
    "pending", "authorized", "partially_captured", "captured", "partially_refunded", "refunded", "voided"
]
PromiseState = Literal["on_track", "late", "kept", "broken", "withdrawn"]


class OrderQuery(BaseModel):
    """Filters of listOrders. All that are given must hold."""

    status: Annotated[tuple[OrderStatus, ...], Field(max_length=10, description=_REPEAT)] = ()
    waiting_on: Annotated[tuple[WaitingOn, ...], Field(max_length=10, description=_REPEAT)] = ()
    promise_state: Annotated[tuple[PromiseState, ...], Field(max_length=10, description=_REPEAT)] = ()
    payment_status: Annotated[tuple[PaymentStatus, ...], Field(max_length=10, description=_REPEAT)] = ()
    channel: Several = ()
    node: Annotated[tuple[str, ...], Field(max_length=20, description="With a fulfillment order at one of these.")] = ()
    sku: Annotated[tuple[str, ...], Field(max_length=20, description="With a line of one of these.")] = ()
    customer_ref: Several = ()
    external_ref: Several = ()
    created_from: Annotated[AwareDatetime | None, Field(description="Taken in at this time or later.")] = None
    created_to: Annotated[AwareDatetime | None, Field(description="Taken in before this time.")] = None
    promised_before: Annotated[date | None, Field(description="Promised for a day before this one.")] = None
    needs_attention: Annotated[bool | None, Field(description="Whether a case of the order is open.")] = None
    q: Annotated[
        str | None,
        Field(min_length=1, max_length=64, description="Order number, external_ref or tracking number, in full."),
    ] = None
    sort: Annotated[Sort, Field(description="`promised_by`: soonest first, orders without a promise last.")] = (
        "-created_at"
    )
    limit: Annotated[int, Field(ge=1, le=PAGE_ROWS, description="Rows per page.")] = 50
    cursor: Annotated[str | None, Field(max_length=600, description="`next_cursor` of the page before.")] = None
