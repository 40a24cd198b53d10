"""Parcels that get lost, break or come back."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# Units that left and are not owed any more, on the line that has their price; lines that are sent again.
LINES = """
ALTER TABLE order_lines ADD COLUMN credited int NOT NULL DEFAULT 0 CHECK (credited >= 0),
  ADD COLUMN credited_minor bigint NOT NULL DEFAULT 0 CHECK (credited_minor >= 0),
  ADD COLUMN replaces_parcel text,
  ADD CONSTRAINT credited_within_value CHECK (credited_minor + cancelled_minor <= total_minor);
"""

PARCELS = """
ALTER TABLE shipments ADD COLUMN returned_at timestamptz;
ALTER TABLE fulfillment_orders ADD COLUMN remedy text CHECK (remedy IN ('refund','reship'));
"""

CASES = """
ALTER TABLE exceptions DROP CONSTRAINT exceptions_resolution_check;
ALTER TABLE exceptions ADD CONSTRAINT exceptions_resolution_check
  CHECK (resolution IN ('retry','cancel','refund','reship','dismiss'));
"""

RULES = """
INSERT INTO ruleset_versions (kind, channel, version, owner, body) VALUES
 ('carrier_trouble', '*', 1, 'fulfillment', '{}') ON CONFLICT DO NOTHING;
"""

STATEMENTS: tuple[str, ...] = (LINES, PARCELS, CASES, RULES)


def upgrade() -> None:
    """Add what is new; nothing that was there changes its meaning. `{}`: the standard rules."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Take it away again: only where nobody has used it yet. Rules are append-only: version 1 stays."""
    op.execute("ALTER TABLE order_lines DROP CONSTRAINT credited_within_value, DROP COLUMN credited,"
               " DROP COLUMN credited_minor, DROP COLUMN replaces_parcel")
    op.execute("ALTER TABLE shipments DROP COLUMN returned_at")
    op.execute("ALTER TABLE fulfillment_orders DROP COLUMN remedy")
    op.execute("ALTER TABLE exceptions DROP CONSTRAINT exceptions_resolution_check")
    op.execute("ALTER TABLE exceptions ADD CONSTRAINT exceptions_resolution_check"
               " CHECK (resolution IN ('retry','cancel','dismiss'))")
