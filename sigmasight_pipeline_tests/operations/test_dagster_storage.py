"""Dagster's storages where the server went away: asked for a while, then told in one sentence without a statement."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import text

from sigmasight_pipeline.operations import dagster_storage
from sigmasight_pipeline.operations.dagster_storage import PooledRunStorage, PooledScheduleStorage
from sigmasight_pipeline.operations.event_log import PooledEventLogStorage
from sigmasight_pipeline.operations.instance import dagster_storage_url
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline.storage.errors import ServerUnreachableError

ASKS: dict[type, Callable[..., object]] = {
    PooledRunStorage: lambda storage: storage.get_runs(),
    PooledEventLogStorage: lambda storage: storage.get_logs_for_run("a run"),
    PooledScheduleStorage: lambda storage: storage.all_instigator_state(),
}


def test_a_server_that_went_away_is_one_sentence_and_one_wait(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    naps: list[float] = []
    server = EmbeddedServer(home)
    server.start()
    url = dagster_storage_url(server.url("dagster"))
    storages = [kind(url) for kind in ASKS]
    for storage in storages:
        ASKS[type(storage)](storage)
    monkeypatch.setattr(dagster_storage, "PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(dagster_storage.time, "sleep", naps.append)
    server.stop()
    for storage in storages:
        with pytest.raises(ServerUnreachableError) as raised:
            ASKS[type(storage)](storage)
        assert "SELECT" not in str(raised.value)
        assert "No PostgreSQL server answers at socket" in str(raised.value)
    waited = len(naps)
    assert waited > 0, "it was asked again"
    for storage in storages:
        with pytest.raises(ServerUnreachableError):
            ASKS[type(storage)](storage)
    assert len(naps) == waited, "once it is known to be gone nobody waits for it again"
    server.start()
    for storage in storages:
        ASKS[type(storage)](storage)
        storage.dispose()


def test_a_connection_that_is_lost_in_a_statement_does_not_quote_it(home: Path) -> None:
    server = EmbeddedServer(home)
    with server.shared():
        runs = PooledRunStorage(dagster_storage_url(server.url("dagster")))
        with runs.connect() as connection:
            connection.execute(text("SELECT 1"))
            server.stop()
            with pytest.raises(ServerUnreachableError) as raised:
                connection.execute(text("SELECT 'a statement nobody needs to read'"))
        assert "nobody needs to read" not in str(raised.value)
        runs.dispose()


def test_the_webserver_keeps_the_connections_its_pages_use(database_url: str) -> None:
    runs = PooledRunStorage(dagster_storage_url(database_url))
    runs.optimize_for_webserver(statement_timeout=5000, pool_recycle=3600, max_overflow=20)
    runs.add_run(dg.DagsterRun(job_name="one"))
    with runs.connect() as one, runs.connect() as other, runs.connect() as third:
        limits = [connection.execute(text("SHOW statement_timeout")).scalar() for connection in (one, other, third)]
    assert limits == ["5s"] * 3
    assert "Connections in pool: 3" in runs._engine.pool.status()  # type: ignore[attr-defined]  # of a QueuePool
    runs.dispose()
