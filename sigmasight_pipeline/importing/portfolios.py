"""The portfolio a file belongs to: its name, code and equity at inception, and the codes other files name.

What belongs here: the rules of a portfolio's own fields as given on a command line, and looking up a code.
What does not: positions, marks and flows, and the inception date (the reference assets).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal

import polars as pl

from sigmasight_pipeline.storage.frames import polars_schema
from sigmasight_pipeline.storage.tables import portfolios as portfolios_table

from .cells import EQUITY, Row
from .problems import Code, Parsed, Problem, Problems

LONGEST_NAME = 100
LONGEST_SLUGGED = 1000
"""Characters of a text a code is made of; a name has 100 at most, that of a file 255."""
SHOWN_CODES = 20
SCHEMA: dict[str, pl.DataType] = {
    name: polars_schema(portfolios_table)[name] for name in ("code", "name", "initial_equity")
}


@dataclass(frozen=True, slots=True)
class PortfolioRow:
    """A new portfolio; `initial_equity` in US dollars at inception."""

    code: str
    name: str
    initial_equity: Decimal


def slug(name: str) -> str:
    """The code of a portfolio: lower case Latin letters and digits of its name, joined by hyphens.

    Accents are dropped; empty where nothing is left, which no portfolio may have, and of a text that is no name at all:
    bringing a long row of accents into order takes time by its square.
    """
    if len(name) > LONGEST_SLUGGED:
        return ""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode("ascii")
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")


def parse_portfolio(name: str, equity_text: str, existing_names: Collection[str]) -> Parsed[PortfolioRow]:
    """The fields of a new portfolio, or every error in them.

    A name is taken where its code is: `My Book` and `my-book` would be one portfolio on the command line.
    """
    problems = Problems()
    row = Row(line=None, cells={"name": name, "equity": equity_text}, problems=problems)
    text = row.text("name")
    code = slug(text)
    other = next((existing for existing in sorted(existing_names) if slug(existing) == code), None)
    if not text:
        row.report(Code.PORTFOLIO_NAME_EMPTY, "name")
    elif not code or not text.isprintable() or len(text) > LONGEST_NAME:
        reason = f"it needs Latin letters or digits and at most {LONGEST_NAME} characters, all on one line"
        row.report(Code.PORTFOLIO_NAME_UNUSABLE, "name", reason=reason)
    elif other is not None:
        row.report(Code.PORTFOLIO_NAME_TAKEN, "name", other=other, taken=code)
    equity = row.number("equity", EQUITY)
    if equity is not None and equity <= 0:
        row.report(Code.EQUITY_NOT_POSITIVE, "equity")
    rows = [] if equity is None else [PortfolioRow(code, text, equity)]
    return Parsed.of(rows, problems, SCHEMA)


def portfolio_problems(name: str, equity_text: str, existing_names: Collection[str]) -> list[Problem]:
    """Every error in the name and equity of a new portfolio; empty where it can be made."""
    return list(parse_portfolio(name, equity_text, existing_names).errors)


def read_portfolio_code(row: Row, known: Collection[str]) -> str | None:
    """The code in a row's `portfolio` column, or the name's; None where it is wrong (recorded)."""
    text = row.text("portfolio")
    if not text:
        row.report(Code.PORTFOLIO_MISSING, "portfolio")
        return None
    code = text if text in known else slug(text)
    if code not in known:
        row.report(Code.PORTFOLIO_UNKNOWN, "portfolio", known=named_codes(known))
        return None
    return code


def named_codes(known: Collection[str]) -> str:
    """The codes there are, in words; of many the first ones."""
    codes = sorted(known)
    return (", ".join(codes[:SHOWN_CODES]) or "none yet") + (", ..." if len(codes) > SHOWN_CODES else "")
