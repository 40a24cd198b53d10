"""The tables of the first order: intake, orders, inventory, fulfillment, finance, rules, control."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

INTAKE = """
CREATE TABLE channels (
  channel text PRIMARY KEY,
  currency char(3) NOT NULL,
  enabled boolean NOT NULL DEFAULT true
);
CREATE SEQUENCE order_numbers START 10001;
CREATE TABLE intake (
  order_id text PRIMARY KEY,
  channel text NOT NULL,
  external_ref text,
  order_number text NOT NULL,
  customer_ref text NOT NULL,
  principal text NOT NULL,
  fingerprint bytea NOT NULL,
  place_order jsonb NOT NULL,
  state text NOT NULL DEFAULT 'received' CHECK (state IN ('received','accepted','rejected')),
  created_at timestamptz NOT NULL DEFAULT now(),
  next_start_at timestamptz NOT NULL DEFAULT now() + interval '20 seconds'
);
CREATE UNIQUE INDEX intake_external ON intake (channel, external_ref) WHERE state <> 'rejected';
CREATE UNIQUE INDEX intake_number ON intake (channel, order_number) WHERE state <> 'rejected';
CREATE INDEX intake_unanswered ON intake (next_start_at) WHERE state = 'received';
CREATE TABLE idempotency (
  principal text NOT NULL,
  route text NOT NULL,
  key text NOT NULL,
  fingerprint bytea NOT NULL,
  order_id text NOT NULL,
  command_id text NOT NULL,
  answering_until timestamptz NOT NULL DEFAULT now(),
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (principal, route, key)
);
CREATE INDEX idempotency_age ON idempotency (created_at);
CREATE TABLE customer_refs (
  channel text NOT NULL,
  external_hash bytea NOT NULL,
  customer_ref text NOT NULL UNIQUE,
  PRIMARY KEY (channel, external_hash)
);
CREATE TABLE customer_vault (
  order_id text PRIMARY KEY,
  customer_ref text NOT NULL,
  key_version int NOT NULL,
  wrapped_key bytea NOT NULL,
  sealed bytea NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE commands (
  order_id text NOT NULL,
  command_id text NOT NULL,
  kind text NOT NULL,
  payload jsonb NOT NULL,
  payload_hash bytea NOT NULL,
  actor jsonb NOT NULL,
  origin text NOT NULL CHECK (origin IN ('api','direct','system')),
  state text NOT NULL DEFAULT 'received'
    CHECK (state IN ('received','applied','refused','superseded','failed')),
  outcome jsonb,
  received_at timestamptz NOT NULL DEFAULT now(),
  next_send_at timestamptz NOT NULL DEFAULT now() + interval '30 seconds',
  settled_at timestamptz,
  delivered boolean NOT NULL DEFAULT false,
  PRIMARY KEY (order_id, command_id),
  CHECK ((state = 'received') = (outcome IS NULL))
);
CREATE INDEX commands_waiting ON commands (next_send_at) WHERE NOT delivered;
"""

ORDERS = """
CREATE TABLE orders (
  order_id text PRIMARY KEY,
  order_number text NOT NULL,
  channel text NOT NULL,
  external_ref text,
  customer_ref text NOT NULL,
  currency char(3) NOT NULL,
  country text NOT NULL,
  region text NOT NULL,
  zone_id text NOT NULL,
  service_level text NOT NULL,
  split text NOT NULL,
  rules jsonb NOT NULL,
  charges_minor bigint NOT NULL DEFAULT 0 CHECK (charges_minor >= 0),
  total_minor bigint NOT NULL CHECK (total_minor >= 0),
  owed_minor bigint NOT NULL CHECK (owed_minor >= 0),
  status text NOT NULL,
  payment_status text NOT NULL,
  fulfillment_status text NOT NULL,
  terminal boolean NOT NULL GENERATED ALWAYS AS (status IN ('completed','cancelled','rejected')) STORED,
  rejection jsonb,
  waiting_on text,
  wait_owner text,
  wait_cause text,
  wait_since timestamptz,
  wait_next_event text,
  wait_deadline timestamptz,
  promise_state text NOT NULL DEFAULT 'on_track',
  promised_by date,
  reserved_until timestamptz,
  version int NOT NULL DEFAULT 0,
  state_digest text NOT NULL DEFAULT '',
  track_token text NOT NULL UNIQUE,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (order_id, currency),
  CHECK (status IN ('completed','cancelled','rejected')
         OR (waiting_on IS NOT NULL AND wait_owner IS NOT NULL AND wait_deadline IS NOT NULL))
);
CREATE INDEX orders_created ON orders (created_at DESC, order_id DESC);
CREATE INDEX orders_number ON orders (order_number);
CREATE INDEX orders_external ON orders (channel, external_ref);
CREATE INDEX orders_open_waits ON orders (wait_deadline) WHERE NOT terminal;
CREATE TABLE order_lines (
  order_id text NOT NULL REFERENCES orders,
  line_no int NOT NULL,
  sku text NOT NULL,
  ordered int NOT NULL CHECK (ordered > 0),
  unit_price_minor bigint NOT NULL,
  items_minor bigint NOT NULL,
  discount_minor bigint NOT NULL,
  tax_minor bigint NOT NULL,
  shipping_minor bigint NOT NULL,
  shipping_tax_minor bigint NOT NULL,
  total_minor bigint NOT NULL
    CHECK (total_minor = items_minor - discount_minor + tax_minor + shipping_minor + shipping_tax_minor),
  cancelled_minor bigint NOT NULL DEFAULT 0,
  open int NOT NULL DEFAULT 0 CHECK (open >= 0),
  reserved int NOT NULL DEFAULT 0 CHECK (reserved >= 0),
  backordered int NOT NULL DEFAULT 0 CHECK (backordered >= 0),
  allocated int NOT NULL DEFAULT 0 CHECK (allocated >= 0),
  released int NOT NULL DEFAULT 0 CHECK (released >= 0),
  picked int NOT NULL DEFAULT 0 CHECK (picked >= 0),
  packed int NOT NULL DEFAULT 0 CHECK (packed >= 0),
  shipped int NOT NULL DEFAULT 0 CHECK (shipped >= 0),
  delivered int NOT NULL DEFAULT 0 CHECK (delivered >= 0),
  return_pending int NOT NULL DEFAULT 0 CHECK (return_pending >= 0),
  returned int NOT NULL DEFAULT 0 CHECK (returned >= 0),
  written_off int NOT NULL DEFAULT 0 CHECK (written_off >= 0),
  cancelled int NOT NULL DEFAULT 0 CHECK (cancelled >= 0),
  PRIMARY KEY (order_id, line_no),
  CHECK (ordered = open + reserved + backordered + allocated + released + picked + packed + shipped
         + delivered + return_pending + returned + written_off + cancelled)
);
CREATE TABLE order_events (
  order_id text NOT NULL,
  sequence int NOT NULL,
  event_id text NOT NULL UNIQUE,
  type text NOT NULL,
  occurred_at timestamptz NOT NULL DEFAULT now(),
  actor jsonb NOT NULL,
  cause text,
  command_id text,
  rulesets text[] NOT NULL DEFAULT '{}',
  text text NOT NULL,
  data jsonb NOT NULL DEFAULT '{}',
  PRIMARY KEY (order_id, sequence)
);
CREATE TABLE promises (
  order_id text NOT NULL REFERENCES orders,
  promise_no int NOT NULL,
  version int NOT NULL,
  promised_by date NOT NULL,
  promised_until timestamptz NOT NULL,
  zone_name text NOT NULL,
  cause text NOT NULL,
  notice_event text,
  live boolean NOT NULL DEFAULT true,
  steps jsonb NOT NULL DEFAULT '[]',
  ruleset text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (order_id, promise_no, version)
);
CREATE TABLE exceptions (
  exception_id text PRIMARY KEY,
  order_id text NOT NULL,
  code text NOT NULL,
  owner text NOT NULL,
  state text NOT NULL DEFAULT 'open' CHECK (state IN ('open','auto_closed','resolved')),
  open boolean NOT NULL GENERATED ALWAYS AS (state = 'open') STORED,
  detail text NOT NULL,
  due_at timestamptz NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  closed_at timestamptz
);
CREATE UNIQUE INDEX exceptions_one_open ON exceptions (order_id, code) WHERE state = 'open';
"""

INVENTORY = """
CREATE TABLE nodes (
  node_id text PRIMARY KEY,
  name text NOT NULL,
  country text NOT NULL,
  region text NOT NULL,
  latitude double precision NOT NULL,
  longitude double precision NOT NULL,
  time_zone text NOT NULL,
  enabled boolean NOT NULL DEFAULT true,
  frozen_from timestamptz,
  frozen_until timestamptz
);
CREATE TABLE node_calendars (
  node_id text PRIMARY KEY REFERENCES nodes,
  working_days int[] NOT NULL CHECK (cardinality(working_days) > 0),
  holidays date[] NOT NULL DEFAULT '{}',
  cut_off time NOT NULL,
  dispatch time NOT NULL,
  pickup time NOT NULL,
  processing_days int NOT NULL DEFAULT 0 CHECK (processing_days BETWEEN 0 AND 60)
);
CREATE TABLE zones (
  zone_id text PRIMARY KEY,
  country text NOT NULL,
  region text NOT NULL,
  city_key text,
  latitude double precision NOT NULL,
  longitude double precision NOT NULL,
  time_zone text NOT NULL
);
CREATE INDEX zones_place ON zones (country, region, city_key);
CREATE TABLE lanes (
  node_id text NOT NULL REFERENCES nodes,
  zone_id text NOT NULL REFERENCES zones,
  service_level text NOT NULL,
  transit_days int NOT NULL CHECK (transit_days BETWEEN 0 AND 60),
  PRIMARY KEY (zone_id, node_id, service_level)
);
CREATE TABLE items (
  sku text PRIMARY KEY,
  name text NOT NULL,
  enabled boolean NOT NULL DEFAULT true
);
CREATE TABLE stock_levels (
  sku text NOT NULL REFERENCES items,
  node_id text NOT NULL REFERENCES nodes,
  on_hand int NOT NULL CHECK (on_hand >= 0),
  unavailable int NOT NULL DEFAULT 0 CHECK (unavailable >= 0),
  reserved int NOT NULL DEFAULT 0,
  safety int NOT NULL DEFAULT 0 CHECK (safety >= 0),
  PRIMARY KEY (sku, node_id),
  CHECK (reserved >= 0 AND reserved <= on_hand - unavailable)
) WITH (fillfactor = 70);
CREATE TABLE stock_movements (
  movement_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  sku text NOT NULL,
  node_id text NOT NULL,
  on_hand_delta int NOT NULL,
  reason text NOT NULL,
  business_key text NOT NULL UNIQUE,
  order_id text,
  actor text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX stock_movements_level ON stock_movements (sku, node_id);
CREATE TABLE reservations (
  reservation_key text PRIMARY KEY,
  order_id text NOT NULL,
  line_no int NOT NULL,
  sku text NOT NULL,
  node_id text NOT NULL,
  qty int NOT NULL CHECK (qty > 0),
  generation int NOT NULL,
  fulfillment_id text,
  state text NOT NULL CHECK (state IN ('held','committed','consumed','released','expired')),
  expires_at timestamptz NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX reservations_order ON reservations (order_id, line_no);
CREATE INDEX reservations_live ON reservations (sku, node_id) WHERE state IN ('held','committed');
"""

FULFILLMENT = """
CREATE TABLE fulfillment_orders (
  fulfillment_id text PRIMARY KEY,
  order_id text NOT NULL REFERENCES orders,
  node_id text NOT NULL,
  generation int NOT NULL,
  shipment_id text NOT NULL UNIQUE,
  state text NOT NULL,
  stage text NOT NULL,
  units int NOT NULL CHECK (units > 0),
  value_minor bigint NOT NULL DEFAULT 0,
  captured boolean NOT NULL DEFAULT false,
  ship_by timestamptz NOT NULL,
  wait_since timestamptz NOT NULL,
  wait_deadline timestamptz NOT NULL,
  business_key text NOT NULL UNIQUE,
  claim_state text NOT NULL DEFAULT 'claimed'
    CHECK (claim_state IN ('claimed','calling','unknown','ok','refused')),
  attempt_token text,
  attempt_no int NOT NULL DEFAULT 0,
  first_call_at timestamptz,
  provider_ref text,
  refusal text,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (order_id, generation, node_id)
);
CREATE INDEX fulfillment_work ON fulfillment_orders (node_id, state, fulfillment_id);
CREATE TABLE fulfillment_lines (
  fulfillment_id text NOT NULL REFERENCES fulfillment_orders,
  order_id text NOT NULL,
  line_no int NOT NULL,
  sku text NOT NULL,
  quantity int NOT NULL CHECK (quantity > 0),
  PRIMARY KEY (fulfillment_id, line_no)
);
CREATE INDEX fulfillment_lines_order ON fulfillment_lines (order_id);
CREATE TABLE shipments (
  shipment_id text PRIMARY KEY,
  fulfillment_id text NOT NULL UNIQUE REFERENCES fulfillment_orders,
  order_id text NOT NULL,
  tracking text,
  carrier text,
  tracking_number text UNIQUE,
  label_url text,
  last_scan_at timestamptz,
  handed_over_at timestamptz,
  delivered_at timestamptz,
  business_key text NOT NULL UNIQUE,
  claim_state text NOT NULL DEFAULT 'claimed'
    CHECK (claim_state IN ('claimed','calling','unknown','ok','refused','voided')),
  attempt_token text,
  attempt_no int NOT NULL DEFAULT 0,
  first_call_at timestamptz,
  provider_ref text,
  refusal text,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX shipments_order ON shipments (order_id);
CREATE TABLE tracking_events (
  shipment_id text NOT NULL,
  event_id text NOT NULL,
  order_id text NOT NULL,
  type text NOT NULL,
  occurred_at timestamptz NOT NULL,
  applied boolean NOT NULL,
  why text,
  received_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (shipment_id, event_id)
);
"""

FINANCE = """
CREATE TABLE tenders (
  tender_id text PRIMARY KEY,
  order_id text NOT NULL REFERENCES orders,
  sequence int NOT NULL,
  provider text NOT NULL,
  reference text NOT NULL,
  state text NOT NULL,
  amount_minor bigint NOT NULL CHECK (amount_minor >= 0),
  authorized_minor bigint NOT NULL DEFAULT 0,
  captured_minor bigint NOT NULL DEFAULT 0,
  refund_pending_minor bigint NOT NULL DEFAULT 0,
  refunded_minor bigint NOT NULL DEFAULT 0,
  charged_back_minor bigint NOT NULL DEFAULT 0,
  authorization_ref text,
  capture_before timestamptz,
  decline_code text,
  wait_since timestamptz NOT NULL,
  wait_deadline timestamptz NOT NULL,
  UNIQUE (order_id, sequence),
  CHECK (captured_minor >= 0 AND captured_minor <= authorized_minor),
  CHECK (refund_pending_minor >= 0 AND refunded_minor + refund_pending_minor <= captured_minor)
);
CREATE TABLE payment_intents (
  business_key text PRIMARY KEY,
  order_id text NOT NULL,
  tender_id text NOT NULL REFERENCES tenders,
  intent text NOT NULL CHECK (intent IN ('authorize','capture','void','refund')),
  seq int NOT NULL,
  reason_ref text,
  amount_minor bigint NOT NULL CHECK (amount_minor >= 0),
  currency char(3) NOT NULL,
  provider text NOT NULL,
  provider_ref text,
  state text NOT NULL DEFAULT 'claimed' CHECK (state IN ('claimed','calling','unknown','ok','refused')),
  refusal text,
  attempt_token text,
  attempt_no int NOT NULL DEFAULT 0,
  first_call_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  settled_at timestamptz,
  UNIQUE (order_id, tender_id, intent, seq),
  UNIQUE (provider, provider_ref)
);
CREATE INDEX payment_intents_order ON payment_intents (order_id);
CREATE UNIQUE INDEX refunds_once ON payment_intents (order_id, reason_ref, tender_id) WHERE intent = 'refund';
CREATE TABLE ledger_journals (
  journal_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  order_id text NOT NULL,
  kind text NOT NULL,
  business_key text NOT NULL UNIQUE,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE ledger_entries (
  entry_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  journal_id bigint NOT NULL REFERENCES ledger_journals,
  order_id text NOT NULL,
  account text NOT NULL,
  currency char(3) NOT NULL,
  amount_minor bigint NOT NULL CHECK (amount_minor <> 0),
  FOREIGN KEY (order_id, currency) REFERENCES orders (order_id, currency)
);
CREATE INDEX ledger_entries_order ON ledger_entries (order_id);
CREATE INDEX ledger_entries_journal ON ledger_entries (journal_id);
"""

CONTROL = """
CREATE TABLE ruleset_versions (
  kind text NOT NULL,
  channel text NOT NULL DEFAULT '*',
  version int NOT NULL CHECK (version > 0),
  owner text NOT NULL,
  body jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (kind, channel, version)
);
CREATE TABLE decisions (
  decision_id text PRIMARY KEY,
  order_id text NOT NULL,
  kind text NOT NULL,
  ruleset text NOT NULL,
  input_hash text NOT NULL,
  output_hash text NOT NULL,
  record jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX decisions_order ON decisions (order_id);
CREATE TABLE api_keys (
  key_id text PRIMARY KEY,
  digest bytea NOT NULL,
  name text NOT NULL,
  roles text[] NOT NULL,
  channels text[] NOT NULL DEFAULT '{}',
  nodes text[] NOT NULL DEFAULT '{}',
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz,
  revoked_at timestamptz
);
"""

LAWS = """
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger_entries FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger_journals FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON stock_movements FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON order_events FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ruleset_versions FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON decisions FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE FUNCTION keep_promise_date() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.promised_by <> OLD.promised_by OR NEW.promised_until <> OLD.promised_until THEN
    RAISE EXCEPTION 'a promise is never rewritten, a new version is appended' USING ERRCODE = 'restrict_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER keep_date BEFORE UPDATE ON promises FOR EACH ROW EXECUTE FUNCTION keep_promise_date();

CREATE FUNCTION journal_balances() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT 1 FROM ledger_entries WHERE journal_id = NEW.journal_id
             GROUP BY currency HAVING sum(amount_minor) <> 0) THEN
    RAISE EXCEPTION 'journal % does not balance', NEW.journal_id USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER journal_balances AFTER INSERT ON ledger_entries
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION journal_balances();
"""

RULES = """
INSERT INTO ruleset_versions (kind, channel, version, owner, body) VALUES
 ('order', '*', 1, 'commerce', '{}'),
 ('sourcing', '*', 1, 'fulfillment', '{}'),
 ('promise', '*', 1, 'fulfillment',
  '{"carrier_working_days": [0, 1, 2, 3, 4], "carrier_holidays": [], "buffer_days": 0}');
"""


def upgrade() -> None:
    """Create everything. `{}` in a ruleset means: the defaults of its model."""
    for part in (INTAKE, ORDERS, INVENTORY, FULFILLMENT, FINANCE, CONTROL, LAWS, RULES):
        op.execute(part)


def downgrade() -> None:
    """There is no way back from the first version: remove the database instead."""
    raise RuntimeError("0001 is the first version; drop the database instead of downgrading")
