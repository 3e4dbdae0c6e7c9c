"""Ten years as one backfill through the daemon: killed twice on the way, it ends as the undisturbed one does.

A process has one first session: `make test-long` sets it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from datetime import date

import dagster as dg
import pytest
from dagster import DagsterRunStatus, RunsFilter
from polars.testing import assert_frame_equal

from sigmasight_pipeline.cli.installation import Installation
from sigmasight_pipeline.market_data.factory import open_source
from sigmasight_pipeline.operations import backfills, books, history
from sigmasight_pipeline.operations.instance import get_instance
from sigmasight_pipeline.operations.launcher import BACKFILL_TAG, CHUNK_TAG, Chunk
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline_tests.conftest import temporary_home
from sigmasight_pipeline_tests.end_to_end.installations import CALENDAR, everything, expect, installation, run_history
from sigmasight_pipeline_tests.end_to_end.webserver import dev, waited

pytestmark = pytest.mark.long

SESSIONS = 2520
FIRST = date(2014, 1, 2)
LAST = CALENDAR.offset(FIRST, SESSIONS - 1)
SETTINGS = {"first_session": FIRST.isoformat()}
PATIENCE = 1800.0

BOOK = b"""ticker,quantity,entry_price,entry_date
AAPL,100,100.00,2014-01-02
MSFT,-50,40.00,2014-01-02
BND,300,80.00,2014-01-02
"""


def prepared(opened: Installation) -> list[Chunk]:
    """A book held for ten years, and the runs its history takes."""
    source = open_source(opened.settings, CALENDAR)
    books.Importer(opened.database, opened.settings, source).positions(
        BOOK, "ten-years.csv", books.Book(name="Ten years", equity="1000000")
    )
    expect(opened.launcher.run(Chunk(job="reference")))
    chunks = history.plan_history(opened.database, opened.settings, source, CALENDAR, first=FIRST, last=LAST)
    assert sum(chunk.session_count for chunk in chunks) == SESSIONS
    return chunks


def running(instance: dg.DagsterInstance, backfill: int, number: int) -> Callable[[], str | None]:
    """The run of a chunk once its steps are being executed."""

    def look() -> str | None:
        tags = {BACKFILL_TAG: str(backfill), CHUNK_TAG: str(number)}
        found = instance.get_runs(RunsFilter(tags=tags, statuses=[DagsterRunStatus.STARTED]))
        steps = [event for run in found for event in instance.all_logs(run.run_id) if event.step_key is not None]
        return found[0].run_id if len(steps) > 5 else None

    return look


def kill_worker(instance: dg.DagsterInstance, run_id: str) -> None:
    (pid, *_) = {
        entry.dagster_event.pid
        for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_START)
        if entry.dagster_event is not None and entry.dagster_event.pid is not None
    }
    os.kill(pid, signal.SIGKILL)


def test_it_is_killed_twice_and_ends_as_if_it_had_not_been(server: EmbeddedServer) -> None:
    started = time.monotonic()
    with temporary_home() as home, installation(server, home, **SETTINGS) as undisturbed:
        prepared(undisturbed)
        run_history(undisturbed, FIRST, LAST)
        expected = everything(undisturbed)
    print(f"\n{SESSIONS} sessions in one process, undisturbed: {time.monotonic() - started:.0f} s")  # noqa: T201
    with temporary_home() as home, installation(server, home, **SETTINGS) as opened:
        chunks = prepared(opened)
        instance = get_instance()
        backfill = backfills.request(
            opened.database, key="ten-years", trigger="backfill", reason="a test", chunks=chunks
        )
        assert backfill is not None
        started = time.monotonic()
        with dev(home, sensors="on") as ui:
            run = waited(running(instance, backfill, 2), "the third run", PATIENCE)
            kill_worker(instance, run)
            waited(running(instance, backfill, 5), "the sixth run", PATIENCE)
            ui.kill()
        with dev(home, sensors="on"):

            def ended() -> backfills.Backfill | None:
                (state,) = backfills.attempts(opened.database, "ten-years")
                assert state.status != "failed", state.error
                return state if state.status == "completed" else None

            waited(ended, "the end of the backfill", PATIENCE)
        print(f"through the daemon, killed twice: {time.monotonic() - started:.0f} s")  # noqa: T201
        failed = instance.get_runs_count(RunsFilter(statuses=[DagsterRunStatus.FAILURE]))
        assert failed == 2, "one run was killed by itself, one with the daemon"
        found = everything(opened)
        for name, frame in expected.items():
            assert frame.height or name in ("option_prices",), name
            assert_frame_equal(found[name], frame, check_exact=True)
