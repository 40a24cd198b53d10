"""Linked orders: later goods travel on an order of their own that names the earlier one. Owner: commerce."""

from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.orders import PlaceOrder
from store.orders import OrderChange, finish, lock_order

_NUMBER = text("SELECT order_number FROM orders WHERE order_id = :replaces_order AND channel = :channel")


class Replaced(NamedTuple):
    """The earlier order, locked, and its number."""

    change: OrderChange
    order_number: str


async def names_nothing(connection: AsyncConnection, order: PlaceOrder) -> bool:
    """Whether the order names an earlier one that its channel does not have."""
    return order.replaces_order is not None and await _number(connection, order) is None


async def lock_replaced(connection: AsyncConnection, order: PlaceOrder) -> Replaced | None:
    """Lock the earlier order, if one is named. Before any stock is locked, as every change of an order does it."""
    if order.replaces_order is None:
        return None
    change = await lock_order(connection, order.replaces_order)
    return Replaced(change, await _number(connection, order) or "")


async def tell_both(change: OrderChange, order: PlaceOrder, replaced: Replaced) -> None:
    """Both timelines tell of the other order. The earlier one is as it was: only its version goes on."""
    earlier = replaced.change
    change.say("order.replaces", order=earlier.order_id, order_number=replaced.order_number)
    earlier.say("order.replaced", order=order.order_id, order_number=order.order_number)
    await finish(earlier)


async def _number(connection: AsyncConnection, order: PlaceOrder) -> str | None:
    values = {"replaces_order": order.replaces_order, "channel": order.channel}
    number: str | None = (await connection.execute(_NUMBER, values)).scalar_one_or_none()
    return number
