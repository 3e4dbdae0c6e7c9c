"""The sensor that follows changed inputs: what depends on a corrected price, action, position or flow is renewed.

What belongs here: the tick and its cursor. What does not: judging changes (``operations.restatement``) and sources
(``operations.rereading``), and launching (sensor ``backfills``).
"""

import json
from datetime import UTC, datetime

import dagster as dg

from sigmasight_pipeline import sessions
from sigmasight_pipeline.assets.resources import MarketDataResource, PostgresResource, SettingsResource
from sigmasight_pipeline.operations import rereading
from sigmasight_pipeline.operations import restatement as operations
from sigmasight_pipeline.operations.sensors.common import sensor_status
from sigmasight_pipeline.storage import changes


@dg.sensor(
    name="restatement",
    minimum_interval_seconds=60,
    default_status=sensor_status(),
    description="Asks for exactly what depends on changed inputs of computed sessions to be computed anew, and for "
    "stored sessions to be read again where the files of the price source changed. Needs the sensor `backfills`.",
)
def restatement(
    context: dg.SensorEvaluationContext,
    postgres: PostgresResource,
    settings: SettingsResource,
    market_data: MarketDataResource,
) -> dg.SkipReason:
    """Ask for what is needed and say what it is; the cursor keeps what need not be looked at again."""
    database, now, calendar = postgres.database, datetime.now(UTC), sessions.calendar()
    cursor = json.loads(context.cursor) if context.cursor else {}
    busy = operations.running(context.instance)
    looked = rereading.look(
        database,
        settings.values,
        market_data.source,
        calendar,
        known=cursor.get("contents"),
        last_read=rereading.last_read(context.instance),
        busy=busy,
        now=now,
    )
    state = changes.newest_state(database)
    if cursor.get("settled") == list(state):
        answer = operations.Answer("no input of a computed session changed", settled=True)
    else:
        answer = operations.ask(database, settings.values, calendar, busy=busy, now=now)
    context.update_cursor(json.dumps({"contents": looked.contents, "settled": list(state) if answer.settled else None}))
    return dg.SkipReason("; ".join(part for part in (looked.sentence, answer.sentence) if part))
