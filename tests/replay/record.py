"""Records the golden histories anew, from the real server: `python -m tests.replay.record`, or those that are named.

One per journey. They are what running orders look like: code that cannot replay them must not be deployed.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from activities.stock import FLOW
from domain.amendment import SetQuantity, SetShipTo, Substitute
from domain.ids import derived_id
from domain.orders import CarrierEventType, HoldBlock, HoldType, NodeTrouble, ReportKind
from domain.tax_change import LineTax, NewTax
from tests.support.eventually import eventually
from tests.support.serving import serving
from tests.support.shop import ZONE, Order, Shop
from tests.support.stack import RunStack, start_run_stack

HISTORIES = Path(__file__).with_name("histories")
NEWEST = HISTORIES / f"flow_{FLOW}"
"""Where histories are recorded. Those of earlier flows stay as they are: orders like them may be running."""
Journey = Callable[[Shop], Awaitable[Order]]
SHORT_HOLD = {"reservation_limit_s": 1, "hold_through_payment_window": False}


async def happy(shop: Shop) -> Order:
    """One line, one node, to the door."""
    await shop.stocks("LAMP", EAST=5)
    order = await shop.place(("LAMP", 2))
    await shop.sees_through(order)
    return order


async def split(shop: Shop) -> Order:
    """Three nodes, three parcels."""
    await shop.stocks("LAMP", EAST=1, MID=1, WEST=1)
    order = await shop.place(("LAMP", 3))
    await shop.sees_through(order, 3)
    return order


async def shortage(shop: Shop) -> Order:
    """Refused: not enough stock."""
    await shop.stocks("LAMP", EAST=1)
    order = await shop.place(("LAMP", 2))
    await order.handle.result()
    return order


async def decline_then_fix(shop: Shop) -> Order:
    """Declined, another method, delivered."""
    await shop.stocks("LAMP", EAST=5)
    order = await shop.place(("LAMP", 1), pay="pm_declined")
    await shop.becomes(order, wait_cause="payment_declined")
    await shop.new_method(order, "pm_ok")
    await shop.sees_through(order)
    return order


async def decline_then_give_up(shop: Shop) -> Order:
    """Declined and never fixed: cancelled when the window ends."""
    await shop.stocks("LAMP", EAST=5)
    order = await shop.place(("LAMP", 1), pay="pm_declined")
    await order.handle.result()
    return order


async def payment_unknown(shop: Shop) -> Order:
    """The provider's reply is lost; the look-up finds it."""
    await shop.stocks("LAMP", EAST=5)
    order = await shop.place(("LAMP", 1), pay="pm_timeout")
    await shop.sees_through(order)
    return order


async def cancel_without_refund(shop: Shop) -> Order:
    """One unit is written off and paid all the same, the other one paid when the node has it; captured at the end."""
    await shop.stocks("LAMP", EAST=5)
    order = await shop.held(("LAMP", 2))
    await shop.cancel(order, "cancel-1", lines=[(1, 1)], refund="none", restock=False)
    await shop.unheld(order)
    await shop.released(order)
    await shop.cancel(order, "cancel-2", refund="none")
    await order.handle.result()
    return order


async def cancel_released(shop: Shop) -> Order:
    """Cancelled once the node has the work."""
    await shop.stocks("LAMP", EAST=5)
    order = await shop.place(("LAMP", 1))
    await shop.released(order)
    await shop.cancel(order)
    await order.handle.result()
    return order


async def cancel_packed(shop: Shop) -> Order:
    """Cancelled with the label printed: it is taken back."""
    await shop.stocks("LAMP", EAST=5)
    order = await shop.place(("LAMP", 1))
    (part,) = await shop.released(order)
    await shop.packs(order, part)
    await shop.cancel(order)
    await order.handle.result()
    return order


async def scans_in_any_order(shop: Shop) -> Order:
    """A carrier's scan proves the hand-over; repeated and late ones change nothing."""
    await shop.stocks("LAMP", EAST=5)
    order = await shop.place(("LAMP", 1))
    (part,) = await shop.released(order)
    await shop.report(order, part["fulfillment_id"], ReportKind.ACCEPTED)
    await shop.packs(order, part)
    await shop.scan(order, part["shipment_id"], CarrierEventType.OUT_FOR_DELIVERY)
    await shop.scan(order, part["shipment_id"], CarrierEventType.IN_TRANSIT)
    await shop.scan(order, part["shipment_id"], CarrierEventType.DELIVERED)
    await order.handle.result()
    return order


async def reservation_lapsed(shop: Shop) -> Order:
    """The reservation lapses before the payment comes, and is made again."""
    await shop.stocks("LAMP", EAST=5)
    order = await shop.place(("LAMP", 1), pay="pm_declined")
    await shop.lapses(order)
    await shop.new_method(order, "pm_ok")
    await shop.sees_through(order)
    return order


async def out_of_stock_when_paid(shop: Shop) -> Order:
    """The reservation lapses and somebody else buys the unit: cancelled, the authorization voided."""
    await shop.stocks("LAMP", EAST=1)
    order = await shop.place(("LAMP", 1), pay="pm_declined")
    await shop.lapses(order)
    await shop.released(await shop.place(("LAMP", 1)))
    await shop.new_method(order, "pm_ok")
    await order.handle.result()
    return order


async def several_tenders(shop: Shop) -> Order:
    """Two tenders, two parcels: the second of them paid by both."""
    await shop.stocks("LAMP", EAST=2)
    await shop.stocks("RUG", MID=1)
    order = await shop.place(("LAMP", 2), ("RUG", 1), pay=[("pm_ok", 1500), ("pm_ok", 2000)])
    await shop.sees_through(order, 2)
    return order


async def cancel_before_payment(shop: Shop) -> Order:
    """Cancelled while the bank is still thinking."""
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 1), pay="pm_slow")
    await shop.cancel(order)
    await order.handle.result()
    return order


async def cancel_part(shop: Shop) -> Order:
    """One parcel has left, the other is cancelled by a signal."""
    await shop.stocks("LAMP", EAST=1)
    await shop.stocks("RUG", MID=1)
    order = await shop.place(("LAMP", 1), ("RUG", 1))
    east, _ = await shop.released(order, 2)
    await shop.ships(order, east)
    await shop.signal(order, "cancel", {"command_id": "signal-1", "reason": "changed_mind"})
    await shop.command(order, "signal-1")
    await shop.delivers(order, east)
    await order.handle.result()
    return order


async def recalled(shop: Shop) -> Order:
    """Asked back when it has left; it comes back and is refunded."""
    order, part = await _recalls(shop, "agreed")
    await shop.becomes(order, wait_cause="return_to_sender")
    await shop.scan(order, part["shipment_id"], CarrierEventType.RETURNED)
    await order.handle.result()
    return order


async def recall_declined(shop: Shop) -> Order:
    """Asked back when it is too late: it is delivered."""
    order, part = await _recalls(shop, "too_late")

    async def declined() -> bool:
        return "recall.declined" in await shop.events(order)

    await eventually(declined)
    await shop.delivers(order, part)
    await order.handle.result()
    return order


async def recall_unanswered(shop: Shop) -> Order:
    """The carrier never says a word: a case, and the parcel is delivered."""
    order, part = await _recalls(shop, "answer_follows")

    async def silent() -> bool:
        return "recall_unanswered" in [code for code, _, _ in await shop.cases(order)]

    await eventually(silent)
    await shop.delivers(order, part)
    await order.handle.result()
    return order


async def _recalls(shop: Shop, answer: str) -> tuple[Order, dict[str, Any]]:
    await shop.stocks("LAMP", EAST=1)
    placed = shop.order(("LAMP", 1))
    shop.control(placed, "carriers.recall", answer)
    order = await shop.submit(placed)
    (part,) = await shop.released(order)
    await shop.ships(order, part)
    await shop.becomes(order, payment_status="captured")
    await shop.cancel(order, recall=True)
    return order, part


async def cancel_declined(shop: Shop) -> Order:
    """The node says no, by report; the order goes on."""
    await shop.stocks("LAMP", EAST=1)
    placed = shop.order(("LAMP", 1))
    shop.control(placed, "warehouses.stop", "answer_follows")
    order = await shop.submit(placed)
    (part,) = await shop.released(order)
    await shop.packs(order, part)
    cancelling = asyncio.create_task(shop.cancel(order))
    await shop.becomes(order, wait_cause="stop_answer")
    await shop.report(order, part["fulfillment_id"], ReportKind.CANCEL_DECLINED)
    await cancelling
    await shop.report(order, part["fulfillment_id"], ReportKind.HANDED_OVER)
    await shop.delivers(order, part)
    await order.handle.result()
    return order


async def refused_and_retried(shop: Shop) -> Order:
    """The node refuses, a person says retry; then it is silent for a while."""
    await shop.stocks("LAMP", EAST=1)
    placed = shop.order(("LAMP", 1))
    shop.control(placed, "warehouses.decline", 1)
    order = await shop.submit(placed)
    await eventually(lambda: shop.cases(order))
    shop.normal(placed, "warehouses.decline")
    await shop.retry(order)
    await shop.released(order)

    async def silent() -> bool:
        return "node_silent" in [code for code, _, _ in await shop.cases(order)]

    await eventually(silent)
    await shop.sees_through(order)
    return order


async def outside_capture(shop: Shop) -> Order:
    """Captured at the bank's own console while the order is being cancelled: refunded."""
    await shop.stocks("LAMP", EAST=1)
    order = await shop.place(("LAMP", 1))
    await shop.released(order)
    await shop.captured_at_the_console(order, 700)
    await shop.cancel(order)
    await order.handle.result()
    return order


async def garbage(shop: Shop) -> Order:
    """Signals that cannot be read, too early, or empty."""
    await shop.stocks("LAMP", EAST=1)
    order = await shop.starts_with(shop.order(("LAMP", 1)), "payment_event", "garbage")
    await order.handle.signal("retry_now")
    await shop.signal(order, "carrier_event", {"command_id": "scan-1"})
    await shop.sees_through(order)
    return order


async def cancel_units(shop: Shop) -> Order:
    """One of three is taken off the node's list; the rest ships."""
    await shop.stocks("LAMP", EAST=3)
    order = await shop.place(("LAMP", 3))
    (part,) = await shop.released(order)
    await shop.cancel(order, lines=[(1, 1)])
    await shop.ships(order, part)
    await shop.delivers(order, part)
    await order.handle.result()
    return order


async def cancel_picked(shop: Shop) -> Order:
    """Cancelled when the node has picked it."""
    await shop.stocks("LAMP", EAST=1)
    order = await shop.place(("LAMP", 1))
    (part,) = await shop.released(order)
    await shop.report(order, part["fulfillment_id"], ReportKind.PICKED)
    await shop.cancel(order)
    await order.handle.result()
    return order


async def cancel_while_declined(shop: Shop) -> Order:
    """Some units, then the rest, while the customer is asked for another payment."""
    await shop.stocks("LAMP", EAST=2)
    order = await shop.place(("LAMP", 2), pay="pm_declined")
    await shop.becomes(order, wait_cause="payment_declined")
    await shop.cancel(order, "cancel-1", lines=[(1, 1)])
    await shop.cancel(order, "cancel-2")
    await order.handle.result()
    return order


async def short_pick(shop: Shop) -> Order:
    """One of two is damaged; the other node ships it."""
    await shop.stocks("LAMP", EAST=2, MID=1)
    order = await shop.place(("LAMP", 2))
    (east,) = await shop.released(order)
    short = {"lines": ((1, 1),), "cause": NodeTrouble.DAMAGED}
    await shop.report(order, east["fulfillment_id"], ReportKind.SHORT, **short)
    await shop.sees_through(order, 2)
    return order


async def silent_node(shop: Shop) -> Order:
    """The first node is silent and stops, the next one ships."""
    await shop.ruleset("node_silence", {"nodes": {"EAST": {"accept_s": 1}}})
    await shop.stocks("LAMP", EAST=1, MID=1)
    order = await shop.place(("LAMP", 1))
    await _sees_through_elsewhere(shop, order, "MID")
    return order


async def left_node(shop: Shop) -> Order:
    """A frozen node gives the work back, the next one ships."""
    await shop.stocks("LAMP", EAST=1, MID=1)
    order = await shop.place(("LAMP", 1))
    (east,) = await shop.released(order)
    await shop.leaves(order, east)
    await _sees_through_elsewhere(shop, order, "MID")
    return order


async def written_off(shop: Shop) -> Order:
    """What is kept cannot be taken any more: finance gives it up."""
    await shop.stocks("LAMP", EAST=1)
    order = await shop.place(("LAMP", 1))
    await shop.released(order)
    await shop.captured_at_the_console(order, 500)
    await shop.cancel(order, refund="none")

    async def missing() -> bool:
        return any(code == "payment_kept_missing" for code, _, _ in await shop.cases(order))

    await eventually(missing)
    await shop.writes_off(order)
    return order


async def forced(shop: Shop) -> Order:
    """One parcel is on its way, the other at its node, when operations close the order by force."""
    await shop.stocks("LAMP", EAST=1)
    await shop.stocks("RUG", MID=1)
    order = await shop.place(("LAMP", 1), ("RUG", 1))
    east, mid = await shop.released(order, 2)
    await shop.ships(order, east)
    await shop.packs(order, mid)
    await shop.becomes(order, payment_status="partially_captured")
    await shop.forces(order)
    return order


async def forced_in_the_dark(shop: Shop) -> Order:
    """The payment provider is down when the order is closed by force, and stays down."""
    await shop.stocks("LAMP", EAST=1)
    order = await shop.place(("LAMP", 1))
    await shop.released(order)
    await shop.becomes(order, payment_status="authorized")
    shop.control(order.placed, "payments.down", 1)
    await shop.forces(order)
    return order


async def risk_hold(shop: Shop) -> Order:
    """A risk rule holds the order at acceptance; somebody looks, and it ships."""
    await shop.ruleset("risk", {"rules": [{"name": "any", "when": "units > 0"}]})
    await shop.stocks("LAMP", EAST=1)
    order = await shop.place(("LAMP", 1))
    await shop.becomes(order, payment_status="authorized", wait_cause="hold")
    await shop.unheld(order)
    await shop.sees_through(order)
    return order


async def _sees_through_elsewhere(shop: Shop, order: Order, node: str) -> None:
    async def there() -> dict[str, Any] | None:
        found = [p for p in await shop.parts(order) if (p["node_id"], p["stage"]) == (node, "released")]
        return found[0] if found else None

    part = await eventually(there)
    await shop.ships(order, part)
    await shop.delivers(order, part)
    await order.handle.result()


async def rejected(shop: Shop) -> Order:
    """The node rejects it and nobody else has it: cancelled."""
    await shop.stocks("LAMP", EAST=1)
    order = await shop.place(("LAMP", 1))
    (east,) = await shop.released(order)
    await shop.report(order, east["fulfillment_id"], ReportKind.REJECTED)
    await order.handle.result()
    return order


async def slow_carrier(shop: Shop) -> Order:
    """One carrier takes its time with a label while the other parcel is cancelled."""
    await shop.stocks("LAMP", EAST=1)
    await shop.stocks("RUG", WEST=1)
    placed = shop.order(("LAMP", 1), ("RUG", 1))
    order = await shop.submit(placed)
    east, _ = await shop.released(order, 2)
    shop.control(placed, "carriers.delay_ms", 1500)
    await shop.report(order, east["fulfillment_id"], ReportKind.PACKED)
    await shop.cancel(order, lines=[(2, 1)])
    await shop.labelled(order, east)
    await shop.report(order, east["fulfillment_id"], ReportKind.HANDED_OVER)
    await shop.delivers(order, east)
    await order.handle.result()
    return order


async def held(shop: Shop) -> Order:
    """Held before it is committed, a line of it before its node hears of it, and before its label is bought."""
    await shop.stocks("LAMP", EAST=1)
    await shop.stocks("RUG", WEST=1)
    content = {"command_id": "hold-1", "type": "credit", "line_no": 1}
    order = await shop.starts_with(shop.order(("LAMP", 1), ("RUG", 1)), "place_hold", content)
    (rug,) = await shop.released(order)
    ship = await shop.hold(order, HoldType.MANUAL, "hold-2", blocks=(HoldBlock.SHIP,))
    await shop.report(order, rug["fulfillment_id"], ReportKind.PACKED)
    await shop.end_hold(order, derived_id("hld", order.id, "hold-1"))
    await shop.end_hold(order, ship.hold_id)
    await shop.labelled(order, rug)
    await shop.report(order, rug["fulfillment_id"], ReportKind.HANDED_OVER)
    (lamp,) = [part for part in await shop.released(order, 2) if part["node_id"] == "EAST"]
    await shop.ships(order, lamp)
    for part in (rug, lamp):
        await shop.delivers(order, part)
    await order.handle.result()
    return order


async def hold_rejected(shop: Shop) -> Order:
    """The verdict is fraud: cancelled before anything was committed."""
    await shop.stocks("LAMP", EAST=1)
    content = {"command_id": "hold-1", "type": "fraud"}
    order = await shop.starts_with(shop.order(("LAMP", 1)), "place_hold", content)
    await shop.becomes(order, wait_cause="hold")
    await shop.end_hold(order, derived_id("hld", order.id, "hold-1"), "reject")
    await order.handle.result()
    return order


async def hold_limits(shop: Shop) -> Order:
    """One hold asks its owner at its limit, gives the units back and is released late; the other one just ends."""
    await shop.stocks("LAMP", EAST=1)
    content = {"command_id": "hold-1", "type": "credit", "lasts_s": 3}
    order = await shop.starts_with(shop.order(("LAMP", 1)), "place_hold", content)
    await shop.hold(order, HoldType.MANUAL, "hold-2", lasts_s=1)
    await shop.lapses(order)
    await shop.end_hold(order, derived_id("hld", order.id, "hold-1"))
    await shop.sees_through(order)
    return order


async def backordered(shop: Shop) -> Order:
    """One of three is there; the others wait, look in vain by themselves, and are held when they have come."""
    await shop.stocks("LAMP", EAST=1)
    await shop.lets_wait("LAMP")
    order = await shop.place(("LAMP", 3))
    await shop.sees_to(order, "EAST")
    await shop.receives("LAMP", "MID", 1)
    await shop.supply_arrives(order, "LAMP")
    await shop.sees_to(order, "MID")
    await shop.receives("LAMP", "WEST", 1)
    await shop.sees_to(order, "WEST")
    await order.handle.result()
    return order


async def no_supply(shop: Shop) -> Order:
    """A short pick waits for supply, which does not come: cancelled at its limit, the rest ships."""
    await shop.stocks("LAMP", EAST=2)
    await shop.lets_wait("LAMP")
    order = await shop.place(("LAMP", 2))
    (east,) = await shop.released(order)
    short = {"lines": ((1, 1),), "cause": NodeTrouble.NOT_FOUND}
    await shop.report(order, east["fulfillment_id"], ReportKind.SHORT, **short)
    await shop.ships(order, east)
    await shop.delivers(order, east)
    await order.handle.result()
    return order


async def amended(shop: Shop) -> Order:
    """More units are authorized and added, another item takes the place of some, one is dropped again."""
    await shop.stocks("LAMP", EAST=3)
    await shop.stocks("MUG", EAST=1)
    order = await shop.held(("LAMP", 2))
    await shop.amend(order, SetQuantity(line=1, quantity=3))
    await shop.amend(order, Substitute(line=1, sku=shop.sku("MUG"), quantity=1), command_id="amend-2")
    await shop.amend(order, SetQuantity(line=1, quantity=1), command_id="amend-3")
    await shop.unheld(order)
    await shop.sees_through(order)
    return order


async def amended_at_the_node(shop: Shop) -> Order:
    """The node stops for a new address, its units go out anew; a further change is not paid and leaves them so."""
    await shop.stocks("LAMP", EAST=3)
    order = await shop.place(("LAMP", 1))
    (first,) = await shop.released(order)
    await shop.amend(order, SetShipTo(country="US", region="MA", zone_id=ZONE))
    await shop.amend(order, SetQuantity(line=1, quantity=2), command_id="amend-2", reference="pm_declined")

    async def second() -> dict[str, Any] | None:
        parts = [p for p in await shop.parts(order) if p["fulfillment_id"] != first["fulfillment_id"]]
        return parts[0] if parts and parts[0]["stage"] == "released" else None

    part = await eventually(second)
    await shop.ships(order, part)
    await shop.delivers(order, part)
    await order.handle.result()
    return order


async def amended_to_wait(shop: Shop) -> Order:
    """Two more are not in stock and wait; a new tax of what waits and what is there; supply comes, all of it ships."""
    await shop.stocks("LAMP", EAST=2)
    await shop.lets_wait("LAMP")
    order = await shop.held(("LAMP", 2))
    await shop.amend(order, SetQuantity(line=1, quantity=4))
    tax = NewTax(currency="USD", lines=(LineTax(line=1, tax_minor=80),), shipping_tax_minor=20)
    await shop.amend(order, SetShipTo(country="US", region="MA", zone_id=ZONE, tax=tax), command_id="amend-2")
    await shop.unheld(order)
    await shop.sees_to(order, "EAST")
    await shop.receives("LAMP", "MID", 2)
    await shop.supply_arrives(order, "LAMP")
    await shop.sees_to(order, "MID")
    await order.handle.result()
    return order


async def lost_reshipped(shop: Shop) -> Order:
    """Lost, sent again, lost again; the third one comes back and is refunded, as a person has chosen."""
    await shop.stocks("LAMP", EAST=3)
    order = await shop.place(("LAMP", 1))
    known: set[str] = set()
    for trouble in (CarrierEventType.LOST, CarrierEventType.DAMAGED, CarrierEventType.RETURN_TO_SENDER):

        async def next_one() -> dict[str, Any] | None:
            parts = [p for p in await shop.parts(order) if p["fulfillment_id"] not in known]
            return parts[0] if parts and parts[0]["stage"] == "released" else None

        part = await eventually(next_one)
        known.add(part["fulfillment_id"])
        await shop.ships(order, part)
        await shop.scan(order, part["shipment_id"], trouble)
    await shop.remedy(order, "refund")
    await shop.scan(order, part["shipment_id"], CarrierEventType.RETURNED)
    await order.handle.result()
    return order


async def lost_refunded(shop: Shop) -> Order:
    """One of two parcels is scanned by nobody and counts as lost: a person is asked, nobody decides, refunded."""
    await shop.stocks("LAMP", EAST=1)
    await shop.stocks("RUG", MID=1)
    order = await shop.place(("LAMP", 1), ("RUG", 1))
    east, mid = await shop.released(order, 2)
    for part in (east, mid):
        await shop.ships(order, part)
    await shop.delivers(order, mid)
    await order.handle.result()
    return order


async def lost_and_gone(shop: Shop) -> Order:
    """Lost, and nobody has the units any more: refunded; it turns up while the other parcel travels."""
    await shop.stocks("LAMP", EAST=1)
    await shop.stocks("RUG", MID=1)
    order = await shop.place(("LAMP", 1), ("RUG", 1))
    east, mid = await shop.released(order, 2)
    for part in (east, mid):
        await shop.ships(order, part)
    await shop.scan(order, east["shipment_id"], CarrierEventType.LOST)
    await shop.becomes(order, payment_status="partially_refunded")
    await shop.scan(order, east["shipment_id"], CarrierEventType.DELIVERED)
    await shop.delivers(order, mid)
    await order.handle.result()
    return order


ASK_IN_VAIN = {"lost": "ask", "decide_s": 2, "no_scan_s": {"standard": 3}}
JOURNEYS: dict[str, tuple[Journey, dict[str, Any]]] = {
    "happy": (happy, {}),
    "split": (split, {}),
    "shortage": (shortage, {}),
    "decline_then_fix": (decline_then_fix, {}),
    "decline_then_give_up": (decline_then_give_up, {"payment_window_s": 1}),
    "payment_unknown": (payment_unknown, {}),
    "cancel_released": (cancel_released, {}),
    "cancel_packed": (cancel_packed, {}),
    "cancel_without_refund": (cancel_without_refund, {}),
    "scans_in_any_order": (scans_in_any_order, {}),
    "reservation_lapsed": (reservation_lapsed, SHORT_HOLD),
    "out_of_stock_when_paid": (out_of_stock_when_paid, SHORT_HOLD),
    "several_tenders": (several_tenders, {}),
    "cancel_before_payment": (cancel_before_payment, {}),
    "cancel_part": (cancel_part, {}),
    "cancel_declined": (cancel_declined, {}),
    "recalled": (recalled, {}),
    "recall_declined": (recall_declined, {}),
    "recall_unanswered": (recall_unanswered, {"carrier_trouble": {"recall_answer_s": 1}}),
    "refused_and_retried": (refused_and_retried, {"node_accept_s": 1}),
    "outside_capture": (outside_capture, {}),
    "garbage": (garbage, {}),
    "cancel_units": (cancel_units, {}),
    "cancel_picked": (cancel_picked, {}),
    "cancel_while_declined": (cancel_while_declined, {}),
    "short_pick": (short_pick, {}),
    "rejected": (rejected, {}),
    "slow_carrier": (slow_carrier, {}),
    "held": (held, {}),
    "hold_rejected": (hold_rejected, {}),
    "hold_limits": (hold_limits, SHORT_HOLD),
    "backordered": (backordered, {"backorder_retry_s": 3}),
    "no_supply": (no_supply, {"backorder_limit_s": 4, "backorder_retry_s": 2}),
    "silent_node": (silent_node, {}),
    "left_node": (left_node, {}),
    "written_off": (written_off, {}),
    "forced": (forced, {}),
    "forced_in_the_dark": (forced_in_the_dark, {"force_close_s": 1}),
    "risk_hold": (risk_hold, {}),
    "amended": (amended, {}),
    "amended_at_the_node": (amended_at_the_node, {}),
    "amended_to_wait": (amended_to_wait, {}),
    "lost_reshipped": (lost_reshipped, {}),
    "lost_refunded": (lost_refunded, {"carrier_silence_s": 2, "carrier_trouble": ASK_IN_VAIN}),
    "lost_and_gone": (lost_and_gone, {}),
}


async def record(stack: RunStack, names: Sequence[str]) -> None:
    """Play these journeys and keep their histories."""
    NEWEST.mkdir(exist_ok=True)
    async with serving(await stack.new_site()) as make:
        for name in names:
            journey, rules = JOURNEYS[name]
            order = await journey(await make().opens(**rules))
            history = await order.handle.fetch_history()
            content = {"id": order.handle.id, "history": without_traces(history.to_json_dict())}
            (NEWEST / f"{name}.json").write_text(json.dumps(content, separators=(",", ":")) + "\n")


def without_traces(value: Any) -> Any:
    """The same without stack traces and identities: they name folders and hosts, and no replay reads them."""
    if isinstance(value, dict):
        return {name: without_traces(inner) for name, inner in value.items() if name not in ("stackTrace", "identity")}
    return [without_traces(inner) for inner in value] if isinstance(value, list) else value


def main() -> None:
    """Record on engines of our own."""
    stack = start_run_stack()
    try:
        asyncio.run(record(stack, sys.argv[1:] or list(JOURNEYS)))
    finally:
        stack.stop()
        time.sleep(0.3)  # the SDK aborts now and then when a process ends right after a worker


if __name__ == "__main__":
    main()
