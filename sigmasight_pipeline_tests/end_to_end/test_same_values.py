"""The comparison of a database stored row by row with a packed one finds every kind of difference, and only those."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from sigmasight_pipeline.storage import ddl, tables
from sigmasight_pipeline.storage.copying import copy_rows
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline_tests.conftest import temporary_database
from sigmasight_pipeline_tests.end_to_end.same_values import JOURNALS, compare, main
from sigmasight_pipeline_tests.storage.audit_world import world


@pytest.fixture(scope="module")
def new(server: EmbeddedServer) -> Iterator[Database]:
    with world(server) as opened:
        yield opened


@pytest.fixture
def old(server: EmbeddedServer, new: Database) -> Iterator[str]:
    """The rows of `new` as they would be without packing: every long table is one."""
    with temporary_database(server) as url:
        with psycopg.connect(url) as connection:
            connection.execute(f"CREATE SCHEMA {tables.SCHEMA}".encode())
            for table in tables.every_table():
                if table is tables.array_members:
                    continue
                statement = ddl.create_table(table).replace(table.fullname, f"{tables.SCHEMA}.{table.name}")
                connection.execute(statement.encode())
                copy_rows(connection, sql.Identifier(tables.SCHEMA, str(table.name)), new.read(table))
        yield url


def changed(url: str, statement: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("SET search_path = sigmasight")
        assert connection.execute(statement.encode()).rowcount


def test_the_same_values_are_the_same(old: str, new: Database, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(old, new.url) == 0
    told = capsys.readouterr().out
    compared = {str(table.name) for table in tables.every_table()} - JOURNALS - {"array_members"}
    assert told.endswith(f"{len(compared)} table(s) compared, 0 different.\n")
    counts = {one.table: (one.old_rows, one.new_rows) for one in compare(old, new.url)}
    assert set(counts) == compared
    # derived, packed by two dimensions, packed as a triangle, and as it is
    assert counts["position_factor_exposures"] == counts["stress_test_results"] == (40, 40)
    assert counts["stress_position_results"] == (40, 40)
    assert counts["pairwise_correlations"] == (80, 80)
    assert counts["position_values"] == (20, 20)


@pytest.mark.parametrize(
    ("statement", "table", "told"),
    [
        (
            "UPDATE symbol_factor_betas SET beta = 1.5 WHERE symbol = 'AAA' AND factor = 'Market' "
            "AND session_date = '2024-01-05'",
            "symbol_factor_betas",
            "beta in 1 row(s): session_date 2024-01-05, symbol AAA, factor Market, beta 1.5, beta new",
        ),
        (
            "UPDATE pairwise_correlations SET correlation = NULL WHERE symbol_1 < symbol_2 AND portfolio_id = 1",
            "pairwise_correlations",
            "correlation in 10 row(s): session_date 2024-01-02, portfolio_id 1, symbol_1 AAA, symbol_2 SPY",
        ),
        (
            "DELETE FROM stress_position_results WHERE scenario_id = 'crash' AND position_id = 1",
            "stress_position_results",
            "10 row(s) only in the new one: session_date 2024-01-02, scenario_id crash, position_id 1; ",
        ),
        (
            "UPDATE position_values SET position_id = 7 WHERE position_id = 1 AND session_date = '2024-01-05'",
            "position_values",
            "1 row(s) only in the old one: session_date 2024-01-05, position_id 7",
        ),
        (
            "UPDATE portfolios SET name = name || ' Ltd' WHERE portfolio_id = 1",
            "portfolios",
            "name in 1 row(s): portfolio_id 1, name book Ltd, name new book",
        ),
    ],
)
def test_a_difference_is_found_and_shown(
    old: str, new: Database, statement: str, table: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    changed(old, statement)
    assert main(old, new.url) == 1
    shown = capsys.readouterr().out
    assert told in shown
    assert [one.table for one in compare(old, new.url) if one.differences] == [table]


def test_columns_and_tables_that_are_gone_or_of_another_type_are_told(old: str, new: Database) -> None:
    with psycopg.connect(old) as connection:
        connection.execute("ALTER TABLE sigmasight.pnl_attribution ADD COLUMN note text")
        connection.execute("ALTER TABLE sigmasight.pnl_attribution ALTER COLUMN pnl TYPE numeric(20,4)")
        connection.execute("CREATE TABLE sigmasight.forgotten (one int)")
    found = {one.table: one.differences for one in compare(old, new.url) if one.differences}
    assert found == {
        "forgotten": ("the table is not there",),
        "pnl_attribution": ("no column note", "pnl is numeric(20,2), it was numeric(20,4)"),
    }
    assert [one.table for one in compare(old, new.url, ["pnl_attribution"])] == ["pnl_attribution"]


def test_stamps_are_not_compared(old: str, new: Database) -> None:
    changed(old, "UPDATE symbol_factor_betas SET run_id = 'another', computed_at = now(), code_version = '9'")
    assert [one for one in compare(old, new.url) if one.differences] == []
