"""A process that has loaded everything and runs each command in a fork of itself, killed at a commit where asked.

What belongs here: counting the commits of transactions that wrote something, and SIGKILL at one of them. What does not:
which commands and what must come of them. Nothing of this is part of the product: commits are counted around psycopg.

Run as ``python -m sigmasight_pipeline_tests.faults.command_server``: one JSON object a line is a command (arguments,
environment, folder, point, moment), the answer is one too (status, commits, output). Loading takes seconds and a fork
milliseconds; that is what makes hundreds of points bearable. No thread runs before a fork.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

BEFORE, AFTER = "before", "after"
"""Moments of a kill: just before the commit reaches the server, and just after it is done."""


class Commits:
    """Counts the commits of this process that write; at number `point` (from 1) the process is killed."""

    def __init__(self, point: int, moment: str) -> None:
        self.count = 0
        self.point = point
        self.moment = moment
        self._lock = threading.Lock()
        self._commit = psycopg.Connection.commit

    def install(self) -> None:
        """Count from now on."""
        counted = self

        def commit(connection: psycopg.Connection[Any]) -> None:
            counted.commit(connection)

        psycopg.Connection.commit = commit  # type: ignore[method-assign]  # this process is a test's

    def commit(self, connection: psycopg.Connection[Any]) -> None:
        """Commit, counted where the transaction wrote something."""
        if not _wrote(connection):
            self._commit(connection)
            return
        with self._lock:
            self.count += 1
            number = self.count
        if number == self.point and self.moment == BEFORE:
            os.kill(os.getpid(), signal.SIGKILL)
        self._commit(connection)
        if number == self.point and self.moment == AFTER:
            os.kill(os.getpid(), signal.SIGKILL)


def _wrote(connection: psycopg.Connection[Any]) -> bool:
    """Whether the transaction has been given a number, which PostgreSQL does with its first write."""
    if connection.info.transaction_status != TransactionStatus.INTRANS:
        return False
    return connection.pgconn.exec_(b"SELECT pg_current_xact_id_if_assigned()").get_value(0, 0) is not None


def run(asked: dict[str, Any], told: Path, counted: Path) -> None:
    """Run one command in this process, which ends with it."""
    os.environ.update(asked["environment"])
    os.chdir(asked["folder"])
    with told.open("w") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    from sigmasight_pipeline.cli.main import main  # loaded by `prepare`
    from sigmasight_pipeline.settings import get_settings

    get_settings.cache_clear()
    commits = Commits(asked["point"], asked["moment"])
    commits.install()
    sys.argv = ["sigmasight", *asked["arguments"]]
    status = 0
    try:
        main()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    sys.stdout.flush()
    sys.stderr.flush()
    counted.write_text(str(commits.count))
    os._exit(status)


def prepare() -> None:
    """Load everything a command may need."""
    import sigmasight_pipeline.definitions  # noqa: F401
    from sigmasight_pipeline.cli.main import _command_tree

    _command_tree()


def serve() -> None:
    """Run the commands that arrive, one after another."""
    prepare()
    with tempfile.TemporaryDirectory() as folder:
        told, counted = Path(folder) / "told", Path(folder) / "counted"
        for line in sys.stdin:
            counted.write_text("")
            child = os.fork()
            if not child:
                run(json.loads(line), told, counted)
            _, status = os.waitpid(child, 0)
            answer = {
                "status": os.waitstatus_to_exitcode(status),
                "commits": int(counted.read_text() or 0),
                "output": told.read_text(),
            }
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    serve()
