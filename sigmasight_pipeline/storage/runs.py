"""Runs that ended, as rows of `batch_runs`.

What belongs here: writing and reading them. What does not: what Dagster knows of a run (``operations.runs``).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.partitions import merge_rows


def record(database: Database, frame: pl.DataFrame) -> int:
    """Store runs (the columns of batch_runs); returns how many were new. A run recorded before is renewed."""
    if frame.is_empty():
        return 0
    with database.connect() as connection:
        return merge_rows(
            connection, tables.batch_runs, frame, key=("run_id",), scope=None, delete_missing=False
        ).inserted


def ends(database: Database, run_ids: Sequence[str]) -> dict[str, datetime]:
    """When each of `run_ids` that is recorded ended."""
    found = database.query(
        "SELECT run_id, ended_at FROM sigmasight.batch_runs WHERE run_id = ANY(%s)", (list(run_ids),)
    )
    return dict(found.iter_rows())


def newest_end(database: Database) -> datetime | None:
    """When the run that ended last did."""
    newest = database.query("SELECT max(ended_at) AS newest FROM sigmasight.batch_runs")["newest"][0]
    return newest if isinstance(newest, datetime) else None


def recent(database: Database, *, limit: int, statuses: tuple[str, ...] = ()) -> pl.DataFrame:
    """The runs that ended last, newest first."""
    return database.query(
        "SELECT run_id, job_name, partition_start, partition_end, trigger, status, started_at, ended_at, "
        "duration_seconds, error_message, backfill_id FROM sigmasight.batch_runs "
        "WHERE cardinality(%s::text[]) = 0 OR status = ANY(%s) ORDER BY ended_at DESC, run_id LIMIT %s",
        (list(statuses), list(statuses), limit),
    )
