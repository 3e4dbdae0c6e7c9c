"""Implied returns against an independent transcription, and the properties a scenario must have."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan, nan
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmasight_pipeline.calculations.stress_returns import (
    LEAST_LAM,
    Implied,
    Propagation,
    effective_shocks,
    floored,
    implied_returns,
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

SCENARIOS: dict[str, dict[str, float]] = {
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
}  # fmt: skip


def numbered(shocks: Mapping[str, float]) -> dict[int, float]:
    return {NAMES.index(name): shock for name, shock in shocks.items()}


def solved(shocks: Mapping[int, float], sigma: Floats = SIGMA, market: int | None = MARKET) -> Propagation:
    found = propagate(shocks, sigma, market=market)
    assert found is not None
    return found


def returns_of(shocks: Mapping[int, float], sigma: Floats = SIGMA, market: int | None = MARKET) -> Floats:
    found: Floats = implied_returns([solved(shocks, sigma, market)], BETA, sigma, PROXY_OF, market=market).raw[0]
    return found


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("market", [MARKET, None], ids=["market known", "no market factor"])
def test_returns_and_diagnostics_equal_the_transcription(name: str, market: int | None) -> None:
    shocks = numbered(SCENARIOS[name])
    want = reference.solve(shocks, SIGMA, BETA, PROXIES, market)
    found = solved(shocks, market=market)
    np.testing.assert_allclose(returns_of(shocks, market=market), want.returns, rtol=1e-9, atol=1e-12)
    for figure in ("lam", "condition_number", "mahalanobis", "max_z"):
        assert getattr(found.diagnostics, figure) == pytest.approx(getattr(want, figure), rel=1e-9), figure
    assert found.diagnostics.implausible == (want.mahalanobis > 5 * want.max_z)


@pytest.mark.parametrize("name", SCENARIOS)
def test_lam_is_the_smallest_that_keeps_the_scenario_plausible(name: str) -> None:
    shocks = numbered(SCENARIOS[name])
    chosen = sorted(shocks)
    if len(chosen) == 1:
        assert solved(shocks).diagnostics.lam == 0.0
        return
    z = {k: shocks[k] / np.sqrt(SIGMA[k, k]) for k in chosen}
    others = [k for k in chosen if k != MARKET]
    slope = SIGMA[others, MARKET] / SIGMA[MARKET, MARKET] if MARKET in shocks else np.zeros(len(others))
    e = np.array([shocks[k] for k in others]) - slope * shocks.get(MARKET, 0.0)
    v = SIGMA[np.ix_(others, others)] - np.outer(slope, SIGMA[MARKET, others])

    def size(lam: float) -> float:
        kept = np.linalg.solve(v + lam * np.diag(np.diagonal(v)), e)
        return float(z.get(MARKET, 0.0) ** 2 + kept @ v @ kept)

    limit = 2 * max(abs(value) for value in z.values()) ** 2
    lam = solved(shocks).diagnostics.lam
    assert lam >= LEAST_LAM
    assert size(lam) <= limit * (1 + 1e-10)
    if lam > LEAST_LAM:
        assert size(lam * (1 - 1e-9)) > limit * (1 - 1e-12), "a smaller one would do"


shock = st.floats(-0.9, 0.9).map(lambda value: round(value, 4))
vectors = st.dictionaries(st.integers(0, len(NAMES) - 1), shock, min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(NAMES) - 1), shock)
def test_one_shock_is_beta_times_shock(factor: int, value: float) -> None:
    np.testing.assert_allclose(returns_of({factor: value}), BETA[:, factor] * value, rtol=0, atol=1e-12)
    alone = implied_returns([single_shock(factor, value)], BETA, np.full_like(SIGMA, nan), PROXY_OF, market=None)
    assert (alone.raw[0] == BETA[:, factor] * value).all(), "without any moments"


@settings(max_examples=80, deadline=None)
@given(vectors, shock)
def test_the_market_proxy_gets_exactly_the_market_shock(others: dict[int, float], market: float) -> None:
    shocks = {**others, MARKET: market}
    if len(shocks) > 1:
        assert returns_of(shocks)[5] == market
        found = effective_shocks([solved(shocks)], SIGMA, market=MARKET)
        assert found[0, MARKET] == market


@settings(max_examples=80, deadline=None)
@given(vectors, st.floats(0.001, 1000.0), st.booleans())
def test_homogeneous_of_degree_one(shocks: dict[int, float], factor: float, mirrored: bool) -> None:
    factor = -factor if mirrored else factor
    plain, scaled = returns_of(shocks), returns_of({k: value * factor for k, value in shocks.items()})
    np.testing.assert_allclose(scaled, plain * factor, rtol=1e-9, atol=1e-12 * abs(factor))
    lam = solved(shocks).diagnostics.lam
    assert solved({k: value * factor for k, value in shocks.items()}).diagnostics.lam == pytest.approx(lam, rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(vectors, st.floats(1e-3, 1e3))
def test_the_time_unit_does_not_matter(shocks: dict[int, float], unit: float) -> None:
    np.testing.assert_allclose(returns_of(shocks, SIGMA * unit), returns_of(shocks), rtol=1e-9, atol=1e-12)
    assert solved(shocks, SIGMA * unit).diagnostics.lam == pytest.approx(solved(shocks).diagnostics.lam, rel=1e-9)


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
    found = effective_shocks([solved({oil: -0.65})], SIGMA, market=MARKET)[0]
    np.testing.assert_allclose(found, SIGMA[:, oil] / SIGMA[oil, oil] * -0.65, rtol=1e-14)
    assert found[oil] == -0.65
    crisis = numbered(SCENARIOS["2008"])
    spread = effective_shocks([solved(crisis)], SIGMA, market=MARKET)[0]
    proxies = np.arange(len(NAMES))
    slopes = SIGMA / np.diagonal(SIGMA)
    want = reference.solve(crisis, SIGMA, slopes, dict(zip(proxies, proxies, strict=True)), MARKET)
    np.testing.assert_allclose(spread, want.returns, rtol=1e-9)


def batch() -> list[Propagation]:
    return [solved(numbered(shocks)) for shocks in SCENARIOS.values()]


def test_a_symbol_and_a_scenario_alone_have_the_same_bits() -> None:
    together = implied_returns(batch(), BETA, SIGMA, PROXY_OF, market=MARKET)
    for row, scenario in enumerate(batch()):
        for symbol in range(SYMBOLS):
            alone = implied_returns([scenario], BETA[[symbol]], SIGMA, PROXY_OF[[symbol]], market=MARKET)
            assert alone.raw[0, 0] == together.raw[row, symbol]


def test_parts_add_up_and_come_in_order() -> None:
    found: Implied = implied_returns(batch(), BETA, SIGMA, PROXY_OF, market=MARKET)
    counts = [len(one.factors) for one in batch()]
    assert len(found.parts) == sum(counts)
    for row, part in enumerate(np.split(found.parts, np.cumsum(counts)[:-1])):
        np.testing.assert_allclose(part.sum(axis=0), found.raw[row], rtol=1e-12, atol=1e-15)
        if batch()[row].anchored:
            assert batch()[row].factors[0] == MARKET
            np.testing.assert_allclose(part[0, :5], BETA[:5, MARKET] * batch()[row].weights[0], rtol=1e-15)


def test_a_missing_beta_hides_its_scenarios_only() -> None:
    beta = BETA.copy()
    oil = NAMES.index("Oil")
    beta[2, oil] = nan
    found = implied_returns(batch(), beta, SIGMA, PROXY_OF, market=MARKET).raw
    plain = implied_returns(batch(), BETA, SIGMA, PROXY_OF, market=MARKET).raw
    for row, shocks in enumerate(SCENARIOS.values()):
        assert isnan(found[row, 2]) == ("Oil" in shocks)
    others = np.delete(np.arange(SYMBOLS), 2)
    assert (found[:, others] == plain[:, others]).all()


UNUSABLE = {"no moments": nan, "no variance": 0.0}


@pytest.mark.parametrize("figure", UNUSABLE)
def test_a_factor_without_moments_is_told(figure: str) -> None:
    sigma = SIGMA.copy()
    gold = NAMES.index("Gold")
    sigma[gold] = sigma[:, gold] = UNUSABLE[figure]
    assert propagate({gold: 0.2}, sigma, market=MARKET) is None
    assert propagate({gold: 0.2, MARKET: -0.1}, sigma, market=MARKET) is None
    without = returns_of(numbered(SCENARIOS["2008"]), sigma)
    assert (without == returns_of(numbered(SCENARIOS["2008"]))).all(), "others go on as they were"
    found = effective_shocks([solved(numbered(SCENARIOS["2008"]), sigma)], sigma, market=MARKET)[0]
    assert isnan(found[gold]) == (figure == "no moments")


def test_a_factor_the_market_explains_entirely_adds_nothing() -> None:
    """Two factors of one proxy: the view on the copy cannot contradict the market, and no figure explodes."""
    sigma = covariance(["Market", "Oil", "Market"])
    shocks = {0: -0.2, 1: -0.3, 2: 0.1}
    beta = np.array([[1.2, 0.3, 1.2]])
    found = propagate(shocks, sigma, market=0)
    assert found is not None
    plain = propagate({0: -0.2, 1: -0.3}, sigma, market=0)
    assert plain is not None
    nobody = np.array([-1])
    np.testing.assert_allclose(
        implied_returns([found], beta, sigma, nobody, market=0).raw,
        implied_returns([plain], beta, sigma, nobody, market=0).raw,
        atol=0.02,
    )
    assert list(found.factors) == [0, 1]
    assert isnan(found.diagnostics.mahalanobis)
    assert isnan(found.diagnostics.condition_number)
    assert found.diagnostics.implausible is None


def test_floored() -> None:
    assert floored(np.array([-1.5, -1.0, -0.3, 2.0])).tolist() == [-1.0, -1.0, -0.3, 2.0]
    assert isnan(floored(np.array([nan]))[0])


def test_without_scenarios_or_symbols() -> None:
    assert implied_returns([], BETA, SIGMA, PROXY_OF, market=MARKET).raw.shape == (0, SYMBOLS)
    empty = implied_returns(batch(), BETA[:0], SIGMA, PROXY_OF[:0], market=MARKET)
    assert empty.raw.shape == (len(SCENARIOS), 0)
