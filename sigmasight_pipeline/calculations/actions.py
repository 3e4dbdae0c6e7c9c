"""Splits as exact ratios: how many new shares one old share became between two dates.

What belongs here: the product of split ratios over a stretch of time, as a lookup and as a join. What does
not: what is done with it (returns, quantities, adjusted contracts) and dividends (amounts, not ratios).

A ratio is new shares per old share, ``split_to / split_from``: 10 for a ten-for-one split, 1/8 for a reverse
split. A stretch excludes its first day and includes its last: the close of day p already trades without a
split of ex-date p.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from datetime import date
from decimal import Decimal
from fractions import Fraction
from math import prod

import polars as pl

LARGEST_DENOMINATOR = 10**9
"""A product of many uneven ratios (stock dividends of 1.0231 every year) outgrows 64 bits. In frames it is
replaced by the nearest fraction with a denominator up to this, at most 1e-9 / denominator away."""

LARGEST_NUMERATOR = 2**63 - 1


class SplitRatioError(ValueError):
    """A split cannot be a ratio; the message names the symbol and the ex-date."""


class SplitRatios:
    """The splits of every symbol, made from rows of ``corporate_actions``.

    `actions` needs the columns symbol, ex_date, kind, split_from, split_to; rows of another kind are ignored.
    """

    def __init__(self, actions: pl.DataFrame) -> None:
        splits = actions.filter(pl.col("kind") == "split").sort("symbol", "ex_date")
        self._ex_dates: dict[str, list[date]] = defaultdict(list)
        self._ratios: dict[str, list[Fraction]] = defaultdict(list)
        columns = splits.select("symbol", "ex_date", "split_from", "split_to")
        for symbol, ex_date, split_from, split_to in columns.iter_rows():
            self._ex_dates[symbol].append(ex_date)
            self._ratios[symbol].append(_ratio(symbol, ex_date, split_from, split_to))

    def ratio(self, symbol: str, after: date, through: date) -> Fraction:
        """New shares per share held at the close of `after`, at the close of `through`; 1 without a split.

        The product of the ratios with an ex-date in (after, through], exact.
        """
        ex_dates = self._ex_dates.get(symbol)
        if not ex_dates:
            return Fraction(1)
        start, end = bisect_right(ex_dates, after), bisect_right(ex_dates, through)
        return prod(self._ratios[symbol][start:end], start=Fraction(1))

    def between(self, rows: pl.DataFrame, *, after: str, through: str, symbol: str = "symbol") -> pl.DataFrame:
        """`rows`, in their order, with `numerator` and `denominator` (Int64) of their ratio.

        `symbol`, `after` and `through` name columns of `rows`: the ratio is that of splits with an ex-date in
        (after, through], and NULL where one of the three is NULL.
        """
        keys = [symbol, after, through]
        spans = pl.DataFrame(
            [(name, days[0], days[-1]) for name, days in self._ex_dates.items()],
            schema={symbol: pl.String, "_first_split": pl.Date, "_last_split": pl.Date},
            orient="row",
        )
        affected = (
            rows.select(keys)
            .join(spans, on=symbol)
            .filter(pl.col(after) < pl.col("_last_split"), pl.col(through) >= pl.col("_first_split"))
            .select(keys)
            .unique()
        )
        ratios = pl.DataFrame(
            [(*key, *_fit(self.ratio(*key), *key)) for key in affected.iter_rows()],
            schema={
                **{name: rows.schema[name] for name in keys},
                "numerator": pl.Int64,
                "denominator": pl.Int64,
            },
            orient="row",
        )
        known = pl.all_horizontal(pl.col(name).is_not_null() for name in keys)
        return rows.join(ratios, on=keys, how="left", maintain_order="left").with_columns(
            pl.when(known).then(pl.col("numerator", "denominator").fill_null(1))
        )

    def cumulative(self) -> pl.DataFrame:
        """One row per split: the product of all ratios of the symbol up to and including it.

        Columns symbol, ex_date, numerator, denominator (Int64), sorted by symbol and ex_date.
        """
        rows = [
            (symbol, day, *_fit(self.ratio(symbol, date.min, day), symbol, date.min, day))
            for symbol, days in self._ex_dates.items()
            for day in sorted(set(days))
        ]
        return pl.DataFrame(
            rows,
            schema={"symbol": pl.String, "ex_date": pl.Date, "numerator": pl.Int64, "denominator": pl.Int64},
            orient="row",
        )


def _ratio(symbol: str, ex_date: date, split_from: Decimal | None, split_to: Decimal | None) -> Fraction:
    if split_from is None or split_to is None or split_from <= 0 or split_to <= 0:
        raise SplitRatioError(
            f"{symbol}: the split of {ex_date} is {split_to} new for {split_from} old shares; "
            "both must be positive, correct the corporate action"
        )
    return Fraction(split_to) / Fraction(split_from)


def _fit(ratio: Fraction, symbol: str, after: date, through: date) -> tuple[int, int]:
    if ratio.denominator > LARGEST_DENOMINATOR or ratio.numerator > LARGEST_NUMERATOR:
        ratio = ratio.limit_denominator(LARGEST_DENOMINATOR)
    if not 0 < ratio.numerator <= LARGEST_NUMERATOR:
        raise SplitRatioError(
            f"{symbol}: its splits after {after} through {through} multiply to {float(ratio):g}, "
            "which no share count survives; correct the corporate actions"
        )
    return ratio.numerator, ratio.denominator
