"""Where the embedded server lies: as root, as an ordinary user, under unreachable folders and overlong paths."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import stat
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline.storage.embedded_placement import (
    MAX_SOCKET_PATH,
    SYSTEM_STATE_FOLDER,
    Placement,
    load,
    remove_outside,
)
from sigmasight_pipeline.storage.errors import EmbeddedServerError

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to run the server as someone else")


def placement(server: EmbeddedServer) -> Placement:
    found = load(server.home / "postgres")
    assert found is not None
    return found


def answer(server: EmbeddedServer) -> object:
    with psycopg.connect(server.url()) as connection:
        return connection.execute("SELECT 41 + 1").fetchone()


def as_user(name: str, do: Callable[[], object]) -> str:
    """What `do` gives, as text, in a child process that is that user; an exception as its class and message."""
    user = pwd.getpwnam(name)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
            try:
                said = str(do())
            except Exception as error:  # noqa: BLE001 - the parent judges it
                said = f"{type(error).__name__}: {error}"
            os.write(writing, said.encode())
        except BaseException:  # noqa: BLE001 - a forked child must never go on as a second pytest
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


@pytest.fixture
def private_folder() -> Iterator[Path]:
    """A folder only we can enter, like /root."""
    folder = Path(tempfile.mkdtemp(prefix="sigmasight-tests-"))
    yield folder
    EmbeddedServer(folder / "state").remove()
    shutil.rmtree(folder)


@as_root
class TestRoot:
    """Root may not run PostgreSQL: an existing user does, and folders that are not ours keep their modes."""

    def test_an_unprivileged_user_runs_it_and_owns_only_its_own(self, home: Path) -> None:
        server = EmbeddedServer(home)
        server.start()
        where = placement(server)
        owners = {path.name: path.stat().st_uid for path in where.control.iterdir()}
        assert {name for name, uid in owners.items() if uid != 0} == {"data", "socket"}
        assert owners["data"] == owners["socket"] == where.uid
        assert where.uid != 0
        (process,) = [
            entry for entry in Path("/proc").iterdir() if entry.name.isdigit() and _works_in(entry, where.data)
        ][:1]
        assert process.stat().st_uid == where.uid

    def test_other_users_get_nothing(self, home: Path) -> None:
        server = EmbeddedServer(home)
        url = server.start().url()
        assert "Permission denied" in as_user("daemon", lambda: psycopg.connect(url).close())
        assert "PermissionError" in as_user("daemon", server.password_file.read_text)
        assert as_user("daemon", server.start).startswith("NotPermittedError")
        assert as_user("daemon", server.stop).startswith("NotPermittedError")
        assert as_user("daemon", server.url).startswith("NotPermittedError")
        assert server.is_running()

    def test_unreachable_home(self, private_folder: Path) -> None:
        """The data go to a folder of our own under /var/lib, recorded, and are removed with the rest."""
        server = EmbeddedServer(private_folder / "state")
        server.start()
        where = placement(server)
        try:
            assert where.root.parent == SYSTEM_STATE_FOLDER
            assert (where.root / "home").read_text() == f"{server.home}\n"
            assert (where.root.stat().st_uid, stat.S_IMODE(where.root.stat().st_mode)) == (0, 0o711)
            assert stat.S_IMODE(where.data.stat().st_mode) == 0o700
            assert stat.S_IMODE(private_folder.stat().st_mode) == 0o700
            assert answer(server) == (42,)
            server.stop()
            server.start()
            assert placement(server) == where
        finally:
            server.remove()
        assert not where.root.exists()
        assert list(server.home.iterdir()) == []

    def test_abandoned_data_under_var_lib_are_left_alone(self, private_folder: Path) -> None:
        server = EmbeddedServer(private_folder / "state")
        server.start()
        abandoned = placement(server)
        server.stop()
        shutil.rmtree(server.home)
        try:
            server.start()
            assert placement(server).root == abandoned.root.with_name(f"{abandoned.root.name}-2")
            assert answer(server) == (42,)
            server.remove()
            assert abandoned.data.is_dir()
        finally:
            shutil.rmtree(abandoned.root)

    def test_missing_recorded_data_are_not_silently_made_anew(self, private_folder: Path) -> None:
        server = EmbeddedServer(private_folder / "state")
        server.start()
        server.stop()
        root = placement(server).root
        aside = root.with_name(f"{root.name}-aside")
        root.rename(aside)
        try:
            with pytest.raises(EmbeddedServerError, match="which is missing"):
                server.start()
        finally:
            aside.rename(root)

    def test_an_ordinary_user_needs_nothing_of_this(self, home: Path) -> None:
        """The whole life of a server as an ordinary user; then root joins in, and the user goes on."""
        server = EmbeddedServer(home)
        user = pwd.getpwnam("daemon")
        os.chown(home, user.pw_uid, user.pw_gid)

        def life() -> object:
            server.start()
            return answer(server), placement(server).root == home / "postgres", server.stop()

        assert as_user("daemon", life) == "((42,), True, True)"
        with server.shared():
            assert answer(server) == (42,)
            assert placement(server).uid == user.pw_uid
        assert {path.stat().st_uid for path in (home / "postgres").iterdir()} == {user.pw_uid}
        assert as_user("daemon", life) == "((42,), True, True)"


def _works_in(process: Path, data: Path) -> bool:
    try:
        return (process / "cwd").readlink() == data
    except OSError:  # ended meanwhile
        return False


def test_overlong_socket_path(home: Path) -> None:
    """The socket moves to a short private folder, which is found again, replaced when lost, and removed in the end."""
    deep = home / ("d" * 60) / ("e" * 40)
    server = EmbeddedServer(deep)
    try:
        socket = server.start().socket_folder
        assert not socket.is_relative_to(deep)
        assert len(os.fsencode(socket / ".s.PGSQL.5432")) <= MAX_SOCKET_PATH
        assert stat.S_IMODE(socket.stat().st_mode) == 0o700
        assert socket.stat().st_uid == placement(server).uid
        assert answer(server) == (42,)
        assert EmbeddedServer(deep).start().socket_folder == socket
        server.stop()
        assert server.start().socket_folder == socket
        server.stop()
        shutil.rmtree(socket)  # as a reboot does with /tmp
        socket = server.start().socket_folder
        assert answer(server) == (42,)
    finally:
        server.remove()
    assert not socket.exists()


@pytest.mark.parametrize("name", ["with space", "quo\"te,comma'", "ünïcode", "per%cent&amp?=#"])
def test_unusual_names(home: Path, name: str) -> None:
    """PostgreSQL, URLs and shells each have characters of their own; the path may hold any of them."""
    server = EmbeddedServer(home / name)
    try:
        server.start()
        assert answer(server) == (42,)
    finally:
        server.remove()


@pytest.mark.parametrize("field", ["root", "socket"])
@pytest.mark.parametrize("name", ["foreign", "sigmasight-x/../foreign"])
def test_a_record_that_names_a_foreign_folder_is_refused(tmp_path: Path, field: str, name: str) -> None:
    """Only folders made for this test are named: were the guard broken, nothing else could be lost."""
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "canary").write_text("")
    control = tmp_path / "state" / "postgres"
    control.mkdir(parents=True, mode=0o700)
    record: dict[str, object] = {"root": None, "socket": None, "uid": os.geteuid(), "gid": os.getegid()}
    (control / "location.json").write_text(json.dumps(record | {field: str(tmp_path / name)}))
    with pytest.raises(EmbeddedServerError, match="not ours"):
        load(control)
    assert (foreign / "canary").exists()


SOUND = {"root": None, "socket": None, "uid": 1, "gid": 1}
DAMAGED = {
    "empty": b"",
    "cut off": b'{"root": nu',
    "not text": b"\xff\xfe{",
    "another kind": b"[1]",
    "a number": b"1",
    "nested without end": b"[" * 100_000,
    "without a user": json.dumps({**SOUND, "uid": None}).encode(),
    "without a group": json.dumps({"root": None, "socket": None, "uid": 1}).encode(),
    "a user that is no number": json.dumps({**SOUND, "uid": "root"}).encode(),
    "a user that is a flag": json.dumps({**SOUND, "uid": True}).encode(),
    "a user below zero": json.dumps({**SOUND, "uid": -1}).encode(),
    "a folder that is no text": json.dumps({**SOUND, "root": 1}).encode(),
    "a folder with a zero byte": json.dumps({**SOUND, "root": "/var/lib/sigmasight-\0"}).encode(),
    "a socket that is no text": json.dumps({**SOUND, "socket": ["/run"]}).encode(),
    "a folder": None,
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_record_is_told_in_one_sentence(tmp_path: Path, damage: str) -> None:
    control = tmp_path / "postgres"
    control.mkdir()
    record, content = control / "location.json", DAMAGED[damage]
    record.mkdir() if content is None else record.write_bytes(content)
    with pytest.raises(EmbeddedServerError) as refused:
        load(control)
    assert str(refused.value).startswith(f"{record} is damaged; restore it, or remove it where the database lies in ")
    assert str(refused.value).endswith(f"{control}/data: it is then made anew.")


def test_a_record_that_was_removed_is_made_anew(home: Path) -> None:
    with EmbeddedServer(home).shared() as server, psycopg.connect(server.url()) as connection:
        connection.execute("CREATE TABLE kept (x int)")
    (home / "postgres" / "location.json").write_text("{")
    with pytest.raises(EmbeddedServerError, match="is damaged"), EmbeddedServer(home).shared():
        pass
    (home / "postgres" / "location.json").unlink()
    with EmbeddedServer(home).shared() as server, psycopg.connect(server.url()) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


@pytest.mark.parametrize("field", ["root", "socket"])
def test_removal_touches_only_what_is_ours(tmp_path: Path, field: str) -> None:
    """Even past the guard: a folder with anything else in it keeps it. Only folders made for this test are named."""
    control, foreign = tmp_path / "postgres", tmp_path / "foreign"
    for folder in (control, foreign):
        folder.mkdir()
    (foreign / "canary").write_text("")
    at = {"root": control, "socket": control / "socket"} | {field: foreign}
    with pytest.raises((EmbeddedServerError, OSError)):
        remove_outside(Placement(control=control, uid=os.geteuid(), gid=os.getegid(), **at))
    assert (foreign / "canary").exists()
