"""A portfolio CSV to validated positions: every row checked, every error listed, all rows or none.

What belongs here: the columns of the file and the rules of a position (quantity, prices, dates, lots, tags).
What does not: what the row is about (``instrument``), the file's form (``csv_text``), the stored positions
(``changes``).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import polars as pl

from sigmasight_pipeline.sessions import SessionCalendar
from sigmasight_pipeline.storage.frames import polars_schema
from sigmasight_pipeline.storage.tables import positions as positions_table

from .cells import QUANTITY, Row
from .csv_text import Columns, read_rows
from .instrument import read_instrument
from .problems import Code, Parsed, Problems

COLUMNS = Columns(
    required=("symbol", "quantity", "entry_price", "entry_date"),
    optional=(
        "tags",
        "exit_date",
        "exit_price",
        "investment_class",
        "investment_subtype",
        "underlying_symbol",
        "strike_price",
        "expiration_date",
        "option_type",
        "lot",
        "notes",
    ),
    names={"symbol": ("ticker", "symbol")},
)
GIVEN_BY_THE_DATABASE = ("position_id", "portfolio_id")
SCHEMA: dict[str, pl.DataType] = {
    name: dtype for name, dtype in polars_schema(positions_table).items() if name not in GIVEN_BY_THE_DATABASE
} | {"tags": pl.List(pl.String())}
"""Columns of a parsed frame: those of the table a file can state, and the tags."""

DEFAULT_LOT = "1"
LONGEST_LOT = 40
LONGEST_TAG = 60
OPTION_MULTIPLIER = Decimal(100)
"""Shares a standard listed contract delivers; contracts that deliver otherwise are adjusted and refused."""


@dataclass(frozen=True, slots=True)
class PositionRow:
    """One lot as stated: signed quantity and prices as traded on the entry session, US dollars."""

    symbol: str
    lot: str
    position_type: str
    investment_class: str
    investment_subtype: str | None
    quantity: Decimal
    multiplier: Decimal
    entry_price: Decimal
    entry_date: date
    exit_price: Decimal | None
    exit_date: date | None
    underlying_symbol: str | None
    option_kind: str | None
    strike_price: Decimal | None
    expiration_date: date | None
    notes: str | None
    source_file: str
    source_line: int | None
    tags: tuple[str, ...]


def parse_positions(
    content: bytes,
    *,
    file_name: str,
    calendar: SessionCalendar,
    today: date,
    first_stored_session: date,
) -> Parsed[PositionRow]:
    """The positions a portfolio CSV states, or every error of every row.

    Dates that are no session become the next one with a warning; the order of dates and duplicates of
    (symbol, entry session, lot) are checked after that. `calendar` should reach from 1990 to behind `today`.
    """
    problems = Problems()
    positions: list[PositionRow] = []
    lines: dict[tuple[str, date, str], int | None] = {}
    for row in read_rows(content, COLUMNS, problems):
        position = _position(
            row,
            file_name=file_name,
            calendar=calendar,
            today=today,
            first_stored_session=first_stored_session,
            lines=lines,
        )
        if position is not None:
            positions.append(position)
    return Parsed.of(positions, problems, SCHEMA)


def _position(
    row: Row,
    *,
    file_name: str,
    calendar: SessionCalendar,
    today: date,
    first_stored_session: date,
    lines: dict[tuple[str, date, str], int | None],
) -> PositionRow | None:
    """The position of a row, or None where it is wrong; `lines` gathers where each lot stands."""
    instrument = read_instrument(row)
    quantity = row.number("quantity", QUANTITY)
    if quantity == 0:
        row.report(Code.QUANTITY_ZERO, "quantity")
    entry_price = row.price("entry_price")
    entry = row.session("entry_date", calendar, today)
    exit_price = row.price("exit_price", required=False)
    exit_session = row.session("exit_date", calendar, today, required=False)
    if row.text("exit_price") and not row.text("exit_date"):
        row.report(Code.EXIT_PRICE_WITHOUT_DATE, "exit_price")
    if row.text("exit_date") and not row.text("exit_price"):
        row.report(Code.EXIT_DATE_WITHOUT_PRICE, "exit_date")
    _check_order(row, entry, exit_session, instrument.expiration_date, first_stored_session)
    lot = _lot(row)
    tags = _tags(row)
    if instrument.symbol is not None and entry is not None:
        first = lines.setdefault((instrument.symbol, entry, lot), row.line)
        if first != row.line:
            row.report(Code.DUPLICATE_POSITION, "symbol", symbol=instrument.symbol, entry=entry, lot=lot, first=first)
    if instrument.symbol is None or quantity is None or entry_price is None or entry is None:
        return None
    contract = instrument.contract
    return PositionRow(
        symbol=instrument.symbol,
        lot=lot,
        position_type=instrument.position_type(quantity > 0),
        investment_class=instrument.investment_class,
        investment_subtype=instrument.investment_subtype,
        quantity=quantity,
        multiplier=Decimal(1) if contract is None else OPTION_MULTIPLIER,
        entry_price=entry_price,
        entry_date=entry,
        exit_price=exit_price,
        exit_date=exit_session,
        underlying_symbol=instrument.underlying,
        option_kind=None if contract is None else contract.kind,
        strike_price=None if contract is None else contract.strike,
        expiration_date=None if contract is None else contract.expiration_date,
        notes=row.text("notes") or None,
        source_file=file_name,
        source_line=row.line,
        tags=tags,
    )


def _check_order(
    row: Row, entry: date | None, exit_session: date | None, expiry: date | None, first_stored_session: date
) -> None:
    # A session is after the expiry session exactly where it is after the expiration date.
    if entry is not None and exit_session is not None and exit_session < entry:
        row.report(Code.EXIT_BEFORE_ENTRY, "exit_date", exit=exit_session, entry=entry)
    if entry is not None and expiry is not None and expiry < entry:
        column = "expiration_date" if row.text("expiration_date") else "symbol"
        row.report(Code.OPTION_EXPIRY_BEFORE_ENTRY, column, expiry=expiry, entry=entry)
    if exit_session is not None and expiry is not None and exit_session > expiry:
        row.report(Code.EXIT_AFTER_EXPIRY, "exit_date", exit=exit_session, expiry=expiry)
    if exit_session is not None and exit_session < first_stored_session:
        row.report(Code.EXIT_BEFORE_FIRST_SESSION, "exit_date", first=first_stored_session)
    elif entry is not None and entry < first_stored_session:
        row.report(Code.ENTRY_BEFORE_FIRST_SESSION, "entry_date", first=first_stored_session)


def _lot(row: Row) -> str:
    lot = row.text("lot") or DEFAULT_LOT
    if len(lot) > LONGEST_LOT:
        row.report(Code.LOT_TOO_LONG, "lot", length=len(lot), limit=LONGEST_LOT)
    return lot


def _tags(row: Row) -> tuple[str, ...]:
    """The tags of a comma list in the order given, each once."""
    tags = tuple(dict.fromkeys(tag for part in row.text("tags").split(",") if (tag := part.strip())))
    for tag in tags:
        if len(tag) > LONGEST_TAG:
            row.report(Code.TAG_TOO_LONG, "tags", value=tag, length=len(tag), limit=LONGEST_TAG)
    return tags
