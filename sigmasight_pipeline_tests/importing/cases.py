"""How the table-driven tests state a case: a file and every problem it must give, no more and no fewer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from sigmasight_pipeline.importing.problems import Parsed, Problem
from sigmasight_pipeline.sessions import SessionCalendar

TODAY = date(2025, 7, 1)
FIRST_STORED_SESSION = date(2022, 12, 1)
CALENDAR = SessionCalendar(date(1990, 1, 1), date(2025, 12, 31))

Place = tuple[str, int | None, str | None]
"""Code, line and column."""


@dataclass(frozen=True)
class Case:
    """`expected` in order of line and code; `says` is a part of the first problem's message."""

    name: str
    content: bytes
    expected: tuple[Place, ...]
    says: str = ""

    def __str__(self) -> str:
        return self.name


def case(name: str, content: str | bytes, *expected: Place, says: str = "") -> Case:
    """A case from text or bytes."""
    return Case(name, content.encode() if isinstance(content, str) else content, expected, says)


def all_problems(parsed: Parsed[Any]) -> list[Problem]:
    """Errors, warnings and notices together, by line and code."""
    found = [*parsed.errors, *parsed.warnings, *parsed.notices]
    return sorted(found, key=lambda problem: (problem.line or 0, problem.code, problem.column or ""))


def assert_case(this: Case, parsed: Parsed[Any]) -> None:
    """The file gives exactly the expected problems, and rows only where none is an error."""
    found = all_problems(parsed)
    told = "\n".join(str(problem) for problem in found)
    places = [(str(problem.code), problem.line, problem.column) for problem in found]
    expected = sorted(this.expected, key=lambda place: (place[1] or 0, place[0], place[2] or ""))
    assert places == expected, f"{this.content.decode('utf-8', 'replace')[:500]}\ngave\n{told}"
    assert this.says in told, told
    assert "{" not in told, told
    if parsed.errors:
        assert parsed.rows == ()
        assert parsed.frame().height == 0
    assert parsed.frame().schema == parsed.schema


def codes(cases: Sequence[Case]) -> set[str]:
    """The codes some case must give."""
    return {place[0] for this in cases for place in this.expected}
