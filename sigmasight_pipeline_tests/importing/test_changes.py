"""What a file would change, and from which session on."""

from __future__ import annotations

from datetime import date

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigmasight_pipeline.importing.changes import (
    ChangeKind,
    Changes,
    compare_flows,
    compare_marks,
    compare_positions,
)
from sigmasight_pipeline.importing.flows import parse_flows
from sigmasight_pipeline.importing.marks import parse_marks
from sigmasight_pipeline.importing.positions import parse_positions

from .cases import CALENDAR, FIRST_STORED_SESSION, TODAY
from .test_marks import POSITIONS

HEADER = "ticker,quantity,entry_price,entry_date,exit_date,exit_price,lot,notes,tags,investment_subtype"
AAPL = "AAPL,100,187.15,2024-01-05,,,,,,"


def positions(*rows: str) -> pl.DataFrame:
    parsed = parse_positions(
        "\n".join([HEADER, *(rows or [AAPL])]).encode(),
        file_name="book.csv",
        calendar=CALENDAR,
        today=TODAY,
        first_stored_session=FIRST_STORED_SESSION,
    )
    assert parsed.errors == ()
    return parsed.frame()


def told(changes: Changes) -> list[str]:
    return [str(change) for change in changes.changes]


@pytest.mark.parametrize(
    ("old", "new", "expected", "first"),
    [
        ([AAPL], [AAPL], [], None),
        (
            [AAPL],
            [AAPL, "F,-1,12,2024-02-01,,,a,,,"],
            ["added F 2024-02-01 a"],
            date(2024, 2, 1),
        ),
        ([AAPL, "F,-1,12,2024-02-01,,,,,,"], [AAPL], ["removed F 2024-02-01 1"], date(2024, 2, 1)),
        (
            [AAPL],
            ["AAPL,120,187.15,2024-01-05,,,,,,"],
            ["changed AAPL 2024-01-05 1: quantity 100 -> 120"],
            date(2024, 1, 5),
        ),
        (
            [AAPL],
            ["AAPL,100,187.15,2024-01-05,2024-03-01,190,,,,"],
            ["changed AAPL 2024-01-05 1: exit_price none -> 190, exit_date none -> 2024-03-01"],
            date(2024, 3, 1),
        ),
        (
            ["AAPL,100,187.15,2024-01-05,2024-03-01,190,,,,"],
            ["AAPL,100,187.15,2024-01-05,2024-02-01,190,,,,"],
            ["changed AAPL 2024-01-05 1: exit_date 2024-03-01 -> 2024-02-01"],
            date(2024, 2, 1),
        ),
        (
            ["AAPL,100,187.15,2024-01-05,2024-03-01,190,,,,"],
            [AAPL],
            ["changed AAPL 2024-01-05 1: exit_price 190 -> none, exit_date 2024-03-01 -> none"],
            date(2024, 3, 1),
        ),
        (
            ["AAPL,100,187.15,2024-01-05,2024-03-01,190,,,,"],
            ["AAPL,100,187.15,2024-01-05,2024-03-01,191.5,,,,"],
            ["changed AAPL 2024-01-05 1: exit_price 190 -> 191.5"],
            date(2024, 3, 1),
        ),
        (
            [AAPL],
            ["AAPL,100,187.15,2024-01-05,,,,core,,ETF"],
            ["changed AAPL 2024-01-05 1: investment_subtype none -> ETF, notes none -> core"],
            None,
        ),
        (
            [AAPL],
            ['AAPL,100,187.15,2024-01-05,,,,,"b,a",'],
            ["changed AAPL 2024-01-05 1: tags none -> a, b"],
            date(2024, 1, 5),
        ),
        (['AAPL,1,1,2024-01-05,,,,,"b,a",'], ['AAPL,1.0,1,2024-01-05,,,,,"a,b",'], [], None),
        (
            [AAPL, "F,1,12,2024-02-01,,,,,,"],
            ["AAPL,100,187.15,2024-01-05,,,x,,,", "F,2,12,2024-02-01,,,,,,"],
            ["added AAPL 2024-01-05 x", "removed AAPL 2024-01-05 1", "changed F 2024-02-01 1: quantity 1 -> 2"],
            date(2024, 1, 5),
        ),
    ],
)
def test_positions(old: list[str], new: list[str], expected: list[str], first: date | None) -> None:
    changes = compare_positions(positions(*new), positions(*old))
    assert told(changes) == expected
    assert changes.first_session == first
    assert bool(changes) == bool(expected)
    back = compare_positions(positions(*old), positions(*new))
    assert len(back.of(ChangeKind.ADDED)) == len(changes.of(ChangeKind.REMOVED))
    assert back.first_session == first


def test_the_line_a_row_stands_on_is_no_change() -> None:
    assert not compare_positions(positions(AAPL), positions("F,1,1,2024-01-05,,,,,,", AAPL).tail(1))


@settings(max_examples=50, deadline=None)
@given(st.permutations(["AAPL", "F", "GE", "IBM"]), st.integers(0, 4))
def test_order_of_rows_does_not_count(order: list[str], kept: int) -> None:
    rows = [f"{symbol},1,1,2024-01-0{5 if symbol < 'G' else 8},,,,,," for symbol in order]
    changes = compare_positions(positions(*rows), positions(*sorted(rows)))
    assert not changes
    fewer = compare_positions(positions(*rows).head(kept), positions(*sorted(rows)))
    assert len(fewer.of(ChangeKind.REMOVED)) == 4 - kept == len(fewer.changes)


def marks(*rows: str) -> pl.DataFrame:
    content = "\n".join(["portfolio,symbol,date,price", *rows]).encode()
    parsed = parse_marks(content, calendar=CALENDAR, today=TODAY, positions=POSITIONS)
    assert parsed.errors == ()
    return parsed.frame()


def test_marks_are_added_and_replaced_and_stay() -> None:
    stored = marks("book,FUND,2024-03-28,1", "book,FUND,2024-04-30,2", "other,LOAN,2024-03-28,3")
    new = marks("book,FUND,2024-03-28,1.0", "book,FUND,2024-04-30,2.5", "book,FUND,2024-05-31,4")
    changes = compare_marks(new, stored)
    assert told(changes) == [
        "added book FUND 2024-05-31",
        "changed book FUND 2024-04-30: price 2 -> 2.5",
    ]
    assert changes.first_session == date(2024, 4, 30)


def flows(*rows: str) -> pl.DataFrame:
    content = "\n".join(["portfolio,date,amount,kind,note", *rows]).encode()
    inceptions = {"book": date(2024, 1, 2), "other": date(2024, 1, 2)}
    parsed = parse_flows(content, calendar=CALENDAR, today=TODAY, portfolios=inceptions)
    assert parsed.errors == ()
    return parsed.frame()


def test_flows_of_a_portfolio_are_replaced_as_a_set() -> None:
    stored = flows(
        "book,2024-03-01,5,contribution,", "book,2024-04-01,6,withdrawal,", "other,2024-02-01,7,contribution,"
    )
    changes = compare_flows(flows("book,2024-03-01,5.5,contribution,", "book,2024-05-01,8,contribution,"), stored)
    assert told(changes) == [
        "added book 2024-05-01 contribution 1",
        "removed book 2024-04-01 withdrawal 1",
        "changed book 2024-03-01 contribution 1: amount 5 -> 5.5",
    ]
    assert changes.first_session == date(2024, 3, 1)


def test_the_note_of_a_flow_affects_no_session() -> None:
    changes = compare_flows(flows("book,2024-03-01,5,contribution,rent"), flows("book,2024-03-01,5,contribution,"))
    assert told(changes) == ["changed book 2024-03-01 contribution 1: note none -> rent"]
    assert changes.first_session is None
