"""Installations for tests: fresh databases on the test server, opened in this process as the command line opens them.

What belongs here: opening an installation, running ranges on it, and reading its tables without provenance. What does
not: assertions, but that two states are the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from uuid import uuid4

import polars as pl
import psycopg
from polars.testing import assert_frame_equal
from sqlalchemy import Table

from sigmasight_pipeline import sessions
from sigmasight_pipeline.assets import resources
from sigmasight_pipeline.cli.installation import Installation, connected
from sigmasight_pipeline.market_data.factory import open_source
from sigmasight_pipeline.operations import books, history
from sigmasight_pipeline.operations.launcher import Chunk, Outcome, plan_range
from sigmasight_pipeline.settings import get_settings
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline.storage.tables import PROVENANCE
from sigmasight_pipeline_tests.conftest import drop_database

CALENDAR = sessions.calendar()

MARKET_TABLES = (tables.daily_prices, tables.corporate_actions, tables.option_prices, tables.treasury_yields)
RESULT_TABLES = tuple(
    table
    for table in tables.every_table()
    if set(PROVENANCE) <= {column.name for column in table.columns} and not tables.is_derived(table)
)
"""Every table an engine fills."""


@contextmanager
def installation(server: EmbeddedServer, home: Path, **settings: str) -> Iterator[Installation]:
    """An installation on two fresh databases of `server`, dropped afterwards; `settings` are SIGMASIGHT_ variables."""
    name = f"test_{uuid4().hex[:12]}"
    names = [name, f"{name}_dagster"]
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        for database in names:
            connection.execute(f'CREATE DATABASE "{database}"')
    urls = {"SIGMASIGHT_DATABASE_URL": server.url(names[0]), "DAGSTER_DATABASE_URL": server.url(names[1])}
    try:
        with _opened(home, settings, urls) as opened:
            yield opened
    finally:
        with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
            for database in names:
                drop_database(connection, database)


@contextmanager
def embedded_installation(home: Path, **settings: str) -> Iterator[Installation]:
    """An installation on the embedded server of its own `home`, as a user has it; `settings` as above."""
    with _opened(home, settings, {}) as opened:
        yield opened


@contextmanager
def _opened(home: Path, settings: Mapping[str, str], urls: Mapping[str, str]) -> Iterator[Installation]:
    """The installation in `home`, as every process started inside the block finds it too."""
    before = dict(os.environ)
    os.environ |= {
        "SIGMASIGHT_HOME": str(home),
        **urls,
        **{f"SIGMASIGHT_{key.upper()}": value for key, value in settings.items()},
    }
    _forget()
    try:
        with connected(create=True) as opened:
            yield opened
            opened.database.close()
    finally:
        os.environ.clear()
        os.environ |= before
        _forget()


def _forget() -> None:
    """What a process keeps for its life belongs to one installation only."""
    get_settings.cache_clear()
    resources._source.cache_clear()
    resources._database.cache_clear()


def import_demo(opened: Installation) -> None:
    """Import the demo portfolios, their marks and cash flows through the reference assets."""
    source = open_source(opened.settings, CALENDAR)
    books.accept_demo(books.Importer(opened.database, opened.settings, source), source)
    expect(opened.launcher.run(Chunk(job="reference")))


def run_history(opened: Installation, first: date, last: date, *, size: int = 252) -> list[Outcome]:
    """Run `first` to `last` with its price look-back, in chunks of `size`."""
    chunks = history.plan_history(
        opened.database,
        opened.settings.model_copy(update={"max_sessions_per_run": size}),
        open_source(opened.settings, CALENDAR),
        CALENDAR,
        first=first,
        last=last,
    )
    return [expect(outcome) for outcome in opened.launcher.run_all(chunks)]


def run_sessions(opened: Installation, first: date, last: date | None = None) -> Outcome:
    """One daily run over a range, whatever it comes to."""
    (chunk,) = plan_range("daily", first, last or first, calendar=CALENDAR, size=252)
    return opened.launcher.run(chunk)


def expect(outcome: Outcome) -> Outcome:
    """The outcome, which must be a success."""
    assert outcome.succeeded, f"{outcome.chunk}: {outcome.errors}"
    return outcome


def rows(opened: Installation, table: Table, days: Sequence[date] | None = None) -> pl.DataFrame:
    """The table's rows by primary key without what says when and by which run they were made."""
    where, params = ("session_date = ANY(%s)", (list(days),)) if days is not None else ("", ())
    frame = opened.database.read(table, where=where, params=params)
    dropped = [name for name in (*PROVENANCE, "fetched_at", "oldest_computed_at") if name in frame.columns]
    return frame.drop(dropped).sort([column.name for column in table.primary_key.columns])


def assert_same(opened: Installation, before: dict[str, pl.DataFrame], days: Sequence[date] | None = None) -> None:
    """Every table (of the sessions `days`) is as it was, to the last bit."""
    for name, frame in everything(opened).items():
        kept = pl.lit(value=True)
        if days is not None:
            kept = pl.col("ex_date" if "ex_date" in frame.columns else "session_date").is_in(list(days))
        assert_frame_equal(frame.filter(kept), before[name].filter(kept), check_exact=True)


def everything(opened: Installation) -> dict[str, pl.DataFrame]:
    """Every market and result table as `rows` gives it."""
    return {str(table.name): rows(opened, table) for table in (*MARKET_TABLES, *RESULT_TABLES)}
