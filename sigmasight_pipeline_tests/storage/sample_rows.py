"""Rows of any registered table, made from its own definition: right dtypes, bounds and closed lists, no meaning.

What belongs here: what the storage tests and the storage benchmark write and read back. What does not: rows that
mean something (``demo``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from sqlalchemy import Column, Table

from sigmasight_pipeline.storage.copying import writable_columns
from sigmasight_pipeline.storage.database import PORTFOLIO, SESSION
from sigmasight_pipeline.storage.frames import polars_schema

MONDAY = date(2024, 1, 1)
MOMENT = datetime(2024, 6, 3, 22, 15, 1, 123456, tzinfo=UTC)


def weekdays(count: int, first: date = MONDAY) -> list[date]:
    """`count` days from `first` on without Saturdays and Sundays: stand-ins for sessions."""
    days = (first + timedelta(days=offset) for offset in range(count * 7 // 5 + 7))
    return [day for day in days if day.weekday() < 5][:count]


def rows(
    table: Table,
    sessions: Sequence[date] = (MONDAY,),
    per_session: int = 3,
    *,
    seed: int = 0,
    values: Mapping[str, Any] | None = None,
) -> pl.DataFrame:
    """`per_session` rows of `table` for each session, sorted by key; `values` overrides columns.

    The other key columns count from 0 (text: ``K00000``) within a session, portfolios repeat every 50 rows.
    """
    random = np.random.default_rng(seed)
    number = np.tile(np.arange(per_session), len(sessions))
    days = pl.Series(SESSION, sessions, dtype=pl.Date).gather(np.repeat(np.arange(len(sessions)), per_session))
    schema = polars_schema(table)
    columns = [
        _column(table.columns[name], schema[name], number, days, random).alias(name) for name in writable_columns(table)
    ]
    return pl.DataFrame(columns).with_columns(
        pl.lit(value, dtype=schema[name]).alias(name) for name, value in (values or {}).items()
    )


def _column(
    column: Column[Any], dtype: pl.DataType, number: np.ndarray, days: pl.Series, random: np.random.Generator
) -> pl.Series:
    info, kind = column.info, column.type.python_type
    low = float(info["ge"] if "ge" in info else info.get("gt", -1000.0))
    high = float(info.get("le", max(low, 0.0) + 1000.0))
    if column.name == SESSION or kind is date:
        return days
    if "isin" in info:
        return pl.Series(info["isin"]).gather(number % len(info["isin"]))
    if kind is datetime:
        made = pl.Series([MOMENT]).new_from_index(0, len(number))
    elif kind is bool:
        made = pl.Series(number % 2 == 0)
    elif kind is dict:
        made = pl.Series(['{"k": 1}']).new_from_index(0, len(number))
    elif kind is str:
        made = "K" + pl.Series(number).cast(pl.String).str.zfill(5)
    elif kind is int:
        made = pl.Series(number % 50 if column.name == PORTFOLIO else number + info.get("ge", 0))
    else:
        made = pl.Series(np.round(random.uniform(low, high, len(number)), 2) + (0.01 if "gt" in info else 0))
    return made.cast(dtype)
