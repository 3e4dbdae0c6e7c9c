"""Runs that ended, as rows of `batch_runs`.

What belongs here: writing and reading them. What does not: what Dagster knows of a run (``operations.runs``).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import polars as pl
import psycopg

from sigmasight_pipeline.storage import event_retention, tables
from sigmasight_pipeline.storage.connections import connection_string
from sigmasight_pipeline.storage.database import Database, explained
from sigmasight_pipeline.storage.errors import DatabaseMissingError
from sigmasight_pipeline.storage.partitions import merge_rows

OVERLAP = timedelta(minutes=5)
"""Runs that ended this long before the newest recorded one are looked at again: two may end in any order."""

A_MOMENT = timedelta(seconds=1)
"""Ends of the same run differ by less: each side rounds them its own way."""

_ENDED = f"""
SELECT run_id, CASE WHEN {event_retention.ENDED}
  THEN coalesce(to_timestamp(end_time), update_timestamp AT TIME ZONE 'UTC') END
FROM runs WHERE NOT {event_retention.ENDED} OR %(since)s::timestamptz IS NULL
OR update_timestamp > (%(since)s::timestamptz AT TIME ZONE 'UTC')
"""


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


def are_settled(database: Database, dagster_url: str) -> bool:
    """Whether every run Dagster knows has ended and is recorded as it ended; true where Dagster has no tables yet.

    Asked of its tables, because loading Dagster to learn that there is nothing to do takes seconds.
    """
    try:
        with explained(dagster_url), psycopg.connect(connection_string(dagster_url)) as connection:
            if not event_retention.is_there(connection):
                return True
            newest = newest_end(database)
            since = None if newest is None else newest - OVERLAP
            ended: dict[str, datetime | None] = dict(connection.execute(_ENDED, {"since": since}).fetchall())
    except DatabaseMissingError:
        return True
    recorded = ends(database, list(ended))
    return all(
        end is not None and run_id in recorded and abs(recorded[run_id] - end) < A_MOMENT
        for run_id, end in ended.items()
    )


def recent(database: Database, *, limit: int, statuses: tuple[str, ...] = ()) -> pl.DataFrame:
    """The runs that ended last, newest first."""
    return database.query(
        "SELECT run_id, job_name, partition_start, partition_end, trigger, status, started_at, ended_at, "
        "duration_seconds, error_message, backfill_id FROM sigmasight.batch_runs "
        "WHERE cardinality(%s::text[]) = 0 OR status = ANY(%s) ORDER BY ended_at DESC, run_id LIMIT %s",
        (list(statuses), list(statuses), limit),
    )
