"""What a run of sessions needs to read of a table: the declared windows, and reading them.

What belongs here: the few shapes of window the engines use, counted in sessions, and their SQL. What does not: how
rows become frames (``storage.database``) and which asset reads what (``assets``).

A read never returns anything after the run's last session (of session tables; reference tables are as of now), and
its rows come sorted by primary key, so that the same stored rows always give the same frame.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum

import polars as pl
from sqlalchemy import Table

from sigmasight_pipeline.storage.database import PORTFOLIO, SESSION, Database, quoted, select_list
from sigmasight_pipeline.storage.members import numbers
from sigmasight_pipeline.storage.packing import stored_columns, unpacked
from sigmasight_pipeline.storage.tables import PROVENANCE, packing_of, stored_table, trading_sessions
from sigmasight_pipeline.storage.tables.packing import NumberedArrays


class Kind(StrEnum):
    """The shapes of window."""

    ON_SESSIONS = "on_sessions"
    LOOK_BACK = "look_back"
    LAST_KNOWN = "last_known"
    UNTIL = "until"
    AS_OF = "as_of"
    CHOSEN = "chosen"


Frames = Mapping[str, pl.DataFrame]

Choice = Callable[[Frames, Sequence[date]], Sequence[object]]
"""What rows to read, told by what was read before (by name) and the run's open sessions."""


@dataclass(frozen=True)
class Read:
    """A declared read of `table`; made by the constructors below."""

    table: Table
    kind: Kind
    sessions: int = 0
    per: tuple[str, ...] = ()
    column: str = SESSION
    known: str | None = None
    columns: tuple[str, ...] = ()
    choice: Choice | None = None

    @property
    def look_back_sessions(self) -> int:
        """How many sessions before a run's first one the read needs to be complete."""
        return self.sessions


def on_sessions(table: Table, *, columns: Sequence[str] = ()) -> Read:
    """Rows of the run's sessions; with `columns`, only the primary key and these."""
    return replace(_session_read(table, Kind.ON_SESSIONS), columns=tuple(columns))


def look_back(table: Table, *, sessions: int, columns: Sequence[str] = ()) -> Read:
    """Rows of the run's sessions and of the `sessions` open sessions before the first; `columns` as in `on_sessions`.

    Counted over the rows of trading_sessions that are not closed; where fewer are known, all of them.
    """
    if sessions < 1:
        raise ValueError(f"a look-back on {table.name} needs at least 1 session, not {sessions}")
    return replace(_session_read(table, Kind.LOOK_BACK, sessions=sessions), columns=tuple(columns))


def last_known(table: Table, *, per: Sequence[str] = ("symbol",), before: int = 0, known: str | None = None) -> Read:
    """Rows of the run's sessions and, for each value of the columns `per`, the last row before the first session.

    However old that row is; with `before`, rows of that many open sessions before the first too, and the last row
    before those; with `known`, the last row in which that column is not NULL (a quote without a close must not hide an
    older one that has it). Served by an index on (`per`, session_date): two probes per value, however many rows the
    table has. `per` and the session must tell the rows apart, or "the last row" would be any of several.
    """
    if set(table.primary_key.columns.keys()) != {SESSION, *per}:
        raise ValueError(f"{table.name} does not have one row per {SESSION} and {', '.join(per) or 'nothing'}")
    return replace(_session_read(table, Kind.LAST_KNOWN, sessions=before, per=tuple(per)), known=known)


def until(table: Table, column: str = "ex_date") -> Read:
    """All rows whose `column` is on or before the run's last session."""
    if column not in table.columns:
        raise ValueError(f"{table.name} has no column {column} to read until")
    return Read(table, Kind.UNTIL, column=column)


def as_of(table: Table) -> Read:
    """A whole reference table as it is now."""
    return Read(table, Kind.AS_OF)


def chosen(table: Table, column: str, choice: Choice, *, columns: Sequence[str] = ()) -> Read:
    """All rows up to the run's last session whose `column` is one of the values `choice` names; however old they are.

    `choice` is called with the frames of the reads declared before this one, so that what is read may follow from them
    (days inside a window that stands in a reference table); no values, no rows. `columns` as in `on_sessions`.
    """
    if column not in table.columns:
        raise ValueError(f"{table.name} has no column {column} to choose by")
    return replace(_session_read(table, Kind.CHOSEN), column=column, columns=tuple(columns), choice=choice)


def read(
    database: Database,
    read: Read,
    first: date,
    last: date,
    portfolio_ids: Collection[int] | None = None,
    *,
    values: Sequence[object] = (),
) -> pl.DataFrame:
    """The rows `read` stands for in a run of the sessions `first` to `last`, sorted by primary key.

    With `portfolio_ids`, a table that has a portfolio_id gives the rows of those portfolios only. Columns are all but
    the provenance, which no engine may depend on; dtypes are exactly `frames.polars_schema`, also for no rows. `values`
    are those a `chosen` read named. Raises StorageError.
    """
    table = read.table
    wanted = read.columns or [column.name for column in table.columns if column.name not in PROVENANCE]
    columns = [column.name for column in table.columns if column.primary_key or column.name in wanted]
    is_packed = _is_read_packed(read, columns)
    source, selected = (stored_table(table), stored_columns(table, columns)) if is_packed else (table, columns)
    owned, owner = "", []
    if portfolio_ids is not None and PORTFOLIO in table.columns:
        owned, owner = f" AND {PORTFOLIO} = ANY(%s)", [sorted(portfolio_ids)]
    bounds: list[object]
    match read.kind:
        case Kind.AS_OF:
            condition, bounds = "TRUE", []
        case Kind.CHOSEN:
            condition, bounds = f"{quoted(read.column)} = ANY(%s) AND {SESSION} <= %s", [list(values), last]
        case Kind.UNTIL:
            condition, bounds = f"{quoted(read.column)} <= %s", [last]
        case Kind.ON_SESSIONS | Kind.LOOK_BACK | Kind.LAST_KNOWN:
            first = _first_needed(database, first, read.sessions)
            condition, bounds = f"{SESSION} BETWEEN %s AND %s", [first, last]
    statement = f"SELECT {select_list(source, selected)} FROM {source.fullname} WHERE {condition}{owned}"
    params = [*bounds, *owner]
    if read.kind == Kind.LAST_KNOWN:
        statement = _with_last_rows(read, statement, owned, columns)
        params += [first, *owner]
    rows = database.read_statement(source, statement, params, columns=selected)
    if is_packed:
        rows = unpacked(table, rows, numbers(database), columns)
    return rows.sort(table.primary_key.columns.keys())


def _is_read_packed(read: Read, columns: Collection[str]) -> bool:
    """Whether the stored form is read; the view gives columns of another table, and the last row per member."""
    packing = packing_of(read.table)
    elsewhere = packing.elsewhere if isinstance(packing, NumberedArrays) else ()
    return packing is not None and read.kind != Kind.LAST_KNOWN and not set(columns) & set(elsewhere)


def _session_read(table: Table, kind: Kind, *, sessions: int = 0, per: tuple[str, ...] = ()) -> Read:
    if SESSION not in table.columns:
        raise ValueError(f"{table.name} has no {SESSION}: read it with as_of or until")
    return Read(table, kind, sessions=sessions, per=per)


def _first_needed(database: Database, first: date, sessions: int) -> date:
    """The open session `sessions` open sessions before `first` (the oldest known where there are fewer).

    Asked for beforehand: with the date itself in the statement PostgreSQL can judge how many rows it means.
    """
    if sessions == 0:
        return first
    days = database.read_statement(
        trading_sessions,
        f"SELECT {SESSION} FROM {trading_sessions.fullname} WHERE {SESSION} < %s AND NOT is_closed "
        f"ORDER BY {SESSION} DESC LIMIT %s",
        [first, sessions],
        columns=[SESSION],
    )
    return min(days[SESSION], default=first)


def _with_last_rows(read: Read, on_sessions: str, owned: str, columns: Sequence[str]) -> str:
    """`on_sessions` and, by two index probes per value, the last row of each value of `read.per` before a date.

    PostgreSQL has no loose index scan before version 18, and DISTINCT ON reads the whole index: the recursive part
    hops from one value to the next.
    """
    table = read.table
    names = [quoted(name) for name in read.per]
    listed, current = ", ".join(names), ", ".join(f"k.{name}" for name in names)
    one = f"SELECT {listed} FROM {table.fullname}"
    order = f"ORDER BY {listed} LIMIT 1"
    same = " AND ".join(f"t.{name} = k.{name}" for name in names)
    if read.known is not None:
        same += f" AND t.{quoted(read.known)} IS NOT NULL"
    return (
        f"WITH RECURSIVE known AS (({one} {order}) UNION ALL SELECT n.* FROM known k CROSS JOIN LATERAL "
        f"({one} WHERE ({listed}) > ({current}) {order}) n) "
        f"{on_sessions} UNION ALL SELECT l.* FROM known k CROSS JOIN LATERAL ("
        f"SELECT {select_list(table, columns)} FROM {table.fullname} t WHERE {same} AND t.{SESSION} < %s{owned} "
        f"ORDER BY t.{SESSION} DESC LIMIT 1) l"
    )
