"""Betas of symbols on factors: which pairs there are, what a missing one is called, and winsorising.

What belongs here: the engine of ``symbol_factor_betas``. What does not: the numerics of a regression
(``regressions``), the series it is made of (``factor_returns``), and what positions and portfolios make of the betas.

One factor at a time: the proxies are too alike for a regression on all of them together.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from enum import StrEnum

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sigmasight_pipeline.calculations.arrays import FloatArray, IntArray
from sigmasight_pipeline.calculations.factor_returns import (
    PROXY_KINDS,
    RATE_KIND,
    factor_returns,
    regressed_factors,
    return_panel,
    session_axis,
)
from sigmasight_pipeline.calculations.regressions import Regressions, univariate_regressions
from sigmasight_pipeline.calculations.timeline import day_numbers, open_sessions

REGRESSED_INSTRUMENTS = ("stock", "etf", "fund", "index")
"""Kinds of instruments that have prices of their own, held or not."""

SYMBOL_FACTOR_BETAS = {
    "session_date": pl.Date(),
    "symbol": pl.String(),
    "factor": pl.String(),
    "beta": pl.Float64(),
    "beta_raw": pl.Float64(),
    "alpha": pl.Float64(),
    "std_error": pl.Float64(),
    "t_stat": pl.Float64(),
    "p_value": pl.Float64(),
    "r_squared": pl.Float64(),
    "residual_volatility": pl.Float64(),
    "n_obs": pl.Int32(),
    "window_sessions": pl.Int32(),
    "quality": pl.String(),
}
"""Columns of the result of `symbol_factor_betas`."""

_FIGURES = ("alpha", "std_error", "t_stat", "p_value", "r_squared", "residual_volatility")


class BetaQuality(StrEnum):
    """How a regression came out; every one but `ok` and `constant` goes with NULLs."""

    OK = "ok"
    CONSTANT = "constant"
    INSUFFICIENT_HISTORY = "insufficient_history"
    NO_VARIANCE = "no_variance"
    FACTOR_WITHOUT_DATA = "factor_without_data"


KNOWN_BETAS = (BetaQuality.OK, BetaQuality.CONSTANT)
"""Qualities of a beta that is a number."""

LARGEST_WINSORISING = 2.0
"""Standard errors of its own that winsorising moves a beta by at most: what is more than noise is not the
cross-section's to say."""


def return_look_back(regression_window: int) -> int:
    """Sessions before the first computed one whose returns are needed; yields are needed of one more."""
    return regression_window - 1


def symbol_factor_betas(
    *,
    sessions: Sequence[date],
    calendar: pl.DataFrame,
    instruments: pl.DataFrame,
    factors: pl.DataFrame,
    returns: pl.DataFrame,
    yields: pl.DataFrame,
    regression_window: int = 252,
    min_observations: int = 60,
    winsorize_min_symbols: int = 200,
    winsorize_percentile: float = 0.01,
    beta_cap: float | None = None,
) -> pl.DataFrame:
    """Regress every symbol on every active factor, over the `regression_window` open sessions ending with each session.

    Ordinary least squares with intercept of one-session simple returns on one factor's (``factor_returns``), pairwise
    complete; a row for every open session of `sessions`, instrument of REGRESSED_INSTRUMENTS that has not stopped
    trading before it (held or not, proxies included), and active factor that has a return. Columns are those of
    ``symbol_factor_betas`` without provenance (SYMBOL_FACTOR_BETAS), ordered by session_date, symbol and factor:

    - beta_raw: the slope; per 1.00 of yield for the rate factor. alpha: the intercept, decimal per session.
      std_error, t_stat, p_value of beta_raw; r_squared; residual_volatility: standard deviation of the residuals
      (n - 2), decimal per session, not annualised. See ``regressions.Regressions``; t_stat is NULL for a perfect fit.
    - beta: beta_raw, of stocks `winsorized` among the stocks' betas of the session; then, with a `beta_cap`, within
      -beta_cap and beta_cap. ETFs, funds and indices, proxies of active factors, and betas on the rate factor are
      never changed.
    - n_obs: sessions with a return of both. window_sessions: open sessions of the window, fewer than
      `regression_window` at the beginning of the calendar.
    - quality: ok; factor_without_data (no return in the window), else insufficient_history (n_obs below
      `min_observations`), else no_variance (the factor is constant), else constant (the symbol's own return is: a
      money market fund at 1.00): beta, std_error and residual_volatility 0, alpha that return. Every other figure is
      NULL unless ok.

    `returns` and `yields` are rows of ``daily_returns`` and ``treasury_yields`` of the sessions and of
    `return_look_back` sessions before (yields: of one more); other rows change nothing. Raises
    factor_returns.FactorInputError, regressions.RegressionParameterError and timeline.SessionWindowError.
    """
    axis = session_axis(sessions, calendar, return_look_back(regression_window))
    timeline = open_sessions(sessions, calendar)
    number = timeline.positions(sessions)
    if not len(number):
        return pl.DataFrame(schema=SYMBOL_FACTOR_BETAS)
    universe = instruments.filter(pl.col("kind").is_in(REGRESSED_INSTRUMENTS)).sort("symbol")
    symbols = universe.get_column("symbol")
    of_symbols = return_panel(axis, symbols.to_list(), returns)
    of_factors = factor_returns(axis, calendar=calendar, factors=factors, returns=returns, yields=yields)
    last = number - (int(number[-1]) + 1 - len(axis))
    found = univariate_regressions(
        of_symbols.values,
        of_factors.values,
        last.tolist(),
        window=regression_window,
        min_observations=min_observations,
    )
    trading = day_numbers(universe.get_column("last_session")) >= timeline.days[number][:, None]
    active = regressed_factors(factors)
    proxies = active.filter(pl.col("kind").is_in(PROXY_KINDS)).get_column("proxy_symbol").drop_nulls()
    adjustable = (active.get_column("kind") != RATE_KIND).to_numpy()[:, None] & ~symbols.is_in(
        proxies.to_list()
    ).to_numpy()
    stocks = (universe.get_column("kind") == "stock").to_numpy()
    beta = winsorized(
        np.where(trading[:, None, :], found.beta, np.nan),
        found.std_error,
        adjustable & stocks,
        min_symbols=winsorize_min_symbols,
        percentile=winsorize_percentile,
    )
    if beta_cap is not None:
        beta = np.where(adjustable, np.clip(beta, -beta_cap, beta_cap), beta)

    count = len(of_factors.names)
    session, symbol = (np.repeat(place, count) for place in np.nonzero(trading))

    def flat(values: NDArray[np.generic]) -> NDArray[np.generic]:
        """sessions x factors x symbols in the order of the rows."""
        return values.transpose(0, 2, 1)[trading].reshape(-1)

    qualities = _qualities(found, _observations(of_factors.values, last, regression_window), min_observations)
    window_sessions = np.minimum(number + 1, regression_window).astype(np.int32)
    return pl.DataFrame(
        {
            "session_date": timeline.dates.gather(number).gather(session),
            "symbol": symbols.gather(symbol),
            "factor": pl.Series(of_factors.names, dtype=pl.String).gather(
                np.tile(np.arange(count), int(trading.sum()))
            ),
            "beta": flat(beta),
            "beta_raw": flat(found.beta),
            **{name: flat(getattr(found, name)) for name in _FIGURES},
            "n_obs": flat(found.n_obs),
            "window_sessions": window_sessions[session],
            "quality": pl.Series(list(BetaQuality), dtype=pl.String).gather(flat(qualities)),
        },
        schema=SYMBOL_FACTOR_BETAS,
    ).with_columns(pl.col("beta", "beta_raw", *_FIGURES).fill_nan(None))


def _observations(values: FloatArray, last: IntArray, window: int) -> IntArray:
    """Values that are there in the window ending with each of `last`, sessions x columns."""
    so_far = np.concatenate([np.zeros((1, values.shape[1]), np.int64), np.isfinite(values).cumsum(axis=0)])
    found: IntArray = so_far[last + 1] - so_far[np.maximum(last + 1 - window, 0)]
    return found


def _qualities(found: Regressions, factor_observations: IntArray, min_observations: int) -> NDArray[np.int8]:
    """Places in BetaQuality: sessions x factors x symbols."""
    place = {quality: np.int8(number) for number, quality in enumerate(BetaQuality)}
    # a perfect fit has a p-value, a constant series none
    constant = np.where(np.isnan(found.p_value), place[BetaQuality.CONSTANT], place[BetaQuality.OK])
    estimated = np.where(np.isnan(found.beta), place[BetaQuality.NO_VARIANCE], constant)
    enough = np.where(found.n_obs < min_observations, place[BetaQuality.INSUFFICIENT_HISTORY], estimated)
    return np.where(factor_observations[:, :, None] == 0, place[BetaQuality.FACTOR_WITHOUT_DATA], enough)


def winsorized(
    beta: FloatArray, std_error: FloatArray, adjustable: NDArray[np.bool_], *, min_symbols: int, percentile: float
) -> FloatArray:
    """`beta` within the quantiles of its own cross-section, where it is noise that puts it outside.

    `beta` and its `std_error` are sessions x factors x symbols, NaN where there is none. The cross-section are the
    betas of a session and factor that are `adjustable` (factors x symbols), and only they change; only where
    `min_symbols` of them have one. A beta moves towards the quantile `percentile` or 1 - `percentile` (linear, as
    ``numpy.quantile``) by at most LARGEST_WINSORISING of its standard errors, and never across 0: a plain clip turned
    the -3.0 of an inverse fund, 400 standard errors from 0, into +0.4. Source: calculations.md section 7.
    """
    ordered = np.sort(np.where(adjustable, beta, np.nan), axis=2)
    count = np.isfinite(ordered).sum(axis=2, keepdims=True)

    def quantile(share: float) -> FloatArray:
        place = share * np.maximum(count - 1, 0)
        below = np.floor(place).astype(np.int64)
        low = np.take_along_axis(ordered, below, axis=2)
        high = np.take_along_axis(ordered, np.minimum(below + 1, np.maximum(count - 1, 0)), axis=2)
        found: FloatArray = low + (high - low) * (place - below)
        return found

    within = np.clip(beta, quantile(percentile), quantile(1.0 - percentile))
    reach = LARGEST_WINSORISING * std_error
    lowest, highest = np.where(beta > 0, 0.0, -np.inf), np.where(beta < 0, 0.0, np.inf)
    moved = np.clip(np.clip(within, beta - reach, beta + reach), lowest, highest)
    # comparing, so that a beta that is not to move keeps its bits
    return np.where(adjustable & (count >= min_symbols) & (within != beta), moved, beta)
