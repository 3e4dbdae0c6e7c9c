"""Closing, reopening, renaming and describing portfolios: what may be stated, and stating it.

What belongs here: the rules of these statements. What does not: writing them (``storage.portfolio_changes``), following
them (``restatement``, ``history``), and commands.

A portfolio is closed at a session: it has no rows after it and keeps those up to it, which are renewed like any
other's.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from difflib import get_close_matches

from sigmasight_pipeline.importing.portfolios import named_codes, portfolio_problems
from sigmasight_pipeline.sessions import SessionCalendar
from sigmasight_pipeline.storage import portfolio_changes
from sigmasight_pipeline.storage.database import Database

LONGEST_DESCRIPTION = 500


class BookChangeError(ValueError):
    """What was asked for cannot be stated; the message says why and what to do."""


def unknown(what: str, given: str, known: Collection[str]) -> BookChangeError:
    """An error about something nobody knows, with the nearest one that is known."""
    near = get_close_matches(given.lower(), [name.lower() for name in known], n=1, cutoff=0.5)
    meant = next((name for name in sorted(known) if near and name.lower() == near[0]), None)
    return BookChangeError(
        f"there is no {what} {given}; "
        + (f"did you mean {meant}? " if meant else "")
        + f"There {'is' if len(known) == 1 else 'are'}: {named_codes(known)}"
    )


def require(database: Database, code: str) -> dict[str, object]:
    """The portfolio's row of ``portfolio_changes.listed``; BookChangeError where there is none."""
    rows = portfolio_changes.listed(database)
    found = rows.filter(rows["code"] == code)
    if found.is_empty():
        raise unknown("portfolio", code, rows["code"].to_list())
    return found.row(0, named=True)


def closing_session(
    database: Database, calendar: SessionCalendar, code: str, stated: date | None, newest: date
) -> date:
    """The session `code` is to be closed at: as stated, else that of its newest snapshot.

    BookChangeError where it has none, and where the day is no session from its inception to `newest`, the newest
    session that has ended.
    """
    inception = require(database, code)["inception_date"]
    if not isinstance(inception, date):
        raise TypeError(f"a portfolio's inception is a date, not {inception!r}")
    if stated is None:
        found = portfolio_changes.newest_snapshot(database, code)
        if found is None:
            raise BookChangeError(f"{code} has no session yet it could be closed at; name one with --on YYYY-MM-DD")
        return found
    if not inception <= stated <= newest:
        raise BookChangeError(
            f"{code} cannot be closed at {stated}: name a session from its inception, {inception}, to {newest}, the "
            "newest that has ended"
        )
    if calendar.on_or_before(stated) != stated:
        raise BookChangeError(
            f"{stated} is no session of the exchange; the one before it is {calendar.on_or_before(stated)}"
        )
    return stated


def close(database: Database, code: str, session: date) -> None:
    """Close a portfolio at a session."""
    with database.connect() as connection:
        portfolio_changes.state_closing(connection, code, session)


def reopen(database: Database, code: str) -> date:
    """Open a portfolio again; the session it was closed at. BookChangeError where it is open."""
    closed = require(database, code)["closing_date"]
    if not isinstance(closed, date):
        raise BookChangeError(f"{code} is open; there is nothing to reopen")
    with database.connect() as connection:
        portfolio_changes.state_closing(connection, code, None)
    return closed


def rename(database: Database, code: str, name: str) -> None:
    """Give a portfolio another name, by the rules of an import. BookChangeError."""
    own = require(database, code)
    others = [other for other in portfolio_changes.listed(database)["name"] if other != own["name"]]
    if problems := portfolio_problems(name, str(own["initial_equity"]), others):
        raise BookChangeError("; ".join(str(problem) for problem in problems))
    with database.connect() as connection:
        portfolio_changes.rename(connection, code, name.strip())


def describe(database: Database, code: str, description: str) -> None:
    """Say what a portfolio is; nothing is said by an empty text. BookChangeError."""
    require(database, code)
    text = description.strip()
    if len(text) > LONGEST_DESCRIPTION or not text.isprintable():
        raise BookChangeError(f"a description has one line of at most {LONGEST_DESCRIPTION} characters")
    with database.connect() as connection:
        portfolio_changes.describe(connection, code, text or None)
