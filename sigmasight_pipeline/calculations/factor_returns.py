"""Returns of symbols and factors as matrices: one row per open session, one column per name.

What belongs here: turning rows of returns and yields into the series that regressions, correlations and stress tests
are made of. What does not: statistics of them.

Only returns from one session to the next count: one that bridges a gap is missing, so is a yield change next to a
carried yield. Missing is NaN, never 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

import numpy as np
import polars as pl

from sigmasight_pipeline.calculations.arrays import FloatArray, IntArray
from sigmasight_pipeline.calculations.timeline import Timeline, day_numbers, open_sessions

PROXY_KINDS = ("style", "shock_only")
"""Kinds of factors whose return is that of a proxy."""

RATE_KIND = "rate"
"""Kind of the factor that is the change of the Treasury yield of RATE_TENOR."""

REGRESSED_KINDS = (*PROXY_KINDS, RATE_KIND)
"""Kinds of factors that have a return; a characteristic has none."""

RATE_TENOR = "10Y"

LOWEST_YIELD, HIGHEST_YIELD = -0.05, 0.30
"""Decimal yields outside are no yields but percentages or errors; the bounds of ``treasury_yields``."""


class FactorInputReason(StrEnum):
    """Why factor returns refuse their input."""

    BAD_YIELD = "bad_yield"
    DUPLICATE_ROW = "duplicate_row"


class FactorInputError(ValueError):
    """Input that cannot be right, whatever the market did; `reason` says what."""

    def __init__(self, reason: FactorInputReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Panel:
    """Series by open session: `values` is sessions x names, NaN where missing; both are ascending.

    The columns of `values` are contiguous in memory, and it is not to be written to.
    """

    sessions: tuple[date, ...]
    names: tuple[str, ...]
    values: FloatArray

    def until(self, session: date, count: int) -> Panel:
        """The last `count` sessions up to and including `session`; fewer where the panel begins later."""
        stop = self.sessions.index(session) + 1
        inside = slice(max(0, stop - count), stop)
        return Panel(self.sessions[inside], self.names, self.values[inside])

    def only(self, names: Sequence[str]) -> Panel:
        """The columns of `names`, in ascending order. Raises ValueError for a name that is not there."""
        chosen = sorted(names)
        columns = [self.names.index(name) for name in chosen]
        return Panel(self.sessions, tuple(chosen), self.values.T[columns].T)


def session_axis(sessions: Sequence[date], calendar: pl.DataFrame, look_back: int) -> tuple[date, ...]:
    """The open sessions from `look_back` before the first open one of `sessions` to the last, ascending.

    Begins with the calendar (rows of ``trading_sessions``) where that has fewer. Empty where none of `sessions` is
    open. Raises timeline.SessionWindowError.
    """
    timeline = open_sessions(sessions, calendar)
    wanted = timeline.positions(sessions)
    if not len(wanted):
        return ()
    return tuple(timeline.dates[max(0, int(wanted[0]) - look_back) : int(wanted[-1]) + 1])


def return_panel(
    axis: Sequence[date], names: Sequence[str], returns: pl.DataFrame, column: str = "simple_return"
) -> Panel:
    """One-session returns of the symbols `names` on the open sessions `axis` (ascending, none left out).

    `returns` are rows of ``daily_returns`` and `column` one of its returns, decimal; rows of other symbols and
    sessions, and those with sessions_spanned other than 1, are left out. Raises FactorInputError for two rows of a
    symbol and session.
    """
    symbols = tuple(sorted(set(names)))
    rows = returns.filter(pl.col("sessions_spanned") == 1).select("session_date", "symbol", column)
    return _panel(axis, symbols, rows, "return")


def factor_returns(
    axis: Sequence[date],
    *,
    calendar: pl.DataFrame,
    factors: pl.DataFrame,
    returns: pl.DataFrame,
    yields: pl.DataFrame,
) -> Panel:
    """Returns of every active factor of REGRESSED_KINDS on the open sessions `axis` (ascending, none left out).

    A factor with a proxy has the one-session simple return of that, decimal; the rate factor the change of the
    RATE_TENOR yield, decimal (1 basis point = 0.0001), from one open session of `calendar` to the next where both
    yields were observed on their session. A factor without a proxy, or without a return, is a column of NaN.

    `factors`, `returns`, `yields` and `calendar` are rows of ``factor_definitions``, ``daily_returns``,
    ``treasury_yields`` and ``trading_sessions``; `yields` should reach one session further back than `axis`. Raises
    FactorInputError for a yield outside LOWEST_YIELD to HIGHEST_YIELD or NULL, and for duplicates.
    """
    active = regressed_factors(factors)
    proxies = dict(active.filter(pl.col("kind") != RATE_KIND).select("factor", "proxy_symbol").iter_rows())
    of_proxies = return_panel(axis, [proxy for proxy in proxies.values() if proxy is not None], returns)
    values = np.full((active.height, len(axis)), np.nan)
    for row, (factor, kind) in enumerate(active.select("factor", "kind").iter_rows()):
        if kind == RATE_KIND:
            values[row] = _yield_changes(axis, calendar, yields)
        elif proxies[factor] is not None:
            values[row] = of_proxies.values[:, of_proxies.names.index(proxies[factor])]
    return Panel(tuple(axis), tuple(active["factor"]), values.T)


def regressed_factors(factors: pl.DataFrame) -> pl.DataFrame:
    """The active rows of ``factor_definitions`` that have a return, by key."""
    return factors.filter(pl.col("active"), pl.col("kind").is_in(REGRESSED_KINDS)).sort("factor")


def _yield_changes(axis: Sequence[date], calendar: pl.DataFrame, yields: pl.DataFrame) -> FloatArray:
    rows = yields.filter(pl.col("tenor") == RATE_TENOR)
    wrong = rows.filter(~pl.col("yield").is_between(LOWEST_YIELD, HIGHEST_YIELD).fill_null(value=False))
    for row in wrong.sort("session_date").head(1).iter_rows(named=True):
        raise FactorInputError(
            FactorInputReason.BAD_YIELD,
            f"the {RATE_TENOR} yield of {row['session_date']} is {row['yield']}, which is no decimal from "
            f"{LOWEST_YIELD:g} to {HIGHEST_YIELD:g} (a percentage?); correct treasury_yields",
        )
    timeline = Timeline(calendar)
    if not len(axis):
        return np.empty(0)
    first = int(timeline.positions(axis)[0])
    days = timeline.dates[max(0, first - 1) : first + len(axis)]
    observed = rows.filter(pl.col("observed_date") == pl.col("session_date")).select("session_date", "tenor", "yield")
    levels = _panel(days.to_list(), (RATE_TENOR,), observed, "yield").values[:, 0]
    changes = np.diff(levels)
    return changes if first else np.concatenate([[np.nan], changes])


def _panel(axis: Sequence[date], names: tuple[str, ...], rows: pl.DataFrame, what: str) -> Panel:
    """The rows (session_date, name, value) of `names` on `axis` as a panel; NULL values are missing."""
    date_column, name_column, value_column = rows.columns
    line: IntArray = day_numbers(pl.Series(values=list(axis), dtype=pl.Date))
    known = rows.filter(pl.col(date_column).is_in(list(axis)), pl.col(value_column).is_finite())
    column = known.get_column(name_column).cast(pl.Enum(names), strict=False).to_physical()
    known, column = known.filter(column.is_not_null()), column.drop_nulls()
    row = np.searchsorted(line, day_numbers(known.get_column(date_column)))
    values = np.full((len(names), len(axis)), np.nan)
    values[column.to_numpy(), row] = known.get_column(value_column).to_numpy()
    if np.isfinite(values).sum() != known.height:
        twice = known.filter(pl.struct(date_column, name_column).is_duplicated()).sort(date_column, name_column)
        raise FactorInputError(
            FactorInputReason.DUPLICATE_ROW,
            f"{twice.item(0, name_column)} has more than one {what} on {twice.item(0, date_column)}; keep one",
        )
    return Panel(tuple(axis), names, values.T)
