"""Which changes of inputs are outstanding, and the runs that follow them, on rows written by hand."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl
import psycopg
import pytest

from sigmasight_pipeline import sessions
from sigmasight_pipeline.assets import factors, risk, snapshot_chain, valuation
from sigmasight_pipeline.assets.session_asset import SessionAsset
from sigmasight_pipeline.market_data.files import FilesSource
from sigmasight_pipeline.operations import backfills, history, jobs, rereading, restatement
from sigmasight_pipeline.operations.launcher import Chunk
from sigmasight_pipeline.settings import Settings
from sigmasight_pipeline.storage import backfills as backfill_rows
from sigmasight_pipeline.storage import changes, schema, tables
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline.storage.partitions import append_rows, replace_sessions
from sigmasight_pipeline_tests.calculations.table_rows import frame, option, portfolio, stock
from sigmasight_pipeline_tests.conftest import drop_database
from sigmasight_pipeline_tests.storage.sample_rows import rows

CALENDAR = sessions.calendar()
DAYS = CALENDAR.between(date(2024, 1, 2), date(2024, 1, 31))
ONE, TWO = DAYS[5], DAYS[10]
"""Inceptions of the two books."""
NEWEST = DAYS[-2]
BEFORE = DAYS[0]

SETTINGS = Settings(first_session=DAYS[0], gap_attempts=2).model_copy(update={"regression_window": 3})
"""A window of three sessions: a close is seen by those of its own session and of four more."""

NOW = datetime(2024, 2, 1, 1, tzinfo=UTC)
COMPUTED = NOW - timedelta(hours=2)
"""When everything was computed; changes are an hour later."""
CHANGED = NOW - timedelta(hours=1)

MARKET = set(changes.DAY)
EVERYTHING = set(jobs.asset_names("daily")) - MARKET


@pytest.fixture(scope="module")
def migrated_url(server: EmbeddedServer) -> Iterator[str]:
    name = f"test_{uuid4().hex}"
    schema.create_database_if_missing(server.url(name))
    schema.upgrade(server.url(name))
    database = Database(server.url(name))
    with database.connect() as connection:
        for table, written in (
            (tables.portfolios, [portfolio(1, ONE), portfolio(2, TWO, benchmark_symbol="QQQ"), _inactive()]),
            (tables.positions, [
                stock(1, "AAA", 1, 1, ONE), option(2, "BBB240621C00100000", 1, 1, ONE), stock(3, "CCC", 1, 1, TWO)
            ]),
            (tables.factor_definitions, [
                {"factor": "Market", "name": "Market", "kind": "style", "proxy_symbol": "SPY", "display_order": 1,
                 "active": True}
            ]),
            (
                tables.instruments,
                [
                    {"symbol": "AAA", "kind": "stock", "active": True, "replaced_by": None},
                    {"symbol": "CCC", "kind": "stock", "active": True, "replaced_by": "DDD"},
                ],
            ),
        ):  # fmt: skip
            _insert(connection, table, frame(table, written))
        connection.execute("UPDATE sigmasight.positions SET portfolio_id = 2 WHERE symbol = 'CCC'")
    database.close()
    yield server.url(name)
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        drop_database(connection, name)


def _inactive() -> dict[str, Any]:
    return portfolio(3, ONE, active=False)


def _insert(connection: Any, table: Any, written: pl.DataFrame) -> None:
    names = written.columns
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO sigmasight.{table.name} ({', '.join(names)}) OVERRIDING SYSTEM VALUE "
            f"VALUES ({', '.join(['%s'] * len(names))})",
            written.rows(),
        )


@pytest.fixture
def database(migrated_url: str) -> Iterator[Database]:
    """Both books computed from their inception to NEWEST, returns of every session, as no audit knows of."""
    opened = Database(migrated_url)
    with opened.connect() as connection:
        for name in (
            "input_changes", "backfill_progress", "calculation_audit", "portfolio_snapshots", "position_values",
            "daily_returns", "symbol_factor_betas", "daily_prices", "stress_scenario_diagnostics",
        ):  # fmt: skip
            connection.execute(f"DELETE FROM sigmasight.{name}")
    written = {"computed_at": COMPUTED}
    for key, first in ((1, ONE), (2, TWO)):
        days = CALENDAR.between(first, NEWEST)
        own = written | {"portfolio_id": key}
        for table in (tables.portfolio_snapshots, tables.position_values):
            made = rows(table, days, 1, values=own | ({"position_id": key} if table is tables.position_values else {}))
            replace_sessions(opened, [(table, made)], days, portfolio_ids=[key])
    made = pl.concat(
        [rows(tables.daily_returns, DAYS, 1, values=written | {"symbol": s}) for s in ("AAA", "CCC", "ZZZ")]
    )
    replace_sessions(opened, [(tables.daily_returns, made)], DAYS)
    yield opened
    opened.close()


def change(database: Database, table: str, day: date, *, symbol: str | None = None, owner: int | None = None) -> None:
    with database.connect() as connection:
        append_rows(
            connection,
            tables.input_changes,
            frame(
                tables.input_changes,
                [{
                    "table_name": table, "session_date": day, "portfolio_id": owner, "symbol": symbol,
                    "kind": "revised", "detail": "x", "by_hand": True, "changed_at": CHANGED,
                }],
            ).drop("change_id"),
        )  # fmt: skip


def outstanding(database: Database) -> list[tuple[str, date, int]]:
    found = restatement.outstanding(database, SETTINGS, CALENDAR)
    return found.rows.select("table_name", "session_date", "portfolio_id").rows()


def asked(database: Database, busy: str | None = None) -> tuple[str, tuple[Chunk, ...]]:
    answer = restatement.ask(database, SETTINGS, CALENDAR, busy=busy, now=NOW)
    found = [b for b in backfills.open_requests(database) if b.backfill_id == answer.backfill_id]
    return answer.sentence, found[0].chunks if found else ()


def told(chunks: Sequence[Chunk]) -> list[tuple[date | None, date | None, tuple[str, ...], set[str]]]:
    return [(chunk.first, chunk.last, chunk.portfolios, set(chunk.assets)) for chunk in chunks]


EVERYBODY = restatement.EVERYBODY
D = DAYS[12]
"""A session both books have."""

CONCERNED = [
    # table, session, symbol, portfolio; outstanding for
    ("daily_prices", D, "AAA", None, [EVERYBODY, 1]),
    ("daily_prices", D, "BBB", None, [1]),  # an underlying, of which no return is stored
    ("daily_prices", D, "DDD", None, [2]),  # continues what is held
    ("daily_prices", D, "SPY", None, [1, 2]),  # a proxy, and the benchmark of one of them
    ("daily_prices", D, "QQQ", None, [2]),
    ("daily_prices", D, "ZZZ", None, [EVERYBODY]),  # nobody's
    ("daily_prices", D, "YYY", None, []),
    ("daily_prices", D, None, None, [1, 2]),
    ("daily_prices", DAYS[7], "CCC", None, [EVERYBODY, 2]),  # before the inception, and inside the window
    ("daily_prices", DAYS[5], "CCC", None, [EVERYBODY]),  # before the window
    ("corporate_actions", DAYS[5], "CCC", None, [EVERYBODY, 2]),  # a position may be older than its book
    ("daily_prices", DAYS[-1], "AAA", None, []),  # its session is still to be computed
    ("option_prices", D, "BBB240621C00050000", None, [1]),  # another name of a split contract
    ("option_prices", D, "CCC240621C00050000", None, [2]),
    ("treasury_yields", D, None, None, [1, 2]),
    ("positions", D, "AAA", 1, [1]),
    ("position_marks", D, "PRIV", 2, [2]),
    ("portfolio_cash_flows", D, None, 2, [2]),
    ("positions", D, "AAA", 3, []),  # a book nobody computes
    ("portfolios", D, None, 1, [1]),  # its closing was moved to the session before
    ("position_tags", D, "AAA", 2, [2]),
    ("tags", D, None, 1, [1]),
    ("instruments", D, None, 1, []),  # no input that is followed
]


@pytest.mark.parametrize(("table", "day", "symbol", "owner", "expected"), CONCERNED)
def test_a_change_is_outstanding_for_whom_it_concerns(
    database: Database, table: str, day: date, symbol: str | None, owner: int | None, expected: list[int]
) -> None:
    change(database, table, day, symbol=symbol, owner=owner)
    assert outstanding(database) == [(table, day, key) for key in expected]


def renew(database: Database, table: str, where: str, moment: datetime = NOW) -> None:
    with database.connect() as connection:
        connection.execute(f"UPDATE sigmasight.{table} SET computed_at = %s WHERE {where}".encode(), (moment,))


def test_results_computed_since_settle_it_and_one_older_is_enough_to_leave_it_open(database: Database) -> None:
    change(database, "daily_prices", D, symbol="AAA")
    for table in ("portfolio_snapshots", "position_values", "daily_returns"):
        assert outstanding(database)
        renew(database, table, f"session_date >= '{D}'")
    assert outstanding(database) == []
    renew(database, "position_values", f"session_date = '{NEWEST}'", COMPUTED)
    assert outstanding(database) == [("daily_prices", D, 1)], "snapshots may have been continued without it"
    renew(database, "position_values", "true")
    renew(database, "daily_returns", f"symbol = 'AAA' AND session_date = '{DAYS[13]}'", COMPUTED)
    assert outstanding(database) == [("daily_prices", D, EVERYBODY)], "the return of the next session"
    renew(database, "daily_returns", f"symbol = 'AAA' AND session_date <= '{DAYS[13]}'")
    renew(database, "daily_returns", f"session_date > '{DAYS[13]}'", COMPUTED)
    assert outstanding(database) == []
    betas = rows(tables.symbol_factor_betas, [DAYS[16], DAYS[17]], 1, values={"symbol": "AAA", "computed_at": COMPUTED})
    replace_sessions(
        database, [(tables.symbol_factor_betas, betas.filter(pl.col("session_date") == DAYS[17]))], [DAYS[17]]
    )
    assert outstanding(database) == [], "the window has left the session behind"
    replace_sessions(
        database, [(tables.symbol_factor_betas, betas.filter(pl.col("session_date") == DAYS[16]))], [DAYS[16]]
    )
    assert outstanding(database) == [("daily_prices", D, EVERYBODY)]


def test_what_the_audit_knows_wins_over_the_stamps_of_values(database: Database) -> None:
    change(database, "portfolio_cash_flows", D, owner=1)
    for table in ("portfolio_snapshots", "position_values"):
        renew(database, table, f"session_date < '{NEWEST}'")
    audit = rows(tables.calculation_audit, [NEWEST], 1, values={"portfolio_id": 1, "oldest_computed_at": COMPUTED})
    # values were not computed anew, and need not be: no flow enters them
    engines = {"position_values": COMPUTED, "portfolio_snapshots": NOW, "stress_test_results": COMPUTED}
    assert outstanding(database)

    def write(**moments: datetime) -> None:
        made = [
            audit.with_columns(engine=pl.lit(name), oldest_computed_at=pl.lit(moment).cast(pl.Datetime("us", "UTC")))
            for name, moment in moments.items()
        ]
        replace_sessions(database, [(tables.calculation_audit, pl.concat(made))], [NEWEST])

    write(**engines)
    assert outstanding(database) == [("portfolio_cash_flows", D, 1)], "a scenario is older"
    write(**engines | {"stress_test_results": NOW})
    assert outstanding(database) == []


def test_declared_reads_are_those_a_change_is_followed_through() -> None:
    declared = [
        value for module in (valuation, factors, risk) for value in vars(module).values()
        if isinstance(value, SessionAsset)
    ]  # fmt: skip
    assert len(declared) > 10
    snapshots = {"portfolio_snapshots": snapshot_chain.READS}
    reads = {asset.name: asset.reads for asset in declared} | snapshots
    for table in (*changes.DAY, *restatement.READ_BY):
        readers = {name for name, own in reads.items() if any(read.table.name == table for read in own.values())}
        assert readers, table
        assert readers <= set(restatement.dependents(table)) | {"daily_returns"}, table
    assert "position_values" not in restatement.dependents("portfolio_cash_flows")
    assert not set(restatement.dependents("positions")) & (MARKET | {"daily_returns", "symbol_factor_betas"})
    assert not set(restatement.dependents("daily_prices")) & MARKET


def test_a_price_of_one_book_is_followed_for_it_from_its_session_to_the_newest(database: Database) -> None:
    change(database, "daily_prices", D, symbol="AAA")
    sentence, chunks = asked(database)
    assert told(chunks) == [(D, NEWEST, ("book-1",), EVERYTHING)]
    assert chunks[0].trigger == "restatement"
    assert chunks[0].session_count == len(CALENDAR.between(D, NEWEST))
    assert f"daily_prices {D} AAA revised: x; asked for {D} to {NEWEST}" in sentence
    (request,) = backfills.attempts(database, "")
    assert request.request_key.startswith("restatement:")
    assert request.request_key.endswith(f":{D}:{NEWEST}:1")


def test_before_the_first_values_only_returns_are_renewed(database: Database) -> None:
    change(database, "daily_prices", DAYS[3], symbol="AAA")
    assert told(asked(database)[1]) == [
        (DAYS[3], DAYS[4], (), {"daily_returns"}),
        (ONE, NEWEST, ("book-1",), EVERYTHING),
    ]


def test_a_symbol_nobody_holds_moves_what_is_computed_by_symbol(database: Database) -> None:
    change(database, "daily_prices", D, symbol="ZZZ")
    ((_, _, portfolios, assets),) = told(asked(database)[1])
    assert portfolios == ()
    assert assets - {"calculation_audit"} == {"daily_returns", "symbol_factor_betas", "factor_correlations"}


def test_changes_of_several_books_are_grouped_by_where_they_begin(database: Database) -> None:
    change(database, "positions", DAYS[14], owner=2)
    change(database, "portfolio_cash_flows", DAYS[16], owner=2)
    change(database, "positions", DAYS[14], owner=1)
    values, audit = set(restatement.dependents("positions")), EVERYTHING & {"calculation_audit"}
    assert told(asked(database)[1]) == [(DAYS[14], NEWEST, (), values | audit)]


def test_what_the_market_covers_is_not_run_twice(database: Database) -> None:
    change(database, "treasury_yields", DAYS[14])
    change(database, "positions", DAYS[15], owner=2)  # covered
    change(database, "positions", DAYS[13], owner=1)  # begins earlier
    found = restatement.outstanding(database, SETTINGS, CALENDAR)
    chunks = restatement.plan(database, SETTINGS, CALENDAR, found)
    assert [(chunk.first, chunk.portfolios) for chunk in chunks] == [(DAYS[13], ("book-1",)), (DAYS[14], ())]


def test_a_long_range_is_cut_and_sessions_before_the_installation_left_out(database: Database) -> None:
    change(database, "corporate_actions", date(2023, 12, 1), symbol="AAA")
    settings = SETTINGS.model_copy(update={"max_sessions_per_run": 10})
    chunks = restatement.plan(database, settings, CALENDAR, restatement.outstanding(database, settings, CALENDAR))
    assert [(chunk.first, chunk.last) for chunk in chunks] == [
        (DAYS[0], DAYS[4]),
        (DAYS[5], DAYS[14]),
        (DAYS[15], NEWEST),
    ]


def test_it_waits_asks_once_and_gives_up(database: Database) -> None:
    change(database, "daily_prices", D, symbol="AAA")
    assert asked(database, busy="run abc of daily")[0].endswith("when this has ended: run abc of daily")
    assert backfills.attempts(database, "") == []
    for attempt in (1, 2):
        sentence, chunks = asked(database)
        assert chunks, sentence
        (request,) = backfills.open_requests(database)
        assert asked(database)[0].endswith(f"when this has ended: {request}")
        assert request.request_key.endswith(f":{attempt}")
        backfill_rows.fail(database, request.backfill_id, {"message": "no such table"}, NOW)
    for _ in range(2):
        sentence, chunks = asked(database)
        assert not chunks
        assert "given up after 2 attempts: no such table" in sentence
    assert len(backfills.attempts(database, "")) == 2
    change(database, "daily_prices", D, symbol="AAA")
    assert asked(database)[1], "a new change is a new reason"


def test_nothing_computed_needs_no_run(database: Database) -> None:
    assert restatement.ask(database, SETTINGS, CALENDAR, busy="x", now=NOW).settled
    with database.connect() as connection:
        for name in ("portfolio_snapshots", "position_values"):
            connection.execute(f"DELETE FROM sigmasight.{name}")
    change(database, "daily_prices", D, symbol="AAA")
    # returns alone: no book has been computed
    assert told(asked(database)[1]) == [(D, DAYS[-1], (), {"daily_returns"})]


def source(folder: Path, closes: dict[date, int], changed_at: datetime = CHANGED) -> FilesSource:
    """The files source on prices.csv with these closes, written at `changed_at`."""
    path = folder / "prices.csv"
    path.write_text("\n".join(["symbol,date,close", *(f"AAA,{day},{close}" for day, close in closes.items())]) + "\n")
    os.utime(path, (changed_at.timestamp(), changed_at.timestamp()))
    return FilesSource(folder, CALENDAR)


STORED = CALENDAR.between(date(2024, 1, 30), date(2024, 2, 5))


def store_prices(database: Database) -> None:
    replace_sessions(database, [(tables.daily_prices, rows(tables.daily_prices, STORED, 1))], STORED)


def test_a_longer_look_back_renews_the_first_return_it_makes_possible(database: Database, tmp_path: Path) -> None:
    """Else the prices it adds would be changes that nothing follows."""
    store_prices(database)
    settings = SETTINGS.model_copy(update={"first_session": date(2023, 12, 1), "regression_window": 20})
    every = CALENDAR.between(settings.first_session, STORED[-1])
    files = source(tmp_path, dict.fromkeys(every, 1))
    chunks = history.plan_history(database, settings, files, CALENDAR, first=STORED[3], last=STORED[-1])
    assert [(chunk.job, chunk.first, chunk.last) for chunk in chunks] == [
        # the stored sessions before the range have prices and no returns: they lack something too
        ("market_data", CALENDAR.offset(STORED[3], -21), STORED[2]),
        ("daily", STORED[3], STORED[-1]),
    ]


def test_a_source_that_did_not_change_is_left_alone(database: Database, tmp_path: Path) -> None:
    closes = {STORED[0]: 1, STORED[-1]: 2}
    files = source(tmp_path, closes)

    def look(known: Mapping[str, str] | None, last_read: datetime | None) -> rereading.Looked:
        return rereading.look(database, SETTINGS, files, CALENDAR, known=known, last_read=last_read, busy=None, now=NOW)

    contents = files.contents()
    untouched = rereading.Looked(contents)
    assert look({}, CHANGED) == untouched, "nothing is stored"
    store_prices(database)
    assert look(contents, COMPUTED) == untouched
    assert look(None, None) == untouched, "never read"
    assert look(None, CHANGED) == untouched, "not changed since"
    longer = source(tmp_path, closes | {date(2024, 3, 1): 3})
    assert rereading.look(
        database, SETTINGS, longer, CALENDAR, known=contents, last_read=None, busy=None, now=NOW
    ) == rereading.Looked(longer.contents()), "March is not stored yet"
    assert backfills.attempts(database, "") == []
    (tmp_path / "prices.csv").write_text("symbol,date\n")
    looked = look(contents, None)
    assert looked.contents == contents
    assert "the files source cannot be read: " in (looked.sentence or "")


def test_a_source_is_read_again_where_its_months_changed(database: Database, tmp_path: Path) -> None:
    store_prices(database)
    old = source(tmp_path, {STORED[0]: 1, STORED[-1]: 2}).contents()
    files = source(tmp_path, {STORED[0]: 1, STORED[-1]: 3})
    february = STORED[2]

    def look(busy: str | None = None, known: Mapping[str, str] | None = old) -> tuple[bool, str]:
        """Whether the change is done with, and what is said of it."""
        looked = rereading.look(
            database, SETTINGS, files, CALENDAR, known=known, last_read=COMPUTED, busy=busy, now=NOW
        )
        assert looked.contents == files.contents() or looked.contents == (known or {})
        return looked.contents == files.contents(), looked.sentence or ""

    what = "the files source changed in 1 month(s) from 2024-02 on"
    assert look(busy="run abc of daily") == (False, f"{what}; looked at again when this has ended: run abc of daily")
    for _ in range(2):
        assert look() == (False, f"{what}; asked for {february} to {STORED[-1]} to be read again")
        (request,) = backfills.open_requests(database)
        assert [(c.job, c.first, c.last, c.assets) for c in request.chunks] == [
            ("market_data", february, STORED[-1], ())
        ]
        assert look() == (False, f"{what}; looked at again when this has ended: {request}")
        backfill_rows.fail(database, request.backfill_id, {"message": "no such folder"}, NOW)
    assert look() == (True, f"{what}; given up after 2 attempts: no such folder")
    # the first look of all, at files that were changed after they were last read
    done, said = look(known=None)
    assert (done, said.endswith(f"asked for {STORED[0]} to {STORED[-1]} to be read again")) == (False, True)
    (request,) = backfills.open_requests(database)
    backfill_rows.advance(
        database, request.backfill_id, done_runs=1, sessions=request.total_sessions, last=True, now=NOW
    )
    done, said = look(known={})
    assert (done, said.endswith(f"{STORED[0]} to {STORED[-1]} were read again")) == (True, True)
