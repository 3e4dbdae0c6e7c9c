"""Everything stored, in a form in which two installations that went different ways can be compared.

What belongs here: reading every table without what says when, by whom and under which number a row was made. What does
not: how an installation comes to be.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl
from polars.testing import assert_frame_equal

from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.tables import PROVENANCE

LOGS = {
    "alert_outbox",
    "backfill_progress",
    "batch_runs",
    "daily_price_revisions",
    "data_quality_results",
    "inbox_files",
    "input_changes",
    "portfolio_imports",
    "recomputation_changes",
}
"""Tables that tell what happened, which is not the same on two ways to one end."""

STAMPS = {*PROVENANCE, "fetched_at", "oldest_computed_at", "created_at", "updated_at", "rejected_at", "rejection_id"}
"""Columns that say when, by whom, or in which order."""


def contents(database: Database) -> dict[str, pl.DataFrame]:
    """Every table but logs, sorted, identifiers replaced by what they stand for, without stamps.

    Of the calendar, the sessions there are prices of."""
    books = database.read(tables.portfolios, columns=["portfolio_id", "code"])
    codes = {**dict(books.iter_rows()), 0: "everybody"}
    lots = database.read(tables.positions).select(
        "position_id",
        pl.format("{} {} {} {}", pl.col("portfolio_id").replace_strict(codes), "symbol", pl.col("entry_date"), "lot"),
    )
    tags = database.read(tables.tags, columns=["tag_id", "name"])
    meanings = {"portfolio_id": codes, "position_id": dict(lots.iter_rows()), "tag_id": dict(tags.iter_rows())}
    priced = database.query("SELECT max(session_date) AS newest FROM sigmasight.daily_prices")
    newest = pl.lit(priced["newest"][0], dtype=pl.Date)
    found = {}
    for table in [one for one in tables.every_table() if not tables.is_derived(one)]:
        if table.name in LOGS:
            continue
        frame = database.read(table)
        if table.name == tables.trading_sessions.name:  # it reaches a year ahead of the day it was made on
            frame = frame.filter(pl.col("session_date") <= newest)
        frame = frame.drop([name for name in frame.columns if name in STAMPS]).with_columns(
            pl.col(name).replace_strict(meaning, return_dtype=pl.String)
            for name, meaning in meanings.items()
            if name in frame.columns
        )
        keys = [name for name in frame.columns if not frame.schema[name].is_nested()]
        found[str(table.name)] = frame.sort(keys)
    return found


def assert_same_contents(found: Mapping[str, pl.DataFrame], expected: Mapping[str, pl.DataFrame], where: str) -> None:
    """Every table is the same, to the last bit."""
    assert set(found) == set(expected)
    for name, frame in expected.items():
        try:
            assert_frame_equal(found[name], frame, check_exact=True)
        except AssertionError as error:
            raise AssertionError(f"{where}: {name} differs: {error}") from error
