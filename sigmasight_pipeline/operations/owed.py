"""What a portfolio's history owes: the first session it is not right from, whatever broke it off.

What belongs here: that one answer, asked of the tables and not of what a command remembers, for commands whose word is
the end state. What does not: finding gaps (``gaps``) and changes (``restatement``), and running what is owed.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date

import polars as pl

from sigmasight_pipeline.market_data.source import MarketDataSource
from sigmasight_pipeline.operations import gaps, restatement
from sigmasight_pipeline.sessions import SessionCalendar
from sigmasight_pipeline.settings import Settings
from sigmasight_pipeline.storage import standing, tables
from sigmasight_pipeline.storage.database import Database


@dataclass(frozen=True)
class Owed:
    """The first session to compute anew, and what is wrong from there, in words."""

    first: date
    why: str


def first_owed(
    database: Database,
    settings: Settings,
    source: MarketDataSource,
    calendar: SessionCalendar,
    portfolios: Collection[str],
    through: date,
) -> Owed | None:
    """What the history of `portfolios` (codes) owes up to `through`, the earliest of it; None where it is right.

    Snapshots that are not there, gaps that were not given up, and changed inputs no result has followed yet.
    """
    found: list[Owed] = []
    inception = standing.inception_of(database, sorted(portfolios))
    if inception is None:
        return None
    for row in standing.missing_snapshots(database, through).iter_rows(named=True):
        if row["code"] in portfolios:
            found.append(Owed(row["first_missing"], f"{row['code']} lacks {row['missing']} session(s)"))
    for one in gaps.standings(database, settings, gaps.find(database, settings, source)):
        concerned = not one.gap.portfolios or set(one.gap.portfolios) & set(portfolios)
        if concerned and not one.given_up and not one.gap.symbols:
            found.append(Owed(max(one.gap.first, inception), f"its history has a gap ({one.gap})"))
    known = database.read(tables.portfolios, columns=["portfolio_id", "code"])
    ids = known.filter(pl.col("code").is_in(list(portfolios)))["portfolio_id"].to_list()
    changed = restatement.outstanding(database, settings, calendar).rows.filter(pl.col("portfolio_id").is_in(ids))
    first = changed["session_date"].min()
    if isinstance(first, date):
        start = calendar.on_or_after(max(first, inception))
        found.append(Owed(start, f"{changed['change_id'].n_unique()} change(s) of its inputs are not followed yet"))
    return min(found, key=lambda one: one.first, default=None)
