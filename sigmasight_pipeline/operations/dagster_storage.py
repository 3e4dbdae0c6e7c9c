"""Dagster's PostgreSQL storages on connections that are kept open.

What belongs here: the engine the project's storage classes share, and the run storage named in ``dagster.yaml``. What
does not: the event log, which also stores in bulk (``operations.event_log``), and any change of what is stored.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import psycopg2
from dagster._serdes import ConfigurableClassData
from dagster_postgres.run_storage import PostgresRunStorage
from dagster_postgres.utils import create_pg_engine, get_token_provider_from_config, pg_url_from_config
from sqlalchemy import Engine, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import QueuePool

if TYPE_CHECKING:
    from dagster_postgres.auth import PgTokenProvider

POOL_SIZE = 2
POOL_OVERFLOW = 8
POOL_RECYCLE_SECONDS = 300

TRUSTED_SECONDS = 0.1
"""How long a connection is used again unasked. A run uses one hundreds of times a second; asking doubles the trips."""


def pooled_engine(url: str, token_provider: PgTokenProvider | None) -> Engine:
    """An engine that keeps connections, and asks one that was idle whether it still lives.

    A server that restarted between two runs must cost one question, not a failed event.
    """
    engine = create_pg_engine(
        url,
        token_provider,
        isolation_level="AUTOCOMMIT",
        poolclass=QueuePool,
        pool_size=POOL_SIZE,
        max_overflow=POOL_OVERFLOW,
        pool_recycle=POOL_RECYCLE_SECONDS,
    )
    event.listen(engine, "checkin", _remember_use)
    event.listen(engine, "checkout", _ask_if_idle)
    return engine


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
    """For a PostgreSQL storage of Dagster, which else opens a connection for every statement.

    The webserver replaces the engine by its own (``optimize_for_webserver``), exactly as with the class itself.
    """

    def __init__(
        self,
        postgres_url: str,
        should_autocreate_tables: bool = True,
        inst_data: ConfigurableClassData | None = None,
        token_provider: PgTokenProvider | None = None,
    ) -> None:
        super().__init__(postgres_url, should_autocreate_tables, inst_data, token_provider)  # type: ignore[call-arg]
        self._engine = pooled_engine(postgres_url, token_provider)

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """Made by Dagster from ``dagster.yaml``."""
        return cls(
            inst_data=inst_data,
            postgres_url=pg_url_from_config(config_value),
            should_autocreate_tables=config_value.get("should_autocreate_tables", True),
            token_provider=get_token_provider_from_config(config_value),
        )

    def dispose(self) -> None:
        """Close the pooled connections too: a server that is asked to stop waits for nobody."""
        super().dispose()  # type: ignore[misc]
        self._engine.dispose()


class PooledRunStorage(KeepsConnections, PostgresRunStorage):
    """PostgresRunStorage that keeps connections open."""
