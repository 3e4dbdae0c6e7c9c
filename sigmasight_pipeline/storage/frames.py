"""How a table's columns look as a Polars frame: one dtype per column kind, empty frames, provenance dropped.

What belongs here: the mapping between the SQLAlchemy definitions and Polars. What does not: reading or writing.
"""

from __future__ import annotations

from typing import Any

import polars as pl
from sqlalchemy import ARRAY, BigInteger, Boolean, Column, Date, DateTime, Double, Integer, Numeric, Table, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

MONEY = pl.Decimal(20, 2)
PRICE = pl.Decimal(20, 6)

_DTYPES: tuple[tuple[type, pl.DataType], ...] = (
    (Double, pl.Float64()),
    (BigInteger, pl.Int64()),  # before Integer, which it is a kind of
    (Integer, pl.Int32()),
    (Boolean, pl.Boolean()),
    (Date, pl.Date()),
    (DateTime, pl.Datetime("us", "UTC")),
    (Text, pl.String()),
    (JSONB, pl.String()),
)


def polars_type(column: Column[Any]) -> pl.DataType:
    """The Polars dtype a column is read as and must be written as."""
    return _dtype(column, column.type)


def _dtype(column: Column[Any], kind: TypeEngine[Any]) -> pl.DataType:
    if isinstance(kind, ARRAY):
        # ADBC hands over the cells of an array row by row, whatever its dimensions
        return pl.List(_dtype(column, kind.item_type))
    if isinstance(kind, Numeric) and not isinstance(kind, Double):
        return pl.Decimal(kind.precision, kind.scale or 0)
    for sql_type, dtype in _DTYPES:
        if isinstance(kind, sql_type):
            return dtype
    raise TypeError(f"{column.table.name}.{column.name}: no Polars type for {kind!r}")


def polars_schema(table: Table) -> dict[str, pl.DataType]:
    """Column name to Polars dtype, in the table's order."""
    return {column.name: polars_type(column) for column in table.columns}


def empty_frame(table: Table) -> pl.DataFrame:
    """A frame with the table's columns and no rows."""
    return pl.DataFrame(schema=polars_schema(table))
