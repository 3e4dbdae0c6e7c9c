"""Replacing sessions, merging reference rows, appending to logs: what is written, kept, refused and rolled back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.copying import ROWS_PER_CHUNK, Connection, RefusalReason, RefusedWriteError
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.errors import StorageError
from sigmasight_pipeline.storage.frames import empty_frame, polars_schema
from sigmasight_pipeline.storage.partitions import (
    MergeCounts,
    append_rows,
    merge_rows,
    reference_lock,
    replace_sessions,
)
from sigmasight_pipeline.storage.tables import scenarios
from sigmasight_pipeline_tests.storage.sample_rows import rows, weekdays

DAYS = weekdays(5)
VALUES = tables.position_values


def stored(database: Database, table: Any = VALUES) -> pl.DataFrame:
    return database.read(table, order_by=table.primary_key.columns.keys())


def test_replaces_exactly_its_sessions(database: Database) -> None:
    before = rows(VALUES, DAYS, 6)
    assert replace_sessions(database, {VALUES: before}, DAYS) == {"position_values": 30}
    assert_frame_equal(stored(database), before, check_exact=True)
    # other rows, more of them, out of order, and none for one of the sessions: that session is emptied
    fresh = rows(VALUES, [DAYS[1]], 8, seed=1)
    assert replace_sessions(database, [(VALUES, fresh.reverse())], [DAYS[3], DAYS[1]]) == {"position_values": 8}
    expected = pl.concat([before.filter(~pl.col("session_date").is_in([DAYS[1], DAYS[3]])), fresh])
    assert_frame_equal(stored(database), expected.sort("session_date", "position_id"), check_exact=True)
    assert replace_sessions(database, {VALUES: empty_frame(VALUES)}, DAYS) == {"position_values": 0}
    assert stored(database).is_empty()


def test_every_session_table_round_trips(shared_database: Database) -> None:
    for table in tables.every_table():
        keys = table.primary_key.columns.keys()
        if "session_date" not in keys or table.foreign_keys or tables.is_derived(table):
            continue
        for per_session in (1, 0, 1):
            frame = rows(table, DAYS, per_session)
            replace_sessions(shared_database, {table: frame}, DAYS)
            elsewhere = getattr(tables.packing_of(table), "elsewhere", ())  # another table's, not written here
            found = stored(shared_database, table).drop(elsewhere)
            assert_frame_equal(found, frame.drop(elsewhere), check_exact=True)


def test_what_is_stored_once_per_scenario_is_read_with_every_portfolio(shared_database: Database) -> None:
    results, diagnostics = tables.stress_test_results, tables.stress_scenario_diagnostics
    frame = pl.concat([rows(results, DAYS, values={"portfolio_id": owner}) for owner in (1, 2)])
    replace_sessions(shared_database, {results: frame, diagnostics: rows(diagnostics, DAYS)}, DAYS)
    keys = ["session_date", "scenario_id"]
    told = [*keys, *scenarios.SCENARIO_FIGURES]
    found = stored(shared_database, results).select("portfolio_id", *told)
    expected = frame.select("portfolio_id", *keys).join(rows(diagnostics, DAYS).select(told), on=keys)
    assert_frame_equal(found, expected.sort("session_date", "portfolio_id", "scenario_id"), check_exact=True)
    # where nothing is said of a scenario its results are there all the same
    replace_sessions(shared_database, {diagnostics: empty_frame(diagnostics)}, DAYS)
    left = stored(shared_database, results)
    not_theirs = [*scenarios.SCENARIO_FIGURES, *tables.PROVENANCE]
    assert_frame_equal(left.drop(not_theirs), frame.drop(not_theirs), check_row_order=False, check_exact=True)
    unknown = left.select(scenarios.SCENARIO_FIGURES)
    assert set(unknown.null_count().row(0)) == {left.height}


def test_more_rows_than_one_chunk(shared_database: Database) -> None:
    frame = rows(tables.daily_prices, DAYS[:1], 2 * ROWS_PER_CHUNK + 1)
    replace_sessions(shared_database, {tables.daily_prices: frame.sample(fraction=1, shuffle=True, seed=1)}, DAYS[:1])
    found = shared_database.read(tables.daily_prices, where="session_date = %s", params=DAYS[:1], order_by="symbol")
    assert_frame_equal(found, frame, check_exact=True)


def test_portfolios_restrict_what_is_replaced(database: Database) -> None:
    before = {VALUES: rows(VALUES, DAYS, 6), tables.daily_returns: rows(tables.daily_returns, DAYS, 3)}
    replace_sessions(database, before, DAYS)
    fresh = rows(VALUES, DAYS[:1], 2, seed=3).with_columns(
        portfolio_id=pl.lit(4, pl.Int64), position_id=pl.lit(900) + pl.col("position_id")
    )
    returns = rows(tables.daily_returns, DAYS[:1], 1, seed=3)
    replace_sessions(database, {VALUES: fresh, tables.daily_returns: returns}, DAYS[:1], portfolio_ids=[4, 5])
    gone = (pl.col("session_date") == DAYS[0]) & pl.col("portfolio_id").is_in([4, 5])
    expected = pl.concat([before[VALUES].filter(~gone), fresh]).sort("session_date", "position_id")
    assert_frame_equal(stored(database), expected, check_exact=True)
    # a table without portfolios is replaced whole
    assert stored(database, tables.daily_returns).filter(pl.col("session_date") == DAYS[0]).height == 1


def test_beyond_its_sessions_a_write_replaces_the_rows_of_the_portfolios_named(database: Database) -> None:
    table = tables.portfolio_exposures
    before = rows(table, DAYS, 3)
    replace_sessions(database, {table: before}, DAYS)
    owners = before["portfolio_id"].unique().sort().to_list()
    fresh = rows(table, DAYS[1:4], 3, seed=2)
    own = pl.col("session_date") == DAYS[1]
    beyond = [(DAYS[2], owners[0]), (DAYS[3], owners[0]), (DAYS[3], owners[2])]
    named = pl.struct("session_date", "portfolio_id").is_in(
        [{"session_date": day, "portfolio_id": owner} for day, owner in beyond]
    )
    replace_sessions(database, {table: fresh.filter(own | named)}, [DAYS[1]], beyond=beyond)
    expected = pl.concat([before.filter(~(own | named)), fresh.filter(own | named)])
    assert_frame_equal(stored(database, table), expected.sort("session_date", "portfolio_id"), check_exact=True)
    with pytest.raises(RefusedWriteError, match="which this write does not cover"):
        replace_sessions(database, {table: fresh}, [DAYS[1]], beyond=[(DAYS[2], owners[0])])


def test_several_tables_and_the_callback_are_one_transaction(database: Database) -> None:
    old = {VALUES: rows(VALUES, DAYS, 2), tables.portfolio_snapshots: rows(tables.portfolio_snapshots, DAYS, 2)}
    replace_sessions(database, old, DAYS)
    new = {VALUES: rows(VALUES, DAYS, 3, seed=1), tables.portfolio_snapshots: rows(tables.portfolio_snapshots, DAYS, 1)}
    seen: list[tuple[int, int]] = []

    def look(connection: Connection) -> None:
        inside = connection.execute("SELECT count(*) FROM sigmasight.position_values").fetchone()
        assert inside is not None
        seen.append((inside[0], stored(database).height))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        replace_sessions(database, new, DAYS, before_commit=look)
    assert seen == [(15, 10)]  # the transaction sees its own rows, everybody else the old ones
    for table, frame in old.items():
        assert_frame_equal(stored(database, table), frame, check_exact=True)
    assert replace_sessions(database, new, DAYS, before_commit=reference_lock) == {
        "position_values": 15,
        "portfolio_snapshots": 5,
    }
    for table, frame in new.items():
        assert_frame_equal(stored(database, table), frame, check_exact=True)


GOOD = rows(VALUES, DAYS[:2], 3)
OF: dict[str, Any] = {"writes": [(VALUES, GOOD)], "sessions": DAYS[:2]}


def bad(**columns: Any) -> dict[str, Any]:
    return {"writes": [(VALUES, GOOD.with_columns(**columns))]}


@pytest.mark.parametrize(
    ("changed", "reason", "message"),
    [
        ({"writes": [(VALUES, GOOD.drop("price", "stale"))]}, RefusalReason.WRONG_COLUMNS, "no column price, stale"),
        (bad(extra=1), RefusalReason.WRONG_COLUMNS, "unknown column extra"),
        (
            bad(market_value=pl.col("market_value").cast(pl.Float64)),
            RefusalReason.WRONG_TYPE,
            r"market_value is Float64",
        ),
        (bad(price=pl.col("price").cast(pl.Decimal(20, 2))), RefusalReason.WRONG_TYPE, r"price is Decimal"),
        (bad(stale_sessions=pl.lit(1, pl.Int64)), RefusalReason.WRONG_TYPE, "stale_sessions is Int64, not Int32"),
        (bad(computed_at=pl.col("computed_at").dt.replace_time_zone(None)), RefusalReason.WRONG_TYPE, "computed_at"),
        (bad(session_date=pl.lit(DAYS[2])), RefusalReason.FOREIGN_ROW, f"session_date {DAYS[2]}"),
        ({"sessions": DAYS[:1]}, RefusalReason.FOREIGN_ROW, f"session_date {DAYS[1]}, which"),
        ({"sessions": []}, RefusalReason.FOREIGN_ROW, "session_date"),
        ({"portfolio_ids": [0, 1]}, RefusalReason.FOREIGN_ROW, "portfolio_id 2, which this write does not cover"),
        (bad(position_id=pl.lit(None, pl.Int64)), RefusalReason.NULL_VALUE, "6 NULL in position_id"),
        (bad(symbol=pl.lit(None, pl.String)), RefusalReason.NULL_VALUE, "6 NULL in symbol"),
        (
            bad(position_id=pl.lit(7, pl.Int64)),
            RefusalReason.DUPLICATE_KEY,
            f"3 rows for session_date {DAYS[0]}, position_id 7",
        ),
        (bad(weight=pl.lit(2.0)), RefusalReason.OUT_OF_BOUNDS, "6 weight above 1, the first 2.0"),
        (bad(weight=pl.lit(-2.0)), RefusalReason.OUT_OF_BOUNDS, "6 weight below -1, the first -2.0"),
        (
            bad(price_source=pl.lit("guess")),
            RefusalReason.UNKNOWN_VALUE,
            "6 price_source none of market, .*first guess",
        ),
        (bad(weight=pl.lit(float("nan"))), RefusalReason.NOT_FINITE, "6 NaN or infinite in weight"),
        (bad(weight=pl.lit(float("-inf"))), RefusalReason.NOT_FINITE, "6 NaN or infinite in weight"),
        ({"writes": [(VALUES, GOOD), (VALUES, GOOD)]}, RefusalReason.TABLE_TWICE, "two frames"),
        ({"writes": [(tables.instruments, rows(tables.instruments))]}, RefusalReason.NO_SESSIONS, "no session_date"),
    ],
)
def test_refused_before_anything_is_sent(changed: Mapping[str, Any], reason: RefusalReason, message: str) -> None:
    nowhere = Database("postgresql://nobody@127.0.0.1:9/none")
    with pytest.raises(RefusedWriteError, match=message) as refused:
        replace_sessions(nowhere, **{**OF, **changed})
    assert refused.value.reason == reason
    assert "nothing was written" in str(refused.value)


def test_what_postgresql_refuses_leaves_the_old_rows(database: Database) -> None:
    replace_sessions(database, **OF)
    for broken, message in (
        (bad(run_id=pl.lit("a\0b")), "invalid byte sequence"),
        (bad(symbol=pl.lit("a\0b")), "invalid byte sequence"),
    ):
        with pytest.raises(StorageError, match=message):
            replace_sessions(database, **{**OF, **broken})
        assert_frame_equal(stored(database), GOOD, check_exact=True)


TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12),
    st.sampled_from(
        ["", "NULL", "\\N", "\\.", '"', '""', ",", "\n", "\r", "\r\n", " x ", "'", "\\", "\ufeff", "\u2028"]
    ),
)
MONEY = st.decimals(Decimal("-999999999999999999.99"), Decimal("999999999999999999.99"), places=2)
PRICE = st.decimals(Decimal("-99999999999999.999999"), Decimal("99999999999999.999999"), places=6)
FLOATS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([-0.0, 5e-324, 1.7976931348623157e308])
)
DATES = st.one_of(st.dates(), st.sampled_from([date.min, date.max, date(2000, 2, 29)]))
INSTANTS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)).map(lambda at: at.replace(tzinfo=UTC))  # noqa: DTZ001 - Hypothesis takes naive bounds


def snapshots(example: list[dict[str, Any]]) -> pl.DataFrame:
    base = rows(tables.portfolio_snapshots, DAYS[:1], len(example))
    given_columns = pl.DataFrame(example, schema={name: base.schema[name] for name in example[0]})
    return base.with_columns(given_columns)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "cash_balance": MONEY,
                "code_version": TEXT,
                "delta": st.none() | FLOATS,
                "computed_at": INSTANTS,
                "is_first": st.booleans(),
            }
        ),
        min_size=1,
        max_size=5,
    )
)
def test_sessions_round_trip_exactly(shared_database: Database, example: list[dict[str, Any]]) -> None:
    frame = snapshots(example)
    replace_sessions(shared_database, {tables.portfolio_snapshots: frame}, DAYS)
    found = stored(shared_database, tables.portfolio_snapshots)
    assert_frame_equal(found, frame, check_exact=True)
    signs = [None if value is None else str(value) for value in frame["delta"]]  # == takes -0.0 for 0.0
    assert [None if value is None else str(value) for value in found["delta"]] == signs


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "symbol": TEXT,
                "name": st.none() | TEXT,
                "duration": st.none() | FLOATS,
                "first_session": st.none() | DATES,
            }
        ),
        min_size=1,
        max_size=5,
        unique_by=lambda row: row["symbol"],
    )
)
def test_merges_round_trip_exactly(shared_database: Database, example: list[dict[str, Any]]) -> None:
    table = tables.instruments
    base = rows(table, per_session=len(example))
    frame = base.with_columns(pl.DataFrame(example, schema={name: base.schema[name] for name in example[0]}))
    options: dict[str, Any] = {"key": ("symbol",), "scope": None, "delete_missing": True}
    with shared_database.connect() as connection:
        merge_rows(connection, table, frame, **options)
        assert merge_rows(connection, table, frame, **options) == MergeCounts(0, 0, 0, len(example))
    assert_frame_equal(shared_database.read(table).sort("symbol"), frame.sort("symbol"), check_exact=True)


def portfolio(code: str, **more: Any) -> dict[str, Any]:
    return {
        "code": code,
        "name": f"Portfolio {code}",
        "description": None,
        "base_currency": "USD",
        "benchmark_symbol": "SPY",
        "inception_date": DAYS[0],
        "initial_equity": Decimal("1000.00"),
        "active": True,
    } | more


def portfolios(*given_rows: dict[str, Any]) -> pl.DataFrame:
    schema = polars_schema(tables.portfolios)
    return pl.DataFrame(list(given_rows), schema={name: schema[name] for name in portfolio("X")})


def merge(database: Database, frame: pl.DataFrame, **options: Any) -> MergeCounts:
    defaults: dict[str, Any] = {"key": ("code",), "scope": None, "delete_missing": False}
    with database.connect() as connection:
        return merge_rows(connection, tables.portfolios, frame, **{**defaults, **options})


def test_a_merge_touches_only_what_differs(database: Database) -> None:
    assert merge(database, portfolios(portfolio("B"), portfolio("A"), portfolio("C"))) == MergeCounts(3, 0, 0, 0)
    identifiers = dict(database.query("SELECT code, portfolio_id FROM sigmasight.portfolios").rows())
    assert sorted(identifiers, key=lambda code: identifiers[code]) == ["A", "B", "C"]  # given in key order
    with database.connect() as connection:  # a column merges of imports never bring
        connection.execute("UPDATE sigmasight.portfolios SET equity_balance = 7 WHERE code <> 'C'")
    versions = dict(database.query("SELECT code, xmin::text FROM sigmasight.portfolios").rows())
    changes = portfolios(portfolio("A"), portfolio("B", description="long only"), portfolio("D"))
    assert merge(database, changes) == MergeCounts(inserted=1, updated=1, deleted=0, unchanged=1)
    found = {row["code"]: row for row in stored(database, tables.portfolios).iter_rows(named=True)}
    assert {code: found[code]["portfolio_id"] for code in identifiers} == identifiers
    assert (found["B"]["description"], found["B"]["equity_balance"]) == ("long only", Decimal("7.00"))
    assert found["D"]["equity_balance"] is None
    after = dict(database.query("SELECT code, xmin::text FROM sigmasight.portfolios").rows())
    assert {code for code in versions if after[code] != versions[code]} == {"B"}  # the others were not rewritten
    # NULL is a value like any other
    assert merge(database, portfolios(portfolio("B"))) == MergeCounts(0, 1, 0, 0)
    assert merge(database, portfolios(portfolio("A")), delete_missing=True) == MergeCounts(0, 0, 3, 1)


def test_a_merge_keeps_to_its_scope(database: Database) -> None:
    first = [portfolio(code, benchmark_symbol=mark) for code, mark in (("A", "SPY"), ("B", "SPY"), ("C", "QQQ"))]
    merge(database, portfolios(*first))
    spy = {"scope": {"benchmark_symbol": "SPY"}, "delete_missing": True}
    assert merge(database, portfolios(portfolio("B")), **spy) == MergeCounts(0, 0, 1, 1)
    assert sorted(stored(database, tables.portfolios)["code"]) == ["B", "C"]
    with pytest.raises(RefusedWriteError, match="benchmark_symbol QQQ, which this write does not cover"):
        merge(database, portfolios(first[2]), **spy)
    assert merge(database, portfolios().clear(), **spy) == MergeCounts(0, 0, 1, 0)
    assert merge(database, portfolios(portfolio("B")), scope={"description": None}) == MergeCounts(1, 0, 0, 0)
    assert merge(database, portfolios().clear(), scope={"description": None}, delete_missing=True).deleted == 2


@pytest.mark.parametrize(
    ("frame", "options", "reason"),
    [
        (portfolios(portfolio("A")), {"key": ("benchmark_symbol",)}, RefusalReason.NOT_A_KEY),
        (portfolios(portfolio("A"), portfolio("A")), {}, RefusalReason.DUPLICATE_KEY),
        (portfolios(portfolio("A")).drop("name"), {}, RefusalReason.WRONG_COLUMNS),
        (portfolios(portfolio("A")).with_columns(portfolio_id=1), {}, RefusalReason.WRONG_COLUMNS),
        (portfolios(portfolio("A", name=None)), {}, RefusalReason.NULL_VALUE),
    ],
)
def test_merges_that_are_refused(
    shared_database: Database, frame: pl.DataFrame, options: dict[str, Any], reason: RefusalReason
) -> None:
    with pytest.raises(RefusedWriteError) as refused:
        merge(shared_database, frame, **options)
    assert refused.value.reason == reason


def test_a_key_may_be_all_there_is(database: Database) -> None:
    merge(database, portfolios(portfolio("A")))
    positions = rows(tables.positions, per_session=2, values={"portfolio_id": 1, "lot": "1"})
    tags = rows(tables.tags, per_session=2)
    with database.connect() as connection:
        for table, frame, key in (
            (tables.positions, positions, ("portfolio_id", "symbol", "entry_date", "lot")),
            (tables.tags, tags, ("name",)),
        ):
            merge_rows(connection, table, frame, key=key, scope=None, delete_missing=True)
        pairs = pl.DataFrame([(1, 1), (2, 1)], schema=polars_schema(tables.position_tags), orient="row")
        options: dict[str, Any] = {"key": ("position_id", "tag_id"), "scope": None, "delete_missing": True}
        assert merge_rows(connection, tables.position_tags, pairs, **options) == MergeCounts(2, 0, 0, 0)
        assert merge_rows(connection, tables.position_tags, pairs[:1], **options) == MergeCounts(0, 0, 1, 1)


def test_logs_grow(database: Database) -> None:
    log = rows(tables.rejected_prices, per_session=3)
    with database.connect() as connection:
        assert append_rows(connection, tables.rejected_prices, log) == 3
        assert append_rows(connection, tables.rejected_prices, pl.concat([log, log])) == 6  # the key is the database's
        with pytest.raises(RefusedWriteError, match="its key is given by the database"):
            append_rows(connection, tables.rejected_prices, log, replace=True)
    assert stored(database, tables.rejected_prices)["rejection_id"].to_list() == list(range(1, 10))


def test_a_log_with_a_key_of_its_own_may_replace(database: Database) -> None:
    table = tables.data_quality_results
    first, again = rows(table, DAYS, 1), rows(table, DAYS[3:], 1, values={"description": "second look"})
    with database.connect() as connection:
        append_rows(connection, table, first)
        append_rows(connection, table, again, replace=True)
    expected = pl.concat([first.filter(pl.col("session_date") < DAYS[3]), again])
    assert_frame_equal(stored(database, table), expected)

    def repeat() -> None:
        with database.connect() as connection:
            append_rows(connection, table, first)

    with pytest.raises(StorageError, match="data_quality_results_pkey"):
        repeat()
