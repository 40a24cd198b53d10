"""What the API shows, read from the rows. Every function takes who is asking: the object rule is in the SQL.

An object that may not be seen and one that does not exist both give None: nobody can tell the difference.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
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
    order_number: str
    channel: str
    status: str
    terminal: bool
    version: int
    changed_lately: bool = False


@dataclass(frozen=True)
class OrderFilter:
    """Filters of a list; an empty tuple means: any."""

    status: tuple[str, ...] = ()
    waiting_on: tuple[str, ...] = ()
    payment_status: tuple[str, ...] = ()
    channel: tuple[str, ...] = ()
    external_ref: tuple[str, ...] = ()
    created_from: datetime | None = None
    created_to: datetime | None = None
    newest_first: bool = True


def _bound(scope: Scope) -> Row:
    return {
        "everything": scope.everything,
        "channels": list(scope.channels),
        "nodes": list(scope.nodes),
        "own_customer": scope.customer_ref,
    }


# --- one order ----------------------------------------------------------------------------------------

_ORDER = {
    form: text(f"{SNAPSHOT} WHERE {where} AND {_VISIBLE} ORDER BY o.created_at DESC LIMIT 1")
    for form, where in _BY.items()
}
_RECEIVED = {
    form: text(f"""
SELECT o.order_id, o.order_number, o.channel, o.external_ref, o.customer_ref, o.created_at,
       o.place_order ->> 'currency' AS currency, o.place_order ->> 'total_minor' AS total_minor,
       o.place_order ->> 'country' AS country, o.place_order ->> 'region' AS region,
       o.place_order -> 'lines' AS lines
  FROM intake o WHERE o.state = 'received' AND {where} AND {_VISIBLE} ORDER BY o.created_at DESC LIMIT 1""")  # noqa: S608
    for form, where in _BY.items()
}
_HEAD = {
    form: text(f"""
SELECT * FROM (
  SELECT o.order_id, o.order_number, o.channel, o.status, o.terminal, o.version, o.created_at, {LATELY}
    FROM orders o WHERE {where} AND {_VISIBLE}
  UNION ALL
  SELECT o.order_id, o.order_number, o.channel, 'received', false, 0, o.created_at, false
    FROM intake o WHERE o.state = 'received' AND {where} AND {_VISIBLE}) AS found
 ORDER BY (status = 'rejected'), created_at DESC LIMIT 1""")  # noqa: S608
    for form, where in _BY.items()
}


async def read_order(connection: AsyncConnection, principal: Principal, operation_id: str, ref: OrderRef) -> Row | None:
    """Everything about one order, with one statement; see `SNAPSHOT` for the columns."""
    return await _one(connection, _ORDER[ref.form], _about(principal, operation_id, ref))


async def read_received(
    connection: AsyncConnection, principal: Principal, operation_id: str, ref: OrderRef
) -> Row | None:
    """An order that was taken in and not answered yet."""
    return await _one(connection, _RECEIVED[ref.form], _about(principal, operation_id, ref))


async def read_head(
    connection: AsyncConnection, principal: Principal, operation_id: str, ref: OrderRef
) -> OrderHead | None:
    """Which order it is and where it stands."""
    row = await _one(connection, _HEAD[ref.form], _about(principal, operation_id, ref))
    if row is None:
        return None
    row.pop("created_at")
    return OrderHead(**row)


def _about(principal: Principal, operation_id: str, ref: OrderRef) -> Row:
    return {**_bound(scope_of(principal, operation_id)), "ref": ref.ref, "ref_channel": ref.channel}


# --- lists of orders ----------------------------------------------------------------------------------

_LISTED = """
SELECT * FROM (
  (SELECT o.order_id, o.order_number, o.channel, o.external_ref, o.currency, o.status, o.payment_status,
          o.fulfillment_status, o.waiting_on, o.wait_deadline, o.promised_by, o.promise_state, o.total_minor,
          o.owed_minor, o.version, o.created_at, o.updated_at
     FROM orders o
    WHERE {visible} AND {filters} AND {position} ORDER BY o.created_at {way}, o.order_id {way} LIMIT :limit)
  UNION ALL
  (SELECT o.order_id, o.order_number, o.channel, o.external_ref, o.place_order ->> 'currency', 'received',
          'pending', 'unfulfilled', 'payment', NULL, NULL, 'on_track', (o.place_order ->> 'total_minor')::bigint,
          (o.place_order ->> 'total_minor')::bigint, 0, o.created_at, o.created_at
     FROM intake o
    WHERE o.state = 'received' AND {visible} AND {received} AND {position}
    ORDER BY o.created_at {way}, o.order_id {way} LIMIT :limit)) AS both_kinds
 ORDER BY created_at {way}, order_id {way} LIMIT :limit
"""
_COMMON = """(:channel = '{}' OR o.channel = ANY(:channel))
 AND (:external_ref = '{}' OR o.external_ref = ANY(:external_ref))
 AND (CAST(:created_from AS timestamptz) IS NULL OR o.created_at >= :created_from)
 AND (CAST(:created_to AS timestamptz) IS NULL OR o.created_at < :created_to)"""
_FILTERS = (
    _COMMON
    + """ AND (:status = '{}' OR o.status = ANY(:status))
 AND (:waiting_on = '{}' OR o.waiting_on = ANY(:waiting_on))
 AND (:payment_status = '{}' OR o.payment_status = ANY(:payment_status))"""
)
_RECEIVED_FILTERS = (
    _COMMON
    + """ AND (:status = '{}' OR 'received' = ANY(:status)) AND (:waiting_on = '{}' OR 'payment' = ANY(:waiting_on))
 AND (:payment_status = '{}' OR 'pending' = ANY(:payment_status))"""
)


def _list_statement(comparison: str, way: str) -> Any:
    position = (
        "(CAST(:after_at AS timestamptz) IS NULL OR (o.created_at, o.order_id) "
        f"{comparison} (CAST(:after_at AS timestamptz), :after_id))"
    )
    statement = _LISTED.format(
        visible=_VISIBLE, filters=_FILTERS, received=_RECEIVED_FILTERS, position=position, way=way
    )
    for name in ("channel", "external_ref", "status", "waiting_on", "payment_status"):
        statement = statement.replace(f":{name} = '{{}}'", f"CAST(:{name} AS text[]) = '{{}}'")
    return text(statement)


_LIST = {True: _list_statement("<", "DESC"), False: _list_statement(">", "ASC")}


async def list_orders(
    connection: AsyncConnection,
    principal: Principal,
    wanted: OrderFilter,
    after: tuple[datetime, str] | None,
    limit: int,
) -> list[Row]:
    """Headers of orders in the wanted order, continuing behind `after`."""
    filters: Mapping[str, Any] = {
        key: list(value) if isinstance(value, tuple) else value for key, value in vars(wanted).items()
    }
    rows = await connection.execute(
        _LIST[wanted.newest_first],
        {
            **_bound(scope_of(principal, "listOrders")),
            **filters,
            "after_at": after[0] if after else None,
            "after_id": after[1] if after else None,
            "limit": limit,
        },
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
SELECT s.shipment_id, s.order_id, s.tracking, o.terminal, o.status, o.version, {LATELY}
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


async def database_revision(connection: AsyncConnection) -> str:
    """Which version of the tables this database has."""
    return str((await connection.execute(_REVISION)).scalar_one())


def expected_revision() -> str:
    """Which version of the tables this program was made for: the newest migration that it carries."""
    versions = Path(__file__).parent / "migrations" / "versions"
    return max(path.stem.partition("_")[0] for path in versions.glob("[0-9]*.py"))


async def _one(connection: AsyncConnection, statement: Any, bound: Row) -> Row | None:
    row = (await connection.execute(statement, bound)).mappings().first()
    return dict(row) if row else None
