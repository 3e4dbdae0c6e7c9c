"""The life of a book by the commands that state it: closed, renewed, reopened, tagged; on prices from a folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from sigmasight_pipeline.cli.console import UserError
from sigmasight_pipeline.market_data.factory import open_source
from sigmasight_pipeline.operations import freshness, gaps, missed
from sigmasight_pipeline.storage import audit, audit_faults, standing, tables
from sigmasight_pipeline.storage.embedded import EmbeddedServer
from sigmasight_pipeline.storage.freshness import stored
from sigmasight_pipeline_tests.end_to_end.installations import (
    CALENDAR,
    RESULT_TABLES,
    everything,
    expect,
    rows,
    run_sessions,
)
from sigmasight_pipeline_tests.end_to_end.small_books import DAYS, Installed, World, command, installed

CLOSED = DAYS[6]
PRICED = 10
"""Sessions with prices at first; the rest comes while the book is closed."""

BY_PORTFOLIO = [table for table in RESULT_TABLES if "portfolio_id" in table.columns]


@pytest.fixture(scope="module")
def books(server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    with installed(server, tmp_path_factory.mktemp("life") / "market", World(days=PRICED)) as made:
        yield made


def identifiers(books: Installed) -> dict[str, int]:
    return dict(books.opened.database.read(tables.portfolios, columns=["code", "portfolio_id"]).iter_rows())


def close(books: Installed) -> None:
    """Have `changed` closed, whatever ran before."""
    command("portfolio", "close", "changed", "--on", str(CLOSED))
    assert sessions_of(books, "changed")[-1] == CLOSED


def of(frame: pl.DataFrame, owner: int, *, until: date = date.max) -> pl.DataFrame:
    return frame.filter(pl.col("portfolio_id") == owner, pl.col("session_date") <= until)


def sessions_of(books: Installed, code: str) -> list[date]:
    return of(books.snapshots(), identifiers(books)[code])["session_date"].sort().to_list()


def recorded(books: Installed, after: int = 0) -> list[tuple[Any, ...]]:
    return (
        books.opened.database.read(tables.input_changes, order_by="change_id")
        .filter(pl.col("change_id") > after)
        .select("table_name", "session_date", "symbol", "kind", "by_hand")
        .rows()
    )


def newest_change(books: Installed) -> int:
    return int(
        books.opened.database.query("SELECT coalesce(max(change_id), 0) AS n FROM sigmasight.input_changes")["n"][0]
    )


def refused(*arguments: str) -> str:
    ended = command(*arguments, status=1)
    assert isinstance(ended.exception, UserError), repr(ended.exception)
    return str(ended.exception)


def assert_nothing_is_missing(books: Installed) -> None:
    """Completeness, gaps, snapshots, changes, the audit and checks all know what the book owes."""
    opened = books.opened
    source = open_source(opened.settings, CALENDAR)
    assert gaps.find(opened.database, opened.settings, source) == []
    newest = standing.newest_snapshot(opened.database) or DAYS[0]
    assert standing.missing_snapshots(opened.database, newest).is_empty()
    assert books.outstanding() == 0
    assert books.broken() == {}
    with audit.one_moment(opened.database) as connection:
        assert audit_faults.missing_snapshots(connection, audit.Scope(), newest) == []
        assert audit_faults.incomplete_engines(connection, audit.Scope()) == []
        assert audit_faults.equity(connection, audit.Scope()) == []
    failed = opened.database.query(
        "SELECT DISTINCT asset, check_name FROM sigmasight.data_quality_results WHERE NOT passed AND severity = 'ERROR'"
    )
    assert failed.is_empty(), failed


def test_a_closed_book_has_no_new_rows_and_keeps_its_old_ones(books: Installed) -> None:
    own, before, newest = identifiers(books), everything(books.opened), newest_change(books)
    said = command("portfolio", "close", "changed", "--on", str(CLOSED)).output
    assert f"changed is closed at {CLOSED}" in said
    after = everything(books.opened)
    for table in BY_PORTFOLIO:
        name = str(table.name)
        assert_frame_equal(of(after[name], own["changed"]), of(before[name], own["changed"], until=CLOSED))
        assert_frame_equal(of(after[name], own["other"]), of(before[name], own["other"]))
    assert recorded(books, newest) == [("portfolios", CLOSED + timedelta(days=1), None, "revised", False)]
    assert_nothing_is_missing(books)
    row = rows(books.opened, tables.portfolios).filter(pl.col("code") == "changed").row(0, named=True)
    assert (row["active"], row["closing_date"], row["equity_as_of"]) == (False, CLOSED, CLOSED)
    told = command("status", status=1).output  # the other book is late by the clock
    assert f"(changed, closed at {CLOSED})" in told
    assert told.index("(other)") < told.index("(changed,"), "closed ones come last"
    assert "lacks" not in told


@pytest.mark.slow
def test_a_price_restated_before_the_closing_renews_its_rows_and_adds_none(books: Installed) -> None:
    close(books)
    own, before = identifiers(books), books.snapshots()
    with books.opened.database.connect() as connection:
        connection.execute(
            f"UPDATE sigmasight.daily_prices SET close = close + 1 WHERE symbol = 'AAA' AND session_date = '{DAYS[3]}'"
        )
    assert books.outstanding() == 1
    books.follow_changes()
    after = books.snapshots()
    assert sessions_of(books, "changed") == list(DAYS[:7])
    moved = of(after, own["changed"]).join(
        of(before, own["changed"]), on=list(before.columns), how="anti", nulls_equal=True
    )
    assert moved["session_date"].min() == DAYS[3]
    assert_frame_equal(of(after, own["other"]), of(before, own["other"]))
    assert_nothing_is_missing(books)
    with books.opened.database.connect() as connection:
        connection.execute(
            f"UPDATE sigmasight.daily_prices SET close = close - 1 WHERE symbol = 'AAA' AND session_date = '{DAYS[3]}'"
        )
    books.follow_changes()
    assert_frame_equal(books.snapshots(), before)


def test_new_sessions_pass_it_by_and_need_none_of_its_prices(books: Installed) -> None:
    """AAA and BBB are held by the closed book alone: two fifths of the symbols, far below what a session needs."""
    close(books)
    books.world = replace(books.world, days=len(DAYS))
    books.world.write(books.folder)
    lines = (books.folder / "prices.csv").read_text().splitlines()
    late = tuple(f"{symbol},{day}" for symbol in ("AAA", "BBB") for day in DAYS[PRICED:])
    (books.folder / "prices.csv").write_text("\n".join(line for line in lines if not line.startswith(late)) + "\n")
    expect(run_sessions(books.opened, DAYS[PRICED], DAYS[-1]))
    assert sessions_of(books, "changed") == list(DAYS[:7])
    assert sessions_of(books, "other") == list(DAYS)
    audited = books.opened.database.read(tables.calculation_audit, where="portfolio_id > 0")
    assert of(audited, identifiers(books)["changed"])["session_date"].max() == CLOSED
    books.world.write(books.folder)
    expect(run_sessions(books.opened, DAYS[PRICED], DAYS[-1]))
    assert sessions_of(books, "changed") == list(DAYS[:7])
    assert_nothing_is_missing(books)


@pytest.mark.slow
def test_a_file_imported_anew_keeps_the_closing_and_what_is_said_of_tags(books: Installed) -> None:
    close(books)
    command("tag", "add", "momentum", "--kind", "strategy", "--colour", "#1F77B4")
    before = books.snapshots()
    header, *lines = books.world.book("changed").splitlines()
    tagged = "\n".join([f"{header},tags", *(f"{line},momentum" for line in lines)]) + "\n"
    path = books.folder / "changed.csv"
    for text in (tagged.replace("AAA,100", "AAA,120"), tagged):
        path.write_text(text)
        command("import", str(path), "--name", "changed", "--replace")
        assert sessions_of(books, "changed") == list(DAYS[:7])
        told = json.loads(command("portfolio", "list", "--json").output)["portfolios"]
        assert [(row["code"], row["closing_date"], row["active"]) for row in told] == [
            ("changed", str(CLOSED), False),
            ("other", None, True),
        ]
    (tag,) = json.loads(command("tag", "list", "--json").output)["tags"]
    assert tag == {
        "name": "momentum",
        "kind": "strategy",
        "colour": "#1f77b4",
        "positions": 2,
        "portfolios": ["changed"],
    }
    assert_frame_equal(books.snapshots(), before)
    command("tag", "remove", "momentum")
    assert_nothing_is_missing(books)


def test_reopened_it_has_what_it_would_have_had(books: Installed) -> None:
    close(books)
    newest = newest_change(books)
    said = command("portfolio", "reopen", "changed").output
    assert "changed is open again" in said
    assert sessions_of(books, "changed") == sessions_of(books, "other") == list(DAYS)
    assert ("portfolios", CLOSED + timedelta(days=1), None, "revised", False) in recorded(books, newest)
    assert_nothing_is_missing(books)


@pytest.mark.slow
def test_where_every_book_is_closed_nothing_is_due(books: Installed) -> None:
    if sessions_of(books, "changed") != sessions_of(books, "other"):
        command("portfolio", "reopen", "changed")
    whole = everything(books.opened)
    for code in ("changed", "other"):
        command("portfolio", "close", code, "--on", str(CLOSED))
    database, settings = books.opened.database, books.opened.settings
    assert standing.closing_of(database) == CLOSED
    now = datetime(2024, 2, 14, 6, tzinfo=UTC)
    source = open_source(settings, CALENDAR)
    assert "every portfolio is closed" in missed.look(database, settings, source, CALENDAR, now).sentence
    assert missed.look(database, settings, source, CALENDAR, now).chunks == ()
    answers = freshness.freshness(
        stored(database, freshness.NAMES), {}, now, calendar=CALENDAR, grace_hours=4, closed=()
    )
    assert {answer.due for answer in answers.values()} == {CLOSED}
    assert_nothing_is_missing(books)
    assert "is closed at" in str(command("backfill", "--from", str(DAYS[8]), status=1).exception)
    for code in ("changed", "other"):
        command("portfolio", "reopen", code)
    again = everything(books.opened)
    for name, frame in whole.items():
        assert_frame_equal(again[name], frame, check_exact=True)


def groups(books: Installed) -> set[tuple[str, date]]:
    frame = rows(books.opened, tables.group_exposures).filter(pl.col("group_kind") == "tag")
    return set(frame.select("group_name", "session_date").iter_rows())


def test_what_tags_name_is_computed_anew_and_nothing_else(books: Installed) -> None:
    days = set(DAYS)
    before, newest = everything(books.opened), newest_change(books)
    command("tag", "add", "value", "--portfolio", "other", "--symbol", "CCC")
    assert groups(books) == {("value", day) for day in days}
    assert recorded(books, newest) == [("position_tags", DAYS[0], "CCC", "added", False)]
    newest = newest_change(books)
    for arguments in (("colour", "value", "#00FF7f"), ("kind", "value", "strategy"), ("colour", "value", "none")):
        command("tag", *arguments)
        assert books.outstanding() == 0
    assert [(table, kind) for table, _, _, kind, _ in recorded(books, newest)] == [("tags", "described")] * 3
    command("tag", "rename", "value", "deep value", "--no-run")
    assert books.outstanding() == 1
    command("tag", "add", "deep value", "--portfolio", "other", "--no-run")
    command("tag", "remove", "deep value", "--portfolio", "other", "--symbol", "CCC", "--no-run")
    books.follow_changes()
    assert groups(books) == {("deep value", day) for day in DAYS[2:]}, "DDD came on the third session"
    command("tag", "remove", "deep value")
    assert groups(books) == set()
    for name, frame in everything(books.opened).items():
        assert_frame_equal(frame, before[name], check_exact=True)
    assert_nothing_is_missing(books)


def test_a_name_and_a_description_are_recorded_and_move_nothing(books: Installed) -> None:
    newest = newest_change(books)
    command("portfolio", "rename", "other", "The other one")
    command("portfolio", "describe", "other", "Two stocks")
    (row,) = [
        row for row in json.loads(command("portfolio", "list", "--json").output)["portfolios"] if row["code"] == "other"
    ]
    assert (row["name"], row["description"], row["positions"]) == ("The other one", "Two stocks", 2)
    assert [(table, kind) for table, _, _, kind, _ in recorded(books, newest)] == [("portfolios", "described")] * 2
    assert books.outstanding() == 0
    command("portfolio", "describe", "other", "")
    command("portfolio", "rename", "other", "other")
    assert "The other one" not in command("portfolio", "list").output


REFUSED = {
    ("portfolio", "close", "chnaged"): "there is no portfolio chnaged; did you mean changed? There are: changed, other",
    (
        "portfolio",
        "close",
        "other",
        "--on",
        "2024-02-10",
    ): "the one before it is 2024-02-09",
    ("portfolio", "close", "other", "--on", "2023-12-29"): "name a session from its inception, 2024-01-29, to ",
    ("portfolio", "close", "other", "--on", "2099-01-02"): "other cannot be closed at 2099-01-02",
    ("portfolio", "reopen", "other"): "other is open; there is nothing to reopen",
    ("portfolio", "rename", "other", "Changed"): "changed",
    ("portfolio", "rename", "other", " "): "name",
    ("portfolio", "describe", "other", "two\nlines"): "one line",
    ("tag", "colour", "nothing", "#ffffff"): "there is no tag nothing",
    ("tag", "add", "x", "--colour", "red"): "red is no colour; write # and six hexadecimal digits",
    ("tag", "add", "x", "--colour", "#12345"): "#12345 is no colour",
    ("tag", "add", "x", "--kind", "plan"): "plan is no kind of tag; the kinds are regular and strategy",
    ("tag", "add", "a,b"): "is no name of a tag",
    ("tag", "add", "x", "--portfolio", "othr"): "did you mean other?",
    ("tag", "add", "x", "--portfolio", "other", "--symbol", "CCD"): "did you mean CCC?",
    ("tag", "add", "x", "--symbol", "CCC"): "add --portfolio CODE",
    ("tag", "remove", "x"): "there is no tag x",
}


def test_what_cannot_be_stated_is_refused_in_a_sentence_and_changes_nothing(books: Installed) -> None:
    before = rows(books.opened, tables.portfolios), rows(books.opened, tables.tags), newest_change(books)
    for arguments, said in REFUSED.items():
        ended = refused(*arguments)
        assert said in ended, arguments
        assert "\n" not in ended
    after = rows(books.opened, tables.portfolios), rows(books.opened, tables.tags), newest_change(books)
    for one, other in zip(before[:2], after[:2], strict=True):
        assert_frame_equal(one, other)
    assert before[2] == after[2]


def test_closed_by_hand_it_is_closed_at_its_newest_snapshot(books: Installed) -> None:
    database = books.opened.database

    def stated(statement: str) -> tuple[bool, date | None]:
        with database.connect() as connection:
            connection.execute(statement.encode())
        return database.read(tables.portfolios, where="code = 'other'").select("active", "closing_date").row(0)

    assert stated("UPDATE sigmasight.portfolios SET active = false WHERE code = 'other'") == (False, DAYS[-1])
    assert stated("UPDATE sigmasight.portfolios SET active = true WHERE code = 'other'") == (True, None)
    assert stated(f"UPDATE sigmasight.portfolios SET closing_date = '{DAYS[-1]}' WHERE code = 'other'") == (
        False,
        DAYS[-1],
    )
    assert books.outstanding() == 0
    assert stated("UPDATE sigmasight.portfolios SET closing_date = NULL WHERE code = 'other'") == (True, None)
    with pytest.raises(Exception, match="is no session from its inception"):
        stated("UPDATE sigmasight.portfolios SET closing_date = '1999-01-04' WHERE code = 'other'")
    assert_nothing_is_missing(books)
