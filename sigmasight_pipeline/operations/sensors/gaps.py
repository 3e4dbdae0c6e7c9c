"""The sensor that looks for gaps and asks for what fills them, and the check that says which it gave up.

What belongs here: the tick, and the check's evaluation. What does not: finding and planning (``operations.gaps``),
and launching (sensor ``backfills``).
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg

from sigmasight_pipeline import sessions
from sigmasight_pipeline.assets.resources import MarketDataResource, PostgresResource, SettingsResource
from sigmasight_pipeline.dagster_internals import InstigatorStatus, InstigatorType
from sigmasight_pipeline.operations import backfills, jobs, missed
from sigmasight_pipeline.operations import gaps as operations
from sigmasight_pipeline.operations.gaps import Standing
from sigmasight_pipeline.operations.restatement import running
from sigmasight_pipeline.operations.sensors.common import sensor_status
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.verdicts import ClockVerdict, keep_by_the_clock

SHOWN = 20

SCHEDULE = "after_close"


def _kept(database: Database, found: Sequence[Standing], by: str) -> None:
    """The check as a row of ``data_quality_results``; `by`: what looked."""
    key = jobs.NO_GAP_GIVEN_UP
    passed = not any(one.given_up for one in found)
    verdict = ClockVerdict(key.asset_key.to_user_string(), key.name, "WARN", passed, _verdict(found)[0])
    keep_by_the_clock(database, [verdict], by)


def _verdict(found: Sequence[Standing]) -> tuple[str, dict[str, dg.MetadataValue]]:
    """The check in one sentence, and its figures."""
    given_up = [str(one) for one in found if one.given_up]
    figures: dict[str, dg.MetadataValue] = {
        "gaps": dg.MetadataValue.int(len(found)),
        "given_up": dg.MetadataValue.int(len(given_up)),
    }
    if not given_up:
        return f"{len(found)} gap(s), none given up", figures
    figures["what"] = dg.MetadataValue.md("\n".join(f"- {line}" for line in given_up[:SHOWN]))
    return (
        f"{len(given_up)} gap(s) given up, first: {given_up[0]}; correct what its runs failed of, "
        "then `sigmasight gaps --fill`",
        figures,
    )


@dg.asset_check(
    asset=jobs.NO_GAP_GIVEN_UP.asset_key,
    name=jobs.NO_GAP_GIVEN_UP.name,
    description="No gap is left that was tried to fill as often as allowed (setting gap_attempts). Evaluated by the "
    "sensor `gaps`, not by runs.",
)
def no_gap_given_up(
    postgres: PostgresResource, settings: SettingsResource, market_data: MarketDataResource
) -> dg.AssetCheckResult:
    """Look now, and say which gaps are given up."""
    database, values = postgres.database, settings.values
    found = operations.standings(database, values, operations.find(database, values, market_data.source))
    _kept(database, found, "by hand")
    sentence, figures = _verdict(found)
    return dg.AssetCheckResult(
        passed=not any(one.given_up for one in found),
        severity=dg.AssetCheckSeverity.WARN,
        description=sentence,
        metadata=figures,
    )


def schedule_is_on(instance: dg.DagsterInstance) -> bool:
    """Whether somebody turned the schedule `after_close` on: what it left waiting is then to be caught up with."""
    states = instance.all_instigator_state(instigator_type=InstigatorType.SCHEDULE)
    return any(state.instigator_name == SCHEDULE and state.status is InstigatorStatus.RUNNING for state in states)


@dg.sensor(
    name="gaps",
    minimum_interval_seconds=600,
    default_status=sensor_status(),
    description="Looks for what should be there of computed sessions and is not, and asks for the smallest runs that "
    "fill it; what failed as often as allowed is reported and left alone. While the schedule `after_close` is on, also "
    "for sessions it left waiting whose prices have come. Needs the sensor `backfills`.",
)
def gaps(
    context: dg.SensorEvaluationContext,
    postgres: PostgresResource,
    settings: SettingsResource,
    market_data: MarketDataResource,
) -> dg.SensorResult:
    """Ask for what fills the gaps there are, and evaluate the check."""
    database, values = postgres.database, settings.values
    waiting = backfills.open_requests(database)
    busy = f"{waiting[0]} is open" if waiting else running(context.instance)
    if busy is not None:
        return dg.SensorResult(skip_reason=f"nothing is looked for while {busy}")
    found = operations.standings(database, values, operations.find(database, values, market_data.source))
    calendar = sessions.calendar()
    remarks = [
        operations.request(database, values, market_data.source, calendar, one) for one in found if not one.given_up
    ]
    if not remarks and schedule_is_on(context.instance):
        remarks = [missed.request(database, values, market_data.source, calendar, datetime.now(UTC))]
    sentence, figures = _verdict(found)
    _kept(database, found, "sensor gaps")
    return dg.SensorResult(
        skip_reason="; ".join([*remarks, sentence]),
        asset_events=[
            dg.AssetCheckEvaluation(
                asset_key=jobs.NO_GAP_GIVEN_UP.asset_key,
                check_name=jobs.NO_GAP_GIVEN_UP.name,
                passed=not any(one.given_up for one in found),
                severity=dg.AssetCheckSeverity.WARN,
                description=sentence,
                metadata=figures,
            )
        ],
    )
