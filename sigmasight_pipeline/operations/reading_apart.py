"""Reading a stranger's file in a process of its own that can be ended: no file, whatever is in it, holds anybody up.

What belongs here: that process, its time limit, and what became of it. What does not: reading itself (``importing``)
and what is done with a file that takes too long (``operations.inbox``).

A thread would not do: one long call into a library keeps every other thread of the process waiting, and with them the
code location. Files too small to take long are read where one is; the process is started for the first larger one,
reads any number of them, and is replaced after one it had to be ended for.
"""

from __future__ import annotations

import math
import resource
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self, TypeVar

import sigmasight_pipeline

SMALL_BYTES = 16_384
"""What takes time by the square of its size still takes about a second at this one."""

START_SECONDS = 120.0
"""A process that is not ready after this long has failed, whatever keeps it."""

_PROGRAM = f"import sys; sys.path.append(sys.argv[1]); import {__name__} as program; program.serve(int(sys.argv[2]))"
"""What the process runs; the package is found last of all, where it is not installed."""

Result = TypeVar("Result")


class SlowFileError(ValueError):
    """A file that could not be read in the time it has; the message says what to do."""


class ReadingFailedError(RuntimeError):
    """The process that reads could not be started."""


class ReadingApart:
    """Calls readers of files within `seconds` each; use it in a `with` block, which ends the process."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._line: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def __call__(self, reader: Callable[..., Result], content: bytes, **details: Any) -> Result:
        """What `reader(content, **details)` gives: a function of a module, with details that can be pickled.

        Raises SlowFileError where it takes too long or ends the process, and whatever the reader raises.
        """
        if len(content) <= SMALL_BYTES:
            return reader(content, **details)
        line = self._line or self._start()
        try:
            line.send((reader, content, details, self._seconds))
            if not line.poll(self._seconds):
                self._end()
                raise SlowFileError(
                    f"it was not read within {self._seconds:g} s and is set aside; split it, or raise "
                    "SIGMASIGHT_INBOX_FILE_SECONDS"
                )
            succeeded, answer = line.recv()
        except (EOFError, OSError):
            self._end()
            raise SlowFileError("reading it ended the process that read it; it is set aside, look into it") from None
        if succeeded:
            result: Result = answer
            return result
        raise answer

    def _start(self) -> Connection:
        ours, theirs = socket.socketpair()
        with theirs:
            root = Path(sigmasight_pipeline.__file__).parents[1]
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, str(root), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        self._line = Connection(ours.detach())
        try:
            ready = self._line.poll(START_SECONDS) and self._line.recv()
        except (EOFError, OSError):
            ready = False
        if not ready:
            self._end()
            raise ReadingFailedError("the process that reads files could not be started; the lines above say why")
        return self._line

    def _end(self) -> None:
        if self._line is not None:
            self._line.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = self._line = None


def _limit_own_work(seconds: float) -> None:
    """Let the system end this process should it go on working after nobody waits for it any more."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    wanted = math.ceil(used.ru_utime + used.ru_stime + 2 * seconds + 5)
    resource.setrlimit(resource.RLIMIT_CPU, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))


def serve(descriptor: int) -> None:
    """Answer each request that comes over the socket `descriptor` until the other side is gone."""
    # a machine under load takes seconds to load the readers: that is no file's time
    from sigmasight_pipeline.importing import flows, marks, positions  # noqa: F401, PLC0415

    line = Connection(descriptor)
    line.send(True)
    with suppress(EOFError, OSError):
        while True:
            reader, content, details, seconds = line.recv()
            _limit_own_work(seconds)
            try:
                answer = (True, reader(content, **details))
            except Exception as error:  # noqa: BLE001 - whatever it is, whoever asked is told
                answer = (False, RuntimeError(f"{type(error).__name__}: {error}"))
            line.send(answer)
