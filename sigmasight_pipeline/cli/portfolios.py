"""`sigmasight portfolio`: list portfolios, close and reopen them, say what they are called and what they are.

What belongs here: options, messages, and running what a change asks for. What does not: what may be stated
(``operations.portfolio_life``), files (``cli.books``), and the figures of portfolios (``cli.summary``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from decimal import Decimal
from typing import Annotated

import typer
from rich.box import SIMPLE
from rich.table import Table

from sigmasight_pipeline.cli.console import UserError, err, note, out
from sigmasight_pipeline.cli.installation import Installation, connected
from sigmasight_pipeline.cli.options import parse_day

app = typer.Typer(
    help="List portfolios; close one at a session and reopen it; give it another name or description.",
    no_args_is_help=True,
)

TRIGGER = "manual"

Code = Annotated[str, typer.Argument(metavar="CODE", help="Code of the portfolio.", show_default=False)]
NoRun = Annotated[
    bool, typer.Option("--no-run", help="Only state it; the sensors, or the command that is printed, compute it.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document.")]


@contextmanager
def refusals() -> Iterator[None]:
    """What cannot be stated, as an error of the command."""
    from sigmasight_pipeline.operations import portfolio_life

    try:
        yield
    except portfolio_life.BookChangeError as error:
        raise UserError(str(error)) from None


@app.command("list")
def listing(as_json: AsJson = False) -> None:
    """List every portfolio: code, name, newest session and net asset value, closing session; --json says more."""
    from sigmasight_pipeline.storage import portfolio_changes

    with connected() as installation:
        rows = portfolio_changes.listed(installation.database)
    if as_json:
        out.print(json.dumps({"portfolios": rows.to_dicts()}, default=str, indent=2))
        return
    if rows.is_empty():
        err.print("No portfolio yet. Import one: sigmasight import my.csv --name 'My book' --equity 1000000")
        return
    shown = Table(box=SIMPLE, padding=(0, 1, 0, 0))
    for column in ("code", "name", "newest", "net asset value", "closed at"):
        number = column == "net asset value"
        shown.add_column(column, justify="right" if number else "left", no_wrap=column != "name", overflow="fold")
    for row in rows.iter_rows(named=True):
        value = row["net_asset_value"]
        shown.add_row(
            row["code"],
            row["name"],
            str(row["newest_session"] or "-"),
            "-" if value is None else f"{Decimal(value):,.2f}",
            str(row["closing_date"] or "-"),
        )
    out.print(shown)


@app.command()
def close(
    code: Code,
    on: Annotated[
        str | None,
        typer.Option("--on", metavar="YYYY-MM-DD", help="Last session with results; default: its newest snapshot's."),
    ] = None,
    no_run: NoRun = False,
) -> None:
    """Close a portfolio at a session: it gets no new rows and keeps its old ones.

    Rows after an earlier closing session are removed. What changes before it (a restated price, say) is followed as
    ever.
    """
    from sigmasight_pipeline import sessions
    from sigmasight_pipeline.cli.running import books_in_hand, follow_inputs
    from sigmasight_pipeline.operations import portfolio_life
    from sigmasight_pipeline.operations.history import newest_session
    from sigmasight_pipeline.storage import portfolio_changes

    stated = parse_day(on, "--on")
    with connected() as installation, refusals():
        database = installation.database
        before = portfolio_life.require(database, code)["closing_date"]
        if before is not None and stated in (None, before):
            err.print(f"{code} is closed at {before} already; nothing was changed.")
            return
        session = portfolio_life.closing_session(
            database, sessions.calendar(), code, stated, newest_session(installation.settings)
        )
        newest = portfolio_changes.newest_snapshot(database, code)
        if no_run:
            portfolio_life.close(database, code, session)
            note(f"{code} is closed at {session}.")
            if newest is not None and newest > session:
                err.print(f"To remove its rows after that:\n  sigmasight repair --from {session} --to {newest}")
            return
        with books_in_hand(installation, f"closing of {code}"):
            portfolio_life.close(database, code, session)
            note(f"{code} is closed at {session}.")
            follow_inputs(installation, [code], TRIGGER)
            _complete(installation, code, session)


@app.command()
def reopen(code: Code, no_run: NoRun = False) -> None:
    """Open a closed portfolio again, and compute its sessions since."""
    from sigmasight_pipeline.cli.running import books_in_hand
    from sigmasight_pipeline.operations import portfolio_life

    with connected() as installation, refusals():
        if no_run:
            first = portfolio_life.reopen(installation.database, code) + timedelta(days=1)
            note(f"{code} is open again.")
            err.print(f"To compute its sessions since:\n  sigmasight backfill --from {first} --portfolio {code}")
            return
        with books_in_hand(installation, f"reopening of {code}"):
            closed = portfolio_life.reopen(installation.database, code)
            note(f"{code} is open again; it was closed at {closed}.")
            _complete(installation, code, closed)


@app.command()
def rename(
    code: Code,
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False, help="What it shall be called.")],
) -> None:
    """Give a portfolio another name. Its code, by which commands and files name it, stays."""
    from sigmasight_pipeline.operations import portfolio_life

    with connected() as installation, refusals():
        portfolio_life.rename(installation.database, code, name)
    note(f"{code} is called {name.strip()} now.")


@app.command()
def describe(
    code: Code,
    text: Annotated[str, typer.Argument(metavar="TEXT", show_default=False, help="What it is, on one line.")],
) -> None:
    """Say what a portfolio is, on one line; '' says nothing."""
    from sigmasight_pipeline.operations import portfolio_life

    with connected() as installation, refusals():
        portfolio_life.describe(installation.database, code, text)
    note(f"{code}: {text.strip() or 'no description'}")


def _complete(installation: Installation, code: str, closed: date) -> None:
    """Run the sessions `code` lacks: up to the newest snapshot of any portfolio, or where none is later than its
    closing session `closed`, as far as there are prices."""
    from sigmasight_pipeline import sessions
    from sigmasight_pipeline.cli.running import market_source, run_history
    from sigmasight_pipeline.operations import history
    from sigmasight_pipeline.storage import standing

    database, calendar = installation.database, sessions.calendar()
    newest = standing.newest_snapshot(database)
    if newest is None or newest <= closed:
        newest = history.available(installation.settings, market_source(installation), calendar).last
    missing = standing.missing_snapshots(database, newest)
    own = missing.filter(missing["code"] == code)
    if own.is_empty():
        note("Every session of it is there; nothing to compute.")
        return
    run_history(installation, first=own["first_missing"][0], last=newest, portfolios=[code], trigger=TRIGGER)
