"""`make bench`: benchmarks as tables, all or those named; exit status 1 where one is over its budget."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from uuid import uuid4

import psycopg
from rich.console import Console
from rich.table import Table

from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline_tests.benchmarks import demo, factors, options, risk, simulation, storage, stress, valuation
from sigmasight_pipeline_tests.benchmarks.measurement import Measurement
from sigmasight_pipeline_tests.conftest import temporary_home

WIDTH = 130
"""Columns the table of a stage needs, also where the terminal is narrower."""

console = Console(width=max(Console().width, WIDTH))


STAGES: Mapping[str, Callable[[EmbeddedServer], list[Measurement]]] = {
    "demo": demo.run,
    "storage": lambda server: storage.run(_fresh(server)),
    "valuation": lambda _server: valuation.run(),
    "options": lambda _server: options.run(),
    "factors": lambda _server: factors.run(),
    "stress": lambda _server: stress.run(),
    "risk": lambda _server: risk.run(),
    "simulation": lambda _server: simulation.run(),
}


def main() -> int:
    """Run benchmarks on a server of their own; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m sigmasight_pipeline_tests.benchmarks", description=__doc__)
    parser.add_argument("stages", nargs="*", metavar="stage", help=f"one of {', '.join(STAGES)}; default: all")
    wanted = parser.parse_args().stages or list(STAGES)
    if unknown := [name for name in wanted if name not in STAGES]:
        parser.error(f"no stage {', '.join(unknown)}; there are {', '.join(STAGES)}")
    measured: list[Measurement] = []
    with temporary_home() as home, EmbeddedServer(home).shared() as server:
        for name in wanted:
            with console.status(f"measuring: {name} ..."):
                found = STAGES[name](server)
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
