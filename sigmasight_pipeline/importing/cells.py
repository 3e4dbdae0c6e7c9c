"""One row of a file, cell by cell: text, exact numbers, session dates, every failure recorded with its place.

What belongs here: reading a cell as a kind of value, and the rules every such column shares. What does not:
rules between cells or rows (the parsers of positions, marks and flows) and the file's own form
(``csv_text``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

from sigmasight_pipeline.sessions import OutsideCalendarError, SessionCalendar
from sigmasight_pipeline.symbols import SymbolError, SymbolProblem

from .problems import Code, Problems
from .spelling import date_hint, iso_date, number, number_guesses

EARLIEST_DATE = date(1990, 1, 1)
NUMERIC_DIGITS = 20
"""Digits a NUMERIC column holds, before and after the point together."""


@dataclass(frozen=True)
class NumberRule:
    """What a kind of number must be: how many decimals it may have, and the code of each way to fail."""

    missing: Code
    not_a_number: Code
    too_many_decimals: Code
    too_large: Code
    decimals: int


QUANTITY = NumberRule(
    Code.QUANTITY_MISSING,
    Code.QUANTITY_NOT_A_NUMBER,
    Code.QUANTITY_TOO_MANY_DECIMALS,
    Code.QUANTITY_TOO_LARGE,
    decimals=6,
)
PRICE = NumberRule(
    Code.PRICE_MISSING,
    Code.PRICE_NOT_A_NUMBER,
    Code.PRICE_TOO_MANY_DECIMALS,
    Code.PRICE_TOO_LARGE,
    decimals=6,
)
AMOUNT = NumberRule(
    Code.AMOUNT_MISSING,
    Code.AMOUNT_NOT_A_NUMBER,
    Code.AMOUNT_TOO_MANY_DECIMALS,
    Code.AMOUNT_TOO_LARGE,
    decimals=2,
)
EQUITY = NumberRule(
    Code.EQUITY_MISSING,
    Code.EQUITY_NOT_A_NUMBER,
    Code.EQUITY_TOO_MANY_DECIMALS,
    Code.EQUITY_TOO_LARGE,
    decimals=2,
)


_SYMBOL_CODES = {
    SymbolProblem.EMPTY: Code.SYMBOL_MISSING,
    SymbolProblem.TOO_LONG: Code.SYMBOL_TOO_LONG,
    SymbolProblem.MALFORMED: Code.SYMBOL_MALFORMED,
    SymbolProblem.OPTION_DATE: Code.SYMBOL_MALFORMED,
    SymbolProblem.OPTION_STRIKE: Code.SYMBOL_MALFORMED,
    SymbolProblem.OPTION_ADJUSTED: Code.OPTION_ADJUSTED,
}


@dataclass(frozen=True)
class Row:
    """One row: its physical line, its cells by column key, and where to record what is wrong with them.

    `labels` gives the name the file's header has for a column key. A column of `absent` is missing from the
    whole file and reported once for it, so that no row reports it again.
    """

    line: int | None
    cells: Mapping[str, str]
    problems: Problems
    labels: Mapping[str, str] = field(default_factory=dict)
    absent: Collection[str] = ()

    def text(self, column: str) -> str:
        """The cell without surrounding white space; empty where there is none."""
        return self.cells.get(column, "").strip()

    def report(self, code: Code, column: str | None, *, value: str | None = None, **details: object) -> None:
        """Record a problem of a cell, by default shown with its text."""
        if column in self.absent:
            return
        shown = value if value is not None else self.text(column or "")
        self.problems.add(code, self.line, self.labels.get(column or "", column), shown, **details)

    def number(self, column: str, rule: NumberRule, *, required: bool = True) -> Decimal | None:
        """The exact number of a cell at the scale of `rule`; None where it is empty or wrong (recorded)."""
        text = self.text(column)
        if not text:
            if required:
                self.report(rule.missing, column)
            return None
        value = number(text)
        if value is None:
            guesses = number_guesses(text)
            code = Code.NUMBER_FORMATTED if guesses else rule.not_a_number
            self.report(code, column, guess=" or ".join(guesses))
            return None
        digits = NUMERIC_DIGITS - rule.decimals
        if value.copy_abs() >= Decimal(10) ** digits:
            self.report(rule.too_large, column, digits=digits)
            return None
        rounded = round(value, rule.decimals)
        if rounded != value:
            self.report(rule.too_many_decimals, column, decimals=rule.decimals)
            return None
        return rounded

    def symbol(self, column: str, parse: Callable[[str], str]) -> str | None:
        """The symbol of a cell as `parse` (from ``symbols``) writes it; None where it is none (recorded)."""
        try:
            return parse(self.text(column))
        except SymbolError as error:
            self.report(_SYMBOL_CODES[error.problem], column, reason=error)
            return None

    def price(self, column: str, *, required: bool = True) -> Decimal | None:
        """A price above zero."""
        value = self.number(column, PRICE, required=required)
        if value is not None and value <= 0:
            self.report(Code.PRICE_NOT_POSITIVE, column)
            return None
        return value

    def day(self, column: str, *, required: bool = True) -> date | None:
        """A day from 1990 on, ISO form; None where it is empty or wrong (recorded)."""
        text = self.text(column)
        if not text:
            if required:
                self.report(Code.DATE_MISSING, column)
            return None
        day = iso_date(text)
        if day is None:
            self.report(Code.DATE_FORMAT, column, hint=date_hint(text))
            return None
        if day < EARLIEST_DATE:
            self.report(Code.DATE_BEFORE_1990, column)
            return None
        return day

    def session(self, column: str, calendar: SessionCalendar, today: date, *, required: bool = True) -> date | None:
        """The session of a day that is not after `today`: itself or, with a warning, the next one."""
        day = self.day(column, required=required)
        if day is None:
            return None
        if day > today:
            self.report(Code.DATE_IN_FUTURE, column, today=today)
            return None
        try:
            session = calendar.on_or_after(day)
        except OutsideCalendarError:
            self.report(Code.DATE_OUTSIDE_CALENDAR, column, first=calendar.first, last=calendar.last)
            return None
        if session != day:
            self.report(Code.SESSION_MOVED, column, session=session)
        return session
