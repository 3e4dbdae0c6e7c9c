"""Treasury yields of sessions: the level of a bond-market holiday carried forward, and marked as carried.

What belongs here: turning observations into one yield per session and tenor. What does not: fetching them, and
choosing the tenor and the rate of an option (``calculations``).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import polars as pl

from sigmasight_pipeline.calculations.timeline import Timeline, day_numbers
from sigmasight_pipeline.market_data.source import YIELDS, MarketDataError
from sigmasight_pipeline.storage.tables.market import TENORS

LOWEST, HIGHEST = -0.05, 0.30
"""Decimal yields outside were never seen in the US; a percent figure taken for a decimal is outside."""


def carried_yields(
    observed: pl.DataFrame, *, sessions: Sequence[date], trading_sessions: pl.DataFrame, max_yield_age: int
) -> pl.DataFrame:
    """For every open session and tenor the last yield observed on or before the session.

    `observed` has the columns ``source.YIELDS`` (decimal yields), of `sessions` and of enough days before.
    `trading_sessions` has session_date and is_closed of every stored session. The age of an observation is the number
    of open sessions after it up to the session (weekdays where they are older than the stored sessions); beyond
    `max_yield_age` there is no row, so that no level lives on unseen.

    Columns session_date, tenor, yield, observed_date (earlier than the session when carried), in order of session and
    tenor. Raises MarketDataError for a tenor that is none, a yield outside -5 % to 30 %, or two values of one date.
    """
    _refuse_odd(observed)
    timeline = Timeline(trading_sessions)
    numbered = pl.DataFrame({"session_date": timeline.dates}).with_columns(number=pl.int_range(pl.len()))
    aged = (
        observed.select(list(YIELDS))
        .sort("observed_date")
        .with_columns(
            observed_number=pl.Series(
                timeline.on_or_before(day_numbers(observed["observed_date"].sort())), dtype=pl.Int64
            )
        )
    )
    if len(timeline):
        before = -pl.business_day_count("observed_date", pl.lit(timeline.dates[0])).cast(pl.Int64)
        aged = aged.with_columns(
            observed_number=pl.when(pl.col("observed_number") < 0).then(before).otherwise("observed_number")
        )
    return (
        numbered.filter(pl.col("session_date").is_in(list(sessions)))
        .join(pl.DataFrame({"tenor": TENORS}), how="cross")
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
        .filter(pl.col("number") - pl.col("observed_number") <= max_yield_age)
        .sort("session_date", pl.col("tenor").cast(pl.Enum(TENORS)))
        .select("session_date", "tenor", "yield", "observed_date")
    )


def _refuse_odd(observed: pl.DataFrame) -> None:
    level = pl.col("yield")
    odd = observed.filter(~pl.col("tenor").is_in(TENORS) | ~level.is_between(LOWEST, HIGHEST) | level.is_null()).sort(
        "observed_date", "tenor"
    )
    for row in odd.head(1).iter_rows(named=True):
        raise MarketDataError(
            f"the {row['tenor']} Treasury yield of {row['observed_date']} is {row['yield']}; expected one of "
            f"{', '.join(TENORS)} and a decimal from {LOWEST} to {HIGHEST} (0.0425 for 4.25 %): correct the source"
        )
    twice = observed.filter(pl.struct("observed_date", "tenor").is_duplicated()).sort("observed_date", "tenor")
    for row in twice.head(1).iter_rows(named=True):
        raise MarketDataError(
            f"the {row['tenor']} Treasury yield of {row['observed_date']} is there more than once; keep one"
        )
