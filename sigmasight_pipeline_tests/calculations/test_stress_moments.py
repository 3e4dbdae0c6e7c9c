"""Which sessions a scenario rests on: a symbol's own ones, and those of the factors it shocks alone."""

from __future__ import annotations

from math import isnan, nan

import numpy as np
import pytest

from sigmasight_pipeline.calculations.stress_moments import SessionMoments
from sigmasight_pipeline.calculations.stress_returns import Unsolved, added_up, implied_parts, propagate
from sigmasight_pipeline_tests.calculations import reference_stress as reference
from sigmasight_pipeline_tests.calculations.stress_world import NAMES
from sigmasight_pipeline_tests.calculations.test_stress_returns import (
    BETA,
    MARKET,
    MOMENTS,
    SCENARIOS,
    SYMBOLS,
    WINDOW,
    Floats,
    numbered,
    returns_of,
    shocks_of,
    solved,
)


def without(window: Floats, column: int, seen: int) -> Floats:
    """The window with a column that begins `seen` sessions before its end."""
    shorter = window.copy()
    shorter[: len(window) - seen, column] = nan
    return shorter


def with_beta(moments: SessionMoments, symbol: int) -> Floats:
    """Univariate betas with those of one symbol taken from its own sessions, as they are stored."""
    beta, seen = BETA.copy(), ~np.isnan(moments.symbol_window[:, symbol])
    own = moments.symbol_window[seen, symbol]
    for factor in range(len(NAMES)):
        beta[symbol, factor] = np.polyfit(moments.factor_window[seen, factor], own, 1)[0]
    return beta


@pytest.mark.parametrize("seen", [252, 200, 60])
def test_a_symbols_own_sessions(seen: int) -> None:
    """Against a second computation from the series alone."""
    noise = np.random.default_rng(2).normal(0, 0.01, WINDOW)
    window = MOMENTS.symbol_window.copy()
    window[:, 1] += noise
    moments = SessionMoments(MOMENTS.factor_window, without(window, 1, seen), np.ones(WINDOW))
    scenario = solved(numbered(SCENARIOS["liquidity"]), moments)
    found = added_up(implied_parts(scenario, with_beta(moments, 1), moments, market=MARKET))[1]
    want = reference.own_sessions(
        moments.symbol_window[:, 1],
        MOMENTS.factor_window,
        MARKET,
        scenario.factors[1:].tolist(),
        -0.20,
        scenario.weights[1:],
    )
    assert found == pytest.approx(want, rel=1e-9)


def test_a_symbol_with_too_few_returns_has_none() -> None:
    moments = SessionMoments(MOMENTS.factor_window, without(MOMENTS.symbol_window, 1, 59), np.ones(WINDOW))
    plain = returns_of(numbered(SCENARIOS["2008"]))
    found = returns_of(numbered(SCENARIOS["2008"]), moments)
    assert isnan(found[1])
    others = np.delete(np.arange(SYMBOLS), 1)
    assert (found[others] == plain[others]).all(), "and changes no other symbol"


@pytest.mark.parametrize("seen", [0, 30, 100])
def test_a_factor_nobody_shocks_changes_nothing(seen: int) -> None:
    gold = NAMES.index("Gold")
    moments = SessionMoments(without(MOMENTS.factor_window, gold, seen), MOMENTS.symbol_window, np.ones(WINDOW))
    for name in ("2008", "liquidity", "two without market", "relative and total"):
        shocks = numbered(SCENARIOS[name])
        assert (returns_of(shocks, moments) == returns_of(shocks)).all(), name
        assert solved(shocks, moments).diagnostics == solved(shocks).diagnostics, name


def test_a_factor_it_does_shock_shortens_its_window() -> None:
    gold = NAMES.index("Gold")
    moments = SessionMoments(without(MOMENTS.factor_window, gold, 100), MOMENTS.symbol_window, np.ones(WINDOW))
    assert solved(numbered({"Market": -0.1, "Gold": 0.2}), moments).n_obs == 100
    assert solved(numbered({"Market": -0.1, "Oil": 0.2}), moments).n_obs == WINDOW


UNUSABLE = {"no returns": nan, "no variance": 0.0}


@pytest.mark.parametrize("figure", UNUSABLE)
def test_a_factor_without_data_is_told(figure: str) -> None:
    gold = NAMES.index("Gold")
    window = MOMENTS.factor_window.copy()
    window[:, gold] = UNUSABLE[figure]
    moments = SessionMoments(window, MOMENTS.symbol_window, np.ones(WINDOW))
    for others in ({MARKET: -0.1}, {NAMES.index("Oil"): 0.1}):
        assert propagate(shocks_of({gold: 0.2, **others}), moments, market=MARKET) is Unsolved.FACTOR_WITHOUT_DATA


def test_factors_without_common_sessions_are_told_and_a_shock_of_one_is_not() -> None:
    """Two proxies, one ending where the other begins: only a scenario of both needs them at once."""
    gold, oil = NAMES.index("Gold"), NAMES.index("Oil")
    window = without(MOMENTS.factor_window, gold, 126)
    window[126:, oil] = nan
    moments = SessionMoments(window, MOMENTS.symbol_window, np.ones(WINDOW))
    both = shocks_of({MARKET: -0.1, gold: 0.2, oil: -0.1})
    assert propagate(both, moments, market=MARKET) is Unsolved.INSUFFICIENT_HISTORY
    for factor in (gold, oil):
        assert solved({MARKET: -0.1, factor: 0.2}, moments).n_obs == 126
    np.testing.assert_array_equal(returns_of({MARKET: -0.2}, moments), BETA[:, MARKET] * -0.2)
