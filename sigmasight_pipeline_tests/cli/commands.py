"""The command line as its users meet it: run in a process of its own, in an environment of its own.

What belongs here: running commands, what must hold of every one of them, and small price files. What does not:
assertions about a single command.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import psycopg

from sigmasight_pipeline.sessions import calendar
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline_tests.conftest import drop_database

T = TypeVar("T")

COMMAND = (sys.executable, "-m", "sigmasight_pipeline.cli.main")
PATIENCE = 300.0
"""Seconds after which a command is taken to hang."""

INTERNAL = ("Traceback", "sigmasight_pipeline.", "dagster._", "psycopg", "sqlalchemy", "Exception")
"""What no user should be shown."""

FIRST, LAST = date(2024, 1, 2), date(2024, 2, 15)
SESSIONS = calendar().between(FIRST, LAST)
STARTS = {"AAA": Decimal(100), "BBB": Decimal(50), "SPY": Decimal(400)}
STEPS = {"AAA": Decimal("0.5"), "BBB": Decimal("-0.25"), "SPY": Decimal(1)}


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The error it ended with, from the word on."""
        start = self.err.find("Error: ")
        assert start >= 0, f"no error was told:\n{self.err}"
        return self.err[start:].strip()


@dataclass(frozen=True)
class CommandLine:
    """Runs commands in `folder`; `variables` are all SIGMASIGHT_ and DAGSTER_ variables they see."""

    folder: Path
    variables: dict[str, str]
    secrets: list[str] = field(default_factory=list)

    def environment(self, changes: Mapping[str, str]) -> dict[str, str]:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("SIGMASIGHT_", "DAGSTER_", "PG"))
        }
        return {**inherited, "COLUMNS": "100", **self.variables, **changes}

    def __call__(
        self, *arguments: str, status: int = 0, stdin: str = "", changes: Mapping[str, str] | None = None
    ) -> Done:
        """Run a command, which must end with `status`, in words for people and without a secret on stderr.

        `changes` are variables that differ for this command.
        """
        ended = subprocess.run(
            [*COMMAND, *arguments],
            cwd=self.folder,
            env=self.environment(changes or {}),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        told = f"sigmasight {' '.join(arguments)}\n{ended.stdout}\n{ended.stderr}"
        assert ended.returncode == status, told
        for internal in INTERNAL:
            assert internal not in ended.stdout + ended.stderr, told
        for secret in self.secrets:
            assert secret not in ended.stderr, told
        return Done(ended.returncode, ended.stdout, ended.stderr)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command that a terminal could interrupt, whatever started the tests."""
        previous = signal.signal(
            signal.SIGINT, signal.default_int_handler
        )  # an ignored signal stays ignored in children
        try:
            return subprocess.Popen(
                [*COMMAND, *arguments],
                cwd=self.folder,
                env=self.environment({}),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        finally:
            signal.signal(signal.SIGINT, previous)

    def fails(self, *arguments: str, status: int = 2, changes: Mapping[str, str] | None = None) -> str:
        """Run a command that must fail in one sentence, and give the sentence."""
        done = self(*arguments, status=status, changes=changes)
        assert "\n" not in done.error, done.err
        return done.error.removeprefix("Error: ")

    def rows(self, query: str) -> list[tuple[object, ...]]:
        """Rows of a query on the results."""
        with psycopg.connect(self.variables["SIGMASIGHT_DATABASE_URL"]) as connection:
            return connection.execute(query.encode()).fetchall()

    def execute(self, statement: str) -> None:
        """Change something behind the command's back."""
        with psycopg.connect(self.variables["SIGMASIGHT_DATABASE_URL"]) as connection:
            connection.execute(statement.encode())

    def contents(self) -> dict[str, list[tuple[object, ...]]]:
        """Every row of every table of results, stamps included: equal means that nothing was touched."""
        names = self.rows(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'sigmasight' ORDER BY 1"
        )
        return {str(name): self.rows(f"SELECT t::text FROM sigmasight.{name} t ORDER BY 1") for (name,) in names}


def together(runs: Iterable[Callable[[], T]]) -> list[T]:
    """The results of runs that do not disturb each other, two at a time: most of a command's time is its start."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda run: run(), runs))


@contextmanager
def on_server(server: EmbeddedServer, folder: Path, **changes: str) -> Iterator[CommandLine]:
    """Commands on two fresh databases of `server`, used like a real server, with prices from `folder`/market."""
    name = f"test_{uuid4().hex[:12]}"
    names = [name, f"{name}_dagster"]
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())  # the other one the command makes
    variables = {
        "SIGMASIGHT_HOME": str(folder / "state"),
        "SIGMASIGHT_DATABASE_URL": server.url(names[0]),
        "DAGSTER_DATABASE_URL": server.url(names[1]),
        "SIGMASIGHT_PRICE_SOURCE": "files",
        "SIGMASIGHT_FILES_DIR": str(folder / "market"),
        **changes,
    }
    try:
        yield CommandLine(folder, variables, secrets=[server.address().password])
    finally:
        with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
            for database in names:
                drop_database(connection, database)


def close(symbol: str, session: date) -> Decimal:
    """The close of a straight line through the sessions."""
    return STARTS[symbol] + STEPS[symbol] * SESSIONS.index(session)


def write_prices(
    folder: Path,
    *,
    without: Collection[tuple[str, date]] = (),
    factors: Mapping[tuple[str, date], Decimal] | None = None,
) -> Path:
    """market/prices.csv with the lines of every symbol, some closes left `without` or multiplied by their factor."""
    path = folder / "market" / "prices.csv"
    path.parent.mkdir(exist_ok=True)
    rows = [
        f"{name},{day},{close(name, day) * (factors or {}).get((name, day), Decimal(1))}"
        for day in SESSIONS
        for name in STARTS
        if (name, day) not in without
    ]
    path.write_text("\n".join(["symbol,date,close", *rows]) + "\n")
    return path
