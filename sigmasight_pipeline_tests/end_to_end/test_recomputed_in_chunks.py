"""A changed past computed anew in several runs, by every way: the end is that of an undisturbed installation.

The ways that take longest are ``slow``; commands killed on the way are in ``faults``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from sigmasight_pipeline.assets import resources
from sigmasight_pipeline.operations import restatement
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline_tests.end_to_end.installations import CALENDAR, everything, expect, run_sessions
from sigmasight_pipeline_tests.end_to_end.small_books import CHUNK, DAYS, Installed, World, command, installed

SESSIONS = CHUNK + 2
"""A run of five sessions and one of two."""

END, NEXT = DAYS[CHUNK - 1], DAYS[CHUNK]
"""The last session of the first run, and the one after it."""

WORLD = World(days=SESSIONS)


def assert_right(made: Installed) -> None:
    """Nothing stored breaks an identity, no result is older than what it depends on, no check fails."""
    assert made.broken() == {}
    assert made.outstanding() == 0
    failed = made.opened.database.query(
        "SELECT DISTINCT ON (asset, check_name, session_date) asset, check_name, session_date, passed, description "
        "FROM sigmasight.data_quality_results WHERE severity = 'ERROR' "
        "ORDER BY asset, check_name, session_date, checked_at DESC"
    ).filter(~pl.col("passed"))
    assert failed.is_empty(), failed


def assert_as_undisturbed(made: Installed, server: EmbeddedServer, folder: Path) -> None:
    """Every table is that of an installation that never knew anything else, computed in one run."""
    assert_right(made)
    with installed(server, folder / f"undisturbed-{len(list(folder.iterdir()))}", made.world, size=252) as other:
        expected = everything(other.opened)
    for name, frame in everything(made.opened).items():
        assert_frame_equal(frame, expected[name], check_exact=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("market")


@pytest.fixture(scope="module")
def made(server: EmbeddedServer, folder: Path) -> Iterator[Installed]:
    with installed(server, folder / "disturbed", WORLD) as installation:
        yield installation


def restate(made: Installed, amount: str) -> None:
    """Another close of the last session of the first run, in the files."""
    made.world = made.world.with_correction("AAA", END, amount)
    made.world.write(made.folder)
    resources._source.cache_clear()


def test_a_replaced_book(made: Installed) -> None:
    made.world = replace(made.world, quantity=130)
    made.import_book("changed", "--replace")
    assert_right(made)


def test_what_a_run_of_one_session_owes_is_found_by_whoever_looks_next(made: Installed) -> None:
    """Its run neither carries the chain over old values nor judges other sessions; killed there, nothing is lost."""
    before = made.snapshots()
    restate(made, "1.75")
    expect(run_sessions(made.opened, END))
    after = made.snapshots()
    later = pl.col("session_date") > END
    assert after.filter(later).equals(before.filter(later)), "their values are older than the new close"
    assert not after.filter(~later).equals(before.filter(~later))
    assert set(made.broken()) == {"net_asset_value", "telescoping"}, "between the session and the next, as it must be"
    told = json.loads(command("gaps", "--json", status=1).stdout)
    assert (told["gaps"], told["out_of_date"]["first"], told["out_of_date"]["last"]) == (
        [], str(END), str(DAYS[SESSIONS - 1])
    )  # fmt: skip
    page = json.loads(command("audit", "--json", status=1).stdout)
    assert "results_out_of_date" in {finding["code"] for finding in page["findings"]}
    assert "computes them anew" not in command("gaps", "--fill").output
    assert_right(made)


@pytest.mark.slow
def test_a_backfill_goes_on_after_its_range(made: Installed, server: EmbeddedServer, folder: Path) -> None:
    restate(made, "0.5")
    command("backfill", "--from", str(END), "--to", str(END))
    assert_as_undisturbed(made, server, folder)


@pytest.mark.slow
def test_a_corrected_split_and_a_dropped_book_through_the_sensors(
    made: Installed, server: EmbeddedServer, folder: Path
) -> None:
    made.world = replace(made.world, ratio="1.97")
    made.world.write(made.folder)
    assert len(made.follow_changes()) > 1
    made.world = replace(made.world, quantity=90)
    assert len(made.drop("changed")) > 1
    assert_as_undisturbed(made, server, folder)


@pytest.mark.slow
def test_a_close_changed_by_hand_and_repaired_where_it_was_changed(
    made: Installed, server: EmbeddedServer, folder: Path
) -> None:
    restate(made, "1.25")
    with made.opened.database.connect() as connection:
        connection.execute(
            "UPDATE sigmasight.daily_prices SET close = %s WHERE symbol = 'AAA' AND session_date = %s",
            (made.world.close("AAA", END), END),
        )
    command("repair", "--from", str(END), "--to", str(END))
    assert_as_undisturbed(made, server, folder)


@pytest.mark.slow
def test_values_nobody_knows_to_be_old_stop_the_chain_and_are_owed(made: Installed) -> None:
    """As after an engine changed: a hand moved later values, and the chain was not told."""
    with made.opened.database.connect() as connection:
        connection.execute(
            "UPDATE sigmasight.position_values SET market_value = market_value + 7 WHERE session_date >= %s "
            "AND symbol = 'AAA'",
            (NEXT,),
        )
    before = made.snapshots()
    expect(run_sessions(made.opened, DAYS[0], END))
    assert made.snapshots().equals(before), "nothing that does not add up is stored"
    owed = restatement.out_of_date(made.opened.database, made.opened.settings, CALENDAR)
    assert owed is not None
    assert (owed.first, owed.outstanding.rows["table_name"].to_list()) == (NEXT, [tables.portfolio_snapshots.name])
    command("gaps", "--fill")
    assert_right(made)
    assert made.snapshots().equals(before)


@pytest.mark.slow
def test_a_repair_of_one_book_is_not_stopped_by_another(made: Installed) -> None:
    right = made.snapshots()
    with made.opened.database.connect() as connection:
        connection.execute(
            "UPDATE sigmasight.portfolio_snapshots SET cash_balance = cash_balance + 5 WHERE session_date = %s", (END,)
        )
    command("repair", "--from", str(END), "--to", str(END), "--portfolio", "changed")
    assert made.broken() == {"cash": 1}, "the other book's"
    command("repair", "--from", str(END), "--to", str(END))
    assert made.snapshots().equals(right)
    assert_right(made)
