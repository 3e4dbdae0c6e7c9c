"""Position rows: every rule by table; what is accepted, exactly."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import polars as pl
import pytest

from sigmasight_pipeline.importing.positions import PositionRow, parse_positions
from sigmasight_pipeline.importing.problems import Parsed
from sigmasight_pipeline.sessions import SessionCalendar
from sigmasight_pipeline.storage.frames import polars_type
from sigmasight_pipeline.storage.tables import positions as positions_table

from .cases import CALENDAR, FIRST_STORED_SESSION, TODAY, Case, Place, assert_case, case

OPTIONAL = (
    "exit_date,exit_price,investment_class,investment_subtype,underlying_symbol,"
    "strike_price,expiration_date,option_type,lot"
)
OCC = "AAPL250919C00150000"


def parse(content: bytes, calendar: SessionCalendar = CALENDAR) -> Parsed[PositionRow]:
    return parse_positions(
        content,
        file_name="book.csv",
        calendar=calendar,
        today=TODAY,
        first_stored_session=FIRST_STORED_SESSION,
    )


def basic(name: str, rows: str, *expected: Place, says: str = "") -> Case:
    """Rows of the four required columns; the first is line 2."""
    return case(name, f"ticker,quantity,entry_price,entry_date\n{rows}\n", *expected, says=says)


def stock(name: str, columns: str, cells: str, *expected: Place, says: str = "") -> Case:
    """One good stock row with further columns."""
    header = f"ticker,quantity,entry_price,entry_date,{columns}"
    return case(name, f"{header}\nAAPL,100,187.15,2024-01-05,{cells}\n", *expected, says=says)


def full(name: str, symbol: str, cells: str, *expected: Place, says: str = "") -> Case:
    """One row with all columns but tags and notes: `cells` are those of OPTIONAL."""
    header = f"ticker,quantity,entry_price,entry_date,{OPTIONAL}"
    return case(name, f"{header}\n{symbol},-5,12.5,2024-01-05,{cells}\n", *expected, says=says)


CASES = [
    basic("good", "AAPL,100,187.15,2024-01-05"),
    # symbol
    basic("symbol missing", ",100,187.15,2024-01-05", ("symbol_missing", 2, "ticker")),
    basic("symbol too long", "ABCDEFGHIJKLMNOPQ,100,1,2024-01-05", ("symbol_too_long", 2, "ticker")),
    basic("symbol malformed", "AA PL,100,1,2024-01-05", ("symbol_malformed", 2, "ticker")),
    basic("symbol is a number", "100,100,1,2024-01-05", ("symbol_malformed", 2, "ticker")),
    basic("spreadsheet error", "#N/A,100,1,2024-01-05", ("symbol_malformed", 2, "ticker")),
    basic("occ day impossible", "AAPL250931C00150000,1,1,2024-01-05", ("symbol_malformed", 2, "ticker"), says="250931"),
    basic("occ strike zero", "AAPL250919C00000000,1,1,2024-01-05", ("symbol_malformed", 2, "ticker")),
    basic("adjusted contract", "AAPL1250919C00150000,1,1,2024-01-05", ("option_adjusted", 2, "ticker"), says="digit"),
    # quantity
    basic("quantity missing", "AAPL,,1,2024-01-05", ("quantity_missing", 2, "quantity")),
    basic("quantity no number", "AAPL,many,1,2024-01-05", ("quantity_not_a_number", 2, "quantity")),
    basic("quantity nan", "AAPL,NaN,1,2024-01-05", ("quantity_not_a_number", 2, "quantity")),
    basic("quantity inf", "AAPL,-inf,1,2024-01-05", ("quantity_not_a_number", 2, "quantity")),
    basic("quantity arabic digits", "AAPL,١٢,1,2024-01-05", ("quantity_not_a_number", 2, "quantity")),
    basic("quantity zero", "AAPL,-0.0,1,2024-01-05", ("quantity_zero", 2, "quantity")),
    basic("quantity 7 decimals", "AAPL,0.0000001,1,2024-01-05", ("quantity_too_many_decimals", 2, "quantity")),
    basic("quantity 6 decimals", "AAPL,0.0000010,1,2024-01-05"),
    basic("quantity 15 digits", f"AAPL,1{'0' * 14},1,2024-01-05", ("quantity_too_large", 2, "quantity")),
    basic("quantity 14 digits", f"AAPL,{'9' * 14}.999999,1,2024-01-05"),
    basic("quantity thousands", 'AAPL,"1,234.50",1,2024-01-05', ("number_formatted", 2, "quantity"), says="1234.50"),
    # price
    basic("price missing", "AAPL,1,,2024-01-05", ("price_missing", 2, "entry_price")),
    basic("price no number", "AAPL,1,free,2024-01-05", ("price_not_a_number", 2, "entry_price")),
    basic("price zero", "AAPL,1,0,2024-01-05", ("price_not_positive", 2, "entry_price")),
    basic("price negative", "AAPL,1,-5,2024-01-05", ("price_not_positive", 2, "entry_price")),
    basic("price 7 decimals", "AAPL,1,5.0000001,2024-01-05", ("price_too_many_decimals", 2, "entry_price")),
    basic("price 15 digits", f"AAPL,1,{'1' * 15},2024-01-05", ("price_too_large", 2, "entry_price")),
    basic("price dollars", "AAPL,1,$187.15,2024-01-05", ("number_formatted", 2, "entry_price"), says="write 187.15"),
    # dates
    basic("date missing", "AAPL,1,5,", ("date_missing", 2, "entry_date")),
    basic("row too short", "AAPL,1,5", ("date_missing", 2, "entry_date")),
    basic("date format", "AAPL,1,5,15/03/2024", ("date_format", 2, "entry_date"), says="2024-03-15"),
    basic("date impossible", "AAPL,1,5,2024-02-30", ("date_format", 2, "entry_date"), says="no such day"),
    basic("date in future", "AAPL,1,5,2025-07-02", ("date_in_future", 2, "entry_date")),
    basic("date is today", "AAPL,1,5,2025-07-01"),
    basic("date before 1990", "AAPL,1,5,1989-12-29", ("date_before_1990", 2, "entry_date")),
    basic(
        "first date accepted",
        "AAPL,1,5,1990-01-01",
        ("entry_before_first_session", 2, "entry_date"),
        ("session_moved", 2, "entry_date"),
        says="1990-01-02",
    ),
    basic("holiday", "AAPL,1,5,2024-01-15", ("session_moved", 2, "entry_date"), says="2024-01-16"),
    basic("weekend", "AAPL,1,5,2024-01-20", ("session_moved", 2, "entry_date"), says="2024-01-22"),
    basic(
        "before the first session",
        "AAPL,1,5,2022-11-30",
        ("entry_before_first_session", 2, "entry_date"),
        says="2022-12-01",
    ),
    basic("on the first session", "AAPL,1,5,2022-12-01"),
    # exit
    stock("exit", "exit_date,exit_price", "2024-02-01,190"),
    stock("exit on the entry day", "exit_date,exit_price", "2024-01-05,190"),
    stock("exit before entry", "exit_date,exit_price", "2024-01-04,190", ("exit_before_entry", 2, "exit_date")),
    stock("exit price alone", "exit_date,exit_price", ",190", ("exit_price_without_date", 2, "exit_price")),
    stock("exit date alone", "exit_date,exit_price", "2024-02-01,", ("exit_date_without_price", 2, "exit_date")),
    stock("exit price zero", "exit_date,exit_price", "2024-02-01,0", ("price_not_positive", 2, "exit_price")),
    stock("exit in future", "exit_date,exit_price", "2025-07-02,9", ("date_in_future", 2, "exit_date")),
    stock("exit moved", "exit_date,exit_price", "2024-01-06,9", ("session_moved", 2, "exit_date")),
    case(
        "exit before entry only before both move to Monday",
        "ticker,quantity,entry_price,entry_date,exit_date,exit_price\nF,1,9,2024-01-07,2024-01-06,9\n",
        ("session_moved", 2, "entry_date"),
        ("session_moved", 2, "exit_date"),
    ),
    case(
        "exit on Sunday's Monday, entry on Tuesday",
        "ticker,quantity,entry_price,entry_date,exit_date,exit_price\nF,1,9,2024-01-09,2024-01-07,9\n",
        ("session_moved", 2, "exit_date"),
        ("exit_before_entry", 2, "exit_date"),
    ),
    case(
        "out before the first session",
        "ticker,quantity,entry_price,entry_date,exit_date,exit_price\nF,1,9,2022-10-03,2022-11-30,9\n",
        ("exit_before_first_session", 2, "exit_date"),
    ),
    # class and subtype
    stock("class", "investment_class,investment_subtype", "public,etf"),
    stock("class unknown", "investment_class", "STOCKS", ("class_unknown", 2, "investment_class")),
    stock("subtype unknown", "investment_subtype", "FUTURE", ("subtype_unknown", 2, "investment_subtype")),
    stock("subtype of another class", "investment_subtype", "HEDGE FUND", ("subtype_unknown", 2, "investment_subtype")),
    stock("underlying of a stock", "underlying_symbol", "SPY", ("underlying_ignored", 2, "underlying_symbol")),
    stock("underlying is the stock", "underlying_symbol", "aapl"),
    # private
    full("private", "My house on the hill", ",,PRIVATE,home equity,,,,,"),
    full("private too long", "H" * 41, ",,PRIVATE,,,,,,", ("symbol_too_long", 2, "ticker")),
    full("private without name", "", ",,PRIVATE,,,,,,", ("symbol_missing", 2, "ticker")),
    full(
        "private option",
        "HOUSE",
        ",,PRIVATE,,,150,,,",
        ("class_contradicts_option", 2, "investment_class"),
    ),
    full("private underlying", "HOUSE", ",,PRIVATE,,SPY,,,,", ("underlying_ignored", 2, "underlying_symbol")),
    # options
    full("occ alone", OCC, ",,,,,,,,"),
    full("occ and columns agree", OCC, ",,OPTIONS,CALL,AAPL,150.00,2025-09-19,call,"),
    full("columns alone", "AAPL", ",,,,,150,2025-09-19,C,"),
    full("columns and subtype", "AAPL", ",,,call,AAPL,150,2025-09-19,,"),
    full("root and underlying", "SPXW", ",,,,SPX,5000,2025-09-19,P,"),
    full("class share root", "BRKB250919C00362500", ",,,,BRK.B,362.5,,,"),
    full("strike missing", "AAPL", ",,,,,,2025-09-19,C,", ("option_strike_missing", 2, "strike_price")),
    full("expiry missing", "AAPL", ",,,,,150,,C,", ("option_expiry_missing", 2, "expiration_date")),
    full("type missing", "AAPL", ",,,,,150,2025-09-19,,", ("option_type_missing", 2, "option_type")),
    full(
        "class says option, nothing else does",
        "AAPL",
        ",,OPTIONS,,,,,,",
        ("option_expiry_missing", 2, "expiration_date"),
        ("option_strike_missing", 2, "strike_price"),
        ("option_type_missing", 2, "option_type"),
    ),
    full("type unknown", "AAPL", ",,,,,150,2025-09-19,X,", ("option_type_unknown", 2, "option_type")),
    full("strike no number", "AAPL", ",,,,,x,2025-09-19,C,", ("price_not_a_number", 2, "strike_price")),
    full("strike zero", "AAPL", ",,,,,0,2025-09-19,C,", ("price_not_positive", 2, "strike_price")),
    full("strike 4 decimals", "AAPL", ",,,,,1.0005,2025-09-19,C,", ("option_unlistable", 2, "strike_price")),
    full("expiry no date", "AAPL", ",,,,,150,09/19/2025,C,", ("date_format", 2, "expiration_date")),
    full("expiry in 2100", "AAPL", ",,,,,150,2100-01-15,C,", ("option_unlistable", 2, "expiration_date")),
    full("root too long", "ABCDEFGH", ",,,,,150,2025-09-19,C,", ("option_unlistable", 2, "ticker")),
    full("adjusted root", "AAPL1", ",,,,,150,2025-09-19,C,", ("option_adjusted", 2, "ticker")),
    full("public option", OCC, ",,PUBLIC,,,,,,", ("class_contradicts_option", 2, "investment_class")),
    full("expiry before entry", "AAPL240104C00150000", ",,,,,,,,", ("option_expiry_before_entry", 2, "ticker")),
    full(
        "expiry column before entry",
        "AAPL",
        ",,,,,150,2024-01-04,C,",
        ("option_expiry_before_entry", 2, "expiration_date"),
    ),
    full("expiry on the entry day", "AAPL240105C00150000", ",,,,,,,,"),
    full("exit on expiry", "AAPL240119C00150000", "2024-01-19,1,,,,,,,"),
    full("exit after expiry", "AAPL240119C00150000", "2024-01-22,1,,,,,,,", ("exit_after_expiry", 2, "exit_date")),
    full(
        "exit on the holiday it expires on",
        "AAPL240329C00150000",
        "2024-03-29,1,,,,,,,",
        ("exit_after_expiry", 2, "exit_date"),
        ("session_moved", 2, "exit_date"),
    ),
    full("strike disagrees", OCC, ",,,,,151,,,", ("option_disagrees", 2, "strike_price"), says="150"),
    full("expiry disagrees", OCC, ",,,,,,2025-09-20,,", ("option_disagrees", 2, "expiration_date")),
    full("type disagrees", OCC, ",,,,,,,put,", ("option_disagrees", 2, "option_type")),
    full("subtype disagrees", OCC, ",,,PUT,,,,,", ("option_disagrees", 2, "investment_subtype")),
    full("underlying disagrees", OCC, ",,,,MSFT,,,,", ("option_disagrees", 2, "underlying_symbol"), says="AAPL"),
    full(
        "ticker and underlying disagree",
        "AAPL",
        ",,,,MSFT,150,2025-09-19,C,",
        ("option_disagrees", 2, "underlying_symbol"),
    ),
    full("underlying malformed", OCC, ",,,,M$,,,,", ("symbol_malformed", 2, "underlying_symbol")),
    # lots, duplicates, tags
    basic(
        "duplicate",
        "AAPL,1,5,2024-01-05\nMSFT,1,5,2024-01-05\naapl,2,6,2024-01-05",
        ("duplicate_position", 4, "ticker"),
        says="line 2",
    ),
    basic(
        "duplicate after the move",
        "AAPL,1,5,2024-01-06\nAAPL,1,5,2024-01-08",
        ("session_moved", 2, "entry_date"),
        ("duplicate_position", 3, "ticker"),
    ),
    basic(
        "duplicate of a wrong row",
        "AAPL,0,5,2024-01-05\nAAPL,1,5,2024-01-05",
        ("quantity_zero", 2, "quantity"),
        ("duplicate_position", 3, "ticker"),
    ),
    case(
        "option twice, spelt two ways",
        f"ticker,quantity,entry_price,entry_date,strike_price,expiration_date,option_type\n{OCC},1,5,2024-01-05,,,\n"
        "AAPL,1,5,2024-01-05,150,2025-09-19,C\n",
        ("duplicate_position", 3, "ticker"),
    ),
    case(
        "lots", "ticker,quantity,entry_price,entry_date,lot\nF,1,5,2024-01-05,a\nF,1,5,2024-01-05,b\nF,1,5,2024-01-05,"
    ),
    case(
        "the lot of a row without one is 1",
        "ticker,quantity,entry_price,entry_date,lot\nF,1,5,2024-01-05,\nF,1,5,2024-01-05,1\n",
        ("duplicate_position", 3, "ticker"),
    ),
    stock("lot too long", "lot", "x" * 41, ("lot_too_long", 2, "lot")),
    stock("tag too long", "tags", f'"ok,{"x" * 61}"', ("tag_too_long", 2, "tags")),
    # every error of every row
    basic(
        "all errors of all rows",
        ",x,0,2024-13-01\nAAPL,100,187.15,2024-01-05\n$,0,,",
        ("symbol_missing", 2, "ticker"),
        ("quantity_not_a_number", 2, "quantity"),
        ("price_not_positive", 2, "entry_price"),
        ("date_format", 2, "entry_date"),
        ("symbol_malformed", 4, "ticker"),
        ("quantity_zero", 4, "quantity"),
        ("price_missing", 4, "entry_price"),
        ("date_missing", 4, "entry_date"),
    ),
]


@pytest.mark.parametrize("this", CASES, ids=str)
def test_rules(this: Case) -> None:
    assert_case(this, parse(this.content))


OUTSIDE = basic("outside the calendar", "AAPL,1,5,2021-12-31", ("date_outside_calendar", 2, "entry_date"))


def test_a_date_outside_the_calendar() -> None:
    assert_case(OUTSIDE, parse(OUTSIDE.content, SessionCalendar(date(2022, 1, 3), date(2025, 12, 31))))


def row(symbol: str, cells: str, quantity: str = "2") -> PositionRow:
    header = f"ticker,quantity,entry_price,entry_date,{OPTIONAL},notes,tags"
    parsed = parse(f"{header}\n{symbol},{quantity},12.5,2024-01-05,{cells}\n".encode())
    assert parsed.errors == ()
    return parsed.rows[0]


@pytest.mark.parametrize(
    ("symbol", "quantity", "cells", "kind"),
    [
        ("AAPL", "2", ",,,,,,,,,,", "LONG"),
        ("AAPL", "-2", ",,,,,,,,,,", "SHORT"),
        (OCC, "2", ",,,,,,,,,,", "LC"),
        (OCC, "-2", ",,,,,,,,,,", "SC"),
        ("AAPL", "2", ",,,,,150,2025-09-19,put,,,", "LP"),
        ("AAPL", "-2", ",,,,,150,2025-09-19,P,,,", "SP"),
        ("HOUSE", "1", ",,private,,,,,,,,", "LONG"),
        ("LOAN", "-1", ",,private,,,,,,,,", "SHORT"),
    ],
)
def test_type_follows_from_sign_and_kind(symbol: str, quantity: str, cells: str, kind: str) -> None:
    assert row(symbol, cells, quantity).position_type == kind


def test_option_columns_become_the_compact_symbol() -> None:
    parsed = row("spxw", ",,,,SPX,5000.5,2025-09-19,Put,,a note,")
    assert parsed == PositionRow(
        symbol="SPXW250919P05000500",
        lot="1",
        position_type="LP",
        investment_class="OPTIONS",
        investment_subtype=None,
        quantity=Decimal(2),
        multiplier=Decimal(100),
        entry_price=Decimal("12.5"),
        entry_date=date(2024, 1, 5),
        exit_price=None,
        exit_date=None,
        underlying_symbol="SPX",
        option_kind="P",
        strike_price=Decimal("5000.5"),
        expiration_date=date(2025, 9, 19),
        notes="a note",
        source_file="book.csv",
        source_line=2,
        tags=(),
    )


@pytest.mark.parametrize(
    ("symbol", "cells", "expected", "underlying"),
    [
        ("HEI.A", ",,,,,150,2025-09-19,C,,,", "HEIA250919C00150000", "HEI.A"),
        ("HEIA250919C00150000", ",,,,HEI.A,,,,,,", "HEIA250919C00150000", "HEI.A"),
        ("brk-b", ",,,,,362.5,2025-09-19,C,,,", "BRKB250919C00362500", "BRK.B"),
        ("O:BRKB250919C00362500", ",,,,,,,,,,", "BRKB250919C00362500", "BRK.B"),
        ("VIX", ",,,,^VIX,20,2025-09-17,C,,,", "VIX250917C00020000", "VIX"),
    ],
)
def test_roots_and_underlyings(symbol: str, cells: str, expected: str, underlying: str) -> None:
    parsed = row(symbol, cells)
    assert (parsed.symbol, parsed.underlying_symbol) == (expected, underlying)


def test_a_private_position_and_its_tags() -> None:
    parsed = row(" home   equity ", ',,Private,Home Equity,,,,,second,,"a, b,,a "')
    assert (parsed.symbol, parsed.investment_class, parsed.investment_subtype) == (
        "HOME EQUITY",
        "PRIVATE",
        "HOME_EQUITY",
    )
    assert (parsed.multiplier, parsed.lot, parsed.tags) == (Decimal(1), "second", ("a", "b"))


def test_dates_move_to_the_next_session() -> None:
    parsed = parse(b"ticker,quantity,entry_price,entry_date,exit_date,exit_price\nF,1,9,2024-01-13,2024-01-20,9\n")
    assert (parsed.rows[0].entry_date, parsed.rows[0].exit_date) == (date(2024, 1, 16), date(2024, 1, 22))
    assert [warning.value for warning in parsed.warnings] == ["2024-01-13", "2024-01-20"]


def test_the_frame_has_the_columns_of_the_table() -> None:
    frame = parse(b'symbol,quantity,entry_price,entry_date,tags\nF,-1.5,9.25,2024-01-05,"a,b"\n').frame()
    expected = {
        column.name: polars_type(column)
        for column in positions_table.columns
        if column.name not in ("position_id", "portfolio_id")
    }
    assert dict(frame.schema) == expected | {"tags": pl.List(pl.String())}
    assert frame["quantity"].to_list() == [Decimal("-1.5")]
    assert frame["tags"].to_list() == [["a", "b"]]


def test_a_parse_is_repeatable() -> None:
    for this in CASES:
        assert parse(this.content) == parse(this.content)


def test_a_problem_names_the_place_and_the_value() -> None:
    problem = parse(b"ticker,quantity,Entry Price,entry_date\nF,1,$9,2024-01-05\n").errors[0]
    assert (problem.code, problem.line, problem.column, problem.value) == ("number_formatted", 2, "Entry Price", "$9")
    assert str(problem) == (
        "line 2, column Entry Price: '$9' is written for people, not as a plain number; write 9 [number_formatted]"
    )


def test_a_long_value_is_cut_where_it_is_shown() -> None:
    problem = parse(f"ticker,quantity,entry_price,entry_date\nF,{'x' * 5000},9,2024-01-05\n".encode()).errors[0]
    assert len(problem.value) == 80
    assert len(str(problem)) < 250
