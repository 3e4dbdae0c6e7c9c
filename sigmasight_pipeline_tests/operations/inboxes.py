"""Inboxes for tests: a folder, a migrated database, prices of a few weeks, and the sensor evaluated tick by tick.

What belongs here: opening one, dropping files into it, and reading what became of them. What does not: assertions, but
that the sensor launches nothing itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from sigmasight_pipeline.assets import resources
from sigmasight_pipeline.assets.resources import MarketDataResource, PostgresResource, SettingsResource
from sigmasight_pipeline.operations import backfills
from sigmasight_pipeline.operations.backfills import Backfill
from sigmasight_pipeline.operations.sensors.inbox import inbox as sensor
from sigmasight_pipeline.settings import get_settings
from sigmasight_pipeline.storage import imports, tables
from sigmasight_pipeline.storage.database import Database

COLUMNS = "ticker,quantity,entry_price,entry_date\n"
EQUITY = "# equity: 50000\n"
HARBOR = EQUITY + COLUMNS + "AAA,100,100,2024-02-01\n"
SMALLER = COLUMNS + "AAA,90,100,2024-02-01\n"
ENTRY = date(2024, 2, 1)
PRIVATE = EQUITY + "ticker,quantity,entry_price,entry_date,investment_class\nHOUSE,1,1000,2024-02-01,PRIVATE\n"


@cache
def _instance() -> dg.DagsterInstance:
    """One instance for all ticks: without it each would make its own, which takes ten times as long as the tick."""
    return dg.DagsterInstance.ephemeral()


@dataclass
class Inbox:
    """An inbox, and its sensor evaluated tick by tick the way the daemon does."""

    folder: Path
    database: Database
    cursor: str | None = None

    def drop(self, name: str, content: str | bytes) -> None:
        data = content.encode() if isinstance(content, str) else content
        (self.folder / name).write_bytes(data)

    def tick(self, url: str | None = None) -> str:
        """What the sensor says; its cursor is kept as the daemon keeps it, of a tick that did not fail."""
        context = dg.build_sensor_context(
            instance=_instance(),
            cursor=self.cursor,
            resources={
                "postgres": PostgresResource(database_url=url or self.database.url),
                "settings": SettingsResource(),
                "market_data": MarketDataResource(),
            },
        )
        with context:
            answer = sensor(context)
        assert isinstance(answer, dg.SkipReason), "what runs is the business of the sensor `backfills`"
        self.cursor = context.cursor
        return str(answer.skip_message)

    def take(self, **files: str | bytes) -> str:
        """Drop `files` (.csv is added) and tick until they were judged."""
        for stem, content in files.items():
            self.drop(f"{stem}.csv", content)
        assert "wait until they are complete" in self.tick()
        return self.tick()

    def apply(self) -> None:
        """What the reference assets do with imports that wait."""
        with self.database.connect() as connection:
            imports.apply_portfolios(connection)
            imports.apply_positions(connection)

    def files(self) -> set[str]:
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if not path.is_dir()}

    def taken(self) -> list[tuple[Any, ...]]:
        """(name, portfolio, status, whether a range was asked for, where it lies) of every file, oldest first."""
        return self.query(
            "SELECT file_name, portfolio_code, status, backfill_id IS NOT NULL, moved_to "
            "FROM sigmasight.inbox_files ORDER BY file_id"
        )

    def ranges(self) -> list[Backfill]:
        return backfills.attempts(self.database, "inbox:")

    def imported(self) -> int:
        return self.database.count(tables.portfolio_imports)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with self.database.connect() as connection:
            return connection.execute(statement.encode()).fetchall()

    def execute(self, statement: str) -> None:
        with self.database.connect() as connection:
            connection.execute(statement.encode())


def forget() -> None:
    """What this process keeps of the settings and the price source belongs to one inbox only."""
    get_settings.cache_clear()
    resources._source.cache_clear()


@contextmanager
def empty_inbox(database: Database, market: Path, home: Path) -> Iterator[Inbox]:
    """An empty inbox of an installation with the prices of the folder `market` and no portfolio."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in {"home": home, "price_source": "files", "files_dir": market}.items():
            environment.setenv(f"SIGMASIGHT_{name.upper()}", str(value))
        environment.delenv("SIGMASIGHT_INBOX_DIR", raising=False)
        forget()
        folder = home / "inbox"
        folder.mkdir()
        yield Inbox(folder, database)
    forget()
    with database.connect() as connection:
        connection.execute(
            "TRUNCATE sigmasight.portfolios, sigmasight.portfolio_imports, sigmasight.inbox_files, "
            "sigmasight.backfill_progress, sigmasight.portfolio_snapshots, sigmasight.daily_prices, "
            "sigmasight.instruments CASCADE"
        )
