"""Scenario tables: what single shocks and scenarios would cost, and what the scenarios rest on.

What belongs here: figures of scenarios by portfolio, position, symbol and session. What does not: the scenarios as
stated (``reference``), and risk without a scenario (``risk``).
"""

from __future__ import annotations

from sqlalchemy import Index, Table

from .columns import code, count, day, document, flag, key, long_tables, metadata, money, provenance, session_key, stat
from .packing import NumberedArrays, derived, stored_as
from .reference import SCENARIO_KINDS

SCENARIO_FIGURES = ("effective_shocks", "lam", "condition_number", "mahalanobis", "max_z", "implausible")
"""What stress results say of their scenario: stored once per session, not per portfolio."""

SCENARIO_STATUSES = (
    "ok",
    "factor_without_data",
    "insufficient_history",
    "ill_conditioned",
    "window_not_stored",
    "window_after_session",
)
"""How a scenario came out, whatever anybody holds."""

SHOCK_STATUSES = ("ok", "low_coverage", "factor_without_data", "no_positions", "no_net_asset_value")
"""How a single shock came out for a portfolio; with no_net_asset_value only the share of net asset value is NULL."""

STRESS_STATUSES = (*SCENARIO_STATUSES, "low_coverage", "no_positions", "no_net_asset_value")
"""How a scenario came out for a portfolio."""

STRESS_POSITION_STATUSES = (
    "ok",
    "no_beta",
    "no_delta_adjusted_exposure",
    "factor_without_data",
    "insufficient_history",
    "ill_conditioned",
)

RETURN_SOURCES = ("model", "own")

VOLATILITY_SOURCES = ("stated", "index", "none")

_POSITION = "Position the row is about"
_PORTFOLIO = "Portfolio the row belongs to"
_SCENARIO = "Scenario (stress_test_scenarios)"

market_risk_scenarios = Table(
    "market_risk_scenarios",
    long_tables,
    session_key(),
    key("portfolio_id", _PORTFOLIO, primary_key=True),
    code("scenario", "Name of the scenario: market_down_20, rates_up_50bp, ...", primary_key=True),
    code("scenario_type", "market or rates", isin=("market", "rates")),
    stat("shock", "Market return, or change of the 10-year yield, decimal", nullable=False),
    money("pnl", "P&L with options re-priced", nullable=True),
    money("pnl_linear", "Sum of delta-adjusted exposure x beta x shock", nullable=True),
    stat("impact_pct", "pnl / net asset value, decimal"),
    stat("coverage", "Share of the gross delta-adjusted exposure that has a beta", ge=0, le=1),
    code("status", "ok, or why a figure is NULL", isin=SHOCK_STATUSES),
    *provenance(),
    comment="One row per portfolio, session and single shock of the market or of the 10-year yield.",
)

stored_as(
    market_risk_scenarios,
    NumberedArrays(by=("session_date", "portfolio_id"), over={"scenario": "shock"}, present="status"),
    indexes=[("portfolio_id", "session_date")],
)

stress_test_results = Table(
    "stress_test_results",
    long_tables,
    session_key(),
    key("portfolio_id", _PORTFOLIO, primary_key=True),
    code("scenario_id", _SCENARIO, primary_key=True),
    money("direct_pnl", "Ceteris paribus: joint betas x shocks, unshocked factors held still", nullable=True),
    money("correlated_pnl", "Delta-adjusted exposure x implied return, correlations included", nullable=True),
    money("correlation_effect", "Correlated less direct P&L: what comes through other factors", nullable=True),
    money("sum_of_single_factor_pnl", "Diagnostic: the sum of univariate betas x shocks, overlapping", nullable=True),
    money("revaluation_effect", "Total less correlated P&L: the convexity of options", nullable=True),
    money("total_pnl", "P&L with options fully re-priced", nullable=True),
    stat("impact_pct", "total_pnl / net asset value, decimal"),
    document("factor_impacts", "Correlated P&L by shocked factor, specific_return, and floor_effect, US dollars"),
    document("effective_shocks", "Shock of every factor the scenario implies, decimal"),
    stat("lam", "Weight given to noise in the non-market shocks", ge=0),
    stat("condition_number", "Condition number of the correlation matrix of the shocked factors", ge=1),
    stat("mahalanobis", "Distance of the shocks in annual standard deviations, correlations included", ge=0),
    stat("max_z", "Largest shock in annual standard deviations", ge=0),
    flag("implausible", "Distance above five times the largest shock; NULL where unknown", nullable=True),
    stat("coverage", "Share of the gross delta-adjusted exposure with an implied return", ge=0, le=1),
    code("status", "ok, or why figures are NULL", isin=STRESS_STATUSES),
    *provenance(),
    comment="One row per portfolio, session and active scenario: what it would cost, and how plausible it is.",
)

stored_as(
    stress_test_results,
    NumberedArrays(
        by=("session_date", "portfolio_id"),
        over={"scenario_id": "scenario"},
        present="status",
        elsewhere=SCENARIO_FIGURES,
    ),
    indexes=[("portfolio_id", "session_date")],
)

stress_position_results = Table(
    "stress_position_results",
    long_tables,
    session_key(),
    code("scenario_id", _SCENARIO, primary_key=True),
    key("position_id", _POSITION, primary_key=True),
    key("portfolio_id", _PORTFOLIO),
    stat("implied_return", "Return of the symbol (an option's underlying) in the scenario", ge=-1),
    money("pnl", "P&L, an option re-priced", nullable=True),
    money("pnl_linear", "Delta-adjusted exposure x implied return", nullable=True),
    flag("floored", "Whether the implied return was raised to -100 %"),
    code(
        "return_source",
        "Implied by factors (model), or what the symbol really did in a replay (own); NULL without a return",
        nullable=True,
        isin=RETURN_SOURCES,
    ),
    code("status", "ok, or why there is no figure", isin=STRESS_POSITION_STATUSES),
    *provenance(),
    comment="One row per PUBLIC or OPTIONS position, session and active scenario, but replays without a window.",
)

derived(stress_position_results)

symbol_scenario_returns = Table(
    "symbol_scenario_returns",
    long_tables,
    session_key(),
    code("symbol", "Canonical symbol", primary_key=True),
    code("scenario_id", _SCENARIO, primary_key=True),
    stat("implied_return", "Return of the symbol in the scenario", nullable=False, ge=-1),
    flag("floored", "Whether it was raised to -100 %"),
    flag("is_own", "Whether it is what the symbol really did in a replay, not what factors imply"),
    *provenance(),
    comment="One row per priced symbol, session and active scenario that moves it: by how much.",
)

stored_as(
    symbol_scenario_returns,
    NumberedArrays(by=("session_date", "symbol"), over={"scenario_id": "scenario"}, present="implied_return"),
    indexes=[("symbol", "session_date")],
)

option_scenario_pnl = Table(
    "option_scenario_pnl",
    long_tables,
    session_key(),
    key("position_id", _POSITION, primary_key=True),
    code("scenario_id", _SCENARIO, primary_key=True),
    key("portfolio_id", _PORTFOLIO),
    money("pnl", "P&L of the option, re-priced"),
    *provenance(),
    comment="One row per held OPTIONS position, session and active scenario with a figure: its P&L, re-priced.",
)

stored_as(
    option_scenario_pnl,
    NumberedArrays(
        by=("session_date", "position_id"),
        over={"scenario_id": "scenario"},
        present="pnl",
        shared=("portfolio_id",),
    ),
    indexes=[("position_id", "session_date")],
)

stress_scenario_diagnostics = Table(
    "stress_scenario_diagnostics",
    metadata,
    session_key(),
    code("scenario_id", _SCENARIO, primary_key=True),
    code("kind", "Stated shocks (vector), a replay of two dates, or of the worst stretch", isin=SCENARIO_KINDS),
    code("status", "ok, or why it has no returns", isin=SCENARIO_STATUSES),
    stat("lam", "Weight given to noise in the non-market shocks", ge=0),
    stat("condition_number", "Condition number of the correlation matrix of the shocked factors", ge=1),
    stat("mahalanobis", "Distance of the shocks in annual standard deviations, correlations included", ge=0),
    stat("max_z", "Largest shock in annual standard deviations, a relative one in those the market leaves", ge=0),
    flag("implausible", "Distance above five times the largest shock; NULL where unknown", nullable=True),
    document("effective_shocks", "Shock of every factor the scenario implies, decimal"),
    count(
        "moments_n_obs", "Sessions common to the market and the shocked factors; NULL without returns", nullable=True
    ),
    count("window_sessions", "Sessions of the window of betas"),
    day("window_from", "Close the replayed returns begin at", nullable=True),
    day("window_to", "Close they end at", nullable=True),
    stat("volatility_shift", "Relative change of option volatilities that was applied", nullable=False, ge=-1),
    code("volatility_source", "Stated, change of the volatility index in the window, or none", isin=VOLATILITY_SOURCES),
    *provenance(),
    Index("stress_scenario_diagnostics_scenario_session", "scenario_id", "session_date"),
    comment="One row per session and active scenario: how plausible it is and what it rests on.",
)

stress_scenario_shocks = Table(
    "stress_scenario_shocks",
    metadata,
    session_key(),
    code("scenario_id", _SCENARIO, primary_key=True),
    code("factor", "Factor (factor_definitions)", primary_key=True),
    stat("stated", "Total shock that was stated, decimal; of a replay what really happened"),
    stat("relative", "Shock stated beyond what the market's implies, decimal; NULL where a total was stated"),
    stat("effective", "Shock that is applied, decimal; NULL without returns"),
    stat("honoured_share", "Effective / stated shock, of a relative one of its relative part; NULL where that is 0"),
    *provenance(),
    Index("stress_scenario_shocks_scenario_session", "scenario_id", "session_date"),
    comment="One row per session, active scenario and factor it shocks: what was stated and what is applied.",
)
