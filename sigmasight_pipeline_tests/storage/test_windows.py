"""Windows against a plain reading of the rule in Python, over all stored rows; and that they use their indexes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from sqlalchemy import Table

from sigmasight_pipeline.storage import tables, windows
from sigmasight_pipeline.storage.copying import copy_rows, relation
from sigmasight_pipeline.storage.database import Database, with_literals
from sigmasight_pipeline.storage.frames import empty_frame, polars_schema
from sigmasight_pipeline.storage.partitions import replace_sessions
from sigmasight_pipeline_tests.storage.sample_rows import MOMENT, rows, weekdays

DAYS = weekdays(12)
CLOSED = {DAYS[3], DAYS[6]}
SYMBOLS = ("A", "B", "C", "D")

GAPPY = frozenset(
    (day, symbol)
    for index, day in enumerate(DAYS)
    for symbol in SYMBOLS
    if day not in CLOSED and not (symbol == "B" and index > 2) and not (symbol == "C" and index < 8) and symbol != "D"
)
"""A traded throughout, B stopped after its third session, C began on the ninth, D never traded."""


def prices(pairs: frozenset[tuple[date, str]]) -> pl.DataFrame:
    """One price row per (session, symbol) pair."""
    table = tables.daily_prices
    if not pairs:
        return empty_frame(table)
    days = sorted({day for day, _ in pairs})
    full = pl.concat([rows(table, days, 1, seed=ord(symbol), values={"symbol": symbol}) for symbol in SYMBOLS])
    keys = pl.DataFrame(sorted(pairs), schema=["session_date", "symbol"], orient="row")
    return full.join(keys, on=["session_date", "symbol"], how="semi").sort("session_date", "symbol")


def store(database: Database, table: Table, frame: pl.DataFrame, days: Sequence[date] = DAYS) -> None:
    replace_sessions(database, [(table, frame)], days)


def store_calendar(database: Database, closed: set[date] = CLOSED) -> None:
    store(
        database,
        tables.trading_sessions,
        pl.DataFrame(
            {"session_date": DAYS, "is_closed": [day in closed for day in DAYS]}
            | {
                "opens_at": MOMENT,
                "closes_at": MOMENT,
                "is_half_day": False,
                "previous_session": None,
                "next_session": None,
            },
            schema_overrides=polars_schema(tables.trading_sessions),
        ),
    )


@pytest.fixture(scope="module")
def stored(shared_database: Database) -> Database:
    """The calendar with two closures, and the gappy prices."""
    store_calendar(shared_database)
    store(shared_database, tables.daily_prices, prices(GAPPY))
    return shared_database


def pairs(frame: pl.DataFrame) -> list[tuple[date, str]]:
    return frame.select("session_date", "symbol").rows()


@pytest.mark.parametrize(
    ("sessions", "first", "last", "start"),
    [
        (1, 2, 2, 1),
        (1, 4, 5, 2),  # the session before is closed: the one before that
        (2, 7, 9, 4),  # one closure on the way
        (5, 7, 7, 0),  # two closures on the way; exactly as many as there are
        (252, 11, 11, 0),  # fewer sessions known than asked for
        (3, 0, 0, 0),  # none known before
    ],
)
def test_look_back_counts_open_sessions(stored: Database, sessions: int, first: int, last: int, start: int) -> None:
    read = windows.look_back(tables.daily_prices, sessions=sessions)
    found = windows.read(stored, read, DAYS[first], DAYS[last])
    expected = sorted(pair for pair in GAPPY if DAYS[start] <= pair[0] <= DAYS[last])
    assert pairs(found) == expected
    assert read.look_back_sessions == sessions


def test_on_sessions(stored: Database) -> None:
    read = windows.on_sessions(tables.daily_prices)
    found = windows.read(stored, read, DAYS[1], DAYS[8])
    assert_frame_equal(found, prices(GAPPY).filter(pl.col("session_date").is_between(DAYS[1], DAYS[8])))
    assert read.look_back_sessions == 0


def last_known_by_rule(given: frozenset[tuple[date, str]], first: date, last: date) -> list[tuple[date, str]]:
    newest: dict[str, date] = {}
    for day, symbol in sorted(given):
        if day < first:
            newest[symbol] = day
    return sorted({pair for pair in given if first <= pair[0] <= last} | {(day, name) for name, day in newest.items()})


@pytest.mark.parametrize(("first", "last"), [(0, 0), (4, 4), (7, 11), (9, 9), (11, 11)])
def test_last_known(stored: Database, first: int, last: int) -> None:
    found = windows.read(stored, windows.last_known(tables.daily_prices), DAYS[first], DAYS[last])
    assert pairs(found) == last_known_by_rule(GAPPY, DAYS[first], DAYS[last])


@pytest.mark.parametrize(("before", "first", "start"), [(2, 9, 7), (1, 4, 2), (3, 7, 2), (252, 11, 0)])
def test_last_known_with_sessions_before(stored: Database, before: int, first: int, start: int) -> None:
    read = windows.last_known(tables.daily_prices, before=before)
    assert pairs(windows.read(stored, read, DAYS[first], DAYS[11])) == last_known_by_rule(GAPPY, DAYS[start], DAYS[11])
    assert read.look_back_sessions == before


def test_last_known_looks_through_rows_that_lack_the_column(database: Database) -> None:
    """A quote without a close must not hide the older one that has it."""
    store_calendar(database)
    quotes = [(DAYS[1], "2.5"), (DAYS[3], None), (DAYS[6], None)]
    frame = pl.DataFrame(
        {
            "session_date": [day for day, _ in quotes],
            "symbol": ["AAA240119C00100000"] * len(quotes),
            "close": [None if close is None else Decimal(close) for _, close in quotes],
            "source": ["test"] * len(quotes),
        },
        schema_overrides={"close": pl.Decimal(20, 6)},
    )
    schema = polars_schema(tables.option_prices)
    missing = [pl.lit(None, dtype=schema[name]).alias(name) for name in schema if name not in frame.columns]
    with database.connect() as connection:
        copy_rows(connection, relation(tables.option_prices), frame.with_columns(missing).select(list(schema)))
    plain = windows.read(database, windows.last_known(tables.option_prices), DAYS[5], DAYS[7])
    assert plain["session_date"].to_list() == [DAYS[3], DAYS[6]]
    closed = windows.read(database, windows.last_known(tables.option_prices, known="close"), DAYS[5], DAYS[7])
    assert closed["session_date"].to_list() == [DAYS[1], DAYS[6]]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    held=st.frozensets(st.tuples(st.sampled_from(DAYS), st.sampled_from(SYMBOLS))),
    bounds=st.tuples(st.integers(0, 11), st.integers(0, 11)).map(sorted),
    sessions=st.integers(1, 6),
)
def test_windows_follow_their_rule(
    shared_database: Database, held: frozenset[tuple[date, str]], bounds: list[int], sessions: int
) -> None:
    store_calendar(shared_database)
    store(shared_database, tables.daily_prices, prices(held))
    first, last = DAYS[bounds[0]], DAYS[bounds[1]]
    found = windows.read(shared_database, windows.last_known(tables.daily_prices), first, last)
    assert pairs(found) == last_known_by_rule(held, first, last)
    earlier = [day for day in DAYS if day < first and day not in CLOSED]
    start = earlier[-sessions:][0] if earlier else first
    found = windows.read(shared_database, windows.look_back(tables.daily_prices, sessions=sessions), first, last)
    assert pairs(found) == sorted(pair for pair in held if start <= pair[0] <= last)
    store(shared_database, tables.daily_prices, prices(GAPPY))


def test_until_and_as_of(database: Database) -> None:
    table = tables.corporate_actions
    actions = pl.concat(
        rows(table, [day], 1, values={"symbol": symbol, "kind": "split", "ex_date": day})
        for day in DAYS[:4]
        for symbol in ("B", "A")
    )
    with database.connect() as connection:
        copy_rows(connection, relation(table), actions)
    found = windows.read(database, windows.until(table), DAYS[1], DAYS[2])
    assert_frame_equal(found, actions.filter(pl.col("ex_date") <= DAYS[2]).sort("symbol", "ex_date"))
    assert_frame_equal(
        windows.read(database, windows.as_of(table), DAYS[0], DAYS[0]), actions.sort("symbol", "ex_date")
    )


def test_portfolios_filter_tables_that_have_them(database: Database) -> None:
    values, greeks = tables.position_values, tables.daily_prices
    frame = rows(values, DAYS, 60)
    store(database, values, frame)
    store(database, greeks, rows(greeks, DAYS, 2))
    store_calendar(database, closed=set())
    reads = {
        "on_sessions": (windows.on_sessions(values), DAYS[5]),
        "look_back": (windows.look_back(values, sessions=2), DAYS[3]),
        "last_known": (windows.last_known(values, per=("position_id",)), DAYS[4]),
        "until": (windows.until(values, "session_date"), DAYS[0]),
        "as_of": (windows.as_of(values), DAYS[0]),
    }
    for name, (read, start) in reads.items():
        end = DAYS[-1] if name == "as_of" else DAYS[5]
        expected = frame.filter(pl.col("portfolio_id").is_in([7, 9]), pl.col("session_date").is_between(start, end))
        expected = expected.drop(tables.PROVENANCE)  # no engine may depend on when and by what a row was made
        assert_frame_equal(windows.read(database, read, DAYS[5], DAYS[5], [9, 7]), expected, check_exact=True)
        assert windows.read(database, read, DAYS[5], DAYS[5], []).is_empty(), name
    assert windows.read(database, windows.on_sessions(greeks), DAYS[5], DAYS[5], [7]).height == 2


def test_last_known_per_several_columns(database: Database) -> None:
    table = tables.portfolio_cash_flows
    with pytest.raises(ValueError, match="one row per session_date and portfolio_id"):
        windows.last_known(table, per=("portfolio_id",))
    keys = [(p, day, kind) for p in (1, 2) for kind in ("contribution", "withdrawal") for day in DAYS[p : 6 : p + 1]]
    with database.connect() as connection:
        for portfolio in (1, 2):
            frame = rows(tables.portfolios, values={"code": f"P{portfolio}", "name": f"P{portfolio}"}, per_session=1)
            copy_rows(connection, relation(tables.portfolios), frame)
        given_rows = pl.DataFrame(
            [(p, day, kind, 1, 5, None) for p, day, kind in keys], schema=polars_schema(table), orient="row"
        )
        copy_rows(connection, relation(table), given_rows)
    read = windows.last_known(table, per=("portfolio_id", "kind", "sequence"))
    found = windows.read(database, read, DAYS[5], DAYS[6])
    by_key = found.select("portfolio_id", "kind", "session_date").sort(pl.all()).rows()
    assert by_key == [
        (1, "contribution", DAYS[3]),
        (1, "contribution", DAYS[5]),
        (1, "withdrawal", DAYS[3]),
        (1, "withdrawal", DAYS[5]),
        (2, "contribution", DAYS[2]),
        (2, "contribution", DAYS[5]),
        (2, "withdrawal", DAYS[2]),
        (2, "withdrawal", DAYS[5]),
    ]


def test_no_rows_have_the_registrys_dtypes(database: Database) -> None:
    for table in tables.every_table():
        session_keyed = "session_date" in table.columns
        reads = [windows.as_of(table)]
        if session_keyed:
            reads += [
                windows.on_sessions(table),
                windows.look_back(table, sessions=5),
                windows.until(table, "session_date"),
            ]
        for read in reads:
            kept = {c.name for c in table.columns if c.primary_key or c.name not in tables.PROVENANCE}
            schema = {name: kind for name, kind in polars_schema(table).items() if name in kept}
            assert dict(windows.read(database, read, DAYS[0], DAYS[1]).schema) == schema, (table.name, read.kind)
    found = windows.read(database, windows.last_known(tables.daily_prices), DAYS[0], DAYS[1])
    assert found.schema == polars_schema(tables.daily_prices)


def test_declarations_that_make_no_sense_are_refused() -> None:
    table = tables.daily_prices
    mistakes: list[tuple[Callable[[], windows.Read], str]] = [
        (lambda: windows.on_sessions(tables.instruments), "instruments has no session_date"),
        (lambda: windows.look_back(table, sessions=0), "at least 1 session"),
        (lambda: windows.last_known(table, per=()), "one row per session_date and nothing"),
        (lambda: windows.last_known(tables.position_values), "one row per session_date and symbol"),
        (lambda: windows.until(table), "daily_prices has no column ex_date"),
    ]
    for wrong, message in mistakes:
        with pytest.raises(ValueError, match=message):
            wrong()


LARGE = weekdays(60, date(2020, 1, 1))


@pytest.fixture(scope="module")
def large(shared_database: Database) -> Database:
    """24,000 prices of 400 symbols, and the planner's statistics."""
    store(shared_database, tables.daily_prices, rows(tables.daily_prices, LARGE, 400), LARGE)
    with shared_database.connect() as connection:
        connection.execute("ANALYZE sigmasight.daily_prices")
    return shared_database


def test_indexes_serve_a_session_and_a_symbol(large: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    run = Database.read_statement

    def spy(
        database: Database,
        table: Table,
        statement: str,
        params: Sequence[object] = (),
        columns: Sequence[str] | None = None,
    ) -> pl.DataFrame:
        sent.append(with_literals(statement, params))
        return run(database, table, statement, params, columns=columns)

    monkeypatch.setattr(Database, "read_statement", spy)
    read = windows.last_known(tables.daily_prices)
    assert windows.read(large, read, LARGE[-1], LARGE[-1]).height == 800
    both = {"daily_prices_symbol_session", "daily_prices_pkey"}
    select = "SELECT * FROM sigmasight.daily_prices WHERE"
    for statement, indexes in (
        (sent[0], both),
        (f"{select} session_date = '2020-02-03'", {"daily_prices_pkey"}),
        (f"{select} symbol = 'K00007' AND session_date >= '2020-01-06'", {"daily_prices_symbol_session"}),
    ):
        with large.connect() as connection:
            plan = "\n".join(line for (line,) in connection.execute(f"EXPLAIN {statement}"))
        assert "Seq Scan" not in plan, plan
        assert {index for index in both if index in plan} == indexes, plan


def test_a_read_never_returns_rows_after_its_last_session(stored: Database) -> None:
    for read in (
        windows.on_sessions(tables.daily_prices),
        windows.look_back(tables.daily_prices, sessions=4),
        windows.last_known(tables.daily_prices),
        windows.until(tables.daily_prices, "session_date"),
    ):
        found = windows.read(stored, read, DAYS[4], DAYS[5])
        assert found["session_date"].max() == DAYS[5], read.kind
        weekend = DAYS[4] + timedelta(days=1)
        assert (windows.read(stored, read, weekend, weekend)["session_date"] <= weekend).all()


def test_a_choice_made_from_earlier_reads(database: Database) -> None:
    """Rows of the values it names, however old, and never after the run's last session."""
    store(database, tables.daily_prices, prices(GAPPY))
    store_calendar(database)
    by_day = windows.chosen(tables.daily_prices, "session_date", lambda frames, days: [*frames["days"]["day"], *days])
    by_symbol = windows.chosen(tables.daily_prices, "symbol", lambda _frames, _days: ["B"], columns=["close"])
    assert by_day.look_back_sessions == 0
    assert by_day.choice is not None
    values = by_day.choice({"days": pl.DataFrame({"day": [DAYS[1]]})}, [DAYS[4]])
    found = windows.read(database, by_day, DAYS[4], DAYS[4], values=values)
    assert found["session_date"].unique().sort().to_list() == [DAYS[1], DAYS[4]]
    beyond = windows.read(database, by_day, DAYS[4], DAYS[4], values=[DAYS[5]])
    assert beyond.is_empty(), "after the run's last session"
    own = windows.read(database, by_symbol, DAYS[1], DAYS[1], values=["B"])
    assert own.select("session_date", "symbol").rows() == [(DAYS[0], "B"), (DAYS[1], "B")]
    assert own.columns == ["session_date", "symbol", "close"]
    nothing = windows.read(database, by_symbol, DAYS[1], DAYS[1], values=[])
    assert nothing.is_empty()
    assert nothing.schema == own.schema
    with pytest.raises(ValueError, match="has no column colour"):
        windows.chosen(tables.daily_prices, "colour", lambda _frames, _days: [])
