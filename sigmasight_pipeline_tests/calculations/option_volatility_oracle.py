"""Random, gappy option data, and the rules of option volatility as a plain loop: the oracle of the engine's tests.

The loop takes single prices, Greeks and inverted volatilities from ``option_pricing``, whose engines have oracles of
their own.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from datetime import date, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl

from sigmasight_pipeline.calculations.black_scholes import price
from sigmasight_pipeline.calculations.implied_volatility import ImpliedVolatilityStatus
from sigmasight_pipeline.calculations.option_inputs import TENOR_DAYS
from sigmasight_pipeline.calculations.option_pricing import OptionTerms, implied_by_price, option_greeks, option_price

# Weekdays without every 17th, so that sessions and calendar days count differently.
WEEKDAYS = [day for n in range(200) if (day := date(2024, 1, 2) + timedelta(days=n)).weekday() < 5]
SESSIONS = [day for number, day in enumerate(WEEKDAYS) if number % 17]
DAY = SESSIONS[90]

CONTRACT_DAY = {
    "contract": "AAA 2024 C 100",
    "session_date": DAY,
    "option_symbol": "AAA240920C00100000",
    "underlying_symbol": "AAA",
    "option_kind": "C",
    "strike_price": 100.0,
    "expiration_date": DAY + timedelta(days=91),
    "close": None,
    "vendor_volatility": None,
    "underlying_price": 102.0,
    "is_american": False,
    "dividend_yield": 0.0,
}
CONTRACT_DAYS = {
    "contract": pl.String,
    "session_date": pl.Date,
    "option_symbol": pl.String,
    "underlying_symbol": pl.String,
    "option_kind": pl.String,
    "strike_price": pl.Float64,
    "expiration_date": pl.Date,
    "close": pl.Float64,
    "vendor_volatility": pl.Float64,
    "underlying_price": pl.Float64,
    "is_american": pl.Boolean,
    "dividend_yield": pl.Float64,
}
RETURNS = {
    "session_date": pl.Date,
    "symbol": pl.String,
    "log_return": pl.Float64,
    "sessions_spanned": pl.Int32,
}
YIELDS = {"session_date": pl.Date, "tenor": pl.String, "yield": pl.Float64, "observed_date": pl.Date}


def contract_days(*rows):
    return pl.DataFrame([CONTRACT_DAY | row for row in rows], schema=CONTRACT_DAYS)


def log_returns(rows):
    return pl.DataFrame(rows, schema=RETURNS, orient="row")


def yields(*rows):
    return pl.DataFrame(rows, schema=YIELDS, orient="row")


@lru_cache(maxsize=16)
def world(seed: int) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Contract days, returns and yields over SESSIONS, with gaps, stale and absurd values of every kind."""
    random = np.random.default_rng(seed)

    def maybe(share: float) -> bool:
        return bool(random.random() < share)

    returns, spots = [], {}
    for symbol, presence in (("AAA", 0.95), ("BBB", 0.45), ("CCC", 0.15)):
        level = 100.0
        for day in SESSIONS:
            move = random.normal(0, 0.02)
            level *= math.exp(move)
            spots[symbol, day] = level
            if maybe(presence):
                returns.append((day, symbol, move, 1 if maybe(0.9) else 2))
    rows = []
    for number in range(8):
        symbol, kind = ("AAA", "BBB", "CCC")[number % 3], "CP"[number % 2]
        days_beyond = int(random.integers(0, 900))
        expiration = SESSIONS[60 + 5 * number] if number < 4 else SESSIONS[-1] + timedelta(days=days_beyond)
        terms = {
            "contract": f"{symbol} {number}",
            "underlying_symbol": symbol,
            "option_kind": kind,
            "strike_price": 100.0 * random.uniform(0.8, 1.2),
            "expiration_date": expiration,
            "is_american": number % 4 < 2,
            "dividend_yield": 0.03 * (number % 3),
        }
        rows += [
            terms | {"session_date": day, "underlying_price": spots[symbol, day]}
            for day in SESSIONS
            if day <= expiration and maybe(0.95)
        ]
    random.shuffle(rows)
    days = contract_days(*rows)
    years = (days["expiration_date"] - days["session_date"]).dt.total_days().to_numpy() / 365
    spot, strike = days["underlying_price"].to_numpy(), days["strike_price"].to_numpy()
    volatility = random.uniform(0.1, 0.8, len(days))
    fair = price((days["option_kind"] == "C").to_numpy(), spot, strike, years, 0.04, volatility)
    none = np.full(len(days), np.nan)
    closes = np.array([none, fair, fair * 0.3, 0 * fair, spot * 3])
    kinds = random.choice(5, len(days), p=[0.75, 0.1, 0.05, 0.05, 0.05])
    vendor = random.choice([np.nan, 0.31, 0.0, -1.0], len(days), p=[0.7, 0.2, 0.05, 0.05])
    days = days.with_columns(
        pl.Series("close", closes[kinds, np.arange(len(days))]).fill_nan(None),
        pl.Series("vendor_volatility", vendor).fill_nan(None),
        pl.when(pl.Series(random.random(len(days)) > 0.05)).then("underlying_price").alias("underlying_price"),
    )
    curve = [
        (day, tenor, random.uniform(0, 0.06), day - timedelta(days=int(random.choice([0, 0, 0, 1, 3, 8]))))
        for day in SESSIONS
        if maybe(0.4)
        for tenor in TENOR_DAYS
        if maybe(0.5)
    ]
    return days, log_returns(returns), yields(*curve)


def terms_of(row: dict[str, Any]) -> OptionTerms:
    numbers = (row["option_kind"] == "C", row["strike_price"], row["is_american"], row["dividend_yield"])
    return OptionTerms(*(np.array(number) for number in numbers))


def loop(days: pl.DataFrame, returns: pl.DataFrame, curve: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """The rows `model_options` must give, one by one."""
    number = {day: index for index, day in enumerate(SESSIONS)}
    rows = {(row["contract"], number[row["session_date"]]): row for row in days.iter_rows(named=True)}
    return_of = {(symbol, number[day]): value for day, symbol, value, spanned in returns.iter_rows() if spanned == 1}
    yield_of = {(tenor, number[day]): (value, seen) for day, tenor, value, seen in curve.iter_rows()}

    def session_of(day):
        return max((index for known, index in number.items() if known <= day), default=-1)

    def rate(row, today, days_left):
        best = None
        for tenor, tenor_days in TENOR_DAYS.items():
            for past in range(today, -1, -1):
                if (tenor, past) in yield_of:
                    value, seen = yield_of[tenor, past]
                    if today - session_of(seen) <= 5 and (best is None or abs(tenor_days - days_left) < best[0]):
                        best = (abs(tenor_days - days_left), value, seen == row["session_date"])
                    break
        if best is None:
            return math.log(1.045), "default"
        return math.log(1 + best[1]), "observed" if best[2] else "carried"

    def implied(row, today):
        days_left = (row["expiration_date"] - row["session_date"]).days
        if row["close"] is None:
            return math.nan, "expired" if days_left == 0 else None
        spot = math.nan if row["underlying_price"] is None else row["underlying_price"]
        market = (spot, days_left / 365, rate(row, today, days_left)[0])
        volatility, status = implied_by_price(terms_of(row), row["close"], *market)
        if status == ImpliedVolatilityStatus.OK and not option_greeks(terms_of(row), *market, volatility).vega >= 0.005:
            volatility, status = math.nan, ImpliedVolatilityStatus.INSENSITIVE
        code = ImpliedVolatilityStatus(int(status)).code
        return float(volatility), "expired" if days_left == 0 else code

    def historical(symbol, today):
        found = [return_of[symbol, past] for past in range(today, today - 60, -1) if (symbol, past) in return_of][:30]
        return statistics.stdev(found) * math.sqrt(252) if len(found) >= 20 else math.nan

    for (contract, today), row in sorted(rows.items()):
        days_left = (row["expiration_date"] - row["session_date"]).days
        today_implied, status = implied(row, today)
        carried = math.nan
        for past in range(today - 1, today - 6, -1):
            if math.isnan(carried) and (contract, past) in rows:
                carried = implied(rows[contract, past], past)[0]
        candidates = {
            "implied": today_implied,
            "carried": carried,
            "vendor": math.nan if row["vendor_volatility"] is None else row["vendor_volatility"],
            "historical": historical(row["underlying_symbol"], today),
        }
        usable = [(name, value) for name, value in candidates.items() if value > 0]
        source, volatility = usable[0] if usable else ("fallback", None)
        if row["underlying_price"] is None:
            source, volatility = "fallback", None
        if days_left == 0:
            source, volatility = None, None
        modelled = None
        if row["underlying_price"] is not None and (volatility or days_left == 0):
            modelled = float(
                option_price(
                    terms_of(row),
                    row["underlying_price"],
                    days_left / 365,
                    rate(row, today, days_left)[0],
                    volatility or 0.0,
                )
            )
        level, rate_source = rate(row, today, days_left)
        yield {
            "contract": contract,
            "session_date": row["session_date"],
            "time_to_expiry": days_left / 365,
            "risk_free_rate": level,
            "rate_source": rate_source,
            "implied_volatility": None if math.isnan(today_implied) else today_implied,
            "vol_status": status,
            "volatility": volatility,
            "vol_source": source,
            "model_price": modelled,
        }
