"""Univariate least squares of many series on a few regressors over moving windows, every pair by its own sessions.

What belongs here: the numerics, on matrices of numbers: sums of a window, the statistics made of them, p-values. What
does not: where the series come from, which symbols and factors there are, and what a missing estimate is called
(``factor_model``).

Pairwise complete: a pair uses the sessions both series have, so a gap of one series touches no other pair. The sums of
every window are made anew, so no value outlives its window. They are matrix products of one fixed shape, small enough
for one thread, so the figures of a pair are the same, bit for bit, whatever is computed with it and in what order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy import special

from sigmasight_pipeline.calculations.arrays import FloatArray, IntArray

SMALLEST_MIN_OBSERVATIONS = 3
"""Two observations leave no residual."""

ROUNDING = 1e-14
"""Values closer than this are equal: a return is a quotient near one less one, so its own rounding is some 1e-16."""

NEAR_PERFECT = 1e-3
"""Share of the variance unexplained below which residuals are taken one by one: as a difference of sums they lose
digits in proportion to 1 / share."""

CANCELLING = 1e-4
"""Variance as a share of the mean square below which deviations are taken one by one, for the same reason."""

SMALLEST_EXPANDED_DOF = 40
"""Degrees of freedom from which the expansion in `two_sided_p_values` is good to 1e-12."""

# Products of 32 series with 16 or 8 columns: half of what OpenBLAS (the one in NumPy) begins to divide among threads at
# 252 sessions, and multiples of its kernels' tiles, so that no pair lies in a remainder that is summed differently.
_BLOCK = 32
_OBSERVED_COLUMNS = 16
_VALUE_COLUMNS = 8

_CHUNK = 16 * _BLOCK
"""Series computed at a time: few enough for the processor's cache."""

_SESSIONS = 4
"""Sessions whose figures are computed together, for the same reason."""

_OF_CONSTANT = ("beta", "std_error", "residual_volatility")
"""Figures that are 0 where y is constant."""

_DIRECT_PAIRS = 4096
"""Pairs whose residuals are taken one by one at a time."""


class RegressionParameterError(ValueError):
    """Window and least number of observations do not fit together."""


@dataclass(frozen=True)
class Regressions:
    """Figures of every pair, arrays (sessions x regressors x series); NaN where there is no estimate.

    The model is y = alpha + beta x + residual. `std_error`, `t_stat` and `p_value` (two-sided, n - 2 degrees of
    freedom) are those of beta. `residual_volatility` is the standard deviation of the residuals,
    sqrt(RSS / (n - 2)), per session: not annualised. A perfect fit has std_error and residual_volatility 0, r_squared
    1, t_stat NaN and p_value 0. A constant y (cash) has beta, std_error and residual_volatility 0 and, having nothing
    to explain, r_squared, t_stat and p_value NaN. `n_obs` counts the sessions of the window both series have, estimate
    or not.
    """

    beta: FloatArray
    alpha: FloatArray
    std_error: FloatArray
    t_stat: FloatArray
    p_value: FloatArray
    r_squared: FloatArray
    residual_volatility: FloatArray
    n_obs: NDArray[np.int32]


def univariate_regressions(
    y: FloatArray, x: FloatArray, last: Sequence[int], *, window: int, min_observations: int
) -> Regressions:
    """Regress every column of `y` on every column of `x`, over the `window` rows ending with each row of `last`.

    `y` (sessions x series; fastest where each series is contiguous) and `x` (sessions x regressors) are decimals of the
    same consecutive sessions, NaN where missing; of a window that begins before the first row, the rest is missing.
    NaN everywhere but in n_obs for fewer than `min_observations` sessions of both, or x constant over them.

    Agrees with ``OLS(y, add_constant(x), missing="drop").fit()`` of statsmodels to 1e-10. Raises
    RegressionParameterError.
    """
    if not SMALLEST_MIN_OBSERVATIONS <= min_observations <= window:
        raise RegressionParameterError(
            f"a minimum of {min_observations} observations does not fit a window of {window} sessions; "
            f"choose one from {SMALLEST_MIN_OBSERVATIONS} to the length of the window"
        )
    before = max(0, window - 1 - min(last, default=window))
    y, regressors = _preceded(y, before), _Regressors.of(_preceded(x, before))
    windows = [slice(row + before + 1 - window, row + before + 1) for row in last]
    width = _filled(y.shape[1], _BLOCK)
    shape = (len(windows), x.shape[1], width)
    figures = {field.name: np.empty(shape) for field in fields(Regressions) if field.name != "n_obs"}
    found = Regressions(**figures, n_obs=np.empty(shape, np.int32))
    values = np.empty((min(_CHUNK, width), len(y)))
    doubtful: list[IntArray] = []
    with np.errstate(divide="ignore", invalid="ignore"):
        for start in range(0, width, _CHUNK):
            stop = min(start + _CHUNK, width)
            series = _Series.of(y[:, start:stop], values[: stop - start])
            for begin in range(0, len(windows), _SESSIONS):
                some = slice(begin, min(begin + _SESSIONS, len(windows)))
                doubtful.append(
                    _from_sums(series, regressors, windows[some], found, (some, slice(start, stop)), min_observations)
                )
        for pairs in _divided(doubtful):
            _directly(y, regressors.values, windows, found, pairs)
    return Regressions(*(getattr(found, field.name)[:, :, : y.shape[1]] for field in fields(Regressions)))


def two_sided_p_values(t_squared_by_dof: FloatArray, dof: FloatArray) -> FloatArray:
    """Probability of a Student t at least as large either way, from t^2 / dof (>= 0) and the degrees of freedom.

    Hill's expansion in the normal distribution (Algorithm 395, Communications of the ACM 13, 1970), which costs an
    eighth of the incomplete beta function; that one for fewer than SMALLEST_EXPANDED_DOF degrees of freedom. Absolute
    error below 1e-12. The relative error grows with t: 1e-8 at a p-value of 1e-13, 1e-5 at 1e-40. NaN in, NaN out.
    """
    scale = dof - 0.5
    square = np.log1p(t_squared_by_dof)
    square *= scale
    scale *= scale
    scale *= 48.0
    below = 0.8 * square
    below *= square
    below += scale
    below += 100.0
    normal = -0.4 * square
    for coefficient in (-3.3, -24.0):
        normal += coefficient
        normal *= square
    normal += -85.5
    normal /= below
    normal += square
    normal += 3.0
    normal /= scale
    normal += 1.0
    square *= 0.5
    normal *= np.sqrt(square, out=square)
    found: FloatArray = special.erfc(normal, out=normal)
    few = dof < SMALLEST_EXPANDED_DOF
    if few.any():
        found[few] = _beta_p_values(t_squared_by_dof[few], dof[few])
    return found


def _beta_p_values(t_squared_by_dof: FloatArray, dof: FloatArray) -> FloatArray:
    """`two_sided_p_values` by the incomplete beta function.

    Where t is small, 1 / (1 + t^2 / dof) has lost the digits t was known to: there by the complement.
    """
    beyond = special.betainc(dof / 2.0, 0.5, 1.0 / (1.0 + t_squared_by_dof))
    small = np.minimum(t_squared_by_dof, 1.0)
    within = small / (1.0 + small)
    found: FloatArray = np.where(t_squared_by_dof < 1.0, 1.0 - special.betainc(0.5, dof / 2.0, within), beyond)
    return found


@dataclass(frozen=True)
class _Series:
    """Some series as the left-hand sides of matrix products, filled up with empty ones to a multiple of _BLOCK.

    Series without a gap have their counts in common: one row of `observed` serves them all.
    """

    values: FloatArray
    """series x sessions, 0 where missing."""
    observed: FloatArray
    """rows x sessions: 1 where there is a value, else 0. The first row is that of a series without a gap."""
    row_of: IntArray
    """Row of `observed` of each series."""

    @classmethod
    def of(cls, y: FloatArray, values: FloatArray) -> _Series:
        """The columns of `y` (sessions x series), written into `values`."""
        count = y.shape[1]
        missing = ~np.isfinite(y.T)
        gaps = np.flatnonzero(missing)
        values[:count], values[count:] = y.T, 0.0
        values.reshape(-1)[gaps] = 0.0
        partial = np.unique(gaps // len(y))
        observed = np.zeros((_filled(len(partial) + 2, _BLOCK), len(y)))
        observed[0] = 1.0
        np.logical_not(missing[partial], out=observed[1 : len(partial) + 1])
        row_of = np.zeros(len(values), dtype=np.int64)
        row_of[partial] = np.arange(1, len(partial) + 1)
        row_of[count:] = len(observed) - 1
        return cls(values, observed, row_of)


@dataclass(frozen=True)
class _Regressors:
    """The regressors as the right-hand sides of matrix products: one row per session.

    Regressors missing on the same sessions share counts and sums of the series: `class_of` numbers what they share.
    """

    values: FloatArray
    """sessions x regressors, NaN where missing."""
    seen: FloatArray
    """sessions x classes: 1 where observed, else 0."""
    class_of: IntArray
    for_observed: FloatArray
    """sessions x columns: values, their squares, and `seen`; summed over the sessions a series has."""
    for_values: FloatArray
    """sessions x columns: values and `seen`; summed with the values of a series."""

    @classmethod
    def of(cls, x: FloatArray) -> _Regressors:
        """The columns of `x` (sessions x regressors)."""
        observed = np.isfinite(x)
        columns = [observed[:, column].tobytes() for column in range(x.shape[1])]
        classes = list(dict.fromkeys(columns))
        seen = observed[:, [columns.index(key) for key in classes]].astype(np.float64)
        known = np.where(observed, x, 0.0)
        return cls(
            np.where(observed, x, np.nan),
            seen,
            np.array([classes.index(key) for key in columns], dtype=np.int64),
            _widened(_OBSERVED_COLUMNS, known, known * known, seen),
            _widened(_VALUE_COLUMNS, known, seen),
        )


def _widened(columns: int, *parts: FloatArray) -> FloatArray:
    """The columns of `parts`, filled up with zeros to a multiple of `columns`."""
    joined = np.concatenate(parts, axis=1)
    # in one memory order whatever the parts are in: BLAS sums a transposed matrix differently
    filled = np.zeros((joined.shape[0], _filled(joined.shape[1], columns)))
    filled[:, : joined.shape[1]] = joined
    return filled


def _filled(count: int, multiple: int) -> int:
    """The least multiple that `count` fits in."""
    return -(-count // multiple) * multiple


def _divided(pairs: Sequence[IntArray]) -> Sequence[IntArray]:
    """All rows of `pairs` in parts of at most _DIRECT_PAIRS."""
    rows = np.concatenate([np.empty((0, 3), dtype=np.int64), *pairs])
    return [rows[start : start + _DIRECT_PAIRS] for start in range(0, len(rows), _DIRECT_PAIRS)]


def _preceded(values: FloatArray, count: int) -> FloatArray:
    """`values` after `count` missing sessions; each series stays contiguous."""
    if not count:
        return values
    longer = np.full((values.shape[1], count + len(values)), np.nan)
    longer[:, count:] = values.T
    return longer.T


def _product(left: FloatArray, right: FloatArray, columns: int) -> FloatArray:
    """`left` (series x window) times `right` (window x columns), in products of one shape; columns x series."""
    blocks = left.reshape(-1, _BLOCK, left.shape[1])
    sums = np.empty((right.shape[1], len(left)))
    for start in range(0, right.shape[1], columns):
        sums[start : start + columns] = np.matmul(blocks, right[:, start : start + columns]).reshape(-1, columns).T
    return sums


def _from_sums(
    series: _Series,
    regressors: _Regressors,
    windows: Sequence[slice],
    found: Regressions,
    place: tuple[slice, slice],
    min_observations: int,
) -> IntArray:
    """Fill in `found` for `series` and the sessions of `windows`, at `place` among all of both.

    Returns the pairs that lost digits, as rows of session, regressor and series number.
    """
    count, class_of = len(regressors.class_of), regressors.class_of
    classes = regressors.seen.shape[1]
    shape = (len(windows), regressors.for_observed.shape[1], len(series.values))
    of_observed = np.empty(shape)
    of_values = np.empty((shape[0], regressors.for_values.shape[1], shape[2]))
    squares = np.empty((shape[0], classes, shape[2]))
    for session, window in enumerate(windows):
        held = series.values[:, window]
        counted = _product(series.observed[:, window], regressors.for_observed[window], _OBSERVED_COLUMNS)
        counted.take(series.row_of, axis=1, out=of_observed[session], mode="clip")  # the default mode buffers `out`
        of_values[session] = _product(held, regressors.for_values[window], _VALUE_COLUMNS)
        for number, seen in enumerate(regressors.seen[window].T):
            np.vecdot(held, held if seen.all() else held * seen, out=squares[session, number])

    here = (place[0], slice(None), place[1])
    n_obs = of_observed[:, 2 * count : 2 * count + classes]
    found.n_obs[here] = n_obs.take(class_of, axis=1)
    # what is too little to estimate from is unknown from here on
    n_obs[n_obs < min_observations] = np.nan
    sums = of_values[:, count : count + classes]
    means = sums / n_obs
    variation = squares - sums * means
    few_digits = variation <= CANCELLING * squares + ROUNDING**2
    n, y_sum, y_mean, y_variation = (part.take(class_of, axis=1) for part in (n_obs, sums, means, variation))
    x_sum, x_squares, products = of_observed[:, :count], of_observed[:, count : 2 * count], of_values[:, :count]

    x_mean = x_sum / n
    x_variation = x_squares - x_sum * x_mean
    covariation = products - x_mean * y_sum
    beta, std_error = found.beta[here], found.std_error[here]
    np.divide(covariation, x_variation, out=beta)
    x_mean *= beta
    np.subtract(y_mean, x_mean, out=found.alpha[here])
    covariation *= beta
    np.divide(covariation, y_variation, out=found.r_squared[here])
    unexplained = y_variation - covariation
    dof = n - 2.0
    variance = unexplained / dof
    np.sqrt(variance, out=found.residual_volatility[here])
    variance /= x_variation
    np.sqrt(variance, out=std_error)
    np.divide(beta, std_error, out=found.t_stat[here])
    covariation /= unexplained
    found.p_value[here] = two_sided_p_values(covariation, dof)

    lost = few_digits.take(class_of, axis=1)
    lost |= x_variation <= CANCELLING * x_squares + ROUNDING**2
    lost |= unexplained <= NEAR_PERFECT * y_variation
    pairs: IntArray = np.column_stack(np.unravel_index(np.flatnonzero(lost), lost.shape))
    pairs += np.array([place[0].start, 0, place[1].start])
    return pairs


def _directly(y: FloatArray, x: FloatArray, windows: Sequence[slice], found: Regressions, pairs: IntArray) -> None:
    """Replace the figures of `pairs` by those of deviations and residuals taken one by one."""
    session, regressor, series = pairs.T
    rows = np.array([range(window.start, window.stop) for window in windows], dtype=np.int64)[session]
    y_values, x_values = y[rows, series[:, None]], x[rows, regressor[:, None]]
    both = np.isfinite(y_values) & np.isfinite(x_values)
    n = both.sum(axis=1)

    def total(values: FloatArray) -> FloatArray:
        return np.cumsum(values, axis=1)[:, -1]

    def deviations(values: FloatArray) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
        """From the mean, the mean, and whether they are nothing but rounding."""
        known = np.where(both, values, 0.0)
        # from a value of the series, so that equal ones have no deviation at all
        base = known[np.arange(len(known)), both.argmax(axis=1)]
        shifted = np.where(both, known - base[:, None], 0.0)
        mean = total(shifted) / n
        spread = shifted.max(axis=1) - shifted.min(axis=1)
        return np.where(both, shifted - mean[:, None], 0.0), base + mean, spread <= ROUNDING

    from_y, y_mean, y_constant = deviations(y_values)
    from_x, x_mean, x_constant = deviations(x_values)
    x_variation = total(from_x * from_x)
    beta = total(from_x * from_y) / x_variation
    residuals = from_y - beta[:, None] * from_x
    # the least squares of the residuals themselves: what rounding left in beta
    beta += total(from_x * residuals) / x_variation
    residuals = from_y - beta[:, None] * from_x
    variance = total(residuals * residuals) / (n - 2)
    perfect = np.sqrt(variance) <= ROUNDING * np.abs(beta)
    variance[perfect] = 0.0
    std_error = np.sqrt(variance / x_variation)
    t_stat = beta / std_error
    dof = n - 2.0
    # rounding could take it below 0 where nothing is explained
    r_squared = np.maximum(1.0 - variance * dof / total(from_y * from_y), 0.0)
    figures = {
        "beta": beta,
        "alpha": y_mean - beta * x_mean,
        "std_error": std_error,
        "t_stat": np.where(perfect, np.nan, t_stat),
        "p_value": np.where(perfect, 0.0, two_sided_p_values(t_stat * t_stat / dof, dof)),
        "r_squared": r_squared,
        "residual_volatility": np.sqrt(variance),
    }
    figures["alpha"] = np.where(y_constant, y_mean, figures["alpha"])
    for name, values in figures.items():
        of_constant = 0.0 if name in _OF_CONSTANT else values if name == "alpha" else np.nan
        known = np.where(y_constant, of_constant, values)
        getattr(found, name)[session, regressor, series] = np.where(x_constant, np.nan, known)
