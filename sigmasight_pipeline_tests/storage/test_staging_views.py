"""Views of rows that are stored nowhere: what they lay out is what the engines, or the rule in Polars, say."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from sqlalchemy import Column, Table

from sigmasight_pipeline.calculations.factor_exposures import (
    book_factor_exposures,
    position_factor_exposures,
    position_interest_rate_betas,
)
from sigmasight_pipeline.calculations.factor_model import symbol_factor_betas
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.copying import copy_rows, relation
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.frames import polars_schema
from sigmasight_pipeline.storage.partitions import replace_sessions
from sigmasight_pipeline_tests.calculations.stress_world import (
    World,
    contract,
    factor_rows,
    long,
    market,
    replay,
    scenario,
)
from sigmasight_pipeline_tests.calculations.table_rows import frame, private
from sigmasight_pipeline_tests.storage.long_rows import PROVENANCE
from sigmasight_pipeline_tests.storage.sample_rows import MOMENT

CALL, PUT = "AAA240920C00100000", "AAA240920P00090000"
SINCE = date(2020, 1, 2)

SCENARIOS = [
    scenario("down", {"Market": -0.10}),
    scenario("crash", {"Market": -0.45, "Oil": -0.5, "Technology": {"relative": 0.1}}, volatility_shift=1.0),
    scenario("nowhere", {"Market": -0.1, "Mars": 0.2}),
    replay("long_ago", date(1987, 10, 13), date(1987, 10, 19)),
    replay("then", date(2024, 1, 5), date(2024, 1, 26)),
]

HELD = [
    long(1, "AAA", "33.333333"),
    long(2, "SPY", 300),
    long(3, "YOUNG", -200, portfolio_id=2),
    contract(4, CALL, 5, portfolio_id=2),
    contract(5, PUT, -3),
    private(6, "FUND", 1, 1000, SINCE, portfolio_id=2),
    long(7, "OLD"),
    long(8, "WILD"),
    long(9, "BOND"),
    long(10, "NOBODY"),
]


def made_world() -> World:
    """Three sessions: a renamed symbol, a young one, one without instrument, options without figures, an exit."""
    stocks = {"AAA": {"Market": 1.2}, "WILD": {"Market": 3.5}, "YOUNG": {"Market": 1.0}, "BOND": {"Interest_Rate": -6}}
    plain = market(stocks, computed=3, dropped={"YOUNG": 270})
    factors = frame(
        tables.factor_definitions,
        [*factor_rows(without=["Gold"]), {"factor": "Reviews", "name": "Reviews", "kind": "characteristic",
                                          "display_order": 99, "active": True}],
    )  # fmt: skip
    renamed = plain.instruments.head(1).with_columns(
        symbol=pl.lit("OLD"), replaced_by=pl.lit("AAA"), last_session=pl.lit(plain.sessions[0])
    )
    instruments = pl.concat([plain.instruments, renamed])
    known = {name: getattr(plain, name) for name in ("calendar", "sessions", "returns", "yields")}
    betas = symbol_factor_betas(**known, factors=factors, instruments=instruments)
    held = replace(plain, factors=factors, instruments=instruments, betas=betas).holding(*HELD, owners=2)
    last = pl.col("session_date") == plain.sessions[-1]
    greeks = held.book["position_greeks"].filter(pl.col("position_id") != 6)
    values = held.book["position_values"].with_columns(
        price_source=pl.when(last & (pl.col("position_id") == 9)).then(pl.lit("exit")).otherwise("price_source")
    )
    unknown = [
        pl.when(pl.col("position_id") != 5).then(pl.col("volatility")),
        pl.when(~(last & (pl.col("position_id") == 4))).then(pl.col("delta_adjusted_exposure")),
    ]
    return held.with_book(position_greeks=greeks.with_columns(unknown), position_values=values)


def whole(table: Table, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of `table` with provenance, and with something in columns that may not be NULL and nobody filled."""
    schema = polars_schema(table)
    laid_out = rows.with_columns(pl.lit(value).alias(name) for name, value in PROVENANCE.items() if name in schema)
    missing = [pl.lit(None).alias(name) for name in schema if name not in laid_out.columns]
    return laid_out.with_columns(missing).select(
        pl.col(name).cast(dtype)
        if table.columns[name].nullable
        else pl.col(name).cast(dtype).fill_null(pl.lit(_anything(table.columns[name])).cast(dtype))
        for name, dtype in schema.items()
    )


def _anything(column: Column[Any]) -> Any:
    kind = column.type.python_type
    if "isin" in column.info:
        return column.info["isin"][0]
    return {str: "x", bool: False, date: SINCE}.get(kind, MOMENT if kind.__name__ == "datetime" else 1)


@dataclass(frozen=True)
class Stored:
    """A database with the book, the betas and what the stress engine returned; and the book itself."""

    database: Database
    world: World
    by_position: pl.DataFrame


@pytest.fixture(scope="module")
def stored(shared_database: Database) -> Stored:
    world = made_world()
    reference = {
        tables.portfolios: world.book["portfolios"],
        tables.positions: world.book["positions"],
        tables.factor_definitions: world.factors,
    }
    with shared_database.connect() as connection:
        for table, rows in reference.items():
            copy_rows(connection, relation(table), whole(table, rows))
    results, returns, of_options, diagnostics, _ = world.returned(*SCENARIOS, min_coverage=0.0)
    exposures, _ = book_factor_exposures(
        sessions=world.sessions,
        calendar=world.calendar,
        factors=world.factors,
        instruments=world.instruments,
        symbol_factor_betas=world.betas,
        **world.book,
    )
    of_sessions = {
        tables.portfolio_factor_exposures: exposures,
        tables.position_values: world.book["position_values"],
        tables.position_greeks: world.book["position_greeks"],
        tables.symbol_factor_betas: world.betas,
        tables.stress_test_results: results,
        tables.symbol_scenario_returns: returns,
        tables.option_scenario_pnl: of_options,
        tables.stress_scenario_diagnostics: diagnostics,
    }
    written = [(table, whole(table, rows)) for table, rows in of_sessions.items()]
    replace_sessions(shared_database, written, world.sessions)
    return Stored(shared_database, world, world.told(*SCENARIOS)[1])


def read(stored: Stored, table: Table) -> pl.DataFrame:
    rows = stored.database.read(table).drop(tables.PROVENANCE)
    return rows.sort(table.primary_key.columns.keys())


def test_stress_by_position(stored: Stored) -> None:
    found = read(stored, tables.stress_position_results)
    assert_frame_equal(found, stored.by_position, check_exact=True)
    statuses = {"ok", "no_beta", "no_delta_adjusted_exposure", "factor_without_data"}
    assert set(found["status"]) == statuses, "every kind of row is there"
    assert set(found["return_source"]) == {"own", "model", None}
    assert found["floored"].any()
    assert set(found["scenario_id"]) == {"down", "crash", "nowhere", "then"}


def test_totals_of_portfolios_are_their_positions(stored: Stored) -> None:
    keys = ["session_date", "portfolio_id", "scenario_id"]
    summed = read(stored, tables.stress_position_results).group_by(keys).agg(pl.col("pnl", "pnl_linear").sum())
    given = read(stored, tables.stress_test_results).drop_nulls("total_pnl")
    compared = given.join(summed, on=keys)
    assert compared.height == given.height > 0
    assert compared["total_pnl"].equals(compared["pnl"])
    assert compared["correlated_pnl"].equals(compared["pnl_linear"])


def test_factor_exposures_of_positions(stored: Stored) -> None:
    world = stored.world
    wanted = position_factor_exposures(
        sessions=world.sessions,
        factors=world.factors,
        instruments=world.instruments,
        symbol_factor_betas=world.betas,
        **{name: world.book[name] for name in ("positions", "position_values", "position_greeks")},
    )
    found = read(stored, tables.position_factor_exposures)
    assert_frame_equal(found, wanted, check_exact=True)
    assert {"ok", "no_beta", "insufficient_history", "private", "factor_without_data"} <= set(found["quality"])


def test_rate_betas_of_positions(stored: Stored) -> None:
    world = stored.world
    wanted = position_interest_rate_betas(
        sessions=world.sessions,
        factors=world.factors,
        instruments=world.instruments,
        symbol_factor_betas=world.betas,
        **{name: world.book[name] for name in ("positions", "position_values")},
    )
    found = read(stored, tables.position_interest_rate_betas)
    assert_frame_equal(found, wanted, check_exact=True)
    assert {"ok", "no_beta", "insufficient_history", "private"} <= set(found["quality"])
    assert found.filter(position_id=7)["symbol"].unique().sort().to_list() == ["AAA", "OLD"], "renamed in between"
