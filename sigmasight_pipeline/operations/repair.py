"""Recomputing P&L, snapshots and equity of a range through the assets that compute them every day.

What belongs here: which sessions and assets a repair covers, and what came of it. What does not: trying it without
writing (``operations.rehearsal``), running it and showing it (``cli.repair``).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date

import polars as pl

from sigmasight_pipeline.operations import jobs
from sigmasight_pipeline.operations.history import NothingToRunError
from sigmasight_pipeline.operations.launcher import Chunk, plan_range
from sigmasight_pipeline.sessions import SessionCalendar
from sigmasight_pipeline.settings import Settings
from sigmasight_pipeline.storage import recomputations, tables
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.standing import UnknownPortfolioError
from sigmasight_pipeline.storage.upkeep import newest_snapshots

TRIGGER = "repair"

REPAIRED = (
    "position_values",
    "position_greeks",
    "portfolio_exposures",
    "group_exposures",
    "portfolio_snapshots",
)
"""Results that are computed anew; everything else stays as it is."""


def portfolio_ids(database: Database, codes: Sequence[str]) -> list[int] | None:
    """Identifiers of the named portfolios; None: all of them. UnknownPortfolioError."""
    if not codes:
        return None
    known = dict(database.read(tables.portfolios, columns=["code", "portfolio_id"]).iter_rows())
    if unknown := [code for code in codes if code not in known]:
        raise UnknownPortfolioError(unknown, list(known))
    return [known[code] for code in codes]


def plan(
    database: Database,
    settings: Settings,
    calendar: SessionCalendar,
    *,
    first: date,
    last: date,
    portfolios: Sequence[str] = (),
) -> list[Chunk]:
    """The runs that recompute the stored sessions from `first` to `last`, within what was ever computed.

    NothingToRunError where that is nothing.
    """
    wanted = portfolio_ids(database, portfolios)
    newest = [day for key, day in newest_snapshots(database).items() if wanted is None or key in wanted]
    books = database.read(tables.portfolios, columns=["portfolio_id", "inception_date"])
    inceptions = books.filter(pl.lit(wanted is None) | pl.col("portfolio_id").is_in(wanted or []))["inception_date"]
    if not newest or inceptions.is_empty():
        raise NothingToRunError("no snapshot is stored yet that could be repaired: `sigmasight backfill` computes them")
    begin = max(first, min(inceptions), settings.first_session)
    chunks = plan_range(
        jobs.daily.name,
        begin,
        min(last, max(newest)),
        calendar=calendar,
        size=settings.max_sessions_per_run,
        portfolios=portfolios,
        trigger=TRIGGER,
        assets=[name for name in jobs.asset_names("daily") if name in (*REPAIRED, "calculation_audit")],
    )
    if not chunks:
        raise NothingToRunError(
            f"no session from {first} to {last} was ever computed: snapshots reach from {min(inceptions)} to "
            f"{max(newest)}"
        )
    return chunks


def outcome(
    database: Database, chunks: Sequence[Chunk], run_ids: Collection[str], codes: Sequence[str] = ()
) -> pl.DataFrame:
    """By table and portfolio: rows created, updated, deleted, unchanged, and `rows_failed`, those not computed anew."""
    firsts, lasts = [c.first for c in chunks if c.first], [c.last for c in chunks if c.last]
    failed = recomputations.not_computed(
        database, REPAIRED, min(firsts), max(lasts), run_ids, portfolio_ids(database, codes)
    )
    counts = recomputations.of_runs(database, run_ids).filter(pl.col("table_name").is_in(REPAIRED))
    missing = pl.DataFrame(
        [(name, owner, rows) for (name, owner), rows in failed.items()],
        schema={"table_name": pl.String, "portfolio_id": pl.Int64, "rows_failed": pl.Int64},
        orient="row",
    )
    names = database.read(tables.portfolios, columns=["portfolio_id", "code"])
    order = pl.col("table_name").replace_strict({name: n for n, name in enumerate(REPAIRED)}, return_dtype=pl.Int64)
    return (
        counts.join(missing, on=["table_name", "portfolio_id"], how="full", coalesce=True)
        .with_columns(pl.col(*recomputations.COUNTS, "rows_failed").fill_null(0))
        .join(names, on="portfolio_id", how="left")
        .sort(order, "code")
    )
