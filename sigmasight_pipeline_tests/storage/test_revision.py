"""The statements of a migration: none for the database this code makes, and such that they bring any other to it."""

from __future__ import annotations

import psycopg
import pytest

from sigmasight_pipeline.storage import revision, schema


@pytest.fixture
def url(database_url: str) -> str:
    schema.upgrade(database_url)
    return database_url


def test_the_baseline_is_the_registry(url: str) -> None:
    assert revision.difference(url) == []
    with psycopg.connect(url) as connection:  # nothing is left of the comparison
        names = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'revision%'").fetchall()
    assert names == []


@pytest.mark.parametrize(
    "change",
    [
        "DROP TABLE sigmasight.position_marks",
        "CREATE TABLE sigmasight.left_over (id bigint PRIMARY KEY)",
        "ALTER TABLE sigmasight.tags DROP COLUMN colour",
        "ALTER TABLE sigmasight.tags ADD COLUMN shade text NOT NULL DEFAULT 'dark'",
        "ALTER TABLE sigmasight.daily_prices ALTER COLUMN volume TYPE real",
        "ALTER TABLE sigmasight.daily_prices ALTER COLUMN close DROP NOT NULL",
        "ALTER TABLE sigmasight.positions ALTER COLUMN position_id DROP IDENTITY",
        "ALTER TABLE sigmasight.positions DROP CONSTRAINT positions_natural_key",
        "ALTER TABLE sigmasight.position_greeks DROP CONSTRAINT position_greeks_status_check, "
        "ADD CONSTRAINT position_greeks_status_check CHECK (status IN ('ok', 'fallback'))",
        "ALTER TABLE sigmasight.daily_prices DROP CONSTRAINT daily_prices_pkey",
        "DROP INDEX sigmasight.daily_prices_symbol_session",
        "CREATE INDEX by_source ON sigmasight.daily_prices (source)",
        "DROP INDEX sigmasight.data_quality_results_errors; CREATE INDEX data_quality_results_errors ON "
        "sigmasight.data_quality_results (checked_at) WHERE NOT passed",
        "DROP SCHEMA staging CASCADE; ALTER TABLE sigmasight.symbol_factor_betas ALTER COLUMN beta TYPE real[]",
    ],
)
def test_what_it_says_undoes_any_change(url: str, change: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(change.encode())
    statements = revision.difference(url)
    assert statements
    with psycopg.connect(url) as connection:
        for statement in statements:
            connection.execute(statement.encode())
    assert revision.difference(url) == []


def test_a_required_column_says_that_it_must_be_filled(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("ALTER TABLE sigmasight.tags DROP COLUMN kind")
    told = "\n".join(revision.difference(url))
    assert "-- fill sigmasight.tags.kind of the rows that are there" in told
    assert told.index("ADD COLUMN kind text") < told.index("-- fill") < told.index("tags_kind_check")
