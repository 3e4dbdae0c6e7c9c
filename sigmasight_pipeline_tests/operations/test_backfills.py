"""Ranges that are asked for: each acts once, runs in order one at a time, and goes on from wherever it stopped."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.tags import WILL_RETRY_TAG

from sigmasight_pipeline import sessions
from sigmasight_pipeline.operations import backfills, launcher
from sigmasight_pipeline.operations.launcher import (
    BACKFILL_TAG,
    CHUNK_TAG,
    Chunk,
    Launcher,
    RangeFailedError,
    plan_range,
)
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline_tests.operations.toy_jobs import TOY, UNPRICED, migrated

CALENDAR = sessions.calendar()
NOW = datetime(2024, 6, 3, 12, tzinfo=UTC)
JANUARY = (date(2024, 1, 2), date(2024, 1, 31))


@pytest.fixture(scope="module")
def module_database(server: EmbeddedServer) -> Iterator[Database]:
    with migrated(server) as database:
        yield database


@pytest.fixture
def database(module_database: Database) -> Database:
    with module_database.connect() as connection:
        connection.execute("TRUNCATE sigmasight.backfill_progress RESTART IDENTITY")
    return module_database


@pytest.fixture
def toy() -> Iterator[Launcher]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Launcher(instance, TOY)


def chunks(first: date = JANUARY[0], last: date = JANUARY[1], size: int = 10, **more: Any) -> list[Chunk]:
    return plan_range("daily", first, last, calendar=CALENDAR, size=size, **more)


def ask(database: Database, key: str, plan: Sequence[Chunk], trigger: str = "backfill", **more: Any) -> int:
    made = backfills.request(database, key=key, trigger=trigger, reason="a test", chunks=plan, now=NOW, **more)
    assert made is not None
    return made


def launch(toy: Launcher, request: dg.RunRequest, **more: str) -> str:
    """Run what the sensor asked for, as the daemon would."""
    assert request.job_name is not None
    result = TOY.resolve_job_def(request.job_name).execute_in_process(
        instance=toy.instance,
        run_config=request.run_config,
        tags={**request.tags, **more},
        asset_selection=list(request.asset_selection) if request.asset_selection else None,
        raise_on_error=False,
    )
    return result.run_id


def state(database: Database, backfill_id: int) -> backfills.Backfill:
    return next(b for b in backfills.recent(database, 100) if b.backfill_id == backfill_id)


def ticks(toy: Launcher, database: Database, limit: int = 20) -> list[tuple[str, str, str]]:
    """What is launched, tick after tick, until nothing is due: (run key, first, last)."""
    launched = []
    for _ in range(limit):
        found = backfills.due(toy.instance, database, NOW)
        if found.request is None:
            return launched
        tags = found.request.tags
        launched.append((str(found.request.run_key), tags[launcher.RANGE_START_TAG], tags[launcher.RANGE_END_TAG]))
        launch(toy, found.request)
    raise AssertionError(f"it never ends: {launched}")


def test_a_range_is_asked_for_once_under_its_key(database: Database) -> None:
    ask(database, "gap:a", chunks())
    assert backfills.request(database, key="gap:a", trigger="gap", reason="again", chunks=chunks()) is None
    (stored,) = backfills.open_requests(database)
    assert stored.chunks == tuple(chunks())
    assert (stored.status, stored.total_sessions, stored.done_sessions) == ("pending", 21, 0)
    with pytest.raises(ValueError, match="gap:b asks for no run at all"):
        backfills.request(database, key="gap:b", trigger="gap", reason="", chunks=[])


def test_what_is_asked_for_is_kept_to_the_last_field(database: Database) -> None:
    plan = [
        Chunk("reference", trigger="inbox"),
        *chunks(portfolios=["a", "b"], trigger="inbox", assets=["position_values"]),
    ]
    key = ask(database, "inbox:x", plan, "inbox")
    assert state(database, key).chunks == tuple(plan)
    assert state(database, key).reason == "a test"


def test_runs_are_launched_one_at_a_time_in_order(toy: Launcher, database: Database) -> None:
    key = ask(database, "restatement:1", chunks(trigger="restatement", portfolios=["a"], assets=["position_values"]))
    first = backfills.due(toy.instance, database, NOW).request
    assert first is not None
    assert first.run_config == {"ops": {"position_values": {"config": {"portfolios": ["a"]}}}}
    assert first.asset_selection == [dg.AssetKey("position_values")]
    assert (first.tags[BACKFILL_TAG], first.tags["sigmasight/report"]) == (str(key), "true")
    assert state(database, key).status == "processing"
    again = backfills.due(toy.instance, database, NOW).request
    assert again is not None
    assert again.run_key == first.run_key, "a tick that was lost asks for the same run: the daemon launches a key once"
    assert ticks(toy, database) == [
        (f"{key}:0", "2024-01-02", "2024-01-16"),
        (f"{key}:1", "2024-01-17", "2024-01-30"),
        (f"{key}:2", "2024-01-31", "2024-01-31"),
    ]
    assert (state(database, key).status, state(database, key).done_sessions) == ("completed", 21)
    assert backfills.due(toy.instance, database, NOW) == backfills.Due(None, ())


def test_nothing_is_launched_while_a_run_is_going(toy: Launcher, database: Database) -> None:
    key = ask(database, "a", chunks())
    ask(database, "b", chunks(), "inbox")
    tags = {BACKFILL_TAG: str(key), CHUNK_TAG: "0"}
    job = TOY.resolve_job_def("daily")
    run = toy.instance.create_run_for_job(job, tags=tags, status=dg.DagsterRunStatus.STARTED)
    assert backfills.due(toy.instance, database, NOW).request is None
    toy.instance.report_run_failed(run, "killed")
    found = backfills.due(toy.instance, database, NOW)
    assert found.request is not None
    assert state(database, key).status == "failed"
    assert state(database, key).error == "killed"


def test_a_run_dagster_will_retry_is_waited_for(toy: Launcher, database: Database) -> None:
    key = ask(database, "a", chunks(size=252))
    job = TOY.resolve_job_def("daily")
    tags = {BACKFILL_TAG: str(key), CHUNK_TAG: "0"}
    run = toy.instance.create_run_for_job(
        job, tags={**tags, WILL_RETRY_TAG: "true"}, status=dg.DagsterRunStatus.STARTED
    )
    toy.instance.report_run_failed(run, "the worker was killed")
    assert backfills.due(toy.instance, database, NOW).request is None
    assert state(database, key).status == "pending"
    retry = toy.instance.create_run_for_job(job, tags=tags, status=dg.DagsterRunStatus.STARTED)
    toy.instance.report_run_failed(retry, "killed again")
    backfills.due(toy.instance, database, NOW)
    assert (state(database, key).status, state(database, key).error) == ("failed", "killed again")


def test_what_somebody_waits_for_comes_first(toy: Launcher, database: Database) -> None:
    asked = {
        trigger: ask(database, trigger, chunks(size=252), trigger)
        for trigger in ("gap", "backfill", "restatement", "inbox")
    }
    order = [run_key.split(":")[0] for run_key, _, _ in ticks(toy, database)]
    assert order == [str(asked[name]) for name in ("inbox", "restatement", "backfill", "gap")]


def test_missing_prices_end_a_range_at_the_session_before_and_as_failed(toy: Launcher, database: Database) -> None:
    key = ask(database, "a", chunks(date(2024, 1, 29), date(2024, 3, 28), 20))
    assert ticks(toy, database) == [
        (f"{key}:0", "2024-01-29", "2024-02-26"),
        (f"{key}:0 shortened", "2024-01-29", "2024-02-05"),
    ]
    ended = state(database, key)
    assert (ended.status, ended.error, ended.done_sessions) == ("failed", f"{UNPRICED} has no prices", 6)


def test_missing_prices_at_its_first_session_end_a_range_at_once(toy: Launcher, database: Database) -> None:
    key = ask(database, "a", chunks(date.fromisoformat(UNPRICED), date(2024, 2, 9)))
    assert len(ticks(toy, database)) == 1
    assert state(database, key).status == "failed"


def test_a_failure_leaves_the_others_running(toy: Launcher, database: Database) -> None:
    broken = ask(database, "a", chunks(date(2024, 2, 26), date(2024, 3, 8), 5))
    fine = ask(database, "b", chunks(size=252))
    ticks(toy, database)
    assert (state(database, broken).status, state(database, broken).done_sessions) == ("failed", 5)
    assert "the database went away" in str(state(database, broken).error)
    assert state(database, fine).status == "completed"


def drive(toy: Launcher, database: Database, backfill_id: int) -> None:
    def run(chunk: Chunk, tags: dict[str, str]) -> launcher.Outcome:
        (outcome,) = toy.run_all([chunk], None, tags)
        return outcome

    backfills.drive(database, state(database, backfill_id), run)


def test_a_command_drives_its_own_range_and_the_daemon_leaves_it_alone(toy: Launcher, database: Database) -> None:
    key = ask(database, "a", chunks(), driver=launcher.this_process())
    assert backfills.due(toy.instance, database, NOW) == backfills.Due(None, ())
    drive(toy, database, key)
    assert (state(database, key).status, state(database, key).done_sessions) == ("completed", 21)


def test_a_range_of_a_killed_command_is_failed_and_goes_on_after_the_last_run_that_was_done(
    toy: Launcher, database: Database
) -> None:
    plan = chunks(date(2024, 2, 26), date(2024, 3, 8), 5)
    key = ask(database, "backfill:x#1", plan, driver=launcher.this_process())
    with pytest.raises(RangeFailedError, match="the database went away"):
        drive(toy, database, key)
    failed = state(database, key)
    assert (failed.status, failed.done_runs) == ("failed", 1)
    earlier = backfills.attempts(database, "backfill:x#")
    assert backfills.resumable(earlier, plan) == failed
    # prices of the look-back may be there by now; another range of days is another range
    assert backfills.resumable(earlier, [Chunk("market_data"), *plan]) == failed
    assert backfills.resumable(earlier, plan[1:]) is None
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        tag = f"{launcher.socket.gethostname()}:{process.pid}:{launcher._start_ticks(process.pid)}"
        with database.connect() as connection:
            connection.execute("UPDATE sigmasight.backfill_progress SET status = 'processing', driver = %s", (tag,))
        assert backfills.fail_abandoned(database, NOW) == 0
        assert backfills.resumable(backfills.attempts(database, "backfill:x#"), plan) is None, "it is being run"
        os.kill(process.pid, 9)
    assert backfills.fail_abandoned(database, NOW) == 1
    abandoned = state(database, key)
    assert (abandoned.status, abandoned.error) == ("failed", backfills.KILLED)
    assert [chunk.first for chunk in abandoned.remaining] == [date(2024, 3, 4)]


def test_ctrl_c_leaves_a_range_that_goes_on(database: Database) -> None:
    key = ask(database, "a", chunks(), driver=launcher.this_process())

    def stop(_chunk: Chunk, _tags: dict[str, str]) -> launcher.Outcome:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backfills.drive(database, state(database, key), stop)
    assert (state(database, key).status, state(database, key).error) == ("failed", "stopped by Ctrl-C")


def test_symbols_are_counted_where_prices_are_loaded(toy: Launcher, database: Database) -> None:
    with database.connect() as connection:
        connection.execute(
            "INSERT INTO sigmasight.instruments (symbol, kind, active) VALUES "
            "('AAA', 'stock', true), ('BBB', 'stock', true), ('OLD', 'stock', false), ('HOME', 'private', true)"
        )
        connection.execute(
            "INSERT INTO sigmasight.daily_prices (session_date, symbol, close, source, fetched_at) "
            "VALUES ('2024-01-03', 'AAA', 1, 'files', now())"
        )
    key = ask(database, "a", chunks())
    recompute = ask(database, "b", chunks(assets=["position_values"]))
    ticks(toy, database)
    with database.connect() as connection:
        found = connection.execute(
            "SELECT backfill_id, total_symbols, processed_symbols, failed_symbols FROM sigmasight.backfill_progress "
            "ORDER BY 1"
        ).fetchall()
        connection.execute("TRUNCATE sigmasight.instruments, sigmasight.daily_prices")
    assert found == [(key, 2, 1, 1), (recompute, None, None, None)]


def test_a_person_s_termination_is_respected(toy: Launcher, database: Database) -> None:
    """The range is not gone on with, and is known as terminated until somebody asks for its sessions again."""
    key = ask(database, "restatement:7:2024-01-02:x:1", chunks(size=10), "restatement")
    request = backfills.due(toy.instance, database, NOW).request
    assert request is not None
    assert request.tags[launcher.REASON_TAG] == "a test"
    run = toy.instance.create_run_for_job(
        TOY.resolve_job_def("daily"), tags=request.tags, status=dg.DagsterRunStatus.STARTED
    )
    toy.instance.report_run_canceling(run)
    toy.instance.report_run_canceled(run)
    found = backfills.due(toy.instance, database, NOW)
    assert found.request is None
    stored = state(database, key)
    assert (stored.status, stored.canceled, stored.error) == ("failed", True, backfills.CANCELED)
    assert backfills.due(toy.instance, database, NOW).request is None

    def terminated(first: date, last: date, *codes: str) -> int | None:
        one = backfills.terminated(backfills.recent(database, 100), first, last, codes)
        return None if one is None else one.backfill_id

    day = date(2024, 1, 10)
    assert terminated(day, day) == terminated(date(2023, 1, 3), date(2024, 1, 2), "a") == key
    assert terminated(date(2024, 2, 1), date(2024, 2, 2)) is None
    other = ask(database, "gap:b", chunks(day, day, portfolios=["b"]))
    assert terminated(day, day, "a") == key, "somebody asked for another portfolio"
    assert terminated(day, day, "b") is None, f"backfill {other} was asked for since"
