"""Who may connect to the embedded server, and with what: every client takes its URL, nobody else gets in."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable

import adbc_driver_postgresql.dbapi
import pandas
import psycopg
import psycopg2
import pytest
import sqlalchemy
from dagster_postgres.utils import create_pg_engine

from sigmasight_pipeline.storage.embedded import EmbeddedServer


def libpq(url: str) -> object:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT 41 + 1").fetchone()


def _psycopg2(url: str) -> object:
    connection = psycopg2.connect(url)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 41 + 1")
            return cursor.fetchone()
    finally:
        connection.close()


def _sqlalchemy(driver: str) -> Callable[[str], object]:
    def ask(url: str) -> object:
        engine = sqlalchemy.create_engine(url.replace("postgresql:", f"postgresql+{driver}:", 1))
        with engine.connect() as connection:
            return tuple(connection.execute(sqlalchemy.text("SELECT 41 + 1")).one())

    return ask


def _adbc(url: str) -> object:
    with adbc_driver_postgresql.dbapi.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 41 + 1")
        return cursor.fetchone()


def _pandas(url: str) -> object:
    return tuple(pandas.read_sql("SELECT 41 + 1", url).iloc[0])


def _dagster(url: str) -> object:
    with create_pg_engine(url.replace("postgresql:", "postgresql+psycopg2:", 1)).connect() as connection:
        return tuple(connection.execute(sqlalchemy.text("SELECT 41 + 1")).one())


@pytest.mark.parametrize("database", ["sigmasight", "dagster"])
@pytest.mark.parametrize(
    "ask",
    [libpq, _psycopg2, _adbc, _pandas, _dagster, _sqlalchemy("psycopg2"), _sqlalchemy("psycopg")],
    ids=["psycopg", "psycopg2", "adbc", "pandas", "dagster", "sqlalchemy-psycopg2", "sqlalchemy-psycopg"],
)
def test_every_client_takes_the_url(server: EmbeddedServer, ask: Callable[[str], object], database: str) -> None:
    assert ask(server.url(database)) == (42,)


@pytest.mark.parametrize("with_password", [True, False])
def test_psql_takes_the_url(server: EmbeddedServer, with_password: bool) -> None:
    """Without the password in its arguments, where every user could read it, it takes it from the passfile."""
    answer = subprocess.run(
        [server.psql_path, server.address().url(with_password=with_password), "-XAtc", "SELECT 41 + 1"],
        env={"PATH": os.defpath} | ({} if with_password else {"PGPASSFILE": str(server.password_file)}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (answer.stdout.strip(), answer.stderr) == ("42", "")


def test_nothing_is_open_to_others(server: EmbeddedServer) -> None:
    """No file for group or others; the folders above the private ones may at most be passed through."""
    control = server.home / "postgres"
    paths = [control, *control.rglob("*")]
    for path in paths:
        mode = stat.S_IMODE(path.lstat().st_mode)
        passage = path == control and os.geteuid() == 0
        assert mode & 0o077 & ~(0o011 if passage else 0) == 0, f"{path} is {mode:o}"
    assert stat.S_IMODE((control / "socket").stat().st_mode) == 0o700
    assert stat.S_IMODE(server.password_file.stat().st_mode) == 0o600
    assert repr(server.address()).find(server.address().password) == -1
