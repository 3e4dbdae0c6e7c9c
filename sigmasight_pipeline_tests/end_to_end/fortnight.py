"""An operator's hands on an installation whose evenings pass: prices that arrive, ticks, kills, bounded waiting.

What belongs here: the world of the fortnight, and everything that is done to the processes that work on it. What does
not: the order of events, and what must come of them.

What is simulated: time. A session's evening begins when its prices are written into the folder of the price source, and
the schedule is asked what it wants at 00:30 UTC of the day after (Dagster's own "test tick", evaluated by the code
server, its runs launched as the daemon launches them). The sensor `gaps`, which looks every ten minutes, is asked at
once. Everything else is as the operator has it: the processes of `sigmasight dev`, whose daemon ticks the other sensors
by the clock, queues runs, starts them in processes of their own and tries lost ones again.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock
from pathlib import Path
from typing import Any

import dagster as dg
from dagster import DagsterRunStatus, RunsFilter
from dagster._core.scheduler.instigation import InstigatorType

from sigmasight_pipeline.assets import resources
from sigmasight_pipeline.market_data.factory import open_source
from sigmasight_pipeline.operations import backfills, restatement
from sigmasight_pipeline.operations.launcher import RANGE_END_TAG, is_dead, process_of
from sigmasight_pipeline.storage import standing
from sigmasight_pipeline.storage.embedded_cluster import postmaster_pid
from sigmasight_pipeline.storage.embedded_placement import load
from sigmasight_pipeline_tests.end_to_end.installations import CALENDAR
from sigmasight_pipeline_tests.end_to_end.small_books import DAYS, EQUITY, Installed, World
from sigmasight_pipeline_tests.end_to_end.webserver import REPOSITORY, Webserver, processes, waited

SETTINGS = {
    "price_source": "files",
    "first_session": str(DAYS[0]),
    "last_session": str(DAYS[-1]),
    "max_sessions_per_run": "3",
    "regression_window": "20",
    "min_observations": "3",
    "simulation_window": "20",
    "correlation_window": "5",
    "min_common_observations": "3",
    "min_position_value": "0",
    "accuracy_window": "5",
    "accuracy_min_pairs": "3",
}
"""Short look-backs, so that figures of every kind are there within the fortnight; runs of few sessions."""

BEFORE = 2
"""Sessions computed before the fortnight begins."""

PATIENCE = 900.0
"""Seconds one evening may take before it is taken to hang; a quiet machine needs about 30."""

RETICK_SECONDS = 15.0
"""How often the sensor `gaps` is asked while an evening settles; left alone it looks every ten minutes."""

AGAIN_SECONDS = 3.0
"""How often the schedule is asked again."""

START_SCHEDULE = """mutation Start($schedule: ScheduleSelector!) {
  startSchedule(scheduleSelector: $schedule) { __typename ... on PythonError { message } } }"""
RELOAD = """mutation Reload($name: String!) { reloadRepositoryLocation(repositoryLocationName: $name) {
  __typename ... on PythonError { message } } }"""
TERMINATE = """mutation End($id: String!) { terminateRun(runId: $id) {
  __typename ... on TerminateRunFailure { message } ... on PythonError { message } } }"""

UNDER_WAY = [DagsterRunStatus.STARTING, DagsterRunStatus.STARTED]
OPEN = [DagsterRunStatus.QUEUED, DagsterRunStatus.NOT_STARTED, *UNDER_WAY, DagsterRunStatus.CANCELING]


@dataclass(frozen=True)
class FortnightWorld(World):
    """`partly`: of the newest session only the first symbol has a close."""

    partly: bool = False

    def book(self, name: str) -> str:
        """The positions of a book as a file; `dropped` is one for the inbox, which states its equity itself."""
        if name != "dropped":
            return super().book(name)
        rows = [f"DDD,200,12,{DAYS[1]}", f"AAA,-20,10,{DAYS[1]}"]
        return "\n".join([f"# equity: {EQUITY}", "ticker,quantity,entry_price,entry_date", *rows]) + "\n"

    def write(self, folder: Path) -> None:
        """The files of the price source, each put in place as a whole."""
        super().write(folder)
        if self.partly:
            newest, path = str(DAYS[self.days - 1]), folder / "prices.csv"
            kept = [line for line in path.read_text().splitlines() if newest not in line or line.startswith("AAA")]
            path.write_text("\n".join(kept) + "\n")
        resources._source.cache_clear()


@dataclass
class Operator:
    """Who operates the installation `made` through `ui`."""

    made: Installed
    ui: Webserver

    @property
    def instance(self) -> dg.DagsterInstance:
        """Dagster's instance of the installation."""
        return self.made.opened.launcher.instance

    def prices(self, days: int, *, partly: bool = False) -> date:
        """Prices of the first `days` sessions lie in the folder; returns the newest of them."""
        world = self.made.world
        assert isinstance(world, FortnightWorld)
        self.made.world = replace(world, days=days, partly=partly)
        self.made.world.write(self.made.folder)
        return DAYS[days - 1]

    def correct(self, symbol: str, day: date, amount: str) -> None:
        """Another close of a past session in the files."""
        self.made.world = self.made.world.with_correction(symbol, day, amount)
        self.made.world.write(self.made.folder)

    def start_schedule(self) -> None:
        """Turn the schedule on, as the switch in the UI does."""
        selector = {**REPOSITORY, "scheduleName": "after_close"}
        answer = self.ui.ask(START_SCHEDULE, schedule=selector)["startSchedule"]
        assert answer["__typename"] == "ScheduleStateResult", answer

    def evening(self, session: date) -> tuple[list[str], str]:
        """The schedule's tick after `session`: the runs it launched, and what it said where it launched none.

        Where it leaves the session waiting for a range of the sensors (files that are read again, say), it is asked
        again until that has ended.
        """
        at = datetime.combine(session + timedelta(days=1), clock(0, 30), UTC)

        def asked() -> dict[str, Any] | None:
            answer = self.ui.tick("after_close", at)
            if "when this has ended" not in (answer["skipReason"] or ""):
                return answer
            time.sleep(AGAIN_SECONDS)
            return None

        answer = waited(asked, f"the schedule of {session}", PATIENCE)
        launched = [self.ui.launch_run("daily", request["tags"]) for request in answer["runRequests"] or ()]
        return launched, answer["skipReason"] or ""

    def look_for_gaps(self) -> str:
        """The sensor `gaps`, asked now."""
        return str(self.ui.tick_sensor("gaps")["skipReason"])

    def reload(self) -> None:
        """ "Reload definitions"."""
        answer = self.ui.ask(RELOAD, name=REPOSITORY["repositoryLocationName"])["reloadRepositoryLocation"]
        assert answer["__typename"] == "WorkspaceLocationEntry", answer

    def until_answered(self) -> None:
        """Wait until the code server that was killed has a successor that answers, which nobody asks for."""

        def answers() -> str | None:
            try:
                return self.look_for_gaps()
            except (urllib.error.HTTPError, AssertionError, TypeError):  # the UI's ways of saying that nobody answers
                return None

        waited(answers, "a new code server", PATIENCE)

    def terminate(self, run: str) -> None:
        """ "Terminate"."""
        answer = self.ui.ask(TERMINATE, id=run)["terminateRun"]
        assert answer["__typename"] == "TerminateRunSuccess", answer

    def run_of(self, session: date) -> dg.DagsterRun:
        """The run that is to compute `session` last, once its process works."""

        def found() -> dg.DagsterRun | None:
            for run in self.instance.get_runs(RunsFilter(statuses=UNDER_WAY, tags={RANGE_END_TAG: str(session)})):
                if process_of(run) is not None:
                    return run
            return None

        return waited(found, f"the start of a run of {session}", PATIENCE)

    def kill_worker(self, run: dg.DagsterRun) -> None:
        """End the process of a run at once."""
        process = process_of(run)
        assert process is not None
        os.kill(int(process.split(":")[1]), signal.SIGKILL)
        waited(lambda: is_dead(process) or None, "the end of a run's process", 60.0)

    def kill(self, words: str) -> None:
        """End the processes of `sigmasight dev` whose command line has `words`, at once."""
        kill(self.ui, words)

    def kill_postgres(self) -> None:
        """End the server at once, as a lack of memory does, and start it again with the next command."""
        placement = load(self.made.opened.settings.home_path / "postgres")
        assert placement is not None
        pid = postmaster_pid(placement)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        again = [sys.executable, "-m", "sigmasight_pipeline.cli.main", "status"]
        # a shell of the operator's own: this process, which has opened the installation, names the server in variables
        own = {name: value for name, value in os.environ.items() if not name.endswith("DATABASE_URL")}
        ended = subprocess.run(again, env=own, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert "Traceback" not in ended.stderr, ended.stderr
        assert "Prices:" in ended.stdout, ended

    def settled(self, session: date) -> None:
        """Wait until every book is valued through `session`, nothing is owed and nothing waits or runs."""
        started, asked, state = time.monotonic(), 0.0, ""
        while time.monotonic() - started < PATIENCE:
            state = self.unsettled(session)
            if not state:
                return
            if "run " not in state and time.monotonic() - asked > RETICK_SECONDS:
                state, asked = f"{state}; gaps: {self.look_for_gaps()}", time.monotonic()
            time.sleep(1.0)
        raise TimeoutError(f"the evening of {session} does not end: {state}")

    def files_are_read(self) -> bool:
        """Whether the sensor `restatement` has nothing to read again: it remembers the files as they are."""
        (state,) = [
            one
            for one in self.instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
            if one.instigator_name == "restatement"
        ]
        cursor = json.loads(getattr(state.instigator_data, "cursor", None) or "{}")
        source = open_source(self.made.opened.settings, CALENDAR)
        return bool(cursor.get("contents") == source.contents())

    def unsettled(self, session: date) -> str:
        """What has not come to its end yet, in words; '' where everything has."""
        database = self.made.opened.database
        if runs := self.instance.get_runs(RunsFilter(statuses=OPEN), limit=3):
            return "; ".join(f"run {run.run_id[:8]} is {run.status.value}" for run in runs)
        if waiting := backfills.open_requests(database):
            return str(waiting[0])
        missing = standing.missing_snapshots(database, session)
        if not missing.is_empty():
            return str(missing.to_dicts())
        found = restatement.out_of_date(database, self.made.opened.settings, CALENDAR)
        return "" if found is None else found.what


def kill(ui: Webserver, words: str) -> None:
    """End the processes `ui` consists of whose command line has `words`, at once."""
    found = [pid for pid in processes(ui.folder) if words in command_line(pid)]
    assert found, [command_line(pid) for pid in processes(ui.folder)]
    for pid in found:
        os.kill(pid, signal.SIGKILL)


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:  # ended meanwhile
        return ""
