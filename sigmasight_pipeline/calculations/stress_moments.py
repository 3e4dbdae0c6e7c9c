"""Moments a scenario rests on: on the sessions common to the factors it needs, and on each symbol's own among them.

What belongs here: covariances of one session's window of returns, of factors and of symbols with factors. What does
not: what a scenario makes of them (``stress_returns``), and the rows of ``factor_correlations`` (``factor_moments``).

A factor nobody shocks must not shorten the window of the others, and a young symbol must not mix its own few sessions
with the whole window of everybody else: both are a matter of which sessions a covariance is summed over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import nan
from typing import NamedTuple

import numpy as np

from sigmasight_pipeline.calculations.arrays import BoolArray, FloatArray, IntArray
from sigmasight_pipeline.calculations.factor_moments import cross_products
from sigmasight_pipeline.calculations.joint_betas import presence_patterns
from sigmasight_pipeline.calculations.regressions import ROUNDING

HALF_LIFE = 63.0
"""Sessions after which a return counts half, where recent ones count more."""


def session_weights(window: int, *, half_life: bool) -> FloatArray:
    """Weight of each of the `window` sessions, the newest last: all 1, or 0.5^(age / HALF_LIFE)."""
    ages = np.arange(window - 1, -1, -1)
    return np.asarray(0.5 ** (ages / HALF_LIFE), dtype=np.float64) if half_life else np.ones(window)


class OwnMoments(NamedTuple):
    """Moments on the sessions some names have in common with the factors of a scenario."""

    members: IntArray
    """Columns of the panel (symbols first, then factors) that have a return on exactly these sessions."""
    n_obs: int
    factors: FloatArray
    """(factors, factors): covariance; NaN where a factor lacks one of the sessions."""
    crossed: FloatArray
    """(factors, members): covariance of factor and member."""


@dataclass(frozen=True, eq=False)
class CommonMoments:
    """Moments on the sessions common to some factors; `n_obs` of them. Covariances are per session, ddof 1.

    `covariance` (factors, factors) is NaN where a factor lacks one of these sessions; `own` covers every column of the
    panel that has a return on at least the minimum of them.
    """

    n_obs: int
    covariance: FloatArray
    own: tuple[OwnMoments, ...]


@dataclass(frozen=True, eq=False)
class SessionMoments:
    """The window ending with one session: `factor_window` (sessions, factors) and `symbol_window` (sessions, symbols)
    are one-session returns (of Interest_Rate: yield changes), NaN where there is none; `weights` (sessions,) positive.

    Figures of a name depend on its own returns and the factors' alone, to the bit.
    """

    factor_window: FloatArray
    symbol_window: FloatArray
    weights: FloatArray
    min_observations: int = 60
    _kept: dict[bytes, CommonMoments] = field(default_factory=dict)

    @property
    def symbols(self) -> int:
        """How many symbols there are: factor k is column symbols + k of the panel."""
        return int(self.symbol_window.shape[1])

    @cached_property
    def _seen(self) -> BoolArray:
        return ~np.isnan(self.factor_window)

    @cached_property
    def _panel(self) -> FloatArray:
        return np.concatenate([self.symbol_window, self.factor_window], axis=1)

    @cached_property
    def observations(self) -> IntArray:
        """(factors,): sessions on which each factor has a return."""
        return np.asarray(self._seen.sum(axis=0), dtype=np.int64)

    @cached_property
    def constant(self) -> BoolArray:
        """(factors,): whether a factor has no return, or always the same."""
        window = np.where(self._seen, self.factor_window, nan)
        spread = np.full(window.shape[1], 0.0)
        some = self.observations > 0
        if some.any():
            spread[some] = np.nanmax(window[:, some], axis=0) - np.nanmin(window[:, some], axis=0)
        return spread < ROUNDING

    @cached_property
    def slopes(self) -> FloatArray:
        """(factors, factors): slope of the row's factor on the column's alone, on the sessions both have a return.

        1 on the diagonal. NaN where these are fewer than the minimum, or the column's factor does not vary on them.
        """
        count = self.factor_window.shape[1]
        slopes = np.full((count, count), nan)
        for factor in range(count):
            for own in self.common([factor]).own:
                here = own.members >= self.symbols
                rows = own.members[here] - self.symbols
                variance = own.factors[factor, factor]
                if variance > 0.0:
                    slopes[rows, factor] = own.crossed[factor, here] / variance
        usable = (self.observations >= self.min_observations) & ~self.constant
        np.fill_diagonal(slopes, np.where(usable, 1.0, nan))
        return slopes

    @cached_property
    def variances(self) -> FloatArray:
        """(factors,): of each factor on its own sessions; NaN where there are too few or it does not vary."""
        return np.array([self.common([factor]).covariance[factor, factor] for factor in range(len(self.constant))])

    def common(self, factors: Sequence[int]) -> CommonMoments:
        """Moments on the sessions on which every one of `factors` has a return."""
        common = np.logical_and.reduce(self._seen[:, list(factors)], axis=1)
        key = common.tobytes()
        if key not in self._kept:
            self._kept[key] = self._moments(common)
        return self._kept[key]

    def _moments(self, common: BoolArray) -> CommonMoments:
        n_obs = int(common.sum())
        count = self.factor_window.shape[1]
        if n_obs < max(self.min_observations, 2):
            return CommonMoments(n_obs, np.full((count, count), nan), ())
        complete = np.flatnonzero(self._seen[common].all(axis=0) & ~self.constant)
        own = tuple(self._own(common, complete))
        # some factor is complete, or these sessions would not be common to any
        whole = next(one for one in own if one.n_obs == n_obs)
        return CommonMoments(n_obs, whole.factors, own)

    def _own(self, common: BoolArray, complete: IntArray) -> Iterator[OwnMoments]:
        """Moments by the sessions among the `common` ones that names have a return on."""
        window, panel, weights = self.factor_window[common][:, complete], self._panel[common], self.weights[common]
        count = self.factor_window.shape[1]
        for present, members in presence_patterns(~np.isnan(panel)):
            n_obs = int(present.sum())
            if n_obs < max(self.min_observations, 2):
                continue
            w = (weights[present] / weights[present].sum())[:, None]
            x = window[present]
            y = panel[np.ix_(present, members)]
            x_moved, y_moved = x - cross_products(w, x), y - cross_products(w, y)
            weighted = w * x_moved
            unbiased = 1.0 - float((w * w).sum())
            factors = np.full((count, count), nan)
            squares = np.triu(cross_products(weighted, x_moved) / unbiased)
            # the lower triangle is the upper one mirrored: w x y and w y x need not round alike
            factors[np.ix_(complete, complete)] = squares + np.triu(squares, 1).T
            crossed = np.full((count, len(members)), nan)
            crossed[complete] = cross_products(weighted, y_moved) / unbiased
            # what is complete has its covariances from one place, so that a proxy moves exactly as its factor
            yield OwnMoments(members, n_obs, factors, crossed)
