"""A small, lawful world in a real database, and the means to break a law of it.

Four orders: one delivered and paid, one at a node, one rejected, one cancelled and voided. Rows are written
directly, headers and timeline by the code that all changes go through.
"""

import psycopg
from sqlalchemy.ext.asyncio import AsyncEngine

from store.checks import ProviderObject
from store.orders import OrderChange, change_order

DELIVERED, AT_NODE, REJECTED, CANCELLED = "ord_DELIVERED", "ord_ATNODE", "ord_REJECTED", "ord_CANCELLED"
ORDERS = (DELIVERED, AT_NODE, REJECTED, CANCELLED)

WORLD = """
INSERT INTO channels VALUES ('web-us', 'USD');
INSERT INTO nodes VALUES ('N1', 'N1', 'US', 'CA', 1, 1, 'UTC');
INSERT INTO items VALUES ('LAMP', 'Lamp');
INSERT INTO stock_movements (sku, node_id, on_hand_delta, reason, business_key, order_id, actor) VALUES
  ('LAMP', 'N1', 10, 'opening_count', 'open', NULL, 'test'),
  ('LAMP', 'N1', -2, 'hand_over', 'ship', 'ord_DELIVERED', 'test');
INSERT INTO stock_levels (sku, node_id, on_hand, reserved) VALUES ('LAMP', 'N1', 8, 3);
INSERT INTO intake (order_id, channel, order_number, customer_ref, principal, fingerprint, place_order, state)
  SELECT id, 'web-us', id, 'cus_1', 'test', '', '{}', CASE id WHEN 'ord_REJECTED' THEN 'rejected' ELSE 'accepted' END
  FROM unnest(ARRAY['ord_DELIVERED','ord_ATNODE','ord_REJECTED','ord_CANCELLED']) id;
INSERT INTO customer_vault (order_id, customer_ref, key_version, wrapped_key, sealed)
  SELECT order_id, 'cus_1', 1, '', '' FROM intake;
INSERT INTO orders (order_id, order_number, channel, customer_ref, currency, country, region, zone_id, service_level,
    split, rules, total_minor, owed_minor, status, payment_status, fulfillment_status, waiting_on, wait_owner,
    wait_deadline, track_token, rejection, promised_by)
  SELECT order_id, order_id, 'web-us', 'cus_1', 'USD', 'US', 'CA', 'US-CA', 'standard', 'asap', '{}', o.total, o.owed,
    'received', 'pending', 'unfulfilled', 'payment', 'finance', now() + interval '1 day', order_id, o.rejection,
    DATE '2026-12-01'
  FROM (VALUES ('ord_DELIVERED', 200, 200, NULL), ('ord_ATNODE', 300, 300, NULL),
    ('ord_REJECTED', 400, 0, CAST('{"code": "out_of_stock"}' AS jsonb)), ('ord_CANCELLED', 100, 0, NULL))
    AS o(order_id, total, owed, rejection);
INSERT INTO order_lines (order_id, line_no, sku, ordered, unit_price_minor, items_minor, discount_minor, tax_minor,
    shipping_minor, shipping_tax_minor, total_minor, cancelled_minor, released, delivered, cancelled)
  SELECT id, 1, 'LAMP', n, 100, n * 100, 0, 0, 0, 0, n * 100, less, rel, del, can
  FROM (VALUES ('ord_DELIVERED', 2, 0, 0, 2, 0), ('ord_ATNODE', 3, 0, 3, 0, 0), ('ord_REJECTED', 4, 400, 0, 0, 4),
    ('ord_CANCELLED', 1, 100, 0, 0, 1)) AS l(id, n, less, rel, del, can);
INSERT INTO reservations (reservation_key, order_id, line_no, sku, node_id, qty, generation, state, expires_at) VALUES
  ('r1', 'ord_DELIVERED', 1, 'LAMP', 'N1', 2, 1, 'consumed', now()),
  ('r2', 'ord_ATNODE', 1, 'LAMP', 'N1', 3, 1, 'committed', now()),
  ('r3', 'ord_CANCELLED', 1, 'LAMP', 'N1', 1, 1, 'released', now());
INSERT INTO fulfillment_orders (fulfillment_id, order_id, node_id, generation, shipment_id, state, stage, units,
    captured, ship_by, wait_since, wait_deadline, business_key) VALUES
  ('f1', 'ord_DELIVERED', 'N1', 1, 's1', 'closed', 'delivered', 2, true, now(), now(), now(), 'f1'),
  ('f2', 'ord_ATNODE', 'N1', 1, 's2', 'submitted', 'released', 3, false, now(), now(), now() + interval '1 h', 'f2');
INSERT INTO fulfillment_lines VALUES ('f1', 'ord_DELIVERED', 1, 'LAMP', 2), ('f2', 'ord_ATNODE', 1, 'LAMP', 3);
INSERT INTO tenders (tender_id, order_id, sequence, provider, reference, state, amount_minor, authorized_minor,
    captured_minor, wait_since, wait_deadline) VALUES
  ('t1', 'ord_DELIVERED', 1, 'simulated', 'pm_ok', 'captured', 200, 200, 200, now(), now()),
  ('t2', 'ord_ATNODE', 1, 'simulated', 'pm_ok', 'authorized', 300, 300, 0, now(), now()),
  ('t4', 'ord_CANCELLED', 1, 'simulated', 'pm_ok', 'voided', 100, 100, 0, now(), now());
INSERT INTO payment_intents (business_key, order_id, tender_id, intent, seq, amount_minor, currency, provider,
    provider_ref, state) VALUES
  ('a1', 'ord_DELIVERED', 't1', 'authorize', 1, 200, 'USD', 'simulated', 'A1', 'ok'),
  ('c1', 'ord_DELIVERED', 't1', 'capture', 1, 200, 'USD', 'simulated', 'C1', 'ok'),
  ('a2', 'ord_ATNODE', 't2', 'authorize', 1, 300, 'USD', 'simulated', 'A2', 'ok'),
  ('a4', 'ord_CANCELLED', 't4', 'authorize', 1, 100, 'USD', 'simulated', 'A4', 'ok'),
  ('v4', 'ord_CANCELLED', 't4', 'void', 1, 100, 'USD', 'simulated', 'V4', 'ok');
INSERT INTO commands (order_id, command_id, kind, payload, payload_hash, actor, origin, state, outcome) VALUES
  ('ord_CANCELLED', 'cmd1', 'cancel', '{}', '', '{}', 'api', 'applied', '{}');
INSERT INTO ledger_journals (order_id, kind, business_key) VALUES
  ('ord_DELIVERED', 'invoice', 'j1'), ('ord_DELIVERED', 'capture', 'j2');
INSERT INTO ledger_entries (journal_id, order_id, account, currency, amount_minor) VALUES
  (1, 'ord_DELIVERED', 'customer', 'USD', 200), (1, 'ord_DELIVERED', 'revenue', 'USD', -200),
  (2, 'ord_DELIVERED', 'provider:t1', 'USD', 200), (2, 'ord_DELIVERED', 'customer', 'USD', -200);
"""

OBJECTS = (
    ProviderObject("a1", DELIVERED, "authorization", "A1", 200, "USD", "captured"),
    ProviderObject("c1", DELIVERED, "capture", "C1", 200, "USD", "succeeded"),
    ProviderObject("a2", AT_NODE, "authorization", "A2", 300, "USD", "open"),
    ProviderObject("a4", CANCELLED, "authorization", "A4", 100, "USD", "voided"),
    ProviderObject("v4", CANCELLED, "void", "V4", 100, "USD", "succeeded"),
)

# What keeps a database from holding a broken row; a planted break is what is left when it fails.
UNGUARDED = """
ALTER TABLE {table} DISABLE TRIGGER USER;
DO $$ DECLARE name text; BEGIN
  FOR name IN SELECT conname FROM pg_constraint
               WHERE conrelid = '{table}'::regclass AND contype IN ('c', 'f') LOOP
    EXECUTE format('ALTER TABLE {table} DROP CONSTRAINT %I', name);
  END LOOP; END $$;
"""


async def make_world(url: str, engine: AsyncEngine) -> None:
    """Write the world; afterwards every law holds."""
    _execute(url, WORLD)
    for order_id in ORDERS:
        await change_order(engine, order_id, _confirm)


def plant(url: str, break_sql: str) -> None:
    """Take the guards off the table that `break_sql` starts with changing, then break the law."""
    words = break_sql.replace("INTO ", "").replace("FROM ", "").split()
    _execute(url, UNGUARDED.format(table=words[1]) + break_sql)


def _execute(url: str, script: str) -> None:
    with psycopg.connect(url.replace("postgresql+psycopg", "postgresql"), autocommit=True) as connection:
        connection.execute(script.encode())


async def _confirm(change: OrderChange) -> None:
    change.say("fulfillment.accepted", node="N1")
