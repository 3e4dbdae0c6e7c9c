"""Faults of Dagster that are put right: that they are, and that Dagster still has them."""

from datetime import UTC, date, datetime

import dagster as dg
from dagster._core.definitions.partitions.context import PartitionLoadingContext
from dagster._core.definitions.temporal_context import TemporalContext

import sigmasight_pipeline.operations.event_log  # noqa: F401  # whoever opens the instance loads it
from sigmasight_pipeline.assets.partitions import session_partitions

NOW = PartitionLoadingContext(
    temporal_context=TemporalContext(effective_dt=datetime(2026, 11, 30, 20, tzinfo=UTC), last_event_id=None),
    dynamic_partitions_store=None,
)
LAST = date(2025, 6, 30)
REPAIRED = dg.TimeWindowPartitionsDefinition.get_paginated_partition_keys


def pages(partitions: dg.TimeWindowPartitionsDefinition, *, ascending: bool, limit: int = 120) -> list[str]:
    """All keys, a page at a time."""
    found: list[str] = []
    cursor = None
    while True:
        page = partitions.get_paginated_partition_keys(NOW, limit, ascending, cursor)
        found += page.results
        if not page.has_more:
            return found
        cursor = page.cursor


def test_the_newest_partitions_of_a_history_that_ended_are_its_last_ones() -> None:
    partitions = session_partitions(date(2024, 1, 2), date(2026, 11, 30), last_session=LAST)
    keys = list(partitions.get_partition_keys(current_time=NOW.effective_dt))
    assert keys[-1] == str(LAST)
    assert pages(partitions, ascending=False) == keys[::-1]
    assert pages(partitions, ascending=True) == keys


def test_partitions_without_an_end_are_as_dagster_has_them() -> None:
    partitions = session_partitions(date(2026, 1, 2), date(2026, 11, 30))
    keys = list(partitions.get_partition_keys(current_time=NOW.effective_dt))
    assert pages(partitions, ascending=False) == keys[::-1]
    assert pages(partitions, ascending=True) == keys


def test_dagster_still_needs_it() -> None:
    """Where this fails, Dagster has put it right: the repair can go."""
    original = REPAIRED.__wrapped__  # type: ignore[attr-defined]  # of functools.wraps
    partitions = session_partitions(date(2024, 1, 2), date(2026, 11, 30), last_session=LAST)
    assert max(original(partitions, NOW, 5, False).results) > str(LAST)
