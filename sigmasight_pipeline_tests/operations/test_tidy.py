"""Tidying: what is old goes, nothing that anybody still needs does, and what is gone on purpose is not missed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime

import polars as pl
import psycopg
import pytest
from dagster import RunsFilter
from polars.testing import assert_frame_equal
from typer.testing import CliRunner

from sigmasight_pipeline.cli.installation import Installation
from sigmasight_pipeline.cli.main import _command_tree
from sigmasight_pipeline.market_data.factory import open_source
from sigmasight_pipeline.operations import gaps, tidy
from sigmasight_pipeline.operations.audit import audit
from sigmasight_pipeline.operations.launcher import RANGE_END_TAG, RANGE_START_TAG, Chunk
from sigmasight_pipeline.settings import Settings, get_settings
from sigmasight_pipeline.storage import retention, tables
from sigmasight_pipeline.storage.audit import one_moment
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline_tests.conftest import temporary_home
from sigmasight_pipeline_tests.end_to_end.installations import (
    CALENDAR,
    assert_same,
    everything,
    expect,
    import_demo,
    installation,
    rows,
    run_history,
    run_sessions,
)

FIRST, LAST = date(2024, 1, 2), date(2024, 1, 9)
DAYS = CALENDAR.between(FIRST, LAST)
KEPT = 2
KEPT_FROM = DAYS[-KEPT]
NOW = datetime(2024, 1, 10, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def opened(server: EmbeddedServer) -> Iterator[Installation]:
    """The demo books over six sessions, with little price history."""
    with temporary_home() as home, installation(server, home, first_session="2023-12-18") as made:
        import_demo(made)
        run_history(made, FIRST, LAST)
        yield made


def keeping(opened: Installation, sessions: int | None = KEPT) -> Settings:
    return opened.settings.model_copy(update={"retention_sessions": sessions})


def findings(opened: Installation) -> list[tuple[str, int]]:
    with one_moment(opened.database) as connection:
        return [(one.code, one.count) for one in audit(connection, opened.settings, now=NOW).findings]


def missing(opened: Installation) -> list[gaps.Gap]:
    return gaps.find(opened.database, opened.settings, open_source(opened.settings, CALENDAR))


def test_what_is_purged_is_what_nothing_is_made_from() -> None:
    purged = {str(table.name) for table in tidy.purged_tables()}
    kept = {"daily_prices", "daily_returns", "treasury_yields", "option_prices", "position_values", "position_greeks"}
    assert purged.isdisjoint(kept | {"portfolio_exposures", "portfolio_snapshots"})
    assert {"symbol_scenario_returns", "calculation_audit", "data_quality_results"} <= purged
    assert purged.isdisjoint(str(table.name) for table in tables.every_table() if tables.is_derived(table))
    # attribution reads the betas of the session before, the accuracy of scenarios a window of exposures
    before = {str(table.name): sessions for table, sessions in tidy.purged_tables().items()}
    assert before["symbol_factor_betas"] == 1
    assert before["portfolio_factor_exposures"] == Settings().accuracy_window


def test_nothing_is_removed_unless_somebody_says_how_much_is_kept(opened: Installation) -> None:
    for settings in (keeping(opened, None), keeping(opened, 10_000)):
        assert tidy.tidy_results(opened.database, settings, NOW, str, dry_run=False) == {}
    assert retention.kept_from(opened.database) == {}


def test_old_sessions_go_and_the_kept_ones_can_be_computed_anew(opened: Installation) -> None:
    before, known = everything(opened), findings(opened)
    shown = tidy.tidy_results(opened.database, keeping(opened), NOW, str, dry_run=True)
    assert shown
    assert_same(opened, before)
    # a purge that is stopped after its first steps: nothing is missed, and the next one goes on
    removed = dict.fromkeys(shown, 0)
    for stop in (1, 3):
        steps = retention.purge(opened.database, tidy.cutoffs(opened.database, KEPT), NOW)
        for _ in range(stop):
            for name, count in next(steps).items():
                removed[name] += count
        steps.close()  # type: ignore[attr-defined]  # a generator
        assert missing(opened) == []
        assert findings(opened) == known
    told: list[str] = []
    for name, count in tidy.tidy_results(opened.database, keeping(opened), NOW, told.append, dry_run=False).items():
        removed[name] += count
    assert removed == shown
    assert told
    assert_gone(opened, before)
    assert missing(opened) == []
    assert findings(opened) == known
    # the first kept session and those after it, from what is left
    expect(run_sessions(opened, KEPT_FROM, LAST))
    assert_same(opened, before, [KEPT_FROM, LAST])
    assert tidy.tidy_results(opened.database, keeping(opened), NOW, str, dry_run=False) == {}


def assert_gone(opened: Installation, before: dict[str, pl.DataFrame]) -> None:
    """Of purged tables the kept sessions are there and no other; everything else is as it was."""
    margins = {str(table.name): margin for table, margin in tidy.purged_tables().items()}
    for name, frame in everything(opened).items():
        kept = pl.lit(value=True)
        if name in margins:
            kept = pl.col("session_date") >= DAYS[max(0, len(DAYS) - KEPT - margins[name])]
        assert_frame_equal(frame, before[name].filter(kept), check_exact=True)
    good = "SELECT count(*) AS good FROM sigmasight.data_quality_results WHERE passed AND session_date < %s"
    assert opened.database.query(good, (KEPT_FROM,))["good"][0] == 0


def test_a_run_leaves_two_events_per_asset_and_session_and_one_row_per_check(opened: Installation) -> None:
    """What the operator's guide says of growth, of every run over sessions this module has made."""
    instance = opened.launcher.instance
    runs = [run for run in instance.get_runs(RunsFilter(job_name="daily")) if run.execution_plan_snapshot_id]
    assert runs
    for run in runs:
        plan = instance.get_execution_plan_snapshot(str(run.execution_plan_snapshot_id))
        checks, steps = len(plan.asset_check_keys), len(plan.step_keys_to_execute)
        assets = opened.launcher.asset_count(Chunk(job="daily"))
        first, last = (date.fromisoformat(run.tags[tag]) for tag in (RANGE_START_TAG, RANGE_END_TAG))
        sessions = len(CALENDAR.between(first, last))
        with psycopg.connect(opened.dagster_url) as connection:
            counted = dict(
                connection.execute(
                    "SELECT coalesce(dagster_event_type, 'log'), count(*) FROM event_logs WHERE run_id = %s GROUP BY 1",
                    (run.run_id,),
                ).fetchall()
            )
            rows_of_checks = connection.execute(
                "SELECT count(*) FROM asset_check_executions WHERE run_id = %s", (run.run_id,)
            ).fetchall()
        assert rows_of_checks == [(checks,)]
        by_session = ("ASSET_MATERIALIZATION", "ASSET_MATERIALIZATION_PLANNED")
        assert [counted.pop(kind) for kind in by_session] == [assets * sessions] * 2
        # start, success and word of each step; output, plan and verdict of each check; and the run's own
        assert sum(counted.values()) <= 3 * steps + assets + 3 * checks + 20


def test_the_command_shows_what_it_would_remove_and_removes_it(
    opened: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGMASIGHT_RETENTION_SESSIONS", "1")
    get_settings.cache_clear()
    try:
        shown = json.loads(tidied("--dry-run", "--json"))
        assert shown["dry_run"]
        assert shown["results_kept_from"] == str(LAST)
        table = tidied("--dry-run")
        assert "Nothing was removed" in table
        assert max(map(len, table.splitlines())) <= 80
        assert json.loads(tidied("--json"))["rows"] == shown["rows"]
        assert shown["rows"]["sigmasight.stress_test_results"] > 0
        assert "nothing to remove" in tidied()
    finally:
        get_settings.cache_clear()
    assert missing(opened) == []


def tidied(*options: str) -> str:
    """What `sigmasight db tidy` prints."""
    result = CliRunner().invoke(_command_tree("db"), ["db", "tidy", *options], env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    return result.stdout if "--json" in options else result.output


@pytest.mark.slow
def test_what_was_removed_comes_back_when_somebody_asks_for_it(opened: Installation) -> None:
    expect(run_sessions(opened, FIRST, LAST))
    before, known = everything(opened), findings(opened)
    tidy.tidy_results(opened.database, keeping(opened), NOW, str, dry_run=False)
    expect(run_sessions(opened, FIRST, LAST))
    audited = rows(opened, tables.calculation_audit)
    assert_same(opened, {**before, "calculation_audit": audited})
    old = audited.filter(pl.col("session_date") < KEPT_FROM, pl.col("engine") == "stress_test_results")
    assert set(old["reason"]) == {"removed for its age"}
    assert missing(opened) == []
    assert findings(opened) == known
