"""Splits as steps along each symbol's history, and a symbol's continuation under a new name.

What belongs here: which of a symbol's splits lie between two moments, for many (symbol, day) at once, and the exact
ratio between them. What does not: reading ``corporate_actions`` (``actions``) and what a ratio is applied to.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from fractions import Fraction
from functools import cache
from math import prod

import numpy as np
import polars as pl

from sigmasight_pipeline.calculations.actions import SplitRatios
from sigmasight_pipeline.calculations.arrays import IntArray
from sigmasight_pipeline.calculations.timeline import day_numbers

NO_SPLITS = -1
"""Split code of a series that no corporate action touches."""

_STRIDE = 2**22
"""More days than a date can count, so that (symbol, day) is one number."""


def continued(frame: pl.DataFrame, instruments: pl.DataFrame, date_column: str) -> pl.DataFrame:
    """`frame` (prices or actions by `symbol`) with each replaced symbol continued by its successor's rows.

    A symbol with `last_session` and `replaced_by` keeps its own rows through that session and takes the
    successor's after it (and the successor's successor's, in turn). Successors keep their own rows as well.
    """
    links = instruments.filter(pl.col("replaced_by").is_not_null() & pl.col("last_session").is_not_null())
    successor = {
        symbol: (last, replaced_by)
        for symbol, last, replaced_by in links.select("symbol", "last_session", "replaced_by").iter_rows()
    }
    if not successor:
        return frame
    parts = [frame.filter(~pl.col("symbol").is_in(list(successor)))]
    for symbol in sorted(successor):
        current, after, seen = symbol, None, {symbol}
        while True:
            rows = frame.filter(pl.col("symbol") == current)
            if after is not None:
                rows = rows.filter(pl.col(date_column) > after)
            last, following = successor.get(current, (None, None))
            if last is not None and following not in seen:
                rows = rows.filter(pl.col(date_column) <= last)
            parts.append(rows.with_columns(symbol=pl.lit(symbol)))
            if last is None or following is None or following in seen:
                break
            after = last if after is None else max(after, last)
            current = following
            seen.add(following)
    return pl.concat(parts)


class SplitSteps:
    """Every split of `symbols` in one line; a node counts the splits of that line before a moment.

    `actions` has ex-dates that are sessions. The ratio between two nodes of one symbol is the exact product
    of the splits between them, whichever comes first in time.
    """

    def __init__(self, actions: pl.DataFrame, symbols: Sequence[str]) -> None:
        ratios = SplitRatios(actions)
        codes = {symbol: code for code, symbol in enumerate(symbols)}
        rows = sorted(
            (codes[symbol], day, ratios.ratio(symbol, day - timedelta(days=1), day))
            for symbol, day in ratios.cumulative().select("symbol", "ex_date").iter_rows()
            if symbol in codes
        )
        self.codes = codes
        self.steps = [ratio for _, _, ratio in rows]
        self.days: IntArray = day_numbers(pl.Series([day for _, day, _ in rows], dtype=pl.Date))
        self._keys = np.array([code for code, _, _ in rows], dtype=np.int64) * _STRIDE + self.days
        self.ratio = cache(self._ratio)

    def nodes(self, codes: IntArray, days: IntArray) -> IntArray:
        """The node of each symbol code at the close of each day (ex-dates up to and including it)."""
        return np.searchsorted(self._keys, codes * _STRIDE + days, side="right").astype(np.int64)

    def _ratio(self, start: int, end: int) -> Fraction:
        if end < start:
            return 1 / self._ratio(end, start)
        return prod(self.steps[start:end], start=Fraction(1))

    def whole(self, start: int, end: int) -> bool:
        """Whether every split between two nodes gives a whole number of new shares for one old share."""
        return all(step.denominator == 1 for step in self.steps[min(start, end) : max(start, end)])

    def coded(self, start: IntArray, end: IntArray) -> tuple[IntArray, list[Fraction]]:
        """Each row's ratio from node `start` to node `end`, as codes into a list of distinct ratios."""
        codes = np.zeros(len(start), dtype=np.int64)
        moved = np.flatnonzero(start != end)
        size = len(self.steps) + 1
        pairs, inverse = np.unique(start[moved] * size + end[moved], return_inverse=True)
        code_of = {Fraction(1): 0}
        by_pair = [code_of.setdefault(self.ratio(int(pair) // size, int(pair) % size), len(code_of)) for pair in pairs]
        codes[moved] = np.array(by_pair, dtype=np.int64)[inverse]
        return codes, list(code_of)
