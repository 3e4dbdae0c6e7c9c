"""The state of the schema: bringing it to this code's migration, and refusing to work on any other.

What belongs here: running the migrations as one command under a lock as the owning role, the comments (the
registry is their one truth), and comparing the database's migration with the code's. What does not: the SQL
(``migrations/versions``, ``staging``), the tables' meaning (``tables``), and starting servers (``storage.embedded``).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import psycopg
from psycopg import errors as postgres_errors
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import NullPool, create_engine

from sigmasight_pipeline.storage import migrations, staging
from sigmasight_pipeline.storage.connections import connection_string
from sigmasight_pipeline.storage.database import explained
from sigmasight_pipeline.storage.errors import (
    MINIMUM_SERVER_MAJOR,
    DatabaseMissingError,
    DatabaseNotUtf8Error,
    NotPermittedError,
    SchemaNeverReleasedError,
    SchemaNotCreatedError,
    SchemaTooNewError,
    ServerTooOldError,
    redact,
)
from sigmasight_pipeline.storage.tables import READERS_SCHEMA, SCHEMA, metadata

if TYPE_CHECKING:
    from alembic.config import Config

Connection = psycopg.Connection[tuple[Any, ...]]

MIGRATION_LOCK = 7_446_253_001
"""Key of the advisory lock migrations run under; sessions are locked by pairs of integers, a space of its own."""


@cache
def known_revisions() -> tuple[str, ...]:
    """Numbers of this code's migrations, oldest first, as their files are called: asked by every command."""
    files = Path(migrations.__path__[0]).joinpath("versions").glob("[0-9]*_*.py")
    return tuple(sorted(file.name.partition("_")[0] for file in files))


def upgrade(url: str) -> list[str]:
    """Bring the database at `url` to this code's migration; returns the revisions applied, oldest first.

    One transaction under an advisory lock: of concurrent calls one does the work, the others wait and find
    nothing to do. It runs as the role that owns the schema, because default privileges follow the creating
    role. Raises ServerTooOldError, SchemaTooNewError, and NotPermittedError for a role that may not act as
    the owning one.
    """
    with explained(url):
        with psycopg.connect(connection_string(url)) as connection:
            _check_server(connection, url)
            found = _revision(connection)
            _refuse_foreign(found, url)
            if (
                found == known_revisions()[-1]
                and not _differing_comments(connection)
                and staging.is_current(connection)
            ):
                return []
        return _upgrade_locked(url)


def current_revision(url: str) -> str | None:
    """The newest migration applied to the database at `url`, or None without our tables."""
    with explained(url), psycopg.connect(connection_string(url)) as connection:
        _check_server(connection, url)
        return _revision(connection)


def require_current(url: str) -> None:
    """Return only if the database at `url` is at exactly this code's migration, on a server new enough.

    Raises ServerTooOldError, SchemaTooNewError, and SchemaNotCreatedError for no tables or older ones (it
    says `sigmasight db upgrade`).
    """
    with explained(url), psycopg.connect(connection_string(url)) as connection:
        _check_server(connection, url)
        found = _revision(connection)
    if found is None:
        raise SchemaNotCreatedError.of(url)
    _refuse_foreign(found, url)
    if found != known_revisions()[-1]:
        raise SchemaNotCreatedError(
            f"The database at {redact(url)} is at migration {found} and this code needs "
            f"{known_revisions()[-1]}; run `sigmasight db upgrade`."
        )


def check_server_version(server_version: int, url: str) -> None:
    """Raise ServerTooOldError for a `server_version` (libpq's number, 150005 is 15.5) below the minimum."""
    if server_version < MINIMUM_SERVER_MAJOR * 10_000:
        raise ServerTooOldError.of(url, f"{server_version // 10_000}.{server_version % 10_000}")


def _check_server(connection: Connection, url: str) -> None:
    """Raise ServerTooOldError, or DatabaseNotUtf8Error, for a database that cannot be ours."""
    check_server_version(connection.info.server_version, url)
    encoding = connection.info.parameter_status("server_encoding") or ""
    if encoding != "UTF8":
        raise DatabaseNotUtf8Error.of(url, encoding)


def sibling_database(url: str, name: str) -> str:
    """`url` with the database `name` instead of its own, everything else kept."""
    if "://" not in url:
        return make_conninfo(url, dbname=name)
    parts = urlsplit(url)
    query = urlencode([(key, value) for key, value in parse_qsl(parts.query) if key != "dbname"], quote_via=quote)
    return urlunsplit(parts._replace(path=f"/{quote(name, safe='')}", query=query))


def create_database_if_missing(url: str) -> bool:
    """Create the database `url` names if its server lacks it; whether it was created. Needs CREATEDB."""
    try:
        with explained(url), psycopg.connect(connection_string(url)) as connection:
            _check_server(connection, url)
            return False
    except DatabaseMissingError:
        name = str(conninfo_to_dict(url)["dbname"])
    with (
        explained(url),
        psycopg.connect(connection_string(sibling_database(url, "postgres")), autocommit=True) as connection,
    ):
        try:
            # of a server that was set up without an encoding the usual template has none either
            statement = sql.SQL("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0")
            connection.execute(statement.format(sql.Identifier(name)))
        except (postgres_errors.DuplicateDatabase, postgres_errors.UniqueViolation):
            return False  # another process was quicker
    return True


def alembic_config() -> Config:
    """How Alembic finds the migrations."""
    from alembic.config import Config  # noqa: PLC0415 - only who migrates waits for Alembic

    config = Config()
    config.set_main_option("script_location", migrations.__path__[0].replace("%", "%%"))
    return config


def _upgrade_locked(url: str) -> list[str]:
    from alembic import command  # noqa: PLC0415 - only who migrates waits for Alembic

    engine = create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(connection_string(url)), poolclass=NullPool
    )
    with engine.begin() as outer:
        connection: Connection = outer.connection.driver_connection  # type: ignore[assignment]  # typed as Any DBAPI
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (MIGRATION_LOCK,))
        before = _revision(connection)
        _refuse_foreign(before, url)
        _become_owner(connection, url)
        config = alembic_config()
        config.attributes["connection"] = outer
        granted = staging.granted(connection)
        if before != known_revisions()[-1]:
            staging.drop(connection)
        command.upgrade(config, "head")
        _write_comments(connection)
        if not staging.is_current(connection):
            staging.renew(connection)
            staging.grant(connection, granted)
    return [revision for revision in known_revisions() if before is None or revision > before]


def _revision(connection: Connection) -> str | None:
    row = connection.execute("SELECT to_regclass(%s) IS NOT NULL", (f"{SCHEMA}.alembic_version",)).fetchone()
    if row is None or not row[0]:
        return None
    found = connection.execute(
        sql.SQL("SELECT version_num FROM {}.alembic_version").format(sql.Identifier(SCHEMA))
    ).fetchone()
    return None if found is None else str(found[0])


def _refuse_foreign(found: str | None, url: str) -> None:
    if found is not None and found < known_revisions()[0]:
        raise SchemaNeverReleasedError.of(url, found)
    if found is not None and found not in known_revisions():
        raise SchemaTooNewError.of(url, found, known_revisions()[-1])


def _become_owner(connection: Connection, url: str) -> None:
    """Take the role that owns the schema for this transaction, creating the schema where there is none."""
    row = connection.execute(
        "SELECT nspowner::regrole::text, pg_has_role(current_user, nspowner, 'MEMBER'), current_user "
        "FROM pg_namespace WHERE nspname = %s",
        (SCHEMA,),
    ).fetchone()
    if row is None:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(SCHEMA)))
        return
    owner, is_member, user = row
    if not is_member:
        raise NotPermittedError(
            f"Schema {SCHEMA} in the database at {redact(url)} belongs to role {owner}, which role {user} is no "
            f"member of; run `sigmasight db upgrade` as {owner}."
        )
    role = sql.SQL(owner)  # regrole::text is quoted already
    # a role that owns one schema need not be allowed to create another
    if connection.execute("SELECT to_regnamespace(%s) IS NULL", (READERS_SCHEMA,)).fetchone() == (True,):
        connection.execute(sql.SQL("CREATE SCHEMA {} AUTHORIZATION {}").format(sql.Identifier(READERS_SCHEMA), role))
    connection.execute(sql.SQL("SET LOCAL ROLE {}").format(role))


def _registry_comments() -> dict[tuple[str, str | None], str | None]:
    """(table, column or None for the table itself) to its comment, as the registry states them."""
    comments: dict[tuple[str, str | None], str | None] = {}
    for table in metadata.tables.values():
        comments[table.name, None] = table.comment
        comments |= {(table.name, column.name): column.comment for column in table.columns}
    return comments


def _differing_comments(connection: Connection) -> dict[tuple[str, str | None], str | None]:
    rows = connection.execute(
        "SELECT c.relname, a.attname, d.description FROM pg_description d "
        "JOIN pg_class c ON c.oid = d.objoid AND d.classoid = 'pg_class'::regclass "
        "LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.objsubid AND d.objsubid > 0 "
        "WHERE c.relnamespace = to_regnamespace(%s)",
        (SCHEMA,),
    )
    stored = {(table, column): text for table, column, text in rows}
    return {target: text for target, text in _registry_comments().items() if stored.get(target) != text}


def _write_comments(connection: Connection) -> None:
    for (table, column), text in _differing_comments(connection).items():
        target = sql.Identifier(SCHEMA, table, *([column] if column else []))
        kind = sql.SQL("COLUMN" if column else "TABLE")
        connection.execute(sql.SQL("COMMENT ON {} {} IS {}").format(kind, target, sql.Literal(text)))
