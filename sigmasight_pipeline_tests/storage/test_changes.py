"""Changes of inputs: what the database records of statements by hand, and the pipeline of its own writes."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

import polars as pl
import pytest

from sigmasight_pipeline.storage import changes, tables
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.partitions import merge_rows, replace_sessions
from sigmasight_pipeline.storage.upkeep import keep_beside_prices
from sigmasight_pipeline_tests.calculations.table_rows import frame, portfolio, private, split, stock
from sigmasight_pipeline_tests.storage.sample_rows import rows, weekdays

DAYS = weekdays(6)
D1, D2, D3, D4, D5, D6 = DAYS
"""Results reach to D5."""

INCEPTION = D2

BOOK = [
    stock(1, "AAA", 100, 10, D1, lot="1"),
    stock(2, "BBB", -50, 20, D3, lot="1", exit_price=21, exit_date=D5),
    private(3, "PRIV", 1, 1000, D1, lot="1"),
]

CLEARED = (
    "input_changes", "tags", "portfolio_cash_flows", "positions", "portfolios", "portfolio_snapshots", "daily_returns",
    *changes.DAY,
)  # fmt: skip


@pytest.fixture
def stored(shared_database: Database) -> Database:
    """Two books, of which one has results to D5; prices and yields of every session."""
    database = shared_database
    with database.connect() as connection:
        for name in CLEARED:
            connection.execute(f"DELETE FROM sigmasight.{name}")
    with database.connect() as connection:
        books = frame(tables.portfolios, [portfolio(n, INCEPTION) for n in (1, 2)]).drop("portfolio_id")
        connection.execute("ALTER TABLE sigmasight.portfolios ALTER portfolio_id RESTART")
        connection.execute("ALTER TABLE sigmasight.positions ALTER position_id RESTART")
        merge_rows(connection, tables.portfolios, books, key=("code",), scope=None, delete_missing=True)
        _import(connection, BOOK)
    snapshots = rows(tables.portfolio_snapshots, DAYS[1:5], 1, values={"portfolio_id": 1})
    replace_sessions(database, [(tables.portfolio_snapshots, snapshots)], DAYS)
    replace_sessions(
        database,
        [(table, rows(table, DAYS, 3)) for table in (tables.daily_prices, tables.treasury_yields)],
        DAYS,
    )
    with database.connect() as connection:
        connection.execute("DELETE FROM sigmasight.input_changes")
    return database


def _import(connection, positions) -> None:  # type: ignore[no-untyped-def]  # as psycopg and the cases give them
    merge_rows(
        connection,
        tables.positions,
        frame(tables.positions, positions).drop("position_id"),
        key=("portfolio_id", "symbol", "entry_date", "lot"),
        scope={"portfolio_id": 1},
        delete_missing=True,
    )


Found = list[tuple[str, date, int | None, str | None, str, bool]]


def found(database: Database) -> Found:
    """(table, session, portfolio, symbol, kind, by hand) in order."""
    return (
        database.read(tables.input_changes, order_by="change_id")
        .select("table_name", "session_date", "portfolio_id", "symbol", "kind", "by_hand")
        .rows()
    )


def by_hand(database: Database, *statements: str) -> Found:
    with database.connect() as connection:
        for statement in statements:
            connection.execute(statement.encode())
    return found(database)


PRICE = "daily_prices"
AFTER_D3, AFTER_D5 = (day + timedelta(days=1) for day in (D3, D5))
CASES: list[tuple[str, Found]] = [
    (
        f"UPDATE sigmasight.daily_prices SET close = close + 1 WHERE symbol = 'K00001' AND session_date = '{D3}'",
        [(PRICE, D3, None, "K00001", "revised", True)],
    ),
    (
        f"DELETE FROM sigmasight.daily_prices WHERE symbol = 'K00001' AND session_date >= '{D5}'",
        [(PRICE, D5, None, "K00001", "removed", True)],  # nobody has computed D6
    ),
    (
        "INSERT INTO sigmasight.daily_prices (session_date, symbol, close, source, fetched_at) "
        f"VALUES ('{D4}', 'NEW', 5, 'me', now()), ('{D6}', 'NEW', 5, 'me', now())",
        [(PRICE, D4, None, "NEW", "added", True)],
    ),
    (f"UPDATE sigmasight.daily_prices SET close = close, source = 'me' WHERE session_date = '{D3}'", []),
    (
        f"UPDATE sigmasight.daily_prices SET symbol = 'X' WHERE symbol = 'K00001' AND session_date = '{D3}'",
        [(PRICE, D3, None, None, "revised", True)],  # of two symbols
    ),
    (
        "INSERT INTO sigmasight.corporate_actions (symbol, ex_date, kind, split_from, split_to, source) "
        f"VALUES ('AAA', '{D4}', 'split', 1, 2, 'me')",
        [("corporate_actions", D4, None, "AAA", "added", True)],
    ),
    (
        f"UPDATE sigmasight.treasury_yields SET yield = 0.05 WHERE tenor = '1M' AND session_date = '{D2}'",
        [("treasury_yields", D2, None, None, "revised", True)],
    ),
    (
        "INSERT INTO sigmasight.option_prices (session_date, symbol, close, source) "
        f"VALUES ('{D2}', 'AAA240119C00100000', 1, 'me')",
        [("option_prices", D2, None, "AAA240119C00100000", "added", True)],
    ),
    # clamped to the inception
    (
        "UPDATE sigmasight.positions SET quantity = 200 WHERE symbol = 'AAA'",
        [("positions", D2, 1, "AAA", "revised", True)],
    ),
    ("UPDATE sigmasight.positions SET notes = 'x', investment_subtype = 'y' WHERE symbol = 'AAA'", []),
    (
        f"UPDATE sigmasight.positions SET exit_date = '{D4}', exit_price = 22 WHERE symbol = 'BBB'",
        [("positions", D4, 1, "BBB", "revised", True)],
    ),
    (
        f"UPDATE sigmasight.positions SET exit_date = '{D4}', quantity = -60 WHERE symbol = 'BBB'",
        [("positions", D3, 1, "BBB", "revised", True)],
    ),
    (
        f"UPDATE sigmasight.positions SET exit_date = '{D5}', exit_price = 11 WHERE symbol = 'AAA'",
        [("positions", D5, 1, "AAA", "revised", True)],
    ),
    ("DELETE FROM sigmasight.positions WHERE symbol = 'BBB'", [("positions", D3, 1, "BBB", "removed", True)]),
    (
        f"INSERT INTO sigmasight.position_marks VALUES (3, '{D4}', 1100, 'me')",
        [("position_marks", D4, 1, "PRIV", "added", True)],
    ),
    (
        f"INSERT INTO sigmasight.portfolio_cash_flows VALUES (1, '{D3}', 'contribution', 1, 500, NULL)",
        [("portfolio_cash_flows", D3, 1, None, "added", True)],
    ),
    # part of the initial equity; a book without results; a book that goes with all it has
    (f"INSERT INTO sigmasight.portfolio_cash_flows VALUES (1, '{D2}', 'contribution', 1, 500, NULL)", []),
    (f"INSERT INTO sigmasight.portfolio_cash_flows VALUES (2, '{D3}', 'contribution', 1, 500, NULL)", []),
    ("DELETE FROM sigmasight.portfolios WHERE portfolio_id = 1", []),
    # a closing concerns the sessions after it, whichever column states it; what a book is called, none
    (
        f"UPDATE sigmasight.portfolios SET closing_date = '{D3}' WHERE portfolio_id = 1",
        [("portfolios", AFTER_D3, 1, None, "revised", True)],
    ),
    (
        "UPDATE sigmasight.portfolios SET active = false WHERE portfolio_id = 1",
        [("portfolios", AFTER_D5, 1, None, "revised", True)],  # the newest snapshot
    ),
    (
        f"UPDATE sigmasight.portfolios SET closing_date = '{D3}'; "
        f"UPDATE sigmasight.portfolios SET closing_date = '{D3}'; DELETE FROM sigmasight.portfolios",
        [],
    ),
    ("UPDATE sigmasight.portfolios SET equity_balance = 5 WHERE portfolio_id = 1", []),
    # tags of a position, of its first session
    (
        "INSERT INTO sigmasight.tags (name, kind) VALUES ('x', 'regular'); "
        "INSERT INTO sigmasight.position_tags SELECT 2, tag_id FROM sigmasight.tags",
        [("position_tags", D3, 1, "BBB", "added", True)],
    ),
    # with the position itself it is one change
    (
        "INSERT INTO sigmasight.tags (name, kind) VALUES ('x', 'regular'); "
        "UPDATE sigmasight.positions SET quantity = 5, exit_date = NULL WHERE position_id = 2; "
        "INSERT INTO sigmasight.position_tags SELECT 2, tag_id FROM sigmasight.tags",
        [("positions", D3, 1, "BBB", "revised", True)],
    ),
    # to another book: both are concerned
    (
        "UPDATE sigmasight.positions SET portfolio_id = 1 WHERE symbol = 'AAA'; "
        f"INSERT INTO sigmasight.portfolio_cash_flows VALUES (2, '{D3}', 'contribution', 1, 500, NULL); "
        "UPDATE sigmasight.portfolio_cash_flows SET portfolio_id = 1",
        [("portfolio_cash_flows", D3, None, None, "revised", True)],
    ),
]


@pytest.mark.parametrize(("statement", "expected"), CASES)
def test_what_is_changed_by_hand_is_recorded(stored: Database, statement: str, expected: Found) -> None:
    assert by_hand(stored, *statement.split("; ")) == expected


def test_it_is_told_in_words_at_the_time_of_the_commit(stored: Database) -> None:
    with stored.connect() as connection:
        connection.execute(
            f"UPDATE sigmasight.positions SET quantity = 200, exit_date = '{D5}', exit_price = 11 WHERE symbol = 'AAA'"
        )
        (begun,) = connection.execute("SELECT clock_timestamp()").fetchone() or (None,)
        connection.execute("SELECT pg_sleep(0.05)")
    row = stored.read(tables.input_changes).row(0, named=True)
    assert row["detail"] == (f"exit_date none -> {D5}, exit_price none -> 11.000000, quantity 100.000000 -> 200.000000")
    assert row["changed_at"] > begun, "what is computed while the transaction is open has not seen it"
    assert changes.described(stored, row["change_id"]) == (f"positions {D2} AAA of book-1 revised: {row['detail']}")


def test_the_pipeline_compares_what_it_replaces(stored: Database) -> None:
    table = tables.daily_prices
    before = stored.read(table, order_by=["session_date", "symbol"])
    key = pl.struct("session_date", "symbol")

    def at(day: date, symbol: str) -> pl.Expr:
        return key == pl.struct(pl.lit(day).alias("session_date"), pl.lit(symbol).alias("symbol"))

    replace_sessions(stored, [(table, before.with_columns(source=pl.lit("other")))], DAYS)
    assert found(stored) == [], "the same figures"
    revised = before.with_columns(
        close=pl.when(at(D2, "K00001") | at(D4, "K00001") | at(D6, "K00001"))
        .then(pl.col("close") + 1)
        .otherwise("close")
        .cast(before.schema["close"])
    ).filter(~at(D3, "K00002"))
    replace_sessions(stored, [(table, pl.concat([revised, rows(table, [D5], 1, values={"symbol": "LATE"})]))], DAYS)
    assert found(stored) == [
        (PRICE, D2, None, "K00001", "revised", False),
        (PRICE, D3, None, "K00002", "removed", False),
        (PRICE, D5, None, "LATE", "added", False),
    ]
    detail = stored.read(tables.input_changes, order_by="change_id")["detail"]
    old = before.filter(at(D2, "K00001"))["close"][0]
    assert detail[0] == f"close {old} -> {old + Decimal(1)} (and 1 more)", "D6 is not computed yet"
    replace_sessions(stored, [(table, before.filter(pl.col("session_date") == D6))], [D6])
    assert len(found(stored)) == 3, "sessions nobody has computed yet"


def test_actions_of_a_session_are_compared_too(stored: Database) -> None:
    told = frame(tables.corporate_actions, [split("AAA", D4, 2) | {"source": "x"}])

    def write(actions: pl.DataFrame) -> None:
        nothing = {"revisions": tables.daily_price_revisions, "rejected": tables.rejected_prices}
        beside = keep_beside_prices(
            [D4],
            actions=actions,
            **{
                name: rows(table, [D4], 0).with_columns(
                    **({"rejection_id": pl.lit(None, dtype=pl.Int64)} if name == "rejected" else {})
                )
                for name, table in nothing.items()
            },
        )
        prices = stored.read(tables.daily_prices, where="session_date = %s", params=(D4,))
        replace_sessions(stored, [(tables.daily_prices, prices)], [D4], before_commit=beside)

    write(told)
    write(told)
    write(told.clear())
    assert found(stored) == [
        ("corporate_actions", D4, None, "AAA", "added", False),
        ("corporate_actions", D4, None, "AAA", "removed", False),
    ]


def test_what_nothing_computed_depends_on_is_recorded_and_asks_for_nothing(stored: Database) -> None:
    by_hand(
        stored,
        "INSERT INTO sigmasight.tags (name, kind) VALUES ('x', 'regular')",
        "UPDATE sigmasight.portfolios SET name = 'Other', description = 'y' WHERE portfolio_id = 1",
        "UPDATE sigmasight.tags SET kind = 'strategy', colour = '#112233'",
        "UPDATE sigmasight.tags SET name = 'z'",  # nothing carries it
    )
    rows = stored.read(tables.input_changes, order_by="change_id").select("table_name", "kind", "detail").rows()
    assert rows == [
        ("portfolios", "described", "description none -> y, name Book 1 -> Other"),
        ("tags", "described", "x: colour none -> #112233, kind regular -> strategy"),
    ]
    assert changes.recorded(stored).is_empty()


def test_a_tag_that_is_renamed_concerns_every_book_that_carries_it_from_its_first_session(stored: Database) -> None:
    with stored.connect() as connection:
        connection.execute("INSERT INTO sigmasight.tags (name, kind) VALUES ('x', 'regular')")
        connection.execute(
            "INSERT INTO sigmasight.position_tags SELECT p, tag_id FROM sigmasight.tags, unnest('{1,2}'::bigint[]) p"
        )
    with stored.connect() as connection:
        connection.execute("DELETE FROM sigmasight.input_changes")
    assert by_hand(stored, "UPDATE sigmasight.tags SET name = 'y'") == [("tags", D2, 1, None, "revised", True)]
    gone = by_hand(stored, "DELETE FROM sigmasight.tags")
    assert gone[1:] == [
        ("position_tags", D2, 1, "AAA", "removed", True),
        ("position_tags", D3, 1, "BBB", "removed", True),
    ]


def test_an_import_is_recorded_row_by_row_as_the_pipelines(stored: Database) -> None:
    with stored.connect() as connection:
        _import(connection, [BOOK[0] | {"quantity": "120"}, *BOOK[1:], stock(4, "CCC", 1, 1, D4, lot="1")])
    assert found(stored) == [
        ("positions", D2, 1, "AAA", "revised", False),
        ("positions", D4, 1, "CCC", "added", False),
    ]


def test_a_write_that_fails_records_nothing(stored: Database) -> None:
    prices = stored.read(tables.daily_prices).with_columns(close=(pl.col("close") + 1).cast(pl.Decimal(20, 6)))

    def fail(_connection: object) -> None:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        replace_sessions(stored, [(tables.daily_prices, prices)], DAYS, before_commit=fail)
    assert found(stored) == []
