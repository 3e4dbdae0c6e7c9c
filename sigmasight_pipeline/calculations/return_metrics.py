"""Risk figures of many return series at once: what a window of daily returns says of one portfolio, column by column.

What belongs here: the formulas, on arrays of complete windows. What does not: which windows and portfolios there are,
and what is said where a window is not complete (``risk_metrics``).

Everything runs elementwise along the columns, from the first session of a window to the last: a column's figures do
not depend, to the last bit, on the columns computed with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from sigmasight_pipeline.calculations.pearson import Floats, IntArray, column_sums

SESSIONS_PER_YEAR = 252

TAIL_95 = 0.05
TAIL_99 = 0.01

Z_95 = NormalDist().inv_cdf(1 - TAIL_95)
Z_99 = NormalDist().inv_cdf(1 - TAIL_99)


@dataclass(frozen=True)
class ReturnMetrics:
    """Figures by column; NaN where there is none. `drawdown_start` and `drawdown_end` are rows of the window: -1 for a
    high before its first return, and both -1 without a drawdown."""

    volatility: Floats
    sharpe: Floats
    sortino: Floats
    max_drawdown: Floats
    drawdown_start: IntArray
    drawdown_end: IntArray
    var_95: Floats
    var_99: Floats
    hist_var_95: Floats
    hist_var_99: Floats
    expected_shortfall_95: Floats
    hit_rate: Floats


@dataclass(frozen=True)
class BenchmarkMetrics:
    """`beta` and `correlation` by column, NaN where there is none; `n_obs` pairs they are made of."""

    beta: Floats
    correlation: Floats
    n_obs: IntArray


def return_metrics(returns: Floats, risk_free: Floats) -> ReturnMetrics:
    """Figures of every column of `returns` (sessions, at least 2; columns): simple daily returns, none missing.

    `risk_free`, of the same shape, is the rate earned on the session, NaN where unknown; any in a column makes its
    sharpe and sortino NaN. volatility = standard deviation (ddof 1) x sqrt(252). sharpe = mean / standard deviation of
    the excess returns x sqrt(252), NaN where they do not vary. sortino = mean excess / sqrt(mean of min(excess, 0)^2) x
    sqrt(252), NaN without a loss. max_drawdown: from wealth 1 at the window's start, at most 0; a loss of more than
    everything counts as everything. The drawdown starts at the last session at the high. Value at risk of one session,
    losses positive: parametric z x standard deviation - mean, historical minus the percentile (linear); expected
    shortfall minus the mean of the floor(0.05 (n - 1)) + 1 worst. hit_rate = share of returns above 0.

    As ``empyrical`` defines them, where it does.
    """
    sessions = len(returns)
    mean, deviation = _mean_and_deviation(lambda: returns, sessions)
    mean_excess, excess_deviation = _mean_and_deviation(lambda: map(np.subtract, returns, risk_free), sessions)
    losses = (np.minimum(own - rate, 0.0) for own, rate in zip(returns, risk_free, strict=True))
    downside = np.sqrt(column_sums(loss * loss for loss in losses) / sessions)
    year = np.sqrt(SESSIONS_PER_YEAR)
    ordered = np.sort(returns, axis=0)
    worst = int(TAIL_95 * (sessions - 1)) + 1
    deepest, start, end = _drawdown(returns)
    return ReturnMetrics(
        volatility=deviation * year,
        sharpe=_ratio(mean_excess, excess_deviation) * year,
        sortino=_ratio(mean_excess, downside) * year,
        max_drawdown=deepest,
        drawdown_start=start,
        drawdown_end=end,
        var_95=Z_95 * deviation - mean,
        var_99=Z_99 * deviation - mean,
        hist_var_95=-_percentile(ordered, TAIL_95),
        hist_var_99=-_percentile(ordered, TAIL_99),
        expected_shortfall_95=-column_sums(ordered[:worst]) / worst,
        hit_rate=np.count_nonzero(returns > 0, axis=0) / sessions,
    )


def benchmark_metrics(returns: Floats, benchmark: Floats, *, min_common: int) -> BenchmarkMetrics:
    """Slope on, and correlation with, the benchmark of every column of `returns`, on the sessions it has a return.

    Both (sessions, columns); `benchmark` NaN where it has no one-session return, elsewhere neither is. NaN with fewer
    than `min_common` pairs (at least 2), the correlation where either, the slope where the benchmark does not
    vary.
    """
    n_obs = column_sums(~np.isnan(row) for row in benchmark).astype(np.int64)
    enough = n_obs >= max(min_common, 2)
    x_squares, y_squares, shared = np.zeros((3, returns.shape[1]))
    for x, y in _paired_deviations(returns, benchmark, np.maximum(n_obs, 1)):
        x_squares += x * x
        y_squares += y * y
        shared += x * y
    beta = _ratio(shared, x_squares)
    correlation = np.clip(_ratio(shared, np.sqrt(x_squares) * np.sqrt(y_squares)), -1.0, 1.0)
    return BenchmarkMetrics(
        beta=np.where(enough, beta, np.nan), correlation=np.where(enough, correlation, np.nan), n_obs=n_obs
    )


def _mean_and_deviation(rows: Callable[[], Iterable[Floats]], count: int) -> tuple[Floats, Floats]:
    """Mean and standard deviation (ddof 1) of each column, exactly 0 where a column does not vary.

    `rows` gives the `count` rows anew each time: never all at once, so that they stay in the processor's cache.
    """
    first = next(iter(rows()))
    middle = column_sums(row - first for row in rows()) / count
    deviations = (row - first - middle for row in rows())
    return first + middle, np.sqrt(column_sums(row * row for row in deviations) / (count - 1))


def _paired_deviations(returns: Floats, benchmark: Floats, count: Floats | IntArray) -> Iterator[tuple[Floats, Floats]]:
    """Row by row, the deviations of benchmark and returns from their means over the `count` pairs; 0 without a pair.

    Exactly 0 where a column does not vary: they are taken about the first pair before the mean.
    """
    first_x, first_y = np.full((2, returns.shape[1]), np.nan)
    for x, y in zip(benchmark[::-1], returns[::-1], strict=True):
        known = ~np.isnan(x)
        np.copyto(first_x, x, where=known)
        np.copyto(first_y, y, where=known)

    def shifted(values: Floats, first: Floats) -> Iterator[Floats]:
        for x, value in zip(benchmark, values, strict=True):
            yield np.where(np.isnan(x), 0.0, value - first)

    mean_x = column_sums(shifted(benchmark, first_x)) / count
    mean_y = column_sums(shifted(returns, first_y)) / count
    for x, y in zip(benchmark, returns, strict=True):
        known = ~np.isnan(x)
        yield np.where(known, x - first_x - mean_x, 0.0), np.where(known, y - first_y - mean_y, 0.0)


def _ratio(above: Floats, below: Floats) -> Floats:
    """NaN where `below` is 0 or NaN."""
    ratio: Floats = np.where(below > 0, above, np.nan) / np.where(below > 0, below, 1.0)
    return ratio


def _percentile(ordered: Floats, share: float) -> Floats:
    """The `share` quantile of ascending columns, linear between the two neighbours (Hyndman and Fan's type 7)."""
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    quantile: Floats = ordered[below] + (ordered[above] - ordered[below]) * (place - below)
    return quantile


def _drawdown(returns: Floats) -> tuple[Floats, IntArray, IntArray]:
    """The deepest fall from a high of each column, the row of that high (-1: before the first) and of the low."""
    count = returns.shape[1]
    wealth, high, deepest = np.ones(count), np.ones(count), np.zeros(count)
    at_high, start, end = (np.full(count, -1) for _ in range(3))
    for row, change in enumerate(returns):
        wealth = np.maximum(wealth * (1.0 + change), 0.0)
        np.copyto(at_high, row, where=wealth >= high)
        np.maximum(high, wealth, out=high)
        fall = wealth / high - 1.0
        deeper = fall < deepest
        np.copyto(deepest, fall, where=deeper)
        np.copyto(start, at_high, where=deeper)
        np.copyto(end, row, where=deeper)
    return deepest, start, end
