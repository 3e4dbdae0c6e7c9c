"""A changed past, followed by exactly what depends on it; and a repair, tried and done. On prices from a folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from typer.testing import CliRunner

from sigmasight_pipeline.assets import catalog
from sigmasight_pipeline.assets.resources import MarketDataResource, PostgresResource, SettingsResource
from sigmasight_pipeline.cli.installation import Installation
from sigmasight_pipeline.cli.main import _command_tree
from sigmasight_pipeline.market_data.factory import open_source
from sigmasight_pipeline.operations import backfills, books, jobs
from sigmasight_pipeline.operations.launcher import Chunk
from sigmasight_pipeline.operations.sensors.restatement import restatement as sensor
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline_tests.conftest import temporary_home
from sigmasight_pipeline_tests.end_to_end.installations import (
    CALENDAR,
    RESULT_TABLES,
    everything,
    expect,
    installation,
    run_sessions,
)

DAYS = CALENDAR.between(date(2024, 1, 29), date(2024, 2, 6))
CHANGED = DAYS[3]  # the first of February
SYMBOLS = ("AAA", "BBB", "CCC", "DDD", "SPY")
BOOKS = {
    "changed": "ticker,quantity,entry_price,entry_date\nAAA,100,10,2024-01-29\nBBB,-50,20,2024-01-29\n",
    "other": "ticker,quantity,entry_price,entry_date\nCCC,100,10,2024-01-29\nDDD,10,10,2024-01-29\n",
}
STEP = Decimal("0.75")


def write_prices(folder: Path, corrections: dict[tuple[str, date], Decimal]) -> None:
    """prices.csv with a close of every symbol and session, some raised by their correction."""
    lines = [
        f"{symbol},{day},{10 + n + Decimal(k) / 4 + corrections.get((symbol, day), Decimal(0))}"
        for n, symbol in enumerate(SYMBOLS)
        for k, day in enumerate(DAYS)
    ]
    (folder / "prices.csv").write_text("\n".join(["symbol,date,close", *lines]) + "\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("market")
    write_prices(path, {})
    return path


def compute(opened: Installation) -> None:
    importer = books.Importer(opened.database, opened.settings, open_source(opened.settings, CALENDAR))
    for name, content in BOOKS.items():
        importer.positions(content.encode(), f"{name}.csv", books.Book(name=name, equity="10000"))
    expect(opened.launcher.run(Chunk(job="reference")))
    expect(run_sessions(opened, DAYS[0], DAYS[-1]))


@pytest.fixture(scope="module")
def opened(server: EmbeddedServer, folder: Path) -> Iterator[Installation]:
    with temporary_home() as home, installation(server, home, **_settings(folder)) as made:
        compute(made)
        yield made


def _settings(folder: Path) -> dict[str, str]:
    return {"price_source": "files", "files_dir": str(folder), "first_session": str(DAYS[0])}


class Ticks:
    """The sensor, ticked as the daemon does: with the cursor the tick before left."""

    def __init__(self, opened: Installation) -> None:
        self.opened = opened
        self.cursor: str | None = None

    def __call__(self) -> str:
        context = dg.build_sensor_context(
            instance=self.opened.launcher.instance,
            cursor=self.cursor,
            resources={
                "postgres": PostgresResource(database_url=self.opened.database_url),
                "settings": SettingsResource(),
                "market_data": MarketDataResource(),
            },
        )
        with context:
            answer = sensor(context)
            self.cursor = context.cursor
        assert isinstance(answer, dg.SkipReason), "runs are launched by the sensor `backfills` alone"
        return str(answer.skip_message)


def run_requests(opened: Installation) -> list[Chunk]:
    """Run what was asked for, as the sensor `backfills` does, and give the runs."""
    done: list[Chunk] = []
    for request in backfills.open_requests(opened.database):
        done += request.chunks
        backfills.drive(opened.database, request, lambda chunk, tags: expect(opened.launcher.run(chunk, tags=tags)))
    return done


Contents = dict[str, pl.DataFrame]


def with_stamps(opened: Installation) -> Contents:
    """Every market, result and reference table of the pipeline's, stamps included."""
    names = [*RESULT_TABLES, *(tables.named(name) for name in ("daily_prices", "positions"))]
    names += [tables.corporate_actions, tables.treasury_yields, tables.option_prices]
    return {
        str(table.name): opened.database.read(table, order_by=list(table.primary_key.columns.keys())) for table in names
    }


def audit_left_out(contents: Contents) -> Contents:
    return {name: frame for name, frame in contents.items() if name != tables.calculation_audit.name}


def test_a_price_changed_by_hand_moves_exactly_what_depends_on_it(opened: Installation) -> None:
    tick = Ticks(opened)
    assert tick() == "every change of an input is followed by what depends on it"
    before, (owner, _) = with_stamps(opened), owners(opened)
    with opened.database.connect() as connection:
        connection.execute(
            "UPDATE sigmasight.daily_prices SET close = close + %s WHERE symbol = 'AAA' AND session_date = %s",
            (STEP, CHANGED),
        )
    said = tick()
    assert f"daily_prices {CHANGED} AAA revised: close 10.750000 -> 11.500000; asked for {CHANGED} to" in said
    assert "looked at again when this has ended: backfill 1" in tick()
    (chunk,) = run_requests(opened)
    assert (chunk.first, chunk.last, chunk.portfolios, chunk.trigger) == (
        CHANGED, DAYS[-1], ("changed",), "restatement",
    )  # fmt: skip
    assert set(chunk.assets) == {
        name for name in jobs.asset_names("daily") if name not in {
            "daily_prices", "corporate_actions", "option_prices", "treasury_yields"
        }
    }  # fmt: skip

    after = with_stamps(opened)
    moved = set()
    for name, frame in audit_left_out(after).items():
        untouched = pl.lit(value=True)
        if name in chunk.assets or catalog.WRITTEN_WITH.get(name) in chunk.assets:
            untouched = pl.col("session_date") < CHANGED
            if "portfolio_id" in frame.columns:
                untouched |= pl.col("portfolio_id") != owner
            assert (
                not frame.filter(~untouched).equals(before[name].filter(~untouched))
                or frame.filter(~untouched).is_empty()
            ), name
        elif name == "daily_prices":
            untouched = (pl.col("symbol") != "AAA") | (pl.col("session_date") != CHANGED)
        assert frame.filter(untouched).equals(before[name].filter(untouched)), name
        moved |= {name} if not frame.equals(before[name]) else set()
    assert {"daily_returns", "symbol_factor_betas", "position_values", "portfolio_snapshots"} <= moved
    assert nav(before, owner, CHANGED) + 100 * STEP == nav(after, owner, CHANGED)
    assert nav(before, owner, DAYS[-1]) == nav(after, owner, DAYS[-1]), "the price of a session, not of the next one"

    assert tick() == "every change of an input is followed by what depends on it"
    assert tick() == "no input of a computed session changed"
    assert len(backfills.attempts(opened.database, "")) == 1
    assert_reported(opened, owner)


def owners(opened: Installation) -> tuple[int, int]:
    known = dict(opened.database.read(tables.portfolios, columns=["code", "portfolio_id"]).iter_rows())
    return known["changed"], known["other"]


def nav(contents: Contents, owner: int, day: date) -> Decimal:
    own = contents["portfolio_snapshots"].filter(portfolio_id=owner, session_date=day)
    return Decimal(own["net_asset_value"].item())


def assert_reported(opened: Installation, owner: int) -> None:
    """The run tells what it moved, in a table and in the Dagster UI."""
    (run,) = opened.launcher.instance.get_runs(dg.RunsFilter(tags={"sigmasight/report": "true"}))
    told = opened.database.read(tables.recomputation_changes).filter(pl.col("run_id") == run.run_id)
    snapshots = told.filter(table_name="portfolio_snapshots").row(0, named=True)
    # of the later ones the figures since the start of a period or the highest mark may differ
    assert snapshots["portfolio_id"] == owner
    assert snapshots["rows_created"] == snapshots["rows_deleted"] == 0
    assert snapshots["rows_updated"] + snapshots["rows_unchanged"] == len(DAYS) - 3
    assert (snapshots["first_changed"], snapshots["largest_nav_difference"]) == (CHANGED, 100 * STEP)
    values = told.filter(table_name="position_values").row(0, named=True)
    assert (values["rows_updated"], values["last_changed"]) == (2 + 1, DAYS[4]), "weights; the P&L of the day after"
    event = opened.launcher.instance.get_latest_materialization_event(dg.AssetKey("portfolio_snapshots"))
    assert event is not None
    assert event.asset_materialization is not None
    metadata = {name: value.value for name, value in event.asset_materialization.metadata.items()}
    assert metadata["run_rows_updated"] == snapshots["rows_updated"]
    assert metadata["run_largest_nav_difference"] == float(100 * STEP)


def test_a_file_that_changed_is_read_again_where_it_changed(opened: Installation, folder: Path) -> None:
    tick = Ticks(opened)
    tick()
    write_prices(folder, {("CCC", DAYS[-1]): Decimal("0.5"), ("AAA", CHANGED): STEP})
    said = tick()
    assert f"the files source changed in 1 month(s) from 2024-02 on; asked for {CHANGED} to {DAYS[-1]}" in said
    (chunk,) = run_requests(opened)
    assert (chunk.job, chunk.first, chunk.last) == ("market_data", CHANGED, DAYS[-1])
    said = tick()
    assert "were read again" in said
    assert f"daily_prices {DAYS[-1]} CCC revised: close 13.500000 -> 14.000000; asked for {DAYS[-1]}" in said
    (chunk,) = backfills.open_requests(opened.database)[0].chunks
    assert (chunk.first, chunk.portfolios) == (DAYS[-1], ("other",))
    run_requests(opened)
    assert tick() == "every change of an input is followed by what depends on it"
    # both restatements have made of it what computing everything from the start does
    found = everything(opened)
    expect(run_sessions(opened, DAYS[0], DAYS[-1]))
    for name, frame in everything(opened).items():
        stamps = ["oldest_computed_at"] if "oldest_computed_at" in frame.columns else []
        assert frame.drop(stamps).equals(found[name].drop(stamps)), name


def contents(opened: Installation) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table of results, stamps included."""
    names = [str(name) for name in tables.metadata.tables]
    with opened.database.connect() as connection:
        return {
            name: connection.execute(f"SELECT t::text FROM {name} t ORDER BY 1".encode()).fetchall() for name in names
        }


def repair(*options: str, status: int = 0) -> dict[str, Any]:
    ended = CliRunner().invoke(_command_tree("repair"), ["repair", *options, "--json"])
    assert ended.exit_code == status, ended.output
    return dict(json.loads(ended.stdout))


def test_a_repair_is_tried_without_writing_and_then_done(opened: Installation) -> None:
    first, last = DAYS[2], DAYS[4]
    right, (owner, _) = everything(opened), owners(opened)
    with opened.database.connect() as connection:
        connection.execute(
            "UPDATE sigmasight.position_values SET market_value = market_value + 7, daily_pnl = daily_pnl + 7 "
            "WHERE portfolio_id = %s AND session_date = %s",
            (owner, first),
        )
        connection.execute(
            "UPDATE sigmasight.portfolio_snapshots SET net_asset_value = net_asset_value + 14, "
            "cash_balance = cash_balance + 14 WHERE portfolio_id = %s AND session_date >= %s",
            (owner, first),
        )
        # what is made of net asset values, in the range and after it, was made of the wrong ones
        connection.execute(
            "UPDATE sigmasight.portfolio_factor_exposures SET beta = array(SELECT one * 2 FROM unnest(beta) "
            "WITH ORDINALITY AS u (one, place) ORDER BY place) WHERE portfolio_id = %s AND session_date >= %s",
            (owner, first),
        )
        connection.execute(
            "DELETE FROM sigmasight.portfolio_exposures WHERE portfolio_id = %s AND session_date = %s", (owner, last)
        )
    untouched = contents(opened)
    tried = repair("--from", str(first), "--to", str(last), "--dry-run")
    for_people = CliRunner().invoke(
        _command_tree("repair"), ["repair", "--from", str(first), "--to", str(last), "--dry-run"]
    )
    assert for_people.exit_code == 0, for_people.output
    assert f"Worst: changed {first}, by -14.00." in for_people.stdout
    assert for_people.stdout.endswith("Nothing was written.\n")
    assert contents(opened) == untouched
    assert [(row["portfolio"], row["session_date"], row["difference"]) for row in tried["snapshots"]] == [
        ("changed", str(day), "-14.00") for day in DAYS[2:]
    ], "to the newest"
    assert tried["worst"]["difference"] == "-14.00"
    assert [(row["cash_residual"], row["chain_residual"]) for row in tried["identities"]] == [("0.00", "0.00")] * 2

    done = repair("--from", str(first), "--to", str(last), "--portfolio", "changed")
    assert done["error"] is None
    counts = {row["table_name"]: row for row in done["tables"]}
    assert {row["portfolio"] for row in done["tables"]} == {"changed"}
    assert (counts["position_values"]["rows_updated"], counts["position_values"]["rows_unchanged"]) == (2, 4)
    assert (counts["portfolio_exposures"]["rows_created"], counts["portfolio_exposures"]["rows_unchanged"]) == (1, 2)
    assert counts["portfolio_snapshots"]["rows_updated"] == len(DAYS) - 2
    assert sum(row["rows_failed"] for row in done["tables"]) == 0
    expected = {row["table_name"]: row for row in tried["tables"] if row["portfolio"] == "changed"}
    assert set(counts) == set(expected)
    for name, row in counts.items():
        assert {k: v for k, v in row.items() if k != "rows_failed"} == expected[name], "as it was told before"
    for name, frame in audit_left_out(everything(opened)).items():
        assert frame.equals(right[name]), name
    with opened.database.connect() as connection:
        balance = connection.execute(
            "SELECT equity_balance FROM sigmasight.portfolios WHERE code = 'changed'"
        ).fetchone()
    assert balance == (nav(right, owner, DAYS[-1]),)

    assert repair("--from", str(first), "--to", str(last), "--dry-run")["worst"] is None


def test_a_repair_that_fails_says_what_is_left(opened: Installation) -> None:
    with opened.database.connect() as connection:
        connection.execute("DELETE FROM sigmasight.portfolio_snapshots WHERE session_date = %s", (DAYS[1],))
    failed = repair("--from", str(DAYS[2]), "--to", str(DAYS[3]), status=1)
    assert f"there is no snapshot of the session before, {DAYS[1]}" in failed["error"]
    left = {(row["table_name"], row["portfolio"]): row["rows_failed"] for row in failed["tables"]}
    assert left["portfolio_snapshots", "changed"] == left["portfolio_snapshots", "other"] == 2
    assert left["position_values", "changed"] == 0, "was computed anew"
