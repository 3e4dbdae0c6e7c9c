"""Opening an installation: settings, the database (embedded or a real server), its schema, Dagster's environment.

What belongs here: what every command needs before it can do anything. What does not: commands.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from pydantic import ValidationError

from sigmasight_pipeline.cli.console import UserError, note, timed
from sigmasight_pipeline.settings import Settings, get_settings
from sigmasight_pipeline.storage import schema
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.embedded import EmbeddedServer

if TYPE_CHECKING:
    from sigmasight_pipeline.operations.launcher import Launcher

DATABASE = "sigmasight"
DAGSTER_DATABASE = "dagster"


def load_settings() -> Settings:
    """The settings, or one sentence naming the variable that is wrong."""
    try:
        return get_settings()
    except ValidationError as error:
        problem = error.errors()[0]
        name = ".".join(str(part) for part in problem["loc"])
        variable = f"SIGMASIGHT_{name.upper()}: " if name else ""
        raise UserError(variable + problem["msg"].removeprefix("Value error, ")) from None


@dataclass(frozen=True)
class Installation:
    """An opened installation: its settings and its database."""

    settings: Settings
    database_url: str
    dagster_url: str
    server: EmbeddedServer | None

    @cached_property
    def database(self) -> Database:
        """The database of results."""
        return Database(self.database_url)

    @cached_property
    def launcher(self) -> Launcher:
        """The launcher on this installation's Dagster instance (loads Dagster: about two seconds)."""
        from sigmasight_pipeline.definitions import defs
        from sigmasight_pipeline.operations.instance import get_instance
        from sigmasight_pipeline.operations.launcher import Launcher

        launcher = Launcher(get_instance(), defs)
        if recovered := launcher.recover():
            note(f"{recovered} earlier run(s) had been killed; they are marked failed now.")
        return launcher


@contextmanager
def connected(*, create: bool = False) -> Iterator[Installation]:
    """Start or reach the database and set Dagster's environment; the schema is left as it is unless `create`."""
    settings = load_settings()
    home = settings.home_path
    if settings.database_url is not None:
        url = settings.database_url.get_secret_value()
        dagster_url = os.environ.get("DAGSTER_DATABASE_URL") or schema.sibling_database(url, DAGSTER_DATABASE)
        yield _ready(Installation(settings, url, dagster_url, None), create)
        return
    home.mkdir(parents=True, exist_ok=True)
    server = EmbeddedServer(home)
    with timed("Starting the embedded PostgreSQL server ..."):
        shared = server.shared()
        shared.__enter__()
    try:
        yield _ready(Installation(settings, server.url(DATABASE), server.url(DAGSTER_DATABASE), server), create)
    finally:
        shared.__exit__(None, None, None)


def _ready(installation: Installation, create: bool) -> Installation:
    from sigmasight_pipeline.operations.instance import set_environment

    if installation.server is not None or create:
        # nothing can be lost on our own server, nor in a database without our tables
        if installation.server is not None or schema.current_revision(installation.database_url) is None:
            schema.upgrade(installation.database_url)
        if installation.server is None:
            schema.create_database_if_missing(installation.dagster_url)
    schema.require_current(installation.database_url)
    set_environment(
        home=installation.settings.home_path,
        database_url=installation.database_url,
        dagster_url=installation.dagster_url,
    )
    return installation
