"""The look-back of a range: which of its sessions lack market data that is needed and could be there.

What belongs here: asking every table for every session, and the source for what it has of it. What does not: making
runs of the answer (``history``), and sessions that are computed themselves (``gaps``).

That a session has prices does not say that its market data was loaded: a process may have been killed between the
prices and the returns, or between two runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

import polars as pl

from sigmasight_pipeline.assets.treasury_yields import YIELD_REACH_DAYS
from sigmasight_pipeline.market_data.instruments import priced_symbols
from sigmasight_pipeline.market_data.source import MarketDataSource
from sigmasight_pipeline.market_data.treasury import carried_yields
from sigmasight_pipeline.sessions import SessionCalendar
from sigmasight_pipeline.settings import Settings
from sigmasight_pipeline.storage import look_back, tables
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.upkeep import priced_sessions


def before(calendar: SessionCalendar, settings: Settings, first: date, earliest: date) -> list[date]:
    """Sessions a range from `first` on looks back on, none before `earliest`: as many as the longest window of returns
    needs, and one close more."""
    start = max(earliest, calendar.offset(first, -(settings.regression_window + 1)))
    return [day for day in calendar.between(start, first) if day < first]


def lacking(database: Database, settings: Settings, source: MarketDataSource, days: Sequence[date]) -> list[date]:
    """Those of the sessions `days` (ascending) whose market data was not loaded, or not all of it.

    No price; a price without its return; no yield where the source has one that reaches it; no price of a symbol the
    source has one of, unless it was refused. Closures lack nothing.
    """
    closed = look_back.closed_sessions(database)
    days = [day for day in days if day not in closed]
    if not days:
        return []
    found = look_back.without_returns(database, days) | _without_yields(database, settings, source, days)
    symbols = priced_symbols(database.read(tables.instruments))
    if source.local and symbols:
        return sorted(found | _without_prices(database, source, symbols, days))
    # elsewhere asking the source costs as much as loading
    return sorted(found | set(days) - priced_sessions(database, days[0], days[-1]))


def _without_yields(
    database: Database, settings: Settings, source: MarketDataSource, days: Sequence[date]
) -> set[date]:
    stored = look_back.with_yields(database, days)
    none = [day for day in days if day not in stored]
    calendar = database.read(tables.trading_sessions, order_by="session_date")
    if not none or calendar.is_empty():  # without a calendar there are no prices either
        return set()
    observed = source.treasury_yields(none[0] - timedelta(days=YIELD_REACH_DAYS), none[-1])
    reached = carried_yields(observed, sessions=none, trading_sessions=calendar, max_yield_age=settings.max_yield_age)
    return set(reached["session_date"])


def _without_prices(
    database: Database, source: MarketDataSource, symbols: Sequence[str], days: Sequence[date]
) -> set[date]:
    instruments = database.read(tables.instruments)
    bars = source.daily_bars(symbols, days[0], days[-1]).filter(
        pl.col("problem").is_null() & pl.col("session_date").is_in(list(days))
    )
    traded = bars.join(instruments.select("symbol", "last_session"), on="symbol").filter(
        pl.col("last_session").is_null() | (pl.col("session_date") <= pl.col("last_session"))
    )
    known = look_back.known_prices(database, days[0], days[-1])
    return set(traded.join(known, on=["session_date", "symbol"], how="anti")["session_date"])
