"""Betas estimated on the simulated market, whose true ones are known."""

from __future__ import annotations

from datetime import date

import polars as pl
import pytest
from scipy import stats

from sigmasight_pipeline.calculations.factor_model import symbol_factor_betas
from sigmasight_pipeline.calculations.returns import daily_returns
from sigmasight_pipeline.demo import parameters
from sigmasight_pipeline.demo.rebase import DEFAULT_SEED
from sigmasight_pipeline.demo.simulated import SimulatedMarket
from sigmasight_pipeline.sessions import SessionCalendar
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline_tests.calculations.table_rows import frame
from sigmasight_pipeline_tests.calculations.test_factor_returns import factor


@pytest.fixture(scope="module")
def simulated() -> pl.DataFrame:
    """Betas of the simulated market at the end of every year, each with the true one: windows hardly overlap."""
    market = SimulatedMarket(DEFAULT_SEED, SessionCalendar(date(2013, 1, 1), date(2026, 6, 30)))
    symbols, first, last = sorted(market.symbols()), date(2014, 1, 2), date(2024, 12, 31)
    bars = market.daily_bars(symbols, first, last)
    opened = bars["session_date"].unique().sort().to_list()
    calendar = pl.DataFrame({"session_date": opened, "is_closed": False})
    result = symbol_factor_betas(
        sessions=[max(day for day in opened if day.year == year) for year in range(2014, 2025)],
        calendar=calendar,
        instruments=market.instruments(symbols),
        factors=frame(
            tables.factor_definitions,
            [factor(one.key, "style" if one.proxy else "rate", one.proxy) for one in parameters.FACTORS],
        ),
        returns=daily_returns(bars, market.corporate_actions(symbols, first, last), calendar, opened),
        yields=market.treasury_yields(first, last).with_columns(session_date="observed_date"),
    ).filter(quality="ok")
    pairs = result.filter(pl.col("symbol") != "VIX")  # a level without true betas
    true = [market.true_univariate_beta(symbol, key) for symbol, key in pairs.select("symbol", "factor").iter_rows()]
    durations = market.instruments(symbols).select("symbol", "duration")
    return pairs.with_columns(true=pl.Series(true)).join(durations, on="symbol")


def test_true_betas_are_inside_their_intervals(simulated: pl.DataFrame) -> None:
    """The 99 % intervals of the plain standard errors. Volatility clusters in the simulated market as in real ones, and
    most in the style proxies, which costs them up to a point over all factors."""
    quantile = stats.t.ppf(0.995, simulated["n_obs"].to_numpy() - 2)
    width = pl.Series(quantile) * pl.col("std_error")
    judged = simulated.with_columns(inside=(pl.col("beta_raw") - pl.col("true")).abs() <= width + 1e-9)
    assert judged.height > 11 * 17 * 50
    for key in ("Market", "Interest_Rate"):
        assert judged.filter(factor=key)["inside"].mean() >= 0.98, key  # type: ignore[operator]  # mean of booleans
    assert judged["inside"].mean() >= 0.97  # type: ignore[operator]  # mean of booleans


def test_bond_funds_of_the_simulated_market(simulated: pl.DataFrame) -> None:
    funds = simulated.filter(pl.col("duration").is_not_null(), factor="Interest_Rate")
    assert funds["symbol"].n_unique() >= 5
    ratio = funds["beta"] / -funds["duration"]
    assert ratio.is_between(0.75, 1.25).all(), funds.with_columns(ratio=ratio)


def test_the_market_proxy_of_the_simulated_market(simulated: pl.DataFrame) -> None:
    assert simulated.filter(symbol="SPY", factor="Market")["beta"].to_list() == [1.0] * 11
