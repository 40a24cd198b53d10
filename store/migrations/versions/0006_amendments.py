"""Changes of an order in flight, and the rules that say who may change what until when."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

AMENDMENTS = """
CREATE TABLE amendments (
  amendment_id text PRIMARY KEY,
  order_id text NOT NULL REFERENCES orders,
  command_id text NOT NULL,
  state text NOT NULL CHECK (state IN ('requested','confirmed','declined')),
  live boolean NOT NULL GENERATED ALWAYS AS (state = 'requested') STORED,
  kinds text[] NOT NULL CHECK (cardinality(kinds) > 0),
  code text,
  generation int NOT NULL,
  owed_before_minor bigint NOT NULL,
  owed_after_minor bigint NOT NULL CHECK (owed_after_minor >= 0),
  actor jsonb NOT NULL,
  requested_at timestamptz NOT NULL,
  decided_at timestamptz,
  UNIQUE (order_id, command_id),
  CHECK ((state = 'requested') = (decided_at IS NULL)),
  CHECK ((state = 'declined') = (code IS NOT NULL))
);
CREATE UNIQUE INDEX amendments_one_live ON amendments (order_id) WHERE live;
ALTER TABLE order_lines ADD COLUMN extends_line int, ADD COLUMN replaces_line int;
ALTER TABLE orders ADD COLUMN requested_by date;
"""

# The address that an order gets once its change is confirmed: sealed like the vault's own rows.
ADDRESSES = """
CREATE TABLE vault_changes (
  order_id text NOT NULL,
  command_id text NOT NULL,
  key_version int NOT NULL,
  wrapped_key bytea NOT NULL,
  sealed bytea NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (order_id, command_id)
);
"""

RULES = """
INSERT INTO ruleset_versions (kind, channel, version, owner, body) VALUES ('cut_off', '*', 1, 'service', '{}')
 ON CONFLICT DO NOTHING;
"""


def upgrade() -> None:
    """Add what is new; nothing that was there changes its meaning. `{}`: the standard table of the rules."""
    for part in (AMENDMENTS, ADDRESSES, RULES):
        op.execute(part)


def downgrade() -> None:
    """Take it away again: only where nobody has used it yet. Rules are append-only: version 1 stays."""
    op.execute("DROP TABLE amendments; DROP TABLE vault_changes")
    op.execute("ALTER TABLE order_lines DROP COLUMN extends_line, DROP COLUMN replaces_line")
    op.execute("ALTER TABLE orders DROP COLUMN requested_by")
