"""From which session on the rows of a result table are kept."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"

SQL = """
CREATE TABLE sigmasight.result_retention (
    table_name text        NOT NULL,
    kept_from  date        NOT NULL,
    purged_at  timestamptz NOT NULL,
    PRIMARY KEY (table_name)
);
"""


def upgrade() -> None:
    """Create the table; comments come from the registry (`storage.schema`)."""
    op.execute(SQL)
