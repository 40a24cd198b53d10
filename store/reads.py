"""What the API shows, read from the rows. Every function takes who is asking: the object rule is in the SQL.

An object that may not be seen and one that does not exist both give None: nobody can tell the difference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.permissions import Principal, Scope, scope_of
from store.sql_parts import FULFILLMENTS, LATELY, SNAPSHOT

Row = dict[str, Any]

# Rows of the caller's channels, of the caller's own customer reference, or all of them.
_VISIBLE = "(:everything OR o.channel = ANY(:channels) OR o.customer_ref = :own_customer)"
_VISIBLE_WORK = "(:everything OR f.node_id = ANY(:nodes) OR o.channel = ANY(:channels))"

_BY = {
    "id": "o.order_id = :ref",
    "number": "o.order_number = :ref",
    "external": "o.channel = :ref_channel AND o.external_ref = :ref",
}
Form = Literal["id", "number", "external"]


@dataclass(frozen=True)
class OrderRef:
    """How a caller names an order: by id, by number, or by a channel's own reference."""

    form: Form
    ref: str
    channel: str = ""


@dataclass(frozen=True)
class OrderHead:
    """What a command must know of its order. `status` is `received` until the workflow has answered.

    `changed_lately`: rows changed within the last seconds, so the workflow may not have heard of it yet.
    """

    order_id: str
    status: str
    terminal: bool
    version: int
    changed_lately: bool = False


Sort = Literal["-created_at", "created_at", "promised_by"]


@dataclass(frozen=True)
class OrderFilter:
    """Filters of a list, and its order; an empty tuple or None means: any."""

    status: tuple[str, ...] = ()
    waiting_on: tuple[str, ...] = ()
    promise_state: tuple[str, ...] = ()
    payment_status: tuple[str, ...] = ()
    channel: tuple[str, ...] = ()
    node: tuple[str, ...] = ()
    sku: tuple[str, ...] = ()
    customer_ref: tuple[str, ...] = ()
    external_ref: tuple[str, ...] = ()
    created_from: datetime | None = None
    created_to: datetime | None = None
    promised_before: date | None = None
    needs_attention: bool | None = None
    q: str | None = None
    sort: Sort = "-created_at"


def _bound(scope: Scope) -> Row:
    return {
        "everything": scope.everything,
        "channels": list(scope.channels),
        "nodes": list(scope.nodes),
        "own_customer": scope.customer_ref,
    }


# --- one order ----------------------------------------------------------------------------------------

_ORDER = text(f"{SNAPSHOT} WHERE o.order_id = :order_id AND {_VISIBLE}")
_RECEIVED = text(f"""
SELECT o.order_id, o.order_number, o.channel, o.external_ref, o.created_at,
       o.place_order ->> 'currency' AS currency, o.place_order ->> 'total_minor' AS total_minor,
       o.place_order ->> 'replaces_order' AS replaces_order
  FROM intake o WHERE o.state = 'received' AND o.order_id = :order_id AND {_VISIBLE}
""")  # noqa: S608 - constants only
_HEADS = {
    form: text(f"""
SELECT * FROM (
  SELECT o.order_id, o.status, o.terminal, o.version, o.created_at, {LATELY}
    FROM orders o WHERE {where} AND {_VISIBLE}
  UNION ALL
  SELECT o.order_id, 'received', false, 0, o.created_at, false
    FROM intake o WHERE o.state = 'received' AND {where} AND {_VISIBLE}) AS found
 ORDER BY (status = 'rejected'), created_at DESC LIMIT 2""")  # noqa: S608
    for form, where in _BY.items()
}


async def read_order(connection: AsyncConnection, principal: Principal, operation_id: str, order_id: str) -> Row | None:
    """Everything about one order, with one statement; see `SNAPSHOT` for the columns."""
    bound = _bound(scope_of(principal, operation_id))
    return await _one(connection, _ORDER, {**bound, "order_id": order_id})


async def read_received(
    connection: AsyncConnection, principal: Principal, operation_id: str, order_id: str
) -> Row | None:
    """An order that was taken in and not answered yet."""
    bound = _bound(scope_of(principal, operation_id))
    return await _one(connection, _RECEIVED, {**bound, "order_id": order_id})


async def read_heads(
    connection: AsyncConnection, principal: Principal, operation_id: str, ref: OrderRef
) -> list[OrderHead]:
    """Where the orders stand that go by this name, newest first, at most two.

    A rejected order gives its names up: it is found only when no other order has the name.
    """
    about = {**_bound(scope_of(principal, operation_id)), "ref": ref.ref, "ref_channel": ref.channel}
    rows = (await connection.execute(_HEADS[ref.form], about)).mappings()
    heads = [OrderHead(**{name: value for name, value in row.items() if name != "created_at"}) for row in rows]
    living = [head for head in heads if head.status != "rejected"]
    return living or heads


# --- lists of orders ----------------------------------------------------------------------------------

_LISTED = """
SELECT * FROM (
  (SELECT o.order_id, o.order_number, o.channel, o.external_ref, o.currency, o.status, o.payment_status,
          o.fulfillment_status, o.waiting_on, o.wait_deadline, o.promised_by, o.promise_state, o.total_minor,
          o.owed_minor, o.version, o.created_at, o.updated_at, {answered_key} AS sort_key
     FROM orders o
    WHERE {answered} ORDER BY sort_key {way}, order_id {way} LIMIT :limit)
  UNION ALL
  (SELECT o.order_id, o.order_number, o.channel, o.external_ref, o.place_order ->> 'currency', 'received',
          'pending', 'unfulfilled', 'payment', NULL, NULL, 'on_track', (o.place_order ->> 'total_minor')::bigint,
          (o.place_order ->> 'total_minor')::bigint, 0, o.created_at, o.created_at, {received_key} AS sort_key
     FROM intake o
    WHERE o.state = 'received' AND {received} ORDER BY sort_key {way}, order_id {way} LIMIT :limit)
  ) AS both_kinds
 ORDER BY sort_key {way}, order_id {way} LIMIT :limit
"""

# Each filter, as a condition on an answered order and on one that was only taken in.
_FILTERS: Mapping[str, tuple[str, str]] = {
    "status": ("o.status = ANY(:status)", "'received' = ANY(:status)"),
    "waiting_on": ("o.waiting_on = ANY(:waiting_on)", "'payment' = ANY(:waiting_on)"),
    "promise_state": ("o.promise_state = ANY(:promise_state)", "'on_track' = ANY(:promise_state)"),
    "payment_status": ("o.payment_status = ANY(:payment_status)", "'pending' = ANY(:payment_status)"),
    "channel": ("o.channel = ANY(:channel)", "o.channel = ANY(:channel)"),
    "node": (
        "EXISTS (SELECT 1 FROM fulfillment_orders f WHERE f.order_id = o.order_id AND f.node_id = ANY(:node))",
        "false",
    ),
    "sku": (
        "EXISTS (SELECT 1 FROM order_lines l WHERE l.order_id = o.order_id AND l.sku = ANY(:sku))",
        "EXISTS (SELECT 1 FROM jsonb_array_elements(o.place_order -> 'lines') AS l WHERE l ->> 1 = ANY(:sku))",
    ),
    "customer_ref": ("o.customer_ref = ANY(:customer_ref)", "o.customer_ref = ANY(:customer_ref)"),
    "external_ref": ("o.external_ref = ANY(:external_ref)", "o.external_ref = ANY(:external_ref)"),
    "created_from": ("o.created_at >= :created_from", "o.created_at >= :created_from"),
    "created_to": ("o.created_at < :created_to", "o.created_at < :created_to"),
    "promised_before": ("o.promised_by < :promised_before", "false"),
    "needs_attention": (
        ":needs_attention = EXISTS (SELECT 1 FROM exceptions e WHERE e.order_id = o.order_id AND e.open)",
        "NOT :needs_attention",
    ),
    "q": (
        "o.order_id IN (SELECT order_id FROM orders WHERE order_number = :q UNION ALL"
        " SELECT order_id FROM orders WHERE external_ref = :q UNION ALL"
        " SELECT order_id FROM shipments WHERE tracking_number = :q)",
        "(o.order_number = :q OR o.external_ref = :q)",
    ),
}

_NO_PROMISE = "DATE '9999-12-31'"  # orders without a promised day come last
# What is sorted by: of an answered order, of one that was only taken in, its type, and which way.
_SORTS: Mapping[Sort, tuple[str, str, str, Literal["ASC", "DESC"]]] = {
    "-created_at": ("o.created_at", "o.created_at", "timestamptz", "DESC"),
    "created_at": ("o.created_at", "o.created_at", "timestamptz", "ASC"),
    "promised_by": (f"coalesce(o.promised_by, {_NO_PROMISE})", _NO_PROMISE, "date", "ASC"),
}


def _list_statement(given: Sequence[str], sort: Sort, *, resumed: bool) -> Any:
    """The statement for these filters: put together from the constants above, values are bound."""
    answered_key, received_key, kind, way = _SORTS[sort]
    answered, received = ([_VISIBLE, *(_FILTERS[name][side] for name in given)] for side in (0, 1))
    if resumed:
        behind = f"{'<' if way == 'DESC' else '>'} (CAST(:after_key AS {kind}), :after_id)"
        answered.append(f"({answered_key}, o.order_id) {behind}")
        received.append(f"({received_key}, o.order_id) {behind}")
    return text(
        _LISTED.format(
            answered_key=answered_key,
            received_key=received_key,
            answered=" AND ".join(answered),
            received=" AND ".join(received),
            way=way,
        )
    )


async def list_orders(
    connection: AsyncConnection,
    principal: Principal,
    wanted: OrderFilter,
    after: tuple[str, ...] | None,
    limit: int,
) -> list[Row]:
    """Headers of orders in the wanted order, continuing behind `after`: the `sort_key` and id of an earlier row."""
    given = {name: value for name in _FILTERS if (value := getattr(wanted, name)) not in ((), None)}
    bound = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
    position = dict(zip(("after_key", "after_id"), after or (), strict=False))
    rows = await connection.execute(
        _list_statement(tuple(given), wanted.sort, resumed=after is not None),
        {**_bound(scope_of(principal, "listOrders")), **bound, **position, "limit": limit},
    )
    return [dict(row) for row in rows.mappings()]


# --- timeline, decisions ------------------------------------------------------------------------------

_EVENTS = text("""
SELECT event_id, type, sequence, order_id, occurred_at, actor, cause, command_id, rulesets, text, data
  FROM order_events WHERE order_id = :order_id AND sequence > :after ORDER BY sequence LIMIT :limit
""")

_DECISIONS = text(f"""
SELECT d.decision_id, d.order_id, d.kind, d.ruleset, d.record, d.created_at
  FROM decisions d JOIN orders o USING (order_id)
 WHERE d.order_id = :order_id AND {_VISIBLE} ORDER BY d.created_at, d.decision_id LIMIT 200
""")  # noqa: S608

_DECISION = text(f"""
SELECT d.decision_id, d.order_id, d.kind, d.ruleset, d.record, d.created_at
  FROM decisions d JOIN orders o USING (order_id) WHERE d.decision_id = :decision_id AND {_VISIBLE}
""")  # noqa: S608


async def read_events(connection: AsyncConnection, head: OrderHead, after: int, limit: int) -> list[Row]:
    """The timeline of an order the caller was shown to have access to (`read_head`), behind `after`."""
    rows = await connection.execute(_EVENTS, {"order_id": head.order_id, "after": after, "limit": limit})
    return [dict(row) for row in rows.mappings()]


async def list_decisions(connection: AsyncConnection, principal: Principal, order_id: str) -> list[Row]:
    """The decisions made for an order, oldest first."""
    bound = _bound(scope_of(principal, "listDecisions"))
    rows = await connection.execute(_DECISIONS, {**bound, "order_id": order_id})
    return [dict(row) for row in rows.mappings()]


async def read_decision(connection: AsyncConnection, principal: Principal, decision_id: str) -> Row | None:
    """One decision with its record: inputs, candidates, reasons."""
    bound = _bound(scope_of(principal, "getDecision"))
    return await _one(connection, _DECISION, {**bound, "decision_id": decision_id})


# --- work of the nodes --------------------------------------------------------------------------------

_WORK = text(f"""{FULFILLMENTS}
 WHERE {_VISIBLE_WORK} AND (CAST(:node AS text[]) = '{{}}' OR f.node_id = ANY(:node))
   AND (CAST(:state AS text[]) = '{{}}' OR f.state = ANY(:state)) AND f.fulfillment_id > :after
 ORDER BY f.fulfillment_id LIMIT :limit
""")

_PART = text(f"{FULFILLMENTS} WHERE {_VISIBLE_WORK} AND f.fulfillment_id = :fulfillment_id")

_PARCEL = text(f"""
SELECT s.order_id, o.terminal, o.status, o.version, {LATELY}
  FROM shipments s JOIN fulfillment_orders f USING (fulfillment_id) JOIN orders o ON o.order_id = s.order_id
 WHERE {_VISIBLE_WORK} AND s.shipment_id = :shipment_id
""")  # noqa: S608


async def list_work(
    connection: AsyncConnection,
    principal: Principal,
    node: tuple[str, ...],
    state: tuple[str, ...],
    after: str,
    limit: int,
) -> list[Row]:
    """Fulfillment orders of the caller's nodes, oldest first, continuing behind the id `after`."""
    bound = _bound(scope_of(principal, "listFulfillmentOrders"))
    rows = await connection.execute(
        _WORK, {**bound, "node": list(node), "state": list(state), "after": after, "limit": limit}
    )
    return [dict(row) for row in rows.mappings()]


async def read_work(
    connection: AsyncConnection, principal: Principal, operation_id: str, fulfillment_id: str
) -> Row | None:
    """One fulfillment order of the caller's nodes."""
    bound = _bound(scope_of(principal, operation_id))
    return await _one(connection, _PART, {**bound, "fulfillment_id": fulfillment_id})


async def read_parcel(
    connection: AsyncConnection, principal: Principal, operation_id: str, shipment_id: str
) -> Row | None:
    """One parcel of the caller's nodes, with where its order stands."""
    bound = _bound(scope_of(principal, operation_id))
    return await _one(connection, _PARCEL, {**bound, "shipment_id": shipment_id})


# --- the state of the installation --------------------------------------------------------------------

_REVISION = text("SELECT version_num FROM alembic_version")


async def database_revision(connection: AsyncConnection) -> str | None:
    """Which version of the tables this database has."""
    return (await connection.execute(_REVISION)).scalar()


def expected_revision() -> str:
    """Which version of the tables this program was made for: the newest migration that it carries."""
    versions = Path(__file__).parent / "migrations" / "versions"
    return max(path.stem.partition("_")[0] for path in versions.glob("[0-9]*.py"))


async def _one(connection: AsyncConnection, statement: Any, bound: Row) -> Row | None:
    row = (await connection.execute(statement, bound)).mappings().first()
    return dict(row) if row else None
