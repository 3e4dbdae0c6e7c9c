"""The sensor that takes files from the inbox.

What belongs here: the tick. What does not: judging files (``operations.inbox``), and launching (sensor ``backfills``).
"""

from datetime import UTC, datetime

import dagster as dg

from sigmasight_pipeline.assets.resources import MarketDataResource, PostgresResource, SettingsResource
from sigmasight_pipeline.operations import inbox as operations
from sigmasight_pipeline.operations.sensors.common import sensor_status


@dg.sensor(
    name="inbox",
    minimum_interval_seconds=30,
    default_status=sensor_status(),
    description="Takes CSV files that were dropped into the inbox (SIGMASIGHT_INBOX_DIR): good ones are imported and "
    "their history asked for, bad ones lie in rejected/ with a list of their errors. Needs the sensor `backfills`.",
)
def inbox(
    context: dg.SensorEvaluationContext,
    postgres: PostgresResource,
    settings: SettingsResource,
    market_data: MarketDataResource,
) -> dg.SkipReason:
    """Look at the inbox and say what became of its files; the cursor remembers what has to lie still until then."""
    found = operations.look(
        postgres.database, settings.values, lambda: market_data.source, context.cursor, datetime.now(UTC)
    )
    for failure in found.failures:
        context.log.error(failure)
    context.update_cursor(found.cursor)
    return dg.SkipReason(found.sentence)
