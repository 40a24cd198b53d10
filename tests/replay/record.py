"""Records the golden histories anew, from the real server: `python -m tests.replay.record`.

One per journey. They are what running orders look like: code that cannot replay them must not be deployed.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from domain.orders import CarrierEventType, ReportKind
from providers.catalog import ProviderChoice, make_providers
from store.engine import make_engine
from tests.support.shop import Order, Shop
from tests.support.stack import RunStack, start_run_stack
from worker import make_activities, make_worker

HISTORIES = Path(__file__).with_name("histories")
Journey = Callable[[Shop], Awaitable[Order]]


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


JOURNEYS: dict[str, tuple[Journey, dict[str, int]]] = {
    "happy": (happy, {}),
    "split": (split, {}),
    "shortage": (shortage, {}),
    "decline_then_fix": (decline_then_fix, {}),
    "decline_then_give_up": (decline_then_give_up, {"payment_window_s": 1}),
    "payment_unknown": (payment_unknown, {}),
    "cancel_released": (cancel_released, {}),
    "cancel_packed": (cancel_packed, {}),
    "scans_in_any_order": (scans_in_any_order, {}),
}


async def record(stack: RunStack) -> None:
    """Play every journey and keep its history."""
    site = await stack.new_site()
    settings = site.settings()
    engine = make_engine(settings.dsn, 10)
    client = await site.connect()
    HISTORIES.mkdir(exist_ok=True)
    with make_providers(ProviderChoice(simulated_state=site.simulated_state, time_limit_s=2)) as providers:
        assert providers.simulation is not None
        activities = make_activities(engine, providers, settings.vault_key_ring, "allow")
        async with make_worker(client, activities, sandbox=True, grace_s=2):
            for name, (journey, rules) in JOURNEYS.items():
                order = await journey(await Shop(client, engine, providers.simulation).opens(**rules))
                history = await order.handle.fetch_history()
                content = {"id": order.handle.id, "history": history.to_json_dict()}
                (HISTORIES / f"{name}.json").write_text(json.dumps(content, separators=(",", ":")) + "\n")
    await engine.dispose()


def main() -> None:
    """Record on engines of our own."""
    stack = start_run_stack()
    try:
        asyncio.run(record(stack))
    finally:
        stack.stop()
        time.sleep(0.3)  # the SDK aborts now and then when a process ends right after a worker


if __name__ == "__main__":
    main()
