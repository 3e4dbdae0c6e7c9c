"""What is stated of a portfolio after its import: its name, its description, its closing session.

What belongs here: reading and writing these columns. What does not: what may be written
(``operations.portfolio_life``), its positions and equity (``imports``), and recording the change, which the database
does itself (migration 0017).
"""

from __future__ import annotations

from datetime import date

import polars as pl
import psycopg

from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.partitions import reference_lock


def listed(database: Database) -> pl.DataFrame:
    """Every portfolio by code: what it is, from when to when, how many lots it ever had, its newest snapshot."""
    return database.query(
        "SELECT p.code, p.name, p.description, p.benchmark_symbol AS benchmark, p.inception_date, p.closing_date, "
        "p.active, p.initial_equity::text AS initial_equity, p.equity_as_of AS newest_session, "
        "p.equity_balance::text AS net_asset_value, "
        "(SELECT count(*) FROM sigmasight.positions q WHERE q.portfolio_id = p.portfolio_id) AS positions "
        "FROM sigmasight.portfolios p ORDER BY p.code"
    )


def newest_snapshot(database: Database, code: str) -> date | None:
    """The session of a portfolio's newest snapshot."""
    day = database.query(
        "SELECT max(s.session_date) AS newest FROM sigmasight.portfolio_snapshots s "
        "JOIN sigmasight.portfolios p USING (portfolio_id) WHERE p.code = %s",
        (code,),
    )["newest"][0]
    return day if isinstance(day, date) else None


def state_closing(connection: psycopg.Connection, code: str, session: date | None) -> None:
    """Close a portfolio at the session, or open it again with None."""
    reference_lock(connection)
    connection.execute("UPDATE sigmasight.portfolios SET closing_date = %s WHERE code = %s", (session, code))


def rename(connection: psycopg.Connection, code: str, name: str) -> None:
    """Give a portfolio another name; its code stays."""
    reference_lock(connection)
    connection.execute("UPDATE sigmasight.portfolios SET name = %s WHERE code = %s", (name, code))


def describe(connection: psycopg.Connection, code: str, description: str | None) -> None:
    """Say what a portfolio is; None says nothing."""
    reference_lock(connection)
    connection.execute("UPDATE sigmasight.portfolios SET description = %s WHERE code = %s", (description, code))
