"""Runs that ended: recording each in `batch_runs`, and failing those whose process is no more.

What belongs here: what Dagster knows of a run, as a row; which running runs have nobody who runs them. What does not:
what failed in words (``run_errors``), and telling people (``alerts``).
"""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Container, Mapping
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import polars as pl
from dagster import DagsterEventType, DagsterRunStatus, RunsFilter

from sigmasight_pipeline.dagster_internals import (
    BACKFILL_ID_TAG,
    GRPC_INFO_TAG,
    PARTITION_NAME_TAG,
    SCHEDULE_NAME_TAG,
    SENSOR_NAME_TAG,
    RunRecord,
)
from sigmasight_pipeline.operations.launcher import (
    BACKFILL_TAG,
    RANGE_END_TAG,
    RANGE_START_TAG,
    TRIGGER_TAG,
    is_dead,
    is_of_this_host,
    process_of,
)
from sigmasight_pipeline.operations.run_errors import CANCELED, stored_errors
from sigmasight_pipeline.storage import runs as rows
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.frames import polars_schema
from sigmasight_pipeline.storage.tables.operations import TRIGGERS

OUTCOMES = {
    DagsterRunStatus.SUCCESS: "success",
    DagsterRunStatus.FAILURE: "failure",
    DagsterRunStatus.CANCELED: "canceled",
}

AT_A_TIME = 100
"""Runs read from Dagster at once."""

FIRST_WORD = timedelta(seconds=120)
"""A process that has not said a word this long after its run was launched never came to be. One that comes later finds
its run ended, and leaves."""

SILENT = timedelta(minutes=15)
"""A run of another host that said nothing this long is dead; living ones speak at least every five minutes
(``run_process.SILENCE_SECONDS``)."""

STARTED_PROCESS = re.compile(r"^Started process for run \(pid: (\d+)\)")
"""The first word of a process that a code server started, before it has loaded anything."""

KILLED = "the process that ran it ended without a word (killed?); whole sessions were kept, run it again to go on"


def sync(instance: dg.DagsterInstance, database: Database) -> int:
    """Record every run that ended and is not in `batch_runs` yet, or otherwise; returns how many were new there."""
    newest = rows.newest_end(database)
    since = None if newest is None else newest - rows.OVERLAP
    recorded, cursor = 0, None
    while True:
        found = instance.get_run_records(
            RunsFilter(statuses=list(OUTCOMES), updated_after=since), limit=AT_A_TIME, cursor=cursor, ascending=True
        )
        known = rows.ends(database, [record.dagster_run.run_id for record in found])
        # a run that was taken for dead and was not ends again, otherwise
        fresh = [_row(instance, record) for record in found if known.get(record.dagster_run.run_id) != _end(record)]
        schema = polars_schema(tables.batch_runs)
        recorded += rows.record(database, pl.DataFrame(fresh, schema=schema, orient="row"))
        if len(found) < AT_A_TIME:
            return recorded
        cursor = found[-1].dagster_run.run_id


def _end(record: RunRecord) -> datetime:
    ended = record.end_time or record.update_timestamp.replace(tzinfo=UTC).timestamp()
    return datetime.fromtimestamp(ended, UTC)


def _row(instance: dg.DagsterInstance, record: RunRecord) -> dict[str, object]:
    run, tags = record.dagster_run, record.dagster_run.tags
    ended = _end(record)
    error, outcome = None, OUTCOMES[run.status]
    if run.status is not DagsterRunStatus.SUCCESS:
        errors = stored_errors(instance, run.run_id)
        outcome = "canceled" if errors.interrupted else outcome  # Ctrl-C is somebody's wish
        error = errors.text or (CANCELED if outcome == "canceled" else KILLED)
    return {
        "run_id": run.run_id,
        "job_name": _job_name(run),
        "partition_start": _day(tags.get(RANGE_START_TAG) or tags.get(PARTITION_NAME_TAG)),
        "partition_end": _day(tags.get(RANGE_END_TAG) or tags.get(PARTITION_NAME_TAG)),
        "trigger": _trigger(tags),
        "status": outcome,
        "started_at": None if record.start_time is None else datetime.fromtimestamp(record.start_time, UTC),
        "ended_at": ended,
        "duration_seconds": None if record.start_time is None else max(0.0, ended.timestamp() - record.start_time),
        "error_message": error,
        "backfill_id": int(tags[BACKFILL_TAG]) if BACKFILL_TAG in tags else None,
    }


def _job_name(run: dg.DagsterRun) -> str:
    """The job; of assets materialised in the UI (Dagster's hidden job) the assets."""
    if not run.job_name.startswith("__"):
        return run.job_name
    names = sorted(key.to_user_string() for key in run.asset_selection or ())
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") or run.job_name


def _trigger(tags: Mapping[str, str]) -> str:
    if stated := tags.get(TRIGGER_TAG):
        return stated if stated in TRIGGERS else "manual"
    for tag, trigger in ((SCHEDULE_NAME_TAG, "schedule"), (SENSOR_NAME_TAG, "sensor"), (BACKFILL_ID_TAG, "backfill")):
        if tag in tags:
            return trigger
    return "manual"


def _day(text: str | None) -> date | None:
    return date.fromisoformat(text) if text else None


def fail_dead(instance: dg.DagsterInstance) -> list[str]:
    """Fail the runs of this host whose process is no more; returns their ids."""
    return _fail(instance, lambda record: is_dead(process_of(record.dagster_run)))


def fail_lost_runs(instance: dg.DagsterInstance, now: datetime) -> list[str]:
    """Fail the runs nobody runs any more; returns their ids.

    A run's own process is asked, never the code server: that one is replaced when definitions are reloaded, and the
    runs it started go on. A process of this host lives or does not; one of another host has been silent for too long
    or has not. Only to be asked from where the daemon runs: a process that has not said who it is yet is looked for
    on this host.
    """
    return _fail(instance, lambda record: _is_lost(instance, record, now))


def interrupt(instance: dg.DagsterInstance, group: int, done: Container[str] = ()) -> list[str]:
    """Have the runs of process group `group` of this host end as Ctrl-C in them would; returns their ids.

    Those in `done` were asked before.
    """
    asked = []
    for run in instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.STARTED, DagsterRunStatus.STARTING])):
        process = process_of(run)
        if process is None or run.run_id in done or not is_of_this_host(process) or is_dead(process):
            continue
        pid = int(process.split(":")[1])
        with suppress(ProcessLookupError):  # it has just ended
            if os.getpgid(pid) == group:
                os.kill(pid, signal.SIGINT)
                asked.append(run.run_id)
    return asked


def _fail(instance: dg.DagsterInstance, is_gone: Callable[[RunRecord], bool]) -> list[str]:
    open_runs = instance.get_run_records(
        RunsFilter(statuses=[DagsterRunStatus.STARTED, DagsterRunStatus.STARTING, DagsterRunStatus.NOT_STARTED])
    )
    gone = [record.dagster_run for record in open_runs if is_gone(record)]
    for run in gone:
        instance.report_run_failed(run, KILLED)
        # a pool slot it died with would keep every later run waiting for ever
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    return [run.run_id for run in gone]


def _is_lost(instance: dg.DagsterInstance, record: RunRecord, now: datetime) -> bool:
    run, process = record.dagster_run, process_of(record.dagster_run)
    if process is not None and is_of_this_host(process):
        return is_dead(process)
    if process is not None:
        return _last_heard(instance, record) < now - SILENT
    if run.status is DagsterRunStatus.NOT_STARTED or not _was_started_here(run):
        return False  # waits in the queue, or for a launcher with a monitoring of its own (Kubernetes)
    said = (entry.message for entry in instance.all_logs(run.run_id, of_type=DagsterEventType.ENGINE_EVENT))
    pids = [int(started.group(1)) for message in said if (started := STARTED_PROCESS.search(message))]
    if pids:
        return not _is_there(pids[-1])
    return record.update_timestamp.replace(tzinfo=UTC) < now - FIRST_WORD


def _was_started_here(run: dg.DagsterRun) -> bool:
    place = json.loads(run.tags.get(GRPC_INFO_TAG, "{}"))
    return bool(place.get("socket")) or place.get("host") in ("localhost", "127.0.0.1")


def _last_heard(instance: dg.DagsterInstance, record: RunRecord) -> datetime:
    newest = instance.event_log_storage.get_logs_for_run(record.dagster_run.run_id, limit=1, ascending=False)
    said = [datetime.fromtimestamp(entry.timestamp, UTC) for entry in newest]
    return max([record.update_timestamp.replace(tzinfo=UTC), *said])


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True
