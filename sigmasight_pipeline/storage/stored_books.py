"""The books as they are stored, for whoever compares a file with them.

What belongs here: reading them. What does not: comparing and recording (``operations.books``), imports that wait
(``imports``).
"""

from __future__ import annotations

import polars as pl

from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.database import Database


def marks(database: Database) -> pl.DataFrame:
    """(portfolio_code, symbol, session_date, price) of every manual value."""
    return database.query(
        "SELECT DISTINCT p.code AS portfolio_code, q.symbol, m.session_date, m.price::text AS price "
        "FROM sigmasight.position_marks m JOIN sigmasight.positions q USING (position_id) "
        "JOIN sigmasight.portfolios p USING (portfolio_id)"
    ).with_columns(pl.col("price").cast(pl.Decimal(20, 6)))


def flows(database: Database) -> pl.DataFrame:
    """(portfolio_code, session_date, kind, sequence, amount, note) of every cash flow."""
    return database.query(
        "SELECT p.code AS portfolio_code, f.session_date, f.kind, f.sequence, f.amount::text AS amount, f.note "
        "FROM sigmasight.portfolio_cash_flows f JOIN sigmasight.portfolios p USING (portfolio_id)"
    ).with_columns(pl.col("amount").cast(pl.Decimal(20, 2)))


def priced_symbols(database: Database) -> pl.DataFrame:
    """(symbol) of instruments that were ever priced."""
    return database.query("SELECT symbol FROM sigmasight.instruments WHERE first_session IS NOT NULL")


def tags(database: Database) -> pl.DataFrame:
    """(position_id, tags) of positions with tags, in order."""
    return database.query(
        "SELECT pt.position_id, array_to_json(array_agg(t.name ORDER BY t.name))::text AS tags "
        "FROM sigmasight.position_tags pt JOIN sigmasight.tags t USING (tag_id) GROUP BY 1"
    ).with_columns(pl.col("tags").str.json_decode(pl.List(pl.String)))


def holdings(database: Database) -> pl.DataFrame:
    """(portfolio_code, symbol, investment_class, entry_date, exit_date) of every position."""
    return database.query(
        "SELECT p.code AS portfolio_code, q.symbol, q.investment_class, q.entry_date, q.exit_date "
        "FROM sigmasight.positions q JOIN sigmasight.portfolios p USING (portfolio_id)"
    )


def positions(database: Database, code: str) -> pl.DataFrame:
    """Rows of ``positions`` of the portfolio `code`."""
    return database.read(
        tables.positions,
        where="portfolio_id = (SELECT portfolio_id FROM sigmasight.portfolios WHERE code = %s)",
        params=(code,),
    )
