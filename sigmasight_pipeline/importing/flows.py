"""Cash paid into and taken out of portfolios: a flows file to validated rows.

What belongs here: the rules of a flow and the numbering of several of a kind on one session. What does not:
what a flow does to the net asset value (``calculations``), and comparing with the stored flows (``changes``).

A file states all flows of each portfolio it names: it replaces that portfolio's flows as a set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import polars as pl

from sigmasight_pipeline.sessions import SessionCalendar
from sigmasight_pipeline.storage.frames import polars_schema
from sigmasight_pipeline.storage.tables import portfolio_cash_flows as flows_table
from sigmasight_pipeline.storage.tables.reference import FLOW_KINDS

from .cells import AMOUNT, Row
from .csv_text import Columns, read_rows
from .portfolios import read_portfolio_code
from .problems import Code, Parsed, Problems

COLUMNS = Columns(
    required=("portfolio", "date", "amount", "kind"), optional=("note",), names={"note": ("note", "notes")}
)
SCHEMA: dict[str, pl.DataType] = {"portfolio_code": pl.String()} | {
    name: dtype for name, dtype in polars_schema(flows_table).items() if name != "portfolio_id"
}


@dataclass(frozen=True, slots=True)
class FlowRow:
    """Money into (> 0) or out of (< 0) a portfolio at the start of a session, US dollars."""

    portfolio_code: str
    session_date: date
    kind: str
    sequence: int
    amount: Decimal
    note: str | None
    source_line: int | None


def parse_flows(
    content: bytes, *, calendar: SessionCalendar, today: date, portfolios: Mapping[str, date]
) -> Parsed[FlowRow]:
    """The flows a file states, or every error of every row; `portfolios` is inception date by code.

    The sign may be left to the kind: a withdrawal of 500 is one of -500. Several flows of a kind on
    one session are numbered 1, 2, ... in the order of the file.
    """
    problems = Problems()
    flows: list[FlowRow] = []
    numbers: Counter[tuple[str, date, str]] = Counter()
    lines: dict[tuple[str, date, str, Decimal, str], int | None] = {}
    for row in read_rows(content, COLUMNS, problems):
        portfolio = read_portfolio_code(row, portfolios)
        session = row.session("date", calendar, today)
        kind = _kind(row)
        amount = _amount(row, kind)
        if portfolio is not None and session is not None and session <= portfolios[portfolio]:
            row.report(
                Code.FLOW_BEFORE_INCEPTION,
                "date",
                session=session,
                portfolio=portfolio,
                inception=portfolios[portfolio],
            )
        if portfolio is None or session is None or kind is None or amount is None:
            continue
        note = row.text("note")
        first = lines.setdefault((portfolio, session, kind, amount, note), row.line)
        if first != row.line:
            row.report(Code.FLOW_REPEATED, "amount", first=first)
        numbers[portfolio, session, kind] += 1
        sequence = numbers[portfolio, session, kind]
        flows.append(FlowRow(portfolio, session, kind, sequence, amount, note or None, row.line))
    return Parsed.of(flows, problems, SCHEMA)


def _kind(row: Row) -> str | None:
    kind = row.text("kind").lower()
    if not kind:
        row.report(Code.FLOW_KIND_MISSING, "kind", allowed=" or ".join(FLOW_KINDS))
    elif kind not in FLOW_KINDS:
        row.report(Code.FLOW_KIND_UNKNOWN, "kind", allowed=" or ".join(FLOW_KINDS))
    return kind if kind in FLOW_KINDS else None


def _amount(row: Row, kind: str | None) -> Decimal | None:
    """The signed amount; a written sign must be the kind's."""
    amount = row.number("amount", AMOUNT)
    if amount is None:
        return None
    if amount == 0:
        row.report(Code.AMOUNT_ZERO, "amount")
        return None
    contradicting = {"contribution": "-", "withdrawal": "+"}.get(kind or "")
    if contradicting is not None and row.text("amount").startswith(contradicting):
        row.report(Code.FLOW_SIGN_CONTRADICTS, "amount", kind=kind)
        return None
    return -amount.copy_abs() if kind == "withdrawal" else amount
