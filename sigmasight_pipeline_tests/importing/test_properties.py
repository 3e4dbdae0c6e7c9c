"""Whatever a correct file looks like, its rows come back; whatever a file holds, it is answered with problems."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sigmasight_pipeline.importing.positions import COLUMNS, PositionRow, parse_positions
from sigmasight_pipeline.importing.problems import Parsed, Severity
from sigmasight_pipeline.symbols import OptionContract

from . import test_flows, test_marks, test_positions
from .cases import CALENDAR, FIRST_STORED_SESSION, TODAY

SESSIONS = CALENDAR.between(FIRST_STORED_SESSION, TODAY)
words = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters=","), min_size=1, max_size=12).map(
    str.strip
)
notes = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30).map(str.strip)
prices = st.decimals(Decimal("0.000001"), Decimal("99999999999999"), places=6)
strikes = st.decimals(Decimal("0.001"), Decimal("99999.999"), places=3)


@st.composite
def position_rows(draw: st.DrawFn) -> PositionRow:
    """A position as the parser should give it back (its line is set when the file is written)."""
    kind = draw(st.sampled_from(["PUBLIC", "PRIVATE", "OPTIONS"]))
    first, last = sorted((draw(st.sampled_from(SESSIONS)), draw(st.sampled_from(SESSIONS))))
    has_exit = draw(st.booleans())
    quantity = draw(st.decimals(Decimal("-99999999999999"), Decimal("99999999999999"), places=6).filter(bool))
    contract: OptionContract | None = None
    if kind == "OPTIONS":
        expiration = draw(st.dates(last, date(2099, 12, 31)))
        root = draw(st.sampled_from(["AAPL", "F", "SPXW", "BRKB", "VIX"]))
        contract = OptionContract(root, expiration, draw(st.sampled_from("CP")), draw(strikes))
        symbol = contract.symbol
    elif kind == "PRIVATE":
        text = draw(st.text(st.characters(exclude_categories=("Cs", "Cc", "Cf", "Cn", "Co", "Z")), max_size=10))
        symbol = f"{text}X".upper()
    else:
        symbol = draw(st.from_regex(r"[A-Z]{1,6}(\.[A-Z])?", fullmatch=True))
    side = "LONG" if quantity > 0 else "SHORT"
    return PositionRow(
        symbol=symbol,
        lot=draw(words) or "1",
        position_type=side[0] + contract.kind if contract else side,
        investment_class=kind,
        investment_subtype=draw(st.sampled_from([None, {"PUBLIC": "ETF", "PRIVATE": "OTHER"}.get(kind)])),
        quantity=quantity,
        multiplier=Decimal(100 if contract else 1),
        entry_price=draw(prices),
        entry_date=first,
        exit_price=draw(prices) if has_exit else None,
        exit_date=last if has_exit else None,
        underlying_symbol=contract.underlying if contract else None,
        option_kind=contract.kind if contract else None,
        strike_price=contract.strike if contract else None,
        expiration_date=contract.expiration_date if contract else None,
        notes=draw(notes) or None,
        source_file="book.csv",
        source_line=None,
        tags=tuple(dict.fromkeys(tag for tag in draw(st.lists(words, max_size=3)) if tag)),
    )


def cells_of(row: PositionRow, by_columns: bool) -> dict[str, str]:
    """The cells a row is written as: an option by its OCC symbol, or by its columns."""
    cells: dict[str, object] = {
        "symbol": row.symbol,
        "quantity": row.quantity,
        "entry_price": row.entry_price,
        "entry_date": row.entry_date,
        "tags": ",".join(row.tags),
        "exit_date": row.exit_date,
        "exit_price": row.exit_price,
        "investment_class": row.investment_class.lower(),
        "investment_subtype": row.investment_subtype,
        "lot": row.lot,
        "notes": row.notes,
    }
    if row.strike_price is not None and by_columns:
        cells["symbol"] = row.symbol[:-15]
        cells["underlying_symbol"] = row.underlying_symbol
        cells["strike_price"] = row.strike_price
        cells["expiration_date"] = row.expiration_date
        cells["option_type"] = {"C": "Call", "P": "Put"}[row.option_kind or ""]
    return {
        column: f"{value:f}" if isinstance(value, Decimal) else str(value)
        for column, value in cells.items()
        if value is not None
    }


@st.composite
def files(draw: st.DrawFn, rows: Sequence[Mapping[str, str]], keys: Sequence[str]) -> tuple[bytes, list[int]]:
    """A file of these cells in a drawn style, and the line each row begins on."""
    delimiter = draw(st.sampled_from(",;"))
    line_end = draw(st.sampled_from(["\n", "\r\n"]))
    quote_all = draw(st.booleans())

    def record(cells: Sequence[str]) -> str:
        quoted = [
            f'"{cell.replace(chr(34), chr(34) * 2)}"'
            if quote_all or any(mark in cell for mark in f'"\r\n{delimiter}') or cell.startswith("#")
            else cell
            for cell in cells
        ]
        return delimiter.join(quoted) + line_end

    text = io.StringIO(newline="")
    lines: list[int] = []

    def line() -> int:
        return len(text.getvalue().replace("\r\n", "\n").replace("\r", "\n").split("\n"))

    names = [draw(st.sampled_from([key, key.upper(), key.replace("_", " "), f" {key.title()} "])) for key in keys]
    text.write(record(names))
    for cells in rows:
        text.write(draw(st.sampled_from(["", '# note, "x' + line_end, line_end])))
        lines.append(line())
        text.write(record([cells.get(key, "") for key in keys]))
    mark = draw(st.sampled_from(["", "\ufeff", "# a comment first" + line_end]))
    return (mark + text.getvalue()).encode(), [number + mark.count("\n") for number in lines]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_written_rows_come_back(data: st.DataObject) -> None:
    rows = data.draw(
        st.lists(position_rows(), min_size=1, max_size=5, unique_by=lambda row: (row.symbol, row.entry_date, row.lot))
    )
    keys = data.draw(st.permutations([*COLUMNS.required, *COLUMNS.optional]))
    cells = [cells_of(row, data.draw(st.booleans())) for row in rows]
    content, lines = data.draw(files(cells, keys))
    parsed = test_positions.parse(content)
    assert parsed.errors == (), content
    assert parsed.notices == ()
    assert parsed.rows == tuple(replace(row, source_line=n) for row, n in zip(rows, lines, strict=True)), content
    assert parsed.frame()["quantity"].to_list() == [row.quantity for row in rows]


def assert_answered(parsed: Parsed[Any]) -> None:
    """Problems or rows, never neither, never rows beside an error."""
    assert bool(parsed.errors) != bool(parsed.rows)
    assert all(problem.severity is Severity.ERROR and str(problem) for problem in parsed.errors)
    assert parsed.frame().height == len(parsed.rows)


PARSERS = (test_positions.parse, test_marks.parse, test_flows.parse)
FILES = [
    this.content
    for module in (test_positions, test_marks, test_flows)
    for this in module.CASES
    if len(this.content) < 2_000
]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_arbitrary_bytes_are_answered_with_problems(content: bytes) -> None:
    for parse in PARSERS:
        assert_answered(parse(content))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(FILES), st.data())
def test_damaged_files_are_answered_with_problems(content: bytes, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        removed = data.draw(st.integers(0, 3))
        inserted = data.draw(st.sampled_from([b"", b'"', b",", b";", b"\n", b"\r", b"#", b"-", b"9" * 30, b"\xff"]))
        content = content[:at] + inserted + content[at + removed :]
    for parse in PARSERS:
        assert_answered(parse(content))


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from([*COLUMNS.required, *COLUMNS.optional]), st.text(max_size=20), min_size=4))
def test_any_cells_are_answered_with_problems(cells: dict[str, str]) -> None:
    keys = list(dict.fromkeys([*COLUMNS.required, *cells]))
    quoted = [
        ",".join(f'"{text.replace(chr(34), chr(34) * 2)}"' for text in row)
        for row in (keys, [cells.get(key, "") for key in keys])
    ]
    content = "\n".join(quoted).encode("utf-8", "replace")
    assert_answered(
        parse_positions(
            content, file_name="x", calendar=CALENDAR, today=TODAY, first_stored_session=FIRST_STORED_SESSION
        )
    )
