"""The right to compute sessions: held by one run at a time, for as long as the run's process lives.

What belongs here: taking it and saying who has it. What does not: which sessions a run computes, and waiting for
another run (``operations.run_process``); the right to write, which a transaction takes (``storage.partitions``).

Advisory locks of a connection of the run's own: the server drops them with the connection, however the process ends,
so that nothing has to be cleaned up after one that was killed.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import date

import psycopg
from psycopg.conninfo import make_conninfo

from sigmasight_pipeline.storage.connections import connection_string
from sigmasight_pipeline.storage.database import explained

HOLDER = "sigmasight run "
"""What the connection of a run is called in ``pg_stat_activity``, before the run's identifier."""

GONE = "that has just ended"
"""Stands for a run that gave its sessions back before it could be named."""

LOCK_KEY = zlib.crc32(b"sigmasight: runs computing sessions") & 0x7FFFFFFF
"""First half of the key of each lock, the session the second; the server shows it without a sign."""

KEEPALIVE_SECONDS = 60
"""The connection is idle while the run computes; firewalls forget idle ones without telling either end."""


class SessionLocks:
    """Sessions a run computes and nobody else may meanwhile. Use as a context manager; leaving it gives all back."""

    def __init__(self, url: str, run_id: str) -> None:
        self._url = url
        self._name = f"{HOLDER}{run_id[:8]}"
        self._connection: psycopg.Connection[tuple[object, ...]] | None = None

    def __enter__(self) -> SessionLocks:
        with explained(self._url):
            self._connection = psycopg.connect(
                make_conninfo(
                    connection_string(self._url), application_name=self._name, keepalives_idle=KEEPALIVE_SECONDS
                ),
                autocommit=True,
            )
            self._connection.execute("SET idle_session_timeout = 0")
        return self

    def __exit__(self, *_error: object) -> None:
        if self._connection is not None:
            with suppress(psycopg.Error):  # a server that is gone has dropped the locks with the connection
                self._connection.close()

    def take(self, sessions: Collection[date]) -> list[str]:
        """Take all of `sessions`, or none of them; [] where they are taken, else the runs that have some of them."""
        if self._connection is None:
            raise RuntimeError("sessions are taken inside the context")
        ordinals = sorted(day.toordinal() for day in sessions)
        with explained(self._url):
            refused = self._connection.execute(
                "SELECT day FROM unnest(%s::int[]) AS day WHERE NOT pg_try_advisory_lock(%s, day)",
                (ordinals, LOCK_KEY),
            ).fetchall()
            if not refused:
                return []
            self._connection.execute("SELECT pg_advisory_unlock_all()")
            return _holders(self._connection, ordinals) or [GONE]  # given back meanwhile: the caller asks again


def computing(url: str) -> list[str]:
    """Identifiers (first eight characters) of the runs that compute sessions in the database at `url` right now."""
    with explained(url), psycopg.connect(connection_string(url), autocommit=True) as connection:
        return _holders(connection)


def _holders(connection: psycopg.Connection[tuple[object, ...]], ordinals: Sequence[int] | None = None) -> list[str]:
    rows = connection.execute(
        "SELECT DISTINCT application_name FROM pg_locks JOIN pg_stat_activity USING (pid) "
        "WHERE locktype = 'advisory' AND objsubid = 2 AND granted AND classid = %s "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
        "AND (%s::bigint[] IS NULL OR objid::bigint = ANY(%s)) AND pid <> pg_backend_pid() ORDER BY 1",
        (LOCK_KEY, ordinals, ordinals),
    ).fetchall()
    return [str(name).removeprefix(HOLDER) for (name,) in rows]
