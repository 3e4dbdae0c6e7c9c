"""The sensor that tells people what failed.

What belongs here: the tick. What does not: what is told and how (``operations.alerts``, ``operations.delivery``).
"""

import os
from datetime import UTC, datetime

import dagster as dg

from sigmasight_pipeline.assets.resources import PostgresResource, SettingsResource
from sigmasight_pipeline.operations.alerts import tick
from sigmasight_pipeline.operations.sensors.common import sensor_status


@dg.sensor(
    name="alerts",
    minimum_interval_seconds=30,
    default_status=sensor_status(),
    description="Tells of failed runs, failed checks of severity ERROR, rejected files and ranges that were given up, "
    "once, by webhook and mail. Runs are told once the sensor run_status recorded them: turn on both.",
)
def alerts(
    context: dg.SensorEvaluationContext, postgres: PostgresResource, settings: SettingsResource
) -> dg.SkipReason:
    """Store what nobody was told of, then deliver what is due."""
    remarks = tick(
        postgres.database,
        settings.values,
        cursor=context.cursor,
        urls=(postgres.database.url, os.environ.get("DAGSTER_DATABASE_URL", "")),
        keep_cursor=context.update_cursor,
        now=datetime.now(UTC),
    )
    return dg.SkipReason("; ".join(remarks))
