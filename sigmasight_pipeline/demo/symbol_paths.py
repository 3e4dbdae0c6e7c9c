"""The path of one symbol: closes as traded, dividends, and the day's open, high, low and volume.

What belongs here: turning parameters and the market's paths into prices. What does not: frames and ranges asked for
(``simulated``), options (``option_surface``).

The gross return of a session is alpha + sum of beta x factor, compounded with a specific part whose level returns to
its mean (half-life two years, far too slow to show in daily returns), so that no price wanders off in ten years of
simulation. The price is pinned at the reference price on 2024-01-02 and loses a dividend on its ex-date.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from sigmasight_pipeline.demo import random_streams
from sigmasight_pipeline.demo.factors_path import MarketPaths
from sigmasight_pipeline.demo.parameters import (
    FACTORS,
    SESSIONS_PER_YEAR,
    SymbolParameters,
    unknown_symbol,
)
from sigmasight_pipeline.demo.random_streams import Floats
from sigmasight_pipeline.demo.universe import UNIVERSE, VOLATILITY_INDEX
from sigmasight_pipeline.sessions import SessionCalendar

CENTS = 100
Cents = NDArray[np.int32]

_SPECIFIC_HALF_LIFE = 2 * SESSIONS_PER_YEAR
_NEWS_PROBABILITY = 5 / SESSIONS_PER_YEAR
"""Days of company news, about one a quarter and a few more."""
_NEWS_SCALE = 3.5
_SHARED_VOLATILITY = 0.5
"""Power of the market's volatility state that specific shocks take part in."""

_SYMBOLS_AT_ONCE = 256
"""Rows of one pass, so that its arrays stay in the processor's cache."""

_OPENING_SPREAD = 0.5
_RANGE_SPREAD = 0.3
_VOLUME_SPREAD = 0.35
_HALF_DAY_VOLUME = 0.45
"""Open, high, low and volume of a session in units of the symbol's daily volatility; a half-day trades less."""

_SMALLEST_TURNOVER = 20e6
_LARGEST_TURNOVER = 5e9
"""Dollars traded a day; where a symbol lies between the two comes from a hash of its name."""

_PAYMENT_DELAY = timedelta(days=14)
_FIRST_EX_DAY = 4
_EX_DAYS = 22
"""Ex-dates fall on the 4th to 25th of a month, moved to the next session."""


@dataclass(frozen=True)
class Dividend:
    """A cash dividend per old share; `position` is the ex-date's place in the grid."""

    position: int
    ex_date: date
    pay_date: date
    amount: float


@dataclass(frozen=True)
class Ranges:
    """What a session has besides its close: prices in cents, volume in shares (None: the kind has no such thing)."""

    opens: Cents | None
    highs: Cents | None
    lows: Cents | None
    volume: Floats | None


class SymbolPaths:
    """Prices of any symbol; closes are computed once and kept (13 kB a symbol)."""

    def __init__(self, market: MarketPaths, calendar: SessionCalendar) -> None:
        self.market = market
        self._calendar = calendar
        self._rows: dict[str, SymbolParameters] = dict(UNIVERSE)
        self._closes: dict[str, Cents] = {}
        self._ex_dates: dict[tuple[int, int, int], list[int]] = {}
        half_days = {session.session_date for session in calendar.sessions if session.is_half_day}
        self._half_day = np.array([day in half_days for day in market.grid.sessions])
        self._position = {day: position for position, day in enumerate(market.grid.sessions)}
        usual = (1.0 + _NEWS_PROBABILITY * (_NEWS_SCALE**2 - 1.0)) ** -0.5
        # a shock k sessions old counts 2^(-k / half-life): the sum of shocks / memory, times memory
        self._memory = 2.0 ** (-np.arange(len(market.grid.sessions)) / _SPECIFIC_HALF_LIFE)
        self._specific_scale = market.volatility**_SHARED_VOLATILITY * usual

    def parameters(self, symbol: str) -> SymbolParameters:
        """The symbol's row of the universe, or the one a hash of its name gives."""
        row = self._rows.get(symbol)
        if row is None:
            row = self._rows[symbol] = unknown_symbol(self.market.grid.seed, symbol)
        return row

    def position(self, day: date) -> int:
        """Place in the grid of the first session on or after `day`; the grid's length beyond its end."""
        sessions = self.market.grid.sessions
        if day > sessions[-1]:
            return len(sessions)
        return self._position[self._calendar.on_or_after(max(day, sessions[0]))]

    def _session_on_or_after(self, day: date) -> date:
        """`day` itself beyond the end of the grid, where sessions are not known."""
        place = self.position(day)
        return self.market.grid.sessions[place] if place < len(self.market.grid.sessions) else day

    def closes(self, symbols: Iterable[str]) -> list[Cents]:
        """Closes as traded in cents, one array over the grid per symbol; 0 where the symbol has none."""
        wanted = list(symbols)
        missing = [symbol for symbol in dict.fromkeys(wanted) if symbol not in self._closes]
        for start in range(0, len(missing), _SYMBOLS_AT_ONCE):
            self._simulate([self.parameters(symbol) for symbol in missing[start : start + _SYMBOLS_AT_ONCE]])
        return [self._closes[symbol] for symbol in wanted]

    def _simulate(self, rows: list[SymbolParameters]) -> None:
        grid = self.market.grid
        growth = np.zeros((len(rows), len(grid.sessions)))
        growth += np.array([[row.alpha / SESSIONS_PER_YEAR] for row in rows])
        # one factor after the other, element by element: a matrix product may round differently with other rows
        for index in range(len(FACTORS)):
            betas = np.array([[row.beta_row[index]] for row in rows])
            if betas.any():
                growth += betas * self.market.factor_returns[index]
        for place, row in enumerate(rows):
            growth[place, self._ex_positions(row)] -= row.dividend_share
        path = np.cumsum(np.log1p(growth), axis=1)
        for place, row in enumerate(rows):
            if row.specific_volatility:
                path[place] += self._specific_level(row)
        prices = np.exp(path - path[:, [grid.reference]]) * np.array([[row.reference_price] for row in rows])
        for place, row in enumerate(rows):
            own = self.market.volatility_index if row.symbol == VOLATILITY_INDEX else prices[place]
            self._closes[row.symbol] = self._as_traded(row, own)

    def _specific_level(self, row: SymbolParameters) -> Floats:
        """Logarithm of the specific price level: a first-order autoregression of the symbol's own shocks."""
        raw = self.market.grid.draws("specific", row.continues or row.symbol)[:, 0]
        news = random_streams.coin_flips(raw, _NEWS_PROBABILITY)
        shocks = random_streams.normals(raw) * self._specific_scale * np.where(news, _NEWS_SCALE, 1.0)
        size = row.specific_volatility / SESSIONS_PER_YEAR**0.5
        level: Floats = np.cumsum(shocks / self._memory) * self._memory * size
        return level

    def _as_traded(self, row: SymbolParameters, prices: Floats) -> Cents:
        """Cents of a continuous price path, on the share basis of each session, without what is not traded."""
        traded = prices.copy()
        for split in row.splits:
            ex_position = self.position(split.ex_date)
            if ex_position > self.market.grid.reference:
                traded[ex_position:] /= split.ratio
            else:
                traded[:ex_position] *= split.ratio
        cents = np.maximum(np.rint(traded * CENTS), 1).astype(np.int32)
        if row.gap is not None:
            first, last = row.gap
            cents[self.position(first) : self.position(last + timedelta(days=1))] = 0
        if row.first_session is not None:
            cents[: self.position(row.first_session)] = 0
        if row.last_session is not None:
            cents[self.position(row.last_session + timedelta(days=1)) :] = 0
        cents.flags.writeable = False
        return cents

    def dividends(self, symbol: str) -> list[Dividend]:
        """Every dividend of the symbol: its share of the previous close, rounded to 0.0001 dollars."""
        row = self.parameters(symbol)
        positions = self._ex_positions(row)
        if not positions:
            return []
        [closes] = self.closes([symbol])
        sessions = self.market.grid.sessions
        amounts = [round(row.dividend_share * int(closes[place - 1]) / CENTS, 4) for place in positions]
        return [
            Dividend(place, sessions[place], self._session_on_or_after(sessions[place] + _PAYMENT_DELAY), amount)
            for place, amount in zip(positions, amounts, strict=True)
            if closes[place] and closes[place - 1] and amount > 0
        ]

    def _ex_positions(self, row: SymbolParameters) -> list[int]:
        """Places of the sessions the symbol goes ex dividend on; never the first of the grid or that of a split.

        The months and the day of the month are the symbol's own (a yearly payer's: December).
        """
        payments = row.dividends_per_year
        if not row.dividend_yield:
            return []
        month_draw, day_draw = random_streams.uniforms_of_name(
            self.market.grid.seed, "dividend", row.continues or row.symbol, count=2
        )
        months_apart = 12 // payments
        first_month = 1 + int(month_draw * months_apart) if payments > 1 else 12
        key = (payments, first_month, _FIRST_EX_DAY + int(day_draw * _EX_DAYS))
        if key not in self._ex_dates:
            sessions = self.market.grid.sessions
            nominal = [
                date(year, month, key[2])
                for year in range(sessions[0].year, sessions[-1].year + 1)
                for month in range(first_month, 13, months_apart)
            ]
            places = (self.position(day) for day in nominal if day <= sessions[-1])
            self._ex_dates[key] = [place for place in places if place > 0]
        splits = {self.position(split.ex_date) for split in row.splits}
        return [place for place in self._ex_dates[key] if place not in splits]

    def ranges(self, symbol: str, first: int, end: int) -> Ranges:
        """Open, high, low and volume of the sessions from position `first` up to `end` (low <= open, close <= high).

        A fund has one net asset value a day and an index no volume.
        """
        row = self.parameters(symbol)
        if row.kind == "fund":
            return Ranges(None, None, None, None)
        [closes] = self.closes([symbol])
        close = closes[first:end].astype(np.float64)
        uniform = random_streams.uniforms(self.market.grid.draws("range", symbol, first=first, end=end, width=4))
        daily = row.total_volatility / SESSIONS_PER_YEAR**0.5
        opens = close * np.exp(_OPENING_SPREAD * daily * ndtri(uniform[:, 0]))
        highs = np.maximum(opens, close) * np.exp(-_RANGE_SPREAD * daily * np.log(uniform[:, 1]))
        lows = np.minimum(opens, close) * np.exp(_RANGE_SPREAD * daily * np.log(uniform[:, 2]))
        volume = None
        if row.kind != "index":
            [size] = random_streams.uniforms_of_name(self.market.grid.seed, "volume", symbol, count=1)
            dollars = _SMALLEST_TURNOVER * (_LARGEST_TURNOVER / _SMALLEST_TURNOVER) ** size
            shares = dollars * CENTS / np.maximum(close, 1.0) * np.exp(_VOLUME_SPREAD * ndtri(uniform[:, 3]))
            volume = np.rint(shares * np.where(self._half_day[first:end], _HALF_DAY_VOLUME, 1.0))
        return Ranges(_cents(opens), _cents(highs), _cents(lows), volume)


def _cents(values: Floats) -> Cents:
    return np.maximum(np.rint(values), 1).astype(np.int32)
