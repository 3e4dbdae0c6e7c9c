"""Metadata of the partitions of a range run, all at once: Dagster's own way takes a look at all of them for each.

What belongs here: that one shortcut. What does not: what is said of a partition (``session_run``).

Why: ``context.add_asset_metadata(..., partition_key=...)`` of Dagster 1.13 lists all partitions of the run to see that
the one named is among them, once for each, and copies and checks all metadata of the step with every addition: of 252
sessions x 37 assets some 5 s a run. The run's sessions are where ours come from. To drop it, call that method instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import dagster as dg

from sigmasight_pipeline.dagster_internals import AssetMetadataHandle, OutputMetadataAccumulator


def add(context: dg.AssetExecutionContext, asset: str, by_session: Mapping[date, Mapping[str, object]]) -> None:
    """Add to the materialisation of each session, which must be one of the run's, its metadata."""
    step = context.get_step_execution_context()
    said = dict(step._metadata_accumulator.per_output_metadata)
    key = dg.AssetKey(asset)
    for session, metadata in by_session.items():
        handle = AssetMetadataHandle(asset_key=key, partition_key=session.isoformat())
        said[handle] = {**said.get(handle, {}), **metadata}
    step._metadata_accumulator = OutputMetadataAccumulator(per_output_metadata=said)
