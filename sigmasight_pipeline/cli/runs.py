"""`sigmasight runs`: what ran, when, how long, how it ended, and how far open ranges are.

What belongs here: showing `batch_runs` and `backfill_progress`. What does not: recording them (``operations``).
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from sigmasight_pipeline.cli.console import err, out, print_table, warn
from sigmasight_pipeline.cli.installation import Installation, connected

if TYPE_CHECKING:
    from sigmasight_pipeline.operations.backfills import Backfill


def runs(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many runs, the newest first.")] = 20,
    failed: Annotated[bool, typer.Option("--failed", help="Only runs that failed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Show the runs that ended last and every range that is still open."""
    from sigmasight_pipeline.storage import backfills
    from sigmasight_pipeline.storage import runs as rows

    with connected() as installation:
        if not rows.are_settled(installation.database, installation.dagster_url):
            from sigmasight_pipeline.operations.runs import sync

            sync(installation.launcher.instance, installation.database)
        found = rows.recent(installation.database, limit=limit, statuses=("failure",) if failed else ())
        now = datetime.now(UTC)
        is_any_open = bool(backfills.requests(installation.database, statuses=backfills.OPEN, limit=1))
        opened = _opened(installation, now) if is_any_open else []
        if as_json:
            out.print(json.dumps({"runs": found.to_dicts(), "open_backfills": opened}, default=str, indent=2))
            return
        for one in opened:
            warn(
                f"backfill {one['backfill_id']} ({one['requested_by']}: {one['reason']}): {one['done_sessions']} of "
                f"{one['total_sessions']} sessions done, {one['status']}"
                + (f", about {one['seconds_left']} s left" if one["seconds_left"] is not None else "")
            )
        if found.is_empty():
            err.print("No run failed." if failed else "No run has ended yet.")
            return
        table = Table("run", "job", "sessions", "by", "outcome", "ended (UTC)", "s", box=SIMPLE_HEAD, padding=(0, 1))
        for row in found.iter_rows(named=True):
            table.add_row(
                row["run_id"][:8],
                row["job_name"],
                _span(row),
                row["trigger"],
                row["status"],
                f"{row['ended_at']:%m-%d %H:%M}",
                "" if row["duration_seconds"] is None else f"{row['duration_seconds']:.1f}",
            )
        print_table(table)
        for row in found.filter(found["error_message"].is_not_null()).iter_rows(named=True):
            out.print(f"{row['run_id'][:8]} {row['status']}: {row['error_message']}")


def _opened(installation: Installation, now: datetime) -> list[dict[str, Any]]:
    from sigmasight_pipeline.operations import backfills

    return [_progress(backfill, now) for backfill in backfills.open_requests(installation.database)]


def _span(row: dict[str, Any]) -> str:
    first, last = row["partition_start"], row["partition_end"]
    return "" if first is None else str(first) if first == last else f"{first} to {last}"


def _progress(backfill: Backfill, now: datetime) -> dict[str, Any]:
    share = backfill.done_sessions / backfill.total_sessions if backfill.total_sessions else 0.0
    spent = now - backfill.started_at if backfill.started_at else timedelta()
    return {
        "backfill_id": backfill.backfill_id,
        "requested_by": backfill.requested_by,
        "reason": backfill.reason,
        "status": backfill.status,
        "total_sessions": backfill.total_sessions,
        "done_sessions": backfill.done_sessions,
        "percent": round(100 * share, 1),
        "seconds_left": round(spent.total_seconds() * (1 - share) / share) if share else None,
        "portfolios": sorted({code for chunk in backfill.chunks for code in chunk.portfolios}),
        "next_run": str(backfill.remaining[0]) if backfill.remaining else None,
    }
