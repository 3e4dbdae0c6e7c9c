"""Packing and unpacking: no bit is lost on the way to arrays and back, in frames and through a database."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from sqlalchemy import Table

from sigmasight_pipeline.storage import members, tables, windows
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
        "kind": "vector", "status": "ok", "window_sessions": 252, "volatility_shift": 0.0,
        "volatility_source": "stated",
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


def betas(day: date, symbol: str, *factors: str) -> pl.DataFrame:
    """Rows of ``symbol_factor_betas``, of each factor a beta of its own."""
    table = tables.symbol_factor_betas
    row = dict.fromkeys(table.columns.keys()) | {"session_date": day, "symbol": symbol, "quality": "ok"} | PROVENANCE
    counted = {"n_obs": 60, "window_sessions": 252}
    return framed(
        table, [row | counted | {"factor": name, "beta": float(number)} for number, name in enumerate(factors)]
    )


def raw(database: Database, day: date) -> list[float | None]:
    """The array of betas as it is stored."""
    stored = tables.stored_table(tables.symbol_factor_betas)
    found: list[float | None] = database.read(stored, where="session_date = %s", params=[day])["beta"][0].to_list()
    return found


def assert_both_give(database: Database, expected: pl.DataFrame) -> None:
    """The view and the reading of windows."""
    table = tables.symbol_factor_betas
    assert_same_bits(in_order(table, database.read(table)), in_order(table, expected))
    found = windows.read(database, windows.on_sessions(table), DAYS[0], DAYS[-1])
    assert_same_bits(found, in_order(table, expected).drop(tables.PROVENANCE))


def test_a_factor_added_later_leaves_older_rows_their_places(database: Database) -> None:
    first, then = betas(DAYS[0], "AAA", "Market", "Size"), betas(DAYS[1], "AAA", "Gold", "Market", "Size", "Value")
    replace_sessions(database, [(tables.symbol_factor_betas, first)], DAYS[:1])
    assert raw(database, DAYS[0]) == [0.0, 1.0]
    replace_sessions(database, [(tables.symbol_factor_betas, then)], DAYS[1:2])
    assert members.numbers(database) == {"factor": {"Market": 1, "Size": 2, "Gold": 3, "Value": 4}}
    assert (raw(database, DAYS[0]), raw(database, DAYS[1])) == ([0.0, 1.0], [1.0, 2.0, 0.0, 3.0])
    assert_both_give(database, pl.concat([first, then]))


def test_a_factor_that_is_gone_keeps_its_rows_and_its_number(database: Database) -> None:
    """Its definition is removed, then every row; who comes after it takes another place."""
    table = tables.factor_definitions
    defined = framed(
        table,
        [
            dict.fromkeys(table.columns.keys())
            | {"factor": name, "name": name, "kind": "style", "display_order": order, "active": True}
            for order, name in enumerate(("Market", "Size"))
        ],
    )
    with database.connect() as connection:
        copy_rows(connection, relation(table), defined)
    rows = betas(DAYS[0], "AAA", "Market", "Size")
    replace_sessions(database, [(tables.symbol_factor_betas, rows)], DAYS[:1])
    with database.connect() as connection:
        connection.execute("DELETE FROM sigmasight.factor_definitions WHERE factor = 'Market'")
    assert_both_give(database, rows)
    left = betas(DAYS[0], "AAA", "Size", "Value")
    replace_sessions(database, [(tables.symbol_factor_betas, left)], DAYS[:1])
    assert members.numbers(database)["factor"] == {"Market": 1, "Size": 2, "Value": 3}
    assert raw(database, DAYS[0]) == [None, 0.0, 1.0]
    assert_both_give(database, left)


def test_writers_of_several_sessions_agree_on_the_numbers(database: Database) -> None:
    """Each brings a factor of its own, and one that all bring."""
    parts = [betas(day, "AAA", f"Factor {number}", "Shared") for number, day in enumerate(DAYS)]
    with ThreadPoolExecutor(len(DAYS)) as pool:
        written = pool.map(
            lambda part: replace_sessions(database, [(tables.symbol_factor_betas, part)], [part["session_date"][0]]),
            parts,
        )
    assert [counts["symbol_factor_betas"] for counts in written] == [2] * len(DAYS)
    assert sorted(members.numbers(database)["factor"].values()) == list(range(1, len(DAYS) + 2))
    assert_both_give(database, pl.concat(parts))


def test_a_write_that_fails_numbers_nobody(database: Database) -> None:
    def fails(_connection: object) -> None:
        raise RuntimeError("before the commit")

    with pytest.raises(RuntimeError, match="before the commit"):
        replace_sessions(
            database, [(tables.symbol_factor_betas, betas(DAYS[0], "AAA", "Market"))], DAYS[:1], before_commit=fails
        )
    assert members.numbers(database) == {}
    assert database.read(tables.symbol_factor_betas).is_empty()
