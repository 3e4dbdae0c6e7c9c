"""Old sessions of result tables: from which one on a table is kept, and removing what is before it.

What belongs here: SQL on the pipeline's own tables. What does not: which tables may be purged and how far
(``operations.tidy``), and Dagster's tables (``storage.event_retention``).

That a table is kept from a session on is stored before anything is removed: whoever asks what should be there
(completeness, gaps, the audit) does not miss what a purge, or one that was killed half-way, has removed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, datetime

import psycopg
from psycopg import sql
from sqlalchemy import Table

from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.connections import connection_string
from sigmasight_pipeline.storage.database import Database, explained
from sigmasight_pipeline.storage.partitions import lock_sessions

SESSIONS_AT_A_TIME = 10
"""Sessions removed in one transaction; a writer of one of them waits for no more than that."""


def kept_from(database: Database) -> dict[str, date]:
    """The first session that is kept, of every table old sessions were removed of."""
    rows = database.query("SELECT table_name, kept_from FROM sigmasight.result_retention")
    return dict(zip(rows["table_name"], rows["kept_from"], strict=True))


def newest_sessions(database: Database, count: int) -> list[date]:
    """The `count` newest open sessions up to the newest snapshot, oldest first; fewer where there are not as many."""
    rows = database.query(
        "SELECT session_date FROM sigmasight.trading_sessions WHERE NOT is_closed "
        "AND session_date <= (SELECT max(session_date) FROM sigmasight.portfolio_snapshots) "
        "ORDER BY session_date DESC LIMIT %s",
        (count,),
    )
    return sorted(rows["session_date"])


def rows_before(database: Database, cutoffs: Mapping[Table, date]) -> dict[str, int]:
    """Rows of each table that belong to sessions before its cutoff."""
    counted = {}
    for table, first in cutoffs.items():
        statement = f"SELECT count(*) AS rows FROM {table.fullname} WHERE {_condition(table)}"
        counted[str(table.name)] = int(database.query(statement, (first,))["rows"][0])
    return counted


def purge(database: Database, cutoffs: Mapping[Table, date], now: datetime) -> Iterator[dict[str, int]]:
    """Remove the rows of sessions before each table's cutoff, oldest first; yields rows by table after every commit.

    Waits for runs that write the same sessions, as they wait for it. Raises StorageError.
    """
    with database.connect() as connection:
        for table, first in cutoffs.items():
            connection.execute(
                "INSERT INTO sigmasight.result_retention (table_name, kept_from, purged_at) VALUES (%s, %s, %s) "
                "ON CONFLICT (table_name) DO UPDATE SET purged_at = excluded.purged_at, "
                "kept_from = greatest(result_retention.kept_from, excluded.kept_from)",
                (table.name, first, now),
            )
    for table, first in cutoffs.items():
        while days := _stored_before(database, table, first):
            with database.connect() as connection:
                lock_sessions(connection, [table], days)
                removed = connection.execute(
                    f"DELETE FROM {table.fullname} WHERE session_date = ANY(%s) AND {_condition(table)}".encode(),
                    (days, first),
                ).rowcount
            yield {str(table.name): removed}
    with explained(database.url), psycopg.connect(connection_string(database.url), autocommit=True) as connection:
        for table in cutoffs:
            connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(sql.Identifier(tables.SCHEMA, str(table.name))))


def _stored_before(database: Database, table: Table, first: date) -> list[date]:
    """The oldest sessions of `table` that have rows to be removed: one probe by index each, whatever they hold."""
    rows = database.query(
        "SELECT session_date FROM sigmasight.trading_sessions t WHERE session_date < %s "
        f"AND EXISTS (SELECT FROM {table.fullname} x WHERE x.session_date = t.session_date AND {_condition(table)}) "
        "ORDER BY 1 LIMIT %s",
        (first, first, SESSIONS_AT_A_TIME),
    )
    return rows["session_date"].to_list()


def _condition(table: Table) -> str:
    """Rows that go: those of sessions before the cutoff, of verdicts the good ones. What failed stays until it is put
    right."""
    return "session_date < %s" + (" AND passed" if table is tables.data_quality_results else "")
