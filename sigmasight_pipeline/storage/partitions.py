"""Writing tables: replacing sessions, merging reference rows, appending to logs, and the locks that order writers.

What belongs here: what is locked, deleted and inserted in one transaction, so that readers only ever see whole sets
of rows and writers cannot mix theirs. What does not: what may land in a table (``storage.copying``, ``checks``) and
which rows a run computes.

Locks are always taken in this order, which is what keeps writers from waiting for each other in a circle: session
locks (one statement, ascending), then the reference lock, then rows.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl
from psycopg import sql
from sqlalchemy import Table, UniqueConstraint

from sigmasight_pipeline.storage import changes
from sigmasight_pipeline.storage.copying import (
    Connection,
    RefusalReason,
    RefusedWriteError,
    checked,
    copy_rows,
    relation,
)
from sigmasight_pipeline.storage.database import PORTFOLIO, SESSION, Database
from sigmasight_pipeline.storage.members import numbered
from sigmasight_pipeline.storage.packing import dimensions, packed
from sigmasight_pipeline.storage.tables import SCHEMA

INCOMING = sql.Identifier("pg_temp", "sigmasight_incoming")
"""The temporary table a merge or a replacing append stages its rows in."""

_AS_PIPELINE = "set_config('sigmasight.writer', 'pipeline', true)"
"""Said with every lock, until the transaction ends: the triggers that record changes by hand leave these rows alone."""


@dataclass(frozen=True)
class MergeCounts:
    """What a merge did, in rows."""

    inserted: int
    updated: int
    deleted: int
    unchanged: int


def replace_sessions(
    database: Database,
    writes: Mapping[Table, pl.DataFrame] | Sequence[tuple[Table, pl.DataFrame]],
    sessions: Collection[date],
    *,
    portfolio_ids: Collection[int] | None = None,
    beyond: Collection[tuple[date, int]] = (),
    before_commit: Callable[[Connection], None] | None = None,
) -> dict[str, int]:
    """Make `sessions` of each table hold exactly the rows of its frame, all tables in one transaction.

    With `portfolio_ids`, tables that have a portfolio_id are replaced for those portfolios only; a table without
    one for the whole session, of which the frame has rows: what it says of a session does not depend on who is looked
    at, and of one at which none of these portfolios lives there is nothing to say. Else a session without rows in the
    frame is emptied. `beyond`: further sessions, each
    with a portfolio whose rows alone are replaced there. `before_commit` runs last in the transaction; when it raises,
    nothing was written. Writers of the same session of the same table wait for each
    other; readers see the old rows until the commit.

    Returns the rows written per table. Raises RefusedWriteError before anything is sent (see `checked`; also for
    rows of other sessions or portfolios), StorageError for what PostgreSQL refuses.
    """
    days, further = sorted(set(sessions)), sorted({day for day, _ in beyond})
    pairs = list(writes.items() if isinstance(writes, Mapping) else writes)
    frames: dict[Table, pl.DataFrame] = {}
    for table, frame in pairs:
        if table in frames:
            raise RefusedWriteError(table, RefusalReason.TABLE_TWICE, "two frames for one table")
        if SESSION not in table.primary_key.columns:
            raise RefusedWriteError(table, RefusalReason.NO_SESSIONS, "the table's key has no session_date")
        allowed: dict[str, Collection[object]] = {SESSION: [*days, *further]}
        if portfolio_ids is not None and PORTFOLIO in table.columns:
            allowed[PORTFOLIO] = portfolio_ids
        key = table.primary_key.columns.keys()
        # Sorted by the key, rows of one index page arrive together whatever order an engine leaves them in.
        frames[table] = checked(table, frame, key=key, allowed=allowed).sort(key)
    with database.connect() as connection:
        lock_sessions(connection, frames, [*days, *further])
        changed = [changes.found(connection, table, frame, days) for table, frame in frames.items()]
        for table, frame in frames.items():
            _delete_sessions(connection, table, _covered(table, frame, days, portfolio_ids), portfolio_ids)
            _delete_rows(connection, table, beyond)
        written = _copied(connection, frames)
        if before_commit is not None:
            before_commit(connection)
        changes.record(connection, pl.concat(changed)) if changed else None
    return written


def _copied(connection: Connection, frames: Mapping[Table, pl.DataFrame]) -> dict[str, int]:
    """COPY the frames into their tables, packed where they are stored so; the rows of each frame."""
    wanted: dict[str, set[str]] = {}
    for table, frame in frames.items():
        for column, dimension in dimensions(table).items():
            wanted.setdefault(dimension, set()).update(frame.get_column(column).unique())
    numbers = numbered(connection, wanted) if any(wanted.values()) else {}
    for table, frame in frames.items():
        if not frame.is_empty():
            copy_rows(connection, relation(table), packed(table, frame, numbers))
    return {str(table.name): frame.height for table, frame in frames.items()}


def merge_rows(
    connection: Connection,
    table: Table,
    frame: pl.DataFrame,
    *,
    key: tuple[str, ...],
    scope: Mapping[str, object] | None,
    delete_missing: bool,
) -> MergeCounts:
    """Make a reference table hold the rows of `frame`, touching only rows that differ; in the caller's transaction.

    Rows are told apart by `key`, which must be the primary key or a unique constraint. Identity columns are not in
    the frame: kept for rows that stay, given in key order to new ones. Columns that are nullable or have a default may
    be absent: they stay as they are, and are NULL or the default in new rows. With `delete_missing`, rows the frame
    lacks are deleted, of those that have the values in `scope` (column to value; None: of all). Takes `reference_lock`.

    Raises RefusedWriteError (see `checked`; also for rows outside `scope`).
    """
    if not _is_unique(table, key):
        raise RefusedWriteError(table, RefusalReason.NOT_A_KEY, f"({', '.join(key)}) is no key of the table")
    scope = scope or {}
    frame = checked(
        table,
        frame,
        key=key,
        allowed={name: [value] for name, value in scope.items()},
        optional=[c.name for c in table.columns if c.nullable or c.server_default is not None],
    )
    reference_lock(connection)
    _stage(connection, table, frame)
    parts = {
        "target": relation(table),
        "incoming": INCOMING,
        "same_key": _all_of("t.{0} = i.{0}", key),
        "columns": sql.SQL(", ").join(map(sql.Identifier, frame.columns)),
        "key": sql.SQL(", ").join(map(sql.Identifier, key)),
    }
    deleted = 0
    if delete_missing:
        deleted = connection.execute(
            sql.SQL(
                "DELETE FROM {target} t WHERE {in_scope} AND NOT EXISTS (SELECT FROM {incoming} i WHERE {same_key})"
            ).format(**parts, in_scope=_all_of("t.{0} IS NOT DISTINCT FROM %s", scope)),
            list(scope.values()),
        ).rowcount
    updated = 0
    if others := [name for name in frame.columns if name not in key]:
        updated = connection.execute(
            sql.SQL("UPDATE {target} t SET {values} FROM {incoming} i WHERE {same_key} AND ({differs})").format(
                **parts,
                values=_joined(", ", "{0} = i.{0}", others),
                differs=_joined(" OR ", "t.{0} IS DISTINCT FROM i.{0}", others),
            )
        ).rowcount
    inserted = connection.execute(
        sql.SQL(
            "INSERT INTO {target} ({columns}) SELECT {columns} FROM {incoming} i "
            "WHERE NOT EXISTS (SELECT FROM {target} t WHERE {same_key}) ORDER BY {key}"
        ).format(**parts)
    ).rowcount
    _drop_stage(connection)
    return MergeCounts(inserted, updated, deleted, unchanged=frame.height - inserted - updated)


def append_rows(connection: Connection, table: Table, frame: pl.DataFrame, *, replace: bool = False) -> int:
    """Add the rows of `frame` to a log table, in the caller's transaction; returns how many.

    The frame has every column but the identity. With `replace`, stored rows with the same primary key go first (a
    table with its own key only); without, such a row is an error. Raises RefusedWriteError (see `checked`).
    """
    key = [column.name for column in table.primary_key.columns if column.identity is None]
    frame = checked(table, frame, key=key, allowed={})
    if replace:
        if not key:
            raise RefusedWriteError(table, RefusalReason.NOT_A_KEY, "its key is given by the database")
        _stage(connection, table, frame.select(key))
        connection.execute(
            sql.SQL("DELETE FROM {} t USING {} i WHERE {}").format(
                relation(table), INCOMING, _all_of("t.{0} = i.{0}", key)
            )
        )
        _drop_stage(connection)
    return copy_rows(connection, relation(table), frame)


def lock_sessions(connection: Connection, tables: Collection[Table], sessions: Collection[date]) -> None:
    """Wait for, and hold until the transaction ends, the right to write `sessions` of `tables`.

    One statement in ascending order, so that two writers of overlapping ranges cannot block each other.
    """
    pairs = sorted((_lock_key(table.name), day.toordinal()) for table in tables for day in set(sessions))
    connection.execute(
        f"SELECT count(pg_advisory_xact_lock(k, d)), {_AS_PIPELINE} FROM unnest(%s::int[], %s::int[]) AS pairs(k, d)",
        ([key for key, _ in pairs], [ordinal for _, ordinal in pairs]),
    )


def reference_lock(connection: Connection) -> None:
    """Wait for, and hold until the transaction ends, the right to write reference tables. Taking it again is free.

    One lock for all of them: they are written rarely and together (an import touches five).
    """
    connection.execute(f"SELECT pg_advisory_xact_lock(%s, 0), {_AS_PIPELINE}", (_lock_key("reference"),))


def _lock_key(name: str) -> int:
    """A name as the signed 32-bit key of an advisory lock."""
    return zlib.crc32(f"{SCHEMA}.{name}".encode()) - 2**31


def _covered(
    table: Table, frame: pl.DataFrame, days: Sequence[date], portfolio_ids: Collection[int] | None
) -> Sequence[date]:
    """Those of `days` whose rows of `table` are replaced."""
    if portfolio_ids is None or PORTFOLIO in table.columns:
        return days
    told = set(frame.get_column(SESSION))
    return [day for day in days if day in told]


def _delete_sessions(
    connection: Connection, table: Table, days: Sequence[date], portfolio_ids: Collection[int] | None
) -> None:
    statement = sql.SQL("DELETE FROM {} WHERE {} = ANY(%s)").format(relation(table), sql.Identifier(SESSION))
    params: list[object] = [list(days)]
    if portfolio_ids is not None and PORTFOLIO in table.columns:
        statement += sql.SQL(" AND {} = ANY(%s)").format(sql.Identifier(PORTFOLIO))
        params.append(list(portfolio_ids))
    connection.execute(statement, params)


def _delete_rows(connection: Connection, table: Table, beyond: Collection[tuple[date, int]]) -> None:
    if beyond:
        connection.execute(
            sql.SQL("DELETE FROM {} t USING unnest(%s::date[], %s::bigint[]) AS b(day, owner) WHERE {} AND {}").format(
                relation(table),
                sql.SQL("t.{} = b.day").format(sql.Identifier(SESSION)),
                sql.SQL("t.{} = b.owner").format(sql.Identifier(PORTFOLIO)),
            ),
            ([day for day, _ in beyond], [owner for _, owner in beyond]),
        )


def _stage(connection: Connection, table: Table, frame: pl.DataFrame) -> None:
    """COPY `frame` into a temporary table with the same column types."""
    connection.execute(
        sql.SQL("CREATE TEMPORARY TABLE {} ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA").format(
            INCOMING,
            sql.SQL(", ").join(map(sql.Identifier, frame.columns)),
            relation(table),
        )
    )
    copy_rows(connection, INCOMING, frame)


def _drop_stage(connection: Connection) -> None:
    connection.execute(sql.SQL("DROP TABLE {}").format(INCOMING))


def _is_unique(table: Table, key: Sequence[str]) -> bool:
    candidates = [
        table.primary_key,
        *(constraint for constraint in table.constraints if isinstance(constraint, UniqueConstraint)),
    ]
    return set(key) in [set(constraint.columns.keys()) for constraint in candidates]


def _all_of(template: str, names: Collection[str]) -> sql.Composable:
    return _joined(" AND ", template, names) if names else sql.SQL("TRUE")


def _joined(separator: str, template: str, names: Collection[str]) -> sql.Composable:
    return sql.SQL(separator).join(sql.SQL(template).format(sql.Identifier(name)) for name in names)
