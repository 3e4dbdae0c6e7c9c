"""The range launcher: a range of sessions becomes runs of at most 252 sessions, in order. Used by all who start runs.

What belongs here: cutting a range into chunks, the tags and configuration that make one chunk one Dagster run, running
chunks one after another in this process, or handing the next one to a schedule. What does not: deciding which range
needs running, and any calculation.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import zip_longest
from pathlib import Path
from typing import Any

import dagster as dg

from sigmasight_pipeline.assets import graph, progress, unpriced
from sigmasight_pipeline.assets.session_run import FOLLOWED_TAG, REPORT_TAG
from sigmasight_pipeline.dagster_internals import (
    ExecuteRunWithPlanIterable,
    InMemoryJob,
    InstanceRef,
    PlanOrchestrationContextManager,
    check,
    create_execution_plan,
    job_execution_iterator,
    make_new_run_id,
    orchestration_context_event_generator,
)
from sigmasight_pipeline.operations import origins
from sigmasight_pipeline.operations.run_errors import errors_of, stored_errors
from sigmasight_pipeline.sessions import SessionCalendar, calendar

RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"
TRIGGER_TAG = unpriced.TRIGGER_TAG
# The list of runs shows every tag that has no prefix of Dagster's, in a narrow column: what is read is short, and comes
# first by its name; what only programs read is hidden.
PROCESS_TAG = ".dagster/sigmasight_process"
BACKFILL_TAG = "sigmasight/backfill"
CHUNK_TAG = "sigmasight/run_of_backfill"
PORTFOLIOS_TAG = "sigmasight/portfolios"
SESSIONS_TAG = "sessions"
REASON_TAG = "reason"

LONGEST_REASON = 250
"""Characters of a reason that the list of runs shows; the rest is in `backfill_progress`."""

QUIET_LOGGERS = {"console": {"config": {"log_level": "CRITICAL"}}}
"""Dagster's console logger says nothing: a command shows its progress itself, and what runs of the daemon have to say
on the console of `sigmasight dev` they say in words (``console_log``); the event log has everything."""

REPORTED_TRIGGERS = ("restatement", "repair")
"""Runs that compute stored sessions anew on purpose: they report what they moved."""


@dataclass(frozen=True)
class Chunk:
    """One Dagster run: a job over consecutive sessions (both ends included), or over none (reference).

    `assets` restricts it to these assets of the job; empty: all of them. `followed_by` is the session the next run of
    the same range begins with; None where this is the last one. `known_on`: see ``resources.MarketDataResource``.
    """

    job: str
    first: date | None = None
    last: date | None = None
    session_count: int = 0
    portfolios: tuple[str, ...] = ()
    trigger: str = "manual"
    assets: tuple[str, ...] = ()
    followed_by: date | None = None
    known_on: date | None = None

    @property
    def tags(self) -> dict[str, str]:
        """Run tags: the range, who started it, and for which portfolios. Whoever knows better says why (`because`)."""
        tags = {TRIGGER_TAG: self.trigger, REASON_TAG: self.trigger}
        if self.first is not None and self.last is not None:
            tags |= {RANGE_START_TAG: self.first.isoformat(), RANGE_END_TAG: self.last.isoformat()}
            tags[SESSIONS_TAG] = in_words(self.first, self.last, self.session_count)
        if self.portfolios:
            tags[PORTFOLIOS_TAG] = ", ".join(self.portfolios)
        if self.trigger in REPORTED_TRIGGERS:
            tags[REPORT_TAG] = "true"
        if self.followed_by is not None:
            tags[FOLLOWED_TAG] = self.followed_by.isoformat()
        return tags

    def run_config(self, filtered_steps: Sequence[str]) -> dict[str, Any]:
        """Run configuration: the portfolio filter for the steps that take one, the day market data is asked as of, and
        no console log of Dagster's."""
        config: dict[str, Any] = {"loggers": QUIET_LOGGERS}
        if self.portfolios:
            own = {"config": {"portfolios": list(self.portfolios)}}
            config["ops"] = dict.fromkeys(filtered_steps, own)
        if self.known_on is not None:
            config["resources"] = {"market_data": {"config": {"known_on": self.known_on.isoformat()}}}
        return config

    @property
    def asset_selection(self) -> list[dg.AssetKey] | None:
        """What the run is restricted to; None: all assets of its job."""
        return [dg.AssetKey(name) for name in self.assets] or None

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
    assets: Sequence[str] = (),
) -> list[Chunk]:
    """The runs `first` to `last` takes: chunks of at most `size` sessions, oldest first."""
    spans = list(calendar.chunks(first, last, size))
    following = [start for start, _ in spans[1:]]
    return [
        Chunk(
            job=job,
            first=start,
            last=end,
            session_count=len(calendar.between(start, end)),
            portfolios=tuple(portfolios),
            trigger=trigger,
            assets=tuple(assets),
            followed_by=after,
        )
        for (start, end), after in zip_longest(spans, following)
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
    """Runs chunks in this process, one after another, on the project's Dagster instance.

    `told` is told what a run waits for.
    """

    def __init__(
        self,
        instance: dg.DagsterInstance,
        definitions: dg.Definitions,
        told: Callable[[str], None] = lambda _sentence: None,
    ) -> None:
        self.instance = instance
        self.definitions = definitions
        self.told = told

    def run(
        self,
        chunk: Chunk,
        listener: Callable[[progress.StepDone], None] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Outcome:
        """Run one chunk and say how it ended; an asset that fails does not raise, Ctrl-C does (KeyboardInterrupt)."""
        job = self.definitions.resolve_job_def(chunk.job)
        if chunk.assets:
            job = job.get_subset(
                asset_selection=frozenset(chunk.asset_selection or ()),
                # else Dagster adds every check of these assets, also those the job leaves to the clock
                asset_check_selection=frozenset(graph.check_keys(chunk.assets)),
            )
        config = chunk.run_config(self._filtered_steps(chunk))
        with progress.listening(listener or (lambda _step: None), self.told):
            result = self._execute(job, config, {**chunk.tags, **(tags or {})}, chunk.asset_selection)
        return self._outcome(chunk, result)

    def _execute(
        self,
        job: dg.JobDefinition,
        config: Mapping[str, Any],
        tags: Mapping[str, str],
        selection: Sequence[dg.AssetKey] | None,
    ) -> dg.ExecuteInProcessResult:
        """What `JobDefinition.execute_in_process` does, but with the job's own executor, and as one of its runs."""
        run_id, in_memory = make_new_run_id(), InMemoryJob(job)
        plan = create_execution_plan(in_memory, run_config=config, instance_ref=_reference(self.instance))
        run = self.instance.create_run_for_job(
            job,
            execution_plan=plan,
            run_id=run_id,
            run_config=config,
            tags={**job.run_tags, **tags, PROCESS_TAG: process_tag(run_id)},
            asset_selection=frozenset(selection or ()),
            remote_job_origin=origins.remote_job(job.name),
            job_code_origin=origins.python_job(job.name),
        )
        events = ExecuteRunWithPlanIterable(
            execution_plan=plan,
            iterator=job_execution_iterator,
            execution_context_manager=PlanOrchestrationContextManager(
                context_event_generator=orchestration_context_event_generator,
                job=in_memory,
                execution_plan=plan,
                dagster_run=run,
                instance=self.instance,
                run_config=config,
                executor_defs=None,
                output_capture=None,
                raise_on_error=False,
            ),
        )
        return dg.ExecuteInProcessResult(
            job_def=job,
            event_list=list(events),
            dagster_run=check.not_none(self.instance.get_run_by_id(run_id)),
            output_capture={},
        )

    def run_all(
        self,
        chunks: Sequence[Chunk],
        listener: Callable[[progress.StepDone], None] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Iterator[Outcome]:
        """Run chunks in order, each after the success of the one before; yields every outcome.

        Where prices stop a range at a session, the chain is run up to the session before it, and RangeFailedError is
        raised then, naming the session.
        """
        for chunk in chunks:
            outcome = self.run(chunk, listener, tags)
            yield outcome
            if not outcome.succeeded:
                if shorter := before_failing(chunk, outcome.first_failing_session):
                    yield self.run(shorter, listener, tags)
                raise RangeFailedError(outcome)

    def _outcome(self, chunk: Chunk, result: dg.ExecuteInProcessResult) -> Outcome:
        found = errors_of(result.all_events)
        if found.interrupted and not found.canceled:
            raise KeyboardInterrupt
        errors = found.sentences
        if not result.success and not errors:
            # a run that somebody else declared ended hears of it last, and has no word of its own about it
            errors = stored_errors(self.instance, result.run_id).sentences
        return Outcome(
            chunk=chunk,
            run_id=result.run_id,
            succeeded=result.success,
            errors=() if result.success else errors,
            first_failing_session=found.first_failing_session,
        )

    def asset_count(self, chunk: Chunk) -> int:
        """How many assets a run of `chunk` materialises."""
        return len(self._asset_names(chunk))

    def _asset_names(self, chunk: Chunk) -> list[str]:
        keys = chunk.asset_selection or self.definitions.resolve_job_def(chunk.job).asset_layer.executable_asset_keys
        return sorted({key.to_user_string() for key in keys})

    def _filtered_steps(self, chunk: Chunk) -> list[str]:
        return graph.filtered_steps(self._asset_names(chunk), self.definitions.assets or ())


def _reference(instance: dg.DagsterInstance) -> InstanceRef | None:
    return instance.get_ref() if instance.is_persistent else None


def before_failing(chunk: Chunk, failing: date | None) -> Chunk | None:
    """The part of `chunk` before the session that stopped it; None where there is none."""
    if chunk.first is None or failing is None or failing <= chunk.first:
        return None
    known = calendar()
    last = known.offset(failing, -1)
    return replace(chunk, last=last, session_count=len(known.between(chunk.first, last)), followed_by=None)


def in_words(first: date, last: date, sessions: int) -> str:
    """A range as the list of runs shows it."""
    return str(first) if first == last else f"{first} to {last} ({sessions})"


def because(reason: str) -> dict[str, str]:
    """The tag that says why a run was started."""
    return {REASON_TAG: reason if len(reason) <= LONGEST_REASON else f"{reason[: LONGEST_REASON - 4]} ..."}


def process_tag(run_id: str) -> str:
    """This process as the one that runs `run_id`: a run made from another inherits its tags, and is not run by it."""
    return f"{this_process()}:{run_id}"


def process_of(run: dg.DagsterRun) -> str | None:
    """The process that runs `run`, as `this_process` writes it; None before it has said so."""
    process, _, run_id = run.tags.get(PROCESS_TAG, "").rpartition(":")
    return process if run_id == run.run_id else None


def is_of_this_host(process: str) -> bool:
    """Whether `process` (see `this_process`) is or was one of this host, so that `is_dead` can tell."""
    return process.partition(":")[0] == socket.gethostname()


def this_process() -> str:
    """This process as a tag that another one on the host can look up."""
    return f"{socket.gethostname()}:{os.getpid()}:{_start_ticks(os.getpid())}"


def _start_ticks(pid: int) -> str:
    """When a process started, so that a reused process id is not mistaken for it; '' where /proc does not exist."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except OSError:
        return ""


def is_dead(tag: str | None) -> bool:
    """Whether `tag` (see `this_process`) names a process of this host that is no more."""
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
