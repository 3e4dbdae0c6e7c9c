"""The views of the schema ``staging``: those of this code, whatever was done to them, for the same readers."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import Column
from sqlalchemy.dialects import postgresql

from sigmasight_pipeline.storage import schema, staging, tables
from sigmasight_pipeline.storage.database import Database


def rows(database: Database, statement: str) -> list[tuple[Any, ...]]:
    with database.connect() as connection:
        return connection.execute(statement.encode()).fetchall()


def kind(column: Column[Any]) -> str:
    """The column's type as PostgreSQL spells it."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped
    return str(column.type.compile(dialect)).lower().replace(", ", ",")


def views(database: Database) -> dict[str, dict[str, tuple[str, str | None]]]:
    """Columns of every view by its name, in order, each with type and comment; under '' the view's own comment."""
    found: dict[str, dict[str, tuple[str, str | None]]] = {}
    for view, about, column, of_type, comment in rows(
        database,
        "SELECT c.relname, obj_description(c.oid, 'pg_class'), attname, format_type(atttypid, atttypmod), "
        "col_description(c.oid, attnum) FROM pg_class c JOIN pg_attribute ON attrelid = c.oid AND attnum > 0 "
        "WHERE c.relnamespace = 'staging'::regnamespace AND c.relkind = 'v' ORDER BY c.relname, attnum",
    ):
        found.setdefault(view, {"": ("view", about)})[column] = (of_type, comment)
    return found


def expected_views() -> dict[str, dict[str, tuple[str, str | None]]]:
    return {
        str(table.name): {
            "": ("view", table.comment),
            **{column.name: (kind(column), column.comment) for column in table.columns},
        }
        for table in tables.long_tables.sorted_tables
    }


def test_views_have_the_columns_types_and_comments_of_the_long_tables(database: Database) -> None:
    found, expected = views(database), expected_views()
    assert set(found) == set(expected) == set(staging.view_texts())
    for name, columns in expected.items():
        assert list(found[name].items()) == list(columns.items()), name


@pytest.mark.parametrize(
    "change",
    [
        "DROP VIEW staging.pnl_attribution",
        "DROP SCHEMA staging CASCADE",
        "COMMENT ON COLUMN staging.pnl_attribution.pnl IS 'euros'",
        "COMMENT ON VIEW staging.pnl_attribution IS NULL",
        # an older text of a view, remembered with the schema
        "CREATE OR REPLACE VIEW staging.pnl_attribution AS SELECT session_date, position_id, 'mark' AS component, "
        "portfolio_id, mark AS pnl, computed_at, code_version, run_id FROM sigmasight.pnl_attribution; "
        "COMMENT ON SCHEMA staging IS 'Made by the pipeline (models 0123456789abcdef).'",
        "CREATE VIEW staging.removed_since AS SELECT 1 AS one; COMMENT ON SCHEMA staging IS NULL",
    ],
)
def test_views_that_are_not_this_codes_are_made_anew(database: Database, change: str) -> None:
    texts = "SELECT viewname, definition FROM pg_views WHERE schemaname = 'staging' ORDER BY 1"
    before = rows(database, texts)
    with database.connect() as connection:
        connection.execute(change.encode())
    assert schema.upgrade(database.url) == []
    assert rows(database, texts) == before
    assert views(database) == expected_views()


def test_views_that_are_current_are_left_alone(database: Database) -> None:
    made = "SELECT oid FROM pg_class WHERE relnamespace = 'staging'::regnamespace AND relkind = 'v' ORDER BY 1"
    before = rows(database, made)
    with database.connect() as connection:
        connection.execute("COMMENT ON TABLE sigmasight.positions IS NULL")  # something else to do
    assert schema.upgrade(database.url) == []
    assert rows(database, made) == before


def test_who_may_read_a_view_may_read_the_new_one(database: Database) -> None:
    role = f"Reader {uuid4().hex}"
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute(f'CREATE ROLE "{role}"'.encode())
        try:
            connection.execute(f'GRANT SELECT ON staging.pnl_attribution TO "{role}" WITH GRANT OPTION'.encode())
            connection.execute("GRANT SELECT ON staging.stress_test_results TO PUBLIC")
            allowed = (
                "SELECT relname, relacl::text FROM pg_class WHERE relnamespace = 'staging'::regnamespace ORDER BY 1"
            )
            before = connection.execute(allowed.encode()).fetchall()
            assert sum(acl is not None for _, acl in before) == 2
            connection.execute("COMMENT ON SCHEMA staging IS NULL")
            assert schema.upgrade(database.url) == []
            assert connection.execute(allowed.encode()).fetchall() == before
        finally:
            connection.execute(f'GRANT "{role}" TO CURRENT_USER; DROP OWNED BY "{role}"; DROP ROLE "{role}"'.encode())
