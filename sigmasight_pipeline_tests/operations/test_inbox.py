"""The inbox: what is dropped takes effect once, whatever it is, and is told."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from sigmasight_pipeline import sessions
from sigmasight_pipeline.assets import resources
from sigmasight_pipeline.cli.console import out
from sigmasight_pipeline.cli.main import _command_tree
from sigmasight_pipeline.importing.csv_text import MAXIMUM_BYTES
from sigmasight_pipeline.operations.inbox import FILES_PER_TICK
from sigmasight_pipeline.storage import tables
from sigmasight_pipeline.storage.database import Database
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline.storage.partitions import replace_sessions
from sigmasight_pipeline_tests.cli.commands import LAST, write_prices
from sigmasight_pipeline_tests.conftest import temporary_home
from sigmasight_pipeline_tests.end_to_end.installations import expect, installation
from sigmasight_pipeline_tests.operations.inboxes import (
    COLUMNS,
    ENTRY,
    EQUITY,
    HARBOR,
    PRIVATE,
    SMALLER,
    Inbox,
    empty_inbox,
    forget,
)
from sigmasight_pipeline_tests.operations.toy_jobs import migrated
from sigmasight_pipeline_tests.storage import sample_rows

CALENDAR = sessions.calendar()


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


def test_a_good_file_is_imported_its_history_asked_for_and_the_file_moved(inbox: Inbox) -> None:
    said = inbox.take(harbor="# name: Harbor [one]\n#Equity:50000\n# inception: 2024-01-31\n" + SMALLER + "# name: x\n")
    (asked,) = inbox.ranges()
    assert said == f"accepted harbor.csv (1 rows for harbor): backfill {asked.backfill_id} asked for from 2024-01-31"
    assert inbox.files() == {"accepted/harbor.csv"}
    assert inbox.taken() == [("harbor.csv", "harbor", "accepted", True, "accepted/harbor.csv")]
    # the import is applied, the prices before are loaded, then the chain
    assert [(chunk.job, chunk.first, chunk.last, chunk.portfolios) for chunk in asked.chunks] == [
        ("reference", None, None, ()),
        ("market_data", date(2024, 1, 2), date(2024, 1, 30), ("harbor",)),
        ("daily", date(2024, 1, 31), LAST, ("harbor",)),
    ]
    assert {chunk.trigger for chunk in asked.chunks} == {asked.requested_by} == {"inbox"}
    assert asked.reason == "file harbor.csv was dropped into the inbox"
    assert inbox.tick() == "nothing lies in the inbox"
    inbox.apply()
    assert inbox.query("SELECT code, name, inception_date, initial_equity::int FROM sigmasight.portfolios") == [
        ("harbor", "Harbor [one]", date(2024, 1, 31), 50000)
    ]


def test_a_book_ends_on_the_session_the_others_end_on(inbox: Inbox) -> None:
    newest = date(2024, 2, 9)
    snapshots = sample_rows.rows(tables.portfolio_snapshots, [newest], per_session=1)
    replace_sessions(inbox.database, [(tables.portfolio_snapshots, snapshots)], [newest])
    inbox.take(harbor=HARBOR, late=EQUITY + COLUMNS + "AAA,1,100,2024-02-12\n")
    assert [asked.chunks[-1].last for asked in inbox.ranges()] == [newest, LAST]


def test_new_symbols_need_their_prices_before_sessions_that_have_some(inbox: Inbox) -> None:
    before = CALENDAR.between(date(2023, 1, 3), date(2024, 1, 31))
    prices = sample_rows.rows(tables.daily_prices, before, per_session=1, values={"symbol": "SPY"})
    replace_sessions(inbox.database, [(tables.daily_prices, prices)], before)
    inbox.take(harbor=HARBOR)
    assert [(chunk.job, chunk.first) for chunk in inbox.ranges()[0].chunks[1:]] == [
        ("market_data", date(2024, 1, 2)),
        ("daily", ENTRY),
    ]
    inbox.execute(
        "INSERT INTO sigmasight.instruments (symbol, kind, name, active, first_session) "
        "VALUES ('AAA', 'stock', 'AAA', true, '2024-01-02')"
    )
    inbox.take(pier=HARBOR)
    assert [chunk.job for chunk in inbox.ranges()[1].chunks] == ["reference", "market_data", "daily"], (
        "that a symbol is known does not say that its prices were loaded"
    )
    of_symbol = sample_rows.rows(tables.daily_prices, before, per_session=1, values={"symbol": "AAA"})
    replace_sessions(inbox.database, [(tables.daily_prices, pl.concat([prices, of_symbol]))], before)
    returns = sample_rows.rows(tables.daily_returns, before, per_session=1, values={"symbol": "AAA"})
    replace_sessions(inbox.database, [(tables.daily_returns, returns)], before)
    inbox.take(mole=HARBOR)
    assert [chunk.job for chunk in inbox.ranges()[2].chunks] == ["reference", "daily"]


def test_a_file_waits_until_it_is_complete(inbox: Inbox) -> None:
    inbox.drop("harbor.csv.part", HARBOR)
    for written in (10, 40, len(HARBOR)):
        inbox.drop("harbor.csv", HARBOR[:written])
        assert inbox.tick() == "1 file(s) wait until they are complete"
    assert inbox.files() == {"harbor.csv", "harbor.csv.part"}
    assert "accepted harbor.csv" in inbox.tick()
    (inbox.folder / "harbor.csv.part").rename(inbox.folder / "pier.csv")  # at once complete, yet looked at twice
    assert inbox.tick() == "1 file(s) wait until they are complete"
    assert "accepted pier.csv" in inbox.tick()


def test_a_bad_file_is_rejected_with_every_error(inbox: Inbox) -> None:
    bad = (
        "# name: Bad\n# colour: red\n# name: Worse\n# inception: 01/02/2024\n# exported at 10:30\n# see http://a.b\n"
        "# benchmark:\n" + COLUMNS + 'AAA,"1,000",100,2024-02-01\nBBB,5,-3,2024-02-01\n'
    )
    said = inbox.take(bad=bad, fine=HARBOR)
    assert "accepted fine.csv" in said
    assert re.search("rejected bad.csv: line 2: 'colour' is nothing .* \\(and 6 more\\)", said)
    errors = (inbox.folder / "rejected" / "bad.csv.errors.txt").read_text().splitlines()
    expected = [
        "line 2: 'colour' is nothing a portfolio has; the keys are name, equity, inception, description, benchmark",
        "line 3: name stands in line 1 already",
        "line 7: benchmark has no value",
        "line 4, column inception: '01/02/2024' is no date of the form YYYY-MM-DD",
        "the portfolio bad is new and its equity is missing; add a first line such as `# equity: 1000000`",
        "line 9, column quantity: '1,000'",
        "line 10, column entry_price: -3 is not above zero",
    ]
    for error, start in zip(errors, expected, strict=True):
        assert error.startswith(start)
    assert inbox.files() == {"rejected/bad.csv", "rejected/bad.csv.errors.txt", "accepted/fine.csv"}
    assert ("bad.csv", "bad", "rejected", False, "rejected/bad.csv") in inbox.taken()
    assert inbox.query("SELECT errors FROM sigmasight.inbox_files WHERE status = 'rejected'") == [(errors,)]
    assert inbox.imported() == len(inbox.ranges()) == 1


def test_a_name_that_is_misspelt_is_told_which_codes_there_are(inbox: Inbox) -> None:
    inbox.take(pier=HARBOR)
    inbox.take(harbour_book=HARBOR)
    inbox.take(harbour_boook=HARBOR.split("\n", 1)[1])
    (error,) = (inbox.folder / "rejected" / "harbour_boook.csv.errors.txt").read_text().splitlines()
    assert error == (
        "there is no portfolio harbour-boook (the codes are harbour-book, pier): if it is new, its equity is missing; "
        "add a first line such as `# equity: 1000000`; if not, name the file after its code, as harbour-book.csv"
    )


def test_what_a_header_states_alone_can_be_wrong(inbox: Inbox) -> None:
    inbox.take(bad="# equity: 5,000\n# name: !\n# benchmark: S&P 500\n" + COLUMNS + "AAA,5,3,2024-02-01\n")
    errors = (inbox.folder / "rejected" / "bad.csv.errors.txt").read_text().splitlines()
    assert [error.partition(": ")[0] for error in errors] == [
        "line 3, column benchmark",
        "line 2, column name",
        "line 1, column equity",
    ]
    inbox.take(bad=EQUITY + "# colour: red\n" + COLUMNS + "AAA,5,3,2024-02-01\n")
    assert [status for _, _, status, *_ in inbox.taken()] == ["rejected"] * 2
    assert "rejected/bad-2.csv.errors.txt" in inbox.files()
    assert inbox.imported() == 0, "rows without an error do not make up for the header"


def test_a_book_that_exists_needs_no_header_and_keeps_what_the_file_does_not_state(inbox: Inbox) -> None:
    facts = "SELECT name, initial_equity::int, description, inception_date FROM sigmasight.portfolios"
    inbox.take(harbor="# name: The Harbor\n# description: of old\n" + HARBOR)
    # before the first import was applied, and after
    for quantity in (90, 80):
        said = inbox.take(harbor=COLUMNS + f"AAA,{quantity},100,2024-02-01\n")
        assert "accepted harbor.csv (1 rows for harbor)" in said
        inbox.apply()
        assert inbox.query(facts) == [("The Harbor", 50000, "of old", ENTRY)]
        assert inbox.query("SELECT quantity::int FROM sigmasight.positions") == [(quantity,)]
    said = inbox.take(harbor="# name: The Pier\n" + COLUMNS + "AAA,80,100,2024-02-01\n")
    assert said.endswith("asked for, which changes no figure")
    assert [chunk.job for chunk in inbox.ranges()[-1].chunks] == ["reference"]
    inbox.apply()
    assert inbox.query(facts) == [("The Pier", 50000, "of old", ENTRY)]
    inbox.take(harbor="# equity: 60000\n" + COLUMNS + "AAA,80,100,2024-02-01\n")
    assert inbox.ranges()[-1].chunks[-1].first == ENTRY, "another equity changes every session"


@pytest.mark.parametrize("applied", [True, False])
def test_the_same_file_twice_acts_once_and_going_back_is_a_change(inbox: Inbox, applied: bool) -> None:
    dropped = [HARBOR, HARBOR, SMALLER, SMALLER, HARBOR, HARBOR]
    for content in dropped:
        inbox.take(harbor=content)
        if applied:
            inbox.apply()
    assert [status for _, _, status, *_ in inbox.taken()] == ["accepted", "unchanged"] * 3
    assert [asked for *_, asked, _ in inbox.taken()] == [True, False] * 3
    assert (inbox.imported(), len(inbox.ranges())) == (3, 3)
    assert len(inbox.files()) == len(dropped), "nothing was overwritten"
    inbox.apply()
    assert inbox.query("SELECT quantity::int FROM sigmasight.positions") == [(100,)]


def test_a_file_that_was_taken_and_is_put_back_is_another_arrival(inbox: Inbox) -> None:
    inbox.take(harbor=HARBOR)
    inbox.take(harbor=SMALLER)
    (inbox.folder / "accepted" / "harbor.csv").rename(inbox.folder / "harbor.csv")  # the same inode, the same times
    inbox.tick()
    assert "accepted harbor.csv" in inbox.tick()
    assert (inbox.imported(), len(inbox.ranges())) == (3, 3)


def test_a_range_that_failed_is_asked_for_again_by_the_same_file(inbox: Inbox) -> None:
    inbox.take(harbor=HARBOR)
    inbox.execute("UPDATE sigmasight.backfill_progress SET status = 'failed'")
    assert "accepted harbor.csv" in inbox.take(harbor=HARBOR), "its import waits, and nothing would ever run it"
    assert (inbox.imported(), len(inbox.ranges())) == (1, 2)


MARKS = "portfolio,symbol,date,price\nharbor,HOUSE,2024-02-05,1100\n"
FLOWS = '"Portfolio";date;amount;kind\nharbor;2024-02-06;500;contribution\n'


def test_a_book_its_marks_and_its_flows_arrive_together(inbox: Inbox) -> None:
    said = inbox.take(a_flows=FLOWS, b_marks=MARKS, harbor=PRIVATE)  # in the wrong order, by name
    assert "accepted a_flows.csv (1 rows for harbor)" in said
    assert [(name, status) for name, _, status, *_ in inbox.taken()] == [
        ("harbor.csv", "accepted"),
        ("b_marks.csv", "accepted"),
        ("a_flows.csv", "accepted"),
    ]
    assert inbox.files() == {f"accepted/{name}.csv" for name in ("a_flows", "b_marks", "harbor")}
    inbox.apply()
    assert inbox.ranges()[-1].chunks[-1].first == date(2024, 2, 6)
    # as waiting, and as stored
    for _ in range(2):
        said = inbox.take(flows=FLOWS, marks=MARKS)
        assert said.count("unchanged") == 2
        inbox.apply()
    assert len(inbox.ranges()) == 3
    said = inbox.take(marks=MARKS.replace("1100", "1200"), flows=FLOWS.replace("harbor", "nobody"))
    assert "accepted marks.csv" in said
    assert "rejected flows.csv: line 2, column Portfolio: there is no portfolio 'nobody'" in said
    inbox.apply()
    assert inbox.query("SELECT price::int FROM sigmasight.position_marks") == [(1200,)]
    assert inbox.query("SELECT amount::int FROM sigmasight.portfolio_cash_flows") == [(500,)]


def test_whatever_is_dropped_does_no_harm(inbox: Inbox) -> None:
    dropped = {
        "empty.csv": (b"", "the file has no rows"),
        "binary.csv": (b"ticker,quantity\0\n", "it holds binary data"),
        "wide.csv": (HARBOR.encode("utf-16"), "it is UTF-16"),
        "other.csv": (b"a,b\n1,2\n", "the first line names none of the columns"),
        "letter.txt": (b"Dear Sir", "its first line has neither commas nor semicolons"),
        "-.csv": (HARBOR.encode(), "its name makes no code of a portfolio"),
        "a\\b\nc\xff.csv": (b"", "the file has no rows"),
        "large.csv": (b"x" * (MAXIMUM_BYTES + 1), "the file has 10,485,761 bytes"),
        "tail.csv": (HARBOR.encode() + b"\xff,1,1,2024-02-01\n", "the byte 0xff does not belong there"),
    }
    for name, (content, _) in dropped.items():
        inbox.drop(name, content)
    (inbox.folder / "link.csv").symlink_to("/etc/passwd")
    (inbox.folder / "a folder.csv").mkdir()
    inbox.tick()
    said = inbox.tick()
    reasons = [reason for _, reason in dropped.values()] + ["it is a symbolic link"]
    for reason in reasons:
        assert reason in said
    found = inbox.query("SELECT file_name, jsonb_array_length(errors), content_sha256 FROM sigmasight.inbox_files")
    assert len(found) == len(reasons)
    assert {count for _, count, _ in found} == {1}, "of a file nothing can be read of, nothing else is told"
    assert {name for name, _, digest in found if digest is None} == {"link.csv", "large.csv"}
    assert all(place.startswith("rejected/") for place in inbox.files())
    assert (inbox.folder / "a folder.csv").is_dir()
    assert inbox.imported() == 0
    assert inbox.tick() == "nothing lies in the inbox"


def test_many_files_are_taken_tick_by_tick(inbox: Inbox) -> None:
    for number in range(FILES_PER_TICK + 2):
        inbox.drop(f"{number}.txt", "")
    inbox.tick()
    assert inbox.tick().endswith("2 file(s) wait for the next look")
    assert len(inbox.taken()) == FILES_PER_TICK
    inbox.tick()
    assert len(inbox.taken()) == FILES_PER_TICK + 2


def test_the_command_shows_what_waits_and_what_became_of_the_others(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGMASIGHT_DATABASE_URL", inbox.database.url)
    monkeypatch.setenv("DAGSTER_DATABASE_URL", inbox.database.url + "_dagster")
    for name in ("DAGSTER_HOME", "SIGMASIGHT_DAGSTER_DIR", "DAGSTER_EVENT_BATCH_SIZE"):
        monkeypatch.setenv(name, "")  # the command sets them: put back afterwards
    forget()
    inbox.take(harbor=HARBOR.replace("02-01", "02-03"), bad="nothing")  # a Saturday
    inbox.drop("pier.csv.part", HARBOR)
    command = CliRunner()
    monkeypatch.setattr(out, "width", 200)
    document = json.loads(command.invoke(_command_tree("inbox"), ["inbox", "--json"]).stdout)
    assert document["folder"] == str(inbox.folder)
    assert [(file["file_name"], file["unfinished"]) for file in document["waiting"]] == [("pier.csv.part", True)]
    assert [(file["file_name"], file["status"], len(file["errors"])) for file in document["files"]] == [
        ("harbor.csv", "accepted", 1),
        ("bad.csv", "rejected", 1),
    ]
    assert "the exchange is closed on 2024-02-03" in document["files"][0]["errors"][0]
    assert inbox.files() == {"accepted/harbor.csv", "pier.csv.part", "rejected/bad.csv", "rejected/bad.csv.errors.txt"}
    shown = command.invoke(_command_tree("inbox"), ["inbox", "--limit", "1"])
    assert shown.exit_code == 0
    assert f"pier.csv.part waits, {len(HARBOR)} bytes (unfinished)" in shown.stdout
    assert "harbor.csv" in shown.stdout
    assert "bad.csv" not in shown.stdout
    monkeypatch.setattr(out, "width", 80)
    lines = command.invoke(_command_tree("inbox"), ["inbox"]).stdout.splitlines()
    assert max(map(len, lines)) <= 80
    table = [line for line in lines if line.startswith("│")]
    assert len(table) == 2, "a row stands in a line of its own"
    assert all(name in " ".join(table) for name in ("harbor.csv", "accepted", "bad.csv", "rejected"))
    told = " ".join(" ".join(lines).split())
    assert document["files"][1]["errors"][0] in told
    assert "bad.csv rejected (lies in rejected/bad.csv):" in told


def test_a_dropped_book_appears_with_its_history_and_no_other(server: EmbeddedServer, market: Path) -> None:
    with (
        temporary_home() as home,
        installation(server, home, price_source="files", files_dir=str(market)) as opened,
    ):
        folder = home / "inbox"
        folder.mkdir()
        inbox = Inbox(folder, opened.database)
        inbox.take(harbor=HARBOR, pier="# equity: 9000\n" + COLUMNS + "BBB,-20,50,2024-02-12\n")
        (asked,) = (asked for asked in inbox.ranges() if asked.chunks[-1].portfolios == ("harbor",))
        for chunk in asked.chunks:
            expect(opened.launcher.run(chunk))
        assert [code for (code,) in inbox.query("SELECT code FROM sigmasight.portfolios ORDER BY 1")] == [
            "harbor",
            "pier",
        ]
        snapshots = inbox.query(
            "SELECT code, session_date FROM sigmasight.portfolio_snapshots JOIN sigmasight.portfolios "
            "USING (portfolio_id) ORDER BY session_date"
        )
        assert snapshots == [("harbor", day) for day in CALENDAR.between(ENTRY, LAST)]
        assert "unchanged harbor.csv" in inbox.take(harbor=HARBOR)


def test_a_file_that_takes_too_long_is_set_aside_and_the_good_one_beside_it_does_not_wait(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGMASIGHT_INBOX_FILE_SECONDS", "0.01")
    forget()
    rows = "".join(f"AAA,{n},100,2024-02-01,{n}\n" for n in range(1, 9_000))
    said = inbox.take(endless=EQUITY + COLUMNS.strip() + ",lot\n" + rows, harbor=HARBOR)
    assert said.index("accepted harbor.csv") < said.index("rejected endless.csv: it was not read within 0.01 s")
    assert {(name, status) for name, _, status, _, _ in inbox.taken()} == {
        ("endless.csv", "rejected"),
        ("harbor.csv", "accepted"),
    }
    assert "raise SIGMASIGHT_INBOX_FILE_SECONDS" in (inbox.folder / "rejected" / "endless.csv.errors.txt").read_text()


def test_a_large_file_is_accepted_as_a_small_one(inbox: Inbox) -> None:
    rows = "".join(f"AAA,{n},100,2024-02-01,{n}\n" for n in range(1, 1_001))
    assert "accepted large.csv (1000 rows for large)" in inbox.take(large=EQUITY + COLUMNS.strip() + ",lot\n" + rows)


def test_blanks_without_end_are_refused_by_their_line(inbox: Inbox) -> None:
    """What once kept the code location busy for minutes."""
    said = inbox.take(blanks=EQUITY + COLUMNS + f"AAA,1{' ' * 130_000}1,100,2024-02-01\n", harbor=HARBOR)
    assert "accepted harbor.csv" in said
    assert "rejected blanks.csv: line 3, column quantity: " in said
