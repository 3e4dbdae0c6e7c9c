"""What a write of sessions keeps up to date beside them: equity of portfolios, first sessions, settled rejections.

What belongs here: the statements that run inside the transaction of ``partitions.replace_sessions`` (its
`before_commit`), and the small questions asked before it. What does not: replacing sessions (``partitions``) and
reading windows (``windows``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date

import polars as pl
import psycopg

from sigmasight_pipeline.storage import changes, tables
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.partitions import append_rows, reference_lock

InTransaction = Callable[[psycopg.Connection], None]


def priced_sessions(database: Database, first: date, last: date) -> set[date]:
    """Sessions from `first` to `last` of which any price is stored."""
    found = database.query(
        "SELECT DISTINCT session_date FROM sigmasight.daily_prices WHERE session_date BETWEEN %s AND %s", (first, last)
    )
    return set(found["session_date"])


def priced_range(database: Database) -> tuple[date, date] | None:
    """First and newest session of which any price is stored."""
    first, newest = database.query(
        "SELECT min(session_date) AS first, max(session_date) AS newest FROM sigmasight.daily_prices"
    ).row(0)
    return None if first is None else (first, newest)


def newest_priced_session(database: Database) -> date | None:
    """The newest session of which any price is stored."""
    newest = database.query("SELECT max(session_date) AS newest FROM sigmasight.daily_prices")["newest"][0]
    return newest if isinstance(newest, date) else None


def newest_verdicts(database: Database, *, asset: str, check_name: str) -> pl.DataFrame:
    """(session_date, passed, description) of the run that judged the newest session, oldest session first."""
    return database.query(
        "SELECT session_date, passed, description FROM sigmasight.data_quality_results "
        "WHERE (asset, check_name) = (%s, %s) AND run_id = ("
        "SELECT run_id FROM sigmasight.data_quality_results WHERE (asset, check_name) = (%s, %s) "
        "ORDER BY session_date DESC, checked_at DESC LIMIT 1) ORDER BY session_date",
        (asset, check_name, asset, check_name),
    )


def newest_snapshots(database: Database) -> dict[int, date]:
    """Session of the newest stored snapshot of every portfolio that has one."""
    rows = database.query(
        "SELECT portfolio_id, max(session_date) AS newest FROM sigmasight.portfolio_snapshots GROUP BY 1"
    )
    return dict(zip(rows["portfolio_id"], rows["newest"], strict=True))


def keep_equity(opening_cash: pl.DataFrame) -> InTransaction:
    """Keeps `portfolios` equal to the newest snapshot; `opening_cash` (portfolio_id, opening_cash) of new ones."""

    def write(connection: psycopg.Connection) -> None:
        reference_lock(connection)
        connection.execute(
            "UPDATE sigmasight.portfolios p SET equity_balance = n.net_asset_value, equity_as_of = n.session_date "
            "FROM (SELECT DISTINCT ON (portfolio_id) portfolio_id, session_date, net_asset_value "
            "FROM sigmasight.portfolio_snapshots ORDER BY portfolio_id, session_date DESC) n "
            "WHERE n.portfolio_id = p.portfolio_id "
            "AND (p.equity_balance, p.equity_as_of) IS DISTINCT FROM (n.net_asset_value, n.session_date)"
        )
        for portfolio_id, cash in opening_cash.select("portfolio_id", "opening_cash").iter_rows():
            connection.execute(
                "UPDATE sigmasight.portfolios SET opening_cash = %s WHERE portfolio_id = %s",
                (cash, portfolio_id),
            )

    return write


def keep_beside_prices(
    sessions: Sequence[date], *, actions: pl.DataFrame, revisions: pl.DataFrame, rejected: pl.DataFrame
) -> InTransaction:
    """Replaces the actions of `sessions`, adds what was revised and refused, and renews first sessions.

    `rejected` rows with a rejection_id are known ones whose status changed.
    """
    days = list(sessions)
    new, known = (rejected.filter(pl.col("rejection_id").is_null() == fresh) for fresh in (True, False))

    def write(connection: psycopg.Connection) -> None:
        reference_lock(connection)
        changed = changes.found(connection, tables.corporate_actions, actions, days)
        connection.execute("DELETE FROM sigmasight.corporate_actions WHERE ex_date = ANY(%s)", (days,))
        append_rows(connection, tables.corporate_actions, actions)
        changes.record(connection, changed)
        append_rows(connection, tables.daily_price_revisions, revisions)
        append_rows(connection, tables.rejected_prices, new.drop("rejection_id"))
        for status, ids in known.group_by("status").agg("rejection_id").iter_rows():
            connection.execute(
                "UPDATE sigmasight.rejected_prices SET status = %s WHERE rejection_id = ANY(%s)", (status, ids)
            )
        connection.execute(
            "UPDATE sigmasight.instruments i SET first_session = seen.first_session "
            "FROM (SELECT symbol, min(session_date) AS first_session FROM sigmasight.daily_prices "
            "WHERE session_date = ANY(%s) GROUP BY symbol) seen WHERE seen.symbol = i.symbol "
            "AND (i.first_session IS NULL OR i.first_session > seen.first_session)",
            (days,),
        )

    return write
