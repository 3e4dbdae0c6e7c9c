"""How far a run has come, told to whoever listens in this process (the command line's progress bar).

What belongs here: the one hook between assets and a listener. What does not: printing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True)
class StepDone:
    """An asset finished the sessions of a run."""

    asset: str
    first: date | None
    last: date | None
    rows: int
    seconds: float


_listener: ContextVar[Callable[[StepDone], None] | None] = ContextVar("progress_listener", default=None)


@contextmanager
def listening(listener: Callable[[StepDone], None]) -> Iterator[None]:
    """Call `listener` for every asset that finishes inside the block, in this thread."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def report(step: StepDone) -> None:
    """Tell the listener, if there is one."""
    listener = _listener.get()
    if listener is not None:
        listener(step)
