"""What rules and the chain of snapshots ask of rows that are stored, beyond those of their run.

What belongs here: the statements. What does not: judging what they give (``checks``, ``assets.snapshot_chain``).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date

import polars as pl

from sigmasight_pipeline.storage.database import Database

_MOVEMENTS = """
SELECT symbol,
       min(session_date) FILTER (WHERE close <> opening) AS moved_on,
       min(session_date) FILTER (WHERE number = %s) AS noticed_on
FROM (
  SELECT symbol, session_date, close, first_value(close) OVER history AS opening, row_number() OVER history AS number
  FROM sigmasight.daily_prices WHERE symbol = ANY(%s)
  WINDOW history AS (PARTITION BY symbol ORDER BY session_date)
) AS stored
GROUP BY symbol
"""

_CHAIN_SQL = """
WITH chain AS (
  SELECT s.session_date, s.portfolio_id, p.code, s.net_asset_value, s.cash_balance, s.market_value, s.daily_pnl,
         s.net_cash_flow, s.is_first, p.initial_equity,
         lag(s.net_asset_value) OVER portfolio AS previous_nav, lag(s.session_date) OVER portfolio AS previous_date,
         t.previous_session
  FROM sigmasight.portfolio_snapshots s
  JOIN sigmasight.portfolios p USING (portfolio_id)
  JOIN sigmasight.trading_sessions t USING (session_date)
  WHERE s.session_date >= (SELECT coalesce(previous_session, session_date) FROM sigmasight.trading_sessions
                           WHERE session_date = %s) AND s.session_date <= %s
  WINDOW portfolio AS (PARTITION BY s.portfolio_id ORDER BY s.session_date)
)
SELECT session_date, portfolio_id, code, {shown} FROM chain
WHERE session_date >= %s AND (%s::bigint[] IS NULL OR portfolio_id = ANY(%s)) AND {broken}
ORDER BY session_date, portfolio_id
"""


def movements(database: Database, symbols: Sequence[str], *, sessions: int) -> pl.DataFrame:
    """(symbol, moved_on, noticed_on): the first session a close differed from the first one, NULL where none ever did,
    and the session of the `sessions`-th close, NULL before it."""
    return database.query(_MOVEMENTS, (sessions, list(symbols)))


def broken_chain(
    database: Database, first: date, last: date, portfolio_ids: Sequence[int] | None, *, broken: str, shown: str
) -> pl.DataFrame:
    """Snapshots from `first` to `last` that are `broken`: session_date, portfolio_id, code and what `shown` selects.

    Both are SQL over the columns of a snapshot, `initial_equity`, `previous_nav`, `previous_date` (those of the
    snapshot before) and `previous_session` (of the calendar). `portfolio_ids` None: of all.
    """
    statement = _CHAIN_SQL.format(broken=broken, shown=shown)
    return database.query(statement, (first, last, first, portfolio_ids, portfolio_ids))


def total_pnl_before(database: Database, session: date) -> pl.DataFrame:
    """(session_date, position_id, total_pnl) of the session before `session`."""
    return database.query(
        "SELECT v.session_date, v.position_id, v.total_pnl::text AS total_pnl FROM sigmasight.position_values v "
        "JOIN sigmasight.trading_sessions t ON t.session_date = %s AND v.session_date = t.previous_session",
        (session,),
    ).with_columns(pl.col("total_pnl").cast(pl.Decimal(20, 2)))


def unsynchronised_equity(database: Database, portfolio_ids: Sequence[int] | None) -> pl.DataFrame:
    """(portfolio_id, code, balance, value) of portfolios whose equity is not their newest snapshot's. None: of all."""
    return database.query(
        "SELECT p.portfolio_id, p.code, coalesce(p.equity_balance::text, 'none') AS balance, "
        "n.net_asset_value::text AS value FROM sigmasight.portfolios p "
        "JOIN LATERAL (SELECT session_date, net_asset_value FROM sigmasight.portfolio_snapshots s "
        "WHERE s.portfolio_id = p.portfolio_id ORDER BY session_date DESC LIMIT 1) n ON true "
        "WHERE (p.equity_balance, p.equity_as_of) IS DISTINCT FROM (n.net_asset_value, n.session_date) "
        "AND (%s::bigint[] IS NULL OR p.portfolio_id = ANY(%s)) ORDER BY p.portfolio_id",
        (portfolio_ids, portfolio_ids),
    )


def exposed(database: Database, first: date, last: date, portfolio_ids: Collection[int]) -> pl.DataFrame:
    """(portfolio_id, session_date) with exposures from `first` to `last`."""
    return database.query(
        "SELECT portfolio_id, session_date FROM sigmasight.portfolio_exposures "
        "WHERE session_date BETWEEN %s AND %s AND portfolio_id = ANY(%s)",
        (first, last, list(portfolio_ids)),
    )
