"""Dates as numbers on the line of open sessions, so that engines index instead of searching.

What belongs here: moving a date to its session, ages counted in sessions, and the stretch of sessions an
engine computes. What does not: which days are sessions (``sessions``, and ``trading_sessions.is_closed`` for
closures).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date

import numpy as np
import polars as pl

from sigmasight_pipeline.calculations.arrays import IntArray

NEVER = np.iinfo(np.int64).max
"""The day number of a date that is NULL: later than every session."""


class SessionWindowError(ValueError):
    """Sessions asked for are not in the calendar, or leave out one between them."""


class Timeline:
    """The open sessions of `calendar` (rows of ``trading_sessions``), numbered from 0, oldest first.

    The calendar must start at the first stored session, and should reach past the last session computed, so
    that the expiry session of an option expiring on a weekend is known to have come.
    """

    def __init__(self, calendar: pl.DataFrame) -> None:
        opened = calendar.filter(~pl.col("is_closed")).get_column("session_date").unique().sort()
        self.dates = opened
        self.days: IntArray = day_numbers(opened)

    def __len__(self) -> int:
        return len(self.days)

    def on_or_after(self, days: IntArray) -> IntArray:
        """The session each day belongs to: itself or the next one; the calendar's length beyond its end."""
        return np.searchsorted(self.days, days, side="left").astype(np.int64)

    def on_or_before(self, days: IntArray) -> IntArray:
        """The last session at or before each day; -1 before the first."""
        return np.searchsorted(self.days, days, side="right").astype(np.int64) - 1

    def expiry(self, days: IntArray) -> IntArray:
        """The last session on or before each expiration day; the calendar's length where that is not known yet."""
        beyond = days > (self.days[-1] if len(self) else -NEVER)
        return np.where(beyond, len(self), self.on_or_before(days))

    def moved(self, frame: pl.DataFrame, column: str) -> pl.DataFrame:
        """`frame` with each date of `column` that is no open session moved to the next one.

        Dates before the first session and beyond the last stay as they are.
        """
        days = day_numbers(frame.get_column(column))
        index = self.on_or_after(days)
        inside = (days >= self.days[0]) & (index < len(self)) if len(self) else np.zeros(len(days), bool)
        moved = np.where(inside, self.days[np.minimum(index, len(self) - 1)] if len(self) else days, days)
        return frame.with_columns(to_dates(moved, column))

    def positions(self, sessions: Collection[date]) -> IntArray:
        """The numbers of those of `sessions` that are open, ascending. Raises SessionWindowError on others."""
        wanted = pl.Series("session_date", sorted(set(sessions)), dtype=pl.Date)
        days = day_numbers(wanted)
        index = self.on_or_before(days)
        return index[(index >= 0) & (self.days[np.maximum(index, 0)] == days)] if len(self) else index[:0]


def open_sessions(sessions: Sequence[date], calendar: pl.DataFrame) -> Timeline:
    """The timeline of `calendar`, after checking that it names every one of `sessions`."""
    known = set(calendar.get_column("session_date"))
    missing = sorted(set(sessions) - known)
    if missing:
        raise SessionWindowError(
            f"{missing[0]} is not in trading_sessions ({len(missing)} such sessions asked for); "
            "refresh trading_sessions first"
        )
    return Timeline(calendar)


def day_numbers(dates: pl.Series) -> IntArray:
    """Days since 1970-01-01; NEVER where NULL."""
    return dates.cast(pl.Date).to_physical().cast(pl.Int64).fill_null(NEVER).to_numpy()


def to_dates(days: IntArray, name: str = "") -> pl.Series:
    """The Date column of day numbers; NULL where NEVER."""
    numbers = pl.Series(name, days)
    return pl.select(pl.when(numbers != NEVER).then(numbers)).to_series().cast(pl.Int32).cast(pl.Date).alias(name)
