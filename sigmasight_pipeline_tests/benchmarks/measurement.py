"""What a benchmark reports.

What belongs here: the row of `make bench` and how a duration is taken. What does not: any benchmark.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Measurement:
    """One stage: how long it took for how many rows, and its time over that of `peer` doing the same work.

    `ratio` is in times of the peer's duration (below 1 is faster); `budget` is the largest ratio allowed, None where
    the stage is only reported.
    """

    stage: str
    seconds: float
    rows: int
    ratio: float | None = None
    peer: str = ""
    budget: float | None = None

    @property
    def rows_per_second(self) -> float:
        """Throughput."""
        return self.rows / self.seconds

    @property
    def within_budget(self) -> bool:
        """Whether the ratio keeps to the budget; true without one."""
        return self.budget is None or (self.ratio is not None and self.ratio <= self.budget)


def fastest(action: Callable[[], object], times: int) -> float:
    """Shortest duration of `times` calls, in seconds: what is least disturbed by the rest of the machine."""
    durations = []
    for _ in range(times):
        started = time.perf_counter()
        action()
        durations.append(time.perf_counter() - started)
    return min(durations)
