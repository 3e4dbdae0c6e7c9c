"""Files taken from the inbox, as rows of `inbox_files`, and the one transaction in which a file takes effect.

What belongs here: recording what became of a file, reading it back, and what is stored of the portfolio a file states.
What does not: files themselves (``operations.inbox_folder``), judging them (``operations.inbox``), and imports
(``storage.imports``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl
import psycopg

from sigmasight_pipeline.storage.database import Database


class OneTransaction(Database):
    """A database all of whose writes join the transaction of `connection`; what is read is what was committed before.

    What a file changes, the range asked for and the row that says so are stored together or not at all.
    """

    def __init__(self, committed: Database, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        super().__init__(committed.url)
        self._committed = committed
        self._connection = connection

    @contextmanager
    def connect(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        """The connection of the transaction, which ends with the block that opened it, not with this one."""
        yield self._connection

    def query(self, statement: str, params: Sequence[object] = ()) -> pl.DataFrame:
        """Rows of any small SELECT, of what was committed before."""
        return self._committed.query(statement, params)

    def _fetch(self, statement: str) -> pl.DataFrame:
        return self._committed._fetch(statement)


@dataclass(frozen=True)
class InboxFile:
    """One file that was judged; `moved_to` is where below the inbox it belongs."""

    file_id: int
    status: str
    errors: tuple[str, ...]
    backfill_id: int | None
    moved_to: str


def lock(connection: psycopg.Connection) -> None:
    """Wait for, and hold until the transaction ends, the right to judge a file: two looks at one file judge it once."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('sigmasight.inbox_files', 0))")


def judged(connection: psycopg.Connection, file_name: str, fingerprint: str) -> InboxFile | None:
    """What became of this very file, which lies in the inbox still; None where it has not been judged."""
    row = connection.execute(
        "SELECT file_id, status, errors, backfill_id, moved_to FROM sigmasight.inbox_files "
        "WHERE file_name = %s AND fingerprint = %s ORDER BY file_id DESC LIMIT 1",
        (file_name, fingerprint),
    ).fetchone()
    return None if row is None else InboxFile(row[0], row[1], tuple(row[2] or ()), row[3], row[4])


def add(
    connection: psycopg.Connection,
    *,
    file_name: str,
    fingerprint: str,
    content_sha256: str | None,
    portfolio_code: str | None,
    status: str,
    errors: Sequence[str],
    moved_to: str,
    now: datetime,
) -> InboxFile:
    """Record what became of a file, in the caller's transaction."""
    row = connection.execute(
        "INSERT INTO sigmasight.inbox_files (content_sha256, file_name, fingerprint, portfolio_code, status, errors, "
        "moved_to, received_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s) RETURNING file_id",
        (
            content_sha256,
            file_name,
            fingerprint,
            portfolio_code,
            status,
            json.dumps(list(errors)) if errors else None,
            moved_to,
            now,
        ),
    ).fetchone()
    if row is None:
        raise RuntimeError("PostgreSQL returned no file_id for the recorded file")
    return InboxFile(row[0], status, tuple(errors), None, moved_to)


def set_backfill(connection: psycopg.Connection, file_id: int, backfill_id: int) -> None:
    """Record the range that was asked for a file, in the caller's transaction."""
    connection.execute("UPDATE sigmasight.inbox_files SET backfill_id = %s WHERE file_id = %s", (backfill_id, file_id))


def settle(database: Database, file_id: int, moved_to: str) -> None:
    """Record where a file lies now; from here on, the same file in the inbox is another arrival."""
    with database.connect() as connection:
        connection.execute(
            "UPDATE sigmasight.inbox_files SET moved_to = %s, fingerprint = NULL WHERE file_id = %s",
            (moved_to, file_id),
        )


def lose(database: Database, file_id: int) -> None:
    """Record that a file was gone before it could be moved, unless whoever moved it has said so."""
    with database.connect() as connection:
        connection.execute(
            "UPDATE sigmasight.inbox_files SET moved_to = NULL, fingerprint = NULL "
            "WHERE file_id = %s AND fingerprint IS NOT NULL",
            (file_id,),
        )


def recent(database: Database, limit: int) -> pl.DataFrame:
    """The files judged last, newest first; `errors` as JSON text."""
    return database.query(
        "SELECT file_id, file_name, portfolio_code, status, errors, backfill_id, moved_to, received_at, content_sha256 "
        "FROM sigmasight.inbox_files ORDER BY file_id DESC LIMIT %s",
        (limit,),
    )


def is_on_its_way(database: Database, content_sha256: str, portfolio_code: str) -> bool:
    """Whether the range of the newest accepted file with these bytes and portfolio still waits or runs."""
    found = database.query(
        "SELECT b.status FROM sigmasight.inbox_files f JOIN sigmasight.backfill_progress b USING (backfill_id) "
        "WHERE f.content_sha256 = %s AND f.portfolio_code = %s AND f.status = 'accepted' "
        "ORDER BY f.file_id DESC LIMIT 1",
        (content_sha256, portfolio_code),
    )
    return bool(found["status"].is_in(["pending", "processing"]).any())


def waiting_imports(connection: psycopg.Connection) -> dict[tuple[str, str], str]:
    """Content hash of the newest import that waits to be applied, by portfolio and kind."""
    rows = connection.execute(
        "SELECT DISTINCT ON (portfolio_code, kind) portfolio_code, kind, content_sha256 "
        "FROM sigmasight.portfolio_imports WHERE applied_at IS NULL ORDER BY portfolio_code, kind, import_id DESC"
    ).fetchall()
    return {(code, kind): digest for code, kind, digest in rows}


def portfolio_codes(connection: psycopg.Connection) -> list[str]:
    """Codes of stored portfolios and of those whose import waits to be applied, sorted."""
    rows = connection.execute(
        "SELECT code FROM sigmasight.portfolios UNION SELECT portfolio_code FROM sigmasight.portfolio_imports "
        "WHERE kind = 'positions' AND applied_at IS NULL ORDER BY 1"
    ).fetchall()
    return [code for (code,) in rows]


@dataclass(frozen=True)
class StatedPortfolio:
    """What is known of a portfolio: its name and, of one whose import waits to be applied, all that import states."""

    name: str
    waiting: dict[str, Any] | None


def stated_portfolio(connection: psycopg.Connection, code: str) -> StatedPortfolio | None:
    """The portfolio of a code as its newest waiting import states it, else as it is stored; None where it is new."""
    waiting = connection.execute(
        "SELECT content -> 'portfolio' FROM sigmasight.portfolio_imports "
        "WHERE portfolio_code = %s AND kind = 'positions' AND applied_at IS NULL ORDER BY import_id DESC LIMIT 1",
        (code,),
    ).fetchone()
    if waiting is not None:
        return StatedPortfolio(waiting[0]["name"], waiting[0])
    stored = connection.execute("SELECT name FROM sigmasight.portfolios WHERE code = %s", (code,)).fetchone()
    return None if stored is None else StatedPortfolio(stored[0], None)
