"""What follows when a node is silent; who froze which node, why, and until when; which orders are looked at."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

RULES = """
INSERT INTO ruleset_versions (kind, channel, version, owner, body) VALUES
 ('node_silence', '*', 1, 'fulfillment', '{}'),
 ('risk', '*', 1, 'finance', '{}')
 ON CONFLICT DO NOTHING;
"""

# `nodes.frozen_from` and `frozen_until` are what sourcing reads; the log says who and why.
AUTHORS = "ALTER TABLE ruleset_versions ADD COLUMN author jsonb"
FREEZES = """
ALTER TABLE nodes ADD COLUMN freeze_no int NOT NULL DEFAULT 0,
  ADD CONSTRAINT nodes_freeze_period CHECK (frozen_until IS NULL OR frozen_until > frozen_from);
CREATE TABLE node_freezes (
  node_id text NOT NULL REFERENCES nodes,
  freeze_no int NOT NULL CHECK (freeze_no > 0),
  act text NOT NULL CHECK (act IN ('freeze','unfreeze')),
  reason text NOT NULL,
  frozen_from timestamptz,
  frozen_until timestamptz,
  actor jsonb NOT NULL,
  at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (node_id, freeze_no)
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON node_freezes FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE INDEX fulfillment_orders_not_accepted ON fulfillment_orders (node_id)
  WHERE state IN ('open','submitted') AND stage IN ('allocated','released');
"""


def upgrade() -> None:
    """Add what is new; nothing that was there changes its meaning. `{}`: the usual limits; no risk rules."""
    for part in (RULES, AUTHORS, FREEZES):
        op.execute(part)


def downgrade() -> None:
    """Take it away again: only where nobody has used it yet. Rules are append-only: version 1 stays."""
    op.execute("DROP INDEX fulfillment_orders_not_accepted; DROP TABLE node_freezes")
    op.execute("ALTER TABLE ruleset_versions DROP COLUMN author")
    op.execute("ALTER TABLE nodes DROP CONSTRAINT nodes_freeze_period, DROP COLUMN freeze_no")
