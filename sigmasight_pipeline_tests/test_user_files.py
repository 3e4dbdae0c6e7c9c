"""What a path of the user's may lead to: ordinary files are read, everything else is told in one sentence, at once."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from sigmasight_pipeline import user_files
from sigmasight_pipeline.cli import books
from sigmasight_pipeline.cli.console import UserError
from sigmasight_pipeline.importing.scenarios import ScenarioFileError, read_scenarios
from sigmasight_pipeline.market_data.data_file import DataFile
from sigmasight_pipeline.market_data.files import FILES, FilesSource
from sigmasight_pipeline.market_data.source import MarketDataError
from sigmasight_pipeline.market_data.stated import SECTORS, read_factor_definitions, read_sectors
from sigmasight_pipeline.sessions import calendar
from sigmasight_pipeline.user_files import UserFileError, open_user_file, read_user_file

MOST = 1000

FACTOR_ROWS = pl.DataFrame(
    schema={"factor": pl.String, "kind": pl.String, "display_order": pl.Int32}
)  # none is needed to find a file unreadable


def prices(path: Path) -> object:
    return FilesSource(path.parent, calendar()).symbols()


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a book, marks or flows": ("book.csv", books._read),
    "prices": ("prices.csv", prices),
    "prices as Parquet": ("prices.parquet", prices),
    "sectors": ("sectors.csv", read_sectors),
    "factors": ("factors.csv", read_factor_definitions),
    "scenarios": ("scenarios.yaml", lambda path: read_scenarios(path, factors=FACTOR_ROWS)),
}
READERS |= {
    f"{name} of the folder": (f"{name}.csv", lambda path, columns=columns: DataFile(path, columns).read())
    for name, columns in FILES.items()
}


def refusal(read: Callable[[Path], object], path: Path) -> str:
    with pytest.raises((UserError, UserFileError, MarketDataError, ScenarioFileError)) as refused:
        read(path)
    return str(refused.value)


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (make_pipe, "is a pipe; name an ordinary file"),
        (lambda path: path.symlink_to("/dev/zero"), "is a device; name an ordinary file"),
        (lambda path: path.symlink_to("/dev/stdin"), "is a "),
        (lambda path: path.mkdir(), "is a folder; name an ordinary file"),
        (lambda path: path.symlink_to("nothing"), "cannot be read (No such file or directory)"),
        (lambda path: path.symlink_to(path.name), "cannot be read (Too many levels of symbolic links)"),
        (make_socket, "is a socket; name an ordinary file"),
    ],
    ids=["pipe", "device", "terminal or pipe", "folder", "link to nothing", "link to itself", "socket"],
)
def test_every_reader_takes_ordinary_files_only(
    reader: str, make: Callable[[Path], None], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    name, read = READERS[reader]
    path = tmp_path / name
    make(Path(name))
    reading, writing = os.pipe()
    kept = os.dup(0)
    os.dup2(reading, 0)
    waker = threading.Timer(20, lambda: os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK)) if path.is_fifo() else None)
    waker.daemon = True
    waker.start()
    try:
        told = refusal(read, path)
        assert waker.is_alive(), "it waited for the pipe"
    finally:
        waker.cancel()
        os.dup2(kept, 0)
        for descriptor in (reading, writing, kept):
            os.close(descriptor)
    assert said in told
    assert str(path) in told


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_has_a_limit(reader: str, tmp_path: Path) -> None:
    """A sparse file takes no disk and has any size."""
    name, read = READERS[reader]
    with (tmp_path / name).open("wb") as file:
        file.truncate(1 << 40)
    told = refusal(read, tmp_path / name)
    assert "1,099,511,627,776 bytes, " in told
    assert " are allowed; make it smaller" in told


def test_a_parquet_file_that_unpacks_to_more(tmp_path: Path) -> None:
    path = tmp_path / "sectors.parquet"
    pl.DataFrame({"symbol": ["AAA"] * 200_000, "sector": ["x" * 50] * 200_000}).write_parquet(path)
    assert path.stat().st_size < 100_000
    with pytest.raises(MarketDataError, match=r"200,000 rows .* 1,000,000 bytes are allowed; .*SIGMASIGHT_MAX_FILE_MB"):
        DataFile(path, SECTORS, most_bytes=1_000_000).read()
    assert DataFile(path, SECTORS, most_bytes=10_000_000).read().height == 200_000


def test_links_to_ordinary_files_are_followed(tmp_path: Path) -> None:
    """As a volume of Kubernetes lays its files down: over a link to a folder that is exchanged."""
    (tmp_path / "version").mkdir()
    (tmp_path / "version" / "a").write_bytes(b"content")
    (tmp_path / "now").symlink_to("version")
    (tmp_path / "a").symlink_to("now/a")
    assert read_user_file(tmp_path / "a", MOST) == b"content"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make other users' links")
@pytest.mark.parametrize(
    ("link_of", "file_of", "mode", "followed"),
    [
        (65534, 0, 0o600, False),
        (65534, 0, 0o640, False),
        (65534, 1, 0o600, False),
        (65534, 0, 0o644, True),
        (65534, 65534, 0o600, True),
        (0, 1, 0o600, True),
    ],
)
def test_a_link_opens_nothing_its_owner_could_not(
    tmp_path: Path, link_of: int, file_of: int, mode: int, followed: bool
) -> None:
    target, link = tmp_path / "target", tmp_path / "prices.csv"
    target.write_text("symbol,date,close\nroot:x:0,2024-01-02,1\n")
    target.chmod(mode)
    os.chown(target, file_of, file_of)
    link.symlink_to(target)
    os.lchown(link, link_of, link_of)
    if followed:
        assert read_user_file(link, MOST).startswith(b"symbol")
        return
    for read in (lambda path: read_user_file(path, MOST), prices):
        told = refusal(read, link)
        assert "is another user's link to a file" in told
        assert "root:x" not in told


SECRET = "root:x:0:0:Hidden-words:/root:/bin/sh"


@pytest.mark.parametrize("reader", [name for name in READERS if name != "a book, marks or flows"])
def test_what_is_no_file_of_ours_is_not_quoted(reader: str, tmp_path: Path) -> None:
    name, read = READERS[reader]
    for text in (f"{SECRET}\n{SECRET}\n", f"{SECRET.replace(':', ',')}\n", f"user: {SECRET}\n", SECRET):
        (tmp_path / name).write_text(text)
        assert "Hidden-words" not in refusal(read, tmp_path / name)


@pytest.mark.parametrize("path", ["/data/a\nb.csv", "/data/\udcff.csv"])
def test_a_name_no_message_can_hold(path: str) -> None:
    told = refusal(lambda _: read_user_file(Path(path), MOST), Path(path))
    told.encode()
    assert "\n" not in told


def test_limits_are_exact_and_files_that_say_they_are_empty_are_not_endless(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * MOST)
    assert len(read_user_file(tmp_path / "a", MOST)) == MOST
    (tmp_path / "a").write_bytes(b"x" * (MOST + 1))
    with pytest.raises(UserFileError, match=f"has {MOST + 1:,} bytes"):
        read_user_file(tmp_path / "a", MOST)
    with pytest.raises(UserFileError, match="are allowed"):
        read_user_file(Path("/proc/self/smaps"), MOST)


def test_what_was_opened_is_what_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between looking and opening a file may be exchanged for a pipe."""
    path = tmp_path / "a"
    path.write_bytes(b"x")
    before = os.open

    def exchanged(name: Path, flags: int) -> int:
        path.unlink()
        os.mkfifo(path)
        return before(name, flags)

    monkeypatch.setattr(user_files.os, "open", exchanged)
    with pytest.raises(UserFileError, match="is a pipe"):
        open_user_file(path, MOST)


LONG = "x" * 200_000
ROWS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "sectors": (f"symbol,sector\nAAA,Energy\nBBB,{LONG}\nCCC,\n", read_sectors),
    "factors": (
        f"factor,name,kind,proxy_symbol,display_order,active\nA,{LONG},style,SPY,1,true\nB,b,x,SPY,1,true\n",
        read_factor_definitions,
    ),
    "header": (f"symbol,sector,{LONG}\nAAA,\n", read_sectors),
}
ROWS |= {
    name: (
        ",".join(column.name for column in columns) + f",more\n{LONG}" + "," * len(columns) + "\n",
        lambda path, columns=columns: DataFile(path, columns).read(),
    )
    for name, columns in FILES.items()
}


@pytest.mark.parametrize("name", ROWS)
def test_a_value_longer_than_a_reader_takes_is_named_by_its_line(name: str, tmp_path: Path) -> None:
    text, read = ROWS[name]
    (tmp_path / "x.csv").write_text(text)
    told = refusal(read, tmp_path / "x.csv")
    assert ", line " in told
    assert len(told) < 500
