"""Treasury yields of sessions: the level of a bond-market holiday carried forward, and marked as carried.

What belongs here: turning observations into one yield per session and tenor. What does not: fetching them,
and choosing the tenor and the rate of an option (``calculations``).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date

import polars as pl

from sigmasight_pipeline.market_data.source import YIELDS, MarketDataError
from sigmasight_pipeline.sessions import SessionCalendar
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.frames import polars_schema
from sigmasight_pipeline.storage.tables.market import TENORS

LOWEST, HIGHEST = -0.05, 0.30
"""Decimal yields outside were never seen in the US; a percent figure taken for a decimal is."""


def yields_of_sessions(
    observed: pl.DataFrame,
    *,
    calendar: SessionCalendar,
    closed: Collection[date] = (),
    sessions: Sequence[date],
    max_age: int,
    source: str,
) -> pl.DataFrame:
    """Rows of ``treasury_yields``: for every session and tenor the last observation on or before the session.

    `observed` has the columns ``source.YIELDS`` (decimal yields), of `sessions` and of enough days before.
    The age of an observation is the number of open sessions after its date up to the session; beyond
    `max_age` there is no row, so that no level lives on unseen. `closed` are sessions of the calendar
    marked closed; they get no row.

    Raises MarketDataError for a tenor that is none, a yield outside -5 % to 30 %, or two values of one date.
    """
    _refuse_odd(observed)
    days = pl.DataFrame({"day": [day for day in calendar.dates if day not in closed]}, schema={"day": pl.Date()})
    numbered = days.with_columns(number=pl.int_range(pl.len()))
    aged = (
        observed.select(list(YIELDS))
        .sort("observed_date")
        .join_asof(numbered, left_on="observed_date", right_on="day", strategy="backward")
        .drop("day")
    )
    wanted = numbered.filter(pl.col("day").is_in(list(sessions))).rename({"day": "session_date", "number": "now"})
    order = pl.Enum(TENORS)
    return (
        wanted.join(pl.DataFrame({"tenor": TENORS}), how="cross")
        .sort("session_date")
        .join_asof(
            aged,
            left_on="session_date",
            right_on="observed_date",
            by="tenor",
            strategy="backward",
            coalesce=False,
            check_sortedness=False,
        )
        .filter(pl.col("now") - pl.col("number") <= max_age)
        .sort("session_date", pl.col("tenor").cast(order))
        .with_columns(source=pl.lit(source))
        .select(list(polars_schema(tables.treasury_yields)))
    )


def _refuse_odd(observed: pl.DataFrame) -> None:
    level = pl.col("yield")
    odd = observed.filter(
        ~pl.col("tenor").is_in(TENORS) | ~level.is_between(LOWEST, HIGHEST) | level.is_nan() | level.is_null()
    ).sort("observed_date", "tenor")
    for row in odd.head(1).iter_rows(named=True):
        raise MarketDataError(
            f"the {row['tenor']} Treasury yield of {row['observed_date']} is {row['yield']}; expected one of the tenors "
            f"{', '.join(TENORS)} and a decimal from {LOWEST} to {HIGHEST} (0.0425 for 4.25 %): correct the source"
        )
    twice = observed.filter(pl.struct("observed_date", "tenor").is_duplicated()).sort("observed_date", "tenor")
    for row in twice.head(1).iter_rows(named=True):
        raise MarketDataError(
            f"the {row['tenor']} Treasury yield of {row['observed_date']} is there more than once; keep one"
        )
