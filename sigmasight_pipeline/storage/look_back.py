"""Which sessions of a look-back lack stored market data: prices, returns, yields.

What belongs here: those questions, each over any sessions. What does not: which sessions a range looks back on, and
what a source has (``operations.look_back``).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import polars as pl

from sigmasight_pipeline.storage.database import Database


def closed_sessions(database: Database) -> set[date]:
    """Unscheduled closures: sessions of the calendar that have no prices and never will."""
    return set(database.query("SELECT session_date FROM sigmasight.trading_sessions WHERE is_closed")["session_date"])


def without_returns(database: Database, sessions: Sequence[date]) -> set[date]:
    """Those of `sessions` with a price whose symbol was priced before, and that has no return."""
    found = database.query(
        "SELECT DISTINCT d.session_date FROM sigmasight.daily_prices d JOIN sigmasight.instruments i USING (symbol) "
        "WHERE d.session_date = ANY(%s) AND i.first_session < d.session_date AND NOT EXISTS ("
        "SELECT FROM sigmasight.daily_returns r WHERE (r.session_date, r.symbol) = (d.session_date, d.symbol))",
        (list(sessions),),
    )
    return set(found["session_date"])


def with_yields(database: Database, sessions: Sequence[date]) -> set[date]:
    """Those of `sessions` of which any Treasury yield is stored."""
    found = database.query(
        "SELECT DISTINCT session_date FROM sigmasight.treasury_yields WHERE session_date = ANY(%s)", (list(sessions),)
    )
    return set(found["session_date"])


def known_prices(database: Database, first: date, last: date) -> pl.DataFrame:
    """(session_date, symbol) from `first` to `last` of which a price is stored, or a refused one is recorded."""
    return database.query(
        "SELECT session_date, symbol FROM sigmasight.daily_prices WHERE session_date BETWEEN %s AND %s "
        "UNION SELECT session_date, symbol FROM sigmasight.rejected_prices WHERE session_date BETWEEN %s AND %s",
        (first, last, first, last),
    )


def estimated(database: Database, factor: str, first: date, last: date) -> pl.DataFrame:
    """(session_date, symbol, n_obs) of the betas on `factor` from `first` to `last`."""
    return database.query(
        "SELECT session_date, symbol, n_obs FROM staging.symbol_factor_betas "
        "WHERE factor = %s AND session_date BETWEEN %s AND %s",
        (factor, first, last),
    )


def one_session_returns(database: Database, first: date, last: date) -> pl.DataFrame:
    """(session_date, symbol) from `first` to `last` with a return from one session to the next."""
    return database.query(
        "SELECT session_date, symbol FROM sigmasight.daily_returns "
        "WHERE sessions_spanned = 1 AND session_date BETWEEN %s AND %s",
        (first, last),
    )
