"""Messages to people, as rows of `alert_outbox`, and the failures of the other tables nobody was told of yet.

What belongs here: the statements that read a failure, store a message once per channel, and settle what became of it.
What does not: what a message says (``operations.alerts``) and how it is sent (``operations.delivery``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl
from psycopg.rows import class_row, dict_row

from sigmasight_pipeline.storage.database import Database

SENDER_LOCK = 20_241_126
"""Advisory lock of whoever sends: two at once would tell everything twice."""

_UNTOLD = "NOT EXISTS (SELECT FROM sigmasight.alert_outbox o WHERE o.alert_key = {key})"

_RUN_KEY = "'run:' || run_id"
_FILE_KEY = "'inbox:' || file_id"
# a range that is gone on with may fail again
_BACKFILL_KEY = "'backfill:' || backfill_id || ':' || extract(epoch FROM completed_at)"


@dataclass(frozen=True)
class Message:
    """One message: `alert_key` says what it is about, `topic` what it has in common with others of its kind."""

    alert_key: str
    topic: str
    subject: str
    body: str


@dataclass(frozen=True)
class Waiting:
    """A message that waits for delivery through one channel."""

    alert_id: int
    channel: str
    topic: str
    subject: str
    body: str
    attempts: int
    next_attempt_at: datetime


def add(database: Database, messages: Sequence[Message], channels: Sequence[str], now: datetime) -> int:
    """Store messages, one row per channel; returns how many messages were not stored before."""
    with database.connect() as connection:
        keys = {
            row[0]
            for message in messages
            for channel in channels
            for row in connection.execute(
                "INSERT INTO sigmasight.alert_outbox (alert_key, channel, topic, subject, body, status, attempts, "
                "created_at, next_attempt_at) VALUES (%s, %s, %s, %s, %s, 'pending', 0, %s, %s) "
                "ON CONFLICT (alert_key, channel) DO NOTHING RETURNING alert_key",
                (message.alert_key, channel, message.topic, message.subject, message.body, now, now),
            )
        }
    return len(keys)


@contextmanager
def only_sender(database: Database) -> Iterator[bool]:
    """Whether this is the only process that sends: True keeps others from it until the block ends."""
    with database.connect() as connection:
        row = connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (SENDER_LOCK,)).fetchone()
        yield row is not None and bool(row[0])


def waiting(database: Database) -> list[Waiting]:
    """Every message that was not delivered yet, oldest first."""
    with database.connect() as connection, connection.cursor(row_factory=class_row(Waiting)) as cursor:
        return cursor.execute(
            "SELECT alert_id, channel, topic, subject, body, attempts, next_attempt_at "
            "FROM sigmasight.alert_outbox WHERE status = 'pending' ORDER BY alert_id"
        ).fetchall()


def last_sent(database: Database) -> dict[tuple[str, str], datetime]:
    """When each channel last delivered a message of each topic."""
    with database.connect() as connection:
        found = connection.execute(
            "SELECT channel, topic, max(sent_at) FROM sigmasight.alert_outbox WHERE sent_at IS NOT NULL GROUP BY 1, 2"
        ).fetchall()
    return {(channel, topic): moment for channel, topic, moment in found}


def mark_delivered(
    database: Database, told: Sequence[int], counted: Sequence[int], remark: str | None, now: datetime
) -> None:
    """Settle what one delivered message stood for: rows it told are sent, rows it only `counted` suppressed."""
    with database.connect() as connection:
        connection.execute(
            "UPDATE sigmasight.alert_outbox SET attempts = attempts + 1, last_error = %s, sent_at = %s, "
            "status = CASE WHEN alert_id = ANY(%s) THEN 'sent' ELSE 'suppressed' END WHERE alert_id = ANY(%s)",
            (remark, now, list(told), [*told, *counted]),
        )


def mark_failed(database: Database, next_attempts: Mapping[int, datetime], error: str) -> None:
    """Keep messages whose delivery failed, each with the moment it is tried again."""
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.executemany(
            "UPDATE sigmasight.alert_outbox SET attempts = attempts + 1, last_error = %s, next_attempt_at = %s "
            "WHERE alert_id = %s",
            [(error, moment, alert_id) for alert_id, moment in next_attempts.items()],
        )


def listing(database: Database, limit: int) -> pl.DataFrame:
    """The outbox: messages that wait first, the newest first among them and among the others."""
    return database.query(
        "SELECT alert_id, alert_key, channel, topic, subject, body, status, attempts, last_error, created_at, "
        "next_attempt_at, sent_at FROM sigmasight.alert_outbox "
        "ORDER BY status <> 'pending', alert_id DESC LIMIT %s",
        (limit,),
    )


def failed_checks(database: Database, since: datetime) -> list[dict[str, Any]]:
    """Failed ERROR checks since then of runs nobody was told of: one row per run and check, with its first finding."""
    return _rows(
        database,
        "SELECT run_id, asset, check_name, count(*) AS sessions, min(session_date) AS first_session, "
        "max(session_date) AS last_session, (array_agg(description ORDER BY session_date))[1] AS description, "
        "max(checked_at) AS checked_at FROM sigmasight.data_quality_results "
        f"WHERE checked_at >= %s AND severity = 'ERROR' AND NOT passed AND {_UNTOLD.format(key=_RUN_KEY)} "
        "GROUP BY 1, 2, 3 ORDER BY 1, min(checked_at), 2, 3",
        (since,),
    )


def ended_runs(database: Database, since: datetime, run_ids: Sequence[str]) -> list[dict[str, Any]]:
    """Runs that failed since then and nobody was told of, and any of `run_ids` that ended, oldest first."""
    return _rows(
        database,
        f"SELECT {_RUN_KEY} AS alert_key, run_id, job_name, partition_start, partition_end, trigger, status, ended_at, "
        "duration_seconds, error_message, backfill_id FROM sigmasight.batch_runs "
        f"WHERE (status = 'failure' AND ended_at >= %s AND {_UNTOLD.format(key=_RUN_KEY)}) OR run_id = ANY(%s) "
        "ORDER BY ended_at, run_id",
        (since, list(run_ids)),
    )


def rejected_files(database: Database, since: datetime) -> list[dict[str, Any]]:
    """Files the inbox rejected since then and nobody was told of, oldest first."""
    return _rows(
        database,
        f"SELECT {_FILE_KEY} AS alert_key, file_name, portfolio_code, errors, moved_to, received_at "
        "FROM sigmasight.inbox_files "
        f"WHERE status = 'rejected' AND received_at >= %s AND {_UNTOLD.format(key=_FILE_KEY)} ORDER BY file_id",
        (since,),
    )


def failed_backfills(
    database: Database, since: datetime, until: datetime, longest_run_seconds: int
) -> list[dict[str, Any]]:
    """Ranges given up from `since` to `until` for another reason than a run that ended badly, oldest first.

    Such a run says by itself what happened; it ended at most one run's length before the range did.
    """
    return _rows(
        database,
        f"SELECT {_BACKFILL_KEY} AS alert_key, backfill_id, requested_by, reason, scope, total_sessions, "
        "done_sessions, error_details, completed_at FROM sigmasight.backfill_progress b "
        f"WHERE status = 'failed' AND completed_at BETWEEN %s AND %s AND {_UNTOLD.format(key=_BACKFILL_KEY)} "
        "AND NOT EXISTS (SELECT FROM sigmasight.batch_runs r WHERE r.backfill_id = b.backfill_id "
        "AND r.status <> 'success' AND r.ended_at >= b.completed_at - make_interval(secs => %s)) "
        "ORDER BY backfill_id",
        (since, until, longest_run_seconds),
    )


def _rows(database: Database, statement: str, params: Sequence[object]) -> list[dict[str, Any]]:
    with database.connect() as connection, connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement, params).fetchall()
