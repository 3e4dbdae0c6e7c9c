"""Tables that are stored nowhere: their views have rows of what is computed, and of nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.audit import Connection
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline_tests.storage.audit_world import D5, DAYS, FACTORS, SCENARIOS, place, planted, world

OF_EXPOSURES = ("position_factor_exposures", "position_interest_rate_betas")
AT_D5 = f"session_date = '{D5}' AND portfolio_id = 1"


@pytest.fixture(scope="module")
def database(server: EmbeddedServer) -> Iterator[Database]:
    with world(server) as opened:
        yield opened


def count(connection: Connection, name: str, where: str = "true") -> int:
    row = connection.execute(f"SELECT count(*) FROM staging.{name} WHERE {where}".encode()).fetchone()
    assert row is not None
    return int(row[0])


PER_POSITION = {
    "position_factor_exposures": len(FACTORS),
    "position_interest_rate_betas": 1,
    "stress_position_results": len(SCENARIOS),
}


def test_every_held_position_has_its_rows_on_every_session(database: Database) -> None:
    assert set(PER_POSITION) == {str(table.name) for table in tables.every_table() if tables.is_derived(table)}
    with planted(database) as connection:
        for name, rows in PER_POSITION.items():
            assert count(connection, name) == 2 * len(DAYS) * rows, name


@pytest.mark.parametrize("name", OF_EXPOSURES)
def test_before_exposures_are_computed_there_is_none_of_a_position(database: Database, name: str) -> None:
    with planted(database, f"DELETE FROM portfolio_factor_exposures WHERE {AT_D5}") as connection:
        assert count(connection, name, AT_D5) == 0
        assert count(connection, name) == (2 * len(DAYS) - 1) * PER_POSITION[name]


def test_before_scenarios_are_computed_there_is_none_of_a_position(database: Database) -> None:
    name = "stress_position_results"
    with planted(database, f"DELETE FROM stress_test_results WHERE {AT_D5}") as connection:
        assert count(connection, name, AT_D5) == 0
        assert count(connection, name) == (2 * len(DAYS) - 1) * len(SCENARIOS)
    only = f"UPDATE stress_test_results SET status[{place('scenario', 'crash')}] = NULL WHERE {AT_D5}"
    with planted(database, only) as connection:
        assert count(connection, name, f"{AT_D5} AND scenario_id = 'crash'") == 0
        assert count(connection, name, f"{AT_D5} AND scenario_id = 'rally'") == 1


def test_what_was_sold_has_no_row(database: Database) -> None:
    sold = f"UPDATE position_values SET price_source = 'exit' WHERE {AT_D5}"
    with planted(database, sold) as connection:
        assert [count(connection, name, AT_D5) for name in PER_POSITION] == [0, 0, 0]


def test_a_private_position_is_outside_the_model(database: Database) -> None:
    with planted(database, "UPDATE positions SET investment_class = 'PRIVATE' WHERE position_id = 1") as connection:
        assert count(connection, "position_factor_exposures", f"{AT_D5} AND exposure_dollar = 0") == len(FACTORS)
        assert count(connection, "position_interest_rate_betas", f"{AT_D5} AND quality = 'private'") == 1
        assert count(connection, "stress_position_results", AT_D5) == 0
