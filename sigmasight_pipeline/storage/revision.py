"""What a migration has to say: the statements that bring a database's tables to what the registry declares.

What belongs here: comparing the two and spelling the difference; nothing is changed. What does not: the definition of
one table (``storage.ddl``), running migrations (``storage.schema``), comments and views, which follow by themselves.

PostgreSQL itself judges: the registry's tables are created in a schema of their own, inside a transaction that is
rolled back, and the catalogues of both schemas are compared. So a type, a bound or an index is the same where the
server says so, however it is spelt.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from uuid import uuid4

import psycopg
from psycopg import sql

from sigmasight_pipeline.storage import ddl
from sigmasight_pipeline.storage.connections import connection_string
from sigmasight_pipeline.storage.database import explained
from sigmasight_pipeline.storage.tables import SCHEMA, metadata

Connection = psycopg.Connection[tuple[Any, ...]]

VERSION_TABLE = "alembic_version"

_COLUMNS = """
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity <> ''
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = to_regnamespace(%s) AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY c.relname, a.attnum
"""

_CONSTRAINTS = """
SELECT c.relname, k.conname, pg_get_constraintdef(k.oid)
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
WHERE k.connamespace = to_regnamespace(%s) AND k.contype IN ('p', 'u', 'f', 'c')
ORDER BY 1, 2
"""

_INDEXES = """
SELECT t.relname, i.relname, pg_get_indexdef(x.indexrelid)
FROM pg_index x JOIN pg_class t ON t.oid = x.indrelid JOIN pg_class i ON i.oid = x.indexrelid
WHERE t.relnamespace = to_regnamespace(%s)
  AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.oid AND k.contype IN ('p', 'u'))
ORDER BY 1, 2
"""


class Kind(NamedTuple):
    """A column as PostgreSQL knows it."""

    type: str
    is_required: bool
    is_identity: bool


class Tables(NamedTuple):
    """The tables of a schema: columns, constraints and indexes by table, each by its name, definitions as text."""

    columns: Mapping[str, Mapping[str, Kind]]
    constraints: Mapping[str, Mapping[str, str]]
    indexes: Mapping[str, Mapping[str, str]]


def difference(url: str) -> list[str]:
    """The statements that make the tables of the database at `url` those of the registry; none where they are.

    Raises StorageError. A NOT NULL column that is added says that it has to be filled first: what with, nobody but
    the author of the migration knows.
    """
    with explained(url), psycopg.connect(connection_string(url)) as connection:
        try:
            return list(_statements(_stored(connection, SCHEMA), _declared(connection)))
        finally:
            connection.rollback()


def _declared(connection: Connection) -> Tables:
    scratch = f"revision_{uuid4().hex}"
    connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(scratch)))
    for table in metadata.sorted_tables:
        connection.execute(ddl.create_table(table).replace(f"{SCHEMA}.", f"{scratch}.").encode())
    return _stored(connection, scratch)


def _stored(connection: Connection, schema: str) -> Tables:
    def by_table(statement: str) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for table, name, *rest in connection.execute(statement.encode(), (schema,)).fetchall():
            if table != VERSION_TABLE:
                value = Kind(*rest) if len(rest) > 1 else str(rest[0]).replace(f"{schema}.", f"{SCHEMA}.")
                found.setdefault(table, {})[name] = value
        return found

    connection.execute("SET LOCAL search_path = ''")  # definitions come out qualified, whatever the role is called
    return Tables(by_table(_COLUMNS), by_table(_CONSTRAINTS), by_table(_INDEXES))


def _statements(stored: Tables, declared: Tables) -> Iterator[str]:
    for table in metadata.sorted_tables:
        if table.name not in stored.columns:
            yield ddl.create_table(table)
    for name in sorted(set(stored.columns) - set(declared.columns)):
        yield f"DROP TABLE {SCHEMA}.{name};"
    for name in sorted(set(stored.columns) & set(declared.columns)):
        yield from _of_columns(name, stored.columns[name], declared.columns[name])
        yield from _of_definitions(
            stored.constraints.get(name, {}),
            declared.constraints.get(name, {}),
            f"ALTER TABLE {SCHEMA}.{name} DROP CONSTRAINT {{}};",
            f"ALTER TABLE {SCHEMA}.{name} ADD CONSTRAINT {{}} {{}};",
        )
        yield from _of_definitions(
            stored.indexes.get(name, {}), declared.indexes.get(name, {}), f"DROP INDEX {SCHEMA}.{{}};", "{1};"
        )


def _of_columns(table: str, stored: Mapping[str, Kind], declared: Mapping[str, Kind]) -> Iterator[str]:
    altered = f"ALTER TABLE {SCHEMA}.{table}"
    for name in [one for one in stored if one not in declared]:
        yield f"{altered} DROP COLUMN {name};"
    for name, kind in declared.items():
        before = stored.get(name)
        if before is None:
            identity = " GENERATED BY DEFAULT AS IDENTITY" if kind.is_identity else ""
            yield f"{altered} ADD COLUMN {name} {kind.type}{identity};"
            if kind.is_required:
                yield f"-- fill {SCHEMA}.{table}.{name} of the rows that are there"
                yield f"{altered} ALTER COLUMN {name} SET NOT NULL;"
            continue
        if before.type != kind.type:
            yield f"{altered} ALTER COLUMN {name} TYPE {kind.type} USING {name}::{kind.type};"
        if before.is_required != kind.is_required:
            yield f"{altered} ALTER COLUMN {name} {'SET' if kind.is_required else 'DROP'} NOT NULL;"
        if before.is_identity != kind.is_identity:
            change = "ADD GENERATED BY DEFAULT AS" if kind.is_identity else "DROP"
            yield f"{altered} ALTER COLUMN {name} {change} IDENTITY;"


def _of_definitions(stored: Mapping[str, str], declared: Mapping[str, str], dropped: str, added: str) -> Iterator[str]:
    """Names and definitions that are gone, then those that are new; one whose definition changed is both."""
    for name, definition in stored.items():
        if declared.get(name) != definition:
            yield dropped.format(name)
    for name, definition in declared.items():
        if stored.get(name) != definition:
            yield added.format(name, definition)
