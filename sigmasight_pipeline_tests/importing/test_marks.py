"""Marks: every rule by table."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import polars as pl
import pytest

from sigmasight_pipeline.importing.marks import MarkRow, parse_marks
from sigmasight_pipeline.importing.problems import Parsed

from .cases import CALENDAR, TODAY, Case, Place, assert_case, case

POSITIONS = pl.DataFrame(
    [
        ("book", "HOME_EQUITY", "PRIVATE", date(2024, 1, 2), None),
        ("book", "FUND", "PRIVATE", date(2024, 1, 2), date(2024, 6, 28)),
        ("book", "FUND", "PRIVATE", date(2024, 9, 3), None),
        ("book", "BRK.B", "PUBLIC", date(2024, 1, 2), None),
        ("other", "LOAN", "PRIVATE", date(2024, 1, 2), None),
    ],
    schema=["portfolio_code", "symbol", "investment_class", "entry_date", "exit_date"],
    orient="row",
)


def parse(content: bytes, positions: pl.DataFrame = POSITIONS) -> Parsed[MarkRow]:
    return parse_marks(content, calendar=CALENDAR, today=TODAY, positions=positions)


def marks(name: str, rows: str, *expected: Place, says: str = "") -> Case:
    return case(name, f"portfolio,symbol,date,price\n{rows}\n", *expected, says=says)


CASES = [
    marks("good", "book,HOME_EQUITY,2024-03-28,285000"),
    marks("zero is a value", "book,HOME_EQUITY,2024-03-28,0"),
    marks("portfolio missing", ",FUND,2024-03-28,1", ("portfolio_missing", 2, "portfolio")),
    marks("portfolio unknown", "bock,FUND,2024-03-28,1", ("portfolio_unknown", 2, "portfolio"), says="book, other"),
    marks("symbol missing", "book,,2024-03-28,1", ("symbol_missing", 2, "symbol")),
    marks("symbol too long", f"book,{'F' * 41},2024-03-28,1", ("symbol_too_long", 2, "symbol")),
    marks("symbol unknown", "book,HOUSE,2024-03-28,1", ("position_unknown", 2, "symbol")),
    marks("held by another portfolio", "book,LOAN,2024-03-28,1", ("position_unknown", 2, "symbol")),
    marks("not private", "book,brk-b,2024-03-28,1", ("position_not_private", 2, "symbol"), says="PUBLIC"),
    marks(
        "before entry", "book,FUND,2023-12-29,1", ("mark_outside_holding", 2, "date"), says="2024-01-02 to 2024-06-28"
    ),
    marks("not private, spelt as stored", "book,BRK.B,2024-03-28,1", ("position_not_private", 2, "symbol")),
    marks("on entry", "book,FUND,2024-01-02,1"),
    marks("on exit", "book,FUND,2024-06-28,1"),
    marks("between two lots", "book,FUND,2024-07-01,1", ("mark_outside_holding", 2, "date"), says="from 2024-09-03 on"),
    marks(
        "after exit only after the move",
        "book,FUND,2024-06-29,1",
        ("session_moved", 2, "date"),
        ("mark_outside_holding", 2, "date"),
    ),
    marks("price missing", "book,FUND,2024-03-28,", ("price_missing", 2, "price")),
    marks("price negative", "book,FUND,2024-03-28,-1", ("price_negative", 2, "price")),
    marks("price no number", "book,FUND,2024-03-28,x", ("price_not_a_number", 2, "price")),
    marks("price thousands", 'book,FUND,2024-03-28,"285,000.00"', ("number_formatted", 2, "price"), says="285000.00"),
    marks("date missing", "book,FUND,,1", ("date_missing", 2, "date")),
    marks("date in future", "book,FUND,2025-07-02,1", ("date_in_future", 2, "date")),
    marks("quarter end on a Sunday", "book,FUND,2024-03-31,1", ("session_moved", 2, "date"), says="2024-04-01"),
    marks(
        "duplicate after the move",
        "book,FUND,2024-03-30,1\nbook,HOME_EQUITY,2024-04-01,1\nBook,fund,2024-04-01,2",
        ("session_moved", 2, "date"),
        ("duplicate_mark", 4, "date"),
        says="line 2",
    ),
    marks(
        "all errors of all rows",
        "bock,,x,\nbook,HOUSE,2025-07-02,-1",
        ("portfolio_unknown", 2, "portfolio"),
        ("symbol_missing", 2, "symbol"),
        ("date_format", 2, "date"),
        ("price_missing", 2, "price"),
        ("position_unknown", 3, "symbol"),
        ("date_in_future", 3, "date"),
        ("price_negative", 3, "price"),
    ),
    case("column missing", "portfolio,symbol,date\nbook,FUND,2024-03-28\n", ("missing_column", 1, "price")),
]


@pytest.mark.parametrize("this", CASES, ids=str)
def test_rules(this: Case) -> None:
    assert_case(this, parse(this.content))


def test_rows_and_frame() -> None:
    parsed = parse(b"price;date;ticker;portfolio\n285000.5;2024-03-31;home_equity;BOOK\n")
    assert parsed.rows == (MarkRow("book", "HOME_EQUITY", date(2024, 4, 1), Decimal("285000.5"), 2),)
    assert parsed.frame().to_dicts() == [
        {
            "portfolio_code": "book",
            "symbol": "HOME_EQUITY",
            "session_date": date(2024, 4, 1),
            "price": Decimal("285000.5"),
            "source_line": 2,
        }
    ]


def test_without_any_portfolio() -> None:
    parsed = parse(b"portfolio,symbol,date,price\nbook,FUND,2024-03-28,1\n", POSITIONS.clear())
    assert [problem.message for problem in parsed.errors] == ["there is no portfolio 'book'; the codes are none yet"]
