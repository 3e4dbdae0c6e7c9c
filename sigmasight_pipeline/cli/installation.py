"""Opening an installation: settings, the database (embedded or a real server), its schema, Dagster's environment.

What belongs here: what every command needs before it can do anything. What does not: commands.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import islice, takewhile
from typing import TYPE_CHECKING

from sigmasight_pipeline.cli.console import UserError, WithoutUnspoken, note, timed

if TYPE_CHECKING:
    from sigmasight_pipeline.operations.launcher import Launcher
    from sigmasight_pipeline.settings import Settings
    from sigmasight_pipeline.storage.database import Database
    from sigmasight_pipeline.storage.embedded import EmbeddedServer

DATABASE = "sigmasight"
DAGSTER_DATABASE = "dagster"


def this_command() -> str:
    """The command this process runs, as other processes name it: without its options, which are nobody's business."""
    words = takewhile(lambda word: not word.startswith("-"), sys.argv[1:])
    return " ".join(["sigmasight", *islice(words, 2)])


def load_settings() -> Settings:
    """The settings, or one sentence naming the variable that is wrong."""
    from sigmasight_pipeline.fixed_history import RecordedEndError
    from sigmasight_pipeline.settings import InvalidSettingsError, get_settings

    try:
        settings = get_settings()
    except (InvalidSettingsError, RecordedEndError) as error:
        raise UserError(str(error)) from None
    if settings.database_url is not None:
        _require_url("SIGMASIGHT_DATABASE_URL", settings.database_url.get_secret_value())
    return settings


def _require_url(variable: str, url: str) -> None:
    from sigmasight_pipeline.storage.errors import redact

    if not re.match(r"postgres(ql)?://", url):
        raise UserError(f"{variable} is {redact(url)}; write it as postgresql://user:password@host:5432/database")


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
        from sigmasight_pipeline.storage.database import Database

        return Database(self.database_url)

    @cached_property
    def launcher(self) -> Launcher:
        """The launcher on this installation's Dagster instance, in a database made for it where there is none."""
        from sigmasight_pipeline.definitions import defs
        from sigmasight_pipeline.operations import backfills, runs
        from sigmasight_pipeline.operations.instance import get_instance
        from sigmasight_pipeline.operations.launcher import Launcher
        from sigmasight_pipeline.storage import schema

        schema.create_database_if_missing(self.dagster_url)
        remove_rows_of_earlier_versions(self.dagster_url)
        # what a command says, it says itself: libraries' own words (such as each retry of a connection) are not shown
        logging.getLogger().addHandler(logging.NullHandler())
        sys.stderr = WithoutUnspoken(sys.stderr)
        instance = get_instance()
        if killed := runs.fail_dead(instance):
            note(f"{len(killed)} earlier run(s) had been killed; they are marked failed now.")
        backfills.fail_abandoned(self.database, datetime.now(UTC))
        return Launcher(instance, defs, told=note)


def dagster_url_beside(url: str) -> str:
    """The database of Dagster's tables: DAGSTER_DATABASE_URL, else the one named `dagster` on the server of `url`."""
    from sigmasight_pipeline.storage import schema

    given = os.environ.get("DAGSTER_DATABASE_URL") or schema.sibling_database(url, DAGSTER_DATABASE)
    found = re.sub(r"^(postgres(?:ql)?)\+\w+://", r"\1://", given)  # Dagster's own notation names a driver
    _require_url("DAGSTER_DATABASE_URL", found)
    return found


def remove_rows_of_earlier_versions(dagster_url: str) -> None:
    """Remove, once, what earlier versions left in Dagster's tables, and say so."""
    from sigmasight_pipeline.storage import event_retention

    with timed("Looking for rows that earlier versions left in Dagster's tables ..."):
        removed = event_retention.remove_rows_of_earlier_versions(dagster_url)
    if removed:
        note(f"{removed:,} checks that were planned and never evaluated are removed from Dagster's tables.")


@contextmanager
def connected(*, create: bool = False) -> Iterator[Installation]:
    """Start or reach the database and set Dagster's environment; the schema is left as it is unless `create`."""
    from sigmasight_pipeline.storage.embedded import EmbeddedServer

    settings = load_settings()
    home = settings.home_path
    try:
        # who runs PostgreSQL for root must pass through; logs and what runs leave are nobody else's to read
        with suppress(FileExistsError):
            home.mkdir(mode=0o711, parents=True)
        (home / "dagster").mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{error.filename} cannot be made ({error.strerror}); set SIGMASIGHT_HOME to a folder of your own"
        ) from None
    if settings.database_url is not None:
        url = settings.database_url.get_secret_value()
        dagster_url = dagster_url_beside(url)
        yield _ready(Installation(settings, url, dagster_url, None), create)
        return
    server = EmbeddedServer(home)
    with ExitStack() as stack:
        with timed("Starting the embedded PostgreSQL server ..."):
            stack.enter_context(server.shared(this_command()))
        yield _ready(Installation(settings, server.url(DATABASE), server.url(DAGSTER_DATABASE), server), create)


def _ready(installation: Installation, create: bool) -> Installation:
    from sigmasight_pipeline.operations.instance import set_environment
    from sigmasight_pipeline.storage import schema

    url = installation.database_url
    # nothing can be lost on our own server, nor in a database without our tables
    if installation.server is not None or (create and schema.current_revision(url) is None):
        schema.upgrade(url)
    schema.require_current(url)
    set_environment(
        home=installation.settings.home_path,
        database_url=url,
        dagster_url=installation.dagster_url,
    )
    return installation
