"""`sigmasight prices ...`: refused prices, and accepting one that waits in quarantine.

What belongs here: commands about single prices. What does not: running ranges (``cli.running``).
"""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table

from sigmasight_pipeline.cli.console import err, out, print_table
from sigmasight_pipeline.cli.installation import connected

app = typer.Typer(help="Prices that were refused, and accepting one that waits in quarantine.", no_args_is_help=True)


@app.command()
def rejected(
    everything: Annotated[bool, typer.Option("--all", help="Refused rows too, not only those in quarantine.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """List prices that wait in quarantine, because nothing has confirmed yet what is hard to believe.

    Of stocks and funds a move above +400 % or below -80 % (SIGMASIGHT_QUARANTINE_RISE, SIGMASIGHT_QUARANTINE_FALL); of
    options a close outside its arbitrage bounds, or far from what its volatility was.
    """
    from sigmasight_pipeline.storage import rejections

    with connected() as installation:
        found = rejections.rejected(installation.database, waiting_only=not everything)
        if as_json:
            out.print(json.dumps({"rejected_prices": found.to_dicts()}, default=str, indent=2))
            return
        if found.is_empty():
            err.print("No price was refused." if everything else "No price waits in quarantine.")
            return
        table = Table("number", "session", "symbol", "reason", "status", "received", "source")
        for row in found.iter_rows():
            table.add_row(*(str(value) for value in row))
        print_table(table)


@app.command()
def accept(
    numbers: Annotated[list[int], typer.Argument(help="Numbers as `sigmasight prices rejected` shows them.")],
) -> None:
    """Accept quarantined prices as right, store them, and compute every session from the earliest of them on."""
    from sigmasight_pipeline.cli.running import run_history
    from sigmasight_pipeline.storage import rejections, standing

    with connected() as installation:
        first = rejections.accept(installation.database, numbers)
        last = max(first, standing.newest_snapshot(installation.database) or first)
        run_history(installation, first=first, last=last, portfolios=[], trigger="restatement")
