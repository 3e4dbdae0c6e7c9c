"""A conversation over sockets that must be over by a certain time, however lively the other side keeps it.

What belongs here: cutting the connection. What does not: what is said over it (``http``,
``operations.delivery``).

A library's timeout begins anew with every byte: who sends one now and then is never given up. So the connection is
shut from outside when the time is over; whoever reads from it then finds it ended.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

AGAIN_SECONDS = 0.2
"""A connection that was only being made when the time was over is cut this much later."""


@contextmanager
def cut_after(seconds: float, connection: Callable[[], socket.socket | None]) -> Iterator[threading.Event]:
    """Shut what `connection` gives once the block has taken `seconds`; the event says whether that happened.

    `connection` is asked at that moment, and again until the block ends: a connection may be replaced by another (TLS)
    or not be made yet (None).
    """
    over, is_cut = threading.Event(), threading.Event()

    def watch() -> None:
        wait = seconds
        while not over.wait(wait):
            wait = AGAIN_SECONDS
            is_cut.set()
            found = connection()
            if found is not None:
                with suppress(OSError):  # it ended by itself meanwhile
                    # not the method of a TLS socket, which would first forget that it is one
                    socket.socket.shutdown(found, socket.SHUT_RDWR)

    watcher = threading.Thread(target=watch, name="deadline", daemon=True)
    watcher.start()
    try:
        yield is_cut
    finally:
        over.set()
        watcher.join()
