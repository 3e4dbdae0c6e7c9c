"""The sensor that runs ranges that were asked for: the next run of one of them, after the success of the one before.

What belongs here: the tick. What does not: which run is due (``operations.backfills``).
"""

from datetime import UTC, datetime

import dagster as dg

from sigmasight_pipeline.assets.resources import PostgresResource
from sigmasight_pipeline.operations import jobs
from sigmasight_pipeline.operations.backfills import due, fail_abandoned
from sigmasight_pipeline.operations.sensors.common import sensor_status


@dg.sensor(
    name="backfills",
    jobs=[jobs.reference, jobs.market_data, jobs.daily],
    minimum_interval_seconds=10,
    default_status=sensor_status(),
    description="Launches the runs of ranges that were asked for (by a dropped file, a restated price, a gap), one at "
    "a time, each after the success of the one before. Turn it on wherever one of those sensors is on.",
)
def backfills(context: dg.SensorEvaluationContext, postgres: PostgresResource) -> dg.RunRequest | dg.SkipReason:
    """The run that is due, else what is being waited for."""
    now = datetime.now(UTC)
    fail_abandoned(postgres.database, now)
    found = due(context.instance, postgres.database, now)
    for remark in found.remarks:
        context.log.info(remark)
    return found.request or dg.SkipReason("; ".join(found.remarks) or "no range waits to be run")
