"""Materialisations of some partitions of a range run: those that were computed, and none of the others.

What belongs here: that one change to what Dagster records of a step. What does not: which sessions are left out
(``session_run``).

Why: Dagster 1.13 records every partition of the run's range as materialised once a step hands over its output; a step
that hands none over has everything downstream skipped, of the sessions that were computed too. So the step's output
is given the partitions it stands for. To drop it, wait for an output that names its own partitions.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date
from typing import Any

import dagster as dg

from sigmasight_pipeline.dagster_internals import StepOutputHandle


def materialize_only(context: dg.AssetExecutionContext, sessions: Collection[date]) -> None:
    """Have the running step materialise the partitions `sessions` of its assets, and no other of its run's."""
    step: Any = context.get_step_execution_context()
    whole = type(step).get_output_context
    keys = {day.isoformat() for day in sessions}

    def get_output_context(
        handle: StepOutputHandle, output_metadata: Mapping[str, Any] | None = None
    ) -> dg.OutputContext:
        output: Any = whole(step, handle, output_metadata)
        if not output.has_asset_key or not output.has_asset_partitions:
            return output  # type: ignore[no-any-return]  # of a check
        kept = [key for key in output.asset_partition_keys if key in keys]
        if kept:
            output._asset_partitions_subset = output._asset_partitions_def.subset_with_partition_keys(kept)
        else:
            output._asset_key = None  # an output of no asset materialises nothing
        return output  # type: ignore[no-any-return]  # typed Any above, for its private fields

    step.get_output_context = get_output_context
