"""Correlation and covariance of factor returns in the window ending with each session.

What belongs here: the rows of ``factor_correlations``, and those rows read back as covariance matrices. What does not:
the factor returns themselves (``factor_returns``), betas (``factor_model``, ``joint_betas``), and what a scenario makes
of the moments (``stress_returns``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import polars as pl

from sigmasight_pipeline.calculations.arrays import BoolArray, FloatArray
from sigmasight_pipeline.calculations.factor_returns import factor_returns, session_axis
from sigmasight_pipeline.calculations.regressions import ROUNDING

_BLOCK = 2**15
"""Products held at a time (256 kB), so that they stay in the processor's cache."""


class Weighting(StrEnum):
    """How much a session of the window counts."""

    EQUAL = "equal"
    HALF_LIFE = "half_life"


class MomentStatus(StrEnum):
    """Why a factor or a pair has no moments; the later in this list, the more it says."""

    OK = "ok"
    NO_VARIANCE = "no_variance"
    INSUFFICIENT_HISTORY = "insufficient_history"
    FACTOR_WITHOUT_DATA = "factor_without_data"


_STATUSES = tuple(MomentStatus)
_CODES = {status: code for code, status in enumerate(_STATUSES)}


@dataclass(frozen=True, eq=False)
class FactorMoments:
    """The moments of one session: `covariance` (factors, factors) of daily returns, decimal squared per session (of
    Interest_Rate: of the yield change), in order of `names`; NaN where a pair has none. `n_obs`: the fewest sessions a
    pair is made of.
    """

    names: tuple[str, ...]
    covariance: FloatArray
    n_obs: int


@dataclass(frozen=True, eq=False)
class PairMoments:
    """Moments of every pair over one window and weighting, arrays (factors, factors): `covariance` and `correlation`
    NaN where `status` (places in MomentStatus) is not ok; `n_obs` sessions on which both have a return.
    """

    covariance: FloatArray
    correlation: FloatArray
    n_obs: npt.NDArray[np.int64]
    status: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class WindowMoments:
    """Moments of one window and weighting: `covariance` and `correlation` (factors, factors), NaN where `status` of
    either factor is not ok; n_obs as in ``factor_correlations``.
    """

    covariance: FloatArray
    correlation: FloatArray
    n_obs: int
    status: tuple[MomentStatus, ...]


def cross_products(left: FloatArray, right: FloatArray) -> FloatArray:
    """`left.T @ right` of (n, k) and (n, m) arrays, every element summed from the first row to the last.

    A matrix product sums in an order of the library's choosing, which may differ with the shape; here an element's
    bits depend on its two columns alone.
    """
    result = np.empty((left.shape[1], right.shape[1]))
    width = max(2, _BLOCK // max(1, left.size))
    for start in range(0, right.shape[1], width):
        part = right[:, start : start + width]
        # a single element would be summed pairwise, in another order: compute it twice and take one
        doubled = np.repeat(left, 2, axis=1) if left.shape[1] * part.shape[1] == 1 else left
        # row after row in memory, whatever the layout of the arguments: the order of a sum follows the layout
        products = np.empty((len(left), doubled.shape[1], part.shape[1]))
        np.multiply(doubled[:, :, None], part[:, None, :], out=products)
        result[:, start : start + width] = np.add.reduce(products, axis=0)[: left.shape[1]]
    return result


def window_moments(window: FloatArray, weights: FloatArray, *, min_observations: int = 60) -> WindowMoments:
    """Moments of the columns of `window` (sessions, factors; NaN is no one-session return) with positive `weights`.

    A factor with fewer than `min_observations` returns is not usable; the moments are those of the sessions on which
    every usable factor has one. With w the weights of these, normalised: covariance = sum w (x - mx)(y - my) /
    (1 - sum w^2), which for equal weights is the sample covariance with ddof 1 (GNU Scientific Library reference,
    "Weighted Samples"). The correlation of a factor with itself is exactly 1, both matrices symmetric to the bit.
    """
    seen = ~np.isnan(window)
    own = seen.sum(axis=0)
    usable = own >= min_observations
    common = seen[:, usable].all(axis=1) if usable.any() else np.zeros(len(window), dtype=bool)
    n_obs = int(common.sum())
    status = np.where(own == 0, _CODES[MomentStatus.FACTOR_WITHOUT_DATA], _CODES[MomentStatus.INSUFFICIENT_HISTORY])
    covariance = np.full((window.shape[1],) * 2, np.nan)
    correlation = covariance.copy()
    if n_obs >= max(min_observations, 2):
        returns = window[common]
        constant = np.ptp(returns, axis=0) < ROUNDING
        status[usable & constant] = _CODES[MomentStatus.NO_VARIANCE]
        varying = np.flatnonzero(usable & ~constant)
        status[varying] = _CODES[MomentStatus.OK]
        x = returns[:, varying]
        w = (weights[common] / weights[common].sum())[:, None]
        deviations = x - cross_products(w, x)
        found = cross_products(w * deviations, deviations) / (1.0 - float((w * w).sum()))
        # the lower triangle is the upper one mirrored: w x y and w y x need not round alike
        found = np.triu(found) + np.triu(found, 1).T
        deviation = np.sqrt(np.diagonal(found))
        covariance[np.ix_(varying, varying)] = found
        scaled = np.clip(found / (deviation[:, None] * deviation[None, :]), -1.0, 1.0)
        np.fill_diagonal(scaled, 1.0)
        correlation[np.ix_(varying, varying)] = scaled
    return WindowMoments(covariance, correlation, n_obs, tuple(_STATUSES[code] for code in status))


def pair_moments(window: FloatArray, weights: FloatArray, *, min_observations: int = 60) -> PairMoments:
    """Moments of every pair of columns of `window` (sessions, factors; NaN is no one-session return), each on the
    sessions both have one, with positive `weights` (sessions,) as in `window_moments`.

    A pair with fewer than `min_observations` sessions in common has none, nor has one of which a member is constant
    over them. Symmetric to the bit, the diagonal of the correlation exactly 1; a pair's bits are those of its two
    columns, whatever others there are.
    """
    seen = ~np.isnan(window)
    factors = window.shape[1]
    covariance, correlation = np.full((2, factors, factors), np.nan)
    n_obs = np.zeros((factors, factors), dtype=np.int64)
    constant: BoolArray = np.zeros((factors, factors), dtype=bool)
    # factors that lack the same sessions share what is common with another such group
    groups: dict[bytes, list[int]] = {}
    for factor in range(factors):
        groups.setdefault(seen[:, factor].tobytes(), []).append(factor)
    for left in groups.values():
        for right in groups.values():
            common = seen[:, left[0]] & seen[:, right[0]]
            place = np.ix_(left, right)
            n_obs[place] = count = int(common.sum())
            if count < max(min_observations, 2):
                continue
            w = (weights[common] / weights[common].sum())[:, None]
            x, y = window[common][:, left], window[common][:, right]
            from_x, from_y = x - cross_products(w, x), y - cross_products(w, y)
            spread = 1.0 - float((w * w).sum())
            covariance[place] = cross_products(w * from_x, from_y) / spread
            ones = np.ones((count, 1))
            x_variance = cross_products(ones, w * from_x * from_x)[0] / spread
            y_variance = cross_products(ones, w * from_y * from_y)[0] / spread
            constant[place] = (np.ptp(x, axis=0) < ROUNDING)[:, None] | (np.ptp(y, axis=0) < ROUNDING)[None, :]
            with np.errstate(divide="ignore", invalid="ignore"):
                correlation[place] = covariance[place] / (np.sqrt(x_variance)[:, None] * np.sqrt(y_variance)[None, :])
    status = np.full((factors, factors), _CODES[MomentStatus.OK])
    status[constant] = _CODES[MomentStatus.NO_VARIANCE]
    status[n_obs < max(min_observations, 2)] = _CODES[MomentStatus.INSUFFICIENT_HISTORY]
    absent = ~seen.any(axis=0)
    status[absent, :] = status[:, absent] = _CODES[MomentStatus.FACTOR_WITHOUT_DATA]
    for matrix in (covariance, correlation):
        # the lower triangle is the upper one mirrored: w x y and w y x need not round alike
        matrix[:] = np.triu(matrix) + np.triu(matrix, 1).T
        matrix[status != _CODES[MomentStatus.OK]] = np.nan
    np.clip(correlation, -1.0, 1.0, out=correlation)
    np.fill_diagonal(correlation, np.where(np.isnan(np.diagonal(correlation)), np.nan, 1.0))
    return PairMoments(covariance, correlation, n_obs, status)


def factor_correlations(
    *,
    sessions: Sequence[date],
    calendar: pl.DataFrame,
    factors: pl.DataFrame,
    returns: pl.DataFrame,
    yields: pl.DataFrame,
    regression_window: int = 252,
    min_observations: int = 60,
    half_life: float = 63.0,
) -> pl.DataFrame:
    """One row per open session of `sessions`, weighting and ordered pair of active factors, the diagonal included.

    Columns are those of ``factor_correlations`` without provenance, ordered by session_date, weighting, factor_1 and
    factor_2. Factors are those that have a return (``factor_returns``); Interest_Rate enters as yield change, decimal.
    The window is the `regression_window` open sessions ending with the session, weighted equally and by
    0.5^(age in sessions / `half_life`); see `pair_moments`: every pair is made of the n_obs sessions it has in common,
    so that a young factor shortens nobody else's window. A pair is NULL, with status, where one of its factors has no
    return in the window (factor_without_data), there are fewer than `min_observations` common ones
    (insufficient_history), or a factor is constant over them (no_variance). Such a matrix need not be positive
    semi-definite: whoever needs one takes `window_moments` of the factors it needs.

    `calendar`, `factors`, `returns` and `yields` are rows of ``trading_sessions``, ``factor_definitions``,
    ``daily_returns`` and ``treasury_yields``, of the sessions and of the window before the first (yields of one session
    more); others change nothing. Raises timeline.SessionWindowError and factor_returns.FactorInputError.
    """
    axis = session_axis(sessions, calendar, regression_window - 1)
    series = factor_returns(axis, calendar=calendar, factors=factors, returns=returns, yields=yields)
    days = sorted(set(sessions) & set(axis))
    ages = np.arange(regression_window - 1, -1, -1)
    weights = {Weighting.EQUAL: np.ones(regression_window), Weighting.HALF_LIFE: 0.5 ** (ages / half_life)}
    found = []
    for day in days:
        window = series.until(day, regression_window).values
        for weighting in Weighting:
            found.append(pair_moments(window, weights[weighting][-len(window) :], min_observations=min_observations))
    return _rows(pl.Series(days, dtype=pl.Date), series.names, found)


def _rows(days: pl.Series, names: Sequence[str], found: Sequence[PairMoments]) -> pl.DataFrame:
    """The frame of moments given session by session, in both weightings."""
    count = len(names)
    repeats, pairs = len(found), count * count
    factor = pl.Series(list(names), dtype=pl.String)

    def stacked(matrices: Sequence[npt.NDArray[np.generic]], kind: type) -> npt.NDArray[np.generic]:
        return np.concatenate([np.empty(0, kind), *(matrix.ravel() for matrix in matrices)])

    return pl.DataFrame(
        {
            "session_date": days.gather(np.repeat(np.arange(len(days)), len(Weighting) * pairs)),
            "weighting": pl.Series([str(one) for one in Weighting]).gather(
                np.tile(np.repeat(np.arange(len(Weighting)), pairs), len(days))
            ),
            "factor_1": factor.gather(np.tile(np.repeat(np.arange(count), count), repeats)),
            "factor_2": factor.gather(np.tile(np.arange(count), count * repeats)),
            "correlation": pl.Series(stacked([one.correlation for one in found], np.float64)).fill_nan(None),
            "covariance": pl.Series(stacked([one.covariance for one in found], np.float64)).fill_nan(None),
            "n_obs": pl.Series(stacked([one.n_obs for one in found], np.int64)).cast(pl.Int32),
            "status": pl.Series([str(one) for one in _STATUSES], dtype=pl.String).gather(
                stacked([one.status for one in found], np.int64)
            ),
        }
    )


def stored_moments(factor_correlations: pl.DataFrame, *, weighting: str = Weighting.EQUAL) -> dict[date, FactorMoments]:
    """The moments of every session in rows of ``factor_correlations``, of one weighting; names in ascending order.

    Raises ValueError for a weighting that is none.
    """
    wanted = Weighting(weighting)
    rows = factor_correlations.filter(pl.col("weighting") == wanted).sort("session_date", "factor_1", "factor_2")
    moments = {}
    for (day,), own in rows.group_by(["session_date"], maintain_order=True):
        names = tuple(own.get_column("factor_1").unique().sort())
        matrix = own.get_column("covariance").fill_null(float("nan")).to_numpy().reshape(len(names), len(names))
        fewest = own.filter(pl.col("status") == MomentStatus.OK).get_column("n_obs").min()
        moments[day] = FactorMoments(names, matrix, fewest if isinstance(fewest, int) else 0)
    return moments
