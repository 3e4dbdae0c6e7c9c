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


def _nobody(_message: object) -> None:
    """Listens to nothing."""


_told: ContextVar[Callable[[str], None]] = ContextVar("progress_told", default=_nobody)
_listener: ContextVar[Callable[[StepDone], None] | None] = ContextVar("progress_listener", default=None)


@contextmanager
def listening(listener: Callable[[StepDone], None], told: Callable[[str], None] = _nobody) -> Iterator[None]:
    """Call `listener` for every asset that finishes inside the block, in this thread, `told` for every sentence."""
    tokens = _listener.set(listener), _told.set(told)
    try:
        yield
    finally:
        _listener.reset(tokens[0])
        _told.reset(tokens[1])


def tell(sentence: str) -> None:
    """Say what a run waits for to whoever listens."""
    _told.get()(sentence)


def report(step: StepDone) -> None:
    """Tell the listener, if there is one."""
    listener = _listener.get()
    if listener is not None:
        listener(step)
