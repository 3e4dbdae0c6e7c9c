"""`sigmasight demo`: four portfolios, a simulated market, all history, from nothing to a summary.

What belongs here: the order of the demo's steps. What does not: the portfolios and the market (``demo``), and how a
book is imported or a range is run.
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import date
from typing import Annotated

import typer

from sigmasight_pipeline.cli.console import UserError, err, note
from sigmasight_pipeline.cli.installation import Installation, connected, load_settings
from sigmasight_pipeline.cli.options import parse_day

FIRST_SESSION = date(2024, 1, 2)
LAST_SESSION = date(2025, 6, 30)
"""The demo's window is fixed, so that its figures can be documented; all options are alive through its end."""


def demo(
    through: Annotated[
        str | None,
        typer.Option(metavar="YYYY-MM-DD", help=f"Last session (default {LAST_SESSION}; later, options expire)."),
    ] = None,
) -> None:
    """Import the four demo portfolios and run their history over simulated prices (nothing here is market data).

    The history then ends at the last session, in the Dagster UI too; `--through` moves that end later.
    """
    from sigmasight_pipeline.cli import summary
    from sigmasight_pipeline.cli.console import run_chunks

    started = time.monotonic()
    last = _last_session(parse_day(through, "--through"))
    with connected(create=True) as opened:
        installation = _fixed_history(opened, last)
        # partitions are made when assets load, and end where the history does: only now is that known
        from sigmasight_pipeline.cli.running import (
            books_in_hand,
            market_source,
            missing_of,
            refresh_reference,
            run_history,
        )
        from sigmasight_pipeline.demo import portfolios as shipped
        from sigmasight_pipeline.operations import books, demo_books

        database = installation.database
        source = market_source(installation)
        with books_in_hand(installation, "demo"):
            accepted = books.accept_demo(books.Importer(database, installation.settings, source), source)
            if accepted:
                note(f"Importing {', '.join(accepted)} ...")
                refresh_reference(installation, "demo")
            demo_books.state(database, last)
            if first_loads := demo_books.first_loads(database, installation.settings, FIRST_SESSION):
                note(f"Loading prices to {FIRST_SESSION} as they were first reported ...")
                run_chunks(installation.launcher, first_loads)
            codes = [book.code for book in shipped.books()]
            owed = missing_of(installation, codes, last)
            if owed is None:
                note(f"Every session through {last} is there; nothing to compute.")
            else:
                run_history(
                    installation,
                    first=owed.first,
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


def _last_session(through: date | None) -> date:
    """The last session the demo is to have: as asked for, else as set or recorded, else the documented one."""
    from sigmasight_pipeline.fixed_history import recorded_last_session
    from sigmasight_pipeline.settings import Settings

    settings = load_settings()
    if settings.price_source != "simulated":
        raise UserError("the demo needs the simulated market: unset SIGMASIGHT_PRICE_SOURCE and run it again")
    recorded = recorded_last_session(settings.home_path)
    stated = Settings().last_session  # as set in the environment, whatever is recorded
    if through is not None and stated is not None and through > stated:
        raise UserError(f"--through {through} lies after SIGMASIGHT_LAST_SESSION={stated}; unset that or set it later")
    last = through or stated or max(LAST_SESSION, recorded or LAST_SESSION)
    if last < FIRST_SESSION:
        named = f"--through {last}" if through else f"SIGMASIGHT_LAST_SESSION={last}"
        raise UserError(f"{named} lies before the demo's first session, {FIRST_SESSION}")
    return last


def _fixed_history(opened: Installation, last: date) -> Installation:
    """`opened` with the end of its history recorded, so that it is complete in whatever process looks at it.

    An installation that goes further already keeps its end: it is alive, or has a later one.
    """
    from sigmasight_pipeline.fixed_history import record_last_session, recorded_last_session
    from sigmasight_pipeline.settings import get_settings
    from sigmasight_pipeline.storage.upkeep import newest_snapshots

    newest = max(newest_snapshots(opened.database).values(), default=None)
    recorded = recorded_last_session(opened.settings.home_path)
    if recorded is None and newest is not None and newest > last:
        note(f"Results reach {newest} already; the history goes on and gets no end.")
        return opened
    record_last_session(opened.settings.home_path, max(last, recorded or last))
    get_settings.cache_clear()
    return replace(opened, settings=load_settings())
