"""`make bench`: every benchmark as a table; exit status 1 where one is over its budget."""

from __future__ import annotations

import sys
from uuid import uuid4

import psycopg
from rich.console import Console
from rich.table import Table

from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline_tests.benchmarks import demo, factors, options, risk, storage, stress, valuation
from sigmasight_pipeline_tests.benchmarks.measurement import Measurement
from sigmasight_pipeline_tests.conftest import temporary_home

WIDTH = 130
"""Columns the table of a stage needs, also where the terminal is narrower."""

console = Console(width=max(Console().width, WIDTH))


def main() -> int:
    """Run all benchmarks on a server of their own; returns the exit status."""
    measured: list[Measurement] = []
    with temporary_home() as home, EmbeddedServer(home).shared() as server:
        for name, benchmark in (
            ("demo", lambda: demo.run(server)),
            ("write and read path", lambda: storage.run(_fresh(server))),
            ("valuation", valuation.run),
            ("options", options.run),
            ("factors", factors.run),
            ("stress", stress.run),
            ("risk", risk.run),
        ):
            with console.status(f"measuring: {name} ..."):
                found = benchmark()
            console.print(_table(name, found))
            measured += found
    over = [item.stage for item in measured if not item.within_budget]
    if over:
        console.print(f"[red]over budget: {', '.join(over)}[/red]")
    return 1 if over else 0


def _fresh(server: EmbeddedServer) -> str:
    name = f"bench_{uuid4().hex[:8]}"
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    return server.url(name)


def _table(name: str, measured: list[Measurement]) -> Table:
    table = Table(title=name, title_justify="left")
    table.add_column("stage")
    for column in ("seconds", "rows", "rows/s", "ratio", "budget"):
        table.add_column(column, justify="right")
    table.add_column("against")
    for item in measured:
        table.add_row(
            item.stage,
            f"{item.seconds:.3f}",
            f"{item.rows:,}",
            f"{item.rows_per_second:,.0f}",
            _times(item.ratio),
            _times(item.budget),
            item.peer or "",
        )
    return table


def _times(ratio: float | None) -> str:
    """A ratio of durations in words: how many times as fast as the peer, or as long."""
    if ratio is None:
        return ""
    return f"{1 / ratio:,.{0 if ratio < 0.1 else 1}f} x as fast" if ratio < 1 else f"{ratio:.3g} x as long"


if __name__ == "__main__":
    sys.exit(main())
