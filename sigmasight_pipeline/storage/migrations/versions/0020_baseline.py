"""The first schema: every table as the registry declares it, and what records changes of inputs.

The statements of ``0020_tables.sql`` were printed from the registry (``storage.ddl``) and read; ``0020_recording.sql``
is written by hand. Earlier numbers were never released.
"""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0020"
down_revision = None


def upgrade() -> None:
    """Create everything; comments come from the registry (`storage.schema`)."""
    for name in ("0020_tables.sql", "0020_recording.sql"):
        op.get_bind().exec_driver_sql(Path(__file__).with_name(name).read_text(encoding="utf-8").replace("%", "%%"))
