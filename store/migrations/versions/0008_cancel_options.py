"""Cancelled units that are written off, or that are paid all the same."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

STATES = "'held','committed','consumed','released','expired'"

KEPT = """
ALTER TABLE order_lines ADD COLUMN kept_minor bigint NOT NULL DEFAULT 0,
  ADD CONSTRAINT kept_within_cancelled CHECK (kept_minor BETWEEN 0 AND cancelled_minor);
"""


def upgrade() -> None:
    """Add what is new; nothing that was there changes its meaning."""
    op.execute(KEPT)
    _allow(f"{STATES},'written_off'")


def downgrade() -> None:
    """Take it away again: only where nobody has used it yet."""
    op.execute("ALTER TABLE order_lines DROP COLUMN kept_minor")
    _allow(STATES)


def _allow(states: str) -> None:
    op.execute("ALTER TABLE reservations DROP CONSTRAINT reservations_state_check")
    op.execute(f"ALTER TABLE reservations ADD CONSTRAINT reservations_state_check CHECK (state IN ({states}))")
