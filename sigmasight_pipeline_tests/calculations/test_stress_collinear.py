"""Collinear factors: where adding up beta x shock fails, and what the conditional form makes of the same panel."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

from sigmasight_pipeline.calculations.factor_moments import window_moments
from sigmasight_pipeline.calculations.stress_details import naive_returns
from sigmasight_pipeline.calculations.stress_moments import SessionMoments
from sigmasight_pipeline.calculations.stress_returns import Propagation, Shocks, added_up, implied_parts, propagate

Floats = np.ndarray[Any, np.dtype[np.float64]]

WINDOW, HELD_OUT, STOCKS, FACTORS = 252, 252, 20, 7
MONTH = 21
CRISIS = (-0.45, -0.30, -0.35, -0.40, 0.20, -0.25, -0.35)
"""Market, Value, Growth, Momentum, Quality, Size, Low_Volatility: much like 2008, with one contradiction."""


class Panel(NamedTuple):
    """Seven factors that correlate by 0.9 to 0.99 in pairs, and twenty stocks; estimated before the held-out part."""

    moments: SessionMoments
    correlation: Floats
    beta: Floats
    held_out_factors: Floats
    held_out_stocks: Floats


def panel(seed: int) -> Panel:
    random = np.random.default_rng(seed)
    sessions = WINDOW + HELD_OUT
    market = random.normal(0, 0.01, sessions)
    own = np.array([0.0, 0.0029, 0.0022, 0.0031, 0.0014, 0.0026, 0.0024])
    factors = market[:, None] + random.normal(0, 1.0, (sessions, FACTORS)) * own
    tilts = random.normal(0, 0.3, (FACTORS, STOCKS))
    tilts[0] = random.uniform(0.6, 1.4, STOCKS)
    stocks = factors @ tilts + random.normal(0, 0.008, (sessions, STOCKS))
    moments = window_moments(factors[:WINDOW], np.ones(WINDOW))
    centred = stocks[:WINDOW] - stocks[:WINDOW].mean(axis=0)
    moves = factors[:WINDOW] - factors[:WINDOW].mean(axis=0)
    beta = (centred.T @ moves) / (moves**2).sum(axis=0)
    estimated = SessionMoments(factors[:WINDOW], stocks[:WINDOW], np.ones(WINDOW))
    return Panel(estimated, moments.correlation, beta, factors[WINDOW:], stocks[WINDOW:])


def both(data: Panel, shocks: dict[int, float]) -> tuple[Floats, Floats]:
    """Conditional and naive returns of every stock."""
    stated = Shocks(
        np.array(sorted(shocks)), np.array([shocks[k] for k in sorted(shocks)]), np.zeros(len(shocks), bool)
    )
    found = propagate(stated, data.moments, market=0)
    assert isinstance(found, Propagation)
    conditional = added_up(implied_parts(found, data.beta, data.moments, market=0))[:STOCKS]
    return conditional, naive_returns(data.beta, [shocks])[0]


@pytest.mark.parametrize("seed", range(5))
def test_a_crisis_stays_sane_where_the_naive_sum_does_not(seed: int) -> None:
    data = panel(seed)
    pairs = data.correlation[np.triu_indices(FACTORS, 1)]
    assert pairs.min() > 0.89, pairs
    assert pairs.max() < 0.995, pairs
    conditional, naive = both(data, dict(enumerate(CRISIS)))
    told = f"conditional {conditional.mean():.3f} ({conditional.min():.3f}), naive {naive.mean():.3f}"
    # the average stock has a market beta of 1: the market loses 45 %, and nothing else can make it much worse
    assert -0.65 < conditional.mean() < -0.25, told
    assert conditional.min() > -1.2, told
    # the sum counts the market's fall seven times
    assert naive.mean() < -1.5, told


@pytest.mark.parametrize("seed", range(5))
def test_held_out_moves_are_predicted_with_a_smaller_error(seed: int) -> None:
    """Twelve months after the window: realised factor returns as shocks, against what the stocks really did."""
    data = panel(seed)
    errors: dict[str, list[Floats]] = {"conditional": [], "naive": [], "market alone": []}
    for start in range(0, HELD_OUT, MONTH):
        moves = data.held_out_factors[start : start + MONTH].sum(axis=0)
        actual = data.held_out_stocks[start : start + MONTH].sum(axis=0)
        conditional, naive = both(data, dict(enumerate(moves.tolist())))
        errors["conditional"].append(conditional - actual)
        errors["naive"].append(naive - actual)
        errors["market alone"].append(data.beta[:, 0] * moves[0] - actual)
    rmse = {name: float(np.sqrt(np.mean(np.square(found)))) for name, found in errors.items()}
    assert rmse["conditional"] < 0.5 * rmse["naive"], rmse
    assert rmse["conditional"] < rmse["market alone"] * 1.02, rmse
