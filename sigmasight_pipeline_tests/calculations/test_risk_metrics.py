"""Which returns, rates and benchmark returns a row of ``portfolio_risk_metrics`` is made of, and its statuses."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import empyrical
import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmasight_pipeline.calculations import risk_metrics
from sigmasight_pipeline.calculations.risk_metrics import portfolio_risk_metrics
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline_tests.calculations.risk_rows import (
    held_rows,
    no_yields,
    return_rows,
    stored_schema,
    style_factors,
    weekdays,
)
from sigmasight_pipeline_tests.calculations.table_rows import frame, portfolio, sessions_frame

DAYS = weekdays(140)
LAST = DAYS[-1]
RANDOM = np.random.default_rng(2)
MARKET = 0.01 * RANDOM.normal(size=(140, 1))
OWN = np.hstack([0.8 * MARKET, -0.2 * MARKET]) + 0.005 * RANDOM.normal(size=(140, 2))
RATES = RANDOM.uniform(0.03, 0.05, 140)


def snapshots(returns: np.ndarray[Any, Any], days: Sequence[date] = DAYS) -> pl.DataFrame:
    """Snapshots of portfolios 1 and 2 with these daily returns; NaN is NULL."""
    return frame(
        tables.portfolio_snapshots,
        [
            {
                "session_date": day,
                "portfolio_id": number + 1,
                "net_asset_value": 1_000_000,
                "daily_return": None if np.isnan(returns[row, number]) else float(returns[row, number]),
            }
            for row, day in enumerate(days)
            for number in range(returns.shape[1])
        ],
    )


def yields(rates: np.ndarray[Any, Any]) -> pl.DataFrame:
    return frame(
        tables.treasury_yields,
        [
            {"session_date": day, "tenor": tenor, "yield": float(rate) + extra, "observed_date": day}
            for day, rate in zip(DAYS, rates, strict=True)
            for tenor, extra in (("3M", 0.0), ("10Y", 0.01))
            if not np.isnan(rate)
        ],
    )


def inputs(**fields: Any) -> dict[str, Any]:
    values, greeks = held_rows([], {}, [])
    return {
        "calendar": sessions_frame(DAYS),
        "portfolios": frame(tables.portfolios, [portfolio(1, DAYS[0]), portfolio(2, DAYS[0], benchmark_symbol="QQQ")]),
        "portfolio_snapshots": snapshots(OWN),
        "positions": frame(tables.positions, []),
        "position_values": values,
        "position_greeks": greeks,
        "instruments": frame(tables.instruments, []),
        "returns": return_rows(DAYS, ["SPY", "QQQ"], np.hstack([MARKET, 2 * MARKET])),
        "yields": yields(RATES),
        "factors": style_factors(),
        **fields,
    }


def row_of(portfolio_id: int = 1, window: int = 90, day: date = LAST, **fields: Any) -> dict[str, Any]:
    found = portfolio_risk_metrics(sessions=[day], **inputs(**fields))
    assert dict(found.schema) == stored_schema(tables.portfolio_risk_metrics)
    return found.filter(portfolio_id=portfolio_id, window_sessions=window).row(0, named=True)


@pytest.mark.parametrize("portfolio_id", [1, 2])
@pytest.mark.parametrize("window", [21, 63, 90])
def test_windows_rates_and_benchmark(portfolio_id: int, window: int) -> None:
    """The rate of a session is the yield of the session before / 252; each portfolio has its own benchmark."""
    row = row_of(portfolio_id, window)
    own = pd.Series(OWN[-window:, portfolio_id - 1])
    rate = pd.Series(RATES[-window - 1 : -1] / 252)
    benchmark = pd.Series(portfolio_id * MARKET[-window:, 0])
    expected = {
        "volatility": empyrical.annual_volatility(own),
        "sharpe": empyrical.sharpe_ratio(own, risk_free=rate),
        "sortino": empyrical.sortino_ratio(own, required_return=rate),
        "max_drawdown": empyrical.max_drawdown(own),
        "beta": empyrical.beta(own, benchmark),
        "correlation_to_benchmark": own.corr(benchmark),
        "hist_var_95": -empyrical.value_at_risk(own),
        "expected_shortfall_95": -empyrical.conditional_value_at_risk(own),
    }
    for name, value in expected.items():
        assert row[name] == pytest.approx(value, rel=1e-12, abs=1e-12), name
    assert (row["n_obs"], row["benchmark_n_obs"]) == (window, window)
    assert [row[name] for name in ("status", "benchmark_status", "factor_var_status")] == ["ok"] * 3
    assert row["factor_var_95"] == 0.0  # nothing is held


def test_drawdown_dates() -> None:
    returns = np.full((140, 1), 0.001)
    returns[[100, 110]] = -0.1
    row = row_of(portfolio_snapshots=snapshots(np.hstack([returns, returns])))
    assert (row["drawdown_start"], row["drawdown_end"]) == (DAYS[99], DAYS[110])
    assert row["max_drawdown"] == pytest.approx(0.9 * 1.001**9 * 0.9 - 1, abs=1e-12)
    # the first return of the window: there is no session of the high
    first = row_of(portfolio_snapshots=snapshots(np.hstack([returns, returns])), day=DAYS[120], window=21)
    assert (first["drawdown_start"], first["drawdown_end"]) == (None, DAYS[110])
    none = row_of(portfolio_snapshots=snapshots(np.full((140, 2), 0.001)))
    assert (none["max_drawdown"], none["drawdown_start"], none["drawdown_end"]) == (0.0, None, None)


FIGURES = (
    "volatility",
    "max_drawdown",
    "var_95",
    "var_99",
    "hist_var_95",
    "hist_var_99",
    "expected_shortfall_95",
    "hit_rate",
)


@pytest.mark.parametrize(("age", "status"), [(89, "insufficient_history"), (90, "ok")])
def test_history_is_counted_from_the_inception(age: int, status: str) -> None:
    """Rows before the inception, of an earlier life of the portfolio, are no history."""
    young = frame(tables.portfolios, [portfolio(1, DAYS[140 - age])])
    row = row_of(portfolios=young)
    assert (row["status"], row["n_obs"]) == (status, age)
    known = status == "ok"
    assert [row[name] is not None for name in (*FIGURES, "sharpe", "sortino", "beta")] == [known] * 11
    assert row["benchmark_status"] == status


def test_a_missing_return_leaves_no_figure() -> None:
    own = OWN.copy()
    own[100, 0] = np.nan
    row = row_of(portfolio_snapshots=snapshots(own))
    assert (row["status"], row["n_obs"], row["benchmark_status"]) == ("missing_return", 89, "insufficient_history")
    assert [row[name] for name in (*FIGURES, "sharpe", "sortino", "beta")] == [None] * 11
    assert row_of(portfolio_snapshots=snapshots(own), window=21)["status"] == "ok"
    assert row_of(portfolio_snapshots=snapshots(own), portfolio_id=2)["status"] == "ok"


def test_a_missing_rate_leaves_out_sharpe_and_sortino_only() -> None:
    rates = RATES.copy()
    rates[100] = np.nan
    row = row_of(yields=yields(rates))
    assert (row["status"], row["sharpe"], row["sortino"]) == ("missing_rate", None, None)
    assert all(row[name] is not None for name in (*FIGURES, "beta"))
    assert row_of(yields=yields(rates), window=21)["status"] == "ok"
    assert row_of(yields=no_yields(), window=21)["status"] == "missing_rate"
    # the yield of the session itself is not used, that of the session before the first one is
    rates[100], rates[-1] = 0.04, np.nan
    assert row_of(yields=yields(rates))["status"] == "ok"


@pytest.mark.parametrize("rate", [np.full(140, 0.05), RATES], ids=["constant rate", "rate that varies"])
@pytest.mark.parametrize("own", [0.0, 0.0002, -0.0001])
def test_returns_that_do_not_vary(own: float, rate: np.ndarray[Any, Any]) -> None:
    """Cash had a Sharpe ratio of -8,179: what varied was the risk-free rate. Its own variation is its rounding."""
    noise = 1e-18 * np.resize([1.0, -1.0], (140, 2))
    row = row_of(portfolio_snapshots=snapshots(np.full((140, 2), own) + noise), yields=yields(rate))
    assert (row["status"], row["sharpe"], row["sortino"]) == ("no_variance", None, None)
    assert row["volatility"] == pytest.approx(0.0, abs=1e-12)
    assert row["hit_rate"] == float(own > 0) or own == 0.0


def test_cash_has_no_benchmark_correlation() -> None:
    row = row_of(portfolio_snapshots=snapshots(np.zeros((140, 2))))
    assert (row["volatility"], row["hit_rate"], row["benchmark_status"]) == (0.0, 0.0, "no_variance")
    assert (row["beta"], row["correlation_to_benchmark"]) == (0.0, None)


def test_benchmark_gaps_are_missing_pairs() -> None:
    market = np.hstack([MARKET, MARKET])
    market[90:100, 0] = np.nan
    returns = return_rows(DAYS, ["SPY", "QQQ"], market, spanned={(100, 0): 11})
    row = row_of(returns=returns)
    assert (row["benchmark_n_obs"], row["benchmark_status"]) == (79, "ok")
    kept = [n for n in range(50, 140) if not 90 <= n <= 100]
    assert row["beta"] == pytest.approx(empyrical.beta(OWN[kept, 0], MARKET[kept, 0]), rel=1e-12)
    unknown = row_of(returns=returns.filter(pl.col("symbol") == "QQQ"))
    assert (unknown["benchmark_n_obs"], unknown["beta"], unknown["benchmark_status"]) == (
        0, None, "insufficient_history",
    )  # fmt: skip


def test_windows_too_short_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 sessions"):
        portfolio_risk_metrics(sessions=[LAST], **inputs(), windows=[1, 21])


@settings(max_examples=8)
@given(st.integers(0, 2**16), st.sampled_from(DAYS[60:]), st.sampled_from([3, 10_000]))
def test_range_equals_single_order_and_future_change_nothing(seed: int, day: date, columns: int) -> None:
    own = np.where(np.random.default_rng(seed).random(OWN.shape) < 0.01, np.nan, OWN)
    book = inputs(portfolio_snapshots=snapshots(own))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(risk_metrics, "COLUMNS_AT_ONCE", columns)
        whole = portfolio_risk_metrics(sessions=DAYS[20:], **book)
    assert whole.height == 120 * 2 * 4
    dated = ("portfolio_snapshots", "returns", "yields")
    known = {
        name: rows.filter(pl.col("session_date") <= day).sample(fraction=1, shuffle=True, seed=seed)
        if name in dated
        else rows
        for name, rows in book.items()
    }
    assert portfolio_risk_metrics(sessions=[day], **known).equals(whole.filter(pl.col("session_date") == day))
    one = {**book, "portfolios": book["portfolios"].filter(pl.col("portfolio_id") == 2)}
    assert portfolio_risk_metrics(sessions=[day], **one).equals(
        whole.filter(pl.col("session_date") == day, pl.col("portfolio_id") == 2)
    )
