"""The one Definitions object Dagster loads: gathers assets, jobs, schedules and resources, and nothing else."""

from __future__ import annotations

import dagster as dg

from sigmasight_pipeline.assets import factors, market_data, reference, risk, valuation
from sigmasight_pipeline.assets.resources import MarketDataResource, PostgresResource, SettingsResource
from sigmasight_pipeline.operations import jobs, schedules

defs = dg.Definitions(
    assets=[*reference.ASSETS, *market_data.ASSETS, *valuation.ASSETS, *factors.ASSETS, *risk.ASSETS],
    jobs=jobs.JOBS,
    schedules=schedules.SCHEDULES,
    resources={
        "postgres": PostgresResource(database_url=dg.EnvVar("SIGMASIGHT_DATABASE_URL")),
        "market_data": MarketDataResource(),
        "settings": SettingsResource(),
    },
    # twenty small steps take 2 s in one process and more than 80 s with a process each
    executor=dg.in_process_executor,
)
