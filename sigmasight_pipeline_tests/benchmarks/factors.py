"""Betas of many symbols against a loop over statsmodels.

What belongs here: timings of ``regressions`` with all its outputs, for one session and for a year of them. What does
not: correctness, beyond making sure that both sides found the same figures.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray
from statsmodels.regression.linear_model import OLS
from statsmodels.tools.tools import add_constant

from sigmasight_pipeline.calculations.regressions import Regressions, univariate_regressions
from sigmasight_pipeline_tests.benchmarks.measurement import Measurement, fastest

WINDOW, MINIMUM = 252, 60
FACTORS = 7
YEAR = 252
PEER_PAIRS = 200

ONE_SESSION_BUDGET = 1 / 1_500
YEAR_BUDGET = 1 / 2_500

PEER = 'OLS(y, add_constant(x), missing="drop").fit() loop'

Floats = NDArray[np.float64]
Figures = tuple[float, float, float, float, float, float, float, int]


def run() -> list[Measurement]:
    """Seconds for all pairs; ratios compare the time per pair, as the peer is given fewer."""
    return [
        _compared("betas, 5,000 symbols x 7 factors, one session", 5_000, 1, ONE_SESSION_BUDGET),
        _compared("betas, 500 symbols x 7 factors, 252 sessions", 500, YEAR, YEAR_BUDGET),
    ]


def _compared(stage: str, symbols: int, sessions: int, budget: float) -> Measurement:
    """Alternating, so that a busy machine slows both. Raises AssertionError where the results differ."""
    y, x = _returns(symbols, WINDOW + sessions - 1)
    last = list(range(WINDOW - 1, WINDOW + sessions - 1))

    def ours() -> Regressions:
        return univariate_regressions(y, x, last, window=WINDOW, min_observations=MINIMUM)

    pairs = [(symbol, symbol % FACTORS) for symbol in range(PEER_PAIRS)]

    def theirs() -> list[Figures]:
        return [_statsmodels(y[:WINDOW, symbol], x[:WINDOW, factor]) for symbol, factor in pairs]

    found = ours()
    for (symbol, factor), expected in zip(pairs, theirs(), strict=True):
        np.testing.assert_allclose(_figures(found, factor, symbol), expected, rtol=1e-9, atol=1e-10)
    rounds = [(fastest(ours, 3), fastest(theirs, 1)) for _ in range(7)]
    seconds, peer_seconds = (min(taken) for taken in zip(*rounds, strict=True))
    count = symbols * FACTORS * sessions
    return Measurement(stage, seconds, count, seconds / count / (peer_seconds / len(pairs)), PEER, budget)


def _returns(symbols: int, sessions: int) -> tuple[Floats, Floats]:
    """Returns of symbols and factors; one symbol in twenty has gaps, one in twenty is young."""
    random = np.random.default_rng(20240102)
    market = random.normal(0.0004, 0.01, sessions)
    x = market[:, None] + random.normal(0, 0.004, (sessions, FACTORS))
    y = np.asfortranarray(
        market[:, None] * random.uniform(0.3, 1.7, symbols) + random.normal(0, 0.015, (sessions, symbols))
    )
    for symbol, row in product(range(0, symbols, 20), random.integers(0, sessions, 5)):
        y[row, symbol] = np.nan
    for symbol in range(10, symbols, 20):
        y[: random.integers(0, WINDOW - MINIMUM), symbol] = np.nan
    return y, x


def _statsmodels(y: Floats, x: Floats) -> Figures:
    fit = OLS(y, add_constant(x), missing="drop").fit()
    return (
        fit.params[1],
        fit.params[0],
        fit.bse[1],
        fit.tvalues[1],
        fit.pvalues[1],
        fit.rsquared,
        fit.mse_resid**0.5,
        int(fit.nobs),
    )


def _figures(found: Regressions, factor: int, symbol: int) -> Figures:
    """The same figures of the first session."""
    at = (0, factor, symbol)
    return (
        found.beta[at],
        found.alpha[at],
        found.std_error[at],
        found.t_stat[at],
        found.p_value[at],
        found.r_squared[at],
        found.residual_volatility[at],
        int(found.n_obs[at]),
    )
