"""The schedule after the close: the session that just ended, and any missed before it, in order.

What belongs here: when runs start by the clock. What does not: which sessions they take (``operations.missed``), and
how a range becomes runs (``operations.launcher``).
"""

import dagster as dg

from sigmasight_pipeline import sessions
from sigmasight_pipeline.assets.resources import MarketDataResource, PostgresResource, SettingsResource
from sigmasight_pipeline.operations import jobs, missed

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
    "far as the source has prices. The rest waits: the sensor `gaps` asks for it once its prices are there, and so "
    "does the next tick.",
)
def after_close(
    context: dg.ScheduleEvaluationContext,
    postgres: PostgresResource,
    settings: SettingsResource,
    market_data: MarketDataResource,
) -> dg.RunRequest | dg.SkipReason:
    """One run for the oldest sessions still missing, at most 252 of them; the next tick takes the next ones."""
    moment = context.scheduled_execution_time
    found = missed.look(postgres.database, settings.values, market_data.source, sessions.calendar(), moment)
    if not found.chunks:
        return dg.SkipReason(found.sentence)
    chunk = found.chunks[0]
    return dg.RunRequest(run_key=f"{chunk.first}:{chunk.last}:{moment.date()}", tags=chunk.tags)


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
