"""The migrated database against the registry, and every way a database's state can differ from the code's."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import Dialect, ForeignKeyConstraint, Table, UniqueConstraint
from sqlalchemy.dialects import postgresql

from sigmasight_pipeline.storage import migrations, schema, tables
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline.storage.errors import (
    DatabaseMissingError,
    DatabaseNotUtf8Error,
    NotPermittedError,
    SchemaNeverReleasedError,
    SchemaNotCreatedError,
    SchemaTooNewError,
    ServerTooOldError,
)
from sigmasight_pipeline_tests.conftest import drop_database

REGISTRY = {table.name: table for table in tables.metadata.tables.values()}
REVISIONS = list(schema.known_revisions())
OPERATORS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


def rows(database: Database, statement: str, *params: object) -> list[tuple[Any, ...]]:
    with database.connect() as connection:
        connection.execute("SET LOCAL search_path = ''")  # names come out qualified, whatever the role is called
        return connection.execute(statement, params or None).fetchall()


def registry_columns(table: Table) -> dict[str, tuple[str, bool, bool]]:
    dialect: Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped
    return {
        column.name: (
            column.type.compile(dialect).lower().replace(", ", ","),
            bool(column.nullable),
            column.identity is not None,
        )
        for column in table.columns
    }


def test_tables(database: Database) -> None:
    found = {name for (name,) in rows(database, "SELECT tablename FROM pg_tables WHERE schemaname = 'sigmasight'")}
    assert found == set(REGISTRY) | {"alembic_version"}


def test_columns_types_nullability_identity(database: Database) -> None:
    found: dict[str, dict[str, tuple[str, bool, bool]]] = {name: {} for name in REGISTRY}
    for table, column, kind, nullable, identity in rows(
        database,
        "SELECT attrelid::regclass::text, attname, "
        "replace(format_type(atttypid, atttypmod), '[]', repeat('[]', attndims)), NOT attnotnull, attidentity = 'd' "
        "FROM pg_attribute JOIN pg_class c ON c.oid = attrelid WHERE c.relnamespace = 'sigmasight'::regnamespace "
        "AND c.relkind = 'r' AND attnum > 0 AND NOT attisdropped AND c.relname <> 'alembic_version'",
    ):
        found[table.removeprefix("sigmasight.")][column] = (kind, nullable, identity)
    for name, table in REGISTRY.items():
        assert found[name] == registry_columns(table), name


def test_primary_keys_unique_constraints_and_foreign_keys(database: Database) -> None:
    found = {
        (kind, table.removeprefix("sigmasight."), definition)
        for kind, table, definition in rows(
            database,
            "SELECT contype::text, conrelid::regclass::text, "
            "CASE WHEN contype = 'u' THEN conname || ' ' ELSE '' END || pg_get_constraintdef(oid) "
            "FROM pg_constraint WHERE connamespace = 'sigmasight'::regnamespace AND contype IN ('p', 'u', 'f') "
            "AND conrelid <> 'sigmasight.alembic_version'::regclass",
        )
    }
    expected = set()
    for name, table in REGISTRY.items():
        expected.add(("p", name, f"PRIMARY KEY ({', '.join(table.primary_key.columns.keys())})"))
        for constraint in table.constraints:
            if isinstance(constraint, UniqueConstraint):
                expected.add(("u", name, f"{constraint.name} UNIQUE ({', '.join(constraint.columns.keys())})"))
            if isinstance(constraint, ForeignKeyConstraint):
                (element,) = constraint.elements
                target = f"{element.column.table.fullname}({element.column.name})"
                expected.add(
                    ("f", name, f"FOREIGN KEY ({element.parent.name}) REFERENCES {target} ON DELETE {element.ondelete}")
                )
    assert found == expected


def test_indexes(database: Database) -> None:
    found = {
        (table, index, columns)
        for table, index, columns in rows(
            database,
            "SELECT t.relname, i.relname, string_agg(a.attname, ', ' ORDER BY a.attnum) FROM pg_index x "
            "JOIN pg_class t ON t.oid = x.indrelid JOIN pg_class i ON i.oid = x.indexrelid "
            "JOIN pg_attribute a ON a.attrelid = i.oid JOIN pg_am m ON m.oid = i.relam AND m.amname = 'btree' "
            "WHERE t.relnamespace = 'sigmasight'::regnamespace AND x.indisvalid AND NOT EXISTS "
            "(SELECT FROM pg_constraint c WHERE c.conindid = i.oid AND c.contype IN ('p', 'u')) GROUP BY 1, 2",
        )
    }
    expected = {
        (name, index.name, ", ".join(index.columns.keys()))
        for name, table in REGISTRY.items()
        for index in table.indexes
    }
    assert found == expected


def test_checks(database: Database) -> None:
    """Closed lists and bounds: PostgreSQL's own spelling of the registry's rules is that of the stored ones."""
    query = (
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'c' ORDER BY 1"
    )
    with database.connect() as connection:
        for name, table in REGISTRY.items():
            connection.execute(f"CREATE TEMPORARY TABLE twin (LIKE sigmasight.{name})")
            for column in table.columns:
                if column.info.get("array"):  # judged before it is packed
                    continue
                parts = [
                    f"{column.name} {sign} {column.info[word]}"
                    for word, sign in OPERATORS.items()
                    if word in column.info
                ]
                if "isin" in column.info:
                    parts.append(f"{column.name} IN ({', '.join(map(repr, column.info['isin']))})")
                if parts:
                    connection.execute(f"ALTER TABLE twin ADD CHECK ({' AND '.join(parts)})")
            found = connection.execute(query, (f"sigmasight.{name}",)).fetchall()
            assert found == connection.execute(query, ("twin",)).fetchall(), name
            connection.execute("DROP TABLE twin")


def test_comments(database: Database) -> None:
    found = {
        (table, column): text
        for table, column, text in rows(
            database,
            "SELECT c.relname, a.attname, CASE WHEN a.attname IS NULL THEN obj_description(c.oid, 'pg_class') "
            "ELSE col_description(c.oid, a.attnum) END "
            "FROM pg_class c JOIN LATERAL (SELECT NULL::name AS attname, 0 AS attnum UNION ALL SELECT attname, attnum "
            "FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0) a ON TRUE "
            "WHERE c.relnamespace = 'sigmasight'::regnamespace AND c.relkind = 'r'",
        )
    }
    assert all(found.values()), [target for target, text in found.items() if not text]
    for name, table in REGISTRY.items():
        assert found[name, None] == table.comment
        for column in table.columns:
            assert found[name, column.name] == column.comment, f"{name}.{column.name}"


def test_upgrade_says_what_it_applied_and_restores_comments(database_url: str) -> None:
    assert schema.current_revision(database_url) is None
    assert schema.upgrade(database_url) == REVISIONS
    assert schema.current_revision(database_url) == REVISIONS[-1]
    assert schema.upgrade(database_url) == []
    with psycopg.connect(database_url) as connection:
        connection.execute("COMMENT ON COLUMN sigmasight.daily_prices.close IS 'adjusted'")
        connection.execute("COMMENT ON TABLE sigmasight.positions IS NULL")
    assert schema.upgrade(database_url) == []
    test_comments(Database(database_url))


def test_concurrent_upgrades_do_the_work_once(database_url: str) -> None:
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(schema.upgrade, [database_url] * 6))
    assert sorted(results) == [[]] * 5 + [REVISIONS]
    schema.require_current(database_url)


def test_a_failed_upgrade_leaves_nothing(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:  # the last migration will find its table taken
        connection.execute("CREATE SCHEMA sigmasight")
        connection.execute("CREATE TABLE sigmasight.portfolio_snapshots (mine int)")
    with pytest.raises(Exception, match=r"portfolio_snapshots.* already exists"):
        schema.upgrade(database_url)
    assert schema.current_revision(database_url) is None
    with psycopg.connect(database_url) as connection:
        left = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'sigmasight'").fetchall()
        assert left == [("portfolio_snapshots",)]
        connection.execute("DROP TABLE sigmasight.portfolio_snapshots")
    assert schema.upgrade(database_url) == REVISIONS


@pytest.fixture
def later_migration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Number of a migration that a later version of this code would have."""
    folder = tmp_path / "migrations"
    shutil.copytree(migrations.__path__[0], folder)
    text = LATER.format(revision="9000", down_revision=REVISIONS[-1])
    (folder / "versions" / "9000_later.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(migrations, "__path__", [str(folder)])
    schema.known_revisions.cache_clear()
    yield "9000"
    schema.known_revisions.cache_clear()


LATER = """
from alembic import op

revision = "{revision}"
down_revision = "{down_revision}"


def upgrade():
    op.get_bind().exec_driver_sql("CREATE TABLE sigmasight.later (one int)")
"""


def set_revision(url: str, revision: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE sigmasight.alembic_version SET version_num = %s", (revision,))


def test_require_current_names_what_to_do(database_url: str) -> None:
    with pytest.raises(SchemaNotCreatedError, match=r"lacks SigmaSight's tables; run `sigmasight db upgrade`"):
        schema.require_current(database_url)
    schema.upgrade(database_url)
    schema.require_current(database_url)
    told = []
    for revision, error, message in (
        ("9999", SchemaTooNewError, r"9999, newer than"),
        ("0001", SchemaNeverReleasedError, r"migration 0001 of a version that was never released.*sigmasight reset"),
        ("0016", SchemaNeverReleasedError, r"migration 0016 of a version that was never released.*sigmasight reset"),
    ):
        set_revision(database_url, revision)
        for action in (schema.require_current, schema.upgrade):
            with pytest.raises(error, match=message) as refused:
                action(database_url)
            told.append(str(refused.value))
        assert schema.current_revision(database_url) == revision, "nothing was changed"
    password = str(psycopg.conninfo.conninfo_to_dict(database_url)["password"])
    assert not any(password in text for text in told)


def test_a_later_migration_is_applied_alone(database_url: str, later_migration: str) -> None:
    assert schema.upgrade(database_url) == [*REVISIONS, later_migration]
    set_revision(database_url, REVISIONS[-1])
    with psycopg.connect(database_url) as connection:
        connection.execute("DROP TABLE sigmasight.later")
    with pytest.raises(
        SchemaNotCreatedError, match=rf"{REVISIONS[-1]}.*{later_migration}; run `sigmasight db upgrade`"
    ):
        schema.require_current(database_url)
    assert schema.upgrade(database_url) == [later_migration]
    schema.require_current(database_url)


@pytest.mark.parametrize(
    ("version", "shown"), [(140_022, "14.22"), (90_624, "9.624"), (150_000, None), (180_004, None)]
)
def test_server_version(version: int, shown: str | None) -> None:
    url = "postgresql://reader@db.example:5432/risk"
    if shown is None:
        schema.check_server_version(version, url)
        return
    with pytest.raises(ServerTooOldError, match=rf"db\.example:5432 is PostgreSQL {shown}; .*15 or newer"):
        schema.check_server_version(version, url)


@pytest.fixture
def stranger(database_url: str) -> Iterator[str]:
    """A role of the server that owns nothing and is member of nothing."""
    name = f"stranger_{uuid4().hex}"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'p@ss'")
        yield name
        connection.execute(f"GRANT {name} TO CURRENT_USER; DROP OWNED BY {name}; DROP ROLE {name}")


def test_the_schema_keeps_its_owner(database_url: str, stranger: str) -> None:
    schema.upgrade(database_url)
    url = re.sub(r"//.*@", f"//{stranger}:p%40ss@", database_url)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("COMMENT ON TABLE sigmasight.positions IS NULL")  # something to do
        connection.execute(f"GRANT USAGE ON SCHEMA sigmasight TO {stranger}")
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA sigmasight TO {stranger}")
        with pytest.raises(
            NotPermittedError, match=rf"belongs to role \w+, which role {stranger} is no member of"
        ) as refused:
            schema.upgrade(url)
        assert "p%40ss" not in str(refused.value)


def test_what_a_member_creates_belongs_to_the_owner(database_url: str, stranger: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"GRANT {stranger} TO CURRENT_USER")
        connection.execute(f"CREATE SCHEMA sigmasight AUTHORIZATION {stranger}")
        assert schema.upgrade(database_url) == REVISIONS
        owners = (
            "SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relkind IN ('r', 'v') "
            "AND relnamespace IN ('sigmasight'::regnamespace, 'staging'::regnamespace)"
        )
        assert connection.execute(owners).fetchall() == [(stranger,)]
        connection.execute("COMMENT ON SCHEMA staging IS NULL")  # made anew by a role that may create no schema
        assert schema.upgrade(database_url) == []
        assert connection.execute(owners).fetchall() == [(stranger,)]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u:p%40s@host:5433/risk", "postgresql://u:p%40s@host:5433/dag%2Fster"),
        ("postgresql://u@/risk?host=/tmp/a%20b&port=6", "postgresql://u@/dag%2Fster?host=%2Ftmp%2Fa%20b&port=6"),
        (
            "postgresql://u@h1:1,h2:2/?dbname=risk&sslmode=require",
            "postgresql://u@h1:1,h2:2/dag%2Fster?sslmode=require",
        ),
        ("postgresql://h", "postgresql://h/dag%2Fster"),
        ("host=h dbname=risk user=u", "host=h dbname=dag/ster user=u"),
    ],
)
def test_sibling_database(url: str, expected: str) -> None:
    sibling = schema.sibling_database(url, "dag/ster")
    assert psycopg.conninfo.conninfo_to_dict(sibling) == psycopg.conninfo.conninfo_to_dict(expected)
    kept = {key: value for key, value in psycopg.conninfo.conninfo_to_dict(url).items() if key != "dbname"}
    assert psycopg.conninfo.conninfo_to_dict(sibling) == {**kept, "dbname": "dag/ster"}


def test_create_database_if_missing(database_url: str) -> None:
    name = f"Dag ster {uuid4().hex}"
    url = schema.sibling_database(database_url, name)
    with pytest.raises(DatabaseMissingError):
        schema.current_revision(url)
    try:
        with ThreadPoolExecutor(3) as pool:
            created = list(pool.map(schema.create_database_if_missing, [url] * 3))
        assert sorted(created) == [False, False, True]
        assert schema.create_database_if_missing(url) is False
    finally:
        with psycopg.connect(database_url, autocommit=True) as connection:
            drop_database(connection, name)


def test_a_database_without_encoding_is_refused_whoever_asks(server: EmbeddedServer) -> None:
    name = f"test_{uuid4().hex[:12]}"
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        provider = "LOCALE_PROVIDER libc" if connection.info.server_version >= 150000 else ""
        connection.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE 'C' {provider} TEMPLATE template0")
        try:
            url = server.url(name)
            for look in (
                schema.upgrade,
                schema.current_revision,
                schema.require_current,
                schema.create_database_if_missing,
            ):
                with pytest.raises(DatabaseNotUtf8Error, match=f'Database "{name}" on .* is encoded in SQL_ASCII, and'):
                    look(url)
        finally:
            drop_database(connection, name)
