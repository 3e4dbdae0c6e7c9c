"""The range launcher: a range of sessions becomes runs of at most 252 sessions, in order. Used by all who start runs.

What belongs here: cutting a range into chunks, the tags and configuration that make one chunk one Dagster run, running
chunks one after another in this process, or handing the next one to a schedule. What does not: deciding which range
needs running, and any calculation.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
from dagster import DagsterRunStatus, RunsFilter
from dagster._core.errors import DagsterAssetCheckFailedError
from dagster_shared.error import SerializableErrorInfo

from sigmasight_pipeline.assets import progress
from sigmasight_pipeline.assets.market_data import FIRST_FAILING_SESSION
from sigmasight_pipeline.sessions import SessionCalendar

RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"
TRIGGER_TAG = "sigmasight/trigger"
PROCESS_TAG = "sigmasight/process"
PORTFOLIOS_TAG = "sigmasight/portfolios"

QUIET_LOGGERS = {"console": {"config": {"log_level": "CRITICAL"}}}
"""Runs inside a command line process report through its own progress display; Dagster's event log has everything."""


@dataclass(frozen=True)
class Chunk:
    """One Dagster run: a job over consecutive sessions (both ends included), or over none (reference)."""

    job: str
    first: date | None = None
    last: date | None = None
    session_count: int = 0
    portfolios: tuple[str, ...] = ()
    trigger: str = "manual"

    @property
    def tags(self) -> dict[str, str]:
        """Run tags: the range, who started it, and for which portfolios."""
        tags = {TRIGGER_TAG: self.trigger}
        if self.first is not None and self.last is not None:
            tags |= {RANGE_START_TAG: self.first.isoformat(), RANGE_END_TAG: self.last.isoformat()}
        if self.portfolios:
            tags[PORTFOLIOS_TAG] = ", ".join(self.portfolios)
        return tags

    def run_config(self, filtered_steps: Sequence[str]) -> dict[str, Any]:
        """Run configuration: the portfolio filter for the steps that take one."""
        if not self.portfolios:
            return {}
        return {"ops": {name: {"config": {"portfolios": list(self.portfolios)}} for name in filtered_steps}}

    def __str__(self) -> str:
        if self.first is None:
            return self.job
        return f"{self.job} {self.first} to {self.last} ({self.session_count} sessions)"


def plan_range(
    job: str,
    first: date,
    last: date,
    *,
    calendar: SessionCalendar,
    size: int,
    portfolios: Sequence[str] = (),
    trigger: str = "manual",
) -> list[Chunk]:
    """The runs `first` to `last` takes: chunks of at most `size` sessions, oldest first."""
    return [
        Chunk(
            job=job,
            first=start,
            last=end,
            session_count=len(calendar.between(start, end)),
            portfolios=tuple(portfolios),
            trigger=trigger,
        )
        for start, end in calendar.chunks(first, last, size)
    ]


@dataclass(frozen=True)
class Outcome:
    """How one run ended. `first_failing_session` is set where prices stopped it at a session."""

    chunk: Chunk
    run_id: str
    succeeded: bool
    errors: tuple[str, ...] = field(default=())
    first_failing_session: date | None = None


class RangeFailedError(RuntimeError):
    """A run of a range failed; the message carries what failed and what to do next."""

    def __init__(self, outcome: Outcome) -> None:
        reasons = "; ".join(dict.fromkeys(outcome.errors)) or "see the run in the Dagster UI (`sigmasight dev`)"
        super().__init__(f"run {outcome.run_id[:8]} ({outcome.chunk}) failed: {reasons}")
        self.outcome = outcome


class Launcher:
    """Runs chunks in this process, one after another, on the project's Dagster instance."""

    def __init__(self, instance: dg.DagsterInstance, definitions: dg.Definitions) -> None:
        self.instance = instance
        self.definitions = definitions

    def run(self, chunk: Chunk, listener: Callable[[progress.StepDone], None] | None = None) -> Outcome:
        """Run one chunk and say how it ended; an asset that fails does not raise, Ctrl-C does (KeyboardInterrupt)."""
        job = self.definitions.resolve_job_def(chunk.job)
        config = {"loggers": QUIET_LOGGERS, **chunk.run_config(self._filtered_steps(job))}
        with progress.listening(listener or (lambda _step: None)):
            result = job.execute_in_process(
                instance=self.instance,
                run_config=config,
                tags={**chunk.tags, PROCESS_TAG: _this_process()},
                raise_on_error=False,
            )
        return _outcome(chunk, result)

    def run_all(
        self,
        chunks: Sequence[Chunk],
        listener: Callable[[progress.StepDone], None] | None = None,
    ) -> Iterator[Outcome]:
        """Run chunks in order, each after the success of the one before; yields every outcome.

        Where prices stop a range at a session, the chain is run up to the session before it, and RangeFailedError is
        raised then, naming the session.
        """
        for chunk in chunks:
            outcome = self.run(chunk, listener)
            yield outcome
            if not outcome.succeeded:
                if shorter := _before_failing(outcome):
                    yield self.run(shorter, listener)
                raise RangeFailedError(outcome)

    def _filtered_steps(self, job: dg.JobDefinition) -> list[str]:
        """Names of the steps of `job` that take a portfolio filter (see the tag on their assets)."""
        selected = set(job.asset_layer.executable_asset_keys)
        return sorted(
            assets.op.name  # a step may write several assets
            for assets in self.definitions.assets or ()
            if isinstance(assets, dg.AssetsDefinition)
            and selected & set(assets.keys)
            and any(spec.tags.get("filter") == "portfolio" for spec in assets.specs)
        )

    def asset_count(self, job: str) -> int:
        """How many assets a run of `job` materialises."""
        return len(set(self.definitions.resolve_job_def(job).asset_layer.executable_asset_keys))

    def recover(self) -> int:
        """Fail the runs of processes that died (a killed command), so that nothing stays 'running'; returns how many.

        Only runs started by this launcher on this host are judged: their process is looked up.
        """
        open_runs = self.instance.get_runs(
            RunsFilter(statuses=[DagsterRunStatus.STARTED, DagsterRunStatus.STARTING, DagsterRunStatus.NOT_STARTED])
        )
        dead = [run for run in open_runs if _is_dead(run.tags.get(PROCESS_TAG))]
        for run in dead:
            self.instance.report_run_failed(run, "the process that ran it ended without a word (killed?)")
            # a pool slot it died with would keep every later run waiting for ever
            self.instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        return len(dead)


def _before_failing(outcome: Outcome) -> Chunk | None:
    chunk, failing = outcome.chunk, outcome.first_failing_session
    if chunk.first is None or chunk.last is None or failing is None or failing <= chunk.first:
        return None
    from sigmasight_pipeline.sessions import calendar  # noqa: PLC0415  # only this rare path needs the calendar

    known = calendar()
    last = known.offset(failing, -1)
    return Chunk(
        job=chunk.job,
        first=chunk.first,
        last=last,
        session_count=len(known.between(chunk.first, last)),
        portfolios=chunk.portfolios,
        trigger=chunk.trigger,
    )


def _outcome(chunk: Chunk, result: dg.ExecuteInProcessResult) -> Outcome:
    steps: dict[str, list[str]] = {}
    failing: date | None = None
    for event in result.all_events:
        if not event.is_step_failure:
            continue
        data = event.step_failure_data
        if data.user_failure_data is not None:
            steps[data.user_failure_data.description or ""] = []
            entry = data.user_failure_data.metadata.get(FIRST_FAILING_SESSION)
            failing = date.fromisoformat(str(entry.value)) if entry is not None else failing
        elif data.error is not None and data.error.cls_name == dg.DagsterExecutionInterruptedError.__name__:
            raise KeyboardInterrupt  # Dagster reports a Ctrl-C as a failed step
        elif data.error is not None and data.error.cls_name != DagsterAssetCheckFailedError.__name__:
            # several steps may stumble over the same thing: it is said once
            steps.setdefault(_words(data.error), []).append(str(event.step_key))
    for check in result.get_asset_check_evaluations():
        if check.blocking and not check.passed and check.severity is dg.AssetCheckSeverity.ERROR:
            name = f"{check.asset_key.to_user_string()}.{check.check_name}"
            steps[f"the check {name} failed: {check.description}"] = []
    return Outcome(
        chunk=chunk,
        run_id=result.run_id,
        succeeded=result.success,
        errors=tuple(f"{', '.join(names)}: {words}" if names else words for words, names in steps.items()),
        first_failing_session=failing,
    )


def _words(error: SerializableErrorInfo) -> str:
    """What a step's error says: ours without the name of its class, an unexpected one with it."""
    if error.cls_name == dg.DagsterExecutionStepExecutionError.__name__ and error.cause is not None:
        error = error.cause
    return re.sub(r"^sigmasight_pipeline\.[\w.]+: ", "", error.message.strip())


def _this_process() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{_start_ticks(os.getpid())}"


def _start_ticks(pid: int) -> str:
    """When a process started, so that a reused process id is not mistaken for it; '' where /proc does not exist."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except OSError:
        return ""


def _is_dead(tag: str | None) -> bool:
    if tag is None:
        return False
    host, pid, ticks = tag.split(":")
    if host != socket.gethostname():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return ticks != _start_ticks(int(pid))
