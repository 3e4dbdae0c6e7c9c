"""The inbox as a folder: which files lie in it, reading one safely, and moving it away.

What belongs here: everything that touches the file system. What does not: what a file says and what becomes of it
(``operations.inbox``).

Anybody who may drop a file may drop anything: a link, a pipe, a folder, two gigabytes, any name. Every step is taken
relative to the opened folder and follows no link below it, so that no name leads out of it; nothing is read of what is
no ordinary file of an allowed size; nothing that lies there is ever overwritten.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sigmasight_pipeline.importing.csv_text import MAXIMUM_BYTES
from sigmasight_pipeline.importing.problems import Code
from sigmasight_pipeline.settings import Settings

UNFINISHED = (".part", ".tmp", ".crdownload")
"""Endings of files that somebody still writes, whatever their case."""

FILES_WATCHED = 500
"""Files looked at in one tick, the first by name; what lies behind them has its turn when these are gone."""

LONGEST_STEM, LONGEST_EXTENSION = 180, 20
"""Bytes kept of a name; file systems allow 255, and a number and `.errors.txt` are added."""

PRIVATE = 0o700
"""Of a folder only its owner may enter."""

PLACES = ("accepted", "rejected")
"""Folders of the inbox that files are moved to."""

_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE_FILE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_KINDS = (
    (stat.S_ISLNK, "it is a symbolic link"),
    (stat.S_ISFIFO, "it is a pipe"),
    (stat.S_ISSOCK, "it is a socket"),
    (stat.S_ISBLK, "it is a device"),
    (stat.S_ISCHR, "it is a device"),
)


class InboxError(RuntimeError):
    """Something about the folder, not about a file, is wrong."""


class RefusedFileError(ValueError):
    """A file that must not be read; the message says why and what to do."""


class MovingFileError(RuntimeError):
    """A file that is not what it was when the folder was listed: it is written, replaced, or gone."""


@dataclass(frozen=True)
class Arrival:
    """Something that lies in the inbox and is no folder; `fingerprint` changes whenever its content may have."""

    name: str
    fingerprint: str
    size: int
    modified: float

    @property
    def shown(self) -> str:
        """The name as it can be stored and printed: on one line, without bytes that are no text."""
        text = os.fsencode(self.name).decode("utf-8", "backslashreplace")
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)

    @property
    def is_unfinished(self) -> bool:
        """Whether the name says that somebody still writes it."""
        return self.name.startswith(".") or self.name.lower().endswith(UNFINISHED)


class InboxFolder:
    """The opened folder; close it (or use it in a `with` block)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise InboxError(
                f"the inbox {path} cannot be opened ({error.strerror}); make the folder, or set SIGMASIGHT_INBOX_DIR"
            ) from None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The inbox of an installation. Its own is made where it is missing; one that was named must be there.

        A new one is its owner's alone; whom else to let drop files is the owner's choice (chmod), and is left as it is.
        """
        path = settings.inbox_path
        if settings.inbox_dir is None:
            try:
                path.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
            except OSError as error:
                raise InboxError(
                    f"the inbox {path} cannot be made ({error.strerror}); set SIGMASIGHT_INBOX_DIR to a folder of yours"
                ) from None
        return cls(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def make_places(self) -> None:
        """Make the folders files are moved to, so that no file can take their names. InboxError where that fails.

        Who may look into the inbox may look into them, and nobody else.
        """
        for name in PLACES:
            try:
                with suppress(FileExistsError):
                    os.mkdir(name, PRIVATE, dir_fd=self._fd)
                    self._let_in_as_the_inbox(name)
            except OSError as error:
                raise InboxError(
                    f"the folder {name} cannot be made in the inbox {self.path} ({error.strerror}); let the user that "
                    "runs SigmaSight write there"
                ) from None

    def _let_in_as_the_inbox(self, name: str) -> None:
        mode = stat.S_IMODE(os.fstat(self._fd).st_mode) & ~stat.S_ISVTX
        descriptor = os.open(name, _OPEN_FOLDER, dir_fd=self._fd)
        try:
            os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)

    def listing(self) -> list[Arrival]:
        """What lies in the inbox by name, folders left out."""
        found = []
        for name in sorted(os.listdir(self._fd)):
            with suppress(FileNotFoundError):  # gone since it was listed
                state = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
                if not stat.S_ISDIR(state.st_mode):
                    found.append(Arrival(name, _fingerprint(state), state.st_size, state.st_mtime))
        return found

    def arrivals(self) -> list[Arrival]:
        """Those whose name says that they are complete, the first by name."""
        return [arrival for arrival in self.listing() if not arrival.is_unfinished][:FILES_WATCHED]

    def read(self, arrival: Arrival, most: int = MAXIMUM_BYTES) -> bytes:
        """The content of an arrival, at most `most` bytes of it.

        RefusedFileError for what must not be read; MovingFileError for what is not what was listed.
        """
        state = self.state(arrival)
        for is_kind, reason in _KINDS:
            if is_kind(state.st_mode):
                raise RefusedFileError(f"{reason}; put the file itself into the inbox")
        if state.st_size > MAXIMUM_BYTES:
            raise RefusedFileError(Code.FILE_TOO_LARGE.template.format(size=state.st_size, limit=MAXIMUM_BYTES))
        try:
            descriptor = os.open(arrival.name, _OPEN_FILE, dir_fd=self._fd)
        except PermissionError as error:
            raise RefusedFileError(
                f"it cannot be read ({error.strerror}); let the user that runs SigmaSight read it"
            ) from None
        except OSError as error:
            raise MovingFileError(f"{arrival.shown} cannot be opened ({error.strerror})") from None
        with open(descriptor, "rb") as stream:
            # what was opened need not be what was looked at above
            if _fingerprint(os.fstat(descriptor)) != arrival.fingerprint:
                raise MovingFileError(f"{arrival.shown} was replaced")
            content = stream.read(most)
            if _fingerprint(os.fstat(descriptor)) != arrival.fingerprint:
                raise MovingFileError(f"{arrival.shown} is being written")
        return content

    def free_place(self, arrival: Arrival, folder: str) -> str:
        """A name below `folder` that nothing has yet, nor the list of errors beside it."""
        stem, extension = os.path.splitext(_harmless(arrival.name))
        number, suffix = 1, ""
        while self._exists(place := f"{folder}/{stem}{suffix}{extension}") or self._exists(_errors_of(place)):
            number += 1
            suffix = f"-{number}"
        return place

    def move(self, arrival: Arrival, place: str, errors: Sequence[str] = ()) -> str | None:
        """Move an arrival to `place`, its errors in a file beside it; returns where it lies.

        That is another name where `place` was taken meanwhile, None where the arrival is no more, or is another file
        by now, which stays. OSError where it cannot be moved.
        """
        folder = place.split("/", maxsplit=1)[0]
        with self._subfolder(folder) as target:
            if self._exists(place):
                place = self.free_place(arrival, folder)
            name = place.split("/", maxsplit=1)[1]
            if errors:
                _write(target, _errors_of(name), "".join(f"{error}\n" for error in errors))
            moved = self._rename(arrival, target, name)
            if errors and not moved:
                os.unlink(_errors_of(name), dir_fd=target)
        return place if moved else None

    def _rename(self, arrival: Arrival, target: int, name: str) -> bool:
        try:
            os.rename(arrival.name, name, src_dir_fd=self._fd, dst_dir_fd=target)
        except FileNotFoundError:
            return False
        if _fingerprint(os.stat(name, dir_fd=target, follow_symlinks=False)) == arrival.fingerprint:
            return True
        # looked at afterwards, because before the rename nothing could be sure: a newer file goes back where it was
        if not self._exists(arrival.name):
            os.rename(name, arrival.name, src_dir_fd=target, dst_dir_fd=self._fd)
        return False

    def state(self, arrival: Arrival) -> os.stat_result:
        """What the file system says of an arrival. MovingFileError where it is not what was listed."""
        try:
            state = os.stat(arrival.name, dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            raise MovingFileError(f"{arrival.shown} is gone") from None
        if _fingerprint(state) != arrival.fingerprint:
            raise MovingFileError(f"{arrival.shown} was replaced")
        return state

    def _exists(self, place: str) -> bool:
        try:
            os.stat(place, dir_fd=self._fd, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    @contextmanager
    def _subfolder(self, name: str) -> Iterator[int]:
        self.make_places()
        descriptor = os.open(name, _OPEN_FOLDER, dir_fd=self._fd)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def _fingerprint(state: os.stat_result) -> str:
    kind = stat.S_IFMT(state.st_mode)
    return f"{state.st_dev}:{state.st_ino}:{kind:o}:{state.st_size}:{state.st_mtime_ns}"


def _harmless(name: str) -> str:
    """A name of letters, digits, spaces, dots, hyphens and underscores that begins with none of the signs."""
    text = re.sub(r"[^\w.\- ]", "_", os.fsencode(name).decode("utf-8", "replace")).lstrip("-. ")
    stem, extension = os.path.splitext(text)
    stem, extension = _cut(stem, LONGEST_STEM).strip() or "file", _cut(extension, LONGEST_EXTENSION).rstrip()
    return f"{stem}{extension}"


def _cut(text: str, most: int) -> str:
    return text.encode()[:most].decode(errors="ignore")


def _errors_of(place: str) -> str:
    return f"{place}.errors.txt"


def _write(folder: int, name: str, text: str) -> None:
    with open(os.open(name, _WRITE_FILE, 0o644, dir_fd=folder), "w", encoding="utf-8") as stream:
        stream.write(text)
