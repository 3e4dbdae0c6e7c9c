"""Connections with explained errors, typed reads, ad-hoc queries, and the reading connection that is kept."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal

import polars as pl
import psycopg
import pytest
from polars.testing import assert_frame_equal

from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.connections import CONNECT_TIMEOUT_SECONDS, connection_string
from sigmasight_pipeline.storage.database import Database, with_literals
from sigmasight_pipeline.storage.errors import (
    InvalidUrlError,
    SchemaNotCreatedError,
    ServerUnreachableError,
    StorageError,
    WrongPasswordError,
)
from sigmasight_pipeline.storage.frames import polars_schema
from sigmasight_pipeline.storage.partitions import replace_sessions
from sigmasight_pipeline_tests.storage.sample_rows import rows, weekdays

DAYS = weekdays(3)


@pytest.fixture
def prices(database: Database) -> pl.DataFrame:
    """Three sessions of four prices, stored; the frame as written."""
    frame = rows(tables.daily_prices, DAYS, 4)
    replace_sessions(database, [(tables.daily_prices, frame)], DAYS)
    return frame


def test_no_rows_have_the_registrys_dtypes(shared_database: Database) -> None:
    for table in [*tables.metadata.tables.values(), *tables.long_tables.tables.values()]:
        assert shared_database.read(table).schema == polars_schema(table), table.name


def test_reads_choose_columns_rows_and_order(database: Database, prices: pl.DataFrame) -> None:
    table = tables.daily_prices
    assert_frame_equal(database.read(table, order_by=["session_date", "symbol"]), prices)
    assert_frame_equal(
        database.read(
            table, where="session_date = %s AND close > %s", params=(DAYS[1], Decimal("0.5")), order_by="symbol"
        ),
        prices.filter(pl.col("session_date") == DAYS[1], pl.col("close") > Decimal("0.5")),
    )
    few = database.read(table, columns=["volume", "close"], where="session_date = ANY(%s)", params=(DAYS[:2],))
    assert few.schema == {"volume": pl.Float64(), "close": pl.Decimal(20, 6)}
    assert few.height == 8
    with pytest.raises(KeyError):
        database.read(table, columns=["adjusted_close"])


NASTY = [
    "plain",
    "",
    "it's",
    'say "no"',
    "back\\slash",
    "\\'; DROP TABLE x; --",
    "100%s",
    "{}",
    "a,b\nc\r\n",
    "é漢🙂\u2028",
]


@pytest.mark.parametrize("text", NASTY)
def test_parameters_are_values(shared_database: Database, text: str) -> None:
    frame = rows(tables.daily_prices, DAYS[:1], 1, values={"symbol": text})
    replace_sessions(shared_database, [(tables.daily_prices, frame)], DAYS[:1])
    found = shared_database.read(tables.daily_prices, where="symbol = %s AND symbol = ANY(%s)", params=(text, NASTY))
    assert found["symbol"].to_list() == [text]
    assert shared_database.query("SELECT %s::text AS given", (text,))["given"].to_list() == [text]


def test_parameters_must_match_placeholders() -> None:
    assert with_literals("SELECT %s, %s", [1, date(2024, 1, 2)]) == "SELECT 1, '2024-01-02'::date"
    for statement, params in (("SELECT %s", []), ("SELECT 1", [1]), ("SELECT %s", [1, 2])):
        with pytest.raises(ValueError, match="placeholders but"):
            with_literals(statement, params)


MOMENT = datetime(2024, 7, 1, 13, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "dtype", "value"),
    [
        ("1::smallint", pl.Int16(), 1),
        ("7::int", pl.Int32(), 7),
        ("count(*)", pl.Int64(), 1),
        ("0.5::real", pl.Float32(), 0.5),
        ("0.1::float8", pl.Float64(), 0.1),
        ("true", pl.Boolean(), True),
        ("date '2024-02-29'", pl.Date(), date(2024, 2, 29)),
        ("timestamptz '2024-07-01 09:30 America/New_York'", pl.Datetime("us", "UTC"), MOMENT),
        ("timestamp '2024-07-01 13:30'", pl.Datetime("us"), MOMENT.replace(tzinfo=None)),
        ("'x'::text", pl.String(), "x"),
        ("'x'::varchar(3)", pl.String(), "x"),
        ("""'{"a": [1]}'::jsonb""", pl.String(), '{"a": [1]}'),
        ("1.5::numeric(20,2)", pl.Decimal(38, 2), Decimal("1.50")),
        ("sum(1.25)", pl.Decimal(38, 2), Decimal("1.25")),
        ("interval '1 day'", pl.String(), "1 day, 0:00:00"),
    ],
)
def test_query_types(shared_database: Database, expression: str, dtype: pl.DataType, value: object) -> None:
    found = shared_database.query(f"SELECT {expression} AS found")
    assert (found.schema, found.rows()) == ({"found": dtype}, [(value,)])
    nothing = shared_database.query(f"SELECT * FROM (SELECT {expression} AS found) AS q WHERE false")
    assert nothing.schema["found"] == (pl.Decimal(38, 0) if expression == "sum(1.25)" else dtype)
    null = shared_database.query(f"SELECT nullif({expression}, {expression}) AS found")
    assert null["found"].to_list() == [None]


def test_query_of_sums_takes_the_largest_scale(shared_database: Database) -> None:
    found = shared_database.query("SELECT v FROM (VALUES (1::numeric), (NULL), (-0.125), (1e3)) AS given(v)")
    assert found.schema == {"v": pl.Decimal(38, 3)}
    assert found["v"].to_list() == [Decimal(1), None, Decimal("-0.125"), Decimal(1000)]


def test_the_reading_connection_is_kept_and_renewed(database: Database, prices: pl.DataFrame) -> None:
    def reading_backends() -> list[int]:
        with psycopg.connect(database.url) as connection:
            found = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            return [pid for (pid,) in found]

    database.close()
    for _ in range(3):
        database.read(tables.daily_prices)
    (kept,) = reading_backends()
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(%s, 5000)", (kept,))
    assert database.read(tables.daily_prices).height == prices.height
    (renewed,) = reading_backends()
    assert renewed != kept
    # a mistake in a statement is not repaired by connecting again, and does no harm to the next read
    with pytest.raises(StorageError, match="no_such_column"):
        database.read(tables.daily_prices, where="no_such_column = 1")
    assert database.read(tables.daily_prices).height == prices.height
    database.close()
    assert reading_backends() == []


@pytest.mark.parametrize("kept", [True, False], ids=["kept connection", "new connection"])
def test_a_connection_that_breaks_half_way(database: Database, prices: pl.DataFrame, kept: bool) -> None:
    """A kept connection may have belonged to an earlier server, so the read starts again; a new one may not."""

    def break_reading() -> None:
        asleep = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
        with psycopg.connect(database.url, autocommit=True) as connection:
            while (found := connection.execute(asleep).fetchone()) is None:
                pass
            connection.execute("SELECT pg_terminate_backend(%s)", found)

    if kept:
        database.read(tables.daily_prices)
    breaker = threading.Thread(target=break_reading)
    breaker.start()
    slowly = {"where": "(SELECT true FROM pg_sleep(0.5))"}
    if kept:
        assert database.read(tables.daily_prices, **slowly).height == prices.height
    else:
        with pytest.raises(ServerUnreachableError, match="terminating connection"):
            database.read(tables.daily_prices, **slowly)
    breaker.join()
    assert database.read(tables.daily_prices).height == prices.height


def test_threads_share_one_database(database: Database, prices: pl.DataFrame) -> None:
    ready = threading.Barrier(6)

    def read(day: date) -> pl.DataFrame:
        ready.wait()
        return database.read(tables.daily_prices, where="session_date = %s", params=(day,), order_by="symbol")

    with ThreadPoolExecutor(6) as pool:
        frames = list(pool.map(read, DAYS * 2))
    for day, frame in zip(DAYS * 2, frames, strict=True):
        assert_frame_equal(frame, prices.filter(pl.col("session_date") == day))


def test_connect_commits_or_rolls_back(database: Database) -> None:
    insert = "INSERT INTO sigmasight.tags (name, kind) VALUES (%s, 'regular')"
    with database.connect() as connection:
        connection.execute(insert, ("kept",))
        assert connection.execute("SHOW transaction_isolation").fetchone() == ("read committed",)
    for statement, problem in (("SELECT 1 / 0", "division by zero"), (insert, "tags_name_key")):

        def lose(statement: str = statement) -> None:
            with database.connect() as connection:
                connection.execute(insert, ("lost",))
                connection.execute(statement, ("kept",) if "%s" in statement else None)

        with pytest.raises(StorageError, match=problem):
            lose()
    assert database.read(tables.tags)["name"].to_list() == ["kept"]


def unusable(url: str) -> Sequence[tuple[str, type[StorageError]]]:
    own = psycopg.conninfo.conninfo_to_dict(url)
    return [
        (url.replace(str(own["password"]), "wr0ng"), WrongPasswordError),
        ("postgresql://u:wr0ng@127.0.0.1:9/risk", ServerUnreachableError),
        ("postgresql://u:wr0ng@127.0.0.1:port/risk", InvalidUrlError),
        ("postgresql+psycopg2://u:wr0ng@127.0.0.1:9/risk", InvalidUrlError),
        (url, SchemaNotCreatedError),
    ]


def test_errors_are_explained_without_the_password(database_url: str) -> None:
    password = str(psycopg.conninfo.conninfo_to_dict(database_url)["password"])
    for url, kind in unusable(database_url):
        database = Database(url)
        with pytest.raises(kind) as of_read:
            database.read(tables.daily_prices)
        with pytest.raises(kind) as of_query:
            database.query("SELECT 1 FROM sigmasight.daily_prices")
        said = f"{of_read.value} {of_query.value} {database!r}"
        assert "wr0ng" not in said
        assert password not in said


@pytest.mark.parametrize(
    ("url", "timeout"),
    [
        ("postgresql://h/d", str(CONNECT_TIMEOUT_SECONDS)),
        ("postgresql://h/d?connect_timeout=3", "3"),
        ("host=h connect_timeout=3", "3"),
    ],
)
def test_a_url_may_carry_its_own_timeout(url: str, timeout: str) -> None:
    assert psycopg.conninfo.conninfo_to_dict(connection_string(url))["connect_timeout"] == timeout
