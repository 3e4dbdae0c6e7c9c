"""Rows of tables for tests: frames with the stored dtypes from dictionaries that name only what matters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

import polars as pl
from sqlalchemy import Table

from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.frames import polars_schema


def frame(table: Table, rows: Iterable[dict[str, Any]]) -> pl.DataFrame:
    """Rows of `table`; columns a row does not name are NULL. Numbers for Decimal columns may be text or int."""
    schema = polars_schema(table)
    filled = [
        {
            name: Decimal(str(row[name]))
            if isinstance(dtype, pl.Decimal) and row.get(name) is not None
            else row.get(name)
            for name, dtype in schema.items()
        }
        for row in rows
    ]
    unknown = {name for row in rows for name in row} - set(schema)
    assert not unknown, f"{table.name} has no columns {unknown}"
    return pl.DataFrame(filled, schema=schema)


def sessions_frame(sessions: Sequence[date], closed: Sequence[date] = ()) -> pl.DataFrame:
    """Rows of ``trading_sessions`` with neighbours."""
    opened = [day for day in sessions if day not in closed]
    return frame(
        tables.trading_sessions,
        [
            {
                "session_date": day,
                "is_half_day": False,
                "is_closed": day in closed,
                "previous_session": max((other for other in opened if other < day), default=None),
                "next_session": min((other for other in opened if other > day), default=None),
            }
            for day in sessions
        ],
    )


def portfolio(portfolio_id: int, inception: date, **fields: Any) -> dict[str, Any]:
    """A row of ``portfolios``; equity 1,000,000."""
    return {
        "portfolio_id": portfolio_id,
        "code": f"book-{portfolio_id}",
        "name": f"Book {portfolio_id}",
        "base_currency": "USD",
        "benchmark_symbol": "SPY",
        "inception_date": inception,
        "initial_equity": "1000000",
        "active": True,
        **fields,
    }


def stock(position_id: int, symbol: str, quantity: Any, entry_price: Any, entry: date, **fields: Any) -> dict[str, Any]:
    """A row of ``positions``: a stock of portfolio 1, long or short by the sign of the quantity."""
    return {
        "position_id": position_id,
        "portfolio_id": 1,
        "symbol": symbol,
        "lot": str(position_id),
        "position_type": "LONG" if Decimal(str(quantity)) > 0 else "SHORT",
        "investment_class": "PUBLIC",
        "quantity": quantity,
        "multiplier": 1,
        "entry_price": entry_price,
        "entry_date": entry,
        **fields,
    }


def private(
    position_id: int, symbol: str, quantity: Any, entry_price: Any, entry: date, **fields: Any
) -> dict[str, Any]:
    """A row of ``positions``: a PRIVATE holding of portfolio 1."""
    return stock(position_id, symbol, quantity, entry_price, entry, investment_class="PRIVATE", **fields)


def option(
    position_id: int, symbol: str, quantity: Any, entry_price: Any, entry: date, **fields: Any
) -> dict[str, Any]:
    """A row of ``positions``: the option contract an OCC symbol names, in portfolio 1."""
    kind, day = symbol[-9], symbol[-15:-9]
    side = "L" if Decimal(str(quantity)) > 0 else "S"
    return stock(position_id, symbol, quantity, entry_price, entry) | {
        "position_type": side + kind,
        "investment_class": "OPTIONS",
        "multiplier": 100,
        "underlying_symbol": symbol[:-15],
        "option_kind": kind,
        "strike_price": Decimal(int(symbol[-8:])) / 1000,
        "expiration_date": date(2000 + int(day[:2]), int(day[2:4]), int(day[4:])),
        **fields,
    }


def closes(symbol: str, prices: dict[date, Any]) -> list[dict[str, Any]]:
    """Rows of ``daily_prices`` or ``option_prices`` of one symbol."""
    return [{"session_date": day, "symbol": symbol, "close": price} for day, price in prices.items()]


def split(symbol: str, ex_date: date, new: Any, old: Any = 1) -> dict[str, Any]:
    """A row of ``corporate_actions``: `new` shares for `old` ones."""
    return {"symbol": symbol, "ex_date": ex_date, "kind": "split", "split_from": old, "split_to": new}


def dividend(symbol: str, ex_date: date, amount: Any) -> dict[str, Any]:
    """A row of ``corporate_actions``: cash per old share."""
    return {"symbol": symbol, "ex_date": ex_date, "kind": "dividend", "cash_amount": amount}
