"""The simulated market as a market data source: nothing in it is market data, and every row says so.

What belongs here: answering the questions of ``MarketDataSource`` from the paths. What does not: how a path comes
about (``factors_path``, ``symbol_paths``, ``option_surface``) and its parameters (``parameters``, ``universe``).

Any symbol has prices: one outside the universe gets parameters from a hash of its name. What is asked for never
changes an answer: the close of a symbol on a session is the same whatever range or company it is asked in.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import lru_cache

import numpy as np
import polars as pl

from sigmasight_pipeline.demo.factors_path import market_paths
from sigmasight_pipeline.demo.option_surface import OptionSurface
from sigmasight_pipeline.demo.parameters import FACTOR_KEYS
from sigmasight_pipeline.demo.random_streams import Floats
from sigmasight_pipeline.demo.symbol_paths import CENTS, Cents, SymbolPaths
from sigmasight_pipeline.demo.universe import UNIVERSE, VOLATILITY_INDEX
from sigmasight_pipeline.market_data.source import ACTIONS, BARS, INSTRUMENTS, OPTION_BARS, PRICE, YIELDS
from sigmasight_pipeline.sessions import SessionCalendar
from sigmasight_pipeline.symbols import looks_like_option, parse_option

NAME = "simulated"


class NoTrueBetasError(ValueError):
    """The symbol's return is not a product of betas."""


class SimulatedMarket:
    """A factor model with known parameters, from the first session of 2014 to the calendar's last.

    MarketDataError where `calendar` does not cover the start of the simulation. It needs no vendor, key or file; the
    paths are made once per process. `known_on` is the day it is asked on: what its vendor corrected later is as it was
    first reported; None: nothing is left to correct.
    """

    name = NAME
    local = True

    def __init__(self, seed: int, calendar: SessionCalendar, known_on: date | None = None) -> None:
        self._known_on = known_on
        self._paths = _symbol_paths(seed, calendar)
        self._market = self._paths.market
        self._sessions = self._market.grid.sessions
        self._surface = OptionSurface(self._paths)

    def stored_range(self) -> tuple[date, date]:
        """First and last session of the simulation."""
        return self._sessions[0], self._sessions[-1]

    def contents(self) -> Mapping[str, str]:
        """Nothing: the simulated past does not change."""
        return {}

    def changed_at(self) -> datetime | None:
        """Never."""
        return None

    def symbols(self) -> Collection[str]:
        """The universe: what the demo holds, factor proxies and a few more."""
        return tuple(UNIVERSE)

    def true_betas(self, symbol: str) -> dict[str, float]:
        """True beta of `symbol` on every factor together, by factor key; Interest_Rate per 1.00 of yield.

        NoTrueBetasError for the volatility index, whose level is a bounded function of a factor.
        """
        if symbol == VOLATILITY_INDEX:
            raise NoTrueBetasError(f"{symbol} has no true betas: use VIXY, the proxy of the Volatility factor")
        return dict(zip(FACTOR_KEYS, self._paths.parameters(symbol).beta_row, strict=True))

    def true_univariate_beta(self, symbol: str, factor: str) -> float:
        """What a regression of `symbol` on `factor` alone must find; the same refusal as `true_betas`."""
        self.true_betas(symbol)
        return self._paths.parameters(symbol).true_univariate_beta(factor)

    def _positions(self, first: date, last: date) -> tuple[int, int]:
        return self._paths.position(first), self._paths.position(last + timedelta(days=1))

    def daily_bars(self, symbols: Collection[str], first: date, last: date) -> pl.DataFrame:
        """Bars (columns BARS) sorted by symbol and session; option symbols have none."""
        names = _priced(symbols)
        start, end = self._positions(first, last)
        if not names or start >= end:
            return pl.DataFrame(schema=BARS)
        closes = np.stack([path[start:end] for path in self._paths.closes(names)])
        ranges = [self._paths.ranges(name, start, end) for name in names]
        traded = closes.ravel() > 0
        bars = pl.DataFrame(
            {
                "symbol": pl.Series(names).gather(np.repeat(np.arange(len(names)), end - start)[traded]),
                "session_date": pl.Series(self._sessions[start:end]).gather(
                    np.tile(np.arange(end - start), len(names))[traded]
                ),
                "open": _dollars(_stacked([row.opens for row in ranges], end - start)[traded] / CENTS),
                "high": _dollars(_stacked([row.highs for row in ranges], end - start)[traded] / CENTS),
                "low": _dollars(_stacked([row.lows for row in ranges], end - start)[traded] / CENTS),
                "close": _dollars(closes.ravel()[traded] / CENTS),
                "volume": pl.Series(_stacked([row.volume for row in ranges], end - start)[traded]).fill_nan(None),
                "problem": None,
                "received": None,
            },
            schema=BARS,
        )
        return self._misprinted(bars, names)

    def _misprinted(self, bars: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
        """`bars` with the misprints of `names`, for screening to find, and what is not corrected yet."""
        for name in names:
            parameters = self._paths.parameters(name)
            for misprint in parameters.misprints:
                wrong = (pl.col("symbol") == name) & (pl.col("session_date") == misprint.day)
                volume = pl.when(wrong & misprint.negative_volume).then(-pl.col("volume")).otherwise("volume")
                bars = bars.with_columns(*_times(misprint.close_factor, wrong), volume=volume)
            for report in parameters.first_reports:
                if self._known_on is not None and self._known_on < report.corrected_on:
                    wrong = (pl.col("symbol") == name) & (pl.col("session_date") == report.day)
                    bars = bars.with_columns(*_times(report.close_factor, wrong))
        return bars

    def corporate_actions(self, symbols: Collection[str], first: date, last: date) -> pl.DataFrame:
        """Splits and dividends (columns ACTIONS) sorted by symbol and ex-date."""
        rows: list[dict[str, object]] = []
        for name in _priced(symbols):
            rows += [
                {"symbol": name, "ex_date": split.ex_date, "kind": "split", "split_from": 1, "split_to": split.ratio}
                for split in self._paths.parameters(name).splits
                if first <= split.ex_date <= min(last, self._sessions[-1])
            ]
            rows += [
                {
                    "symbol": name,
                    "ex_date": dividend.ex_date,
                    "kind": "dividend",
                    "cash_amount": dividend.amount,
                    "pay_date": dividend.pay_date,
                }
                for dividend in self._paths.dividends(name)
                if first <= dividend.ex_date <= last
            ]
        return _typed(rows, ACTIONS).sort("symbol", "ex_date", "kind")

    def option_bars(self, symbols: Collection[str], first: date, last: date) -> pl.DataFrame:
        """Quotes (columns OPTION_BARS) of the contracts as listed on each session, sorted by symbol and session."""
        start, end = self._positions(first, last)
        parts = [pl.DataFrame(schema=OPTION_BARS)]
        for symbol in sorted(set(symbols)):
            quotes = self._surface.quotes(parse_option(symbol), start, end)
            parts.append(
                pl.DataFrame(
                    {
                        "symbol": pl.repeat(symbol, quotes.positions.size, eager=True),
                        "session_date": [self._sessions[position] for position in quotes.positions],
                        "close": _dollars(quotes.close),
                        "bid": _dollars(quotes.bid),
                        "ask": _dollars(quotes.ask),
                        "implied_volatility": pl.Series(quotes.implied_volatility).fill_nan(None),
                        "open_interest": pl.Series(quotes.open_interest).fill_nan(None),
                    },
                    schema=OPTION_BARS,
                )
            )
        return pl.concat(parts)

    def treasury_yields(self, first: date, last: date) -> pl.DataFrame:
        """Yields (columns YIELDS) sorted by date and tenor length; none on Columbus Day and Veterans Day."""
        start, end = self._positions(first, last)
        return pl.DataFrame(
            [
                (self._sessions[position], tenor, float(curve[position]))
                for position in range(start, end)
                if self._market.grid.bond_market_open[position]
                for tenor, curve in self._market.yields.items()
            ],
            schema=YIELDS,
            orient="row",
        )

    def instruments(self, symbols: Collection[str]) -> pl.DataFrame:
        """What each symbol is (columns INSTRUMENTS), sorted; option symbols have no row."""
        rows = [self._paths.parameters(name) for name in _priced(symbols)]
        return _typed(
            [
                {
                    "symbol": row.symbol,
                    "kind": row.kind,
                    "name": row.name,
                    "sector": row.sector,
                    "industry": row.industry,
                    "duration": row.duration,
                    "last_session": row.last_session,
                    "replaced_by": row.replaced_by,
                }
                for row in rows
            ],
            INSTRUMENTS,
        )


@lru_cache(maxsize=4)
def _symbol_paths(seed: int, calendar: SessionCalendar) -> SymbolPaths:
    return SymbolPaths(market_paths(seed, calendar), calendar)


def _times(close_factor: float, rows: pl.Expr) -> list[pl.Expr]:
    """The four prices of a bar, at `rows` times a factor."""
    factor = pl.lit(close_factor).cast(pl.Decimal(20, 6))
    return [
        pl.when(rows).then((pl.col(side) * factor).cast(PRICE)).otherwise(side).alias(side)
        for side in ("open", "high", "low", "close")
    ]


def _priced(symbols: Iterable[str]) -> list[str]:
    return sorted({symbol for symbol in symbols if not looks_like_option(symbol)})


def _stacked(rows: Sequence[Cents | Floats | None], width: int) -> Floats:
    """The rows end to end, NaN for one that is None."""
    return np.concatenate([np.full(width, np.nan) if row is None else row.astype(np.float64) for row in rows])


def _dollars(values: Floats) -> pl.Series:
    """Exact prices; NaN is NULL. A double holds every price here to far better than a millionth of a dollar."""
    return pl.Series(values).fill_nan(None).cast(PRICE)


def _typed(rows: list[dict[str, object]], schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Rows in which absent keys are NULL, with the schema's columns and types."""
    columns = {name: [row.get(name) for row in rows] for name in schema}
    return pl.DataFrame(
        [
            pl.Series(name, values, dtype=pl.Float64() if kind == PRICE else kind).cast(kind)
            for (name, values), kind in zip(columns.items(), schema.values(), strict=True)
        ]
    )
