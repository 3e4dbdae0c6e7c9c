"""`sigmasight dev` for tests: the real webserver, daemon and code server as processes, spoken to as the UI does.

What belongs here: starting and ending them, GraphQL, and waiting with a bound. What does not: assertions about results.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

PATIENCE = 300.0
"""Seconds after which something is taken to hang; a loaded machine needs a minute for what takes ten seconds."""

REPOSITORY = {"repositoryLocationName": "sigmasight_pipeline", "repositoryName": "__repository__"}

LAUNCH_BACKFILL = """mutation Launch($parameters: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $parameters) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
BACKFILL = """query Backfill($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill {
  status error { message }
  runs(limit: 100) { id status creationTime startTime endTime tags { key value } assetSelection { path } } } } }"""
LAUNCH_RUN = """mutation Launch($parameters: ExecutionParams!) { launchRun(executionParams: $parameters) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  ... on RunConfigValidationInvalid { errors { message } } } }"""
RUN = """query Run($id: ID!) { runOrError(runId: $id) { ... on Run { status creationTime startTime endTime } } }"""
TICK = """mutation Tick($schedule: ScheduleSelector!, $at: Float!) {
  scheduleDryRun(selectorData: $schedule, timestamp: $at) { __typename ... on PythonError { message }
  ... on DryRunInstigationTick { evaluationResult { skipReason error { message }
  runRequests { runKey runConfigYaml tags { key value } } } } } }"""
TICK_SENSOR = """mutation Tick($sensor: SensorSelector!, $cursor: String) {
  sensorDryRun(selectorData: $sensor, cursor: $cursor) { __typename ... on PythonError { message }
  ... on DryRunInstigationTick { evaluationResult { skipReason cursor error { message }
  runRequests { runKey jobName tags { key value } } } } } }"""
START_SENSOR = """mutation Start($sensor: SensorSelector!) {
  startSensor(sensorSelector: $sensor) { __typename ... on PythonError { message } } }"""


@dataclass
class Webserver:
    """A running Dagster UI; `output` is the file everything the processes print goes to."""

    url: str
    output: Path
    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)
    killed: bool = False

    def ask(self, query: str, **variables: Any) -> Any:
        """The answer to a GraphQL query or mutation."""
        request = urllib.request.Request(  # noqa: S310  # our own address on this machine
            f"{self.url}/graphql",
            data=json.dumps({"query": query, "variables": variables}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:  # noqa: S310  # as above
            answer = json.load(response)
        assert not answer.get("errors"), answer["errors"]
        return answer["data"]

    def kill(self) -> None:
        """End every process at once and without a word, as a power cut would."""
        self.killed = True
        for pid in processes(self.folder):
            _kill(pid)
        waited(lambda: not processes(self.folder) or None, "the end of all processes", 60.0)

    def start_sensor(self, name: str) -> None:
        """Turn a sensor on, as the switch in the UI does."""
        answer = self.ask(START_SENSOR, sensor={**REPOSITORY, "sensorName": name})["startSensor"]
        assert answer["__typename"] == "Sensor", answer

    def tick_sensor(self, name: str, cursor: str | None = None) -> dict[str, Any]:
        """What one evaluation of a sensor by the code server answers; it has its new `cursor`."""
        selector = {**REPOSITORY, "sensorName": name}
        answer = self.ask(TICK_SENSOR, sensor=selector, cursor=cursor)["sensorDryRun"]
        assert answer["__typename"] == "DryRunInstigationTick", answer
        result: dict[str, Any] = answer["evaluationResult"]
        assert result["error"] is None, result
        return result

    def launch_backfill(self, assets: Sequence[str], days: Sequence[date]) -> str:
        """Launch what "Materialize" launches for `assets` and the partitions `days`; returns the backfill's id."""
        parameters = {
            "assetSelection": [{"path": [name]} for name in assets],
            "partitionNames": [day.isoformat() for day in days],
        }
        answer = self.ask(LAUNCH_BACKFILL, parameters=parameters)["launchPartitionBackfill"]
        assert answer["__typename"] == "LaunchBackfillSuccess", answer
        return str(answer["backfillId"])

    def finished_backfill(
        self, backfill: str, *, reaches_on: bool = False, patience: float = PATIENCE
    ) -> dict[str, Any]:
        """The backfill once it has succeeded, within `patience` seconds; it has its runs.

        One that `reaches_on` through look-backs to sessions without prices leaves these without materialisation, which
        Dagster calls failed; every run of it has succeeded all the same.
        """
        wanted = ("COMPLETED_SUCCESS", *(["COMPLETED_FAILED"] if reaches_on else []))

        def found() -> dict[str, Any] | None:
            state = self.ask(BACKFILL, id=backfill)["partitionBackfillOrError"]
            failed = [run for run in state["runs"] if run["status"] in ("FAILURE", "CANCELED")]
            assert not failed, failed
            assert "FAILED" not in state["status"] or state["status"] in wanted, state
            return dict(state) if state["status"] in wanted else None

        return waited(found, f"backfill {backfill}", patience)

    def tick(self, schedule: str, at: datetime) -> dict[str, Any]:
        """What the schedule answers to a tick at a moment, evaluated by the code server as the daemon has it done."""
        selector = {**REPOSITORY, "scheduleName": schedule}
        answer = self.ask(TICK, schedule=selector, at=at.astimezone(UTC).timestamp())["scheduleDryRun"]
        assert answer["__typename"] == "DryRunInstigationTick", answer
        result: dict[str, Any] = answer["evaluationResult"]
        assert result["error"] is None, result
        return result

    def launch_run(self, job: str, tags: Sequence[Mapping[str, str]], config: Mapping[str, Any] | None = None) -> str:
        """Put a run of `job` into the daemon's queue; returns its id."""
        parameters = {
            "selector": {**REPOSITORY, "jobName": job},
            "runConfigData": dict(config or {}),
            "executionMetadata": {"tags": [dict(tag) for tag in tags]},
        }
        answer = self.ask(LAUNCH_RUN, parameters=parameters)["launchRun"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return str(answer["run"]["runId"])

    def status(self, run: str) -> str:
        """The status of a run."""
        return str(self.ask(RUN, id=run)["runOrError"]["status"])

    def finished_run(self, run: str) -> dict[str, Any]:
        """The run once it has succeeded."""

        def found() -> dict[str, Any] | None:
            state = self.ask(RUN, id=run)["runOrError"]
            assert state["status"] not in ("FAILURE", "CANCELED"), state
            return dict(state) if state["status"] == "SUCCESS" else None

        return waited(found, f"run {run}")


def waited(look: Callable[[], T | None], what: str, seconds: float = PATIENCE) -> T:
    """What `look` finds in the end; TimeoutError when it finds nothing in time."""
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        if (found := look()) is not None:
            return found
        time.sleep(0.2)
    raise TimeoutError(f"{what} took longer than {seconds:.0f} seconds")


@contextmanager
def dev(folder: Path, *, sensors: str = "off") -> Iterator[Webserver]:
    """`sigmasight dev` in the environment of this process, standing in `folder`; ended as a user ends it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "sigmasight_pipeline.cli.main", "dev", "--port", str(port)]
    server = Webserver(f"http://127.0.0.1:{port}", folder / "dev.log", folder)
    mark = {"SIGMASIGHT_TEST_PROCESSES": str(folder), "SIGMASIGHT_SENSORS": sensors}
    started = time.monotonic()
    with server.output.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **mark}, stdout=output, stderr=subprocess.STDOUT
        )
    try:

        def answers() -> bool | None:
            assert process.poll() is None, server.output.read_text()
            try:
                return bool(server.ask("{ version }"))
            except OSError:
                return None

        waited(answers, "starting the webserver")
        server.seconds["webserver"] = time.monotonic() - started
        waited(lambda: _healthy(server) or None, "starting the daemon")
        server.seconds["webserver and daemon"] = time.monotonic() - started
        yield server
        if server.killed:
            return
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0, server.output.read_text()
        waited(lambda: not processes(folder) or None, "the end of all processes", 60.0)
    finally:
        for left in (process.pid, *processes(folder)):
            _kill(left)
        process.wait()


def _healthy(server: Webserver) -> bool:
    query = "{ instance { daemonHealth { allDaemonStatuses { daemonType required healthy } } } }"
    statuses = server.ask(query)["instance"]["daemonHealth"]["allDaemonStatuses"]
    return all(status["healthy"] for status in statuses if status["required"])


def processes(folder: Path) -> list[int]:
    """Living processes that `dev` started in `folder`, whoever their parent is (Linux; none elsewhere)."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes()
            zombie = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
        except OSError:  # ended meanwhile, or another user's
            continue
        if f"SIGMASIGHT_TEST_PROCESSES={folder}\0".encode() in environment and not zombie:
            found.append(int(entry.name))
    return found


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
