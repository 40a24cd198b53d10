"""Orders anywhere on their way, for the tests of pure rules."""

from datetime import UTC, datetime

from hypothesis import strategies as st

from domain.lifecycle import FulfillmentState
from domain.order_state import Fulfillment, OrderState
from domain.orders import OrderLine, PlaceOrder
from domain.quantities import AT_THE_NODE, Bucket

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
STAGES = {
    Bucket.ALLOCATED: FulfillmentState.OPEN,
    Bucket.RELEASED: FulfillmentState.SUBMITTED,
    Bucket.PICKED: FulfillmentState.IN_PROGRESS,
    Bucket.PACKED: FulfillmentState.IN_PROGRESS,
    Bucket.SHIPPED: FulfillmentState.SHIPPED,
    Bucket.DELIVERED: FulfillmentState.CLOSED,
    Bucket.CANCELLED: FulfillmentState.CANCELLED,
}


def order(*quantities: int, shipping: int = 500, price: int = 1000, tax: int = 0) -> OrderState:
    """An order with these units per line, all of them open."""
    lines = tuple(OrderLine(n, f"SKU-{n}", q, price, 0, tax) for n, q in enumerate(quantities, 1))  # type: ignore[arg-type]
    placed = PlaceOrder(
        order_id="ord_1",  # type: ignore[arg-type]
        order_number="1",
        channel="web",
        currency="USD",
        customer_ref="cus_1",
        country="US",
        region="MA",
        zone_id="US-MA",
        lines=lines,
        shipping_minor=shipping,
        tenders=(),
        total_minor=sum(q * price + tax for q in quantities) + shipping,
        placed_at=NOW,
    )
    return OrderState.begin(placed, NOW)


def put(state: OrderState, node: str, stage: Bucket, *units: tuple[int, int], **more: object) -> Fulfillment:
    """Give a node a part of the order, already at this stage."""
    part = Fulfillment(
        fulfillment_id=f"ful_{node}",
        shipment_id=f"shp_{node}",
        node_id=node,
        lines=units,
        state=STAGES[stage],
        stage=stage,
        since=NOW,
        deadline=NOW,
        **more,  # type: ignore[arg-type]
    )
    state.move(units, Bucket.OPEN, stage)
    state.fulfillments[part.fulfillment_id] = part
    return part


@st.composite
def states(draw: st.DrawFn) -> OrderState:
    """An order anywhere on its way: some units open, some held, the others with up to four nodes."""
    quantities = draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))
    state = order(
        *quantities, shipping=draw(st.integers(0, 999)), price=draw(st.integers(1, 999)), tax=draw(st.integers(0, 99))
    )
    for number in range(draw(st.integers(0, 4))):
        units = tuple(
            (line.line_no, taken)
            for line in state.lines.values()
            if line.buckets.open and (taken := draw(st.integers(0, line.buckets.open)))
        )
        if not units:
            continue
        stage = draw(st.sampled_from(list(STAGES)))
        part = put(state, f"N{number}", stage, *units)
        part.in_call = stage in (Bucket.ALLOCATED, Bucket.PACKED) and draw(st.booleans())
        if (stage in AT_THE_NODE or part.in_call) and draw(st.booleans()):
            part.cancelling, part.state = "earlier", FulfillmentState.CANCELLATION_REQUESTED
    for line in state.lines.values():
        for node in ("N8", "N9"):
            hold(state, line.line_no, node, draw(st.integers(0, line.buckets.open)))
    return state


def hold(state: OrderState, line_no: int, node: str, units: int) -> None:
    """Hold open units of a line at a node."""
    if units:
        state.move(((line_no, units),), Bucket.OPEN, Bucket.RESERVED)
        state.placements = (*state.placements, (line_no, node, units))
