"""What a position row is about: its class, its symbol, and the contract where it is an option.

What belongs here: telling stocks, options and private holdings apart, and bringing an OCC symbol and the
option columns together. What does not: quantities, prices, dates of entry and exit (``positions``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date

from sigmasight_pipeline import symbols
from sigmasight_pipeline.storage.tables.reference import INVESTMENT_CLASSES
from sigmasight_pipeline.symbols import OptionContract, SymbolError, SymbolProblem

from .cells import Row
from .problems import Code

OPTION_TERMS = ("strike_price", "expiration_date", "option_type")
OPTION_KINDS = {"CALL": "C", "PUT": "P", "C": "C", "P": "P"}

SUBTYPES = {
    "PUBLIC": (
        "STOCK",
        "ADR",
        "PREFERRED",
        "REIT",
        "ETF",
        "ETN",
        "CLOSED_END_FUND",
        "MUTUAL_FUND",
        "BOND_FUND",
    ),
    "OPTIONS": ("CALL", "PUT"),
    "PRIVATE": (
        "PRIVATE_EQUITY",
        "BUYOUT_FUND",
        "VENTURE_FUND",
        "VENTURE_CAPITAL",
        "HEDGE_FUND",
        "PRIVATE_CREDIT",
        "PRIVATE_REIT",
        "REAL_ESTATE",
        "HOME_EQUITY",
        "INFRASTRUCTURE",
        "CRYPTOCURRENCY",
        "COMMODITY",
        "ART",
        "COLLECTIBLE",
        "OTHER",
    ),
}
"""The finer classes, by class; spaces and hyphens may stand for the underscore."""

_UNLISTABLE_COLUMN = {
    SymbolProblem.OPTION_DATE: "expiration_date",
    SymbolProblem.OPTION_STRIKE: "strike_price",
}


@dataclass(frozen=True)
class Instrument:
    """What was recognised; a part that is wrong is None and has been recorded."""

    investment_class: str
    investment_subtype: str | None
    symbol: str | None
    contract: OptionContract | None = None
    underlying: str | None = None
    expiration_date: date | None = None

    def position_type(self, is_long: bool) -> str:
        """LONG or SHORT, for an option LC, LP, SC or SP."""
        side = "LONG" if is_long else "SHORT"
        return side if self.contract is None else side[0] + self.contract.kind


def read_instrument(row: Row) -> Instrument:
    """Class, symbol and option terms of a row. Class from the symbol and columns where it is not given."""
    declared = _declared_class(row)
    has_terms = any(row.text(column) for column in OPTION_TERMS)
    if declared == "PRIVATE":
        if has_terms:
            row.report(Code.CLASS_CONTRADICTS_OPTION, "investment_class")
        _ignore_underlying(row)
        return Instrument("PRIVATE", _subtype(row, "PRIVATE"), row.symbol("symbol", symbols.private_symbol))
    is_listed = symbols.looks_like_option(row.text("symbol"))
    if is_listed or has_terms or declared == "OPTIONS":
        if declared == "PUBLIC":
            row.report(Code.CLASS_CONTRADICTS_OPTION, "investment_class")
        return _option(row, is_listed)
    symbol = row.symbol("symbol", symbols.canonical_symbol)
    if row.text("underlying_symbol").upper() != row.text("symbol").upper():
        _ignore_underlying(row)
    return Instrument("PUBLIC", _subtype(row, "PUBLIC"), symbol)


def _declared_class(row: Row) -> str | None:
    text = row.text("investment_class").upper()
    if text and text not in INVESTMENT_CLASSES:
        row.report(Code.CLASS_UNKNOWN, "investment_class", allowed=", ".join(INVESTMENT_CLASSES))
        return None
    return text or None


def _subtype(row: Row, investment_class: str) -> str | None:
    subtype = re.sub(r"[\s_-]+", "_", row.text("investment_subtype")).upper()
    allowed = SUBTYPES[investment_class]
    if subtype and subtype not in allowed:
        row.report(
            Code.SUBTYPE_UNKNOWN,
            "investment_subtype",
            investment_class=investment_class,
            allowed=", ".join(allowed),
        )
        return None
    return subtype or None


def _ignore_underlying(row: Row) -> None:
    if row.text("underlying_symbol"):
        row.report(Code.UNDERLYING_IGNORED, "underlying_symbol")


def _option(row: Row, is_listed: bool) -> Instrument:
    subtype = _subtype(row, "OPTIONS")
    given_type = row.text("option_type").upper()
    if given_type and given_type not in OPTION_KINDS:
        row.report(Code.OPTION_TYPE_UNKNOWN, "option_type")
    given_underlying = None
    if row.text("underlying_symbol"):
        given_underlying = row.symbol("underlying_symbol", symbols.canonical_symbol)
    expiration = row.day("expiration_date", required=False)
    strike = row.price("strike_price", required=False)
    kind = OPTION_KINDS.get(given_type or subtype or "")

    symbol = row.symbol("symbol", symbols.canonical_symbol)
    contract: OptionContract | None = None
    underlying = given_underlying
    if is_listed:
        contract = symbols.parse_option(symbol) if symbol is not None else None
    else:
        _report_missing_terms(row, subtype)
        if symbol is not None:
            underlying = underlying or symbols.ROOT_UNDERLYINGS.get(symbol, symbol)
            if strike is not None and expiration is not None and kind is not None:
                try:
                    contract = symbols.option(symbols.option_root(symbol), expiration, kind, strike)
                except SymbolError as error:
                    adjusted = error.problem is SymbolProblem.OPTION_ADJUSTED
                    row.report(
                        Code.OPTION_ADJUSTED if adjusted else Code.OPTION_UNLISTABLE,
                        _UNLISTABLE_COLUMN.get(error.problem, "symbol"),
                        reason=error,
                    )
    if contract is not None:
        source = "the symbol" if is_listed else "option_type"
        comparisons = (
            ("strike_price", strike, contract.strike),
            ("expiration_date", expiration, contract.expiration_date),
            ("option_type", OPTION_KINDS.get(given_type), contract.kind),
            ("investment_subtype", OPTION_KINDS.get(subtype or ""), contract.kind),
        )
        for column, given, expected in comparisons:
            if given is not None and given != expected:
                row.report(Code.OPTION_DISAGREES, column, other=source, expected=expected)
        if given_underlying is not None and not contract.is_on(given_underlying):
            row.report(Code.OPTION_DISAGREES, "underlying_symbol", other="the symbol", expected=contract.underlying)
    return Instrument(
        investment_class="OPTIONS",
        investment_subtype=subtype,
        symbol=contract.symbol if contract is not None else None,
        contract=contract,
        underlying=underlying or (contract.underlying if contract is not None else None),
        expiration_date=contract.expiration_date if contract is not None else expiration,
    )


def _report_missing_terms(row: Row, subtype: str | None) -> None:
    if not row.text("strike_price"):
        row.report(Code.OPTION_STRIKE_MISSING, "strike_price")
    if not row.text("expiration_date"):
        row.report(Code.OPTION_EXPIRY_MISSING, "expiration_date")
    if not row.text("option_type") and subtype is None:
        row.report(Code.OPTION_TYPE_MISSING, "option_type")
