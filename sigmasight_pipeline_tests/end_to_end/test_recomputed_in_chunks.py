"""A changed past computed anew in several runs, by every way: the end is that of an undisturbed installation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline_tests.end_to_end.installations import everything
from sigmasight_pipeline_tests.end_to_end.small_books import CHUNK, DAYS, Installed, World, command, installed

END = DAYS[CHUNK - 1]
"""The last session of the first run."""


def assert_right(made: Installed) -> None:
    """Nothing stored breaks an identity, and no result is older than what it depends on."""
    assert made.broken() == {}
    assert made.owed() == 0


def assert_same_rows(made: Installed, other: Installed) -> None:
    expected = everything(other.opened)
    for name, frame in everything(made.opened).items():
        assert_frame_equal(frame, expected[name], check_exact=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("market")


@pytest.fixture(scope="module")
def made(server: EmbeddedServer, folder: Path) -> Iterator[Installed]:
    with installed(server, folder / "disturbed", World()) as installation:
        yield installation


def test_import(made: Installed) -> None:
    made.world = replace(made.world, quantity=130)
    made.import_book("changed", "--replace")
    assert_right(made)


def test_backfill_of_one_session(made: Installed) -> None:
    made.world = made.world.with_correction("AAA", END, "1.75")
    made.world.write(made.folder)
    command("backfill", "--from", str(END), "--to", str(END))
    assert_right(made)


def test_corrected_split(made: Installed) -> None:
    made.world = replace(made.world, ratio="1.97")
    made.world.write(made.folder)
    made.follow_changes()
    assert_right(made)


def test_inbox(made: Installed) -> None:
    made.world = replace(made.world, quantity=90)
    assert len(made.drop("changed")) > 1
    assert_right(made)
