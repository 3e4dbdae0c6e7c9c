"""Valid partition keys by the list of all of them: the same answer as key by key, and nothing else changed."""

from __future__ import annotations

import dagster as dg
import pytest
from dagster._core.definitions.partitions.snap import PartitionsSnap

from sigmasight_pipeline.assets import catalog
from sigmasight_pipeline.operations.partition_lookup import answer_at_once


@pytest.fixture
def definition() -> dg.TimeWindowPartitionsDefinition:
    """The sessions as the webserver knows them."""
    made = PartitionsSnap.from_def(catalog.partitions()).get_partitions_definition()
    assert isinstance(made, dg.TimeWindowPartitionsDefinition)
    return made


def test_the_answer_is_the_same_without_asking_of_each_key(
    definition: dg.TimeWindowPartitionsDefinition, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"2024-01-02", "2024-01-05", "2024-01-06", "2024-07-04", "1999-01-04", "2999-01-04", "no date", ""}
    before = (definition.filter_valid_partition_keys(keys), repr(definition), dg.serialize_value(definition))
    assert before[0] == {"2024-01-02", "2024-01-05"}
    answer_at_once(definition)
    asked: list[str] = []
    monkeypatch.setattr(type(definition), "has_partition_key", lambda _self, key: asked.append(key))
    after = (definition.filter_valid_partition_keys(keys), repr(definition), dg.serialize_value(definition))
    assert after == before
    assert asked == []


def test_other_partitions_are_left_alone() -> None:
    answer_at_once(None)
    plain = dg.DailyPartitionsDefinition("2024-01-01")
    answer_at_once(plain)
    assert "filter_valid_partition_keys" not in vars(plain)
