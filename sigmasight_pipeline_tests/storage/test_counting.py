"""Counts and look-ups of what is not there: the same answer, one by reading the rows, one by an index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import polars as pl
import pytest

from sigmasight_pipeline.storage import counting, tables
from sigmasight_pipeline.storage.copying import copy_rows, relation
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.partitions import append_rows, replace_sessions
from sigmasight_pipeline.storage.tables.packing import PairTriangle
from sigmasight_pipeline_tests.storage import sample_rows

D1, D2, D3, D4 = DAYS = sample_rows.weekdays(4, date(2024, 1, 2))
COUNTED = (
    tables.portfolio_snapshots,  # its key has the portfolio
    tables.pnl_attribution,  # positions, and the portfolio beside
    tables.treasury_yields,  # neither, and no moment
    tables.daily_prices,  # fetched, not computed
    tables.calculation_audit,
)

PACKED = tuple(table for table in tables.long_tables.sorted_tables if not tables.is_derived(table))

Rows = Sequence[Mapping[str, Any]]


def insert(database: Database, name: str, rows: Rows) -> None:
    with database.connect() as connection:
        for row in rows:
            names = ", ".join(row)
            connection.execute(
                f"INSERT INTO sigmasight.{name} ({names}) OVERRIDING SYSTEM VALUE "
                f"VALUES ({', '.join(['%s'] * len(row))})".encode(),
                list(row.values()),
            )


@pytest.fixture(scope="module")
def database(shared_database: Database) -> Database:
    """Two books, the second from D2 on, and a third that was closed at D1; D3 is closed."""
    sessions = sample_rows.rows(tables.trading_sessions, DAYS, 1).with_columns(
        is_closed=pl.col("session_date") == D3, previous_session=None, next_session=None
    )
    with shared_database.connect() as connection:
        copy_rows(connection, relation(tables.trading_sessions), sessions)
    book = {"base_currency": "USD", "benchmark_symbol": "SPY", "initial_equity": 1}
    insert(
        shared_database,
        "portfolios",
        [
            {"portfolio_id": key, "code": f"b{key}", "name": f"B{key}", "inception_date": day, "active": on, **book}
            for key, day, on in ((1, D1, True), (2, D2, True), (3, D1, False))
        ],
    )
    lot = {"lot": "", "position_type": "LONG", "quantity": 1, "multiplier": 1, "entry_price": 1}
    positions = [
        (11, 1, "AAA", "PUBLIC", {}),
        (12, 1, "GONE", "PUBLIC", {}),
        (13, 1, "AAA240119C1", "OPTIONS", {"underlying_symbol": "BBB", "expiration_date": D2}),
        (14, 1, "FUND", "PRIVATE", {}),
        (21, 2, "AAA", "PUBLIC", {}),
    ]
    insert(
        shared_database,
        "positions",
        [
            {
                "position_id": key,
                "portfolio_id": owner,
                "symbol": symbol,
                "investment_class": kind,
                "entry_date": D1,
                **lot,
                **more,
            }
            for key, owner, symbol, kind, more in positions
        ],
    )
    insert(
        shared_database,
        "instruments",
        [
            {"symbol": "AAA", "kind": "stock", "active": True, "first_session": D1},
            {"symbol": "BBB", "kind": "stock", "active": True, "first_session": D2},
            {"symbol": "GONE", "kind": "stock", "active": False, "first_session": D1, "last_session": D1},
            {"symbol": "STILL", "kind": "stock", "active": False, "first_session": D1},
        ],
    )
    return shared_database


@pytest.fixture(autouse=True)
def _empty(database: Database) -> None:
    with database.connect() as connection:
        names = ", ".join(tables.stored_table(table).fullname for table in (*COUNTED, *PACKED, tables.daily_returns))
        connection.execute(f"TRUNCATE {names}".encode())


def store(database: Database, table: Any, days: Sequence[date], count: int = 1, **values: Any) -> None:
    """Add rows; of a table stored packed they are all its rows of these days."""
    frame = sample_rows.rows(table, days, count, values=values)
    if tables.packing_of(table) is not None:
        replace_sessions(database, {table: frame}, days)
        return
    with database.connect() as connection:
        append_rows(connection, table, frame)


def absent(database: Database, table: Any) -> list[tuple[date, int]]:
    found = counting.absent(database, [table], D1, D4)
    assert set(found["engine"]) <= {table.name}
    return sorted(found.select("session_date", "portfolio_id").iter_rows())


def test_rows_are_counted_by_session_and_portfolio_with_the_oldest_moment(database: Database) -> None:
    store(database, tables.portfolio_snapshots, [D1, D2], portfolio_id=1)
    store(database, tables.portfolio_snapshots, [D2], portfolio_id=2)
    store(database, tables.pnl_attribution, [D2], 3, portfolio_id=1)
    store(database, tables.treasury_yields, [D1, D4], 2)
    store(database, tables.daily_prices, [D2], 4)
    found = counting.row_counts(database, COUNTED, D1, D2)
    rows = set(found.drop("oldest_computed_at").iter_rows())
    assert rows == {
        (D1, 1, "portfolio_snapshots", 1),
        (D2, 1, "portfolio_snapshots", 1),
        (D2, 2, "portfolio_snapshots", 1),
        (D2, 1, "pnl_attribution", 3),
        (D1, 0, "treasury_yields", 2),
        (D2, 0, "daily_prices", 4),
    }
    moments = dict(found.select("engine", "oldest_computed_at").iter_rows())
    assert moments["treasury_yields"] is None
    assert moments["portfolio_snapshots"] == moments["daily_prices"] == sample_rows.MOMENT
    only = counting.row_counts(database, COUNTED, D1, D4, portfolio_ids=[2])
    assert set(only.filter(pl.col("portfolio_id") != 0)["portfolio_id"]) == {2}
    assert set(only.filter(portfolio_id=0)["engine"]) == {"treasury_yields", "daily_prices"}


@pytest.mark.parametrize("table", PACKED, ids=lambda table: str(table.name))
def test_rows_stored_packed_are_counted_as_they_are_read(database: Database, table: Any) -> None:
    """Of every packing, with rows that have some members and not others, or a second pair."""
    frame = sample_rows.rows(table, [D1, D2], 3)
    packing = tables.packing_of(table)
    if isinstance(packing, PairTriangle):
        frame = squares(frame, packing.pair)
    replace_sessions(database, {table: frame}, [D1, D2])
    keys = ["session_date", *(["portfolio_id"] if "portfolio_id" in table.columns else [])]
    read = database.read(table).group_by(keys).len().select(*keys, pl.col("len").cast(pl.Int32))
    found = counting.row_counts(database, [table], D1, D4)
    assert sorted(found.select(*keys, "rows_present").iter_rows()) == sorted(read.iter_rows())
    assert found["rows_present"].sum() == frame.height
    assert set(found["oldest_computed_at"]) == {sample_rows.MOMENT}


def squares(frame: pl.DataFrame, pair: tuple[str, str]) -> pl.DataFrame:
    """A row for every ordered pair of two members, instead of each row."""
    first, second = pair
    both = pl.DataFrame({first: ["A", "A", "B", "B"], second: ["A", "B", "A", "B"]})
    return frame.drop(pair).join(both, how="cross").select(frame.columns)


@pytest.mark.parametrize("table", [tables.portfolio_snapshots, tables.pnl_attribution])
def test_what_has_no_row_is_found_by_index_from_inception_on(database: Database, table: Any) -> None:
    owed = [(D1, 1), (D1, 3), (D2, 1), (D2, 2), (D4, 1), (D4, 2)]  # not the closed session, nor after a closing
    assert absent(database, table) == owed
    named = {"position_id": 12} if "position_id" in table.columns else {}
    store(database, table, [D2], portfolio_id=1, **named)
    assert absent(database, table) == [pair for pair in owed if pair != (D2, 1)]


def test_engines_without_a_portfolio_are_looked_up_once_a_session(database: Database) -> None:
    store(database, tables.daily_prices, [D1], 2)
    assert absent(database, tables.daily_prices) == [(D2, 0), (D4, 0)]


@pytest.mark.parametrize("table", [tables.portfolio_snapshots, tables.pnl_attribution, tables.daily_prices])
def test_absence_is_looked_up_by_an_index_however_small_the_table(database: Database, table: Any) -> None:
    statements: list[str] = []

    class Heard(Database):
        def read_statement(self, *args: Any, **more: Any) -> pl.DataFrame:
            statements.append(args[1] % tuple(f"'{day}'" for day in args[2]))
            return super().read_statement(*args, **more)

    heard = Heard(database.url)
    counting.absent(heard, [table], D1, D4)
    heard.close()
    with database.connect() as connection:
        connection.execute("SET enable_seqscan = off")  # of a small table a scan is cheaper
        plan = "\n".join(row[0] for row in connection.execute(f"EXPLAIN {statements[0]}".encode()))
    assert f"using {table.name}_" in plan, plan
    assert f"Seq Scan on {table.name} " not in plan
    assert "SubPlan" in plan, "never a join over the whole table"


def test_the_audits_findings_are_those_that_are_partial_or_missing(database: Database) -> None:
    for number, status in enumerate(("complete", "partial", "missing", "not_expected")):
        store(database, tables.calculation_audit, [D1], portfolio_id=number, engine="e", status=status)
    found = counting.audit_findings(database, D1, D4)
    assert sorted(found.iter_rows()) == [(D1, 1, "e", "partial"), (D1, 2, "e", "missing")]
    assert counting.audit_findings(database, D2, D4).is_empty()


def test_symbols_with_an_earlier_price_are_counted(database: Database) -> None:
    for symbol, days in {"AAA": [D1, D2, D4], "BBB": [D2, D4]}.items():
        store(database, tables.daily_prices, days, symbol=symbol)
    found = dict(counting.returning_symbols(database, D1, D4).iter_rows())
    assert found == {D2: 1, D4: 2}


def test_symbols_short_of_returns_although_priced_before(database: Database) -> None:
    store(database, tables.daily_prices, [D1, D2], symbol="AAA")
    store(database, tables.daily_returns, [D2], symbol="AAA")
    # BBB was first priced inside the window, STILL is expected no more
    window = [D2, D4]
    found = counting.short_windows(database, window, least=2)
    assert list(found.iter_rows()) == [("AAA", 1, D4, D4)]
    assert counting.short_windows(database, window, least=1).is_empty()
    store(database, tables.daily_prices, [D4], symbol="AAA")
    assert list(counting.short_windows(database, window, least=2).iter_rows()) == [("AAA", 1, None, None)]


def test_what_is_held_and_has_no_price_is_counted(database: Database) -> None:
    assert counting.unpriced_holdings(database, [2], D1, D1) == 0, "before inception"
    # AAA on D1, D2, D4; BBB under an option until D2; GONE until it stopped; the PRIVATE one never
    assert counting.unpriced_holdings(database, [1], D1, D4) == 3 + 2 + 1
    store(database, tables.daily_prices, [D1, D2], symbol="AAA")
    store(database, tables.daily_prices, [D1], symbol="BBB")
    assert counting.unpriced_holdings(database, [1], D1, D4) == 1 + 1 + 1
    assert counting.unpriced_holdings(database, [1, 2], D4, D4) == 1, "held twice, it is one"


def test_the_first_yield(database: Database) -> None:
    assert counting.first_yield(database) is None
    store(database, tables.treasury_yields, [D2, D4])
    assert counting.first_yield(database) == D2


def test_what_correlations_say_of_pairs(database: Database) -> None:
    frame = sample_rows.rows(tables.correlation_calculations, [D1, D2], 1)
    replace_sessions(database, [(tables.correlation_calculations, frame)], [D1, D2])
    found = counting.correlated(database, D2, D4)
    assert found.columns == ["session_date", "portfolio_id", "positions_included", "correlation_concentration"]
    assert found["session_date"].to_list() == [D2]
