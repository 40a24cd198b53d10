"""Exception cases that wait for an answer from outside, orders closed by force, and what finance takes upon itself so that an order can end."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

INDEXES = """
CREATE UNIQUE INDEX exceptions_one_open ON exceptions (order_id, code) WHERE open;
CREATE INDEX exceptions_queue ON exceptions (owner, due_at, exception_id) WHERE open;
CREATE INDEX exceptions_unanswered ON exceptions (due_at) WHERE open AND escalated_at IS NULL;
"""
PARKED = """
ALTER TABLE exceptions ADD COLUMN parked_until timestamptz;
ALTER TABLE exceptions ADD COLUMN parked_reason text;
ALTER TABLE exceptions ADD COLUMN parked_by jsonb;
ALTER TABLE exceptions ADD CONSTRAINT parked_has_a_date
  CHECK (state <> 'waiting' OR (parked_until < due_at AND parked_reason IS NOT NULL AND assignee IS NOT NULL) IS TRUE);
CREATE INDEX exceptions_parked ON exceptions (parked_until) WHERE state = 'waiting';
"""
UNSETTLED = """
ALTER TABLE orders ADD COLUMN unsettled_minor bigint NOT NULL DEFAULT 0;
"""
INTENTS = "'claimed','calling','unknown','ok','refused'"
OPEN = "'open','assigned','escalated'"
CHOICES = "'retry','cancel','refund','reship','dismiss'"


def upgrade() -> None:
    """Add what is new; nothing that was there changes its meaning."""
    _states(f"{OPEN},'waiting'")
    op.execute(PARKED)
    _choices(f"{CHOICES},'write_off'")
    op.execute(UNSETTLED)
    _intents(f"{INTENTS},'abandoned'")


def downgrade() -> None:
    """Take it away again: only where nobody has used it yet."""
    op.execute("ALTER TABLE exceptions DROP CONSTRAINT parked_has_a_date")
    for column in ("parked_until", "parked_reason", "parked_by"):
        op.execute(f"ALTER TABLE exceptions DROP COLUMN {column}")
    _states(OPEN)
    _choices(CHOICES)
    op.execute("ALTER TABLE orders DROP COLUMN unsettled_minor")
    _intents(INTENTS)


def _states(live: str) -> None:
    """A generated column says which states are open; what was built on it is built again."""
    op.execute("ALTER TABLE exceptions DROP COLUMN open")
    op.execute("ALTER TABLE exceptions DROP CONSTRAINT exceptions_state_check")
    op.execute(
        "ALTER TABLE exceptions ADD CONSTRAINT exceptions_state_check"
        f" CHECK (state IN ({live},'resolved','auto_closed'))"
    )
    op.execute(
        f"ALTER TABLE exceptions ADD COLUMN open boolean NOT NULL GENERATED ALWAYS AS (state IN ({live})) STORED"
    )
    op.execute(INDEXES)


def _intents(states: str) -> None:
    op.execute("ALTER TABLE payment_intents DROP CONSTRAINT payment_intents_state_check")
    op.execute(f"ALTER TABLE payment_intents ADD CONSTRAINT payment_intents_state_check CHECK (state IN ({states}))")


def _choices(choices: str) -> None:
    op.execute("ALTER TABLE exceptions DROP CONSTRAINT exceptions_resolution_check")
    op.execute(f"ALTER TABLE exceptions ADD CONSTRAINT exceptions_resolution_check CHECK (resolution IN ({choices}))")
