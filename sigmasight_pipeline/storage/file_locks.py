"""Locks between processes that end with their holder, even with one killed by -9: flock on small files.

What belongs here: opening, taking and probing such locks. What does not: what they protect (``embedded``).

A lock belongs to the open file, not to the process: a child that inherits the descriptor keeps it. The
embedded server relies on that, so the kernel itself says whether any process of it still lives.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

POLL_SECONDS = 0.02


def open_lock(path: Path) -> int:
    """A descriptor of the lock file, created 0600 where missing and given to the owner of its folder."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    if os.geteuid() == 0:  # root may work in another user's state folder; that user must be able to go on alone
        owner = path.parent.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
    return descriptor


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Take the lock, or turn one held into the other kind, without waiting; False where others are in the
    way."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_held(path: Path, *, also_shared: bool = False) -> bool:
    """Whether someone holds the lock exclusively (`also_shared`: or shared)."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        return not try_lock(descriptor, shared=not also_shared)
    finally:
        os.close(descriptor)


@contextmanager
def exclusive(path: Path, *, timeout: float) -> Iterator[int]:
    """Hold the lock exclusively; gives its descriptor. The folder is created (0700) where missing.

    Raises TimeoutError after `timeout` seconds, PermissionError where the file is another user's.
    """
    deadline = time.monotonic() + timeout
    while (descriptor := _try_exclusive(path)) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path} has been locked by another process for {timeout:.0f} seconds")
        time.sleep(POLL_SECONDS)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _try_exclusive(path: Path) -> int | None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor: int | None = None
    try:
        descriptor = open_lock(path)
        # A lock file that was removed or moved away meanwhile locks nothing: the next process
        # makes a new one.
        if try_lock(descriptor) and path.stat().st_ino == os.fstat(descriptor).st_ino:
            held, descriptor = descriptor, None
            return held
    except FileNotFoundError:
        return None
    finally:
        if descriptor is not None:
            os.close(descriptor)
    return None
