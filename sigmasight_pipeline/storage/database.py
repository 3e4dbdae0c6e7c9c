"""One database: connections with explained errors, and typed reads of a registered table into Polars.

What belongs here: opening connections and turning rows into frames with the registry's dtypes. What does
not: which rows a calculation needs (``storage.windows``), writing (``storage.partitions``), migrating
(``storage.schema``).
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import polars as pl
import psycopg
from psycopg import sql
from psycopg.types.string import TextLoader
from sqlalchemy import ARRAY, Column, Double, Numeric, Table
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import SQLAlchemyError

from sigmasight_pipeline.storage.connections import KeptConnections, connection_string
from sigmasight_pipeline.storage.errors import ServerUnreachableError, explain, redact
from sigmasight_pipeline.storage.frames import polars_schema

if TYPE_CHECKING:
    import adbc_driver_manager.dbapi as adbc

SESSION = "session_date"
"""The column a session table is partitioned by."""

PORTFOLIO = "portfolio_id"
"""The column a table is restricted to portfolios by, where it has it."""

LARGEST_DECIMAL = 38
"""Most digits a Polars Decimal holds; the precision of a NUMERIC that declares none, such as a sum."""

_DTYPE_OF_TYPE: dict[str, pl.DataType] = {
    "bool": pl.Boolean(),
    "int2": pl.Int16(),
    "int4": pl.Int32(),
    "int8": pl.Int64(),
    "float4": pl.Float32(),
    "float8": pl.Float64(),
    "date": pl.Date(),
    "timestamptz": pl.Datetime("us", "UTC"),
    "timestamp": pl.Datetime("us"),
    "json": pl.String(),
    "jsonb": pl.String(),
    "text": pl.String(),
    "varchar": pl.String(),
    "name": pl.String(),
}


def _errors_of_adbc() -> tuple[type[Exception], ...]:
    """ADBC's errors, where it was loaded: it takes half a second (pandas comes with it), and small reads go without."""
    adbc = sys.modules.get("adbc_driver_manager.dbapi")
    return () if adbc is None else (adbc.Error,)


def _errors_of_drivers() -> tuple[type[Exception], ...]:
    return (psycopg.Error, SQLAlchemyError, *_errors_of_adbc())


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn what the drivers raise inside the block into the StorageError an operator can act on."""
    try:
        yield
    except _errors_of_drivers() as error:
        raise explain(error, url) from None  # a driver may quote the whole URL, password included


class Database:
    """The database at `url`.

    Connections are kept, one for every thread that uses one at the same time: those of transactions by
    ``storage.connections``, those of bulk reads here (ADBC takes 60 ms to connect: it loads the server's type
    catalogue). Do not carry an object that has been used through `os.fork`.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._connections = KeptConnections(url)
        self._free: list[adbc.Connection] = []  # appending and popping are atomic
        self._finalizer = weakref.finalize(self, _close_all, self._free)

    def __repr__(self) -> str:
        return f"Database({redact(self.url)!r})"

    def close(self) -> None:
        """Close the kept connections; the next use opens another."""
        self._connections.close()
        _close_all(self._free)

    @contextmanager
    def connect(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        """A connection in one READ COMMITTED transaction: committed at the end, rolled back on an error.

        Database errors, of connecting and of the block alike, come out as StorageError.
        """
        with explained(self.url), self._connections.transaction() as connection:
            yield connection

    def read(
        self,
        table: Table,
        *,
        where: str = "",
        params: Sequence[object] = (),
        columns: Sequence[str] | None = None,
        order_by: str | Sequence[str] | None = None,
    ) -> pl.DataFrame:
        """Rows of `table` as a frame with exactly the registry's dtypes, also when there are none.

        `where` is SQL in which every ``%s`` stands for one of `params`; without `order_by` (column names) the
        rows come in any order. JSONB columns arrive as JSON text.
        """
        chosen = [table.columns[name] for name in columns] if columns is not None else list(table.columns)
        statement = f"SELECT {', '.join(map(_selected, chosen))} FROM {table.fullname}"
        if where:
            statement += f" WHERE {where}"
        if order_by is not None:
            names = [order_by] if isinstance(order_by, str) else order_by
            statement += f" ORDER BY {', '.join(quoted(name) for name in names)}"
        return self.read_statement(table, statement, params, columns=[column.name for column in chosen])

    def read_statement(
        self,
        table: Table,
        statement: str,
        params: Sequence[object] = (),
        *,
        columns: Sequence[str] | None = None,
    ) -> pl.DataFrame:
        """Rows of a SELECT of the columns of `table` (all, or `columns`), typed as `read` types them.

        The statement selects NUMERIC and JSONB columns as text; `select_list` writes such a list.
        """
        schema = polars_schema(table)
        wanted = {name: schema[name] for name in (columns if columns is not None else schema)}
        with explained(self.url):
            arrived = self._fetch(with_literals(statement, params))
        return arrived.select(pl.col(name).cast(dtype) for name, dtype in wanted.items())

    def query(self, statement: str, params: Sequence[object] = ()) -> pl.DataFrame:
        """Rows of any small SELECT; every ``%s`` stands for one of `params`.

        Dtypes follow the types PostgreSQL reports, not the values, so that no rows and only NULLs are typed
        too. A NUMERIC that declares no scale (a sum) gets the largest scale among its values; types without a
        Polars counterpart come as text.
        """
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.adapters.register_loader("json", TextLoader)
            cursor.adapters.register_loader("jsonb", TextLoader)
            rows = cursor.execute(statement, params or None).fetchall()
            described = cursor.description or []
            types = [connection.adapters.types.get(column.type_code) for column in described]
        values = list(zip(*rows, strict=True)) if rows else [()] * len(described)
        return pl.DataFrame(
            [
                _typed_series(column.name, kind.name if kind else "", column.scale, items)
                for column, kind, items in zip(described, types, values, strict=True)
            ]
        )

    def count(self, table: Table) -> int:
        """How many rows `table` has."""
        return int(self.query(f"SELECT count(*) AS rows FROM {table.fullname}")["rows"][0])

    def _fetch(self, statement: str) -> pl.DataFrame:
        for kept in self._taken():
            try:
                return self._run(kept, statement)
            except _errors_of_adbc() as error:
                _close_all(self._free)
                if not isinstance(explain(error, self.url), ServerUnreachableError):
                    raise
                # The server was restarted since the last read: nothing was lost, connect anew.
        from adbc_driver_postgresql.dbapi import connect  # noqa: PLC0415 - see _errors_of_adbc

        return self._run(connect(connection_string(self.url), autocommit=True), statement)

    def _taken(self) -> list[adbc.Connection]:
        """A kept connection, no longer free, or none."""
        try:
            return [self._free.pop()]
        except IndexError:
            return []

    def _run(self, connection: adbc.Connection, statement: str) -> pl.DataFrame:
        """The rows of `statement`; the connection is free afterwards, or closed where that fails."""
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                # fetch_polars would let a connection that breaks half-way out as a Polars error
                rows = pl.DataFrame(cursor.fetch_arrow_table())
        except BaseException:
            _close_all([connection])
            raise
        self._free.append(connection)
        return rows


def select_list(table: Table, names: Sequence[str] | None = None) -> str:
    """Columns of `table` (all, or those named) as `Database.read_statement` takes them."""
    chosen = table.columns if names is None else [table.columns[name] for name in names]
    return ", ".join(map(_selected, chosen))


def with_literals(statement: str, params: Sequence[object]) -> str:
    """`statement` with every ``%s`` replaced by a quoted literal (ADBC's COPY takes no parameters)."""
    parts = statement.split("%s")
    if len(parts) != len(params) + 1:
        raise ValueError(f"{len(parts) - 1} placeholders but {len(params)} parameters in: {statement}")
    literals = [sql.Literal(value).as_string(None) for value in params] + [""]
    return "".join(part + literal for part, literal in zip(parts, literals, strict=True))


def _close_all(connections: list[adbc.Connection]) -> None:
    while connections:
        with suppress(*_errors_of_adbc()):  # a connection the server has dropped cannot say goodbye
            connections.pop().close()


def _selected(column: Column[Any]) -> str:
    """A column as it is selected: NUMERIC as text, or it arrives as an extension type that cannot be cast."""
    name = quoted(column.name)
    is_array = isinstance(column.type, ARRAY)
    kind = column.type.item_type if isinstance(column.type, ARRAY) else column.type
    as_text = isinstance(kind, JSONB) or (isinstance(kind, Numeric) and not isinstance(kind, Double))
    return f"{name}::text{'[]' if is_array else ''} AS {name}" if as_text else name


def quoted(name: str) -> str:
    """A column name as an SQL identifier."""
    return sql.Identifier(name).as_string(None)


def _typed_series(name: str, kind: str, scale: int | None, values: Sequence[Any]) -> pl.Series:
    if kind == "numeric":
        if scale is None:
            scale = max((_scale(value) for value in values if value is not None), default=0)
        return pl.Series(name, values, dtype=pl.Decimal(LARGEST_DECIMAL, scale))
    dtype = _DTYPE_OF_TYPE.get(kind)
    if dtype is None:
        return pl.Series(name, [None if value is None else str(value) for value in values], dtype=pl.String())
    return pl.Series(name, values, dtype=dtype)


def _scale(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    return max(-exponent, 0) if isinstance(exponent, int) else 0
