"""The inbox, wherever a tick is broken off: what was dropped takes effect whole, and once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sigmasight_pipeline.assets import resources
from sigmasight_pipeline.importing.csv_text import MAXIMUM_BYTES
from sigmasight_pipeline.operations.inbox_folder import InboxError
from sigmasight_pipeline.storage import inbox as rows
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline.storage.errors import ServerUnreachableError
from sigmasight_pipeline_tests.cli.commands import write_prices
from sigmasight_pipeline_tests.operations.inboxes import HARBOR, Inbox, empty_inbox
from sigmasight_pipeline_tests.operations.toy_jobs import migrated


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prices(tmp_path_factory.mktemp("inbox")).parent


@pytest.fixture(scope="module")
def module_database(server: EmbeddedServer) -> Iterator[Database]:
    with migrated(server) as database:
        yield database
        resources._database(database.url).close()


@pytest.fixture
def inbox(module_database: Database, market: Path, tmp_path: Path) -> Iterator[Inbox]:
    with empty_inbox(module_database, market, tmp_path) as opened:
        yield opened


FAIL = "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'broken off'; END $$; "
BROKEN_OFF = {
    "recording the import": "CREATE TRIGGER fail BEFORE INSERT ON sigmasight.portfolio_imports",
    "recording the file": "CREATE TRIGGER fail BEFORE INSERT ON sigmasight.inbox_files",
    "asking for the range": "CREATE TRIGGER fail BEFORE INSERT ON sigmasight.backfill_progress",
    "the last statement": "CREATE TRIGGER fail BEFORE UPDATE OF backfill_id ON sigmasight.inbox_files",
    "the commit": "CREATE CONSTRAINT TRIGGER fail AFTER INSERT ON sigmasight.inbox_files DEFERRABLE INITIALLY DEFERRED",
}


@pytest.fixture
def broken(inbox: Inbox) -> Iterator[Callable[[str], None]]:
    """Makes the database refuse one step."""
    yield lambda trigger: inbox.execute(f"{FAIL}{trigger} FOR EACH ROW EXECUTE FUNCTION fail()")
    inbox.execute("DROP FUNCTION IF EXISTS fail CASCADE")


@pytest.mark.parametrize("trigger", BROKEN_OFF.values(), ids=BROKEN_OFF.keys())
def test_what_is_broken_off_before_the_commit_leaves_nothing(
    inbox: Inbox, broken: Callable[[str], None], trigger: str
) -> None:
    broken(trigger)
    with pytest.raises(InboxError, match=r"harbor\.csv could not be settled: .* broken off"):
        inbox.take(harbor=HARBOR)
    inbox.drop("new.csv", "")
    # what is new is remembered first, by a tick that tells the failure but does not fail
    assert re.match(r"harbor\.csv could not be settled: .* broken off; 1 file\(s\) wait", inbox.tick())
    (inbox.folder / "new.csv").unlink()
    assert "harbor.csv" in inbox.files()
    assert inbox.imported() == len(inbox.ranges()) == 0
    assert inbox.taken() == []
    inbox.execute("DROP FUNCTION fail CASCADE")
    assert "accepted harbor.csv" in inbox.tick()
    assert inbox.imported() == len(inbox.ranges()) == 1
    assert "accepted/harbor.csv" in inbox.files()


@pytest.mark.parametrize(
    ("place", "name", "content", "error"),
    [
        ("accepted", "harbor.csv", HARBOR, ""),
        ("rejected", "bad.csv", "nothing", "the file is no CSV text"),
        ("rejected", "huge.csv", "x" * (MAXIMUM_BYTES + 1), "the file has 10,485,761 bytes"),
    ],
    ids=("good", "bad", "not read"),
)
def test_what_is_broken_off_before_the_move_is_only_moved(
    inbox: Inbox, place: str, name: str, content: str, error: str
) -> None:
    inbox.drop(name, content)
    inbox.tick()
    (inbox.folder / place).rmdir()
    for moment in range(2):
        (inbox.folder / place).write_text("in the way" * moment)
        said = inbox.tick()
        assert f"{name} could not be settled: it was {place}, but cannot be moved to {inbox.folder / place}" in said
        assert [row[:1] + row[2:3] for row in inbox.taken()] == [(name, place)]
    (inbox.folder / place).unlink()
    (inbox.folder / place).mkdir()
    (inbox.folder / "rejected" / f"{name}.errors.txt").write_text("half wri")
    assert inbox.tick() == f"{place} {name} (judged before, moved now)"
    assert f"{place}/{name}" in inbox.files()
    assert [row[:1] + row[2:] for row in inbox.taken()] == [(name, place, place == "accepted", f"{place}/{name}")]
    assert inbox.imported() == len(inbox.ranges()) == (1 if place == "accepted" else 0)
    if error:
        assert (inbox.folder / "rejected" / f"{name}.errors.txt").read_text().startswith(error)
    assert inbox.tick() == "nothing lies in the inbox"


def test_what_is_broken_off_after_the_move_is_done(inbox: Inbox, broken: Callable[[str], None]) -> None:
    broken("CREATE TRIGGER fail BEFORE UPDATE OF fingerprint ON sigmasight.inbox_files")
    with pytest.raises(InboxError, match="broken off"):
        inbox.take(harbor=HARBOR)
    assert inbox.tick() == "nothing lies in the inbox"
    assert inbox.taken() == [("harbor.csv", "harbor", "accepted", True, "accepted/harbor.csv")]
    inbox.execute("DROP FUNCTION fail CASCADE")
    assert "unchanged harbor.csv" in inbox.take(harbor=HARBOR)
    assert inbox.imported() == len(inbox.ranges()) == 1


def test_without_a_database_every_file_stays_and_the_tick_fails(inbox: Inbox) -> None:
    inbox.drop("harbor.csv", HARBOR)
    inbox.drop("bad.csv", "")
    inbox.tick()
    with pytest.raises(ServerUnreachableError):
        inbox.tick("postgresql://sigmasight:secret@127.0.0.1:1/sigmasight")
    assert inbox.files() == {"harbor.csv", "bad.csv"}
    said = inbox.tick()
    assert "accepted harbor.csv" in said
    assert "rejected bad.csv" in said


def test_two_looks_at_once_judge_a_file_once(inbox: Inbox) -> None:
    inbox.drop("harbor.csv", HARBOR)
    inbox.drop("bad.csv", "")
    inbox.tick()
    with ThreadPoolExecutor(2) as pool:
        said = list(pool.map(lambda _: inbox.tick(), range(2)))
    assert len(inbox.taken()) == 2, said
    assert inbox.imported() == len(inbox.ranges()) == 1
    assert inbox.files() == {"accepted/harbor.csv", "rejected/bad.csv", "rejected/bad.csv.errors.txt"}


WAITING = (
    "SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database "
    "WHERE NOT granted AND locktype = 'advisory' AND datname = current_database()"
)


@pytest.mark.parametrize("judged", [True, False], ids=["judged, not moved", "nobody judged it"])
def test_a_file_that_went_while_another_look_was_waited_for_is_let_alone(inbox: Inbox, judged: bool) -> None:
    inbox.drop("harbor.csv", HARBOR)
    inbox.tick()
    if judged:
        (inbox.folder / "accepted").rmdir()
        (inbox.folder / "accepted").write_text("in the way")
        inbox.tick()
        (inbox.folder / "accepted").unlink()
    before = inbox.taken()
    with ThreadPoolExecutor(1) as pool:
        with inbox.database.connect() as connection:
            rows.lock(connection)
            waiting = pool.submit(inbox.tick)
            while connection.execute(WAITING).fetchone() != (1,):
                assert not waiting.done(), waiting.result()
            (inbox.folder / "harbor.csv").unlink()
        said = waiting.result()
    if judged:
        assert said == "harbor.csv was accepted, but is gone or another file now"
        assert inbox.taken() == [(*before[0][:-1], None)]
    else:
        assert said == "harbor.csv is gone"
        assert inbox.taken() == []
