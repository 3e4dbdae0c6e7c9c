"""Joint betas against statsmodels on augmented data, and that a symbol's figures are its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmasight_pipeline.calculations.joint_betas import joint_betas
from sigmasight_pipeline_tests.calculations.stress_world import NAMES, STYLE, covariance

Floats = np.ndarray[Any, np.dtype[np.float64]]


def factor_window(seed: int = 1, sessions: int = 252) -> Floats:
    """Returns of the seven style factors and three more, as alike as real ones."""
    names = [*STYLE, "Oil", "Technology", "Interest_Rate"]
    assert set(names) <= set(NAMES)
    random = np.random.default_rng(seed)
    moves: Floats = random.multivariate_normal(np.zeros(len(names)), covariance(names), size=sessions)
    return moves


STYLES = tuple(range(len(STYLE)))


def symbol_window(factors: Floats, count: int = 6, gaps: float = 0.0, seed: int = 2) -> Floats:
    random = np.random.default_rng(seed)
    loadings = random.uniform(-0.5, 1.5, size=(factors.shape[1], count))
    moves: Floats = np.nan_to_num(factors) @ loadings + random.normal(0, 0.01, size=(len(factors), count))
    moves[random.random(moves.shape) < gaps] = np.nan
    return moves


def oracle(x: Floats, y: Floats, penalty: float) -> tuple[Floats, float]:
    """Ridge as least squares with one more row per factor (Hastie, Tibshirani, Friedman, exercise 3.12)."""
    complete = ~(np.isnan(x).any(axis=1) | np.isnan(y))
    x, y = x[complete] - x[complete].mean(axis=0), y[complete] - y[complete].mean()
    rows = np.diag(np.sqrt(penalty * (x**2).sum(axis=0)))
    fit = sm.OLS(np.concatenate([y, np.zeros(x.shape[1])]), np.vstack([x, rows])).fit()
    residuals = y - x @ fit.params
    return fit.params, float(np.sqrt((residuals**2).sum() / (len(y) - x.shape[1] - 1)))


@pytest.mark.parametrize("gaps", [0.0, 0.03], ids=["complete", "with gaps"])
@pytest.mark.parametrize("penalty", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("columns", [STYLES, (*STYLES, 7), (*STYLES, 8, 9), (0,)], ids=str)
def test_betas_equal_statsmodels(columns: tuple[int, ...], penalty: float, gaps: float) -> None:
    factors = factor_window()
    factors[np.random.default_rng(5).random(factors.shape) < gaps / 4] = np.nan
    symbols = symbol_window(factors, gaps=gaps)
    (found,) = joint_betas(factors, symbols, [columns], penalty=penalty)
    for number in range(symbols.shape[1]):
        beta, residual_std = oracle(factors[:, columns], symbols[:, number], penalty)
        np.testing.assert_allclose(found.beta[number], beta, rtol=1e-9, atol=1e-10)
        assert found.residual_std[number] == pytest.approx(residual_std, rel=1e-9)
        complete = ~(np.isnan(factors[:, columns]).any(axis=1) | np.isnan(symbols[:, number]))
        assert found.n_obs[number] == complete.sum()


def test_without_penalty_and_noise_the_true_betas_come_back() -> None:
    factors = factor_window()
    true = np.arange(1.0, 8.0)
    (found,) = joint_betas(factors, (factors[:, :7] @ true)[:, None], [STYLES], penalty=0.0)
    np.testing.assert_allclose(found.beta[0], true, rtol=1e-9)
    assert found.residual_std[0] < 1e-9


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([0.0, 0.02]))
def test_a_symbol_alone_has_the_same_bits(seed: int, gaps: float) -> None:
    factors = factor_window(seed)
    factors[np.random.default_rng(seed).random(factors.shape) < gaps / 4] = np.nan
    symbols = symbol_window(factors, 5, gaps, seed)
    sets = [STYLES, (*STYLES, 8), (*STYLES, 7, 9)]
    together = joint_betas(factors, symbols, sets)
    for number in range(symbols.shape[1]):
        for columns, one in zip(sets, together, strict=True):
            (alone,) = joint_betas(factors, symbols[:, [number]], [columns])
            assert (alone.beta[0] == one.beta[number]).all()
            assert alone.residual_std[0] == one.residual_std[number]
            assert alone.n_obs[0] == one.n_obs[number]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.001, 1000.0))
def test_scale_of_a_factor_and_of_a_symbol(seed: int, scale: float) -> None:
    factors = factor_window(seed)
    symbols = symbol_window(factors, 3, seed=seed)
    (plain,) = joint_betas(factors, symbols, [STYLES])
    scaled = factors.copy()
    scaled[:, 2] *= scale
    (found,) = joint_betas(scaled, symbols, [STYLES])
    expected = plain.beta.copy()
    expected[:, 2] /= scale
    # betas are differences of larger numbers: one that happens to be small has no more digits than the others
    rounding = 1e-12 * max(scale, 1.0 / scale)
    np.testing.assert_allclose(found.beta, expected, rtol=1e-8, atol=rounding)
    np.testing.assert_allclose(found.residual_std, plain.residual_std, rtol=1e-8)
    (larger,) = joint_betas(factors, symbols * scale, [STYLES])
    np.testing.assert_allclose(larger.beta, plain.beta * scale, rtol=1e-8, atol=rounding)


def short(count: int) -> Floats:
    own = symbol_window(factor_window(), 1)[:, 0]
    own[:-count] = np.nan
    return own


UNAVAILABLE: list[tuple[str, Floats, bool, int]] = [
    ("59 complete cases", short(59), False, 59),
    ("60 complete cases", short(60), True, 60),
    ("constant, which is known to move with nothing", np.full(252, 0.001), True, 252),
    ("no return", np.full(252, np.nan), False, 0),
]


@pytest.mark.parametrize(("case", "own", "available", "n_obs"), UNAVAILABLE, ids=[case[0] for case in UNAVAILABLE])
def test_what_a_symbol_needs(case: str, own: Floats, available: bool, n_obs: int) -> None:
    factors = factor_window()
    others = symbol_window(factors, 2)
    (found,) = joint_betas(factors, np.column_stack([others[:, 0], own, others[:, 1]]), [STYLES])
    assert np.isfinite(found.beta[1]).all() == np.isfinite(found.residual_std[1]) == available, case
    assert np.isnan(found.beta[1]).all() != available, case
    assert found.n_obs[1] == n_obs, case
    (without,) = joint_betas(factors, others, [STYLES])
    assert (found.beta[[0, 2]] == without.beta).all(), "another symbol was touched"


@pytest.mark.parametrize("own", [np.full(252, np.nan), np.full(252, 0.001)], ids=["without data", "constant"])
def test_a_factor_that_cannot_be_used_hides_its_sets_only(own: Floats) -> None:
    factors = factor_window()
    factors[:, 7] = own
    symbols = symbol_window(np.nan_to_num(factors), 3)
    without, with_it = joint_betas(factors, symbols, [STYLES, (*STYLES, 7)])
    assert np.isfinite(without.beta).all()
    assert np.isnan(with_it.beta).all()
    assert np.isnan(with_it.residual_std).all()


def test_without_symbols_sets_or_sessions() -> None:
    factors = factor_window()
    (found,) = joint_betas(factors, np.empty((252, 0)), [STYLES])
    assert found.beta.shape == (0, 7)
    assert joint_betas(factors, symbol_window(factors), []) == []
    (nothing,) = joint_betas(factors[:0], symbol_window(factors)[:0], [STYLES])
    assert np.isnan(nothing.beta).all()
    assert (nothing.n_obs == 0).all()


def test_betas_are_the_same_without_residuals() -> None:
    factors = factor_window()
    symbols = symbol_window(factors, gaps=0.03)
    symbols[:, 0] = 0.0
    sets = [STYLES, (*STYLES, 7), (0,)]
    for full, bare in zip(
        joint_betas(factors, symbols, sets), joint_betas(factors, symbols, sets, residuals=False), strict=True
    ):
        np.testing.assert_array_equal(bare.beta, full.beta)
        np.testing.assert_array_equal(bare.n_obs, full.n_obs)
        assert np.isfinite(full.residual_std).all()
        assert np.isnan(bare.residual_std).all()
        assert not full.beta[0].any()
        assert full.residual_std[0] == 0.0
