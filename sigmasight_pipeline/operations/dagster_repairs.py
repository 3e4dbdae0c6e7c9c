"""What is wrong in Dagster itself and shows in its UI, put right in every process that opens the project's instance.

What belongs here: one function per fault, each with the symptom and how to tell that it is not needed any more. What
does not: anything that works. ``operations.event_log`` installs them, because ``dagster.yaml`` has the webserver and
the daemon load it, whoever starts them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import wraps
from typing import Any

import dagster as dg

from sigmasight_pipeline.dagster_internals import PaginatedResults, PartitionLoadingContext


def newest_partitions_end_with_the_history() -> None:
    """Have pages of partition keys, the newest first, begin at the end of the partitions rather than now.

    Dagster 1.13 forgets ``end_date`` there and nowhere else. The plots of an asset ask for its newest 120 partitions
    that way: of a history that ends in the past they are all days after it, and the plots are empty. To drop it, remove
    the call: a test tells when Dagster gives the right keys by itself.
    """
    original = dg.TimeWindowPartitionsDefinition.get_paginated_partition_keys
    if hasattr(original, "__wrapped__"):
        return

    @wraps(original)
    def bounded(
        self: dg.TimeWindowPartitionsDefinition,
        context: PartitionLoadingContext,
        *arguments: Any,
        **named: Any,
    ) -> PaginatedResults[str]:
        end = self.end_timestamp
        if end is not None and end < context.effective_dt.timestamp():
            context = context.updated(datetime.fromtimestamp(end, UTC), None)
        return original(self, context, *arguments, **named)

    dg.TimeWindowPartitionsDefinition.get_paginated_partition_keys = bounded  # type: ignore[method-assign]
