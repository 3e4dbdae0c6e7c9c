"""Runs that ended are recorded with what failed; runs nobody runs any more are ended, others left alone."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._core.utils import make_new_run_id

from sigmasight_pipeline.assets.market_data import SOURCE_POOL
from sigmasight_pipeline.operations import launcher, run_process, runs
from sigmasight_pipeline.operations.launcher import PROCESS_TAG, Chunk, Launcher
from sigmasight_pipeline.operations.run_errors import LONGEST, RunErrors
from sigmasight_pipeline.storage import runs as stored
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline_tests.operations.toy_jobs import BROKEN, TOY, UNPRICED, migrated

STARTED = dg.DagsterRunStatus.STARTED


@pytest.fixture(scope="module")
def module_database(server: EmbeddedServer) -> Iterator[Database]:
    with migrated(server) as database:
        yield database


@pytest.fixture
def database(module_database: Database) -> Database:
    with module_database.connect() as connection:
        connection.execute("TRUNCATE sigmasight.batch_runs")
    return module_database


@pytest.fixture
def toy() -> Iterator[Launcher]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Launcher(instance, TOY)


def daily(first: str, last: str, trigger: str = "manual") -> Chunk:
    return Chunk("daily", date.fromisoformat(first), date.fromisoformat(last), 1, trigger=trigger)


# what is recorded


def test_every_end_of_a_run_is_one_row_with_what_failed(toy: Launcher, database: Database) -> None:
    done = {
        "fine": toy.run(daily("2024-01-02", "2024-01-05", "schedule"), tags={"sigmasight/backfill": "7"}),
        "unpriced": toy.run(daily(UNPRICED, UNPRICED)),
        "broken": toy.run(daily(BROKEN, BROKEN, "nobody we know")),
        "check": toy.run(Chunk("reference")),
    }
    assert runs.sync(toy.instance, database) == 4
    assert runs.sync(toy.instance, database) == 0, "nothing is recorded twice"
    rows = {row["run_id"]: row for row in stored.recent(database, limit=10).to_dicts()}
    found = {name: rows[outcome.run_id] for name, outcome in done.items()}
    assert [(found[name]["job_name"], found[name]["status"], found[name]["trigger"]) for name in found] == [
        ("daily", "success", "schedule"),
        ("daily", "failure", "manual"),
        ("daily", "failure", "manual"),
        ("reference", "failure", "manual"),
    ]
    fine = found["fine"]
    assert (fine["partition_start"], fine["partition_end"]) == (date(2024, 1, 2), date(2024, 1, 5))
    assert (fine["backfill_id"], fine["error_message"]) == (7, None)
    assert fine["duration_seconds"] == pytest.approx((fine["ended_at"] - fine["started_at"]).total_seconds(), abs=1e-3)
    assert found["unpriced"]["error_message"] == f"{UNPRICED} has no prices"
    assert "position_values: " in found["broken"]["error_message"]
    assert "the database went away" in found["broken"]["error_message"]
    assert found["check"]["error_message"] == "the check portfolios.complete failed: one is missing"
    assert found["check"]["partition_start"] is None
    # what is said of a run of this process and what is read of it afterwards is the same
    assert {o.run_id: "; ".join(o.errors) or None for o in done.values()} == {
        key: row["error_message"] for key, row in rows.items()
    }


def test_runs_that_end_between_two_looks_in_any_order_are_recorded(toy: Launcher, database: Database) -> None:
    job = TOY.resolve_job_def("daily")
    early = toy.instance.create_run_for_job(job, status=STARTED)
    late = toy.instance.create_run_for_job(job, status=STARTED)
    toy.instance.report_run_failed(late, "the later one")
    assert runs.sync(toy.instance, database) == 1
    toy.instance.report_run_canceling(early)
    toy.instance.report_run_canceled(early)
    assert runs.sync(toy.instance, database) == 1
    rows = {row["run_id"]: row for row in stored.recent(database, limit=10).to_dicts()}
    assert (rows[early.run_id]["status"], rows[early.run_id]["error_message"]) == ("canceled", "canceled by a person")
    assert (rows[late.run_id]["status"], rows[late.run_id]["error_message"]) == ("failure", "the later one")
    assert rows[late.run_id]["started_at"] is None
    assert stored.recent(database, limit=10, statuses=("failure",))["run_id"].to_list() == [late.run_id]


@pytest.mark.parametrize(
    ("tags", "trigger"),
    [
        ({"dagster/schedule_name": "after_close"}, "schedule"),
        ({"dagster/sensor_name": "backfills"}, "sensor"),
        ({"dagster/sensor_name": "backfills", "sigmasight/trigger": "gap"}, "gap"),
        ({"dagster/backfill": "abcdef"}, "backfill"),
        ({}, "manual"),
    ],
)
def test_who_started_a_run(tags: dict[str, str], trigger: str) -> None:
    assert runs._trigger(tags) == trigger


def test_errors_are_bounded_and_said_once() -> None:
    assert RunErrors().text is None
    assert RunErrors(("a", "b", "a")).text == "a; b"
    long = RunErrors(("x" * (LONGEST + 1),)).text
    assert long is not None
    assert len(long) == LONGEST
    assert long.endswith(" ...")


# runs nobody runs any more


def process_tag(pid: int, *, host: str | None = None, ticks: str | None = None) -> str:
    return f"{host or socket.gethostname()}:{pid}:{launcher._start_ticks(pid) if ticks is None else ticks}"


@pytest.fixture
def other_process() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_only_runs_of_dead_processes_are_failed(toy: Launcher, other_process: subprocess.Popen[bytes]) -> None:
    job = TOY.resolve_job_def("reference")
    dead = process_tag(other_process.pid)

    def run(tag: str | None, status: dg.DagsterRunStatus = STARTED, of: str | None = None) -> str:
        run_id = make_new_run_id()
        tags = {} if tag is None else {PROCESS_TAG: f"{tag}:{of or run_id}"}
        return toy.instance.create_run_for_job(job, run_id=run_id, tags=tags, status=status).run_id

    expected = {
        "of a killed process": (run(dead), "FAILURE"),
        "of a killed process, before it started": (run(dead, dg.DagsterRunStatus.NOT_STARTED), "FAILURE"),
        "of a process id used again": (run(process_tag(os.getpid(), ticks="1")), "FAILURE"),
        "of this process": (run(process_tag(os.getpid())), "STARTED"),
        "of another host": (run(process_tag(other_process.pid, host="elsewhere")), "STARTED"),
        "of the daemon": (run(None), "STARTED"),
        "made from another run, with its tags": (run(dead, of="another"), "STARTED"),
        "ended before": (run(dead, dg.DagsterRunStatus.SUCCESS), "SUCCESS"),
    }
    assert len(runs.fail_dead(toy.instance)) == 1, "only the reused process id: the other process still lives"
    os.kill(other_process.pid, signal.SIGKILL)
    other_process.wait()
    assert len(runs.fail_dead(toy.instance)) == 2
    assert runs.fail_dead(toy.instance) == []
    found = {name: toy.instance.get_run_by_id(run_id) for name, (run_id, _) in expected.items()}
    assert {name: record and record.status.value for name, record in found.items()} == {
        name: status for name, (_, status) in expected.items()
    }


def test_a_killed_run_keeps_no_pool_to_itself(toy: Launcher, other_process: subprocess.Popen[bytes]) -> None:
    """Otherwise the next run would wait for ever for the step that fetches prices."""
    log = toy.instance.event_log_storage
    job, run_id = TOY.resolve_job_def("reference"), make_new_run_id()
    tags = {PROCESS_TAG: f"{process_tag(other_process.pid)}:{run_id}"}
    toy.instance.create_run_for_job(job, run_id=run_id, tags=tags, status=STARTED)
    log.set_concurrency_slots(SOURCE_POOL, 1)
    assert log.claim_concurrency_slot(SOURCE_POOL, run_id, "market_prices").is_claimed
    assert not log.claim_concurrency_slot(SOURCE_POOL, "the next run", "market_prices").is_claimed
    other_process.kill()
    other_process.wait()
    assert runs.fail_dead(toy.instance) == [run_id]
    assert log.claim_concurrency_slot(SOURCE_POOL, "the next run", "market_prices").is_claimed


class Started:
    """Runs as a code server starts them, and what becomes of them as time goes by."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.place = {GRPC_INFO_TAG: json.dumps({"host": "localhost", "socket": "/a/socket/nobody/listens/at"})}

    def run(self, status: dg.DagsterRunStatus, process: str | None = None, first_word: str | None = None) -> str:
        run_id = make_new_run_id()
        tags = {**self.place, **({} if process is None else {PROCESS_TAG: f"{process}:{run_id}"})}
        job = TOY.resolve_job_def("daily")
        run = self.instance.create_run_for_job(job, run_id=run_id, tags=tags, status=status)
        if first_word is not None:
            self.instance.report_engine_event(first_word, run)
        return run_id

    def lost(self, minutes: float) -> set[str]:
        return set(runs.fail_lost_runs(self.instance, datetime.now(UTC) + timedelta(minutes=minutes)))


def test_a_run_lives_while_its_process_does_whatever_became_of_the_code_server(
    toy: Launcher, database: Database, other_process: subprocess.Popen[bytes]
) -> None:
    """Definitions that are reloaded replace the code server; the runs it started go on."""
    started = Started(toy.instance)
    word = f"Started process for run (pid: {other_process.pid})."
    known = started.run(STARTED, process_tag(other_process.pid))
    loading = started.run(dg.DagsterRunStatus.STARTING, first_word=word)
    queued = started.run(dg.DagsterRunStatus.NOT_STARTED)
    toy.instance.create_run_for_job(TOY.resolve_job_def("daily"), status=STARTED)  # of a launcher that names no server
    assert started.lost(minutes=600) == set()
    other_process.kill()
    other_process.wait()
    assert started.lost(minutes=0) == {known, loading}
    assert started.lost(minutes=600) == set(), f"{queued} waits in the queue"
    runs.sync(toy.instance, database)
    assert stored.recent(database, limit=10)["error_message"].to_list() == [runs.KILLED] * 2


def test_a_process_that_never_said_a_word_is_given_time_to_start(toy: Launcher) -> None:
    started = Started(toy.instance)
    run = started.run(dg.DagsterRunStatus.STARTING)
    assert started.lost(minutes=1) == set()
    assert started.lost(minutes=3) == {run}


def test_a_run_of_another_host_lives_while_it_speaks(toy: Launcher) -> None:
    started = Started(toy.instance)
    run = started.run(STARTED, "elsewhere:1:1", first_word="Executing steps")
    assert timedelta(seconds=run_process.SILENCE_SECONDS) * 2 < runs.SILENT, "one word may be late"
    assert started.lost(minutes=14) == set()
    assert started.lost(minutes=16) == {run}


def test_a_run_taken_for_dead_that_ends_well_is_recorded_so(toy: Launcher, database: Database) -> None:
    run = toy.instance.create_run_for_job(TOY.resolve_job_def("daily"), status=STARTED)
    toy.instance.report_run_failed(run, runs.KILLED)
    assert runs.sync(toy.instance, database) == 1
    (event,) = (dg.DagsterEvent(event_type_value="PIPELINE_SUCCESS", job_name="daily"),)
    toy.instance.report_dagster_event(event, run.run_id)
    runs.sync(toy.instance, database)
    (row,) = stored.recent(database, limit=10).to_dicts()
    assert (row["status"], row["error_message"]) == ("success", None)


def test_only_runs_of_a_process_group_are_interrupted(toy: Launcher) -> None:
    """As `sigmasight dev` ends what its code servers run, and no command's."""
    waits = "import signal, sys, time\ntry: print(flush=True); time.sleep(600)\nexcept KeyboardInterrupt: sys.exit(7)"
    command = [
        sys.executable,
        "-c",
        f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n{waits}",
    ]
    inside = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    outside = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    try:
        for process in (inside, outside):
            assert process.stdout is not None
            process.stdout.readline()
        started = Started(toy.instance)
        wanted = started.run(STARTED, process_tag(inside.pid))
        started.run(STARTED, process_tag(outside.pid))
        assert runs.interrupt(toy.instance, inside.pid) == [wanted]
        assert inside.wait(60) == 7
        assert runs.interrupt(toy.instance, inside.pid) == []
        assert outside.poll() is None
    finally:
        for process in (inside, outside):
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
