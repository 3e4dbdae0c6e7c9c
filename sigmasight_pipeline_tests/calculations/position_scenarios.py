"""Scenario results by position, as the view ``staging.stress_position_results`` lays them out.

What belongs here: the view's rule in Polars, for tests of the engine that look at positions. What does not: figures of
its own; that the view says the same of the same rows is tested where the database is (``storage.test_staging_views``).
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from sigmasight_pipeline.calculations.money import MONEY, from_units, nearest_units
from sigmasight_pipeline.calculations.position_prices import EXIT_SOURCES
from sigmasight_pipeline.calculations.stress_totals import WITHOUT_WINDOW
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.frames import polars_schema

REPRICED_WITH = ("underlying_price", "time_to_expiry", "risk_free_rate", "volatility", "dividend_yield")
"""What an option cannot be re-priced without."""

_POSITION = ["session_date", "position_id"]


def position_results(
    book: Mapping[str, pl.DataFrame], returns: pl.DataFrame, of_options: pl.DataFrame, diagnostics: pl.DataFrame
) -> pl.DataFrame:
    """Rows of ``stress_position_results`` without provenance, by session, scenario and position.

    `book` has the rows of ``positions``, ``position_values`` and ``position_greeks``; the others are what the stress
    engine returned: ``symbol_scenario_returns``, ``option_scenario_pnl``, ``stress_scenario_diagnostics``. Of a PUBLIC
    position pnl is delta-adjusted exposure x its symbol's return, half-even to the cent, and of an option what it was
    re-priced at. Of several reasons for no figure the scenario's own is told first.
    """
    is_option = pl.col("investment_class") == "OPTIONS"
    known = pl.col("delta_adjusted_exposure").is_not_null() & (
        ~is_option | pl.all_horizontal(pl.col(name).is_not_null() for name in REPRICED_WITH)
    )
    reason = (
        pl.when(pl.col("of_scenario") != "ok")
        .then("of_scenario")
        .when(~known)
        .then(pl.lit("no_delta_adjusted_exposure"))
        .when(pl.col("implied_return").is_null())
        .then(pl.lit("no_beta"))
        .otherwise(pl.lit("ok"))
    )
    solved = diagnostics.filter(~pl.col("status").is_in(list(WITHOUT_WINDOW)))
    rows = _with_linear_pnl(
        _held(book)
        .join(solved.select("session_date", "scenario_id", of_scenario="status"), on="session_date")
        .join(returns, on=["session_date", "symbol", "scenario_id"], how="left")
        .join(of_options.drop("portfolio_id"), on=[*_POSITION, "scenario_id"], how="left")
        .with_columns(status=reason)
    )
    has_figure = pl.col("status") == "ok"
    laid_out = rows.with_columns(
        pnl=pl.when(has_figure).then(pl.when(is_option).then("pnl").otherwise("pnl_linear")),
        pnl_linear=pl.when(has_figure).then("pnl_linear"),
        floored=pl.col("floored").fill_null(value=False),
        return_source=pl.when("is_own").then(pl.lit("own")).when(~pl.col("is_own")).then(pl.lit("model")),
    )
    schema = polars_schema(tables.stress_position_results)
    names = [name for name in schema if name not in tables.PROVENANCE]
    return laid_out.select(pl.col(name).cast(schema[name]) for name in names).sort(
        "session_date", "scenario_id", "position_id"
    )


def _held(book: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """PUBLIC and OPTIONS positions held at each session, with what they are re-priced by and the symbol they follow."""
    greeks = book["position_greeks"].select(*_POSITION, "delta_adjusted_exposure", *REPRICED_WITH, symbol="risk_symbol")
    return (
        book["position_values"]
        .filter(~pl.col("price_source").is_in(list(EXIT_SOURCES)))
        .select(*_POSITION, "portfolio_id")
        .join(book["positions"].select("position_id", "investment_class"), on="position_id")
        .filter(pl.col("investment_class") != "PRIVATE")
        .join(greeks, on=_POSITION)
    )


def _with_linear_pnl(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with pnl_linear, NULL where the exposure or the return is."""
    dollars = rows.select(pl.col("delta_adjusted_exposure").cast(pl.Float64) * pl.col("implied_return")).to_series()
    rounded = from_units(nearest_units(dollars.fill_null(0.0), MONEY), MONEY, "rounded")
    return rows.with_columns(
        pnl_linear=pl.when(pl.lit(dollars.is_not_null())).then(pl.lit(rounded)),
    )
