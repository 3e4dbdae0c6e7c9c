"""Dagster instances of a test's own: the project's dagster.yaml on a database made for it.

What belongs here: making and removing such an instance. What does not: jobs and assertions.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest

from sigmasight_pipeline.operations.instance import INSTANCE_FILE, dagster_storage_url, project_folder
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline_tests.conftest import temporary_database

PROJECT_CLASS = ("sigmasight_pipeline.operations.event_log", "PooledEventLogStorage")
DAGSTER_CLASS = ("dagster_postgres.event_log", "PostgresEventLogStorage")


@contextmanager
def fresh_instance(
    server: EmbeddedServer, folder: Path, monkeypatch: pytest.MonkeyPatch, storage: tuple[str, str] = PROJECT_CLASS
) -> Iterator[dg.DagsterInstance]:
    """An instance by the project's own dagster.yaml on a new database, `storage` (module, class) as its event log."""
    folder.mkdir()
    text = (project_folder() / INSTANCE_FILE).read_text()
    for ours, wanted in zip(PROJECT_CLASS, storage, strict=True):
        assert f": {ours}\n" in text, f"dagster.yaml does not name {ours}"
        text = text.replace(f": {ours}\n", f": {wanted}\n")
    (folder / INSTANCE_FILE).write_text(text)
    with temporary_database(server) as url:
        monkeypatch.setenv("DAGSTER_DATABASE_URL", dagster_storage_url(url))
        monkeypatch.setenv("SIGMASIGHT_DAGSTER_DIR", str(folder))
        monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "500")
        instance = dg.DagsterInstance.from_config(str(folder))
        try:
            yield instance
        finally:
            instance.dispose()
