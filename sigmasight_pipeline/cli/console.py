"""How the command line talks: one console for results, one for messages, progress, and how an error looks.

What belongs here: presentation shared by all commands. What does not: commands.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

if TYPE_CHECKING:  # loading Dagster reads the settings, and a wrong one must come out as a sentence
    from sigmasight_pipeline.assets.progress import StepDone
    from sigmasight_pipeline.operations.launcher import Chunk, Launcher, Outcome

# Text of users stands in both: brackets in a name or an error code are no markup.
out = Console(soft_wrap=True, markup=False, highlight=False)
"""Results: what a script may read."""

err = Console(stderr=True, soft_wrap=True, markup=False, highlight=False)
"""Everything said along the way."""


class UserError(Exception):
    """Something the user can put right; the message says what is wrong and what to do next."""

    exit_status: ClassVar[int] = 1


class OptionError(UserError):
    """An option's value that cannot be understood."""

    exit_status: ClassVar[int] = 2


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


def run_chunks(launcher: Launcher, chunks: Sequence[Chunk]) -> list[Outcome]:
    """Run chunks in order under a progress bar of sessions done by each asset; RangeFailedError ends it."""
    outcomes: list[Outcome] = []
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    # elsewhere than on a terminal a progress bar is nothing but empty lines
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        for number, chunk in enumerate(chunks, start=1):
            steps = launcher.asset_count(chunk.job)
            task = progress.add_task(f"[{number}/{len(chunks)}] {chunk}", total=steps)

            def listener(step: StepDone, task=task, chunk=chunk, number=number) -> None:  # type: ignore[no-untyped-def]  # bound loop variables
                progress.update(task, advance=1, description=f"[{number}/{len(chunks)}] {chunk}: {step.asset}")

            started = time.monotonic()
            for outcome in launcher.run_all([chunk], listener):
                outcomes.append(outcome)
            progress.remove_task(task)
            note(f"[{number}/{len(chunks)}] {chunk}: {time.monotonic() - started:.1f} s")
    return outcomes
