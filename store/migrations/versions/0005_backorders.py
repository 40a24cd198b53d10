"""Units that wait for supply, and holds that a risk rule places."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

BACKORDERS = """
ALTER TABLE items ADD COLUMN backorder boolean NOT NULL DEFAULT false;
ALTER TABLE orders ADD COLUMN backorder text CHECK (backorder IN ('refuse','accept')),
  ADD COLUMN priority int NOT NULL GENERATED ALWAYS AS (coalesce(CAST(rules ->> 'priority' AS int), 0)) STORED;
ALTER TABLE order_lines ADD COLUMN waits_since timestamptz, ADD COLUMN waits_until timestamptz,
  ADD CONSTRAINT waits_for_so_long CHECK (backordered = 0 OR waits_since < waits_until);
CREATE INDEX order_lines_waiting ON order_lines (sku, order_id) WHERE backordered > 0 OR open > 0;
CREATE INDEX stock_movements_received ON stock_movements (sku, created_at) WHERE reason = 'received';
"""

STATEMENTS: tuple[str, ...] = (BACKORDERS,)


def upgrade() -> None:
    """Add what is new."""
    for statement in STATEMENTS:
        op.execute(statement)
