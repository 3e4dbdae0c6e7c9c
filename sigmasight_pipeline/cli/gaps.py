"""`sigmasight gaps`: what should be there of computed sessions and is not, or is out of date, and computing it.

What belongs here: showing it and running the plans in this process. What does not: finding and planning
(``operations.gaps``, ``operations.restatement``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from sigmasight_pipeline.cli.console import UserError, err, note, out, print_table, run_chunks, timed, warn
from sigmasight_pipeline.cli.exit_status import ExitStatus
from sigmasight_pipeline.cli.installation import Installation, connected

if TYPE_CHECKING:
    from sigmasight_pipeline.operations.gaps import Gap, Standing
    from sigmasight_pipeline.operations.restatement import OutOfDate


def gaps(
    fill: Annotated[
        bool, typer.Option("--fill", help="Run what fills them, also those given up, and look again.")
    ] = False,
    portfolio: Annotated[
        list[str] | None,
        typer.Option(metavar="CODE", help="Only this portfolio's, by its code (repeatable); default: all."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Find what should be there of computed sessions and is not, or is older than the inputs it is made from.

    Exit status 0 where nothing is missing or out of date, 1 where something is.
    """
    from sigmasight_pipeline.storage import standing

    codes = portfolio or []
    with connected() as installation:
        standing.require_portfolios(installation.database, codes)
        found, stale = _look(installation, codes), _out_of_date(installation)
        failed: list[str] = []
        if fill and (found or stale):
            failed = _fill(installation, [one.gap for one in found])
            found, stale = _look(installation, codes), _out_of_date(installation)
        if as_json:
            told = {"gaps": [_document(one) for one in found], "out_of_date": stale and _told(stale), "failed": failed}
            out.print(json.dumps(told, indent=2))
        else:
            _show(found, stale)
        raise typer.Exit(ExitStatus.FOUND if found or stale else ExitStatus.FINE)


def _look(installation: Installation, codes: Sequence[str]) -> list[Standing]:
    from sigmasight_pipeline import sessions
    from sigmasight_pipeline.market_data.factory import open_source
    from sigmasight_pipeline.operations.gaps import find, standings

    with timed("Looking for gaps ..."):
        source = open_source(installation.settings, sessions.calendar())
        found = find(installation.database, installation.settings, source)
        if codes:
            own = [(gap, tuple(code for code in gap.portfolios if code in codes)) for gap in found]
            found = [replace(gap, portfolios=wanted) for gap, wanted in own if wanted]
        return standings(installation.database, installation.settings, found)


def _out_of_date(installation: Installation) -> OutOfDate | None:
    """What is there and older than an input it was made from."""
    from sigmasight_pipeline import sessions
    from sigmasight_pipeline.operations import restatement

    return restatement.out_of_date(installation.database, installation.settings, sessions.calendar())


def _fill(installation: Installation, found: Sequence[Gap]) -> list[str]:
    """Run the plans of gaps one after the other; what fails does not keep the others from being filled."""
    from sigmasight_pipeline import sessions
    from sigmasight_pipeline.cli.following import follow_changes
    from sigmasight_pipeline.market_data.factory import open_source
    from sigmasight_pipeline.operations import backfills, history, runs
    from sigmasight_pipeline.operations.gaps import TRIGGER, plan
    from sigmasight_pipeline.operations.launcher import RangeFailedError
    from sigmasight_pipeline.operations.restatement import running

    launcher, database = installation.launcher, installation.database
    waiting = backfills.open_requests(database)
    busy = f"{waiting[0]} is open" if waiting else running(launcher.instance)
    if busy is not None:
        raise UserError(f"nothing can be filled while {busy}: let it end (`sigmasight runs` shows how far it is)")
    source, failed = open_source(installation.settings, sessions.calendar()), []
    for gap in found:
        note(f"Filling {gap}")
        try:
            run_chunks(launcher, plan(database, installation.settings, source, sessions.calendar(), gap))
        except (RangeFailedError, history.NothingToRunError) as error:
            warn(str(error))
            failed.append(str(error))
    try:
        follow_changes(installation, lambda chunks: run_chunks(launcher, chunks), trigger=TRIGGER)
    except RangeFailedError as error:
        warn(str(error))
        failed.append(str(error))
    runs.sync(launcher.instance, database)
    return failed


def _show(found: Sequence[Standing], stale: OutOfDate | None) -> None:
    if stale is not None:
        warn(
            f"Results of {stale.first} to {stale.last} are older than what they are made from ({stale.what}): "
            "`sigmasight gaps --fill` computes them anew."
        )
    if not found:
        err.print("Nothing is missing.")
        return
    table = Table("portfolio", "sessions", "what is missing", "tried")
    for one in found:
        gap = one.gap
        span = [str(gap.first), *([f"to {gap.last}"] if gap.last > gap.first else []), f"({gap.sessions})"]
        table.add_row(
            "\n".join(gap.portfolios) or gap.owner,
            "\n".join(span),
            "\n".join([*gap.engines, *(f"of {symbol}" for symbol in gap.symbols)]),
            f"{one.attempts}\ngiven up" if one.given_up else str(one.attempts),
        )
    print_table(table)
    for one in found:
        if one.error:
            warn(f"{one.gap.owner} from {one.gap.first}: {one.error}")
    err.print("`sigmasight gaps --fill` computes what is missing.")


def _told(stale: OutOfDate) -> dict[str, Any]:
    return {
        "first": stale.first.isoformat(),
        "last": stale.last.isoformat(),
        "portfolios": sorted({code for chunk in stale.chunks for code in chunk.portfolios}),
        "changes": stale.outstanding.count,
        "newest": stale.what,
    }


def _document(one: Standing) -> dict[str, Any]:
    gap = one.gap
    return {
        "portfolios": list(gap.portfolios),
        "first": gap.first.isoformat(),
        "last": gap.last.isoformat(),
        "sessions": gap.sessions,
        "engines": list(gap.engines),
        "symbols": list(gap.symbols),
        "attempts": one.attempts,
        "given_up": one.given_up,
        "error": one.error,
    }
