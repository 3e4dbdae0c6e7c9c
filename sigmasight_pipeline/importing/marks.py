"""Manual values of PRIVATE positions: a marks file to validated rows.

What belongs here: the rules of a mark. What does not: giving it to positions (``storage.imports``) and how old a mark
may be when it is used (``calculations.valuation``).

A mark is stated by portfolio, symbol and session, and belongs to every PRIVATE lot of that symbol held then.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import polars as pl

from sigmasight_pipeline import symbols
from sigmasight_pipeline.sessions import SessionCalendar
from sigmasight_pipeline.storage.frames import PRICE as PRICE_TYPE

from .cells import PRICE, Row
from .csv_text import Columns, read_rows
from .portfolios import read_portfolio_code
from .problems import Code, Parsed, Problems

COLUMNS = Columns(
    required=("portfolio", "symbol", "date", "price"), optional=(), names={"symbol": ("symbol", "ticker")}
)
SCHEMA: dict[str, pl.DataType] = {
    "portfolio_code": pl.String(),
    "symbol": pl.String(),
    "session_date": pl.Date(),
    "price": PRICE_TYPE,
    "source_line": pl.Int32(),
}

Holding = tuple[str, date, date | None]
"""Investment class, entry session, exit session."""


@dataclass(frozen=True, slots=True)
class MarkRow:
    """A manual value per unit, US dollars, of a private holding on a session."""

    portfolio_code: str
    symbol: str
    session_date: date
    price: Decimal
    source_line: int | None


def parse_marks(content: bytes, *, calendar: SessionCalendar, today: date, positions: pl.DataFrame) -> Parsed[MarkRow]:
    """The marks a file states, or every error of every row.

    `positions`: every position of every portfolio (not the private ones alone, so that a mark of a stock is
    told apart from one of an unknown symbol) with portfolio_code, symbol, investment_class, entry_date,
    exit_date. A mark may be dated from the entry session to the exit session, both included.
    """
    problems = Problems()
    held: dict[str, dict[str, list[Holding]]] = defaultdict(lambda: defaultdict(list))
    columns = ("portfolio_code", "symbol", "investment_class", "entry_date", "exit_date")
    for code, symbol, *holding in positions.select(columns).iter_rows():
        held[code][symbol].append((holding[0], holding[1], holding[2]))
    marks: list[MarkRow] = []
    lines: dict[tuple[str, str, date], int | None] = {}
    for row in read_rows(content, COLUMNS, problems):
        portfolio = read_portfolio_code(row, held)
        symbol = _symbol(row, held[portfolio] if portfolio is not None else {}, portfolio)
        session = row.session("date", calendar, today)
        price = row.number("price", PRICE)
        if price is not None and price < 0:
            row.report(Code.PRICE_NEGATIVE, "price")
        if portfolio is None or symbol is None or session is None:
            continue
        _check_held(row, held[portfolio][symbol], portfolio, symbol, session)
        first = lines.setdefault((portfolio, symbol, session), row.line)
        if first != row.line:
            row.report(Code.DUPLICATE_MARK, "date", symbol=symbol, portfolio=portfolio, session=session, first=first)
        if price is not None:
            marks.append(MarkRow(portfolio, symbol, session, price, row.line))
    return Parsed.of(marks, problems, SCHEMA)


def _symbol(row: Row, holdings: dict[str, list[Holding]], portfolio: str | None) -> str | None:
    """The private symbol of a row, checked to be one of the portfolio's where that is known."""
    name = row.symbol("symbol", symbols.private_symbol)
    if name is None or portfolio is None:
        return None
    if any(holding[0] == "PRIVATE" for holding in holdings.get(name, ())):
        return name
    listed = holdings.get(name) or holdings.get(_canonical(row.text("symbol")))
    if listed:
        row.report(Code.POSITION_NOT_PRIVATE, "symbol", investment_class=listed[0][0], portfolio=portfolio)
    else:
        row.report(Code.POSITION_UNKNOWN, "symbol", portfolio=portfolio)
    return None


def _canonical(text: str) -> str:
    try:
        return symbols.canonical_symbol(text)
    except symbols.SymbolError:
        # No symbol of a listed instrument: then it can only be the free name of a private holding.
        return text


def _check_held(row: Row, holdings: list[Holding], portfolio: str, symbol: str, session: date) -> None:
    private = [(entry, exit_) for kind, entry, exit_ in holdings if kind == "PRIVATE"]
    if any(entry <= session and (exit_ is None or session <= exit_) for entry, exit_ in private):
        return
    held = ", ".join(
        f"{entry} to {exit_}" if exit_ is not None else f"from {entry} on"
        for entry, exit_ in sorted(private, key=lambda period: period[0])
    )
    row.report(Code.MARK_OUTSIDE_HOLDING, "date", symbol=symbol, portfolio=portfolio, session=session, held=held)
