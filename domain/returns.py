"""What may come back of an order, and what money for it: the quote of a return. Owner: service; amounts by finance.

Units are credited from the front of those that left: with what they cost, and with their shipping where the cause is
ours. What is sent again for a parcel that did not arrive has no price: its units stand for those of the line that has.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from domain.order_state import LineState
from domain.quantities import BEFORE_HAND_OVER, Bucket, units_per_line
from domain.refusals import OrderRuleError

LineUnits = tuple[int, int]
"""Line number, units."""
NOTHING_HAS_LEFT = "nothing of this order has left"


class RefusedUnits(NamedTuple):
    """Units of a line that were asked about, and how many of them there are to return."""

    line_no: int
    quantity: int
    returnable: int


class NotReturnable(OrderRuleError):
    """Nothing of it has left, or less than was asked is still with the customer or on the way."""

    code = "not_returnable"

    def __init__(self, detail: str, lines: tuple[RefusedUnits, ...] = (), alternative: str | None = None) -> None:
        super().__init__(detail, alternative)
        self.lines = lines


class QuotedLine(NamedTuple):
    """Units of a line that can come back: those that are delivered, and those that will be. Amounts in minor units."""

    line_no: int
    sku: str
    now: int
    after_delivery: int
    refund_minor: int  # goods and their tax
    refund_if_ours_minor: int  # with shipping and its tax: where the cause is ours

    @property
    def quantity(self) -> int:
        """All units that it is about."""
        return self.now + self.after_delivery


def quote_return(lines: Mapping[int, LineState], wanted: Iterable[LineUnits] = ()) -> tuple[QuotedLine, ...]:
    """What a return of the wanted units (line number, units) would give back; of all that can come back without any.

    Delivered units come first. Nothing is decided by it: units that are credited in between move the odd cent.

    Raises:
        NotReturnable: units that have not left, or that came back, were credited or written off already.
    """
    named = units_per_line(wanted)
    asked = named or {n: units for n, line in sorted(lines.items()) if (units := returnable(line))}
    _check(lines, named, asked)
    credited = {n: line.credited for n, line in lines.items()}
    return tuple(_quoted(lines, credited, line_no, units) for line_no, units in sorted(asked.items()))


def returnable(line: LineState) -> int:
    """Units that left and are neither back, nor on their way back, nor written off."""
    return line.buckets.of(Bucket.SHIPPED, Bucket.DELIVERED)


def _check(lines: Mapping[int, LineState], named: Mapping[int, int], asked: Mapping[int, int]) -> None:
    for line_no in named.keys() - lines.keys():
        raise NotReturnable(f"the order has no line {line_no}", (RefusedUnits(line_no, named[line_no], 0),))
    refused = tuple(RefusedUnits(n, q, returnable(lines[n])) for n, q in asked.items() if q > returnable(lines[n]))
    if not refused and asked:
        return
    about = [lines[one.line_no] for one in refused] if refused else list(lines.values())
    cancellable = any(line.buckets.of(*BEFORE_HAND_OVER) for line in about)
    raise NotReturnable(_why(about, refused), refused, "cancel" if cancellable else None)


def _why(about: list[LineState], refused: tuple[RefusedUnits, ...]) -> str:
    if not any(line.gone for line in about):
        return f"nothing of line {refused[0].line_no} has left" if refused else NOTHING_HAS_LEFT
    if not refused:
        return "all that has left is back, on its way back, or made good already"
    first = next(one for one, line in zip(refused, about, strict=True) if line.gone)
    return f"line {first.line_no}: {first.quantity} units asked, {first.returnable} can come back"


def _quoted(lines: Mapping[int, LineState], credited: dict[int, int], line_no: int, units: int) -> QuotedLine:
    line = lines[line_no]
    priced = lines[line.priced_by]
    start = credited[priced.line_no]
    credited[priced.line_no] += units  # another line may stand for units of the same one
    now = min(units, line.buckets.delivered)
    return QuotedLine(
        line_no=line_no,
        sku=line.sku,
        now=now,
        after_delivery=units - now,
        refund_minor=priced.shares.value_to_credit(start, units, with_shipping=False),
        refund_if_ours_minor=priced.shares.value_to_credit(start, units, with_shipping=True),
    )
