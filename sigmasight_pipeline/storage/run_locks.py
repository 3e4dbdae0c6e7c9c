"""The right to compute sessions, and the right to change what is held in them: of one process at a time each.

What belongs here: taking it and saying who has it. What does not: which sessions a run computes, and waiting for
another run (``operations.run_process``); the right to write, which a transaction takes (``storage.partitions``).

Advisory locks of a connection of the holder's own: the server drops them with the connection, however the process ends,
so that nothing has to be cleaned up after one that was killed. A run over sessions holds each of them, and shares the
books with all other runs: whoever applies a file has the books to himself, for as long as what it changes is not
computed, so that no run begins with one state of positions and ends with another.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import date
from typing import Self

import psycopg
from psycopg.conninfo import make_conninfo

from sigmasight_pipeline.storage.connections import connection_string
from sigmasight_pipeline.storage.database import explained

OURS = "sigmasight "
"""How the connections of holders are called in ``pg_stat_activity``, before who they are."""

HOLDER = f"{OURS}run "
"""The same of a run, before its identifier."""

LONGEST_NAME = 63
"""Bytes of a connection's name the server keeps."""

GONE = "one that has just ended"
"""Stands for a holder that gave back what it had before it could be named."""

LOCK_KEY = zlib.crc32(b"sigmasight: runs computing sessions") & 0x7FFFFFFF
"""First half of the key of each lock, the session the second; the server shows it without a sign."""

BOOKS = 0
"""Stands for the books where a session's number stands: shared by those who read them, of one who changes them."""

_in_hand: ContextVar[bool] = ContextVar("in_hand", default=False)
"""Whether this process has the books to itself: its own runs do not wait for it."""


class _Locks:
    """Advisory locks of a connection of their own. Use as a context manager; leaving it gives all back."""

    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self._name = name.encode()[:LONGEST_NAME].decode(errors="ignore")
        self._connection: psycopg.Connection[tuple[object, ...]] | None = None

    def __enter__(self) -> Self:
        with explained(self._url):
            self._connection = psycopg.connect(
                make_conninfo(connection_string(self._url), application_name=self._name),
                autocommit=True,
            )
            self._connection.execute("SET idle_session_timeout = 0")
        return self

    def __exit__(self, *_error: object) -> None:
        if self._connection is not None:
            with suppress(psycopg.Error):  # a server that is gone has dropped the locks with the connection
                # given back now: the server notices the end of a connection when it comes to it
                self._connection.execute("SELECT pg_advisory_unlock_all()")
            self._connection.close()

    def _take(self, alone: Sequence[int], shared: Sequence[int]) -> list[str]:
        """Take all of it, or nothing; [] where it was taken, else those who have some of it."""
        if self._connection is None:
            raise RuntimeError("locks are taken inside the context")
        with explained(self._url):
            refused = self._connection.execute(
                "SELECT day FROM unnest(%s::int[]) AS day WHERE NOT pg_try_advisory_lock(%s, day) UNION ALL "
                "SELECT day FROM unnest(%s::int[]) AS day WHERE NOT pg_try_advisory_lock_shared(%s, day)",
                (list(alone), LOCK_KEY, list(shared), LOCK_KEY),
            ).fetchall()
            if not refused:
                return []
            self._connection.execute("SELECT pg_advisory_unlock_all()")
            # given back meanwhile: the caller asks again
            return _holders(self._connection, alone, shared) or [GONE]


class SessionLocks(_Locks):
    """What a run computes, and nobody else may meanwhile."""

    def __init__(self, url: str, run_id: str) -> None:
        super().__init__(url, f"{HOLDER}{run_id[:8]}")

    def take(self, sessions: Collection[date]) -> list[str]:
        """Take all of `sessions`, or none of them; [] where they are taken, else in words who keeps the run from them:
        runs that have some of them, or who changes the books."""
        if not sessions:
            return []
        return self._take(sorted(day.toordinal() for day in sessions), [] if _in_hand.get() else [BOOKS])

    def take_books(self) -> list[str]:
        """Take the books, to change them; [] where they are taken, else in words who reads or changes them."""
        return [] if _in_hand.get() else self._take([BOOKS], [])


class BookLock(_Locks):
    """The books of a process that applies a file and computes what it changes; `what` it does, in words."""

    def __init__(self, url: str, what: str) -> None:
        super().__init__(url, f"{OURS}{what}")

    def take(self) -> list[str]:
        """Take the books; [] where they are taken, else in words who reads or changes them."""
        return self._take([BOOKS], [])

    @contextmanager
    def in_hand(self) -> Iterator[None]:
        """Inside the block runs of this process need not ask for the books, which were taken."""
        token = _in_hand.set(True)
        try:
            yield
        finally:
            _in_hand.reset(token)


def computing(url: str) -> list[str]:
    """In words, who computes sessions or changes the books in the database at `url` right now."""
    with explained(url), psycopg.connect(connection_string(url), autocommit=True) as connection:
        return _holders(connection)


def _holders(
    connection: psycopg.Connection[tuple[object, ...]],
    alone: Sequence[int] | None = None,
    shared: Sequence[int] = (),
) -> list[str]:
    """Who has what keeps `alone` from being taken alone and `shared` from being shared; everybody without `alone`."""
    everybody = alone is None
    rows = connection.execute(
        "SELECT DISTINCT application_name FROM pg_locks JOIN pg_stat_activity USING (pid) "
        "WHERE locktype = 'advisory' AND objsubid = 2 AND granted AND classid = %s "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
        "AND (%s OR objid::bigint = ANY(%s) OR (objid::bigint = ANY(%s) AND mode = 'ExclusiveLock')) "
        "AND pid <> pg_backend_pid() ORDER BY 1",
        (LOCK_KEY, everybody, list(alone or ()), list(shared)),
    ).fetchall()
    return [str(name).removeprefix(OURS) for (name,) in rows]
