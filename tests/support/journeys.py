"""Journeys of one order that keep going while workers die under it, and what must have happened in the end.

Nobody here is surprised by silence: a message is sent again under its own id until it is answered.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from temporalio.client import WorkflowUpdateFailedError, WorkflowUpdateRPCTimeoutOrCancelledError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from domain.amendment import SetQuantity, SetShipTo
from domain.cases import PARCEL_REMEDY
from domain.orders import CarrierEventType, HoldBlock, HoldType, NodeTrouble, PlaceOrder, ReportKind
from providers.payments import CaptureRequest
from providers.payments.simulated import SimulatedPayments
from tests.support.eventually import eventually
from tests.support.shop import ZONE, Order, Shop
from tests.support.shop_views import task_was_lost

T = TypeVar("T")
PATIENCE_S = 300
Part = dict[str, Any]


@dataclass(frozen=True)
class Journey:
    """What is done with an order, and what it leaves behind.

    Attributes:
        controls: how the simulated providers treat it, `warehouses.stop=too_late` and so on.
        effects: kind and amount of everything that must have happened at the providers, sorted.
        shop: `usual`, `hasty` (a reservation lasts for a second only), `asking` (what is to be done about a lost
            parcel) or `own`: no other order wants its items, and no order looks for supply unasked.
        before: what happens to it before its worker may die.
        item: what is ordered; of `VASE` nothing is there, and orders may wait for it.
    """

    travel: Callable[[Shop, Order], Awaitable[None]]
    status: str
    effects: tuple[tuple[str, int], ...]
    pay: str = "pm_ok"
    controls: tuple[tuple[str, str | int], ...] = ()
    shop: Literal["usual", "hasty", "asking", "own"] = "usual"
    before: Callable[[Shop, Order], Awaitable[None]] | None = None
    item: str = "LAMP"


async def deliver(shop: Shop, order: Order) -> None:
    """Packed, handed over, delivered."""
    part = await _released(shop, order)
    await _pack(shop, order, part)
    await _leave(shop, order, part)


async def cancel_at_node(shop: Shop, order: Order) -> None:
    """Cancelled while the node has the work: it stops."""
    await _released(shop, order)
    await insist(lambda: shop.cancel(order))


async def cancel_without_refund(shop: Shop, order: Order) -> None:
    """Cancelled while the node has the work: written off, and paid all the same."""
    await _released(shop, order)
    await insist(lambda: shop.cancel(order, refund="none", restock=False))


async def cancel_packed(shop: Shop, order: Order) -> None:
    """Cancelled when the label is there."""
    await _pack(shop, order, await _released(shop, order))
    await insist(lambda: shop.cancel(order))


async def cancel_in_vain(shop: Shop, order: Order) -> None:
    """The node cannot stop; the parcel travels."""
    part = await _released(shop, order)
    await _pack(shop, order, part)
    await insist(lambda: shop.cancel(order))
    await _leave(shop, order, part)


async def recall(shop: Shop, order: Order) -> None:
    """Asked back when it has left: the carrier agrees, and the parcel comes back."""
    part = await _shipped(shop, order)
    await insist(lambda: shop.cancel(order, recall=True))

    async def turned() -> bool:
        return [p["stage"] for p in await shop.parts(order)] == ["return_pending"]

    await eventually(turned, PATIENCE_S)
    await insist(lambda: shop.scan(order, part["shipment_id"], CarrierEventType.RETURNED))


async def recall_in_vain(shop: Shop, order: Order) -> None:
    """Asked back when it has left: too late, and the parcel is delivered."""
    part = await _shipped(shop, order)
    await insist(lambda: shop.cancel(order, recall=True))

    async def declined() -> bool:
        return "recall.declined" in await shop.events(order)

    await eventually(declined, PATIENCE_S)
    await insist(lambda: shop.delivers(order, part))


async def cancel_captured(shop: Shop, order: Order) -> None:
    """The money was taken at the bank's own console before the order was cancelled."""
    await _released(shop, order)
    (tender,) = await shop.sql("SELECT authorization_ref FROM tenders WHERE order_id = :o", o=order.id)
    request = CaptureRequest(
        key=f"console-{order.id}",
        order_id=order.id,
        authorization_ref=tender["authorization_ref"],
        amount_minor=order.placed.total_minor,
        currency=order.placed.currency,
    )
    await SimulatedPayments(shop.simulation).capture(request)
    await insist(lambda: shop.cancel(order))


async def lapse_and_pay(shop: Shop, order: Order) -> None:
    """Declined until the reservation has lapsed; then paid, held again and delivered."""

    async def lapsed() -> bool:
        return "reservation.expired" in await shop.events(order)

    await eventually(lapsed, PATIENCE_S)
    await insist(lambda: shop.new_method(order, "pm_ok"))
    await deliver(shop, order)


async def refuse_and_retry(shop: Shop, order: Order) -> None:
    """The node refuses the work, a person puts it right and says: again."""

    async def case() -> bool:
        return ("node_refused", "fulfillment", "open") in await shop.cases(order)

    await eventually(case, PATIENCE_S)
    shop.normal(order.placed, "warehouses.decline")
    await insist(lambda: shop.retry(order))
    await deliver(shop, order)


async def hold_and_release(shop: Shop, order: Order) -> None:
    """The label may not be bought until somebody has looked; then the parcel travels."""
    part = await _released(shop, order)
    held = await insist(lambda: shop.hold(order, HoldType.MANUAL, blocks=(HoldBlock.SHIP,)))
    await insist(lambda: shop.report(order, part["fulfillment_id"], ReportKind.PACKED))
    await insist(lambda: shop.end_hold(order, held.hold_id))
    await _labelled(shop, order, part)
    await _leave(shop, order, part)


async def hold_and_reject(shop: Shop, order: Order) -> None:
    """Somebody looks and says no: the node stops, and nothing travels."""
    await _released(shop, order)
    held = await insist(lambda: shop.hold(order, HoldType.MANUAL, blocks=(HoldBlock.SHIP,)))
    await insist(lambda: shop.end_hold(order, held.hold_id, "reject"))


async def change_at_node(shop: Shop, order: Order) -> None:
    """One unit becomes two, with another address: more is authorized, the node stops, both ship anew."""
    first = await _released(shop, order)
    changes = (SetQuantity(line=1, quantity=2), SetShipTo(country="US", region="MA", zone_id=ZONE))
    await insist(lambda: shop.amend(order, *changes))
    await _elsewhere(shop, order, first)


async def change_in_vain(shop: Shop, order: Order) -> None:
    """The provider declines what the change costs more: the order ships as it was."""
    part = await _released(shop, order)
    await insist(lambda: shop.amend(order, SetQuantity(line=1, quantity=2), reference="pm_declined"))
    await _pack(shop, order, part)
    await _leave(shop, order, part)


async def wait_for_supply(shop: Shop, order: Order) -> None:
    """Nothing is there. A unit comes in, nobody tells the order, and it finds the unit by itself."""
    await shop.receives("VASE", "EAST", 1)
    await deliver(shop, order)


async def look_in_vain(shop: Shop, order: Order) -> None:
    """Nothing is there, and the order has seen so; read from its history, because a query would need a worker."""

    async def looked() -> bool:
        history = await order.handle.fetch_history()
        return any(b"supply.fill" in event.SerializeToString() for event in history.events)

    await eventually(looked, PATIENCE_S, every_s=0.25)


async def hear_of_supply(shop: Shop, order: Order) -> None:
    """A unit comes in, and the order is told."""
    await shop.receives("VASE", "EAST", 1)
    await insist(lambda: shop.supply_arrives(order, "VASE"))
    await deliver(shop, order)


async def leave(shop: Shop, order: Order) -> None:
    """Its node takes no new work: it stops, and the next one ships."""
    first = await _released(shop, order)
    await insist(lambda: shop.leaves(order, first))
    await _elsewhere(shop, order, first)


async def force(shop: Shop, order: Order) -> None:
    """Closed by force while its node has the parcel."""
    await _pack(shop, order, await _released(shop, order))
    await insist(lambda: shop.forces(order))


async def write_off(shop: Shop, order: Order) -> None:
    """A part was taken at the bank's console, the rest is kept and cannot be taken: finance gives it up."""
    await _released(shop, order)
    await shop.captured_at_the_console(order, 500)
    await insist(lambda: shop.cancel(order, refund="none"))

    async def missing() -> bool:
        return any(code == "payment_kept_missing" for code, _, _ in await shop.cases(order))

    await eventually(missing, PATIENCE_S, every_s=0.25)
    await insist(lambda: shop.writes_off(order))


async def reject(shop: Shop, order: Order) -> None:
    """The first node rejects the work, the next one ships it."""
    first = await _released(shop, order)
    name = first["fulfillment_id"]
    cause = NodeTrouble.NO_CAPACITY
    await insist(lambda: shop.report(order, name, ReportKind.REJECTED, cause=cause))
    await _elsewhere(shop, order, first)


async def lose(shop: Shop, order: Order) -> None:
    """The carrier loses the parcel; its contents are sent again and arrive."""
    first = await _shipped(shop, order)
    await insist(lambda: shop.scan(order, first["shipment_id"], CarrierEventType.LOST))
    await _elsewhere(shop, order, first)


async def lose_and_choose(shop: Shop, order: Order) -> None:
    """The carrier loses the parcel, a person is asked, and has the customer paid back."""
    part = await _shipped(shop, order)
    await insist(lambda: shop.scan(order, part["shipment_id"], CarrierEventType.LOST))

    async def asked() -> bool:
        return any(code == PARCEL_REMEDY for code, _, _ in await shop.cases(order))

    await eventually(asked, PATIENCE_S, every_s=0.25)
    await insist(lambda: shop.remedy(order, "refund"))


async def bring_back(shop: Shop, order: Order) -> None:
    """The carrier brings the parcel back to its node: its units are on hand again, its money goes home."""
    part = await _shipped(shop, order)
    await insist(lambda: shop.scan(order, part["shipment_id"], CarrierEventType.RETURNED))


async def _elsewhere(shop: Shop, order: Order, first: Part) -> None:
    """The units go out with another fulfillment order."""
    name = first["fulfillment_id"]

    async def elsewhere() -> Part | None:
        others = [p for p in await shop.parts(order) if p["fulfillment_id"] != name and p["stage"] == "released"]
        return others[0] if others else None

    second = await eventually(elsewhere, PATIENCE_S, every_s=0.25)
    await _pack(shop, order, second)
    await _leave(shop, order, second)


async def begin(shop: Shop, placed: PlaceOrder) -> Order:
    """Place the order, however often its first worker dies."""
    return await insist(lambda: shop.submit(placed))


async def insist(send: Callable[[], Awaitable[T]]) -> T:
    """Send again under the same id while there is no answer, or one that says: not yet."""
    answers: list[T] = []

    async def answered() -> bool:
        try:
            answers.append(await send())
        except WorkflowUpdateRPCTimeoutOrCancelledError:
            return False
        except RPCError as error:
            if not task_was_lost(error):
                raise
            return False  # the engine has just noticed the death, and takes no updates for a moment
        except WorkflowUpdateFailedError as error:
            if not isinstance(error.cause, ApplicationError) or error.cause.type != "not_yet":
                raise
            return False
        return True

    await eventually(answered, PATIENCE_S, every_s=0.5)
    return answers[0]


async def _released(shop: Shop, order: Order) -> Part:
    async def at_node() -> Part | None:
        parts = await shop.parts(order)
        return parts[0] if parts and parts[0]["stage"] != "allocated" else None

    return await eventually(at_node, PATIENCE_S, every_s=0.25)


async def _shipped(shop: Shop, order: Order) -> Part:
    """The order's only parcel has left."""
    part = await _released(shop, order)
    await _pack(shop, order, part)
    await insist(lambda: shop.report(order, part["fulfillment_id"], ReportKind.HANDED_OVER))
    return part


async def _pack(shop: Shop, order: Order, part: Part) -> None:
    await insist(lambda: shop.report(order, part["fulfillment_id"], ReportKind.PACKED))
    await _labelled(shop, order, part)


async def _labelled(shop: Shop, order: Order, part: Part) -> None:
    async def labelled() -> bool:
        parts = {p["fulfillment_id"]: p for p in await shop.parts(order)}
        return parts[part["fulfillment_id"]]["tracking_number"] is not None

    await eventually(labelled, PATIENCE_S, every_s=0.25)


async def _leave(shop: Shop, order: Order, part: Part) -> None:
    await insist(lambda: shop.report(order, part["fulfillment_id"], ReportKind.HANDED_OVER))
    await insist(lambda: shop.scan(order, part["shipment_id"], CarrierEventType.DELIVERED))
