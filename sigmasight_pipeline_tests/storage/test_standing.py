"""Which books are late by the exchange's calendar, and what is said of them."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from sigmasight_pipeline.settings import Settings
from sigmasight_pipeline.storage import standing
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline_tests.storage import audit_world

FILES: dict[str, Any] = {"price_source": "files", "files_dir": Path(__file__).parent}


@pytest.fixture
def books(database: Database) -> Database:
    """Two books valued on every session of 2024-01-02 to 2024-01-16, with a calendar up to there."""
    audit_world.build(database)
    return database


def late(database: Database, moment: datetime, **settings: Any) -> list[tuple[object, ...]]:
    found = standing.late(database, Settings(**{**FILES, **settings}), moment)
    return found.select("code", "newest", "due", "sessions", "first_late").rows()


def cut(database: Database, last: date) -> None:
    with database.connect() as connection:
        connection.execute("DELETE FROM sigmasight.portfolio_snapshots WHERE session_date > %s", (last,))


def test_a_session_is_due_some_hours_after_its_day(books: Database) -> None:
    """Snapshots end on Friday the 12th; Monday the 15th is a holiday, Tuesday the 16th the next session."""
    cut(books, date(2024, 1, 12))
    assert late(books, datetime(2024, 1, 17, 3, 59, tzinfo=UTC)) == []
    everybody = late(books, datetime(2024, 1, 17, 4, tzinfo=UTC))
    assert [row[1:] for row in everybody] == [(date(2024, 1, 12), date(2024, 1, 16), 1, date(2024, 1, 16))] * 2
    assert late(books, datetime(2024, 1, 17, 1, tzinfo=UTC), freshness_grace_hours=1) == everybody


def test_closures_and_the_end_of_a_history_are_not_late(books: Database) -> None:
    cut(books, date(2024, 1, 12))
    now = datetime(2024, 1, 18, tzinfo=UTC)
    assert late(books, now, last_session=date(2024, 1, 15)) == []
    assert late(books, now, closed_sessions=(date(2024, 1, 16),)) == []
    with books.connect() as connection:
        connection.execute("UPDATE sigmasight.trading_sessions SET is_closed = true WHERE session_date = '2024-01-16'")
    assert late(books, now) == []


def test_simulated_prices_are_never_late(books: Database) -> None:
    cut(books, date(2024, 1, 3))
    assert late(books, datetime(2024, 2, 1, tzinfo=UTC), price_source="simulated") == []


def test_what_is_told(books: Database) -> None:
    cut(books, date(2024, 1, 12))
    now = datetime(2024, 1, 18, tzinfo=UTC)
    first = standing.late(books, Settings(**FILES), now).row(0, named=True)
    assert first["told"] == "late by 1 session(s): the newest snapshot is of 2024-01-12, 2024-01-16 was due"
    assert first["command"] == f"sigmasight backfill --from 2024-01-16 --portfolio {first['code']}"
    with books.connect() as connection:
        connection.execute("DELETE FROM sigmasight.daily_prices WHERE session_date > '2024-01-12'")
    waiting = standing.late(books, Settings(**FILES), now).row(0, named=True)
    assert waiting["told"].endswith("was due; it waits for prices, of which none are stored after that")
