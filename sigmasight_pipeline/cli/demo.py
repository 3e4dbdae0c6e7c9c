"""`sigmasight demo`: three portfolios, a simulated market, all history, from nothing to a summary.

What belongs here: the order of the demo's steps. What does not: the portfolios and the market (``demo``), and how a
book is imported or a range is run.
"""

from __future__ import annotations

import time
from datetime import date
from typing import Annotated

import typer

from sigmasight_pipeline.cli import summary
from sigmasight_pipeline.cli.console import UserError, err, note
from sigmasight_pipeline.cli.installation import connected, load_settings
from sigmasight_pipeline.cli.running import market_source, parse_day, refresh_reference, run_history
from sigmasight_pipeline.operations import books, history

FIRST_SESSION = date(2024, 1, 2)
LAST_SESSION = date(2025, 6, 30)
"""The demo's window is fixed, so that its figures can be documented; all options are alive through its end."""


def demo(
    through: Annotated[
        str | None,
        typer.Option(metavar="YYYY-MM-DD", help=f"Last session (default {LAST_SESSION}; later, options expire)."),
    ] = None,
) -> None:
    """Import the three demo portfolios and run their history over simulated prices (nothing here is market data)."""
    started = time.monotonic()
    last = parse_day(through, "--through") or LAST_SESSION
    if last < FIRST_SESSION:
        raise UserError(f"--through {last} lies before the demo's first session, {FIRST_SESSION}")
    if load_settings().price_source != "simulated":
        raise UserError("the demo needs the simulated market: unset SIGMASIGHT_PRICE_SOURCE and run it again")
    with connected(create=True) as installation:
        database = installation.database
        source = market_source(installation)
        accepted = books.accept_demo(books.Importer(database, installation.settings, source), source)
        if accepted:
            note(f"Importing {', '.join(accepted)} ...")
            refresh_reference(installation, "demo")
        missing = history.missing_snapshots(database, last)
        if missing.is_empty():
            note(f"Every session through {last} is there; nothing to compute.")
        else:
            run_history(
                installation,
                first=missing["first_missing"].min(),  # type: ignore[arg-type]  # a Date column's min
                last=last,
                portfolios=[],
                trigger="demo",
                refresh=not accepted,
                prices_from=installation.settings.first_session,
            )
        summary.print_portfolios(database, time.monotonic() - started)
    err.print(
        "Prices are simulated (source = 'simulated'). Next:\n"
        "  make dev                     the Dagster UI: assets, partitions, checks, backfills\n"
        "  .venv/bin/sigmasight status  where everything stands\n"
        "  .venv/bin/sigmasight db psql a prompt on the results\n"
        "  .venv/bin/sigmasight import my.csv --name 'My book' --equity 1000000",
    )
