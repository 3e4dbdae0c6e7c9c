"""What a run's process does besides its steps: it names itself, keeps its sessions to itself, and ends when told to."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import dagster as dg
import pytest
from dagster import DagsterRunStatus

from sigmasight_pipeline.operations import launcher, run_errors, run_process
from sigmasight_pipeline.operations.executor import concurrent_in_process_executor
from sigmasight_pipeline.operations.launcher import Chunk, Launcher, Outcome, process_of, this_process
from sigmasight_pipeline.sessions import calendar
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline.storage.run_locks import BookLock, SessionLocks, computing
from sigmasight_pipeline_tests.operations.instances import fresh_instance
from sigmasight_pipeline_tests.operations.toy_jobs import BACKFILL, DAYS

PATIENCE_SECONDS = 60.0
FIRST, LAST = date(2024, 1, 2), date(2024, 1, 5)
CHUNK = Chunk("daily", FIRST, LAST, 4)


@pytest.fixture
def instance(
    server: EmbeddedServer, tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv(run_process.DATABASE_VARIABLE, database_url)
    monkeypatch.setattr(run_process, "ASK_SECONDS", 0.05)
    with fresh_instance(server, tmp_path / "instance", monkeypatch) as made:
        yield made


def made_launcher(
    instance: dg.DagsterInstance, work: Callable[[dg.AssetExecutionContext], None], told: Callable[[str], None] = print
) -> Launcher:
    @dg.asset(partitions_def=DAYS, backfill_policy=BACKFILL)
    def values(context: dg.AssetExecutionContext) -> None:
        work(context)

    job = dg.define_asset_job("daily", selection=[values], partitions_def=DAYS)
    executor = concurrent_in_process_executor
    return Launcher(instance, dg.Definitions(assets=[values], jobs=[job], executor=executor), told)


def run_of(instance: dg.DagsterInstance, outcome: Outcome) -> dg.DagsterRun:
    run = instance.get_run_by_id(outcome.run_id)
    assert run is not None
    return run


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)


def test_a_run_names_its_process_and_its_range(instance: dg.DagsterInstance, database_url: str) -> None:
    seen: list[list[str]] = []
    outcome = made_launcher(instance, lambda _context: seen.append(computing(database_url))).run(CHUNK)
    run = run_of(instance, outcome)
    assert process_of(run) == this_process()
    assert run.tags[launcher.SESSIONS_TAG] == "2024-01-02 to 2024-01-05 (4)"
    assert seen == [[f"run {run.run_id[:8]}"]], "it kept its sessions to itself while it computed"
    assert computing(database_url) == []


def test_a_run_started_elsewhere_is_tagged_by_whoever_runs_it(instance: dg.DagsterInstance) -> None:
    """As the daemon launches it, or the UI: without words of ours, or with those of the run it was made from."""
    job = made_launcher(instance, lambda _context: None).definitions.resolve_job_def("daily")
    tags = {launcher.PROCESS_TAG: "host:1:2:another-run", "dagster/partition": str(FIRST)}
    result = job.execute_in_process(instance=instance, tags=tags, partition_key=str(FIRST))
    run_process.introduce(instance, result.dagster_run)
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    assert process_of(run) == this_process()
    assert run.tags[launcher.SESSIONS_TAG] == str(FIRST)


def test_a_run_waits_for_the_sessions_of_another_and_says_so(instance: dg.DagsterInstance, database_url: str) -> None:
    told: list[str] = []
    computed = threading.Event()
    begun = made_launcher(instance, lambda _context: computed.set(), told.append)
    with SessionLocks(database_url, "another-run") as another:
        assert another.take([LAST]) == []
        outcomes: list[Outcome] = []
        waiting = threading.Thread(target=lambda: outcomes.append(begun.run(CHUNK)))
        waiting.start()
        until(lambda: bool(told))
        assert told == ["Waiting for run another-, which computes sessions of this range or changes the books."]
        assert not computed.wait(0.5), "it computed beside the other"
    waiting.join(PATIENCE_SECONDS)
    assert computed.is_set()
    assert outcomes[0].succeeded, outcomes
    assert any(entry.message == told[0] for entry in instance.all_logs(outcomes[0].run_id))


def test_a_run_waits_for_an_import_and_one_that_applies_it_for_runs(
    instance: dg.DagsterInstance, database_url: str
) -> None:
    """Neither sees books that change while it works."""

    @dg.asset
    def positions() -> None:
        pass

    told: list[str] = []
    job = dg.define_asset_job("reference", selection=[positions])
    applying = Launcher(
        instance,
        dg.Definitions(assets=[positions], jobs=[job], executor=concurrent_in_process_executor),
        told.append,
    )
    computing_run = made_launcher(instance, lambda _context: None, told.append)
    later = calendar().offset(LAST, 1)
    with ThreadPoolExecutor(1) as thread:  # Dagster configures logging in each run: one at a time in a process
        for launched, chunk in ((computing_run, CHUNK), (applying, Chunk("reference"))):
            with BookLock(database_url, "import of my.csv") as command:
                assert command.take() == []
                waiting = thread.submit(launched.run, chunk)
                until(lambda: bool(told))
                assert not waiting.done()
            assert waiting.result(PATIENCE_SECONDS).succeeded
            assert told.pop().startswith("Waiting for import of my.csv, which ")
        with SessionLocks(database_url, "another-run") as another:
            assert another.take([later]) == []
            waiting = thread.submit(applying.run, Chunk("reference"))
            until(lambda: bool(told))
            assert told == ["Waiting for run another-, which reads or changes the books."]
            assert not waiting.done()
        assert waiting.result(PATIENCE_SECONDS).succeeded


def test_runs_of_other_sessions_do_not_wait(instance: dg.DagsterInstance, database_url: str) -> None:
    with SessionLocks(database_url, "another-run") as another:
        assert another.take([calendar().offset(LAST, 1)]) == []
        assert made_launcher(instance, lambda _context: None).run(CHUNK).succeeded


@pytest.mark.parametrize("end", ["canceled", "failed"])
def test_a_run_that_was_ended_while_it_waited_computes_nothing(
    instance: dg.DagsterInstance, database_url: str, end: str
) -> None:
    """A person terminated it, or it was taken for dead."""
    told: list[str] = []
    computed = threading.Event()

    def note(sentence: str) -> None:
        told.append(sentence)
        (record,) = instance.get_run_records()
        if end == "failed":
            instance.report_run_failed(record.dagster_run, "it was taken for dead")
        else:
            instance.report_run_canceling(record.dagster_run)

    begun = made_launcher(instance, lambda _context: computed.set(), note)
    with SessionLocks(database_url, "another-run") as another:
        assert another.take([LAST]) == []
        outcome = begun.run(CHUNK)
    assert told
    assert not outcome.succeeded
    assert outcome.errors == (("it was taken for dead",) if end == "failed" else (run_errors.CANCELED,))
    assert not computed.is_set()
    (record,) = instance.get_run_records()
    assert record.dagster_run.status.value == end.upper().replace("FAILED", "FAILURE")


def test_a_command_s_run_that_is_terminated_in_the_ui_ends(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No signal reaches its process from there: it looks itself."""
    monkeypatch.setattr(run_process.EndWatch.__init__, "__defaults__", (0.1,))

    def work(context: dg.AssetExecutionContext) -> None:
        instance.report_run_canceling(context.run)
        for _ in range(int(PATIENCE_SECONDS * 100)):
            time.sleep(0.01)

    started = time.monotonic()
    outcome = made_launcher(instance, work).run(CHUNK)
    assert outcome.errors == (run_errors.CANCELED,)
    assert time.monotonic() - started < PATIENCE_SECONDS / 2
    (record,) = instance.get_run_records()
    assert record.dagster_run.status is DagsterRunStatus.CANCELED


def test_a_silent_run_says_that_it_lives(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_process.Heartbeat.__init__, "__defaults__", (0.3,))
    outcome = made_launcher(instance, lambda _context: time.sleep(1.5)).run(CHUNK)
    said = [entry.message for entry in instance.all_logs(outcome.run_id)]
    assert 2 <= said.count(run_process.HEARTBEAT) <= 5
