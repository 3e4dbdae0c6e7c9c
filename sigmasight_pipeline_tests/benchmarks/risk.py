"""Correlations and risk metrics against the libraries one would otherwise call.

What belongs here: timings of ``pearson`` on 2,000 symbols and of ``return_metrics`` on 10,000 portfolios. What does
not: correctness, beyond making sure that both sides found the same figures.
"""

from __future__ import annotations

from collections.abc import Callable

import empyrical
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from sigmasight_pipeline.calculations.pearson import correlation_matrix, p_values
from sigmasight_pipeline.calculations.return_metrics import benchmark_metrics, return_metrics
from sigmasight_pipeline_tests.benchmarks.measurement import Measurement, fastest

SYMBOLS = 2_000
SESSIONS = 252
PORTFOLIOS = 10_000
MIN_COMMON = 20
SCIPY_PAIRS = 500
EMPYRICAL_PORTFOLIOS = 100

PANDAS_BUDGET = 1 / 3
SCIPY_BUDGET = 1 / 150
EMPYRICAL_BUDGET = 1 / 25

Floats = NDArray[np.float64]


def run() -> list[Measurement]:
    """Seconds for a matrix of 2,000 symbols with gaps, and for 10,000 portfolios; ratios compare the time per pair or
    portfolio where the peer is given fewer."""
    return [*_correlations(), _risk_metrics()]


def _compared(
    stage: str,
    ours: tuple[Callable[[], object], int],
    peer: str,
    theirs: tuple[Callable[[], object], int],
    budget: float,
) -> Measurement:
    """Actions and how many rows each makes, alternating, so that a busy machine slows both."""
    rounds = [(fastest(ours[0], 2), fastest(theirs[0], 1)) for _ in range(3)]
    seconds, peer_seconds = (min(taken) for taken in zip(*rounds, strict=True))
    ratio = seconds / ours[1] / (peer_seconds / theirs[1])
    return Measurement(stage, seconds, ours[1], ratio, peer, budget)


def _correlations() -> list[Measurement]:
    random = np.random.default_rng(20240102)
    values = 0.01 * random.normal(size=(SESSIONS, SYMBOLS)) + 0.01 * random.normal(size=(SESSIONS, 1))
    values[random.random(values.shape) < 0.01] = np.nan
    frame = pd.DataFrame(values)
    first, second = random.integers(0, SYMBOLS, (2, SCIPY_PAIRS))

    def matrix() -> tuple[Floats, NDArray[np.int64]]:
        return correlation_matrix(values, min_common=MIN_COMMON)

    def with_p_values() -> tuple[Floats, Floats]:
        correlation, common = matrix()
        return correlation, p_values(correlation, common)

    def by_pandas() -> Floats:
        found: Floats = frame.corr(min_periods=MIN_COMMON).to_numpy()
        return found

    def by_scipy() -> Floats:
        found = []
        for one, other in zip(first, second, strict=True):
            x, y = values[:, one], values[:, other]
            both = ~(np.isnan(x) | np.isnan(y))
            found.append(tuple(stats.pearsonr(x[both], y[both])))
        return np.array(found)

    correlation, p = with_p_values()
    np.testing.assert_allclose(correlation, by_pandas(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(np.stack([correlation[first, second], p[first, second]], axis=1), by_scipy(), atol=1e-12)
    pairs = SYMBOLS * (SYMBOLS + 1) // 2
    return [
        _compared("correlations with n", (matrix, pairs), "pandas.DataFrame.corr", (by_pandas, pairs), PANDAS_BUDGET),
        _compared(
            "correlations with n and p",
            (with_p_values, pairs),
            "scipy.stats.pearsonr loop",
            (by_scipy, SCIPY_PAIRS),
            SCIPY_BUDGET,
        ),
    ]


def _risk_metrics() -> Measurement:
    random = np.random.default_rng(20240103)
    benchmark = 0.01 * random.normal(size=SESSIONS)
    returns = benchmark[:, None] * random.uniform(0, 1.5, PORTFOLIOS) + 0.005 * random.normal(
        size=(SESSIONS, PORTFOLIOS)
    )
    rates = np.full_like(returns, 0.04 / SESSIONS)
    benchmarks = np.repeat(benchmark[:, None], PORTFOLIOS, axis=1)

    def ours() -> Floats:
        found = return_metrics(returns, rates)
        beta = benchmark_metrics(returns, benchmarks, min_common=MIN_COMMON).beta
        return np.stack(
            [
                found.volatility,
                found.sharpe,
                found.sortino,
                found.max_drawdown,
                -found.hist_var_95,
                -found.hist_var_99,
                -found.expected_shortfall_95,
                beta,
            ],
            axis=1,
        )

    def by_empyrical() -> Floats:
        rate = 0.04 / SESSIONS
        return np.array(
            [
                (
                    empyrical.annual_volatility(own),
                    empyrical.sharpe_ratio(own, risk_free=rate),
                    empyrical.sortino_ratio(own, required_return=rate),
                    empyrical.max_drawdown(own),
                    empyrical.value_at_risk(own, cutoff=0.05),
                    empyrical.value_at_risk(own, cutoff=0.01),
                    empyrical.conditional_value_at_risk(own, cutoff=0.05),
                    empyrical.beta(own, benchmark),
                )
                for own in returns.T[:EMPYRICAL_PORTFOLIOS].copy()
            ]
        )

    np.testing.assert_allclose(ours()[:EMPYRICAL_PORTFOLIOS], by_empyrical(), rtol=1e-12, atol=1e-12)
    return _compared(
        "risk metrics, 252 sessions",
        (ours, PORTFOLIOS),
        "empyrical loop",
        (by_empyrical, EMPYRICAL_PORTFOLIOS),
        EMPYRICAL_BUDGET,
    )
