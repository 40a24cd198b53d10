"""The named stories of `accord demo run`. Each plays against the running stack and checks how it ended.

A story speaks the HTTP API only. It works off its own orders with a simulated floor and leaves all others alone.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from cli.bodies import Wanted, find_city, order_body, parse_wanted
from cli.client import AccordClient, ApiProblem, OrderView
from cli.floor import Floor, Habits

Say = Callable[[str], None]
FindWorker = Callable[[], Callable[[], None] | None]
"""Finds the worker of this folder's stack: what kills it, or None when there is none."""
_LIMIT_S = 90.0
_POLL_S = 0.2


class ScenarioFailed(Exception):
    """The story did not end as it must."""


@dataclass
class Stage:
    """What a story plays with: a shop, customer service, the floor, and somebody who listens."""

    shop: AccordClient
    service: AccordClient
    floor: AccordClient
    say: Say
    find_worker: FindWorker = lambda: None
    orders: set[str] = field(default_factory=set)

    async def place(self, *skus: str, city: str = "Boston", reference: str = "pm_ok") -> OrderView:
        """Place an order and wait for its answer."""
        lines: list[Wanted] = [parse_wanted(sku) for sku in skus]
        order = await self.shop.create_order(order_body(lines, find_city(city), reference=reference))
        self.orders.add(order.id)
        self.say(f"placed {order.order_number}: {', '.join(skus)} to {city}")
        return await self.until(order, lambda o: o.answered, "its answer")

    async def until(self, order: OrderView, reached: Callable[[OrderView], bool], what: str) -> OrderView:
        """Look until the order is there.

        Raises:
            ScenarioFailed: it does not get there in time.
        """
        limit = time.monotonic() + _LIMIT_S
        while time.monotonic() < limit:
            order = await self.shop.get_order(order.id)
            if reached(order):
                return order
            await asyncio.sleep(_POLL_S)
        raise ScenarioFailed(f"order {order.order_number} waits for {what}; it is {order.status} {order.wait}")

    async def ended(self, order: OrderView, status: str) -> OrderView:
        """Wait for the end, which must be this one."""
        order = await self.until(order, lambda o: o.ended, "its end")
        expect(order.status == status, f"order {order.order_number} ended {order.status}, expected {status}")
        return order

    async def pays_again(self, order: OrderView) -> None:
        """Give another payment reference, again while the order itself has not heard of the decline yet.

        Raises:
            ApiProblem: it is refused for another reason, or for too long.
        """
        limit = time.monotonic() + _LIMIT_S
        while True:
            try:
                await self.shop.add_tender(order.id, "pm_ok")
            except ApiProblem as problem:
                if problem.reason != "not_yet" or time.monotonic() > limit:
                    raise
                await asyncio.sleep(_POLL_S)
            else:
                self.say("another payment reference was given")
                return

    @asynccontextmanager
    async def warehouse(self, habits: Habits = Habits()) -> AsyncIterator[Floor]:
        """The floor at work on the orders of this story."""
        floor = Floor(self.floor, habits, self.orders)
        leaving = asyncio.Event()
        work = asyncio.create_task(floor.run(leaving.is_set))
        try:
            yield floor
        finally:
            leaving.set()
            await work


def expect(holds: bool, otherwise: str) -> None:
    """Raise `ScenarioFailed` unless it holds."""
    if not holds:
        raise ScenarioFailed(otherwise)


async def happy_path(stage: Stage) -> OrderView:
    """Reserve, authorize, allocate, ship, capture, deliver."""
    order = await stage.place("LAMP-OAK:2", "MUG-BLUE:4")
    stage.say(f"promised by {order.document['promise']['current_by']}, stock held")
    async with stage.warehouse():
        order = await stage.ended(order, "completed")
    expect(order.payment_status == "captured", f"payment is {order.payment_status}")
    stage.say(f"delivered; captured {order.payment['captured_minor']} minor units of {order.currency}")
    return order


async def split_shipment(stage: Stage) -> OrderView:
    """Three items that no single node has: three nodes, three parcels, three captures."""
    order = await stage.place("SOFA-GREY:1", "TABLE-ELM:1", "BENCH-ASH:2", city="Chicago")
    async with stage.warehouse(Habits(disorder=1.0)):
        order = await stage.ended(order, "completed")
    nodes = sorted({part["node"] for part in order.fulfillment_orders})
    expect(len(nodes) == 3, f"it shipped from {nodes}")
    stage.say(f"shipped from {', '.join(nodes)}; carrier events came repeated and out of order")
    return order


async def shortage(stage: Stage) -> OrderView | None:
    """More than there is: refused with what is available; nothing is held, nothing is charged."""
    body = order_body([parse_wanted("CLOCK-BRASS:40")], find_city("Boston"))
    try:
        order = await stage.shop.create_order(body)
        order = await stage.until(order, lambda o: o.answered, "its answer")
        expect(order.status == "rejected", f"it is {order.status}")
    except ApiProblem as problem:
        expect(problem.slug == "out-of-stock", f"refused with {problem.slug}")
        line = problem.document["lines"][0]
        stage.say(f"refused: {line['requested']} x {line['sku']} asked, {line['available']} available")
        return await stage.shop.get_order(problem.document["order_id"])
    return order


async def backorder(stage: Stage) -> OrderView:
    """Nothing is there: the order waits, goods come in, it ships earlier than promised and the customer is told."""
    order = await stage.place("LANTERN-TIN:2")
    order = await stage.until(order, lambda o: (o.wait or {}).get("waiting_on") == "supply", "that it waits")
    stage.say(f"promised by {order.document['promise']['current_by']}: {(order.wait or {}).get('next_event')}")
    receipt = {"receipt_id": f"demo-{order.id}", "node": "AVP3", "sku": "LANTERN-TIN", "quantity": 2}
    booked = await stage.floor.receive_stock(receipt)
    stage.say(f"2 came in at AVP3; {booked.orders_told} waiting orders are told")
    async with stage.warehouse():
        order = await stage.ended(order, "completed")
    promise = order.document["promise"]
    expect(promise["current_by"] < promise["original_by"], f"the promise is {promise}")
    stage.say(f"now promised by {promise['current_by']}, and delivered")
    return order


async def payment_declined(stage: Stage) -> OrderView:
    """The card is declined, the order waits for the customer, a second payment goes through."""
    order = await stage.place("RUG-INDIGO:1", reference="pm_decline_once")
    order = await stage.until(order, lambda o: (o.wait or {}).get("waiting_on") == "customer", "the decline")
    stage.say(f"declined: {(order.wait or {}).get('next_event')}")
    await stage.pays_again(order)
    async with stage.warehouse():
        return await stage.ended(order, "completed")


async def cancel_before_pick(stage: Stage) -> OrderView:
    """Cancelled while the node has not packed: stock and authorization are free again."""
    order = await stage.place("LAMP-OAK:1", "PLATE-LARGE:6")
    outcome = await stage.service.cancel(order.id, "changed_mind")
    stage.say(f"cancellation {outcome.state}")
    async with stage.warehouse():
        order = await stage.ended(order, "cancelled")
    expect(order.payment["captured_minor"] == 0, "money was captured")
    return order


async def cancel_too_late(stage: Stage) -> OrderView:
    """The carrier has the parcel: cancelling is refused and points to a return."""
    order = await stage.place("MUG-BLUE:1")
    async with stage.warehouse(Habits(delivers=False)):
        order = await stage.until(order, lambda o: o.fulfillment_status == "fulfilled", "hand-over")
    await _refused_cancel(stage, order)
    async with stage.warehouse():
        return await stage.ended(order, "completed")


async def _refused_cancel(stage: Stage, order: OrderView) -> None:
    try:
        outcome = await stage.service.cancel(order.id, "changed_mind")
    except ApiProblem as problem:
        expect(problem.reason == "already_handed_over", f"refused with {problem.reason}")
        stage.say(f"refused: {problem.reason}, possible instead: {problem.document.get('alternative')}")
        return
    raise ScenarioFailed(f"a parcel on its way was cancelled: {outcome.state}")


async def lost_parcel(stage: Stage) -> OrderView:
    """The carrier loses a parcel that was paid: its contents are sent again at no charge, on a line of their own."""
    order = await stage.place("MUG-BLUE:2")
    async with stage.warehouse(Habits(delivers=False)):
        order = await stage.until(order, lambda o: o.fulfillment_status == "fulfilled", "hand-over")
    parcel = order.shipments[0]["id"]
    await stage.floor.shipment_event(parcel, "lost", f"{parcel}-lost", datetime.now(UTC))
    order = await stage.until(order, lambda o: len(o.lines) == 2, "the line that is sent instead")
    stage.say(f"parcel {parcel} is lost; line 2 is sent instead of line 1")
    async with stage.warehouse():
        order = await stage.ended(order, "completed")
    owed, captured = order.totals["owed_minor"], order.payment["captured_minor"]
    expect(owed == captured == order.totals["ordered_minor"], f"captured {captured}, owed {owed}")
    stage.say("they were delivered; nothing more was charged, and a case claims the parcel from the carrier")
    return order


async def worker_crash(stage: Stage) -> OrderView:
    """The worker is killed while orders are in flight: all of them end, each is paid for exactly once."""
    kill = stage.find_worker()
    if kill is None:
        raise ScenarioFailed("no worker of this folder's stack runs: play this story in the folder of `up`")
    orders = list(await asyncio.gather(*(stage.place("LAMP-OAK:1", f"MUG-BLUE:{n}") for n in range(1, 7))))
    async with stage.warehouse(Habits(disorder=0.5)):
        await stage.until(orders[0], lambda o: o.status != "confirmed", "release")
        kill()
        stage.say("the worker was killed; its supervisor starts another one")
        ended = [await stage.ended(order, "completed") for order in orders]
    for order in ended:
        kept = order.payment["captured_minor"] - order.payment["refunded_minor"]
        expect(kept == order.totals["owed_minor"], f"order {order.order_number} kept {kept}")
    stage.say(f"{len(ended)} orders ended, each captured exactly what it owes")
    return ended[0]


@dataclass(frozen=True)
class Scenario:
    """A story by name, and what it shows."""

    name: str
    shows: str
    play: Callable[[Stage], Awaitable[OrderView | None]]


SCENARIOS: Mapping[str, Scenario] = MappingProxyType(
    {
        scenario.name: scenario
        for scenario in (
            Scenario("happy-path", "reserve, authorize, allocate, ship, capture, deliver", happy_path),
            Scenario("split-shipment", "three nodes, three parcels, three captures", split_shipment),
            Scenario("shortage", "a refusal that says what is available and changes nothing", shortage),
            Scenario("backorder", "nothing in stock, supply arrives, promise moves, customer told once", backorder),
            Scenario("payment-declined", "the window to fix a payment, a second reference", payment_declined),
            Scenario("cancel-before-pick", "stock and authorization freed", cancel_before_pick),
            Scenario("cancel-too-late", "refused after hand-over, with what is possible instead", cancel_too_late),
            Scenario("lost-parcel", "sent again at no charge, linked to what it stands for", lost_parcel),
            Scenario("worker-crash", "killed with orders in flight: all end, each paid for once", worker_crash),
        )
    }
)


async def play(
    name: str, target: Callable[[str], AccordClient], say: Say, find_worker: FindWorker = lambda: None
) -> dict[str, Any]:
    """Play a story; returns its order and what to look at."""
    scenario = SCENARIOS[name]
    async with target("storefront") as shop, target("service") as service, target("warehouse") as floor:
        order = await scenario.play(Stage(shop, service, floor, say, find_worker))
        found: dict[str, Any] = {"scenario": name, "shows": scenario.shows}
        if order is not None:
            with suppress(ApiProblem):
                events = await shop.events(order.id)
                found["events"] = [event.document for event in events]
            found["order"] = order.document
        return found
