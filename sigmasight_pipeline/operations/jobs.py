"""The jobs: which assets run together.

What belongs here: selections of assets. What does not: which sessions they run for (``operations.launcher``).
"""

from __future__ import annotations

import dagster as dg

from sigmasight_pipeline.assets import catalog, graph
from sigmasight_pipeline.operations import freshness as fresh
from sigmasight_pipeline.settings import get_settings

GROUPS = {
    "reference": ("reference",),
    "market_data": ("market_data",),
    "daily": ("market_data", "valuation", "factors", "risk", "operations"),
}
"""The groups of assets each job runs."""

NO_GAP_GIVEN_UP = dg.AssetCheckKey(dg.AssetKey("calculation_audit"), "no_gap_given_up")
"""A check that is evaluated by the clock (sensor `gaps`) and by no run."""

_BY_THE_CLOCK = dg.AssetSelection.checks(NO_GAP_GIVEN_UP, *fresh.KEYS)

_LIMIT = {"dagster/max_runtime": str(get_settings().max_run_seconds)}


def asset_names(job: str) -> tuple[str, ...]:
    """Names of the assets a run of `job` materialises, sorted."""
    return graph.in_groups(GROUPS[job])


reference = dg.define_asset_job(
    "reference",
    selection=dg.AssetSelection.assets(*asset_names("reference")),
    description="Applies waiting imports and renews calendar, factors and instruments.",
    tags=_LIMIT,
)

market_data = dg.define_asset_job(
    "market_data",
    selection=dg.AssetSelection.assets(*asset_names("market_data")) - _BY_THE_CLOCK,
    partitions_def=catalog.partitions(),
    description="Prices, actions, yields, quotes and returns of a range of sessions, nothing else. Sessions the source "
    "has no prices of yet are left out.",
    tags=_LIMIT,
)

daily = dg.define_asset_job(
    "daily",
    selection=dg.AssetSelection.assets(*asset_names("daily")) - _BY_THE_CLOCK,
    partitions_def=catalog.partitions(),
    description="Everything of a range of sessions: market data, values, Greeks, exposures, snapshots, "
    "betas, factor exposures, scenarios, correlations, risk metrics, attribution, and what of it is there. "
    "The place to launch a range from: choose its sessions here, as a single run. It ends at the last session that has "
    "prices; the rest waits for them.",
    tags={**_LIMIT, "dagster/max_retries": "1"},
)

freshness = dg.define_asset_job(
    "freshness",
    selection=dg.AssetSelection.checks(*fresh.KEYS),
    description="Whether every asset of results has the newest session that should be there by now.",
    tags=_LIMIT,
)

JOBS = [reference, market_data, daily, freshness]
