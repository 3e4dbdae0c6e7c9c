"""Tables the operations layer keeps about the pipeline itself.

What belongs here: verdicts of checks. What does not: Dagster's own event log (a database of its own).
"""

from __future__ import annotations

from sqlalchemy import Index, Table

from .columns import code, document, flag, instant, metadata, session_key

data_quality_results = Table(
    "data_quality_results",
    metadata,
    session_key(),
    code("asset", "Asset the check belongs to", primary_key=True),
    code("check_name", "Name of the check", primary_key=True),
    code("run_id", "Dagster run that made the check", primary_key=True),
    code("severity", "ERROR blocks what is downstream, WARN does not", isin=("ERROR", "WARN")),
    flag("passed", "Whether the session passed"),
    code("description", "What was found, in one sentence"),
    document("metadata", "Figures behind the verdict"),
    instant("checked_at", "When the check ran"),
    Index("data_quality_results_failed", "asset", "check_name", "session_date"),
    comment="One row per session, asset, check and run: whether the session passed.",
)
