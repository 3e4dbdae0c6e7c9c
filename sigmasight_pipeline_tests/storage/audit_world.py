"""A small healthy world of hand-written rows: two portfolios of one stock each over ten sessions, everything in place.

What is derived (exposures and rate betas of positions) follows from Greeks and betas; `place` finds a member's place in
stored arrays.

What belongs here: the rows, changing them in a transaction that is taken back, and statements that add a verdict, a run
or a range. What does not: faults (the tests plant them).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from itertools import product
from typing import Any
from uuid import uuid4

import polars as pl
import psycopg
from sqlalchemy import Table

from sigmasight_pipeline.sessions import calendar
from sigmasight_pipeline.storage import schema, tables
from sigmasight_pipeline.storage.audit import Connection
from sigmasight_pipeline.storage.audit_faults import EVERY_SNAPSHOT
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline.storage.frames import polars_schema
from sigmasight_pipeline.storage.partitions import replace_sessions
from sigmasight_pipeline_tests.conftest import drop_database
from sigmasight_pipeline_tests.storage import sample_rows

DAYS = calendar().between(date(2024, 1, 2), date(2024, 1, 16))
NOW = datetime(2024, 1, 17, 6, tzinfo=UTC)
SYMBOLS = ("AAA", "SPY")
FACTORS = ("Market", "Interest_Rate")
SCENARIOS = ("crash", "rally")
PORTFOLIOS = {1: "book", 2: "other"}

D4, D5, D6, LAST = "2024-01-05", "2024-01-08", "2024-01-09", "2024-01-16"

REFERENCE = """
INSERT INTO sigmasight.trading_sessions (session_date, opens_at, closes_at, is_half_day, is_closed, previous_session)
SELECT d, d + time '14:30', d + time '21:00', false, false, lag(d) OVER (ORDER BY d)
FROM unnest(%(days)s::date[]) AS d;
INSERT INTO sigmasight.instruments (symbol, kind, name, sector, active, first_session)
VALUES ('AAA', 'stock', 'Triple A', 'Technology', true, '2024-01-02'), ('SPY', 'etf', 'SPDR', NULL, true, '2024-01-02');
INSERT INTO sigmasight.factor_definitions (factor, name, kind, proxy_symbol, display_order, active)
VALUES ('Market', 'Market', 'style', 'SPY', 1, true), ('Interest_Rate', 'Rates', 'rate', 'TLT', 2, true);
INSERT INTO sigmasight.stress_test_scenarios
    (scenario_id, name, category, severity, kind, shocks, confidence, volatility_shift, active)
VALUES ('crash', 'Crash', 'market', 'severe', 'vector', '{}', 'noisy', 0, true),
    ('rally', 'Rally', 'market', 'mild', 'vector', '{}', 'noisy', 0, true);
INSERT INTO sigmasight.portfolios (portfolio_id, code, name, base_currency, benchmark_symbol, inception_date,
                                   initial_equity, equity_balance, equity_as_of, active) OVERRIDING SYSTEM VALUE
SELECT n, code, code, 'USD', 'SPY', '2024-01-02', 1500, 1590, '2024-01-16', true
FROM (VALUES (1, 'book'), (2, 'other')) AS p(n, code);
INSERT INTO sigmasight.positions (position_id, portfolio_id, symbol, lot, position_type, investment_class, quantity,
                                  multiplier, entry_price, entry_date) OVERRIDING SYSTEM VALUE
SELECT n, n, 'AAA', '1', 'LONG', 'PUBLIC', 10, 1, 100, '2024-01-02' FROM generate_series(1, 2) AS n
"""


def build(database: Database) -> None:
    """Write the world: market value 1,000 and cash 500 at first, ten dollars of P&L on every later session."""
    assert len(DAYS) == 10
    with database.connect() as connection:
        for statement in REFERENCE.split(";"):
            connection.execute(statement.encode(), {"days": list(DAYS)} if "%(" in statement else None)
    earned = (pl.col("session_date").rank("dense").cast(pl.Int64) - 1) * 10
    today = pl.when(earned == 0).then(0).otherwise(10)
    snapshots = _rows(tables.portfolio_snapshots, cash_balance=500, net_cash_flow=0, position_count=1)
    values = _rows(
        tables.position_values, position_id="portfolio_id", symbol="AAA", quantity=10, stale=False, stale_sessions=0
    )
    written = [
        (
            tables.portfolio_snapshots,
            _typed(
                tables.portfolio_snapshots,
                snapshots.with_columns(
                    net_asset_value=1500 + earned, market_value=1000 + earned, daily_pnl=today, is_first=earned == 0
                ),
            ),
        ),
        (
            tables.position_values,
            _typed(
                tables.position_values,
                values.with_columns(market_value=1000 + earned, daily_pnl=today, total_pnl=earned),
            ),
        ),
        (tables.position_greeks, _rows(tables.position_greeks, position_id="portfolio_id", risk_symbol="AAA")),
        (
            tables.stress_test_results,
            pl.concat([_rows(tables.stress_test_results, scenario_id=name) for name in SCENARIOS]),
        ),
        (
            tables.pairwise_correlations,
            pl.concat(
                [
                    _rows(tables.pairwise_correlations, symbol_1=first, symbol_2=second)
                    for first, second in product(SYMBOLS, repeat=2)
                ]
            ),
        ),
        *(
            (table, _rows(table, **({"factor": "Market"} if "factor" in table.columns else {})))
            for table in EVERY_SNAPSHOT
        ),
        *(
            (table, pl.concat([_market(table, symbol=symbol) for symbol in SYMBOLS]))
            for table in (tables.daily_prices, tables.daily_returns)
        ),
        (
            tables.symbol_factor_betas,
            pl.concat(
                [
                    _market(tables.symbol_factor_betas, symbol=symbol, factor=factor)
                    for symbol, factor in product(SYMBOLS, FACTORS)
                ]
            ),
        ),
        *(
            (table, pl.concat([_market(table, scenario_id=scenario, **more) for scenario in SCENARIOS]))
            for table, more in (
                (tables.stress_scenario_diagnostics, {}),
                (tables.symbol_scenario_returns, {"symbol": "AAA"}),
            )
        ),
        (tables.factor_correlations, _market(tables.factor_correlations, factor_1="Market", factor_2="Market")),
    ]
    replace_sessions(database, written, DAYS)
    with database.connect() as connection:  # no return on the first session
        connection.execute("DELETE FROM sigmasight.daily_returns WHERE session_date = '2024-01-02'")


def _rows(table: Table, **values: Any) -> pl.DataFrame:
    """One row per portfolio and session; a value that names a column is that column's."""
    copied = {name: value for name, value in values.items() if value == "portfolio_id"}
    given = {name: value for name, value in values.items() if name not in copied}
    return pl.concat(
        [
            sample_rows.rows(
                table, DAYS, per_session=1, values={**given, **dict.fromkeys(copied, number), "portfolio_id": number}
            )
            for number in PORTFOLIOS
        ]
    )


def _market(table: Table, **values: Any) -> pl.DataFrame:
    """One row per session."""
    return sample_rows.rows(table, DAYS, per_session=1, values=values)


def place(dimension: str, member: str) -> str:
    """SQL of the place a member of a dimension has in stored arrays."""
    return f"(SELECT number FROM array_members WHERE (dimension, member) = ('{dimension}', '{member}'))"


def _typed(table: Table, frame: pl.DataFrame) -> pl.DataFrame:
    dtypes = polars_schema(table)
    return frame.select(pl.col(name).cast(dtypes[name]) for name in frame.columns)


@contextmanager
def world(server: EmbeddedServer) -> Iterator[Database]:
    """The world in a database of its own, dropped afterwards."""
    name = f"test_{uuid4().hex}"
    schema.create_database_if_missing(server.url(name))
    schema.upgrade(server.url(name))
    opened = Database(server.url(name))
    build(opened)
    yield opened
    opened.close()
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        drop_database(connection, name)


@contextmanager
def planted(database: Database, *statements: str) -> Iterator[Connection]:
    """A connection that sees the world changed by `statements`; nothing of it stays."""
    with psycopg.connect(database.url) as connection:
        connection.execute("SET search_path = sigmasight")
        for statement in statements:
            connection.execute(statement.encode())
        yield connection
        connection.rollback()


def verdict(asset: str, check: str, run: str, passed: bool, severity: str = "ERROR", minute: int = 0) -> str:
    return (
        "INSERT INTO data_quality_results (session_date, asset, check_name, run_id, severity, passed, description, "
        f"metadata, checked_at) VALUES ('{D5}', '{asset}', '{check}', '{run}', '{severity}', {passed}, "
        f"'residual 0.01; more', '{{\"portfolio_ids\": [1]}}', '2024-01-09 00:{minute:02}+00')"
    )


def run(number: int, status: str, hour: int) -> str:
    error = "'boom'" if status == "failure" else "NULL"
    return (
        "INSERT INTO batch_runs (run_id, job_name, partition_start, partition_end, trigger, status, ended_at, "
        f"error_message) VALUES ('run{number}', 'daily', '{D5}', '{D5}', 'schedule', '{status}', "
        f"'2024-01-09 {hour:02}:00+00', {error})"
    )


def backfill(status: str, first: str, last: str, assets: str = "[]") -> str:
    return (
        "INSERT INTO backfill_progress (request_key, requested_by, reason, scope, total_sessions, done_sessions, "
        f"done_runs, status, requested_at, completed_at, error_details) VALUES (gen_random_uuid()::text, "
        "'restatement', "
        f'\'a price changed\', \'{{"portfolios": [], "runs": [{{"job": "daily", "first": "{first}", '
        f'"last": "{last}", "assets": {assets}}}]}}\', 1, 0, 0, \'{status}\', now(), now(), '
        '\'{"message": "boom"}\')'
    )


ENGINE = (
    "INSERT INTO calculation_audit (session_date, portfolio_id, engine, rows_expected, rows_present, status, reason, "
    "computed_at, code_version, run_id) VALUES ('{day}', {portfolio}, 'position_greeks', 2, 1, '{status}', 'no price', "
    "now(), '1', 'r')"
)
