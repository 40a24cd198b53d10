"""Alembic environment: the connection is handed in by the caller, the SQL stands in the versions."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()
