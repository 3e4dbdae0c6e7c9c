"""How the command line talks: one console for results, one for messages, progress, and how an error looks.

What belongs here: presentation shared by all commands. What does not: commands.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, TextIO

from rich.console import Console
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from sigmasight_pipeline.cli.exit_status import ExitStatus

if TYPE_CHECKING:  # loading Dagster reads the settings, and a wrong one must come out as a sentence
    from rich.table import Table

    from sigmasight_pipeline.assets.progress import StepDone
    from sigmasight_pipeline.operations.launcher import Chunk, Launcher, Outcome

# Text of users stands in both: brackets in a name or an error code are no markup.
out = Console(soft_wrap=True, markup=False, highlight=False)
"""Results: what a script may read."""

err = Console(stderr=True, soft_wrap=True, markup=False, highlight=False)
"""Everything said along the way."""


WITHOUT_BOUND = 100_000
"""Columns a table may have where no terminal bounds it."""

UNSPOKEN = "Exception while writing logger call to event log"
"""Beginning of what Dagster writes past every logger when its database is gone; the command says so itself."""


class WithoutUnspoken:
    """Standard error without what libraries write there themselves."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write `text`, or leave it out."""
        return len(text) if text.startswith(UNSPOKEN) else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class UserError(Exception):
    """Something the user can put right; the message says what is wrong and what to do next."""

    exit_status: ClassVar[ExitStatus] = ExitStatus.COULD_NOT


class FindingError(UserError):
    """What was to be looked at is wrong."""

    exit_status: ClassVar[ExitStatus] = ExitStatus.FOUND


class OptionError(UserError):
    """An option's value that cannot be understood."""


def print_table(table: Table) -> None:
    """Print a table: as wide as the terminal, and elsewhere as wide as it is, so that nothing is cut in a pipe."""
    unbounded = out.options.update(width=WITHOUT_BOUND)
    width = None if out.is_terminal else Measurement.get(out, unbounded, table).maximum
    out.print(table, width=width, soft_wrap=False, crop=False)


def note(message: str) -> None:
    """A line of what is being done."""
    err.print(message, style="dim")


def warn(message: str) -> None:
    """A line the user should not overlook."""
    err.print(f"Warning: {message}", style="yellow")


@contextmanager
def timed(message: str) -> Iterator[None]:
    """Say what is being done and, when it took more than two seconds, how long it took."""
    started = time.monotonic()
    with err.status(message):
        yield
    seconds = time.monotonic() - started
    if seconds > 2:
        note(f"{message.rstrip(' .')}: {seconds:.1f} s")


class Runs:
    """Runs chunks under a progress bar of the assets done, telling of each how long it took; `total` of them in all."""

    def __init__(self, launcher: Launcher, total: int, done: int = 0) -> None:
        self.launcher = launcher
        self.total = total
        self.number = done

    def run(self, chunk: Chunk, tags: Mapping[str, str] | None = None) -> Outcome:
        """Run the next chunk; RangeFailedError where it fails."""
        self.number += 1
        title = f"[{self.number}/{self.total}] {chunk}"
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        started = time.monotonic()
        # elsewhere than on a terminal a progress bar is nothing but empty lines
        with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
            task = progress.add_task(title, total=self.launcher.asset_count(chunk))

            def listener(step: StepDone) -> None:
                progress.update(task, advance=1, description=f"{title}: {step.asset}")

            outcomes = list(self.launcher.run_all([chunk], listener, tags))
        note(f"{title}: {time.monotonic() - started:.1f} s")
        return outcomes[-1]


def run_chunks(launcher: Launcher, chunks: Sequence[Chunk]) -> list[Outcome]:
    """Run chunks in order; RangeFailedError ends it."""
    runs = Runs(launcher, len(chunks))
    return [runs.run(chunk) for chunk in chunks]
