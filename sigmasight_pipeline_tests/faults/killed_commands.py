"""Installations that commands are killed in: copies of a state, the commands, and what is stored in the end.

What belongs here: running a command whole or killed on a copy of a state. What does not: which commands, at which
points, and comparing what they left (``end_to_end.stored``).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import polars as pl
import psycopg

from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline_tests.conftest import drop_database
from sigmasight_pipeline_tests.end_to_end.stored import contents
from sigmasight_pipeline_tests.faults.command_server import AFTER

KILLED = -9


@dataclass(frozen=True)
class Ended:
    """How a command ended. `commits` are those that wrote something; 0 of one that was killed."""

    status: int
    commits: int
    output: str


class CommandServer:
    """Runs commands in forks of a process of its own, started with the settings of one world."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("SIGMASIGHT_", "DAGSTER_", "PG"))}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sigmasight_pipeline_tests.faults.command_server"],
            env={**inherited, "COLUMNS": "100", "DAGSTER_DISABLE_TELEMETRY": "yes", **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self, arguments: list[str], environment: Mapping[str, str], folder: Path, point: int = 0, moment: str = AFTER
    ) -> Ended:
        """Run a command, killed at its `point`-th commit; 0: not killed."""
        asked = {
            "arguments": arguments,
            "environment": dict(environment),
            "folder": str(folder),
            "point": point,
            "moment": moment,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@dataclass(frozen=True)
class State:
    """An installation: two databases and a folder with the state folder (home) and, in `files`, what users wrote."""

    server: EmbeddedServer
    commands: CommandServer
    name: str
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """What its commands see."""
        return {
            "SIGMASIGHT_HOME": str(self.folder / "home"),
            "SIGMASIGHT_DATABASE_URL": self.server.url(self.name),
            "DAGSTER_DATABASE_URL": self.server.url(f"{self.name}_dagster"),
            "SIGMASIGHT_FILES_DIR": str(self.folder / "files"),
        }

    def run(self, *arguments: str, point: int = 0, moment: str = AFTER) -> Ended:
        """A command in this installation."""
        return self.commands.run(list(arguments), self.environment, self.folder / "files", point, moment)

    def expect(self, *arguments: str) -> Ended:
        """A command that must succeed."""
        ended = self.run(*arguments)
        assert ended.status == 0, f"{arguments}: {ended.status}\n{ended.output}"
        return ended

    @contextmanager
    def copied(self) -> Iterator[State]:
        """A copy of it, dropped afterwards. Nobody may be connected to it."""
        with new_state(self.server, self.commands, self.folder.parent, like=self) as state:
            yield state

    def contents(self) -> dict[str, pl.DataFrame]:
        """What is stored."""
        database = Database(self.server.url(self.name))
        try:
            return contents(database)
        finally:
            database.close()


@contextmanager
def new_state(
    server: EmbeddedServer, commands: CommandServer, folder: Path, *, like: State | None = None
) -> Iterator[State]:
    """An empty installation, or a copy of the one it is `like`."""
    name = f"test_{uuid4().hex[:12]}"
    state = State(server, commands, name, folder / name)
    names = {name: like and like.name, f"{name}_dagster": like and f"{like.name}_dagster"}
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        for database, template in names.items():
            source = f'TEMPLATE "{template}" STRATEGY file_copy' if template else ""
            connection.execute(f'CREATE DATABASE "{database}" {source}'.encode())
        if like is None:
            (state.folder / "files").mkdir(parents=True)
            (state.folder / "home").mkdir()
        else:
            shutil.copytree(like.folder, state.folder)
        try:
            yield state
        finally:
            for database in names:
                drop_database(connection, database)
            shutil.rmtree(state.folder)
