"""The jobs: which assets run together.

What belongs here: selections of assets. What does not: which sessions they run for (``operations.launcher``).
"""

from __future__ import annotations

import dagster as dg

from sigmasight_pipeline.assets import catalog

MAX_RUNTIME_SECONDS = 3600

reference = dg.define_asset_job(
    "reference",
    selection=dg.AssetSelection.groups("reference"),
    description="Applies waiting imports and renews calendar, factors and instruments.",
    tags={"dagster/max_runtime": str(MAX_RUNTIME_SECONDS)},
)

market_data = dg.define_asset_job(
    "market_data",
    selection=dg.AssetSelection.groups("market_data"),
    partitions_def=catalog.partitions(),
    description="Prices, actions, yields, quotes and returns of a range of sessions, nothing else.",
    tags={"dagster/max_runtime": str(MAX_RUNTIME_SECONDS)},
)

daily = dg.define_asset_job(
    "daily",
    selection=dg.AssetSelection.groups("market_data", "valuation", "factors", "risk"),
    partitions_def=catalog.partitions(),
    description="Everything of a range of sessions: market data, values, Greeks, exposures, snapshots, "
    "betas, factor exposures, scenarios, correlations, risk metrics, attribution.",
    tags={"dagster/max_runtime": str(MAX_RUNTIME_SECONDS), "dagster/max_retries": "1"},
)

JOBS = [reference, market_data, daily]
