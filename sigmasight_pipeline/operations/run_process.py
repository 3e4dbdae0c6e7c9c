"""What the process of a run does besides its steps: it says who it is, that it lives, and keeps its sessions to itself.

What belongs here: the tags and events others judge a run by, and waiting until no other run computes the same sessions.
What does not: judging runs (``operations.runs``), and running steps (``operations.executor``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date

import dagster as dg
from dagster import DagsterRunStatus

from sigmasight_pipeline.assets import progress
from sigmasight_pipeline.dagster_internals import (
    PARTITION_NAME_TAG,
    DagsterExecutionInterruptedError,
    EngineEventData,
    IPlanContext,
    pop_captured_interrupt,
)
from sigmasight_pipeline.operations.launcher import (
    PROCESS_TAG,
    RANGE_END_TAG,
    RANGE_START_TAG,
    SESSIONS_TAG,
    in_words,
    process_tag,
)
from sigmasight_pipeline.sessions import calendar
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.run_locks import SessionLocks

DATABASE_VARIABLE = "SIGMASIGHT_DATABASE_URL"
"""Set in every process that runs the project's jobs (``operations.instance``)."""

ASK_SECONDS = 0.5
"""How often a run that waits for another asks whether it has ended."""

LOOK_SECONDS = 5.0
"""How often a run looks whether somebody terminated it."""

SILENCE_SECONDS = 300.0
"""A run that had nothing to say for so long says that it lives."""

APPLYING = frozenset({tables.portfolios.name, tables.positions.name})
"""Steps that apply imports: what other runs have read of the books must not change under them."""

HEARTBEAT = "The run is still at work."


def sessions_of(tags: Mapping[str, str]) -> tuple[date, ...]:
    """The sessions a run with these tags computes, oldest first; none of a run without partitions."""
    first = tags.get(RANGE_START_TAG) or tags.get(PARTITION_NAME_TAG)
    last = tags.get(RANGE_END_TAG) or tags.get(PARTITION_NAME_TAG)
    if not first or not last:
        return ()
    return calendar().between(date.fromisoformat(first), date.fromisoformat(last))


def introduce(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Tag `run` with this process, which runs it, and with its range in words."""
    tags = {PROCESS_TAG: process_tag(run.run_id)}
    if days := sessions_of(run.tags):
        tags[SESSIONS_TAG] = in_words(days[0], days[-1], len(days))
    missing = {name: value for name, value in tags.items() if run.tags.get(name) != value}
    if missing:
        instance.add_run_tags(run.run_id, missing)


@contextmanager
def own_sessions(context: IPlanContext) -> Iterator[Iterator[dg.DagsterEvent]]:
    """Keep the run's sessions to itself inside the block; gives the events of waiting until it has them.

    A run that applies imports keeps the books to itself instead. Any other run without sessions, and one of a process
    without a database of results, waits for nobody.
    """
    days, url = sessions_of(context.dagster_run.tags), os.environ.get(DATABASE_VARIABLE)
    applies = not APPLYING.isdisjoint(context.execution_plan.step_keys_to_execute)
    if not url or not (days or applies):
        yield iter(())
        return
    with SessionLocks(url, context.run_id) as locks:
        if applies:
            yield _waiting(context, locks.take_books, "reads or changes the books")
        else:
            yield _waiting(context, lambda: locks.take(days), "computes sessions of this range or changes the books")


def _waiting(context: IPlanContext, take: Callable[[], list[str]], what: str) -> Iterator[dg.DagsterEvent]:
    told: list[str] | None = None
    while others := take():
        if others != told:
            sentence = f"Waiting for {', '.join(others)}, which {what}."
            progress.tell(sentence)
            yield dg.DagsterEvent.engine_event(context, sentence, EngineEventData())
            told = others
        if pop_captured_interrupt() or _was_ended(context):
            raise DagsterExecutionInterruptedError
        time.sleep(ASK_SECONDS)
    if told is not None and _was_ended(context):
        raise DagsterExecutionInterruptedError


def _was_ended(context: IPlanContext) -> bool:
    """Whether somebody wants the run to end, or declared it ended: it must not compute any more."""
    run = context.instance.get_run_by_id(context.run_id)
    return run is None or run.is_finished or run.status is DagsterRunStatus.CANCELING


class EndWatch:
    """Notices that the run was terminated, or declared ended, where no signal reaches its process.

    The UI can signal runs that its code server started; it cannot signal a command's.
    """

    def __init__(self, context: IPlanContext, every: float = LOOK_SECONDS) -> None:
        self._context = context
        self._every = every
        self._looked = time.monotonic()
        self._ended = False

    def just_ended(self) -> bool:
        """Whether it was, said once."""
        if self._ended or time.monotonic() - self._looked < self._every:
            return False
        self._looked = time.monotonic()
        self._ended = _was_ended(self._context)
        return self._ended


class Heartbeat:
    """Says that a run lives when nothing else was said for a while, for those who cannot see its process."""

    def __init__(self, context: IPlanContext, silence: float = SILENCE_SECONDS) -> None:
        self._context = context
        self._silence = silence
        self._said = time.monotonic()

    def heard(self) -> None:
        """The run said something else."""
        self._said = time.monotonic()

    def due(self) -> Iterator[dg.DagsterEvent]:
        """The event, when it is due."""
        if time.monotonic() - self._said >= self._silence:
            yield dg.DagsterEvent.engine_event(self._context, HEARTBEAT, EngineEventData())
            self.heard()
