"""What Dagster asks of the session partitions again and again, answered from memory the second time.

What belongs here: answers that follow from the definition alone, whatever the time is. What does not: what the
partitions are (``partitions.session_partitions``), and answers that change as sessions end.

Why: before every step Dagster 1.13 lists which partitions of each input the run's sessions need, walking cron schedules
from weekend to weekend and, through a look-back, session by session. It is the same walk for every step and input of a
run: of 124 sessions x 36 steps a tenth of all the processor time of the run. To drop it, remove the call.
"""

from __future__ import annotations

from datetime import datetime
from functools import cache

import dagster as dg


def remember(definition: dg.TimeWindowPartitionsDefinition) -> None:
    """Have this `definition` remember which partition precedes a time, and whether any lies in a window."""
    in_window = cache(definition.has_any_partitions_in_window)
    before, bounded = cache(definition.get_prev_partition_window), definition.get_prev_partition_window

    def previous(start_dt: datetime, respect_bounds: bool = True) -> dg.TimeWindow | None:  # Dagster's
        # within bounds it depends on the time: a session becomes a partition when its day ends
        return bounded(start_dt, respect_bounds) if respect_bounds else before(start_dt, respect_bounds=False)

    # of this object only: what is written down and compared stays as it was
    object.__setattr__(definition, "has_any_partitions_in_window", in_window)
    object.__setattr__(definition, "get_prev_partition_window", previous)
