"""Alembic's entry: runs the revisions on the connection, and in the transaction, that migrate.py gives it."""

from alembic import context

from tolem.storage.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
