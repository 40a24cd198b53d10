"""Goods that come in: the movement, the level, and the orders that are told of it, in turn. Owner: inventory."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.backorders import SupplyArrived
from domain.ids import derived_id
from domain.orders import SYSTEM, Actor
from store.commands import NewCommand, payload_hash
from store.stock import Held
from store.supply import WAITING

RECEIVED = "received"
MOST_TOLD = 200
"""Orders that are told of one arrival; who comes behind them looks by itself when its interval is over."""


class UnknownItem(Exception):
    """There is no such item."""


class UnknownNode(Exception):
    """There is no such node."""


class ReceiptDiffers(Exception):
    """The same receipt was booked before, and said something else."""


@dataclass(frozen=True)
class Receipt:
    """Units of a SKU that came in at a node. `receipt_id` is the node's own id."""

    receipt_id: str
    sku: str
    node_id: str
    quantity: int


@dataclass(frozen=True)
class Received:
    """What is on hand at the node now. `repeated`: it was booked before, and changed nothing."""

    on_hand: int
    repeated: bool


_KNOWN = text("""
SELECT EXISTS (SELECT 1 FROM items WHERE sku = :sku) AS item, EXISTS (SELECT 1 FROM nodes WHERE node_id = :node) AS node
""")
_MOVE = text("""
INSERT INTO stock_movements (sku, node_id, on_hand_delta, reason, business_key, actor)
VALUES (:sku, :node, :quantity, :reason, concat_ws(':', 'receipt', CAST(:node AS text), CAST(:receipt AS text)), :actor)
ON CONFLICT (business_key) DO NOTHING RETURNING movement_id
""")
_MOVED = text("""
SELECT sku, on_hand_delta FROM stock_movements
 WHERE business_key = concat_ws(':', 'receipt', CAST(:node AS text), CAST(:receipt AS text))
""")
_RAISE = text("""
INSERT INTO stock_levels (sku, node_id, on_hand) VALUES (:sku, :node, :quantity)
ON CONFLICT (sku, node_id) DO UPDATE SET on_hand = stock_levels.on_hand + excluded.on_hand RETURNING on_hand
""")
_LEVEL = text("SELECT on_hand FROM stock_levels WHERE sku = :sku AND node_id = :node")

_TURN = text(f"""
SELECT order_id FROM (
  SELECT order_id, waiting, coalesce(sum(units) OVER (ORDER BY priority DESC, created_at, order_id
           ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
    FROM (SELECT o.order_id, o.priority, o.created_at, sum(l.open + l.backordered) AS units,
                 sum(l.backordered) AS waiting {WAITING}
           GROUP BY o.order_id, o.priority, o.created_at) demand
) turn WHERE waiting > 0 AND before < (SELECT coalesce(sum(greatest(0, on_hand - unavailable - reserved - safety)), 0)
                                         FROM stock_levels WHERE sku = ANY(CAST(:skus AS text[])))
 LIMIT :limit
""")  # noqa: S608 - constants only

_ANY_WAITING = text("SELECT 1 FROM order_lines WHERE sku = ANY(CAST(:skus AS text[])) AND backordered > 0 LIMIT 1")
_RULE = text("UPDATE items SET backorder = :allowed WHERE sku = :sku")

_PUT = text("""
INSERT INTO commands (order_id, command_id, kind, payload, payload_hash, actor, origin, next_send_at)
SELECT c.order_id, c.command_id, :kind, CAST(c.payload AS jsonb), c.hash, CAST(:actor AS jsonb), 'api', now()
  FROM unnest(CAST(:orders AS text[]), CAST(:commands AS text[]), CAST(:payloads AS text[]), CAST(:hashes AS bytea[]))
       AS c(order_id, command_id, payload, hash)
ON CONFLICT (order_id, command_id) DO NOTHING
""")


async def receive(connection: AsyncConnection, receipt: Receipt, actor: Actor) -> Received:
    """Book units that came in, once per node and receipt.

    Raises:
        UnknownItem: there is no such item.
        UnknownNode: there is no such node.
        ReceiptDiffers: this receipt of the node was booked with other units.
    """
    place = {"sku": receipt.sku, "node": receipt.node_id}
    known = (await connection.execute(_KNOWN, place)).one()
    if not known.item:
        raise UnknownItem(receipt.sku)
    if not known.node:
        raise UnknownNode(receipt.node_id)
    key = {"node": receipt.node_id, "receipt": receipt.receipt_id}
    values = {**place, **key, "quantity": receipt.quantity, "reason": RECEIVED, "actor": f"{actor.kind}:{actor.id}"}
    if (await connection.execute(_MOVE, values)).first() is None:
        before = (await connection.execute(_MOVED, key)).one()
        if (before.sku, before.on_hand_delta) != (receipt.sku, receipt.quantity):
            raise ReceiptDiffers(receipt.receipt_id)
        return Received((await connection.execute(_LEVEL, place)).scalar_one(), repeated=True)
    level = await connection.execute(_RAISE, {**place, "quantity": receipt.quantity})
    return Received(level.scalar_one(), repeated=False)


async def whose_turn(connection: AsyncConnection, sku: str) -> tuple[str, ...]:
    """The orders that wait for a SKU and can be served with what is there, by priority, then by age."""
    rows = await connection.execute(_TURN, {"skus": [sku], "limit": MOST_TOLD})
    return tuple(row.order_id for row in rows)


async def tell(
    connection: AsyncConnection, skus: Iterable[str], cause: tuple[str, ...], actor: Actor
) -> list[NewCommand]:
    """Store the word that units of these SKUs are there, for every order whose turn it is; `cause` tells it apart."""
    commands = []
    for sku in sorted(skus):
        for order_id in await whose_turn(connection, sku):
            command_id = derived_id("cmd", order_id, "supply", sku, *cause)
            message = SupplyArrived(command_id=command_id, sku=sku, actor=actor)
            commands.append(NewCommand(order_id, command_id, "supply_arrived", message.model_dump_json(), actor))
    await put_commands(connection, commands)
    return commands


async def offer(connection: AsyncConnection, units: Iterable[Held], cause: tuple[str, ...]) -> None:
    """Units of a reservation are free again: the orders that wait for them are told by the sweep, at its next run."""
    freed = {sku for _, sku, _, _ in units}
    if freed and (await connection.execute(_ANY_WAITING, {"skus": sorted(freed)})).first() is not None:
        await tell(connection, freed, cause, SYSTEM)


async def set_backorder(connection: AsyncConnection, sku: str, *, allowed: bool) -> bool:
    """Write whether units of an item may be waited for. False: there is no such item."""
    return (await connection.execute(_RULE, {"sku": sku, "allowed": allowed})).rowcount == 1


async def put_commands(connection: AsyncConnection, commands: Sequence[NewCommand]) -> None:
    """Store commands of one kind and actor for many orders, due at once: the sweep sends what nobody has sent."""
    if not commands:
        return
    first = commands[0]
    await connection.execute(
        _PUT,
        {
            "kind": first.kind,
            "actor": first.actor.model_dump_json(exclude_none=True),
            "orders": [one.order_id for one in commands],
            "commands": [one.command_id for one in commands],
            "payloads": [one.payload_json for one in commands],
            "hashes": [payload_hash(one.payload_json) for one in commands],
        },
    )
