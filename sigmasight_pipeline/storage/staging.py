"""The views of the schema ``staging``: packed tables as the rows they stand for.

What belongs here: finding the models of ``dbt_like_sql/models/staging`` and making the database's views those of this
code. What does not: the SQL of a view (its file), what a table is (``storage.tables``).

The views are made anew whenever their text or a comment differs from what the schema's own comment remembers: a view
whose columns changed cannot be replaced in place.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import Table

import sigmasight_pipeline
from sigmasight_pipeline.storage.tables import READERS_SCHEMA, long_tables

Connection = psycopg.Connection[tuple[Any, ...]]


def models_folder() -> Path:
    """The folder of SQL models: beside the package in a checkout, inside it where it was installed from a wheel."""
    package = Path(sigmasight_pipeline.__file__).parent
    installed = package / "dbt_like_sql"
    return installed if installed.is_dir() else package.parent / "dbt_like_sql"


@cache
def view_texts() -> dict[str, str]:
    """SQL of every staging view by its name."""
    files = sorted((models_folder() / "models" / "staging").glob("*.sql"))
    return {file.stem: file.read_text(encoding="utf-8") for file in files}


def is_current(connection: Connection) -> bool:
    """Whether the views are those of this code."""
    row = connection.execute(
        "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = %s", (READERS_SCHEMA,)
    ).fetchone()
    return row is not None and row[0] == _description()


def drop(connection: Connection) -> None:
    """Remove the views, in the caller's transaction: a column a view reads cannot be altered."""
    for (name,) in connection.execute(
        "SELECT viewname FROM pg_views WHERE schemaname = %s", (READERS_SCHEMA,)
    ).fetchall():
        connection.execute(sql.SQL("DROP VIEW IF EXISTS {} CASCADE").format(sql.Identifier(READERS_SCHEMA, name)))
    if _exists(connection):
        connection.execute(sql.SQL("COMMENT ON SCHEMA {} IS NULL").format(sql.Identifier(READERS_SCHEMA)))


def renew(connection: Connection) -> None:
    """Make the views anew, in the caller's transaction; readers of them wait."""
    schema = sql.Identifier(READERS_SCHEMA)
    connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(schema))
    drop(connection)
    for name, text in view_texts().items():
        view = sql.Identifier(READERS_SCHEMA, name)
        connection.execute(sql.SQL("CREATE VIEW {} AS ").format(view) + sql.SQL(text))
        _comment(connection, long_tables.tables[f"{READERS_SCHEMA}.{name}"])
    connection.execute(sql.SQL("COMMENT ON SCHEMA {} IS {}").format(schema, sql.Literal(_description())))


def _exists(connection: Connection) -> bool:
    row = connection.execute("SELECT to_regnamespace(%s) IS NOT NULL", (READERS_SCHEMA,)).fetchone()
    return row is not None and bool(row[0])


def _comment(connection: Connection, table: Table) -> None:
    view = sql.Identifier(READERS_SCHEMA, str(table.name))
    connection.execute(sql.SQL("COMMENT ON VIEW {} IS {}").format(view, sql.Literal(table.comment)))
    for column in table.columns:
        connection.execute(
            sql.SQL("COMMENT ON COLUMN {}.{} IS {}").format(
                view, sql.Identifier(column.name), sql.Literal(column.comment)
            )
        )


@cache
def _description() -> str:
    """What the schema says of itself, with the digest of its views' texts and comments."""
    told = [
        part
        for name, text in view_texts().items()
        for part in (
            name,
            text,
            *(str(column.comment) for column in long_tables.tables[f"{READERS_SCHEMA}.{name}"].columns),
            str(long_tables.tables[f"{READERS_SCHEMA}.{name}"].comment),
        )
    ]
    digest = hashlib.sha256("\0".join(told).encode()).hexdigest()[:16]
    return f"Results one row per fact, whatever way they are stored. Made by the pipeline (models {digest})."
