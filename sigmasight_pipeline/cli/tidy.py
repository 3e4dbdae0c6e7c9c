"""`sigmasight db tidy`: removing what is older than the settings say, and showing beforehand what would go.

What belongs here: the command and its table. What does not: what is removed (``operations.tidy``).
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table

from sigmasight_pipeline.cli.console import err, note, out, print_table
from sigmasight_pipeline.cli.installation import connected, remove_rows_of_earlier_versions


def tidy(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Remove old results (SIGMASIGHT_RETENTION_SESSIONS) and old rows of Dagster (SIGMASIGHT_DAGSTER_RETENTION_DAYS).

    Market data, returns, snapshots and what they are made from are kept for ever, and so is what the UI shows of the
    newest state of every partition and check. Safe beside runs; stopped half-way, the same command goes on.
    """
    from sigmasight_pipeline.storage import schema

    with connected() as installation:
        from sigmasight_pipeline.operations import tidy as steps

        settings, now = installation.settings, datetime.now(UTC)
        schema.create_database_if_missing(installation.dagster_url)
        if not dry_run:
            remove_rows_of_earlier_versions(installation.dagster_url)
        with err.status("Looking for what is old ...") as status:

            def told(line: str) -> None:
                status.update(f"{'Counting' if dry_run else 'Removing'} {line} ...")

            results = steps.tidy_results(installation.database, settings, now, told, dry_run=dry_run)
            events = steps.tidy_events(installation.dagster_url, settings, now, told, dry_run=dry_run)
        cutoffs = steps.cutoffs(installation.database, settings.retention_sessions)
        kept_from = max(cutoffs.values(), default=None)
    removed = steps.summary(results, events)
    if as_json:
        document = {"dry_run": dry_run, "results_kept_from": kept_from, "rows": dict(removed)}
        out.print(json.dumps(document, default=str, indent=2))
        return
    if settings.retention_sessions is None:
        note("Results are kept for ever: SIGMASIGHT_RETENTION_SESSIONS is not set.")
    elif kept_from is not None:
        note(f"Results are kept from {kept_from} on ({settings.retention_sessions} sessions).")
    if not removed:
        err.print("Nothing is older than it may be; nothing to remove.")
        return
    table = Table("what", "rows")
    table.columns[1].justify = "right"
    for what, rows in removed:
        table.add_row(what, f"{rows:,}")
    print_table(table)
    err.print(
        "Nothing was removed; without --dry-run, this would be." if dry_run else "Removed. The space is used again."
    )
