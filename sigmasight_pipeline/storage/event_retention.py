"""Old rows of Dagster's own tables: which may go, counting them, and removing them a few runs at a time.

What belongs here: SQL on the tables Dagster keeps its runs, events, checks and ticks in. What does not: rows of ours
(``storage.retention``), what a run stores (``operations.event_log``), and how long anything is kept (settings).

What the UI shows of the newest state stays however old it is: of every asset and partition the newest materialisation
and observation with their metadata, and what was planned or failed after it; of every check the newest verdict; of
every schedule and sensor the newest tick; and the runs these belong to. An ended run of which nothing is left goes
as a whole. Every transaction leaves a state in which all of this holds, so that a kill costs nothing but a repetition.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import errors as postgres_errors
from psycopg import sql

from sigmasight_pipeline.storage.connections import connection_string
from sigmasight_pipeline.storage.database import explained

Connection = psycopg.Connection[tuple[Any, ...]]

RUNS_AT_A_TIME = 20
"""Runs whose rows are removed in one transaction."""

PLANNED_INDEX = "sigmasight_planned_checks"
"""Finds what a run planned to check; that it is there tells that rows of earlier versions were removed."""

COMPACTED_ROWS = 10_000
"""Dead rows from which on the table of checks is written anew: a plain vacuum gives no space back."""

LOCK_TIMEOUT = "5s"
"""How long that waits for those who use the table; where they go on, space is reused and not given back."""

ENDED = "status IN ('SUCCESS', 'FAILURE', 'CANCELED')"
"""Condition on a row of ``runs``."""

_ABANDONED = f"""
DELETE FROM asset_check_executions c WHERE execution_status = 'PLANNED' AND NOT EXISTS (
  SELECT FROM runs r WHERE r.run_id = c.run_id AND NOT r.{ENDED})
"""

_NEWEST_VERDICTS = """
SELECT DISTINCT ON (asset_key, check_name, partition) asset_key, check_name, partition, id, evaluation_event_storage_id
FROM asset_check_executions WHERE execution_status <> 'PLANNED' ORDER BY asset_key, check_name, partition, id DESC
"""

_OLD_VERDICTS = f"""
DELETE FROM asset_check_executions c USING ({_NEWEST_VERDICTS}) n
WHERE c.execution_status <> 'PLANNED' AND c.create_timestamp < %(before)s AND c.id < n.id
AND (c.asset_key, c.check_name) = (n.asset_key, n.check_name) AND c.partition IS NOT DISTINCT FROM n.partition
"""

_OLD_TICKS = """
DELETE FROM job_ticks t WHERE t.timestamp < %(before)s AND t.status <> 'STARTED' AND EXISTS (
  SELECT FROM job_ticks n WHERE n.selector_id = t.selector_id AND n.id > t.id)
"""

_OLD_RUNS = f"""
SELECT run_id FROM runs
WHERE {ENDED} AND coalesce(to_timestamp(end_time) AT TIME ZONE 'UTC', update_timestamp) < %(before)s ORDER BY id
"""

# what a run says of itself as a whole is small, and is what its page shows
_OF_THE_RUN = "coalesce(dagster_event_type, '') LIKE 'PIPELINE_%%'"

_SAME_PARTITION = "CASE WHEN e.partition IS NULL THEN EXISTS ({0} IS NULL) ELSE EXISTS ({0} = e.partition) END"

_FOLLOWED = _SAME_PARTITION.format(
    "SELECT FROM event_logs n WHERE n.asset_key = e.asset_key AND n.dagster_event_type = e.dagster_event_type "
    "AND n.id > e.id AND n.partition"
)
_DONE_LATER = _SAME_PARTITION.format(
    "SELECT FROM event_logs n WHERE n.asset_key = e.asset_key AND n.dagster_event_type = 'ASSET_MATERIALIZATION' "
    "AND n.id > e.id AND n.partition"
)

_OLD_EVENTS = f"""
SELECT e.id FROM event_logs e WHERE e.run_id = ANY(%(runs)s) AND NOT {_OF_THE_RUN} AND e.id <> ALL(%(verdicts)s)
AND CASE
  WHEN e.asset_key IS NULL THEN true
  WHEN e.dagster_event_type IN ('ASSET_MATERIALIZATION', 'ASSET_OBSERVATION') THEN {_FOLLOWED}
  WHEN e.dagster_event_type IN ('ASSET_MATERIALIZATION_PLANNED', 'ASSET_FAILED_TO_MATERIALIZE')
  THEN {_FOLLOWED} OR {_DONE_LATER}
  ELSE true END
"""

_EMPTY_RUNS = f"""
SELECT run_id FROM runs r WHERE run_id = ANY(%(runs)s)
AND NOT EXISTS (SELECT FROM event_logs e WHERE e.run_id = r.run_id AND NOT {_OF_THE_RUN})
"""


@dataclass(frozen=True)
class Removed:
    """Rows by kind; `planned_checks` were never evaluated, `verdicts` are followed by newer ones of their check."""

    planned_checks: int = 0
    verdicts: int = 0
    ticks: int = 0
    events: int = 0
    runs: int = 0

    def __add__(self, other: Removed) -> Removed:
        return Removed(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))


def remove_rows_of_earlier_versions(url: str) -> int:
    """Remove planned checks that earlier versions left by the thousand, once, and index those there are; how many went.

    One transaction under a lock of the table: of concurrent calls one does it. Nothing is done where Dagster has no
    tables yet, and by a role that does not own them, which could not index them. Raises StorageError.
    """
    with explained(url), psycopg.connect(connection_string(url)) as connection:
        if not is_there(connection) or _has_index(connection) or not _is_ours(connection):
            return 0
        connection.execute("LOCK TABLE asset_check_executions IN SHARE ROW EXCLUSIVE MODE")
        if _has_index(connection):
            return 0
        removed = connection.execute(_ABANDONED.encode()).rowcount
        connection.execute(
            sql.SQL("CREATE INDEX {} ON asset_check_executions (run_id) WHERE execution_status = 'PLANNED'").format(
                sql.Identifier(PLANNED_INDEX)
            )
        )
    if removed >= COMPACTED_ROWS:
        _compact(url)
    return removed


def _compact(url: str) -> None:
    """Write the table of checks anew without what was removed, unless somebody is using it."""
    with explained(url), psycopg.connect(connection_string(url), autocommit=True) as connection:
        connection.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'".encode())
        try:
            connection.execute("VACUUM (FULL, ANALYZE) asset_check_executions")
        except postgres_errors.LockNotAvailable:
            connection.execute("VACUUM (ANALYZE) asset_check_executions")


def old_runs(url: str, *, before: datetime) -> list[str]:
    """Runs that ended before a moment, oldest first; none where Dagster has no tables yet. Raises StorageError."""
    with explained(url), psycopg.connect(connection_string(url)) as connection:
        if not is_there(connection):
            return []
        return [row[0] for row in connection.execute(_OLD_RUNS.encode(), {"before": _utc(before)}).fetchall()]


def remove(url: str, runs: Sequence[str], *, before: datetime, dry_run: bool = False) -> Iterator[Removed]:
    """Remove abandoned checks, verdicts and ticks from before a moment, then what is old of `runs`, which ended then.

    Yields what every transaction removed, after its commit; with `dry_run` after its rollback, and nothing is removed.
    Raises StorageError.
    """
    parameters: dict[str, object] = {"before": _utc(before)}
    with explained(url), psycopg.connect(connection_string(url)) as connection:
        if not is_there(connection):
            return
        end = connection.rollback if dry_run else connection.commit
        verdicts = [row[4] for row in connection.execute(_NEWEST_VERDICTS.encode()).fetchall() if row[4] is not None]
        removed = Removed(*(_rows(connection, text, parameters) for text in (_ABANDONED, _OLD_VERDICTS, _OLD_TICKS)))
        end()
        yield removed
        for start in range(0, len(runs), RUNS_AT_A_TIME):
            some = list(runs[start : start + RUNS_AT_A_TIME])
            removed = _remove_runs(connection, {"runs": some, "verdicts": verdicts})
            end()
            yield removed
    if not dry_run:
        with explained(url), psycopg.connect(connection_string(url), autocommit=True) as connection:
            connection.execute("VACUUM (ANALYZE) event_logs, asset_event_tags, asset_check_executions, job_ticks, runs")


def _remove_runs(connection: Connection, parameters: Mapping[str, object]) -> Removed:
    events = _delete_events(connection, _OLD_EVENTS, parameters)
    empty = [row[0] for row in connection.execute(_EMPTY_RUNS.encode(), parameters).fetchall()]
    events += _delete_events(connection, "SELECT id FROM event_logs WHERE run_id = ANY(%(runs)s)", {"runs": empty})
    # the tags of a run go with it
    runs = _rows(connection, "DELETE FROM runs WHERE run_id = ANY(%(runs)s)", {"runs": empty})
    return Removed(events=events, runs=runs)


def _delete_events(connection: Connection, chosen: str, parameters: Mapping[str, object]) -> int:
    """Delete the events `chosen` selects, with the tags they are found by."""
    statement = f"""
    WITH gone AS (DELETE FROM event_logs WHERE id IN ({chosen}) RETURNING id),
         untagged AS (DELETE FROM asset_event_tags t USING gone WHERE t.event_id = gone.id)
    SELECT count(*) FROM gone
    """
    row = connection.execute(statement.encode(), parameters).fetchone()
    return int(row[0]) if row else 0


def _rows(connection: Connection, statement: str, parameters: Mapping[str, object]) -> int:
    return connection.execute(statement.encode(), parameters).rowcount


def _utc(moment: datetime) -> datetime:
    """As Dagster's columns have it: UTC, without saying so."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def is_there(connection: Connection) -> bool:
    """Whether Dagster has made its tables in the database of `connection`."""
    row = connection.execute(
        "SELECT bool_and(to_regclass(name) IS NOT NULL) "
        "FROM unnest(ARRAY['runs', 'event_logs', 'asset_event_tags', 'asset_check_executions', 'job_ticks']) AS t(name)"
    ).fetchone()
    return row is not None and bool(row[0])


def _is_ours(connection: Connection) -> bool:
    """Whether the role of `connection` owns Dagster's tables or may act as the one that does."""
    row = connection.execute(
        "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass('asset_check_executions')"
    ).fetchone()
    return row is not None and bool(row[0])


def _has_index(connection: Connection) -> bool:
    row = connection.execute("SELECT to_regclass(%s) IS NOT NULL", (PLANNED_INDEX,)).fetchone()
    return row is not None and bool(row[0])
