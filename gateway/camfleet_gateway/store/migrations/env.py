"""Alembic's entry: the connection comes from `store.migrate`."""

from __future__ import annotations

from alembic import context

from camfleet_gateway.store.tables import Table

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Table.metadata,
    render_as_batch=connection.dialect.name == "sqlite",
)
context.run_migrations()
