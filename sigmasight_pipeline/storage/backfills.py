"""Ranges that were asked for, as rows of `backfill_progress`: recording, advancing and ending them.

What belongs here: the statements, each of which leaves a state from which anybody can go on. What does not: what a
range is made of and who runs it (``operations.backfills``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from psycopg.rows import dict_row

from sigmasight_pipeline.storage.database import Database

OPEN = ("pending", "processing")
"""Statuses of a range that has not ended."""

_COLUMNS = (
    "backfill_id, request_key, requested_by, reason, scope, total_sessions, done_sessions, done_runs, status, driver, "
    "total_symbols, processed_symbols, failed_symbols, requested_at, started_at, completed_at, error_details"
)


def insert_request(
    database: Database,
    *,
    key: str,
    requested_by: str,
    reason: str,
    scope: Mapping[str, Any],
    total_sessions: int,
    loads_prices: bool,
    driver: str | None,
    now: datetime,
) -> int | None:
    """Record a range; returns its backfill_id, None where `key` was asked for before.

    `loads_prices`: its symbols are counted (all active priced instruments).
    """
    with database.connect() as connection:
        row = connection.execute(
            "INSERT INTO sigmasight.backfill_progress (request_key, requested_by, reason, scope, total_symbols, "
            "total_sessions, done_sessions, done_runs, status, driver, requested_at) VALUES (%s, %s, %s, %s, "
            "CASE WHEN %s THEN (SELECT count(*) FROM sigmasight.instruments "
            "WHERE active AND kind NOT IN ('option', 'private')) END, "
            "%s, 0, 0, 'pending', %s, %s) ON CONFLICT (request_key) DO NOTHING RETURNING backfill_id",
            (key, requested_by, reason, json.dumps(scope), loads_prices, total_sessions, driver, now),
        ).fetchone()
    return None if row is None else int(row[0])


def requests(
    database: Database,
    *,
    backfill_id: int | None = None,
    statuses: Sequence[str] = (),
    key_prefix: str = "",
    limit: int | None = None,
) -> list[dict[str, Any]]:
    """Rows by identifier, status or beginning of their key, oldest first; with `limit` the newest so many."""
    conditions, params = ["starts_with(request_key, %s)"], [key_prefix]
    if backfill_id is not None:
        conditions, params = [*conditions, "backfill_id = %s"], [*params, backfill_id]  # type: ignore[list-item]  # parameters of any type
    if statuses:
        conditions, params = [*conditions, "status = ANY(%s)"], [*params, list(statuses)]  # type: ignore[list-item]  # as above
    with database.connect() as connection, connection.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(
            f"SELECT {_COLUMNS} FROM sigmasight.backfill_progress WHERE {' AND '.join(conditions)} "
            "ORDER BY backfill_id DESC LIMIT %s",
            (*params, limit),
        ).fetchall()
    return found[::-1]


def begin(database: Database, backfill_id: int, driver: str | None, now: datetime) -> None:
    """Mark a range as being run by `driver` (None: the daemon), also one that had ended before its time."""
    with database.connect() as connection:
        connection.execute(
            "UPDATE sigmasight.backfill_progress SET status = 'processing', driver = %s, "
            "started_at = coalesce(started_at, %s), completed_at = NULL, error_details = NULL WHERE backfill_id = %s",
            (driver, now, backfill_id),
        )


def advance(database: Database, backfill_id: int, *, done_runs: int, sessions: int, last: bool, now: datetime) -> None:
    """Count one more run of `sessions` sessions as done, `last` ending the range; counting it again changes nothing."""
    with database.connect() as connection:
        connection.execute(
            "UPDATE sigmasight.backfill_progress SET done_runs = %s, done_sessions = done_sessions + %s, "
            "status = CASE WHEN %s THEN 'completed' ELSE 'processing' END, "
            "completed_at = CASE WHEN %s THEN %s END WHERE backfill_id = %s AND done_runs = %s",
            (done_runs, sessions, last, last, now, backfill_id, done_runs - 1),
        )


def count_symbols(database: Database, backfill_id: int, first: Any, last: Any) -> None:
    """Renew how many of the range's symbols have a price from `first` to `last`, and how many have none."""
    with database.connect() as connection:
        connection.execute(
            "UPDATE sigmasight.backfill_progress SET processed_symbols = least(n.priced, total_symbols), "
            "failed_symbols = greatest(total_symbols - n.priced, 0) FROM ("
            "SELECT count(DISTINCT p.symbol) AS priced FROM sigmasight.daily_prices p "
            "JOIN sigmasight.instruments i USING (symbol) WHERE i.active AND p.session_date BETWEEN %s AND %s"
            ") n WHERE backfill_id = %s AND total_symbols IS NOT NULL",
            (first, last, backfill_id),
        )


def shorten(database: Database, backfill_id: int, scope: Mapping[str, Any], error: Mapping[str, Any]) -> None:
    """Give a range that was stopped by a session the runs up to it, and keep what stopped it."""
    with database.connect() as connection:
        connection.execute(
            "UPDATE sigmasight.backfill_progress SET scope = %s, error_details = %s WHERE backfill_id = %s",
            (json.dumps(scope), json.dumps(error), backfill_id),
        )


def fail(database: Database, backfill_id: int, error: Mapping[str, Any], now: datetime) -> None:
    """End a range as failed."""
    with database.connect() as connection:
        connection.execute(
            "UPDATE sigmasight.backfill_progress SET status = 'failed', error_details = %s, completed_at = %s "
            "WHERE backfill_id = %s AND status <> 'completed'",
            (json.dumps(error), now, backfill_id),
        )
