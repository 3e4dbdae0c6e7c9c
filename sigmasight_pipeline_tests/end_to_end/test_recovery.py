"""What happens when things go wrong or the past changes: a a killed run, a gap, an old flow, a closure."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from dagster import DagsterRunStatus
from polars.testing import assert_frame_equal

from sigmasight_pipeline.assets import resources
from sigmasight_pipeline.cli.installation import Installation
from sigmasight_pipeline.market_data.factory import open_source
from sigmasight_pipeline.operations import books, runs
from sigmasight_pipeline.operations.launcher import Chunk, Launcher
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline_tests.conftest import temporary_home
from sigmasight_pipeline_tests.end_to_end import small_books
from sigmasight_pipeline_tests.end_to_end.installations import (
    CALENDAR,
    RESULT_TABLES,
    assert_same,
    everything,
    expect,
    import_demo,
    installation,
    rows,
    run_history,
    run_sessions,
)
from sigmasight_pipeline_tests.end_to_end.small_books import World, installed

FIRST, LAST = date(2024, 1, 2), date(2024, 2, 15)
DAYS = CALENDAR.between(FIRST, LAST)
PATIENCE = 120.0

SHORT = {"first_session": "2023-09-01"}
"""Less price history than usual: what these tests look at does not need it."""


@pytest.fixture(scope="module")
def undisturbed(server: EmbeddedServer) -> Iterator[Installation]:
    with temporary_home() as home, installation(server, home, **SHORT) as opened:
        import_demo(opened)
        run_history(opened, FIRST, LAST)
        yield opened


@pytest.fixture(scope="module")
def expected(undisturbed: Installation) -> dict[str, pl.DataFrame]:
    return everything(undisturbed)


def test_a_run_killed_in_the_middle_leaves_whole_sessions_and_the_next_completes_it(
    server: EmbeddedServer, expected: dict[str, pl.DataFrame]
) -> None:
    with temporary_home() as home, installation(server, home, **SHORT) as opened:
        import_demo(opened)
        command = [sys.executable, "-m", "sigmasight_pipeline.cli.main", "backfill", "--to", LAST.isoformat()]
        with subprocess.Popen(
            command, env=os.environ.copy(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            killed_at = _kill_while_writing(opened, process)
        for table in RESULT_TABLES:
            stored = rows(opened, table)
            whole = expected[str(table.name)]
            present = stored["session_date"].unique()
            assert_frame_equal(stored, whole.filter(pl.col("session_date").is_in(present.implode())))
        assert rows(opened, tables.portfolio_snapshots).is_empty(), f"killed too late, at {killed_at}"
        fresh = Launcher(opened.launcher.instance, opened.launcher.definitions)
        assert len(runs.fail_dead(fresh.instance)) == 1, "the killed run is told from a running one, once"
        assert runs.fail_dead(fresh.instance) == []
        statuses = {run.status for run in fresh.instance.get_runs()}
        assert statuses <= {DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE}
        run_history(opened, FIRST, LAST)
        assert_same(opened, expected)


def _kill_while_writing(opened: Installation, process: subprocess.Popen[bytes]) -> float:
    """Kill -9 as soon as position values are there, which is before the snapshots are."""
    started = time.monotonic()
    while time.monotonic() - started < PATIENCE:
        if opened.database.query("SELECT EXISTS (SELECT FROM sigmasight.position_greeks) AS there")["there"][0]:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return time.monotonic() - started
        assert process.poll() is None, "the backfill ended before it wrote anything"
        time.sleep(0.005)
    raise TimeoutError("the backfill wrote nothing")


def test_a_session_whose_predecessor_is_missing_is_refused_by_name(server: EmbeddedServer, tmp_path: Path) -> None:
    with installed(server, tmp_path, World(days=5)) as made:
        opened, days = made.opened, small_books.DAYS
        made.world = World(days=7)
        made.world.write(made.folder)
        resources._source.cache_clear()
        outcome = run_sessions(opened, days[6])
        assert not outcome.succeeded
        message = " ".join(outcome.errors)
        assert str(days[5]) in message
        assert "changed" in message
        assert str(days[6]) in message
        expect(run_sessions(opened, days[5]))
        expect(run_sessions(opened, days[6]))
        assert rows(opened, tables.portfolio_snapshots)["session_date"].max() == days[6]


def test_a_flow_of_the_past_moves_every_later_net_asset_value(
    undisturbed: Installation, expected: dict[str, pl.DataFrame]
) -> None:
    """Only the session of the flow is run again; the chain after it follows in the same transaction."""
    opened, day = undisturbed, DAYS[20]
    importer = books.Importer(opened.database, opened.settings, open_source(opened.settings, CALENDAR))
    flow = f"portfolio,date,amount,kind\nindividual,{day},25000,contribution\n".encode()
    assert importer.flows(flow, "flows.csv").first_session == day
    expect(opened.launcher.run(Chunk(job="reference")))
    expect(run_sessions(opened, day))
    before, after = expected["portfolio_snapshots"], rows(opened, tables.portfolio_snapshots)
    moved = after.join(before, on=["session_date", "portfolio_id"], suffix="_before").with_columns(
        shift=pl.col("net_asset_value") - pl.col("net_asset_value_before")
    )
    individual = rows(opened, tables.portfolios).filter(pl.col("code") == "individual")["portfolio_id"][0]
    touched = (pl.col("portfolio_id") == individual) & (pl.col("session_date") >= day)
    assert set(moved.filter(touched)["shift"]) == {Decimal("25000.00")}
    assert set(moved.filter(~touched)["shift"]) == {Decimal("0.00")}
    assert after.filter(touched)["daily_pnl"].equals(before.filter(touched)["daily_pnl"])
    newest = rows(opened, tables.portfolios).filter(pl.col("code") == "individual").row(0, named=True)
    assert newest["equity_as_of"] == LAST
    assert newest["equity_balance"] == after.filter(touched & (pl.col("session_date") == LAST))["net_asset_value"][0]
    # and back: an empty set of flows is an older file with another one
    assert importer.flows(flow, "flows.csv").unchanged


def test_importing_the_same_again_changes_nothing(undisturbed: Installation) -> None:
    opened = undisturbed
    source = open_source(opened.settings, CALENDAR)
    positions = rows(opened, tables.positions)
    assert books.accept_demo(books.Importer(opened.database, opened.settings, source), source) == []
    expect(opened.launcher.run(Chunk(job="reference")))
    assert_frame_equal(rows(opened, tables.positions), positions)


def test_a_closed_session_has_no_rows_and_breaks_no_chain(server: EmbeddedServer, tmp_path: Path) -> None:
    """An unscheduled closure is data: nothing is computed for it, and the next session follows the one before."""
    days = small_books.DAYS[:7]
    closed = days[4]
    with installed(server, tmp_path, World(days=7), size=252, closed_sessions=closed.isoformat()) as made:
        opened = made.opened
        for table in (tables.daily_prices, tables.position_values, tables.portfolio_snapshots):
            assert rows(opened, table, [closed]).is_empty(), table.name
        expect(run_sessions(opened, closed))  # asked for by itself it is no failure either
        chain = rows(opened, tables.portfolio_snapshots)
        assert chain["session_date"].unique().sort().to_list() == [day for day in days if day != closed]
        failed = opened.database.query(
            "SELECT description FROM sigmasight.data_quality_results WHERE NOT passed AND severity = 'ERROR'"
        )
        assert failed.is_empty(), failed
