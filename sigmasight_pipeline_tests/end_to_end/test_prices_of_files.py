"""Prices from a user's folder: restated values, a crash that waits in quarantine, a session without prices."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from sigmasight_pipeline.assets import resources
from sigmasight_pipeline.checks.market_data import DAILY_PRICES, SPLITS_CONTINUOUS
from sigmasight_pipeline.cli.installation import Installation
from sigmasight_pipeline.market_data.factory import open_source
from sigmasight_pipeline.operations import books
from sigmasight_pipeline.operations.launcher import Chunk, RangeFailedError, plan_range
from sigmasight_pipeline.storage import rejections, tables
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline_tests.conftest import temporary_home
from sigmasight_pipeline_tests.end_to_end.installations import CALENDAR, expect, installation, rows, run_sessions

DAYS = CALENDAR.between(date(2024, 1, 2), date(2024, 1, 12))
QUIET = ("CCC", "DDD", "EEE", "FFF")
"""One share each at an unmoving price: they make one missing symbol of six no reason to stop (80 %)."""

BOOK = "ticker,quantity,entry_price,entry_date\nAAA,100,10,2024-01-02\nBBB,-50,20,2024-01-02\n" + "".join(
    f"{symbol},1,10,2024-01-02\n" for symbol in QUIET
)
EQUITY = Decimal(10000)


def write(folder: Path, closes: dict[str, list[float | None]], others: list[float | None] | None = None) -> None:
    """prices.csv with one close per symbol and session of DAYS, None leaving the row out."""
    lines = ["symbol,date,close"]
    quiet: list[float | None] = [10.0] * len(DAYS)
    for symbol, values in {**closes, **dict.fromkeys(QUIET, others or quiet)}.items():
        lines += [f"{symbol},{day},{value}" for day, value in zip(DAYS, values, strict=True) if value is not None]
    (folder / "prices.csv").write_text("\n".join(lines) + "\n")
    resources._source.cache_clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, {"AAA": [10.0 + n for n in range(9)], "BBB": [20.0 - n for n in range(9)]})
    return tmp_path


@pytest.fixture
def opened(server: EmbeddedServer, folder: Path) -> Iterator[Installation]:
    settings = {"price_source": "files", "files_dir": str(folder), "first_session": "2024-01-02"}
    with temporary_home() as home, installation(server, home, **settings) as made:
        importer = books.Importer(made.database, made.settings, open_source(made.settings, CALENDAR))
        importer.positions(BOOK.encode(), "book.csv", books.Book(name="Book", equity=str(EQUITY)))
        expect(made.launcher.run(Chunk(job="reference")))
        yield made


def nav(opened: Installation) -> dict[date, Decimal]:
    return dict(rows(opened, tables.portfolio_snapshots).select("session_date", "net_asset_value").iter_rows())


def by_hand(a: list[float], b: list[float]) -> dict[date, Decimal]:
    """Equity, plus 100 x (close - 10) of the long and 50 x (20 - close) of the short."""
    return {
        day: EQUITY + 100 * (Decimal(str(x)) - 10) + 50 * (20 - Decimal(str(y)))
        for day, x, y in zip(DAYS, a, b, strict=True)
    }


def test_net_asset_value_is_what_a_pencil_says_and_follows_a_restated_price(opened: Installation, folder: Path) -> None:
    a, b = [10.0 + n for n in range(9)], [20.0 - n for n in range(9)]
    expect(run_sessions(opened, DAYS[0], DAYS[-1]))
    assert nav(opened) == by_hand(a, b)
    a[4] = 14.5
    write(folder, {"AAA": a, "BBB": b})
    expect(run_sessions(opened, DAYS[4], DAYS[5]))
    assert nav(opened) == by_hand(a, b)
    revised = rows(opened, tables.daily_price_revisions)
    assert revised.select("session_date", "symbol", "close").rows() == [(DAYS[4], "AAA", Decimal("14.000000"))]


def assert_told(opened: Installation, run_id: str, failed: set[str]) -> None:
    """Every check of prices and actions has a verdict of the run that failed on them; `failed` of severity ERROR."""
    records = opened.launcher.instance.get_records_for_run(
        run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
    ).records
    found = [record.event_log_entry.asset_check_evaluation for record in records]
    evaluations = {evaluation.check_name: evaluation for evaluation in found if evaluation is not None}
    assert set(evaluations) >= {rule.name for rule in (*DAILY_PRICES, SPLITS_CONTINUOUS)}
    errors = {name for name, one in evaluations.items() if not one.passed and one.severity.value == "ERROR"}
    assert errors == failed


def test_an_extreme_move_waits_and_a_person_can_accept_it(opened: Installation, folder: Path) -> None:
    a, b = [10.0, 10.0, 10.0, 10.0, 60.0, 10.5, 10.5, 10.5, 10.5], [20.0] * 9
    write(folder, {"AAA": a, "BBB": b})
    expect(run_sessions(opened, DAYS[0], DAYS[-1]))
    kept = [10.0] * 5 + a[5:]
    assert nav(opened) == by_hand(kept, b), "the price before is carried"
    waiting = rejections.rejected(opened.database, waiting_only=True)
    assert waiting.select("session_date", "symbol", "reason", "status").rows() == [
        (DAYS[4], "AAA", "extreme_move", "quarantined")
    ]
    with pytest.raises(rejections.UnknownRejectionError, match="999"):
        rejections.accept(opened.database, [waiting["rejection_id"][0], 999])
    assert rejections.accept(opened.database, waiting["rejection_id"].to_list()) == DAYS[4]
    expect(run_sessions(opened, DAYS[4], DAYS[-1]))
    assert nav(opened) == by_hand(a, b)
    assert rejections.rejected(opened.database, waiting_only=True).is_empty()


def test_a_range_stops_before_the_first_session_without_prices(opened: Installation, folder: Path) -> None:
    a: list[float | None] = [10.0 + n for n in range(9)]
    b: list[float | None] = [20.0 - n for n in range(9)]
    nobody: list[float | None] = [10.0] * 9
    a[5] = b[5] = nobody[5] = None
    write(folder, {"AAA": a, "BBB": b}, nobody)
    chunks = plan_range("daily", DAYS[0], DAYS[-1], calendar=CALENDAR, size=252)
    with pytest.raises(RangeFailedError, match=f"{DAYS[5]}.*AAA, BBB, CCC.*SIGMASIGHT_CLOSED_SESSIONS") as raised:
        list(opened.launcher.run_all(chunks))
    assert_told(opened, raised.value.outcome.run_id, failed={"coverage"})
    assert max(nav(opened)) == DAYS[4], "the chain is there up to the session before"
    assert rows(opened, tables.daily_prices)["session_date"].max() == DAYS[4]
    failed = opened.database.query(
        "SELECT DISTINCT session_date FROM sigmasight.data_quality_results WHERE check_name = 'coverage' AND NOT passed"
    )
    assert failed["session_date"].to_list() == [DAYS[5]]
    complete = [10.0 + n for n in range(9)], [20.0 - n for n in range(9)]
    write(folder, dict(zip(("AAA", "BBB"), complete, strict=True)))
    expect(run_sessions(opened, DAYS[5], DAYS[-1]))
    assert nav(opened) == by_hand(*complete)


def test_the_check_of_a_split_that_does_not_fit_stops_the_chain(opened: Installation, folder: Path) -> None:
    (folder / "corporate_actions.csv").write_text(
        f"symbol,ex_date,kind,split_from,split_to,cash_amount\nAAA,{DAYS[2]},split,1,2,\n"
    )
    resources._source.cache_clear()
    outcome = run_sessions(opened, DAYS[0], DAYS[-1])
    assert not outcome.succeeded
    assert any("value_continuous_through_splits" in error for error in outcome.errors), outcome.errors
    assert rows(opened, tables.position_values).is_empty()
    assert rows(opened, tables.daily_prices).height == 54, "what arrived is kept"
    assert pl.Series(nav(opened).keys()).is_empty()
