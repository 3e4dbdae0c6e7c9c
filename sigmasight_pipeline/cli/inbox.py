"""`sigmasight inbox`: what lies in the inbox, and what became of the files taken from it.

What belongs here: showing the folder and `inbox_files`. What does not: judging files (``operations.inbox``).
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sigmasight_pipeline.cli.console import UserError, err, note, out, print_table
from sigmasight_pipeline.cli.installation import connected

if TYPE_CHECKING:
    from sigmasight_pipeline.operations.inbox_folder import Arrival


def inbox(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many files, the newest first.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Show the files that wait in the inbox and what became of those before: accepted, unchanged, or rejected and why.

    The sensor `inbox` takes a file once it has not changed for two looks, half a minute apart (`sigmasight dev` runs
    it). The file's name is the portfolio's code; a new portfolio states its equity in a first line such as
    `# equity: 1000000`, and may state name, inception, description and benchmark likewise.
    """
    from sigmasight_pipeline.operations.inbox_folder import InboxError, InboxFolder
    from sigmasight_pipeline.storage import inbox as rows

    with connected() as installation:
        path = installation.settings.inbox_path
        try:
            with InboxFolder.of(installation.settings) as folder:
                waiting = [_waiting(arrival) for arrival in folder.listing()]
        except InboxError as error:
            raise UserError(str(error)) from None
        taken = [_taken(row) for row in rows.recent(installation.database, limit).iter_rows(named=True)]
    if as_json:
        document = {"folder": str(path), "waiting": waiting, "files": taken}
        out.print(json.dumps(document, default=str, indent=2))
        return
    note(f"The inbox is {path}")
    for file in waiting:
        out.print(f"{file['file_name']} waits, {file['size']:,} bytes{' (unfinished)' if file['unfinished'] else ''}")
    if not taken:
        err.print("No file has been taken from it yet.")
        return
    table = Table("judged (UTC)", "outcome", "file", "portfolio", "backfill")
    for name in (2, 3):
        table.columns[name].overflow = "fold"  # a name that is cut cannot be looked for
    for file in taken:
        table.add_row(
            f"{file['received_at']:%Y-%m-%d %H:%M}",
            file["status"],
            file["file_name"],
            file["portfolio_code"] or "",
            str(file["backfill_id"] or ""),
        )
    print_table(table)
    for file in taken:
        if file["errors"]:
            _print_remarks(file)


def _print_remarks(file: dict[str, Any]) -> None:
    """What was wrong with a file, below where it lies now; wrapped, because errors are sentences."""
    lies = f" (lies in {file['moved_to']})" if file["moved_to"] else " (gone)"
    out.print(Text(f"{file['file_name']} {file['status']}{lies}:"), soft_wrap=False)
    for error in file["errors"]:
        out.print(Padding(Text(f"- {error}"), (0, 0, 0, 2)), soft_wrap=False)


def _waiting(arrival: Arrival) -> dict[str, Any]:
    return {
        "file_name": arrival.shown,
        "size": arrival.size,
        "modified_at": datetime.fromtimestamp(arrival.modified, UTC),
        "unfinished": arrival.is_unfinished,
    }


def _taken(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "errors": json.loads(row["errors"] or "[]")}
