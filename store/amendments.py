"""Changes of an order in flight: their row, the lines they add, and the address that waits for them."""

from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.orders import Actor, PlaceOrder
from store.vault import Sealed

_PUT = text("""
INSERT INTO amendments (amendment_id, order_id, command_id, state, kinds, generation, owed_before_minor,
  owed_after_minor, actor, requested_at)
VALUES (:amendment_id, :order_id, :command_id, 'requested', :kinds, :generation, :owed_before_minor,
  :owed_after_minor, CAST(:actor AS jsonb), :now)
ON CONFLICT (order_id, command_id) DO NOTHING RETURNING amendment_id
""")
_DECIDE = text("""
UPDATE amendments SET state = :state, code = :code, decided_at = :now
 WHERE order_id = :order_id AND command_id = :command_id AND live RETURNING amendment_id
""")
_DECIDED = text("""
SELECT state, code, generation FROM amendments WHERE order_id = :order_id AND command_id = :command_id
""")
_TENDER = text("""
INSERT INTO tenders (tender_id, order_id, sequence, provider, reference, state, amount_minor, wait_since, wait_deadline)
SELECT :tender_id, :order_id, :sequence, :provider, :reference, 'pending', :amount_minor, CAST(:now AS timestamptz),
  CAST(:now AS timestamptz) + make_interval(secs => :pending_s)
ON CONFLICT (tender_id) DO NOTHING
""")
_GIVE_UP_TENDER = text("UPDATE tenders SET state = 'voided' WHERE tender_id = :tender_id AND state = 'failed'")
_ORDER = text("""
UPDATE orders SET country = :country, region = :region, zone_id = :zone_id, service_level = :service_level,
  total_minor = :total_minor, owed_minor = owed_minor + :total_minor - total_minor,
  requested_by = coalesce(CAST(:requested_by AS date), requested_by)
 WHERE order_id = :order_id
""")
_NEW_PROMISE = text("""
WITH before AS (
  UPDATE promises SET live = false WHERE order_id = :order_id AND live RETURNING promise_no),
written AS (
  INSERT INTO promises (order_id, promise_no, version, promised_by, promised_until, zone_name, cause, notice_event,
                        steps, ruleset)
  SELECT :order_id, coalesce(max(promise_no), 0) + 1, 0, :promised_by, :promised_until, :zone_name, 'amendment',
         :notice_event, CAST(:steps AS jsonb), :ruleset
    FROM promises WHERE order_id = :order_id)
UPDATE orders SET promised_by = :promised_by, promise_state = 'on_track' WHERE order_id = :order_id
""")
_KEEP_ADDRESS = text("""
INSERT INTO vault_changes (order_id, command_id, key_version, wrapped_key, sealed)
VALUES (:order_id, :command_id, :key_version, :wrapped_key, :sealed)
""")
_USE_ADDRESS = text("""
WITH new AS (
  DELETE FROM vault_changes WHERE order_id = :order_id AND command_id = :command_id RETURNING *)
UPDATE customer_vault v SET key_version = new.key_version, wrapped_key = new.wrapped_key, sealed = new.sealed
  FROM new WHERE v.order_id = new.order_id RETURNING v.order_id
""")
_DROP_ADDRESS = text("DELETE FROM vault_changes WHERE order_id = :order_id AND command_id = :command_id")
_LIVE = text("""
SELECT coalesce(sum(open + reserved + backordered + allocated + released + picked + packed + shipped), 0)::int AS units
  FROM order_lines WHERE order_id = :order_id
""")


@dataclass(frozen=True)
class AmendmentRow:
    """A change as it begins."""

    amendment_id: str
    command_id: str
    kinds: tuple[str, ...]
    generation: int
    owed_before_minor: int
    owed_after_minor: int
    actor: Actor


@dataclass(frozen=True)
class Decided:
    """How a change stands. `generation` numbers the reservations that it made."""

    state: str
    code: str | None
    generation: int


@dataclass(frozen=True)
class ExtraTender:
    """A tender for what a change costs more."""

    tender_id: str
    sequence: int
    provider: str
    reference: str
    amount_minor: int


async def put(connection: AsyncConnection, order_id: str, row: AmendmentRow, now: datetime) -> bool:
    """Write that a change is under way. False: it was there."""
    values = {**row.__dict__, "kinds": list(row.kinds), "actor": row.actor.model_dump_json(exclude_none=True)}
    return (await connection.execute(_PUT, {**values, "order_id": order_id, "now": now})).first() is not None


async def decide(
    connection: AsyncConnection, order_id: str, command_id: str, state: str, code: str | None, now: datetime
) -> bool:
    """End a change. False: it has ended."""
    values = {"order_id": order_id, "command_id": command_id, "state": state, "code": code, "now": now}
    return (await connection.execute(_DECIDE, values)).first() is not None


async def decided(connection: AsyncConnection, order_id: str, command_id: str) -> Decided | None:
    """How the change stands; None where nothing was written of it."""
    row = (await connection.execute(_DECIDED, {"order_id": order_id, "command_id": command_id})).one_or_none()
    return None if row is None else Decided(row.state, row.code, row.generation)


async def add_tender(
    connection: AsyncConnection, order_id: str, tender: ExtraTender, now: datetime, pending_s: int
) -> None:
    """A tender that waits for its authorization."""
    values = {**tender.__dict__, "order_id": order_id, "now": now, "pending_s": pending_s}
    await connection.execute(_TENDER, values)


async def give_up_tender(connection: AsyncConnection, tender_id: str) -> None:
    """A declined tender of a change is not waited for."""
    await connection.execute(_GIVE_UP_TENDER, {"tender_id": tender_id})


async def change_header(connection: AsyncConnection, order: PlaceOrder, requested_by: date | None) -> None:
    """Destination, speed, total and wanted day of an order; what is owed grows with the total."""
    kept = {"order_id", "country", "region", "zone_id", "service_level", "total_minor"}
    await connection.execute(_ORDER, {**order.model_dump(include=kept), "requested_by": requested_by})


async def live_units(connection: AsyncConnection, order_id: str) -> int:
    """Units that are still to arrive."""
    return int((await connection.execute(_LIVE, {"order_id": order_id})).scalar_one())


async def promise_anew(
    connection: AsyncConnection,
    order_id: str,
    promised_by: date,
    promised_until: datetime,
    zone_name: str,
    notice_event: str,
    steps_json: str,
    ruleset: str,
) -> None:
    """The customer's own change withdraws the promise and makes a new original one."""
    await connection.execute(
        _NEW_PROMISE,
        {
            "order_id": order_id,
            "promised_by": promised_by,
            "promised_until": promised_until,
            "zone_name": zone_name,
            "notice_event": notice_event,
            "steps": steps_json,
            "ruleset": ruleset,
        },
    )


async def keep_address(connection: AsyncConnection, order_id: str, command_id: str, sealed: Sealed) -> None:
    """Store personal data that counts once the change is confirmed."""
    values = {"order_id": order_id, "command_id": command_id, **sealed._asdict()}
    await connection.execute(_KEEP_ADDRESS, values)


async def use_address(connection: AsyncConnection, order_id: str, command_id: str) -> bool:
    """The vault takes over what was stored for this change. False: nothing was."""
    rows = await connection.execute(_USE_ADDRESS, {"order_id": order_id, "command_id": command_id})
    return rows.first() is not None


async def drop_address(connection: AsyncConnection, order_id: str, command_id: str) -> None:
    """Forget what was stored for a change that did not happen."""
    await connection.execute(_DROP_ADDRESS, {"order_id": order_id, "command_id": command_id})
