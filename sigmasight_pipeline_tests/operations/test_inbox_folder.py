"""The inbox as a folder: whatever is dropped into it, nothing outside is touched and nothing is overwritten."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sigmasight_pipeline.importing.csv_text import MAXIMUM_BYTES
from sigmasight_pipeline.operations.inbox_folder import (
    Arrival,
    InboxError,
    InboxFolder,
    MovingFileError,
    RefusedFileError,
)
from sigmasight_pipeline.settings import Settings

NOBODY = 65534


@pytest.fixture
def path() -> Iterator[Path]:
    """An inbox every user may look into (pytest's own folders are 0700)."""
    with tempfile.TemporaryDirectory(prefix="sigmasight-inbox-") as made:
        Path(made).chmod(0o755)
        inbox = Path(made) / "inbox"
        inbox.mkdir()
        yield inbox


@pytest.fixture
def folder(path: Path) -> Iterator[InboxFolder]:
    with InboxFolder(path) as opened:
        yield opened


def arrival(folder: InboxFolder, name: str) -> Arrival:
    return next(found for found in folder.listing() if found.name == name)


def below(path: Path) -> set[str]:
    return {str(found.relative_to(path)) for found in path.rglob("*") if not found.is_dir() or found.is_symlink()}


def test_only_complete_files_arrive(path: Path, folder: InboxFolder) -> None:
    for name in ("b.csv", "a.csv", ".hidden.csv", "c.csv.part", "d.TMP", "e.crdownload"):
        (path / name).write_text("x")
    (path / "folder").mkdir()
    assert [found.name for found in folder.arrivals()] == ["a.csv", "b.csv"]
    assert {found.name for found in folder.listing() if found.is_unfinished} == {
        ".hidden.csv",
        "c.csv.part",
        "d.TMP",
        "e.crdownload",
    }


def test_a_fingerprint_tells_every_way_to_change_a_file(path: Path, folder: InboxFolder) -> None:
    file = path / "a.csv"
    file.write_text("one")
    first = arrival(folder, "a.csv")
    assert arrival(folder, "a.csv") == first
    prints = {first.fingerprint}
    file.write_text("onetwo")  # longer
    prints.add(arrival(folder, "a.csv").fingerprint)
    os.utime(file, ns=(5, 5))  # as long, changed at another time
    prints.add(arrival(folder, "a.csv").fingerprint)
    (path / "new").write_text("onetwo")
    os.utime(path / "new", ns=(5, 5))
    (path / "new").rename(file)  # as long, of the same time, another file
    prints.add(arrival(folder, "a.csv").fingerprint)
    assert len(prints) == 4
    with pytest.raises(MovingFileError, match=r"a\.csv was replaced"):
        folder.read(first)
    file.unlink()
    with pytest.raises(MovingFileError, match=r"a\.csv is gone"):
        folder.read(first)


def test_what_is_no_ordinary_file_is_not_read(path: Path, folder: InboxFolder) -> None:
    secret = path.parent / "secret"
    secret.write_text("secret")
    (path / "link.csv").symlink_to(secret)
    (path / "dangling.csv").symlink_to("nowhere")
    os.mkfifo(path / "pipe.csv")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path / "socket.csv"))
    with (path / "huge.csv").open("wb") as sparse:
        sparse.truncate(2 * 1024**3)
    (path / "most.csv").write_bytes(b"x" * MAXIMUM_BYTES)
    reasons = {
        "link.csv": "it is a symbolic link; put the file itself into the inbox",
        "dangling.csv": "it is a symbolic link",
        "pipe.csv": "it is a pipe",
        "socket.csv": "it is a socket",
        "huge.csv": "the file has 2,147,483,648 bytes, 10,485,760 are allowed",
    }
    for name, reason in reasons.items():
        with pytest.raises(RefusedFileError, match=reason):
            folder.read(arrival(folder, name))
        found = arrival(folder, name)
        assert folder.move(found, folder.free_place(found, "rejected"), [reason]) == f"rejected/{name}"
        assert (path / "rejected" / f"{name}.errors.txt").read_text() == f"{reason}\n"
    assert len(folder.read(arrival(folder, "most.csv"))) == MAXIMUM_BYTES
    assert (path / "rejected" / "link.csv").is_symlink()
    assert (path / "rejected" / "huge.csv").stat().st_size == 2 * 1024**3
    assert secret.read_text() == "secret"


def test_a_file_nobody_may_read_is_refused(path: Path, folder: InboxFolder) -> None:
    (path / "mine.csv").write_text("x")
    (path / "mine.csv").chmod(0)
    found = arrival(folder, "mine.csv")
    before = os.geteuid()
    if before == 0:  # who may read everything
        os.seteuid(NOBODY)
    try:
        with pytest.raises(RefusedFileError, match=r"it cannot be read \(Permission denied\); let the user"):
            folder.read(found)
    finally:
        os.seteuid(before)


NAMES = {
    # name, where it goes, how it is told
    "plain book.csv": ("plain book.csv", "plain book.csv"),
    "Bücher.csv": ("Bücher.csv", "Bücher.csv"),
    "x\\..\\..\\evil.csv": ("x_.._.._evil.csv", "x\\..\\..\\evil.csv"),
    "%2e%2e%2fevil.csv": ("_2e_2e_2fevil.csv", "%2e%2e%2fevil.csv"),
    "-rf *.csv": ("rf _.csv", "-rf *.csv"),
    "two\nlines\x1b[31m.csv": ("two_lines__31m.csv", "two\\nlines\\x1b[31m.csv"),
    "$(reboot);`id`'\".csv": ("__reboot___id___.csv", "$(reboot);`id`'\".csv"),
    os.fsdecode(b"\xff\xfe.csv"): ("__.csv", "\\xff\\xfe.csv"),
    "\u202evsc.exe": ("_vsc.exe", "\\u202evsc.exe"),
    "- ": ("file", "- "),
    "x" * 251 + ".csv": ("x" * 180 + ".csv", "x" * 251 + ".csv"),
}


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_no_name_does_harm(path: Path, folder: InboxFolder, name: str) -> None:
    (path / name).write_text("x")
    (found,) = folder.arrivals()
    goes, told = NAMES[name]
    assert found.shown == told
    assert folder.read(found) == b"x"
    assert folder.move(found, folder.free_place(found, "rejected"), ["wrong"]) == f"rejected/{goes}"
    assert below(path) == {f"rejected/{goes}", f"rejected/{goes}.errors.txt"}
    assert below(path.parent) == {f"inbox/{place}" for place in below(path)}


def test_nothing_is_overwritten(path: Path, folder: InboxFolder) -> None:
    (path / "accepted").mkdir()
    (path / "accepted" / "a.csv").symlink_to("nowhere")
    (path / "accepted" / "a-2.csv.errors.txt").write_text("of somebody")
    for number in (3, 4):
        (path / "a.csv").write_text(str(number))
        found = arrival(folder, "a.csv")
        # a place that was free when it was chosen and is taken now
        assert folder.move(found, "accepted/a.csv", ["wrong"]) == f"accepted/a-{number}.csv"
    assert (path / "accepted" / "a-3.csv").read_text() == "3"
    assert (path / "accepted" / "a-2.csv.errors.txt").read_text() == "of somebody"
    assert not (path / "accepted" / "nowhere").exists()


def test_a_newer_file_stays_where_it_is(path: Path, folder: InboxFolder) -> None:
    (path / "a.csv").write_text("old")
    old = arrival(folder, "a.csv")
    (path / "new").write_text("newer")
    (path / "new").rename(path / "a.csv")
    assert folder.move(old, "rejected/a.csv", ["wrong"]) is None
    assert below(path) == {"a.csv"}
    assert (path / "a.csv").read_text() == "newer"
    (path / "a.csv").unlink()
    assert folder.move(old, "rejected/a.csv", ["wrong"]) is None
    assert below(path) == set()


def test_a_link_in_the_place_of_a_folder_leads_nowhere(path: Path, folder: InboxFolder) -> None:
    elsewhere = path.parent / "elsewhere"
    elsewhere.mkdir()
    (path / "rejected").symlink_to(elsewhere)
    (path / "a.csv").write_text("x")
    found = arrival(folder, "a.csv")
    with pytest.raises(OSError, match="rejected"):
        folder.move(found, folder.free_place(found, "rejected"), ["wrong"])
    assert below(elsewhere) == set()
    assert (path / "a.csv").exists()


def test_the_own_inbox_is_made_and_a_named_one_must_be_there(path: Path) -> None:
    home = path.parent / "home"
    with InboxFolder.of(Settings(home=home)) as made:
        assert made.path == home / "inbox"
    (path / "file").write_text("")
    with pytest.raises(InboxError, match=r"file/inbox cannot be made \(Not a directory\); set SIGMASIGHT_INBOX_DIR"):
        InboxFolder.of(Settings(home=path / "file"))
    with pytest.raises(InboxError, match=r"none cannot be opened \(No such file or directory\); make the folder"):
        InboxFolder.of(Settings(home=home, inbox_dir=path / "none"))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_inbox_is_its_owners_alone(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "state")
    before = os.umask(0)
    try:
        with InboxFolder.of(settings) as opened:
            opened.make_places()
    finally:
        os.umask(before)
    inbox = tmp_path / "state" / "inbox"
    assert [mode(inbox), mode(inbox / "accepted"), mode(inbox / "rejected")] == [0o700] * 3


@pytest.mark.parametrize("chosen", [0o755, 0o2770, 0o1777])
def test_whom_the_owner_lets_in_is_let_in_everywhere(path: Path, chosen: int) -> None:
    """Whoever drops a file reads what was wrong with it; nothing that is there changes."""
    path.chmod(chosen)
    with InboxFolder(path) as opened:
        opened.make_places()
        assert [mode(path / name) for name in ("accepted", "rejected")] == [chosen & ~0o1000] * 2
        (path / "rejected").chmod(0o700)
        opened.make_places()
    assert mode(path / "rejected") == 0o700
    assert mode(path) == chosen
