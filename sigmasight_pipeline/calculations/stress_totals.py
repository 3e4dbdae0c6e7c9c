"""Scenario P&L of portfolios: sums over their positions, coverage, status, and the frames made of them.

What belongs here: turning what scenarios do to positions (``stress_book.Outcome``) into rows by portfolio and by
position. What does not: where those P&Ls come from, and the diagnostics beside them (``stress_details``).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import numpy as np
import polars as pl

from sigmasight_pipeline.calculations.arrays import AnyArray, BoolArray, FloatArray, IntArray
from sigmasight_pipeline.calculations.money import CENTS, MONEY, from_units
from sigmasight_pipeline.calculations.stress_book import Book, Day, Outcome
from sigmasight_pipeline.calculations.stress_outcomes import Solved, stacked_returns
from sigmasight_pipeline.calculations.stress_returns import floored


class StressStatus(StrEnum):
    """How a scenario came out for a portfolio; of several reasons the first in this list is told."""

    FACTOR_WITHOUT_DATA = "factor_without_data"
    """The scenario names a factor without returns (a single shock: without betas); every figure is NULL."""
    INSUFFICIENT_HISTORY = "insufficient_history"
    """The factors it shocks have too few sessions in common; every figure is NULL."""
    ILL_CONDITIONED = "ill_conditioned"
    """It wants shocks honoured exactly of factors that are nearly the same; every figure is NULL."""
    WINDOW_NOT_STORED = "window_not_stored"
    """Stored prices do not reach back to the window of a replay; every figure is NULL."""
    WINDOW_AFTER_SESSION = "window_after_session"
    """The window of a replay ends after the session; every figure is NULL."""
    NO_POSITIONS = "no_positions"
    """Nothing PUBLIC or OPTIONS is held: the P&L is 0."""
    LOW_COVERAGE = "low_coverage"
    """Too little of the exposure has a figure: every one is NULL."""
    NO_NET_ASSET_VALUE = "no_net_asset_value"
    """Only the share of net asset value is NULL."""
    OK = "ok"


UNSOLVED = tuple(StressStatus)[:5]
"""Reasons of a scenario itself, whatever anybody holds."""

WITHOUT_WINDOW = (StressStatus.WINDOW_NOT_STORED, StressStatus.WINDOW_AFTER_SESSION)
"""Replays that cannot be done (yet): they leave no rows by position."""


STATUSES = tuple(StressStatus)
_CODES = {status: code for code, status in enumerate(STATUSES)}


class Totals(NamedTuple):
    """Scenarios of one session by portfolio, arrays (scenarios, portfolios); money in cents."""

    correlated: IntArray
    total: IntArray
    net_asset_value: FloatArray
    coverage: FloatArray
    """NaN where there is no exposure."""
    status: IntArray
    """Places in STATUSES."""

    @property
    def given(self) -> BoolArray:
        """Whether the figures are shown."""
        hidden = [_CODES[status] for status in (*UNSOLVED, StressStatus.LOW_COVERAGE)]
        return np.isin(self.status, hidden, invert=True)


def totals(day: Day, outcome: Outcome, reasons: Sequence[str], *, min_coverage: float) -> Totals:
    """Sums over each portfolio's positions; `reasons` (scenarios,): ok, or why a scenario has no returns."""
    linear = day.summed(outcome.linear)
    gross = day.summed(day.size[None, :])
    covered = day.summed(np.where(outcome.known, day.size, 0))
    coverage = np.divide(covered, gross, out=np.full(linear.shape, np.nan), where=gross > 0)
    complete = day.summed((~outcome.known).astype(np.int64)) == 0
    of_scenario = np.array([_CODES[StressStatus(reason)] for reason in reasons], dtype=np.int64)
    of_portfolio = np.select(
        [
            np.broadcast_to(~day.has_positions, linear.shape),
            ~complete & ~(coverage >= min_coverage),
            np.broadcast_to(~(day.net_asset_value > 0.0), linear.shape),
        ],
        [
            _CODES[status]
            for status in (StressStatus.NO_POSITIONS, StressStatus.LOW_COVERAGE, StressStatus.NO_NET_ASSET_VALUE)
        ],
        _CODES[StressStatus.OK],
    )
    status = np.minimum(of_scenario[:, None], of_portfolio)
    value = np.broadcast_to(np.where(day.net_asset_value > 0.0, day.net_asset_value, np.nan), linear.shape)
    return Totals(linear, day.summed(outcome.pnl), value, coverage, status)


def stacked(parts: Sequence[AnyArray]) -> AnyArray:
    """Arrays of the sessions laid end to end, row by row."""
    return np.concatenate([part.ravel() for part in parts]) if parts else np.empty(0)


def laid_out(parts: Sequence[AnyArray]) -> AnyArray:
    """Arrays (scenarios, portfolios) of the sessions, laid out to the rows of `portfolio_frame`."""
    return stacked([part.T for part in parts])


def money_column(name: str, amounts: AnyArray, given: AnyArray) -> pl.Series:
    """Cents as US dollars; NULL where not `given`."""
    dollars = from_units(amounts.astype(np.int64), MONEY)
    shown = pl.Series(given, dtype=pl.Boolean)
    return pl.select(pl.when(shown).then(dollars).cast(MONEY).alias(name)).to_series()


def number_column(name: str, numbers: AnyArray) -> pl.Series:
    """Numbers; NULL where NaN or infinite."""
    found = numbers.astype(np.float64)
    return pl.Series(name, np.where(np.isfinite(found), found, np.nan), dtype=pl.Float64).fill_nan(None)


def repeated(book: Book, name: str, values: Sequence[Sequence[object]], dtype: type[pl.DataType]) -> pl.Series:
    """Values by session and scenario, the same for every portfolio, laid out to the rows of `portfolio_frame`."""
    flat = pl.Series(name, [value for day in values for value in day], dtype=dtype)
    places, first = [], 0
    for day, own in zip(book.days, values, strict=True):
        places.append(np.tile(np.arange(first, first + len(own)), len(day.portfolio_ids)))
        first += len(own)
    return flat.gather(stacked(places).astype(np.int64))


def portfolio_frame(book: Book, key: str, scenario_ids: Sequence[str], found: Sequence[Totals]) -> pl.DataFrame:
    """Rows by session, portfolio and scenario: keys, correlated_pnl, total_pnl, impact_pct, coverage, status."""
    days = pl.Series([day.session for day in book.days], dtype=pl.Date)
    per_day = [len(day.portfolio_ids) * len(scenario_ids) for day in book.days]
    owners = [np.repeat(day.portfolio_ids, len(scenario_ids)) for day in book.days]
    given, total = laid_out([one.given for one in found]), laid_out([one.total for one in found])
    impact = total / CENTS / laid_out([one.net_asset_value for one in found])
    return pl.DataFrame(
        [
            days.gather(np.repeat(np.arange(len(days)), per_day)).alias("session_date"),
            pl.Series("portfolio_id", stacked(owners).astype(np.int64)),
            repeated(book, key, [scenario_ids] * len(days), pl.String),
            money_column("correlated_pnl", laid_out([one.correlated for one in found]), given),
            money_column("total_pnl", total, given),
            number_column("impact_pct", np.where(given.astype(bool), impact, np.nan)),
            number_column("coverage", laid_out([one.coverage for one in found])),
            pl.Series([str(one) for one in STATUSES])
            .gather(laid_out([one.status for one in found]).astype(np.int64))
            .alias("status"),
        ]
    )


def symbol_frame(book: Book, scenario_ids: Sequence[str], solved: Sequence[Sequence[Solved]]) -> pl.DataFrame:
    """Rows of ``symbol_scenario_returns`` without provenance, by session, symbol and scenario: those with a return."""
    raws = [stacked_returns(of_day, len(book.symbols)).T for of_day in solved]
    cells = [np.nonzero(np.isfinite(raw)) for raw in raws]
    before = stacked([raw[cell] for raw, cell in zip(raws, cells, strict=True)])
    implied = floored(before.astype(np.float64))
    own = stacked(
        [
            np.array([one.own for one in of_day]).T[cell]
            for of_day, cell in zip(solved, cells, strict=True)
            if len(cell[0])
        ]
    )
    return pl.DataFrame(
        [
            _days(book, [len(cell[0]) for cell in cells]),
            book.symbols.gather(stacked([cell[0] for cell in cells]).astype(np.int64)).alias("symbol"),
            _scenarios(scenario_ids, [cell[1] for cell in cells]),
            pl.Series("implied_return", implied, dtype=pl.Float64),
            pl.Series("floored", implied > before, dtype=pl.Boolean),
            pl.Series("is_own", own.astype(bool), dtype=pl.Boolean),
        ]
    )


def option_frame(book: Book, scenario_ids: Sequence[str], outcomes: Sequence[Outcome]) -> pl.DataFrame:
    """Rows of ``option_scenario_pnl`` without provenance, by session, position and scenario: those with a figure."""
    # positions stand by portfolio in a day
    rows = [day.option_rows[np.argsort(day.position_id[day.option_rows])] for day in book.days]
    cells = [np.nonzero(one.known[:, own].T) for own, one in zip(rows, outcomes, strict=True)]
    chosen = [own[cell[0]] for own, cell in zip(rows, cells, strict=True)]
    by_day = list(zip(book.days, outcomes, chosen, cells, strict=True))
    return pl.DataFrame(
        [
            _days(book, [len(own) for own in chosen]),
            pl.Series("position_id", stacked([day.position_id[own] for day, _, own, _ in by_day])).cast(pl.Int64),
            _scenarios(scenario_ids, [cell[1] for cell in cells]),
            pl.Series(
                "portfolio_id", stacked([day.portfolio_ids[day.portfolio[own]] for day, _, own, _ in by_day])
            ).cast(pl.Int64),
            from_units(stacked([one.pnl[cell[1], own] for _, one, own, cell in by_day]).astype(np.int64), MONEY, "pnl"),
        ]
    )


def _scenarios(scenario_ids: Sequence[str], places: Sequence[IntArray]) -> pl.Series:
    """The scenario of every row, by its place."""
    return pl.Series("scenario_id", scenario_ids, dtype=pl.String).gather(stacked(places).astype(np.int64))


def _days(book: Book, rows: Sequence[int]) -> pl.Series:
    """The session of every row, so many of each."""
    days = pl.Series("session_date", [day.session for day in book.days], dtype=pl.Date)
    return days.gather(np.repeat(np.arange(len(days)), np.array(rows, dtype=np.int64)))
