"""A first import that was killed goes on with the same command; one beside other commands waits, or is told."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import polars as pl
import polars.selectors as cs
import psycopg
import pytest
from polars.testing import assert_frame_equal

from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline.storage.run_locks import SessionLocks
from sigmasight_pipeline_tests.cli.commands import PATIENCE, CommandLine, on_server, write_prices

HEADER = "ticker,quantity,entry_price,entry_date\n"
BOOK = f"{HEADER}AAA,100,100,2024-02-01\nBBB,-50,45,2024-02-05\n"
IMPORT = ("import", "harbor.csv", "--name", "Harbor", "--equity", "50000")
SETTINGS = {
    "SIGMASIGHT_FIRST_SESSION": "2024-01-02",
    "SIGMASIGHT_MAX_SESSIONS_PER_RUN": "10",
    "SIGMASIGHT_REGRESSION_WINDOW": "20",
    "SIGMASIGHT_MIN_OBSERVATIONS": "5",
    "SIGMASIGHT_CORRELATION_WINDOW": "20",
    "SIGMASIGHT_MIN_COMMON_OBSERVATIONS": "5",
    "SIGMASIGHT_ACCURACY_WINDOW": "20",
    "SIGMASIGHT_ACCURACY_MIN_PAIRS": "5",
}
"""A look-back of three runs and a history of one."""

POINTS = (
    "portfolio_imports",
    "portfolios",
    "positions",
    "instruments",
    "daily_prices",
    "daily_returns",
    "position_values",
    "portfolio_snapshots",
    "symbol_factor_betas",
    "pairwise_correlations",
    "portfolio_risk_metrics",
    "calculation_audit",
)
"""Killed as soon as the table has a row."""

JOURNALS = {"backfill_progress", "batch_runs", "data_quality_results", "input_changes", "portfolio_imports"}
"""Tables that say what happened, not what is."""


@pytest.fixture
def cli(server: EmbeddedServer, tmp_path: Path) -> Iterator[CommandLine]:
    """Commands on fresh databases, with prices and a book that nobody has imported yet."""
    with prepared(server, tmp_path) as commands:
        yield commands


def prepared(server: EmbeddedServer, folder: Path):  # type: ignore[no-untyped-def]  # a context manager's type is long
    write_prices(folder)
    (folder / "harbor.csv").write_text(BOOK)
    return on_server(server, folder, **SETTINGS)


@pytest.fixture(scope="module")
def undisturbed(server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, pl.DataFrame]:
    """Every table after an import nobody disturbed."""
    with prepared(server, tmp_path_factory.mktemp("undisturbed")) as commands:
        commands(*IMPORT)
        return contents(commands)


def contents(cli: CommandLine) -> dict[str, pl.DataFrame]:
    """Every table without stamps and journals; identifiers by their order, for one that was given and lost is none."""
    database = Database(cli.variables["SIGMASIGHT_DATABASE_URL"])
    found = {}
    for table in tables.every_table():
        keys = [column.name for column in table.primary_key.columns]
        if table.name not in JOURNALS and "run_id" not in keys:
            frame = database.read(table).drop(cs.datetime(), cs.by_name(*tables.PROVENANCE, require_all=False))
            numbered = [name for name in ("portfolio_id", "position_id") if name in frame.columns]
            found[str(table.name)] = frame.with_columns(pl.col(numbered).rank("dense")).sort(keys)
    database.close()
    return found


def waited(look: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Return once `look` finds what it looks for; the process must not have ended before."""
    end = time.monotonic() + PATIENCE
    while not look():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it never came to that point"
        time.sleep(0.02)


def has_rows(cli: CommandLine, table: str) -> Callable[[], bool]:
    def look() -> bool:
        try:
            return bool(cli.rows(f"SELECT 1 FROM sigmasight.{table} LIMIT 1"))
        except psycopg.errors.UndefinedTable:
            return False

    return look


@pytest.mark.parametrize(
    "point", [point if point == "daily_returns" else pytest.param(point, marks=pytest.mark.slow) for point in POINTS]
)
def test_the_same_command_goes_on_where_it_was_killed(
    cli: CommandLine, undisturbed: dict[str, pl.DataFrame], point: str
) -> None:
    started = cli.start(*IMPORT)
    waited(has_rows(cli, point), started)
    started.kill()
    started.communicate()
    done = cli(*IMPORT)
    assert "Harbor  (harbor)" in done.out
    found = contents(cli)
    assert found.keys() == undisturbed.keys()
    for frame, whole in zip(found.values(), undisturbed.values(), strict=True):
        assert_frame_equal(frame, whole, check_exact=True)
    assert "nothing was changed" in cli(*IMPORT).err


@pytest.mark.slow
def test_of_two_imports_of_one_new_name_the_later_is_told(cli: CommandLine) -> None:
    (cli.folder / "other.csv").write_text(f"{HEADER}BBB,10,45,2024-02-01\n")
    both = [cli.start(*IMPORT), cli.start("import", "other.csv", *IMPORT[2:])]
    ended = [process.communicate(timeout=PATIENCE) for process in both]
    assert sorted(process.returncode for process in both) == [0, 1], ended
    told = ended[0 if both[0].returncode else 1][1]
    assert "was accepted at the same time" in told or "add --replace to apply" in told, told
    assert len(cli.rows("SELECT 1 FROM sigmasight.portfolio_imports")) == 1


@pytest.mark.slow
def test_an_import_waits_for_a_backfill_under_way(cli: CommandLine) -> None:
    cli(*IMPORT)
    (cli.folder / "second.csv").write_text(f"{HEADER}BBB,10,45,2024-02-01\n")
    backfill = cli.start("backfill", "--restart")

    def runs() -> bool:
        return cli.rows("SELECT count(*) FROM sigmasight.backfill_progress WHERE status = 'processing'") == [(1,)]

    waited(runs, backfill)
    done = cli("import", "second.csv", "--name", "Second", "--equity", "1000")
    assert "Waiting for backfill" in done.err
    said = backfill.communicate(timeout=PATIENCE)
    assert backfill.returncode == 0, said
    assert cli.rows("SELECT count(*) = 2 * count(DISTINCT session_date) FROM sigmasight.portfolio_snapshots") == [
        (True,)
    ]


def test_an_import_has_the_books_alone_from_its_first_look_to_its_last_session(cli: CommandLine) -> None:
    """It waits for a run that has read positions; one that begins meanwhile waits for it."""
    url = cli.variables["SIGMASIGHT_DATABASE_URL"]
    cli("db", "upgrade")
    day = date(2024, 3, 1)
    with SessionLocks(url, "of-a-daemon") as under_way, SessionLocks(url, "begun-later") as later:
        assert under_way.take([day]) == []
        process = cli.start(*IMPORT)
        assert process.stderr is not None
        said = next(line for line in process.stderr if "Waiting" in line)
        assert "Waiting for run of-a-dae to end" in said
        assert cli.rows("SELECT 1 FROM sigmasight.portfolio_imports") == [], "it was judged before it had to wait"
        under_way.__exit__()
        waited(lambda: bool(cli.rows("SELECT 1 FROM sigmasight.portfolio_imports")), process)
        refused: list[list[str]] = []
        while process.poll() is None:
            if found := later.take([day]):
                refused.append(found)
            else:
                break
        _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, told
    assert ["import of harbor.csv"] in refused
    assert cli.rows("SELECT count(*) > 0 FROM sigmasight.portfolio_snapshots") == [(True,)]
