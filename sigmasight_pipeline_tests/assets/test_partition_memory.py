"""Partitions that remember: the same answers as without, walked to once, and nothing written down changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date

import dagster as dg
import pytest

from sigmasight_pipeline import sessions
from sigmasight_pipeline.assets import catalog
from sigmasight_pipeline.assets.partition_memory import remember
from sigmasight_pipeline.assets.partitions import session_partitions

LOOK_BACK = 40

Walk = Callable[[object, float, bool], Iterator[dg.TimeWindow]]


@pytest.fixture
def definition() -> dg.DailyPartitionsDefinition:
    """Sessions of a year with holidays, made anew for each test."""
    return session_partitions(date(2023, 1, 3), last_session=date(2023, 12, 29))


def needed(definition: dg.TimeWindowPartitionsDefinition, first: str, last: str) -> list[str]:
    """Partitions the sessions from `first` to `last` need through a look-back, as Dagster finds them before a step."""
    own = definition.empty_subset().with_partition_key_range(definition, dg.PartitionKeyRange(first, last))
    look_back = dg.TimeWindowPartitionMapping(start_offset=-LOOK_BACK, end_offset=0)
    mapped = look_back.get_upstream_mapped_partitions_result_for_partitions(own, definition, definition)
    return list(mapped.partitions_subset.get_partition_keys())


def test_the_needed_partitions_are_the_same_sessions(definition: dg.DailyPartitionsDefinition) -> None:
    calendar = sessions.calendar()
    ranges = [("2023-05-26", "2023-07-05"), ("2023-11-22", "2023-11-24"), ("2023-01-03", "2023-02-01")]
    before = [needed(definition, *bounds) for bounds in ranges]
    written = (repr(definition), hash(definition))
    remember(definition)
    assert [needed(definition, *bounds) for bounds in ranges] == before
    first, last = (date.fromisoformat(day) for day in ranges[0])
    assert before[0] == sessions.keys(calendar.between(calendar.offset(first, -LOOK_BACK), last))
    assert (repr(definition), hash(definition)) == written
    assert definition == session_partitions(date(2023, 1, 3), last_session=date(2023, 12, 29))


def test_the_second_step_walks_nowhere(
    definition: dg.DailyPartitionsDefinition, monkeypatch: pytest.MonkeyPatch
) -> None:
    walked: list[float] = []
    for name in ("_iterate_time_windows", "_reverse_iterate_time_windows"):
        walk = getattr(type(definition), name)

        def counted(
            self: object, start: float, *, ignore_exclusions: bool = False, walk: Walk = walk
        ) -> Iterator[dg.TimeWindow]:
            walked.append(start)
            yield from walk(self, start, ignore_exclusions)

        monkeypatch.setattr(type(definition), name, counted)
    remember(definition)
    needed(definition, "2023-05-26", "2023-07-05")
    first = len(walked)
    needed(definition, "2023-05-26", "2023-07-05")
    assert len(walked) - first < LOOK_BACK / 4 < first


def test_within_bounds_the_answer_still_ends_with_the_partitions(definition: dg.DailyPartitionsDefinition) -> None:
    remember(definition)
    first = definition.get_first_partition_window()
    assert first is not None
    assert definition.get_prev_partition_window(first.start) is None
    outside = definition.get_prev_partition_window(first.start, respect_bounds=False)
    assert outside is not None
    assert outside.end <= first.start


def test_the_session_assets_share_partitions_that_remember() -> None:
    assert "has_any_partitions_in_window" in vars(catalog.partitions())
