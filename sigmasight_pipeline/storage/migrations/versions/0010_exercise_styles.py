"""Exercise style and dividend yield: stated of an instrument, and what each option was modelled with."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0008"

STATEMENTS = """
ALTER TABLE sigmasight.instruments
    ADD COLUMN exercise_style text             CHECK (exercise_style IN ('american', 'european')),
    ADD COLUMN dividend_yield double precision CHECK (dividend_yield >= -0.05 AND dividend_yield <= 0.5);

ALTER TABLE sigmasight.position_greeks
    ADD COLUMN dividend_yield double precision,
    ADD COLUMN exercise_style text CHECK (exercise_style IN ('american', 'european'));
"""


def upgrade() -> None:
    """Add the columns, NULL in rows that are there."""
    op.execute(STATEMENTS)
