"""Ranges that are asked for, and how each becomes runs: one at a time, in order, from wherever the last one stopped.

What belongs here: recording a range, reading how far it is, settling what its last run came to, and saying which run is
due. What does not: what needs running (``history``, ``gaps``, ``restatement``, ``inbox``), the statements
(``storage.backfills``) and running in this process (``launcher``).

A range is a row of `backfill_progress`. The daemon runs those without a driver (sensor ``backfills``); a command runs
its own and is their driver. Whatever is killed on the way, the row and Dagster's runs say how to go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg
from dagster import DagsterRunStatus, RunsFilter

from sigmasight_pipeline.assets import graph
from sigmasight_pipeline.dagster_internals import WILL_RETRY_TAG
from sigmasight_pipeline.operations import jobs
from sigmasight_pipeline.operations.launcher import (
    BACKFILL_TAG,
    CHUNK_TAG,
    Chunk,
    Outcome,
    because,
    before_failing,
    is_dead,
    this_process,
)
from sigmasight_pipeline.operations.run_errors import stored_errors
from sigmasight_pipeline.storage import backfills as rows
from sigmasight_pipeline.storage.database import Database

OPEN = rows.OPEN

PRIORITY = {"inbox": 0, "repair": 0, "import": 0, "restatement": 1, "gap": 3}
"""What runs first where several ranges wait; everything else comes between restatements and gaps."""

_USUAL_PRIORITY = 2

CANCELED = "a person terminated its run"

KILLED = "the process that ran it ended without a word (killed?)"


@dataclass(frozen=True)
class Backfill:
    """A range that was asked for. `stopped` is set once a session without prices cut it short, `canceled` where a
    person terminated one of its runs: that is respected until what asked for it changes, or somebody asks."""

    backfill_id: int
    request_key: str
    requested_by: str
    reason: str
    chunks: tuple[Chunk, ...]
    status: str
    driver: str | None
    total_sessions: int
    done_sessions: int
    done_runs: int
    requested_at: datetime
    started_at: datetime | None
    error: str | None
    stopped: bool
    canceled: bool = False

    @property
    def remaining(self) -> tuple[Chunk, ...]:
        """The runs it still takes."""
        return self.chunks[self.done_runs :]

    @property
    def tags(self) -> dict[str, str]:
        """Tags of its next run."""
        return {
            BACKFILL_TAG: str(self.backfill_id),
            CHUNK_TAG: f"{self.done_runs}{' shortened' if self.stopped else ''}",
        }

    def __str__(self) -> str:
        if not self.total_sessions:
            return f"backfill {self.backfill_id}"
        return f"backfill {self.backfill_id} ({self.done_sessions} of {self.total_sessions} sessions done)"


def request(
    database: Database,
    *,
    key: str,
    trigger: str,
    reason: str,
    chunks: Sequence[Chunk],
    driver: str | None = None,
    now: datetime | None = None,
) -> int | None:
    """Ask for `chunks` to be run in order; returns the backfill_id, None where `key` was asked for before.

    Without a `driver` the daemon runs it (sensor ``backfills``). ValueError without chunks.
    """
    if not chunks:
        raise ValueError(f"{key} asks for no run at all")
    return rows.insert_request(
        database,
        key=key,
        requested_by=trigger,
        reason=reason,
        scope=_scope(chunks),
        total_sessions=sum(chunk.session_count for chunk in chunks),
        loads_prices=any(_loads_prices(chunk) for chunk in chunks),
        driver=driver,
        now=now or datetime.now(UTC),
    )


def attempts(database: Database, key_prefix: str) -> list[Backfill]:
    """Ranges asked for under keys that begin with `key_prefix`, oldest first."""
    return [_backfill(row) for row in rows.requests(database, key_prefix=key_prefix)]


def open_requests(database: Database) -> list[Backfill]:
    """Ranges that are waiting or being run, oldest first."""
    return [_backfill(row) for row in rows.requests(database, statuses=OPEN)]


def recent(database: Database, limit: int) -> list[Backfill]:
    """The newest ranges, whatever became of them, oldest first."""
    return [_backfill(row) for row in rows.requests(database, limit=limit)]


def terminated(ranges: Sequence[Backfill], first: date, last: date, portfolios: Sequence[str]) -> Backfill | None:
    """Of `ranges` (oldest first) the newest that was to compute some of these sessions, where a person terminated it.

    `portfolios` are codes; none: all of them.
    """

    def concerns(chunk: Chunk) -> bool:
        if chunk.first is None or chunk.last is None or chunk.first > last or chunk.last < first:
            return False
        return not portfolios or not chunk.portfolios or not set(portfolios).isdisjoint(chunk.portfolios)

    concerned = [one for one in ranges if any(map(concerns, one.remaining if one.canceled else one.chunks))]
    return concerned[-1] if concerned and concerned[-1].canceled else None


def fail_abandoned(database: Database, now: datetime) -> int:
    """Fail the ranges of commands that were killed, so that nothing waits for them; returns how many."""
    dead = [backfill for backfill in open_requests(database) if is_dead(backfill.driver)]
    for backfill in dead:
        rows.fail(database, backfill.backfill_id, {"message": KILLED}, now)
    return len(dead)


def resumable(earlier: Sequence[Backfill], chunks: Sequence[Chunk]) -> Backfill | None:
    """The newest of `earlier`, where it was broken off after some of the same daily runs were done; else None."""
    if not earlier or earlier[-1].status != "failed" or not earlier[-1].done_runs:
        return None

    def daily(all_chunks: Sequence[Chunk]) -> list[Chunk]:
        return [chunk for chunk in all_chunks if chunk.job == "daily"]

    return earlier[-1] if daily(earlier[-1].chunks) == daily(chunks) else None


def drive(database: Database, backfill: Backfill, run: Callable[[Chunk, dict[str, str]], Outcome]) -> None:
    """Run what remains of `backfill` in this process, counting each run that succeeded.

    `run` runs one chunk with further tags, and raises where it failed.
    """
    rows.begin(database, backfill.backfill_id, this_process(), datetime.now(UTC))
    while backfill.remaining:
        chunk = backfill.remaining[0]
        try:
            run(chunk, {**backfill.tags, **because(backfill.reason)})
        except (Exception, KeyboardInterrupt) as error:
            message = str(error) or "stopped by Ctrl-C"
            rows.fail(database, backfill.backfill_id, {"run": str(chunk), "message": message}, datetime.now(UTC))
            raise
        backfill = _succeeded(database, backfill, datetime.now(UTC))


@dataclass(frozen=True)
class Due:
    """What a look at the open ranges came to: the run to launch now, if any, and what there is to say."""

    request: dg.RunRequest | None
    remarks: tuple[str, ...]


def due(instance: dg.DagsterInstance, database: Database, now: datetime) -> Due:
    """Settle what the runs of the daemon's ranges came to, and say which run is due: one at a time over all of them."""
    remarks: list[str] = []
    waiting: list[Backfill] = []
    running = False
    for backfill in open_requests(database):
        if backfill.driver is not None:
            if _computes(instance, backfill):
                running = True  # what a range of ours applies would change what that command has read already
                remarks.append(f"{backfill}: a command runs it; the others wait")
            continue
        settled, state = _settled(instance, database, backfill, now)
        running |= state == "running"
        remarks.append(f"{settled}: {state}")
        if state == "due":
            waiting.append(settled)
    if running or not waiting:
        return Due(None, tuple(remarks))
    chosen = min(waiting, key=lambda b: (PRIORITY.get(b.requested_by, _USUAL_PRIORITY), b.backfill_id))
    rows.begin(database, chosen.backfill_id, None, now) if chosen.status == "pending" else None
    chunk = chosen.remaining[0]
    key, tags = f"{chosen.backfill_id}:{chosen.tags[CHUNK_TAG]}", {**chosen.tags, **because(chosen.reason)}
    return Due(run_request(chunk, key, tags), tuple(remarks))


def run_request(chunk: Chunk, key: str, tags: Mapping[str, str]) -> dg.RunRequest:
    """What makes the daemon run `chunk`, once for each `key`; `tags` come on top of the chunk's own."""
    return dg.RunRequest(
        run_key=key,
        job_name=chunk.job,
        tags={**chunk.tags, **tags},
        run_config=chunk.run_config(graph.filtered_steps(chunk.assets or jobs.asset_names(chunk.job))),
        asset_selection=chunk.asset_selection,
        # else Dagster adds every check of these assets, also those the job leaves to the clock
        asset_check_keys=graph.check_keys(chunk.assets) if chunk.assets else None,
    )


def _computes(instance: dg.DagsterInstance, backfill: Backfill) -> bool:
    """Whether a run of `backfill` is under way, in whatever process."""
    tags = {BACKFILL_TAG: str(backfill.backfill_id)}
    under_way = [DagsterRunStatus.STARTING, DagsterRunStatus.STARTED]
    return bool(instance.get_runs(RunsFilter(tags=tags, statuses=under_way), limit=1))


def _settled(
    instance: dg.DagsterInstance, database: Database, backfill: Backfill, now: datetime
) -> tuple[Backfill, str]:
    """`backfill` after what its runs came to, and what is to be done with it: due, running, completed, or failed."""
    while backfill.remaining:
        found = instance.get_runs(RunsFilter(tags=backfill.tags), limit=1)
        if not found:
            return backfill, "due"
        run = found[0]
        if not run.is_finished or run.tags.get(WILL_RETRY_TAG) == "true":
            return backfill, "running"
        if run.status is DagsterRunStatus.SUCCESS:
            backfill = _succeeded(database, backfill, now)
            continue
        errors = stored_errors(instance, run.run_id)
        canceled = run.status is DagsterRunStatus.CANCELED
        message = CANCELED if canceled else errors.text or "it says nothing"
        error = {"run": str(backfill.remaining[0]), "run_id": run.run_id, "message": message, "canceled": canceled}
        whole = backfill.stopped or canceled
        shorter = None if whole else before_failing(backfill.remaining[0], errors.first_failing_session)
        if shorter is None:
            rows.fail(database, backfill.backfill_id, error, now)
            return backfill, f"failed: {message}"
        chunks = (*backfill.chunks[: backfill.done_runs], shorter)
        rows.shorten(database, backfill.backfill_id, _scope(chunks, stopped=True), error)
        backfill = replace(backfill, chunks=chunks, stopped=True, error=message)
    return backfill, "failed" if backfill.stopped else "completed"


def _succeeded(database: Database, backfill: Backfill, now: datetime) -> Backfill:
    """Count the next run as done; the last one of a range that was cut short ends it as failed."""
    chunk = backfill.remaining[0]
    done, last = backfill.done_runs + 1, len(backfill.remaining) == 1
    rows.advance(
        database,
        backfill.backfill_id,
        done_runs=done,
        sessions=chunk.session_count,
        last=last and not backfill.stopped,
        now=now,
    )
    if _loads_prices(chunk):
        spans = [c for c in backfill.chunks[:done] if c.first is not None]
        rows.count_symbols(
            database, backfill.backfill_id, spans[0].first, max(c.last for c in spans if c.last is not None)
        )
    if last and backfill.stopped:
        stored = rows.requests(database, backfill_id=backfill.backfill_id)[0]
        rows.fail(database, backfill.backfill_id, stored["error_details"], now)
    return replace(backfill, done_runs=done, done_sessions=backfill.done_sessions + chunk.session_count)


def _loads_prices(chunk: Chunk) -> bool:
    return chunk.first is not None and (not chunk.assets or "daily_prices" in chunk.assets)


def _scope(chunks: Sequence[Chunk], *, stopped: bool = False) -> dict[str, Any]:
    return {
        "portfolios": sorted({code for chunk in chunks for code in chunk.portfolios}),
        "stopped": stopped,
        "runs": [
            {
                "job": chunk.job,
                "first": chunk.first and chunk.first.isoformat(),
                "last": chunk.last and chunk.last.isoformat(),
                "sessions": chunk.session_count,
                "portfolios": list(chunk.portfolios),
                "trigger": chunk.trigger,
                "assets": list(chunk.assets),
                "followed_by": chunk.followed_by and chunk.followed_by.isoformat(),
                "known_on": chunk.known_on and chunk.known_on.isoformat(),
            }
            for chunk in chunks
        ],
    }


def _backfill(row: dict[str, Any]) -> Backfill:
    scope = row["scope"]
    return Backfill(
        **{
            name: row[name]
            for name in (
                "backfill_id",
                "request_key",
                "requested_by",
                "reason",
                "status",
                "driver",
                "total_sessions",
                "done_sessions",
                "done_runs",
                "requested_at",
                "started_at",
            )
        },
        chunks=tuple(
            Chunk(
                job=run["job"],
                first=date.fromisoformat(run["first"]) if run["first"] else None,
                last=date.fromisoformat(run["last"]) if run["last"] else None,
                session_count=run["sessions"],
                portfolios=tuple(run["portfolios"]),
                trigger=run["trigger"],
                assets=tuple(run["assets"]),
                followed_by=date.fromisoformat(run["followed_by"]) if run.get("followed_by") else None,
                known_on=date.fromisoformat(run["known_on"]) if run.get("known_on") else None,
            )
            for run in scope["runs"]
        ),
        error=(row["error_details"] or {}).get("message"),
        canceled=bool((row["error_details"] or {}).get("canceled")),
        stopped=scope["stopped"],
    )
