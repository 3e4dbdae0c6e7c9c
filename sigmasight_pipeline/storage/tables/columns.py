"""Column kinds of the schema: what money, a price, a statistic and provenance look like in every table.

What belongs here: the handful of column constructors the table modules are written with, so that a type is chosen
once. What does not: tables, and how a column becomes a Polars dtype (``storage.frames``).

Every column carries a comment (meaning, unit, sign) and may carry bounds in ``Column.info`` (``ge``, ``le``, ``gt``,
``isin``): the database comment, the Dagster column schema and the pandera model are all made from these.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Double,
    Integer,
    MetaData,
    Numeric,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

SCHEMA = "sigmasight"

metadata = MetaData(schema=SCHEMA)
"""The tables of the database."""

READERS_SCHEMA = "staging"

long_tables = MetaData(schema=READERS_SCHEMA)
"""Tables that are stored packed (``tables.packing``), as engines return and readers see them: views there."""

PROVENANCE = ("computed_at", "code_version", "run_id")
"""Columns that say how a row came to be; they are no part of its identity and are left out of comparisons."""


def money(name: str, comment: str, *, nullable: bool = False, **info: Any) -> Column[Any]:
    """US dollars, exact to the cent."""
    return Column(name, Numeric(20, 2), nullable=nullable, comment=comment, info=info)


def price(name: str, comment: str, *, nullable: bool = False, primary_key: bool = False, **info: Any) -> Column[Any]:
    """A price, quantity or ratio with six decimals."""
    return Column(name, Numeric(20, 6), nullable=nullable, primary_key=primary_key, comment=comment, info=info)


def stat(name: str, comment: str, *, nullable: bool = True, **info: Any) -> Column[Any]:
    """A statistic in double precision; never NaN or infinite, NULL where it could not be computed."""
    return Column(name, Double(), nullable=nullable, comment=comment, info=info)


def key(name: str, comment: str, *, primary_key: bool = False, nullable: bool = False) -> Column[Any]:
    """A BIGINT identifier given by the database or copied from its owner."""
    return Column(name, BigInteger(), nullable=nullable, primary_key=primary_key, comment=comment)


def code(
    name: str,
    comment: str,
    *,
    primary_key: bool = False,
    nullable: bool = False,
    isin: Sequence[str] | None = None,
) -> Column[Any]:
    """A short text; `isin` closes the list of its values."""
    info = {"isin": tuple(isin)} if isin else {}
    return Column(name, Text(), nullable=nullable, primary_key=primary_key, comment=comment, info=info)


def day(name: str, comment: str, *, primary_key: bool = False, nullable: bool = False) -> Column[Any]:
    """A calendar date without time."""
    return Column(name, Date(), nullable=nullable, primary_key=primary_key, comment=comment)


def instant(name: str, comment: str, *, nullable: bool = False) -> Column[Any]:
    """A point in time, UTC."""
    return Column(name, DateTime(timezone=True), nullable=nullable, comment=comment)


def count(name: str, comment: str, *, nullable: bool = False, primary_key: bool = False, **info: Any) -> Column[Any]:
    """A whole number of things."""
    return Column(name, Integer(), nullable=nullable, primary_key=primary_key, comment=comment, info={"ge": 0, **info})


def flag(name: str, comment: str, *, nullable: bool = False, default: str | None = None) -> Column[Any]:
    """True or false; `default` (SQL) where a row that says nothing has one."""
    return Column(
        name, Boolean(), nullable=nullable, comment=comment, server_default=None if default is None else text(default)
    )


def document(name: str, comment: str, *, nullable: bool = True) -> Column[Any]:
    """A JSON document."""
    return Column(name, JSONB(), nullable=nullable, comment=comment)


def session_key() -> Column[Any]:
    """The session a row belongs to: first column of every session table's primary key."""
    return day("session_date", "New York Stock Exchange session the row belongs to", primary_key=True)


def provenance() -> tuple[Column[Any], ...]:
    """The columns of every result table that say how the row came to be."""
    return (
        instant("computed_at", "When the row was computed"),
        code("code_version", "Version of the engine that computed the row"),
        code("run_id", "Dagster run that wrote the row"),
    )
