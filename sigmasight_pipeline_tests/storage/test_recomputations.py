"""Old rows against new ones: the comparison, its counts, and keeping them by run."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import polars as pl

from sigmasight_pipeline.storage import recomputations, tables
from sigmasight_pipeline.storage.comparison import compare
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.partitions import replace_sessions
from sigmasight_pipeline_tests.storage.sample_rows import rows, weekdays

DAYS = weekdays(3)
D1, D2, D3 = DAYS


def counts(frame: pl.DataFrame) -> list[tuple[object, ...]]:
    return frame.select(
        "portfolio_id", *recomputations.COUNTS, "first_changed", "last_changed", "largest_nav_difference"
    ).rows()


def test_every_figure_is_compared_to_the_last_bit_and_no_stamp_is() -> None:
    table = tables.portfolio_exposures
    before = rows(table, DAYS, 2)
    later = before.with_columns(run_id=pl.lit("later"), computed_at=pl.col("computed_at").dt.offset_by("1d"))
    assert compare(table, before, later.reverse())["kind"].unique().to_list() == ["unchanged"]
    nudged = later.with_columns(hhi=pl.when(pl.col("session_date") == D2).then(pl.col("hhi") + 1e-15).otherwise("hhi"))
    assert compare(table, before, nudged).group_by("session_date").agg(pl.col("kind").n_unique()).height == 3
    unknown = later.with_columns(hhi=pl.when(pl.col("session_date") != D2).then("hhi"))
    kinds = compare(table, before, unknown).sort("session_date")["kind"].to_list()
    assert kinds == ["unchanged"] * 2 + ["revised"] * 2 + ["unchanged"] * 2
    assert set(compare(table, unknown, unknown)["kind"]) == {"unchanged"}, "NULL is NULL"


def test_documents_are_compared_by_what_they_say() -> None:
    table = tables.stress_test_results
    before = rows(table, [D1], 2, values={"factor_impacts": '{"a": 1, "b": 0.0000001}'})
    respelt = before.with_columns(factor_impacts=pl.lit('{"b":1e-07,"a":1}'))
    assert set(compare(table, before, respelt)["kind"]) == {"unchanged"}
    other = before.with_columns(factor_impacts=pl.lit('{"a": 2, "b": 0.0000001}'))
    assert set(compare(table, before, other)["kind"]) == {"revised"}


def test_rows_are_counted_by_portfolio_with_the_largest_difference_of_net_asset_value() -> None:
    table = tables.portfolio_snapshots
    before = rows(table, DAYS, 2)
    own = pl.col("portfolio_id") == 1
    step = pl.when(own & (pl.col("session_date") == D2)).then(-5).when(own & (pl.col("session_date") == D3)).then(3)
    after = before.with_columns(
        net_asset_value=(pl.col("net_asset_value") + step.otherwise(0)).cast(pl.Decimal(20, 2))
    ).filter(~(~own & (pl.col("session_date") == D1)))
    assert counts(recomputations.counted(table, before, after)) == [
        (0, 0, 0, 1, 2, D1, D1, Decimal("0.00")),
        (1, 0, 2, 0, 1, D2, D3, Decimal("-5.00")),
    ]
    assert counts(recomputations.counted(table, before.clear(), after.filter(own))) == [(1, 3, 0, 0, 0, D1, D3, None)]
    symbols = rows(tables.daily_returns, DAYS, 2)
    assert counts(recomputations.counted(tables.daily_returns, symbols, symbols)) == [(0, 0, 0, 0, 6, None, None, None)]
    positions = rows(tables.position_values, [D1], 2, values={"portfolio_id": 7})
    assert counts(recomputations.counted(tables.position_values, positions, positions.clear())) == [
        (7, 0, 0, 2, 0, D1, D1, None)
    ]


def test_the_counts_of_parts_and_runs_add_up(shared_database: Database) -> None:
    table = tables.portfolio_snapshots
    before = rows(table, DAYS, 1, values={"portfolio_id": 1})
    replace_sessions(shared_database, [(table, before)], DAYS)

    def write(run_id: str, days: list[date], step: int) -> pl.DataFrame:
        new = before.filter(pl.col("session_date").is_in(days)).with_columns(
            net_asset_value=(pl.col("net_asset_value") + step).cast(pl.Decimal(20, 2))
        )
        moved = recomputations.moved(shared_database, [(table, new)], days, [1])
        with shared_database.connect() as connection:
            recomputations.keep(connection, run_id, moved)
        return moved

    parts = [write("one", [D1], -9), write("one", [D2, D3], 4), write("two", [D3], 0)]
    expected = [(1, 0, 3, 0, 1, D1, D3, Decimal("-9.00"))]
    assert counts(recomputations.added_up(parts)) == expected
    assert counts(recomputations.of_runs(shared_database, ["one", "two", "unknown"])) == expected
    assert counts(recomputations.of_runs(shared_database, ["one"])) == [(1, 0, 3, 0, 0, D1, D3, Decimal("-9.00"))]
    assert recomputations.of_runs(shared_database, []).is_empty()


def test_rows_no_run_has_written_are_counted(shared_database: Database) -> None:
    table = tables.portfolio_exposures
    made = rows(table, DAYS, 2).with_columns(
        run_id=pl.when(pl.col("session_date") == D2).then(pl.lit("mine")).otherwise(pl.lit("another"))
    )
    replace_sessions(shared_database, [(table, made)], DAYS)
    name = str(table.name)
    assert recomputations.not_computed(shared_database, [name], D1, D3, ["mine"], None) == {(name, 0): 2, (name, 1): 2}
    assert recomputations.not_computed(shared_database, [name], D1, D2, ["mine"], [1]) == {(name, 1): 1}
    assert recomputations.not_computed(shared_database, [name], D2, D2, ["mine"], None) == {}
