"""The outbox of notices to customers: one row per notice, written with the event that it tells of. Owner: service.

A row holds no personal data: name and address stay in the vault until the moment of sending.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.ids import derived_id
from domain.notices import DEFAULT_LANGUAGE, NOTICE_FAILING, NoticeState, notice_for, notice_id_of
from domain.orders import Actor
from store.reads import OrderHead

Row = dict[str, Any]

LINES_TOLD = 20
"""A notice names so many lines of the order at most, and how many more there are."""

_PUT = text("""
INSERT INTO notices (notice_id, order_id, event_id, kind, required, sales_channel, language, state, why, settled_at)
SELECT n.notice_id, :order_id, n.event_id, n.kind, n.required, :channel,
       coalesce(i.language, c.language, :default_language),
       CASE WHEN w.wanted THEN 'pending' ELSE 'suppressed' END,
       CASE WHEN NOT w.wanted THEN 'opted_out' END, CASE WHEN NOT w.wanted THEN now() END
  FROM jsonb_to_recordset(CAST(:notices AS jsonb)) AS n(notice_id text, event_id text, kind text, required boolean)
  LEFT JOIN intake i ON i.order_id = :order_id
  LEFT JOIN channels c ON c.channel = :channel
  CROSS JOIN LATERAL (SELECT n.required OR coalesce(i.notices, true) AS wanted) w
""")


async def put_notices(
    connection: AsyncConnection, order_id: str, channel: str, events: Sequence[Row], *, nothing_left: bool
) -> None:
    """Write the notices that these events of an order ask for; most events ask for none."""
    notices = []
    for event in events:
        actor = Actor.model_validate(event["actor"])
        told = notice_for(event["type"], event["data"], actor, nothing_left=nothing_left)
        if told is not None:
            ids = {"notice_id": notice_id_of(event["event_id"]), "event_id": event["event_id"]}
            notices.append({**ids, **told._asdict()})
    if notices:
        values = {"order_id": order_id, "channel": channel, "default_language": DEFAULT_LANGUAGE}
        await connection.execute(_PUT, {**values, "notices": json.dumps(notices)})


# --- delivery -----------------------------------------------------------------------------------------

_ANY_DUE = text("""
SELECT 1 FROM notices WHERE state IN ('pending','sending') AND next_attempt_at <= clock_timestamp() LIMIT 1
""")
_CLAIM = text("""
UPDATE notices SET state = 'sending', attempt_token = :token, attempt_no = attempt_no + 1,
       first_call_at = coalesce(first_call_at, clock_timestamp()),
       next_attempt_at = clock_timestamp() + make_interval(secs => :lease_s)
 WHERE notice_id IN (SELECT notice_id FROM notices
                      WHERE state IN ('pending','sending') AND next_attempt_at <= clock_timestamp()
                      ORDER BY next_attempt_at, notice_id LIMIT :limit FOR UPDATE SKIP LOCKED)
RETURNING notice_id, order_id, kind, medium, language, sales_channel, attempt_no
""")
_SETTLE = text("""
UPDATE notices SET state = :state, why = :why, provider_ref = :provider_ref, settled_at = clock_timestamp(),
       template = coalesce(:template, template), fell_back = coalesce(:fell_back, fell_back), attempt_token = NULL
 WHERE notice_id = :notice_id AND attempt_token = :token
RETURNING resends
""")
_AGAIN = text("""
UPDATE notices SET state = 'pending', why = :why, attempt_token = NULL,
       next_attempt_at = clock_timestamp() + make_interval(secs => :pause_s)
 WHERE notice_id = :notice_id AND attempt_token = :token
""")
_HEALED = text("""
UPDATE exceptions e SET state = 'auto_closed', closed_at = now(), updated_at = now()
 WHERE e.order_id = :order_id AND e.code = :code AND e.open AND NOT EXISTS (
   SELECT 1 FROM notices n WHERE n.order_id = e.order_id AND n.resends IS NULL AND n.state = 'failed' AND NOT EXISTS (
     SELECT 1 FROM notices r WHERE r.resends = n.notice_id AND r.state = 'sent'))
""")


@dataclass(frozen=True)
class ClaimedNotice:
    """A notice that this attempt may send, until its lease is over."""

    notice_id: str
    order_id: str
    kind: str
    medium: str
    language: str
    sales_channel: str
    attempt_no: int


@dataclass(frozen=True)
class Settlement:
    """How a notice ended. `template` is the one that was used; `fell_back`: it was not the wanted one."""

    state: NoticeState
    why: str | None = None
    provider_ref: str | None = None
    template: str | None = None
    fell_back: bool | None = None


async def any_due(connection: AsyncConnection) -> bool:
    """Whether a notice is due. Only reads, and an index answers it."""
    return (await connection.execute(_ANY_DUE)).first() is not None


async def claim_due(connection: AsyncConnection, token: str, limit: int, lease: timedelta) -> list[ClaimedNotice]:
    """Take at most `limit` due notices. Whoever dies with them loses them when the lease is over."""
    values = {"token": token, "limit": limit, "lease_s": lease.total_seconds()}
    return [ClaimedNotice(**row) for row in (await connection.execute(_CLAIM, values)).mappings()]


async def settle_notice(connection: AsyncConnection, notice: ClaimedNotice, token: str, end: Settlement) -> bool:
    """Write how a notice ended. False, and nothing is written: a newer attempt has it.

    A notice that was sent again closes the case that its failure had opened, once no other failure is left.
    """
    values = {"notice_id": notice.notice_id, "token": token, **vars(end)}
    row = (await connection.execute(_SETTLE, values)).one_or_none()
    if row is not None and row.resends is not None and end.state is NoticeState.SENT:
        await connection.execute(_HEALED, {"order_id": notice.order_id, "code": NOTICE_FAILING})
    return row is not None


async def try_again(connection: AsyncConnection, notice: ClaimedNotice, token: str, why: str, pause: timedelta) -> None:
    """The attempt failed; the next one is due after the pause. Nothing is written when a newer attempt has it."""
    values = {"notice_id": notice.notice_id, "token": token, "why": why, "pause_s": pause.total_seconds()}
    await connection.execute(_AGAIN, values)


# --- what a notice says -------------------------------------------------------------------------------

_CONTENT = text("""
SELECT o.order_number, o.currency, o.total_minor, o.promised_by, o.customer_ref, e.data, e.occurred_at,
  coalesce((SELECT zone_name FROM promises p WHERE p.order_id = o.order_id
             ORDER BY promise_no DESC, version DESC LIMIT 1), 'UTC') AS zone_name,
  (SELECT row_to_json(s) FROM (SELECT carrier, tracking_number FROM shipments
     WHERE order_id = o.order_id AND shipment_id = e.data ->> 'shipment_id') s) AS parcel,
  (SELECT count(*) FROM order_lines l WHERE l.order_id = o.order_id) AS line_count,
  (SELECT coalesce(json_agg(json_build_object('name', coalesce(i.name, l.sku), 'quantity', l.ordered,
       'total_minor', l.total_minor) ORDER BY l.line_no), '[]')
     FROM (SELECT * FROM order_lines WHERE order_id = o.order_id ORDER BY line_no LIMIT :lines) l
     LEFT JOIN items i USING (sku)) AS lines
  FROM notices n JOIN orders o USING (order_id) JOIN order_events e ON e.event_id = n.event_id
 WHERE n.notice_id = :notice_id
""")


@dataclass(frozen=True)
class NoticeContent:
    """What a notice is made of, without the customer: the order as it is now and the event as it was."""

    order_number: str
    currency: str
    total_minor: int
    promised_by: date | None
    customer_ref: str
    data: Row
    occurred_at: datetime
    zone_name: str
    parcel: Row | None
    line_count: int
    lines: list[Row]


async def read_content(connection: AsyncConnection, notice_id: str) -> NoticeContent:
    """What a notice is made of."""
    values = {"notice_id": notice_id, "lines": LINES_TOLD}
    return NoticeContent(**(await connection.execute(_CONTENT, values)).mappings().one())


# --- for people ---------------------------------------------------------------------------------------

_COLUMNS = """
SELECT n.notice_id, n.order_id, n.event_id, e.type AS event_type, n.kind, n.required, n.medium, n.language, n.state,
       n.why, n.attempt_no, n.next_attempt_at, n.template, n.fell_back, n.resends, n.asked_by, n.created_at,
       n.settled_at
  FROM notices n JOIN order_events e USING (event_id)
"""
_LIST = text(f"""{_COLUMNS} WHERE n.order_id = :order_id
   AND (n.created_at, n.notice_id) > (CAST(:after_at AS timestamptz), :after_id)
 ORDER BY n.created_at, n.notice_id LIMIT :limit""")
_ONE = text(f"{_COLUMNS} WHERE n.order_id = :order_id AND n.notice_id = :notice_id")
_LOCK_ORIGINAL = text("""
SELECT notice_id FROM notices WHERE notice_id = (
  SELECT coalesce(resends, notice_id) FROM notices WHERE order_id = :order_id AND notice_id = :notice_id) FOR UPDATE
""")
_STANDING = text("""
SELECT n.event_id, n.state, n.why,
  (SELECT count(*) FROM notices r WHERE r.resends = n.notice_id) AS resends,
  EXISTS (SELECT 1 FROM notices r WHERE r.resends = n.notice_id AND r.state IN ('pending','sending')) AS under_way
  FROM notices n WHERE n.notice_id = :original
""")
_RESEND = text("""
INSERT INTO notices (notice_id, order_id, event_id, kind, required, sales_channel, medium, language, resends, resend_no,
                     asked_by, state)
SELECT :notice_id, order_id, event_id, kind, required, sales_channel, medium, language, notice_id, :resend_no,
       CAST(:asked_by AS jsonb), 'pending'
  FROM notices WHERE notice_id = :original
""")


@dataclass(frozen=True)
class Standing:
    """Where an original notice stands, locked: what decides whether it may be sent again."""

    order_id: str
    original: str
    event_id: str
    state: NoticeState
    why: str | None
    resends: int
    under_way: bool

    @property
    def next_id(self) -> str:
        """The id of the next row that sends this notice again."""
        return derived_id("ntc", self.order_id, self.event_id, self.resends + 1)


async def list_notices(
    connection: AsyncConnection, head: OrderHead, after: Sequence[str] | None, limit: int
) -> list[Row]:
    """Notices of an order the caller was shown to have access to, oldest first, behind `after`: its time and id."""
    after_at, after_id = after or ("-infinity", "")
    values = {"order_id": head.order_id, "after_at": after_at, "after_id": after_id, "limit": limit}
    rows = await connection.execute(_LIST, values)
    return [dict(row) for row in rows.mappings()]


async def find_notice(connection: AsyncConnection, head: OrderHead, notice_id: str) -> Row | None:
    """One notice of an order the caller was shown to have access to."""
    rows = await connection.execute(_ONE, {"order_id": head.order_id, "notice_id": notice_id})
    row = rows.mappings().one_or_none()
    return dict(row) if row else None


async def lock_original(connection: AsyncConnection, head: OrderHead, notice_id: str) -> Standing | None:
    """The original of a notice, or of one that was sent again; locked, so that two askers queue here."""
    named = {"order_id": head.order_id, "notice_id": notice_id}
    original = (await connection.execute(_LOCK_ORIGINAL, named)).scalar_one_or_none()
    if original is None:
        return None
    row = (await connection.execute(_STANDING, {"original": original})).mappings().one()
    return Standing(order_id=head.order_id, original=original, **{**row, "state": NoticeState(row["state"])})


async def put_resend(connection: AsyncConnection, standing: Standing, asked_by: Actor) -> None:
    """A new row that sends a locked notice again; the original stays as it is."""
    await connection.execute(
        _RESEND,
        {
            "notice_id": standing.next_id,
            "original": standing.original,
            "resend_no": standing.resends + 1,
            "asked_by": asked_by.model_dump_json(exclude_none=True),
        },
    )
