"""The first schema: every table as the registry declares it, and what records changes of inputs.

The statements of ``0020_tables.sql`` were printed from the registry (``storage.ddl``) and read; ``0020_recording.sql``
is written by hand. Earlier numbers were never released.
"""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0020"
down_revision = None

ABOUT_ITSELF = """
COMMENT ON TABLE sigmasight.alembic_version IS 'The migration this schema is at.';
COMMENT ON COLUMN sigmasight.alembic_version.version_num IS 'Number of the newest applied migration.';
"""
"""Comments of the one table the registry does not have."""


def upgrade() -> None:
    """Create everything; comments of the registry's tables come from there (`storage.schema`)."""
    for name in ("0020_tables.sql", "0020_recording.sql"):
        op.get_bind().exec_driver_sql(Path(__file__).with_name(name).read_text(encoding="utf-8").replace("%", "%%"))
    op.get_bind().exec_driver_sql(ABOUT_ITSELF)
