"""`make bench-scale`: whole histories of generated universes: seconds, memory, bytes on disk, and where the time goes.

What belongs here: running a universe through an installation of its own and what is measured of it. What does not: the
universes (``universe``), single engines and the write path (the sibling modules).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg
from rich.console import Console
from rich.table import Table

from sigmasight_pipeline.assets.progress import StepDone
from sigmasight_pipeline.assets.session_asset import SessionAsset
from sigmasight_pipeline.market_data.factory import open_source
from sigmasight_pipeline.operations import books, history
from sigmasight_pipeline.operations.launcher import Chunk
from sigmasight_pipeline_tests.benchmarks.universe import Universe
from sigmasight_pipeline_tests.conftest import temporary_home
from sigmasight_pipeline_tests.end_to_end.installations import CALENDAR, embedded_installation, expect

CASES = {
    "1000x63": Universe(50, 20, 500, 63),
    "1000x126": Universe(50, 20, 500, 126),
    "1000x252": Universe(50, 20, 500, 252),
    "10000x252": Universe(500, 20, 2000, 252),
}
"""By name: positions x sessions."""

console = Console(width=max(Console().width, 120))


@dataclass(frozen=True)
class Measured:
    """One universe: wall seconds, peak memory of the process that computes, size of the database, and processor
    seconds of the engines, of this process beside them (reading, writing, Dagster), and of PostgreSQL."""

    case: str
    positions: int
    symbols: int
    sessions: int
    import_seconds: float
    seconds: float
    peak_memory_mb: float
    disk_mb: float
    engine_seconds: float
    process_seconds: float
    server_seconds: float
    slowest: dict[str, float]


def measure(case: str, universe: Universe) -> Measured:
    """Run the whole history of `universe` once, in this process."""
    with temporary_home() as home:
        files = home / "files"
        files.mkdir()
        universe.write(files)
        first = universe.days[0].isoformat()
        options = {"price_source": "files", "files_dir": str(files), "first_session": first}
        with embedded_installation(home, **options) as opened, _engines_timed() as engines:
            begun = time.perf_counter()
            source = open_source(opened.settings, CALENDAR)
            importer = books.Importer(opened.database, opened.settings, source)
            for name, content in universe.books():
                importer.positions(content, f"{name}.csv", books.Book(name=name, equity="1000000"))
            expect(opened.launcher.run(Chunk(job="reference")))
            imported = time.perf_counter()
            server = _postmaster(home)
            before = (time.process_time(), _seconds_of_children(server))
            steps: Counter[str] = Counter()

            def listener(step: StepDone) -> None:
                steps[step.asset] += step.seconds

            chunks = history.plan_history(
                opened.database, opened.settings, source, CALENDAR,
                first=universe.first, last=universe.last, prices_from=opened.settings.first_session,
            )  # fmt: skip
            for chunk in chunks:
                console.print(f"{case}: {chunk} ...")
                expect(opened.launcher.run(chunk, listener))
            ended = time.perf_counter()
            own, served = time.process_time() - before[0], _seconds_of_children(server) - before[1]
            return Measured(
                case,
                universe.portfolios * universe.positions,
                universe.symbols,
                universe.sessions,
                round(imported - begun, 1),
                round(ended - imported, 1),
                round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 0),
                round(_disk(opened.database.url) / 1e6, 0),
                round(engines["seconds"], 1),
                round(own, 1),
                round(served, 1),
                {name: round(seconds, 1) for name, seconds in steps.most_common(8)},
            )


@contextmanager
def _engines_timed() -> Iterator[Counter[str]]:
    """Counts the wall seconds spent inside engines, two of which may run at once."""
    spent: Counter[str] = Counter()
    compute = SessionAsset.compute

    def timed(self: SessionAsset, *args: Any, **more: Any) -> Any:
        begun = time.perf_counter()
        try:
            return compute(self, *args, **more)
        finally:
            spent["seconds"] += time.perf_counter() - begun

    SessionAsset.compute = timed  # type: ignore[method-assign]  # measured, not changed
    try:
        yield spent
    finally:
        SessionAsset.compute = compute  # type: ignore[method-assign]  # as it was


def _postmaster(home: Path) -> int:
    return int(next(home.glob("**/postmaster.pid")).read_text(encoding="ascii").splitlines()[0])


def _seconds_of_children(server: int) -> float:
    """Processor seconds of the server's processes, those that ended included."""
    ticks = 0
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(folder.name) == server:
                ticks += sum(int(field) for field in fields[11:15])
            elif int(fields[1]) == server:
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _disk(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    return int(row[0]) if row else 0


def main() -> int:
    """Measure the named cases; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m sigmasight_pipeline_tests.benchmarks.scale", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="case", help=f"of {', '.join(CASES)}; default: all")
    parser.add_argument("--json", action="store_true", help="one JSON object per case")
    asked = parser.parse_args()
    if unknown := [name for name in asked.cases if name not in CASES]:
        parser.error(f"no case {', '.join(unknown)}; there are {', '.join(CASES)}")
    found = []
    for name in asked.cases or CASES:
        found.append(measure(name, CASES[name]))
        if asked.json:
            print(json.dumps(asdict(found[-1])), flush=True)  # noqa: T201  # the answer
    if not asked.json:
        console.print(_table(found))
    return 0


def _table(found: list[Measured]) -> Table:
    table = Table(title="whole histories", title_justify="left")
    columns = [name for name in Measured.__dataclass_fields__ if name != "slowest"]
    for column in columns:
        table.add_column(column.replace("_", " "), justify="right")
    for item in found:
        table.add_row(*(str(getattr(item, column)) for column in columns))
    return table


if __name__ == "__main__":
    sys.exit(main())
