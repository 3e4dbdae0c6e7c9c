"""What the storage tests share: databases with the schema."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest

from sigmasight_pipeline.storage import schema
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline_tests.conftest import drop_database


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database of the test's own at this code's migration, without rows."""
    schema.upgrade(database_url)
    opened = Database(database_url)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def shared_database(server: EmbeddedServer) -> Iterator[Database]:
    """A migrated database for all tests of a module that do not mind what others wrote: making one takes a second."""
    name = f"test_{uuid4().hex}"
    schema.create_database_if_missing(server.url(name))
    schema.upgrade(server.url(name))
    opened = Database(server.url(name))
    yield opened
    opened.close()
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        drop_database(connection, name)
