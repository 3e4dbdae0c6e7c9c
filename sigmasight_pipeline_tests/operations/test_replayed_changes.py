"""Restated prices that are older than any look-back: replays are made from them all the same."""

from __future__ import annotations

from datetime import date

import pytest

from sigmasight_pipeline.operations import replayed_changes
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.partitions import replace_sessions
from sigmasight_pipeline_tests.calculations.stress_world import worst
from sigmasight_pipeline_tests.calculations.table_rows import frame
from sigmasight_pipeline_tests.operations import test_restatement as restatements
from sigmasight_pipeline_tests.operations.test_restatement import (
    COMPUTED,
    DAYS,
    NEWEST,
    ONE,
    asked,
    change,
    outstanding,
    renew,
    told,
)
from sigmasight_pipeline_tests.storage.sample_rows import rows

migrated_url, database = restatements.migrated_url, restatements.database
"""Fixtures: two books computed from their inceptions on."""


def replayed(database: Database, kind: str, first: date | None = None, last: date | None = None) -> None:
    """A replay as the scenarios of the newest session left it."""
    given = {"session_date": NEWEST, "scenario_id": "then", "kind": kind, "window_from": first, "window_to": last}
    told = rows(tables.stress_scenario_diagnostics, [NEWEST], 1, values={**given, "computed_at": COMPUTED})
    replace_sessions(database, [(tables.stress_scenario_diagnostics, told)], [NEWEST])


REPLAYED = replayed_changes.REPLAYED


@pytest.mark.parametrize(
    ("day", "symbol", "inside"),
    [
        (DAYS[1], "CCC", False),
        (DAYS[2], "CCC", True),  # the close it begins at
        (DAYS[4], "CCC", True),
        (DAYS[5], "CCC", False),
        (DAYS[3], "AAA", True),
    ],
)
def test_a_price_in_the_window_of_a_replay_concerns_every_later_session(
    database: Database, day: date, symbol: str, inside: bool
) -> None:
    """However old: no look-back reaches it."""
    replayed(database, "replay", DAYS[2], DAYS[4])
    change(database, "daily_prices", day, symbol=symbol)
    owner = {"AAA": 1, "CCC": 2}[symbol]
    assert ((REPLAYED, day, owner) in outstanding(database)) == inside


def test_of_a_replayed_price_returns_and_scenarios_are_renewed_and_nothing_else(database: Database) -> None:
    replayed(database, "replay", DAYS[2], DAYS[4])
    change(database, "daily_prices", DAYS[3], symbol="CCC")  # too old for any look-back of the second book
    renew(database, "daily_returns", "true")
    assert outstanding(database) == [(REPLAYED, DAYS[3], 2)]
    assert told(asked(database)[1]) == [
        (DAYS[3], DAYS[4], (), {"daily_returns"}),
        (ONE, NEWEST, ("book-2",), {"daily_returns", "stress_test_results", "calculation_audit"}),
    ]


def test_any_price_of_the_market_may_move_its_worst_stretch(database: Database) -> None:
    change(database, "daily_prices", DAYS[0], symbol="SPY")
    assert outstanding(database) == [], "older than any look-back"
    with database.connect() as connection:
        restatements._insert(
            connection, tables.stress_test_scenarios, frame(tables.stress_test_scenarios, [worst("worst", 21)])
        )
    try:
        assert outstanding(database) == [(REPLAYED, DAYS[0], 1), (REPLAYED, DAYS[0], 2)]
    finally:
        with database.connect() as connection:
            connection.execute("DELETE FROM sigmasight.stress_test_scenarios")
