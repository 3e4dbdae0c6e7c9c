"""What scenarios would cost every portfolio: single shocks of market and rates, and the stress scenarios.

What belongs here: the engines of ``market_risk_scenarios`` and ``stress_test_results`` (with the tables written beside
it). What does not: their parts: positions as arrays (``stress_book``), scenarios as numbers (``stress_factors``),
moments (``stress_moments``), implied returns (``stress_returns``, ``stress_outcomes``), what really happened
(``stress_replays``), options (``stress_revaluation``), sums and frames (``stress_totals``, ``stress_details``,
``stress_shocks``).

Nothing is capped or rescaled; a symbol's return is floored at -1 and the position flagged. A figure that would rest on
too little of the book, or on a factor without data, is NULL with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from math import nan

import numpy as np
import polars as pl

from sigmasight_pipeline.calculations.arrays import FloatArray
from sigmasight_pipeline.calculations.factor_moments import Weighting
from sigmasight_pipeline.calculations.factor_returns import factor_returns, return_panel, session_axis
from sigmasight_pipeline.calculations.joint_betas import RIDGE_PENALTY
from sigmasight_pipeline.calculations.stress_book import Day, Moves, Outcome, betas, book, outcomes
from sigmasight_pipeline.calculations.stress_details import (
    Details,
    details,
    direct_returns,
    naive_returns,
    with_details,
)
from sigmasight_pipeline.calculations.stress_factors import Scenario, ScenarioFactors, active_scenarios
from sigmasight_pipeline.calculations.stress_moments import SessionMoments, session_weights
from sigmasight_pipeline.calculations.stress_outcomes import SessionScenarios, Solved, stacked_returns
from sigmasight_pipeline.calculations.stress_replays import ReplayWindows
from sigmasight_pipeline.calculations.stress_returns import Shocks
from sigmasight_pipeline.calculations.stress_shocks import diagnostics_frame, shocks_frame
from sigmasight_pipeline.calculations.stress_totals import (
    Totals,
    option_frame,
    portfolio_frame,
    repeated,
    symbol_frame,
    totals,
)

MARKET_SHOCKS = (-0.25, -0.20, -0.10, -0.05, -0.01, 0.01, 0.05, 0.10, 0.20, 0.25)
RATE_SHOCKS = (-0.0200, -0.0100, -0.0050, -0.0025, 0.0025, 0.0050, 0.0100, 0.0200)
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
    """One row per portfolio, open session of `sessions` of its life, and single shock.

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
    stated = [
        (Scenario(name, {} if factor is None else {known.names[factor]: shock}), _single(factor, shock))
        for name, factor, shock in ((name, factor_of[kind], shock) for name, kind, shock in listed)
    ]
    held_book = book(
        sessions=sessions,
        calendar=calendar,
        portfolios=portfolios,
        positions=positions,
        instruments=instruments,
        position_values=position_values,
        position_greeks=position_greeks,
        portfolio_snapshots=portfolio_snapshots,
    )
    slopes = betas(symbol_factor_betas, held_book, known.names)
    nobody = np.full(len(held_book.symbols), -1)
    all_solved = []
    for number in range(len(held_book.days)):
        with_betas = SessionScenarios(known, slopes.values[number], slopes.has_data[number], None, nobody)
        all_solved.append([with_betas.vector(scenario, shocks) for scenario, shocks in stated])
    results = [
        _totals(day, outcome, solved, min_coverage)
        for day, outcome, solved in zip(held_book.days, _outcomes(held_book.days, all_solved), all_solved, strict=True)
    ]
    frame = portfolio_frame(held_book, "scenario", [name for name, *_ in listed], results)
    return frame.select(
        "session_date",
        "portfolio_id",
        "scenario",
        repeated(held_book, "scenario_type", [[kind for _, kind, _ in listed]] * len(held_book.days), pl.String),
        repeated(held_book, "shock", [[shock for *_, shock in listed]] * len(held_book.days), pl.Float64),
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
    portfolio_snapshots: pl.DataFrame,
    returns: pl.DataFrame,
    yields: pl.DataFrame,
    market_history: pl.DataFrame,
    window_returns: pl.DataFrame,
    window_yields: pl.DataFrame,
    weighting: str = Weighting.EQUAL,
    regression_window: int = 252,
    min_observations: int = 60,
    ridge_penalty: float = RIDGE_PENALTY,
    min_coverage: float = 0.8,
) -> tuple[pl.DataFrame, ...]:
    """What every active scenario would cost, by portfolio and by position, and what it rests on.

    The first frame has the columns of ``stress_test_results`` without provenance, one row per portfolio, open
    session of `sessions` of its life and active scenario, ordered by session_date, portfolio_id, scenario_id;
    the second those of ``symbol_scenario_returns``, one row per priced symbol that the scenario moves, the third those
    of ``option_scenario_pnl``, one row per held option with a figure (``stress_totals``; of any other position the P&L
    is exposure x its symbol's return); the fourth and fifth those of ``stress_scenario_diagnostics`` and
    ``stress_scenario_shocks`` (``stress_shocks``). `scenarios` are rows of
    ``stress_test_scenarios`` (shocks as JSON text); frames are as for `market_risk_scenarios`; `returns`
    (``daily_returns``) and `yields` (``treasury_yields``) reach back over the `regression_window`; `market_history` are
    returns of ``stress_replays.market_symbols``, `window_returns` and `window_yields` rows of
    ``stress_replays.window_days``. Source: calculations.md section 9.

    With X the signed delta-adjusted exposure and r the implied return (``stress_returns``; of a replay the symbol's own
    where it traded throughout), at least -1: correlated_pnl = sum X r; total_pnl the same with options re-priced;
    direct_pnl = sum X sum b s with b the ridge betas (``joint_betas``) on the style factors and the scenario's other
    factors, NULL where one is missing of a position that is in correlated_pnl; sum_of_single_factor_pnl = sum X sum
    beta s. All are sums of positions' whole cents. factor_impacts splits correlated_pnl over the shocked factors (the
    anchored market first, the others with what they add), specific_return (replays) and floor_effect, to the cent: the
    largest takes the remainder of rounding. effective_shocks names every factor, before any floor, null where it has no
    moments. coverage and status as for `market_risk_scenarios`; where the scenario has no returns, or with
    low_coverage, the figures are NULL. Raises exposures.MissingGreeksError, AmountOverflowError,
    timeline.SessionWindowError, factor_returns.FactorInputError, and ValueError for an unknown `weighting`.
    """
    known = ScenarioFactors.of(factors)
    active = active_scenarios(scenarios)
    held_book = book(
        sessions=sessions,
        calendar=calendar,
        portfolios=portfolios,
        positions=positions,
        instruments=instruments,
        position_values=position_values,
        position_greeks=position_greeks,
        portfolio_snapshots=portfolio_snapshots,
        priced_symbols=True,
    )
    slopes = betas(symbol_factor_betas, held_book, known.names)
    symbols = held_book.symbols.to_list()
    axis = session_axis(sessions, calendar, regression_window - 1)
    of_factors = factor_returns(axis, calendar=calendar, factors=factors, returns=returns, yields=yields)
    of_symbols = return_panel(axis, symbols, returns)
    windows = {"market_history": market_history, "window_returns": window_returns, "window_yields": window_yields}
    days = [day.session for day in held_book.days]
    replays = ReplayWindows(active, days, symbols, factors, {"calendar": calendar, **windows})
    stated = [known.shocks(scenario) if scenario.is_vector else None for scenario in active]
    weights = session_weights(regression_window, half_life=Weighting(weighting) is Weighting.HALF_LIFE)
    proxy_of = known.proxy_of(held_book.symbols)
    results: list[Totals] = []
    shown: list[Details] = []
    direct_by_day: list[FloatArray] = []
    all_solved: list[list[Solved]] = []
    window_sessions: list[int] = []
    for number, day in enumerate(held_book.days):
        window = of_factors.until(day.session, regression_window).values
        own_window = of_symbols.until(day.session, regression_window).values
        moments = SessionMoments(window, own_window, weights[-len(window) :], min_observations)
        with_moments = SessionScenarios(known, slopes.values[number], slopes.has_data[number], moments, proxy_of)
        solved = [
            with_moments.vector(scenario, shocks)
            if scenario.is_vector
            else with_moments.replay(scenario, *replays.at(scenario, day.session))
            for scenario, shocks in zip(active, stated, strict=True)
        ]
        held, direct = np.unique(day.symbol), np.full((len(solved), len(symbols)), nan)
        shocks_of = [one.totals for one in solved]
        direct[:, held] = direct_returns(
            window,
            own_window[:, held],
            shocks_of,
            known.style,
            min_observations=min_observations,
            penalty=ridge_penalty,
        )
        direct_by_day.append(direct)
        all_solved.append(solved)
        window_sessions.append(len(window))
    by_day = _outcomes(held_book.days, all_solved)
    for number, (day, outcome, solved) in enumerate(zip(held_book.days, by_day, all_solved, strict=True)):
        total = _totals(day, outcome, solved, min_coverage)
        results.append(total)
        naive = naive_returns(slopes.values[number], [one.totals for one in solved])
        shown.append(details(day, outcome, total, solved, known.names, direct=direct_by_day[number], naive=naive))
    names = [scenario.scenario_id for scenario in active]
    by_portfolio = with_details(portfolio_frame(held_book, "scenario_id", names, results), held_book, results, shown)
    by_session = list(zip(days, all_solved, strict=True))
    return (
        by_portfolio,
        symbol_frame(held_book, names, all_solved),
        option_frame(held_book, names, by_day),
        diagnostics_frame(active, by_session, window_sessions, [one.effective_shocks for one in shown]),
        shocks_frame(active, known.names, by_session),
    )


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


def _single(factor: int | None, shock: float) -> Shocks | None:
    return None if factor is None else Shocks(np.array([factor]), np.array([shock]), np.array([False]))


def _outcomes(days: Sequence[Day], all_solved: Sequence[Sequence[Solved]]) -> list[Outcome]:
    """What the scenarios of each session do to its positions."""
    moves = []
    for day, solved in zip(days, all_solved, strict=True):
        symbols = len(solved[0].raw) if solved else int(day.symbol.max(initial=-1)) + 1
        moves.append(
            Moves(
                stacked_returns(solved, symbols),
                np.array([one.volatility_shift for one in solved], dtype=np.float64),
                np.array([one.rate_shift for one in solved], dtype=np.float64),
            )
        )
    return outcomes(days, moves)


def _totals(day: Day, outcome: Outcome, solved: Sequence[Solved], min_coverage: float) -> Totals:
    return totals(day, outcome, [one.status for one in solved], min_coverage=min_coverage)
