"""Writing connections: one lent to each transaction, and kept for the next.

What belongs here: opening, lending, keeping and closing psycopg's connections. What does not: statements, and reading
in bulk (``storage.database`` keeps ADBC's connections for that).
"""

from __future__ import annotations

import select
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import waiting
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus

CONNECT_TIMEOUT_SECONDS = 10
"""libpq would wait over two minutes for a host that does not answer; a URL may carry its own."""

CONNECTION_DEFAULTS: dict[str, int] = {
    "connect_timeout": CONNECT_TIMEOUT_SECONDS,
    # a host that vanishes without a word is noticed within ten seconds, not after hours; sockets know no such thing
    "keepalives_idle": 4,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""How long a server may be silent, as libpq takes it."""

WAIT_SECONDS = 0.1
"""How often a connection that waits for the server looks whether it was interrupted."""

KEPT_SECONDS = 30
"""How long an unused connection is trusted: firewalls forget idle ones without telling either end."""


def connection_string(url: str) -> str:
    """`url` as libpq takes it, with our connect timeout and application name unless it has its own."""
    given = conninfo_to_dict(url)
    defaults: dict[str, str | int] = {**CONNECTION_DEFAULTS, "application_name": "sigmasight"}
    return make_conninfo(url, **{name: value for name, value in defaults.items() if name not in given})


class InterruptibleConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection whose waiting can be interrupted on any thread.

    psycopg waits in C, where a step's thread cannot be told that the run was stopped (see ``operations.executor``): a
    statement that waits for another writer's lock would keep it going.
    """

    def wait(self, gen: PQGen[Any], interval: float = WAIT_SECONDS, timeout: float | None = None) -> Any:
        """Wait for a statement; interrupted, cancel it in the server too, which otherwise finishes it for nobody."""
        try:
            return waiting.wait_poll(gen, self.pgconn.socket, interval=interval, timeout=timeout)
        except KeyboardInterrupt:
            if self.info.transaction_status == TransactionStatus.ACTIVE:
                with suppress(psycopg.Error):  # a server that is gone has nothing to cancel
                    self.cancel_safe(timeout=CONNECT_TIMEOUT_SECONDS)
            self.close()
            raise


class KeptConnections:
    """Connections of this process to the database at `url`; connecting takes 6 ms here and as long in the server."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._free: list[tuple[float, InterruptibleConnection]] = []  # appending and popping are atomic
        self._finalizer = weakref.finalize(self, _close, self._free)

    @contextmanager
    def transaction(self) -> Iterator[InterruptibleConnection]:
        """A connection in one READ COMMITTED transaction: committed at the end, rolled back and closed on an error."""
        connection = self._taken() or InterruptibleConnection.connect(connection_string(self._url))
        try:
            # a transaction may have asked for more than it was given; the next starts from here again
            connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
            connection.read_only = None
            yield connection
            connection.commit()
        except BaseException:
            with suppress(psycopg.Error):  # the error that brought us here is the one to hear of
                connection.rollback()
            connection.close()
            raise
        self._free.append((time.monotonic(), connection))

    def close(self) -> None:
        """Close those that are kept; the next transaction opens another."""
        _close(self._free)

    def _taken(self) -> InterruptibleConnection | None:
        """A kept connection that can still be used, no longer free; None where there is none."""
        while self._free:
            try:
                since, connection = self._free.pop()
            except IndexError:  # another thread took the last one
                return None
            if not connection.closed and time.monotonic() - since < KEPT_SECONDS and not _spoken_to(connection):
                return connection
            connection.close()
        return None


def _spoken_to(connection: InterruptibleConnection) -> bool:
    """Whether the server said something to an idle connection: that it shuts down, or that it has ended."""
    poll = select.poll()  # unlike select.select, for any number of open files
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _close(kept: list[tuple[float, InterruptibleConnection]]) -> None:
    while kept:
        kept.pop()[1].close()
