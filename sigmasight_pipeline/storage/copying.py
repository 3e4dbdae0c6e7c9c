"""Moving a frame into a table: the last check of what may land, and CSV COPY in chunks.

What belongs here: the one gate every frame passes before it is written (types, NULLs, finiteness, bounds, closed lists,
keys, foreign sessions), and the fastest safe way to send it. What does not: transactions, locks and what is deleted
first (``storage.partitions``), domain rules (``checks``), and frames that enter from a user or a vendor
(``checks.schema``).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import Any

import polars as pl
import psycopg
from psycopg import sql
from sqlalchemy import Table

from sigmasight_pipeline.storage.frames import polars_schema
from sigmasight_pipeline.storage.tables import stored_table

ROWS_PER_CHUNK = 20_000
"""Rows of one COPY message: a few megabytes, so that a range of any size is written in constant memory."""

SHOWN = 3

Connection = psycopg.Connection[tuple[Any, ...]]


class RefusalReason(StrEnum):
    """Why a frame was refused: stable codes."""

    WRONG_COLUMNS = "wrong_columns"
    WRONG_TYPE = "wrong_type"
    NULL_VALUE = "null_value"
    NOT_FINITE = "not_finite"
    OUT_OF_BOUNDS = "out_of_bounds"
    UNKNOWN_VALUE = "unknown_value"
    DUPLICATE_KEY = "duplicate_key"
    FOREIGN_ROW = "foreign_row"
    NOT_A_KEY = "not_a_key"
    NO_SESSIONS = "no_sessions"
    TABLE_TWICE = "table_twice"


class RefusedWriteError(ValueError):
    """A frame the table must not get, or a write that makes no sense; nothing was written."""

    def __init__(self, table: Table, reason: RefusalReason, what: str) -> None:
        super().__init__(f"{table.name}: {what}; nothing was written. Correct what made these rows.")
        self.table = table.name
        self.reason = reason


def writable_columns(table: Table) -> list[str]:
    """The columns a frame brings: all but the identity the database gives."""
    return [column.name for column in table.columns if column.identity is None]


def checked(
    table: Table,
    frame: pl.DataFrame,
    *,
    key: Sequence[str],
    allowed: Mapping[str, Collection[object]],
    optional: Collection[str] = (),
) -> pl.DataFrame:
    """`frame` with its columns in the table's order, or RefusedWriteError.

    Refused: columns other than `writable_columns` (of which `optional` may be absent), a dtype other than the
    registry's, NULL where the table has none, NaN or infinity, a value beyond its column's bounds or not in its closed
    list, two rows with the same `key` (where there is one), and a value of a column in `allowed` that is not among
    those given.
    """
    schema = polars_schema(table)
    expected = writable_columns(table)
    present = [name for name in expected if name in frame.columns]
    missing = [name for name in expected if name not in frame.columns and name not in optional]
    unknown = [name for name in frame.columns if name not in expected]
    if missing or unknown:
        parts = [
            f"{text} {', '.join(names)}"
            for text, names in (("no column", missing), ("unknown column", unknown))
            if names
        ]
        raise RefusedWriteError(table, RefusalReason.WRONG_COLUMNS, "the frame has " + " and ".join(parts))
    frame = frame.select(present)
    wrong = [
        f"{name} is {frame.schema[name]}, not {schema[name]}" for name in present if frame.schema[name] != schema[name]
    ]
    if wrong:
        raise RefusedWriteError(table, RefusalReason.WRONG_TYPE, f"column {', column '.join(wrong)}")
    if frame.is_empty():
        return frame
    _refuse_nulls(table, frame)
    _refuse_not_finite(table, frame)
    _refuse_out_of_bounds(table, frame)
    for name, values in allowed.items():
        _refuse_foreign(table, frame, name, values)
    if key:
        _refuse_duplicates(table, frame, key)
    return frame


def copy_rows(connection: Connection, target: sql.Composable, frame: pl.DataFrame) -> int:
    """COPY the rows of `frame` into the relation `target`, column by name; returns how many.

    CSV tells NULL (nothing) from an empty string (a pair of quotes); floats are written with the digits that read
    back to the same double, instants with their offset from UTC.
    """
    names = sql.SQL(", ").join(map(sql.Identifier, frame.columns))
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(target, names)
    chunks = (frame.slice(start, ROWS_PER_CHUNK) for start in range(0, frame.height, ROWS_PER_CHUNK))
    # the next chunk is written out while the server is busy with this one
    with ThreadPoolExecutor(1) as writer, connection.cursor() as cursor, cursor.copy(statement) as copy:
        following = writer.submit(_as_csv, next(chunks, None))
        while (ready := following.result()) is not None:
            following = writer.submit(_as_csv, next(chunks, None))
            copy.write(ready.getbuffer())
    return frame.height


def _as_csv(chunk: pl.DataFrame | None) -> io.BytesIO | None:
    if chunk is None:
        return None
    buffer = io.BytesIO()
    chunk.write_csv(buffer, include_header=False)
    return buffer


def relation(table: Table) -> sql.Identifier:
    """The qualified name, quoted, of what holds the table's rows: its packed form where it is stored so."""
    stored = stored_table(table)
    return sql.Identifier(str(stored.schema), stored.name)


def _refuse_nulls(table: Table, frame: pl.DataFrame) -> None:
    required = [name for name in frame.columns if not table.columns[name].nullable]
    counts = frame.select(required).null_count().row(0, named=True)
    found = [f"{count} NULL in {name}" for name, count in counts.items() if count]
    if found:
        raise RefusedWriteError(table, RefusalReason.NULL_VALUE, ", ".join(found))


def _refuse_not_finite(table: Table, frame: pl.DataFrame) -> None:
    floats = [name for name, dtype in frame.schema.items() if dtype.is_float()]
    if not floats:
        return
    counts = frame.select((~pl.col(floats).is_finite()).sum()).row(0, named=True)
    found = [f"{count} NaN or infinite in {name}" for name, count in counts.items() if count]
    if found:
        raise RefusedWriteError(table, RefusalReason.NOT_FINITE, ", ".join(found))


_BEYOND: Mapping[str, Callable[[pl.Expr, Any], pl.Expr]] = {
    "ge": lambda column, bound: column < bound,
    "gt": lambda column, bound: column <= bound,
    "le": lambda column, bound: column > bound,
    "isin": lambda column, values: ~column.is_in(list(values)),
}
"""What breaks each rule a column may carry."""

_SAID = {"ge": "below {}", "gt": "at or below {}", "le": "above {}", "isin": "none of {}"}


def _refuse_out_of_bounds(table: Table, frame: pl.DataFrame) -> None:
    rules = [
        (name, word, table.columns[name].info[word])
        for name in frame.columns
        for word in _BEYOND
        if word in table.columns[name].info
    ]
    if not rules:
        return
    broken = frame.lazy().select(
        _BEYOND[word](pl.col(name), bound).sum().alias(f"{name} {word}") for name, word, bound in rules
    )
    counts = broken.collect().row(0)
    found = []
    for count, (name, word, bound) in zip(counts, rules, strict=True):
        if count:
            first = frame.filter(_BEYOND[word](pl.col(name), bound)).get_column(name)[0]
            limit = _SAID[word].format(", ".join(bound) if word == "isin" else bound)
            found.append(f"{count} {name} {limit}, the first {first}")
            reason = RefusalReason.UNKNOWN_VALUE if word == "isin" else RefusalReason.OUT_OF_BOUNDS
    if found:
        raise RefusedWriteError(table, reason, "; ".join(found))


def _refuse_foreign(table: Table, frame: pl.DataFrame, name: str, values: Collection[object]) -> None:
    column = frame[name]
    own = pl.Series(name, list(values), dtype=column.dtype)
    foreign = column.filter(~column.is_in(own.implode(), nulls_equal=True)).unique().sort()
    if len(foreign):
        shown = ", ".join(str(value) for value in foreign.head(SHOWN))
        more = f" and {len(foreign) - SHOWN} more" if len(foreign) > SHOWN else ""
        raise RefusedWriteError(
            table, RefusalReason.FOREIGN_ROW, f"rows of {name} {shown}{more}, which this write does not cover"
        )


def _refuse_duplicates(table: Table, frame: pl.DataFrame, key: Sequence[str]) -> None:
    counted = frame.lazy().group_by(list(key)).len().filter(pl.col("len") > 1).collect()
    if not counted.is_empty():
        first = counted.sort(list(key)).row(0, named=True)
        shown = ", ".join(f"{name} {first[name]}" for name in key)
        raise RefusedWriteError(
            table, RefusalReason.DUPLICATE_KEY, f"{first['len']} rows for {shown} ({counted.height} such keys)"
        )
