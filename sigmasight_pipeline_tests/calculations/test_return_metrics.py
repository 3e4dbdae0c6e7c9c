"""Risk figures of return series against empyrical, and on paths made by hand."""

from __future__ import annotations

import empyrical
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from sigmasight_pipeline.calculations.return_metrics import ReturnMetrics, benchmark_metrics, return_metrics

Floats = NDArray[np.float64]


def column(values: list[float]) -> Floats:
    return np.array(values, dtype=np.float64)[:, None]


def metrics(values: list[float], rate: float = 0.0) -> ReturnMetrics:
    return return_metrics(column(values), np.full((len(values), 1), rate))


@pytest.mark.parametrize("sessions", [2, 20, 21, 61, 63, 90, 252])
@pytest.mark.parametrize("scale", [0.001, 0.01, 0.2])
def test_equal_to_empyrical(sessions: int, scale: float) -> None:
    random = np.random.default_rng(sessions)
    returns = np.maximum(scale * random.standard_t(3, (sessions, 6)), -0.9)
    rates = random.uniform(0.0001, 0.0002, (sessions, 1)) * np.ones(6)
    found = return_metrics(returns, rates)
    for number in range(6):
        own = pd.Series(returns[:, number])
        rate = pd.Series(rates[:, number])
        expected = {
            "volatility": empyrical.annual_volatility(own),
            "sharpe": empyrical.sharpe_ratio(own, risk_free=rate),
            "sortino": empyrical.sortino_ratio(own, required_return=rate),
            "max_drawdown": empyrical.max_drawdown(own),
            "hist_var_95": -empyrical.value_at_risk(own, cutoff=0.05),
            "hist_var_99": -empyrical.value_at_risk(own, cutoff=0.01),
            "expected_shortfall_95": -empyrical.conditional_value_at_risk(own, cutoff=0.05),
            "var_95": stats.norm.ppf(0.95) * own.std(ddof=1) - own.mean(),
            "var_99": stats.norm.ppf(0.99) * own.std(ddof=1) - own.mean(),
            "hit_rate": (own > 0).mean(),
        }
        for name, value in expected.items():
            mine = getattr(found, name)[number]
            if not np.isfinite(value):  # no loss: empyrical divides by 0
                assert np.isnan(mine), (name, number)
                continue
            assert mine == pytest.approx(value, rel=1e-12, abs=1e-12), (name, number, own.to_list())


@pytest.mark.parametrize("gaps", [0.0, 0.2])
def test_beta_equals_empyrical_and_correlation_numpy(gaps: float) -> None:
    random = np.random.default_rng(4)
    benchmark = 0.01 * random.normal(size=(90, 5))
    returns = 0.7 * benchmark + 0.01 * random.normal(size=(90, 5))
    benchmark[random.random(benchmark.shape) < gaps] = np.nan
    found = benchmark_metrics(returns, benchmark, min_common=20)
    for number in range(5):
        both = ~np.isnan(benchmark[:, number])
        own, other = returns[both, number], benchmark[both, number]
        assert found.n_obs[number] == both.sum()
        assert found.beta[number] == pytest.approx(empyrical.beta(own, other), rel=1e-12)
        assert found.correlation[number] == pytest.approx(np.corrcoef(own, other)[0, 1], rel=1e-12)


def test_benchmark_edges() -> None:
    """Too few pairs; a constant benchmark; a constant portfolio (a slope of 0, no correlation)."""
    benchmark = np.tile(np.linspace(-0.01, 0.02, 30)[:, None], 4)
    returns = benchmark.copy()
    benchmark[19:, 0], benchmark[:, 1], returns[:, 2] = np.nan, 0.1 / 3, 0.1 / 3
    found = benchmark_metrics(returns, benchmark, min_common=20)
    np.testing.assert_array_equal(found.n_obs, [19, 30, 30, 30])
    np.testing.assert_array_equal(found.beta, [np.nan, np.nan, 0.0, 1.0])
    np.testing.assert_array_equal(found.correlation, [np.nan, np.nan, np.nan, 1.0])


PATHS: list[tuple[str, list[float], float, int, int]] = [
    ("only up", [0.1, 0.2], 0.0, -1, -1),
    ("flat", [0.0, 0.0], 0.0, -1, -1),
    ("from the start", [-0.1, -0.1, 0.5], 0.81 - 1, -1, 1),
    ("from a high", [0.1, -0.2, 0.1, 0.2], -0.2, 0, 1),
    ("over several sessions", [0.1, -0.1, 0.05, -0.2, 1.0], 0.9 * 1.05 * 0.8 - 1, 0, 3),
    ("the deeper of two", [0.1, -0.1, 0.5, -0.3, 0.1], -0.3, 2, 3),
    ("the first of two as deep", [1.0, -0.5, 1.0, -0.5, 1.0], -0.5, 0, 1),
    ("from the last time at the high", [0.25, 0.0, -0.5], -0.5, 1, 2),
    ("back to the start, then down", [-0.5, 1.0, -0.75], -0.75, 1, 2),
    ("everything lost", [0.5, -1.0, 0.3], -1.0, 0, 1),
    ("more than everything lost", [0.5, -1.2, 0.3], -1.0, 0, 1),
]


@pytest.mark.parametrize(("returns", "depth", "start", "end"), [path[1:] for path in PATHS], ids=[p[0] for p in PATHS])
def test_drawdown(returns: list[float], depth: float, start: int, end: int) -> None:
    found = metrics(returns)
    assert found.max_drawdown[0] == pytest.approx(depth, abs=1e-15)
    assert (found.drawdown_start[0], found.drawdown_end[0]) == (start, end)


EDGES: list[tuple[str, list[float], float, dict[str, float]]] = [
    ("constant", [0.1 / 3] * 5, 0.0, {"volatility": 0.0, "sharpe": np.nan, "sortino": np.nan, "var_95": -0.1 / 3}),
    ("constant loss", [-0.01] * 4, 0.0, {"volatility": 0.0, "sharpe": np.nan, "sortino": np.nan, "hit_rate": 0}),
    ("no loss", [0.01, 0.02], 0.0, {"sortino": np.nan, "hit_rate": 1.0, "hist_var_95": -0.0105}),
    ("a loss against the rate", [0.01, 0.02], 0.02, {"sortino": -0.005 / (0.0001 / 2) ** 0.5 * 252**0.5}),
    ("zero is no hit", [0.0, 0.01, -0.01, 0.0], 0.0, {"hit_rate": 0.25}),
    ("rate unknown", [0.01, -0.02], np.nan, {"sharpe": np.nan, "sortino": np.nan, "hit_rate": 0.5}),
    ("worst of 21", [float(n) / 100 for n in range(21)], 0.0, {"expected_shortfall_95": -0.005, "hist_var_95": -0.01}),
    ("worst of 20", [float(n) / 100 for n in range(20)], 0.0, {"expected_shortfall_95": 0.0, "hist_var_95": -0.0095}),
]


@pytest.mark.parametrize(("returns", "rate", "expected"), [edge[1:] for edge in EDGES], ids=[e[0] for e in EDGES])
def test_edges(returns: list[float], rate: float, expected: dict[str, float]) -> None:
    found = metrics(returns, rate)
    for name, value in expected.items():
        assert getattr(found, name)[0] == pytest.approx(value, rel=1e-12, abs=1e-16, nan_ok=True), name


def test_no_loss_is_not_minus_zero() -> None:
    found = metrics([0.0] * 21)
    for name in ("hist_var_95", "hist_var_99", "expected_shortfall_95"):
        assert not np.signbit(getattr(found, name)[0]), name


@settings(max_examples=30)
@given(st.integers(0, 2**16), st.sampled_from([21, 90, 252]))
def test_a_column_does_not_depend_on_the_others(seed: int, sessions: int) -> None:
    random = np.random.default_rng(seed)
    returns, rates = 0.01 * random.normal(size=(sessions, 9)), 0.0001 * random.random((sessions, 9))
    whole, one = return_metrics(returns, rates), return_metrics(returns[:, [4]], rates[:, [4]])
    for name in vars(one):
        np.testing.assert_array_equal(getattr(one, name), getattr(whole, name)[[4]], err_msg=name)
    benchmark = np.where(random.random(returns.shape) < 0.1, np.nan, returns[:, ::-1])
    against = benchmark_metrics(returns, benchmark, min_common=2)
    single = benchmark_metrics(returns[:, [4]], benchmark[:, [4]], min_common=2)
    assert (single.beta[0], single.correlation[0]) == (against.beta[4], against.correlation[4])
