"""Metadata of one partition of a range run, without Dagster's own look through the range for every one of them.

What belongs here: that one shortcut. What does not: what is said of a partition (``session_run``).

Why: ``context.add_asset_metadata(..., partition_key=...)`` of Dagster 1.13 lists all partitions of the run to see that
the one named is among them, once for each: of 252 sessions x 23 assets some 3 s a run. The run's sessions are where
ours come from. To drop it, call that method instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import dagster as dg


def add(context: dg.AssetExecutionContext, asset: str, session: date, metadata: Mapping[str, object]) -> None:
    """Add `metadata` to the materialisation of `session`, which must be one of the run's."""
    step = context.get_step_execution_context()
    step._metadata_accumulator = step._metadata_accumulator.with_additional_asset_metadata(
        asset_key=dg.AssetKey(asset), metadata=metadata, partition_key=session.isoformat()
    )
