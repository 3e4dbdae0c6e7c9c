"""The sensor that records every run's end, and ends runs nobody runs any more.

What belongs here: the tick. What does not: what is recorded (``operations.runs``).
"""

from datetime import UTC, datetime

import dagster as dg

from sigmasight_pipeline.assets.resources import PostgresResource
from sigmasight_pipeline.operations import runs
from sigmasight_pipeline.operations.sensors.common import sensor_status


@dg.sensor(
    name="run_status",
    minimum_interval_seconds=30,
    default_status=sensor_status(),
    description="Records how every run ended in batch_runs, whoever started it, and fails runs whose process is gone.",
)
def run_status(context: dg.SensorEvaluationContext, postgres: PostgresResource) -> dg.SkipReason:
    """Record what ended since the last tick."""
    lost = runs.fail_lost_runs(context.instance, datetime.now(UTC))
    recorded = runs.sync(context.instance, postgres.database)
    failed = f"; {len(lost)} run(s) whose process is gone were marked failed" if lost else ""
    return dg.SkipReason(f"{recorded} run(s) recorded{failed}")
