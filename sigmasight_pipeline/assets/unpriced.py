"""What a run says of sessions that have no prices, and how it knows whether a person asked for them.

What belongs here: those errors and the tag. What does not: leaving such sessions out (``session_run``).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

TRIGGER_TAG = "sigmasight/trigger"
"""Tag of runs the pipeline itself asked for: what did. A run without it was launched by a person in the UI."""


class UnpricedSessionsError(RuntimeError):
    """Sessions were to be computed whose prices nobody has loaded."""

    def __init__(self, unpriced: Sequence[date]) -> None:
        more = f" and {len(unpriced) - 1} more session(s) of this run" if len(unpriced) > 1 else ""
        super().__init__(
            f"no prices are stored of {unpriced[0]}{more}: run the market data assets of it first "
            f"(`sigmasight backfill --from {unpriced[0]}` does both)"
        )


class NotPricedYetError(RuntimeError):
    """A person asked for sessions that are all newer than the newest one with prices."""

    def __init__(self, unpriced: Sequence[date], newest: date | None) -> None:
        asked = f"{unpriced[0]} has" if len(unpriced) == 1 else f"{unpriced[0]} to {unpriced[-1]} have"
        known = f"the newest session with prices is {newest}" if newest else "no session has any"
        super().__init__(
            f"{asked} no prices yet, and {known}: nothing can be computed; once the source has prices, "
            f"`sigmasight backfill --from {unpriced[0]}` loads them and computes the sessions "
            "(so does the job `daily`, launched over them)"
        )
