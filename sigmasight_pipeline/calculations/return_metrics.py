"""Risk figures of many return series at once: what a window of daily returns says of one portfolio, column by column.

What belongs here: the formulas, on arrays of complete windows. What does not: which windows and portfolios there are,
and what is said where a window is not complete (``risk_metrics``).

Everything runs elementwise along the columns, from the first session of a window to the last: a column's figures do
not depend, to the last bit, on the columns computed with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from sigmasight_pipeline.calculations.arrays import FloatArray, IntArray
from sigmasight_pipeline.calculations.pearson import column_sums
from sigmasight_pipeline.calculations.regressions import ROUNDING

SESSIONS_PER_YEAR = 252

TAIL_95 = 0.05
TAIL_99 = 0.01

Z_95 = NormalDist().inv_cdf(1 - TAIL_95)
Z_99 = NormalDist().inv_cdf(1 - TAIL_99)


@dataclass(frozen=True)
class ReturnMetrics:
    """Figures by column; NaN where there is none. `drawdown_start` and `drawdown_end` are rows of the window: -1 for a
    high before its first return, and both -1 without a drawdown."""

    volatility: FloatArray
    sharpe: FloatArray
    sortino: FloatArray
    max_drawdown: FloatArray
    drawdown_start: IntArray
    drawdown_end: IntArray
    var_95: FloatArray
    var_99: FloatArray
    hist_var_95: FloatArray
    hist_var_99: FloatArray
    expected_shortfall_95: FloatArray
    hit_rate: FloatArray


@dataclass(frozen=True)
class BenchmarkMetrics:
    """`beta` and `correlation` by column, NaN where there is none; `n_obs` pairs they are made of."""

    beta: FloatArray
    correlation: FloatArray
    n_obs: IntArray


def return_metrics(returns: FloatArray, risk_free: FloatArray) -> ReturnMetrics:
    """Figures of every column of `returns` (sessions, at least 2; columns): simple daily returns, none missing.

    `risk_free`, of the same shape, is the rate earned on the session, NaN where unknown; any in a column makes its
    sharpe and sortino NaN. volatility = standard deviation (ddof 1) x sqrt(252). sharpe = mean / standard deviation of
    the excess returns x sqrt(252), NaN where they do not vary. sortino = mean excess / sqrt(mean of min(excess, 0)^2) x
    sqrt(252), NaN without a loss. Both are NaN where the returns themselves vary by no more than their rounding: what
    then varies is the rate (cash earned a Sharpe ratio of -8,000). max_drawdown: from wealth 1 at the window's start,
    at most 0; a loss of more than everything counts as everything. The drawdown starts at the last session at the high.
    Value at risk of one session, losses positive: parametric z x standard deviation - mean, historical minus the
    percentile (linear); expected shortfall minus the mean of the floor(0.05 (n - 1)) + 1 worst. hit_rate = share of
    returns above 0.

    As ``empyrical`` defines them, where it does.
    """
    sessions = len(returns)
    mean, deviation = _mean_and_deviation(returns)
    mean_excess, excess_deviation = _mean_and_deviation(map(np.subtract, returns, risk_free))
    losses = (np.minimum(row, 0.0) for row in map(np.subtract, returns, risk_free))
    downside = np.sqrt(column_sums(loss * loss for loss in losses) / sessions)
    year = np.sqrt(SESSIONS_PER_YEAR)
    ordered = np.sort(returns, axis=0)
    worst = worst_count(sessions, TAIL_95)
    deepest, start, end = _drawdown(returns)
    varies = deviation > ROUNDING
    return ReturnMetrics(
        volatility=deviation * year,
        sharpe=np.where(varies, _ratio(mean_excess, excess_deviation) * year, np.nan),
        sortino=np.where(varies, _ratio(mean_excess, downside) * year, np.nan),
        max_drawdown=deepest,
        drawdown_start=start,
        drawdown_end=end,
        var_95=Z_95 * deviation - mean,
        var_99=Z_99 * deviation - mean,
        # from 0: no loss is 0, not minus 0
        hist_var_95=0.0 - percentile(ordered, TAIL_95),
        hist_var_99=0.0 - percentile(ordered, TAIL_99),
        expected_shortfall_95=(0.0 - column_sums(ordered[:worst])) / worst,
        hit_rate=np.count_nonzero(returns > 0, axis=0) / sessions,
    )


def benchmark_metrics(returns: FloatArray, benchmark: FloatArray, *, min_common: int) -> BenchmarkMetrics:
    """Slope on, and correlation with, the benchmark of every column of `returns`, on the sessions it has a return.

    Both (sessions, columns); `benchmark` NaN where it has no one-session return, elsewhere neither is. NaN with fewer
    than `min_common` pairs (at least 2), the correlation where either, the slope where the benchmark does not
    vary.
    """
    n_obs = np.zeros(returns.shape[1], dtype=np.int64)
    x_sum, y_sum, x_squares, y_squares, shared = np.zeros((5, returns.shape[1]))
    first_x, first_y = _first_pair(benchmark, returns)
    for other, own in zip(benchmark, returns, strict=True):
        x, y, missing = other - first_x, own - first_y, np.isnan(other)
        if missing.any():
            x[missing] = y[missing] = 0.0
        n_obs += ~missing
        x_sum += x
        y_sum += y
        shared += x * y
        x_squares += np.multiply(x, x, out=x)
        y_squares += np.multiply(y, y, out=y)
    pairs = np.maximum(n_obs, 1)
    shared -= x_sum * y_sum / pairs
    x_squares, y_squares = _about_mean(x_squares, x_sum, pairs), _about_mean(y_squares, y_sum, pairs)
    enough = n_obs >= max(min_common, 2)
    beta = _ratio(shared, x_squares)
    correlation = np.clip(_ratio(shared, np.sqrt(x_squares) * np.sqrt(y_squares)), -1.0, 1.0)
    return BenchmarkMetrics(
        beta=np.where(enough, beta, np.nan), correlation=np.where(enough, correlation, np.nan), n_obs=n_obs
    )


def _mean_and_deviation(rows: Iterable[FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation (ddof 1) of each column of `rows`, given one by one.

    Sums are taken about the first row. It is one of the sample, so at most sqrt(n) deviations from the mean: what the
    difference of sums loses is n roundings at most, and a column that does not vary has exactly 0.
    """
    rows = iter(rows)
    first = next(rows)
    total, squares, count = np.zeros(len(first)), np.zeros(len(first)), 1
    for row in rows:
        shifted = row - first
        total += shifted
        shifted *= shifted
        squares += shifted
        count += 1
    return first + total / count, np.sqrt(_about_mean(squares, total, count) / (count - 1))


def _about_mean(squares: FloatArray, total: FloatArray, count: IntArray | int) -> FloatArray:
    """Sum of squares about the mean, from the sums about another value of the sample."""
    return np.maximum(squares - total * total / count, 0.0)


def _first_pair(benchmark: FloatArray, returns: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Of each column the first benchmark return there is, and the return beside it; NaN without one."""
    row = np.argmax(~np.isnan(benchmark), axis=0) if np.isnan(benchmark[0]).any() else np.zeros(returns.shape[1], int)
    column = np.arange(returns.shape[1])
    return benchmark[row, column], returns[row, column]


def _ratio(above: FloatArray, below: FloatArray) -> FloatArray:
    """NaN where `below` is 0 or NaN."""
    ratio: FloatArray = np.where(below > 0, above, np.nan) / np.where(below > 0, below, 1.0)
    return ratio


def worst_count(sessions: int, tail: float) -> int:
    """How many of so many returns are the worst `tail` of them: floor(tail (n - 1)) + 1, as ``empyrical`` counts."""
    return int(tail * (sessions - 1)) + 1


def percentile(ordered: FloatArray, share: float) -> FloatArray:
    """The `share` quantile of ascending columns, linear between the two neighbours (Hyndman and Fan's type 7)."""
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    quantile: FloatArray = ordered[below] + (ordered[above] - ordered[below]) * (place - below)
    return quantile


def _drawdown(returns: FloatArray) -> tuple[FloatArray, IntArray, IntArray]:
    """The deepest fall from a high of each column, the row of that high (-1: before the first) and of the low."""
    count = returns.shape[1]
    wealth, high, lowest = np.ones((3, count))
    at_high, start, end = np.zeros((3, count), dtype=np.int32)
    for row, change in enumerate(returns, start=1):
        wealth *= 1.0 + change
        np.maximum(wealth, 0.0, out=wealth)
        # rows only grow, so that the maximum of `applies x row` is the last row that applied: cheaper than choosing
        np.maximum(at_high, (wealth >= high) * np.int32(row), out=at_high)
        np.maximum(high, wealth, out=high)
        left = wealth / high
        deeper = left < lowest
        np.minimum(lowest, left, out=lowest)
        np.maximum(start, deeper * at_high, out=start)
        np.maximum(end, deeper * np.int32(row), out=end)
    return lowest - 1.0, start.astype(np.int64) - 1, end.astype(np.int64) - 1
