"""The schedule after the close: the session that just ended, and any missed before it, in order.

What belongs here: when runs start by the clock. What does not: which sessions they take (``operations.missed``), and
how a range becomes runs (``operations.launcher``).
"""

import dagster as dg

from sigmasight_pipeline import sessions
from sigmasight_pipeline.assets.resources import MarketDataResource, PostgresResource, SettingsResource
from sigmasight_pipeline.operations import backfills, jobs, missed
from sigmasight_pipeline.operations.launcher import because
from sigmasight_pipeline.operations.sensors.common import changes_are_followed

AFTER_CLOSE_CRON = "30 0 * * 2-6"
"""00:30 UTC, Tuesday to Saturday: 19:30 or 20:30 in New York, after the close and after most fund prices; the UTC day
of Friday's session ends on Saturday."""


@dg.schedule(
    name="after_close",
    cron_schedule=AFTER_CLOSE_CRON,
    execution_timezone="UTC",
    job=jobs.daily,
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="After each close: the session that ended, and sessions missed since the newest snapshot, in order, as "
    "far as the source has prices, after what changed before them. The rest waits: the sensor `gaps` asks for it once "
    "its prices are there, and so does the next tick.",
)
def after_close(
    context: dg.ScheduleEvaluationContext,
    postgres: PostgresResource,
    settings: SettingsResource,
    market_data: MarketDataResource,
) -> dg.RunRequest | dg.SkipReason:
    """One run for the oldest sessions still missing, at most 252 of them; the next tick takes the next ones.

    Ranges that were asked for and changed inputs of computed sessions come first: where the sensors that follow them
    are on, new sessions wait for them; where not, the run is the oldest of those that follow the changes.
    """
    database, values, calendar = postgres.database, settings.values, sessions.calendar()
    moment = context.scheduled_execution_time
    found = missed.look(database, values, market_data.source, calendar, moment)
    if not found.chunks:
        return dg.SkipReason(found.sentence)
    waiting, owed = backfills.open_requests(database), missed.owed_before(database, values, calendar)
    if (waiting or owed) and changes_are_followed(context.instance):
        first = str(waiting[0]) if waiting else f"the restatement for {owed.what}" if owed else ""
        return dg.SkipReason(f"{found.sentence}; the sensor `gaps` asks for it when this has ended: {first}")
    if owed:
        chunk, why = owed.chunks[0], because(f"restatement before {found.chunks[0].first}: {owed.what}")
    else:
        chunk, why = found.chunks[0], {}
    return backfills.run_request(chunk, f"{chunk.first}:{chunk.last}:{moment.date()}", why)


@dg.schedule(
    name="renew_reference",
    cron_schedule="0 12 * * 0",
    execution_timezone="UTC",
    job=jobs.reference,
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Every Sunday: the calendar a year ahead, factors and instruments anew.",
)
def renew_reference(_context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """One run of the reference assets."""
    return dg.RunRequest()


@dg.schedule(
    name="freshness",
    cron_schedule="0 5 * * 2-6",
    execution_timezone="UTC",
    job=jobs.freshness,
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="In the night after each close: whether every asset of results has the session that ended.",
)
def freshness(_context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """One run of the checks `fresh`."""
    return dg.RunRequest()


SCHEDULES = [after_close, renew_reference, freshness]
