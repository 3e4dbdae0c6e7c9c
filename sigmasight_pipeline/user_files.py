"""Files a user names or lays down: opened so that nothing surprises, and what an error may quote of one.

What belongs here: telling an ordinary file of an allowed size from everything else a path may lead to. What does not:
what a file says (``importing``, ``market_data``), and the inbox, in which strangers may lay anything
(``operations.inbox_folder``).

A pipe would be waited for for ever, a device read until memory ends. A link is followed where that opens nothing its
owner could not open: links of the user that runs SigmaSight or of root, and those of others to files of their own or
to files everybody may read. A folder that another user writes to can so not be used to have a secret read and quoted.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from sigmasight_pipeline.setting_rules import path_fault, shown

LARGEST_MB = 2048
"""Default of the largest file of market data, megabytes."""

MEGABYTE = 1024 * 1024

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISCHR, "a device"),
)


class UserFileError(ValueError):
    """A file that is not read; the message names it, says why, and what to do."""


class UserFileTooLargeError(UserFileError):
    """A file that has more bytes than are allowed."""

    def __init__(self, path: Path, size: int, most: int) -> None:
        super().__init__(f"{path} has {size:,} bytes, {most:,} are allowed; make it smaller")


def open_user_file(path: Path, most: int) -> BinaryIO:
    """The ordinary file at `path`, opened for reading; it has at most `most` bytes.

    Raises UserFileError for what is not there, no ordinary file, too large, not permitted, or a link that is not
    followed.
    """
    if fault := path_fault(path):
        raise UserFileError(f"{shown(path)} cannot be read: {fault}")
    try:
        _check_link(path)
        _check(path, path.stat(), most)  # opening alone would wake some devices
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise UserFileError(f"{path} cannot be read ({error.strerror}); check the path") from None
    stream = os.fdopen(descriptor, "rb")
    try:
        _check(path, os.fstat(descriptor), most)
    except UserFileError:
        stream.close()
        raise
    return stream


def read_user_file(path: Path, most: int) -> bytes:
    """The content of the ordinary file at `path`. Raises UserFileError as `open_user_file`."""
    with open_user_file(path, most) as stream:
        try:
            content = stream.read(most + 1)
        except OSError as error:
            raise UserFileError(f"{path} cannot be read ({error.strerror}); check the path") from None
    if len(content) > most:  # it grew, or is one of those that say they have no size
        raise UserFileTooLargeError(path, len(content), most)
    return content


def check_user_file(path: Path, most: int) -> os.stat_result:
    """What the system says of the ordinary file at `path`. Raises UserFileError as `open_user_file`."""
    with open_user_file(path, most) as stream:
        return os.fstat(stream.fileno())


def _check(path: Path, state: os.stat_result, most: int) -> None:
    for is_kind, name in _KINDS:
        if is_kind(state.st_mode):
            raise UserFileError(f"{path} is {name}; name an ordinary file")
    if state.st_size > most:
        raise UserFileTooLargeError(path, state.st_size, most)


def _check_link(path: Path) -> None:
    link = path.lstat()
    if not stat.S_ISLNK(link.st_mode):
        return
    target = path.stat()
    if link.st_uid not in (0, os.geteuid(), target.st_uid) and not target.st_mode & stat.S_IROTH:
        raise UserFileError(
            f"{path} is another user's link to a file that is not that user's and not everybody's to read; put the "
            "file itself there"
        )
