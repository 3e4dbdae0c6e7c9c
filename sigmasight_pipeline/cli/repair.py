"""`sigmasight repair`: recompute P&L, snapshots and equity of a range, or say what that would change.

What belongs here: options, progress and showing what came of it. What does not: the range and the runs
(``operations.repair``), computing without writing (``operations.rehearsal``).
"""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE
from rich.table import Table

from sigmasight_pipeline.cli.console import OptionError, err, out, print_table, run_chunks
from sigmasight_pipeline.cli.exit_status import ExitStatus
from sigmasight_pipeline.cli.installation import Installation, connected
from sigmasight_pipeline.cli.options import parse_day

if TYPE_CHECKING:
    import polars as pl

    from sigmasight_pipeline.operations.launcher import Chunk


SHOWN = 20
"""Snapshots shown in the terminal; --json has all of them."""


def repair(
    first: Annotated[str, typer.Option("--from", metavar="YYYY-MM-DD", help="First session.")],
    last: Annotated[str, typer.Option("--to", metavar="YYYY-MM-DD", help="Last session.")],
    portfolio: Annotated[
        list[str] | None,
        typer.Option(metavar="CODE", help="Only this portfolio, by its code (repeatable); default: all."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change; write nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Recompute P&L, snapshots and equity of a range through the assets that compute them every day.

    Prices and everything else upstream stay as they are stored. Where the last session's net asset value changes, the
    snapshots after it follow; so does everything that is older than an input it was made from. Exit status 1 where
    anything could not be computed.
    """
    from sigmasight_pipeline import sessions
    from sigmasight_pipeline.operations import repair as operations

    start, end = parse_day(first, "--from"), parse_day(last, "--to")
    if start is None or end is None or start > end:
        raise OptionError(f"--from {first} lies after --to {last}; exchange them")
    with connected() as installation:
        codes = portfolio or []
        chunks = operations.plan(
            installation.database,
            installation.settings,
            sessions.calendar(),
            first=start,
            last=end,
            portfolios=codes,
        )
        if dry_run:
            _rehearse(installation, chunks, codes, as_json=as_json)
        else:
            raise typer.Exit(_run(installation, chunks, codes, as_json=as_json))


def _rehearse(installation: Installation, chunks: list[Chunk], codes: list[str], *, as_json: bool) -> None:
    import polars as pl

    from sigmasight_pipeline.operations import rehearsal
    from sigmasight_pipeline.operations import repair as operations
    from sigmasight_pipeline.storage import tables

    database = installation.database
    with err.status("Computing without writing ...") as status:

        def listener(name: str, begin: date, end: date) -> None:
            status.update(f"Computing {name} of {begin} to {end}, without writing ...")

        found = rehearsal.rehearse(
            database,
            installation.settings,
            [(chunk.first, chunk.last) for chunk in chunks if chunk.first and chunk.last],
            portfolio_ids=operations.portfolio_ids(database, codes),
            listener=listener,
        )
    names = database.read(tables.portfolios, columns=["portfolio_id", "code"])
    counts, moved, identities = (
        frame.join(names, on="portfolio_id", how="left") for frame in (found.counts, found.snapshots, found.identities)
    )
    moved = moved.with_columns(difference=pl.col("after") - pl.col("before"))
    worst = found.worst
    if as_json:
        _print_json(
            {
                "dry_run": True,
                "tables": _documents(counts),
                "snapshots": _documents(moved),
                "worst": worst and _documents(moved.filter(*_same(worst)))[0],
                "identities": _documents(identities),
            }
        )
        return
    _print_counts(counts)
    if worst is None:
        out.print("No net asset value would change.")
    else:
        shown = Table(title="Net asset values that would change", title_justify="left", box=SIMPLE)
        for column in ("portfolio", "session", "stored", "recomputed", "difference"):
            shown.add_column(column, justify="left" if column in ("portfolio", "session") else "right")
        for row in moved.head(SHOWN).iter_rows(named=True):
            amounts = [_amount(row[name]) for name in ("before", "after", "difference")]
            shown.add_row(row["code"], str(row["session_date"]), *amounts)
        print_table(shown)
        if moved.height > SHOWN:
            out.print(f"... and {moved.height - SHOWN} more; --json lists them all.")
        one = moved.filter(*_same(worst)).row(0, named=True)
        out.print(f"Worst: {one['code']} {one['session_date']}, by {_amount(one['difference'])}.")
    for row in identities.iter_rows(named=True):
        out.print(
            f"Identities of {row['code']}: NAV - cash - market value at most {_amount(row['cash_residual'])}, "
            f"NAV - previous - flows - P&L at most {_amount(row['chain_residual'])}."
        )
    out.print("Nothing was written.")


def _run(installation: Installation, chunks: list[Chunk], codes: list[str], *, as_json: bool) -> ExitStatus:
    """Run the repair and show what came of it; returns the exit status."""
    from sigmasight_pipeline.cli.following import follow_changes
    from sigmasight_pipeline.operations import repair as operations
    from sigmasight_pipeline.operations import runs
    from sigmasight_pipeline.operations.launcher import RangeFailedError

    run_ids: list[str] = []
    error: str | None = None

    def run_all(runs_of_a_range: list[Chunk]) -> None:
        for chunk in runs_of_a_range:
            run_ids.extend(outcome.run_id for outcome in run_chunks(installation.launcher, [chunk]))

    try:
        run_all(chunks)
        follow_changes(installation, run_all, trigger=operations.TRIGGER)
    except RangeFailedError as failure:
        run_ids.append(failure.outcome.run_id)
        error = str(failure)
    finally:
        runs.sync(installation.launcher.instance, installation.database)
    rows = operations.outcome(installation.database, chunks, run_ids, codes)
    failed = int(rows["rows_failed"].sum())
    if as_json:
        _print_json({"dry_run": False, "tables": _documents(rows), "runs": run_ids, "error": error})
    else:
        _print_counts(rows)
    if error:
        err.print(f"Error: {error}", style="red")
    return ExitStatus.FOUND if error or failed else ExitStatus.FINE


def _print_counts(rows: pl.DataFrame) -> None:
    columns = [name for name in rows.columns if name.startswith("rows_")]
    moves = bool((rows["largest_nav_difference"].drop_nulls() != 0).any())
    shown = Table(box=SIMPLE, padding=(0, 1, 0, 0))
    shown.add_column("table", overflow="fold")
    shown.add_column("portfolio", overflow="fold")
    for name in [*(name.removeprefix("rows_") for name in columns), *(["NAV by"] if moves else [])]:
        shown.add_column(name, justify="right", no_wrap=True)
    for row in rows.iter_rows(named=True):
        counts = [f"{row[name]:,}" for name in columns]
        moved = [_amount(row["largest_nav_difference"])] if moves else []
        shown.add_row(row["table_name"], row["code"] or "", *counts, *moved)
    print_table(shown)


def _amount(value: Decimal | None) -> str:
    return "" if value is None else f"{value:,.2f}"


def _same(row: dict[str, object]) -> list[pl.Expr]:
    import polars as pl

    return [pl.col(name).eq_missing(pl.lit(row[name])) for name in ("portfolio_id", "session_date")]


def _documents(rows: pl.DataFrame) -> list[dict[str, Any]]:
    return rows.rename({"code": "portfolio"}).drop("portfolio_id").to_dicts()


def _print_json(document: dict[str, Any]) -> None:
    out.print(json.dumps(document, default=str, indent=2))
