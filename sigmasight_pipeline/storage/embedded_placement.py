"""Where the embedded server's files lie and which operating system user runs it.

What belongs here: choosing, recording and reading back that placement, and making folders and files that
are ours. What does not: PostgreSQL itself (``embedded_cluster``) and the life of the server (``embedded``).

As an ordinary user everything lies in ``<home>/postgres``. PostgreSQL refuses to run as root: then an
existing unprivileged user runs it and owns nothing but the data and the socket folder; what root reads and
writes (locks, passwords, log) stays root's. Where that user cannot reach the state folder, a folder of our
own under /var/lib takes the data. Folders that are not ours are never changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .errors import EmbeddedServerError, NotPermittedError

PORT = 5432
"""Names the socket file only: no TCP port is opened."""
SOCKET_NAME = f".s.PGSQL.{PORT}"
MAX_SOCKET_PATH = 100
"""Longest socket path in bytes; the kernel's limit is 104 (macOS) or 108 (Linux)."""
SYSTEM_STATE_FOLDER = Path("/var/lib")
UNPRIVILEGED_USERS = ("postgres", "nobody", "daemon")
"""Who runs the server when we are root, the first one that exists and that we may switch to."""
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
"""All that PostgreSQL's programs see of the environment: no locale packages, no PG* variables, no library
paths."""


@dataclass(frozen=True)
class Placement:
    """Where one embedded server lives. `uid`, `gid`: who runs it (ourselves, unless we are root)."""

    control: Path
    root: Path
    socket: Path
    uid: int
    gid: int

    @property
    def data(self) -> Path:
        """PostgreSQL's data folder."""
        return self.root / "data"

    @property
    def log(self) -> Path:
        """The server's log; the one before is beside it with `.1`."""
        return self.control / "server.log"

    @property
    def passwords(self) -> Path:
        """The roles' passwords, in libpq's passfile format, 0600."""
        return self.control / "pgpass"

    @property
    def alive(self) -> Path:
        """Locked by the processes of the running server, and by nobody else."""
        return self.control / "alive.lock"

    @property
    def socket_path(self) -> Path:
        """The socket file itself."""
        return self.socket / SOCKET_NAME

    def run(self, command: Sequence[str | Path], **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a program as the server's user, with a bare environment and no terminal; never raises on its
        status."""
        return run_as(self.uid, self.gid, command, **options)


def run_as(uid: int, gid: int, command: Sequence[str | Path], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `command` as that user, from the root folder; output is captured unless `options` say otherwise.

    Raises OSError where the program cannot be executed by that user, PermissionError where we may not
    become it.
    """
    options.setdefault("stdout", subprocess.PIPE)
    options.setdefault("stderr", subprocess.PIPE)
    if "input" not in options:
        options.setdefault("stdin", subprocess.DEVNULL)
    if os.geteuid() == 0:
        options |= {"user": uid, "group": gid, "extra_groups": []}
    return subprocess.run(
        list(map(str, command)),
        cwd="/",
        env=ENVIRONMENT,
        umask=0o077,
        text=True,
        errors="replace",
        check=False,
        **options,
    )


def load(control: Path) -> Placement | None:
    """The recorded placement of this state folder, or None where no server was ever set up."""
    record = _record(control / "location.json")
    if record is None:
        return None
    root = Path(record["root"]) if record["root"] else control
    if root != control and (root.parent != SYSTEM_STATE_FOLDER or not root.name.startswith("sigmasight-")):
        raise EmbeddedServerError(f"{control}/location.json names {root}, a folder that is not ours; restore it.")
    socket = Path(record["socket"]) if record["socket"] else root / "socket"
    if record["socket"] and (".." in socket.parts or not socket.name.startswith("sigmasight-")):
        raise EmbeddedServerError(f"{control}/location.json names {socket}, a folder that is not ours; restore it.")
    return Placement(control=control, root=root, socket=socket, uid=record["uid"], gid=record["gid"])


def _record(path: Path) -> dict[str, Any] | None:
    """What `location.json` says, each value of the kind it must be; None without the file.

    Raises EmbeddedServerError for a file that is damaged, NotPermittedError for one that is another user's.
    """
    try:
        record = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise NotPermittedError(f"{path} cannot be read ({error.strerror}); run as the user it belongs to.") from None
    except (OSError, ValueError, RecursionError):  # a folder, no JSON, no text
        record = None
    kinds = {"root": (str, type(None)), "socket": (str, type(None)), "uid": (int,), "gid": (int,)}
    sound = isinstance(record, dict) and all(
        type(record.get(name)) in allowed and "\0" not in str(record[name]) for name, allowed in kinds.items()
    )
    if not sound or min(record["uid"], record["gid"]) < 0:
        raise EmbeddedServerError(
            f"{path} is damaged; restore it, or remove it where the database lies in {path.parent}/data: it is then "
            "made anew."
        )
    return dict(record)


def place(control: Path) -> Placement:
    """The recorded placement, else a new one; its socket folder exists and is private afterwards.

    Raises NotPermittedError where no user can run the server, EmbeddedServerError where the recorded data are
    gone.
    """
    placement = load(control) or _choose(control)
    if not placement.root.is_dir():
        raise EmbeddedServerError(
            f"The database of {control.parent} lies in {placement.root}, which is missing; restore that "
            "folder, or start afresh with `sigmasight reset`."
        )
    socket = placement.root / "socket"
    if not _fits(socket):
        socket = placement.socket
        if socket.is_relative_to(placement.root) or not _is_private(socket, placement.uid):
            socket = _short_folder()
    make_folder(socket, placement.uid, placement.gid)
    placement = replace(placement, socket=socket)
    record = {
        "root": None if placement.root == control else str(placement.root),
        "socket": None if socket == placement.root / "socket" else str(socket),
        "uid": placement.uid,
        "gid": placement.gid,
    }
    write_private(control / "location.json", json.dumps(record, indent=1) + "\n")
    return placement


def remove_outside(placement: Placement) -> None:
    """Delete what of the server lies outside its control folder.

    Only entries with the names we give are deleted and then the emptied folder: whatever a damaged record names,
    nothing of anyone else's can go with it. Raises EmbeddedServerError where a folder is not recognisably ours.
    """
    if placement.root != placement.control and placement.root.exists():
        marker = placement.root / "home"
        if placement.root.is_symlink() or marker.is_symlink() or not marker.is_file():
            raise EmbeddedServerError(f"{placement.root} is not recognisably ours; remove it by hand.")
        for folder in ("data", "data.unfinished", "socket", *(p.name for p in placement.root.glob("binaries-*"))):
            if (placement.root / folder).is_dir():
                shutil.rmtree(placement.root / folder)
        for file in ("initdb-password", "home"):
            (placement.root / file).unlink(missing_ok=True)
        placement.root.rmdir()
    if not placement.socket.is_relative_to(placement.root) and placement.socket.exists():
        for file in (SOCKET_NAME, f"{SOCKET_NAME}.lock"):
            (placement.socket / file).unlink(missing_ok=True)
        placement.socket.rmdir()


def make_folder(path: Path, uid: int, gid: int) -> None:
    """Make `path` a folder only that user can enter."""
    path.mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() == 0:
        os.chown(path, uid, gid, follow_symlinks=False)
    path.chmod(0o700)


def write_private(path: Path, text: str, *, uid: int | None = None) -> None:
    """Write a 0600 file in one step; as root it belongs to `uid`, by default to its folder's owner."""
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        if os.geteuid() == 0:
            os.fchown(descriptor, path.parent.stat().st_uid if uid is None else uid, -1)
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    beside.replace(path)


def _choose(control: Path) -> Placement:
    def placement(root: Path, uid: int, gid: int) -> Placement:
        return Placement(control=control, root=root, socket=root / "socket", uid=uid, gid=gid)

    if os.geteuid() != 0:
        return placement(control, os.geteuid(), os.getegid())
    for name in UNPRIVILEGED_USERS:
        try:
            user = pwd.getpwnam(name)
            may_switch = run_as(user.pw_uid, user.pw_gid, ["/bin/sh", "-c", ":"]).returncode == 0
        except (KeyError, OSError):  # no such user, or the container gives root no right to become it
            continue
        if user.pw_uid != 0 and may_switch:
            break
    else:
        raise NotPermittedError(
            "PostgreSQL refuses to run as root, and root can become none of "
            f"{', '.join(UNPRIVILEGED_USERS)} here; run as an ordinary user, or set "
            "SIGMASIGHT_DATABASE_URL to a server."
        )
    control.chmod(0o711)  # ours; everything in it is 0600 or 0700
    if _can_live_in(control, user):
        return placement(control, user.pw_uid, user.pw_gid)
    root = _system_folder(control)
    if not _can_live_in(root, user):
        raise NotPermittedError(f"User {user.pw_name} cannot use {root}; run as an ordinary user instead of root.")
    return placement(root, user.pw_uid, user.pw_gid)


def _can_live_in(folder: Path, user: pwd.struct_passwd) -> bool:
    """Whether the user can reach a folder in there and own it: tried out, so that mounts and ACLs count
    too."""
    probe = folder / "socket"
    try:
        make_folder(probe, user.pw_uid, user.pw_gid)
        enter = run_as(user.pw_uid, user.pw_gid, ["/bin/sh", "-c", 'cd "$0" && test -w .', probe])
        usable = enter.returncode == 0 and _is_private(probe, user.pw_uid)
    except OSError:
        usable = False
    if not usable and probe.is_dir():
        probe.rmdir()
    return usable


def _system_folder(control: Path) -> Path:
    """A new folder of ours, named after the state folder; an older one of that name is someone's data, left
    alone."""
    name = f"sigmasight-{hashlib.sha256(os.fsencode(control)).hexdigest()[:12]}"
    for attempt in range(1, 1000):
        folder = SYSTEM_STATE_FOLDER / (name if attempt == 1 else f"{name}-{attempt}")
        try:
            folder.mkdir(mode=0o711)
        except FileExistsError:
            continue
        except OSError as error:
            raise NotPermittedError(
                f"The unprivileged user that runs PostgreSQL cannot reach {control}, and {folder} could "
                f"not be created ({error.strerror}); set SIGMASIGHT_HOME to a folder every user can reach."
            ) from error
        folder.chmod(0o711)  # whatever the umask is
        write_private(folder / "home", f"{control.parent}\n")
        return folder
    raise EmbeddedServerError(f"{SYSTEM_STATE_FOLDER}/{name}-* are too many abandoned databases; remove some.")


def _fits(socket_folder: Path) -> bool:
    """Whether a socket in there can be named: not too long, and no comma, at which libpq splits lists of hosts."""
    path = os.fsencode(socket_folder / SOCKET_NAME)
    return len(path) <= MAX_SOCKET_PATH and b"," not in path


def _short_folder() -> Path:
    """A new private folder with a path short enough for a socket."""
    for parent in (tempfile.gettempdir(), "/tmp", "/var/tmp"):  # noqa: S108 - mkdtemp makes it 0700 and unguessable
        if _fits(Path(parent, "sigmasight-12345678")):
            return Path(tempfile.mkdtemp(prefix="sigmasight-", dir=parent))
    raise EmbeddedServerError("No folder with a path short enough for a socket; set TMPDIR to one.")


def _is_private(folder: Path, uid: int) -> bool:
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == uid and stat.S_IMODE(found.st_mode) == 0o700
