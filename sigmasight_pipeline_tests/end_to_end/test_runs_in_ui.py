"""Runs of the command line in the Dagster UI, and runs through a reload: theirs as much as any other."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest

from sigmasight_pipeline.cli.installation import Installation
from sigmasight_pipeline.operations import runs
from sigmasight_pipeline.operations.launcher import RANGE_END_TAG, RANGE_START_TAG, REASON_TAG, SESSIONS_TAG
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline_tests.conftest import temporary_home
from sigmasight_pipeline_tests.end_to_end.installations import import_demo, installation, run_history, run_sessions
from sigmasight_pipeline_tests.end_to_end.webserver import REPOSITORY, Webserver, dev, waited

pytestmark = pytest.mark.slow

FIRST, LAST = date(2024, 1, 2), date(2024, 1, 8)
JOB = """query Job($job: PipelineSelector!, $filter: RunsFilter!) {
  pipelineOrError(params: $job) { ... on Pipeline { runs(limit: 20) { id status } } }
  runsOrError(filter: $filter) { ... on Runs { results { id status canTerminate
    repositoryOrigin { repositoryName repositoryLocationName } tags { key value } } } } }"""
AGAIN = """mutation Again($parameters: ReexecutionParams!) { launchRunReexecution(reexecutionParams: $parameters) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
RELOAD = """mutation Reload($name: String!) { reloadRepositoryLocation(repositoryLocationName: $name) {
  __typename ... on PythonError { message } } }"""
STEPS = """query Steps($id: ID!) { runOrError(runId: $id) { ... on Run { stepKeysToExecute } } }"""


@pytest.fixture(scope="module")
def opened(server: EmbeddedServer) -> Iterator[Installation]:
    with temporary_home() as home, installation(server, home, first_session="2023-09-01") as made:
        import_demo(made)
        run_history(made, FIRST, LAST)
        yield made


@pytest.fixture(scope="module")
def ui(opened: Installation) -> Iterator[Webserver]:
    with dev(opened.settings.home_path) as running:
        yield running


def of_job(ui: Webserver, job: str) -> list[dict[str, Any]]:
    """The runs the page of a job lists."""
    selector = {**REPOSITORY, "pipelineName": job}
    label = f"{REPOSITORY['repositoryName']}@{REPOSITORY['repositoryLocationName']}"
    own = {"pipelineName": job, "tags": [{"key": ".dagster/repository", "value": label}]}
    found = ui.ask(JOB, job=selector, filter=own)
    assert {run["id"] for run in found["pipelineOrError"]["runs"]} == {
        run["id"] for run in found["runsOrError"]["results"]
    }
    results: list[dict[str, Any]] = found["runsOrError"]["results"]
    return results


def tags_of(run: dict[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in run["tags"]}


def test_runs_of_the_command_line_are_runs_of_their_jobs(ui: Webserver) -> None:
    (run,) = of_job(ui, "daily")
    assert run["repositoryOrigin"] == REPOSITORY
    assert tags_of(run)[SESSIONS_TAG] == f"{FIRST} to {LAST} (5)"
    assert tags_of(run)[REASON_TAG]
    assert not [name for name in tags_of(run) if "process" in name], "what only programs read is not shown"
    assert of_job(ui, "market_data")
    assert of_job(ui, "reference")


def test_a_run_of_the_command_line_is_executed_again_as_a_whole(opened: Installation, ui: Webserver) -> None:
    before = opened.database.count(tables.portfolio_snapshots)
    parent = of_job(ui, "daily")[-1]["id"]
    answer = ui.ask(AGAIN, parameters={"parentRunId": parent, "strategy": "ALL_STEPS"})["launchRunReexecution"]
    assert answer["__typename"] == "LaunchRunSuccess", answer
    ui.finished_run(answer["run"]["runId"])
    assert opened.database.count(tables.portfolio_snapshots) == before


def test_a_failed_run_of_the_command_line_goes_on_from_its_failure(opened: Installation, ui: Webserver) -> None:
    """The steps that succeeded are not run again."""
    with opened.database.connect() as connection:
        connection.execute("ALTER TABLE sigmasight.portfolio_risk_metrics RENAME TO hidden")
    failed = run_sessions(opened, LAST)
    with opened.database.connect() as connection:
        connection.execute("ALTER TABLE sigmasight.hidden RENAME TO portfolio_risk_metrics")
    assert not failed.succeeded
    parameters = {"parentRunId": failed.run_id, "strategy": "FROM_FAILURE"}
    answer = ui.ask(AGAIN, parameters=parameters)["launchRunReexecution"]
    assert answer["__typename"] == "LaunchRunSuccess", answer
    ui.finished_run(answer["run"]["runId"])
    steps = set(ui.ask(STEPS, id=answer["run"]["runId"])["runOrError"]["stepKeysToExecute"])
    assert tables.portfolio_risk_metrics.name in steps
    assert tables.position_values.name not in steps


def test_a_run_goes_on_through_a_reload_of_the_definitions(opened: Installation, ui: Webserver) -> None:
    """The code server is another one afterwards and knows nothing of the run, which is nobody's fault."""
    tags = [{"key": RANGE_START_TAG, "value": str(FIRST)}, {"key": RANGE_END_TAG, "value": str(LAST)}]
    run = ui.launch_run("daily", tags)
    waited(lambda: ui.status(run) in ("STARTED", "SUCCESS") or None, "the start of a run")
    assert ui.status(run) == "STARTED", "it was over before the reload: the range is too short for this test"
    reloaded = ui.ask(RELOAD, name=REPOSITORY["repositoryLocationName"])["reloadRepositoryLocation"]
    assert reloaded["__typename"] == "WorkspaceLocationEntry", reloaded
    ui.tick_sensor("run_status")
    ui.finished_run(run)
    runs.sync(opened.launcher.instance, opened.database)
    rows = opened.database.query("SELECT status FROM sigmasight.batch_runs WHERE run_id = %s", (run,))
    assert rows["status"].to_list() == ["success"]
    assert [one["id"] for one in of_job(ui, "daily")].count(run) == 1
    retried = [one for one in of_job(ui, "daily") if tags_of(one).get("dagster/parent_run_id") == run]
    assert retried == [], "it was taken for dead and started again"
