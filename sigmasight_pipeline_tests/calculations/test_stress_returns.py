"""Implied returns against an independent transcription, and the properties a scenario must have."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan, nan
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmasight_pipeline.calculations.stress_moments import SessionMoments
from sigmasight_pipeline.calculations.stress_returns import (
    LEAST_LAM,
    Confidence,
    Propagation,
    Shocks,
    Unsolved,
    added_up,
    effective_shocks,
    floored,
    implied_parts,
    propagate,
    single_shock,
)
from sigmasight_pipeline_tests.calculations import reference_stress as reference
from sigmasight_pipeline_tests.calculations.stress_world import NAMES, covariance

Floats = np.ndarray[Any, np.dtype[np.float64]]

SIGMA = covariance()
MARKET = NAMES.index("Market")
SYMBOLS = 8
PROXIES = {5: MARKET, 6: NAMES.index("Technology")}
"""Symbols that are a factor's proxy; the others are stocks."""

PROXY_OF = np.array([PROXIES.get(symbol, -1) for symbol in range(SYMBOLS)])
BETA = np.random.default_rng(4).normal(0.8, 0.6, size=(SYMBOLS, len(NAMES)))

SCENARIOS: dict[str, dict[str, Any]] = {
    "market alone": {"Market": -0.35},
    "rates alone": {"Interest_Rate": 0.01},
    "two without market": {"Value": 0.20, "Growth": -0.10},
    "rates and oil": {"Interest_Rate": -0.02, "Oil": 0.4},
    "mild": {"Quality": 0.12, "Market": -0.05},
    "liquidity": {"Market": -0.20, "Low_Volatility": -0.30, "Quality": 0.15, "Size": -0.10},
    "2008": {"Market": -0.45, "Value": -0.3, "Size": -0.25, "Quality": 0.2, "Low_Volatility": -0.35, "Credit": -0.2},
    "covid": {
        "Market": -0.35, "Growth": 0.15, "Value": -0.4, "Size": -0.3, "Quality": 0.1, "Oil": -0.65, "Travel": -0.7,
        "Technology": 0.15,
    },
    "dot-com": {
        "Market": -0.45, "Growth": -0.6, "Value": 0.2, "Momentum": -0.5, "Quality": 0.15, "Technology": -0.8,
    },
    "every factor": {name: -0.1 + 0.02 * number for number, name in enumerate(NAMES)},
    "zero among others": {"Market": -0.1, "Gold": 0.0},
    "a rotation": {"Market": 0.0, "Value": {"relative": 0.2}, "Growth": {"relative": -0.1}},
    "relative and total": {"Market": -0.35, "Oil": -0.65, "Travel": -0.7, "Technology": {"relative": 0.15}},
}  # fmt: skip

WITHOUT_RELATIVE = [name for name, shocks in SCENARIOS.items() if not any(isinstance(s, dict) for s in shocks.values())]


def numbered(shocks: Mapping[str, Any]) -> dict[int, Any]:
    return {NAMES.index(name): shock for name, shock in shocks.items()}


def moments_of(sigma: Floats = SIGMA, beta: Floats = BETA) -> SessionMoments:
    """A window whose sample moments are exactly these: factors' covariances, symbols' univariate betas."""
    count = len(sigma)
    noise = np.random.default_rng(11).normal(size=(WINDOW, count))
    noise -= noise.mean(axis=0)
    independent = noise @ np.linalg.inv(np.linalg.cholesky(np.cov(noise.T))).T
    values, vectors = np.linalg.eigh(sigma)
    factors = independent @ (vectors * np.sqrt(np.maximum(values, 0.0))).T
    loadings = np.linalg.pinv(sigma) @ (beta * np.diagonal(sigma)).T
    return SessionMoments(factors, factors @ loadings, np.ones(WINDOW))


WINDOW = 252
MOMENTS = moments_of()


def shocks_of(stated: Mapping[int, Any]) -> Shocks:
    numbers = sorted(stated)
    relative = [isinstance(stated[number], dict) for number in numbers]
    values = [stated[number]["relative"] if isinstance(stated[number], dict) else stated[number] for number in numbers]
    return Shocks(np.array(numbers), np.array(values, dtype=np.float64), np.array(relative))


def solved(
    stated: Mapping[int, Any],
    moments: SessionMoments = MOMENTS,
    market: int | None = MARKET,
    confidence: Confidence = Confidence.NOISY,
) -> Propagation:
    if len(stated) == 1:
        ((factor, shock),) = stated.items()
        return single_shock(factor, shock, moments)
    found = propagate(shocks_of(stated), moments, market=market, confidence=confidence)
    assert isinstance(found, Propagation), found
    return found


def parts_of(
    scenario: Propagation, moments: SessionMoments = MOMENTS, beta: Floats = BETA, market: int | None = MARKET
) -> Floats:
    """Returns by factor of the symbols, proxies moving as their factors."""
    found = implied_parts(scenario, beta, moments, market=market)
    own = found[:, : len(beta)].copy()
    if not scenario.single:
        for symbol, factor in PROXIES.items():
            if symbol < len(beta):
                own[:, symbol] = found[:, len(beta) + factor]
    return own


def returns_of(
    stated: Mapping[int, Any],
    moments: SessionMoments = MOMENTS,
    market: int | None = MARKET,
    confidence: Confidence = Confidence.NOISY,
) -> Floats:
    scenario = solved(stated, moments, market, confidence)
    return added_up(parts_of(scenario, moments, market=market))


def effective_of(stated: Mapping[int, Any], confidence: Confidence = Confidence.NOISY) -> Floats:
    scenario = solved(stated, confidence=confidence)
    return effective_shocks(scenario, implied_parts(scenario, BETA, MOMENTS, market=MARKET), SYMBOLS)


@pytest.mark.parametrize("name", SCENARIOS)
def test_returns_and_diagnostics_equal_the_transcription(name: str) -> None:
    shocks = numbered(SCENARIOS[name])
    for market in (MARKET, None) if name in WITHOUT_RELATIVE else (MARKET,):
        want = reference.solve(shocks, SIGMA, BETA, PROXIES, market)
        found = solved(shocks, market=market)
        np.testing.assert_allclose(returns_of(shocks, market=market), want.returns, rtol=1e-8, atol=1e-10)
        for figure in ("lam", "condition_number", "mahalanobis", "max_z"):
            assert getattr(found.diagnostics, figure) == pytest.approx(getattr(want, figure), rel=1e-8), figure
        assert found.diagnostics.implausible == (want.mahalanobis > 5 * want.max_z)


@pytest.mark.parametrize("confidence", [Confidence.EXACT, Confidence.REPLAY])
@pytest.mark.parametrize("name", ["2008", "two without market", "rates and oil", "relative and total", "a rotation"])
def test_exact_shocks_and_real_returns_have_no_size_bound(name: str, confidence: Confidence) -> None:
    shocks = numbered(SCENARIOS[name])
    want = reference.solve(shocks, SIGMA, BETA, PROXIES, MARKET, confidence)
    np.testing.assert_allclose(returns_of(shocks, confidence=confidence), want.returns, rtol=1e-8, atol=1e-10)
    lam = solved(shocks, confidence=confidence).diagnostics.lam
    assert lam == {Confidence.EXACT: 0.0, Confidence.REPLAY: LEAST_LAM}[confidence]


@pytest.mark.parametrize("name", SCENARIOS)
def test_lam_is_the_smallest_that_keeps_the_scenario_plausible(name: str) -> None:
    shocks = numbered(SCENARIOS[name])
    chosen = sorted(shocks)
    if len(chosen) == 1:
        assert solved(shocks).diagnostics.lam == 0.0
        return
    slopes = SIGMA[:, MARKET] / SIGMA[MARKET, MARKET] if MARKET in shocks else np.zeros(len(SIGMA))
    e, z = {}, {}
    for k, shock in shocks.items():
        if isinstance(shock, dict):
            e[k] = shock["relative"]
            z[k] = e[k] / np.sqrt(SIGMA[k, k] - slopes[k] * SIGMA[MARKET, k])
        else:
            e[k] = shock - slopes[k] * shocks.get(MARKET, 0.0)
            z[k] = shock / np.sqrt(SIGMA[k, k])
    others = [k for k in chosen if k != MARKET]
    v = SIGMA[np.ix_(others, others)] - np.outer(slopes[others], SIGMA[MARKET, others])

    def size(lam: float) -> float:
        kept = np.linalg.solve(v + lam * np.diag(np.diagonal(v)), [e[k] for k in others])
        return float(z.get(MARKET, 0.0) ** 2 + kept @ v @ kept)

    limit = 2 * max(abs(value) for value in z.values()) ** 2
    lam = solved(shocks).diagnostics.lam
    assert lam >= LEAST_LAM
    assert size(lam) <= limit * (1 + 1e-8)
    if lam > LEAST_LAM:
        assert size(lam * (1 - 1e-7)) > limit * (1 - 1e-9), "a smaller one would do"


shock = st.floats(-0.9, 0.9).map(lambda value: round(value, 4))
vectors = st.dictionaries(st.integers(0, len(NAMES) - 1), shock, min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(NAMES) - 1), shock)
def test_one_shock_is_beta_times_shock(factor: int, value: float) -> None:
    np.testing.assert_allclose(returns_of({factor: value}), BETA[:, factor] * value, rtol=0, atol=1e-12)
    alone = implied_parts(single_shock(factor, value), BETA, None, market=None)
    assert (alone[0] == BETA[:, factor] * value).all(), "without any moments"


@settings(max_examples=80, deadline=None)
@given(vectors, shock, st.sampled_from([Confidence.NOISY, Confidence.REPLAY]))
def test_the_market_proxy_gets_exactly_the_market_shock(
    others: dict[int, float], market: float, confidence: Confidence
) -> None:
    shocks = {**others, MARKET: market}
    if len(shocks) > 1:
        assert returns_of(shocks, confidence=confidence)[5] == market
        assert effective_of(shocks, confidence)[MARKET] == market


@settings(max_examples=80, deadline=None)
@given(vectors)
def test_exact_shocks_are_all_honoured(shocks: dict[int, float]) -> None:
    effective = effective_of(shocks, Confidence.EXACT)
    for factor, stated in shocks.items():
        assert effective[factor] == stated
    if len(shocks) > 1:
        # not because it is said so: what the symbols' own formula makes of the factors themselves
        scenario = solved(shocks, confidence=Confidence.EXACT)
        applied = added_up(implied_parts(scenario, BETA, MOMENTS, market=MARKET))[SYMBOLS:]
        for factor, stated in shocks.items():
            assert applied[factor] == pytest.approx(stated, rel=1e-9, abs=1e-11)


def test_exact_shocks_of_nearly_the_same_factor_are_refused() -> None:
    sigma = covariance(["Market", "Oil", "Growth"])
    twin = np.block([[sigma, sigma[:, [1]]], [sigma[[1]], np.array([[sigma[1, 1] * (1 + 1e-10)]])]])
    moments = moments_of(twin, np.ones((2, 4)))
    told = shocks_of({0: -0.1, 1: 0.2, 3: -0.2})
    assert propagate(told, moments, market=0, confidence=Confidence.EXACT) is Unsolved.ILL_CONDITIONED
    assert isinstance(propagate(told, moments, market=0), Propagation), "noisy ones can be reconciled"


@settings(max_examples=80, deadline=None)
@given(vectors, st.floats(0.001, 1000.0), st.booleans())
def test_homogeneous_of_degree_one(shocks: dict[int, float], factor: float, mirrored: bool) -> None:
    factor = -factor if mirrored else factor
    plain, scaled = returns_of(shocks), returns_of({k: value * factor for k, value in shocks.items()})
    np.testing.assert_allclose(scaled, plain * factor, rtol=1e-9, atol=1e-12 * abs(factor))
    lam = solved(shocks).diagnostics.lam
    assert solved({k: value * factor for k, value in shocks.items()}).diagnostics.lam == pytest.approx(lam, rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(vectors, st.floats(1e-3, 1e3))
def test_the_time_unit_does_not_matter(shocks: dict[int, float], unit: float) -> None:
    scaled = SessionMoments(
        MOMENTS.factor_window * np.sqrt(unit), MOMENTS.symbol_window * np.sqrt(unit), np.ones(WINDOW)
    )
    np.testing.assert_allclose(returns_of(shocks, scaled), returns_of(shocks), rtol=1e-8, atol=1e-11)
    assert solved(shocks, scaled).diagnostics.lam == pytest.approx(solved(shocks).diagnostics.lam, rel=1e-8)


@settings(max_examples=80, deadline=None)
@given(vectors, st.integers(0, len(NAMES) - 1), st.floats(-1e-9, 1e-9))
def test_continuous_in_the_shocks(shocks: dict[int, float], factor: int, step: float) -> None:
    """A step of 1e-9 moves no return by more than 1e-5; where lam starts to bind is not excepted."""
    if factor in shocks:
        moved = returns_of({**shocks, factor: shocks[factor] + step})
        np.testing.assert_allclose(moved, returns_of(shocks), rtol=0, atol=1e-5)


def test_continuous_where_lam_starts_to_bind() -> None:
    """Along a line of scenarios from harmless to implausible, in steps of a thousandth, no return jumps."""
    line = [
        numbered({"Market": -0.2, "Quality": -0.19 + step, "Growth": -0.23 - step}) for step in np.linspace(0, 0.5, 501)
    ]
    lams = [solved(shocks).diagnostics.lam for shocks in line]
    assert min(lams) == LEAST_LAM < max(lams), "the line must cross the point"
    assert np.abs(np.diff([returns_of(shocks) for shocks in line], axis=0)).max() < 0.02


@settings(max_examples=30, deadline=None)
@given(st.sets(st.integers(0, len(NAMES) - 1), min_size=1, max_size=8))
def test_zero_is_zero(factors: set[int]) -> None:
    found = solved(dict.fromkeys(factors, 0.0))
    assert (returns_of(dict.fromkeys(factors, 0.0)) == 0.0).all()
    assert found.diagnostics.mahalanobis == found.diagnostics.max_z == 0.0
    assert found.diagnostics.implausible is False


def test_effective_shocks() -> None:
    """A single shock spreads by Sigma_fk / Sigma_kk; several come back shrunk towards each other, never exactly."""
    oil = NAMES.index("Oil")
    found = effective_of({oil: -0.65})
    np.testing.assert_allclose(found, SIGMA[:, oil] / SIGMA[oil, oil] * -0.65, rtol=1e-10, atol=1e-12)
    assert found[oil] == -0.65
    crisis = numbered(SCENARIOS["2008"])
    proxies = np.arange(len(NAMES))
    slopes = SIGMA / np.diagonal(SIGMA)
    want = reference.solve(crisis, SIGMA, slopes, dict(zip(proxies, proxies, strict=True)), MARKET)
    np.testing.assert_allclose(effective_of(crisis), want.returns, rtol=1e-8, atol=1e-11)


def test_a_relative_shock_is_beyond_what_the_market_implies() -> None:
    technology, slope = NAMES.index("Technology"), SIGMA[NAMES.index("Technology"), MARKET] / SIGMA[MARKET, MARKET]
    relative = numbered({"Market": -0.35, "Technology": {"relative": 0.15}})
    total = numbered({"Market": -0.35, "Technology": slope * -0.35 + 0.15})
    exact = (returns_of(shocks, confidence=Confidence.EXACT) for shocks in (relative, total))
    np.testing.assert_allclose(*exact, rtol=1e-9, atol=1e-12)
    assert effective_of(relative, Confidence.EXACT)[technology] == pytest.approx(slope * -0.35 + 0.15, rel=1e-12)
    rotation = solved(numbered({"Market": 0.0, "Technology": {"relative": 0.15}}))
    left = SIGMA[technology, technology] - slope * SIGMA[technology, MARKET]
    assert rotation.diagnostics.max_z == pytest.approx(0.15 / np.sqrt(left * 252), rel=1e-9)


def test_a_symbol_and_a_scenario_alone_have_the_same_bits() -> None:
    scenarios = [numbered(shocks) for shocks in SCENARIOS.values()]
    for shocks in scenarios:
        together = returns_of(shocks)
        for symbol in range(5):
            alone = SessionMoments(
                MOMENTS.factor_window.copy(), MOMENTS.symbol_window[:, [symbol]].copy(), np.ones(WINDOW)
            )
            parts = implied_parts(solved(shocks, alone), BETA[[symbol]], alone, market=MARKET)
            assert added_up(parts)[0] == together[symbol]


def test_parts_come_in_order() -> None:
    for stated in SCENARIOS.values():
        found = solved(numbered(stated))
        parts = parts_of(found)
        assert len(parts) == len(stated) == len(found.factors)
        if found.anchored:
            assert found.factors[0] == MARKET
            np.testing.assert_allclose(parts[0, :5], BETA[:5, MARKET] * found.weights[0], rtol=1e-15)


def test_a_factor_the_market_explains_entirely_adds_nothing() -> None:
    """Two factors of one proxy: the view on the copy cannot contradict the market, and no figure explodes."""
    sigma = covariance(["Market", "Oil"])
    beta = np.array([[1.2, 0.3]])
    two = moments_of(sigma, beta)
    window = two.factor_window[:, [0, 1, 0]]
    copied = SessionMoments(window, two.symbol_window, np.ones(WINDOW))
    found = propagate(shocks_of({0: -0.2, 1: -0.3, 2: 0.1}), copied, market=0)
    plain = propagate(shocks_of({0: -0.2, 1: -0.3}), two, market=0)
    assert isinstance(found, Propagation)
    assert isinstance(plain, Propagation)
    with_copy = added_up(implied_parts(found, beta[:, [0, 1, 0]], copied, market=0))
    np.testing.assert_allclose(with_copy[0], added_up(implied_parts(plain, beta, two, market=0))[0], atol=0.02)
    assert list(found.factors) == [0, 1]
    assert isnan(found.diagnostics.mahalanobis)
    assert isnan(found.diagnostics.condition_number)
    assert found.diagnostics.implausible is None


def test_floored() -> None:
    assert floored(np.array([-1.5, -1.0, -0.3, 2.0])).tolist() == [-1.0, -1.0, -0.3, 2.0]
    assert isnan(floored(np.array([nan]))[0])


def test_without_symbols() -> None:
    empty = SessionMoments(MOMENTS.factor_window, MOMENTS.symbol_window[:, :0], np.ones(WINDOW))
    for stated in SCENARIOS.values():
        parts = implied_parts(solved(numbered(stated), empty), BETA[:0], empty, market=MARKET)
        assert parts.shape == (len(stated), len(NAMES))
