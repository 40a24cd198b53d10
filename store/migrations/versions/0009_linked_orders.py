"""Which earlier order an order replaces."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

LINK = """
ALTER TABLE orders ADD COLUMN replaces_order text REFERENCES orders,
  ADD CONSTRAINT replaces_another CHECK (replaces_order <> order_id);
CREATE INDEX orders_replacing ON orders (replaces_order) WHERE replaces_order IS NOT NULL;
"""


def upgrade() -> None:
    """Add what is new; nothing that was there changes its meaning."""
    op.execute(LINK)


def downgrade() -> None:
    """Take it away again: only where nobody has used it yet."""
    op.execute("ALTER TABLE orders DROP COLUMN replaces_order")
