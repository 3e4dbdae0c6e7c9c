"""Risk metrics of every portfolio over several windows of its daily returns: the engine behind
``portfolio_risk_metrics``.

What belongs here: which daily returns, rates and benchmark returns a window is made of, and what is said where it is
not complete. What does not: the formulas (``return_metrics``) and the value at risk of the positions held
(``factor_var``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import date

import numpy as np
import polars as pl

from sigmasight_pipeline.calculations.arrays import BoolArray, FloatArray, IntArray
from sigmasight_pipeline.calculations.exposures import portfolio_sessions
from sigmasight_pipeline.calculations.factor_returns import return_panel
from sigmasight_pipeline.calculations.factor_var import factor_value_at_risk
from sigmasight_pipeline.calculations.grids import grid
from sigmasight_pipeline.calculations.portfolio_lives import lives
from sigmasight_pipeline.calculations.return_metrics import (
    SESSIONS_PER_YEAR,
    BenchmarkMetrics,
    ReturnMetrics,
    benchmark_metrics,
    return_metrics,
)
from sigmasight_pipeline.calculations.timeline import NEVER, Timeline, day_numbers, open_sessions, to_dates

WINDOWS = (21, 63, 90, 252)

RISK_FREE_TENOR = "3M"

COLUMNS_AT_ONCE = 10_000
"""Windows (a portfolio at a session) computed at once: 252 of their returns are 20 MB."""

_KEYS = ["session_date", "portfolio_id"]


@dataclass(frozen=True)
class _Histories:
    """Returns by (session of the timeline, portfolio or benchmark), NaN where there is none, and what a row needs.

    `session` and `portfolio` number the rows wanted; `benchmark` is each portfolio's column of `benchmarks`,
    `age` the sessions of each row's portfolio since its inception, the row's included.
    """

    timeline: Timeline
    returns: FloatArray
    risk_free: FloatArray
    benchmarks: FloatArray
    benchmark: IntArray
    session: IntArray
    portfolio: IntArray
    age: IntArray


def portfolio_risk_metrics(
    *,
    sessions: Sequence[date],
    calendar: pl.DataFrame,
    portfolios: pl.DataFrame,
    portfolio_snapshots: pl.DataFrame,
    positions: pl.DataFrame,
    position_values: pl.DataFrame,
    position_greeks: pl.DataFrame,
    instruments: pl.DataFrame,
    returns: pl.DataFrame,
    yields: pl.DataFrame,
    factors: pl.DataFrame,
    windows: Sequence[int] = WINDOWS,
    min_benchmark_observations: int = 20,
    regression_window: int = 252,
    min_observations: int = 60,
    min_coverage: float = 0.8,
) -> pl.DataFrame:
    """One row per portfolio, open session of `sessions` of its life and window of `windows`.

    Columns are those of ``portfolio_risk_metrics`` without provenance, ordered by its key; formulas, units and signs
    see ``return_metrics`` and ``factor_var``. A window is the last w daily returns, the session's included.
    status: insufficient_history (fewer than w sessions since inception) and missing_return (one of the w has no
    return) leave only n_obs and factor_var_95; missing_rate (no 3-month yield at the session before one of the w)
    leaves out sharpe and sortino; no_variance (the portfolio's own returns do not vary) both as well; sortino is NULL
    without a loss. The rate of a session is the 3-month yield of the session before / 252. beta and
    correlation_to_benchmark are of the sessions of the window on which the portfolio's benchmark has a one-session
    return, at least `min_benchmark_observations` (benchmark_status). factor_var_95 is the same in every window.

    `portfolio_snapshots` and `returns` (``daily_returns``) are rows of these sessions and of the longest window before
    the first, `yields` (``treasury_yields``) of one session more; positions, values and Greeks of these sessions.
    Raises exposures.MissingGreeksError and timeline.SessionWindowError.
    """
    if not windows or min(windows) < 2:
        raise ValueError(f"risk metrics need windows of at least 2 sessions, not {list(windows)}")
    wanted = portfolio_sessions(sessions, calendar, portfolios)
    histories = _histories(wanted, open_sessions(sessions, calendar), portfolios, portfolio_snapshots, returns, yields)
    held = factor_value_at_risk(
        sessions=sessions,
        calendar=calendar,
        portfolios=portfolios,
        portfolio_snapshots=portfolio_snapshots,
        positions=positions,
        position_values=position_values,
        position_greeks=position_greeks,
        instruments=instruments,
        returns=returns,
        yields=yields,
        factors=factors,
        regression_window=regression_window,
        min_observations=min_observations,
        min_coverage=min_coverage,
    )
    rows = [
        pl.concat([wanted, _window_rows(histories, window, min_benchmark_observations)], how="horizontal")
        for window in sorted(set(windows))
    ]
    return (
        pl.concat(rows)
        .join(held, on=_KEYS, how="left", maintain_order="left")
        .sort(*_KEYS, "window_sessions")
        .select(
            *_KEYS,
            "window_sessions",
            "volatility",
            "sharpe",
            "sortino",
            "max_drawdown",
            "drawdown_start",
            "drawdown_end",
            "beta",
            "correlation_to_benchmark",
            "var_95",
            "var_99",
            "hist_var_95",
            "hist_var_99",
            "expected_shortfall_95",
            "factor_var_95",
            "factor_var_dollars",
            "factor_var_contributions",
            "hit_rate",
            "n_obs",
            "benchmark_n_obs",
            "status",
            "benchmark_status",
            "factor_var_status",
        )
    )


def _histories(
    wanted: pl.DataFrame,
    timeline: Timeline,
    portfolios: pl.DataFrame,
    snapshots: pl.DataFrame,
    returns: pl.DataFrame,
    yields: pl.DataFrame,
) -> _Histories:
    owners = lives(portfolios, "benchmark_symbol").sort("portfolio_id")
    ids = owners.get_column("portfolio_id")
    symbols = sorted(set(owners.get_column("benchmark_symbol")))
    inception = timeline.on_or_after(day_numbers(owners.get_column("inception_date")))
    session = timeline.on_or_before(day_numbers(wanted.get_column("session_date")))
    portfolio = np.searchsorted(ids.to_numpy(), wanted.get_column("portfolio_id").to_numpy())
    yield_before = grid(yields, timeline.dates, "tenor", pl.Series([RISK_FREE_TENOR]), "yield")[:-1, 0]
    return _Histories(
        timeline=timeline,
        returns=grid(snapshots, timeline.dates, "portfolio_id", ids, "daily_return"),
        risk_free=np.concatenate([[np.nan], yield_before]) / SESSIONS_PER_YEAR,
        benchmarks=return_panel(timeline.dates.to_list(), symbols, returns).values,
        benchmark=np.searchsorted(np.array(symbols, dtype=object), owners.get_column("benchmark_symbol").to_numpy()),
        session=session,
        portfolio=portfolio,
        age=session - inception[portfolio] + 1,
    )


def _window_rows(histories: _Histories, window: int, min_benchmark: int) -> pl.DataFrame:
    """Figures and statuses of every wanted row over one window, in the order of the rows."""
    parts = [
        _chunk(histories, slice(start, start + COLUMNS_AT_ONCE), window, min_benchmark)
        for start in range(0, max(1, len(histories.session)), COLUMNS_AT_ONCE)
    ]
    return pl.concat(parts)


def _chunk(histories: _Histories, rows: slice, window: int, min_benchmark: int) -> pl.DataFrame:
    session, portfolio = histories.session[rows], histories.portfolio[rows]
    at = session - window + 1 + np.arange(window)[:, None]
    returns = np.where(at >= 0, histories.returns[np.maximum(at, 0), portfolio], np.nan)
    # sessions before the inception are no part of a portfolio's history, whatever rows there are
    returns = np.where(np.arange(window)[:, None] >= window - histories.age[rows], returns, np.nan)
    n_obs = (~np.isnan(returns)).sum(axis=0)
    complete = n_obs == window
    figures = _spread(
        return_metrics(returns[:, complete], histories.risk_free[at[:, complete]]), complete, ReturnMetrics
    )
    against = _spread(
        benchmark_metrics(
            returns[:, complete],
            histories.benchmarks[at[:, complete], histories.benchmark[portfolio[complete]]],
            min_common=min_benchmark,
        ),
        complete,
        BenchmarkMetrics,
    )
    unknown_rate = np.isnan(np.where(complete, histories.risk_free[np.maximum(at, 0)], 0.0)).sum(axis=0) > 0
    days = np.append(histories.timeline.days, NEVER)
    pairs = np.nan_to_num(against["n_obs"]).astype(np.int32)
    return pl.DataFrame(
        [
            pl.Series("window_sessions", np.full(len(session), window, dtype=np.int32)),
            *(_floats(name, figures[name]) for name in figures if not name.startswith("drawdown_")),
            *(_dates(name, figures[name], session - window + 1, days) for name in ("drawdown_start", "drawdown_end")),
            _floats("beta", against["beta"]),
            _floats("correlation_to_benchmark", against["correlation"]),
            pl.Series("n_obs", n_obs.astype(np.int32)),
            pl.Series("benchmark_n_obs", pairs),
            _first_reason(
                ("insufficient_history", histories.age[rows] < window),
                ("missing_return", ~complete),
                ("missing_rate", unknown_rate),
                ("no_variance", np.isnan(figures["sharpe"])),
            ).alias("status"),
            _first_reason(
                ("insufficient_history", ~complete | (pairs < max(min_benchmark, 2))),
                ("no_variance", np.isnan(against["correlation"])),
            ).alias("benchmark_status"),
        ]
    )


def _spread(
    found: ReturnMetrics | BenchmarkMetrics, complete: BoolArray, kind: type[ReturnMetrics | BenchmarkMetrics]
) -> dict[str, FloatArray]:
    """Figures of the complete columns laid out over all columns, NaN elsewhere."""
    result = {}
    for field in fields(kind):
        result[field.name] = np.full(len(complete), np.nan)
        result[field.name][complete] = getattr(found, field.name)
    return result


def _floats(name: str, values: FloatArray) -> pl.Series:
    return pl.Series(name, values).fill_nan(None)


def _dates(name: str, row: FloatArray, first: IntArray, days: IntArray) -> pl.Series:
    """The session of each row of its window that begins at `first`; NULL for NaN and rows below 0."""
    known = row >= 0
    return to_dates(days[np.where(known, first + np.where(known, row, 0).astype(np.int64), -1)], name)


def _first_reason(*reasons: tuple[str, BoolArray]) -> pl.Series:
    """The first reason that applies to each row, else ok."""
    status = pl.lit("ok")
    for name, applies in reversed(reasons):
        status = pl.when(pl.Series(applies)).then(pl.lit(name)).otherwise(status)
    return pl.select(status).to_series()
