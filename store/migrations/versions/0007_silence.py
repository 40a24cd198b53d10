"""What follows when a node is silent."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

RULES = """
INSERT INTO ruleset_versions (kind, channel, version, owner, body) VALUES
 ('node_silence', '*', 1, 'fulfillment', '{}')
 ON CONFLICT DO NOTHING;
"""


def upgrade() -> None:
    """Add what is new; nothing that was there changes its meaning."""
    op.execute(RULES)


def downgrade() -> None:
    """Rules are append-only: version 1 stays."""
