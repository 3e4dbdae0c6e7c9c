"""The Alembic migrations: hand-written SQL, a file per step, run by ``storage.schema.upgrade``."""
