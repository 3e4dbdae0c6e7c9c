"""The tables of the schema, one SQLAlchemy definition each: the single truth about names, types, bounds and meaning.

What belongs here: nothing but the gathered definitions of the sibling modules. The migrations, the pandera models,
the Dagster column schemas and the reader's casts are made from or compared with them.
"""

from .columns import PROVENANCE, SCHEMA, metadata
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
    tags,
    trading_sessions,
)
from .results import portfolio_exposures, portfolio_snapshots, position_greeks, position_values

__all__ = [
    "PROVENANCE",
    "SCHEMA",
    "corporate_actions",
    "daily_price_revisions",
    "daily_prices",
    "daily_returns",
    "data_quality_results",
    "factor_definitions",
    "instruments",
    "metadata",
    "option_prices",
    "portfolio_cash_flows",
    "portfolio_exposures",
    "portfolio_imports",
    "portfolio_snapshots",
    "portfolios",
    "position_greeks",
    "position_marks",
    "position_tags",
    "position_values",
    "positions",
    "rejected_prices",
    "tags",
    "trading_sessions",
    "treasury_yields",
]
