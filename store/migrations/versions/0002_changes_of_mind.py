"""Holds, notes, and cases that people work on: what an order needs once people change their minds."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

HOLDS = """
CREATE TABLE holds (
  hold_id text PRIMARY KEY,
  order_id text NOT NULL REFERENCES orders,
  type text NOT NULL CHECK (type IN ('fraud','address','payment','credit','manual','quality')),
  state text NOT NULL DEFAULT 'placed' CHECK (state IN ('placed','released','rejected','expired')),
  live boolean NOT NULL GENERATED ALWAYS AS (state = 'placed') STORED,
  blocks text[] NOT NULL CHECK (cardinality(blocks) > 0 AND blocks <@ ARRAY['schedule','release','ship','refund']),
  line_no int,
  owner text NOT NULL,
  reason text NOT NULL,
  at_limit text NOT NULL CHECK (at_limit IN ('release','reject','escalate')),
  placed_by jsonb NOT NULL,
  placed_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL CHECK (expires_at > placed_at),
  ended_by jsonb,
  ended_at timestamptz,
  CHECK ((state = 'placed') = (ended_at IS NULL))
);
CREATE INDEX holds_order ON holds (order_id);
"""

NOTES = """
CREATE TABLE notes (
  note_id text PRIMARY KEY,
  order_id text NOT NULL,
  author jsonb NOT NULL,
  key_version int NOT NULL,
  wrapped_key bytea NOT NULL,
  sealed bytea NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX notes_order ON notes (order_id, note_id);
CREATE TRIGGER append_only BEFORE UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION refuse_change();
"""

CASES = """
DROP INDEX exceptions_one_open;
ALTER TABLE exceptions DROP CONSTRAINT exceptions_state_check;
ALTER TABLE exceptions DROP COLUMN open;
ALTER TABLE exceptions ADD CONSTRAINT exceptions_state_check
  CHECK (state IN ('open','assigned','escalated','resolved','auto_closed'));
ALTER TABLE exceptions ADD COLUMN open boolean NOT NULL
  GENERATED ALWAYS AS (state IN ('open','assigned','escalated')) STORED;
ALTER TABLE exceptions ADD COLUMN assignee text;
ALTER TABLE exceptions ADD COLUMN assigned_by jsonb;
ALTER TABLE exceptions ADD COLUMN escalated_at timestamptz;
ALTER TABLE exceptions ADD COLUMN resolution text CHECK (resolution IN ('retry','cancel','dismiss'));
ALTER TABLE exceptions ADD COLUMN resolved_by jsonb;
ALTER TABLE exceptions ADD COLUMN command_id text;
ALTER TABLE exceptions ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now();
CREATE UNIQUE INDEX exceptions_one_open ON exceptions (order_id, code) WHERE open;
CREATE INDEX exceptions_queue ON exceptions (owner, due_at, exception_id) WHERE open;
CREATE INDEX exceptions_due ON exceptions (due_at, exception_id);
CREATE INDEX exceptions_unanswered ON exceptions (due_at) WHERE open AND escalated_at IS NULL;
"""


def upgrade() -> None:
    """Add what is new; nothing that was there changes its meaning."""
    for part in (HOLDS, NOTES, CASES):
        op.execute(part)


def downgrade() -> None:
    """Take it away again: only where nobody has used it yet."""
    op.execute("DROP TABLE holds; DROP TABLE notes")
    op.execute("DROP INDEX exceptions_one_open; DROP INDEX exceptions_queue; DROP INDEX exceptions_due")
    op.execute("DROP INDEX exceptions_unanswered")
    op.execute("ALTER TABLE exceptions DROP COLUMN open")
    added = ("assignee", "assigned_by", "escalated_at", "resolution", "resolved_by", "command_id", "updated_at")
    for column in added:
        op.execute(f"ALTER TABLE exceptions DROP COLUMN {column}")
    op.execute("ALTER TABLE exceptions DROP CONSTRAINT exceptions_state_check")
    op.execute(
        "ALTER TABLE exceptions ADD CONSTRAINT exceptions_state_check"
        " CHECK (state IN ('open','auto_closed','resolved'))"
    )
    op.execute("ALTER TABLE exceptions ADD COLUMN open boolean NOT NULL GENERATED ALWAYS AS (state = 'open') STORED")
    op.execute("CREATE UNIQUE INDEX exceptions_one_open ON exceptions (order_id, code) WHERE state = 'open'")
