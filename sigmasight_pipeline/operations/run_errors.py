"""What failed in a run, in words: from the events of a run of this process or of one that ran elsewhere.

What belongs here: turning Dagster's events into sentences a person can act on. What does not: telling anybody.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

import dagster as dg
from dagster import DagsterEventType

from sigmasight_pipeline.assets.market_data import FIRST_FAILING_SESSION
from sigmasight_pipeline.dagster_internals import (
    DagsterAssetCheckFailedError,
    ErrorSource,
    JobFailureData,
    SerializableErrorInfo,
)

TELLING_EVENTS = {
    DagsterEventType.STEP_FAILURE,
    DagsterEventType.ASSET_CHECK_EVALUATION,
    DagsterEventType.RUN_FAILURE,
    DagsterEventType.RUN_CANCELED,
    DagsterEventType.ENGINE_EVENT,
}
"""The events that say why a run failed."""

CANCELED = "canceled by a person"

LONGEST = 4000
"""Characters kept of one run's errors."""


@dataclass(frozen=True)
class RunErrors:
    """Why a run failed. `first_failing_session`: prices stopped it there; `interrupted`: somebody pressed Ctrl-C;
    `canceled`: somebody terminated it in the Dagster UI."""

    sentences: tuple[str, ...] = ()
    first_failing_session: date | None = None
    interrupted: bool = False
    canceled: bool = False

    @property
    def text(self) -> str | None:
        """All sentences as one text of bounded length; None without any."""
        joined = "; ".join(dict.fromkeys(self.sentences))
        return (joined if len(joined) <= LONGEST else f"{joined[: LONGEST - 4]} ...") or None


def errors_of(events: Iterable[dg.DagsterEvent]) -> RunErrors:
    """What the events of one run say of its failure."""
    steps: dict[str, list[str]] = {}
    checks: list[str] = []
    outside: list[str] = []
    failing: date | None = None
    interrupted = canceled = False
    for event in events:
        if event.is_step_failure:
            data = event.step_failure_data
            if data.user_failure_data is not None:
                steps[data.user_failure_data.description or ""] = []
                entry = data.user_failure_data.metadata.get(FIRST_FAILING_SESSION)
                failing = date.fromisoformat(str(entry.value)) if entry is not None else failing
            elif data.error_source is ErrorSource.INTERRUPT:
                interrupted = True  # Dagster reports a Ctrl-C as a failed step
            elif data.error is not None and data.error.cls_name != DagsterAssetCheckFailedError.__name__:
                # several steps may stumble over the same thing: it is said once
                steps.setdefault(_words(data.error), []).append(str(event.step_key))
        elif event.event_type is DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            if check.blocking and not check.passed and check.severity is dg.AssetCheckSeverity.ERROR:
                name = f"{check.asset_key.to_user_string()}.{check.check_name}"
                checks.append(f"the check {name} failed: {check.description}")
        elif event.event_type is DagsterEventType.RUN_FAILURE:
            interrupted |= _is_interruption(event)  # between two steps, no step can say it
            outside += _of_the_run(event)
        elif event.event_type is DagsterEventType.RUN_CANCELED:
            canceled = True
        elif event.event_type is DagsterEventType.ENGINE_EVENT and "unexpectedly exited" in (event.message or ""):
            outside.append(str(event.message))
    told = [f"{', '.join(names)}: {words}" if names else words for words, names in steps.items()]
    # what the run itself says is only of interest where no step could say anything
    sentences = told + checks or ([CANCELED] if canceled else [] if interrupted else outside)
    return RunErrors(tuple(sentences), failing, interrupted, canceled)


def stored_errors(instance: dg.DagsterInstance, run_id: str) -> RunErrors:
    """The same of a run that ended anywhere, from the event log."""
    entries = instance.all_logs(run_id, of_type=TELLING_EVENTS)
    return errors_of(entry.dagster_event for entry in entries if entry.dagster_event is not None)


def _is_interruption(event: dg.DagsterEvent) -> bool:
    data = event.event_specific_data
    error = data.error if isinstance(data, JobFailureData) else None
    return error is not None and error.cls_name == dg.DagsterExecutionInterruptedError.__name__


def _of_the_run(event: dg.DagsterEvent) -> list[str]:
    data = event.event_specific_data
    if isinstance(data, JobFailureData) and data.error is not None:
        return [_words(data.error)]
    return [event.message] if event.message else []


def _words(error: SerializableErrorInfo) -> str:
    """What an error says: ours without the name of its class, an unexpected one with it."""
    if error.cls_name == dg.DagsterExecutionStepExecutionError.__name__ and error.cause is not None:
        error = error.cause
    return re.sub(r"^sigmasight_pipeline\.[\w.]+: ", "", error.message.strip())
