"""Who uses the embedded server of a state folder: a locked card per process, which names it.

What belongs here: making, reading and clearing these cards. What does not: what follows from them (``embedded``).

The kernel drops a card's lock when its process ends, however it ends: a card nobody holds is of nobody.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from .file_locks import is_held, open_lock, try_lock

CARD = "user.{pid}.{number}"
CARDS = "user.*"


@contextmanager
def signed_in(folder: Path, name: str) -> Iterator[None]:
    """Be one of the users the server in `folder` has, under `name`, inside the block."""
    free = (folder / CARD.format(pid=os.getpid(), number=number) for number in count())
    path = next(card for card in free if not card.exists())
    descriptor = open_lock(path)
    try:
        try_lock(descriptor)  # nobody else makes a card with our process id
        os.pwrite(descriptor, name.encode(), 0)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def users(folder: Path) -> list[str]:
    """Every process that uses the server in `folder`, in words, those of this process left out. Clears dead cards."""
    found = []
    for card in sorted(folder.glob(CARDS)):
        pid = card.name.split(".")[1]
        if not is_held(card):
            card.unlink(missing_ok=True)
        elif int(pid) != os.getpid():
            found.append(f"{card.read_text() or 'a process'} (process {pid})")
    return found
