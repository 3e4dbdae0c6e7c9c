"""Runs that ended: recording each in `batch_runs`, and failing those whose process is no more.

What belongs here: what Dagster knows of a run, as a row; which running runs have nobody who runs them. What does not:
what failed in words (``run_errors``), and telling people (``alerts``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import polars as pl
from dagster import DagsterRunStatus, RunsFilter
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.storage.dagster_run import RunRecord
from dagster._core.storage.tags import (
    BACKFILL_ID_TAG,
    GRPC_INFO_TAG,
    PARTITION_NAME_TAG,
    SCHEDULE_NAME_TAG,
    SENSOR_NAME_TAG,
)
from dagster._grpc.client import DagsterGrpcClient
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster_shared.serdes import deserialize_value

from sigmasight_pipeline.operations.launcher import (
    BACKFILL_TAG,
    PROCESS_TAG,
    RANGE_END_TAG,
    RANGE_START_TAG,
    TRIGGER_TAG,
    is_dead,
)
from sigmasight_pipeline.operations.run_errors import stored_errors
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

OVERLAP = timedelta(minutes=5)
"""Runs that ended this long before the newest recorded one are looked at again: two may end in any order."""

GRACE = timedelta(seconds=30)
"""A run is only taken for dead when it has been running this long: its process may just be starting."""

KILLED = "the process that ran it ended without a word (killed?); whole sessions were kept, run it again to go on"


def sync(instance: dg.DagsterInstance, database: Database) -> int:
    """Record every run that ended and is not in `batch_runs` yet; returns how many there were."""
    newest = rows.newest_end(database)
    since = None if newest is None else newest - OVERLAP
    recorded, cursor = 0, None
    while True:
        found = instance.get_run_records(
            RunsFilter(statuses=list(OUTCOMES), updated_after=since), limit=AT_A_TIME, cursor=cursor, ascending=True
        )
        known = set(rows.recent(database, limit=AT_A_TIME * 10)["run_id"]) if since else set()
        fresh = [_row(instance, record) for record in found if record.dagster_run.run_id not in known]
        schema = polars_schema(tables.batch_runs)
        recorded += rows.record(database, pl.DataFrame(fresh, schema=schema, orient="row"))
        if len(found) < AT_A_TIME:
            return recorded
        cursor = found[-1].dagster_run.run_id


def _row(instance: dg.DagsterInstance, record: RunRecord) -> dict[str, object]:
    run, tags = record.dagster_run, record.dagster_run.tags
    ended = record.end_time or record.update_timestamp.replace(tzinfo=UTC).timestamp()
    error, outcome = None, OUTCOMES[run.status]
    if run.status is not DagsterRunStatus.SUCCESS:
        errors = stored_errors(instance, run.run_id)
        outcome = "canceled" if errors.interrupted else outcome  # Ctrl-C is somebody's wish
        error = errors.text or ("canceled by a person" if outcome == "canceled" else KILLED)
    return {
        "run_id": run.run_id,
        "job_name": _job_name(run),
        "partition_start": _day(tags.get(RANGE_START_TAG) or tags.get(PARTITION_NAME_TAG)),
        "partition_end": _day(tags.get(RANGE_END_TAG) or tags.get(PARTITION_NAME_TAG)),
        "trigger": _trigger(tags),
        "status": outcome,
        "started_at": None if record.start_time is None else datetime.fromtimestamp(record.start_time, UTC),
        "ended_at": datetime.fromtimestamp(ended, UTC),
        "duration_seconds": None if record.start_time is None else max(0.0, ended - record.start_time),
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


def fail_dead_commands(instance: dg.DagsterInstance) -> list[str]:
    """Fail the runs of commands of this host whose process is no more; returns their ids."""
    return _fail(instance, lambda record: is_dead(record.dagster_run.tags.get(PROCESS_TAG)))


def fail_lost_runs(instance: dg.DagsterInstance, now: datetime) -> list[str]:
    """Fail the daemon's runs whose code server knows them no more or is gone; returns their ids.

    Only to be asked from where the daemon runs: a server may be a socket of its machine. Runs that another launcher
    started (Kubernetes) name no code server and are left to that launcher's own monitoring.
    """
    return _fail(instance, lambda record: _lost_its_server(record, now))


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


def _lost_its_server(record: RunRecord, now: datetime) -> bool:
    run = record.dagster_run
    if GRPC_INFO_TAG not in run.tags or run.status is DagsterRunStatus.NOT_STARTED:
        return False
    if now - record.update_timestamp.replace(tzinfo=UTC) < GRACE:
        return False
    place = json.loads(run.tags[GRPC_INFO_TAG])
    client = DagsterGrpcClient(
        port=place.get("port"), socket=place.get("socket"), host=place.get("host") or "localhost"
    )
    try:
        answer = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run.run_id), timeout=5)
    except DagsterUserCodeUnreachableError:
        return True
    return not deserialize_value(answer, CanCancelExecutionResult).can_cancel
