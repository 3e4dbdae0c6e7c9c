"""What a person terminated is left alone by those who ask by themselves, until its cause changes or somebody asks."""

from __future__ import annotations

from sigmasight_pipeline.operations import backfills, gaps
from sigmasight_pipeline.operations.gaps import Gap
from sigmasight_pipeline.storage import backfills as backfill_rows
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline_tests.operations.test_restatement import (
    CALENDAR,
    NEWEST,
    NOW,
    SETTINGS,
    D,
    asked,
    change,
    database,  # noqa: F401  # a fixture
    migrated_url,  # noqa: F401  # a fixture
)

TERMINATED = {"message": backfills.CANCELED, "canceled": True}


def terminate(opened: Database) -> backfills.Backfill:
    """Terminate the range that is open."""
    (request,) = backfills.open_requests(opened)
    backfill_rows.fail(opened, request.backfill_id, TERMINATED, NOW)
    return request


def test_a_restatement_is_left_until_another_input_changes(database: Database) -> None:  # noqa: F811
    change(database, "daily_prices", D, symbol="AAA")
    assert asked(database)[1]
    (request,) = backfills.open_requests(database)
    assert request.reason.startswith(f"restatement of AAA {D}: ")
    terminate(database)
    for _ in range(2):
        sentence, chunks = asked(database)
        assert not chunks
        assert f"{backfills.CANCELED} (backfill {request.backfill_id}): left until another input changes" in sentence
        assert f"`sigmasight repair --from {D} --to {NEWEST}`" in sentence
    change(database, "daily_prices", D, symbol="AAA")
    assert asked(database)[1], "another change asks anew"


def test_what_a_terminated_range_left_out_is_a_gap_nobody_fills_unasked(database: Database) -> None:  # noqa: F811
    change(database, "daily_prices", D, symbol="AAA")
    (chunk, *_) = asked(database)[1]
    request = terminate(database)
    assert chunk.first is not None
    inside = Gap(("book-1",), D, D, 1, ("position_values",))
    outside = Gap(
        ("book-1",), CALENDAR.offset(chunk.first, -2), CALENDAR.offset(chunk.first, -1), 2, ("position_values",)
    )
    left, free = gaps.standings(database, SETTINGS, [inside, outside])
    assert left.given_up
    assert left.error == f"backfill {request.backfill_id} was to compute it, and {backfills.CANCELED}"
    assert not free.given_up
    backfills.request(
        database, key="backfill:by a person", trigger="backfill", reason="", chunks=request.chunks, now=NOW
    )
    (again,) = gaps.standings(database, SETTINGS, [inside])
    assert not again.given_up, "somebody asked for it since"
