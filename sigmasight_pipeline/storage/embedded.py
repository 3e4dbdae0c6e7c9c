"""The embedded PostgreSQL server: one per state folder, shared by every process that works with that
folder.

What belongs here: the life of the server (start, share, stop, remove) and its addresses. What does not: how
PostgreSQL is initialised and started (``embedded_cluster``), where its files lie (``embedded_placement``),
which programs are used (``embedded_binaries``), and everything that also works with a real server.

Three locks in ``<home>/postgres`` carry the design; the kernel drops them when their holder ends, however
it ends: ``lifecycle.lock`` is held while starting, stopping or removing; ``users.lock`` is held shared by
everyone inside `EmbeddedServer.shared`, so that the last one out can tell; ``alive.lock`` is held by the
server's own processes, so that "no server lives" is a fact and not a guess from a process id. A file,
``kept``, says that the running server is to outlive its users.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self
from urllib.parse import quote

from psycopg import pq
from psycopg.conninfo import make_conninfo

from .embedded_binaries import find_binaries, find_psql, usable_binaries
from .embedded_cluster import (
    DATABASES,
    ROLE,
    data_major,
    initialise,
    launch,
    log_tail,
    postmaster_pid,
    remove_stale_files,
    role_password,
    rotate_log,
)
from .embedded_placement import PORT, Placement, load, place, remove_outside, write_private
from .embedded_tcp import LOCALHOST, forwarded
from .embedded_users import signed_in, users
from .errors import EmbeddedServerError, NotPermittedError
from .file_locks import POLL_SECONDS, exclusive, is_held, open_lock, try_lock

LOCK_TIMEOUT = 300.0
"""Seconds to wait for another process that is starting or stopping the server."""
ANSWER_TIMEOUT = 60.0
"""Seconds a live server may leave a knock unanswered; while it answers "recovering" the wait goes on."""
STOP_SIGNALS = ((signal.SIGINT, 60.0), (signal.SIGQUIT, 20.0))
"""How the server is asked to end and how many seconds it gets: in order (fast), then at once (recovers when
started)."""


@dataclass(frozen=True)
class ServerAddress:
    """How to connect: socket folder, role, password."""

    socket_folder: Path
    password: str = field(repr=False)
    role: str = ROLE
    port: int = PORT

    @property
    def socket_path(self) -> Path:
        """The socket file."""
        return self.socket_folder / f".s.PGSQL.{self.port}"

    def url(self, database: str = DATABASES[0], *, with_password: bool = True) -> str:
        """The connection URL, as libpq, psycopg, psql, ADBC and (scheme ``postgresql+psycopg2``) SQLAlchemy
        take it.

        Without the password it is fit for a command line: set PGPASSFILE to `EmbeddedServer.password_file`.
        """
        return (
            f"postgresql://{self._user(with_password)}@/{quote(database, safe='')}"
            f"?host={quote(str(self.socket_folder))}&port={self.port}"
        )

    def tcp_url(self, port: int, database: str = DATABASES[0]) -> str:
        """The connection URL of the door that `EmbeddedServer.serve` opens."""
        return f"postgresql://{self._user(True)}@{LOCALHOST}:{port}/{quote(database, safe='')}"

    def _user(self, with_password: bool) -> str:
        return f"{self.role}:{quote(self.password, safe='')}" if with_password else self.role


class EmbeddedServer:
    """The server of one state folder. Cheap to make, holds nothing: several may exist, in as many
    processes."""

    OWN_ENTRIES: ClassVar[frozenset[str]] = frozenset({"postgres", "postgres.removed"})
    """What may be found in the state folder that is the server's."""

    def __init__(self, home: Path) -> None:
        self.home = home.expanduser().resolve()
        self._control = self.home / "postgres"
        self._doomed = self.home / "postgres.removed"

    def start(self) -> ServerAddress:
        """Start the server (setting it up on first use) or join the one that runs; it then runs until
        stopped, whoever uses and leaves it meanwhile.

        Raises EmbeddedServerError with the last log lines, NotPermittedError where the folder is another
        user's.
        """
        with self._lifecycle():
            address = self._start()
            write_private(self._kept, "")
            return address

    def stop(self) -> bool:
        """Stop the server whoever uses it; committed work is kept. Returns whether one was running."""
        if not self._was_set_up():
            return False
        with self._lifecycle():
            return self._stop()

    @contextmanager
    def shared(self, user: str = "") -> Iterator[Self]:
        """Use the server inside the block; the last of all its users to leave, in any process, stops it.

        A server that `start` was asked for is left running. `user` is who uses it, in words (see `users`).
        """
        with self._lifecycle():
            self._start()
            sharing = open_lock(self._control / "users.lock")
            try_lock(sharing, shared=True)  # cannot fail: held exclusively only under the lifecycle lock
        try:
            with signed_in(self._control, user or Path(sys.argv[0]).name):
                yield self
        finally:
            try:
                if self._was_set_up():  # not removed meanwhile
                    with self._lifecycle():
                        if try_lock(sharing) and not self._kept.exists():
                            self._stop()
            finally:
                os.close(sharing)

    def is_running(self) -> bool:
        """Whether a server accepts connections (one that is still recovering does not yet)."""
        placement = self._placement()
        return placement is not None and _knock(placement) == pq.Ping.OK

    def in_use(self) -> bool:
        """Whether some process is inside `shared`; `sigmasight reset` asks before it removes."""
        if not self._was_set_up():
            return False
        with self._lifecycle():
            return is_held(self._control / "users.lock", also_shared=True)

    def users(self) -> list[str]:
        """Every other process inside `shared`, in words: the command and its process id."""
        if not self._was_set_up():
            return []
        with self._lifecycle():
            return users(self._control)

    def address(self) -> ServerAddress:
        """How to connect, whether or not the server runs. Raises EmbeddedServerError before the first
        start."""
        placement = self._placement()
        if placement is None:
            raise EmbeddedServerError(f"{self.home} holds no embedded database yet; start it first.")
        return ServerAddress(placement.socket, role_password(placement))

    def url(self, database: str = DATABASES[0]) -> str:
        """`ServerAddress.url` of `address`."""
        return self.address().url(database)

    @property
    def _kept(self) -> Path:
        """There while the running server is to stay after its last user; what a crash left is cleared by the next
        cold start."""
        return self._control / "kept"

    @property
    def password_file(self) -> Path:
        """The passwords in libpq's passfile format, for PGPASSFILE."""
        return self._control / "pgpass"

    @property
    def log_file(self) -> Path:
        """The server's log."""
        return self._control / "server.log"

    @property
    def psql_path(self) -> Path:
        """psql of the version the data belong to. Raises EmbeddedServerError where none is installed."""
        placement = self._placement()
        return find_psql(find_binaries(data_major(placement) if placement else None))

    @contextmanager
    def serve(self, port: int, user: str = "") -> Iterator[str]:
        """Open 127.0.0.1:`port` (0: any free one) too, inside the block; gives the URL.

        The server is in use meanwhile. Raises EmbeddedServerError where the port is taken.
        """
        with self.shared(user):
            address = self.address()
            with forwarded(port, address.socket_path) as opened:
                yield address.tcp_url(opened)

    def remove(self) -> None:
        """Stop the server and delete its database, logs and passwords, wherever they lie, but not `home`."""
        if not self._was_set_up():
            return
        with self._lifecycle():
            self._stop()
            placement = load(self._control)
            if placement is not None:
                remove_outside(placement)
            if self._doomed.exists():  # of a removal that was killed
                shutil.rmtree(self._doomed)
            # Renamed first: a process that starts anew from now on does so in a folder we do not empty.
            self._control.rename(self._doomed)
            shutil.rmtree(self._doomed)

    @contextmanager
    def _lifecycle(self) -> Iterator[None]:
        """Hold the lifecycle lock."""
        with self._plain_errors(), exclusive(self._control / "lifecycle.lock", timeout=LOCK_TIMEOUT):
            yield

    @contextmanager
    def _plain_errors(self) -> Iterator[None]:
        """What the operating system refuses becomes one clear sentence."""
        try:
            yield
        except PermissionError as error:
            raise NotPermittedError(
                f"{error.filename or self._control} is not ours to use ({error.strerror}); run as its "
                "owner, or set SIGMASIGHT_HOME to a folder of your own."
            ) from error
        except TimeoutError as error:
            raise EmbeddedServerError(f"The embedded server stays busy: {error}; end that process.") from error
        except OSError as error:
            raise EmbeddedServerError(
                f"The embedded server cannot use {error.filename or self._control} ({error.strerror}); "
                "correct that, or set SIGMASIGHT_HOME to another folder."
            ) from error

    def _was_set_up(self) -> bool:
        with self._plain_errors():
            return self._control.exists()

    def _placement(self) -> Placement | None:
        """The recorded placement, None before the database was first set up."""
        with self._plain_errors():
            placement = load(self._control)
            return placement if placement and placement.data.exists() else None

    def _start(self) -> ServerAddress:
        placement = load(self._control)
        if placement is None or not self._is_answering(placement):
            placement = place(self._control)
            self._kept.unlink(missing_ok=True)
            self._cold_start(placement)
        rotate_log(placement.log)
        return ServerAddress(placement.socket, role_password(placement))

    def _cold_start(self, placement: Placement) -> None:
        """Clean up after the last server, of which no process lives, set up on first use, start, wait."""
        major: int | None = None
        if placement.data.exists():
            major = data_major(placement)
            role_password(placement)  # complains before anything is started
        binaries = usable_binaries(find_binaries(major), placement)
        with exclusive(placement.alive, timeout=LOCK_TIMEOUT) as alive:
            if major is None:
                initialise(placement, binaries, alive)
            remove_stale_files(placement)
            launch(placement, binaries, alive)
        if not self._is_answering(placement):
            raise EmbeddedServerError(
                f"The embedded server did not start; the last lines of {placement.log}:",
                log_tail(placement.log),
            )

    def _is_answering(self, placement: Placement) -> bool:
        """Wait for a live server to accept connections; False as soon as no process of it lives."""
        deadline = time.monotonic() + ANSWER_TIMEOUT
        pause = POLL_SECONDS
        while _lives(placement):
            match _knock(placement):
                case pq.Ping.OK:
                    return True
                case pq.Ping.REJECT:  # starting or recovering, which takes what it takes
                    deadline = time.monotonic() + ANSWER_TIMEOUT
                case _ if time.monotonic() > deadline:
                    raise EmbeddedServerError(
                        "Processes of the embedded server live but do not answer "
                        f"for {ANSWER_TIMEOUT:.0f} seconds; end those working in {placement.data}. "
                        f"The last lines of {placement.log}:",
                        log_tail(placement.log),
                    )
            time.sleep(pause)
            pause = min(pause * 1.2, 0.25)  # each knock while it recovers is a line in its log
        return False

    def _stop(self) -> bool:
        self._kept.unlink(missing_ok=True)
        placement = load(self._control)
        if placement is None or not _lives(placement):
            return False
        for number, patience in STOP_SIGNALS:
            deadline = time.monotonic() + patience
            signalled: int | None = None
            while time.monotonic() < deadline:
                pid = postmaster_pid(placement)
                if pid is not None and pid != signalled:
                    with suppress(ProcessLookupError):  # killed before: its children are about to notice
                        os.kill(pid, number)
                    signalled = pid
                if not _lives(placement):
                    return True
                time.sleep(POLL_SECONDS)
        raise EmbeddedServerError(
            f"The embedded server does not stop; end the processes working in {placement.data}. "
            f"The last lines of {placement.log}:",
            log_tail(placement.log),
        )


def _lives(placement: Placement) -> bool:
    """Whether any process of the server lives; the knock is for file systems that pass no lock on to
    children (NFS)."""
    return is_held(placement.alive) or _knock(placement) in (pq.Ping.OK, pq.Ping.REJECT)


def _knock(placement: Placement) -> pq.Ping:
    """What pg_isready does: libpq's ping."""
    target = make_conninfo("", host=str(placement.socket), port=PORT, user=ROLE, dbname=DATABASES[0], connect_timeout=5)
    return pq.Ping(pq.PGconn.ping(target.encode()))
