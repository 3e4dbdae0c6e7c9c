"""Risk assets: scenarios, correlations and clusters, risk metrics, accuracy of predictions, attribution of P&L.

What belongs here: declarations of what each reads, the engine it calls and its rules. What does not: formulas, and the
scenarios themselves (``stress_scenarios.yaml``).
"""

from collections.abc import Mapping

import polars as pl

from sigmasight_pipeline.assets import catalog
from sigmasight_pipeline.assets.session_asset import SessionAsset, session_asset
from sigmasight_pipeline.calculations import (
    attribution,
    correlation_clusters,
    correlations,
    risk_metrics,
    scenario_accuracy,
    simulated_risk,
    stress,
    stress_replays,
)
from sigmasight_pipeline.calculations.simulation import SimulationRules
from sigmasight_pipeline.checks import attribution as attribution_rules
from sigmasight_pipeline.checks import correlations as correlation_rules
from sigmasight_pipeline.checks import risk_metrics as metric_rules
from sigmasight_pipeline.checks import simulated_risk as simulation_rules
from sigmasight_pipeline.checks import stress as stress_rules
from sigmasight_pipeline.settings import Settings, get_settings
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.windows import Read, as_of, chosen, look_back, on_sessions

GROUP = "risk"

_SETTINGS = get_settings()
"""Look-backs become partition mappings, so they are those of the settings the code location was loaded with."""

_WINDOW = _SETTINGS.regression_window

_BOOK: dict[str, Read] = {
    "calendar": as_of(tables.trading_sessions),
    "portfolios": as_of(tables.portfolios),
    "positions": as_of(tables.positions),
    "instruments": as_of(tables.instruments),
}

_HELD: dict[str, Read] = {
    "position_values": on_sessions(tables.position_values),
    "position_greeks": on_sessions(tables.position_greeks),
}

_FACTORS: dict[str, Read] = {"factors": as_of(tables.factor_definitions)}

_RETURNS: dict[str, Read] = {
    "returns": look_back(tables.daily_returns, sessions=_WINDOW - 1),
    # a change of the first session of the window needs the yield of the session before
    "yields": look_back(tables.treasury_yields, sessions=_WINDOW),
}

_ESTIMATES: dict[str, Read] = {
    "symbol_factor_betas": on_sessions(tables.symbol_factor_betas, columns=["beta", "quality"]),
    "portfolio_snapshots": on_sessions(tables.portfolio_snapshots),
}


_PAIRS = (tables.positions, tables.positions)
"""At most this many pairs a session; read by the assets made of them too."""


def _window(settings: Settings) -> Mapping[str, object]:
    return {"regression_window": settings.regression_window, "min_observations": settings.min_observations}


def _filter(settings: Settings) -> Mapping[str, object]:
    return {
        "min_position_value": settings.min_position_value,
        "min_portfolio_weight": settings.min_portfolio_weight,
        "filter_mode": settings.filter_mode,
    }


MARKET_RISK_SCENARIOS = SessionAsset(
    table=tables.market_risk_scenarios,
    reads={**_BOOK, **_FACTORS, **_HELD, **_ESTIMATES},
    engine=stress.market_risk_scenarios,
    group=GROUP,
    priced=True,
    code_version="2",
    rules=stress_rules.MARKET_RISK_SCENARIOS,
    parameters=lambda settings: {"min_coverage": settings.min_coverage},
    figures={
        **catalog.over_all_portfolios("market_down_20", of="pnl", where=pl.col("scenario") == "market_down_20"),
        **catalog.over_all_portfolios("rates_up_100bp", of="pnl", where=pl.col("scenario") == "rates_up_100bp"),
    },
)

_RETURN = ("simple_return", "sessions_spanned")

_REPLAYED: dict[str, Read] = {
    "market_history": chosen(tables.daily_returns, "symbol", stress_replays.market_symbols, columns=_RETURN),
    "window_returns": chosen(tables.daily_returns, "session_date", stress_replays.window_days, columns=_RETURN),
    "window_yields": chosen(tables.treasury_yields, "session_date", stress_replays.window_days, columns=["yield"]),
}
"""What really happened in the windows of replays, older than any look-back; made from the reads before them."""

STRESS_TEST_RESULTS = SessionAsset(
    table=tables.stress_test_results,
    also=(
        tables.symbol_scenario_returns,
        tables.option_scenario_pnl,
        tables.stress_scenario_diagnostics,
        tables.stress_scenario_shocks,
    ),
    reads={
        **_BOOK,
        **_FACTORS,
        **_HELD,
        **_ESTIMATES,
        **_RETURNS,
        "scenarios": as_of(tables.stress_test_scenarios),
        **_REPLAYED,
    },
    engine=stress.stress_results,
    group=GROUP,
    early=True,
    priced=True,
    code_version="3",
    rules=stress_rules.STRESS_TEST_RESULTS,
    parameters=lambda settings: {
        **_window(settings),
        "weighting": settings.stress_weighting,
        "min_coverage": settings.min_coverage,
    },
    figures={
        "worst_impact": pl.col("impact_pct").min(),
        "worst_pnl": pl.col("total_pnl").min(),
        "share_with_figure": (pl.col("status") == "ok").mean(),
    },
    grain=(tables.instruments, tables.stress_test_scenarios),
    description="Written together with `symbol_scenario_returns`, `option_scenario_pnl`, `stress_scenario_diagnostics` "
    "and `stress_scenario_shocks`; the view `staging.stress_position_results` lays them out by position. Univariate "
    "betas overlap, so they are not added up: the market is honoured exactly, other shocks are noisy views unless "
    "stated to be exact (conditional expectation); a replay takes what really happened between two closes.",
)

PAIRWISE_CORRELATIONS = SessionAsset(
    table=tables.pairwise_correlations,
    reads={
        **_BOOK,
        **_HELD,
        "returns": look_back(tables.daily_returns, sessions=_SETTINGS.correlation_window - 1),
    },
    engine=correlations.pairwise_correlations,
    group=GROUP,
    priced=True,
    code_version="2",
    rules=correlation_rules.PAIRWISE_CORRELATIONS,
    parameters=lambda settings: {
        **_filter(settings),
        "correlation_window": settings.correlation_window,
        "min_common_observations": settings.min_common_observations,
    },
    figures={"share_of_pairs": (pl.col("status") == "ok").mean()},
    grain=_PAIRS,
)

CORRELATION_CALCULATIONS = SessionAsset(
    table=tables.correlation_calculations,
    reads={
        **{name: read for name, read in _BOOK.items() if name != "instruments"},
        **_HELD,
        "pairwise_correlations": on_sessions(tables.pairwise_correlations),
    },
    engine=correlations.correlation_calculations,
    group=GROUP,
    priced=True,
    code_version="3",
    rules=correlation_rules.CORRELATION_CALCULATIONS,
    parameters=lambda settings: {**_filter(settings), "correlation_window": settings.correlation_window},
    figures={
        "average_correlation": pl.col("overall_correlation").mean(),
        "fewest_effective_positions": pl.col("effective_positions").min(),
    },
    grain=_PAIRS,
)

CORRELATION_CLUSTERS = SessionAsset(
    table=tables.correlation_clusters,
    also=(tables.correlation_cluster_positions,),
    reads={
        **_BOOK,
        **_HELD,
        "tags": as_of(tables.tags),
        "position_tags": as_of(tables.position_tags),
        "pairwise_correlations": on_sessions(tables.pairwise_correlations),
    },
    engine=correlation_clusters.clusters,
    group=GROUP,
    priced=True,
    code_version="1",
    rules=correlation_rules.CORRELATION_CLUSTERS,
    parameters=_filter,
    figures={"largest_weight": pl.col("portfolio_weight").max()},
    grain=_PAIRS,
    description="Written together with `correlation_cluster_positions`.",
)

PORTFOLIO_RISK_METRICS = SessionAsset(
    table=tables.portfolio_risk_metrics,
    reads={
        **_BOOK,
        **_FACTORS,
        **_HELD,
        "portfolio_snapshots": look_back(tables.portfolio_snapshots, sessions=max(risk_metrics.WINDOWS) - 1),
        "returns": look_back(tables.daily_returns, sessions=max(_WINDOW, *risk_metrics.WINDOWS) - 1),
        "yields": look_back(tables.treasury_yields, sessions=max(_WINDOW, *risk_metrics.WINDOWS)),
    },
    engine=risk_metrics.portfolio_risk_metrics,
    group=GROUP,
    priced=True,
    code_version="2",
    rules=metric_rules.PORTFOLIO_RISK_METRICS,
    parameters=lambda settings: {**_window(settings), "min_coverage": settings.min_coverage},
    figures={
        "highest_volatility": pl.col("volatility").filter(pl.col("window_sessions") == 63).max(),
        "highest_factor_var_95": pl.col("factor_var_95").max(),
        "deepest_drawdown": pl.col("max_drawdown").filter(pl.col("window_sessions") == 252).min(),
    },
)


def _simulation(settings: Settings) -> SimulationRules:
    return SimulationRules(
        simulation_window=settings.simulation_window,
        regression_window=settings.regression_window,
        min_observations=settings.min_observations,
        min_coverage=settings.min_coverage,
    )


PORTFOLIO_SIMULATED_RISK = SessionAsset(
    table=tables.portfolio_simulated_risk,
    also=(tables.position_risk_contributions,),
    reads={
        **_BOOK,
        **_FACTORS,
        **_HELD,
        "portfolio_snapshots": on_sessions(tables.portfolio_snapshots),
        "returns": look_back(tables.daily_returns, sessions=_simulation(_SETTINGS).return_look_back),
    },
    engine=simulated_risk.portfolio_simulated_risk,
    group=GROUP,
    priced=True,
    code_version="1",
    rules=simulation_rules.PORTFOLIO_SIMULATED_RISK,
    parameters=lambda settings: {"rules": _simulation(settings)},
    figures={
        "highest_var_95": pl.col("var_95").max(),
        "highest_expected_shortfall_975": pl.col("expected_shortfall_975").max(),
        "largest_worst_loss": pl.col("worst_pnl").min(),
        "largest_modelled_share": pl.col("modelled_share").max(),
    },
    grain=(tables.positions,),
    description="Written together with `position_risk_contributions`, each position's part of the shortfall (after "
    "Euler: positive for a position that loses when its portfolio does, negative for a hedge). Historical simulation: "
    "nothing is assumed about how returns are distributed; gamma is in it.",
)

SCENARIO_ACCURACY = SessionAsset(
    table=tables.scenario_accuracy,
    reads={
        "calendar": as_of(tables.trading_sessions),
        "portfolios": as_of(tables.portfolios),
        **_FACTORS,
        "portfolio_snapshots": look_back(tables.portfolio_snapshots, sessions=_SETTINGS.accuracy_window),
        "portfolio_factor_exposures": look_back(tables.portfolio_factor_exposures, sessions=_SETTINGS.accuracy_window),
        "returns": look_back(tables.daily_returns, sessions=_SETTINGS.accuracy_window),
    },
    engine=scenario_accuracy.scenario_accuracy,
    group=GROUP,
    priced=True,
    code_version="2",
    rules=metric_rules.SCENARIO_ACCURACY,
    parameters=lambda settings: {
        "accuracy_window": settings.accuracy_window,
        "min_pairs": settings.accuracy_min_pairs,
    },
    figures={"mean_correlation": pl.col("correlation").mean()},
    description="Rows only on the last session of an ISO week.",
)

PNL_ATTRIBUTION = SessionAsset(
    table=tables.pnl_attribution,
    reads={
        **_BOOK,
        **_FACTORS,
        "position_values": look_back(tables.position_values, sessions=1),
        "position_greeks": look_back(tables.position_greeks, sessions=1),
        "symbol_factor_betas": look_back(tables.symbol_factor_betas, sessions=1, columns=["beta"]),
        # the betas are those of the session before the first
        "returns": look_back(tables.daily_returns, sessions=_WINDOW),
        "yields": look_back(tables.treasury_yields, sessions=_WINDOW + 1),
    },
    engine=attribution.pnl_attribution,
    group=GROUP,
    priced=True,
    code_version="2",
    rules=attribution_rules.PNL_ATTRIBUTION,
    parameters=_window,
    figures={
        name: figure
        for component in ("market", "other_factors", "specific", "unexplained")
        for name, figure in catalog.over_all_portfolios(
            component, of="pnl", where=pl.col("component") == component
        ).items()
    },
    description="The components of every position add up to its daily P&L to the cent.",
)

ASSETS = [
    session_asset(declared)
    for declared in (
        MARKET_RISK_SCENARIOS,
        STRESS_TEST_RESULTS,
        PAIRWISE_CORRELATIONS,
        CORRELATION_CALCULATIONS,
        CORRELATION_CLUSTERS,
        PORTFOLIO_RISK_METRICS,
        PORTFOLIO_SIMULATED_RISK,
        SCENARIO_ACCURACY,
        PNL_ATTRIBUTION,
    )
]
