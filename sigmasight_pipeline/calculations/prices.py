"""Valuation prices: the last observed price of everything that is held, at every session of a window.

What belongs here: the last observation at or before each session, its age, and the splits since. What does not:
which price a position is valued at (``position_prices``) and the contracts an option symbol stands for (``contracts``).

An observation is a close of a stock, an own close of an option contract, or a manual mark; each belongs to a *series*,
numbered from 0. The first axis of an array is the session: of shape (sessions, series), it holds at [t, k] what was
known of series k at the close of session t of the window.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import polars as pl

from sigmasight_pipeline.calculations.arrays import IntArray
from sigmasight_pipeline.calculations.holdings import Window
from sigmasight_pipeline.calculations.money import MILLIONTHS, PRICE, rounded_product, to_units
from sigmasight_pipeline.calculations.splits import SplitSteps, continued
from sigmasight_pipeline.calculations.timeline import NEVER, day_numbers


class PriceBook:
    """The last observation of every series at every session of the window `held`.

    `observed` has series (Int64 code), session_date and price (Decimal, 6 decimals) in any order, at most one row per
    series and date; rows after the window change nothing. `split_codes[k]` is the symbol code of `held.steps` whose
    splits series k is subject to, or NO_SPLITS.

    `row[t, k]` is the line of the arrays price (millionths), day, session (numbers of the timeline) and node (splits
    so far) that holds the observation, -1 without one (price 0, day NEVER); `node_at[t, k]` is the node at session t.
    """

    def __init__(self, observed: pl.DataFrame, *, held: Window, split_codes: IntArray) -> None:
        timeline, steps = held.timeline, held.steps
        rows = observed.sort("session_date", "series")
        series = rows.get_column("series").cast(pl.Int64).to_numpy()
        # The last line, found by index -1, stands for no observation.
        self.price = np.append(to_units(rows.get_column("price"), PRICE), 0)
        self.day = np.append(day_numbers(rows.get_column("session_date")), NEVER)
        self.session = np.append(timeline.on_or_before(self.day[:-1]), 0)
        self.node = np.append(steps.nodes(split_codes[series], self.day[:-1]), 0)
        self.node_at: IntArray = steps.nodes(split_codes[None, :], held.days[:, None])
        known_at = np.maximum(timeline.on_or_after(self.day[:-1]), held.first)
        inside = known_at <= held.last
        self.row: IntArray = np.full((len(held), len(split_codes)), -1, dtype=np.int64)
        # Rows are in date order: of several known at one session the last one stays.
        self.row[known_at[inside] - held.first, series[inside]] = np.flatnonzero(inside)
        np.maximum.accumulate(self.row, axis=0, out=self.row)
        self._steps = steps
        self._first = held.first

    def exact(self, session: int, series: int) -> Fraction | None:
        """The price per unit at the session, divided by splits since it was observed, unrounded, US dollars."""
        row = int(self.row[session, series])
        if row < 0:
            return None
        since = self._steps.ratio(int(self.node[row]), int(self.node_at[session, series]))
        return Fraction(int(self.price[row]), MILLIONTHS) / since

    def age(self, session: int, series: int) -> int | None:
        """Sessions since the observation, or None without one."""
        row = int(self.row[session, series])
        return None if row < 0 else self._first + session - int(self.session[row])

    def shown(self, sessions: IntArray, series: IntArray) -> IntArray:
        """Price per unit at each (session, series), in millionths, rounded half-even; 0 without an observation."""
        rows = self.row[sessions, series]
        known = rows >= 0
        shown = np.zeros(len(rows), dtype=np.int64)
        kept = rows[known]
        codes, ratios = self._steps.coded(self.node_at[sessions[known], series[known]], self.node[kept])
        shown[known] = rounded_product([self.price[kept]], divisor=1, what="a price", ratio_codes=codes, ratios=ratios)
        return shown


def symbol_series(steps: SplitSteps) -> pl.DataFrame:
    """Each symbol of `steps` with its code: symbol, series."""
    return pl.DataFrame(
        {"symbol": list(steps.codes), "series": list(steps.codes.values())},
        schema={"symbol": pl.String, "series": pl.Int64},
    )


def stock_observations(prices: pl.DataFrame, instruments: pl.DataFrame, steps: SplitSteps) -> pl.DataFrame:
    """Closes of the symbols of `steps`, continued under new names: series (the symbol's code), session_date, price."""
    closes = prices.select("symbol", "session_date", price="close")
    return (
        continued(closes, instruments, "session_date")
        .join(symbol_series(steps), on="symbol")
        .select("series", "session_date", "price")
    )
