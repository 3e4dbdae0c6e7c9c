"""The tables of the schema, one SQLAlchemy definition each: the single truth about names, types, bounds and meaning.

What belongs here: nothing but the gathered definitions of the sibling modules. The migrations, the pandera models,
the Dagster column schemas and the reader's casts are made from or compared with them.
"""

from .columns import PROVENANCE, SCHEMA, metadata
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
from .operations import data_quality_results
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
    market_risk_scenarios,
    pairwise_correlations,
    pnl_attribution,
    portfolio_risk_metrics,
    scenario_accuracy,
    stress_position_results,
    stress_test_results,
)

__all__ = [
    "PROVENANCE",
    "SCHEMA",
    "corporate_actions",
    "correlation_calculations",
    "correlation_cluster_positions",
    "correlation_clusters",
    "daily_price_revisions",
    "daily_prices",
    "daily_returns",
    "data_quality_results",
    "factor_correlations",
    "factor_definitions",
    "group_exposures",
    "instruments",
    "market_risk_scenarios",
    "metadata",
    "option_prices",
    "pairwise_correlations",
    "pnl_attribution",
    "portfolio_cash_flows",
    "portfolio_exposures",
    "portfolio_factor_exposures",
    "portfolio_imports",
    "portfolio_risk_metrics",
    "portfolio_snapshots",
    "portfolios",
    "position_factor_exposures",
    "position_greeks",
    "position_interest_rate_betas",
    "position_marks",
    "position_tags",
    "position_values",
    "positions",
    "rejected_prices",
    "scenario_accuracy",
    "stress_position_results",
    "stress_test_results",
    "stress_test_scenarios",
    "symbol_factor_betas",
    "tags",
    "trading_sessions",
    "treasury_yields",
]
