"""What may enter from a user or a vendor at all: a pandera model made from the table's own definition.

What belongs here: rules one frame can be judged by on its own (columns, types, nulls, closed lists, bounds, finite
numbers, unique keys, sessions of the run). What does not: domain rules, which need other tables (the sibling modules).

What engines made passes the gate before the write alone (``storage.copying.checked``).
"""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import date
from functools import cache
from typing import Any

import pandera.polars as pa
import polars as pl
from pandera.errors import SchemaErrors
from sqlalchemy import Column, Double, Table

from sigmasight_pipeline.storage.frames import polars_type

SHOWN_FAILURES = 10


class InvalidFrameError(ValueError):
    """A frame breaks its table's rules; nothing was written."""

    def __init__(self, table: Table, failures: list[str]) -> None:
        shown = "; ".join(failures[:SHOWN_FAILURES])
        more = f"; and {len(failures) - SHOWN_FAILURES} more" if len(failures) > SHOWN_FAILURES else ""
        super().__init__(
            f"{table.name}: {len(failures)} rule(s) broken, nothing was written: {shown}{more}. "
            "The engine that made these rows is at fault: please report it with this message."
        )
        self.failures = failures


@cache
def pandera_model(table: Table) -> pa.DataFrameSchema:
    """The pandera model of `table`: same columns, types, nullability, closed lists, bounds and unique key."""
    # plain text throughout: Polars recurses without end on SQLAlchemy's own name type when pandera reports a failure
    return pa.DataFrameSchema(
        columns={str(column.name): _pandera_column(column) for column in table.columns},
        unique=[str(column.name) for column in table.primary_key.columns],
        strict=True,
        name=str(table.name),
    )


def _pandera_column(column: Column[object]) -> pa.Column:
    rules: list[pa.Check] = []
    info = column.info
    if "isin" in info:
        rules.append(pa.Check.isin(list(info["isin"])))
    if "ge" in info:
        rules.append(pa.Check.ge(info["ge"]))
    if "gt" in info:
        rules.append(pa.Check.gt(info["gt"]))
    if "le" in info:
        rules.append(pa.Check.le(info["le"]))
    if isinstance(column.type, Double):
        rules.append(pa.Check(lambda data: data.lazyframe.select(pl.col(data.key).is_finite()), name="finite"))
    return pa.Column(polars_type(column), rules, nullable=bool(column.nullable))


def validate(table: Table, frame: pl.DataFrame, sessions: Collection[date] | None = None) -> pl.DataFrame:
    """`frame` with the table's columns in the table's order, or InvalidFrameError listing every broken rule.

    `sessions`, where given, are the only session dates a row may carry.
    """
    failures: list[str] = []
    missing = [column.name for column in table.columns if column.name not in frame.columns]
    if missing:
        raise InvalidFrameError(table, [f"missing column {name}" for name in missing])
    try:
        pandera_model(table).validate(frame, lazy=True)
    except SchemaErrors as error:
        failures.extend(_described(table, error))
    # a column of another type is reported above and cannot be compared with dates
    if sessions is not None and frame.schema.get("session_date") == pl.Date():
        foreign = frame.filter(~pl.col("session_date").is_in(list(sessions)))["session_date"].unique().sort()
        failures.extend(f"column session_date: row of a foreign session {day}" for day in foreign)
    if failures:
        raise InvalidFrameError(table, failures)
    return frame.select([column.name for column in table.columns])


def _described(table: Table, error: SchemaErrors) -> list[str]:
    """One sentence per column and broken rule: the first value that breaks it, and how many more do."""
    broken = error.failure_cases.group_by("column", "check", maintain_order=True).agg(
        pl.col("failure_case", "index").first(), more=pl.len() - 1
    )
    return [
        _broken(table, case)
        + (f" (row {case['index']})" if case["index"] is not None else "")
        + (f" and {case['more']} more" if case["more"] else "")
        for case in broken.iter_rows(named=True)
    ]


def _broken(table: Table, case: dict[str, Any]) -> str:
    if case["check"] == "multiple_fields_uniqueness":
        row = json.loads(case["failure_case"])
        values = ", ".join(f"{column.name} {row[column.name]}" for column in table.primary_key.columns)
        return f"duplicate key {values}"
    if case["check"] == "column_in_schema":
        return f"unknown column {case['failure_case']}"
    return f"column {case['column']}: {case['check']} broken by {case['failure_case']!r}"
