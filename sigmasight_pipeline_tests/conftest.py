"""What every test may ask for: a PostgreSQL server, an empty database on it, an empty state folder."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import hypothesis
import psycopg
import pytest

from sigmasight_pipeline.storage.embedded import EmbeddedServer

# shared machines are slow now and then; a property is about results, not about milliseconds
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


LONGEST_FIRST = ("end_to_end", "cli")
"""Folders whose modules take longest; begun last, one of them would run alone in the end."""

DROP_ATTEMPTS = 40


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order modules for ``--no-loadscope-reorder``, which hands them to processes in this order."""
    ranks = {name: rank for rank, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: ranks.get(item.path.parent.name, len(ranks)))


@contextmanager
def temporary_home() -> Iterator[Path]:
    """A state folder every user can reach (pytest's own are 0700); its server ends with it."""
    home = Path(tempfile.mkdtemp(prefix="sigmasight-tests-"))
    home.chmod(0o711)
    try:
        yield home
    finally:
        EmbeddedServer(home).remove()
        shutil.rmtree(home)


def drop_database(connection: psycopg.Connection[Any], name: str) -> None:
    """Drop a database and who is connected; an autovacuum worker, which only a superuser may end, goes by itself."""
    for left in reversed(range(DROP_ATTEMPTS)):
        try:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())
        except psycopg.errors.InsufficientPrivilege:
            if not left:
                raise
            time.sleep(0.5)
        else:
            return


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer]:
    """A running embedded server, one per test process; stopped and removed at the end."""
    with temporary_home() as home, EmbeddedServer(home).shared() as running:
        yield running


@contextmanager
def temporary_database(server: EmbeddedServer) -> Iterator[str]:
    """The URL of an empty database on `server`, dropped afterwards."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        # Copying the template's files takes a quarter of the time of logging them; before 15 it is the only way.
        strategy = "STRATEGY file_copy" if connection.info.server_version >= 150000 else ""
        connection.execute(f'CREATE DATABASE "{name}" {strategy}'.encode())
        try:
            yield server.url(name)
        finally:
            drop_database(connection, name)


@pytest.fixture
def database_url(server: EmbeddedServer) -> Iterator[str]:
    """The URL of an empty database of the test's own."""
    with temporary_database(server) as url:
        yield url


@pytest.fixture
def home() -> Iterator[Path]:
    """An empty state folder; a server started in it is stopped and removed."""
    with temporary_home() as folder:
        yield folder
