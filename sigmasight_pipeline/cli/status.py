"""`sigmasight status`: where everything stands.

What belongs here: how that looks on a terminal and as JSON, and its exit status. What does not: reading it
(``storage.standing``), the figures of a portfolio (``cli.summary``), looking for single faults (``cli.audit``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sigmasight_pipeline.cli.console import err, out, warn
from sigmasight_pipeline.cli.exit_status import ExitStatus
from sigmasight_pipeline.cli.installation import Installation, connected

if TYPE_CHECKING:
    from sigmasight_pipeline.settings import Settings
    from sigmasight_pipeline.storage.database import Database


def status(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Say where everything stands: portfolios, what is missing, late or waiting, prices, failed checks.

    Exit status 1 where a check of severity ERROR fails, a snapshot is missing or late by the exchange's calendar, or an
    import waits to be applied; prices of the source `simulated` are never late.
    """
    with connected() as installation:
        page = look(installation.database, installation.settings, datetime.now(UTC))
        if as_json:
            out.print(json.dumps(page, default=str, indent=2))
        else:
            _print(installation, page)
    raise typer.Exit(ExitStatus.FINE if page["healthy"] else ExitStatus.FOUND)


def look(database: Database, settings: Settings, now: datetime) -> dict[str, Any]:
    """Everything the command tells, as one document; `healthy`: there is no finding in it."""
    from sigmasight_pipeline.storage import imports, standing, verdicts

    with database.connect() as connection:
        waiting = imports.waiting_count(connection)
    newest = standing.newest_snapshot(database)
    missing = [] if newest is None else standing.missing_snapshots(database, newest).drop("portfolio_id").to_dicts()
    late = standing.late(database, settings, now).drop("portfolio_id").to_dicts()
    failed = verdicts.failed(database).select("severity", "asset", "check_name").unique()
    failing = {severity: failed.filter(severity=severity).height for severity in ("ERROR", "WARN")}
    return {
        "at": now,
        "healthy": not (waiting or missing or late or failing["ERROR"]),
        "portfolios": standing.figures(database).drop("portfolio_id").to_dicts(),
        "newest_session": newest,
        "imports_waiting": waiting,
        "prices": standing.prices(database),
        "history_ends": settings.last_session,
        "missing_snapshots": missing,
        "late": late,
        "checks_failing": failing,
    }


def _print(installation: Installation, page: Mapping[str, Any]) -> None:
    from sigmasight_pipeline.cli import summary

    waiting, prices, failing = page["imports_waiting"], page["prices"], page["checks_failing"]
    if waiting:
        warn(f"{waiting} import(s) wait to be applied: `sigmasight backfill` applies them and runs their history.")
    if not page["portfolios"]:
        if not waiting:
            err.print("No portfolio yet. Import one: sigmasight import my.csv --name 'My book' --equity 1000000")
        return
    summary.print_portfolios(installation.database)
    out.print(
        f"Prices: {prices['rows']:,} rows, {prices['symbols']} symbols, {prices['first']} to {prices['last']}"
        if prices["rows"]
        else "Prices: none yet"
    )
    if page["history_ends"] is not None:
        out.print(f"History: ends at {page['history_ends']}; nothing later is due.")
    for row in page["missing_snapshots"]:
        warn(
            f"{row['code']} lacks {row['missing']} snapshot(s) from {row['first_missing']} on: "
            f"`sigmasight backfill --from {row['first_missing']} --portfolio {row['code']}` fills them."
        )
    for row in page["late"]:
        warn(f"{row['code']} is {row['told']}: `{row['command']}`.")
    out.print(f"Checks failing: {failing['ERROR']} with severity ERROR, {failing['WARN']} with severity WARN.")
