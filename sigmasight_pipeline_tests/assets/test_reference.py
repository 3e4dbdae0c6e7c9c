"""The reference assets on a real database: the calendar with its closures, the factors, and applying imports."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime

import dagster as dg
import polars as pl
import pytest

from sigmasight_pipeline import sessions
from sigmasight_pipeline.assets import reference
from sigmasight_pipeline.assets.resources import PostgresResource, SettingsResource, _database
from sigmasight_pipeline.settings import get_settings
from sigmasight_pipeline.storage import imports, tables
from sigmasight_pipeline.storage.database import Database


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Settings are read once a process: forgotten before and after every test here."""
    get_settings.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    get_settings.cache_clear()


def run(database: Database, *names: str) -> dict[str, dict[str, object]]:
    """Materialise reference assets; their metadata, that of checks under the check's name."""
    chosen = [asset for asset in reference.ASSETS if asset.key.to_user_string() in names]
    result = dg.materialize(
        chosen, resources={"postgres": PostgresResource(database_url=database.url), "settings": SettingsResource()}
    )
    assert result.success
    told: dict[str, dict[str, object]] = {
        check.check_name: {"passed": check.passed} for check in result.get_asset_check_evaluations()
    }
    for event in result.all_events:
        if event.is_step_materialization:
            made = event.step_materialization_data.materialization
            told[made.asset_key.to_user_string()] = {name: value.value for name, value in made.metadata.items()}
    return told


@pytest.fixture
def stored(database: Database) -> Iterator[Database]:
    yield database
    _database(database.url).close()


def calendar(database: Database) -> dict[date, dict[str, object]]:
    return {row["session_date"]: row for row in database.read(tables.trading_sessions).iter_rows(named=True)}


def test_the_calendar_with_a_closure(stored: Database, settings: pytest.MonkeyPatch) -> None:
    settings.setenv("SIGMASIGHT_FIRST_SESSION", "2024-12-23")
    settings.setenv("SIGMASIGHT_CLOSED_SESSIONS", "2024-12-27")
    closed = date(2024, 12, 27)
    told = run(stored, "trading_sessions")
    assert told["calendar_horizon"] == {"passed": True}
    known = calendar(stored)
    expected = [day for day in sessions.calendar().dates if day >= date(2024, 12, 23)]
    assert sorted(known) == expected
    assert told["trading_sessions"]["dagster/row_count"] == told["trading_sessions"]["inserted"] == len(expected)
    assert [day for day, row in known.items() if row["is_closed"]] == [closed]
    # neighbours are open sessions, those of the closure too
    before, after = date(2024, 12, 26), date(2024, 12, 30)
    assert (known[before]["next_session"], known[after]["previous_session"]) == (after, before)
    assert (known[closed]["previous_session"], known[closed]["next_session"]) == (before, after)
    assert known[expected[0]]["previous_session"] is None
    assert known[expected[-1]]["next_session"] is None
    # Christmas Eve closes at 13:00 in New York, in winter
    assert known[date(2024, 12, 24)]["is_half_day"] is True
    assert known[date(2024, 12, 24)]["closes_at"] == datetime(2024, 12, 24, 18, tzinfo=UTC)
    assert known[before]["opens_at"] == datetime(2024, 12, 26, 14, 30, tzinfo=UTC)
    again = run(stored, "trading_sessions")["trading_sessions"]
    assert (again["unchanged"], again["inserted"], again["updated"]) == (len(expected), 0, 0)


def test_a_closure_is_taken_back(stored: Database, settings: pytest.MonkeyPatch) -> None:
    settings.setenv("SIGMASIGHT_FIRST_SESSION", "2024-12-23")
    run(stored, "trading_sessions")
    open_ = stored.read(tables.trading_sessions, order_by="session_date")
    settings.setenv("SIGMASIGHT_CLOSED_SESSIONS", "2024-12-27")
    get_settings.cache_clear()
    # the closure and its two neighbours
    assert run(stored, "trading_sessions")["trading_sessions"]["updated"] == 3
    settings.delenv("SIGMASIGHT_CLOSED_SESSIONS")
    get_settings.cache_clear()
    run(stored, "trading_sessions")
    assert stored.read(tables.trading_sessions, order_by="session_date").equals(open_)


@pytest.mark.parametrize("moved", ["2025-01-06", "2024-12-02"])
def test_moving_the_first_session_loses_nothing(stored: Database, settings: pytest.MonkeyPatch, moved: str) -> None:
    settings.setenv("SIGMASIGHT_FIRST_SESSION", "2024-12-23")
    run(stored, "trading_sessions")
    before = stored.read(tables.trading_sessions, order_by="session_date")
    settings.setenv("SIGMASIGHT_FIRST_SESSION", moved)
    get_settings.cache_clear()
    run(stored, "trading_sessions")
    after = stored.read(tables.trading_sessions, order_by="session_date")
    first = min(date.fromisoformat(moved), date(2024, 12, 23))
    assert after["session_date"].to_list() == [day for day in sessions.calendar().dates if day >= first]
    # every session but the oldest still knows the one before it
    assert after["previous_session"].to_list() == after["session_date"].shift(1).to_list()
    assert after.join(before, on="session_date", how="semi")["next_session"].equals(before["next_session"])


def test_factors_are_those_the_package_ships(stored: Database) -> None:
    told = run(stored, "factor_definitions")
    factors = stored.read(tables.factor_definitions)
    assert told["factor_definitions"]["inserted"] == factors.height
    assert factors["display_order"].is_unique().all()
    # a regression needs returns: every active style has a proxy of its own
    styles = factors.filter(pl.col("active") & (pl.col("kind") == "style"))
    assert styles["proxy_symbol"].null_count() == 0
    assert styles["proxy_symbol"].is_unique().all()
    with stored.connect() as connection:
        connection.execute("UPDATE sigmasight.factor_definitions SET name = 'x' WHERE display_order = 1")
        connection.execute("INSERT INTO sigmasight.factor_definitions VALUES ('Old', 'Old', 'style', 'OLD', 99, true)")
    again = run(stored, "factor_definitions")["factor_definitions"]
    assert (again["updated"], again["deleted"], again["inserted"]) == (1, 1, 0)
    assert stored.read(tables.factor_definitions, order_by="factor").equals(factors.sort("factor"))


def test_imports_are_applied_and_judged(stored: Database, settings: pytest.MonkeyPatch) -> None:
    settings.setenv("SIGMASIGHT_FIRST_SESSION", "2024-12-23")
    header = {
        "code": "book",
        "name": "Book",
        "base_currency": "USD",
        "benchmark_symbol": "SPY",
        "inception_date": date(2024, 12, 23),
        "initial_equity": "1000000.00",
        "active": True,
    }
    lot = {
        "symbol": "AAA",
        "lot": "1",
        "position_type": "LONG",
        "investment_class": "PUBLIC",
        "quantity": "10.000000",
        "multiplier": "1",
        "entry_price": "100",
        "entry_date": date(2024, 12, 25),
        "tags": ["core"],
    }
    with stored.connect() as connection:
        imports.record_import(
            connection,
            portfolio_code="book",
            kind="positions",
            file_name="book.csv",
            content_sha256="0",
            content={"portfolio": header, "rows": [lot]},
        )
    told = run(stored, "trading_sessions", "portfolios", "positions")
    assert told["portfolios"]["inserted"] == told["positions"]["inserted"] == 1
    assert told["equity_positive"] == told["sign_fits_type"] == told["option_fields_complete"] == {"passed": True}
    # Christmas is no session: the import moves entries, so a row like this one is told of
    assert told["entry_on_session"] == {"passed": False}
    again = run(stored, "portfolios", "positions")
    assert again["portfolios"]["dagster/row_count"] == again["positions"]["dagster/row_count"] == 1
    assert again["positions"]["inserted"] == 0
