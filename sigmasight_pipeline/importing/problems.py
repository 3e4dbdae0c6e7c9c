"""What can be wrong with an imported file: the closed list of codes, each with its severity and its sentence.

What belongs here: the codes, the `Problem` one occurrence is told by, the list problems are gathered in, and
the result every parser returns. What does not: deciding that something is wrong (the parsers).

Codes are stable: scripts and tests may compare them. A sentence says what was wrong and what to write.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

import polars as pl

LONGEST_SHOWN_VALUE = 80


class Severity(StrEnum):
    """An error refuses the whole file; a warning and a notice let it pass and are shown."""

    ERROR = "error"
    WARNING = "warning"
    NOTICE = "notice"


class Code(StrEnum):
    """The closed list of problems: stable code, severity, sentence."""

    severity: Severity
    template: str

    def __new__(cls, code: str, template: str, severity: Severity = Severity.ERROR) -> Code:
        """A member whose value is `code`, so that it compares and serialises as that text."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.severity = severity
        member.template = template
        return member

    FILE_TOO_LARGE = "file_too_large", "the file has {size:,} bytes, {limit:,} are allowed; split it"
    FILE_EMPTY = "file_empty", "the file has no rows; write a header line and one line per row"
    NOT_CSV = "not_csv", "the file is no CSV text ({reason}); save it as CSV with commas or semicolons"
    NOT_UTF8 = "not_utf8", "the text is not UTF-8 ({reason}); save it as CSV UTF-8"
    NO_HEADER = (
        "no_header",
        "the first line names none of the columns; begin with a header such as {expected}",
    )
    MISSING_COLUMN = "missing_column", "there is no column {column}; the header has {found}"
    DUPLICATE_COLUMN = "duplicate_column", "the header names {column} more than once; keep one of them"
    COLUMN_IGNORED = "column_ignored", "the column {column} is not used and was ignored", Severity.NOTICE
    TOO_MANY_ROWS = "too_many_rows", "the file has more than {limit:,} rows; split it"
    ROW_UNREADABLE = (
        "row_unreadable",
        "the row cannot be read ({reason}); check its quotes: a quote inside a quoted value is written twice",
    )
    ROWS_UNREADABLE = (
        "rows_unreadable",
        "too many rows up to this one cannot be read, and the rest was not looked at; a quote that is never closed is "
        "the usual reason: mend the rows named and try again",
    )
    ROW_TOO_LONG = (
        "row_too_long",
        "the row has {count} values where the header has {expected}; put a value that holds {delimiter!r} in quotes",
    )

    NUMBER_FORMATTED = (
        "number_formatted",
        "{value!r} is written for people, not as a plain number; write {guess}",
    )
    QUANTITY_MISSING = (
        "quantity_missing",
        "the quantity is missing; write a number, negative for a short position",
    )
    QUANTITY_NOT_A_NUMBER = (
        "quantity_not_a_number",
        "{value!r} is no number; write one such as 100 or -250.5",
    )
    QUANTITY_ZERO = "quantity_zero", "the quantity is zero; write the signed quantity or leave the row out"
    QUANTITY_TOO_MANY_DECIMALS = (
        "quantity_too_many_decimals",
        "{value} has more than {decimals} decimals; round it",
    )
    QUANTITY_TOO_LARGE = (
        "quantity_too_large",
        "{value} is too large; at most {digits} digits before the point fit",
    )
    PRICE_MISSING = "price_missing", "the price is missing; write US dollars per unit such as 187.15"
    PRICE_NOT_A_NUMBER = (
        "price_not_a_number",
        "{value!r} is no number; write US dollars per unit such as 187.15",
    )
    PRICE_NOT_POSITIVE = "price_not_positive", "{value} is not above zero; the sign belongs to the quantity"
    PRICE_NEGATIVE = (
        "price_negative",
        "{value} is below zero; a mark is zero or more, the sign is the quantity's",
    )
    PRICE_TOO_MANY_DECIMALS = "price_too_many_decimals", "{value} has more than {decimals} decimals; round it"
    PRICE_TOO_LARGE = "price_too_large", "{value} is too large; at most {digits} digits before the point fit"

    DATE_MISSING = "date_missing", "the date is missing; write it as YYYY-MM-DD"
    DATE_FORMAT = "date_format", "{value!r} is no date of the form YYYY-MM-DD{hint}"
    DATE_IN_FUTURE = "date_in_future", "{value} is after today, {today}"
    DATE_BEFORE_1990 = "date_before_1990", "{value} is before 1990-01-01, the earliest date accepted"
    DATE_OUTSIDE_CALENDAR = (
        "date_outside_calendar",
        "{value} has no session in the calendar, which covers {first} to {last}",
    )
    SESSION_MOVED = (
        "session_moved",
        "the exchange is closed on {value}; the next session, {session}, is used",
        Severity.WARNING,
    )
    ENTRY_BEFORE_FIRST_SESSION = (
        "entry_before_first_session",
        "{value} is before the first stored session, {first}: quantity and price are taken as "
        "stated on {first}, "
        "and splits count from there",
        Severity.WARNING,
    )
    EXIT_BEFORE_FIRST_SESSION = (
        "exit_before_first_session",
        "{value} is before the first stored session, {first}: the position has no part in any result",
        Severity.WARNING,
    )

    SYMBOL_MISSING = "symbol_missing", "the symbol is missing; write it as traded, such as AAPL or BRK.B"
    SYMBOL_TOO_LONG = "symbol_too_long", "{reason}"
    SYMBOL_MALFORMED = "symbol_malformed", "{reason}"
    CLASS_UNKNOWN = "class_unknown", "{value!r} is no investment class; write {allowed} or leave it empty"
    SUBTYPE_UNKNOWN = (
        "subtype_unknown",
        "{value!r} is no subtype of {investment_class}; write one of {allowed}",
    )
    CLASS_CONTRADICTS_OPTION = (
        "class_contradicts_option",
        "the row is an option but its class is {value}; write OPTIONS, or take out the option's terms",
    )
    UNDERLYING_IGNORED = (
        "underlying_ignored",
        "{value!r} was ignored: the position is no option",
        Severity.NOTICE,
    )

    OPTION_STRIKE_MISSING = "option_strike_missing", "the option has no strike; fill strike_price in"
    OPTION_EXPIRY_MISSING = "option_expiry_missing", "the option has no expiry; fill expiration_date in"
    OPTION_TYPE_MISSING = "option_type_missing", "the option has no type; write call or put in option_type"
    OPTION_TYPE_UNKNOWN = "option_type_unknown", "{value!r} is no option type; write call, put, C or P"
    OPTION_EXPIRY_BEFORE_ENTRY = (
        "option_expiry_before_entry",
        "the option expires on {expiry}, before the entry session {entry}",
    )
    OPTION_DISAGREES = (
        "option_disagrees",
        "{value!r} disagrees with {other}, which says {expected}; correct one of them or leave this empty",
    )
    OPTION_ADJUSTED = "option_adjusted", "{reason}"
    OPTION_UNLISTABLE = "option_unlistable", "{reason}"

    EXIT_BEFORE_ENTRY = "exit_before_entry", "the exit session {exit} is before the entry session {entry}"
    EXIT_AFTER_EXPIRY = (
        "exit_after_expiry",
        "the exit session {exit} is after the option's expiry, {expiry}; leave the exit empty where it expires",
    )
    EXIT_PRICE_WITHOUT_DATE = (
        "exit_price_without_date",
        "there is an exit price but no exit date; fill both in",
    )
    EXIT_DATE_WITHOUT_PRICE = (
        "exit_date_without_price",
        "there is an exit date but no exit price; fill both in",
    )
    DUPLICATE_POSITION = (
        "duplicate_position",
        "{symbol}, entered {entry}, lot {lot} stands in line {first} already; give each lot a name of its own",
    )
    LOT_TOO_LONG = "lot_too_long", "the lot's name has {length} characters, {limit} are allowed"
    TAG_TOO_LONG = "tag_too_long", "the tag {value!r} has {length} characters, {limit} are allowed"

    PORTFOLIO_NAME_EMPTY = "portfolio_name_empty", "the portfolio has no name; give it one"
    PORTFOLIO_NAME_UNUSABLE = "portfolio_name_unusable", "{value!r} cannot be a portfolio's name: {reason}"
    PORTFOLIO_NAME_TAKEN = (
        "portfolio_name_taken",
        "there is a portfolio {other!r} already, with the code {taken}; choose another name",
    )
    EQUITY_MISSING = "equity_missing", "the equity is missing; give the portfolio's US dollars at inception"
    EQUITY_NOT_A_NUMBER = "equity_not_a_number", "{value!r} is no number; write US dollars such as 1000000"
    EQUITY_NOT_POSITIVE = "equity_not_positive", "{value} is not above zero; write US dollars at inception"
    EQUITY_TOO_MANY_DECIMALS = (
        "equity_too_many_decimals",
        "{value} has more than {decimals} decimals; round it",
    )
    EQUITY_TOO_LARGE = (
        "equity_too_large",
        "{value} is too large; at most {digits} digits before the point fit",
    )

    PORTFOLIO_MISSING = "portfolio_missing", "the portfolio is missing; write its code"
    PORTFOLIO_UNKNOWN = "portfolio_unknown", "there is no portfolio {value!r}; the codes are {known}"
    POSITION_UNKNOWN = "position_unknown", "the portfolio {portfolio} never holds {value!r}"
    POSITION_NOT_PRIVATE = (
        "position_not_private",
        "{value} is {investment_class} in {portfolio}: only PRIVATE positions are valued by marks",
    )
    MARK_OUTSIDE_HOLDING = (
        "mark_outside_holding",
        "{symbol} is not held in {portfolio} on {session}; it is held {held}",
    )
    DUPLICATE_MARK = (
        "duplicate_mark",
        "the mark of {symbol} in {portfolio} on {session} stands in line {first} already; keep one",
    )
    AMOUNT_MISSING = "amount_missing", "the amount is missing; write US dollars such as 25000"
    AMOUNT_NOT_A_NUMBER = "amount_not_a_number", "{value!r} is no number; write US dollars such as 25000.00"
    AMOUNT_ZERO = "amount_zero", "the amount is zero; write it or leave the row out"
    AMOUNT_TOO_MANY_DECIMALS = (
        "amount_too_many_decimals",
        "{value} has more than {decimals} decimals; round it",
    )
    AMOUNT_TOO_LARGE = (
        "amount_too_large",
        "{value} is too large; at most {digits} digits before the point fit",
    )
    FLOW_KIND_MISSING = "flow_kind_missing", "the kind is missing; write {allowed}"
    FLOW_KIND_UNKNOWN = "flow_kind_unknown", "{value!r} is no kind of flow; write {allowed}"
    FLOW_SIGN_CONTRADICTS = (
        "flow_sign_contradicts",
        "{value} contradicts the kind {kind}; leave the sign away",
    )
    FLOW_BEFORE_INCEPTION = (
        "flow_before_inception",
        "{session} is not after the inception of {portfolio}, {inception}: the initial equity holds it already",
    )
    FLOW_REPEATED = (
        "flow_repeated",
        "the flow is the same as in line {first}; both are counted",
        Severity.WARNING,
    )


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in one place: physical line from 1 (None: no one line), column as in the file."""

    code: Code
    line: int | None
    column: str | None
    value: str
    message: str
    severity: Severity

    def __str__(self) -> str:
        place = [f"line {self.line}"] if self.line is not None else []
        place += [f"column {self.column}"] if self.column is not None else []
        return f"{', '.join(place) + ': ' if place else ''}{self.message} [{self.code}]"


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN_VALUE else text[: LONGEST_SHOWN_VALUE - 1] + "…"


@dataclass
class Problems:
    """The problems found so far in one file."""

    found: list[Problem] = field(default_factory=list)

    def add(
        self,
        code: Code,
        line: int | None = None,
        column: str | None = None,
        value: str = "",
        **details: object,
    ) -> None:
        """Add one; `details` fill the sentence of `code`. A long value is cut for showing."""
        shown = _cut(value)
        column = None if column is None else _cut(column)
        message = code.template.format_map({"column": column, "value": shown, **details})
        self.found.append(Problem(code, line, column, shown, message, code.severity))

    def of(self, severity: Severity) -> tuple[Problem, ...]:
        """Those of one severity by line, in the order found within a line."""
        return tuple(sorted((p for p in self.found if p.severity is severity), key=lambda problem: problem.line or 0))


RowT = TypeVar("RowT")


@dataclass(frozen=True)
class Parsed(Generic[RowT]):
    """What a file says: its rows in file order (none where there is any error) and every problem found."""

    rows: tuple[RowT, ...]
    errors: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    notices: tuple[Problem, ...]
    schema: dict[str, pl.DataType]

    @classmethod
    def of(cls, rows: Sequence[RowT], problems: Problems, schema: dict[str, pl.DataType]) -> Parsed[RowT]:
        """The result: one error in any row and no row counts."""
        errors = problems.of(Severity.ERROR)
        return cls(
            rows=() if errors else tuple(rows),
            errors=errors,
            warnings=problems.of(Severity.WARNING),
            notices=problems.of(Severity.NOTICE),
            schema=schema,
        )

    def frame(self) -> pl.DataFrame:
        """The rows as a frame of exactly the columns and dtypes of `schema`."""
        data = {name: [getattr(row, name) for row in self.rows] for name in self.schema}
        return pl.DataFrame(data, schema=self.schema, strict=True)
