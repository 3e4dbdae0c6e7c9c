"""The form of a file: size, encoding, delimiter, comments, quotes, header, lines."""

from __future__ import annotations

import gzip

import pytest

from sigmasight_pipeline.importing.csv_text import MAXIMUM_BYTES, MAXIMUM_ROWS, Columns, read_rows
from sigmasight_pipeline.importing.problems import Parsed, Problems

from .cases import Case, assert_case, case

COLUMNS = Columns(required=("symbol", "entry_date"), optional=("notes",), names={"symbol": ("ticker", "symbol")})
HEADER = "ticker,entry_date\n"

Line = tuple[int | None, dict[str, str]]


def read(content: bytes) -> tuple[list[Line], Problems]:
    problems = Problems()
    return [(row.line, dict(row.cells)) for row in read_rows(content, COLUMNS, problems)], problems


CASES = [
    case("too large", b"ticker,entry_date\n" + b"#" * MAXIMUM_BYTES, ("file_too_large", None, None), says="10,485,760"),
    case("nothing", b"", ("file_empty", None, None)),
    case("white space", b" \r\n\t\n", ("file_empty", None, None)),
    case("byte order mark alone", b"\xef\xbb\xbf", ("file_empty", None, None)),
    case("comments alone", "# a\n  # b\n", ("file_empty", None, None)),
    case("header alone", HEADER + "\n# none yet\n,\n", ("file_empty", None, None)),
    case("workbook", b"PK\x03\x04rest", ("not_csv", None, None), says="Excel"),
    case("old workbook", b"\xd0\xcf\x11\xe0rest", ("not_csv", None, None), says="Excel"),
    case("pdf", b"%PDF-1.7", ("not_csv", None, None), says="PDF"),
    case("gzip", gzip.compress(b"ticker"), ("not_csv", None, None), says="gzip"),
    case("parquet", b"PAR1rest", ("not_csv", None, None), says="Parquet"),
    case("html", "\n <!DOCTYPE html><html>", ("not_csv", None, None), says="HTML"),
    case("json", '[{"ticker": "AAPL"}]', ("not_csv", None, None), says="JSON"),
    case("binary", b"ticker,entry_date\nA\x00B,", ("not_csv", None, None), says="binary"),
    case("tabs", "ticker\tentry_date\nF\t2024-01-05\n", ("not_csv", None, None), says="tabs"),
    case("bars", "ticker|entry_date\nF|2024-01-05\n", ("not_csv", None, None), says="bars"),
    case("prose", "Dear all\nplease find attached\n", ("not_csv", None, None), says="neither commas"),
    case("utf-16", HEADER.encode("utf-16"), ("not_utf8", None, None), says="UTF-16"),
    case("latin 1", HEADER.encode() + b"F,x\nCaf\xe9,y\n", ("not_utf8", 3, None), says="0xe9"),
    case("no header", "AAPL,2024-01-05\n", ("no_header", 1, None), says="ticker,entry_date"),
    case("no header behind comments", "# book\n\nAAPL,2024-01-05\n", ("no_header", 3, None)),
    case("column missing", "ticker\nAAPL\n", ("missing_column", 1, "entry_date")),
    case(
        "symbol missing",
        "entry_date,date\n2024-01-05,\n",
        ("missing_column", 1, "ticker"),
        ("column_ignored", 1, "date"),
    ),
    case("column twice", "ticker,Entry Date,entry_date\nF,a,b\n", ("duplicate_column", 1, "entry_date")),
    case("both names of a column", "ticker,symbol,entry_date\nF,F,a\n", ("duplicate_column", 1, "ticker")),
    case("extra column", "ticker,Price Target ,entry_date,\nF,9,a,\n", ("column_ignored", 1, "Price Target")),
    case("columns without end", "ticker,entry_date" + ",x" * 500 + "\n", ("not_csv", 1, None), says="502"),
    case("too many rows", HEADER + "F,a\n" * (MAXIMUM_ROWS + 1), ("too_many_rows", MAXIMUM_ROWS + 2, None)),
    case("as many rows as allowed", HEADER + "F,a\n" * MAXIMUM_ROWS),
    case("too many values", HEADER + "F,a\nF,1,234\nF,a,\n", ("row_too_long", 3, None), says="','"),
    case("quote not closed", HEADER + 'F,"a\nG,b\n', ("row_unreadable", 2, None)),
    case("text behind a quote", HEADER + 'F,"a"b\nG,c\n', ("row_unreadable", 2, None)),
    case(
        "two bad rows",
        HEADER + 'F,"a"b\nG,"c\nH,1,2\n',
        *(("row_unreadable", n, None) for n in (2, 3)),
        ("row_too_long", 4, None),
    ),
    case("value longer than a reader takes", HEADER + f"F,{'x' * 200_000}\n", ("row_unreadable", 2, None)),
    case(
        "rows that each run to the end of the file",
        HEADER + 'F","\n' * 9_000,
        *(("row_unreadable", n, None) for n in range(2, 9)),
        ("rows_unreadable", 8, None),
        says="a quote that is never closed",
    ),
    case("header not closed", '"ticker,entry_date\nF,a\n', ("row_unreadable", 1, None)),
]


@pytest.mark.parametrize("this", CASES, ids=str)
def test_forms(this: Case) -> None:
    lines, problems = read(this.content)
    assert_case(this, Parsed.of(lines, problems, {}))


GOOD: list[tuple[str, str, list[Line]]] = [
    ("comma", HEADER + "F,a\n", [(2, {"symbol": "F", "entry_date": "a"})]),
    ("semicolon", "ticker;entry_date\nF;1,5\n", [(2, {"symbol": "F", "entry_date": "1,5"})]),
    ("no line end", HEADER + "F,a", [(2, {"symbol": "F", "entry_date": "a"})]),
    (
        "old line ends",
        "ticker,entry_date\rF,a\rG,b",
        [(2, {"symbol": "F", "entry_date": "a"}), (3, {"symbol": "G", "entry_date": "b"})],
    ),
    ("order and case", "ENTRY_DATE,Symbol\na,F\n", [(2, {"symbol": "F", "entry_date": "a"})]),
    ("spaces in names", " entry  date ;  TICKER\na;F\n", [(2, {"symbol": "F", "entry_date": "a"})]),
    ("quoted names", '"Entry Date","Ticker"\na,F\n', [(2, {"symbol": "F", "entry_date": "a"})]),
    ("short row", HEADER + "F\n", [(2, {"symbol": "F"})]),
    ("trailing delimiters", "ticker,entry_date,,\nF,a,,\n", [(2, {"symbol": "F", "entry_date": "a"})]),
    ("blank rows", HEADER + "\n,\n , \nF,a\n", [(5, {"symbol": "F", "entry_date": "a"})]),
    (
        "comments count as lines",
        '# book, "quoted\n' + HEADER + '  # one, "more\nF,a\n#G,b\nH,c\n',
        [(4, {"symbol": "F", "entry_date": "a"}), (6, {"symbol": "H", "entry_date": "c"})],
    ),
    (
        "line breaks inside quotes count as lines",
        'ticker,entry_date,notes\r\nF,a,"one\r\n# two\r\n\r\nfour"\r\nG,b,"say ""hi"""\r\n',
        [
            (2, {"symbol": "F", "entry_date": "a", "notes": "one\r\n# two\r\n\r\nfour"}),
            (6, {"symbol": "G", "entry_date": "b", "notes": 'say "hi"'}),
        ],
    ),
    ("a space before a quote", HEADER + 'F, "a,b"\n', [(2, {"symbol": "F", "entry_date": "a,b"})]),
    ("a quoted hash is a value", HEADER + '"#1",a\n', [(2, {"symbol": "#1", "entry_date": "a"})]),
    ("a spreadsheet error is a value", HEADER + "#REF!,a\n", [(2, {"symbol": "#REF!", "entry_date": "a"})]),
    (
        "other line separators are text",
        HEADER + "F,a\u2028b\x85c\n",
        [(2, {"symbol": "F", "entry_date": "a\u2028b\x85c"})],
    ),
]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "with byte order mark"])
@pytest.mark.parametrize(("text", "expected"), [good[1:] for good in GOOD], ids=[good[0] for good in GOOD])
def test_accepted_forms(text: str, expected: list[Line], mark: bytes) -> None:
    lines, problems = read(mark + text.encode())
    assert problems.found == []
    assert lines == expected


def test_a_long_column_name_is_cut_where_it_is_shown() -> None:
    _, problems = read(f"ticker,{'x' * 50_000}\n".encode())
    assert [problem.code for problem in problems.found] == ["missing_column", "column_ignored", "file_empty"]
    assert all(len(str(problem)) < 300 for problem in problems.found)


def test_rows_are_checked_although_a_column_is_missing() -> None:
    problems = Problems()
    (row,) = read_rows(b"ticker\nAAPL\n", COLUMNS, problems)
    assert row.day("entry_date") is None
    assert [problem.code for problem in problems.found] == ["missing_column"]
