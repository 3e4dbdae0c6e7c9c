"""Rows of tables that are stored packed, drawn from what their definitions and packings allow.

What belongs here: strategies for frames of such tables, and PostgreSQL's reading of an array literal in Python. What
does not: what packing must do with them (``test_packing``).
"""

from __future__ import annotations

import json
import re
from datetime import date
from decimal import Decimal
from itertools import chain
from typing import Any

import polars as pl
from hypothesis import strategies as st
from sqlalchemy import ARRAY, Boolean, Column, Double, Integer, Numeric, Table
from sqlalchemy.dialects.postgresql import JSONB

from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.frames import polars_schema, polars_type
from sigmasight_pipeline.storage.packing import Numbers
from sigmasight_pipeline.storage.tables.packing import (
    MemberColumns,
    NumberedArrays,
    Packing,
    PairTriangle,
    packing_of,
)
from sigmasight_pipeline_tests.storage.sample_rows import MOMENT, weekdays

PACKED = [table for table in tables.long_tables.sorted_tables if packing_of(table) is not None]

DAYS = weekdays(3)

HARD_NAMES = ["BRK.B", 'say "so"', "back\\slash", "a,b", "{x}", "NULL", "null", " lead", "", "ümlaut", "two\nlines"]
"""What may stand in a symbol, a file's or a vendor's, and means something in an array literal or in CSV."""

NAMES = st.sampled_from(HARD_NAMES) | st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=4
)

HARD_NUMBERS = [0.0, -0.0, 5e-324, -2.2250738585072014e-308, 1.7976931348623157e308, 0.1 + 0.2, 1e15 + 0.3, 1 / 3]

# a JSONB number has no sign of zero
_JSON_NUMBERS = st.floats(-1e6, 1e6).map((0.0).__add__)

PROVENANCE = {"computed_at": MOMENT, "code_version": "3", "run_id": "run"}


def packing(table: Table) -> Packing:
    """How `table` is packed."""
    found = packing_of(table)
    assert found is not None, table.name
    return found


def over(table: Table) -> dict[str, str]:
    """Key columns that become places in arrays, with their dimensions."""
    found = packing(table)
    return dict(found.over) if isinstance(found, NumberedArrays) else {}


def figures(column: Column[Any]) -> st.SearchStrategy[Any]:
    """Values of a column its definition allows; NULL where it may be."""
    low = column.info.get("ge", column.info.get("gt"))
    high = column.info.get("le")
    kind = column.type
    drawn: st.SearchStrategy[Any]
    if "isin" in column.info:
        drawn = st.sampled_from(column.info["isin"])
    elif isinstance(kind, JSONB):
        drawn = st.dictionaries(NAMES, _JSON_NUMBERS | st.none(), max_size=3).map(json.dumps)
    elif isinstance(kind, Boolean):
        drawn = st.booleans()
    elif isinstance(kind, Double):
        hard = [one for one in HARD_NUMBERS if (low is None or one >= low) and (high is None or one <= high)]
        drawn = st.sampled_from(hard) | st.floats(low, high, allow_nan=False, allow_infinity=False)
    elif isinstance(kind, Numeric):
        drawn = st.integers(-(10**17), 10**17).map(lambda cents: Decimal(cents) / 100)
    elif isinstance(kind, Integer):
        drawn = st.integers(low or 0, 2**31 - 1)
    else:
        drawn = NAMES
    return drawn | st.none() if column.nullable else drawn


@st.composite
def long_rows(draw: st.DrawFn, table: Table, names: st.SearchStrategy[str] = NAMES) -> pl.DataFrame:
    """Rows of `table`, at most three stored ones of at most four members called one of `names`; sorted by key."""
    found = packing(table)
    owners = draw(st.lists(_owner(table), max_size=3, unique_by=lambda row: tuple(row[name] for name in found.by)))
    return framed(table, [row for owner in owners for row in _of_owner(draw, table, owner, names)])


def framed(table: Table, rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Rows of `table` with its dtypes, sorted by key."""
    schema = polars_schema(table)
    return pl.DataFrame(rows, schema=schema, orient="row").sort(table.primary_key.columns.keys())


@st.composite
def numbers_of(draw: st.DrawFn, table: Table, frame: pl.DataFrame) -> Numbers:
    """A number of every member in `frame` and of some that are not, with holes, in no order."""
    made: dict[str, dict[str, int]] = {}
    for column, dimension in over(table).items():
        made.setdefault(dimension, {}).update(dict.fromkeys(frame.get_column(column).to_list(), 0))
    for dimension, own in made.items():
        others = draw(st.lists(NAMES.map("other ".__add__), max_size=2, unique=True))
        members = [*own, *others]
        places = draw(st.permutations(range(1, len(members) + 3)))
        made[dimension] = dict(zip(members, places, strict=False))
    return made


def _owner(table: Table) -> st.SearchStrategy[dict[str, Any]]:
    found = packing(table)
    columns = {name: table.columns[name] for name in (*found.by, *found.shared)}
    keys = {
        name: st.sampled_from(DAYS) if column.type.python_type is date else figures(column)
        for name, column in columns.items()
    }
    return st.fixed_dictionaries(keys)


def _of_owner(
    draw: st.DrawFn, table: Table, owner: dict[str, Any], names: st.SearchStrategy[str]
) -> list[dict[str, Any]]:
    """The long rows of one stored row."""
    found = packing(table)
    keys = set(table.primary_key.columns.keys())
    left = [column for column in table.columns if column.name not in {*owner, *keys, *PROVENANCE}]

    def row(**key: Any) -> dict[str, Any]:
        return {**owner, **key, **{column.name: draw(figures(column)) for column in left}, **PROVENANCE}

    if isinstance(found, MemberColumns):
        members = draw(st.lists(st.sampled_from(found.members), min_size=1, max_size=4, unique=True))
        return [row(**{found.over: member}) for member in members]
    if isinstance(found, PairTriangle):
        chosen = draw(st.lists(names, min_size=1, max_size=4, unique=True))
        first, second = found.pair
        pairs = [row(**{first: one, second: other}) for i, one in enumerate(chosen) for other in chosen[: i + 1]]
        mixed = [pair for pair in pairs if pair[first] != pair[second]]
        return [*pairs, *({**pair, first: pair[second], second: pair[first]} for pair in mixed)]
    member = st.tuples(*(names for _ in found.over))
    cells = draw(st.lists(member, min_size=1, max_size=4, unique=True))
    return [row(**dict(zip(found.over, cell, strict=True))) for cell in cells]


_ELEMENT = re.compile(r'"((?:[^"\\]|\\.)*)"|([^{},"]+)', re.DOTALL)


def as_read(table: Table, stored: pl.DataFrame) -> pl.DataFrame:
    """Packed rows as the database gives them back: literals as lists of the columns' types."""
    target = tables.stored_table(table)
    schema = polars_schema(target)
    columns = [
        pl.Series(
            name,
            [_parsed(column, text) for text in stored.get_column(name)]
            if isinstance(column.type, ARRAY)
            else stored.get_column(name),
            dtype=schema[name],
        )
        for name, column in ((str(column.name), column) for column in target.columns)
    ]
    return pl.DataFrame(columns)


def _parsed(column: Column[Any], literal: str) -> Any:
    """An array literal as PostgreSQL reads it (manual, section 8.15.6)."""
    kind = column.type
    assert isinstance(kind, ARRAY)
    convert = {pl.Float64(): float, pl.Boolean(): "true".__eq__, pl.String(): str}.get(
        _item_type(column), Decimal if isinstance(kind.item_type, Numeric) else int
    )
    stack: list[list[Any]] = [[]]
    place = 0
    while place < len(literal):
        sign = literal[place]
        if sign == "{":
            stack.append([])
        elif sign == "}":
            closed = stack.pop()
            stack[-1].append(closed)
        elif sign != ",":
            element = _ELEMENT.match(literal, place)
            assert element is not None, literal
            quoted, bare = element.groups()
            if quoted is not None:
                stack[-1].append(convert(re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)))
            else:
                stack[-1].append(None if bare == "NULL" else convert(bare))
            place = element.end() - 1
        place += 1
    ((found,),) = stack
    # a matrix arrives as its cells, row by row
    return list(chain.from_iterable(found)) if kind.dimensions == 2 else found


def _item_type(column: Column[Any]) -> pl.DataType:
    dtype: Any = polars_type(column)
    while isinstance(dtype, pl.List):
        dtype = dtype.inner
    return dtype  # type: ignore[no-any-return]  # Polars types the inner one loosely
