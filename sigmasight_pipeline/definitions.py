"""The one Definitions object Dagster loads: gathers assets, jobs, schedules and resources, and nothing else."""

from __future__ import annotations

import dagster as dg

from sigmasight_pipeline.assets import graph, operations
from sigmasight_pipeline.assets.resources import MarketDataResource, PostgresResource, SettingsResource
from sigmasight_pipeline.operations import freshness, jobs, schedules, sensors
from sigmasight_pipeline.operations.executor import concurrent_in_process_executor
from sigmasight_pipeline.operations.sensors.gaps import no_gap_given_up

defs = dg.Definitions(
    assets=[*graph.ASSETS, *operations.EXTERNAL],
    asset_checks=[no_gap_given_up, *freshness.CHECKS],
    jobs=jobs.JOBS,
    schedules=schedules.SCHEDULES,
    sensors=sensors.SENSORS,
    resources={
        "postgres": PostgresResource(database_url=dg.EnvVar("SIGMASIGHT_DATABASE_URL")),
        "market_data": MarketDataResource(),
        "settings": SettingsResource(),
    },
    executor=concurrent_in_process_executor,
)
