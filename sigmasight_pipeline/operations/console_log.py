"""What runs say on the console of `sigmasight dev`: that one began and why, how it ended, and what failed.

What belongs here: the handler ``dagster.yaml`` names, which sees all events of every run. What does not: Dagster's
event log, which keeps every event whatever is shown here, and what Dagster's own processes print.

Dagster's own console logger prints every event, most of them at level DEBUG: hundreds of lines a run, in which a
failure is not seen. It is kept to level INFO by ``dagster.yaml``, and silent for runs the project launches itself
(``launcher.QUIET_LOGGERS``).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping

import dagster as dg
from dagster import DagsterEventType

from sigmasight_pipeline.assets import progress
from sigmasight_pipeline.dagster_internals import get_log_record_metadata
from sigmasight_pipeline.operations.launcher import REASON_TAG, SESSIONS_TAG
from sigmasight_pipeline.operations.run_errors import errors_of

TURNS = {
    DagsterEventType.RUN_START: "begins",
    DagsterEventType.RUN_SUCCESS: "succeeded",
    DagsterEventType.RUN_FAILURE: "FAILED",
    DagsterEventType.RUN_CANCELED: "was canceled",
}
"""Events every run is followed by, whatever their level."""

FAILURES = {DagsterEventType.STEP_FAILURE, DagsterEventType.ASSET_CHECK_EVALUATION}
"""Events that are told in the words the command line has for them, where they failed something."""

RED, GREEN, YELLOW = "\033[1;31m", "\033[32m", "\033[33m"

COLORS = {
    DagsterEventType.RUN_SUCCESS: GREEN,
    DagsterEventType.RUN_FAILURE: RED,
    DagsterEventType.RUN_CANCELED: YELLOW,
    DagsterEventType.STEP_FAILURE: RED,
    DagsterEventType.ASSET_CHECK_EVALUATION: RED,
}
PLAIN = "\033[0m"


def sentence(record: logging.LogRecord) -> str | None:
    """What `record` is worth on a console; None where it is nothing, or only a message.

    Messages of steps are figures of the UI; what they warn of is a check's verdict.
    """
    event = get_log_record_metadata(record)["dagster_event"]
    if event is None:
        return None
    if event.event_type in TURNS:
        return _turn(event, get_log_record_metadata(record)["job_tags"])
    return _told(event) or None if event.event_type in FAILURES else None


def _told(event: dg.DagsterEvent) -> str:
    """What an event says of a failure, as one line; '' where it says nothing."""
    return "; ".join(told.partition("\n")[0] for told in errors_of([event]).sentences)


def _turn(event: dg.DagsterEvent, tags: Mapping[str, str]) -> str:
    words = " ".join(filter(None, (tags.get(SESSIONS_TAG), TURNS[event.event_type])))
    if event.event_type is DagsterEventType.RUN_START:
        return f"{words}: {tags[REASON_TAG]}" if REASON_TAG in tags else words
    told = _told(event)
    return f"{words}: {told}" if told else words


class RunFormatter(logging.Formatter):
    """One line: when, which run of which job, and the sentence; colours on a terminal."""

    def __init__(self, *, colored: bool) -> None:
        super().__init__(datefmt="%Y-%m-%d %H:%M:%S %z")
        self._colored = colored

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record that has a sentence."""
        metadata = get_log_record_metadata(record)
        run_id, event = metadata["run_id"] or "", metadata["dagster_event"]
        when = self.formatTime(record, self.datefmt)
        line = f"{when} - run {run_id[:8]} {metadata['job_name']}: {sentence(record)}"
        color = COLORS.get(event.event_type) if event else None
        return f"{color}{line}{PLAIN}" if color and self._colored else line


class RunHandler(logging.StreamHandler):  # type: ignore[type-arg]  # of whatever stream there is
    """Named in ``dagster.yaml``; writes to the standard error of the process that runs the run.

    Says nothing where somebody listens to the run's steps: a command reports by itself.
    """

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(RunFormatter(colored=sys.stderr.isatty()))

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is shown."""
        return not progress.is_listened_to() and sentence(record) is not None
