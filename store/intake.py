"""Intake: what a storefront sent, stored before anything else happens. Idempotency lives here.

One create is one transaction: look up what the order refers to, then write idempotency record, intake row
and vault row with one statement. Owner: commerce.
"""

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.orders import PlaceOrder
from store.vault import Sealed


@dataclass(frozen=True)
class Earlier:
    """A request that was stored before, under the same key or the same reference of the channel."""

    order_id: str
    fingerprint: bytes
    answering: bool


@dataclass(frozen=True)
class Replaced:
    """The earlier order of the channel that a new one replaces.

    `customer_known`: its customer has a reference of the channel's own; `answered`: its workflow has spoken.
    """

    customer_ref: str
    customer_known: bool
    answered: bool


@dataclass(frozen=True)
class OrderFacts:
    """What the database knows about the things that a new order names.

    `order_number` is generated when the order names none; `number_taken`: another order of the channel has the
    number that this one names.
    """

    currency: str | None
    enabled: bool
    zone_id: str | None
    unknown_skus: frozenset[str]
    customer_ref: str | None
    order_number: str | None
    number_taken: bool
    same_key: Earlier | None
    same_reference: Earlier | None
    replaced: Replaced | None = None


@dataclass(frozen=True)
class Asked:
    """Who asked under which idempotency key (None: the channel's reference is the key)."""

    principal: str
    route: str
    key: str | None
    fingerprint: bytes


@dataclass(frozen=True)
class Wishes:
    """How the customer wants to be told: a language (None: the channel's), and whether at all."""

    language: str | None = None
    notices: bool = True


USUAL = Wishes()


@dataclass(frozen=True)
class Named:
    """What a new order names and the database must know. `city_key` is the city in small letters.

    `external_hash` stands for the channel's own customer id, which is never stored in the clear.
    """

    channel: str
    external_ref: str | None
    country: str
    region: str
    city_key: str
    skus: tuple[str, ...]
    external_hash: bytes | None
    order_number: str | None
    replaces_order: str | None = None


_FACTS = text("""
SELECT c.currency, coalesce(c.enabled, false) AS enabled,
  (SELECT zone_id FROM zones WHERE country = :country AND region = :region
      AND (city_key = :city_key OR city_key IS NULL) ORDER BY city_key NULLS LAST LIMIT 1) AS zone_id,
  ARRAY(SELECT s.sku FROM unnest(CAST(:skus AS text[])) AS s(sku)
         WHERE NOT EXISTS (SELECT 1 FROM items i WHERE i.sku = s.sku AND i.enabled)) AS unknown_skus,
  (SELECT customer_ref FROM customer_refs WHERE channel = :channel
      AND external_hash = CAST(:external_hash AS bytea)) AS customer_ref,
  CASE WHEN CAST(:order_number AS text) IS NULL THEN (
    WITH RECURSIVE tried(number, attempt) AS (
      SELECT nextval('order_numbers'), 1
      UNION ALL
      SELECT nextval('order_numbers'), attempt + 1 FROM tried WHERE attempt < 1000 AND EXISTS (
        SELECT 1 FROM intake WHERE channel = :channel AND order_number = number::text AND state <> 'rejected'))
    SELECT max(number)::text FROM tried) END AS order_number,
  EXISTS (SELECT 1 FROM intake WHERE channel = :channel AND order_number = :order_number AND state <> 'rejected')
    AS number_taken,
  (SELECT json_build_object('order_id', order_id, 'fingerprint', encode(fingerprint, 'hex'),
          'answering', answering_until > now())
     FROM idempotency WHERE principal = :principal AND route = :route AND key = :key) AS same_key,
  (SELECT json_build_object('order_id', order_id, 'fingerprint', encode(fingerprint, 'hex'), 'answering', false)
     FROM intake WHERE channel = :channel AND external_ref = :external_ref AND state <> 'rejected')
     AS same_reference,
  (SELECT json_build_object('customer_ref', p.customer_ref, 'answered', p.answered, 'customer_known',
          EXISTS (SELECT 1 FROM customer_refs r WHERE r.customer_ref = p.customer_ref))
     FROM (SELECT customer_ref, true AS answered FROM orders
            WHERE order_id = CAST(:replaces_order AS text) AND channel = :channel
           UNION ALL
           SELECT customer_ref, false FROM intake
            WHERE order_id = CAST(:replaces_order AS text) AND channel = :channel AND state = 'received') p LIMIT 1)
     AS replaced
  FROM (SELECT 1) AS one LEFT JOIN channels c ON c.channel = :channel
""")

_ZONE = text("""
SELECT zone_id FROM zones WHERE country = :country AND region = :region
   AND (city_key = :city_key OR city_key IS NULL) ORDER BY city_key NULLS LAST LIMIT 1
""")

_NEW_CUSTOMER = text("""
INSERT INTO customer_refs (channel, external_hash, customer_ref) VALUES (:channel, :external_hash, :customer_ref)
ON CONFLICT (channel, external_hash) DO UPDATE SET customer_ref = customer_refs.customer_ref
RETURNING customer_ref
""")

_PUT = text("""
WITH asked AS (
  INSERT INTO idempotency (principal, route, key, fingerprint, order_id, command_id, answering_until)
  SELECT :principal, :route, :key, :fingerprint, :order_id, 'accept', now() + make_interval(secs => :answering_s)
   WHERE CAST(:key AS text) IS NOT NULL
  ON CONFLICT (principal, route, key) DO NOTHING RETURNING 1
), taken AS (
  INSERT INTO intake (order_id, channel, external_ref, order_number, customer_ref, principal, fingerprint,
                      place_order, language, notices)
  SELECT :order_id, :channel, :external_ref, :order_number, :customer_ref, :principal, :fingerprint,
         CAST(:place_order AS jsonb), :language, :notices
   WHERE CAST(:key AS text) IS NULL OR EXISTS (SELECT 1 FROM asked)
  ON CONFLICT DO NOTHING RETURNING order_id
), sealed AS (
  INSERT INTO customer_vault (order_id, customer_ref, key_version, wrapped_key, sealed)
  SELECT order_id, :customer_ref, :key_version, :wrapped_key, :sealed FROM taken RETURNING 1
)
SELECT count(*) FROM taken
""")

_PLACE_ORDER = text("SELECT place_order FROM intake WHERE order_id = :order_id")

_ANSWERED = text("""
UPDATE idempotency SET answering_until = now() WHERE principal = :principal AND route = :route AND key = :key
""")

_DUE = text("""
UPDATE intake SET next_start_at = now() + interval '30 seconds'
 WHERE order_id IN (SELECT order_id FROM intake WHERE state = 'received' AND next_start_at <= now()
                     ORDER BY next_start_at LIMIT :limit FOR UPDATE SKIP LOCKED)
RETURNING place_order
""")

_FORGET = text("""
DELETE FROM idempotency WHERE (principal, route, key) IN (
  SELECT principal, route, key FROM idempotency WHERE created_at < now() - make_interval(days => :days)
   ORDER BY created_at LIMIT :limit)
""")


async def load_order_facts(connection: AsyncConnection, asked: Asked, named: Named) -> OrderFacts:
    """Everything a new order must be checked against, with one statement."""
    who = {"principal": asked.principal, "route": asked.route, "key": asked.key}
    what = {**vars(named), "skus": list(named.skus)}
    row = (await connection.execute(_FACTS, {**who, **what})).mappings().one()
    return OrderFacts(
        currency=row["currency"],
        enabled=row["enabled"],
        zone_id=row["zone_id"],
        unknown_skus=frozenset(row["unknown_skus"]),
        customer_ref=row["customer_ref"],
        order_number=row["order_number"],
        number_taken=row["number_taken"],
        same_key=_earlier(row["same_key"]),
        same_reference=_earlier(row["same_reference"]),
        replaced=Replaced(**row["replaced"]) if row["replaced"] else None,
    )


async def new_customer_ref(connection: AsyncConnection, channel: str, external_hash: bytes, customer_ref: str) -> str:
    """Give a channel's customer this reference; the one that was given first stays."""
    result = await connection.execute(
        _NEW_CUSTOMER, {"channel": channel, "external_hash": external_hash, "customer_ref": customer_ref}
    )
    return str(result.scalar_one())


async def put_order(
    connection: AsyncConnection,
    asked: Asked,
    place: PlaceOrder,
    external_ref: str | None,
    sealed: Sealed,
    answering_s: float,
    wishes: Wishes = USUAL,
) -> bool:
    """Write idempotency record, intake and vault. False when somebody else wrote the same just now."""
    written = await connection.execute(
        _PUT,
        {
            "principal": asked.principal,
            "route": asked.route,
            "key": asked.key,
            "fingerprint": asked.fingerprint,
            "answering_s": answering_s,
            "order_id": place.order_id,
            "channel": place.channel,
            "external_ref": external_ref,
            "order_number": place.order_number,
            "customer_ref": place.customer_ref,
            "place_order": place.model_dump_json(),
            **vars(wishes),
            "key_version": sealed.key_version,
            "wrapped_key": sealed.wrapped_key,
            "sealed": sealed.sealed,
        },
    )
    return bool(written.scalar_one() == 1)


async def load_place_order(connection: AsyncConnection, order_id: str) -> PlaceOrder:
    """The order as it was taken in."""
    row = (await connection.execute(_PLACE_ORDER, {"order_id": order_id})).scalar_one()
    return _place_order(row)


async def due_orders(connection: AsyncConnection, limit: int) -> tuple[PlaceOrder, ...]:
    """Orders that were taken in and have no answer yet: to be started again. Each is due in 30 s again."""
    rows = await connection.execute(_DUE, {"limit": limit})
    return tuple(_place_order(row.place_order) for row in rows)


async def mark_answered(connection: AsyncConnection, asked: Asked) -> None:
    """The request was answered without an outcome: the next one with this key joins at once."""
    await connection.execute(_ANSWERED, {"principal": asked.principal, "route": asked.route, "key": asked.key})


async def forget_keys(connection: AsyncConnection, days: int, limit: int = 10_000) -> int:
    """Delete idempotency records older than `days`, at most `limit`; how many there were."""
    return (await connection.execute(_FORGET, {"days": days, "limit": limit})).rowcount


def _place_order(row: Any) -> PlaceOrder:
    # Validated as JSON, not as Python values: tuples and times have their wire form in the column.
    return PlaceOrder.model_validate_json(json.dumps(row))


def _earlier(row: dict[str, Any] | None) -> Earlier | None:
    return None if row is None else Earlier(row["order_id"], bytes.fromhex(row["fingerprint"]), row["answering"])


async def find_zone(connection: AsyncConnection, country: str, region: str, city_key: str) -> str | None:
    """The zone of a destination; None where nothing is delivered to."""
    values = {"country": country, "region": region, "city_key": city_key}
    return (await connection.execute(_ZONE, values)).scalar_one_or_none()
