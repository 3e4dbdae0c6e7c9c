"""What runs say on the console: a line where one begins and ends, what failed in words, and not what is only noise."""

import re
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from sigmasight_pipeline.operations.launcher import QUIET_LOGGERS, REASON_TAG, SESSIONS_TAG, Chunk, Launcher
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline_tests.operations.instances import fresh_instance

TAGS = {SESSIONS_TAG: "2024-01-02", REASON_TAG: "gap of alpha, 2024-01-02"}


@dg.asset(check_specs=[dg.AssetCheckSpec("complete", asset="values", blocking=True)])
def values(context: dg.AssetExecutionContext) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster inspects the bare class
    context.log.debug("a detail")
    context.log.info("a remark")
    context.log.warning("a warning")
    if context.run.tags.get("fails") == "raise":
        raise ValueError("the database went away")
    passed = context.run.tags.get("fails") != "check"
    return dg.MaterializeResult(
        check_results=[dg.AssetCheckResult(passed=passed, check_name="complete", description="one is missing")]
    )


DEFINITIONS = dg.Definitions(
    assets=[values],
    jobs=[dg.define_asset_job("daily", selection=[values])],
    executor=dg.in_process_executor,
)


@pytest.fixture
def instance(
    server: EmbeddedServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],  # before the handler is made: it writes to what standard error is then
) -> Iterator[dg.DagsterInstance]:
    with fresh_instance(server, tmp_path / "instance", monkeypatch) as made:
        yield made


def said(instance: dg.DagsterInstance, capsys: pytest.CaptureFixture[str], **tags: str) -> list[str]:
    """The lines a run says, without time and identifier."""
    capsys.readouterr()
    job = DEFINITIONS.resolve_job_def("daily")
    # as where nobody listens
    Launcher(instance, DEFINITIONS)._execute(job, {"loggers": QUIET_LOGGERS}, {**TAGS, **tags}, None)
    lines = capsys.readouterr().err.splitlines()
    shape = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4} - run [0-9a-f]{8} daily(.*)$")
    assert all(map(shape.match, lines)), lines
    return [shape.sub(r"\1", line) for line in lines]


def test_a_run_that_succeeds_says_why_it_began(
    instance: dg.DagsterInstance, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(instance, capsys) == [
        ": 2024-01-02 begins: gap of alpha, 2024-01-02",
        ": 2024-01-02 succeeded",
    ]


def test_what_failed_is_told_in_words_and_no_trace(
    instance: dg.DagsterInstance, capsys: pytest.CaptureFixture[str]
) -> None:
    begins, *_, failed, ends = said(instance, capsys, fails="raise")
    assert begins.endswith("gap of alpha, 2024-01-02")
    assert failed == ": values: ValueError: the database went away"
    assert ends.startswith(": 2024-01-02 FAILED")
    assert ": the check values.complete failed: one is missing" in said(instance, capsys, fails="check")


def test_a_command_reports_by_itself(instance: dg.DagsterInstance, capsys: pytest.CaptureFixture[str]) -> None:
    Launcher(instance, DEFINITIONS).run(Chunk("daily"))
    assert capsys.readouterr().err == ""


def test_messages_of_steps_are_kept_whatever_the_console_shows(instance: dg.DagsterInstance) -> None:
    outcome = Launcher(instance, DEFINITIONS).run(Chunk("daily"))
    stored = instance.all_logs(outcome.run_id)
    assert {"a remark", "a warning"} <= {entry.user_message for entry in stored}
    assert {"RUN_START", "STEP_START", "STEP_SUCCESS"} <= {
        entry.dagster_event.event_type.name for entry in stored if entry.dagster_event
    }, "events have level DEBUG and are stored all the same"
