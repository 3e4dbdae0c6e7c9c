"""The views of the schema ``staging``: packed tables as the rows they stand for.

What belongs here: finding the models of ``dbt_like_sql/models/staging`` and making the database's views those of this
code. What does not: the SQL of a view (its file), what a table is (``storage.tables``).

The views are made anew whenever their text differs from what the schema's own comment remembers, one is not there, or
a comment is not the registry's: a view whose columns changed cannot be replaced in place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg import sql
from sqlalchemy import Table

import sigmasight_pipeline
from sigmasight_pipeline.storage.tables import READERS_SCHEMA, long_tables

Connection = psycopg.Connection[tuple[Any, ...]]


class Grant(NamedTuple):
    """A privilege on a view; `role` is quoted as PostgreSQL spells it."""

    view: str
    privilege: LiteralString
    role: LiteralString
    may_grant: bool


def models_folder() -> Path:
    """The folder of SQL models: beside the package in a checkout, inside it where it was installed from a wheel."""
    package = Path(sigmasight_pipeline.__file__).parent
    installed = package / "dbt_like_sql"
    return installed if installed.is_dir() else package.parent / "dbt_like_sql"


@cache
def view_texts() -> dict[str, str]:
    """SQL of every staging view by its name."""
    files = sorted((models_folder() / "models" / "staging").glob("*.sql"))
    if not files:
        raise FileNotFoundError(
            f"no SQL of a view in {models_folder()}: the installation is not whole, install it anew"
        )
    return {file.stem: file.read_text(encoding="utf-8") for file in files}


def is_current(connection: Connection) -> bool:
    """Whether the views are those of this code, all of them there, with their comments."""
    row = connection.execute(
        "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = %s", (READERS_SCHEMA,)
    ).fetchone()
    return row is not None and row[0] == _description() and _stored_comments(connection) == _comments()


def granted(connection: Connection) -> list[Grant]:
    """What others than their owner may do with the views: it goes with a view that is dropped."""
    rows = connection.execute(
        "SELECT c.relname, a.privilege_type, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END, "
        "a.is_grantable FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a "
        "WHERE c.relkind = 'v' AND c.relnamespace = to_regnamespace(%s) AND a.grantee <> c.relowner",
        (READERS_SCHEMA,),
    )
    return [Grant(*row) for row in rows]


def grant(connection: Connection, grants: Sequence[Grant]) -> None:
    """Give `grants` on the views there are still, in the caller's transaction."""
    for one in grants:
        if one.view in view_texts():
            connection.execute(
                sql.SQL("GRANT {} ON {} TO {}{}").format(
                    sql.SQL(one.privilege),
                    sql.Identifier(READERS_SCHEMA, one.view),
                    sql.SQL(one.role),
                    sql.SQL(" WITH GRANT OPTION" if one.may_grant else ""),
                )
            )


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
    # asked for first: IF NOT EXISTS needs the right to create one even where there is one
    if not _exists(connection):
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
    drop(connection)
    for name, text in view_texts().items():
        view = sql.Identifier(READERS_SCHEMA, name)
        connection.execute(sql.SQL("CREATE VIEW {} AS ").format(view) + sql.SQL(text))
        _write_comments(connection, long_tables.tables[f"{READERS_SCHEMA}.{name}"])
    connection.execute(sql.SQL("COMMENT ON SCHEMA {} IS {}").format(schema, sql.Literal(_description())))


def _exists(connection: Connection) -> bool:
    row = connection.execute("SELECT to_regnamespace(%s) IS NOT NULL", (READERS_SCHEMA,)).fetchone()
    return row is not None and bool(row[0])


def _write_comments(connection: Connection, table: Table) -> None:
    view = sql.Identifier(READERS_SCHEMA, str(table.name))
    connection.execute(sql.SQL("COMMENT ON VIEW {} IS {}").format(view, sql.Literal(table.comment)))
    for column in table.columns:
        connection.execute(
            sql.SQL("COMMENT ON COLUMN {}.{} IS {}").format(
                view, sql.Identifier(column.name), sql.Literal(column.comment)
            )
        )


def _stored_comments(connection: Connection) -> dict[tuple[str, str | None], str | None]:
    """(view, column or None for the view itself) to its comment, of the views there are."""
    rows = connection.execute(
        "SELECT c.relname, a.attname, d.description FROM pg_class c "
        "CROSS JOIN LATERAL (SELECT NULL::name AS attname, 0 AS attnum UNION ALL "
        "SELECT attname, attnum FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0) a "
        "LEFT JOIN pg_description d ON d.objoid = c.oid AND d.classoid = 'pg_class'::regclass "
        "AND d.objsubid = a.attnum WHERE c.relkind = 'v' AND c.relnamespace = to_regnamespace(%s)",
        (READERS_SCHEMA,),
    ).fetchall()
    return {(view, column): text for view, column, text in rows}


@cache
def _comments() -> dict[tuple[str, str | None], str | None]:
    """The same, as the registry states it."""
    comments: dict[tuple[str, str | None], str | None] = {}
    for name in view_texts():
        table = long_tables.tables[f"{READERS_SCHEMA}.{name}"]
        comments[name, None] = table.comment
        comments |= {(name, column.name): column.comment for column in table.columns}
    return comments


@cache
def _description() -> str:
    """What the schema says of itself, with the digest of its views' texts."""
    told = "\0".join(part for view in view_texts().items() for part in view)
    digest = hashlib.sha256(told.encode()).hexdigest()[:16]
    return f"Results one row per fact, whatever way they are stored. Made by the pipeline (models {digest})."
