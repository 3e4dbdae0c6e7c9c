"""Making the embedded server's data folder and starting its process: everything PostgreSQL is told.

What belongs here: initdb and the roles and databases of a new cluster, the server's settings, the command
that starts it, its log. What does not: when to do so and who else is using it (``embedded``), and the
schema (migrations).
"""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

from .embedded_binaries import Binaries
from .embedded_placement import PORT, Placement, make_folder, write_private
from .errors import EmbeddedServerError

ROLE = "sigmasight"
"""Owns both databases; may create databases and roles, is no superuser."""
SUPERUSER = "postgres"
DATABASES = ("sigmasight", "dagster")
MAX_LOG_BYTES = 4 * 1024 * 1024
LOG_TAIL_LINES = 15

SETTINGS = {
    "listen_addresses": "",  # no TCP
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "cluster_name": "sigmasight",
    "max_connections": "100",
    # A committed session must survive anything: stated, so that no configuration file weakens it.
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    # Whole sessions are replaced in bulk and read back by the window, on a machine shared with
    # Dagster and Polars.
    "shared_buffers": "256MB",
    "effective_cache_size": "1GB",
    "work_mem": "32MB",
    "maintenance_work_mem": "128MB",
    "min_dynamic_shared_memory": "64MB",  # parallel plans need not /dev/shm, which containers keep tiny
    "random_page_cost": "1.1",
    "jit": "off",  # compiling costs more than our short statements take
    # Nobody replicates from it: the least WAL, rarely checkpointed; recovery after a crash reads 2 GB
    # at most.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "wal_compression": "off",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] %u@%d ",
    "logging_collector": "off",  # standard error is the log: who starts the server can show its last words
}


def initialise(placement: Placement, binaries: Binaries, alive: int) -> None:
    """Create the data folder with its roles, passwords and databases; it appears complete or not at all.

    `alive`: the held lock that says the server lives. The programs at work hold it too, for they outlive us
    if we are killed. Raises EmbeddedServerError with PostgreSQL's words.
    """
    passwords = {role: secrets.token_urlsafe(32) for role in (SUPERUSER, ROLE)}
    write_private(placement.passwords, "".join(f"*:*:*:{role}:{word}\n" for role, word in passwords.items()))
    unfinished = placement.data.with_name("data.unfinished")
    if unfinished.exists():  # of a process that was killed
        shutil.rmtree(unfinished)
    make_folder(unfinished, placement.uid, placement.gid)
    superuser_password = placement.root / "initdb-password"
    write_private(superuser_password, passwords[SUPERUSER] + "\n", uid=placement.uid)
    locale = (
        ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        if binaries.major >= 17
        else ["--locale=C.UTF-8"]
    )
    try:
        made = placement.run(
            [
                binaries.folder / "initdb",
                *("--pgdata", unfinished, "--username", SUPERUSER, f"--pwfile={superuser_password}"),
                *("--auth=scram-sha-256", "--encoding=UTF8", "--data-checksums", *locale),
            ],
            pass_fds=[alive],
        )
    finally:
        superuser_password.unlink()
    if made.returncode != 0:
        raise EmbeddedServerError("The embedded database could not be initialised:", _tail(made.stderr))
    statements = [f"CREATE ROLE {ROLE} LOGIN CREATEDB CREATEROLE PASSWORD '{passwords[ROLE]}'"]
    statements += [f"CREATE DATABASE {database} OWNER {ROLE}" for database in DATABASES]
    # PostgreSQL's single-user mode: nobody can connect before everything is in place. Its exit status
    # ignores errors.
    created = placement.run(
        [
            *(binaries.folder / "postgres", "--single", "-D", unfinished),
            *("-c", "log_checkpoints=off", "-c", "log_min_error_statement=panic", SUPERUSER),
        ],
        input="\n".join(statements) + "\n",
        pass_fds=[alive],
    )
    if created.returncode != 0 or "ERROR:" in created.stderr:
        raise EmbeddedServerError(
            "The embedded server's role and databases could not be created:", _tail(created.stderr)
        )
    unfinished.rename(placement.data)
    folder = os.open(placement.root, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name survives a power failure too
    finally:
        os.close(folder)


def data_major(placement: Placement) -> int:
    """The PostgreSQL major version the data folder belongs to. Raises EmbeddedServerError where it is
    damaged."""
    try:
        return int((placement.data / "PG_VERSION").read_text())
    except (OSError, ValueError) as error:
        raise EmbeddedServerError(
            f"{placement.data} is damaged: it has no readable PG_VERSION; restore it, or start afresh "
            "with `sigmasight reset`."
        ) from error


def role_password(placement: Placement) -> str:
    """The password of `ROLE`. Raises EmbeddedServerError where the file is gone."""
    try:
        lines = placement.passwords.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        lines = []
    for line in lines:
        *_, role, password = "", *line.split(":")
        if role == ROLE and password:
            return password
    raise EmbeddedServerError(
        f"{placement.passwords} with the password of role {ROLE} is missing or damaged; restore it, or start afresh "
        "with `sigmasight reset`."
    )


def launch(placement: Placement, binaries: Binaries, alive: int) -> None:
    """Start the server process, detached from this one; returns before it is ready.

    It gets a session of its own (Ctrl-C in our terminal does not reach it), none of our descriptors but the
    log and the held lock `alive` that says it lives, and, by way of a shell that ends at once, no parent that
    would have to reap it.
    """
    settings = SETTINGS | {"unix_socket_directories": '"' + str(placement.socket).replace('"', '""') + '"'}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    log = os.open(placement.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        placement.run(
            [
                *("/bin/sh", "-c", 'exec "$@" &', "sh", binaries.folder / "postgres", "-D", placement.data),
                *options,
            ],
            stdout=log,
            stderr=log,
            pass_fds=[alive],
            start_new_session=True,
        )
    finally:
        os.close(log)


def remove_stale_files(placement: Placement) -> None:
    """Remove what a killed server left; the caller holds `Placement.alive`, so no process of it lives."""
    for left in (
        placement.data / "postmaster.pid",
        placement.socket_path,
        placement.socket_path.with_name(f"{placement.socket_path.name}.lock"),
    ):
        left.unlink(missing_ok=True)


def postmaster_pid(placement: Placement) -> int | None:
    """The process id the running server wrote down, None before it did and after it ended."""
    try:
        return int((placement.data / "postmaster.pid").read_text().partition("\n")[0])
    except (FileNotFoundError, ValueError):
        return None


def rotate_log(log: Path) -> None:
    """Keep the log within twice `MAX_LOG_BYTES`: its end becomes the `.1` file, and it starts again.

    Works while the server runs (it appends); called by every process that joins, so that a busy server is
    covered.
    """
    if not log.exists() or log.stat().st_size <= MAX_LOG_BYTES:
        return
    with log.open("r+b") as file:
        file.seek(-MAX_LOG_BYTES, os.SEEK_END)
        write_private(log.with_name(f"{log.name}.1"), file.read().decode(errors="replace"))
        file.truncate(0)


def log_tail(log: Path) -> str:
    """The last lines of the log."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 16_384))
        return _tail(file.read().decode(errors="replace"))


def _tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-LOG_TAIL_LINES:])
