"""What scenarios would cost every portfolio: single shocks of market and rates, and the stress scenarios.

What belongs here: the engines of ``market_risk_scenarios``, ``stress_test_results`` and ``stress_position_results``.
What does not: their parts: positions as arrays (``stress_book``), scenarios as numbers (``stress_factors``), implied
returns (``stress_returns``), options (``stress_revaluation``), sums and frames (``stress_totals``, ``stress_details``).

Nothing is capped or rescaled; a symbol's return is floored at -1 and the position flagged. A figure that would rest on
too little of the book, or on a factor without data, is NULL with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from math import nan

import numpy as np
import polars as pl

from sigmasight_pipeline.calculations.factor_moments import Weighting, stored_moments
from sigmasight_pipeline.calculations.factor_returns import factor_returns, return_panel, session_axis
from sigmasight_pipeline.calculations.joint_betas import RIDGE_PENALTY
from sigmasight_pipeline.calculations.stress_book import Floats, betas, book
from sigmasight_pipeline.calculations.stress_details import details, direct_returns, naive_returns, with_details
from sigmasight_pipeline.calculations.stress_factors import Scenario, ScenarioFactors, active_scenarios
from sigmasight_pipeline.calculations.stress_returns import (
    Implied,
    Propagation,
    implied_returns,
    propagate,
    single_shock,
)
from sigmasight_pipeline.calculations.stress_totals import portfolio_frame, position_frame, repeated, totals

MARKET_SHOCKS = (-0.20, -0.10, -0.05, -0.01, 0.01, 0.05, 0.10, 0.20)
RATE_SHOCKS = (-0.0100, -0.0050, -0.0025, 0.0025, 0.0050, 0.0100)
"""Changes of the 10-year Treasury yield, decimal."""


def market_risk_scenarios(
    *,
    sessions: Sequence[date],
    calendar: pl.DataFrame,
    portfolios: pl.DataFrame,
    positions: pl.DataFrame,
    instruments: pl.DataFrame,
    factors: pl.DataFrame,
    position_values: pl.DataFrame,
    position_greeks: pl.DataFrame,
    symbol_factor_betas: pl.DataFrame,
    portfolio_snapshots: pl.DataFrame,
    market_shocks: Sequence[float] = MARKET_SHOCKS,
    rate_shocks: Sequence[float] = RATE_SHOCKS,
    min_coverage: float = 0.8,
) -> pl.DataFrame:
    """One row per active portfolio, open session of `sessions` since its inception, and single shock.

    Columns are those of ``market_risk_scenarios`` without provenance, ordered by session_date, portfolio_id and
    scenario. Frames are rows of the tables of those names (`calendar`: ``trading_sessions``, `factors`:
    ``factor_definitions``), of these sessions; others change nothing. `market_shocks` are decimal returns,
    `rate_shocks` decimal changes of the 10-year yield.

    A symbol's return is beta x shock, at least -1; pnl_linear is the sum of delta-adjusted exposure x that return, pnl
    the same with options re-priced (``stress_revaluation.option_pnl``), both sums of positions' whole cents. PRIVATE
    positions are outside. coverage is the share of the gross delta-adjusted exposure that has a figure (a position
    whose delta-adjusted exposure is unknown weighs with its market value), NULL where that is 0. status as in
    ``stress_totals.StressStatus``. Raises exposures.MissingGreeksError, AmountOverflowError and
    timeline.SessionWindowError.
    """
    known = ScenarioFactors.of(factors)
    listed = single_shocks(market_shocks, rate_shocks)
    factor_of = {"market": known.market, "rates": known.rates[0] if known.rates else None}
    numbered = [(factor_of[kind], shock) for _, kind, shock in listed]
    scenarios = [
        Scenario(name, {} if factor is None else {known.names[factor]: shock})
        for (name, _, _), (factor, shock) in zip(listed, numbered, strict=True)
    ]
    found = book(
        sessions=sessions,
        calendar=calendar,
        portfolios=portfolios,
        positions=positions,
        instruments=instruments,
        position_values=position_values,
        position_greeks=position_greeks,
        portfolio_snapshots=portfolio_snapshots,
    )
    slopes = betas(symbol_factor_betas, found, known.names)
    without_moments = known.covariance(None)
    nobody = np.full(len(found.symbols), -1)
    results = []
    for number, day in enumerate(found.days):
        solved = [
            single_shock(factor, shock) if factor is not None and slopes.has_data[number, factor] else None
            for factor, shock in numbered
        ]
        implied = _implied(solved, slopes.values[number], without_moments, nobody, None)
        outcome = day.outcome(implied.raw, *_shifts(scenarios, known))
        results.append(totals(day, outcome, _solvable(solved), min_coverage=min_coverage))
    frame = portfolio_frame(found, "scenario", [scenario.scenario_id for scenario in scenarios], results)
    return frame.select(
        "session_date",
        "portfolio_id",
        "scenario",
        repeated(found, "scenario_type", [[kind for _, kind, _ in listed]] * len(found.days), pl.String),
        repeated(found, "shock", [[shock for *_, shock in listed]] * len(found.days), pl.Float64),
        pl.col("total_pnl").alias("pnl"),
        pl.col("correlated_pnl").alias("pnl_linear"),
        "impact_pct",
        "coverage",
        "status",
    )


def stress_results(
    *,
    sessions: Sequence[date],
    calendar: pl.DataFrame,
    portfolios: pl.DataFrame,
    positions: pl.DataFrame,
    instruments: pl.DataFrame,
    factors: pl.DataFrame,
    scenarios: pl.DataFrame,
    position_values: pl.DataFrame,
    position_greeks: pl.DataFrame,
    symbol_factor_betas: pl.DataFrame,
    factor_correlations: pl.DataFrame,
    portfolio_snapshots: pl.DataFrame,
    returns: pl.DataFrame,
    yields: pl.DataFrame,
    weighting: str = Weighting.EQUAL,
    regression_window: int = 252,
    min_observations: int = 60,
    ridge_penalty: float = RIDGE_PENALTY,
    min_coverage: float = 0.8,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What every active scenario would cost: rows by portfolio and by position.

    The first frame has the columns of ``stress_test_results`` without provenance, one row per active portfolio, open
    session of `sessions` since its inception and active scenario, ordered by session_date, portfolio_id, scenario_id;
    the second those of ``stress_position_results``, one row per held PUBLIC or OPTIONS position, ordered by
    session_date, scenario_id, position_id. `scenarios` are rows of ``stress_test_scenarios`` (shocks as JSON text);
    frames are as for `market_risk_scenarios`; `returns` (``daily_returns``) and `yields` (``treasury_yields``) reach
    back over the `regression_window`. Source: calculations.md section 9.

    With X the signed delta-adjusted exposure and r the implied return (``stress_returns``), at least -1:
    correlated_pnl = sum X r; total_pnl the same with options re-priced; direct_pnl = sum X sum b s with b the ridge
    betas (``joint_betas``) on the style factors and the scenario's other factors, NULL where one is missing of a
    position that is in correlated_pnl; sum_of_single_factor_pnl = sum X sum beta s. All are sums of positions' whole
    cents. factor_impacts splits correlated_pnl over the shocked factors (the anchored market first, the others with
    what they add) and floor_effect, to the cent: the largest takes the remainder of rounding. effective_shocks names
    every factor, before any floor, null where it has no moments. coverage and status as for `market_risk_scenarios`;
    with low_coverage or factor_without_data the figures are NULL. Raises exposures.MissingGreeksError,
    AmountOverflowError, timeline.SessionWindowError, factor_returns.FactorInputError, and ValueError for an unknown
    `weighting`.
    """
    known = ScenarioFactors.of(factors)
    active = active_scenarios(scenarios)
    numbered = [known.shocks(scenario) for scenario in active]
    found = book(
        sessions=sessions,
        calendar=calendar,
        portfolios=portfolios,
        positions=positions,
        instruments=instruments,
        position_values=position_values,
        position_greeks=position_greeks,
        portfolio_snapshots=portfolio_snapshots,
    )
    slopes = betas(symbol_factor_betas, found, known.names)
    moments = stored_moments(factor_correlations, weighting=weighting)
    proxy_of = known.proxy_of(found.symbols)
    axis = session_axis(sessions, calendar, regression_window - 1)
    of_factors = factor_returns(axis, calendar=calendar, factors=factors, returns=returns, yields=yields)
    of_symbols = return_panel(axis, found.symbols.to_list(), returns)
    results, shown, outcomes, solutions = [], [], [], []
    for number, day in enumerate(found.days):
        covariance = known.covariance(moments.get(day.session))
        solved = [None if one is None else propagate(one, covariance, market=known.market) for one in numbered]
        implied = _implied(solved, slopes.values[number], covariance, proxy_of, known.market)
        outcome = day.outcome(implied.raw, *_shifts(active, known))
        total = totals(day, outcome, _solvable(solved), min_coverage=min_coverage)
        held = np.unique(day.symbol)
        direct = np.full(implied.raw.shape, nan)
        direct[:, held] = direct_returns(
            of_factors.until(day.session, regression_window).values,
            of_symbols.until(day.session, regression_window).values[:, held],
            [shocks if one is not None else None for shocks, one in zip(numbered, solved, strict=True)],
            known.style,
            min_observations=min_observations,
            penalty=ridge_penalty,
        )
        results.append(total)
        outcomes.append(outcome)
        solutions.append(_solvable(solved))
        shown.append(
            details(
                day,
                outcome,
                total,
                scenarios=active,
                factors=known,
                solved=solved,
                implied=implied,
                covariance=covariance,
                direct=direct,
                naive=naive_returns(slopes.values[number], numbered),
            )
        )
    names = [scenario.scenario_id for scenario in active]
    by_portfolio = with_details(portfolio_frame(found, "scenario_id", names, results), found, results, shown)
    return by_portfolio, position_frame(found, names, outcomes, solutions)


def single_shocks(
    market_shocks: Sequence[float] = MARKET_SHOCKS, rate_shocks: Sequence[float] = RATE_SHOCKS
) -> list[tuple[str, str, float]]:
    """Name (market_down_20, rates_up_50bp), scenario_type and shock of every single shock, in order of the name."""

    def named(kind: str, shock: float, scale: float, unit: str) -> tuple[str, str, float]:
        return f"{kind}_{'down' if shock < 0 else 'up'}_{abs(shock) * scale:g}{unit}", kind, shock

    return sorted(
        [named("market", shock, 100.0, "") for shock in market_shocks]
        + [named("rates", shock, 10_000.0, "bp") for shock in rate_shocks]
    )


def _solvable(solved: Sequence[Propagation | None]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.array([one is not None for one in solved], dtype=bool)


def _implied(
    solved: Sequence[Propagation | None],
    slopes: Floats,
    covariance: Floats,
    proxy_of: np.ndarray[tuple[int], np.dtype[np.int64]],
    market: int | None,
) -> Implied:
    """Implied returns of every scenario; those that could not be solved have none (NaN), and no parts."""
    found = implied_returns([one for one in solved if one is not None], slopes, covariance, proxy_of, market=market)
    raw = np.full((len(solved), len(slopes)), nan)
    raw[_solvable(solved)] = found.raw
    return Implied(found.parts, raw)


def _shifts(scenarios: Sequence[Scenario], known: ScenarioFactors) -> tuple[Floats, Floats]:
    """Volatility and rate shifts, (scenarios,) each."""
    return (
        np.array([scenario.volatility_shift for scenario in scenarios]),
        np.array([known.rate_shift(scenario) for scenario in scenarios]),
    )
