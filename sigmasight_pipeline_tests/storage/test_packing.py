"""Packing and unpacking: no bit is lost on the way to arrays and back, in frames and through a database."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from sqlalchemy import Table

from sigmasight_pipeline.storage import tables, windows
from sigmasight_pipeline.storage.copying import copy_rows, relation
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.frames import empty_frame
from sigmasight_pipeline.storage.packing import IncompleteTriangleError, packed, unpacked
from sigmasight_pipeline.storage.partitions import replace_sessions
from sigmasight_pipeline.storage.tables.packing import NumberedArrays, PairTriangle, is_derived
from sigmasight_pipeline_tests.storage.long_rows import (
    DAYS,
    HARD_NAMES,
    PACKED,
    PROVENANCE,
    as_read,
    framed,
    long_rows,
    numbers_of,
    over,
    packing,
)

EVERY_PACKED = pytest.mark.parametrize("table", PACKED, ids=lambda table: table.name)
TRIANGLES = [table for table in PACKED if isinstance(packing(table), PairTriangle)]
MATRICES = [table for table in PACKED if len(over(table)) > 1]


def stored_columns_of(table: Table) -> list[str]:
    """All columns that rows of `table` are stored with: what the view takes from elsewhere is not among them."""
    return [str(column.name) for column in table.columns if column.name not in elsewhere(table)]


def elsewhere(table: Table) -> tuple[str, ...]:
    """Columns the view takes from another table."""
    found = packing(table)
    return found.elsewhere if isinstance(found, NumberedArrays) else ()


def in_order(table: Table, frame: pl.DataFrame) -> pl.DataFrame:
    return frame.sort(table.primary_key.columns.keys())


def assert_same_bits(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    """Equal, and of numbers every bit: 0.0 is not -0.0 here."""

    def bits(frame: pl.DataFrame) -> pl.DataFrame:
        numbers = [name for name, dtype in frame.schema.items() if dtype == pl.Float64()]
        return frame.with_columns(pl.col(name).reinterpret(signed=True) for name in numbers)

    assert_frame_equal(bits(found), bits(expected))


def test_every_way_of_storing_is_tested() -> None:
    ways = {type(packing(table)).__name__ for table in PACKED}
    assert ways == {"NumberedArrays", "PairTriangle", "MemberColumns"}
    assert MATRICES
    others = set(tables.long_tables.sorted_tables) - set(PACKED)
    assert all(is_derived(table) for table in others), "a long table is packed or made of others"


@EVERY_PACKED
@settings(max_examples=25)
@given(data=st.data())
def test_what_is_unpacked_is_what_was_packed(table: Table, data: st.DataObject) -> None:
    """Missing cells, NULLs, numbers with holes, names that mean something in a literal, numbers to the last bit."""
    frame = data.draw(long_rows(table))
    numbers = data.draw(numbers_of(table, frame))
    stored = packed(table, frame.sample(fraction=1.0, shuffle=True, seed=1), numbers)
    assert stored.columns == [column.name for column in tables.stored_table(table).columns]
    assert stored.height == frame.select(packing(table).by).n_unique()
    names = stored_columns_of(table)
    found = unpacked(table, as_read(table, stored), numbers, names)
    assert_same_bits(in_order(table, found), frame.select(names))


@pytest.mark.parametrize("table", [table for table in PACKED if over(table)], ids=lambda table: table.name)
@settings(max_examples=10)
@given(data=st.data())
def test_rows_from_before_a_member_was_known_keep_their_places(table: Table, data: st.DataObject) -> None:
    """Two rows of two times: the arrays of the older one are shorter, those of the newer as long as numbers then."""
    frame = data.draw(long_rows(table).filter(lambda rows: not rows.is_empty()))
    numbers = data.draw(numbers_of(table, frame))
    later = {dimension: {**own, "came later": max(own.values()) + 2} for dimension, own in numbers.items()}
    before, after = (as_read(table, packed(table, frame, known)) for known in (numbers, later))
    both = pl.concat([before[:1], after[1:]])
    names = stored_columns_of(table)
    assert_same_bits(in_order(table, unpacked(table, both, later, names)), frame.select(names))


@EVERY_PACKED
@settings(max_examples=10)
@given(data=st.data())
def test_some_columns_are_the_same_as_of_all(table: Table, data: st.DataObject) -> None:
    frame = data.draw(long_rows(table))
    numbers = data.draw(numbers_of(table, frame))
    keys = table.primary_key.columns.keys()
    some = [name for name in stored_columns_of(table) if name in keys or data.draw(st.booleans())]
    found = unpacked(table, as_read(table, packed(table, frame, numbers)), numbers, some)
    assert_same_bits(in_order(table, found), frame.select(some))


@EVERY_PACKED
def test_no_rows_are_no_rows(table: Table) -> None:
    numbers = {dimension: {"one": 1, "three": 3} for dimension in over(table).values()}
    for known in (numbers, {dimension: dict[str, int]() for dimension in numbers}):
        stored = packed(table, empty_frame(table), known)
        assert stored.is_empty()
        names = stored_columns_of(table)
        assert unpacked(table, as_read(table, stored), known, names).equals(empty_frame(table).select(names))


def triangle(names: list[str]) -> pl.DataFrame:
    """Every ordered pair of `names`, correlations told apart by their places."""
    (table,) = TRIANGLES
    return framed(
        table,
        [
            {"session_date": DAYS[0], "portfolio_id": 1, "symbol_1": one, "symbol_2": other,
             "correlation": 1.0 / (2 + max(i, j) * 10 + min(i, j)), "p_value": None, "n_obs": i + j, "status": "ok",
             **PROVENANCE}
            for i, one in enumerate(names)
            for j, other in enumerate(names)
        ],
    )  # fmt: skip


@settings(max_examples=60)
@given(st.integers(1, 5), st.data())
def test_a_triangle_with_a_hole_is_refused(size: int, data: st.DataObject) -> None:
    """Whatever rows are missing: what is stored stands for exactly the rows there were, or nothing is stored."""
    (table,) = TRIANGLES
    whole = triangle(HARD_NAMES[:size])
    kept = whole.filter(pl.Series(data.draw(st.lists(st.booleans(), min_size=size**2, max_size=size**2))))
    left = set(kept["symbol_1"]) | set(kept["symbol_2"])
    if kept.height == len(left) ** 2:
        found = unpacked(table, as_read(table, packed(table, kept, {})), {}, kept.columns)
        assert_same_bits(in_order(table, found), kept)
    else:
        with pytest.raises(IncompleteTriangleError, match="not every pair"):
            packed(table, kept, {})


def test_a_member_without_a_number_is_not_packed_into_anothers_place() -> None:
    table = tables.portfolio_factor_exposures
    row = {column.name: None for column in table.columns} | PROVENANCE
    row |= {"session_date": DAYS[0], "portfolio_id": 1, "factor": "Oil", "positions_covered": 0, "positions_total": 0}
    frame = framed(table, [{**row, "private_share": 0.0, "status": "ok"}])
    with pytest.raises(pl.exceptions.InvalidOperationError):
        packed(table, frame, {"factor": {"Market": 1}})


def scenarios_of(frame: pl.DataFrame) -> pl.DataFrame:
    """What is said of every scenario of `frame` itself, once per session, as its rows say it."""
    table = tables.stress_scenario_diagnostics
    told = pl.col(elsewhere(tables.stress_test_results)).first()
    first = frame.group_by("session_date", "scenario_id", maintain_order=True).agg(told)
    fixed: dict[str, Any] = {
        "kind": "vector", "status": "ok", "window_sessions": 252, "volatility_shift": 0.0, "volatility_source": "stated",
    } | PROVENANCE  # fmt: skip
    return framed(table, [dict.fromkeys(table.columns.keys()) | fixed | row for row in first.to_dicts()])


def consistent(table: Table, frame: pl.DataFrame) -> pl.DataFrame:
    """Rows of which every portfolio says the same of a scenario."""
    if table is not tables.stress_test_results:
        return frame
    keys, told = ["session_date", "scenario_id"], elsewhere(table)
    of_scenarios = scenarios_of(frame).select(*keys, *told)
    return frame.drop(told).join(of_scenarios, on=keys, maintain_order="left").select(frame.columns)


def write(database: Database, table: Table, frame: pl.DataFrame) -> None:
    frames = [(table, frame)]
    if table is tables.stress_test_results:
        frames.append((tables.stress_scenario_diagnostics, scenarios_of(frame)))
    replace_sessions(database, frames, DAYS)


def canonical(frame: pl.DataFrame) -> pl.DataFrame:
    """Documents as PostgreSQL spells them have their keys in an order of its own."""
    documents = [name for name in ("factor_impacts", "effective_shocks") if name in frame.columns]
    return frame.with_columns(
        pl.col(name).map_elements(lambda text: repr(sorted(json.loads(text).items())), return_dtype=pl.String)
        for name in documents
    )


@pytest.fixture(scope="module")
def installed(shared_database: Database) -> Database:
    """A database that knows its sessions."""
    calendar = pl.DataFrame({"session_date": DAYS, "is_closed": False, "is_half_day": False})
    rows = framed(
        tables.trading_sessions,
        [
            dict.fromkeys(tables.trading_sessions.columns.keys())
            | {"opens_at": PROVENANCE["computed_at"], "closes_at": PROVENANCE["computed_at"]}
            | row
            for row in calendar.to_dicts()
        ],
    )
    with shared_database.connect() as connection:
        copy_rows(connection, relation(tables.trading_sessions), rows)
    return shared_database


@EVERY_PACKED
@settings(max_examples=6)
@given(data=st.data())
def test_the_view_and_a_window_give_what_was_written(installed: Database, table: Table, data: st.DataObject) -> None:
    """Of all examples the members are numbered together, so that most have places others took before."""
    frame = consistent(table, data.draw(long_rows(table, st.sampled_from(HARD_NAMES))))
    write(installed, table, frame)
    keys = table.primary_key.columns.keys()
    assert_same_bits(canonical(in_order(table, installed.read(table))), canonical(frame))
    names = [name for name in stored_columns_of(table) if name not in PROVENANCE]
    read = windows.on_sessions(table, columns=[name for name in names if name not in keys])
    found = windows.read(installed, read, DAYS[0], DAYS[-1])
    assert_same_bits(canonical(found), canonical(frame.select(names)))
