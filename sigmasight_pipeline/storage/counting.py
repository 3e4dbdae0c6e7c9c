"""How many rows there are, and which are not there at all, by session, portfolio and engine.

What belongs here: set-based counts over ranges of sessions, and existence looked up by index. What does not: how many
there should be (``calculations.completeness``), and what is done about it (``operations.gaps``).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date

import polars as pl
from sqlalchemy import Table

from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.database import PORTFOLIO, Database
from sigmasight_pipeline.storage.tables.packing import (
    MemberColumns,
    NumberedArrays,
    PairTriangle,
    packing_of,
    stored_table,
)

_COUNTED = ("session_date", "portfolio_id", "engine", "rows_present", "oldest_computed_at")

_MOMENTS = ("computed_at", "fetched_at")


def row_counts(
    database: Database,
    counted: Collection[Table],
    first: date,
    last: date,
    portfolio_ids: Collection[int] | None = None,
) -> pl.DataFrame:
    """Rows of each table by session and portfolio (0 for tables that have none) from `first` to `last`.

    Columns session_date, portfolio_id, engine (the table), rows_present, oldest_computed_at. Nothing is returned where
    there is no row. One aggregate per table; `portfolio_ids` restricts tables that have a portfolio.
    """
    statements, params = [], list[object]()
    for table in counted:
        owned = PORTFOLIO in table.columns
        moment = next((f"min({name})" for name in _MOMENTS if name in table.columns), "NULL::timestamptz")
        restricted = owned and portfolio_ids is not None
        statements.append(
            f"SELECT session_date, {'portfolio_id' if owned else '0::bigint AS portfolio_id'}, "
            f"'{table.name}' AS engine, {rows_of(table)}::int AS rows_present, {moment} AS oldest_computed_at "
            f"FROM {stored_table(table).fullname} WHERE session_date BETWEEN %s AND %s"
            f"{' AND portfolio_id = ANY(%s)' if restricted else ''} GROUP BY 1, 2"
        )
        params += [first, last, *([sorted(portfolio_ids)] if restricted and portfolio_ids is not None else [])]
    return database.read_statement(tables.calculation_audit, " UNION ALL ".join(statements), params, columns=_COUNTED)


def rows_of(table: Table) -> str:
    """The aggregate that counts rows of `table` over its stored ones."""
    match packing_of(table):
        case NumberedArrays(present=present):
            return f"sum((SELECT count(one) FROM unnest({present}) AS one))"
        case PairTriangle(members=members):
            return f"sum(cardinality({members}) ^ 2)"
        case MemberColumns(members=figures):
            return f"sum(num_nonnulls({', '.join(figures)}))"
    return "count(*)"


def absent(database: Database, probed: Collection[Table], first: date, last: date) -> pl.DataFrame:
    """(session_date, portfolio_id, engine) of open sessions without any row: one look-up by index each.

    Portfolios are looked up from their inception to their closing; tables without portfolios once per session, as
    portfolio 0.
    """
    statements, params = [], list[object]()
    for table in probed:
        owned = PORTFOLIO in table.columns
        statements.append(
            f"SELECT t.session_date, {'p.portfolio_id' if owned else '0::bigint AS portfolio_id'}, "
            f"'{table.name}' AS engine FROM sigmasight.trading_sessions t "
            + ("JOIN own p ON t.session_date BETWEEN p.inception_date AND p.end_date " if owned else "")
            + f"WHERE t.session_date BETWEEN %s AND %s AND NOT t.is_closed AND ({_any_row(table)}) IS NULL"
        )
        params += [first, last]
    with_portfolios = (
        "WITH own AS MATERIALIZED (SELECT p.portfolio_id, p.inception_date, "
        "coalesce(p.closing_date, 'infinity') AS end_date, array(SELECT position_id "
        "FROM sigmasight.positions q WHERE q.portfolio_id = p.portfolio_id ORDER BY 1) AS position_ids "
        "FROM sigmasight.portfolios p) "
    )
    return database.read_statement(
        tables.calculation_audit, with_portfolios + " UNION ALL ".join(statements), params, columns=_COUNTED[:3]
    )


def _any_row(table: Table) -> str:
    """A scalar subquery that finds one row by an index; as a join it might be answered by reading the whole table."""
    condition = "x.session_date = t.session_date"
    key = list(table.primary_key.columns.keys())
    if PORTFOLIO in key:
        condition += " AND x.portfolio_id = p.portfolio_id"
    elif PORTFOLIO in table.columns:
        condition += " AND x.position_id = ANY(p.position_ids)"
    return f"SELECT 1 FROM {stored_table(table).fullname} x WHERE {condition} LIMIT 1"


def audit_findings(database: Database, first: date, last: date) -> pl.DataFrame:
    """(session_date, portfolio_id, engine, status) of rows of ``calculation_audit`` that are partial or missing."""
    return database.read_statement(
        tables.calculation_audit,
        "SELECT session_date, portfolio_id, engine, status FROM sigmasight.calculation_audit "
        "WHERE session_date BETWEEN %s AND %s AND status IN ('partial', 'missing')",
        (first, last),
        columns=("session_date", "portfolio_id", "engine", "status"),
    )


def correlated(database: Database, first: date, last: date) -> pl.DataFrame:
    """What ``correlation_calculations`` says of the pairs and clusters there should be."""
    return database.read(
        tables.correlation_calculations,
        where="session_date BETWEEN %s AND %s",
        params=(first, last),
        columns=("session_date", "portfolio_id", "positions_included", "correlation_concentration"),
    )


def returning_symbols(database: Database, first: date, last: date) -> pl.DataFrame:
    """(session_date, returning): how many of the session's priced symbols have an earlier price."""
    return database.query(
        "SELECT d.session_date, count(*) AS returning FROM sigmasight.daily_prices d "
        "JOIN sigmasight.instruments i USING (symbol) "
        "WHERE d.session_date BETWEEN %s AND %s AND i.first_session < d.session_date GROUP BY 1",
        (first, last),
    )


def first_yield(database: Database) -> date | None:
    """The first session with a Treasury yield."""
    found = database.query("SELECT min(session_date) AS first FROM sigmasight.treasury_yields")["first"][0]
    return found if isinstance(found, date) else None


def short_windows(database: Database, sessions: Sequence[date], least: int) -> pl.DataFrame:
    """Symbols with fewer than `least` returns in `sessions` although priced since before them, and still traded.

    Columns symbol, returns, first_unpriced and last_unpriced: the sessions of these it has no price of.
    """
    return database.query(
        "SELECT i.symbol, n.returns, u.first_unpriced, u.last_unpriced FROM sigmasight.instruments i "
        "JOIN LATERAL (SELECT count(*) AS returns FROM sigmasight.daily_returns r "
        "WHERE r.symbol = i.symbol AND r.session_date = ANY(%s)) n ON true "
        "LEFT JOIN LATERAL (SELECT min(d.day) AS first_unpriced, max(d.day) AS last_unpriced "
        "FROM unnest(%s::date[]) AS d(day) WHERE n.returns < %s AND NOT EXISTS (SELECT FROM sigmasight.daily_prices p "
        "WHERE p.symbol = i.symbol AND p.session_date = d.day)) u ON true "
        "WHERE i.active AND i.first_session < %s AND n.returns < %s ORDER BY 1",
        (list(sessions), list(sessions), least, sessions[0], least),
    )


def unpriced_holdings(database: Database, portfolio_ids: Collection[int], first: date, last: date) -> int:
    """How many (session, symbol) of what these portfolios hold from `first` to `last` have no price, while traded."""
    found = database.query(
        "SELECT count(*) AS missing FROM (SELECT DISTINCT t.session_date, i.symbol FROM sigmasight.positions q "
        "JOIN sigmasight.portfolios p USING (portfolio_id) "
        "JOIN sigmasight.instruments i ON i.symbol = coalesce(q.underlying_symbol, q.symbol) "
        "JOIN sigmasight.trading_sessions t ON NOT t.is_closed AND t.session_date BETWEEN "
        "greatest(%s, q.entry_date, p.inception_date) AND "
        "least(%s, q.exit_date, q.expiration_date, i.last_session, p.closing_date) "
        "WHERE q.portfolio_id = ANY(%s) AND q.investment_class <> 'PRIVATE') held "
        "WHERE NOT EXISTS (SELECT FROM sigmasight.daily_prices d "
        "WHERE d.symbol = held.symbol AND d.session_date = held.session_date)",
        (first, last, sorted(portfolio_ids)),
    )
    return int(found["missing"][0])
