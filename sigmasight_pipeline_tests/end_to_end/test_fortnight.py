"""A fortnight of an installation through its real daemon: prices on time, late and missing, corrections, and kills.

At the end nothing tells that anything happened: every table is that of an installation that computed the same world
undisturbed. What of it is simulated is said in ``fortnight``: the time, and nothing else.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import dagster as dg
import polars as pl
import psycopg
import pytest
from dagster import DagsterRunStatus, RunsFilter

from sigmasight_pipeline.cli.installation import Installation
from sigmasight_pipeline.operations import backfills, jobs
from sigmasight_pipeline.operations.run_errors import stored_errors
from sigmasight_pipeline.operations.run_process import sessions_of
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline_tests.conftest import temporary_home
from sigmasight_pipeline_tests.end_to_end.fortnight import BEFORE, OPEN, PATIENCE, SETTINGS, FortnightWorld, Operator
from sigmasight_pipeline_tests.end_to_end.installations import embedded_installation, installation
from sigmasight_pipeline_tests.end_to_end.small_books import DAYS, EQUITY, Installed, command
from sigmasight_pipeline_tests.end_to_end.stored import assert_same_contents, contents
from sigmasight_pipeline_tests.end_to_end.webserver import dev, processes, waited

pytestmark = pytest.mark.slow

EVENTS_OF_A_RUN = 450
"""Events of a run whatever its sessions, at most: 440 of one of everything that succeeds, as the guide states (492 with
one session, 596 with three), and a sentence for each time it waits for another."""

EVENTS_OF_A_SESSION = 2
"""Events of each asset and session of a run."""


def test_a_fortnight_leaves_what_an_undisturbed_computation_does(server: EmbeddedServer, tmp_path: Path) -> None:
    market = tmp_path / "market"
    market.mkdir()
    with temporary_home() as home, embedded_installation(home, **SETTINGS, files_dir=str(market)) as opened:
        made = Installed(opened, market, FortnightWorld(days=BEFORE))
        made.compute()
        with dev(home, sensors="on") as ui:
            first_week(Operator(made, ui))
            daemon_killed(Operator(made, ui))
            ui.killed = True
        with dev(home, sensors="on") as ui:
            second_week(Operator(made, ui))
        found = contents(opened.database)
        assert_healthy(made)
        assert_grown_as_stated(opened)
        green = {name: materialized(opened, name) for name in jobs.asset_names("daily")}
        audited = findings()
        with undisturbed(server, tmp_path / "undisturbed", made.world) as other:
            assert audited == findings(), "what the world lacks (prices of proxies, a whole window), and nothing else"
            assert_same_contents(found, contents(other.opened.database), "after the fortnight")
            for name, partitions in green.items():
                assert partitions == materialized(other.opened, name), f"{name} is green with nothing in it, or not"


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Say how long something took (shown with -s), and what it was if it fails."""
    started = time.monotonic()
    print(f"\n{what} ...", end="", flush=True)  # noqa: T201
    yield
    print(f" {time.monotonic() - started:.0f} s", end="", flush=True)  # noqa: T201


def first_week(operator: Operator) -> None:
    """Ends with the book replaced over the weekend."""
    operator.start_schedule()
    with timed("Monday: prices on time"):
        session = operator.prices(3)
        (run,), _ = operator.evening(session)
        operator.ui.finished_run(run)
        operator.settled(session)
    with timed("Tuesday: definitions are reloaded while the session of a split is computed"):
        session = operator.prices(4)
        (run,), _ = operator.evening(session)
        operator.run_of(session)
        operator.reload()
        operator.ui.finished_run(run)
        operator.settled(session)
    with timed("Wednesday: no prices by night, in the morning they come, and the run's process is killed"):
        launched, said = operator.evening(DAYS[4])
        assert not launched
        assert "for prices" in said
        session = operator.prices(5)
        assert f"{session}" in operator.look_for_gaps()
        operator.kill_worker(operator.run_of(session))
        operator.settled(session)
    with timed("Thursday: a correction of the first session comes with the prices"):
        operator.correct("AAA", DAYS[0], "0.5")
        session = operator.prices(6)
        operator.evening(session)
        waited(lambda: restated(operator.made.opened), "the file to be read again and followed", PATIENCE)
        operator.settled(session)
    with timed("Friday: most prices are missing by night, in the morning they are there"):
        session = operator.prices(7, partly=True)
        (run,), _ = operator.evening(session)
        waited(lambda: operator.ui.status(run) == "FAILURE" or None, "a run without prices", PATIENCE)
        operator.prices(7)
        operator.settled(session)
    with timed("Saturday: a book is replaced"):
        operator.made.world = replace(operator.made.world, quantity=130)
        operator.made.import_book("changed", "--replace")
        operator.settled(session)


def daemon_killed(operator: Operator) -> None:
    """Monday: the code server is killed; Tuesday: the daemon."""
    with timed("Monday: the code server is killed while a run is under way"):
        session = operator.prices(8)
        operator.evening(session)
        operator.run_of(session)
        operator.kill("dagster api grpc")
        operator.until_answered()
        operator.settled(session)
    with timed("Tuesday: the daemon is killed while a run is under way"):
        session = operator.prices(9)
        operator.evening(session)
        operator.run_of(session)
        operator.kill("dagster._daemon")
        waited(lambda: not processes(operator.ui.folder) or None, "the end of what served", PATIENCE)


def second_week(operator: Operator) -> None:
    """From the morning after the daemon was killed, which somebody started again."""
    operator.settled(DAYS[8])
    with timed("Wednesday: a person terminates what catches up with late prices, which nobody starts again"):
        session = operator.prices(10)
        assert f"{session}" in operator.look_for_gaps()
        run = operator.run_of(session)
        operator.terminate(run.run_id)
        waited(lambda: operator.ui.status(run.run_id) == "CANCELED" or None, "the end of a run", PATIENCE)
        waited(lambda: not backfills.open_requests(operator.made.opened.database) or None, "its range", PATIENCE)
        assert "before" in operator.look_for_gaps()
        assert operator.unsettled(session)
        assert not operator.instance.get_runs(RunsFilter(statuses=OPEN))
    with timed("Thursday: the next night takes both sessions, and PostgreSQL is killed meanwhile"):
        session = operator.prices(11)
        operator.evening(session)
        operator.run_of(session)
        operator.kill_postgres()
        operator.settled(session)
    with timed("Friday: prices on time, and a file for a new book in the inbox"):
        session = operator.prices(12)
        operator.made.opened.settings.inbox_path.mkdir(exist_ok=True)
        (operator.made.opened.settings.inbox_path / "dropped.csv").write_text(operator.made.world.book("dropped"))
        operator.evening(session)
        waited(lambda: "dropped" in codes(operator.made.opened) or None, "the new book", PATIENCE)
        operator.settled(session)
    with timed("Saturday: what changed in the files is read again for the last time"):
        waited(lambda: operator.files_are_read() or None, "the files to be read again", PATIENCE)
        operator.settled(session)


def restated(opened: Installation) -> bool | None:
    """Whether a restatement in more than one run is done."""
    asked = [one for one in backfills.recent(opened.database, 20) if one.requested_by == "restatement"]
    return any(one.status == "completed" and len(one.chunks) > 1 for one in asked) or None


def codes(opened: Installation) -> list[str]:
    return opened.database.query("SELECT code FROM sigmasight.portfolios")["code"].to_list()


def materialized(opened: Installation, name: str) -> set[str]:
    return set(opened.launcher.instance.get_materialized_partitions(dg.AssetKey(name)))


@contextmanager
def undisturbed(server: EmbeddedServer, folder: Path, world: FortnightWorld) -> Iterator[Installed]:
    """The same world, computed by commands in runs as long as they come."""
    folder.mkdir()
    settings = {**SETTINGS, "files_dir": str(folder), "max_sessions_per_run": "252"}
    with temporary_home() as home, installation(server, home, **settings) as opened:
        made = Installed(opened, folder, world)
        made.compute()
        made.import_book("dropped", "--equity", EQUITY, "--inception", str(DAYS[1]))
        yield made


def assert_healthy(made: Installed) -> None:
    """By everything an operator can ask."""
    assert made.broken() == {}
    assert made.outstanding() == 0
    told = json.loads(command("gaps", "--json").stdout)
    assert (told["gaps"], told["out_of_date"]) == ([], None)
    instance = made.opened.launcher.instance
    assert instance.get_runs(RunsFilter(statuses=OPEN)) == []
    assert backfills.open_requests(made.opened.database) == []
    ended = {run.run_id: outcome(instance, run) for run in instance.get_runs()}
    recorded = dict(made.opened.database.query("SELECT run_id, status FROM sigmasight.batch_runs").iter_rows())
    assert recorded == ended, "every run's end is recorded"
    assert DagsterRunStatus.CANCELED.value.lower() in ended.values()


def outcome(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """How a run that has ended is recorded: as Dagster has it, but that an interruption is somebody's wish.

    The end of `sigmasight dev` interrupts the runs under way, which Dagster calls failed.
    """
    interrupted = run.status is DagsterRunStatus.FAILURE and stored_errors(instance, run.run_id).interrupted
    return "canceled" if interrupted else run.status.value.lower()


def findings() -> list[tuple[str, str]]:
    """What `sigmasight audit` finds, which must be no error: (code, what) of each warning."""
    found = json.loads(command("audit", "--json", status=1).stdout)["findings"]
    assert {one["severity"] for one in found} <= {"WARN"}, found
    return [(one["code"], one["what"]) for one in found]


def assert_grown_as_stated(opened: Installation) -> None:
    """Of every run, at most as many events as the guide says."""
    runs = {run.run_id: run for run in opened.launcher.instance.get_runs()}
    with psycopg.connect(opened.dagster_url) as connection:
        counts = dict(connection.execute("SELECT run_id, count(*) FROM event_logs GROUP BY 1").fetchall())
        checks = dict(connection.execute("SELECT run_id, count(*) FROM asset_check_executions GROUP BY 1").fetchall())
    assets = len(jobs.asset_names("daily"))
    seen = pl.DataFrame(
        [
            {
                "run": f"{run.job_name} {run_id[:8]} {run.status.value}",
                "sessions": len(sessions_of(run.tags)),
                "assets": len(run.asset_selection or ()),
                "events": counts.get(run_id, 0),
                "checks": checks.get(run_id, 0),
                "most": EVENTS_OF_A_RUN + EVENTS_OF_A_SESSION * assets * len(sessions_of(run.tags)),
            }
            for run_id, run in runs.items()
        ]
    )
    with pl.Config(tbl_rows=-1):
        print(seen.sort("events", descending=True))  # noqa: T201
    assert seen.filter(pl.col("events") > pl.col("most")).is_empty(), seen
