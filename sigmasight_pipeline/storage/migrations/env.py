"""What Alembic runs to migrate: the steps, on the connection `storage.schema.upgrade` hands over.

What belongs here: nothing but Alembic's configuration. What does not: connecting, locking, choosing the role
and writing comments (``storage.schema``), and SQL (``versions``).
"""

from __future__ import annotations

from alembic import context

from sigmasight_pipeline.storage.tables import SCHEMA

connection = context.config.attributes.get("connection")
if connection is None:
    raise RuntimeError("migrations run under a lock and as the owning role: use `sigmasight db upgrade`")

context.configure(connection=connection, version_table_schema=SCHEMA)
with context.begin_transaction():
    context.run_migrations()
