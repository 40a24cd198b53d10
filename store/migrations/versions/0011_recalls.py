"""Whether a carrier was asked to bring a parcel back, since and until when, and what it said."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

RECALL = """
ALTER TABLE shipments ADD COLUMN recall text CHECK (recall IN ('requested','agreed','too_late','unsupported')),
  ADD COLUMN recall_since timestamptz, ADD COLUMN recall_until timestamptz,
  ADD CONSTRAINT recall_has_a_limit CHECK (recall IS NULL OR recall_until > recall_since);
"""


def upgrade() -> None:
    """Add what is new; nothing that was there changes its meaning."""
    op.execute(RECALL)


def downgrade() -> None:
    """Take it away again: only where nobody has used it yet."""
    op.execute("""
    ALTER TABLE shipments DROP CONSTRAINT recall_has_a_limit,
      DROP COLUMN recall_until, DROP COLUMN recall_since, DROP COLUMN recall
    """)
