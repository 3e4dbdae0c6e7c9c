"""The tables of the schema, one SQLAlchemy definition each: the single truth about names, types, bounds and meaning.

What belongs here: nothing but the gathered definitions of the sibling modules. The migrations, the pandera models,
the Dagster column schemas and the reader's casts are made from or compared with them.
"""

from sqlalchemy import Table

from .columns import PROVENANCE, READERS_SCHEMA, SCHEMA, long_tables, metadata
from .factors import (
    factor_correlations,
    portfolio_factor_exposures,
    position_factor_exposures,
    position_interest_rate_betas,
    symbol_factor_betas,
)
from .market import (
    corporate_actions,
    daily_price_revisions,
    daily_prices,
    daily_returns,
    option_prices,
    rejected_prices,
    treasury_yields,
)
from .operations import (
    alert_outbox,
    backfill_progress,
    batch_runs,
    calculation_audit,
    data_quality_results,
    inbox_files,
    input_changes,
    recomputation_changes,
    result_retention,
)
from .packing import array_members, is_derived, packing_of, stored_table
from .reference import (
    factor_definitions,
    instruments,
    portfolio_cash_flows,
    portfolio_imports,
    portfolios,
    position_marks,
    position_tags,
    positions,
    stress_test_scenarios,
    tags,
    trading_sessions,
)
from .results import (
    group_exposures,
    portfolio_exposures,
    portfolio_snapshots,
    position_greeks,
    position_values,
)
from .risk import (
    correlation_calculations,
    correlation_cluster_positions,
    correlation_clusters,
    pairwise_correlations,
    pnl_attribution,
    portfolio_risk_metrics,
    portfolio_simulated_risk,
    position_risk_contributions,
    scenario_accuracy,
)
from .scenarios import (
    market_risk_scenarios,
    option_scenario_pnl,
    stress_position_results,
    stress_scenario_diagnostics,
    stress_scenario_shocks,
    stress_test_results,
    symbol_scenario_returns,
)


def named(name: str) -> Table:
    """The table of this name as engines and readers know it: of a packed one its rows, not their stored form."""
    found = long_tables.tables.get(f"{READERS_SCHEMA}.{name}")
    return metadata.tables[f"{SCHEMA}.{name}"] if found is None else found


def every_table() -> list[Table]:
    """Every table as engines and readers know it, those others refer to first."""
    return [*(table for table in metadata.sorted_tables if named(table.name) is table), *long_tables.sorted_tables]


__all__ = [
    "PROVENANCE",
    "READERS_SCHEMA",
    "SCHEMA",
    "alert_outbox",
    "array_members",
    "backfill_progress",
    "batch_runs",
    "calculation_audit",
    "corporate_actions",
    "correlation_calculations",
    "correlation_cluster_positions",
    "correlation_clusters",
    "daily_price_revisions",
    "daily_prices",
    "daily_returns",
    "data_quality_results",
    "every_table",
    "factor_correlations",
    "factor_definitions",
    "group_exposures",
    "inbox_files",
    "input_changes",
    "instruments",
    "is_derived",
    "long_tables",
    "market_risk_scenarios",
    "metadata",
    "named",
    "option_prices",
    "option_scenario_pnl",
    "packing_of",
    "pairwise_correlations",
    "pnl_attribution",
    "portfolio_cash_flows",
    "portfolio_exposures",
    "portfolio_factor_exposures",
    "portfolio_imports",
    "portfolio_risk_metrics",
    "portfolio_simulated_risk",
    "portfolio_snapshots",
    "portfolios",
    "position_factor_exposures",
    "position_greeks",
    "position_interest_rate_betas",
    "position_marks",
    "position_risk_contributions",
    "position_tags",
    "position_values",
    "positions",
    "recomputation_changes",
    "rejected_prices",
    "result_retention",
    "scenario_accuracy",
    "stored_table",
    "stress_position_results",
    "stress_scenario_diagnostics",
    "stress_scenario_shocks",
    "stress_test_results",
    "stress_test_scenarios",
    "symbol_factor_betas",
    "symbol_scenario_returns",
    "tags",
    "trading_sessions",
    "treasury_yields",
]
