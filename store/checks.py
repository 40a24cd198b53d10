"""Runs the conservation laws on one snapshot of the database. Read only; needs no engine.

The payment provider's listing is taken twice: before the snapshot (whatever it holds must have been wanted
by a row that we see) and inside it (whatever we see as done must be there). So orders in flight raise no
false alarm: an effect is wanted in the database before it happens at the provider.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from domain.lifecycle import FulfillmentFact, HoldFact, OrderFacts, TenderFact, derive_header
from domain.quantities import Buckets
from store.laws import CHECKS, Check

KEYS_SHOWN = 20
STATEMENT_TIMEOUT_S = 120
_PAGE = 2000


@dataclass(frozen=True)
class ProviderObject:
    """One object in the payment provider's own listing."""

    business_key: str
    order_id: str
    kind: str
    provider_ref: str
    amount_minor: int
    currency: str
    state: str


Listing = Callable[[], Awaitable[Sequence[ProviderObject]]]


@dataclass(frozen=True)
class Verdict:
    """What one check found: `count` offending keys, the first of them in `keys`."""

    law: str
    name: str
    owner: str
    says: str
    count: int
    keys: tuple[str, ...]


DIGEST = Check(
    "I15", "header_is_not_its_rows", "ops", "the header of an order follows from its rows, digest included", ""
)

_LOCAL = text("SELECT set_config('statement_timeout', :timeout, true), set_config('jit', 'off', true)")
_SNAPSHOT = text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
_TABLE = text("""
CREATE TEMPORARY TABLE IF NOT EXISTS provider_objects (business_key text, order_id text, kind text,
  provider_ref text, amount_minor bigint, currency text, state text, listed_before boolean)
""")
_EMPTY = text("DELETE FROM provider_objects")
_LOAD = text("""
INSERT INTO provider_objects SELECT x.*, :listed_before FROM unnest(CAST(:business_key AS text[]),
  CAST(:order_id AS text[]), CAST(:kind AS text[]), CAST(:provider_ref AS text[]), CAST(:amount_minor AS bigint[]),
  CAST(:currency AS text[]), CAST(:state AS text[])) AS x
""")
_TAKE_OUT = text("""
DELETE FROM provider_objects o USING unnest(CAST(:provider_ref AS text[])) AS x(provider_ref)
 WHERE o.provider_ref = x.provider_ref
RETURNING o.provider_ref
""")
_FACTS = text("""
SELECT o.order_id, o.total_minor, o.owed_minor, o.rejection IS NOT NULL AS rejected, o.status, o.payment_status,
  o.fulfillment_status, o.state_digest, q.quantities, q.credited, coalesce(t.tenders, '[]') AS tenders,
  coalesce(f.fulfillments, '[]') AS fulfillments, coalesce(h.holds, '[]') AS holds
  FROM (SELECT * FROM orders WHERE order_id > :after ORDER BY order_id LIMIT :page) o
  LEFT JOIN LATERAL (SELECT json_build_object('open', sum(open), 'reserved', sum(reserved),
     'backordered', sum(backordered), 'allocated', sum(allocated), 'released', sum(released),
     'picked', sum(picked), 'packed', sum(packed), 'shipped', sum(shipped), 'delivered', sum(delivered),
     'return_pending', sum(return_pending), 'returned', sum(returned), 'written_off', sum(written_off),
     'cancelled', sum(cancelled)) AS quantities, sum(credited) AS credited
     FROM order_lines WHERE order_id = o.order_id HAVING count(*) > 0) q ON true
  LEFT JOIN LATERAL (SELECT json_agg(json_build_object('tender_id', tender_id, 'state', state,
     'amount_minor', amount_minor, 'authorized_minor', authorized_minor, 'captured_minor', captured_minor,
     'refunded_minor', refunded_minor, 'since', wait_since, 'deadline', wait_deadline) ORDER BY sequence) AS tenders
     FROM tenders WHERE order_id = o.order_id) t ON true
  LEFT JOIN LATERAL (SELECT json_agg(json_build_object('fulfillment_id', fulfillment_id, 'node_id', node_id,
     'state', state, 'stage', stage, 'units', units, 'captured', captured, 'since', wait_since,
     'deadline', wait_deadline)) AS fulfillments
     FROM fulfillment_orders WHERE order_id = o.order_id) f ON true
  LEFT JOIN LATERAL (SELECT json_agg(json_build_object('hold_id', hold_id, 'type', type, 'blocks', blocks,
     'line_no', line_no, 'owner', owner, 'since', placed_at, 'deadline', expires_at)) AS holds
     FROM holds WHERE order_id = o.order_id AND live) h ON true
 ORDER BY o.order_id
""")
_SAMPLE = text("""
SELECT order_id, terminal, state_digest, version FROM orders
 WHERE CAST(:order_ids AS text[]) IS NULL OR order_id = ANY(CAST(:order_ids AS text[]))
 ORDER BY terminal, md5(order_id || :seed) LIMIT :limit
""")
_COUNT = text("SELECT count(*) AS orders, count(*) FILTER (WHERE NOT terminal) AS open FROM orders")


@dataclass(frozen=True)
class Checked:
    """All verdicts, and how many orders they are about."""

    verdicts: tuple[Verdict, ...]
    orders: int
    open_orders: int
    provider_objects: int | None

    @property
    def violations(self) -> int:
        """Offending keys over all checks."""
        return sum(verdict.count for verdict in self.verdicts)


async def run_checks(engine: AsyncEngine, listing: Listing | None = None, checks: Sequence[Check] = CHECKS) -> Checked:
    """Run the checks on one snapshot. Without `listing` those that need the provider are left out."""
    async with engine.connect() as connection:
        before = await listing() if listing else ()
        await _prepare(connection, before)
        await connection.execute(_SNAPSHOT)
        await connection.execute(_LOCAL, {"timeout": f"{STATEMENT_TIMEOUT_S}s"})
        counts = (await connection.execute(_COUNT)).one()  # the snapshot begins here
        listed = await _refresh(connection, await listing()) if listing else None
        verdicts = [
            await _run(connection, check) for check in checks if listing is not None or not check.needs_provider
        ]
        verdicts.append(await _check_headers(connection))
        await connection.rollback()
        await connection.invalidate()  # takes the temporary table along
    return Checked(tuple(verdicts), counts.orders, counts.open, listed)


async def sample_digests(
    engine: AsyncEngine, limit: int, seed: str = "", order_ids: Sequence[str] | None = None
) -> list[tuple[str, bool, str]]:
    """Orders to compare with their workflows, open ones first: (order, terminal, digest).

    With `order_ids` exactly these are read again.
    """
    values = {"limit": limit, "seed": seed, "order_ids": None if order_ids is None else list(order_ids)}
    async with engine.connect() as connection:
        rows = await connection.execute(_SAMPLE, values)
        return [(row.order_id, row.terminal, row.state_digest) for row in rows]


async def _prepare(connection: AsyncConnection, before: Sequence[ProviderObject]) -> None:
    """The temporary table, outside the read-only transaction that may fill but not create it."""
    await connection.execute(_TABLE)
    await connection.execute(_EMPTY)
    await _load(connection, before, listed_before=True)
    await connection.execute(text("ANALYZE provider_objects"))
    await connection.commit()


async def _refresh(connection: AsyncConnection, now: Sequence[ProviderObject]) -> int:
    """Replace what was listed before by its state of now, and add what is new. Returns how many there are."""
    replaced = await connection.execute(_TAKE_OUT, {"provider_ref": [item.provider_ref for item in now]})
    known = {row.provider_ref for row in replaced}
    await _load(connection, [item for item in now if item.provider_ref in known], listed_before=True)
    await _load(connection, [item for item in now if item.provider_ref not in known], listed_before=False)
    return len(now)


async def _load(connection: AsyncConnection, items: Iterable[ProviderObject], *, listed_before: bool) -> None:
    columns: dict[str, list[object]] = {name: [] for name in ProviderObject.__dataclass_fields__}
    for item in items:
        for name, values in columns.items():
            values.append(getattr(item, name))
    await connection.execute(_LOAD, {**columns, "listed_before": listed_before})


async def _run(connection: AsyncConnection, check: Check) -> Verdict:
    """One check: how many keys there are, and the first of them."""
    bounded = f"SELECT key, count(*) OVER () AS found FROM ({check.query}) AS q ORDER BY key LIMIT :limit"  # noqa: S608 - our own text
    rows = (await connection.execute(text(bounded), {"limit": KEYS_SHOWN})).all()
    return _verdict(check, rows[0].found if rows else 0, [str(row.key) for row in rows])


async def _check_headers(connection: AsyncConnection) -> Verdict:
    """Derive every header again from the rows, with the rules that the workflow uses."""
    after, count = "", 0
    keys: list[str] = []
    while True:
        rows = (await connection.execute(_FACTS, {"after": after, "page": _PAGE})).mappings().all()
        if not rows:
            return _verdict(DIGEST, count, keys)
        for row in rows:
            if _header_of(row) != tuple(row[name] for name in _HEADER):
                count += 1
                keys.append(row["order_id"])
        after = rows[-1]["order_id"]


_HEADER = ("status", "payment_status", "fulfillment_status", "state_digest")
_ANY_TIME = datetime(2000, 1, 1, tzinfo=UTC)  # no time is part of a digest


def _header_of(row: object) -> tuple[str, ...] | None:
    """Header that follows from the rows; None when there are no lines to derive it from."""
    values: dict[str, object] = dict(row)  # type: ignore[call-overload]
    if values["quantities"] is None:
        return None
    header = derive_header(
        OrderFacts.model_validate(
            {
                **{name: values[name] for name in ("total_minor", "owed_minor", "rejected", "credited")},
                "quantities": Buckets.model_validate(values["quantities"]),
                "tenders": tuple(TenderFact.model_validate(t) for t in values["tenders"]),  # type: ignore[attr-defined]
                "fulfillments": tuple(
                    FulfillmentFact.model_validate(f)
                    for f in values["fulfillments"]  # type: ignore[attr-defined]
                ),
                "holds": tuple(HoldFact.model_validate(h) for h in values["holds"]),  # type: ignore[attr-defined]
                "changed_at": _ANY_TIME,
            }
        )
    )
    return (header.status.value, header.payment_status, header.fulfillment_status, header.digest)


def _verdict(check: Check, count: int, keys: Sequence[str]) -> Verdict:
    return Verdict(check.law, check.name, check.owner, check.says, count, tuple(keys[:KEYS_SHOWN]))
