"""What a dropped file says of itself: which kind it is, and what its first comment lines state of its portfolio.

What belongs here: `# key: value` lines before the header, and telling positions, marks and flows apart by the header.
What does not: rows (``importing``), and what is stored of the portfolio (``operations.inbox``).

    # name: My book
    # equity: 1000000
    ticker,quantity,entry_price,entry_date

Other comments, anything that is not a key of letters before a colon, are nobody's business.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from sigmasight_pipeline.importing.cells import Row
from sigmasight_pipeline.importing.problems import LONGEST_SHOWN_VALUE, Problems, Severity
from sigmasight_pipeline.sessions import SessionCalendar
from sigmasight_pipeline.storage.imports import Kind
from sigmasight_pipeline.symbols import canonical_symbol

BEGINNING = 65_536
"""Bytes of a file its header is looked for in."""

KEYS = ("name", "equity", "inception", "description", "benchmark")

_KEY = re.compile(r"[A-Za-z][A-Za-z_ -]*")
_LINE_END = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True)
class Header:
    """What the first comment lines state, by key; `lines` has the line of each, `errors` what is wrong with them."""

    values: Mapping[str, str]
    lines: Mapping[str, int]
    errors: tuple[str, ...]
    inception: date | None = None
    benchmark: str | None = None


@dataclass
class _Found:
    values: dict[str, str] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def add(self, line: int, key: str, value: str) -> None:
        if key not in KEYS:
            shown = key if len(key) <= LONGEST_SHOWN_VALUE else f"{key[: LONGEST_SHOWN_VALUE - 1]}…"
            self.errors.append(f"line {line}: {shown!r} is nothing a portfolio has; the keys are {', '.join(KEYS)}")
        elif key in self.values:
            self.errors.append(f"line {line}: {key} stands in line {self.lines[key]} already; keep one of them")
        elif not value:
            self.errors.append(f"line {line}: {key} has no value; write it behind the colon or take out the line")
        else:
            self.values[key], self.lines[key] = value, line


def kind_of(beginning: bytes) -> Kind:
    """Which kind of file it is, told by its header; what is no file of marks or flows is judged as positions."""
    header = next((line for line in _lines(beginning) if line.strip() and not line.lstrip().startswith("#")), "")
    columns = {re.sub(r"[\s_\"]+", "", name).lower() for name in re.split("[,;]", header)}
    if "portfolio" in columns and "amount" in columns:
        return "flows"
    return "marks" if {"portfolio", "price"} <= columns else "positions"


def read_header(content: bytes, calendar: SessionCalendar, today: date) -> Header:
    """What a portfolio's file states before its first row. Bytes that are no text state nothing."""
    found = _Found()
    for number, line in enumerate(_lines(content), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            break
        key, colon, value = line.strip().removeprefix("#").partition(":")
        if colon and _KEY.fullmatch(key.strip()) and not value.startswith("//"):
            found.add(number, key.strip().lower(), value.strip())
    problems = Problems()
    inception, benchmark = (Row(found.lines.get(key), found.values, problems) for key in ("inception", "benchmark"))
    return Header(
        found.values,
        found.lines,
        inception=inception.session("inception", calendar, today, required=False),
        benchmark=benchmark.symbol("benchmark", canonical_symbol) if "benchmark" in found.values else None,
        errors=(*found.errors, *map(str, problems.of(Severity.ERROR))),
    )


def _lines(content: bytes) -> list[str]:
    return _LINE_END.split(content[:BEGINNING].decode("utf-8-sig", "replace"))
