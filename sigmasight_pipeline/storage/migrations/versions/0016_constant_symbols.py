"""Symbols whose returns do not vary are counted, and no part of a portfolio's correlations."""

from __future__ import annotations

from alembic import op

revision = "0016"
down_revision = "0015"

SQL = """
ALTER TABLE sigmasight.correlation_calculations
    ADD COLUMN positions_constant integer NOT NULL DEFAULT 0 CHECK (positions_constant >= 0),
    DROP CONSTRAINT correlation_calculations_status_check,
    ADD CONSTRAINT correlation_calculations_status_check
        CHECK (status IN ('ok', 'no_positions', 'no_variance', 'single_position', 'no_pairs'));
ALTER TABLE sigmasight.correlation_calculations ALTER COLUMN positions_constant DROP DEFAULT;
"""


def upgrade() -> None:
    """Create what this revision adds."""
    op.execute(SQL)
