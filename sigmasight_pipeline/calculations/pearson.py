"""Pearson correlation of every pair of many series with gaps, each pair on the observations it shares.

What belongs here: the numbers of a correlation matrix and its p-values, on arrays. What does not: which series, windows
and portfolios are meant (``correlations``).

A pair's figures must not depend, to the last bit, on which other series are computed with it, and a matrix product of
doubles does: its order of summation is the library's business. So the series are taken as whole numbers small enough
that every product and sum of the matrix products is exact in double precision (the idea of Ozaki, Ogita, Oishi and
Rump, "Error-free transformations of matrix multiplication", Numerical Algorithms 59, 2012): an exact sum has no order.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy import special

from sigmasight_pipeline.calculations.arrays import BoolArray, FloatArray, IntArray

EXACT_BITS = 52
"""Whole numbers of up to this many bits, and their sums below twice that, are exact in double precision."""

BLOCK = 256
"""Series computed at once against all later ones: a few megabytes, which stay in the processor's cache."""

LEAST_VARIATION = 0.5
"""Least sum of squared deviations, in units of the series' largest squared deviation, that the rounding to whole
numbers leaves exact to 1e-12. Below it (the pair does not share the session of an outlier) a pair is computed again."""

SMALL_T = 1e-3
"""Below it a p-value is one less a small probability, and computed so."""

CAREFUL_PAIRS = 20_000
"""Pairs computed at once in doubles."""


def correlation_matrix(series: FloatArray, *, min_common: int) -> tuple[FloatArray, IntArray]:
    """Correlation and number of common observations of every pair of columns of `series` (sessions, series).

    NaN is a missing observation; every other value must be finite. Returns two (series, series) arrays, symmetric to
    the bit: the correlation in [-1, 1], exactly 1 on the diagonal, NaN where a pair has fewer than `min_common`
    observations or one of its members does not vary over them (the diagonal too). Agrees with ``pandas.DataFrame.corr``
    (min_periods) to 1e-12.
    """
    sessions, count = series.shape
    bits = (EXACT_BITS - sessions.bit_length()) // 2
    seen: BoolArray = ~np.isnan(series)
    complete = np.logical_and.reduce(seen, axis=0)
    whole = _whole_numbers(series, seen, 2 * bits)
    high = np.rint(np.ldexp(whole, -bits))
    low = whole - np.ldexp(high, bits)
    # squares keep their upper half; the other half is below the rounding of the series itself
    squares = np.rint(np.ldexp(whole**2, -2 * bits))
    present = seen.astype(np.float64)
    correlation = np.empty((count, count))
    common = np.empty((count, count), dtype=np.int64)
    doubtful: list[tuple[IntArray, IntArray]] = []
    for start in range(0, count, BLOCK):
        left, right = slice(start, start + BLOCK), slice(start, None)
        if complete[right].all():
            n = np.full((len(complete[left]), count - start), float(sessions))
            sums, sums_right = whole[:, left].sum(axis=0)[:, None], whole[:, right].sum(axis=0)[None, :]
            of_squares, of_squares_right = squares[:, left].sum(axis=0)[:, None], squares[:, right].sum(axis=0)[None, :]
        else:
            n = present[:, left].T @ present[:, right]
            sums, sums_right = whole[:, left].T @ present[:, right], present[:, left].T @ whole[:, right]
            of_squares = squares[:, left].T @ present[:, right]
            of_squares_right = present[:, left].T @ squares[:, right]
        crossed = high[:, left].T @ low[:, right] + low[:, left].T @ high[:, right]
        products = (
            np.ldexp(high[:, left].T @ high[:, right], -2 * bits)
            + np.ldexp(crossed, -3 * bits)
            + np.ldexp(low[:, left].T @ low[:, right], -4 * bits)
        )
        mean, mean_right = np.ldexp(sums, -2 * bits), np.ldexp(sums_right, -2 * bits)
        enough = n >= min_common
        with np.errstate(invalid="ignore", divide="ignore"):
            variation = np.ldexp(of_squares, -2 * bits) - mean * mean / n
            variation_right = np.ldexp(of_squares_right, -2 * bits) - mean_right * mean_right / n
            found = (products - mean * mean_right / n) / np.sqrt(variation * variation_right)
        found = np.where(enough, np.clip(found, -1.0, 1.0), np.nan)
        again = enough & ~((variation >= LEAST_VARIATION) & (variation_right >= LEAST_VARIATION))
        rows, columns = np.nonzero(again)
        kept = rows <= columns
        doubtful.append((rows[kept] + start, columns[kept] + start))
        correlation[left, right], correlation[right, left] = found, found.T
        common[left, right], common[right, left] = n, n.T
    for rows, columns in doubtful:
        for first in range(0, len(rows), CAREFUL_PAIRS):
            i, j = rows[first : first + CAREFUL_PAIRS], columns[first : first + CAREFUL_PAIRS]
            correlation[i, j] = correlation[j, i] = _carefully(series, i, j)
    diagonal = np.diagonal(correlation)
    np.fill_diagonal(correlation, np.where(np.isnan(diagonal), np.nan, 1.0))
    return correlation, common


def p_values(correlation: FloatArray, common: IntArray) -> FloatArray:
    """Two-sided p-value of each correlation: t = r sqrt((n - 2) / (1 - r^2)) with n - 2 degrees of freedom.

    NaN where the correlation is, and for fewer than 3 observations. As ``scipy.stats.pearsonr``.
    """
    freedom = common - 2.0
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(correlation) * np.sqrt(freedom / ((1.0 - correlation) * (1.0 + correlation)))
        found: FloatArray = np.where(freedom > 0, 2.0 * special.stdtr(freedom, -t), np.nan)
    # r^2 = t^2 / (n - 2 + t^2): near 1 by the complement, which keeps the digits of a small t
    near_one = (t < SMALL_T) & (freedom > 0)
    found[near_one] = 1.0 - special.betainc(0.5, freedom[near_one] / 2.0, np.square(correlation[near_one]))
    return found


def column_sums(rows: Iterable[FloatArray]) -> FloatArray:
    """Sum of each column of `rows` (a two-dimensional array, or its rows one by one), from the first row to the last.

    NumPy's own sum takes another order where there is one column, so that its last bit would depend on the others. At
    least one row; empty for none.
    """
    rows = iter(rows)
    total: FloatArray = np.array(next(rows, []), dtype=np.float64)
    for row in rows:
        total += row
    return total


def _whole_numbers(series: FloatArray, seen: BoolArray, bits: int) -> FloatArray:
    """Each series about its middle observation, scaled by a power of two and rounded to `bits` bits; 0 where missing.

    The middle, not the mean: one bad tick must not move the others away from 0.
    """
    count = seen.sum(axis=0)
    ordered = np.sort(series, axis=0)  # NaN last
    middle = np.take_along_axis(ordered, np.maximum(count - 1, 0)[None, :] // 2, axis=0)
    deviation = np.where(seen, series - middle, 0.0)
    _, exponent = np.frexp(np.abs(deviation).max(axis=0, initial=0.0))
    whole: FloatArray = np.rint(np.ldexp(deviation, bits - exponent[None, :]))
    return whole


def _carefully(series: FloatArray, left: IntArray, right: IntArray) -> FloatArray:
    """Correlation of the given pairs of columns by two passes in doubles; NaN where one of a pair does not vary.

    Sums run from the first session to the last, elementwise, so that a pair's bits are its own.
    """
    x, y = series[:, left], series[:, right]
    both = ~(np.isnan(x) | np.isnan(y))
    count = both.sum(axis=0)
    pairs = np.arange(len(left))
    first = np.argmax(both, axis=0)
    # about the first common observation: a series that does not vary gives exact zeros
    x = np.where(both, x - x[first, pairs], 0.0)
    y = np.where(both, y - y[first, pairs], 0.0)
    x = np.where(both, x - column_sums(x) / count, 0.0)
    y = np.where(both, y - column_sums(y) / count, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        x, y = x / np.abs(x).max(axis=0, initial=0.0), y / np.abs(y).max(axis=0, initial=0.0)
        found = column_sums(x * y) / (np.sqrt(column_sums(x * x)) * np.sqrt(column_sums(y * y)))
    clipped: FloatArray = np.clip(found, -1.0, 1.0)
    return clipped
