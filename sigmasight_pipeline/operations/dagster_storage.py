"""Dagster's PostgreSQL storages on connections that are kept open.

What belongs here: the engine the project's storage classes share, and the storages of runs and schedules named in
``dagster.yaml``. What does not: the event log, which also stores in bulk (``operations.event_log``), and any change of
what is stored.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Self

import psycopg2
from dagster_postgres.run_storage import PostgresRunStorage
from dagster_postgres.schedule_storage import PostgresScheduleStorage
from dagster_postgres.utils import (
    create_pg_engine,
    get_token_provider_from_config,
    pg_url_from_config,
    set_pg_statement_timeout,
)
from sqlalchemy import Connection, Engine, ExceptionContext, event
from sqlalchemy.exc import DisconnectionError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from sigmasight_pipeline.dagster_internals import ConfigurableClassData
from sigmasight_pipeline.settings import get_settings
from sigmasight_pipeline.storage.connections import CONNECTION_DEFAULTS
from sigmasight_pipeline.storage.errors import ServerUnreachableError, StorageError, explain

if TYPE_CHECKING:
    from dagster_postgres.auth import PgTokenProvider

POOL_RECYCLE_SECONDS = 300

TRUSTED_SECONDS = 0.1
"""How long a connection is used again unasked. A run uses one hundreds of times a second; asking doubles the trips."""

PATIENCE_SECONDS = 4.0
"""How long a server that does not answer is asked again: one that restarts is back within a second. Dagster asks for
eleven seconds, and again for each thing it wants to say about what failed."""

ASK_AGAIN_SECONDS = 0.2

_unreachable: set[str] = set()
"""Addresses whose server did not answer in time; asked once from then on, until it answers."""


def pooled_engine(url: str, token_provider: PgTokenProvider | None, **pool: Any) -> Engine:
    """An engine that keeps connections, and asks one that was idle whether it still lives.

    A server that restarted between two runs must cost one question, not a failed event. One that went away raises
    ServerUnreachableError, not the statement it did not answer. `pool` are arguments of the pool that differ.
    """
    settings = get_settings()
    engine = create_pg_engine(
        url,
        token_provider,
        **{
            "isolation_level": "AUTOCOMMIT",
            "poolclass": QueuePool,
            "pool_size": settings.dagster_pool_size,
            "max_overflow": settings.dagster_pool_overflow,
            "pool_recycle": POOL_RECYCLE_SECONDS,
            "connect_args": dict(CONNECTION_DEFAULTS),
            **pool,
        },
    )
    event.listen(engine, "checkin", _remember_use)
    event.listen(engine, "checkout", _ask_if_idle)
    event.listen(engine, "handle_error", _in_words(url))
    return engine


def _in_words(url: str) -> Callable[[ExceptionContext], None]:
    def translate(context: ExceptionContext) -> None:
        if context.is_disconnect and context.original_exception is not None:
            said = explain(context.original_exception, url)
            if isinstance(said, ServerUnreachableError):
                raise said from None

    return translate


@contextmanager
def lent(engine: Engine, url: str) -> Iterator[Connection]:
    """A connection of `engine`, given back at the end. StorageError where the server at `url` gives none in time."""
    connection = _opened(engine, url)
    try:
        yield connection
    finally:
        connection.close()


def _opened(engine: Engine, url: str) -> Connection:
    deadline = time.monotonic() + (0.0 if url in _unreachable else PATIENCE_SECONDS)
    while True:
        try:
            connection = engine.connect()
        except (SQLAlchemyError, StorageError) as error:
            if time.monotonic() >= deadline:
                _unreachable.add(url)
                raise explain(error, url) from None
            time.sleep(ASK_AGAIN_SECONDS)
        else:
            _unreachable.discard(url)
            return connection


def _remember_use(_connection: Any, record: Any) -> None:
    record.info["used"] = time.monotonic()


def _ask_if_idle(connection: Any, record: Any, _proxy: Any) -> None:
    if time.monotonic() - record.info.get("used", time.monotonic()) < TRUSTED_SECONDS:
        return
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except psycopg2.Error as error:
        raise DisconnectionError from error  # the pool tries another


class KeepsConnections:
    """For a PostgreSQL storage of Dagster, which else opens a connection for every statement."""

    postgres_url: str
    _token_provider: PgTokenProvider | None
    _engine: Engine

    def __init__(
        self,
        postgres_url: str,
        should_autocreate_tables: bool = True,
        inst_data: ConfigurableClassData | None = None,
        token_provider: PgTokenProvider | None = None,
    ) -> None:
        super().__init__(postgres_url, should_autocreate_tables, inst_data, token_provider)  # type: ignore[call-arg]
        made_by_dagster, self._engine = self._engine, pooled_engine(postgres_url, token_provider)
        made_by_dagster.dispose()

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """Made by Dagster from ``dagster.yaml``."""
        return cls(
            inst_data=inst_data,
            postgres_url=pg_url_from_config(config_value),
            should_autocreate_tables=config_value.get("should_autocreate_tables", True),
            token_provider=get_token_provider_from_config(config_value),
        )

    def optimize_for_webserver(self, statement_timeout: int, pool_recycle: int, max_overflow: int) -> None:
        """Called in the webserver: more connections kept, a limit to each statement (milliseconds)."""
        self._engine.dispose()
        self._engine = pooled_engine(
            self.postgres_url,
            self._token_provider,
            pool_size=get_settings().webserver_pool_size,
            max_overflow=max_overflow,
            pool_recycle=pool_recycle,
        )
        event.listen(
            self._engine, "connect", lambda connection, _record: set_pg_statement_timeout(connection, statement_timeout)
        )

    def dispose(self) -> None:
        """Close the pooled connections too: a server that is asked to stop waits for nobody."""
        super().dispose()  # type: ignore[misc]
        self._engine.dispose()


class PooledRunStorage(KeepsConnections, PostgresRunStorage):
    """PostgresRunStorage that keeps connections open."""

    def connect(self) -> AbstractContextManager[Connection]:
        """A connection for some statements."""
        return lent(self._engine, self.postgres_url)


class PooledScheduleStorage(KeepsConnections, PostgresScheduleStorage):
    """PostgresScheduleStorage that keeps connections open."""

    def connect(self, run_id: str | None = None) -> AbstractContextManager[Connection]:  # Dagster's
        """A connection for some statements."""
        return lent(self._engine, self.postgres_url)
