"""How a table's columns look as a Polars frame: one dtype per column kind, empty frames, provenance dropped.

What belongs here: the mapping between the SQLAlchemy definitions and Polars. What does not: reading or writing.
"""

from __future__ import annotations

from typing import Any

import polars as pl
from sqlalchemy import BigInteger, Boolean, Column, Date, DateTime, Double, Integer, Numeric, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

MONEY = pl.Decimal(20, 2)
PRICE = pl.Decimal(20, 6)


def polars_type(column: Column[Any]) -> pl.DataType:
    """The Polars dtype a column is read as and must be written as."""
    kind = column.type
    match kind:
        case Numeric() if not isinstance(kind, Double):
            return pl.Decimal(kind.precision, kind.scale or 0)
        case Double():
            return pl.Float64()
        case BigInteger():
            return pl.Int64()
        case Integer():
            return pl.Int32()
        case Boolean():
            return pl.Boolean()
        case Date():
            return pl.Date()
        case DateTime():
            return pl.Datetime("us", "UTC")
        case Text() | JSONB():
            return pl.String()
    raise TypeError(f"{column.table.name}.{column.name}: no Polars type for {kind!r}")


def polars_schema(table: Table) -> dict[str, pl.DataType]:
    """Column name to Polars dtype, in the table's order."""
    return {column.name: polars_type(column) for column in table.columns}


def empty_frame(table: Table) -> pl.DataFrame:
    """A frame with the table's columns and no rows."""
    return pl.DataFrame(schema=polars_schema(table))
