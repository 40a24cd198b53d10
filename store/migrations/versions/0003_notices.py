"""What customers are told: one row per notice, sent by the outbox."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

WISHES = """
ALTER TABLE channels ADD COLUMN language text NOT NULL DEFAULT 'en';
ALTER TABLE intake ADD COLUMN language text;
ALTER TABLE intake ADD COLUMN notices boolean NOT NULL DEFAULT true;
"""

NOTICES = """
CREATE TABLE notices (
  notice_id text PRIMARY KEY,
  order_id text NOT NULL REFERENCES orders,
  event_id text NOT NULL,
  kind text NOT NULL,
  required boolean NOT NULL,
  sales_channel text NOT NULL,
  medium text NOT NULL DEFAULT 'email' CHECK (medium IN ('email','sms','push')),
  language text NOT NULL,
  resends text REFERENCES notices,
  resend_no int NOT NULL DEFAULT 0,
  asked_by jsonb,
  state text NOT NULL CHECK (state IN ('pending','sending','sent','failed','suppressed')),
  why text,
  attempt_no int NOT NULL DEFAULT 0,
  attempt_token text,
  next_attempt_at timestamptz NOT NULL DEFAULT now(),
  first_call_at timestamptz,
  provider_ref text,
  template text,
  fell_back boolean NOT NULL DEFAULT false,
  created_at timestamptz NOT NULL DEFAULT now(),
  settled_at timestamptz,
  UNIQUE (event_id, resend_no),
  CHECK ((resends IS NULL) = (resend_no = 0) AND (resends IS NULL) = (asked_by IS NULL)),
  CHECK ((state IN ('sent','failed','suppressed')) = (settled_at IS NOT NULL))
);
CREATE INDEX notices_order ON notices (order_id, created_at, notice_id);
CREATE INDEX notices_due ON notices (next_attempt_at, notice_id) WHERE state IN ('pending','sending');
"""

# What happened before there were notices has been told by other means, or not at all: it is not told now.
BEFORE = """
INSERT INTO notices (notice_id, order_id, event_id, kind, required, sales_channel, language, state, why, settled_at,
                     created_at)
SELECT 'ntc_' || split_part(e.event_id, '_', 2), e.order_id, e.event_id,
       CASE e.type WHEN 'order.confirmed' THEN 'order_confirmed' WHEN 'payment.declined' THEN 'payment_declined'
         WHEN 'hold.placed' THEN (e.data ->> 'type') || '_question' WHEN 'promise.changed' THEN 'promise_changed'
         WHEN 'cancellation.confirmed' THEN 'units_cancelled'
         WHEN 'cancellation.declined' THEN 'cancellation_declined' WHEN 'refund.succeeded' THEN 'refunded'
         WHEN 'shipment.handed_over' THEN 'shipped' ELSE 'delivered' END,
       false, o.channel, 'en', 'suppressed', 'before_notices', now(), e.occurred_at
  FROM order_events e JOIN orders o USING (order_id)
 WHERE e.type IN ('order.confirmed','payment.declined','promise.changed','cancellation.confirmed',
                  'cancellation.declined','refund.succeeded','shipment.handed_over','shipment.delivered')
    OR e.type = 'hold.placed' AND e.data ->> 'type' IN ('address','payment');
"""

STATEMENTS: tuple[str, ...] = (WISHES, NOTICES, BEFORE)


def upgrade() -> None:
    """Add what is new."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Take it away again: what was sent is forgotten."""
    op.execute("DROP TABLE notices")
    op.execute("ALTER TABLE intake DROP COLUMN language; ALTER TABLE intake DROP COLUMN notices")
    op.execute("ALTER TABLE channels DROP COLUMN language")
