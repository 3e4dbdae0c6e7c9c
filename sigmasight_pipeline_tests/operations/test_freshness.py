"""Freshness by the calendar: never late on a Monday or after a holiday, late the morning after a session is missing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta

import dagster as dg
import pytest
from dagster._utils.schedules import schedule_execution_time_iterator

from sigmasight_pipeline.assets import catalog, graph
from sigmasight_pipeline.assets.resources import PostgresResource, SettingsResource
from sigmasight_pipeline.definitions import defs
from sigmasight_pipeline.operations import freshness, schedules
from sigmasight_pipeline.operations.freshness import due_session, judge, newest_computed
from sigmasight_pipeline.sessions import calendar, newest_complete_session
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline_tests.storage.audit_world import DAYS, world

CALENDAR = calendar()
BEGIN = date(2024, 1, 2)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "due"),
    [
        ("2024-03-09 05:00", "2024-03-08"),  # Saturday: Friday's session is due
        ("2024-03-09 03:59", "2024-03-07"),  # within the grace it is not
        ("2024-03-09 04:00", "2024-03-08"),
        ("2024-03-11 12:00", "2024-03-08"),  # Monday, the day after summer time began
        ("2024-03-12 05:00", "2024-03-11"),
        ("2024-11-04 23:59", "2024-11-01"),  # Monday, the day after summer time ended
        ("2024-11-05 05:00", "2024-11-04"),
        ("2024-01-16 12:00", "2024-01-12"),  # Tuesday after a Monday that was a holiday
        ("2024-07-04 05:00", "2024-07-03"),  # a half-day was yesterday
        ("2024-07-05 05:00", "2024-07-03"),  # the day after a holiday
        ("2024-11-30 05:00", "2024-11-29"),  # the half-day after Thanksgiving
        ("2025-01-10 05:00", "2025-01-08"),  # the 9th: a day of mourning the library knows
    ],
)
def test_the_session_that_is_due(now: str, due: str) -> None:
    assert due_session(at(now), 4, CALENDAR) == date.fromisoformat(due)


def test_nothing_is_due_after_the_last_session_of_a_fixed_history() -> None:
    for end in ("2024-03-05", "2024-03-10"):
        last = date.fromisoformat(end)
        due = due_session(at("2026-11-28 05:00"), 4, CALENDAR, last_session=last)
        assert due == CALENDAR.on_or_before(last)
        assert judge(due, due, BEGIN, CALENDAR).late == 0
    assert due_session(at("2024-03-05 05:00"), 4, CALENDAR, last_session=date(2025, 6, 30)) == date(2024, 3, 4)


def test_it_is_the_newest_partition_of_a_while_ago() -> None:
    assert due_session(at("2024-03-09 05:00"), 4, CALENDAR) == newest_complete_session(at("2024-03-09 01:00"))


def test_unscheduled_closures_are_not_due() -> None:
    closed = {date(2024, 3, 7), date(2024, 3, 8)}
    assert due_session(at("2024-03-09 05:00"), 4, CALENDAR, closed) == date(2024, 3, 6)
    assert judge(date(2024, 3, 6), date(2024, 3, 11), BEGIN, CALENDAR, closed).late == 1


def test_a_chain_that_runs_every_night_is_never_late_and_a_missed_one_always_is() -> None:
    """Fifteen months of nights: both changes of the clock, all holidays and half-days."""
    schedule, told = schedules.freshness, 0
    moments = schedule_execution_time_iterator(
        at("2023-12-01").timestamp(), str(schedule.cron_schedule), schedule.execution_timezone
    )
    for moment in moments:
        if moment > at("2025-03-01"):
            break
        newest = CALENDAR.on_or_before(moment.date() - timedelta(days=1))
        due = due_session(moment, 4, CALENDAR)
        assert judge(newest, due, BEGIN, CALENDAR).late == 0, moment
        if newest > BEGIN:
            assert judge(CALENDAR.offset(newest, -1), due, BEGIN, CALENDAR).late == 1, moment
            told += 1
    assert told > 280


def test_a_session_is_told_of_in_the_first_night() -> None:
    for session in CALENDAR.between(date(2024, 2, 26), date(2024, 4, 5)):
        night = datetime.combine(session + timedelta(days=1), time(5), UTC)
        assert night.isoweekday() in range(2, 7), "the schedule runs then"
        assert due_session(night, 4, CALENDAR) == session


def test_a_week_off() -> None:
    answer = judge(date(2024, 3, 1), due_session(at("2024-03-09 05:00"), 4, CALENDAR), BEGIN, CALENDAR)
    assert answer.late == 5
    assert answer.sentence == "late by 5 session(s): the newest session is 2024-03-01, 2024-03-08 was due"


def test_nothing_is_due_before_a_portfolio_begins() -> None:
    due = date(2024, 3, 8)
    assert judge(None, due, None, CALENDAR).late == 0
    assert judge(None, due, date(2024, 3, 11), CALENDAR).late == 0
    assert judge(None, due, date(2024, 3, 7), CALENDAR).late == 2
    assert judge(None, due, date(2024, 3, 7), CALENDAR).sentence.startswith("late by 2 session(s): nothing is stored")


def materialized(instance: dg.DagsterInstance, name: str, *days: date) -> None:
    for day in days:
        instance.report_runless_asset_event(dg.AssetMaterialization(name, partition=day.isoformat()))


def test_a_session_left_out_for_want_of_prices_is_not_computed() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        assert newest_computed(instance, "correlation_clusters", DAYS[5]) is None
        materialized(instance, "correlation_clusters", *DAYS[3:8])
        assert newest_computed(instance, "correlation_clusters", DAYS[5]) == DAYS[5]
        assert newest_computed(instance, "correlation_clusters", None) is None


@pytest.fixture(scope="module")
def database(server: EmbeddedServer) -> Iterator[Database]:
    with world(server) as opened:
        yield opened


def evaluate(
    database: Database, instance: dg.DagsterInstance, keys: list[dg.AssetCheckKey] | None = None
) -> dict[str, dg.AssetCheckEvaluation]:
    """One run of the checks on a real instance."""
    resources = {"postgres": PostgresResource(database_url=database.url), "settings": SettingsResource()}
    selection = dg.AssetSelection.checks(*keys) if keys else dg.AssetSelection.all_asset_checks()
    result = dg.materialize(freshness.CHECKS, selection=selection, resources=resources, instance=instance)
    assert result.success
    return {found.asset_key.to_user_string(): found for found in result.get_asset_check_evaluations()}


def test_the_checks_warn_and_say_since_when(database: Database) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        materialized(instance, "scenario_accuracy", *DAYS)
        found = evaluate(database, instance)
    assert set(found) == set(freshness.NAMES)
    kept = database.query(
        "SELECT asset, passed, severity, description FROM sigmasight.data_quality_results WHERE check_name = 'fresh'"
    )
    assert {row["asset"]: (row["passed"], row["description"]) for row in kept.iter_rows(named=True)} == {
        name: (verdict.passed, verdict.description) for name, verdict in found.items()
    }, "a check of the clock is a row as any other"
    assert set(kept["severity"]) == {"WARN"}
    snapshots = found["portfolio_snapshots"]
    assert not snapshots.passed
    assert snapshots.severity is dg.AssetCheckSeverity.WARN
    told = {name: value.value for name, value in snapshots.metadata.items()}
    assert told["newest_stored_session"] == "2024-01-16"
    assert told["newest_expected_session"] > "2026"
    assert told["sessions_late"] == len(
        CALENDAR.between(date(2024, 1, 17), date.fromisoformat(str(told["newest_expected_session"])))
    )
    # without a row of its own, it is as far as it was computed; the other was never computed at all
    assert found["scenario_accuracy"].metadata["newest_stored_session"].value == "2024-01-16"
    assert found["correlation_clusters"].metadata["newest_stored_session"].value == "none"


def test_checks_of_some_assets_only(database: Database) -> None:
    keys = [dg.AssetCheckKey(dg.AssetKey("daily_returns"), "fresh")]
    with dg.DagsterInstance.ephemeral() as instance:
        assert set(evaluate(database, instance, keys)) == {"daily_returns"}


def test_a_partitioned_run_may_evaluate_them_too(database: Database) -> None:
    """Whoever materialises an asset in the UI runs its checks with it, this one without a partition among them."""
    resources = {"postgres": PostgresResource(database_url=database.url), "settings": SettingsResource()}
    (returns,) = (one for one in graph.ASSETS if dg.AssetKey("daily_returns") in one.keys)
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [returns, *freshness.CHECKS],
            selection=dg.AssetSelection.assets("daily_returns"),
            partition_key=DAYS[-1].isoformat(),
            resources=resources,
            instance=instance,
            raise_on_error=False,
        )
    assert [found.check_name for found in result.get_asset_check_evaluations() if found.check_name == "fresh"] == [
        "fresh"
    ]


def test_every_asset_of_results_has_the_check_and_no_run_of_assets_evaluates_it() -> None:
    results = {
        str(table.name)
        for table in tables.every_table()
        if {"session_date", "run_id", "computed_at"} <= set(table.columns.keys()) and not tables.is_derived(table)
    }
    # those that are written by the asset of another table
    assert set(freshness.NAMES) == results - set(catalog.WRITTEN_WITH)
    for job in ("market_data", "daily", "reference"):
        assert "fresh_results" not in {str(node) for node in defs.resolve_job_def(job).graph.node_dict}
    assert [str(node) for node in defs.resolve_job_def("freshness").graph.node_dict] == ["fresh_results"]


def test_the_schedule_is_off_until_somebody_turns_it_on() -> None:
    assert schedules.freshness.default_status is dg.DefaultScheduleStatus.STOPPED
    assert schedules.freshness.job_name == "freshness"
    with dg.build_schedule_context(scheduled_execution_time=at("2024-03-09 05:00")) as context:
        assert isinstance(schedules.freshness(context), dg.RunRequest)
