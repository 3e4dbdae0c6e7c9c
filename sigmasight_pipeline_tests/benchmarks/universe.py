"""Generated universes: prices, quotes and yields of a one-factor market, and books on it, for the source `files`.

What belongs here: making the files, reproducibly and quickly. What does not: running and measuring (``scale``).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from sigmasight_pipeline.calculations.arrays import FloatArray
from sigmasight_pipeline.calculations.black_scholes import price as european_price
from sigmasight_pipeline.sessions import calendar

LOOK_BACK = 253
PROXIES = (
    "SPY VTV VUG MTUM QUAL SIZE USMV USO GLD EWG EEM FXI VIXY HYG XLK JETS".split()  # noqa: SIM905  # a list of names
)
TENORS = ("1M", "3M", "6M", "1Y", "2Y", "5Y", "10Y", "30Y")
RATE, VOLATILITY = 0.04, 0.30
LIFE = 420
"""Calendar days the options live on after the last session."""


@dataclass(frozen=True)
class Universe:
    """`portfolios` books of `positions` each on `symbols` stocks, a share `options` of the positions options."""

    portfolios: int
    positions: int
    symbols: int
    sessions: int
    options: float = 0.10
    seed: int = 7
    last: date = date(2024, 12, 30)

    @cached_property
    def days(self) -> list[date]:
        """Sessions with prices: those computed and the look-back before them."""
        line = calendar().between(date(2015, 1, 2), self.last)
        return line[-(self.sessions + LOOK_BACK) :]

    @property
    def first(self) -> date:
        """The first computed session."""
        return self.days[LOOK_BACK]

    @cached_property
    def names(self) -> list[str]:
        """Symbols of the stocks: five letters, so that none looks like anything else."""
        letters = "ABCDEFGHIJ"
        return ["Q" + "".join(letters[int(digit)] for digit in f"{number:04d}") for number in range(self.symbols)]

    def write(self, folder: Path) -> None:
        """Write prices, option prices, yields and instruments into `folder`."""
        closes = self._closes()
        priced = [*PROXIES, *self.names]
        day = pl.Series("date", self.days, dtype=pl.Date)
        pl.DataFrame(
            {
                "symbol": np.repeat(priced, len(day)),
                "date": pl.concat([day] * len(priced)),
                "close": closes.T.ravel(),
            }
        ).write_parquet(folder / "prices.parquet")
        pl.DataFrame(
            [(one, tenor, RATE) for one in self.days for tenor in TENORS],
            schema={"date": pl.Date, "tenor": pl.String, "yield": pl.Float64},
            orient="row",
        ).write_parquet(folder / "treasury_yields.parquet")
        pl.DataFrame(
            {
                "symbol": priced,
                "kind": ["etf"] * len(PROXIES) + ["stock"] * self.symbols,
                "name": priced,
                "sector": [f"Sector {number % 11}" for number in range(len(priced))],
                "industry": ["Any"] * len(priced),
            }
        ).write_csv(folder / "instruments.csv")
        self._quotes(closes).write_parquet(folder / "option_prices.parquet")

    def books(self) -> Iterator[tuple[str, bytes]]:
        """Name and CSV of every portfolio."""
        closes = dict(zip([*PROXIES, *self.names], self._closes()[LOOK_BACK].tolist(), strict=True))
        random = np.random.default_rng(self.seed + 1)
        for number in range(self.portfolios):
            text = io.StringIO()
            rows = csv.writer(text)
            rows.writerow(["ticker", "quantity", "entry_price", "entry_date", "tags"])
            held = random.choice(self.symbols, self.positions, replace=False)
            options = round(self.positions * self.options)
            for place, symbol in enumerate(held.tolist()):
                name = self.names[symbol]
                side = -1 if random.random() < 0.3 else 1
                if place < options:
                    contract, strike = self._contract(symbol, closes[name])
                    premium = _premium(np.array([closes[name]]), np.array([strike]), self._years(self.first))[0]
                    lot = [contract, side * int(random.integers(1, 9)), f"{premium:.2f}", self.first, "overlay"]
                else:
                    lot = [name, side * int(random.integers(100, 900)), f"{closes[name]:.2f}", self.first, "core"]
                rows.writerow(lot)
            yield f"book-{number:03d}", text.getvalue().encode()

    def _closes(self) -> FloatArray:
        random = np.random.default_rng(self.seed)
        count = len(PROXIES) + self.symbols
        market = random.standard_normal(len(self.days)) * 0.010
        sizes = np.r_[np.full(len(PROXIES), 0.006), np.full(self.symbols, 0.014)]
        own = random.standard_normal((len(self.days), count)) * sizes
        own[:, 0] = 0.0
        betas = np.r_[1.0, random.uniform(0.2, 1.4, count - 1)]
        steps = np.clip(0.0003 + market[:, None] * betas + own, -0.2, 0.2)
        begin = np.r_[np.full(len(PROXIES), 100.0), random.uniform(20.0, 300.0, self.symbols)]
        return np.round(np.maximum(begin * np.exp(np.cumsum(steps, axis=0)), 1.0), 2)

    def _contract(self, symbol: int, close: float) -> tuple[str, float]:
        """Every stock has one call: at the money when the history begins."""
        strike = float(max(1, round(close)))
        expiry = self.last + timedelta(days=LIFE)
        return f"{self.names[symbol]}{expiry:%y%m%d}C{round(strike * 1000):08d}", strike

    def _years(self, day: date) -> float:
        return ((self.last + timedelta(days=LIFE)) - day).days / 365

    def _quotes(self, closes: FloatArray) -> pl.DataFrame:
        """Closes of the calls that are held, on every computed session."""
        lines = [line for _, book in self.books() for line in book.decode().splitlines()[1:]]
        held = sorted({line.split(",")[0] for line in lines if line.endswith("overlay")})
        names = {name: number for number, name in enumerate(self.names)}
        own = [names[contract[:5]] for contract in held]
        strikes = np.array([int(contract[-8:]) / 1000 for contract in held])
        parts = []
        for place, day in enumerate(self.days[LOOK_BACK:]):
            spot = closes[LOOK_BACK + place, len(PROXIES) :][own]
            closes_of_day = _premium(spot, strikes, self._years(day))
            parts.append(pl.DataFrame({"symbol": held, "date": [day] * len(held), "close": closes_of_day}))
        return pl.concat(parts)


def _premium(spot: FloatArray, strike: FloatArray, years: float) -> FloatArray:
    """Value of calls, to the cent and at least one."""
    fair = european_price(np.full(len(spot), True), spot, strike, years, RATE, VOLATILITY)
    return np.maximum(np.round(fair, 2), 0.01)
