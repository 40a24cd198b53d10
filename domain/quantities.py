"""Where the units of a line are: the buckets, and the one way to move units between them.

Owned by fulfillment. For every line and at every committed moment the buckets are whole numbers of at
least zero that sum to what was ordered (domain page, section 3).
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field

from domain.refusals import OrderRuleError


class Bucket(StrEnum):
    """A place where units of a line can be."""

    OPEN = "open"  # not covered by any stock
    RESERVED = "reserved"  # held at a node, with a time limit
    BACKORDERED = "backordered"  # waits for supply
    ALLOCATED = "allocated"  # committed to a node
    RELEASED = "released"  # sent to the node
    PICKED = "picked"  # taken from the shelf
    PACKED = "packed"  # in a parcel
    SHIPPED = "shipped"  # handed over to the carrier
    DELIVERED = "delivered"  # at the customer's door
    RETURN_PENDING = "return_pending"  # on its way back
    RETURNED = "returned"  # received back, or refunded without coming back
    WRITTEN_OFF = "written_off"  # lost
    CANCELLED = "cancelled"  # nobody owes or ships it any more


BEFORE_HAND_OVER = (
    Bucket.OPEN,
    Bucket.RESERVED,
    Bucket.BACKORDERED,
    Bucket.ALLOCATED,
    Bucket.RELEASED,
    Bucket.PICKED,
    Bucket.PACKED,
)
AT_THE_NODE = (Bucket.RELEASED, Bucket.PICKED, Bucket.PACKED)
HANDED_OVER = (Bucket.SHIPPED, Bucket.DELIVERED, Bucket.RETURN_PENDING, Bucket.RETURNED, Bucket.WRITTEN_OFF)
WITH_THE_CARRIER = (Bucket.SHIPPED, Bucket.RETURN_PENDING)
TERMINAL = (Bucket.DELIVERED, Bucket.RETURNED, Bucket.WRITTEN_OFF, Bucket.CANCELLED)

Units = Annotated[int, Field(ge=0, strict=True)]


class Move(NamedTuple):
    """`quantity` units of line `line_no` go from one bucket to another."""

    line_no: int
    source: Bucket
    target: Bucket
    quantity: int


def units_per_line(units: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Units (line number, units) summed per line."""
    total: dict[int, int] = {}
    for line_no, quantity in units:
        total[line_no] = total.get(line_no, 0) + quantity
    return total


class QuantityExceeded(OrderRuleError):
    """More units were asked for than the bucket holds."""

    code = "quantity_exceeded"


class Buckets(BaseModel):
    """Units per bucket, of one line or summed over an order."""

    model_config = ConfigDict(frozen=True)

    open: Units = 0
    reserved: Units = 0
    backordered: Units = 0
    allocated: Units = 0
    released: Units = 0
    picked: Units = 0
    packed: Units = 0
    shipped: Units = 0
    delivered: Units = 0
    return_pending: Units = 0
    returned: Units = 0
    written_off: Units = 0
    cancelled: Units = 0

    def of(self, *buckets: Bucket) -> int:
        """Units in these buckets together."""
        return sum(int(getattr(self, bucket.value)) for bucket in buckets)

    @property
    def total(self) -> int:
        """All units: for a line, what was ordered."""
        return self.of(*Bucket)

    @property
    def live(self) -> int:
        """Units that are neither delivered, returned, lost nor cancelled."""
        return self.total - self.of(*TERMINAL)

    def moved(self, source: Bucket, target: Bucket, quantity: int) -> Self:
        """These buckets after a move.

        Raises:
            QuantityExceeded: the source holds fewer units.
        """
        here = self.of(source)
        if quantity < 0 or quantity > here:
            raise QuantityExceeded(f"{quantity} units asked from {source}, which holds {here}")
        update = {source.value: here - quantity, target.value: self.of(target) + quantity}
        if source is target:
            return self
        return self.model_copy(update=update)

    def plus(self, other: Self) -> Self:
        """Bucket by bucket sum."""
        return self.model_copy(update={b.value: self.of(b) + other.of(b) for b in Bucket})

    def nonzero(self) -> dict[str, int]:
        """Only the buckets that hold something: what a reader wants to see."""
        return {b.value: self.of(b) for b in Bucket if self.of(b)}
