"""Symbols: the canonical spelling of every instrument, OCC option symbols, and each vendor's spelling.

What belongs here: parsing and writing symbols, the roots and underlyings of options, and what a vendor calls
a symbol. What does not: which symbols exist and of what kind they are (data, the ``instruments`` table), and
asking a vendor.

Canonical is the notation of the consolidated tape: a class share `BRK.B`, a preferred share `BACpB`, a
warrant `OXY.WS`, an index without prefix (`VIX`). An option is its compact OCC symbol: root, yymmdd, C or P,
strike x 1000 in eight digits (`AAPL240119C00150000`). No other module replaces a dot.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache
from typing import NoReturn

MAXIMUM_LENGTH = 16
"""Longest canonical symbol of a stock, fund or index."""

LONGEST_SHOWN = 60
"""Characters of a wrong symbol that are shown."""

MAXIMUM_PRIVATE_LENGTH = 40
"""Longest name of a PRIVATE position."""

ROOT_UNDERLYINGS = {
    "SPXW": "SPX",
    "NDXP": "NDX",
    "RUTW": "RUT",
    "VIXW": "VIX",
    "BRKB": "BRK.B",
    "BFB": "BF.B",
}
"""Option roots other than their underlying's symbol: weekly series of indices, class shares."""

_ADJUSTED = re.compile(r"[A-Z0-9]{0,5}[0-9]")
_CLASS_SHARE = re.compile(r"([A-Z0-9]{1,10})(?:[./-]([A-Z]|WS(?:[./-][A-Z])?))?")
_PREFERRED = re.compile(r"([A-Z]{1,6})[./ -]PR[./-]?([A-Z]?)")
_TAPE_PREFERRED = re.compile(r"[A-Z]{1,6}p[A-Z]?")
_OPTION_TAIL = re.compile(r"([0-9]{6})([CP])([0-9]{8})")
_TAIL_LENGTH = 15
_PADDED_LENGTH = 21
_STRIKE_UNITS = 1000
_STRIKE_LIMIT = 10**8


class SymbolProblem(StrEnum):
    """Why a text is no symbol, or a symbol cannot be written as asked."""

    EMPTY = "empty"
    TOO_LONG = "too_long"
    MALFORMED = "malformed"
    OPTION_DATE = "option_date"
    OPTION_STRIKE = "option_strike"
    OPTION_ADJUSTED = "option_adjusted"
    NOT_OFFERED = "not_offered"
    AMBIGUOUS = "ambiguous"


class SymbolError(ValueError):
    """A text is no symbol; `problem` is the reason from the closed list, the message says what is wrong."""

    def __init__(self, problem: SymbolProblem, message: str) -> None:
        super().__init__(message)
        self.problem = problem


def _quoted(text: str) -> str:
    """A text that is no symbol as an error shows it: not endless."""
    stripped = text.strip()
    return repr(stripped if len(stripped) <= LONGEST_SHOWN else f"{stripped[: LONGEST_SHOWN - 1]}…")


def _refuse(problem: SymbolProblem, message: str) -> NoReturn:
    raise SymbolError(problem, message)


@dataclass(frozen=True, slots=True)
class OptionContract:
    """A listed option. `kind` is C or P; `strike` is US dollars per underlying share."""

    root: str
    expiration_date: date
    kind: str
    strike: Decimal

    @property
    def symbol(self) -> str:
        """The compact OCC symbol: `AAPL240119C00150000`."""
        return f"{self.root}{self._tail}"

    @property
    def padded(self) -> str:
        """The 21-character OCC symbol, its root padded with spaces to six characters."""
        return f"{self.root:<6}{self._tail}"

    @property
    def underlying(self) -> str:
        """Canonical symbol of what the option is on: SPXW -> SPX, BRKB -> BRK.B, else the root itself."""
        return ROOT_UNDERLYINGS.get(self.root, self.root)

    @property
    def _tail(self) -> str:
        return f"{self.expiration_date:%y%m%d}{self.kind}{int(self.strike * _STRIKE_UNITS):08d}"

    def is_on(self, underlying: str) -> bool:
        """Whether the contract can be on `underlying`: its own, or one whose root this is."""
        return underlying == self.underlying or option_root(underlying) == self.root


def _without_prefix(text: str) -> str:
    upper = text.strip().upper()
    return upper[2:] if upper.startswith("O:") else upper


def looks_like_option(text: str) -> bool:
    """Whether `text` has the form of an OCC symbol (compact, padded, `O:`); its date may be impossible."""
    return text.isascii() and _OPTION_TAIL.fullmatch(_without_prefix(text)[-_TAIL_LENGTH:]) is not None


@lru_cache(maxsize=65_536)
def parse_option(text: str) -> OptionContract:
    """The contract an OCC symbol names; accepts compact, 21-character padded and `O:`-prefixed, any case.

    Raises SymbolError: MALFORMED (form or root), OPTION_DATE, OPTION_STRIKE (zero), OPTION_ADJUSTED (root
    ends in a digit: the deliverable is not 100 shares, so neither multiplier nor strike mean what they say).
    """
    compact = _without_prefix(text)
    root, tail = compact[:-_TAIL_LENGTH], compact[-_TAIL_LENGTH:]
    if len(compact) == _PADDED_LENGTH:
        root = root.rstrip(" ")
    match = _OPTION_TAIL.fullmatch(tail)
    if match is None or not text.isascii() or not re.fullmatch(r"[A-Z0-9]{1,6}", root):
        _refuse(
            SymbolProblem.MALFORMED,
            f"{_quoted(text)} is no OCC option symbol (root, yymmdd, C or P, strike x 1000 in 8 digits: "
            "AAPL240119C00150000)",
        )
    day, kind, strike = match.groups()
    try:
        expiration = date(2000 + int(day[:2]), int(day[2:4]), int(day[4:]))
    except ValueError:
        _refuse(SymbolProblem.OPTION_DATE, f"the option symbol {_quoted(text)} expires on {day}: no such day")
    return option(root, expiration, kind, Decimal(int(strike)) / _STRIKE_UNITS)


def option(root: str, expiration_date: date, kind: str, strike: Decimal | Fraction) -> OptionContract:
    """The contract with these terms, checked to have an OCC symbol.

    Raises SymbolError: OPTION_ADJUSTED, OPTION_DATE (a year other than 20yy), OPTION_STRIKE (not positive,
    more than three decimals, 100,000 or more), MALFORMED (root, kind).
    """
    if _ADJUSTED.fullmatch(root):
        _refuse(
            SymbolProblem.OPTION_ADJUSTED,
            f"{root} is the root of an adjusted contract (it ends in a digit): its deliverable is not "
            "100 shares, so it cannot be valued; leave it out",
        )
    if not re.fullmatch(r"[A-Z0-9]{1,6}", root) or kind not in ("C", "P"):
        _refuse(
            SymbolProblem.MALFORMED,
            f"an option on {root!r} of kind {kind!r} has no OCC symbol: the root is 1 to 6 letters or "
            "digits, the kind C or P",
        )
    if not 2000 <= expiration_date.year <= 2099:
        _refuse(
            SymbolProblem.OPTION_DATE,
            f"expiration {expiration_date} has no OCC symbol: years are 2000 to 2099",
        )
    units = Fraction(strike) * _STRIKE_UNITS
    if units.denominator != 1 or not 0 < units < _STRIKE_LIMIT:
        _refuse(
            SymbolProblem.OPTION_STRIKE,
            f"a strike of {_readable(strike)} has no OCC symbol: it must be above 0, below 100000 and a "
            "whole number of 0.001 dollars",
        )
    return OptionContract(root, expiration_date, kind, Decimal(int(units)) / _STRIKE_UNITS)


def _readable(number: Decimal | Fraction) -> str:
    return f"{number.normalize():f}" if isinstance(number, Decimal) else str(number)


def option_root(underlying: str) -> str:
    """The root of options on `underlying`: its canonical symbol without the dot (BRK.B -> BRKB).

    An index has further roots (SPXW); a contract of those must be named by its OCC symbol.
    """
    return underlying.replace(".", "")


def adjusted_occ(symbol: str, ratio: Fraction) -> str:
    """The OCC symbol a contract is listed under after a split of its underlying: strike divided by `ratio`.

    `ratio` is new shares per old share (10 for 10:1). Raises SymbolError OPTION_STRIKE where strike x 1000 /
    ratio is no whole number, and whatever `parse_option` raises.
    """
    contract = parse_option(symbol)
    adjusted = Fraction(contract.strike) / ratio
    return option(contract.root, contract.expiration_date, contract.kind, adjusted).symbol


def canonical_symbol(text: str) -> str:
    """The canonical symbol of a stock, fund, index or option, from any usual spelling, any case.

    `brk-b` and `BRK/B` are `BRK.B`; `BAC-PRB` is `BACpB`; `^VIX` and `I:VIX` are `VIX`; options get compact.
    Raises SymbolError: EMPTY, TOO_LONG, MALFORMED, or what `parse_option` raises.
    """
    stripped = text.strip()
    if not stripped:
        _refuse(SymbolProblem.EMPTY, "the symbol is empty")
    if looks_like_option(stripped):
        return parse_option(stripped).symbol
    if len(stripped) > MAXIMUM_LENGTH:
        _refuse(
            SymbolProblem.TOO_LONG,
            f"the symbol has {len(stripped)} characters, {MAXIMUM_LENGTH} are allowed",
        )
    if _TAPE_PREFERRED.fullmatch(stripped):
        return stripped
    upper = stripped.upper()
    if upper in _INDEX_OF_ALIAS:
        return _INDEX_OF_ALIAS[upper]
    upper = upper.removeprefix("I:").removeprefix("^")
    if match := _PREFERRED.fullmatch(upper):
        return f"{match[1]}p{match[2]}"
    match = _CLASS_SHARE.fullmatch(upper)
    if match is None or match[1].isdigit() or not stripped.isascii():
        _refuse(
            SymbolProblem.MALFORMED,
            f"{_quoted(stripped)} is no symbol: write letters and digits with a class after a dot, such as BRK.B",
        )
    return upper.replace("-", ".").replace("/", ".")


def private_symbol(text: str) -> str:
    """The name of a PRIVATE position: free text of 1 to 40 printable characters, upper case, single spaces.

    Raises SymbolError: EMPTY, TOO_LONG, MALFORMED (control characters).
    """
    name = " ".join(text.split()).upper()
    if not name:
        _refuse(SymbolProblem.EMPTY, "the symbol is empty")
    if len(name) > MAXIMUM_PRIVATE_LENGTH:
        _refuse(
            SymbolProblem.TOO_LONG,
            f"the name has {len(name)} characters, {MAXIMUM_PRIVATE_LENGTH} are allowed",
        )
    if not name.isprintable():
        _refuse(SymbolProblem.MALFORMED, f"the name {name!r} holds characters that cannot be printed")
    return name


class Vendor(StrEnum):
    """A source of market data with a spelling of its own."""

    MASSIVE = "massive"
    FMP = "fmp"
    YAHOO = "yahoo"
    TIINGO = "tiingo"
    ALPACA = "alpaca"
    FINRA = "finra"


@dataclass(frozen=True)
class _Spelling:
    """How a vendor writes what is not a plain symbol; None: it does not have such instruments."""

    class_separator: str
    preferred: str
    warrant: str
    index_prefix: str | None
    option_prefix: str | None


_SPELLINGS = {
    Vendor.MASSIVE: _Spelling(".", "p", ".WS", "I:", "O:"),
    Vendor.FMP: _Spelling("-", "-P", "-WT", "^", None),
    Vendor.YAHOO: _Spelling("-", "-P", "-WT", "^", ""),
    Vendor.TIINGO: _Spelling("-", "-P-", "-WS", None, None),
    Vendor.ALPACA: _Spelling(".", ".PR", ".WS", None, ""),
    Vendor.FINRA: _Spelling("", "PR", "WS", None, None),
}
_CARET_ALIASES = {"SPX": "^GSPC", "COMP": "^IXIC"}
_INDEX_OF_ALIAS = {alias: symbol for symbol, alias in _CARET_ALIASES.items()}


def to_vendor(symbol: str, vendor: Vendor, *, kind: str = "stock") -> str:
    """What `vendor` calls a canonical symbol; `kind` is its kind in ``instruments`` (options are recognised).

    Raises SymbolError NOT_OFFERED for an index, option or private holding the vendor does not have.
    """
    spelling = _SPELLINGS[vendor]
    if kind == "private":
        _refuse(
            SymbolProblem.NOT_OFFERED,
            f"{symbol} is private, no vendor prices it: import marks for it",
        )
    if looks_like_option(symbol):
        if spelling.option_prefix is None:
            _refuse(SymbolProblem.NOT_OFFERED, f"{vendor} has no options, so it cannot be asked for {symbol}")
        return spelling.option_prefix + parse_option(symbol).symbol
    if kind == "index":
        if spelling.index_prefix is None:
            _refuse(SymbolProblem.NOT_OFFERED, f"{vendor} has no indices, so it cannot be asked for {symbol}")
        own = f"{spelling.index_prefix}{symbol}"
        return _CARET_ALIASES.get(symbol, own) if spelling.index_prefix == "^" else own
    if _TAPE_PREFERRED.fullmatch(symbol):
        root, series = symbol.split("p", 1)
        return f"{root}{spelling.preferred}{series}".removesuffix("-")
    root, dot, share_class = symbol.partition(".")
    if share_class.startswith("WS"):
        series = share_class.removeprefix("WS").removeprefix(".")
        separator = "." if series and spelling.class_separator == "." else ""
        return f"{root}{spelling.warrant}{separator}{series}"
    return root + (spelling.class_separator if dot else "") + share_class


def vendor_spellings(symbols: Iterable[str], vendor: Vendor) -> dict[str, str]:
    """What `vendor` calls each of `symbols` (stocks and funds), to the canonical symbol.

    Raises SymbolError AMBIGUOUS where the vendor writes two of them alike.
    """
    spellings: dict[str, str] = {}
    for symbol in symbols:
        other = spellings.setdefault(to_vendor(symbol, vendor), symbol)
        if other != symbol:
            _refuse(SymbolProblem.AMBIGUOUS, f"{vendor} writes {other} and {symbol} alike")
    return spellings


def from_vendor(spelling: str, vendor: Vendor, *, known: Mapping[str, str] | None = None) -> str:
    """The canonical symbol of what `vendor` calls `spelling`: the inverse of `to_vendor`.

    FINRA writes no separators: BRKB is BRK.B only where `known` (from `vendor_spellings`) or the option roots
    say so. Yahoo, FMP and Tiingo would write a class P like a preferred share without series; it is read as
    preferred. Raises SymbolError as `canonical_symbol`.
    """
    text = spelling.strip()
    if known is not None and text in known:
        return known[text]
    if vendor is Vendor.FINRA:
        return ROOT_UNDERLYINGS.get(text) or canonical_symbol(text)
    if not looks_like_option(text):
        own = _SPELLINGS[vendor]
        preferred = re.escape(own.preferred.removesuffix("-"))
        if match := re.fullmatch(rf"([A-Z]{{1,6}}){preferred}-?([A-Z]?)", text):
            return f"{match[1]}p{match[2]}"
        if match := re.fullmatch(rf"([A-Z0-9]{{1,10}}){re.escape(own.warrant)}[.-]?([A-Z]?)", text):
            return f"{match[1]}.WS" + (f".{match[2]}" if match[2] else "")
    return canonical_symbol(text)
