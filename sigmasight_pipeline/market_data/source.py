"""What a market data source is: one protocol, capability by capability, and the frames it hands over.

What belongs here: the protocol, the columns of each frame, and the errors a source may raise. What does not: any
particular source, and judging whether a price is believable (``market_data.screening``).

Every frame carries canonical symbols and session dates; prices are as traded, never adjusted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date, datetime
from typing import Protocol

import polars as pl

PRICE = pl.Decimal(20, 6)

BARS: dict[str, pl.DataType] = {
    "symbol": pl.String(),
    "session_date": pl.Date(),
    "open": PRICE,
    "high": PRICE,
    "low": PRICE,
    "close": PRICE,
    "volume": pl.Float64(),
    "problem": pl.String(),
    "received": pl.String(),
}
"""Daily bars. `problem` is NULL, or a reason from ``screening.REASONS`` the source itself found while reading the row
(a volume that is no number); `received` is the row as it came, as a JSON object, NULL where `problem` is NULL.
`session_date` is the date as received: it may lie outside the asked range or be no session; screening decides."""

ACTIONS: dict[str, pl.DataType] = {
    "symbol": pl.String(),
    "ex_date": pl.Date(),
    "kind": pl.String(),
    "split_from": PRICE,
    "split_to": PRICE,
    "cash_amount": PRICE,
    "pay_date": pl.Date(),
}
"""Splits (`split_to` new shares for `split_from` old ones) and cash dividends per old share."""

OPTION_BARS: dict[str, pl.DataType] = {
    "symbol": pl.String(),
    "session_date": pl.Date(),
    "close": PRICE,
    "bid": PRICE,
    "ask": PRICE,
    "implied_volatility": pl.Float64(),
    "open_interest": pl.Float64(),
}
"""Option quotes by compact OCC symbol as listed on that session (strike divided by splits of the underlying)."""

YIELDS: dict[str, pl.DataType] = {
    "observed_date": pl.Date(),
    "tenor": pl.String(),
    "yield": pl.Float64(),
}
"""Treasury par yields as observed, decimal; a date without observation has no row (nothing carried forward)."""

INSTRUMENTS: dict[str, pl.DataType] = {
    "symbol": pl.String(),
    "kind": pl.String(),
    "name": pl.String(),
    "sector": pl.String(),
    "industry": pl.String(),
    "duration": pl.Float64(),
    "last_session": pl.Date(),
    "replaced_by": pl.String(),
    "exercise_style": pl.String(),
    "dividend_yield": pl.Float64(),
}
"""What a source knows of a symbol; `last_session` only where it stopped trading; exercise style and dividend yield
(decimal) only where they are stated."""


class MarketDataError(Exception):
    """A source could not deliver; the message says what is wrong, where, and what to do next."""


class MarketDataSource(Protocol):
    """A place market data comes from. Methods are pure reads and may be called for any range, repeatedly."""

    name: str
    """Written into the `source` column of every row."""

    local: bool
    """True where re-reading costs nothing, so that a run compares everything and finds restated values."""

    def stored_range(self) -> tuple[date, date] | None:
        """First and last date the source has prices for, or None where it has no bounds of its own."""
        ...

    def contents(self) -> Mapping[str, str]:
        """A digest of what it has of each month (``2024-03``), by which a changed past is noticed.

        Empty where asking would cost as much as reading everything.
        """
        ...

    def changed_at(self) -> datetime | None:
        """When what it has was last changed; None where it cannot tell."""
        ...

    def symbols(self) -> Collection[str]:
        """Symbols the source would price without being asked for them (its own universe)."""
        ...

    def daily_bars(self, symbols: Collection[str], first: date, last: date) -> pl.DataFrame:
        """Bars (columns BARS) of `symbols` from `first` to `last`, both included."""
        ...

    def corporate_actions(self, symbols: Collection[str], first: date, last: date) -> pl.DataFrame:
        """Splits and dividends (columns ACTIONS) with an ex-date from `first` to `last`."""
        ...

    def option_bars(self, symbols: Collection[str], first: date, last: date) -> pl.DataFrame:
        """Quotes (columns OPTION_BARS) of the named contracts."""
        ...

    def treasury_yields(self, first: date, last: date) -> pl.DataFrame:
        """Yields (columns YIELDS) observed from `first` to `last`."""
        ...

    def instruments(self, symbols: Collection[str]) -> pl.DataFrame:
        """What is known (columns INSTRUMENTS) of `symbols`; unknown ones have no row."""
        ...
