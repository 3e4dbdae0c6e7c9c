"""Joint betas: a symbol's ridge regression on several factors at once, other factors held still.

What belongs here: the ridge on windows of returns as arrays, for all symbols and for several sets of factors that share
a window. What does not: betas on one factor at a time (``factor_model``), and what is made of joint betas: direct
stress P&L (``stress``), factor value at risk, attribution.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from sigmasight_pipeline.calculations.arrays import BoolArray, FloatArray, IntArray
from sigmasight_pipeline.calculations.factor_moments import cross_products
from sigmasight_pipeline.calculations.regressions import ROUNDING

RIDGE_PENALTY = 0.1
"""Share of each factor's own centred sum of squares that is added to it."""


class JointBetas(NamedTuple):
    """Ridge regressions of symbols on one set of factors; NaN where there are too few complete cases."""

    beta: FloatArray
    """(symbols, factors): return of the symbol per 1.00 of the factor's, the set's other factors held still."""
    residual_std: FloatArray
    """(symbols,): standard deviation of the residuals, decimal return per session, n_obs - factors - 1 in the
    denominator; NaN where that is not positive."""
    n_obs: IntArray
    """(symbols,): complete cases, sessions on which the symbol and every factor of the set have a return."""


def joint_betas(
    factor_window: FloatArray,
    symbol_window: FloatArray,
    factor_sets: Sequence[Sequence[int]],
    *,
    min_observations: int = 60,
    penalty: float = RIDGE_PENALTY,
    residuals: bool = True,
) -> list[JointBetas]:
    """Ridge regressions with intercept of every symbol on every set of factors, over one window.

    `factor_window` (sessions, factors) and `symbol_window` (sessions, symbols) are one-session returns (of
    Interest_Rate: yield changes), NaN where there is none; `factor_sets` are columns of `factor_window`, not empty.
    With x and y centred over the complete cases of the symbol and the set, b = (x'x + penalty diag(x'x))^-1 x'y, so
    that the penalty does not depend on a factor's scale (Hoerl and Kennard, "Ridge Regression", Technometrics 12, 1970,
    on standardised regressors). Fewer than `min_observations` complete cases, or a factor of the set that is constant
    over them, gives NaN; a symbol that is constant (cash) has betas and residual_std 0. Without `residuals`, which cost
    as much as the betas, residual_std is NaN. Returns one JointBetas per set;
    a symbol's figures depend on its own returns and the set alone, to the bit.
    """
    sets = [np.asarray(columns, dtype=np.int64) for columns in factor_sets]
    symbols = symbol_window.shape[1]
    results = [
        JointBetas(np.full((symbols, len(columns)), np.nan), np.full(symbols, np.nan), np.zeros(symbols, np.int64))
        for columns in sets
    ]
    has_factor: BoolArray = ~np.isnan(factor_window)
    has_symbol: BoolArray = ~np.isnan(symbol_window)
    # sets that lack the same sessions share the sums of their complete cases
    sharing: dict[bytes, list[int]] = {}
    for number, columns in enumerate(sets):
        sharing.setdefault(has_factor[:, columns].all(axis=1).tobytes(), []).append(number)
    for numbers in sharing.values():
        has_set = np.logical_and.reduce(has_factor[:, sets[numbers[0]]], axis=1)
        used = np.unique(np.concatenate([sets[number] for number in numbers]))
        for complete, members in presence_patterns(has_symbol & has_set[:, None]):
            n_obs = int(complete.sum())
            for number in numbers:
                results[number].n_obs[members] = n_obs
            if n_obs < max(min_observations, 2):
                continue
            sums = _Sums.of(factor_window[np.ix_(complete, used)], symbol_window[np.ix_(complete, members)])
            for number in numbers:
                columns = np.searchsorted(used, sets[number])
                if sums.constant_x[columns].any():
                    continue
                beta = sums.ridge(columns, penalty)
                if residuals:
                    results[number].residual_std[members] = np.where(
                        sums.constant_y, 0.0, sums.residual_std(columns, beta)
                    )
                beta[sums.constant_y] = 0.0
                results[number].beta[members] = beta
    return results


def presence_patterns(present: BoolArray) -> Iterator[tuple[BoolArray, IntArray]]:
    """The distinct columns of `present` (sessions, symbols), each with the numbers of the symbols that have it."""
    if not present.size:
        return
    packed = np.ascontiguousarray(np.packbits(present, axis=0).T)
    keys = packed.view(np.dtype((np.void, packed.shape[1]))).ravel()
    _, first, pattern = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(pattern, kind="stable")
    for column, members in zip(first, np.split(order, np.flatnonzero(np.diff(pattern[order])) + 1), strict=True):
        yield present[:, column], members


class _Sums(NamedTuple):
    """Centred cross-products of complete cases: factors (k, k), factors and symbols (k, m), symbols (m,); which of
    them do not vary; how many cases.
    """

    xx: FloatArray
    xy: FloatArray
    yy: FloatArray
    constant_x: BoolArray
    constant_y: BoolArray
    n_obs: int

    @classmethod
    def of(cls, x: FloatArray, y: FloatArray) -> _Sums:
        ones = np.ones((len(x), 1))
        centred_x = x - cross_products(ones, x) / len(x)
        centred_y = y - cross_products(ones, y) / len(x)
        return cls(
            xx=cross_products(centred_x, centred_x),
            xy=cross_products(centred_x, centred_y),
            yy=cross_products(ones, centred_y * centred_y)[0],
            constant_x=np.ptp(x, axis=0) < ROUNDING,
            constant_y=np.ptp(y, axis=0) < ROUNDING,
            n_obs=len(x),
        )

    def ridge(self, columns: IntArray, penalty: float) -> FloatArray:
        """Betas (symbols, factors) on the factors `columns`, all of which vary."""
        ridged = self.xx[columns[:, None], columns]
        np.fill_diagonal(ridged, ridged.diagonal() * (1.0 + penalty))
        inverse = np.asarray(np.linalg.inv(ridged), dtype=np.float64)
        # not a matrix product: its bits may depend on how many symbols there are
        return cross_products(inverse.T, self.xy[columns]).T

    def residual_std(self, columns: IntArray, beta: FloatArray) -> FloatArray:
        """Standard deviations (symbols,) of what the betas (symbols, factors) leave; NaN without degrees of freedom."""
        freedom = self.n_obs - len(columns) - 1
        if freedom <= 0:
            return np.full(len(beta), np.nan)
        products, gram = self.xy[columns], self.xx[columns[:, None], columns]
        ones = np.ones((len(columns), 1))
        fitted = cross_products(ones, beta.T * (2.0 * products - cross_products(gram, beta.T)))[0]
        return np.asarray(np.sqrt(np.maximum(self.yy - fitted, 0.0) / freedom), dtype=np.float64)
