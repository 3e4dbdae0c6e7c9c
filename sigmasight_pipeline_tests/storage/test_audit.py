"""What the audit counts, on a small world whose counts are known; and that it looks at every table and every key."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import psycopg
import pytest

from sigmasight_pipeline.storage import audit, audit_integrity, tables, verdicts
from sigmasight_pipeline.storage.audit import Scope
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline.storage.errors import StorageError
from sigmasight_pipeline_tests.storage.audit_world import DAYS, place, planted, world

LAST = DAYS[-1]
MARKET, RATES = place("factor", "Market"), place("factor", "Interest_Rate")
COUNTS = (
    *("greeks", "greeks_fallback", "greeks_none", "betas", "betas_none"),
    *("rate_betas", "rate_betas_none", "factors_ok", "factors"),
)


@pytest.fixture(scope="module")
def database(server: EmbeddedServer) -> Iterator[Database]:
    with world(server) as opened:
        yield opened


def test_coverage_counts_positions_with_and_without(database: Database) -> None:
    with planted(
        database,
        f"UPDATE position_greeks SET status = 'fallback' WHERE session_date = '{LAST}' AND position_id = 1",
        f"UPDATE position_greeks SET status = 'expired', risk_symbol = 'SPY' WHERE session_date = '{LAST}' "
        "AND position_id = 2",
        # of one symbol no beta, of the other none on yields
        f"UPDATE symbol_factor_betas SET quality[{MARKET}] = 'no_variance', quality[{RATES}] = 'no_variance' "
        "WHERE symbol = 'AAA'",
        f"UPDATE symbol_factor_betas SET quality[{RATES}] = 'no_variance' WHERE symbol = 'SPY'",
        f"UPDATE portfolio_factor_exposures SET status[{MARKET}] = 'low_coverage' WHERE portfolio_id = 1",
    ) as connection:
        book, other = audit.coverage(connection, Scope())
    assert book | dict.fromkeys(COUNTS) == {
        "portfolio": "book",
        "session": LAST,
        "positions": 1,
        "private": 0,
        **dict.fromkeys(COUNTS),
    }
    assert [book[name] for name in COUNTS] == [0, 1, 0, 0, 1, 0, 1, 0, 1]
    assert [other[name] for name in COUNTS] == [0, 0, 1, 1, 0, 0, 1, 1, 1]


def test_a_private_position_needs_no_greeks_and_no_beta(database: Database) -> None:
    private = "UPDATE positions SET investment_class = 'PRIVATE' WHERE position_id = 1"
    with planted(database, private, "DELETE FROM position_greeks WHERE position_id = 1") as connection:
        book, _ = audit.coverage(connection, Scope())
    assert book["private"] == 1
    assert [book[name] for name in ("greeks_none", "betas_none", "rate_betas_none")] == [0, 0, 0]


def test_betas_tell_their_observations(database: Database) -> None:
    with planted(
        database,
        f"UPDATE symbol_factor_betas SET n_obs[{MARKET}] = 60, r_squared[{MARKET}] = 0.25 "
        f"WHERE session_date = '{LAST}' AND symbol = 'AAA'",
        f"UPDATE symbol_factor_betas SET n_obs[{MARKET}] = 3, quality[{MARKET}] = 'insufficient_history' "
        f"WHERE session_date = '{LAST}' AND symbol = 'SPY'",
    ) as connection:
        market, rates = audit.betas(connection, Scope())
    assert (rates["factor"], rates["symbols"], rates["ok"]) == ("Interest_Rate", 2, 2)
    assert (market["session"], market["symbols"], market["ok"]) == (LAST, 2, 1)
    assert (market["smallest_n_obs"], market["median_r_squared"]) == (60, 0.25)


def test_prices_between_a_symbols_first_and_last(database: Database) -> None:
    with planted(
        database,
        "DELETE FROM daily_prices WHERE symbol = 'AAA' AND session_date IN ('2024-01-04', '2024-01-08', '2024-01-02')",
    ) as connection:
        first, second = audit.prices(connection, Scope())
        assert (first["symbol"], first["first"], first["rows"], first["missing"]) == ("AAA", date(2024, 1, 3), 7, 2)
        assert (second["symbol"], second["missing"]) == ("SPY", 0)
        assert audit.priced_sessions(connection, Scope()) == 10
        assert audit.sessions_between(connection, DAYS[0], LAST) == 9


def test_runs_and_their_errors(database: Database) -> None:
    insert = (
        "INSERT INTO batch_runs (run_id, job_name, trigger, status, ended_at, error_message) "
        "SELECT '{status}' || n, 'daily', 'schedule', '{status}', now(), {error} FROM generate_series(1, {times}) n"
    )
    with planted(
        database,
        insert.format(status="success", error="NULL", times=6),
        insert.format(status="failure", error="'no prices' || E'\\n' || n", times=3),
        insert.format(status="canceled", error="'by hand'", times=1),
    ) as connection:
        found = audit.runs(connection)
    assert [found[name] for name in ("runs", "succeeded", "failed", "canceled")] == [10, 6, 3, 1]
    assert [(row["error"], row["runs"]) for row in found["errors"]] == [("no prices", 3)]


def test_an_audit_sees_one_moment_and_writes_nothing(database: Database) -> None:
    with audit.one_moment(database) as connection:
        before = audit.instruments(connection)
        with psycopg.connect(database.url, autocommit=True) as other:
            other.execute("INSERT INTO sigmasight.instruments (symbol, kind, active) VALUES ('X', 'fund', true)")
        assert audit.instruments(connection) == before
    with psycopg.connect(database.url, autocommit=True) as other:
        other.execute("DELETE FROM sigmasight.instruments WHERE symbol = 'X'")
    with pytest.raises(StorageError, match="read-only"), audit.one_moment(database) as connection:
        connection.execute("DELETE FROM sigmasight.instruments")


def test_every_table_of_sessions_is_looked_at(database: Database) -> None:
    """A row of a day before the exchange's first session is found in each table there is, and owners are asked for."""
    looked_at = {str(table.name) for table in audit_integrity.SESSION_TABLES}
    results = {
        str(table.name)
        for table in tables.metadata.sorted_tables
        if {"session_date", "run_id", "computed_at"} <= set(table.columns.keys())
    }
    assert looked_at == results | {"daily_prices", "option_prices", "treasury_yields"}
    moved = [
        f"UPDATE {name} SET session_date = '2024-01-06' WHERE session_date = '{LAST}'"
        for name in ("portfolio_snapshots", "position_values", "daily_prices", "stress_test_results")
    ]
    with planted(database, *moved) as connection:
        found = audit_integrity.misplaced_rows(connection, Scope(), LAST)
    assert {(row["table_name"], row["problem"], row["rows"]) for row in found} == {
        ("portfolio_snapshots", "no_session", 2),
        ("position_values", "no_session", 2),
        ("daily_prices", "no_session", 2),
        ("stress_test_results", "no_session", 2),  # stored rows: one for both scenarios
    }


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        # a place nobody was given
        (
            f"UPDATE symbol_factor_betas SET quality = quality || 'ok'::text WHERE session_date = '{LAST}'",
            ("symbol_factor_betas", "factor", 2, "number 3"),
        ),
        # the number of a member is gone
        (
            "DELETE FROM array_members WHERE (dimension, member) = ('scenario', 'rally')",
            ("symbol_scenario_returns", "scenario_id", 10, "number 2"),
        ),
        # the member has a number and is defined no more
        (
            "DELETE FROM stress_test_scenarios WHERE scenario_id = 'rally'",
            ("symbol_scenario_returns", "scenario_id", 10, "rally"),
        ),
        (
            "DELETE FROM factor_definitions WHERE factor = 'Interest_Rate'",
            ("symbol_factor_betas", "factor", 20, "Interest_Rate"),
        ),
        # shocks are no table's: a number is enough
        (
            "DELETE FROM array_members WHERE dimension = 'shock'",
            ("market_risk_scenarios", "scenario", 20, "number 1"),
        ),
        # a matrix, by row and by column
        (
            "UPDATE factor_correlations SET status = ARRAY[['ok', NULL], [NULL, NULL], ['ok', NULL]]",
            ("factor_correlations", "factor_1", 10, "number 3"),
        ),
        (
            "UPDATE factor_correlations SET status = ARRAY[['ok', NULL, 'ok'], [NULL, NULL, NULL]]",
            ("factor_correlations", "factor_2", 10, "number 3"),
        ),
        # symbols stand in an array
        (
            f"UPDATE pairwise_correlations SET symbols[2] = 'GONE' WHERE session_date = '{LAST}' AND portfolio_id = 2",
            ("pairwise_correlations", "symbol_1", 1, "GONE"),
        ),
    ],
)
def test_what_arrays_hold_for_nobody_is_found(
    database: Database, statement: str, expected: tuple[str, str, int, str]
) -> None:
    with planted(database, statement) as connection:
        found = audit_integrity.misplaced_rows(connection, Scope(), LAST)
        nobody = Scope(portfolio_ids=(7,))
        of_nobody = audit_integrity.misplaced_rows(connection, nobody, LAST)
        before = audit_integrity.misplaced_rows(connection, Scope(last=date(2023, 12, 29)), LAST)
    told = [(row["table_name"], row["problem"], row["rows"], row["example"]) for row in found]
    assert expected in told
    owned = {"portfolio_id"} <= set(tables.named(expected[0]).columns.keys())
    assert (expected[:2] in [(row["table_name"], row["problem"]) for row in of_nobody]) is not owned
    assert before == []


def test_numbers_without_a_row_are_nobodys_fault(database: Database) -> None:
    """A member of a dimension that is defined no more and of which nothing is stored, and empty places of arrays."""
    with planted(
        database,
        "INSERT INTO array_members (dimension, number, member) VALUES ('factor', 3, 'Luck')",
        "UPDATE symbol_factor_betas SET quality = quality || NULL::text",
    ) as connection:
        assert audit_integrity.misplaced_rows(connection, Scope(), LAST) == []


def test_an_invalid_index_is_lost(database: Database) -> None:
    """What a build that was broken off leaves behind."""
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("SET search_path = sigmasight")
        connection.execute("ALTER TABLE tags DROP CONSTRAINT tags_name_key")
        connection.execute("INSERT INTO tags (name, kind) VALUES ('a', 'regular'), ('a', 'regular')")
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("CREATE UNIQUE INDEX CONCURRENTLY tags_name_key ON tags (name)")
        (lost,) = audit_integrity.lost_keys(connection)
        (repeated,) = audit_integrity.duplicates(connection, "tags", ["name"])
        connection.execute("DROP INDEX tags_name_key")
        connection.execute("DELETE FROM tags")
        connection.execute("ALTER TABLE tags ADD CONSTRAINT tags_name_key UNIQUE (name)")
        assert audit_integrity.lost_keys(connection) == []
    assert (lost["kind"], lost["name"], lost["state"]) == ("unique", "tags_name_key", "invalid")
    assert repeated["rows"] == 1


def test_an_index_under_another_name_serves(database: Database) -> None:
    with planted(database, "ALTER INDEX batch_runs_ended RENAME TO mine") as connection:
        assert audit_integrity.lost_keys(connection) == []
    with planted(
        database, "DROP INDEX batch_runs_ended", "CREATE INDEX part ON batch_runs (ended_at) WHERE status = 'x'"
    ) as connection:
        assert [row["name"] for row in audit_integrity.lost_keys(connection)] == ["batch_runs_ended"]


@pytest.fixture
def judged(database: Database) -> Iterator[Database]:
    """Verdicts: an ERROR that fails on one session, two WARN of which one fails on more, one passed since."""
    rows = [
        ("positions_ok", "a", 1, True, "ERROR"),
        ("nav", "a", 1, False, "ERROR"),
        ("wide", "a", 1, False, "WARN"),
        ("wide", "a", 2, False, "WARN"),
        ("narrow", "a", 2, False, "WARN"),
        ("put_right", "a", 1, False, "ERROR"),
        ("put_right", "b", 1, True, "ERROR"),
    ]
    with database.connect() as connection:
        for number, (check, run, day, passed, severity) in enumerate(rows):
            connection.execute(
                "INSERT INTO sigmasight.data_quality_results (session_date, asset, check_name, run_id, severity, "
                "passed, description, metadata, checked_at) VALUES (%s, 'portfolio_snapshots', %s, %s, %s, %s, %s, "
                "'{\"portfolio_ids\": [1]}', now() + %s * interval '1 s')",
                (DAYS[day], check, run, severity, passed, f"{check} of {DAYS[day]}", number),
            )
    yield database
    with database.connect() as connection:
        connection.execute("DELETE FROM sigmasight.data_quality_results")


def test_verdicts_that_stand_failing_first(judged: Database) -> None:
    found = verdicts.by_check(judged).to_dicts()
    assert [(row["check_name"], row["sessions_failing"], row["sessions_checked"]) for row in found] == [
        ("nav", 1, 1),
        ("wide", 2, 2),
        ("narrow", 1, 1),
        ("positions_ok", 0, 1),
        ("put_right", 0, 1),
    ]
    wide = found[1]
    assert (wide["first_failing"], wide["last_failing"], wide["portfolios"]) == (DAYS[1], DAYS[2], "book")
    assert wide["newest_finding"] == f"wide of {DAYS[2]}"
    assert verdicts.failed(judged)["check_name"].to_list() == ["nav", "wide", "wide", "narrow"]
    assert verdicts.by_check(judged, ("positions",)).is_empty()
