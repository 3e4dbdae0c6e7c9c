"""Rows the risk engines read, made from arrays: sessions, returns, and positions with an exposure each.

What belongs here: frames of tables for tests of correlations, risk metrics, accuracy and attribution. What does not:
expected figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sqlalchemy import Table

from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.frames import polars_schema
from sigmasight_pipeline.storage.tables.columns import PROVENANCE
from sigmasight_pipeline_tests.calculations.table_rows import frame

Floats = NDArray[np.float64]


def weekdays(count: int, first: date = date(2023, 1, 2)) -> list[date]:
    """The first `count` weekdays from `first` on: a calendar without holidays."""
    days = (first + timedelta(days=number) for number in range(2 * count + 5))
    return [day for day in days if day.weekday() < 5][:count]


def return_rows(
    days: Sequence[date],
    symbols: Sequence[str],
    values: Floats,
    *,
    spanned: Mapping[tuple[int, int], int] | None = None,
) -> pl.DataFrame:
    """``daily_returns`` of (days, symbols) simple returns; NaN has no row; `spanned` gives gaps by (row, column)."""
    gaps = spanned or {}
    return frame(
        tables.daily_returns,
        [
            {
                "session_date": day,
                "symbol": symbol,
                "simple_return": float(values[row, column]),
                "log_return": float(np.log1p(values[row, column])),
                "sessions_spanned": gaps.get((row, column), 1),
            }
            for row, day in enumerate(days)
            for column, symbol in enumerate(symbols)
            if not np.isnan(values[row, column])
        ],
    )


def held_rows(
    days: Iterable[date], exposures: Mapping[int, Any], positions: Iterable[Mapping[str, Any]]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """``position_values`` and ``position_greeks`` of `positions` on `days`, with a delta-adjusted exposure each.

    None in `exposures` is a fallback row; a PRIVATE position has no Greeks.
    """
    values, greeks = [], []
    for day in days:
        for row in positions:
            key = {"session_date": day, "position_id": row["position_id"], "portfolio_id": row["portfolio_id"]}
            exposure = exposures[row["position_id"]]
            worth = 0 if exposure is None else exposure
            values.append(
                key
                | {
                    "symbol": row["symbol"],
                    "quantity": row["quantity"],
                    "price_source": "market",
                    "market_value": worth,
                    "exposure": worth,
                    "daily_pnl": 0,
                    "dividend_pnl": 0,
                }
            )
            if row["investment_class"] != "PRIVATE":
                status = "fallback" if exposure is None else "ok"
                greeks.append(key | {"status": status, "delta_adjusted_exposure": exposure})
    return frame(tables.position_values, values), frame(tables.position_greeks, greeks)


def stored_schema(table: Table) -> dict[str, pl.DataType]:
    """Columns and types an engine must return for `table`."""
    return {name: dtype for name, dtype in polars_schema(table).items() if name not in PROVENANCE}


STYLES = {
    "Growth": "VUG",
    "Low_Volatility": "USMV",
    "Market": "SPY",
    "Momentum": "MTUM",
    "Quality": "QUAL",
    "Size": "SIZE",
    "Value": "VTV",
}
"""The style factors and their proxies, by key."""


def style_factors(**proxies: str | None) -> pl.DataFrame:
    """``factor_definitions`` of the style factors; `proxies` exchanges some."""
    return frame(
        tables.factor_definitions,
        [
            {"factor": key, "name": key, "kind": "style", "proxy_symbol": proxy, "display_order": 1, "active": True}
            for key, proxy in {**STYLES, **proxies}.items()
        ],
    )


def style_returns(sessions: int, seed: int) -> Floats:
    """(sessions, styles) simple returns as collinear as real ones: correlations of 0.9 and more."""
    random = np.random.default_rng(seed)
    return 0.01 * random.normal(size=(sessions, 1)) + 0.003 * random.normal(size=(sessions, len(STYLES)))


def no_yields() -> pl.DataFrame:
    """``treasury_yields`` without rows."""
    return frame(tables.treasury_yields, [])
