"""How fast position values are computed: 10,000 positions over 252 sessions against a loop over dicts.

What belongs here: a book of that size and the loop people write first. What does not: right or wrong (tests), although
both must agree on the sample before their times are compared.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import numpy as np
import polars as pl

from sigmasight_pipeline.calculations.valuation import position_values
from sigmasight_pipeline.sessions import SessionCalendar
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.frames import empty_frame, polars_schema
from sigmasight_pipeline_tests.benchmarks.measurement import Measurement, fastest
from sigmasight_pipeline_tests.calculations.table_rows import dividend, frame, portfolio, sessions_frame, split, stock

POSITIONS, SYMBOLS, SESSIONS, PORTFOLIOS = 10_000, 2_000, 252, 50
SAMPLE = 200
TIMES_FASTER = 8
CENT = Decimal("0.01")

Row = dict[str, Any]


def run() -> list[Measurement]:
    """Time of the engine for 2.5 million position-days, and over the loop's time per row on a sample."""
    book, sessions = _book()
    seconds = fastest(lambda: _engine(book, sessions), times=3)
    rows = _engine(book, sessions)
    sample = _sampled(book)
    started = time.perf_counter()
    looped = _loop(sample, sessions)
    loop_seconds = time.perf_counter() - started
    _require_equal(rows, looped)
    ratio = (seconds / len(rows)) / (loop_seconds / len(looped))
    return [
        Measurement(
            stage="position values, 10,000 positions x 252 sessions",
            seconds=seconds,
            rows=len(rows),
            ratio=ratio,
            peer=f"loop over dicts, {len(looped):,} rows",
            budget=1 / TIMES_FASTER,
        )
    ]


def _book() -> tuple[dict[str, pl.DataFrame], list[date]]:
    """Stocks held throughout in 50 portfolios, a price each session, some splits, quarterly dividends."""
    days = list(SessionCalendar(date(2023, 1, 3), date(2024, 3, 29)).dates)
    sessions = days[-SESSIONS - 5 : -5]
    generator = np.random.default_rng(1)
    names = [f"S{number:04d}" for number in range(SYMBOLS)]
    quantity = generator.integers(1, 2_000, POSITIONS) * generator.choice([-1, 1], POSITIONS)
    positions = [
        stock(number, names[symbol], int(shares), round(price, 2), days[entry], portfolio_id=1 + number % PORTFOLIOS)
        for number, (symbol, shares, price, entry) in enumerate(
            zip(
                generator.integers(0, SYMBOLS, POSITIONS),
                quantity,
                generator.uniform(5, 500, POSITIONS),
                generator.integers(0, len(days) - SESSIONS - 20, POSITIONS),
                strict=True,
            )
        )
    ]
    closes = generator.uniform(5, 500, (len(days), SYMBOLS)).round(2).ravel()
    prices = pl.DataFrame(
        {
            "session_date": pl.Series(days).gather(np.repeat(np.arange(len(days)), SYMBOLS)),
            "symbol": pl.Series(names).gather(np.tile(np.arange(SYMBOLS), len(days))),
            "close": pl.Series(closes).cast(pl.Decimal(20, 6)),
        }
    )
    actions = [dividend(name, day, "0.37") for name in names for day in sessions[30::63]]
    actions += [split(name, sessions[100], 2) for name in names[::50]]
    return {
        "calendar": sessions_frame(days),
        "portfolios": frame(tables.portfolios, [portfolio(number + 1, days[0]) for number in range(PORTFOLIOS)]),
        "positions": frame(tables.positions, positions),
        "prices": prices,
        "option_prices": empty_frame(tables.option_prices),
        "option_model": pl.DataFrame(
            schema={"contract": pl.String, "session_date": pl.Date, "model_price": pl.Float64}
        ),
        "actions": frame(tables.corporate_actions, actions),
        "marks": empty_frame(tables.position_marks),
        "instruments": empty_frame(tables.instruments),
    }, sessions


def _engine(book: dict[str, pl.DataFrame], sessions: Sequence[date]) -> pl.DataFrame:
    return position_values(sessions=sessions, max_stale_sessions=5, max_mark_age=100, **book)


def _sampled(book: dict[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    positions = book["positions"].head(SAMPLE)
    return (
        book
        | {name: book[name].join(positions, on="symbol", how="semi") for name in ("prices", "actions")}
        | {"positions": positions}
    )


def _loop(book: dict[str, pl.DataFrame], sessions: Sequence[date]) -> list[Row]:
    """One dictionary per position and session, each made from the one before it."""
    closes = {
        (symbol, day): price
        for day, symbol, price in book["prices"].select("session_date", "symbol", "close").iter_rows()
    }
    splits: dict[tuple[str, date], Decimal] = {}
    dividends: dict[tuple[str, date], Decimal] = {}
    for row in book["actions"].iter_rows(named=True):
        if row["kind"] == "split":
            splits[row["symbol"], row["ex_date"]] = row["split_to"] / row["split_from"]
        else:
            dividends[row["symbol"], row["ex_date"]] = row["cash_amount"]
    days = [row for row in book["calendar"]["session_date"] if row <= sessions[-1]]
    wanted = set(sessions)
    result: list[Row] = []
    for position in book["positions"].iter_rows(named=True):
        quantity, entry_price = position["quantity"], position["entry_price"]
        multiplier, symbol = position["multiplier"], position["symbol"]
        cost = (quantity * entry_price * multiplier).quantize(CENT, ROUND_HALF_EVEN)
        previous, paid = Decimal(0), Decimal(0)
        for day in days:
            if day < position["entry_date"]:
                continue
            entered = day == position["entry_date"]
            received = Decimal(0)
            if not entered:
                if (symbol, day) in dividends:
                    received = (quantity * dividends[symbol, day]).quantize(CENT, ROUND_HALF_EVEN)
                if (symbol, day) in splits:
                    quantity *= splits[symbol, day]
                    entry_price /= splits[symbol, day]
            price = closes[symbol, day]
            value = (quantity * price * multiplier).quantize(CENT, ROUND_HALF_EVEN)
            paid += received
            if day in wanted:
                result.append(
                    {
                        "session_date": day,
                        "position_id": position["position_id"],
                        "portfolio_id": position["portfolio_id"],
                        "symbol": symbol,
                        "quantity": quantity,
                        "entry_price": entry_price,
                        "price": price,
                        "price_source": "market",
                        "price_date": day,
                        "stale_sessions": 0,
                        "stale": False,
                        "market_value": value,
                        "exposure": value,
                        "notional": abs(value),
                        "cost_basis": cost,
                        "unrealized_pnl": value - cost,
                        "daily_pnl": value - cost if entered else value - previous + received,
                        "realized_pnl": Decimal(0),
                        "dividend_pnl": received,
                        "total_pnl": value - cost + paid,
                        "cash_effect": -cost if entered else received,
                    }
                )
            previous = value
    gross: dict[tuple[date, int], Decimal] = {}
    for row in result:
        key = row["session_date"], row["portfolio_id"]
        gross[key] = gross.get(key, Decimal(0)) + abs(row["market_value"])
    for row in result:
        row["weight"] = float(row["market_value"] / gross[row["session_date"], row["portfolio_id"]])
    return result


def _require_equal(rows: pl.DataFrame, looped: list[Row]) -> None:
    """The engine's rows of the sample must be the loop's; weights are of other portfolios there."""
    schema = {name: dtype for name, dtype in polars_schema(tables.position_values).items() if name in looped[0]}
    expected = pl.DataFrame(looped, schema=schema).sort("session_date", "position_id").drop("weight")
    found = rows.filter(pl.col("position_id") < SAMPLE).drop("weight")
    if not found.equals(expected):
        raise AssertionError("the engine and the loop disagree on the sample: their times cannot be compared")


if __name__ == "__main__":
    for measurement in run():
        print(measurement)  # noqa: T201  # a benchmark reports
