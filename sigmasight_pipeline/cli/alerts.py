"""`sigmasight alerts ...`: whether messages arrive, and which there were.

What belongs here: showing `alert_outbox` and asking for a test message. What does not: what is told when
(``operations``).
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated

import typer

from sigmasight_pipeline.cli.console import UserError, err, out
from sigmasight_pipeline.cli.exit_status import ExitStatus
from sigmasight_pipeline.cli.installation import connected, load_settings

app = typer.Typer(help="Messages about failures: sending a test message, and listing them.", no_args_is_help=True)


@app.command()
def test() -> None:
    """Send a test message by every channel that is set, now, and say of each whether it went.

    Exit status 1 where one failed, 2 where none is set.
    """
    from sigmasight_pipeline.operations.alerts import send_test
    from sigmasight_pipeline.operations.delivery import SETTINGS_NEEDED

    results = send_test(load_settings(), datetime.now(UTC))
    if not results:
        raise UserError(f"no way to send alerts is set: set {SETTINGS_NEEDED}")
    for result in results:
        out.print(
            f"{result.channel}: {'failed' if result.failed else 'sent'}{': ' if result.remark else ''}"
            f"{result.remark or ''}"
        )
    raise typer.Exit(ExitStatus.FOUND if any(result.failed for result in results) else ExitStatus.FINE)


@app.command("list")
def list_messages(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many messages.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document, with the messages' whole text.")] = False,
) -> None:
    """Show the messages that wait for delivery, then those that were sent, the newest first."""
    from sigmasight_pipeline.storage import outbox

    with connected() as installation:
        found = outbox.listing(installation.database, limit)
        if as_json:
            out.print(json.dumps({"alerts": found.to_dicts()}, default=str, indent=2))
            return
        if found.is_empty():
            err.print("No message was ever written.")
            return
        for row in found.iter_rows(named=True):
            state = _state(row["status"], row["sent_at"], row["next_attempt_at"])
            out.print(f"{row['alert_id']}  {row['created_at']:%Y-%m-%d %H:%M} UTC  {row['channel']}, {state}")
            out.print(f"    {row['subject']}")
            if row["last_error"]:
                out.print(f"    try {row['attempts']} failed: {row['last_error']}")


def _state(status: str, sent_at: datetime | None, next_attempt_at: datetime) -> str:
    """How far a message is; one that was suppressed was only counted in another one of its topic."""
    if status == "pending":
        return f"waits until {next_attempt_at:%m-%d %H:%M}"
    told = "sent" if status == "sent" else "counted in another"
    return f"{told} {sent_at:%m-%d %H:%M}"
